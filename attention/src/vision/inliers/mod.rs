//! The inlier search of VBReg: seeds ask every layer's attention who moves with them, and the rigid motion that most pairs of points
//! agree with is kept.
//!
//! ```text
//! pairs (x_i, y_i), scores s_i     seeds: the largest s_i that no s_j with |x_i - x_j| < r exceeds
//! maps of layer l   rows of the seeds of   A_ij of compatible()   and   C_ij = β_ij·clamp(1 - (1 - cos(F'_i, F'_j))/σ_F², 0, 1)
//! after m maps      p = votes/m, a map votes for each row's k - 1 largest entries but the seed's own
//! score             max_m (p + z²/2m - z·√(p·(1 - p)/m + z²/4m²))/(1 + z²/m),  z = 1.96        consensus: seed and k - 1 best
//! weights           w: 10 steps of v ← M·v/|v| from ones, M_ij = β_ij·max(0, 1 - (1 - cos(F_i, F_j))/σ_F²), M_ii = 0, over its sum
//! motion            min over rotations R and t of Σ w_i·|R·x_i + t - y_i|²     best by mean_i [d_i < τ]·(1 - d_i²/τ²)
//! ```
//! The bound is Wilson's lower one of a share p among m votes: at most p, and for equal p higher the more votes there are.
//!
//! Cost: `seeds·n·(maps·log n + 4·c)`; memory: the seeds' rows of the maps, never an n×n matrix. Everything here chooses (largest
//! entries, votes, the best seed): it has no gradient, and the source trains without it.
//!
//! Source: Jiang et al., *Robust Outlier Rejection for 3D Registration with Variational Bayes* (VBReg), CVPR 2023, arXiv 2304.01514,
//! section 3.3, and the authors' code (Jiang-HB/VBReg), whose maps go from the last layer to the first, C before A; weights and
//! motion as in PointDSC, arXiv 2103.05465. Deviations: equal entries are taken in their order (there: unspecified); a pair that is
//! no largest of its surroundings never is a seed (there, with a score of 0, before those of negative scores); the power iteration
//! does not stop early; a consensus whose weights are all zero counts all of its pairs; there is no 10⁻⁶ beside Σw in the centroids.
//! Its last step, which repeats the motion over the inliers, is the caller's: [`Motion::between`] with weights `1/(1 + d²/τ²)`.

mod maps;
mod motion;
mod votes;

use alloc::{vec, vec::Vec};

use num_traits::Float;

pub use maps::seed_maps;
pub use motion::Motion;
pub use votes::{consensus, seeds, wilson};

use super::Correspondences;
use crate::{Element, Error, View, parallel};

/// Options of [`inliers`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SearchOptions {
    /// k: pairs of a consensus, its seed counted; 3 to n. 40 in the source.
    pub size: usize,
    /// σ_F, positive; learned in the source.
    pub feature_sigma: f64,
    /// τ: an inlier's largest distance, positive, in the points' unit. 0.1 m in the source.
    pub threshold: f64,
    /// Steps of the power iteration.
    pub iterations: usize,
}

impl Default for SearchOptions {
    fn default() -> Self {
        Self { size: 40, feature_sigma: 1.0, threshold: 0.1, iterations: 10 }
    }
}

/// Result of [`inliers`].
#[derive(Clone, Debug, PartialEq)]
pub struct Inliers {
    /// From x to y.
    pub motion: Motion,
    /// `mean [d < τ]·(1 - d²/τ²)`, 0 … 1.
    pub fitness: f64,
    /// The seed that found it, and its consensus.
    pub consensus: Vec<usize>,
    /// Pairs with d < τ, ascending.
    pub inliers: Vec<usize>,
}

/// A positive and finite option.
fn positive(what: &'static str, found: f64) -> Result<(), Error> {
    match found > 0.0 && found.is_finite() {
        true => Ok(()),
        false => Err(Error::InvalidOption { what, requirement: "positive and finite", found }),
    }
}

/// The points of one list of pairs.
struct Points {
    source: Vec<[f64; 3]>,
    target: Vec<[f64; 3]>,
    sigma: f64,
}

fn points<T: Element>(what: &'static str, view: View<'_, T>, n: usize) -> Result<Vec<[f64; 3]>, Error> {
    let (expected, found) = ([1, 1, n, 3], view.shape());
    if found != expected {
        return Err(Error::ShapeMismatch { what, expected, found });
    }
    view.check_finite(what)?;
    Ok((0..n).map(|i| [0, 1, 2].map(|k| view.at([0, 0, i, k]).to_f64())).collect())
}

fn distance(a: [f64; 3], b: [f64; 3]) -> f64 {
    let sum = a.iter().zip(b).fold(0.0, |sum, (a, b)| sum + (a - b) * (a - b));
    Float::sqrt(sum)
}

impl Points {
    fn new<T: Element>(pairs: &Correspondences<'_, T>) -> Result<Self, Error> {
        positive("sigma", pairs.sigma)?;
        let n = pairs.source.shape()[2];
        let (source, target) = (points("source", pairs.source, n)?, points("target", pairs.target, n)?);
        Ok(Self { source, target, sigma: pairs.sigma })
    }

    /// β_ij.
    fn beta(&self, i: usize, j: usize) -> f64 {
        let gap = distance(self.source[i], self.source[j]) - distance(self.target[i], self.target[j]);
        let gap = gap / self.sigma;
        (1.0 - gap * gap).max(0.0)
    }
}

/// Features of length 1; `[n][c]`.
fn directions<T: Element>(feature: View<'_, T>, n: usize) -> Result<Vec<Vec<f64>>, Error> {
    let c = feature.shape()[3];
    let (expected, found) = ([1, 1, n, c], feature.shape());
    if found != expected {
        return Err(Error::ShapeMismatch { what: "feature", expected, found });
    }
    feature.check_finite("feature")?;
    let line = |i: usize| {
        let mut line: Vec<f64> = (0..c).map(|k| feature.at([0, 0, i, k]).to_f64()).collect();
        // Over the largest first: squares of f64 could overflow.
        let most = line.iter().fold(0.0, |most: f64, x| most.max(Float::abs(*x)));
        if most > 0.0 {
            line.iter_mut().for_each(|x| *x /= most);
            let norm = Float::sqrt(dot(&line, &line));
            line.iter_mut().for_each(|x| *x /= norm);
        }
        line
    };
    Ok((0..n).map(line).collect())
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).fold(0.0, |sum, (a, b)| sum + a * b)
}

/// The motion that most pairs agree with; see the [module](self).
///
/// `feature` `[1, 1, n, c]`: F after the last layer; `maps` `[maps, 1, seeds, n]`: rows of the seeds, in the order in which they
/// vote; points `[1, 1, n, 3]`.
///
/// # Errors
/// [`Error::ShapeMismatch`] when operands do not fit each other; [`Error::NonFinite`] for NaN and infinities;
/// [`Error::InvalidOption`] for no map, no seed or one that is no pair, a size below 3 or above n, and for σ, σ_F or τ that are not
/// positive and finite; [`Error::Linalg`] when a motion's decomposition does not converge.
pub fn inliers<T: Element>(
    pairs: &Correspondences<'_, T>,
    feature: View<'_, T>,
    maps: View<'_, T>,
    seeds: &[usize],
    options: &SearchOptions,
) -> Result<Inliers, Error> {
    let points = Points::new(pairs)?;
    let n = points.source.len();
    positive("feature_sigma", options.feature_sigma)?;
    positive("threshold", options.threshold)?;
    let features = directions(feature, n)?;
    let scores = wilson(maps, seeds, options.size)?;
    if scores.shape()[3] != n {
        let [count, ..] = maps.shape();
        let expected = [count, 1, seeds.len(), n];
        return Err(Error::ShapeMismatch { what: "maps", expected, found: maps.shape() });
    }
    let groups = consensus(&scores, seeds, options.size)?;
    let task = |index: usize| -> Result<Inliers, Error> {
        let group = &groups[index];
        let weights = spectral(&points, &features, group, options);
        let pick = |from: &[[f64; 3]]| group.iter().map(|&i| from[i]).collect::<Vec<_>>();
        let motion = Motion::between(&pick(&points.source), &pick(&points.target), &weights)?;
        let distances: Vec<f64> =
            points.source.iter().zip(&points.target).map(|(&x, &y)| distance(motion.apply(x), y)).collect();
        let inliers: Vec<usize> = (0..n).filter(|&i| distances[i] < options.threshold).collect();
        let gain = |&i: &usize| {
            let ratio = distances[i] / options.threshold;
            1.0 - ratio * ratio
        };
        let fitness = inliers.iter().map(gain).sum::<f64>() / n as f64;
        Ok(Inliers { motion, fitness, consensus: group.clone(), inliers })
    };
    let mut best: Option<Inliers> = None;
    let mut failed = None;
    parallel::waves(groups.len(), task, |_, found| match found {
        Ok(found) => {
            if best.as_ref().is_none_or(|best| found.fitness > best.fitness) {
                best = Some(found);
            }
        }
        Err(error) => failed = Some(error),
    });
    match (failed, best) {
        (Some(error), _) => Err(error),
        (None, Some(best)) => Ok(best),
        // `wilson` refuses empty lists.
        (None, None) => Err(Error::InvalidOption { what: "seeds", requirement: "at least one", found: 0.0 }),
    }
}

/// How much each pair of a consensus counts.
fn spectral(points: &Points, features: &[Vec<f64>], group: &[usize], options: &SearchOptions) -> Vec<f64> {
    let square = options.feature_sigma * options.feature_sigma;
    let entry = |a: usize, b: usize| {
        let cosine = dot(&features[a], &features[b]);
        points.beta(a, b) * (1.0 - (1.0 - cosine) / square).max(0.0)
    };
    let size = group.len();
    let mut matrix = vec![0.0; size * size];
    for (i, line) in matrix.chunks_exact_mut(size).enumerate() {
        for (j, x) in line.iter_mut().enumerate().filter(|(j, _)| *j != i) {
            *x = entry(group[i], group[j]);
        }
    }
    let mut weights = vec![1.0; size];
    for _ in 0..options.iterations {
        let next: Vec<f64> = matrix.chunks_exact(size).map(|line| dot(line, &weights)).collect();
        let norm = Float::sqrt(dot(&next, &next)) + 1e-6;
        weights = next.into_iter().map(|x| x / norm).collect();
    }
    let sum = weights.iter().sum::<f64>();
    if sum == 0.0 {
        return vec![1.0 / size as f64; size];
    }
    weights.iter().map(|x| x / (sum + 1e-6)).collect()
}
