//! Training with masks: what changes at which step, as plain state and step functions.
//!
//! | item | what it decides | source |
//! |---|---|---|
//! | [`SrSte`] | the gradient of the latent weight under an N:M mask | SR-STE, arXiv 2102.04010 |
//! | [`MaskDecay`] | how much of the masked weights still counts | progressive gradient flow, arXiv 2402.04744 |
//! | [`StructureDecay`] | which N:M holds at a step | the same |
//! | [`RigL`] | which weights are dropped and which grown | RigL, arXiv 1911.11134 |
//! | [`erk_densities`], [`cubic`] | how dense each layer is; how dense at a step | the same; gradual pruning |
//! | [`S2ft`] | which heads or channels train, and the permutation that makes them one slice | S²FT, arXiv 2412.06289 |
//! | [`Sara`] | which small weights train, and when that is decided anew | SaRA, arXiv 2409.06633 |
//! | [`Mosa`] | a random partition of an adapter into experts, and their merge | MoSA, arXiv 2312.02923 |
//!
//! None of them owns weights, gradients or an optimizer: a step function reads what the training loop has and returns
//! what it is to use. Weights and gradients are `[out, in]`, any strides.

mod mosa;
mod progressive;
mod rigl;
mod s2ft;
mod sara;
mod sr_ste;

pub use mosa::Mosa;
pub use progressive::{Decay, Frames, GradientFlow, MaskDecay, StructureDecay};
pub use rigl::{Densities, LayerShape, RigL, Update, cubic, erk_densities};
pub use s2ft::{Coupled, S2ft};
pub use sara::Sara;
pub use sr_ste::SrSte;

use crate::{Error, Mask, Pattern, criterion, select};
use rankbit_linalg::faer::MatRef;

/// The mask of largest magnitudes, which all N:M schedules take anew at every step.
///
/// # Errors
/// As [`select`](crate::select()).
pub fn magnitude_mask(weight: MatRef<'_, f32>, pattern: &Pattern) -> Result<Mask, Error> {
    select(criterion::magnitude(weight)?.as_ref(), pattern)
}

/// Two matrices of one shape.
fn same_shape(what: &'static str, expected: (usize, usize), found: (usize, usize)) -> Result<(), Error> {
    if expected == found { Ok(()) } else { Err(Error::ShapeMismatch { what, expected, found }) }
}

/// A finite number that is not negative.
fn not_negative(what: &'static str, found: f64) -> Result<f64, Error> {
    if found.is_finite() && found >= 0.0 {
        Ok(found)
    } else {
        Err(Error::InvalidOption { what, requirement: "finite and not negative", found })
    }
}

/// A number between 0 and 1.
fn fraction(what: &'static str, found: f64) -> Result<f64, Error> {
    if (0.0..=1.0).contains(&found) {
        Ok(found)
    } else {
        Err(Error::InvalidOption { what, requirement: "between 0 and 1", found })
    }
}
