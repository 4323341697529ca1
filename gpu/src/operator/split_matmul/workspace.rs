//! Resident buffers of one product size, and the dispatches over them.

use super::coded::Coded;
use super::pack::{COLUMNS, ROWS};
use super::{GpuLinear, Kernel};
use crate::Error;
use crate::buffer::{GUARD, narrow, product};
use crate::pipeline::{CodedParams, GATHER_THREADS, GatherParams, ProjectParams, SplitParams};
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
    steps: Vec<Step>,
}

/// A buffer that kernels write, with its logical length.
#[derive(Debug)]
struct Written {
    what: &'static str,
    buffer: wgpu::Buffer,
    words: u64,
}

/// One dispatch.
#[derive(Debug)]
struct Step {
    pipeline: wgpu::ComputePipeline,
    bindings: wgpu::BindGroup,
    grid: [u32; 2],
}

impl<'a> Workspace<'a> {
    pub(super) fn new(linear: &'a GpuLinear, tokens: usize, guard: u64) -> Result<Self, Error> {
        let (gpu, rank) = (&linear.gpu, linear.rank);
        // In f32s.
        let stride = linear.shape.1.div_ceil(COLUMNS) * COLUMNS;
        let gathered_stride = if linear.gather.is_some() { linear.lines * COLUMNS } else { 0 };
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
        let x = gpu.scratch("activations", product(&[tokens, stride]))?;
        let y = scratch("result", product(&[tokens, linear.tiles, ROWS]))?;
        let z = scratch("projected activations", product(&[tokens, rank]))?;
        let gathered = scratch("gathered activations", product(&[tokens, gathered_stride]))?;

        let tokens_u32 = narrow("tokens", tokens)?;
        let mut steps = Vec::new();
        let mut add = |kernel: Kernel, groups: u64, buffers: &[&wgpu::Buffer]| -> Result<(), Error> {
            let (pipeline, grid) = (gpu.pipeline(kernel)?, gpu.grid(groups)?);
            let entries: Vec<_> = (0..)
                .zip(buffers)
                .map(|(binding, buffer)| wgpu::BindGroupEntry {
                    binding,
                    resource: buffer.as_entire_binding(),
                })
                .collect();
            let bindings = gpu.scoped("binding buffers", |device, _| {
                device.create_bind_group(&wgpu::BindGroupDescriptor {
                    label: None,
                    layout: &pipeline.get_bind_group_layout(0),
                    entries: &entries,
                })
            })?;
            steps.push(Step { pipeline, bindings, grid });
            Ok(())
        };
        if tokens > 0 && linear.tiles > 0 {
            if let Some(gather) = &linear.gather
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
                add(Kernel::Gather, across.saturating_mul(tokens as u64), &buffers)?;
            }
            if rank > 0 {
                let side = if tokens == 1 { 1 } else { 4 };
                let params = ProjectParams {
                    tokens: tokens_u32,
                    rank: narrow("rank", rank)?,
                    stride: narrow("columns", stride / 4)?,
                    unused: 0,
                };
                let (across, down) = (rank.div_ceil(side), tokens.div_ceil(side));
                let kernel = Kernel::Project { threads: gpu.threads(), side: narrow("side", side)? };
                let params = gpu.uniform("parameters", params)?;
                add(kernel, product(&[across, down]), &[&params, &x, &linear.right, &z])?;
            }
            let (kernel, groups) = linear.plan(tokens);
            let (input, input_stride) =
                if linear.gather.is_some() { (&gathered, gathered_stride) } else { (&x, stride) };
            let (tiles, rank) = (narrow("rows", linear.tiles)?, narrow("rank", rank)?);
            let x_stride = narrow("columns", input_stride / 4)?;
            if let Some(coded) = &linear.coded {
                let &Coded { rows, blocks, window, outliers, .. } = coded;
                let params =
                    CodedParams { tiles, rows, blocks, window, outliers, tokens: tokens_u32, x_stride, rank };
                let params = gpu.uniform("parameters", params)?;
                let Coded { codes, columns, values, row_parts, .. } = coded;
                let buffers = [&params, codes, columns, values, row_parts, input, &linear.left, &z, &y];
                add(kernel, groups, &buffers)?;
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
                add(kernel, groups, &[&params, codes, scales, zeros, input, &linear.left, &z, &y])?;
            }
            if let Some(sparse) = &linear.sparse {
                let (kernel, params, groups) = sparse.plan(gpu, tokens, stride)?;
                let params = gpu.uniform("parameters", params)?;
                add(kernel, groups, &[&params, &sparse.indices, &sparse.values, &x, &y])?;
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
    /// [`Error::ShapeMismatch`] when `x` is not `[tokens, in]`, and whatever the device reports.
    pub fn write(&self, x: MatRef<'_, f32>) -> Result<(), Error> {
        let (expected, found) = ((self.tokens, self.linear.shape.1), (x.nrows(), x.ncols()));
        if expected != found {
            return Err(Error::ShapeMismatch { what: "activations", expected, found });
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

    fn submit(&self) -> Result<(), Error> {
        self.linear.gpu.scoped("the product", |device, queue| {
            let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: None });
            {
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                for step in &self.steps {
                    pass.set_pipeline(&step.pipeline);
                    pass.set_bind_group(0, &step.bindings, &[]);
                    pass.dispatch_workgroups(step.grid[0], step.grid[1], 1);
                }
            }
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
