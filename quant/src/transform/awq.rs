//! AWQ's search: the smoothing whose quantization loses least of the layer's output.
//!
//! ```text
//! a_j = mean_t |X_tj|,   λ(α)_j = max(a_j^α, 10⁻⁴) / √(max · min of these)        α = 0, 1/n, …, (n-1)/n
//! minimize over α   tr(E·H·Eᵀ),   E = W - quantize(W·diag(λ))·diag(1/λ)
//! ```
//! α = 0 is plain rounding to nearest, so the result never loses to it under H. λ is rounded as it will be stored
//! before it is judged.
//!
//! Source: AWQ, arXiv 2306.00978, section 3.2 and its released code (whose n is 20, and whose loss, the mean squared
//! difference of the layer's outputs, is this form with H the calibration's Gram matrix). The released code shares one λ
//! among layers that share an input, to fold it into what is before them; here each layer has its own. Its second step,
//! the search for a clipping range, is a rounder: [`Rounder::Clip`].

use super::Smooth;
use crate::{Error, FloatFormat, Rounder, Scheme, quantize, rows};
use alloc::{vec, vec::Vec};
use num_traits::Float;
use rankbit_linalg::Metric;
use rankbit_linalg::faer::MatRef;

/// Factors below this are raised to it, as in the released code.
const FLOOR: f64 = 1e-4;

/// What [`search`] tries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Number n of exponents tried, at least 1.
    pub grid: u32,
    /// How λ is stored.
    pub format: FloatFormat,
}

impl Default for Options {
    /// The paper's 20 exponents, λ in f16.
    fn default() -> Self {
        Self { grid: 20, format: FloatFormat::F16 }
    }
}

/// What [`search`] found.
#[derive(Clone, PartialEq, Debug)]
pub struct Found {
    /// λ at the best exponent.
    pub smooth: Smooth,
    /// The best exponent α.
    pub alpha: f64,
    /// tr(E·H·Eᵀ) there.
    pub error: f64,
    /// tr(E·H·Eᵀ) at α = 0: plain rounding to nearest.
    pub plain: f64,
    /// Whether λ is stored as f32 because the format's range is too small.
    pub widened: bool,
}

/// λ for `weight` (`[out, in]`), whose inputs have the mean magnitudes `mean_abs`, by least error under `metric` after
/// rounding to nearest by `scheme`. Exponents at which `W·diag(λ)` leaves f32's range are passed over.
///
/// Cost: n roundings and n norms under the metric, each O(out · in²) with a Gram matrix.
///
/// # Errors
/// [`Error::InvalidOption`] for an empty grid; [`Error::ShapeMismatch`] for another number of means; what the quantizer
/// and the metric refuse.
pub fn search(
    weight: MatRef<'_, f32>,
    mean_abs: &[f64],
    metric: &Metric,
    scheme: &Scheme,
    options: &Options,
) -> Result<Found, Error> {
    let (out, features) = (weight.nrows(), weight.ncols());
    if options.grid == 0 {
        return Err(Error::InvalidOption { what: "grid", requirement: "at least 1", found: 0.0 });
    }
    if mean_abs.len() != features {
        let (expected, found) = ((1, features), (1, mean_abs.len()));
        return Err(Error::ShapeMismatch { what: "mean magnitudes", expected, found });
    }
    let mut best: Option<Found> = None;
    let mut work = vec![0.0; out * features];
    let mut buffer = Vec::new();
    for step in 0..options.grid {
        let alpha = f64::from(step) / f64::from(options.grid);
        let (smooth, widened) = Smooth::encode(&factors(mean_abs, alpha), options.format);
        let (forward, inverse) = (smooth.forward(), smooth.inverse());
        for (i, row) in work.chunks_exact_mut(features.max(1)).enumerate() {
            let weight = rows::row(weight, i, &mut buffer);
            for ((value, w), factor) in row.iter_mut().zip(weight).zip(&forward) {
                *value = w * factor;
            }
        }
        if step > 0 && work.iter().any(|value| !value.is_finite()) {
            continue;
        }
        let scaled = MatRef::from_row_major_slice(&work, out, features);
        let rounded = quantize(scaled, scheme, Rounder::Nearest)?.quantized;
        for (i, row) in work.chunks_exact_mut(features.max(1)).enumerate() {
            rounded.row_into(i, row)?;
            let weight = rows::row(weight, i, &mut buffer);
            for ((value, w), factor) in row.iter_mut().zip(weight).zip(&inverse) {
                *value = w - *value * factor;
            }
        }
        let error = match metric.norm_squared(MatRef::from_row_major_slice(&work, out, features)) {
            Ok(error) => error,
            Err(_) if step > 0 => continue,
            Err(error) => return Err(error.into()),
        };
        let plain = best.as_ref().map_or(error, |best| best.plain);
        if best.as_ref().is_none_or(|best| error < best.error) {
            best = Some(Found { smooth, alpha, error, plain, widened });
        }
    }
    // The first exponent is either taken or an error.
    best.ok_or(Error::InvalidOption { what: "grid", requirement: "at least 1", found: 0.0 })
}

/// λ(α), exactly.
fn factors(mean_abs: &[f64], alpha: f64) -> Vec<f64> {
    let mut factors: Vec<f64> = mean_abs
        .iter()
        .map(|&a| {
            let power = Float::powf(a, alpha);
            if power.is_finite() { power.max(FLOOR) } else { 1.0 }
        })
        .collect();
    let largest = factors.iter().copied().fold(FLOOR, f64::max);
    let smallest = factors.iter().copied().fold(f64::INFINITY, f64::min).min(largest);
    let middle = Float::sqrt(largest) * Float::sqrt(smallest);
    factors.iter_mut().for_each(|factor| *factor /= middle);
    factors
}
