//! Floats of 4, 6 and 8 bits: sign, exponent, mantissa, as the Open Compute Project defines them.
//!
//! ```text
//! code = s · e · f  (E exponent bits e, M mantissa bits f, bias β)
//! e > 0:  value = (-1)^s · 2^(e-β) · (1 + f/2^M)
//! e = 0:  value = (-1)^s · 2^(1-β) · f/2^M
//! encode(x) = the nearest finite value, ties to the even code; beyond the largest one, the largest
//! ```
//! | format | E | M | β | largest | smallest | not numbers |
//! |---|---|---|---|---|---|---|
//! | E2M1 | 2 | 1 | 1 | 6 | 0.5 | none |
//! | E2M3 | 2 | 3 | 1 | 7.5 | 2⁻³ | none |
//! | E3M2 | 3 | 2 | 3 | 28 | 2⁻⁴ | none |
//! | E4M3 | 4 | 3 | 7 | 448 | 2⁻⁹ | 0x7F and 0xFF (NaN); no infinity: the variant called FN |
//! | E5M2 | 5 | 2 | 15 | 57344 | 2⁻¹⁶ | exponent all ones: infinity, NaN |
//!
//! The sign of a zero is kept. Sources: OCP 8-bit Floating Point (OFP8) 1.0, OCP Microscaling Formats (MX) 1.0.

/// A small float format.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
pub enum MiniFloat {
    /// FP4.
    E2m1,
    /// FP6 with the finer mantissa.
    E2m3,
    /// FP6 with the wider range.
    E3m2,
    /// FP8 with the finer mantissa (E4M3FN).
    E4m3,
    /// FP8 with the wider range.
    E5m2,
}

impl MiniFloat {
    /// Every format.
    pub const ALL: [Self; 5] = [Self::E2m1, Self::E2m3, Self::E3m2, Self::E4m3, Self::E5m2];

    /// Exponent bits E.
    pub const fn exponent_bits(self) -> u8 {
        match self {
            Self::E2m1 | Self::E2m3 => 2,
            Self::E3m2 => 3,
            Self::E4m3 => 4,
            Self::E5m2 => 5,
        }
    }

    /// Mantissa bits M.
    pub const fn mantissa_bits(self) -> u8 {
        match self {
            Self::E2m1 => 1,
            Self::E3m2 | Self::E5m2 => 2,
            Self::E2m3 | Self::E4m3 => 3,
        }
    }

    /// What the stored exponent exceeds the real one by: 2^(E-1) - 1.
    pub const fn bias(self) -> u8 {
        (1 << (self.exponent_bits() - 1)) - 1
    }

    /// Bits of one code: 1 + E + M.
    pub const fn bits(self) -> usize {
        1 + self.exponent_bits() as usize + self.mantissa_bits() as usize
    }

    /// The code of the largest finite value. Codes above it, sign aside, are not numbers.
    pub const fn last(self) -> u8 {
        match self {
            Self::E4m3 => 0x7E,
            Self::E5m2 => 0x7B,
            Self::E2m1 | Self::E2m3 | Self::E3m2 => (1 << (self.bits() - 1)) - 1,
        }
    }

    /// The largest finite value.
    pub fn max(self) -> f32 {
        self.value(self.last())
    }

    /// The value of a code; bits above the format's are ignored. NaN and infinities as the table above says.
    pub fn value(self, code: u8) -> f32 {
        let (mantissa, sign) = (self.mantissa_bits(), 1_u8 << (self.bits() - 1));
        let magnitude = code & (sign - 1);
        let value = if magnitude > self.last() {
            if self == Self::E5m2 && magnitude == self.last() + 1 { f32::INFINITY } else { f32::NAN }
        } else {
            let exponent = magnitude >> mantissa;
            let fraction = magnitude & ((1 << mantissa) - 1);
            // In units of 2^(1-β-M): exact, since it is below 2^(M+1) times a power of two.
            let whole = if exponent == 0 { fraction } else { fraction | (1 << mantissa) };
            f32::from(whole)
                * power(i32::from(exponent.max(1)) - i32::from(self.bias()) - i32::from(mantissa))
        };
        if code & sign == 0 { value } else { -value }
    }

    /// The code of the finite value nearest to `x`; see the module. NaN becomes the largest value of its sign:
    /// who must not lose it checks before.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole, and at most 2^(M+1) above an exponent of at most 2^E - 1"
    )]
    #[inline]
    pub fn encode(self, x: f32) -> u8 {
        let (mantissa, bias) = (i32::from(self.mantissa_bits()), i32::from(self.bias()));
        let sign = if x.is_sign_negative() { 1_u8 << (self.bits() - 1) } else { 0 };
        let magnitude = x.abs();
        if magnitude.is_nan() || magnitude >= self.max() {
            return sign | self.last();
        }
        let exponent = ((magnitude.to_bits() >> 23) as i32 - 127).max(1 - bias);
        // Whole numbers of the spacing at x; 2^M ..= 2^(M+1), below 2^M only where e = 0. A carry into the next
        // exponent is the right code by itself.
        let whole = super::int::round_ties_even(magnitude * power(mantissa - exponent)) as i32;
        sign | (((exponent + bias - 1) << mantissa) + whole) as u8
    }
}

/// 2^`exponent` for exponents of normal f32.
#[expect(clippy::cast_sign_loss, reason = "callers stay within -126 ..= 127")]
fn power(exponent: i32) -> f32 {
    f32::from_bits(((exponent + 127) as u32) << 23)
}

/// Writes the code of each entry of `scaled` to `codes`.
pub(crate) fn encode(scaled: &[f32], format: MiniFloat, codes: &mut [u8]) {
    for (code, &x) in codes.iter_mut().zip(scaled) {
        *code = format.encode(x);
    }
}
