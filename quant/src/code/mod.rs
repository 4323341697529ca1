//! What a code means: the number, in units of the group's scale, that a few bits stand for.
//!
//! Every code is stored as an unsigned number of [`Code::bits`] bits. Encoding is to the nearest
//! representable value; the rule for ties is stated at each kind.

pub mod int;
pub mod table;

pub use table::Table;

/// A set of representable values, indexed by the stored code.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum Code {
    /// Whole numbers; see [`int`].
    Int {
        /// Width of a code, 2 to 8.
        bits: u8,
        /// Whether the values are symmetric about zero (`-Q ..= Q`, `Q = 2^(bits-1) - 1`) or `0 ..= 2^bits - 1`.
        signed: bool,
    },
    /// A table of values within [-1, 1]; see [`table`].
    Table(Table),
}

impl Code {
    /// Bits of one stored code.
    pub const fn bits(self) -> usize {
        match self {
            Self::Int { bits, .. } => bits as usize,
            Self::Table(table) => table.bits(),
        }
    }

    /// Largest magnitude of a representable value: `Q`, `2^bits - 1`, or 1. Integers of a width that
    /// [`Scheme::check`](crate::Scheme::check) refuses count as the nearest width here and in [`Code::value`].
    pub fn max(self) -> f32 {
        match self {
            Self::Int { bits, signed } => int::max(bits, signed),
            Self::Table(_) => 1.0,
        }
    }

    /// The value of a stored code, before zero point and scale. Codes past the last one repeat the last.
    pub fn value(self, code: u8) -> f32 {
        match self {
            Self::Int { bits, signed } => f32::from(code) - int::offset(bits, signed),
            Self::Table(table) => table.values()[usize::from(code).min(table.values().len() - 1)],
        }
    }
}
