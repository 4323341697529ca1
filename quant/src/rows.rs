//! Rows of a matrix of any strides as plain slices.

use alloc::vec::Vec;
use rankbit_linalg::faer::MatRef;

/// Row `row` of `matrix` as a slice: borrowed when its entries are contiguous, else copied through `buffer`.
///
/// # Panics
/// When `row` is not below the number of rows.
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
