use super::PLAIN;
use crate::{ActivationRule, FactorFormat, Recipe, Rounds, Step, TransformRule};
use alloc::vec;

/// Plain low rank: `W ≈ L·R`, the truncated SVD with `√Σ` in each factor.
///
/// Theorem held by the tests (Eckart–Young): the error is `√(Σ_{i>r} σ_i²)` up to the sketch's accuracy and the
/// rounding of the factors, and no split of this rank does better.
pub fn low_rank(rank: usize, factors: impl Into<FactorFormat>) -> Recipe {
    Recipe {
        transform: TransformRule::Identity,
        activation: ActivationRule::FLOAT,
        metric: PLAIN,
        round: vec![Step::LowRank { rank, factors: factors.into() }],
        rounds: Rounds::ONCE,
        seed: 0,
    }
}
