//! The split of a matrix into few bits, few ranks and few non-zeros, `W ≈ Q + L·R + S`: how to find it and how to multiply with it.
//!
//! A [`Recipe`] says which terms, under which metric, in which order; a published method is a function in
//! [`preset`] that returns one. [`fit`] runs it. The [`Split`] it returns is all that a product, a file or a
//! report needs.
//!
//! ```
//! use rankbit_lowrank::{Input, fit, preset};
//! use rankbit_linalg::faer::Mat;
//! use rankbit_quant::{FloatFormat, scheme};
//!
//! // A weight with a strong low-rank part, as attention projections have.
//! let weight = Mat::from_fn(96, 128, |i, j| {
//!     (i as f32 * 0.3).sin() * (j as f32 * 0.2).cos() + 0.05 * ((i * 37 + j * 101) % 29) as f32 / 29.0
//! });
//! let input = Input { name: "attention.query", moments: None };
//!
//! let plain = fit(weight.as_ref(), &preset::rtn(scheme::UINT4), &input)?;
//! let recipe = preset::lq_lora(scheme::UINT4, 4, FloatFormat::F16, 10);
//! let better = fit(weight.as_ref(), &recipe, &input)?;
//! assert!(better.info.relative_error < 0.5 * plain.info.relative_error);
//! println!("{:.2} bits per weight", better.split.bits_per_weight());
//!
//! // Multiply from the packed codes: Y = X·Q̃ᵀ + (X·Rᵀ)·Lᵀ + X·Sᵀ.
//! let x = Mat::from_fn(3, 128, |t, j| (t * 7 + j) as f32 * 0.01);
//! let y = better.split.apply(x.as_ref())?;
//! assert_eq!((y.nrows(), y.ncols()), (3, 96));
//! # Ok::<(), rankbit_lowrank::Error>(())
//! ```
#![no_std]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

mod basis;
pub mod conv;
mod error;
mod fit;
mod low_rank;
mod part;
pub mod plan;
pub mod preset;
mod recipe;
mod search;
mod space;
pub mod split;

pub use error::Error;
pub use fit::{Adjustment, Fit, FitInfo, Input, Iterate, fit, fit_observed};
pub use low_rank::{Atoms, Factor, FactorFormat, LowRank, Side};
pub use recipe::{ActivationRule, MetricRule, Recipe, Rounds, Space, Step, Stop, TransformRule};
pub use split::Split;
