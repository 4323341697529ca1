//! Tests of rankbit-attention: one module per method.

mod common;
mod exact;
mod neighborhood;
mod vision;
