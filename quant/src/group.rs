//! Who shares a scale: consecutive entries along `in`, inside one row, never across rows.

use crate::Error;

/// The entries that share one scale (and one zero point).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum Group {
    /// This many consecutive entries of a row; the last group of a row may be shorter.
    Size(u32),
    /// A whole row.
    Row,
    /// The whole matrix.
    Tensor,
}

/// Groups laid over a matrix of known shape.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Grouping {
    /// Entries of a full group, at least 1 and at most `in` (or 1 when `in` is 0).
    pub size: usize,
    /// Groups of one row: ⌈in / size⌉.
    pub per_row: usize,
    /// Scales of the whole matrix: `out · per_row`, or 1 for [`Group::Tensor`].
    pub scales: usize,
    shared: bool,
}

impl Group {
    /// The groups of a matrix `[out, in]`.
    ///
    /// # Errors
    /// [`Error::GroupSize`] for a size of 0, [`Error::TooLarge`] when the number of groups overflows.
    pub fn over(self, (rows, cols): (usize, usize)) -> Result<Grouping, Error> {
        let size = match self {
            Self::Size(0) => return Err(Error::GroupSize { group_size: 0, in_features: cols }),
            Self::Size(size) => usize::try_from(size).unwrap_or(usize::MAX).min(cols),
            Self::Row | Self::Tensor => cols,
        }
        .max(1);
        let per_row = cols.div_ceil(size);
        let shared = self == Self::Tensor;
        let scales = if shared {
            usize::from(rows > 0 && cols > 0)
        } else {
            rows.checked_mul(per_row).ok_or(Error::TooLarge { what: "number of groups" })?
        };
        Ok(Grouping { size, per_row, scales, shared })
    }
}

impl Grouping {
    /// Index of the scale of group `group` of row `row`.
    pub const fn index(&self, row: usize, group: usize) -> usize {
        if self.shared { 0 } else { row * self.per_row + group }
    }

    /// Shape in which the scales are stored: `[out, groups per row]`, or one value.
    pub const fn scale_shape(&self, rows: usize) -> (usize, usize) {
        if self.shared { (self.scales, 1) } else { (rows, self.per_row) }
    }
}
