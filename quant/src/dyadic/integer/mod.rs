//! Inference without floats: codes of 2 to 8 bits, sums in i32 or i64, multiply and shift.
//!
//! **No float**: the lints below refuse float arithmetic and the names of the float types in this module and all
//! modules under it; a test refuses the same in their text, and that they use anything but `core`, `alloc`, each other
//! and the crate's error type.
//!
//! **No overflow**: whether a layer's sums fit i32, and whether they fit i64, follows from its weights, its bias and
//! the range of its input's codes, so it is decided, or refused, when the layer is made:
//!
//! ```text
//! |acc[o]| and all partial sums ≤ Σ_k |w[o, k]| · max|x| + |b[o]|        ≤ 2³¹ - 1: i32;  ≤ 2⁶³ - 1: i64;  else an error
//! |acc · b|  < 2³¹ · 2³¹ = 2⁶² for i32 (i64 product),  < 2⁶³ · 2³¹ = 2⁹⁴ for i64 (i128 product)
//! ```
//!
//! Tensors are `[batch, channels, height, width]`, row-major. A zero is the code 0 in every format, so padding is too.
#![forbid(clippy::float_arithmetic, clippy::disallowed_types, unsafe_code)]

mod add;
mod conv;
mod filter;
mod format;
mod linear;
mod number;
mod pool;
mod requantize;
mod sums;
mod tensor;
mod window;

pub use add::Residual;
pub use conv::Conv2d;
pub use format::IntFormat;
pub use linear::Linear;
pub use number::Dyadic;
pub use pool::{Average, AveragePool, MaxPool};
pub use requantize::Requantize;
pub use sums::{Sums, Wide};
pub use tensor::{Shape, Tensor};
pub use window::Window;
