//! Which entries of a matrix are kept, one bit each.

use crate::{Error, NmPattern};
use alloc::{vec, vec::Vec};
use rankbit_linalg::faer::{Mat, MatRef};

/// Kept entries of a matrix `[out, in]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mask {
    shape: (usize, usize),
    words_per_row: usize,
    words: Vec<u64>,
}

impl Mask {
    /// Nothing kept.
    pub fn empty(shape: (usize, usize)) -> Self {
        let words_per_row = shape.1.div_ceil(64);
        Self { shape, words_per_row, words: vec![0; shape.0 * words_per_row] }
    }

    /// Kept where `keep(row, col)` says so.
    pub fn from_fn(shape: (usize, usize), mut keep: impl FnMut(usize, usize) -> bool) -> Self {
        let mut mask = Self::empty(shape);
        for row in 0..shape.0 {
            for col in 0..shape.1 {
                if keep(row, col) {
                    mask.insert(row, col);
                }
            }
        }
        mask
    }

    /// Kept where `matrix` is not zero (a NaN is not zero).
    pub fn of_nonzeros(matrix: MatRef<'_, f32>) -> Self {
        Self::from_fn(matrix.shape(), |row, col| matrix[(row, col)] != 0.0)
    }

    /// Rows and columns, `(out, in)`.
    pub const fn shape(&self) -> (usize, usize) {
        self.shape
    }

    /// Whether an entry is kept.
    ///
    /// # Panics
    /// When there is no such entry.
    pub fn contains(&self, row: usize, col: usize) -> bool {
        assert!(row < self.shape.0 && col < self.shape.1, "({row}, {col}) is outside {:?}", self.shape);
        self.words[row * self.words_per_row + col / 64] >> (col % 64) & 1 == 1
    }

    /// Keeps an entry that exists.
    pub(crate) fn insert(&mut self, row: usize, col: usize) {
        debug_assert!(row < self.shape.0 && col < self.shape.1);
        self.words[row * self.words_per_row + col / 64] |= 1 << (col % 64);
    }

    /// Drops an entry that exists.
    pub(crate) fn remove(&mut self, row: usize, col: usize) {
        debug_assert!(row < self.shape.0 && col < self.shape.1);
        self.words[row * self.words_per_row + col / 64] &= !(1 << (col % 64));
    }

    /// The kept columns of row `row`, ascending.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn row(&self, row: usize) -> impl Iterator<Item = usize> + '_ {
        assert!(row < self.shape.0, "row {row} is outside {:?}", self.shape);
        let words = &self.words[row * self.words_per_row..(row + 1) * self.words_per_row];
        words.iter().enumerate().flat_map(|(i, &word)| {
            core::iter::successors(Some(word), |w| Some(w & w.wrapping_sub(1)))
                .take_while(|w| *w != 0)
                .map(move |w| i * 64 + w.trailing_zeros() as usize)
        })
    }

    /// How many entries are kept.
    pub fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Kept entries over all entries; 0 for an empty matrix.
    pub fn density(&self) -> f64 {
        let entries = self.shape.0 as f64 * self.shape.1 as f64;
        if entries == 0.0 { 0.0 } else { self.count() as f64 / entries }
    }

    /// Entries in which two masks differ: the sparse architecture divergence of SR-STE, `|E_t − E_{t+1}|₁`.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] if they differ in shape.
    pub fn distance(&self, other: &Self) -> Result<usize, Error> {
        if self.shape != other.shape {
            return Err(Error::ShapeMismatch { what: "mask", expected: self.shape, found: other.shape });
        }
        Ok(self.words.iter().zip(&other.words).map(|(a, b)| (a ^ b).count_ones() as usize).sum())
    }

    /// The mask of the transposed matrix.
    #[must_use]
    pub fn transpose(&self) -> Self {
        let mut out = Self::empty((self.shape.1, self.shape.0));
        for row in 0..self.shape.0 {
            for col in self.row(row) {
                out.insert(col, row);
            }
        }
        out
    }

    /// Whether no group has more kept entries than `pattern` holds.
    ///
    /// # Errors
    /// [`Error::TooManyKept`] naming the first group that has.
    pub fn check(&self, pattern: NmPattern) -> Result<(), Error> {
        for row in 0..self.shape.0 {
            let (mut group, mut found) = (0, 0);
            for col in self.row(row) {
                let this = col / pattern.of();
                found = if this == group { found + 1 } else { 1 };
                group = this;
                if found > pattern.keep() {
                    let col = group * pattern.of();
                    let all = self.row(row).filter(|c| c / pattern.of() == group).count();
                    return Err(Error::TooManyKept { row, col, keep: pattern.keep(), found: all });
                }
            }
        }
        Ok(())
    }

    /// `weight` with every entry that is not kept set to +0.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`].
    pub fn apply(&self, weight: MatRef<'_, f32>) -> Result<Mat<f32>, Error> {
        self.check_shape(weight.shape())?;
        let mut out = Mat::zeros(self.shape.0, self.shape.1);
        for row in 0..self.shape.0 {
            for col in self.row(row) {
                out[(row, col)] = weight[(row, col)];
            }
        }
        Ok(out)
    }

    /// Whether a matrix has this mask's shape.
    pub(crate) fn check_shape(&self, found: (usize, usize)) -> Result<(), Error> {
        if found == self.shape {
            Ok(())
        } else {
            Err(Error::ShapeMismatch { what: "masked matrix", expected: self.shape, found })
        }
    }
}
