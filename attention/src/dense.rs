//! The product of two matrices of any strides, in tasks.

use alloc::{vec, vec::Vec};

use crate::kernel::{self, Init, Kernels, Strided};
use crate::{Element, parallel};

/// Rows that one task multiplies.
const ROWS: usize = 256;
/// Lanes of a panel.
const LANES: usize = 16;

/// `a·b` in row-major order, `[rows, inner, columns]` the sizes; each sum in order of the inner index.
pub(crate) fn product<T: Element>(
    kernels: Kernels,
    a: Strided<'_, T>,
    b: Strided<'_, T>,
    [rows, inner, columns]: [usize; 3],
) -> Vec<T> {
    let zero = T::from_f64(0.0);
    if inner == 0 {
        return vec![zero; rows * columns];
    }
    let mut data = Vec::with_capacity(rows * columns);
    let panels: Vec<Vec<[T; LANES]>> = (0..columns.div_ceil(LANES))
        .map(|panel| {
            let lane = |k: usize, l: usize| {
                let column = panel * LANES + l;
                if column < columns { b.data[k * b.row + column * b.column] } else { zero }
            };
            (0..inner).map(|k| core::array::from_fn(|l| lane(k, l))).collect()
        })
        .collect();
    let task = |index: usize| {
        let first = index * ROWS;
        let count = ROWS.min(rows - first);
        let part = Strided { data: &a.data[first * a.row..], ..a };
        let mut out = vec![zero; count * columns];
        let mut tile = vec![[zero; LANES]; count];
        for (panel, b) in panels.iter().enumerate() {
            kernel::product(kernels, part, b, &mut tile, Init::Zero);
            let width = LANES.min(columns - panel * LANES);
            for (out, tile) in out.chunks_exact_mut(columns).zip(&tile) {
                out[panel * LANES..][..width].copy_from_slice(&tile[..width]);
            }
        }
        out
    };
    parallel::waves(rows.div_ceil(ROWS), task, |_, part| data.extend(part));
    data
}

/// A row-major matrix of so many columns.
pub(crate) fn rows<T>(data: &[T], columns: usize) -> Strided<'_, T> {
    Strided { data, row: columns, column: 1 }
}

/// Its transpose.
pub(crate) fn transposed<T>(data: &[T], columns: usize) -> Strided<'_, T> {
    Strided { data, row: 1, column: columns }
}

/// `Σ a·b` in order.
pub(crate) fn dot<T: Element>(a: &[T], b: &[T]) -> T {
    a.iter().zip(b).fold(T::from_f64(0.0), |sum, (&x, &y)| sum + x * y)
}
