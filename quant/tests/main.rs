//! Tests of the quantizers, their storage and their products.

mod activations;
mod awq;
mod bad_input;
mod channel_wise;
mod clustered;
mod common;
mod dyadic;
mod floats;
mod gguf;
mod halo;
mod levels;
mod matmul;
mod nearest;
mod nested;
mod ratio;
mod rounders;
mod smooth;
mod storage;
mod transform;
mod vector;
mod vectors;
