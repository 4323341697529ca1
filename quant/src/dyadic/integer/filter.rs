//! Rows of weights with a bias, and their products with rows of codes: what linear layers and convolutions share.

use super::tensor::check_len;
use super::{IntFormat, Wide};
use crate::Error;
use alloc::vec::Vec;

/// Terms that are summed in i32 at a time: `65536 · 255 · 128 < 2³¹`.
const PIECE: usize = 1 << 16;

/// Weights `[rows, cols]` and a bias per row, with the proof of how wide their sums are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Filters {
    cols: usize,
    weights: Vec<i8>,
    bias: Vec<i32>,
    input: IntFormat,
    bound: u64,
}

impl Filters {
    /// Proves the width: no partial sum of a row exceeds `Σ |w|·max|x| + |b|`, whatever codes come in.
    pub(super) fn new(
        (rows, cols): (usize, usize),
        weights: Vec<i8>,
        bias: Vec<i32>,
        input: IntFormat,
    ) -> Result<Self, Error> {
        if rows == 0 || cols == 0 {
            return Err(Error::InvalidLayer { reason: "a layer has at least one input and one output" });
        }
        let len = rows.checked_mul(cols).ok_or(Error::TooLarge { what: "weights" })?;
        check_len("weights", weights.len(), len)?;
        check_len("bias", bias.len(), rows)?;
        let mut bound = 0_u64;
        for (row, (weights, bias)) in weights.chunks_exact(cols).zip(&bias).enumerate() {
            // At most 2⁶⁴ terms of at most 128: below 2⁷¹, and the product below 2⁷⁹.
            let sum: u128 = weights.iter().map(|w| u128::from(w.unsigned_abs())).sum();
            let total = sum * u128::from(input.magnitude()) + u128::from(bias.unsigned_abs());
            match i64::try_from(total) {
                Ok(total) => bound = bound.max(total.unsigned_abs()),
                Err(_) => return Err(Error::AccumulatorOverflow { row }),
            }
        }
        Ok(Self { cols, weights, bias, input, bound })
    }

    /// Largest magnitude that any sum, or partial sum, can reach.
    pub(super) const fn bound(&self) -> u64 {
        self.bound
    }

    /// Whether i32 holds every sum.
    pub(super) fn fits_i32(&self) -> bool {
        i32::try_from(self.bound).is_ok()
    }

    /// Number of rows.
    pub(super) fn rows(&self) -> usize {
        self.bias.len()
    }

    /// Entries of a row.
    pub(super) const fn cols(&self) -> usize {
        self.cols
    }

    /// The format that the width was proved for.
    pub(super) const fn input(&self) -> IntFormat {
        self.input
    }

    /// Writes the products of row `row` (one of the rows) with each row of `patches` (rows of `cols` codes of the
    /// input's format, as many as `out` has entries) to `out`.
    pub(super) fn products<S: Sum>(&self, row: usize, patches: &[i16], out: &mut [S]) {
        let weights = &self.weights[row * self.cols..(row + 1) * self.cols];
        let bias = self.bias[row];
        for (sum, patch) in out.iter_mut().zip(patches.chunks_exact(self.cols)) {
            *sum = S::dot(patch, weights, bias);
        }
    }
}

/// A width of sums.
pub(super) trait Sum: Copy + Default {
    /// `Σ x·w + b`, which the caller proved to fit.
    fn dot(x: &[i16], w: &[i8], bias: i32) -> Self;

    /// Sums of this width.
    fn collect(values: Vec<Self>) -> Wide;
}

impl Sum for i32 {
    #[inline]
    fn dot(x: &[i16], w: &[i8], bias: i32) -> Self {
        bias + x.iter().zip(w).map(|(&x, &w)| Self::from(x) * Self::from(w)).sum::<Self>()
    }

    fn collect(values: Vec<Self>) -> Wide {
        Wide::I32(values)
    }
}

impl Sum for i64 {
    #[inline]
    fn dot(x: &[i16], w: &[i8], bias: i32) -> Self {
        let pieces = x.chunks(PIECE).zip(w.chunks(PIECE));
        pieces.map(|(x, w)| Self::from(i32::dot(x, w, 0))).sum::<Self>() + Self::from(bias)
    }

    fn collect(values: Vec<Self>) -> Wide {
        Wide::I64(values)
    }
}
