//! How values become codes.

pub mod nearest;

use crate::{Error, FloatFormat, Quantized, Scheme};
use rankbit_linalg::faer::MatRef;

/// A rule that chooses scales and codes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum Rounder {
    /// Each entry by itself to the nearest representable value; see [`nearest`].
    #[default]
    Nearest,
}

/// What [`quantize`] returns: the storage and what had to be adjusted.
#[derive(Clone, PartialEq, Debug)]
pub struct Rounded {
    /// The few bits.
    pub quantized: Quantized,
    /// The scale format asked for, when its range was too small for this matrix and f32 was taken instead.
    pub widened_from: Option<FloatFormat>,
}

/// Quantizes `weight` (`[out, in]`, any strides) by `scheme`.
///
/// Codes are chosen against the scales as stored. When the scheme's scale format would lose a scale by its
/// range (overflow, or an error above 2⁻⁸ through underflow), the whole matrix takes f32 scales and the
/// result says so. Cost O(out · in).
///
/// # Errors
/// [`Error::InvalidScheme`], [`Error::GroupSize`], [`Error::TooLarge`] for a scheme that does not work on this
/// shape; [`Error::NonFinite`] naming the first NaN or infinite entry in row order; [`Error::BlockOverflow`] for
/// weights too large for the f16 scales of a block layout.
pub fn quantize(weight: MatRef<'_, f32>, scheme: &Scheme, rounder: Rounder) -> Result<Rounded, Error> {
    match rounder {
        Rounder::Nearest => nearest::quantize(weight, scheme),
    }
}
