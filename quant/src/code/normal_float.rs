//! The construction behind NF2, NF3 and NF4.
//!
//! ```text
//! P = Φ⁻¹(linspace(o, ½, 2^(k-1) + 1)) without its last,   N = -Φ⁻¹(linspace(o, ½, 2^(k-1))) without its last
//! table = sort(P ∪ {0} ∪ N) / max
//! ```
//! 2^(k-1) positive values, 2^(k-1) - 1 negative ones and an exact zero. Two conventions for the offset `o` are in
//! use, and they agree at 4 bits:
//!
//! * [`offset`]: `o = 1 - (1/2^(k+1) + 1/(2^(k+1) - 2)) / 2`, QLoRA's formula at every width. The named tables of
//!   2 and 3 bits take this one.
//! * 0.9677083 at every width, the 4-bit value, as the implementations of LoftQ, QERA and LQ-LoRA have it.
//!
//! Source: QLoRA, arXiv 2305.14314, section 3 and appendix E.

use crate::Error;
use alloc::{vec, vec::Vec};
use num_traits::Float;

/// QLoRA's offset for tables of `bits` bits: the mean of the outermost quantiles of 2^k and 2^k - 1 levels.
pub fn offset(bits: u8) -> f64 {
    let levels = 2.0_f64.powi(i32::from(bits) + 1);
    1.0 - (levels.recip() + (levels - 2.0).recip()) / 2.0
}

/// The table of `bits` bits with offset `o`, in increasing order. Accurate to 2⁻⁴⁰ before rounding to f32.
///
/// # Errors
/// [`Error::InvalidScheme`] for widths other than 2 to 8 bits or an offset that is not inside (½, 1).
pub fn normal_float(bits: u8, offset: f64) -> Result<Vec<f32>, Error> {
    if !(2..=8).contains(&bits) {
        return Err(Error::InvalidScheme { reason: "a NormalFloat has 2 to 8 bits" });
    }
    if !(offset > 0.5 && offset < 1.0) {
        return Err(Error::InvalidScheme { reason: "a NormalFloat's offset lies between 1/2 and 1" });
    }
    let positive = 1_u16 << (bits - 1);
    // Quantile `i` of `steps` steps from the offset down to one half.
    let quantile = |i: u16, steps: u16| {
        normal_quantile(offset + (0.5 - offset) * (f64::from(i) / f64::from(steps)), 0.0)
    };
    let mut values = vec![0.0];
    values.extend((0..positive).map(|i| quantile(i, positive)));
    values.extend((0..positive - 1).map(|i| -quantile(i, positive - 1)));
    values.sort_by(f64::total_cmp);
    let top = quantile(0, 1);
    Ok(values.into_iter().map(|value| crate::float::narrow(value / top)).collect())
}

/// Φ⁻¹(p) for p in [½, 1): Newton's steps on Φ from `start` (0, or a quantile of less than `p`), where Φ is concave,
/// so that they rise to the root.
pub(crate) fn normal_quantile(p: f64, start: f64) -> f64 {
    let mut x = start;
    for _ in 0..60 {
        let (cumulative, density) = normal(x);
        let step = (p - cumulative) / density;
        x += step;
        if step.abs() <= x.abs() * 1e-15 {
            break;
        }
    }
    x
}

/// Φ(x) = ½ + φ(x)·Σ x^(2n+1) / (1·3·…·(2n+1)), all terms positive for x ≥ 0, and φ(x).
pub(crate) fn normal(x: f64) -> (f64, f64) {
    let density = Float::exp(-x * x / 2.0) / Float::sqrt(core::f64::consts::TAU);
    let (mut term, mut sum, mut odd) = (x, x, 1.0);
    while term > sum * 1e-17 {
        odd += 2.0;
        term *= x * x / odd;
        sum += term;
    }
    (0.5 + density * sum, density)
}
