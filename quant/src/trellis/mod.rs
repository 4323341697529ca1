//! Trellis codes: a column of weights, down the outputs, is one path through a graph of 2^L states.
//!
//! ```text
//! s_i = (s_{i−1} << k | c_i) mod 2^L        c_i: the k bits of weight i;   ŵ_ij = rs_i · ts_j · T[s_i]
//! ```
//! A weight's value depends on the last L bits of the column, of which only k are its own: 2^L values at the price of
//! 2^k, and any weight decodes by itself. The path is closed to a ring, so that no initial state is stored. Relative
//! errors on normal values, against 2^−k for any code whatever, and the best scalar code of 2^k values:
//!
//! | | k = 1 | 2 | 3 | 4 | 5 |
//! |---|---|---|---|---|---|
//! | limit 2^−k | 0.5 | 0.25 | 0.125 | 0.0625 | 0.0313 |
//! | L = 12 | 0.5294 | 0.2655 | 0.1347 | 0.0688 | 0.0353 |
//! | L = 10 | 0.5320 | 0.2692 | 0.1376 | 0.0716 | 0.0391 |
//! | L = 8 | 0.5372 | 0.2760 | 0.1435 | 0.0792 | 0.0471 |
//! | scalar (Lloyd-Max) | 0.6028 | 0.3428 | 0.1858 | 0.0975 | 0.0500 |
//!
//! [`table`]: the values; [`stream`]: where the bits lie; [`viterbi`]: the encoder; [`decode`]: the decoder;
//! [`rates`]: bits for each column under a budget. Source: QTIP, arXiv 2406.11235. Deviations: the table in Weyl order,
//! streams down whole columns instead of 16 x 16 tiles, a rate for each column.

pub mod decode;
pub mod rates;
pub mod stream;
pub mod table;
pub mod viterbi;

use crate::Error;

/// A trellis code.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Trellis {
    /// Bits of a state, L: 8 to 16. Encoding costs 2^L steps a weight.
    pub window: u8,
    /// Bits of a weight, k.
    pub rate: Rate,
}

/// How many bits a weight has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum Rate {
    /// The same in every column, 1 to 8.
    Uniform(u8),
    /// 0 to 8 in each column, as few bits as the matrix may have and as well spent as [`rates`] knows: the stored bits
    /// of a weight, scales and everything else counted, in units of 2⁻¹⁶ bits.
    Budget(u32),
}

impl Rate {
    /// A budget of `bits` a weight, rounded down to 2⁻¹⁶; 0 for what is not positive.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, as documented")]
    pub fn budget(bits: f64) -> Self {
        Self::Budget((bits * 65536.0) as u32)
    }

    /// Bits of a weight: of its code when uniform, in all for a budget.
    pub fn bits(self) -> f64 {
        match self {
            Self::Uniform(rate) => f64::from(rate),
            Self::Budget(units) => f64::from(units) / 65536.0,
        }
    }
}

impl Trellis {
    /// Bits of a weight's code, or the whole bits of a budget.
    pub(crate) const fn bits(self) -> usize {
        match self.rate {
            Rate::Uniform(rate) => rate as usize,
            Rate::Budget(units) => (units >> 16) as usize,
        }
    }

    /// Whether window and rate are in their ranges.
    ///
    /// # Errors
    /// [`Error::InvalidScheme`].
    pub(crate) const fn check(self) -> Result<(), Error> {
        if self.window < 8 || self.window > 16 {
            return Err(Error::InvalidScheme { reason: "a trellis has windows of 8 to 16 bits" });
        }
        match self.rate {
            Rate::Uniform(1..=8) | Rate::Budget(_) => Ok(()),
            Rate::Uniform(_) => Err(Error::InvalidScheme { reason: "a trellis has 1 to 8 bits a weight" }),
        }
    }
}
