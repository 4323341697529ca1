//! Tests of rankbit-attention: one module per method.

mod analysis;
mod bounds;
mod common;
mod exact;
mod exact_bias;
mod feature_vectors;
mod linear;
mod matryoshka;
mod memory;
mod nearest;
mod neighborhood;
mod rank_augmented;
mod relative_gradient;
mod relative_position;
mod scatterbrain;
mod vision;
mod vision_blocks;
mod vision_inliers;
mod vision_networks;
mod vision_properties;
mod vision_shapes;
