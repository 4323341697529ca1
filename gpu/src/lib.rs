//! Products of split matrices `W ≈ Q + L·R` on any GPU, through wgpu.
//!
//! [`Gpu`] is a device. [`Gpu::upload`] repacks a [`Split`](rankbit_lowrank::Split) once into the kernels' layout;
//! the [`GpuLinear`] it returns multiplies. Every kernel has a CPU twin that it is held to by [`self_test`].
//! Nothing here panics on what a caller or a driver does: wgpu's errors come back as [`Error`].
//!
//! ```no_run
//! use rankbit_gpu::Gpu;
//! use rankbit_lowrank::{Input, fit, preset};
//! use rankbit_linalg::faer::Mat;
//! use rankbit_quant::{FloatFormat, scheme};
//!
//! let weight = Mat::from_fn(64, 128, |i, j| ((i * 31 + j * 17) % 97) as f32 / 97.0 - 0.5);
//! let recipe = preset::lorc(scheme::INT4, 8, FloatFormat::F16);
//! let split = fit(weight.as_ref(), &recipe, &Input { name: "layer", moments: None })?.split;
//!
//! let gpu = Gpu::new()?;
//! let linear = gpu.upload(&split)?;
//! let x = Mat::from_fn(3, 128, |t, j| (t * 7 + j) as f32 * 0.01);
//! let y = linear.apply(x.as_ref())?;
//! assert_eq!((y.nrows(), y.ncols()), (3, 64));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod buffer;
mod device;
mod dispatch;
mod error;
mod operator;
pub mod pipeline;
mod self_test;
mod timing;

pub use device::{AdapterInfo, Gpu, Limits, Selection, adapters};
pub use error::Error;
pub use operator::nonlinearity::Nonlinearity;
pub use operator::split_matmul::{Choice, GpuLinear, Shape, Workspace};
pub use self_test::{CaseResult, SelfTestReport, self_test};
pub use timing::Timing;
pub use wgpu;
