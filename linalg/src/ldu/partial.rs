//! Partial pivoting: recursion by halves of the columns, down to panels that stay in cache.
//!
//! ```text
//! [A₁ A₂]:   P₁·A₁ = [L₁₁; L₂₁]·U₁₁,   A₂ ← P₁·A₂,   U₁₂ = L₁₁⁻¹·A₁₂,   A₂₂ ← A₂₂ − L₂₁·U₁₂,   and so on with A₂₂
//! ```
//! Source: S. Toledo, *Locality of reference in LU decomposition with partial pivoting* (1997).

use faer::linalg::matmul::matmul;
use faer::linalg::triangular_solve::solve_unit_lower_triangular_in_place;
use faer::reborrow::{Reborrow, ReborrowMut};
use faer::{Accum, MatMut, MatRef, Par};

use super::position;
use crate::Scalar;

/// Columns of a panel that is not divided further.
const PANEL: usize = 16;

/// Eliminates all columns of `a`, whose columns are contiguous and which has no more columns than rows: L below the
/// diagonal, D·U on and above it. Row i was exchanged with row `swaps[i]`, in this order. False where a column
/// vanished, and then `a` is of no use.
pub(super) fn eliminate<T: Scalar>(a: MatMut<'_, T>, swaps: &mut [usize]) -> bool {
    let columns = a.ncols();
    if columns <= PANEL {
        return panel(a, swaps);
    }
    let half = (columns / 2).next_multiple_of(PANEL);
    let (mut left, mut right) = a.split_at_col_mut(half);
    let (first, second) = swaps.split_at_mut(half);
    if !eliminate(left.rb_mut(), first) {
        return false;
    }
    reduce(left.rb(), right.rb_mut(), first);
    if !eliminate(right.subrows_mut(half, left.nrows() - half), second) {
        return false;
    }
    let rows = left.nrows() - half;
    exchange(left.subrows_mut(half, rows), second);
    for swap in second {
        *swap += half;
    }
    true
}

/// The columns of `right` after the elimination of `left`: U on top, the Schur complement below.
pub(super) fn reduce<T: Scalar>(left: MatRef<'_, T>, mut right: MatMut<'_, T>, swaps: &[usize]) {
    exchange(right.rb_mut(), swaps);
    let done = left.ncols();
    let (lower, below) = left.split_at_row(done);
    let (mut top, bottom) = right.split_at_row_mut(done);
    solve_unit_lower_triangular_in_place(lower, top.rb_mut(), Par::Seq);
    matmul(bottom, Accum::Add, below, top, T::from_f64(-1.0), Par::Seq);
}

/// Exchanges rows i and `swaps[i]`, one after another.
fn exchange<T: Scalar>(a: MatMut<'_, T>, swaps: &[usize]) {
    for column in a.col_iter_mut() {
        if let Some(column) = column.try_as_col_major_mut() {
            let column = column.as_slice_mut();
            for (row, &other) in swaps.iter().enumerate() {
                column.swap(row, other);
            }
        }
    }
}

/// [`eliminate`] of few columns, one after another, each with all earlier ones at once.
fn panel<T: Scalar>(mut a: MatMut<'_, T>, swaps: &mut [usize]) -> bool {
    for (j, swap) in swaps.iter_mut().enumerate() {
        let (left, mut right) = a.rb_mut().split_at_col_mut(j);
        let Some(column) = right.rb_mut().col_mut(0).try_as_col_major_mut() else { return false };
        let column = column.as_slice_mut();
        let mut columns: [&[T]; PANEL] = [&[]; PANEL];
        let mut factors = [T::default(); PANEL];
        // U: the rows above the diagonal, one earlier column after another.
        for (i, (slot, earlier)) in columns.iter_mut().zip(left.rb().col_iter()).enumerate() {
            let Some(earlier) = earlier.try_as_col_major() else { return false };
            let earlier = earlier.as_slice();
            let factor = column[i];
            for (entry, &lower) in column[i + 1..j].iter_mut().zip(&earlier[i + 1..j]) {
                *entry -= lower * factor;
            }
            *slot = &earlier[j..];
            factors[i] = factor;
        }
        let below = &mut column[j..];
        let most = T::combine(below, &columns[..j], &factors[..j]);
        if most == T::default() {
            return false;
        }
        let pivot_row = position(below, most);
        let pivot = below[pivot_row];
        *swap = j + pivot_row;
        if pivot_row > 0 {
            for column in a.rb_mut().col_iter_mut() {
                if let Some(column) = column.try_as_col_major_mut() {
                    column.as_slice_mut().swap(j, j + pivot_row);
                }
            }
        }
        if let Some(column) = a.rb_mut().col_mut(j).try_as_col_major_mut() {
            for entry in &mut column.as_slice_mut()[j + 1..] {
                *entry /= pivot;
            }
        }
    }
    true
}
