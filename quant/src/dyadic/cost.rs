//! What a choice of bits costs a layer, in the three measures that HAWQ-V3's program limits.
//!
//! ```text
//! size         = weights · b bits
//! operations   = MAC · b_w · b_a
//! latency      = overhead + MAC / rate(b)
//! ```
//! The program itself, with sensitivities of any kind, is in the crate `rankbit-lowrank` (`plan::hawq`): a layer there
//! takes `weights` and `macs` of [`Work`] and, per option, [`Speed::nanoseconds`] or a measured table.
//!
//! Source: HAWQ-V3 (arXiv 2011.10680), §3.4.

use crate::Error;

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

/// How fast a device is at a width.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Speed {
    /// Multiply-accumulate operations per second.
    pub rate: f64,
    /// Seconds that a layer takes however small it is.
    pub overhead: f64,
}

impl Speed {
    /// `overhead + MAC / rate` in nanoseconds, rounded up: the whole unit that the program's limits are counted in.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for a rate that is not positive and finite, or an overhead that is negative or not
    /// finite; [`Error::TooLarge`] for more than 2⁶³ nanoseconds.
    pub fn nanoseconds(&self, work: &Work) -> Result<u64, Error> {
        for (what, requirement, found, fine) in [
            ("rate", "positive and finite", self.rate, self.rate > 0.0),
            ("overhead", "at least 0 and finite", self.overhead, self.overhead >= 0.0),
        ] {
            if !fine || !found.is_finite() {
                return Err(Error::InvalidOption { what, requirement, found });
            }
        }
        let nanoseconds = num_traits::Float::ceil((self.overhead + work.macs as f64 / self.rate) * 1e9);
        if nanoseconds < 9.2e18 {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole, 0 to 2⁶³")]
            return Ok(nanoseconds as u64);
        }
        Err(Error::TooLarge { what: "latency" })
    }
}

fn product(factors: &[u64]) -> Result<u64, Error> {
    let product = factors.iter().try_fold(1_u64, |product, &factor| product.checked_mul(factor));
    product.ok_or(Error::TooLarge { what: "count of operations" })
}
