//! Low-rank linear algebra that knows nothing of networks.
#![no_std]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

pub use faer;

mod dense;
mod error;
pub mod metric;
pub mod moments;
pub mod random;
mod scalar;
pub mod svd;

pub use error::Error;
pub use metric::{ColumnMetric, Metric, MetricRoot};
pub use moments::{MomentKinds, MomentParts, Moments};
pub use random::Stream;
pub use scalar::Scalar;
pub use svd::{
    Factors, Method, RandomizedOptions, Svd, SvdInfo, SvdMethod, best_rank, randomized, singular_values,
    truncated, weighted,
};
