//! Products, solves and loops over panels of fixed size, whose results do not depend on the number of threads.

use alloc::vec::Vec;
use rankbit_linalg::faer::dyn_stack::{MemBuffer, MemStack};
use rankbit_linalg::faer::linalg::cholesky::llt::factor::{
    LltError, cholesky_in_place, cholesky_in_place_scratch,
};
use rankbit_linalg::faer::linalg::cholesky::llt::solve;
use rankbit_linalg::faer::linalg::matmul::matmul;
use rankbit_linalg::faer::traits::{ComplexField, RealField};
use rankbit_linalg::faer::{Accum, Mat, MatMut, MatRef, Par};

/// Rows of a weight that one task handles.
pub(crate) const PANEL: usize = 128;

/// `a·b`.
pub(crate) fn product<T: ComplexField>(a: MatRef<'_, T>, b: MatRef<'_, T>) -> Mat<T> {
    let mut out = Mat::zeros(a.nrows(), b.ncols());
    matmul(out.as_mut(), Accum::Replace, a, b, T::one_impl(), Par::Seq);
    out
}

/// `matrix` in f64.
pub(crate) fn wide(matrix: MatRef<'_, f32>) -> Mat<f64> {
    Mat::from_fn(matrix.nrows(), matrix.ncols(), |i, j| f64::from(matrix[(i, j)]))
}

/// f64 → f32, to nearest.
pub(crate) fn narrow(value: f64) -> f32 {
    rankbit_quant::FloatFormat::F32.round(value)
}

/// The lower Cholesky factor of a symmetric positive definite matrix, in its place; the column whose pivot failed.
pub(crate) fn cholesky<T: RealField>(mut matrix: Mat<T>) -> Result<Mat<T>, usize> {
    let n = matrix.nrows();
    let mut memory = MemBuffer::new(cholesky_in_place_scratch::<T>(n, Par::Seq, Default::default()));
    let stack = MemStack::new(&mut memory);
    match cholesky_in_place(matrix.as_mut(), Default::default(), Par::Seq, stack, Default::default()) {
        Ok(_) => Ok(matrix),
        Err(LltError::NonPositivePivot { index }) => Err(index),
    }
}

/// `rhs := A⁻¹·rhs` from A's lower Cholesky factor, panels of columns in parallel.
pub(crate) fn solve<T: RealField + Send + Sync>(lower: MatRef<'_, T>, rhs: MatMut<'_, T>) {
    let n = lower.nrows();
    for_panels(rhs, |_, panel| {
        let mut memory = MemBuffer::new(solve::solve_in_place_scratch::<T>(n, panel.ncols(), Par::Seq));
        solve::solve_in_place(lower, panel, Par::Seq, MemStack::new(&mut memory));
    });
}

/// `visit(first column, panel)` on panels of [`PANEL`] columns, in parallel with `std`.
pub(crate) fn for_panels<T: Send>(matrix: MatMut<'_, T>, visit: impl Fn(usize, MatMut<'_, T>) + Sync + Send) {
    let mut panels = Vec::with_capacity(matrix.ncols().div_ceil(PANEL));
    let (mut rest, mut first) = (matrix, 0);
    while rest.ncols() > 0 {
        let len = PANEL.min(rest.ncols());
        let (panel, after) = rest.split_at_col_mut(len);
        panels.push((first, panel));
        (rest, first) = (after, first + len);
    }
    each(panels, |(first, panel)| visit(first, panel));
}

/// `task` on every item, on rayon's current pool.
#[cfg(feature = "std")]
pub(crate) fn each<T: Send>(items: Vec<T>, task: impl Fn(T) + Sync + Send) {
    use rayon::prelude::*;
    items.into_par_iter().for_each(task);
}

/// `task` on every item, one after another.
#[cfg(not(feature = "std"))]
pub(crate) fn each<T>(items: Vec<T>, task: impl Fn(T)) {
    items.into_iter().for_each(task);
}

/// The results of `task` on every item, in order.
#[cfg(feature = "std")]
pub(crate) fn map<T: Send, R: Send>(items: Vec<T>, task: impl Fn(T) -> R + Sync + Send) -> Vec<R> {
    use rayon::prelude::*;
    items.into_par_iter().map(task).collect()
}

/// The results of `task` on every item, in order.
#[cfg(not(feature = "std"))]
pub(crate) fn map<T, R>(items: Vec<T>, task: impl Fn(T) -> R) -> Vec<R> {
    items.into_iter().map(task).collect()
}
