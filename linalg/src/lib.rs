//! Low-rank linear algebra that knows nothing of networks: singular value decompositions cut to a rank, exact
//! or randomized, under the norm that matters, and the streamed statistics that define that norm.
//!
//! | item | what it does |
//! |---|---|
//! | [`krylov`], [`randomized`], [`truncated`], [`best_rank`] | A ≈ U·diag(σ)·Vᵀ of a rank |
//! | [`to_tolerance`] | the same, of the rank that an error needs |
//! | [`StreamingSvd`], [`Svd::append_rows`] | the same as rows arrive |
//! | [`weighted`] | the best L·R of a rank under a [`Metric`], in closed form |
//! | [`Metric`], [`MetricRoot`] | ‖E‖²_M = Σᵢ rowᵢ·eᵢ H eᵢᵀ, and a root of it that survives rank deficiency |
//! | [`weighted_both`] | the same under a form on either side |
//! | [`Moments`] | XᵀX and friends of a layer's inputs, one pass over the tokens |
//! | [`ErrorFeedback`] | the column-by-column sweep of GPTQ, LDLQ and SparseGPT, and its coordinate descent |
//! | [`ldu`](mod@ldu) | P·A·Q = L·D·U by partial, rook or complete pivoting, whole or cut to a rank |
//! | [`robust_pca`] | a low-rank matrix plus a sparse one |
//! | [`tucker`](mod@tucker) | Tucker's decomposition of a tensor, over all modes or some |
//! | [`solve_spd`] | small symmetric positive definite systems |
//! | [`Hadamard`] | the orthonormal rotation that flattens rows, in O(n·log n), for widths 2^k·m |
//! | [`knapsack`] | one choice for each item, least total loss within a budget, exactly |
//! | [`grassmann`](mod@grassmann) | subspaces as points: geodesics, transport, angles; classes as subspaces |
//! | [`lasso`](mod@lasso) | sparse least squares with a certified gap; relevance of tasks |
//! | [`certify`](mod@certify) | robustness certificates by dual randomized smoothing |
//! | [`special`](mod@special) | logarithms of modified Bessel functions of any order, and what stands on them |
//! | [`trace`](mod@trace) | the trace of an operator that can only be applied, with its standard error |
//! | [`Stream`] | random numbers that depend on a seed and a name only |
//!
//! Matrices are `faer`'s ([re-exported](faer)), of any strides: weights as files store them are row-major views
//! and need no copy. Everything runs on the calling thread, and the same input gives the same bits on any
//! thread; parallelize over matrices. No function panics on bad input: wrong shapes, ranks out of range, NaN and
//! infinities are an [`Error`] that names them.
//!
//! # Example
//! Which rank is enough for six digits of a kernel matrix? The error is measured, not estimated. And which factors of rank
//! 4 are best when errors in some columns count more?
//!
//! ```
//! use rankbit_linalg::faer::Mat;
//! use rankbit_linalg::{KrylovOptions, Method, Metric, to_tolerance, truncated, weighted};
//! # fn main() -> Result<(), rankbit_linalg::Error> {
//! let a = Mat::from_fn(300, 200, |i, j| 1.0 / (1.0 + (i as f64 / 30.0 - j as f64 / 20.0).powi(2)));
//! let found = to_tolerance(a.as_ref(), 1e-6, &KrylovOptions::default())?;
//! assert!(found.rank() < 50);
//! assert!(found.info.residual <= 1e-6 * found.info.norm);
//! assert!((&a - found.reconstruct()).norm_l2() <= 1.001e-6 * a.norm_l2());
//!
//! // ‖E‖² = Σ hⱼ·‖eⱼ‖² over columns: the first twenty count a hundredfold.
//! let metric = Metric::diagonal((0..200).map(|j| if j < 20 { 100.0 } else { 1.0 }).collect())?;
//! let best = weighted(a.as_ref(), 4, &metric.root(0.0)?, &Method::default())?.product();
//! let plain = truncated(a.as_ref(), 4)?.reconstruct();
//! let error = |approximation: &Mat<f64>| metric.relative_error((&a - approximation).as_ref(), a.as_ref());
//! assert!(error(&best)? < 0.9 * error(&plain)?);
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//! `std` (default) lets faer detect the processor at run time; without it the crate is `no_std` + `alloc` and
//! uses the instruction set it was compiled for.
#![no_std]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

pub use faer;

pub mod certify;
mod dense;
mod eigen;
mod error;
pub mod grassmann;
pub mod hadamard;
mod instructions;
pub mod knapsack;
pub mod lasso;
pub mod ldu;
pub mod metric;
pub mod moments;
pub mod random;
pub mod robust;
mod scalar;
mod solve;
pub mod special;
pub mod svd;
pub mod sweep;
pub mod trace;
pub mod tucker;

pub use error::Error;
pub use hadamard::Hadamard;
pub use ldu::{Ldu, LduInfo, LduOptions, Pivoting, ldu};
pub use metric::{ColumnMetric, Metric, MetricRoot, RootMethod};
pub use moments::{MomentKinds, MomentParts, Moments, Shrinkage, Shrunk};
pub use random::Stream;
pub use robust::{Robust, RobustOptions, robust_pca};
pub use scalar::Scalar;
pub use solve::solve_spd;
pub use svd::{
    Factors, KrylovOptions, Method, RandomizedOptions, Sketch, Streamed, StreamingSvd, Svd, SvdInfo,
    SvdMethod, best_rank, krylov, randomized, singular_values, to_tolerance, truncated, weighted,
    weighted_both,
};
pub use sweep::{ErrorFeedback, Order, Projector, Refined, SweepOptions, Swept};
