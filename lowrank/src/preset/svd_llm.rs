use super::{CALIBRATED, low_rank};
use crate::{FactorFormat, Recipe};

/// SVD-LLM: truncation-aware whitening, `W ≈ L·R` with the least error of the layer's output.
///
/// ```text
/// S·Sᵀ = E[x·xᵀ] (Cholesky),   L·R = [W·S]_r·S⁻¹
/// ```
/// Source: SVD-LLM, arXiv 2403.07378, section 3.1 (the paper's rank is [`rank_within`](super::rank_within)). Its
/// sequential update of later layers is the caller's loop: fit a layer on moments captured behind compressed ones.
///
/// Theorem held by the tests: dropping component i costs exactly `σ_i(W·S)²`; no factors of this rank do better.
pub fn svd_llm(rank: usize, factors: impl Into<FactorFormat>) -> Recipe {
    Recipe { metric: CALIBRATED, ..low_rank(rank, factors) }
}
