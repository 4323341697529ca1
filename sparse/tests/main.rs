//! Tests of patterns, masks, pruning, storage, products and schedules.

mod common;
mod criteria;
mod patterns;
mod prune;
mod transposable;
