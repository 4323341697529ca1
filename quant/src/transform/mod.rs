//! Changes of basis on the input side, as values.
//!
//! A transform `T` acts on the quantized path only: `W ≈ Q̃·Tᵀ`, `X·Wᵀ ≈ (X·T)·Q̃ᵀ`, where `Q̃ = quantize(W·T⁻ᵀ)`.
//!
//! ```text
//! T = diag(1/λ) · P · R          applied to a row from left to right: smooth, permute, rotate
//! forward             x·T        inputs into the quantizer's basis
//! inverse             x·T⁻¹      and back
//! inverse_transpose   w·T⁻ᵀ      weights into the quantizer's basis: w·diag(λ)·P·R
//! transpose           q̃·Tᵀ       and back: q̃·Rᵀ·Pᵀ·diag(1/λ)
//! ```
//! - [`Smooth`] λ: SmoothQuant's migration, or what AWQ's search finds ([`awq`]).
//! - [`Permutation`] P: inputs by the energy of their activations, so that those that share a scale weigh about the
//!   same.
//! - R: a randomized Hadamard rotation ([`Hadamard`]), which spreads outliers over all inputs. QuaRot, arXiv
//!   2404.00456.
//!
//! **Undone exactly**: permutations always; smoothing by powers of two always, by other factors up to one rounding of
//! `1/λ` and one of each product; a rotation within `2·γ` of a row's norm, γ that of [`Hadamard`].
//!
//! Transforms can be folded into neighbouring layers instead of being applied at product time: see [`fold`].

#[cfg(feature = "solve")]
pub mod awq;
#[cfg(feature = "solve")]
mod composed;
#[cfg(feature = "solve")]
pub mod fold;
#[cfg(feature = "solve")]
mod permutation;
#[cfg(feature = "solve")]
mod prepared;
mod smooth;

#[cfg(feature = "solve")]
pub use composed::Transform;
#[cfg(feature = "solve")]
pub use permutation::Permutation;
#[cfg(feature = "solve")]
pub use prepared::PreparedTransform;
#[cfg(feature = "solve")]
pub use rankbit_linalg::Hadamard;
pub use smooth::Smooth;
