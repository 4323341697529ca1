use super::{PLAIN, nearest};
use crate::{ActivationRule, MetricRule, Recipe, Rounds, Space, Step, Stop, TransformRule};
use alloc::vec;
use rankbit_quant::{FloatFormat, Scheme};

/// Parameters of [`svdquant`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SvdQuant {
    /// Format of the residual.
    pub scheme: Scheme,
    /// Rank of the branch (the paper's r, 32 there).
    pub rank: usize,
    /// How the branch is stored (the paper: 16 bits).
    pub factors: FloatFormat,
    /// Smoothing strength α with β = 1 - α; `None` without calibration.
    pub smooth: Option<f64>,
    /// Alternations at most (the paper's code: 100).
    pub rounds: u32,
}

/// SVDQuant for weights: smooth, take the leading ranks of the smoothed weight, quantize the rest, alternate.
///
/// ```text
/// λ_j = max|X_j|^α / max|W_j|^(1-α);   Q̃ = 0
/// repeat   L·R·diag(λ) = [W·diag(λ) - Q̃]_r,   Q̃ = quantize((W - L·R)·diag(λ))
/// until the error on the calibration rises; the best is kept
/// ```
/// Source: SVDQuant, arXiv 2411.05007, equations 3 to 6, and its released calibration (alternation with early
/// stop, error measured on the layer's output). The paper keeps the branch on the smoothed activations
/// (`X̂·L1·L2`); here `L·R` is the same branch in original coordinates (`L = L1`, `R = L2·diag(1/λ)`). Without
/// calibration there is no smoothing and the error is the plain norm.
///
/// Held by the tests: with rank `min(out, in)` the residual is nothing but the factors' rounding; after one round
/// `‖W̃ - L·R̃‖² = Σ_{i>r} σ_i(W̃)²`, `W̃ = W·diag(λ)`; the returned error is the least of all iterates.
pub fn svdquant(parameters: SvdQuant) -> Recipe {
    let SvdQuant { scheme, rank, factors, smooth, rounds } = parameters;
    let (transform, metric) = match smooth {
        None => (TransformRule::Identity, PLAIN),
        Some(alpha) => (
            TransformRule::Smooth { alpha, beta: 1.0 - alpha, format: FloatFormat::F16 },
            MetricRule { project: Space::Transformed, accept: Space::Moments },
        ),
    };
    Recipe {
        transform,
        activation: ActivationRule::FLOAT,
        metric,
        round: vec![Step::LowRank { rank, factors }, nearest(scheme)],
        rounds: Rounds { max: rounds, stop: Stop::FirstRise },
        seed: 0,
    }
}
