//! What the codes of an activation stand for, and the range that it follows from.

use crate::Error;
use crate::dyadic::integer::{IntFormat, Shape, Tensor};
use alloc::vec::Vec;
use num_traits::Float;

/// `x ≈ scale · code`, with codes of a format.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Activation {
    scale: f32,
    format: IntFormat,
}

impl Activation {
    /// Codes that each stand for this multiple of `scale`.
    ///
    /// # Errors
    /// [`Error::DyadicScale`] for a scale that is NaN, infinite, zero, negative or subnormal.
    pub fn new(scale: f32, format: IntFormat) -> Result<Self, Error> {
        if scale.is_normal() && scale > 0.0 {
            Ok(Self { scale, format })
        } else {
            Err(Error::DyadicScale { what: "activation scale", index: 0, found: scale.into() })
        }
    }

    /// Codes whose highest stands for `absmax`: `S = absmax / (2^(k-1) - 1)` for signed formats, and
    /// `S = absmax / (2^k - 1)` for unsigned ones.
    ///
    /// # Errors
    /// As [`Activation::new`] for the scale.
    pub fn from_absmax(absmax: f32, format: IntFormat) -> Result<Self, Error> {
        Self::new(absmax / f32::from(format.high()), format)
    }

    /// What one unit stands for.
    pub const fn scale(&self) -> f32 {
        self.scale
    }

    /// The format of the codes.
    pub const fn format(&self) -> IntFormat {
        self.format
    }

    /// The nearest codes, ties to even, saturated in the format.
    ///
    /// # Errors
    /// [`Error::StoredNonFinite`] for NaN or an infinity; those of [`Tensor::new`].
    #[expect(clippy::cast_possible_truncation, reason = "clamped to a format of at most 8 bits")]
    pub fn quantize(&self, shape: Shape, values: &[f32]) -> Result<Tensor, Error> {
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return Err(Error::StoredNonFinite { what: "activations", index });
        }
        let (low, high) = (f64::from(self.format.low()), f64::from(self.format.high()));
        let code = |&value: &f32| rne(f64::from(value) / f64::from(self.scale)).clamp(low, high) as i32;
        Tensor::new(shape, self.format, &values.iter().map(code).collect::<Vec<_>>())
    }

    /// The numbers that the codes stand for.
    pub fn dequantize(&self, codes: &Tensor) -> Vec<f32> {
        codes.values().map(|code| f32::from(code) * self.scale).collect()
    }
}

/// The range that an activation was seen in.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    low: f32,
    high: f32,
    momentum: Option<f32>,
    seen: bool,
}

impl Observed {
    /// The smallest and largest of everything seen.
    pub const fn extremes() -> Self {
        Self { low: 0.0, high: 0.0, momentum: None, seen: false }
    }

    /// The running mean of each batch's smallest and largest: `range ← momentum·range + (1 - momentum)·batch`, from the
    /// first batch's. HAWQ trains with 0.95.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for a momentum outside 0 .. 1.
    pub fn running(momentum: f32) -> Result<Self, Error> {
        if (0.0..1.0).contains(&momentum) {
            Ok(Self { momentum: Some(momentum), ..Self::extremes() })
        } else {
            let requirement = "at least 0 and below 1";
            Err(Error::InvalidOption { what: "momentum", requirement, found: momentum.into() })
        }
    }

    /// Takes a batch into account; an empty one is none.
    ///
    /// # Errors
    /// [`Error::StoredNonFinite`] for NaN or an infinity.
    pub fn see(&mut self, values: &[f32]) -> Result<(), Error> {
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return Err(Error::StoredNonFinite { what: "activations", index });
        }
        if values.is_empty() {
            return Ok(());
        }
        let low = values.iter().copied().fold(f32::INFINITY, f32::min);
        let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        (self.low, self.high) = match (self.seen, self.momentum) {
            (false, _) => (low, high),
            (true, None) => (self.low.min(low), self.high.max(high)),
            (true, Some(m)) => (m * self.low + (1.0 - m) * low, m * self.high + (1.0 - m) * high),
        };
        self.seen = true;
        Ok(())
    }

    /// The smallest and largest value, or their running means; zeros when nothing was seen.
    pub const fn range(&self) -> (f32, f32) {
        (self.low, self.high)
    }

    /// Codes that cover the range: unsigned when nothing was negative, else signed. An activation that was always zero
    /// takes the scale 1.
    ///
    /// # Errors
    /// [`Error::InvalidLayer`] unless `bits` is 2 to 8, [`Error::DyadicScale`] for a range so small that its scale is
    /// subnormal.
    pub fn activation(&self, bits: u8) -> Result<Activation, Error> {
        let format = IntFormat::new(bits, self.low < 0.0)?;
        let absmax = self.high.max(-self.low);
        if absmax == 0.0 { Activation::new(1.0, format) } else { Activation::from_absmax(absmax, format) }
    }
}

/// To the nearest whole number, ties to even.
pub(in crate::dyadic) fn rne(x: f64) -> f64 {
    // 1.5·2⁵²: below 2⁵¹ the sum's unit in the last place is 1. Beyond, every f64 is whole or clamped by the caller.
    const ROUNDING: f64 = 6_755_399_441_055_744.0;
    if Float::abs(x) < 2_251_799_813_685_248.0 { (x + ROUNDING) - ROUNDING } else { x }
}
