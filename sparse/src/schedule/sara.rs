use super::same_shape;
use crate::{Error, Mask, criterion};
use alloc::vec::Vec;
use rankbit_linalg::faer::{Mat, MatMut, MatRef};
use rankbit_linalg::svd;

/// SaRA: only the weights that pre-training left near zero are trained, as one vector; halfway the choice is made anew.
///
/// ```text
/// M = { |W| < θ };   W ← W₀ + δ on M only;   the optimizer runs on the vector of masked entries
/// regularizer: λ·‖W∘M‖_*,  its (sub)gradient (U·Vᵀ)∘M of the thin SVD of W∘M
/// ```
/// At the turning point the mask is taken anew from the *current* weights with the same θ: entries that grew beyond it
/// are frozen as they are, and the optimizer's state starts afresh.
///
/// Source: Hu et al., ICLR 2025, arXiv 2409.06633, sections 3.2 to 3.4; θ = 2·10⁻³, λ = 5·10⁻⁴, turn at step 2500 there.
#[derive(Clone, PartialEq, Debug)]
pub struct Sara {
    threshold: f32,
    turn: u64,
    mask: Mask,
}

impl Sara {
    /// The trainable entries of `weight`, to be chosen anew at step `turn`.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for a threshold that is negative or NaN (infinite is full fine-tuning);
    /// [`Error::NonFinite`].
    pub fn new(weight: MatRef<'_, f32>, threshold: f32, turn: u64) -> Result<Self, Error> {
        // Also a NaN is not at least 0.
        let valid = threshold >= 0.0;
        if !valid {
            let (requirement, found) = ("not negative", threshold.into());
            return Err(Error::InvalidOption { what: "threshold", requirement, found });
        }
        Ok(Self { threshold, turn, mask: small(weight, threshold)? })
    }

    /// The trainable entries.
    pub const fn mask(&self) -> &Mask {
        &self.mask
    }

    /// Whether the optimizer's state has to start afresh at this step: at the turn the mask is taken anew.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`]; [`Error::NonFinite`].
    pub fn step(&mut self, weight: MatRef<'_, f32>, step: u64) -> Result<bool, Error> {
        same_shape("weight", self.mask.shape(), weight.shape())?;
        if step != self.turn {
            return Ok(false);
        }
        self.mask = small(weight, self.threshold)?;
        Ok(true)
    }

    /// The trainable entries of a weight or a gradient, row by row.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`].
    pub fn gather(&self, matrix: MatRef<'_, f32>) -> Result<Vec<f32>, Error> {
        same_shape("gathered matrix", self.mask.shape(), matrix.shape())?;
        let places = (0..matrix.nrows()).flat_map(|i| self.mask.row(i).map(move |j| (i, j)));
        Ok(places.map(|at| matrix[at]).collect())
    }

    /// Writes the trainable entries back.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`]; [`Error::PartLength`] for another number of entries.
    pub fn scatter(&self, entries: &[f32], mut weight: MatMut<'_, f32>) -> Result<(), Error> {
        same_shape("weight", self.mask.shape(), weight.shape())?;
        let expected = self.mask.count();
        if entries.len() != expected {
            return Err(Error::PartLength { part: "trainable entries", expected, found: entries.len() });
        }
        let places = (0..weight.nrows()).flat_map(|i| self.mask.row(i).map(move |j| (i, j)));
        for (at, value) in places.zip(entries) {
            weight[at] = *value;
        }
        Ok(())
    }

    /// `‖W∘M‖_*` and its gradient on the trainable entries, row by row: add λ times it to the loss's.
    ///
    /// One SVD of the masked matrix. Directions of singular value 0 (up to rounding) add nothing: the subgradient of
    /// least norm.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`]; from [`Error::Linalg`] an entry that is not finite.
    pub fn nuclear(&self, weight: MatRef<'_, f32>) -> Result<(f64, Vec<f32>), Error> {
        let masked = self.mask.apply(weight)?;
        let smaller = masked.nrows().min(masked.ncols());
        if smaller == 0 {
            return Ok((0.0, Vec::new()));
        }
        let svd::Svd { u, singular_values: s, v, .. } = svd::truncated(masked.as_ref(), smaller)?;
        let largest = s.first().copied().unwrap_or(0.0);
        let floor = largest * f32::EPSILON * masked.nrows().max(masked.ncols()) as f32;
        let mut sign = Mat::<f32>::zeros(masked.nrows(), masked.ncols());
        for (k, _) in s.iter().enumerate().filter(|(_, value)| **value > floor) {
            for j in 0..sign.ncols() {
                for i in 0..sign.nrows() {
                    sign[(i, j)] += u[(i, k)] * v[(j, k)];
                }
            }
        }
        Ok((s.iter().map(|value| f64::from(*value)).sum(), self.gather(sign.as_ref())?))
    }
}

fn small(weight: MatRef<'_, f32>, threshold: f32) -> Result<Mask, Error> {
    criterion::check_finite(weight, "weight")?;
    Ok(Mask::from_fn(weight.shape(), |i, j| weight[(i, j)].abs() < threshold))
}
