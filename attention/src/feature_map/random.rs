//! The directions of positive random features.

use alloc::{vec, vec::Vec};

use rankbit_linalg::Stream;

use crate::Error;

/// How long the directions are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RowNorm {
    /// As long as independent normal vectors: `E[φ(q)·φ(k)]` is the exponential exactly.
    Chi,
    /// √d each: a little biased, of lower variance.
    Root,
}

/// Options of [`RandomFeatures::new`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RandomFeatureOptions {
    /// Directions w drawn, at least 1; `None` for ⌊d·ln d⌋, at least 1.
    pub draws: Option<usize>,
    /// Directions are orthogonal in blocks of d.
    pub orthogonal: bool,
    /// Their lengths, where they are orthogonal.
    pub norm: RowNorm,
    /// Two features of each draw, exp(w·x̃) and exp(-w·x̃): never more variance at equal m.
    pub hyperbolic: bool,
    /// Of the random numbers.
    pub seed: u64,
}

impl Default for RandomFeatureOptions {
    fn default() -> Self {
        Self { draws: None, orthogonal: true, norm: RowNorm::Chi, hyperbolic: false, seed: 0 }
    }
}

/// Directions of positive random features, drawn once.
#[derive(Clone, PartialEq, Debug)]
pub struct RandomFeatures {
    /// Row-major, a direction a row.
    directions: Vec<f64>,
    dim: usize,
    hyperbolic: bool,
}

impl RandomFeatures {
    /// Draws directions for vectors of `dim` entries.
    ///
    /// Orthogonal blocks are the orthonormal factor of a Gaussian matrix whose triangular factor has a positive diagonal, so each
    /// is uniform (Haar).
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for a `dim` or a number of draws of 0; [`Error::TooLarge`] when their product overflows.
    pub fn new(dim: usize, options: &RandomFeatureOptions) -> Result<Self, Error> {
        let log = num_traits::Float::ln(dim.max(1) as f64);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small positive count")]
        let draws = options.draws.unwrap_or_else(|| ((dim as f64 * log) as usize).max(1));
        for (what, size) in [("head_dim", dim), ("draws", draws)] {
            if size == 0 {
                return Err(Error::InvalidOption { what, requirement: "at least 1", found: 0.0 });
            }
        }
        let len = draws.checked_mul(dim).filter(|&len| len < usize::MAX / 64);
        let len = len.ok_or(Error::TooLarge { what: "the number of random features" })?;
        let mut stream = Stream::new(options.seed, "random features");
        let mut directions = vec![0.0; len];
        if !options.orthogonal {
            stream.fill_normal(&mut directions);
            return Ok(Self { directions, dim, hyperbolic: options.hyperbolic });
        }
        let mut sample = vec![0.0; dim];
        for block in directions.chunks_mut(dim * dim) {
            let mut rows: Vec<Vec<f64>> = vec![];
            for row in block.chunks_exact_mut(dim) {
                orthonormal(&mut stream, &rows, row);
                rows.push(row.to_vec());
            }
            for row in block.chunks_exact_mut(dim) {
                let norm = match options.norm {
                    RowNorm::Root => num_traits::Float::sqrt(dim as f64),
                    RowNorm::Chi => {
                        stream.fill_normal(&mut sample);
                        norm(&sample)
                    }
                };
                row.iter_mut().for_each(|x| *x *= norm);
            }
        }
        Ok(Self { directions, dim, hyperbolic: options.hyperbolic })
    }

    /// Given directions, row-major `[draws, dim]`.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] when the number of values is no positive multiple of `dim`, or one is not finite.
    pub fn from_directions(directions: Vec<f64>, dim: usize, hyperbolic: bool) -> Result<Self, Error> {
        if dim == 0 || directions.is_empty() || !directions.len().is_multiple_of(dim) {
            let (requirement, found) = ("a positive multiple of head_dim values", directions.len() as f64);
            return Err(Error::InvalidOption { what: "directions", requirement, found });
        }
        if let Some(&found) = directions.iter().find(|x| !x.is_finite()) {
            return Err(Error::InvalidOption { what: "directions", requirement: "finite", found });
        }
        Ok(Self { directions, dim, hyperbolic })
    }

    /// m.
    pub fn count(&self) -> usize {
        self.directions.len() / self.dim * if self.hyperbolic { 2 } else { 1 }
    }

    /// d.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Directions, row-major `[draws, dim]`.
    pub fn directions(&self) -> &[f64] {
        &self.directions
    }

    /// `factor·w` of each feature, one row each: hyperbolic features follow as -w.
    pub(super) fn signed(&self) -> impl Iterator<Item = (f64, &[f64])> {
        let signs: &[f64] = if self.hyperbolic { &[1.0, -1.0] } else { &[1.0] };
        signs.iter().flat_map(|&sign| self.directions.chunks_exact(self.dim).map(move |row| (sign, row)))
    }

    /// φ(x) as it is defined, in f64: `exp(±w_r·x̃ - |x̃|²/2)/√m`, τ as in [`FeatureMap`](super::FeatureMap).
    ///
    /// # Errors
    /// [`Error::InvalidOption`] when `x` is not of [`RandomFeatures::dim`], or for a scale that is not positive and finite.
    pub fn features(&self, x: &[f64], scale: Option<f64>) -> Result<Vec<f64>, Error> {
        if x.len() != self.dim {
            let requirement = "the dimension of the random features";
            return Err(Error::InvalidOption { what: "head_dim", requirement, found: x.len() as f64 });
        }
        let root = num_traits::Float::sqrt(super::positive_scale(scale, self.dim)?);
        let half = root * root * x.iter().map(|x| x * x).sum::<f64>() / 2.0;
        let factor = 1.0 / num_traits::Float::sqrt(self.count() as f64);
        let project = |(sign, w): (f64, &[f64])| {
            let dot: f64 = w.iter().zip(x).map(|(w, x)| w * x).sum();
            factor * num_traits::Float::exp(sign * root * dot - half)
        };
        Ok(self.signed().map(project).collect())
    }
}

fn norm(x: &[f64]) -> f64 {
    num_traits::Float::sqrt(x.iter().map(|x| x * x).sum())
}

/// A uniform unit vector orthogonal to `rows` (fewer than its length): a normal vector by Gram and Schmidt, twice.
fn orthonormal(stream: &mut Stream, rows: &[Vec<f64>], out: &mut [f64]) {
    loop {
        stream.fill_normal(out);
        let before = norm(out);
        for _ in 0..2 {
            for row in rows {
                let dot: f64 = row.iter().zip(&*out).map(|(a, b)| a * b).sum();
                out.iter_mut().zip(row).for_each(|(x, r)| *x -= dot * r);
            }
        }
        let length = norm(out);
        // Drawn again in the (practically impossible) case that next to nothing is left.
        if length > 1e-10 * before {
            out.iter_mut().for_each(|x| *x /= length);
            return;
        }
    }
}
