//! Tests of rankbit-attention: one module per method.

mod analysis;
mod common;
mod exact;
mod linear;
mod memory;
mod neighborhood;
mod relative_position;
mod scatterbrain;
mod vision;
mod vision_blocks;
mod vision_properties;
