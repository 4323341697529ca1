//! Zero points: what a stored code is shifted by before scaling.
//!
//! ```text
//! ŵ = s · (code - z)
//!
//! integer:   z = c                                        c as wide as a code
//! float:     z any number of a float format
//! fraction:  z = (2^k - 1)/2 + (c - 2^(b-1)) · 2^-f       c of b bits, codes of k bits, f fraction bits
//! ```
//! A fraction's zero points lie around the middle of the codes, whole numbers among them when f ≥ 1. In a group of
//! few entries the fraction is worth more than the range: it moves the whole grid by parts of a step.

use crate::{Code, Error, FloatFormat, Floats, code, float, pack as bits_of};
use alloc::{vec, vec::Vec};

/// What a stored code is shifted by before scaling.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum ZeroPoint {
    /// Nothing: `value = s · code value`.
    None,
    /// A whole number as wide as a code: `value = s · (code - z)`, `z = rne(-lo / s)`.
    Integer,
    /// A minimum beside each scale, stored in the block: `value = s · code + m`. Block layouts only.
    Min,
    /// A float of this format (f32, f16 or bf16): `value = s · (code - z)`, `z = -lo / s`, as HQQ stores it.
    Float(FloatFormat),
    /// A fixed-point number around the middle of the codes: `value = s · (code - z)`,
    /// `z = (2^k - 1)/2 + (c - 2^(bits-1)) · 2^-fraction` for codes of k bits.
    Fraction {
        /// Width of the stored number c, 1 to 8.
        bits: u8,
        /// Bits behind the point, 0 to 8.
        fraction: u8,
    },
}

impl ZeroPoint {
    /// Bits of one stored zero point beside codes of `code`; 0 where none is stored, or inside a block.
    pub const fn bits(self, code: Code) -> usize {
        match self {
            Self::None | Self::Min => 0,
            Self::Integer => code.bits(),
            Self::Float(format) => format.bits(),
            Self::Fraction { bits, .. } => bits as usize,
        }
    }

    /// Whether it shifts whole codes beside a scale: what unsigned integers take.
    pub(crate) const fn shifts(self) -> bool {
        matches!(self, Self::Integer | Self::Float(_) | Self::Fraction { .. })
    }

    /// The scale under which the codes span `low ..= high` (`low ≤ 0 ≤ high`), given the zero points that there are.
    pub(crate) fn spanning(self, code: Code, (low, high): (f64, f64)) -> f64 {
        let top = f64::from(code.max());
        let plain = (high - low) / top;
        match self {
            Self::Fraction { bits, fraction } => {
                let first = first(code, bits, fraction);
                let (first, last) = (f64::from(first), f64::from(first + last(bits) * step(fraction)));
                let above = if first < top { high / (top - first) } else { 0.0 };
                let below = if last > 0.0 { -low / last } else { 0.0 };
                plain.max(above).max(below)
            }
            _ => plain,
        }
    }

    /// The number of a stored zero point, for those that are stored as a few bits.
    pub(crate) fn value(self, code: Code, stored: u8) -> f32 {
        match self {
            Self::None | Self::Min | Self::Float(_) => 0.0,
            Self::Integer => f32::from(stored),
            Self::Fraction { bits, fraction } => {
                first(code, bits, fraction) + f32::from(stored) * step(fraction)
            }
        }
    }

    /// The few bits of `zero`, which [`ZeroPoint::round`] or [`ZeroPoint::value`] gave.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole and clamped to 0 ..= 255"
    )]
    pub(crate) fn stored(self, code: Code, zero: f32) -> u8 {
        match self {
            Self::None | Self::Min | Self::Float(_) => 0,
            Self::Integer => code::int::round_ties_even(zero.clamp(0.0, code.max())) as u8,
            Self::Fraction { bits, fraction } => {
                let place = (zero - first(code, bits, fraction)) / step(fraction);
                code::int::round_ties_even(place.clamp(0.0, last(bits))) as u8
            }
        }
    }

    /// The zero point nearest to `wanted` that can be stored; ties to even.
    pub(crate) fn round(self, code: Code, wanted: f64) -> f32 {
        match self {
            Self::None | Self::Min => 0.0,
            Self::Integer => {
                code::int::round_ties_even(float::narrow(wanted.clamp(0.0, f64::from(code.max()))))
            }
            Self::Float(format) => {
                // Nothing is gained by a zero point further out, and every format holds this one.
                format.round(wanted.clamp(-32768.0, 32768.0))
            }
            Self::Fraction { bits, fraction } => {
                let first = first(code, bits, fraction);
                let place = (wanted - f64::from(first)) / f64::from(step(fraction));
                let place =
                    code::int::round_ties_even(float::narrow(place.clamp(0.0, f64::from(last(bits)))));
                first + place * step(fraction)
            }
        }
    }
}

/// Zero points as they are stored, one after another.
pub(crate) fn pack(
    code: Code,
    zero: ZeroPoint,
    values: impl ExactSizeIterator<Item = f32>,
) -> Result<Vec<u8>, Error> {
    match zero {
        ZeroPoint::None | ZeroPoint::Min => Ok(Vec::new()),
        ZeroPoint::Float(format) => {
            let mut floats = Floats::with_capacity(format, values.len());
            for value in values {
                floats.push(f64::from(value));
            }
            Ok(floats.to_bytes())
        }
        ZeroPoint::Integer | ZeroPoint::Fraction { .. } => {
            let numbers: Vec<u8> = values.map(|value| zero.stored(code, value)).collect();
            let bits = zero.bits(code);
            let too_large = Error::TooLarge { what: "zero points" };
            let mut packed = vec![0; bits_of::packed_len(numbers.len(), bits).ok_or(too_large)?];
            bits_of::pack(&numbers, bits, &mut packed);
            Ok(packed)
        }
    }
}

/// The zero point of stored number 0.
fn first(code: Code, bits: u8, fraction: u8) -> f32 {
    code.max() / 2.0 - f32::from(1_u16 << (bits.clamp(1, 8) - 1)) * step(fraction)
}

/// The largest stored number.
fn last(bits: u8) -> f32 {
    f32::from((1_u16 << bits.clamp(1, 8)) - 1)
}

/// 2^-fraction.
fn step(fraction: u8) -> f32 {
    1.0 / f32::from(1_u16 << fraction.min(8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stored_zero_point_comes_back() {
        for k in 2..=8 {
            let code = Code::Int { bits: k, signed: false };
            let kinds =
                (1..=8).flat_map(|bits| (0..=8).map(move |fraction| ZeroPoint::Fraction { bits, fraction }));
            for zero in kinds.chain([ZeroPoint::Integer]) {
                for stored in (0..=u8::MAX).take(1 << zero.bits(code)) {
                    let value = zero.value(code, stored);
                    assert_eq!(zero.stored(code, value), stored, "{zero:?} of {code:?}");
                    assert_eq!(zero.round(code, f64::from(value)), value, "{zero:?} of {code:?}");
                }
            }
        }
        // Four bits, half steps, around 7.5: 3.5, 4, … 11.
        let zero = ZeroPoint::Fraction { bits: 4, fraction: 1 };
        let code = Code::Int { bits: 4, signed: false };
        assert_eq!([0, 1, 15].map(|c| zero.value(code, c)), [3.5, 4.0, 11.0]);
        assert_eq!([f64::NEG_INFINITY, 7.8, 7.7, 99.0].map(|z| zero.round(code, z)), [3.5, 8.0, 7.5, 11.0]);
    }
}
