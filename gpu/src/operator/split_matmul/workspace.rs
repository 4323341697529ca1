//! Resident buffers of one product size, and the dispatches over them.

use super::coded::Coded;
use super::pack::{COLUMNS, ROWS};
use super::{GpuLinear, Kernel};
use crate::buffer::{GUARD, narrow, product};
use crate::dispatch::{self, Dispatch};
use crate::operator::nonlinearity::Nonlinearity;
use crate::pipeline::{CodedParams, GATHER_THREADS, GatherParams, IntegerParams, ProjectParams, SplitParams};
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
    ) -> Result<Self, Error> {
        let (gpu, rank, terms) = (&linear.gpu, linear.rank, linear.terms);
        // In f32s.
        let stride = linear.shape.1.div_ceil(COLUMNS) * COLUMNS;
        let gathered_stride = match &linear.quantizer {
            Some(quantizer) => linear.lines * quantizer.line_words(),
            None if linear.gather.is_some() => linear.lines * COLUMNS,
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

        let tokens_u32 = narrow("tokens", tokens)?;
        let mut steps = Vec::new();
        let mut add =
            |kernel: Kernel, nonlinearity, groups: u64, buffers: &[&wgpu::Buffer]| -> Result<(), Error> {
                steps.push(gpu.dispatch(kernel, nonlinearity, groups, buffers)?);
                Ok(())
            };
        if tokens > 0 && linear.tiles > 0 {
            if let Some(quantizer) = linear.quantizer {
                let (threads, packed) = (gpu.threads(), quantizer.integer.is_some());
                let groups = quantizer.workgroups(tokens, threads);
                let kernel = Kernel::Quantize { threads, gathered: linear.gather.is_some(), packed };
                let x_stride = if linear.gather.is_some() { stride } else { stride / 4 };
                let params = quantizer.params(tokens, linear.shape.1, x_stride, linear.lines)?;
                let params = gpu.uniform("parameters", params)?;
                let mut buffers = vec![&params, &x];
                if let Some(gather) = &linear.gather {
                    buffers.extend([&gather.columns, &gather.inverse]);
                }
                buffers.extend([&gathered, &x_scales]);
                add(kernel, Nonlinearity::None, groups, &buffers)?;
            } else if let Some(gather) = &linear.gather
                && gathered_stride > 0
            {
                let params = GatherParams {
                    tokens: tokens_u32,
                    features: narrow("columns", linear.shape.1)?,
                    x_stride: narrow("columns", stride)?,
                    out_stride: narrow("columns", gathered_stride / 4)?,
                };
                let across = (gathered_stride as u64 / 4).div_ceil(u64::from(GATHER_THREADS));
                let params = gpu.uniform("parameters", params)?;
                let buffers = [&params, &x, &gather.columns, &gather.inverse, &gathered];
                add(Kernel::Gather, Nonlinearity::None, across.saturating_mul(tokens as u64), &buffers)?;
            }
            if rank > 0 {
                let side = if tokens == 1 { 1 } else { 4 };
                let params = ProjectParams {
                    tokens: tokens_u32,
                    rank: narrow("rank", rank)?,
                    stride: narrow("columns", stride / 4)?,
                    z_stride: narrow("rank", terms)?,
                };
                let (across, down) = (rank.div_ceil(side), tokens.div_ceil(side));
                let kernel = Kernel::Project { threads: gpu.threads(), side: narrow("side", side)? };
                let params = gpu.uniform("parameters", params)?;
                add(kernel, Nonlinearity::None, product(&[across, down]), &[&params, &x, &linear.right, &z])?;
            }
            let (kernel, groups) = linear.plan(tokens);
            // The last kernel's alone.
            let last = linear.nonlinearity;
            let main = if linear.sparse.is_some() { Nonlinearity::None } else { last };
            let (input, input_stride) =
                if gathered_stride > 0 { (&gathered, gathered_stride) } else { (&x, stride) };
            let (tiles, rank) = (narrow("rows", linear.tiles)?, narrow("rank", terms)?);
            let x_stride = narrow("columns", input_stride / 4)?;
            if let Some(coded) = &linear.coded {
                let &Coded { rows, blocks, window, outliers, .. } = coded;
                let params =
                    CodedParams { tiles, rows, blocks, window, outliers, tokens: tokens_u32, x_stride, rank };
                let params = gpu.uniform("parameters", params)?;
                let Coded { codes, columns, values, row_parts, .. } = coded;
                let buffers = [&params, codes, columns, values, row_parts, input, &linear.left, &z, &y];
                add(kernel, main, groups, &buffers)?;
            } else if let Some(quantizer) = linear.quantizer
                && let Some(integer) = quantizer.integer
            {
                let params = IntegerParams {
                    tiles,
                    lines: narrow("columns", linear.lines)?,
                    groups: narrow("groups", linear.groups)?,
                    group_shift: linear.shift,
                    tokens: tokens_u32,
                    x_groups: narrow("groups", quantizer.groups)?,
                    x_shift: integer.shift,
                    rank,
                    segment_shift: integer.segment_shift,
                    unused0: 0,
                    unused1: 0,
                    unused2: 0,
                };
                let params = gpu.uniform("parameters", params)?;
                let (codes, scales, zeros) = (&linear.codes, &linear.scales, &linear.zeros);
                let buffers = [&params, codes, scales, zeros, &gathered, &x_scales, &linear.left, &z, &y];
                add(kernel, main, groups, &buffers)?;
            } else {
                let params = SplitParams {
                    tiles,
                    lines: narrow("columns", linear.lines)?,
                    groups: narrow("groups", linear.groups)?,
                    group_shift: linear.shift,
                    tokens: tokens_u32,
                    x_stride,
                    rank,
                    unused: 0,
                };
                let params = gpu.uniform("parameters", params)?;
                let (codes, scales, zeros) = (&linear.codes, &linear.scales, &linear.zeros);
                add(kernel, main, groups, &[&params, codes, scales, zeros, input, &linear.left, &z, &y])?;
            }
            if let Some(sparse) = &linear.sparse {
                let (kernel, params, groups) = sparse.plan(gpu, tokens, stride)?;
                let params = gpu.uniform("parameters", params)?;
                add(kernel, last, groups, &[&params, &sparse.indices, &sparse.values, &x, &y])?;
            }
        }
        Ok(Self { linear, tokens, x, y, written, steps })
    }

    /// Rows of activations that this workspace is for.
    pub const fn tokens(&self) -> usize {
        self.tokens
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
        let stride = x.ncols().div_ceil(COLUMNS) * COLUMNS;
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
