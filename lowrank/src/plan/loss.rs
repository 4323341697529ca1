//! What a candidate loses: how much a tensor's error matters.

use rankbit_linalg::faer::MatRef;
use rankbit_linalg::{Metric, Moments};

use crate::{Error, FitInfo};

/// The loss that a plan adds up over tensors. Each is a sensitivity of the tensor times a square of its error
/// `E = W − Ŵ`; within one plan all tensors take the same kind.
///
/// | loss | formula | needs |
/// |---|---|---|
/// | `SquaredError` | `‖E‖²` | nothing |
/// | `RelativeSquaredError` | `‖E‖² / ‖W‖²` | nothing |
/// | `Moments` | `tr(E H Eᵀ)` | a Gram matrix or second moments |
/// | `RelativeMoments` | `tr(E H Eᵀ) / tr(W H Wᵀ)` | the same |
/// | `Hessian` | `(Tr(∇²) / n) · ‖E‖²` | a trace, as [`trace`](mod@rankbit_linalg::trace) estimates it |
/// | `Relevance` | `score · ‖E‖² / ‖W‖²` | a score, as [`relevance`](super::relevance) computes it |
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Loss {
    /// The plain squared error: what LQ-LoRA's program (arXiv 2311.12023) adds up without Fisher information. Least
    /// total relative error of all weights as one vector.
    SquaredError,
    /// The same relative to the tensor: each tensor counts alike, whatever its scale.
    RelativeSquaredError,
    /// The mean squared error of the layer's output, in the output's units: for Gram matrices whose units agree across
    /// tensors, such as gradient-weighted ones.
    Moments,
    /// The same relative to the output: for plain activations, whose scale says nothing of their importance.
    RelativeMoments,
    /// HAWQ-V2 (arXiv 1911.03852, equation 10): the mean curvature of the loss, times the squared error.
    Hessian {
        /// `Tr(∇²) / n`: the trace over the tensor's own number of weights.
        mean_trace: f64,
    },
    /// LRP-QViT (arXiv 2401.11243): layers that contribute more to the output get more bits. The paper leaves the form
    /// of the program open; here the score weighs the relative squared error.
    Relevance {
        /// The layer's contribution score.
        score: f64,
    },
}

/// Squared norms of a weight, which do not depend on the candidate.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Norms {
    /// `‖W‖²`.
    pub plain: f64,
    /// `tr(W H Wᵀ)`, with the moments' row weights when there are any; `None` without a metric.
    pub moments: Option<f64>,
}

impl Norms {
    /// Measures `weight`: O(out·in), or O(out·in²) with a Gram matrix.
    ///
    /// # Errors
    /// [`Error::Linalg`] for a weight that is not finite, or moments of another width.
    pub fn new(weight: MatRef<'_, f32>, moments: Option<&Moments>) -> Result<Self, Error> {
        let plain = Metric::identity().norm_squared(weight)?;
        let metric = moments.and_then(|moments| moments.metric().ok());
        let moments = metric.map(|metric| metric.norm_squared(weight)).transpose()?;
        Ok(Self { plain, moments })
    }
}

impl Loss {
    /// HAWQ-V2's loss from the trace of the Hessian's block that belongs to a tensor of `weights` weights.
    ///
    /// The trace is that of the Hessian of the *mean* loss over samples, and the error's square is summed, not averaged.
    ///
    /// # Errors
    /// [`Error::Linalg`] (an option out of range) for a trace that is not finite or negative, as an estimate far from a
    /// minimum can be: such a tensor has no sensitivity in this sense.
    pub fn hessian(trace: f64, weights: u64) -> Result<Self, Error> {
        let weights = weights.max(1) as f64;
        Ok(Self::Hessian { mean_trace: factor("trace", trace)? / weights })
    }

    /// What multiplies a squared error, under moments when `calibrated`, so that it is this loss.
    pub(super) fn unit(&self, norms: &Norms, calibrated: bool) -> Result<f64, Error> {
        let needed = "a Gram matrix that both the loss and the rounder work with";
        if calibrated != matches!(self, Self::Moments | Self::RelativeMoments) {
            return Err(Error::MissingCalibration { needed });
        }
        let inverse = |norm: f64| if norm > 0.0 { norm.recip() } else { 0.0 };
        Ok(match *self {
            Self::SquaredError | Self::Moments => 1.0,
            Self::RelativeSquaredError => inverse(norms.plain),
            Self::RelativeMoments => inverse(norms.moments.ok_or(Error::MissingCalibration { needed })?),
            Self::Hessian { mean_trace } => factor("mean trace", mean_trace)?,
            Self::Relevance { score } => factor("relevance score", score)? * inverse(norms.plain),
        })
    }

    /// The loss of a fit.
    ///
    /// # Errors
    /// [`Error::MissingCalibration`] for a loss under moments when there are none; [`Error::Linalg`] (an option out of
    /// range) for a trace or score that is negative or not finite.
    pub fn of(&self, info: &FitInfo, norms: &Norms) -> Result<f64, Error> {
        let relative = info.relative_error * info.relative_error;
        let needed = "a Gram matrix or second moments";
        let under_moments = || {
            let error = info.metric_error.ok_or(Error::MissingCalibration { needed })?;
            Ok::<_, Error>(error * error)
        };
        match *self {
            Self::SquaredError => Ok(absolute(relative, norms.plain)),
            Self::RelativeSquaredError => Ok(relative),
            Self::Moments => {
                let norm = norms.moments.ok_or(Error::MissingCalibration { needed })?;
                Ok(absolute(under_moments()?, norm))
            }
            Self::RelativeMoments => under_moments(),
            Self::Hessian { mean_trace } => {
                Ok(factor("mean trace", mean_trace)? * absolute(relative, norms.plain))
            }
            Self::Relevance { score } => Ok(factor("relevance score", score)? * relative),
        }
    }
}

/// `relative · norm`, where an error relative to nothing stays what it is.
fn absolute(relative: f64, norm: f64) -> f64 {
    if relative == 0.0 { 0.0 } else { relative * norm }
}

fn factor(what: &'static str, found: f64) -> Result<f64, Error> {
    if found.is_finite() && found >= 0.0 {
        Ok(found)
    } else {
        let requirement = "finite and not negative";
        Err(Error::Linalg(rankbit_linalg::Error::InvalidOption { what, requirement, found }))
    }
}
