//! Dyadic numbers from real scales.

use crate::Error;
use crate::dyadic::Dyadic;
use alloc::vec::Vec;

/// Bits of an f64's mantissa behind the leading one.
const MANTISSA: u32 = 52;

/// The dyadic number of a real scale.
///
/// ```text
/// S = m·2^e, m in [½, 1)      b = ⌊m·2³¹ + ½⌋      c = 31 - e      (b = 2³¹ becomes b = 2³⁰, c - 1)
/// |b/2^c - S| ≤ 2⁻³¹·S
/// ```
/// From the bits of S, in whole numbers: the same as HAWQ's decimal arithmetic.
///
/// # Errors
/// [`Error::DyadicScale`] unless `2⁻⁹⁶ ≤ S < 2⁶²` (so also for NaN, infinities, zero, negative and subnormal numbers).
pub fn dyadic(scale: f64) -> Result<Dyadic, Error> {
    named("scale", 0, scale)
}

/// [`dyadic`] with a name for the error.
pub(super) fn named(what: &'static str, index: usize, scale: f64) -> Result<Dyadic, Error> {
    let refuse = || Error::DyadicScale { what, index, found: scale };
    if !scale.is_normal() || scale < 0.0 {
        return Err(refuse());
    }
    let bits = scale.to_bits();
    // The sign is 0, so these are the 11 bits of the exponent: S = m·2^(exponent - 1022), m = mantissa / 2⁵³.
    let exponent = i32::try_from(bits >> MANTISSA).map_err(|_| refuse())? - 1022;
    let mantissa = bits & ((1 << MANTISSA) - 1) | 1 << MANTISSA;
    // 53 bits to 31 (or 2³¹ itself), ties up.
    let multiplier = u32::try_from((mantissa + (1 << 21)) >> 22).map_err(|_| refuse())?;
    Dyadic::new(multiplier, 31 - exponent).map_err(|_| refuse())
}

/// The dyadic numbers of `sums[o] / output`, each quotient of two f32 taken in f64.
pub(super) fn ratios(what: &'static str, sums: &[f32], output: f32) -> Result<Vec<Dyadic>, Error> {
    let ratio = |(index, &sum): (usize, &f32)| named(what, index, f64::from(sum) / f64::from(output));
    sums.iter().enumerate().map(ratio).collect()
}
