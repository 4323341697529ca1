//! Which whole numbers a code holds.

use crate::Error;

/// Whole numbers of 2 to 8 bits: `-2^(k-1) ..= 2^(k-1) - 1`, or `0 ..= 2^k - 1` for what is never negative (after a
/// ReLU, where the sign would be wasted).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct IntFormat {
    bits: u8,
    signed: bool,
}

impl IntFormat {
    /// -128 ..= 127.
    pub const INT8: Self = Self { bits: 8, signed: true };
    /// 0 ..= 255.
    pub const UINT8: Self = Self { bits: 8, signed: false };
    /// -8 ..= 7.
    pub const INT4: Self = Self { bits: 4, signed: true };
    /// 0 ..= 15.
    pub const UINT4: Self = Self { bits: 4, signed: false };

    /// Numbers of `bits` bits.
    ///
    /// # Errors
    /// [`Error::InvalidLayer`] unless there are 2 to 8 bits.
    pub const fn new(bits: u8, signed: bool) -> Result<Self, Error> {
        if bits < 2 || bits > 8 {
            return Err(Error::InvalidLayer { reason: "codes have 2 to 8 bits" });
        }
        Ok(Self { bits, signed })
    }

    /// Bits of a code.
    pub const fn bits(self) -> u8 {
        self.bits
    }

    /// Whether there are negative numbers.
    pub const fn signed(self) -> bool {
        self.signed
    }

    /// The lowest number.
    pub const fn low(self) -> i16 {
        if self.signed { -(1 << (self.bits - 1)) } else { 0 }
    }

    /// The highest number.
    pub const fn high(self) -> i16 {
        if self.signed { (1 << (self.bits - 1)) - 1 } else { (1 << self.bits) - 1 }
    }

    /// The largest magnitude: at most 255.
    pub const fn magnitude(self) -> u16 {
        if self.signed { 1 << (self.bits - 1) } else { self.high().unsigned_abs() }
    }

    /// The stored byte of the number nearest to `value`, never below `floor`, which is one of the numbers.
    #[inline]
    pub(super) fn saturate(self, value: i64, floor: i16) -> u8 {
        // In -128 ..= 255 after the clamp: the low byte is the number in two's complement, or itself.
        value.clamp(i64::from(floor), i64::from(self.high())).to_le_bytes()[0]
    }

    /// The number of a stored byte.
    #[inline]
    pub(super) fn value(self, byte: u8) -> i16 {
        if self.signed { i16::from(byte.cast_signed()) } else { i16::from(byte) }
    }

    /// The lowest number, or zero for a result that passes a ReLU.
    pub(super) const fn floor(self, relu: bool) -> i16 {
        if relu { 0 } else { self.low() }
    }
}
