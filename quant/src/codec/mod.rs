//! Between floats and packed codes, many groups at a time: the loops that decoding and rounding to nearest run in.
//!
//! `portable` defines the results; the kernels of other instructions give the same bits.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx2_encode;
mod decode;
#[cfg(target_arch = "x86_64")]
pub(crate) mod encode;
mod portable;

pub(crate) use decode::Decoder;
