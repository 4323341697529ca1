//! Tests of patterns, masks, pruning, storage, products and schedules.

mod codes;
mod common;
mod criteria;
mod matmul;
mod oracle;
mod patterns;
mod prune;
mod schedule;
mod storage;
mod transposable;
