//! Tests of the split: recipes and their theorems, products, the file form.

mod activations;
mod bad_input;
mod common;
mod compensation;
mod file;
mod forms;
mod fuzz;
mod hawq;
mod heap;
mod loldu;
mod matmul;
mod oracle;
mod plan;
mod prepared;
mod presets;
mod relevance;
mod rounders;
mod shared;
mod sparse;
mod split;
mod transforms;
