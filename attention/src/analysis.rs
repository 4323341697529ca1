//! When is an attention map sparse, when of low rank, when the sum of both? The best of each kind at equal memory, over
//! temperatures.
//!
//! ```text
//! A_T = softmax(logits / T) row by row, n×s          budget: numbers stored for each row
//!
//! sparse      the n·budget/2 largest entries, a number and an index each
//! low rank    rank r = ⌊n·budget/(n + s)⌋, the best (Eckart and Young)
//! both        half of the budget each: from the split of robust PCA, projected in turn onto rank r/2 and onto the
//!             largest n·budget/4 entries of what is left, while that gains
//! ```
//! These are lower bounds: they see the whole map. Near T → 0 rows are peaked and sparse wins, near T → ∞ they are flat and rank 1
//! is exact; between them lies the sum. A tool for maps of some hundred tokens: it does form A, and decomposes it.
//!
//! Cost: O(n·s·min(n, s)) for each of some 60 decompositions a temperature.
//!
//! Source: the analysis of Chen et al., *Scatterbrain*, arXiv 2110.15343, section 3 and figure 2; robust PCA as in
//! [`rankbit_linalg::robust`].

use alloc::{vec, vec::Vec};

use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_linalg::{RobustOptions, robust_pca, truncated};

use crate::Error;

/// Errors at one temperature, `‖A - Â‖/‖A‖` in the Frobenius norm.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Regime {
    /// T.
    pub temperature: f64,
    /// Mean entropy of the rows, in nats.
    pub entropy: f64,
    /// Of the largest entries alone.
    pub sparse: f64,
    /// Of low rank alone.
    pub low_rank: f64,
    /// Of the sum.
    pub both: f64,
    /// Rank of robust PCA's low-rank term and non-zeros of its sparse one; `None` where it did not converge, and the search for
    /// the sum began with low rank alone.
    pub robust: Option<(usize, usize)>,
}

/// Rounds of alternating projections at most.
const ROUNDS: usize = 12;

/// The best approximations of `softmax(logits/T)` at equal memory for each temperature; see the [module](self).
///
/// # Errors
/// [`Error::InvalidOption`] for a temperature that is not positive and finite or a budget below 4; [`Error::Linalg`] for logits that
/// are not finite, or when a decomposition fails.
pub fn regimes(logits: MatRef<'_, f64>, temperatures: &[f64], budget: usize) -> Result<Vec<Regime>, Error> {
    if budget < 4 {
        return Err(Error::InvalidOption { what: "budget", requirement: "at least 4", found: budget as f64 });
    }
    let (n, s) = (logits.nrows(), logits.ncols());
    let entries = |budget: usize| n.saturating_mul(budget / 2).min(n * s);
    let rank = |budget: usize| (n.saturating_mul(budget) / (n + s).max(1)).min(n.min(s));
    let one = |&temperature: &f64| {
        if !(temperature > 0.0 && temperature.is_finite()) {
            let requirement = "positive and finite";
            return Err(Error::InvalidOption { what: "temperature", requirement, found: temperature });
        }
        let map = softmax(logits, temperature);
        let robust = match robust_pca(map.as_ref(), &RobustOptions::default()) {
            Ok(robust) => Some(robust),
            Err(rankbit_linalg::Error::NoConvergence { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let norm = norm(&map);
        let relative = |rest: &Mat<f64>| if norm > 0.0 { self::norm(rest) / norm } else { 0.0 };
        let low_rank = truncated(map.as_ref(), rank(budget))?.reconstruct();
        // The best of the alternation: each projection is the best there is for the other term.
        let (mut both, mut sparse) =
            (f64::INFINITY, robust.as_ref().map_or_else(|| Mat::zeros(n, s), |robust| robust.sparse.clone()));
        for _ in 0..ROUNDS {
            let low_rank = truncated(minus(&map, &sparse).as_ref(), rank(budget / 2))?.reconstruct();
            let rest = minus(&map, &low_rank);
            sparse = largest(&rest, entries(budget / 2));
            let error = relative(&minus(&rest, &sparse));
            let gains = error < both * 0.999;
            both = both.min(error);
            if !gains {
                break;
            }
        }
        Ok(Regime {
            temperature,
            entropy: entropy(&map),
            sparse: relative(&minus(&map, &largest(&map, entries(budget)))),
            low_rank: relative(&minus(&map, &low_rank)),
            both,
            robust: robust.map(|robust| (robust.rank, robust.nonzeros)),
        })
    };
    temperatures.iter().map(one).collect()
}

fn softmax(logits: MatRef<'_, f64>, temperature: f64) -> Mat<f64> {
    let (n, s) = (logits.nrows(), logits.ncols());
    let mut map = Mat::zeros(n, s);
    for i in 0..n {
        let most = (0..s).fold(f64::NEG_INFINITY, |most, j| most.max(logits[(i, j)]));
        let mut sum = 0.0;
        for j in 0..s {
            // NaN and infinities stay, for the decomposition to refuse.
            map[(i, j)] = num_traits::Float::exp((logits[(i, j)] - most) / temperature);
            sum += map[(i, j)];
        }
        for j in 0..s {
            map[(i, j)] /= sum;
        }
    }
    map
}

fn entropy(map: &Mat<f64>) -> f64 {
    let of = |p: f64| if p > 0.0 { -p * num_traits::Float::ln(p) } else { 0.0 };
    let total: f64 = map.col_iter().flat_map(|column| column.iter().copied().map(of)).sum();
    total / map.nrows().max(1) as f64
}

fn norm(a: &Mat<f64>) -> f64 {
    num_traits::Float::sqrt(a.col_iter().flat_map(|column| column.iter().map(|x| x * x)).sum::<f64>())
}

fn minus(a: &Mat<f64>, b: &Mat<f64>) -> Mat<f64> {
    Mat::from_fn(a.nrows(), a.ncols(), |i, j| a[(i, j)] - b[(i, j)])
}

/// The `count` entries of largest modulus, zeros elsewhere.
fn largest(a: &Mat<f64>, count: usize) -> Mat<f64> {
    let (n, s) = (a.nrows(), a.ncols());
    let mut order: Vec<(f64, usize)> = (0..n * s).map(|at| (a[(at % n, at / n)].abs(), at)).collect();
    order.sort_unstable_by(|x, y| y.0.total_cmp(&x.0).then(x.1.cmp(&y.1)));
    let mut kept = vec![false; n * s];
    order.iter().take(count).for_each(|&(_, at)| kept[at] = true);
    Mat::from_fn(n, s, |i, j| if kept[j * n + i] { a[(i, j)] } else { 0.0 })
}
