//! Whole numbers of 2 to 8 bits.
//!
//! ```text
//! signed:    value = code - 2^(b-1),  encode(x) = clamp(rne(x), -Q, Q) + 2^(b-1),   Q = 2^(b-1) - 1
//! unsigned:  value = code,            encode(x) = clamp(rne(x) + z, 0, 2^b - 1),  rne(x + z) where z is not whole
//! ```
//! `rne` rounds to the nearest whole number, ties to even. The signed range is symmetric: stored code 0
//! (the value `-Q - 1`) is never produced, though it decodes.

/// 1.5·2²³: adding and subtracting it rounds a float of magnitude below 2²² to the nearest whole number,
/// ties to even, since the sum's unit in the last place is exactly one.
const ROUNDING: f32 = 12_582_912.0;

/// `x` rounded to the nearest whole number, ties to even, for |x| < 2²².
#[inline]
pub(crate) fn round_ties_even(x: f32) -> f32 {
    (x + ROUNDING) - ROUNDING
}

/// Largest magnitude of a representable value. Widths that no scheme has count as the nearest one.
pub(crate) fn max(bits: u8, signed: bool) -> f32 {
    let bits = bits.clamp(2, 8);
    let top = if signed { (1_u16 << (bits - 1)) - 1 } else { (1_u16 << bits) - 1 };
    f32::from(top)
}

/// What a stored code exceeds its value by.
pub(crate) fn offset(bits: u8, signed: bool) -> f32 {
    if signed { f32::from(1_u16 << (bits.clamp(2, 8) - 1)) } else { 0.0 }
}

/// Writes the stored codes of `scaled` (entries in units of the scale, before the zero point) to `codes`.
///
/// `zero` is the zero point (0 for signed codes). Finite entries of any size are allowed.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the value was clamped to 0 ..= 255 and is whole"
)]
pub(crate) fn encode(scaled: &[f32], bits: u8, signed: bool, zero: f32, codes: &mut [u8]) {
    let top = max(bits, signed);
    if zero != round_ties_even(zero) {
        for (code, &x) in codes.iter_mut().zip(scaled) {
            *code = round_ties_even((x + zero).clamp(0.0, top)) as u8;
        }
        return;
    }
    let (low, high, shift) = if signed { (-top, top, offset(bits, true)) } else { (-zero, top - zero, zero) };
    for (code, &x) in codes.iter_mut().zip(scaled) {
        *code = (round_ties_even(x.clamp(low - 1.0, high + 1.0)).clamp(low, high) + shift) as u8;
    }
}

#[cfg(test)]
mod tests {
    use crate::Code;

    #[test]
    fn widths_that_no_scheme_has_do_not_panic() {
        for signed in [false, true] {
            for bits in [0, 1, 9, 17, u8::MAX] {
                let code = Code::Int { bits, signed };
                assert!(code.max().is_finite() && code.value(3).is_finite(), "{code:?}");
            }
        }
    }
}
