//! Attention, exact: in tiles over all keys, or over the neighborhood of each token; forward and gradient.
//!
//! | item | what it does | cost |
//! |---|---|---|
//! | [`exact()`], [`exact_gradient`] | online softmax; causal, masks, biases, grouped-query heads | n·s |
//! | [`neighborhood()`], [`neighborhood_gradient`] | windows on a line, a plane or in a volume, with NATTEN's stride, dilation, causal axes and extra keys | n·window |
//! | [`vision`] | polarized self-attention, position attention: blocks of vision networks | their tables |
//! | [`mod@reference`] | the formula in f64 | n·s |
//!
//! Operands are strided [`View`]s of shape `[batch, heads, tokens, head_dim]`, f32 or f64; results are contiguous [`Tensor`]s. No
//! n×s matrix is ever made.
//!
//! **Which one?** 8 heads of 64, f32, one thread of an AVX-512 server core (Zen 4, 117 GFLOP/s):
//!
//! | tokens | a token depends on | use | time | memory beside the results¹ |
//! |---|---|---|---|---|
//! | 4096 | every token | [`exact()`] | 360 ms | 150 KiB a thread |
//! | 4096 | every token before it | [`exact()`], causal | 190 ms | 150 KiB a thread |
//! | 56×56 | 7×7 around it | [`neighborhood()`] | 12 ms | 130 KiB a thread |
//!
//! ¹ And up to 64 pieces of the results on their way: 2 MiB here. Reproduce:
//! `cargo run --release -p rankbit-attention --example speed`.
//!
//! ```
//! use rankbit_attention::{ExactOptions, View, exact, exact_gradient};
//!
//! // Two query heads share one head of keys and values.
//! let query: Vec<f32> = (0..2 * 6 * 4_u8).map(|i| f32::from(i % 11) / 5.0 - 1.0).collect();
//! let key: Vec<f32> = (0..6 * 4_u8).map(|i| f32::from(i % 7) / 3.0 - 1.0).collect();
//! let (q, k) = (View::contiguous(&query, [1, 2, 6, 4])?, View::contiguous(&key, [1, 1, 6, 4])?);
//! let options = ExactOptions { causal: true, ..Default::default() };
//! let found = exact(q, k, k, &options)?;
//! assert_eq!(found.output.shape(), [1, 2, 6, 4]);
//!
//! // The gradient of the sum of all outputs.
//! let ones = [1.0_f32; 48];
//! let upstream = View::contiguous(&ones, [1, 2, 6, 4])?;
//! let gradients = exact_gradient(q, k, k, &options, &found, upstream)?;
//! assert_eq!(gradients.key.shape(), [1, 1, 6, 4]);
//! # Ok::<(), rankbit_attention::Error>(())
//! ```
//!
//! Results do not depend on the number of threads; they do depend on the instruction set
//! ([`Level`](rankbit_quant::simd::Level)), within the bounds that each module states. No function panics on bad input: an
//! [`Error`] names it. Without the default feature `std` the crate needs `alloc` only, runs on one thread, and uses the
//! instruction set it was compiled for.
#![no_std]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

mod error;
pub mod exact;
mod kernel;
pub mod neighborhood;
mod parallel;
pub mod reference;
mod tensor;
mod tile;
pub mod vision;

pub use error::Error;
pub use exact::{ExactOptions, exact, exact_gradient};
pub use kernel::Element;
pub use neighborhood::{Axis, NeighborhoodOptions, neighborhood, neighborhood_gradient};
pub use tensor::{Tensor, View};
pub use tile::{Attention, ExtraGradients, Gradients};
