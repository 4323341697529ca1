//! Tests of the split: recipes and their theorems, products, the file form.

mod bad_input;
mod common;
mod file;
mod fuzz;
mod matmul;
mod presets;
mod rounders;
mod split;
