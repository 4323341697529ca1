//! Integer-only arithmetic with dyadic numbers (HAWQ-V3, arXiv 2011.10680, §3): once a network is calibrated, not a
//! single float is left in it.
//!
//! ```text
//! calibration (floats)                               inference (integers only)
//! fold batch norm:  w' = w·γ/σ,  b' = β + (b - μ)·γ/σ
//! weights:          w ≈ S_w·w_int, per channel       acc[o] = Σ_k x_int[k]·w_int[o, k] + b_int[o]
//! activations:      x ≈ S_x·x_int                    y_int  = clamp(round(acc·b / 2^c))
//! dyadic number:    b / 2^c ≈ S_x·S_w / S_y
//! ```
//! * [`integer`] is inference: 2- to 8-bit codes in, sums in i32 where their range allows and else in i64,
//!   multiply-and-shift back to codes. Its modules are compiled with lints that forbid floats, and every result equals
//!   exact rational arithmetic, bit for bit.
//! * [`calibrate`] is what comes before: scales, folding, and the dyadic numbers.
//! * [`cost`] counts what a choice of bits costs: size, bit operations, latency.
//!
//! **Rounding** is to nearest, ties toward +∞: what "add half, shift right arithmetically" gives. (HAWQ's simulation
//! rounds ties to even in f64, and is inexact beyond 2⁵³; its deployed graphs truncate most requantizations. All three
//! differ by at most 1, and the first two on ties only.)
//!
//! ```
//! use rankbit_quant::dyadic::{Activation, IntFormat, calibrate};
//!
//! // y = relu(W·x + b), two outputs, three inputs.
//! let (weight, bias) = ([0.5, -0.25, 1.0, 2.0, 0.125, -1.5], [0.1, -0.2]);
//! let input = Activation::from_absmax(1.0, IntFormat::INT8)?;
//! let output = Activation::from_absmax(2.0, IntFormat::UINT8)?;
//! let linear = calibrate::linear((2, 3), &weight, &bias, 8, input)?;
//! let requantize = calibrate::requantize(&linear.scales, output, true)?;
//!
//! let x = input.quantize([1, 3, 1, 1], &[0.5, -1.0, 0.25])?;
//! let y = requantize.apply(&linear.layer.apply(&x)?)?; // no float from here ...
//! let y = output.dequantize(&y); // ... to here
//! assert!((y[0] - 0.85).abs() < 0.02 && (y[1] - 0.3).abs() < 0.02);
//! # Ok::<(), rankbit_quant::Error>(())
//! ```

pub mod calibrate;
pub mod cost;
pub mod integer;
pub(crate) mod stored;

pub use calibrate::Activation;
pub use integer::{
    Average, AveragePool, Conv2d, Dyadic, IntFormat, Linear, MaxPool, Requantize, Residual, Sums, Tensor,
    Window,
};
