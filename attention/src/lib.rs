//! Attention: exact in tiles, in neighborhoods, and through feature maps.
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

pub use error::Error;
pub use exact::{ExactOptions, exact, exact_gradient};
pub use kernel::Element;
pub use neighborhood::{Axis, ExtraGradients, NeighborhoodOptions, neighborhood, neighborhood_gradient};
pub use tensor::{Tensor, View};
pub use tile::{Attention, Gradients};
