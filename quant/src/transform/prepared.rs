//! A transform's way in, ready for many rows.

use super::{Permutation, Smooth, Transform};
use crate::{Error, rows};
use alloc::vec::Vec;
use rankbit_linalg::Hadamard;
use rankbit_linalg::hadamard::PreparedHadamard;

/// [`Transform::forward`] on f32, bit for bit, without allocations; from [`Transform::prepare`].
#[derive(Clone, Debug)]
pub struct PreparedTransform {
    features: usize,
    /// 1/λ; empty without smoothing.
    inverse: Vec<f32>,
    /// Empty without a permutation.
    order: Vec<u32>,
    rotation: Option<PreparedHadamard<f32>>,
}

impl Transform {
    /// The way into the quantizer's basis, for many rows. Cost O(features).
    pub fn prepare(&self) -> PreparedTransform {
        PreparedTransform {
            features: self.features(),
            inverse: self.smooth().map(Smooth::inverse).unwrap_or_default(),
            order: self.permutation().map(Permutation::order).unwrap_or_default().to_vec(),
            rotation: self.rotation().map(Hadamard::prepare),
        }
    }
}

impl PreparedTransform {
    /// Entries of a row.
    pub const fn features(&self) -> usize {
        self.features
    }

    /// `X·T` of the row-major `x` into `out`, both `[rows, features]`. Nothing is allocated.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when the lengths differ or are no multiple of the width.
    pub fn forward_into(&self, x: &[f32], out: &mut [f32]) -> Result<(), Error> {
        let count = x.len().checked_div(self.features).unwrap_or(0);
        rows::check_len("rows to transform", x.len(), (count, self.features))?;
        rows::check_len("transformed rows", out.len(), (count, self.features))?;
        let width = self.features.max(1);
        for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            if self.order.is_empty() {
                out.copy_from_slice(x);
                out.iter_mut().zip(&self.inverse).for_each(|(out, factor)| *out *= factor);
                continue;
            }
            for (out, &from) in out.iter_mut().zip(&self.order) {
                let from = from as usize;
                // A permutation's entries are below its length, which is the row's.
                *out = self.inverse.get(from).map_or(x[from], |factor| x[from] * factor);
            }
        }
        match &self.rotation {
            Some(rotation) => Ok(rotation.apply(out)?),
            None => Ok(()),
        }
    }
}
