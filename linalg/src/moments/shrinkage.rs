//! Second moments of few tokens, drawn towards a multiple of the identity.
//!
//! ```text
//! S = XᵀX/n, p×p     µ = tr S/p     S* = (1 − ρ)·S + ρ·µ·I     0 ≤ ρ ≤ 1
//!
//! Ledoit-Wolf                     ρ = min(1, (mean‖x‖⁴ − ‖S‖²)/(n·(‖S‖² − p·µ²)))
//! oracle approximating (OAS)      ρ = min(1, ((1 − 2/p)·‖S‖² + tr²S)/((n + 1 − 2/p)·(‖S‖² − tr²S/p)))
//! ```
//! ρ is 1 where S is a multiple of the identity already. Both minimize an estimate of `E‖S* − E[xxᵀ]‖²`; the trace is
//! kept, the condition number never grows, and with ρ > 0 and S ≠ 0 the result is positive definite for any number of
//! tokens. Moments about zero: nothing is centred.
//!
//! Sources: O. Ledoit, M. Wolf, *A well-conditioned estimator for large-dimensional covariance matrices* (J. Multivariate
//! Anal. 88, 2004), section 3.2; Y. Chen, A. Wiesel, Y. Eldar, A. Hero, *Shrinkage algorithms for MMSE covariance
//! estimation* (IEEE Trans. Signal Process. 58, 2010), equation 23.

use faer::Mat;

use super::Moments;
use crate::{Error, dense};

/// How far a Gram matrix is drawn to the identity.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Shrinkage {
    /// Not at all: ρ = 0.
    #[default]
    None,
    /// By this ρ between 0 and 1.
    Fixed(f64),
    /// As Ledoit and Wolf estimate it, for any distribution with fourth moments.
    LedoitWolf,
    /// As Chen and others estimate it, for Gaussian inputs; needs no fourth moments.
    OracleApproximating,
}

/// A shrunk Gram matrix; from [`Moments::shrunk`].
#[derive(Debug, Clone, PartialEq)]
pub struct Shrunk {
    /// S*, in×in.
    pub gram: Mat<f64>,
    /// ρ.
    pub weight: f64,
    /// µ, the mean of the diagonal.
    pub mean_diagonal: f64,
}

impl Moments {
    /// The Gram matrix shrunk towards a multiple of the identity; see [`Shrinkage`] and, for a metric,
    /// [`Metric::gram`](crate::Metric::gram). O(in²).
    ///
    /// # Errors
    /// [`Error::MissingMoment`] `gram`, `tokens` (where ρ is estimated; also without any token) or `fourth_moment`
    /// (Ledoit-Wolf on moments computed elsewhere); [`Error::InvalidOption`] for a fixed ρ outside 0 … 1.
    pub fn shrunk(&self, shrinkage: Shrinkage) -> Result<Shrunk, Error> {
        let mut gram = self.gram()?.to_owned();
        let p = gram.nrows() as f64;
        // A power of two, so that no square over- or underflows.
        let largest = dense::largest_modulus(gram.as_ref(), "gram")?;
        let scale = dense::power_of_two(if largest > 0.0 { -libm::frexp(largest).1 } else { 0 });
        let trace: f64 = gram.diagonal().column_vector().iter().map(|value| value * scale).sum();
        let mean = if p > 0.0 { trace / p } else { 0.0 };
        let norm: f64 =
            gram.col_iter().flat_map(|column| column.iter()).map(|g| (g * scale) * (g * scale)).sum();
        let tokens = || match self.parts.tokens {
            Some(tokens) if tokens > 0 => Ok(tokens as f64),
            _ => Err(Error::MissingMoment { name: "tokens" }),
        };
        let share = |above: f64, below: f64| {
            let ratio = above.max(0.0) / below;
            if below > 0.0 && ratio < 1.0 { ratio } else { 1.0 }
        };
        let weight = match shrinkage {
            Shrinkage::None => 0.0,
            Shrinkage::Fixed(weight) if (0.0..=1.0).contains(&weight) => weight,
            Shrinkage::Fixed(found) => {
                return Err(Error::InvalidOption {
                    what: "shrinkage",
                    requirement: "between 0 and 1",
                    found,
                });
            }
            Shrinkage::LedoitWolf => {
                let fourth = self.fourth.ok_or(Error::MissingMoment { name: "fourth_moment" })?;
                share(fourth * scale * scale - norm, tokens()? * (norm - trace * mean))
            }
            Shrinkage::OracleApproximating => {
                let less = if p > 0.0 { 2.0 / p } else { 0.0 };
                let above = (1.0 - less) * norm + trace * trace;
                share(above, (tokens()? + 1.0 - less) * (norm - trace * mean))
            }
        };
        let mean_diagonal = mean / scale;
        for (j, column) in gram.col_iter_mut().enumerate() {
            for (i, value) in column.iter_mut().enumerate() {
                *value = *value * (1.0 - weight) + if i == j { weight * mean_diagonal } else { 0.0 };
            }
        }
        Ok(Shrunk { gram, weight, mean_diagonal })
    }
}
