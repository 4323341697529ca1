//! Dyadic numbers and rounding multiplication by one.
//!
//! ```text
//! round(x · b / 2^c) = ⌊(x · b + 2^(c-1)) / 2^c⌋        ties toward +∞;  c ≤ 0: x · b · 2^-c
//! ```
//! For x in i32, |x·b| < 2⁶²: for c ≤ 62 the sum stays below 2⁶² + 2⁶¹ < 2⁶³ and is computed in i64; for c > 62 it lies
//! in (0, 2^c), so that the result is 0. For x in i64 the same holds with 2⁹⁴, c ≤ 94 and i128. Left shifts saturate.

use crate::Error;

/// A positive number `b / 2^c`, held with `2³⁰ ≤ b < 2³¹`: equal numbers compare equal.
///
/// The range is 2⁻⁹⁶ ≤ b/2^c < 2⁶², that is -31 ≤ c ≤ 126.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Dyadic {
    multiplier: i32,
    shift: i32,
}

impl Dyadic {
    /// The number 1.
    pub const ONE: Self = Self { multiplier: 1 << 30, shift: 30 };

    /// `multiplier / 2^shift`.
    ///
    /// # Errors
    /// [`Error::DyadicRange`] for a multiplier of 0 or above 2³¹, or a number outside 2⁻⁹⁶ .. 2⁶².
    pub fn new(multiplier: u32, shift: i32) -> Result<Self, Error> {
        let refuse = || Error::DyadicRange { multiplier, shift };
        if multiplier == 0 || multiplier > 1 << 31 {
            return Err(refuse());
        }
        // 2³¹, which a derivation from m = 0.99… rounds up to, becomes 2³⁰ and one shift less.
        let zeros = multiplier.leading_zeros();
        let normal = u64::from(multiplier) << zeros >> 1;
        let shift = shift
            .checked_add_unsigned(zeros)
            .and_then(|shift| shift.checked_sub(1))
            .filter(|shift| (-31..=126).contains(shift));
        match (i32::try_from(normal), shift) {
            (Ok(multiplier), Some(shift)) => Ok(Self { multiplier, shift }),
            _ => Err(refuse()),
        }
    }

    /// `b`, at least 2³⁰ and below 2³¹.
    pub const fn multiplier(self) -> u32 {
        self.multiplier.cast_unsigned()
    }

    /// `c`, the shift to the right.
    pub const fn shift(self) -> i32 {
        self.shift
    }

    /// `round(value · b / 2^c)`, saturating in i64.
    #[inline]
    pub fn scale(self, value: i32) -> i64 {
        let product = i64::from(value) * i64::from(self.multiplier);
        match self.shift {
            63.. => 0,
            c @ 1..=62 => (product + (1 << (c - 1))) >> c,
            // |product| < 2⁶², at most 31 to the left: below 2⁹³.
            c => saturate(i128::from(product) << -c),
        }
    }

    /// [`Dyadic::scale`] of a wider number.
    #[inline]
    pub fn scale_wide(self, value: i64) -> i64 {
        let product = i128::from(value) * i128::from(self.multiplier);
        match self.shift {
            95.. => 0,
            c @ 1..=94 => saturate((product + (1 << (c - 1))) >> c),
            // |product| < 2⁹⁴, at most 31 to the left: below 2¹²⁵.
            c => saturate(product << -c),
        }
    }
}

/// The nearest i64.
fn saturate(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}
