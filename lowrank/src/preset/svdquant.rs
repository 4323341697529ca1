use super::PLAIN;
use crate::{ActivationRule, FactorFormat, MetricRule, Recipe, Rounds, Space, Step, Stop, TransformRule};
use alloc::vec;
use rankbit_quant::{FloatFormat, Rounder, Scheme};

/// How [`svdquant`] smooths.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Smoothing {
    /// Not at all; no calibration is needed.
    Off,
    /// With this α, and β = 1 - α.
    Fixed(f64),
    /// With the α and β of least output error, in steps of 1/grid (the paper's 20, its fast variant 10).
    Search(u32),
}

/// Parameters of [`svdquant`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SvdQuant {
    /// Format of the residual.
    pub scheme: Scheme,
    /// How the residual becomes codes (the paper: nearest, or GPTQ).
    pub rounder: Rounder,
    /// Rank of the branch (the paper's r, 32 there).
    pub rank: usize,
    /// How the branch is stored (the paper: 16 bits).
    pub factors: FactorFormat,
    /// How inputs are smoothed.
    pub smooth: Smoothing,
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
/// `α` and β may be searched: each pair is tried with branch, quantized weights and quantized inputs, and the one that
/// loses least of the layer's output is taken. W4A4 and W4A8 are the recipe
/// [`with_activation`](Recipe::with_activation) of 4 or 8 bits, the formats INT4 and NVFP4 in the paper.
///
/// Source: SVDQuant, arXiv 2411.05007, equations 3 to 6, and its released calibration (alternation with early
/// stop, error measured on the layer's output). The paper keeps the branch on the smoothed activations
/// (`X̂·L1·L2`); here `L·R` is the same branch in original coordinates (`L = L1`, `R = L2·diag(1/λ)`). Without
/// calibration there is no smoothing and the error is the plain norm.
///
/// Held by the tests: with rank `min(out, in)` the residual is nothing but the factors' rounding; after one round
/// `‖W̃ - L·R̃‖² = Σ_{i>r} σ_i(W̃)²`, `W̃ = W·diag(λ)`; the returned error is the least of all iterates.
pub fn svdquant(parameters: SvdQuant) -> Recipe {
    let SvdQuant { scheme, rounder, rank, factors, smooth, rounds } = parameters;
    let format = FloatFormat::F16;
    let calibrated = MetricRule { project: Space::Transformed, accept: Space::Moments };
    let (transform, metric) = match smooth {
        Smoothing::Off => (TransformRule::Identity, PLAIN),
        Smoothing::Fixed(alpha) => (TransformRule::Smooth { alpha, beta: 1.0 - alpha, format }, calibrated),
        Smoothing::Search(grid) => (TransformRule::SmoothSearch { grid, format }, calibrated),
    };
    Recipe {
        transform,
        activation: ActivationRule::FLOAT,
        metric,
        round: vec![Step::LowRank { rank, factors }, Step::Quantize { scheme, rounder }],
        rounds: Rounds { max: rounds, stop: Stop::FirstRise },
        seed: 0,
    }
}
