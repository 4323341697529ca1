//! Rows of a matrix as plain slices.

use crate::Error;
#[cfg(feature = "solve")]
use {alloc::vec::Vec, rankbit_linalg::faer::MatRef};

/// Row `row` of `matrix` as a slice: borrowed when its entries are contiguous, else copied through `buffer`.
///
/// # Panics
/// When `row` is not below the number of rows.
#[cfg(feature = "solve")]
pub fn row<'a>(matrix: MatRef<'a, f32>, row: usize, buffer: &'a mut Vec<f32>) -> &'a [f32] {
    let view = matrix.row(row);
    match view.try_as_row_major() {
        Some(contiguous) => contiguous.as_slice(),
        None => {
            buffer.clear();
            buffer.extend(view.iter());
            buffer
        }
    }
}

/// All rows of `matrix`, one behind the other.
#[cfg(feature = "solve")]
pub fn packed(matrix: MatRef<'_, f32>) -> Vec<f32> {
    let (mut packed, mut buffer) = (Vec::with_capacity(matrix.nrows() * matrix.ncols()), Vec::new());
    for index in 0..matrix.nrows() {
        packed.extend_from_slice(row(matrix, index, &mut buffer));
    }
    packed
}

/// A matrix that is read row by row: what rounding to nearest needs to know of one.
pub(crate) trait Rows: Copy {
    /// Number of rows.
    fn nrows(&self) -> usize;
    /// Entries of each row.
    fn ncols(&self) -> usize;
    /// Row `row`, through `buffer` where it is not contiguous. Panics when there is no such row.
    fn row_slice<'a>(&'a self, row: usize, buffer: &'a mut alloc::vec::Vec<f32>) -> &'a [f32];
    /// All of it.
    #[cfg(feature = "solve")]
    fn matrix(&self) -> MatRef<'_, f32>;
}

#[cfg(feature = "solve")]
impl Rows for MatRef<'_, f32> {
    fn nrows(&self) -> usize {
        MatRef::nrows(self)
    }

    fn ncols(&self) -> usize {
        MatRef::ncols(self)
    }

    fn row_slice<'a>(&'a self, index: usize, buffer: &'a mut Vec<f32>) -> &'a [f32] {
        row(*self, index, buffer)
    }

    fn matrix(&self) -> MatRef<'_, f32> {
        *self
    }
}

/// Rows one behind the other in one slice.
#[derive(Clone, Copy)]
pub(crate) struct RowMajor<'a> {
    values: &'a [f32],
    shape: (usize, usize),
}

impl<'a> RowMajor<'a> {
    /// `values` as a matrix of `shape`.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] naming `what` unless there are exactly as many.
    pub(crate) fn new(what: &'static str, values: &'a [f32], shape: (usize, usize)) -> Result<Self, Error> {
        check_len(what, values.len(), shape)?;
        Ok(Self { values, shape })
    }
}

impl Rows for RowMajor<'_> {
    fn nrows(&self) -> usize {
        self.shape.0
    }

    fn ncols(&self) -> usize {
        self.shape.1
    }

    fn row_slice<'a>(&'a self, row: usize, _: &'a mut alloc::vec::Vec<f32>) -> &'a [f32] {
        &self.values[row * self.shape.1..(row + 1) * self.shape.1]
    }

    #[cfg(feature = "solve")]
    fn matrix(&self) -> MatRef<'_, f32> {
        MatRef::from_row_major_slice(self.values, self.shape.0, self.shape.1)
    }
}

/// Whether `found` values are a row-major matrix of `shape`.
pub(crate) fn check_len(what: &'static str, found: usize, shape: (usize, usize)) -> Result<(), Error> {
    if shape.0.checked_mul(shape.1) == Some(found) {
        return Ok(());
    }
    // So many whole rows, or else one of so many values.
    let rows = if shape.1 > 0 && found.is_multiple_of(shape.1) { found / shape.1 } else { 1 };
    Err(Error::ShapeMismatch { what, expected: shape, found: (rows, found / rows.max(1)) })
}
