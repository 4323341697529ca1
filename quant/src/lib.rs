//! Few bits: number formats, rounding, packed storage, and products straight from packed codes.
//!
//! A [`Scheme`] says which numbers a few bits stand for and who shares a scale; [`quantize`] turns a matrix
//! into its [`Quantized`] storage; [`matmul`] multiplies with that storage without ever decoding it as a whole.
//!
//! ```
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
//! Without the default feature `std` the crate needs `alloc` only and products run on one thread.
#![no_std]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

mod block;
pub mod code;
mod error;
mod float;
mod group;
mod instructions;
pub mod lattice;
pub mod matmul;
pub mod pack;
mod quantized;
mod rounder;
pub mod rows;
mod scale;
pub mod scheme;
mod transform;
pub mod trellis;
pub mod vector;

pub use block::Block;
pub use code::{Code, MiniFloat, Table};
pub use error::Error;
pub use float::{FloatFormat, Floats};
pub use group::{Group, Grouping};
pub use instructions::Instructions;
pub use lattice::Lattice;
pub use quantized::{PartLengths, Quantized, part_lengths};
pub use rounder::{Context, Rounded, Rounder, nearest, quantize, quantize_with};
pub use scheme::{Layout, PowerRule, ScaleRule, Scheme, ZeroPoint};
pub use transform::Smooth;
pub use trellis::{Rate, Trellis};
pub use vector::{ColumnParts, Outliers};
