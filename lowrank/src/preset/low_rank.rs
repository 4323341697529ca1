use super::PLAIN;
use crate::{ActivationRule, Recipe, Rounds, Step, TransformRule};
use alloc::vec;
use rankbit_quant::FloatFormat;

/// Plain low rank: `W ≈ L·R`, the truncated SVD with `√Σ` in each factor.
///
/// Theorem held by the tests (Eckart–Young): the error is `√(Σ_{i>r} σ_i²)` up to the sketch's accuracy and the
/// rounding of the factors, and no split of this rank does better.
pub fn low_rank(rank: usize, factors: FloatFormat) -> Recipe {
    Recipe {
        transform: TransformRule::Identity,
        activation: ActivationRule::FLOAT,
        metric: PLAIN,
        round: vec![Step::LowRank { rank, factors }],
        rounds: Rounds::ONCE,
        seed: 0,
    }
}
