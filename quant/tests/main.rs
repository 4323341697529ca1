//! Tests of the quantizers, their storage and their products.

mod activations;
mod bad_input;
mod common;
mod floats;
mod gguf;
mod levels;
mod matmul;
mod nearest;
mod ratio;
mod rounders;
mod smooth;
mod storage;
mod vector;
mod vectors;
