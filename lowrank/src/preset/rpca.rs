use super::{low_rank, svd_llm, with_outliers};
use crate::{FactorFormat, Recipe, Rounds, Stop};
use rankbit_sparse::Pattern;

/// Robust principal component analysis of a known size: a low-rank term and the entries that do not fit it, in turn.
///
/// ```text
/// repeat   S = the largest entries of W - L·R, as many as `pattern` says,   L·R = [W - S]_r   until ‖W - L·R - S‖ rises
/// ```
/// With calibration all of it under the Gram matrix: entries by Wanda's score, the low-rank term whitened.
///
/// Source: GoDec, Zhou and Tao, ICML 2011, section 2 (alternating projections, which need a rank and a count); the convex
/// form, which finds both, is [`rankbit_linalg::robust_pca`] (arXiv 0912.3599). Deviation: S comes first, from `L·R = 0`.
///
/// Held by the tests: never worse than its first round, nor that than its entries alone.
pub fn rpca(
    rank: usize,
    pattern: Pattern,
    factors: impl Into<FactorFormat>,
    rounds: u32,
    calibrated: bool,
) -> Recipe {
    let recipe = if calibrated { svd_llm(rank, factors) } else { low_rank(rank, factors) };
    let rounds = Rounds { max: rounds, stop: Stop::FirstRise };
    Recipe { rounds, ..with_outliers(recipe, pattern, calibrated) }
}
