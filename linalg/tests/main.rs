//! Tests of rankbit-linalg, one module per method.

mod grassmann;
mod hadamard;
mod hostile;
mod knapsack;
mod lasso;
mod ldu;
mod metric;
mod moments;
mod precision;
mod probability;
mod random;
mod robust;
mod special;
mod support;
mod svd_krylov;
mod svd_randomized;
mod svd_streaming;
mod svd_truncated;
mod svd_weighted;
mod sweep;
mod trace;
mod tucker;
