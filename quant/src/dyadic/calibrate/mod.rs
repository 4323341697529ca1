//! Before inference: scales, folding and dyadic numbers. Floats end here.
//!
//! ```text
//! weight, per output channel    S_w = max|w| / (2^(k-1) - 1),   w_int = clamp(rne(w / S_w), -2^(k-1), 2^(k-1) - 1)
//! activation, signed            S_x = max|x| / (2^(k-1) - 1)
//! activation after a ReLU       S_x = max x / (2^k - 1),        zero point 0
//! bias                          b_int = rne(b / (S_x·S_w)), i32
//! sums                          one unit of output channel o is S_x·S_w[o], rounded to f32
//! requantization                b / 2^c = dyadic(S_x·S_w[o] / S_y), divided in f64
//! ```
//! A channel whose bias would need more than 2³⁰ units (nothing but zeros, or a batch norm of a dead channel) takes the
//! larger `S_w = |b| / (S_x·2³⁰)`: the bias survives, and weights that small round to 0.
//!
//! Source: HAWQ-V3 (arXiv 2011.10680), §3 and appendix; `rne` divides by the scale, where HAWQ's code multiplies by its
//! reciprocal in f32.

mod activation;
mod batch_norm;
mod layer;
mod scale;

pub(super) use activation::rne;
pub use activation::{Activation, Observed};
pub use batch_norm::BatchNorm;
pub use layer::{Calibrated, average_pool, conv2d, linear, linear_from, requantize, residual};
pub use scale::dyadic;
