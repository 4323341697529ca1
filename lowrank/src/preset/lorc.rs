use super::{PLAIN, nearest};
use crate::{ActivationRule, FactorFormat, Recipe, Rounds, Step, TransformRule};
use alloc::vec;
use rankbit_quant::Scheme;

/// LoRC, low-rank compensation: quantize, then the best rank-r approximation of what rounding lost.
///
/// ```text
/// Q = quantize(W),   L·R = [W - Q]_r,   L = U_r·√Σ_r,   R = √Σ_r·V_rᵀ
/// ```
/// Source: ZeroQuant-V2, arXiv 2303.08302, section 4 (the paper's rank is 8; its `Û`, `V̂` are `left`, `right`,
/// stored in 16 bits here unless asked; the paper also tries 8).
///
/// Theorem held by the tests: `‖W - Q - L·R‖² = Σ_{i>r} σ_i(W - Q)² ≤ ‖W - Q‖²`, so it never loses to [`rtn`](super::rtn).
pub fn lorc(scheme: Scheme, rank: usize, factors: impl Into<FactorFormat>) -> Recipe {
    Recipe {
        transform: TransformRule::Identity,
        activation: ActivationRule::FLOAT,
        metric: PLAIN,
        round: vec![nearest(scheme), Step::LowRank { rank, factors: factors.into() }],
        rounds: Rounds::ONCE,
        seed: 0,
    }
}
