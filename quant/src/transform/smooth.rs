//! Smoothing: a positive factor per input feature moves range from activations to weights.
//!
//! ```text
//! T = diag(1/λ),   Q̃ ≈ W·diag(λ),   X·T = X·diag(1/λ),   λ_j = max|X_j|^α / max|W_j|^β
//! ```
//! Source: SmoothQuant, arXiv 2211.10438, equation 4 (β = 1 - α); SVDQuant, arXiv 2411.05007, section 4.2.

use crate::{Error, FloatFormat, Floats, float};
use alloc::vec::Vec;
use num_traits::Float;

/// The factors λ of a smoothing, positive and finite, as they are stored.
#[derive(Clone, PartialEq, Debug)]
pub struct Smooth {
    factors: Floats,
}

impl Smooth {
    /// Stored factors.
    ///
    /// # Errors
    /// [`Error::StoredNonFinite`] naming the first factor that is NaN, infinite, zero or negative.
    pub fn new(factors: Floats) -> Result<Self, Error> {
        match (0..factors.len()).find(|&i| !(factors.get(i).is_finite() && factors.get(i) > 0.0)) {
            Some(index) => Err(Error::StoredNonFinite { what: "smoothing factor", index }),
            None => Ok(Self { factors }),
        }
    }

    /// λ_j = activation_absmax_j^α / weight_absmax_j^β, divided by their geometric mean and rounded to
    /// `format`; f32 when the format's range is too small (then the second result is `true`).
    ///
    /// A column whose factor would be zero or not finite (a dead input, a zero column) takes λ = 1, as the
    /// SVDQuant reference does. Cost O(in).
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when the two slices differ in length.
    pub fn from_absmax(
        activation_absmax: &[f32],
        weight_absmax: &[f32],
        (alpha, beta): (f64, f64),
        format: FloatFormat,
    ) -> Result<(Self, bool), Error> {
        let features = weight_absmax.len();
        if activation_absmax.len() != features {
            return Err(Error::ShapeMismatch {
                what: "activation absmax",
                expected: (1, features),
                found: (1, activation_absmax.len()),
            });
        }
        // Logarithms, so that neither the powers nor the mean can overflow.
        let logs: Vec<Option<f64>> = activation_absmax
            .iter()
            .zip(weight_absmax)
            .map(|(&x, &w)| {
                let log = Float::ln(f64::from(x)) * alpha - Float::ln(f64::from(w)) * beta;
                (x > 0.0 && w > 0.0 && log.is_finite()).then_some(log)
            })
            .collect();
        let usable = logs.iter().flatten().count();
        let mean = if usable == 0 { 0.0 } else { logs.iter().flatten().sum::<f64>() / usable as f64 };
        let exact: Vec<f64> = logs.iter().map(|log| log.map_or(1.0, |log| Float::exp(log - mean))).collect();
        Ok(Self::encode(&exact, format))
    }

    /// Positive factors rounded to `format`; to f32 when the format's range is too small (then the second result is
    /// `true`). What is past f32's range, or no positive number, takes the nearest end of that range.
    pub fn encode(exact: &[f64], format: FloatFormat) -> (Self, bool) {
        let keeps = |f: FloatFormat, x: f64| {
            (f64::from(f.round(x)) - x).abs() <= x * (1.0 / 128.0) && f.round(x) > 0.0
        };
        let widened = format != FloatFormat::F32 && !exact.iter().all(|&x| keeps(format, x));
        let format = if widened { FloatFormat::F32 } else { format };
        let mut factors = Floats::with_capacity(format, exact.len());
        for &x in exact {
            factors.push(x.max(f64::from(f32::MIN_POSITIVE)).min(f64::from(f32::MAX)));
        }
        (Self { factors }, widened)
    }

    /// The factors λ.
    pub const fn factors(&self) -> &Floats {
        &self.factors
    }

    /// Number of input features.
    pub fn features(&self) -> usize {
        self.factors.len()
    }

    /// Every stored bit.
    pub fn stored_bits(&self) -> u64 {
        (self.factors.len() * self.factors.format().bits()) as u64
    }

    /// λ as f32, for multiplying a row of `W` into the quantizer's basis.
    pub fn forward(&self) -> Vec<f32> {
        self.factors.to_f32()
    }

    /// 1/λ as f32, for multiplying activations, or a decoded row of `Q̃` back into the original basis.
    pub fn inverse(&self) -> Vec<f32> {
        self.factors.to_f32().into_iter().map(|x| float::narrow(1.0 / f64::from(x))).collect()
    }
}
