//! Rows of a layer's maps, those of the seeds alone.

use alloc::vec::Vec;

use num_traits::Float;

use super::super::check;
use super::super::compatible::{Compatible, Correspondences};
use super::{Points, directions, dot, positive};
use crate::{Element, Error, Tensor, View};

/// The rows of `seeds` of a layer's two maps, `[2, 1, seeds, n]`: the compatibility C of the features that the layer makes, and its
/// attention A; see the [module](super). A seed's own entry is 0.
///
/// `operands` and `pairs` are those of [`compatible`](super::super::compatible()), of one list of pairs of 3-D points, `after` is what
/// it makes of them, `[1, 1, n, c]`. Cost: `seeds·n·(2·c + 20) + n·c²`.
///
/// # Errors
/// As [`compatible`](super::super::compatible()), [`Error::ShapeMismatch`] for an `after` of another shape or points of other than
/// three dimensions, [`Error::InvalidOption`] for a `feature_sigma` that is not positive and finite and a seed that is no pair,
/// [`Error::Overflow`] when scores leave the range of T.
pub fn seed_maps<T: Element>(
    operands: &Compatible<View<'_, T>>,
    pairs: &Correspondences<'_, T>,
    after: View<'_, T>,
    feature_sigma: f64,
    seeds: &[usize],
) -> Result<Tensor<T>, Error> {
    check(&operands.operands(pairs)?)?;
    positive("feature_sigma", feature_sigma)?;
    let points = Points::new(pairs)?;
    let n = points.source.len();
    let c = operands.feature.shape()[3];
    let (expected, found) = ([1, 1, n, c], after.shape());
    if found != expected {
        return Err(Error::ShapeMismatch { what: "feature", expected, found });
    }
    if let Some(&seed) = seeds.iter().find(|&&seed| seed >= n) {
        let requirement = "below the number of pairs";
        return Err(Error::InvalidOption { what: "seed", requirement, found: seed as f64 });
    }
    let features = directions(after, n)?;
    let layer = |x: View<'_, T>, weight: View<'_, T>, bias: View<'_, T>, i: usize| -> Vec<f64> {
        let sum = |o: usize| {
            let terms = (0..c).map(|k| x.at([0, 0, i, k]).to_f64() * weight.at([0, 0, o, k]).to_f64());
            terms.fold(bias.at([0, 0, 0, o]).to_f64(), |sum, x| sum + x)
        };
        (0..c).map(sum).collect()
    };
    let keys: Vec<Vec<f64>> =
        (0..n).map(|j| layer(operands.key, operands.key_layer, operands.key_bias, j)).collect();
    let mut found = Tensor::zeros([2, 1, seeds.len(), n])?;
    let root = Float::sqrt(c as f64);
    for (row, &seed) in seeds.iter().enumerate() {
        let query = layer(operands.query, operands.query_layer, operands.query_bias, seed);
        let betas: Vec<f64> = (0..n).map(|j| points.beta(seed, j)).collect();
        let scores: Vec<f64> =
            betas.iter().zip(&keys).map(|(beta, key)| beta * dot(&query, key) / root).collect();
        let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|x| Float::exp(x - most)).collect();
        let sum = weights.iter().sum::<f64>();
        if !sum.is_finite() {
            return Err(Error::Overflow { batch: 0, head: 0, token: seed });
        }
        for j in (0..n).filter(|&j| j != seed) {
            let cosine = dot(&features[seed], &features[j]);
            let near = (1.0 - (1.0 - cosine) / (feature_sigma * feature_sigma)).clamp(0.0, 1.0);
            found.line_mut(0, 0, row)[j] = T::from_f64(near * betas[j]);
            found.line_mut(1, 0, row)[j] = T::from_f64(weights[j] / sum);
        }
    }
    Ok(found)
}
