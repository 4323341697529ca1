//! How many directions a matrix of features really has: the numerical rank, and two that need no threshold.
//!
//! ```text
//! σ: the singular values, descending       p = σ/Σσ
//! numerical rank   #{i: σᵢ > tolerance·σ₁}
//! effective rank   exp(-Σ pᵢ·ln pᵢ)
//! stable rank      Σσ²/σ₁²
//! ```
//! All are 0 for a matrix of zeros; each is at most the number of singular values that are not 0. Cost:
//! O(tokens·dim·min(tokens, dim)) per head.
//!
//! Sources: Roy, Vetterli, *The effective rank*, EUSIPCO 2007, equation 7; the numerical rank as in Fan, Huang, He, *Breaking the
//! low-rank dilemma of linear attention*, arXiv 2411.07635, figure 1, which names no threshold.

use alloc::vec::Vec;

use rankbit_linalg::faer::Mat;
use rankbit_linalg::singular_values;

use crate::tensor::each;
use crate::{Element, Error, View};

/// The ranks of one matrix; see the [module](self).
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rank {
    /// Singular values above the tolerance times the largest.
    pub numerical: usize,
    /// The exponential of the entropy of σ/Σσ.
    pub effective: f64,
    /// Σσ²/σ₁².
    pub stable: f64,
}

/// Ranks of the tokens×dim matrix of each batch entry and head, in order; see the [module](self).
///
/// ```
/// use rankbit_attention::{View, ranks};
/// // Two tokens that are multiples of each other.
/// let features = View::contiguous(&[1.0, 2.0, 3.0, 6.0], [1, 1, 2, 2])?;
/// assert_eq!(ranks(features, 1e-6)?[0].numerical, 1);
/// # Ok::<(), rankbit_attention::Error>(())
/// ```
///
/// # Errors
/// [`Error::NonFinite`] for NaN and infinities; [`Error::InvalidOption`] for a tolerance outside `0 ≤ tolerance < 1`;
/// [`Error::Linalg`] should the decomposition fail.
pub fn ranks<T: Element>(features: View<'_, T>, tolerance: f64) -> Result<Vec<Rank>, Error> {
    if !(0.0..1.0).contains(&tolerance) {
        let requirement = "at least 0 and below 1";
        return Err(Error::InvalidOption { what: "tolerance", requirement, found: tolerance });
    }
    features.check_finite("features")?;
    let [batch, heads, tokens, dim] = features.shape();
    let one = |(b, h, _)| {
        let matrix = Mat::from_fn(tokens, dim, |i, j| features.at([b, h, i, j]).to_f64());
        Ok(of(&singular_values(matrix.as_ref())?, tolerance))
    };
    each(batch, heads, 1).map(one).collect()
}

/// From singular values in descending order.
fn of(values: &[f64], tolerance: f64) -> Rank {
    let largest = values.first().copied().unwrap_or(0.0);
    if largest <= 0.0 {
        return Rank { numerical: 0, effective: 0.0, stable: 0.0 };
    }
    // Relative to the largest, so that no sum or square overflows.
    let relative = || values.iter().map(|x| x / largest);
    let sum: f64 = relative().sum();
    let entropy: f64 =
        relative().filter(|&x| x > 0.0).map(|x| -x / sum * num_traits::Float::ln(x / sum)).sum();
    Rank {
        numerical: relative().filter(|&x| x > tolerance).count(),
        effective: num_traits::Float::exp(entropy),
        stable: relative().map(|x| x * x).sum(),
    }
}
