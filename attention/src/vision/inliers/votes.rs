//! Seeds, their votes, and whom they agree on.

use alloc::{vec, vec::Vec};

use num_traits::Float;

use super::{distance, points, positive};
use crate::{Element, Error, Tensor, View};

/// z of a confidence of 95 %.
const Z: f64 = 1.96;

/// At most `count` pairs of largest score among those that none within `radius` exceeds, best first, equal ones in their order.
///
/// `source` `[1, 1, n, 3]`, `scores` `[1, 1, 1, n]`. Cost: n² distances, none of them kept.
///
/// # Errors
/// [`Error::ShapeMismatch`] for other shapes, [`Error::NonFinite`] for NaN and infinities, [`Error::InvalidOption`] for a radius that
/// is not positive and finite.
pub fn seeds<T: Element>(
    source: View<'_, T>,
    scores: View<'_, T>,
    radius: f64,
    count: usize,
) -> Result<Vec<usize>, Error> {
    positive("radius", radius)?;
    let n = source.shape()[2];
    let source = points("source", source, n)?;
    let (expected, found) = ([1, 1, 1, n], scores.shape());
    if found != expected {
        return Err(Error::ShapeMismatch { what: "scores", expected, found });
    }
    scores.check_finite("scores")?;
    let score = |i: usize| scores.at([0, 0, 0, i]).to_f64();
    let largest =
        |&i: &usize| (0..n).all(|j| score(i) >= score(j) || distance(source[i], source[j]) >= radius);
    let mut found: Vec<usize> = (0..n).filter(largest).collect();
    found.sort_by(|&a, &b| score(b).total_cmp(&score(a)));
    found.truncate(count);
    Ok(found)
}

/// The places of the `count` largest entries but `own`, equal ones in their order.
fn largest(line: &[f64], own: usize, count: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..line.len()).filter(|&i| i != own).collect();
    places.sort_by(|&a, &b| line[b].total_cmp(&line[a]));
    places.truncate(count);
    places
}

/// That there are seeds, all of them among n pairs, and that a consensus of `size` fits.
fn check(seeds: &[usize], size: usize, n: usize) -> Result<(), Error> {
    let option = |what, requirement, found: usize| {
        Err(Error::InvalidOption { what, requirement, found: found as f64 })
    };
    if size < 3 || size > n {
        return option("size", "3 to the number of pairs", size);
    }
    if seeds.is_empty() {
        return option("seeds", "at least one", 0);
    }
    match seeds.iter().find(|&&seed| seed >= n) {
        Some(&seed) => option("seed", "below the number of pairs", seed),
        None => Ok(()),
    }
}

/// The best of Wilson's lower bounds of the share of votes that each pair gets from each seed, `[1, 1, seeds, n]`; see the
/// [module](super).
///
/// `maps` `[maps, 1, seeds, n]`: rows of the seeds; each votes for its `size - 1` largest entries.
///
/// # Errors
/// [`Error::ShapeMismatch`] for maps of another number of seeds, [`Error::NonFinite`] for NaN and infinities,
/// [`Error::InvalidOption`] for no map, no seed or one that is no pair, and a size below 3 or above n.
pub fn wilson<T: Element>(maps: View<'_, T>, seeds: &[usize], size: usize) -> Result<Tensor<f64>, Error> {
    let [count, _, _, n] = maps.shape();
    let (expected, found) = ([count, 1, seeds.len(), n], maps.shape());
    if found != expected {
        return Err(Error::ShapeMismatch { what: "maps", expected, found });
    }
    check(seeds, size, n)?;
    if count == 0 {
        return Err(Error::InvalidOption { what: "maps", requirement: "at least one", found: 0.0 });
    }
    maps.check_finite("maps")?;
    let mut best = Tensor::zeros([1, 1, seeds.len(), n])?;
    for (row, &seed) in seeds.iter().enumerate() {
        let mut votes = vec![0.0; n];
        let best = best.line_mut(0, 0, row);
        best.fill(f64::NEG_INFINITY);
        for map in 0..count {
            let line: Vec<f64> = (0..n).map(|j| maps.at([map, 0, row, j]).to_f64()).collect();
            largest(&line, seed, size - 1).into_iter().for_each(|j| votes[j] += 1.0);
            let m = (map + 1) as f64;
            for (best, &votes) in best.iter_mut().zip(&votes) {
                *best = best.max(bound(votes / m, m));
            }
        }
    }
    Ok(best)
}

/// Wilson's lower bound of a share of m votes.
fn bound(share: f64, m: f64) -> f64 {
    let square = Z * Z;
    let spread = Float::sqrt(share * (1.0 - share) / m + square / (4.0 * m * m));
    // Rounding alone makes it negative, of a share of 0.
    ((share + square / (2.0 * m) - Z * spread) / (1.0 + square / m)).max(0.0)
}

/// Each seed with the `size - 1` pairs of its largest scores, equal ones in their order; `scores` are of [`wilson`].
///
/// # Errors
/// [`Error::ShapeMismatch`] for scores of another number of seeds; [`Error::InvalidOption`] for no seed or one that is no pair, and
/// a size below 3 or above n.
pub fn consensus(scores: &Tensor<f64>, seeds: &[usize], size: usize) -> Result<Vec<Vec<usize>>, Error> {
    let n = scores.shape()[3];
    let (expected, found) = ([1, 1, seeds.len(), n], scores.shape());
    if found != expected {
        return Err(Error::ShapeMismatch { what: "scores", expected, found });
    }
    check(seeds, size, n)?;
    let lines = seeds.iter().zip(scores.as_slice().chunks_exact(n));
    Ok(lines.map(|(&seed, line)| [vec![seed], largest(line, seed, size - 1)].concat()).collect())
}
