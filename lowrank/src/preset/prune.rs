use super::{CALIBRATED, PLAIN};
use crate::{ActivationRule, FactorFormat, Recipe, Rounds, Step, Stop, TransformRule};
use alloc::vec;
use rankbit_quant::FloatFormat;
use rankbit_sparse::{Pattern, Pruner, ValueFormat};

/// Pruning by magnitude: `W ≈ S`, the largest entries that the pattern allows.
///
/// Held by the tests: no other choice of kept entries has a smaller error in plain norm.
pub fn magnitude(pattern: Pattern, values: ValueFormat) -> Recipe {
    prune(pattern, Pruner::Magnitude, values)
}

/// Wanda: the largest entries after their inputs' size, `|W_ij|·‖X_j‖`.
///
/// Source: Sun, Liu, Bair, Kolter 2023, arXiv 2306.11695, equation 1. Needs second moments.
///
/// Held by the tests: no other choice of kept entries has a smaller error under the diagonal of the Gram matrix.
pub fn wanda(pattern: Pattern, values: ValueFormat) -> Recipe {
    prune(pattern, Pruner::Wanda, values)
}

/// RIA: Wanda on weights relative to their row and column.
///
/// Source: Zhang et al., Plug-and-Play, ICLR 2024, equations 3 and 4. Needs second moments.
pub fn ria(pattern: Pattern, values: ValueFormat) -> Recipe {
    prune(pattern, Pruner::RIA, values)
}

/// SparseGPT: column by column, the later columns take up what the earlier lost.
///
/// Source: Frantar and Alistarh 2023, arXiv 2301.00774, algorithm 1. Needs the Gram matrix.
///
/// Held by the tests: below [`wanda`] in the calibration's metric on correlated inputs.
pub fn sparse_gpt(pattern: Pattern, values: ValueFormat) -> Recipe {
    prune(pattern, Pruner::SPARSE_GPT, values)
}

/// ALPS: masks by the alternating direction method of multipliers, then the best values of the mask found.
///
/// Source: Meng et al., NeurIPS 2024, arXiv 2406.07831, algorithms 1 and 2. Needs the Gram matrix.
///
/// Held by the tests: at most 0.95 of [`sparse_gpt`]'s error in the calibration's metric on correlated inputs.
pub fn alps(pattern: Pattern, values: ValueFormat) -> Recipe {
    prune(pattern, Pruner::ADMM, values)
}

/// One sparse term.
fn prune(pattern: Pattern, pruner: Pruner, values: ValueFormat) -> Recipe {
    Recipe {
        transform: TransformRule::Identity,
        activation: ActivationRule::FLOAT,
        metric: if pruner.needs_moments() { CALIBRATED } else { PLAIN },
        round: vec![Step::Sparse { pattern, pruner, refit: false, values }],
        rounds: Rounds::ONCE,
        seed: 0,
    }
}

/// Sparse and low rank: a pruning recipe whose loss a branch of rank `rank` takes up, the two in turn.
///
/// ```text
/// L·R = 0;   repeat   S = prune(W - L·R),   L·R = [W - S]_r   until ‖W - S - L·R‖_H rises; the best is kept
/// ```
/// The pruning step and its metric are the recipe's own ([`wanda`]'s is the nearest to the paper's).
///
/// Source: OATS, Zhang and Papyan, ICLR 2025, arXiv 2409.13652, algorithm 1. Deviation: low rank comes second, so that
/// the first iterate is the pruned matrix with the best branch for it.
///
/// Held by the tests: never above the recipe without the branch, in its metric.
#[must_use]
pub fn sparse_low_rank(recipe: Recipe, rank: usize, factors: impl Into<FactorFormat>, rounds: u32) -> Recipe {
    let mut round = recipe.round;
    round.push(Step::LowRank { rank, factors: factors.into() });
    Recipe { round, rounds: Rounds { max: rounds, stop: Stop::FirstRise }, ..recipe }
}

/// Dense and sparse: a recipe of other terms, with the entries that they serve worst kept beside them in f16, as many as
/// `pattern` says.
///
/// ```text
/// S = the largest entries of W - Q̃·Tᵀ - L·R, by magnitude or (with calibration) by Wanda's score
/// ```
/// S comes first in a round, so that groups lose their outliers before their scales are chosen.
///
/// Source: SqueezeLLM, Kim et al., ICML 2024, arXiv 2306.07629, section 4.2; SpQR, Dettmers et al., arXiv 2306.03078.
/// Deviation: outliers are chosen by their size and their inputs' size, not by a Fisher matrix or a search per group.
///
/// Held by the tests: with everything kept nothing but the rounding of f16 is lost; a few outliers in a matrix cost what they
/// would without.
#[must_use]
pub fn with_outliers(recipe: Recipe, pattern: Pattern, calibrated: bool) -> Recipe {
    let pruner = if calibrated { Pruner::Wanda } else { Pruner::Magnitude };
    let values = ValueFormat::Float(FloatFormat::F16);
    let mut round = vec![Step::Sparse { pattern, pruner, refit: false, values }];
    round.extend(recipe.round);
    Recipe { round, ..recipe }
}
