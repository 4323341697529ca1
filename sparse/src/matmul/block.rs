//! The product with a block-sparse matrix.

use crate::storage::BlockMatrix;
use crate::{Error, dense};
use alloc::{vec, vec::Vec};
use rankbit_linalg::faer::{Mat, MatRef};

/// Tokens side by side.
const TOKENS: usize = 16;
/// Rows of one task, about.
const TASK_ROWS: usize = 256;

/// `Y = X·Sᵀ` for `x: [tokens, in]`, as a new matrix `[tokens, out]`; portable, tokens side by side.
///
/// Each output is one sum over the row's stored entries in column order, in f32; the bound is that of the
/// [module](super), the bits do not depend on the number of tokens or threads. Entries of a stored block count even
/// where they are zero. Cost 2·tokens·(stored entries) flops.
///
/// # Errors
/// [`Error::ShapeMismatch`] when `x` does not have the matrix's `in` columns.
pub fn apply_block(matrix: &BlockMatrix, x: MatRef<'_, f32>) -> Result<Mat<f32>, Error> {
    let ((out, features), tokens) = (matrix.shape(), x.nrows());
    if x.ncols() != features {
        let (expected, found) = ((tokens, features), x.shape());
        return Err(Error::ShapeMismatch { what: "activations", expected, found });
    }
    let (height, width) = matrix.block();
    let mut y = Mat::zeros(tokens, out);
    let values = matrix.values().to_f32();
    let step = (TASK_ROWS / height).max(1);
    let mut panel = vec![[0.0_f32; TOKENS]; features];
    for first in (0..tokens).step_by(TOKENS) {
        let len = TOKENS.min(tokens - first);
        for (column, to) in panel.iter_mut().enumerate() {
            to.fill(0.0);
            to.iter_mut().zip(x.col(column).subrows(first, len).iter()).for_each(|(to, from)| *to = *from);
        }
        let mut tasks = Vec::new();
        let (mut rest, mut block_row) = (y.as_mut().subrows_mut(first, len), 0);
        while rest.ncols() > 0 {
            let len = step.saturating_mul(height).min(rest.ncols());
            let (part, after) = rest.split_at_col_mut(len);
            tasks.push((block_row, part));
            (rest, block_row) = (after, block_row + step);
        }
        dense::each(tasks, |(block_row, mut y)| {
            for row in 0..y.ncols() {
                let mut sums = [0.0_f32; TOKENS];
                for at in matrix.blocks(block_row + row / height) {
                    let left = matrix.columns().get(at) * width;
                    let values = &values[(at * height + row % height) * width..][..width];
                    for (value, x) in values.iter().zip(&panel[left..]) {
                        for (sum, x) in sums.iter_mut().zip(x) {
                            *sum += value * x;
                        }
                    }
                }
                y.as_mut().col_mut(row).iter_mut().zip(&sums).for_each(|(to, from)| *to = *from);
            }
        });
    }
    Ok(y)
}
