use super::low_rank;
use crate::{FactorFormat, MetricRule, Recipe, Space};

/// ASVD: the truncated SVD after scaling inputs by their mean magnitudes.
///
/// ```text
/// S = diag((mean |x_j|)^α),   L·R = [W·S]_r·S⁻¹
/// ```
/// Source: ASVD, arXiv 2312.05821, section 3.2 (α = 0.5). Inputs that are uncorrelated and of equal shape make it optimal
/// at α = 1, any others [`svd_llm`](super::svd_llm) instead.
///
/// Held by the tests: α = 0 is [`low_rank`](super::low_rank); the error in the scaled norm is the tail of its spectrum.
pub fn asvd(alpha: f64, rank: usize, factors: impl Into<FactorFormat>) -> Recipe {
    let scaled = Space::MeanAbs { exponent: alpha };
    Recipe { metric: MetricRule { project: scaled, accept: scaled }, ..low_rank(rank, factors) }
}
