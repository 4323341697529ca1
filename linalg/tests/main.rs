//! Tests of rankbit-linalg, one module per method.

mod hadamard;
mod knapsack;
mod ldu;
mod metric;
mod moments;
mod precision;
mod random;
mod robust;
mod special;
mod support;
mod svd_randomized;
mod svd_truncated;
mod svd_weighted;
mod sweep;
mod trace;
mod tucker;
