//! The element of MXINT8: a fixed-point number of 8 bits, six of them behind the point.
//!
//! ```text
//! value = c / 64,  c the code as two's complement;   encode(x) = clamp(rne(64·x), -127, 127)
//! ```
//! The range is kept symmetric: code -128 (the value -2) is never produced, though it decodes.
//! Source: OCP Microscaling Formats (MX) 1.0, section 5.3.4.

/// Units of one.
const UNITS: f32 = 64.0;

/// Largest value.
pub(crate) const MAX: f32 = 127.0 / UNITS;

/// The value of a code.
pub(crate) fn value(code: u8) -> f32 {
    f32::from(i8::from_le_bytes([code])) / UNITS
}

/// Writes the code of each entry of `scaled` to `codes`.
#[expect(clippy::cast_possible_truncation, reason = "whole, and clamped to -127 ..= 127")]
pub(crate) fn encode(scaled: &[f32], codes: &mut [u8]) {
    for (code, &x) in codes.iter_mut().zip(scaled) {
        let whole = super::int::round_ties_even(x.clamp(-MAX, MAX) * UNITS);
        *code = (whole as i8).to_le_bytes()[0];
    }
}
