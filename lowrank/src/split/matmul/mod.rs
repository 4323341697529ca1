//! `Y = act(X·T)·Q̃ᵀ + (X·Rᵀ)·Lᵀ + X·Sᵀ (+ b)` from packed codes, never materializing `Ŵ`.
//!
//! [`mod@reference`] is the formula in f64. [`apply_into`] projects the activations once (`Z = X·Rᵀ`) and multiplies with the
//! sparse term ([`rankbit_sparse::matmul`]), then lets the quantized product add `Z·Lᵀ` and `X·Sᵀ` to each output row
//! while it is hot.
//!
//! **Accuracy** of [`apply_into`]: elementwise `|Δ| ≤ γ·(|X|·|T|·|Q̃|ᵀ + |X|·(|L|·|R| + |S|)ᵀ)`,
//! `γ = K·u/(1 - K·u)`, `K = in + r + 5`, `u = 2⁻²⁴` (without a rotation `|T|·|Q̃|ᵀ = |Q̃·Tᵀ|ᵀ`; with one K grows by
//! what [`rankbit_quant::transform::Hadamard`] needs), for inputs that stay floats; with quantized inputs that of
//! [`rankbit_quant::matmul::quantized`] on the quantized term's path. The same bits for any number of threads.

pub mod reference;

use crate::{Error, Split};
use alloc::vec::Vec;
use rankbit_linalg::faer::{MatMut, MatRef};
use rankbit_quant::{Transform, matmul, matmul::dot, rows};

/// `Y = X·Ŵᵀ` for `x: [tokens, in]` into `y: [tokens, out]`. Cost O(tokens · (out · in + r · (in + out) + the
/// kept entries of S)).
///
/// # Errors
/// [`Error::ShapeMismatch`] when `x` or `y` does not fit the split; with quantized inputs
/// [`rankbit_quant::Error::ActivationNonFinite`] for a NaN or infinity after the transform.
pub fn apply_into(split: &Split, x: MatRef<'_, f32>, mut y: MatMut<'_, f32>) -> Result<(), Error> {
    let ((out, features), tokens) = (split.shape(), x.nrows());
    for (what, expected, found) in [
        ("activations", (tokens, features), (x.nrows(), x.ncols())),
        ("output", (tokens, out), (y.nrows(), y.ncols())),
    ] {
        if expected != found {
            return Err(Error::ShapeMismatch { what, expected, found });
        }
    }
    let rank = split.rank();
    let (left, projected) = split
        .low_rank()
        .map_or_else(Default::default, |lr| (lr.left().to_f32(), project(x, &lr.right().to_f32())));
    let sparse = split.sparse().map(|sparse| sparse.apply(x)).transpose()?;
    let add_branch = |row: usize, values: &mut [f32]| {
        if rank > 0 {
            let left = &left[row * rank..(row + 1) * rank];
            for (value, z) in values.iter_mut().zip(projected.chunks_exact(rank)) {
                *value += dot(left, z);
            }
        }
        if let Some(sparse) = &sparse {
            values.iter_mut().zip(sparse.col_as_slice(row)).for_each(|(value, kept)| *value += kept);
        }
    };
    match split.base() {
        None => {
            let mut values = alloc::vec![0.0; tokens];
            for row in 0..out {
                values.fill(0.0);
                add_branch(row, &mut values);
                for (entry, &value) in y.as_mut().col_mut(row).iter_mut().zip(&values) {
                    *entry = value;
                }
            }
        }
        Some(base) => match split.transform() {
            None => matmul::quantized::apply_with(base, split.activation(), x, y.as_mut(), add_branch)?,
            Some(transform) => {
                let transformed = transformed(x, transform)?;
                let view = MatRef::from_row_major_slice(&transformed, tokens, features);
                matmul::quantized::apply_with(base, split.activation(), view, y.as_mut(), add_branch)?;
            }
        },
    }
    for (column, &b) in y.col_iter_mut().zip(split.bias().unwrap_or_default()) {
        column.iter_mut().for_each(|value| *value += b);
    }
    Ok(())
}

/// `X·Rᵀ`, row-major `[tokens, r]`, for `right: [r, in]`.
fn project(x: MatRef<'_, f32>, right: &[f32]) -> Vec<f32> {
    let mut buffer = Vec::new();
    let rank = right.len().checked_div(x.ncols()).unwrap_or(0);
    let mut projected = alloc::vec![0.0; x.nrows() * rank];
    for (token, out) in projected.chunks_exact_mut(rank.max(1)).enumerate() {
        matmul::dots_into(rows::row(x, token, &mut buffer), right, out);
    }
    projected
}

/// `X·T`, row-major.
fn transformed(x: MatRef<'_, f32>, transform: &Transform) -> Result<Vec<f32>, Error> {
    let mut transformed = rows::packed(x);
    transform.forward(&mut transformed)?;
    Ok(transformed)
}
