//! One file per operator, named after the CPU routine that is its twin.

mod log_bessel;
pub(crate) mod nonlinearity;
pub(crate) mod split_matmul;
