//! What a choice of bits costs: the three limits of HAWQ-V3's program.
//!
//! ```text
//! minimize Σ_i Ω_i(b_i)   subject to   Σ size_i(b_i) ≤ S,  Σ bops_i(b_i) ≤ B,  Σ latency_i(b_i) ≤ T
//! size_i(b)    = weights · b / 8 bytes
//! bops_i(b)    = MAC · b_w · b_a
//! latency_i(b) = overhead + MAC / rate(b)          measured per device, or a table of the caller's
//! ```
//! Ω is the caller's sensitivity: HAWQ's `(Tr(H)/n)·‖Q_b(W) - W‖²`, or any other. Layers whose outputs meet in a residual
//! addition share their bits; the first and the last layer keep 8.
//!
//! Source: HAWQ-V3 (arXiv 2011.10680), §3.4, eq. 7 to 10.

use crate::Error;
use alloc::vec::Vec;

/// What a layer computes, whatever its bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Work {
    /// Multiply-accumulate operations for one input.
    pub macs: u64,
    /// Stored weights.
    pub weights: u64,
}

impl Work {
    /// A linear layer `[out, in]` over `tokens` inputs.
    ///
    /// # Errors
    /// [`Error::TooLarge`] when a count overflows.
    pub fn linear((out, features): (u64, u64), tokens: u64) -> Result<Self, Error> {
        let weights = product(&[out, features])?;
        Ok(Self { macs: product(&[weights, tokens])?, weights })
    }

    /// A convolution of weights `[out, in / groups, height, width]` with `(height, width)` outputs.
    ///
    /// # Errors
    /// [`Error::TooLarge`] when a count overflows.
    pub fn conv2d(weights: [u64; 4], outputs: (u64, u64)) -> Result<Self, Error> {
        let weights = product(&weights)?;
        Ok(Self { macs: product(&[weights, outputs.0, outputs.1])?, weights })
    }

    /// `MAC · b_w · b_a`.
    ///
    /// # Errors
    /// [`Error::TooLarge`] when it overflows.
    pub fn bit_operations(&self, weight_bits: u8, activation_bits: u8) -> Result<u64, Error> {
        product(&[self.macs, weight_bits.into(), activation_bits.into()])
    }

    /// Bits of the stored weights; an eighth of it are bytes.
    ///
    /// # Errors
    /// [`Error::TooLarge`] when it overflows.
    pub fn size(&self, bits: u8) -> Result<u64, Error> {
        product(&[self.weights, bits.into()])
    }
}

/// How fast a device is at a width: `seconds = overhead + MAC / rate`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Speed {
    /// Bits of weights and activations.
    pub bits: u8,
    /// Multiply-accumulate operations per second.
    pub rate: f64,
    /// Seconds that a layer takes however small it is.
    pub overhead: f64,
}

/// What one layer costs at one width.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Cost {
    /// Bits of weights and activations.
    pub bits: u8,
    /// Bits of the stored weights.
    pub size: u64,
    /// Bit operations for one input.
    pub bit_operations: u64,
    /// Seconds for one input.
    pub latency: f64,
}

/// The costs of a layer, one per speed: a row of the program, weights and activations sharing their bits.
///
/// # Errors
/// [`Error::TooLarge`] when a count overflows; [`Error::InvalidOption`] for a rate that is not positive and finite, or
/// an overhead that is negative or not finite.
pub fn costs(work: Work, speeds: &[Speed]) -> Result<Vec<Cost>, Error> {
    let cost = |speed: &Speed| {
        for (what, requirement, found, fine) in [
            ("rate", "positive and finite", speed.rate, speed.rate > 0.0),
            ("overhead", "at least 0 and finite", speed.overhead, speed.overhead >= 0.0),
        ] {
            if !fine || !found.is_finite() {
                return Err(Error::InvalidOption { what, requirement, found });
            }
        }
        Ok(Cost {
            bits: speed.bits,
            size: work.size(speed.bits)?,
            bit_operations: work.bit_operations(speed.bits, speed.bits)?,
            latency: speed.overhead + work.macs as f64 / speed.rate,
        })
    };
    speeds.iter().map(cost).collect()
}

/// A limit between two totals, as HAWQ-V3 states its limits: `low + fraction·(high - low)`, with fractions ¼, ½ and ¾
/// between all layers at 4 and all at 8 bits.
///
/// # Errors
/// [`Error::InvalidOption`] for a fraction outside 0 ..= 1.
pub fn between(low: f64, high: f64, fraction: f64) -> Result<f64, Error> {
    if (0.0..=1.0).contains(&fraction) {
        Ok(low + fraction * (high - low))
    } else {
        Err(Error::InvalidOption { what: "fraction", requirement: "0 to 1", found: fraction })
    }
}

fn product(factors: &[u64]) -> Result<u64, Error> {
    let product = factors.iter().try_fold(1_u64, |product, &factor| product.checked_mul(factor));
    product.ok_or(Error::TooLarge { what: "count of operations" })
}
