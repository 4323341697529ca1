//! Few non-zeros: where they may lie, which to keep, how to store them, and products that skip the rest.
#![no_std]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

pub mod criterion;
mod dense;
mod error;
mod mask;
pub mod pattern;
pub mod prune;
mod select;
pub mod transposable;

pub use error::Error;
pub use mask::Mask;
pub use pattern::{NmPattern, Pattern, Scope};
pub use select::select;
