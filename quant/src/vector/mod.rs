//! What vector codes need beside codes: a scale per row and per column, and the few outliers apart.
//!
//! ```text
//! ŵ_ij = rs_i · ts_j · value_ij  (+ the outlier at [i, j], where there is one)
//! ```
//! Vector codes are made for normal values of variance 1. Dividing by root mean squares of rows and columns makes a
//! weight matrix nearly that, and keeps the error of an input whose weights are small small, where a rotation would
//! spread it evenly: such inputs tend to carry the large activations. The few weights far outside would own the scale
//! of their row and column, and are taken out first ([`outlier`]).

//!
//! | part | contents, little-endian |
//! |---|---|
//! | codes | trellis: the columns' bit streams one after another ([`stream`]); lattice: `out` rows of blocks ([`lattice`](crate::lattice)) |
//! | scales | rs: one for each row, in the scheme's scale format |
//! | column scales | ts: one byte a column ([`scale`]) |
//! | rates | bits of a weight in each column, 4 bits each, the even column in the low half; only for [`Rate::Budget`] |
//! | outlier positions | u32 each: `column · out + row`, increasing |
//! | outlier values | one for each position, in the scheme's scale format |

mod coder;
mod decoder;
pub(crate) mod encode;
pub mod outlier;
pub mod scale;

use crate::lattice::BLOCK;
use crate::{
    Code, Error, FloatFormat, Floats, Grouping, PartLengths, Rate, Scheme, Trellis, trellis::stream,
};
use alloc::vec::Vec;
#[cfg(feature = "solve")]
pub(crate) use coder::{Coded, ColumnCoder, Encoders, LARGEST_ROW_SCALE, Prepared};
pub(crate) use decoder::Decoder;
pub use outlier::Outliers;

/// The parts of a matrix of vector codes that belong to its columns.
#[derive(Clone, PartialEq, Debug)]
pub struct ColumnParts {
    scales: Vec<u8>,
    rates: Vec<u8>,
    outliers: Outliers,
    /// Byte at which each column's codes start, and where the last one's end; empty for lattices.
    starts: Vec<usize>,
}

impl ColumnParts {
    /// The parts of a matrix `shape` (`[out, in]`) of `scheme`: the column scales' codes ([`scale`]), the rates of
    /// columns for [`Rate::Budget`] (else empty), and the outliers.
    ///
    /// # Errors
    /// [`Error::InvalidScheme`] for a scheme of scalar codes; [`Error::PartLength`] for another number of scales
    /// or rates than columns; [`Error::InvalidOption`] for a rate above 8 bits; [`Error::InvalidOutlier`] for one
    /// outside the matrix; [`Error::TooLarge`].
    pub fn new(
        shape: (usize, usize),
        scheme: &Scheme,
        scales: Vec<u8>,
        rates: Vec<u8>,
        outliers: Outliers,
    ) -> Result<Self, Error> {
        let (rows, cols) = shape;
        scheme.check()?;
        let (rated, trellis) = match scheme.code {
            Code::Trellis(Trellis { rate: Rate::Budget(_), .. }) => (cols, true),
            Code::Trellis(_) => (0, true),
            Code::Lattice(_) => (0, false),
            _ => return Err(Error::InvalidScheme { reason: "scalar codes have no column parts" }),
        };
        for (part, expected, found) in [("column_scales", cols, scales.len()), ("rates", rated, rates.len())]
        {
            if expected != found {
                return Err(Error::PartLength { part, expected, found });
            }
        }
        outliers.check(shape)?;
        let starts = match scheme.code {
            Code::Trellis(Trellis { rate: Rate::Uniform(rate), .. }) => {
                stream::offsets(rows, core::iter::repeat_n(rate, cols))?
            }
            _ if trellis => stream::offsets(rows, rates.iter().copied())?,
            _ => Vec::new(),
        };
        Ok(Self { scales, rates, outliers, starts })
    }

    /// The codes of the column scales, one byte each; see [`scale`].
    pub fn scales(&self) -> &[u8] {
        &self.scales
    }

    /// Bits of a weight in each column, where columns differ in it; else empty.
    pub fn rates(&self) -> &[u8] {
        &self.rates
    }

    /// The outliers.
    pub const fn outliers(&self) -> &Outliers {
        &self.outliers
    }

    /// Bytes of all columns' streams; 0 for lattices.
    pub fn stream_bytes(&self) -> usize {
        self.starts.last().copied().unwrap_or(0)
    }

    /// Where the codes of column `column` lie.
    pub(crate) fn stream(&self, column: usize) -> core::ops::Range<usize> {
        self.starts[column]..self.starts[column + 1]
    }

    /// Every stored bit: 8 of scale and, where columns differ in it, 4 of rate a column; outliers with positions.
    pub fn stored_bits(&self) -> u64 {
        let bytes = self.scales.len() + self.rates.len().div_ceil(2);
        bytes as u64 * 8 + self.outliers.stored_bits()
    }
}

/// Sizes of the stored parts; see [`part_lengths`](crate::part_lengths).
pub(crate) fn part_lengths(shape: (usize, usize), scheme: &Scheme) -> Result<PartLengths, Error> {
    let (rows, cols) = shape;
    let too_large = Error::TooLarge { what: "codes" };
    scheme.check()?;
    let lengths = |codes: usize, rates: usize| {
        let columns = cols.saturating_add(rates);
        let scales = rows.saturating_mul(scheme.scale_format.bytes());
        let bytes = codes.saturating_add(scales).saturating_add(columns);
        PartLengths { codes, scales: rows, scale_codes: 0, zeros: 0, columns, bytes }
    };
    match scheme.code {
        Code::Trellis(Trellis { rate: Rate::Uniform(rate), .. }) => {
            let column = stream::column_bytes(stream::padded(rows)?, rate);
            Ok(lengths(column.checked_mul(cols).ok_or(too_large)?, 0))
        }
        Code::Trellis(Trellis { rate: Rate::Budget(units), .. }) => {
            stream::padded(rows)?;
            let (rates, scales) = (cols.div_ceil(2), rows.saturating_mul(scheme.scale_format.bytes()));
            let total = (rows as u128 * cols as u128 * u128::from(units)) >> 19;
            let total = usize::try_from(total).map_err(|_| too_large)?;
            Ok(lengths(total.saturating_sub(scales.saturating_add(cols).saturating_add(rates)), rates))
        }
        Code::Lattice(lattice) => {
            let row = cols.div_ceil(BLOCK).checked_mul(lattice.bits()).ok_or(too_large.clone())?;
            Ok(lengths(row.checked_mul(rows).ok_or(too_large)?, 0))
        }
        _ => Err(Error::InvalidScheme { reason: "scalar codes have no column parts" }),
    }
}

/// Whether the parts of a matrix fit together; its groups, one for each row.
pub(crate) fn check_parts(
    shape: (usize, usize),
    scheme: &Scheme,
    codes: &[u8],
    scales: &Floats,
    columns: &ColumnParts,
) -> Result<Grouping, Error> {
    let lengths = part_lengths(shape, scheme)?;
    let streams = match scheme.code {
        Code::Trellis(_) => columns.stream_bytes(),
        _ => lengths.codes,
    };
    let width = scheme.scale_format.bytes();
    let parts = [
        ("codes", streams, codes.len()),
        ("scales", shape.0.saturating_mul(width), scales.len() * scales.format().bytes()),
        ("column_scales", shape.1, columns.scales.len()),
    ];
    for (part, expected, found) in parts {
        if expected != found {
            return Err(Error::PartLength { part, expected, found });
        }
    }
    let formats = [scales.format(), columns.outliers.values().format()];
    if formats.iter().any(|format| *format != scheme.scale_format) {
        return Err(Error::InvalidScheme { reason: "scales are not in the scheme's scale format" });
    }
    columns.outliers.check(shape)?;
    match (0..scales.len()).find(|&i| !scales.get(i).is_finite()) {
        Some(index) => Err(Error::StoredNonFinite { what: "scales", index }),
        None => scheme.grouping(shape),
    }
}

/// What a vector code takes beside the codes themselves, in bits: row scales, column scales, rates when columns differ
/// in theirs.
fn overhead_bits((rows, cols): (usize, usize), format: FloatFormat, rated: bool) -> u64 {
    let column = 8 * cols as u64 + if rated { 8 * cols.div_ceil(2) as u64 } else { 0 };
    rows as u64 * format.bits() as u64 + column
}
