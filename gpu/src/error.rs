//! The crate's one error type.

use crate::Choice;
use rankbit_quant::{Activation, Scheme};
use thiserror::Error;

/// Why a device, an upload or a product did not work.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Error)]
pub enum Error {
    /// No adapter that can run the kernels matches the selection.
    #[error("no GPU adapter {wanted}; found: {found}")]
    NoAdapter {
        /// What was asked for.
        wanted: String,
        /// The adapters there are, with the reason where one cannot run the kernels.
        found: String,
    },
    /// The adapter refused to open a device.
    #[error("adapter '{adapter}' did not open: {reason}")]
    NoDevice {
        /// The adapter's name.
        adapter: String,
        /// What it said.
        reason: String,
    },
    /// No kernel handles this number format.
    #[error("no GPU kernel for {} ({scheme:?})", scheme.name().unwrap_or("this scheme"))]
    Unsupported {
        /// The format.
        scheme: Scheme,
    },
    /// No kernel quantizes the inputs of a product.
    #[error("no GPU kernel for inputs as {activation}")]
    UnsupportedActivation {
        /// The split's policy.
        activation: Activation,
    },
    /// No kernel rotates the inputs of a product.
    #[error("no GPU kernel for rotated inputs")]
    UnsupportedRotation,
    /// No kernel multiplies with a sparse term of blocks or of any entries.
    #[error("no GPU kernel for sparse terms other than N:M")]
    UnsupportedSparse,
    /// The device, or the matrix, does not have the kernels asked for.
    #[error("'{choice}' cannot make this product here")]
    InvalidChoice {
        /// What was asked for.
        choice: Choice,
    },
    /// The tuner's file cannot be read or written, or is damaged.
    #[error("{}{}: {reason}", path.display(), if *line > 0 { format!(", line {line}") } else { String::new() })]
    ChoicesFile {
        /// The file.
        path: std::path::PathBuf,
        /// The line that is wrong, from 1 on; 0 for the whole file.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// Two arguments disagree in shape.
    #[error("{what}: expected shape {expected:?}, found {found:?}")]
    ShapeMismatch {
        /// The argument that disagrees.
        what: &'static str,
        /// The shape that the other arguments ask for.
        expected: (usize, usize),
        /// The shape that was passed.
        found: (usize, usize),
    },
    /// A size is beyond what the device, or a 32-bit index, can reach.
    #[error("{what}: {needed} is more than this device's limit of {limit}")]
    LimitExceeded {
        /// Which size.
        what: &'static str,
        /// The size needed.
        needed: u64,
        /// The largest size possible.
        limit: u64,
    },
    /// The device has no memory left.
    #[error("{what}: the device is out of memory")]
    OutOfMemory {
        /// What was being done.
        what: &'static str,
    },
    /// The device did not finish within [`Gpu::timeout`](crate::Gpu::timeout); what was submitted may still run.
    #[error("{what}: not done after {limit:?}")]
    TimedOut {
        /// What was being done.
        what: &'static str,
        /// The time waited.
        limit: std::time::Duration,
    },
    /// A buffer of the caller's is too small, or was not made for kernels to use.
    #[error("the caller's buffer of {what}: {reason}")]
    Buffer {
        /// What it is for.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The device is gone (unplugged, reset, driver crash); open another.
    #[error("the device is lost: {reason}")]
    DeviceLost {
        /// What the driver said.
        reason: String,
    },
    /// wgpu or the driver refused an operation: a defect of this crate or of the driver.
    #[error("{what} was refused: {reason}")]
    Rejected {
        /// What was being done.
        what: &'static str,
        /// The message.
        reason: String,
    },
    /// A part of the split could not be read.
    #[error("the split could not be read")]
    Split(#[from] rankbit_lowrank::Error),
    /// A part of the quantized term could not be read.
    #[error("the quantized term could not be read")]
    Quantized(#[from] rankbit_quant::Error),
}

impl Error {
    /// What `source` of wgpu means while doing `what`.
    pub(crate) fn from_wgpu(what: &'static str, source: &wgpu::Error) -> Self {
        match source {
            wgpu::Error::OutOfMemory { .. } => Self::OutOfMemory { what },
            wgpu::Error::Validation { description, .. } | wgpu::Error::Internal { description, .. } => {
                Self::Rejected { what, reason: description.clone() }
            }
        }
    }
}
