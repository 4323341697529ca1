//! Tests of patterns, masks, pruning, storage, products and schedules.

mod codes;
mod common;
mod criteria;
mod fuzz;
mod matmul;
mod matrix;
mod oracle;
mod patterns;
mod prune;
mod schedule;
mod storage;
mod training;
mod transposable;
