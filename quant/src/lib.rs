//! Few bits: number formats, rounding, packed storage, and products straight from packed codes.
//!
//! A [`Scheme`] says which numbers a few bits stand for and who shares a scale; [`quantize`] turns a matrix
//! into its [`Quantized`] storage; [`matmul`] multiplies with that storage without ever decoding it as a whole.
//!
#![cfg_attr(feature = "solve", doc = "```")]
#![cfg_attr(not(feature = "solve"), doc = "```text")]
//! use rankbit_quant::{Group, Rounder, matmul, quantize, scheme};
//! use rankbit_linalg::faer::Mat;
//!
//! // A layer of 256 inputs and 64 outputs, and a batch of 8 tokens.
//! let weight = Mat::from_fn(64, 256, |i, j| ((i * 31 + j * 17) % 97) as f32 / 97.0 - 0.5);
//! let x = Mat::from_fn(8, 256, |t, j| ((t * 29 + j * 53) % 61) as f32 / 61.0 - 0.5);
//!
//! let scheme = scheme::UINT4.with_group(Group::Size(32));
//! let q = quantize(weight.as_ref(), &scheme, Rounder::Nearest)?.quantized;
//! assert_eq!(q.stored_bits(), 64 * 256 / 32 * (32 * 4 + 16 + 4)); // 4.625 bits per weight
//!
//! // Y = X·Ŵᵀ from the packed codes, and how far rounding moved it.
//! let y = matmul::apply(&q, x.as_ref())?;
//! let exact = &x * weight.transpose();
//! let error = (&y - &exact).norm_l2() / exact.norm_l2();
//! assert!(error < 0.1, "{error}");
//! # Ok::<(), rankbit_quant::Error>(())
//! ```
//!
//! # Features
//! Both are on by default.
//! - `std`: products run on rayon's threads. Without it the crate needs `alloc` only and all runs on one thread.
//! - `solve`: the rounders and transforms that need linear algebra, and matrices of `faer` in the interface. Without
//!   it neither `faer` nor `rankbit-linalg` is built, and what an engine calls is left: formats, storage, rounding to
//!   nearest and decoding, products; all over row-major slices.
//!
//! ```
//! use rankbit_quant::{matmul, nearest, scheme};
//!
//! let keys = [0.25, -1.0, 0.5, 0.75, /* second row */ 1.0, 0.125, -0.5, 0.0];
//! let stored = nearest::quantize_rows(&keys, (2, 4), &scheme::INT8)?.quantized;
//! let mut scores = [0.0; 2];
//! matmul::apply_rows_into(&stored, &[1.0, 0.0, 0.0, 2.0], 1, &mut scores)?;
//! assert!((scores[0] - 1.75).abs() < 0.02 && (scores[1] - 1.0).abs() < 0.02);
//! # Ok::<(), rankbit_quant::Error>(())
//! ```
#![no_std]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

pub mod activation;
mod block;
pub mod clustered;
pub mod code;
mod codec;
pub mod dyadic;
mod error;
mod float;
mod group;
#[cfg(feature = "solve")]
pub mod halo;
pub mod lattice;
pub mod matmul;
pub mod nested;
pub mod pack;
mod quantized;
mod rounder;
pub mod rows;
mod scale;
mod scales;
pub mod scheme;
pub mod simd;
pub mod transform;
pub mod trellis;
pub mod vector;
mod zero;

pub use activation::{Activation, Activations};
pub use block::Block;
pub use code::{Code, MiniFloat, Table};
pub use error::Error;
pub use float::{FloatFormat, Floats};
pub use group::{Group, Grouping};
pub use lattice::Lattice;
pub use nested::{Nested, Offset, ScaleBlock, ScaleCode};
pub use quantized::{PartLengths, Quantized, part_lengths};
#[cfg(feature = "solve")]
pub use rounder::{Context, quantize, quantize_with, trellis_columns};
pub use rounder::{Rounded, Rounder, nearest};
pub use scales::Scales;
pub use scheme::{Layout, PowerRule, RatioRule, ScaleRule, Scheme};
pub use transform::Smooth;
#[cfg(feature = "solve")]
pub use transform::{Permutation, Transform};
pub use trellis::{Rate, Trellis};
pub use vector::{ColumnParts, Outliers};
pub use zero::ZeroPoint;
