#![doc = include_str!("../README.md")]
#![no_std]

pub use rankbit_attention as attention;
#[cfg(feature = "gpu")]
pub use rankbit_gpu as gpu;
pub use rankbit_linalg as linalg;
pub use rankbit_lowrank as lowrank;
pub use rankbit_quant as quant;
pub use rankbit_sparse as sparse;
