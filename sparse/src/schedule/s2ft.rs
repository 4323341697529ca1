use crate::select::largest;
use crate::{Error, criterion};
use alloc::{vec, vec::Vec};
use rankbit_linalg::Stream;
use rankbit_linalg::faer::{Mat, MatMut, MatRef};

/// S²FT: a few whole heads or channels of a layer train, as one dense slice; everything else is frozen.
///
/// A *unit* is a head (its rows of q, k, v and columns of o) or a channel (its row of up and gate, column of down). The
/// units chosen come first in a new order of all units; the coupled matrices are permuted alike, which leaves the
/// function as it is. Then
///
/// ```text
/// columns train (o, down):  Y = X·Wᵀ + X[:, sel]·Δᵀ        Δ: [out, |sel|]
/// rows train (v, up):       Y[:, sel] += X·Δᵀ              Δ: [|sel|, in]
/// ```
/// with Δ starting at 0. The gradient of Δ is the slice of the dense gradient.
///
/// Source: Yang et al., NeurIPS 2024, arXiv 2412.06289, section 3. With grouped keys and values the units are the groups.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct S2ft {
    order: Vec<usize>,
    chosen: usize,
    unit_len: usize,
}

/// How the units of a coupled matrix lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Coupled {
    /// As rows: q, k, v, up, gate.
    Rows,
    /// As columns: o, down.
    Columns,
}

impl S2ft {
    /// `chosen` of `units` units at random, each of `unit_len` rows or columns; the random numbers depend on the seed and
    /// the name alone. The paper's default.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] when more are chosen than there are, or for units without entries.
    pub fn random(
        units: usize,
        chosen: usize,
        unit_len: usize,
        (seed, name): (u64, &str),
    ) -> Result<Self, Error> {
        let mut stream = Stream::new(seed, name);
        let scores: Vec<f64> = (0..units).map(|_| stream.next_uniform()).collect();
        Self::best(&scores, chosen, unit_len)
    }

    /// The `chosen` units of largest score (a weight, activation or gradient norm); of equals the lower ones.
    ///
    /// # Errors
    /// As [`S2ft::random`]; [`Error::NonFinite`] (unit as column) for a score that is not a number.
    pub fn best(scores: &[f64], chosen: usize, unit_len: usize) -> Result<Self, Error> {
        if chosen > scores.len() {
            let (requirement, found) = ("at most all of them", chosen as f64);
            return Err(Error::InvalidOption { what: "chosen units", requirement, found });
        }
        if unit_len == 0 {
            return Err(Error::InvalidOption { what: "unit length", requirement: "at least 1", found: 0.0 });
        }
        if let Some(col) = scores.iter().position(|s| !s.is_finite()) {
            return Err(Error::NonFinite { what: "score", row: 0, col });
        }
        let mut order = largest(scores, chosen);
        let mut first = vec![false; scores.len()];
        order.iter().for_each(|&unit| first[unit] = true);
        order.extend((0..scores.len()).filter(|&unit| !first[unit]));
        Ok(Self { order, chosen, unit_len })
    }

    /// Units in their new order: the chosen ones first.
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// Rows or columns that train: the first so many after [`S2ft::permute`].
    pub fn trained(&self) -> usize {
        self.chosen * self.unit_len
    }

    /// `weight` with its units in the new order.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when the side does not have that many units.
    pub fn permute(&self, weight: MatRef<'_, f32>, coupled: Coupled) -> Result<Mat<f32>, Error> {
        let place = |k: usize| self.order[k / self.unit_len] * self.unit_len + k % self.unit_len;
        self.check(weight.shape(), coupled)?;
        Ok(Mat::from_fn(weight.nrows(), weight.ncols(), |i, j| match coupled {
            Coupled::Rows => weight[(place(i), j)],
            Coupled::Columns => weight[(i, place(j))],
        }))
    }

    /// The gradient of Δ: the trained slice of the gradient of a permuted weight.
    ///
    /// # Errors
    /// As [`S2ft::permute`].
    pub fn slice(&self, gradient: MatRef<'_, f32>, coupled: Coupled) -> Result<Mat<f32>, Error> {
        self.check(gradient.shape(), coupled)?;
        Ok(match coupled {
            Coupled::Rows => gradient.subrows(0, self.trained()).to_owned(),
            Coupled::Columns => gradient.subcols(0, self.trained()).to_owned(),
        })
    }

    /// Adds Δ to the trained slice of a permuted weight. To take it out again keep a copy of the slice: subtraction
    /// rounds.
    ///
    /// # Errors
    /// As [`S2ft::permute`], also for a Δ of another shape; [`Error::NonFinite`].
    pub fn merge(
        &self,
        weight: MatMut<'_, f32>,
        delta: MatRef<'_, f32>,
        coupled: Coupled,
    ) -> Result<(), Error> {
        let shape = weight.shape();
        self.check(shape, coupled)?;
        let expected = match coupled {
            Coupled::Rows => (self.trained(), shape.1),
            Coupled::Columns => (shape.0, self.trained()),
        };
        super::same_shape("change", expected, delta.shape())?;
        criterion::check_finite(delta, "change")?;
        let mut slice = weight.submatrix_mut(0, 0, expected.0, expected.1);
        for j in 0..expected.1 {
            for i in 0..expected.0 {
                slice[(i, j)] += delta[(i, j)];
            }
        }
        Ok(())
    }

    fn check(&self, (rows, cols): (usize, usize), coupled: Coupled) -> Result<(), Error> {
        let len = self.order.len().saturating_mul(self.unit_len);
        let expected = match coupled {
            Coupled::Rows => (len, cols),
            Coupled::Columns => (rows, len),
        };
        super::same_shape("coupled matrix", expected, (rows, cols))
    }
}
