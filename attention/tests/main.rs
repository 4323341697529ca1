//! Tests of rankbit-attention: one module per method.

mod common;
mod exact;
mod linear;
mod neighborhood;
mod scatterbrain;
