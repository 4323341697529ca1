//! MatryoshkaKV: a cache of keys and values in orthogonal bases of their own, of which each head stores as many leading coordinates
//! as it needs.
//!
//! ```text
//! U_k: d×d, U_v: e×e, orthogonal, for each key head          U⁽ʳ⁾ its first r columns
//! stored    K_r = K·U_k⁽ʳ⁾    V_r = V·U_v⁽ʳ'⁾
//! O = softmax(τ·(Q·U_k⁽ʳ⁾)·K_rᵀ)·V_r·U_v⁽ʳ'⁾ᵀ                 τ = 1/√d, of the whole dimension
//! ```
//! At r = d and r' = e this is exact attention. Bases are nested: the columns are ordered, so that one basis serves every rank.
//!
//! | step | item | |
//! |---|---|---|
//! | 1. begin | [`Calibration`] | principal components of keys and values, uncentred: `Σ kᵀk`, eigenvectors by falling eigenvalue |
//! | 2. train | [`train`] | `U ← U₀·R(A)` by the gradient of the caller's loss at ranks drawn anew each step; R keeps U orthogonal |
//! | | [`cayley()`] | `R = (I + S)(I - S)⁻¹`, `S = A - Aᵀ` |
//! | | [`distillation`] | the source's loss: the divergence of logits from those with the whole cache |
//! | | [`nested`], [`nested_gradient`] | attention at ranks, and its gradient by operands and bases |
//! | 3. budget | [`greedy`] | lowers the rank that costs least, again and again |
//! | 4. use | [`Cache`] | tokens come, projected states are kept, as f32 or as a few bits |
//!
//! Keys are projected as they are given: keys that a rotary map has turned need nothing more, others have to be turned before. The
//! logits err by at most `τ·|q|·|k - U⁽ʳ⁾U⁽ʳ⁾ᵀk|`, and the principal components minimise the mean square of the second factor; they
//! do not minimise the error of the output, which is why the source trains.
//!
//! Source: Lin, Zeng, Xiao, Kou, Hou, Gao, Zhang, Deng, *MatryoshkaKV: adaptive KV compression via trainable orthogonal projection*,
//! ICLR 2025, arXiv 2410.14731, sections 3 and 4.
//!
//! ```
//! use rankbit_attention::matryoshka::{Cache, Calibration};
//! use rankbit_attention::{ExactOptions, View};
//! use rankbit_quant::scheme;
//!
//! // Keys and values of one head of 8, whose rows lie in a plane.
//! let data: Vec<f32> = (0..20 * 8_u8).map(|i| f32::from(i / 8 % 5) * f32::from(i % 3) + f32::from(i / 8)).collect();
//! let x = View::contiguous(&data, [1, 1, 20, 8])?;
//! let mut calibration = Calibration::new(1, 8, 8)?;
//! calibration.update(x, x)?;
//! let bases = calibration.bases()?;
//!
//! // A quarter of the coordinates, in 8 bits.
//! let mut cache = Cache::new(bases.clone(), bases.ranks(0.25)?, 1, Some(scheme::INT8))?;
//! cache.append(x, x)?;
//! let found = cache.attend(x, &ExactOptions::default())?;
//! assert_eq!(found.output.shape(), [1, 1, 20, 8]);
//! # Ok::<(), rankbit_attention::Error>(())
//! ```

mod bases;
mod budget;
mod cache;
mod cayley;
mod project;
mod train;

pub use bases::{Bases, Calibration, Ranks};
pub use budget::{Budget, BudgetOptions, greedy};
pub use cache::Cache;
pub use cayley::{cayley, cayley_gradient};
pub use project::{BasesGradient, NestedGradients, nested, nested_gradient};
pub use train::{TrainOptions, Trained, distillation, train};
