//! Transforms folded into neighbouring layers, so that nothing is left to do at product time.
//!
//! ```text
//! this layer        Y = X·Wᵀ = (X·T)·(W·T⁻ᵀ)ᵀ              W ← W·T⁻ᵀ                   into_inputs
//! the one before    X = Z·Vᵀ + b                            V ← Tᵀ·V,   b ← b·T         into_outputs
//! a norm before     X = γ ⊙ n(Z) + β                        γ ← γ/λ,    β ← β/λ         into_norm
//! ```
//! The network computes the same, up to rounding, when every reader of X takes `W·T⁻ᵀ` and X's one writer takes the
//! other side. A rotation goes through anything linear (QuaRot's R1 on the residual stream, once norms carry no γ); a
//! norm's elementwise γ takes smoothing alone.
//!
//! Sources: SmoothQuant, arXiv 2211.10438, section 4.2 (the previous norm); AWQ, arXiv 2306.00978 (norms and linear
//! layers); QuaRot, arXiv 2404.00456, section 4, and SpinQuant, arXiv 2405.16406 (rotations of both sides).

use super::Transform;
use crate::{Error, rows};
use alloc::vec::Vec;
use rankbit_linalg::faer::MatMut;

/// W ← W·T⁻ᵀ for a layer `[out, in]` that reads X.
///
/// # Errors
/// [`Error::ShapeMismatch`] when `in` is not the transform's width.
pub fn into_inputs(transform: &Transform, mut weight: MatMut<'_, f32>) -> Result<(), Error> {
    check("weight", (weight.nrows(), transform.features()), (weight.nrows(), weight.ncols()))?;
    let mut buffer = Vec::new();
    for i in 0..weight.nrows() {
        let mut row = rows::row(weight.as_ref(), i, &mut buffer).to_vec();
        transform.inverse_transpose(&mut row)?;
        for (entry, value) in weight.as_mut().row_mut(i).iter_mut().zip(row) {
            *entry = value;
        }
    }
    Ok(())
}

/// V ← Tᵀ·V and b ← b·T for the layer `[features, in]` that writes X.
///
/// # Errors
/// [`Error::ShapeMismatch`] when the layer, or its bias, does not write as many features as the transform has.
pub fn into_outputs(
    transform: &Transform,
    mut weight: MatMut<'_, f32>,
    bias: Option<&mut [f32]>,
) -> Result<(), Error> {
    let features = transform.features();
    check("weight", (features, weight.ncols()), (weight.nrows(), weight.ncols()))?;
    if let Some(bias) = &bias {
        check("bias", (1, features), (1, bias.len()))?;
    }
    // A column of V is what one of its inputs adds to X: a row like any other.
    let mut column = Vec::with_capacity(features);
    for j in 0..weight.ncols() {
        column.clear();
        column.extend(weight.as_ref().col(j).iter().copied());
        transform.forward(&mut column)?;
        for (entry, &value) in weight.as_mut().col_mut(j).iter_mut().zip(&column) {
            *entry = value;
        }
    }
    bias.map_or(Ok(()), |bias| transform.forward(bias))
}

/// γ ← γ/λ and β ← β/λ for the norm (or any elementwise affine map) that writes X.
///
/// # Errors
/// [`Error::ShapeMismatch`] for other lengths; [`Error::NotElementwise`] for a transform that mixes or moves features.
pub fn into_norm(transform: &Transform, gamma: &mut [f32], beta: Option<&mut [f32]>) -> Result<(), Error> {
    if transform.permutation().is_some() || transform.rotation().is_some() {
        return Err(Error::NotElementwise);
    }
    let features = transform.features();
    check("gamma", (1, features), (1, gamma.len()))?;
    if let Some(beta) = &beta {
        check("beta", (1, features), (1, beta.len()))?;
    }
    transform.forward(gamma)?;
    beta.map_or(Ok(()), |beta| transform.forward(beta))
}

fn check(what: &'static str, expected: (usize, usize), found: (usize, usize)) -> Result<(), Error> {
    if expected == found { Ok(()) } else { Err(Error::ShapeMismatch { what, expected, found }) }
}
