use super::same_shape;
use crate::{Error, Mask, NmPattern, Pattern};
use rankbit_linalg::faer::{Mat, MatRef};

/// SR-STE: an N:M mask taken anew at every step, the gradient passed straight through, and a pull of the pruned weights
/// towards zero that keeps the mask from flickering.
///
/// ```text
/// W̃ = W∘E,  E = the N:M mask of |W|
/// gradient of W = g(W̃) + λ·(1 − E)∘W
/// ```
/// The forward pass uses W̃, the optimizer steps on W with this gradient (so under momentum or Adam the pull is part of
/// the gradient, as in the reference implementation, and no decoupled decay). λ = 0 is the plain straight-through
/// estimator. [`Mask::distance`] of consecutive masks is the paper's sparse architecture divergence.
///
/// Source: Zhou et al., ICLR 2021, arXiv 2102.04010, equation 9.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SrSte {
    pattern: NmPattern,
    pull: f32,
}

impl SrSte {
    /// The pull λ is 2·10⁻⁴ in the paper.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for a pull that is negative or not finite.
    pub fn new(pattern: NmPattern, pull: f32) -> Result<Self, Error> {
        super::not_negative("pull", pull.into())?;
        Ok(Self { pattern, pull })
    }

    /// The mask and the masked weight of a forward pass.
    ///
    /// # Errors
    /// [`Error::NonFinite`] for a weight that is not a number.
    pub fn forward(&self, weight: MatRef<'_, f32>) -> Result<(Mask, Mat<f32>), Error> {
        let mask = super::magnitude_mask(weight, &Pattern::Nm(self.pattern))?;
        let masked = mask.apply(weight)?;
        Ok((mask, masked))
    }

    /// The gradient for the optimizer from the gradient of the masked weight.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`].
    pub fn gradient(
        &self,
        weight: MatRef<'_, f32>,
        mask: &Mask,
        gradient: MatRef<'_, f32>,
    ) -> Result<Mat<f32>, Error> {
        same_shape("gradient", mask.shape(), gradient.shape())?;
        same_shape("weight", mask.shape(), weight.shape())?;
        let mut out = Mat::from_fn(weight.nrows(), weight.ncols(), |i, j| {
            gradient[(i, j)] + self.pull * weight[(i, j)]
        });
        for i in 0..weight.nrows() {
            for j in mask.row(i) {
                out[(i, j)] = gradient[(i, j)];
            }
        }
        Ok(out)
    }
}
