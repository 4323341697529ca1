//! Attention, exact and approximate, in memory that grows with the number of tokens: tiles over all keys, neighborhoods, feature
//! maps, sparse plus low rank; forward and gradient.
//!
//! | item | what it does | cost |
//! |---|---|---|
//! | [`exact()`], [`exact_gradient`] | online softmax; causal, masks, biases, grouped-query heads | n·s |
//! | [`neighborhood()`], [`neighborhood_gradient`] | windows on a line, a plane or in a volume, with NATTEN's stride, dilation, causal axes and extra keys | n·window |
//! | [`linear`], [`linear_gradient`] | elu, Taylor or positive random features (FAVOR+) in place of the softmax; causal | (n + s)·m |
//! | [`scatterbrain()`], [`scatterbrain_gradient`] | random features, and exact weights on a sparse [`Support`] (clusters of near keys) | (n + s)·m + pairs |
//! | [`sparse`], [`sparse_gradient`] | softmax over a [`Support`] alone | pairs |
//! | `relative`, `toeplitz` (feature `std`) | linear attention with a bias of the distance, by FFT | n·log n·m·e |
//! | [`rank_augmented()`], [`rank_augmented_gradient`] | linear attention with weighted keys and a gate (RALA) | (n + s)·d·e |
//! | [`ranks`] | how many directions features have | n·d² |
//! | [`matryoshka`] | a cache of keys and values in nested orthogonal bases: calibration, training, budget, storage | n·s·rank |
//! | [`regimes`] | whether a given map is sparse, of low rank, or the sum, over temperatures | n³ |
//! | [`vision`] | blocks of vision networks: gates, windows, references, position attention, correspondences | their tables |
//! | [`mod@reference`] | the formula in f64 | n·s |
//!
//! Operands are strided [`View`]s of shape `[batch, heads, tokens, head_dim]`, f32 or f64; results are contiguous [`Tensor`]s. No
//! n×s matrix is ever made (but in [`regimes`], of some hundred tokens).
//!
//! **Which one?** 8 heads of 64, f32, one thread of an AVX-512 server core (Zen 4, 117 GFLOP/s):
//!
//! | tokens | a token depends on | exact | use | time | memory beside the results |
//! |---|---|---|---|---|---|
//! | 4096 | every token | yes | [`exact()`] | 360 ms | 150 KiB a thread¹ |
//! | 4096 | every token before it | yes | [`exact()`], causal | 190 ms | 150 KiB a thread¹ |
//! | 56×56 | 7×7 around it | yes | [`neighborhood()`] | 12 ms | 130 KiB a thread¹ |
//! | 4096 | every token, features of its own kind (elu) | no: another model | [`linear`] | 12 to 17 ms² | below 1 MiB a thread |
//! | 4096 | every token, flat maps | in the mean, before the quotient | [`linear`], 256 random features | 64 ms | below 1 MiB a thread |
//! | 4096 | every token, some of them strongly | on the support, elsewhere in the mean | [`scatterbrain()`], 256 features + 64 pairs | 700 ms, clusters included | the keys' features: s·m numbers a thread (4 MiB), 4 bytes a pair |
//! | 4096 | every token, weighted keys of full rank (RALA) | no: another model | [`rank_augmented()`] | 50 ms² | below 1 MiB a thread |
//! | 4096 in a cache, 32 queries | every token, a quarter of the coordinates in int8 | to the bases and 8 bits | [`matryoshka::Cache`] | 5 ms² | the cache: 1.1 MiB for 16 MiB |
//! | 4096 | the distance alone | to rounding | `toeplitz` | 16 ms² | 1.3 MiB a thread |
//!
//! ¹ And up to 64 pieces of the results on their way: 2 MiB here. ² On a machine that ran a dozen other jobs. On a real text's maps
//! Scatterbrain errs 1.6 to 3.1 times less than the better of hashed pairs and features alone at equal memory, with the pairs of
//! [`Support::nearest`]: `--example maps`, its table in the repository's README. Reproduce:
//! `cargo run --release -p rankbit-attention --example speed`; from 256 to 65536 tokens as a picture: `--example cost`.
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

pub mod analysis;
mod dense;
mod error;
pub mod exact;
pub mod feature_map;
mod kernel;
pub mod matryoshka;
pub mod neighborhood;
mod parallel;
pub mod rank;
pub mod rank_augmented;
pub mod reference;
#[cfg(feature = "std")]
pub mod relative_position;
pub mod scatterbrain;
pub mod support;
mod tensor;
mod tile;
pub mod vision;

pub use analysis::{Regime, regimes};
pub use error::Error;
pub use exact::{ExactOptions, exact, exact_gradient, exact_gradient_with_bias};
pub use feature_map::{FeatureMap, RandomFeatureOptions, RandomFeatures, RowNorm, linear, linear_gradient};
pub use kernel::Element;
pub use neighborhood::{Axis, NeighborhoodOptions, neighborhood, neighborhood_gradient};
pub use rank::{Rank, ranks};
pub use rank_augmented::{RankAugmented, RankAugmentedOptions, rank_augmented, rank_augmented_gradient};
#[cfg(feature = "std")]
pub use relative_position::{RelativeGradients, RelativeOptions, relative, relative_gradient, toeplitz};
pub use scatterbrain::{ScatterbrainOptions, scatterbrain, scatterbrain_gradient, sparse, sparse_gradient};
pub use support::{ClusterOptions, NearestOptions, Support};
pub use tensor::{Tensor, View};
pub use tile::{Attention, ExtraGradients, Gradients};
