//! Changes of basis on the input side, as values.
//!
//! A transform `T` acts on the quantized path only: `W ≈ Q̃·Tᵀ`, `X·Wᵀ ≈ (X·T)·Q̃ᵀ`, where `Q̃ = quantize(W·T⁻ᵀ)`.

mod smooth;

pub use smooth::Smooth;
