//! Bases, ranks, and the bases to begin with.

use alloc::{vec, vec::Vec};

use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_linalg::{MomentKinds, Moments, truncated};

use super::cayley::deviation;
use crate::{Element, Error, View};

/// Orthogonal bases of one layer: for each key head one of its keys and one of its values, columns by falling importance.
#[derive(Clone, Debug, PartialEq)]
pub struct Bases {
    pub(super) key: Vec<Mat<f64>>,
    pub(super) value: Vec<Mat<f64>>,
}

/// How many leading columns of each basis of a layer are in use, each from 1 to all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranks {
    /// Of the keys of each head.
    pub key: Vec<usize>,
    /// Of the values of each head.
    pub value: Vec<usize>,
}

impl Ranks {
    /// All ranks, keys before values.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        self.key.iter().chain(&self.value).copied()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut usize> {
        self.key.iter_mut().chain(&mut self.value)
    }
}

/// How far `UᵀU` may be from the identity in an entry.
const TOLERANCE: f64 = 1e-6;

impl Bases {
    /// From orthogonal matrices, `d×d` for the keys of each head and `e×e` for its values.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] unless there are as many for values as for keys, square and of equal size among each;
    /// [`Error::NotOrthogonal`] where an entry of `UᵀU` is further than 10⁻⁶ from the identity's, or NaN.
    pub fn new(key: Vec<Mat<f64>>, value: Vec<Mat<f64>>) -> Result<Self, Error> {
        if key.len() != value.len() {
            let (expected, found) = ([1, key.len(), 0, 0], [1, value.len(), 0, 0]);
            return Err(Error::ShapeMismatch { what: "value bases", expected, found });
        }
        for (what, bases) in [("key basis", &key), ("value basis", &value)] {
            let size = bases.first().map_or(0, |basis| basis.nrows());
            for (head, basis) in bases.iter().enumerate() {
                if basis.shape() != (size, size) {
                    let (expected, found) = ([1, 1, size, size], [1, 1, basis.nrows(), basis.ncols()]);
                    return Err(Error::ShapeMismatch { what, expected, found });
                }
                let deviation = deviation(basis.as_ref());
                // Not so for NaN.
                if !matches!(deviation.partial_cmp(&TOLERANCE), Some(order) if order.is_le()) {
                    return Err(Error::NotOrthogonal { what, head, deviation });
                }
            }
        }
        Ok(Self { key, value })
    }

    /// U_k of each head.
    pub fn key(&self) -> &[Mat<f64>] {
        &self.key
    }

    /// U_v of each head.
    pub fn value(&self) -> &[Mat<f64>] {
        &self.value
    }

    /// d and e; 0 without heads.
    pub fn dims(&self) -> (usize, usize) {
        let size = |bases: &[Mat<f64>]| bases.first().map_or(0, |basis| basis.nrows());
        (size(&self.key), size(&self.value))
    }

    /// The same fraction of every basis: `max(1, round(fraction·size))` columns.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for a fraction outside `0 < fraction ≤ 1`.
    pub fn ranks(&self, fraction: f64) -> Result<Ranks, Error> {
        if !(fraction > 0.0 && fraction <= 1.0) {
            let requirement = "above 0 and at most 1";
            return Err(Error::InvalidOption { what: "fraction", requirement, found: fraction });
        }
        let of = |bases: &[Mat<f64>]| bases.iter().map(|basis| part(basis.nrows(), fraction)).collect();
        Ok(Ranks { key: of(&self.key), value: of(&self.value) })
    }

    /// That `ranks` are those of these bases.
    pub(super) fn check(&self, ranks: &Ranks) -> Result<(), Error> {
        for (what, bases, ranks) in
            [("key ranks", &self.key, &ranks.key), ("value ranks", &self.value, &ranks.value)]
        {
            if bases.len() != ranks.len() {
                let (expected, found) = ([1, bases.len(), 1, 1], [1, ranks.len(), 1, 1]);
                return Err(Error::ShapeMismatch { what, expected, found });
            }
            for (basis, &rank) in bases.iter().zip(ranks) {
                if rank > basis.ncols() || rank == 0 && basis.ncols() > 0 {
                    let requirement = "at least 1 and at most the basis's columns";
                    return Err(Error::InvalidOption { what, requirement, found: rank as f64 });
                }
            }
        }
        Ok(())
    }
}

/// `max(1, round(fraction·size))`, and 0 of 0.
pub(super) fn part(size: usize, fraction: f64) -> usize {
    let wanted = num_traits::Float::round(fraction * size as f64);
    (1..=size).take_while(|&rank| rank as f64 <= wanted).last().unwrap_or(size.min(1))
}

/// What tells the principal components of a layer's keys and values, one pass over any number of batches.
#[derive(Clone, Debug)]
pub struct Calibration {
    key: Vec<Moments>,
    value: Vec<Moments>,
    dims: [usize; 2],
}

impl Calibration {
    /// Nothing seen yet. Memory: `kv_heads·(d² + e²)` f64.
    ///
    /// # Errors
    /// [`Error::TooLarge`] when that overflows.
    pub fn new(kv_heads: usize, key_dim: usize, value_dim: usize) -> Result<Self, Error> {
        for dim in [key_dim, value_dim] {
            crate::tensor::len([8, kv_heads, dim, dim])?;
        }
        let of = |dim| vec![Moments::new(dim, MomentKinds { gram: true, sample: 0 }); kv_heads];
        Ok(Self { key: of(key_dim), value: of(value_dim), dims: [key_dim, value_dim] })
    }

    /// Adds keys `[batch, kv_heads, tokens, d]` and values `[batch, kv_heads, tokens, e]`, as f32. Nothing changes when an error is
    /// returned. Cost: `batch·kv_heads·tokens·(d² + e²)` flops.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`]; [`Error::NonFinite`] for NaN, infinities, and what is beyond f32.
    pub fn update<T: Element>(&mut self, key: View<'_, T>, value: View<'_, T>) -> Result<(), Error> {
        let [batch, _, tokens, _] = key.shape();
        for (what, view, dim) in [("key", key, self.dims[0]), ("value", value, self.dims[1])] {
            let expected = [batch, self.key.len(), tokens, dim];
            if view.shape() != expected {
                return Err(Error::ShapeMismatch { what, expected, found: view.shape() });
            }
        }
        let single = |what, view: View<'_, T>| -> Result<Vec<Vec<f32>>, Error> {
            let one = |head: usize| {
                let data = view.part(0..batch, head..head + 1).to_vec();
                let data: Vec<f32> = data.iter().map(|x| num_traits::cast(*x).unwrap_or(f32::NAN)).collect();
                match data.iter().position(|x| !x.is_finite()) {
                    None => Ok(data),
                    Some(at) => {
                        let [_, _, tokens, dim] = view.shape();
                        let index = [at / (tokens * dim), head, at / dim % tokens, at % dim];
                        Err(Error::NonFinite { what, index })
                    }
                }
            };
            (0..view.shape()[1]).map(one).collect()
        };
        let (key, value) = (single("key", key)?, single("value", value)?);
        for (moments, data) in [(&mut self.key, key), (&mut self.value, value)] {
            for (moments, data) in moments.iter_mut().zip(data) {
                let dim = moments.in_features();
                moments.update(MatRef::from_row_major_slice(&data, batch * tokens, dim))?;
            }
        }
        Ok(())
    }

    /// The eigenvectors of the second moments, by falling eigenvalue: of all orthogonal bases, and for every rank r at once, those
    /// with the least `Σ|x - U⁽ʳ⁾U⁽ʳ⁾ᵀx|²`, which is the sum of the eigenvalues beyond r.
    ///
    /// # Errors
    /// [`Error::Linalg`] when no token was seen, or should the decomposition fail.
    pub fn bases(&self) -> Result<Bases, Error> {
        let basis = |moments: &Moments| {
            if moments.tokens() == 0 {
                return Err(rankbit_linalg::Error::MissingMoment { name: "tokens" });
            }
            Ok(truncated(moments.gram()?, moments.in_features())?.u)
        };
        let all = |moments: &[Moments]| moments.iter().map(basis).collect::<Result<_, _>>();
        Bases::new(all(&self.key)?, all(&self.value)?)
    }
}
