use super::low_rank;
use crate::{FactorFormat, MetricRule, Recipe, Space, Step};

/// LORD and atomic feature mimicking: the affine map of rank r that comes closest to the layer's output.
///
/// ```text
/// y = W·x,   C = E[y·yᵀ] - E[y]·E[y]ᵀ,   U: C's r leading eigenvectors
/// L·R = U·Uᵀ·W,   b = (I - U·Uᵀ)·E[y] = (W - L·R)·E[x]
/// ```
/// Sources: LORD, arXiv 2309.14021; atomic feature mimicking, Yu and Wu, 2023, as Unified CTR (arXiv 2405.18146) applies
/// it to layers; [`embedding`](super::embedding) is its form for tables. Rank: [`rank_within`](super::rank_within); 8
/// bits on top: [`FactorFormat::Int8`].
///
/// Theorem held by the tests: `E‖y - y'‖² = Σ_{i>r} λ_i(C)`, the least of all affine maps of rank r; `y'` has the mean
/// of `y`.
pub fn lord(rank: usize, factors: impl Into<FactorFormat>) -> Recipe {
    let mut recipe = low_rank(rank, factors);
    recipe.metric = MetricRule { project: Space::Centred, accept: Space::Centred };
    recipe.round.push(Step::Bias);
    recipe
}

/// Unified CTR's form for an embedding table `[entries, dim]`: a narrow table and one projection for all entries.
///
/// ```text
/// E ≈ L·R,   minimize Σ_i f_i·‖e_i - l_i·R‖²      f: how often entry i is looked up (the calibration's row weights)
/// ```
/// Source: arXiv 2405.18146, section 3.3. Deviation: the mean is not taken off, as a look-up has no bias.
///
/// Theorem held by the tests: the weighted error is the tail of the spectrum of `diag(√f)·E`.
pub fn embedding(rank: usize, factors: impl Into<FactorFormat>) -> Recipe {
    Recipe { metric: MetricRule { project: Space::Rows, accept: Space::Rows }, ..low_rank(rank, factors) }
}

/// The parameter-count rule: the largest rank whose factors have at most `keep` of the parameters of `[out, in]`,
/// `⌊out·in·keep/(out + in)⌋`, at least 1.
pub fn rank_within(shape: (usize, usize), keep: f64) -> usize {
    let (out, inputs) = (shape.0 as f64, shape.1 as f64);
    let rank = out * inputs * keep / (out + inputs);
    let max = shape.0.min(shape.1).max(1);
    // NaN fails both comparisons and gives 1.
    if rank >= max as f64 {
        max
    } else if rank >= 1.0 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and max")]
        let rank = rank as usize;
        rank
    } else {
        1
    }
}
