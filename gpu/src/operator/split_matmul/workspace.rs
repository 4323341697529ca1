//! Resident buffers of one product size, and the dispatches over them.

use super::GpuLinear;
use super::choice::Choice;
use super::pack::ROWS;
use super::steps::{Buffers, Steps, stride};
use crate::buffer::{GUARD, product};
use crate::dispatch::{self, Dispatch};
use crate::{Error, Gpu};
use rankbit_linalg::faer::{Mat, MatRef};

/// Buffers for products of one [`GpuLinear`] with a fixed number of tokens; from [`GpuLinear::workspace`].
///
/// Activations lie as `[tokens, in rounded up to 8]`, zeros in the padding; the result as
/// `[tokens, out rounded up to 16]`, zeros in the padding (for finite activations).
#[derive(Debug)]
pub struct Workspace<'a> {
    linear: &'a GpuLinear,
    tokens: usize,
    x: wgpu::Buffer,
    y: wgpu::Buffer,
    written: Vec<Written>,
    steps: Vec<Dispatch>,
    choice: Choice,
}

/// A buffer that kernels write, with its logical length.
#[derive(Debug)]
struct Written {
    what: &'static str,
    buffer: wgpu::Buffer,
    words: u64,
}

impl<'a> Workspace<'a> {
    /// `own`: the caller's buffers for activations and result.
    pub(super) fn new(
        linear: &'a GpuLinear,
        tokens: usize,
        guard: u64,
        own: Option<[&wgpu::Buffer; 2]>,
        choice: Choice,
    ) -> Result<Self, Error> {
        let (gpu, rank, terms) = (&linear.gpu, linear.rank, linear.terms);
        let stride = stride(linear.shape.1);
        let gathered_stride = match &linear.quantizer {
            Some(quantizer) => linear.lines * quantizer.line_words(),
            None if linear.gather.is_some() => linear.lines * super::COLUMNS,
            None => 0,
        };
        let mut written = Vec::new();
        let mut scratch = |what, words: u64| -> Result<wgpu::Buffer, Error> {
            let buffer = gpu.scratch(what, words.saturating_add(guard))?;
            if guard > 0 {
                let size = usize::try_from(buffer.size() / 4).unwrap_or(0);
                gpu.write(what, &buffer, &vec![GUARD; size])?;
            }
            written.push(Written { what, buffer: buffer.clone(), words });
            Ok(buffer)
        };
        let sizes = [product(&[tokens, stride]), product(&[tokens, linear.tiles, ROWS])];
        let (x, y) = match own {
            Some([x, y]) => {
                fits("activations", x, sizes[0], gpu)?;
                fits("result", y, sizes[1], gpu)?;
                (x.clone(), y.clone())
            }
            None => (gpu.scratch("activations", sizes[0])?, scratch("result", sizes[1])?),
        };
        let z = scratch("projected activations", product(&[tokens, terms]))?;
        if terms > rank {
            // What the bias is multiplied by; the projection writes the entries before it.
            gpu.write("projected activations", &z, &vec![1.0_f32; tokens * terms])?;
        }
        let gathered = scratch("gathered activations", product(&[tokens, gathered_stride]))?;
        let groups = linear.quantizer.map_or(0, |quantizer| quantizer.groups);
        let x_scales = scratch("scales of activations", product(&[tokens, groups]))?;

        let buffers = Buffers { x: &x, y: &y, z: &z, gathered: &gathered, x_scales: &x_scales };
        let steps = Steps { linear, tokens, buffers, choice, stride, gathered_stride }.all()?;
        Ok(Self { linear, tokens, x, y, written, steps, choice })
    }

    /// Rows of activations that this workspace is for.
    pub const fn tokens(&self) -> usize {
        self.tokens
    }

    /// Which kernels it runs.
    pub const fn choice(&self) -> Choice {
        self.choice
    }

    /// Dispatches of a product.
    pub fn dispatches(&self) -> usize {
        self.steps.len()
    }

    /// `Y = X·Ŵᵀ`: [`Workspace::write`], [`Workspace::run`], [`Workspace::read`].
    ///
    /// # Errors
    /// As those.
    pub fn apply(&self, x: MatRef<'_, f32>) -> Result<Mat<f32>, Error> {
        self.write(x)?;
        self.submit()?;
        self.read()
    }

    /// Copies activations to the device.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when `x` is not `[tokens, in]`; [`rankbit_quant::Error::ActivationNonFinite`] for a NaN or
    /// infinity when the split quantizes its inputs (those that arise on the device, by smoothing or in a caller's own
    /// buffer, make the token's result NaN); and whatever the device reports.
    pub fn write(&self, x: MatRef<'_, f32>) -> Result<(), Error> {
        let (expected, found) = ((self.tokens, self.linear.shape.1), (x.nrows(), x.ncols()));
        if expected != found {
            return Err(Error::ShapeMismatch { what: "activations", expected, found });
        }
        if self.linear.quantizer.is_some() {
            for (token, row) in x.row_iter().enumerate() {
                if let Some(feature) = row.iter().position(|value| !value.is_finite()) {
                    return Err(rankbit_quant::Error::ActivationNonFinite { token, feature }.into());
                }
            }
        }
        let stride = stride(x.ncols());
        let mut rows = vec![0.0_f32; x.nrows() * stride];
        for (row, to) in rows.chunks_exact_mut(stride.max(1)).enumerate() {
            for (to, &value) in to.iter_mut().zip(x.row(row).iter()) {
                *to = value;
            }
        }
        self.linear.gpu.write("activations", &self.x, &rows)
    }

    /// Runs the product over what was written last, and waits until it is done.
    ///
    /// # Errors
    /// Whatever the device reports.
    pub fn run(&self) -> Result<(), Error> {
        self.submit()?;
        self.linear.gpu.wait("the product")
    }

    /// The result of the last run.
    ///
    /// # Errors
    /// Whatever the device reports.
    pub fn read(&self) -> Result<Mat<f32>, Error> {
        let (out, stride) = (self.linear.shape.0, self.linear.tiles * ROWS);
        if self.steps.is_empty() {
            return Ok(Mat::zeros(self.tokens, out));
        }
        let values: Vec<f32> = self.linear.gpu.read("result", &self.y, product(&[self.tokens, stride]))?;
        Ok(Mat::from_fn(self.tokens, out, |t, o| values.get(t * stride + o).copied().unwrap_or(f32::NAN)))
    }

    /// Where activations are read, `[tokens, in rounded up to 8]` of f32 with zeros in the padding: for kernels or
    /// copies of the caller that put them there.
    pub const fn input(&self) -> &wgpu::Buffer {
        &self.x
    }

    /// Where the result is written, `[tokens, out rounded up to 16]` of f32.
    pub const fn output(&self) -> &wgpu::Buffer {
        &self.y
    }

    /// Adds the product's dispatches to a command encoder of this device, as one compute pass: what is in
    /// [`Workspace::input`] when they run is multiplied into [`Workspace::output`]. Nothing is submitted or awaited; an
    /// encoder of another device is an error of wgpu's when it is finished.
    pub fn encode(&self, encoder: &mut wgpu::CommandEncoder) {
        dispatch::encode(&self.steps, encoder);
    }

    fn submit(&self) -> Result<(), Error> {
        self.linear.gpu.scoped("the product", |device, queue| {
            let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: None });
            self.encode(&mut encoder);
            queue.submit([encoder.finish()]);
        })
    }

    /// Names the buffer and word of the first guard that a kernel has overwritten, when the workspace has guards.
    pub(crate) fn overwritten_guard(&self) -> Result<Option<(&'static str, u64)>, Error> {
        for Written { what, buffer, words } in &self.written {
            let all: Vec<u32> = self.linear.gpu.read(what, buffer, buffer.size() / 4)?;
            let stray = (0..).zip(&all).find(|&(at, &word)| at >= *words && word != GUARD);
            if let Some((at, _)) = stray {
                return Ok(Some((what, at - words)));
            }
        }
        Ok(None)
    }
}

/// Whether a buffer of the caller's holds `words` 32-bit words and kernels may use it.
fn fits(what: &'static str, buffer: &wgpu::Buffer, words: u64, gpu: &Gpu) -> Result<(), Error> {
    let (has, needed) = (buffer.size(), words.max(4).saturating_mul(4));
    let limit = gpu.limits().binding_bytes;
    if has < needed {
        return Err(Error::Buffer { what, reason: format!("{has} bytes, {needed} needed") });
    }
    if has > limit {
        return Err(Error::LimitExceeded { what, needed: has, limit });
    }
    if !buffer.usage().contains(wgpu::BufferUsages::STORAGE) {
        return Err(Error::Buffer { what, reason: "not made with the usage STORAGE".to_owned() });
    }
    Ok(())
}
