//! Who shares a scale: consecutive entries along `in` of one row, or a rectangle of rows and columns.

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
    /// A rectangle of this many rows and columns; those at the lower and the right edge may be smaller. 128 × 128 are
    /// the weight blocks of DeepSeek-V3 (arXiv 2412.19437, section 3.3.2).
    Block {
        /// Rows, along `out`.
        rows: u32,
        /// Columns, along `in`.
        cols: u32,
    },
}

/// Groups laid over a matrix of known shape.
///
/// ```text
/// scale of entry (i, j):   index (i / rows) · per_row + j / size
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Grouping {
    /// Columns of a full group, at least 1 and at most `in` (or 1 when `in` is 0).
    pub size: usize,
    /// Rows of a full group, at least 1 and at most `out` (or 1 when `out` is 0): 1 for groups inside a row.
    pub rows: usize,
    /// Groups side by side: ⌈in / size⌉.
    pub per_row: usize,
    /// Scales of the whole matrix: `⌈out / rows⌉ · per_row`.
    pub scales: usize,
}

impl Group {
    /// The groups of a matrix `[out, in]`.
    ///
    /// # Errors
    /// [`Error::GroupSize`] for a size of 0, [`Error::TooLarge`] when the number of groups overflows.
    pub fn over(self, (rows, cols): (usize, usize)) -> Result<Grouping, Error> {
        let side = |side: u32, of: usize| usize::try_from(side).unwrap_or(usize::MAX).min(of).max(1);
        let (height, size) = match self {
            Self::Size(0) | Self::Block { rows: 0, .. } | Self::Block { cols: 0, .. } => {
                return Err(Error::GroupSize { group_size: 0, in_features: cols });
            }
            Self::Size(size) => (1, side(size, cols)),
            Self::Row => (1, cols.max(1)),
            Self::Tensor => (rows.max(1), cols.max(1)),
            Self::Block { rows: height, cols: size } => (side(height, rows), side(size, cols)),
        };
        let per_row = cols.div_ceil(size);
        let scales = rows.div_ceil(height).checked_mul(per_row);
        let scales = scales.ok_or(Error::TooLarge { what: "number of groups" })?;
        Ok(Grouping { size, rows: height, per_row, scales })
    }
}

impl Grouping {
    /// Index of the scale of group `group` of row `row`.
    pub const fn index(&self, row: usize, group: usize) -> usize {
        row / self.rows * self.per_row + group
    }

    /// Shape in which the scales of `rows` rows are stored: `[⌈rows / rows of a group⌉, groups side by side]`.
    pub const fn scale_shape(&self, rows: usize) -> (usize, usize) {
        (rows.div_ceil(self.rows), self.per_row)
    }
}
