//! Storage: the kept values and where they lie.
//!
//! | type | values | places | bits per weight of a 2:4 f16 matrix |
//! |---|---|---|---|
//! | [`NmMatrix`] | N of every M | packed indices of ⌈log₂ M⌉ bits | 9 |
//! | [`BlockMatrix`] | whole blocks; blocks of 1×1 are CSR | 16- or 32-bit block columns, row starts | 16 for density ½ |
//! | [`SparseMatrix`] | either, as a pattern asks | | |
//!
//! [`hardware`] exports the 2:4 metadata that sparse tensor cores read.

pub mod hardware;

mod block;
mod matrix;
mod nm;
mod size;
mod values;

pub use block::{BlockIndices, BlockMatrix};
pub use matrix::SparseMatrix;
pub use nm::{NmLengths, NmMatrix};
pub use size::stored_bits;
pub use values::{ValueFormat, Values};
