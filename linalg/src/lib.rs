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
//! Which factors of rank 2 lose least of a layer's *output*? Collect the inputs' moments, let them define the
//! metric, and compare with the plain decomposition:
//!
//! ```
//! use rankbit_linalg::faer::{Mat, MatRef};
//! use rankbit_linalg::{Method, MomentKinds, Moments, Stream, truncated, weighted};
//! # fn main() -> Result<(), rankbit_linalg::Error> {
//! let (out, inputs, tokens) = (24, 32, 100);
//! let mut stream = Stream::new(0, "example");
//! let mut file = vec![0f32; out * inputs]; // row-major, as a checkpoint stores it
//! stream.fill_normal(&mut file);
//! let weight = MatRef::from_row_major_slice(&file, out, inputs);
//!
//! // Activations: a few input channels are much louder than the others.
//! let mut moments = Moments::new(inputs, MomentKinds { gram: true, sample: 0 });
//! let x = Mat::from_fn(tokens, inputs, |_, j| stream.next_normal() as f32 * if j % 8 == 0 { 10.0 } else { 1.0 });
//! moments.update(x.as_ref())?; // again for every batch
//!
//! let metric = moments.metric()?;
//! let aware = weighted(weight, 2, &metric.root(1e-6)?, &Method::default())?.product();
//! let plain = truncated(weight, 2)?.reconstruct();
//! let error = |approximation: &Mat<f32>| metric.relative_error((weight - approximation).as_ref(), weight);
//! assert!(error(&aware)? < 0.8 * error(&plain)?);
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
