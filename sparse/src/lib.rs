//! Few non-zeros: where they may lie, which to keep, how to store them, and products that skip the rest.
//!
//! | item | what it does |
//! |---|---|
//! | [`NmPattern`], [`Pattern`] | N of every M, the same in both directions, blocks, any |
//! | [`criterion`], [`select()`] | scores (magnitude, Wanda, RIA, adapter gradients, DIMAP), and the mask of the best |
//! | [`prune`] | SparseGPT, the best values of a mask, and ADMM, under the metric of the layer's inputs |
//! | [`transposable`] | masks that hold in both directions, exactly or fast |
//! | [`storage`] | kept values (floats or few bits) and packed indices; blocks and CSR; 2:4 metadata of hardware |
//! | [`matmul`] | `Y = X·Sᵀ` with floats or whole-number codes, portable, AVX2, AVX-512 |
//! | [`schedule`] | training with masks: SR-STE, decays, RigL, S²FT, SaRA, MoSA |
//!
//! N:M here is N **kept** of every M along a weight's inputs. Weights are `[out, in]`, a layer computes `Y = X·Wᵀ`.
//!
//! ```
//! use rankbit_linalg::faer::Mat;
//! use rankbit_quant::FloatFormat;
//! use rankbit_sparse::matmul::Prepared;
//! use rankbit_sparse::prune::{AdmmOptions, SparseGptOptions, admm, sparse_gpt};
//! use rankbit_sparse::{NmMatrix, NmPattern, Pattern, ValueFormat};
//!
//! // A layer of 64 inputs and 48 outputs, and inputs that resemble their neighbours.
//! let weight = Mat::from_fn(48, 64, |i, j| ((i * 31 + j * 17) % 97) as f32 / 97.0 - 0.5);
//! let noise = |t: usize, j: usize| ((t * 29 + j * 53) % 61) as f64 / 61.0 - 0.5;
//! let x = Mat::from_fn(200, 64, |t, j| noise(t, j) + noise(t, j / 2));
//! let gram = x.transpose() * &x;
//!
//! let pattern = NmPattern::TWO_OF_FOUR;
//! let plain = sparse_gpt(weight.as_ref(), gram.as_ref(), &Pattern::Nm(pattern), &SparseGptOptions::default())?;
//! let better = admm(weight.as_ref(), gram.as_ref(), &Pattern::Nm(pattern), &AdmmOptions::default())?;
//! assert!(better.error < plain.error);
//!
//! // 9 bits per weight: half of the values as f16, and two bits for the place of each.
//! let format = ValueFormat::Float(FloatFormat::F16);
//! let (stored, _) = NmMatrix::new(better.weight.as_ref(), &better.mask, pattern, &format)?;
//! assert_eq!(stored.stored_bits(), 48 * 64 * 9);
//!
//! let x = Mat::from_fn(8, 64, |t, j| noise(t, j) as f32);
//! let y = Prepared::new(&stored)?.apply(x.as_ref())?;
//! let dense = &x * stored.reconstruct().transpose();
//! assert!((&y - &dense).norm_l2() < 1e-5 * dense.norm_l2());
//! # Ok::<(), rankbit_sparse::Error>(())
//! ```
//!
//! Results do not depend on the number of threads. No function panics on bad input: an [`Error`] names it. Without the
//! default feature `std` the crate needs `alloc` only, runs on one thread, and uses the instruction set it was compiled
//! for.
#![no_std]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

pub mod criterion;
mod dense;
mod error;
mod mask;
pub mod matmul;
pub mod pattern;
pub mod prune;
pub mod schedule;
mod select;
pub mod storage;
pub mod transposable;

pub use error::Error;
pub use mask::Mask;
pub use pattern::{NmPattern, Pattern, Scope};
pub use prune::Pruner;
pub use select::select;
pub use storage::{BlockMatrix, NmMatrix, SparseMatrix, ValueFormat, Values};
