use super::rtn;
use crate::{ActivationRule, Recipe, TransformRule};
use rankbit_quant::{FloatFormat, Scheme};

/// SmoothQuant: move range from activations to weights, then round both to nearest.
///
/// ```text
/// λ_j = max|X_j|^α / max|W_j|^(1-α),   Y = act(X·diag(1/λ))·Q(W·diag(λ))ᵀ
/// ```
/// Source: SmoothQuant, arXiv 2211.10438, equation 4 (its s is λ; α = 0.5 unless activations are unusually hard). Its
/// settings are 8-bit integers on both sides: `inputs` is [`Activation::INT8`](rankbit_quant::Activation::INT8) for O1
/// (per token), one scale per product for O2, [`ActivationRule::Calibrated`] for O3. The paper folds 1/λ into the norm
/// before (here [`fold::into_norm`](rankbit_quant::transform::fold::into_norm) does); the split keeps λ with the tensor.
///
/// Held by the tests: α = ½ equalizes the ranges of `X·diag(1/λ)` and `W·diag(λ)`; without quantization the product is
/// unchanged; folded and kept λ give the same layer.
pub fn smoothquant(scheme: Scheme, alpha: f64, inputs: impl Into<ActivationRule>) -> Recipe {
    Recipe {
        transform: TransformRule::Smooth { alpha, beta: 1.0 - alpha, format: FloatFormat::F16 },
        ..rtn(scheme).with_activation(inputs)
    }
}
