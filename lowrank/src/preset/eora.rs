use super::{CALIBRATED, Compensation};
use crate::{ActivationRule, Recipe, Rounds, TransformRule};
use alloc::vec;

/// EoRA: compress, then the low-rank term that makes up for most of the *output* that was lost.
///
/// ```text
/// ΔW = W - Q,   H = E[x·xᵀ] = V·Λ·Vᵀ,   L·R = [ΔW·V·√Λ]_r·Λ^(-½)·Vᵀ = argmin over rank r of ‖(ΔW - L·R)·H^½‖
/// ```
/// Source: EoRA, arXiv 2410.21271, section 3. Any square root of `H` gives the same `L·R`; the paper's `V·√Λ` needs its
/// zero eigenvalues mended, here no inverse of the root is taken (`rankbit_linalg::weighted`). Any rounder may make `Q`.
///
/// Theorem held by the tests: in the activation norm it never loses to the plain SVD of `ΔW` (LoRC), and equals it where
/// `H ∝ I`; `error² = ‖ΔW·H^½‖² - Σ_{i≤r} σ_i(ΔW·H^½)²`, so rank r + 1 is never worse than r.
pub fn eora(parameters: Compensation) -> Recipe {
    Recipe {
        transform: TransformRule::Identity,
        activation: ActivationRule::FLOAT,
        metric: CALIBRATED,
        round: vec![parameters.quantize(), parameters.low_rank()],
        rounds: Rounds::ONCE,
        seed: 0,
    }
}
