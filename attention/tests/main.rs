//! Tests of rankbit-attention: one module per method.

mod analysis;
mod common;
mod exact;
mod feature_vectors;
mod linear;
mod matryoshka;
mod memory;
mod nearest;
mod neighborhood;
mod rank_augmented;
mod relative_position;
mod scatterbrain;
mod vision;
mod vision_blocks;
mod vision_properties;
