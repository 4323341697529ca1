//! How low-rank factors are stored.

use super::Atoms;
use rankbit_quant::{FloatFormat, Group, Scheme, part_lengths, scheme};

/// Entries of a factor of few bits that share a scale.
const GROUP: u32 = 64;

/// How a factor is stored.
///
/// Few bits are symmetric integers with an f16 scale for 64 entries of one rank: along `in` for `R`, along `out` for
/// `L`, so that a scale never spans ranks, whose sizes differ. 16.0, 8.25 and 4.25 bits an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[cfg_attr(feature = "file", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
pub enum FactorFormat {
    /// 8-bit integers.
    Int8,
    /// 4-bit integers.
    Int4,
    /// `L` as f16, and of `R` only this many entries in every column, as f16 with their rows (DSFormer's dense times
    /// semi-structured sparse): each column of the product is a combination of few of the r columns of `L`.
    Atoms(u32),
    /// Floats.
    #[cfg_attr(feature = "file", serde(untagged))]
    Float(FloatFormat),
}

/// Which factor of `L·R`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Side {
    /// `L: [out, r]`.
    Left,
    /// `R: [r, in]`.
    Right,
}

impl From<FloatFormat> for FactorFormat {
    fn from(format: FloatFormat) -> Self {
        Self::Float(format)
    }
}

impl FactorFormat {
    /// 16-bit floats.
    pub const F16: Self = Self::Float(FloatFormat::F16);

    /// The name used in files, flags and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Int8 => "int8",
            Self::Int4 => "int4",
            Self::Atoms(_) => "atoms",
            Self::Float(format) => format.name(),
        }
    }

    /// The scheme of a factor of few bits; `None` for floats.
    pub const fn scheme(self, side: Side) -> Option<Scheme> {
        let group = match side {
            Side::Left => Group::Block { rows: GROUP, cols: 1 },
            Side::Right => Group::Size(GROUP),
        };
        match self {
            Self::Int8 => Some(scheme::INT8.with_group(group)),
            Self::Int4 => Some(scheme::INT4.with_group(group)),
            Self::Atoms(_) | Self::Float(_) => None,
        }
    }

    /// Every bit that both factors of rank `rank` take for a matrix `[out, in]`, should the format's range suffice.
    ///
    /// # Errors
    /// [`rankbit_quant::Error::TooLarge`] for a shape whose bits cannot be counted.
    pub fn stored_bits(
        self,
        (out, inputs): (usize, usize),
        rank: usize,
    ) -> Result<u64, rankbit_quant::Error> {
        let mut bits = 0;
        for (side, shape) in [(Side::Left, (out, rank)), (Side::Right, (rank, inputs))] {
            let entries = shape.0.checked_mul(shape.1);
            let entries = entries.ok_or(rankbit_quant::Error::TooLarge { what: "factor" })?;
            bits += match (self, self.scheme(side)) {
                (Self::Float(format), _) => entries as u64 * format.bits() as u64,
                (_, Some(scheme)) => part_lengths(shape, &scheme)?.bytes as u64 * 8,
                (Self::Atoms(per_column), None) if side == Side::Right => {
                    let entry = FloatFormat::F16.bits() + 8 * Atoms::row_bytes(rank);
                    inputs as u64 * u64::from(per_column) * entry as u64
                }
                (_, None) => entries as u64 * FloatFormat::F16.bits() as u64,
            };
        }
        Ok(bits)
    }
}
