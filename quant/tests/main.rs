//! Tests of the quantizers, their storage and their products.

mod bad_input;
mod common;
mod floats;
mod gguf;
mod matmul;
mod nearest;
mod rounders;
mod smooth;
mod storage;
mod vector;
mod vectors;
