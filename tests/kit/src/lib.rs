//! Helpers shared by rankbit's tests. Unpublished, and on plain slices: it depends on no rankbit crate, so
//! that a crate's own unit tests can use it without meeting a second copy of their types.
//!
//! * [`tolerance`]: comparisons that fail on NaN.
//! * [`fuzz`]: random cases until time is up.
//! * [`guarded`]: buffers that show stray writes.
//! * [`strategy`]: proptest strategies for matrices that are unkind to quantizers.
//!
//! With the feature `model`, a real network and its text (fetched by `scripts/fetch-model.sh`):
//!
//! * `model`: the sentence encoder with its tokenizer; a missing file is an error, never a skipped test.
//! * `bert`: the network's forward pass, with a view of every linear layer's input.
//! * `text`: which sentences calibrate and which are held out.
//! * `calibration`: moments of the linear layers' inputs, and the file that carries them.

pub mod fuzz;
pub mod guarded;
pub mod strategy;
pub mod tolerance;

#[cfg(feature = "model")]
pub mod bert;
#[cfg(feature = "model")]
pub mod calibration;
#[cfg(feature = "model")]
mod dense;
#[cfg(feature = "model")]
mod erf;
#[cfg(feature = "model")]
mod error;
#[cfg(feature = "model")]
pub mod model;
#[cfg(feature = "model")]
pub mod tensor;
#[cfg(feature = "model")]
pub mod text;

#[cfg(feature = "model")]
pub use error::Error;
