use super::PLAIN;
use crate::{ActivationRule, Recipe, Rounds, Step, TransformRule};
use alloc::vec;
use rankbit_quant::{Rounder, Scheme};

/// AWQ: scale the inputs that matter up before rounding to nearest, then cut each group's range where least is lost.
///
/// ```text
/// λ_j = (mean |X_j|)^α / √(max · min);   minimize over α   tr(E·H·Eᵀ),   E = W - Q(W·diag(λ))·diag(1/λ)
/// then per group   minimize over p   Δ·H_gg·Δᵀ,   ranges cut at p·max|w|
/// ```
/// Source: AWQ, arXiv 2306.00978, section 3.2 and released code: 20 exponents, then ten cuts down to 0.55. The paper's
/// `s` is λ, stored here in f16 with the tensor instead of folded into the layer before. Needs mean magnitudes, and a
/// Gram matrix or a sample of rows.
///
/// Held by the tests: with nearest rounding never worse than [`rtn`](super::rtn) in the calibration's metric; the
/// exponent and error are those of an independent NumPy implementation on a real layer.
pub fn awq(scheme: Scheme) -> Recipe {
    Recipe {
        transform: TransformRule::AWQ,
        activation: ActivationRule::FLOAT,
        metric: PLAIN,
        round: vec![Step::Quantize { scheme, rounder: Rounder::Clip }],
        rounds: Rounds::ONCE,
        seed: 0,
    }
}
