//! Linear layers.

use super::filter::{Filters, Sum};
use super::tensor::{check_len, volume, with_capacity, zeros};
use super::{IntFormat, Sums, Tensor};
use crate::Error;
use alloc::vec::Vec;

/// `acc[t, o] = Σ_k x[t, k]·w[o, k] + b[o]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Linear {
    filters: Filters,
}

impl Linear {
    /// A layer of weights `[out, in]` and a bias per output, for inputs of one format.
    ///
    /// # Errors
    /// [`Error::InvalidLayer`] without inputs or outputs, [`Error::ElementCount`] when weights or bias do not have as
    /// many entries as the shape asks for, [`Error::AccumulatorOverflow`] when not even i64 would hold the sums.
    pub fn new(
        shape: (usize, usize),
        weights: Vec<i8>,
        bias: Vec<i32>,
        input: IntFormat,
    ) -> Result<Self, Error> {
        Ok(Self { filters: Filters::new(shape, weights, bias, input)? })
    }

    /// Outputs and inputs.
    pub fn shape(&self) -> (usize, usize) {
        (self.filters.rows(), self.filters.cols())
    }

    /// Largest magnitude that any sum, or partial sum, can reach; up to 2³¹ - 1 sums are i32, above it i64.
    pub const fn bound(&self) -> u64 {
        self.filters.bound()
    }

    /// The sums `[batch, out, 1, 1]` for codes whose channels, height and width together are the inputs, flattened in
    /// that order. Cost O(batch · out · in).
    ///
    /// # Errors
    /// [`Error::ElementCount`] when they are not, [`Error::InvalidLayer`] for codes of another format than the bounds
    /// were proved for, [`Error::TooLarge`] when the sums do not fit the memory.
    pub fn apply(&self, input: &Tensor) -> Result<Sums, Error> {
        if self.filters.fits_i32() { self.sums::<i32>(input) } else { self.sums::<i64>(input) }
    }

    fn sums<S: Sum>(&self, input: &Tensor) -> Result<Sums, Error> {
        let [batch, channels, height, width] = input.shape();
        let features = volume([1, channels, height, width])?;
        check_len("input features", features, self.filters.cols())?;
        check_format(input, &self.filters)?;
        let outputs = self.filters.rows();
        let shape = [batch, outputs, 1, 1];
        let mut sums: Vec<S> = zeros(volume(shape)?)?;
        let mut row = with_capacity(features)?;
        for (codes, sums) in input.codes().chunks_exact(features).zip(sums.chunks_exact_mut(outputs)) {
            row.clear();
            row.extend(codes.iter().map(|&code| input.format().value(code)));
            for (output, sum) in sums.iter_mut().enumerate() {
                self.filters.products(output, &row, core::slice::from_mut(sum));
            }
        }
        Sums::new(shape, S::collect(sums))
    }
}

/// Whether the codes are those that the bounds were proved for.
pub(super) fn check_format(input: &Tensor, filters: &Filters) -> Result<(), Error> {
    if input.format() == filters.input() {
        Ok(())
    } else {
        Err(Error::InvalidLayer {
            reason: "the input's format is not the one that the sums were bounded for",
        })
    }
}
