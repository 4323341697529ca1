//! Robust principal component analysis: a low-rank matrix plus a sparse one.
//!
//! ```text
//! minimize ‖L‖_* + λ·‖S‖₁   subject to   L + S = A            A: m×n,  λ = 1/√max(m, n) unless asked
//!
//! 1.  L = shrink the singular values of A - S + Y/μ by 1/μ
//! 2.  S = shrink the entries of A - L + Y/μ by λ/μ
//! 3.  Y += μ·(A - L - S);   where S has settled, μ·‖S - S_before‖ ≤ 1e-5·‖A‖:  μ = min(ρ·μ, μ_max),
//!     and the end once ‖A - L - S‖ ≤ tolerance·‖A‖
//! ```
//! When L is of low rank with spread singular vectors and S's non-zeros lie anywhere, both are recovered exactly (Candès,
//! Li, Ma, Wright, arXiv 0912.3599, theorem 1.1). Source of the steps: inexact augmented Lagrangian multipliers, Lin,
//! Chen, Ma, arXiv 1009.5055, algorithm 5; μ's growth waits for S there too. Without the wait, 13 of 200 random 40…70
//! matrices of rank ≤ 3 with 5 % of large entries ended at another L (too high a rank), with it none of 1000.
//!
//! Cost: a thin singular value decomposition an iteration, some 40 iterations and rarely some hundreds; in f64.

use faer::{Mat, MatRef};

use crate::svd::small::thin;
use crate::{Error, Scalar, dense};

/// Options of [`robust_pca`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RobustOptions {
    /// Weight λ of the sparse term, positive; `None` for `1/√max(m, n)`.
    pub weight: Option<f64>,
    /// Relative size of what may remain of the constraint, positive.
    pub tolerance: f64,
    /// Iterations at most.
    pub iterations: u32,
}

impl Default for RobustOptions {
    fn default() -> Self {
        Self { weight: None, tolerance: 1e-7, iterations: 1000 }
    }
}

/// What [`robust_pca`] finds.
#[derive(Clone, Debug)]
pub struct Robust {
    /// L.
    pub low_rank: Mat<f64>,
    /// S.
    pub sparse: Mat<f64>,
    /// Singular values of L that are not zero.
    pub rank: usize,
    /// Entries of S that are not zero.
    pub nonzeros: usize,
    /// Iterations run.
    pub iterations: u32,
    /// `‖A - L - S‖/‖A‖` at the end.
    pub residual: f64,
}

/// Growth of μ.
const GROWTH: f64 = 1.5;
/// How far S may still move, over the norm of A and μ, when μ grows.
const SETTLED: f64 = 1e-5;
/// μ's end, over its start.
const MOST: f64 = 1e7;

/// Splits `a` into low rank plus sparse; see the [module](self).
///
/// # Errors
/// [`Error::NonFinite`] for a NaN or infinity in `a`; [`Error::InvalidOption`] for options out of their range;
/// [`Error::NoConvergence`] when the iterations end above the tolerance.
pub fn robust_pca<T: Scalar>(a: MatRef<'_, T>, options: &RobustOptions) -> Result<Robust, Error> {
    let (m, n) = a.shape();
    let positive = |what, found: f64| match found > 0.0 && found.is_finite() {
        true => Ok(()),
        false => Err(Error::InvalidOption { what, requirement: "finite and positive", found }),
    };
    positive("tolerance", options.tolerance)?;
    let weight = options.weight.unwrap_or(1.0 / libm::sqrt(m.max(n).max(1) as f64));
    positive("weight of the sparse term", weight)?;
    let largest = dense::largest_modulus(a, "matrix")?;
    let (mut low_rank, mut sparse) = (Mat::zeros(m, n), Mat::zeros(m, n));
    if largest == 0.0 {
        return Ok(Robust { low_rank, sparse, rank: 0, nonzeros: 0, iterations: 0, residual: 0.0 });
    }
    // At a scale near 1, so that no square overflows; undone at the end.
    let exponent = libm::frexp(largest).1.clamp(-1000, 1000);
    let scaled: Mat<f64> = dense::convert(a, dense::power_of_two(-exponent));
    let norm = libm::sqrt(dense::norm_squared(scaled.as_ref()));
    let spectral = thin(scaled.as_ref(), false)?.values.first().copied().unwrap_or(0.0);
    let top = largest * dense::power_of_two(-exponent);
    let dual = spectral.max(top / weight);
    let mut multiplier: Mat<f64> = dense::convert(scaled.as_ref(), 1.0 / dual);
    let mut mu = 1.25 / spectral;
    let most = mu * MOST;
    let (mut rank, mut residual, mut iterations, mut settled) = (0, 1.0, 0, false);
    while !(settled && residual <= options.tolerance) {
        if iterations == options.iterations {
            return Err(Error::NoConvergence { what: "robust principal component analysis" });
        }
        iterations += 1;
        let target = Mat::from_fn(m, n, |i, j| scaled[(i, j)] - sparse[(i, j)] + multiplier[(i, j)] / mu);
        let found = thin(target.as_ref(), true)?;
        rank = found.values.iter().take_while(|&&value| value > 1.0 / mu).count();
        let left = Mat::from_fn(m, rank, |i, k| {
            let kept = found.values.get(k).map_or(0.0, |value| value - 1.0 / mu);
            found.u[(i, k)] * kept
        });
        low_rank = dense::product(left.as_ref(), found.v.subcols(0, rank).transpose());
        let cut = weight / mu;
        let next = Mat::from_fn(m, n, |i, j| {
            let value = scaled[(i, j)] - low_rank[(i, j)] + multiplier[(i, j)] / mu;
            if value > cut {
                value - cut
            } else if value < -cut {
                value + cut
            } else {
                0.0
            }
        });
        let step = Mat::from_fn(m, n, |i, j| next[(i, j)] - sparse[(i, j)]);
        settled = mu * libm::sqrt(dense::norm_squared(step.as_ref())) <= SETTLED * norm;
        sparse = next;
        let gap = Mat::from_fn(m, n, |i, j| scaled[(i, j)] - low_rank[(i, j)] - sparse[(i, j)]);
        for j in 0..n {
            for (y, g) in multiplier.col_mut(j).iter_mut().zip(gap.col(j).iter()) {
                *y += mu * g;
            }
        }
        if settled {
            mu = (mu * GROWTH).min(most);
        }
        residual = libm::sqrt(dense::norm_squared(gap.as_ref())) / norm;
    }
    let nonzeros = (0..n).map(|j| sparse.col(j).iter().filter(|&&value| value != 0.0).count()).sum();
    let back = dense::power_of_two(exponent);
    let low_rank = dense::convert(low_rank.as_ref(), back);
    let sparse = dense::convert(sparse.as_ref(), back);
    Ok(Robust { low_rank, sparse, rank, nonzeros, iterations, residual })
}
