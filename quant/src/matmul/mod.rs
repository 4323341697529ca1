//! `Y = X·Ŵᵀ` straight from packed codes.
//!
//! `reference` is the formula, in f64. [`apply_rows_into`] decodes one row of the weight at a time into a buffer
//! and multiplies it with all tokens while it is in cache: memory O(in) besides the operands, never the matrix.
//!
//! With quantized inputs too: [`quantized`]. From a layout made once for many products, the fastest: [`prepared`].
//!
//! **Accuracy** of [`apply_rows_into`]: elementwise `|Δ| ≤ γ·|X|·|Ŵ|ᵀ`, `γ = K·u/(1 - K·u)`, `K = in + 2`, `u = 2⁻²⁴`.
//! Each output is summed in one fixed order: the same bits for any number of threads.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod dot;
mod integer;
pub mod prepared;
pub mod quantized;
#[cfg(feature = "solve")]
pub mod reference;
mod vector;

use crate::simd::Kernels;
use crate::{Error, Quantized, rows};
use alloc::vec;
pub use dot::{dot, dots_into};
use integer::integer_dot;
#[cfg(feature = "solve")]
use rankbit_linalg::faer::{Mat, MatMut, MatRef};

/// Rows of the weight that one task handles.
const ROWS_PER_TASK: usize = 16;

/// `Y = X·Ŵᵀ` as a new matrix `[tokens, out]`.
///
/// # Errors
/// As [`apply_into`].
#[cfg(feature = "solve")]
pub fn apply(weight: &Quantized, x: MatRef<'_, f32>) -> Result<Mat<f32>, Error> {
    let mut y = Mat::zeros(x.nrows(), weight.shape().0);
    apply_into(weight, x, y.as_mut())?;
    Ok(y)
}

/// `Y = X·Ŵᵀ` for `x: [tokens, in]`, into `y: [tokens, out]`. Cost O(tokens · out · in).
///
/// # Errors
/// [`Error::ShapeMismatch`] when `x` or `y` does not fit the weight.
#[cfg(feature = "solve")]
pub fn apply_into(weight: &Quantized, x: MatRef<'_, f32>, y: MatMut<'_, f32>) -> Result<(), Error> {
    apply_with(weight, x, y, |_, _| {})
}

/// [`apply_into`] with an epilogue: `finish(row, values)` sees the outputs of weight row `row` for all tokens
/// while they are hot, and may add to them.
///
/// # Errors
/// As [`apply_into`].
#[cfg(feature = "solve")]
pub fn apply_with(
    weight: &Quantized,
    x: MatRef<'_, f32>,
    y: MatMut<'_, f32>,
    finish: impl Fn(usize, &mut [f32]) + Send + Sync,
) -> Result<(), Error> {
    check_shapes(weight, x, y.as_ref())?;
    products(weight, &rows::packed(x), x.nrows(), finish, into_columns(y));
    Ok(())
}

/// Whether inputs and outputs fit the weight.
#[cfg(feature = "solve")]
fn check_shapes(weight: &Quantized, x: MatRef<'_, f32>, y: MatRef<'_, f32>) -> Result<(), Error> {
    let ((out, features), tokens) = (weight.shape(), x.nrows());
    for (what, expected, found) in [
        ("activations", (tokens, features), (x.nrows(), x.ncols())),
        ("output", (tokens, out), (y.nrows(), y.ncols())),
    ] {
        if expected != found {
            return Err(Error::ShapeMismatch { what, expected, found });
        }
    }
    Ok(())
}

/// Stores the outputs of each weight row in its column of `y`, `[tokens, out]`.
#[cfg(feature = "solve")]
fn into_columns(mut y: MatMut<'_, f32>) -> impl FnMut(usize, &[f32]) {
    move |row, values| {
        for (entry, &value) in y.as_mut().col_mut(row).iter_mut().zip(values) {
            *entry = value;
        }
    }
}

/// The same for a row-major `y`.
fn into_row_major(y: &mut [f32], out: usize) -> impl FnMut(usize, &[f32]) {
    move |row, values| {
        for (y, &value) in y.chunks_exact_mut(out.max(1)).zip(values) {
            y[row] = value;
        }
    }
}

/// `Y = X·Ŵᵀ` for the row-major `x`, `[tokens, in]`, into the row-major `y`, `[tokens, out]`. Cost
/// O(tokens · out · in).
///
/// # Errors
/// [`Error::ShapeMismatch`] when `x` or `y` does not fit the weight.
pub fn apply_rows_into(weight: &Quantized, x: &[f32], tokens: usize, y: &mut [f32]) -> Result<(), Error> {
    apply_rows_with(weight, x, tokens, y, |_, _| {})
}

/// [`apply_rows_into`] with an epilogue: `finish(row, values)` sees the outputs of weight row `row` for all tokens
/// while they are hot, and may add to them.
///
/// # Errors
/// As [`apply_rows_into`].
pub fn apply_rows_with(
    weight: &Quantized,
    x: &[f32],
    tokens: usize,
    y: &mut [f32],
    finish: impl Fn(usize, &mut [f32]) + Send + Sync,
) -> Result<(), Error> {
    let (out, features) = weight.shape();
    rows::check_len("activations", x.len(), (tokens, features))?;
    rows::check_len("output", y.len(), (tokens, out))?;
    products(weight, x, tokens, finish, into_row_major(y, out));
    Ok(())
}

/// Hands the outputs of each weight row for all tokens of the row-major `x` to `store`, row by row.
fn products(
    weight: &Quantized,
    x: &[f32],
    tokens: usize,
    finish: impl Fn(usize, &mut [f32]) + Send + Sync,
    mut store: impl FnMut(usize, &[f32]),
) {
    if weight.columns().is_some() {
        vector::products(weight, x, tokens, finish, store);
        return;
    }
    let (out, features) = weight.shape();
    if tokens == 0 {
        return;
    }
    let (decoder, kernels) = (weight.decoder(), Kernels::current());
    let task = |first: usize| {
        let count = ROWS_PER_TASK.min(out - first);
        let mut row = vec![0.0; features];
        let mut values = vec![0.0; count * tokens];
        for (i, values) in values.chunks_exact_mut(tokens.max(1)).enumerate() {
            weight.decode_row(first + i, &decoder, &mut row);
            dot::dots(kernels, &row, x, values);
            finish(first + i, values);
        }
        values
    };
    for (block, values) in run(out.div_ceil(ROWS_PER_TASK), |block| task(block * ROWS_PER_TASK)) {
        for (i, values) in values.chunks_exact(tokens.max(1)).enumerate() {
            store(block * ROWS_PER_TASK + i, values);
        }
    }
}

/// Runs `task(0..count)` on rayon's current pool and hands back the results in order.
#[cfg(feature = "std")]
fn run<T: Send>(count: usize, task: impl Fn(usize) -> T + Send + Sync) -> impl Iterator<Item = (usize, T)> {
    use rayon::prelude::*;
    let results: vec::Vec<T> = (0..count).into_par_iter().map(&task).collect();
    results.into_iter().enumerate()
}

/// Runs `task(0..count)` one after another.
#[cfg(not(feature = "std"))]
fn run<T>(count: usize, task: impl Fn(usize) -> T) -> impl Iterator<Item = (usize, T)> {
    (0..count).map(move |i| (i, task(i)))
}
