//! Dyadic numbers as scales of stored weights: 32 bits each, exactly the numbers that f32 holds, without floats to read
//! them.
//!
//! ```text
//! word = b + 2²⁴·c,   b of 24 bits, c an 8-bit two's complement number:   b / 2^c
//! ```
//! Every positive f32 from 2⁻¹⁰⁴ on is such a number, and is stored exactly; smaller ones lose bits at the low end, to
//! zero below 2⁻¹²⁸. Words that stand for numbers beyond f32 decode to an infinity, which no reader accepts.

/// The numerator, below 2²⁴.
pub(crate) const fn numerator(word: u32) -> u32 {
    word & 0x00FF_FFFF
}

/// The shift, -128 to 127.
pub(crate) fn shift(word: u32) -> i32 {
    let [.., shift] = word.to_le_bytes();
    shift.cast_signed().into()
}

/// The number of a word: a product of two f64, exact until it is rounded to f32, which loses nothing either.
pub(crate) fn value(word: u32) -> f32 {
    crate::float::narrow(f64::from(numerator(word)) * power(-shift(word)))
}

/// The word nearest to `value`, ties to even: 0 for what is not positive, the largest f32 for infinity.
pub(crate) fn word(value: f32) -> u32 {
    let value = if value > 0.0 { value.min(f32::MAX) } else { 0.0 };
    // The exponent of the last of 24 bits; subnormals have the smallest.
    let last = i32::try_from(value.to_bits() >> 23).unwrap_or(0).max(1) - 150;
    let shift = (-last).min(127);
    // At most 2²⁴ - 1, whole but below 2⁻¹⁰⁴, where rounding may not reach 2²⁴.
    let numerator = super::calibrate::rne(f64::from(value) * power(shift));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole, below 2²⁴")]
    let numerator = numerator as u32;
    let [low, middle, high, _] = numerator.to_le_bytes();
    let [shift, ..] = shift.to_le_bytes();
    u32::from_le_bytes([low, middle, high, shift])
}

/// 2^exponent, for exponents of normal f64.
fn power(exponent: i32) -> f64 {
    num_traits::Float::powi(2.0_f64, exponent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_float_in_range_is_stored_exactly() {
        let mut bits = 1_u32;
        while bits < f32::INFINITY.to_bits() {
            let x = f32::from_bits(bits);
            let stored = value(word(x));
            if x >= 2.0_f32.powi(-104) {
                assert_eq!(stored, x, "{x:e}");
            } else {
                assert!((f64::from(stored) - f64::from(x)).abs() <= 2.0_f64.powi(-128), "{x:e}");
            }
            assert_eq!(value(word(stored)), stored);
            bits += 65_521;
        }
        for x in [1.0, f32::MAX, f32::MIN_POSITIVE, 2.0_f32.powi(-104), 2.0_f32.powi(-127), 3.0e-39, 0.1] {
            assert!((value(word(x)) - x).abs() <= 2.0_f32.powi(-128), "{x:e}");
        }
        assert_eq!(word(1.0), (23 << 24) + (1 << 23));
        for (x, stored) in [(0.0, 0.0), (-1.0, 0.0), (f32::NAN, 0.0), (f32::INFINITY, f32::MAX)] {
            assert_eq!(value(word(x)), stored);
        }
    }

    #[test]
    fn hostile_words_are_numbers_or_infinite() {
        for (numerator, shift, expected) in [
            (0, -128, 0.0),
            (1, 127, 2.0_f32.powi(-127)),
            (1, -127, 2.0_f32.powi(127)),
            (1, -128, f32::INFINITY),
            ((1 << 24) - 1, -104, f32::MAX),
            ((1 << 24) - 1, -105, f32::INFINITY),
            (3, 1, 1.5),
        ] {
            let word =
                numerator | u32::from_le_bytes([0, 0, 0, i8::try_from(shift).unwrap().cast_unsigned()]);
            assert_eq!(value(word), expected, "{numerator} / 2^{shift}");
        }
    }
}
