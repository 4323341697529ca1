//! The dispatches of one product, in order.

use super::choice::{Choice, matrix_groups};
use super::coded::Coded;
use super::part::Part;
use super::{COLUMNS, GpuLinear};
use crate::Error;
use crate::buffer::{narrow, product};
use crate::dispatch::Dispatch;
use crate::operator::nonlinearity::Nonlinearity;
use crate::pipeline::{
    CODED_TOKENS, CodedParams, GATHER_THREADS, GatherParams, Kernel, ProjectParams, RaiseParams, SplitParams,
};

/// The buffers that differ from product to product.
pub(super) struct Buffers<'a> {
    pub(super) x: &'a wgpu::Buffer,
    pub(super) y: &'a wgpu::Buffer,
    /// `X·Rᵀ`, and ones for the bias.
    pub(super) z: &'a wgpu::Buffer,
    /// Inputs of the quantized term, when they are not x itself.
    pub(super) gathered: &'a wgpu::Buffer,
    pub(super) x_scales: &'a wgpu::Buffer,
}

/// What makes the dispatches.
pub(super) struct Steps<'a> {
    pub(super) linear: &'a GpuLinear,
    pub(super) tokens: usize,
    pub(super) buffers: Buffers<'a>,
    pub(super) choice: Choice,
    /// f32s of a token of x.
    pub(super) stride: usize,
    /// Words of a token of the gathered inputs; 0 when they are x itself.
    pub(super) gathered_stride: usize,
}

impl Steps<'_> {
    /// All of them: inputs, projection, quantized term with what is fused, the rest.
    pub(super) fn all(&self) -> Result<Vec<Dispatch>, Error> {
        let linear = self.linear;
        let mut steps = Vec::new();
        if self.tokens == 0 || linear.tiles == 0 {
            return Ok(steps);
        }
        steps.extend(self.inputs()?);
        if linear.rank > 0 {
            steps.push(self.project()?);
        }
        // The function belongs to the last kernel that touches a result.
        let last = linear.nonlinearity;
        let later = linear.sparse.is_some();
        if let Some(coded) = &linear.coded {
            steps.push(self.coded(coded, if later { Nonlinearity::None } else { last })?);
        } else {
            let fused = self.choice.fused || linear.rank == 0;
            for part in &linear.parts {
                steps.push(self.main(
                    part,
                    fused,
                    if later || !fused { Nonlinearity::None } else { last },
                )?);
                if !fused {
                    steps.push(self.raise(part, if later { Nonlinearity::None } else { last })?);
                }
            }
        }
        if let Some(sparse) = &linear.sparse {
            let (kernel, params, groups) = sparse.plan(&linear.gpu, self.tokens, self.stride)?;
            let params = linear.gpu.uniform("parameters", params)?;
            let buffers = [&params, &sparse.indices, &sparse.values, self.buffers.x, self.buffers.y];
            steps.push(linear.gpu.dispatch(kernel, last, groups, &buffers)?);
        }
        Ok(steps)
    }

    fn inputs(&self) -> Result<Option<Dispatch>, Error> {
        let (linear, gpu) = (self.linear, &self.linear.gpu);
        let Buffers { x, gathered, x_scales, .. } = self.buffers;
        if let Some(quantizer) = linear.quantizer {
            let threads = gpu.threads();
            let groups = quantizer.workgroups(self.tokens, threads);
            let kernel =
                Kernel::Quantize { threads, gathered: linear.gather.is_some(), output: quantizer.output() };
            let x_stride = if linear.gather.is_some() { self.stride } else { self.stride / 4 };
            let params = quantizer.params(self.tokens, linear.shape.1, x_stride, linear.lines)?;
            let params = gpu.uniform("parameters", params)?;
            let mut buffers = vec![&params, x];
            if let Some(gather) = &linear.gather {
                buffers.extend([&gather.columns, &gather.inverse]);
            }
            buffers.extend([gathered, x_scales]);
            return gpu.dispatch(kernel, Nonlinearity::None, groups, &buffers).map(Some);
        }
        let Some(gather) = linear.gather.as_ref().filter(|_| self.gathered_stride > 0) else {
            return Ok(None);
        };
        let params = GatherParams {
            tokens: narrow("tokens", self.tokens)?,
            features: narrow("columns", linear.shape.1)?,
            x_stride: narrow("columns", self.stride)?,
            out_stride: narrow("columns", self.gathered_stride / 4)?,
        };
        let across = (self.gathered_stride as u64 / 4).div_ceil(u64::from(GATHER_THREADS));
        let params = gpu.uniform("parameters", params)?;
        let buffers = [&params, x, &gather.columns, &gather.inverse, gathered];
        let groups = across.saturating_mul(self.tokens as u64);
        gpu.dispatch(Kernel::Gather, Nonlinearity::None, groups, &buffers).map(Some)
    }

    fn project(&self) -> Result<Dispatch, Error> {
        let (linear, gpu) = (self.linear, &self.linear.gpu);
        let side = if self.tokens == 1 { 1 } else { 4 };
        let params = ProjectParams {
            tokens: narrow("tokens", self.tokens)?,
            rank: narrow("rank", linear.rank)?,
            stride: narrow("columns", self.stride / 4)?,
            z_stride: narrow("rank", linear.terms)?,
        };
        let groups = product(&[linear.rank.div_ceil(side), self.tokens.div_ceil(side)]);
        let kernel = Kernel::Project { threads: gpu.threads(), side: narrow("side", side)? };
        let params = gpu.uniform("parameters", params)?;
        let buffers = [&params, self.buffers.x, &linear.right, self.buffers.z];
        gpu.dispatch(kernel, Nonlinearity::None, groups, &buffers)
    }

    /// The quantized term of one part, and the low-rank term with it when `fused`.
    fn main(&self, part: &Part, fused: bool, nonlinearity: Nonlinearity) -> Result<Dispatch, Error> {
        let (linear, gpu) = (self.linear, &self.linear.gpu);
        let Buffers { x, y, z, gathered, x_scales } = self.buffers;
        let integer = linear.quantizer.and_then(|quantizer| Some((quantizer, quantizer.integer?)));
        let x_stride = match (integer, self.gathered_stride) {
            (Some(_), _) => linear.lines,
            (None, 0) => self.stride / 4,
            (None, gathered) => gathered / 4,
        };
        let mut params = SplitParams {
            tiles: narrow("rows", part.tiles)?,
            lines: narrow("columns", linear.lines)?,
            groups: narrow("groups", linear.groups)?,
            group_shift: linear.shift,
            tokens: narrow("tokens", self.tokens)?,
            x_stride: narrow("columns", x_stride)?,
            rank: if fused { narrow("rank", linear.terms)? } else { 0 },
            height: narrow("rows", linear.tiles)?,
            base: narrow("rows", part.base)?,
            ..SplitParams::default()
        };
        if let Some((quantizer, integer)) = integer {
            params.x_groups = narrow("groups", quantizer.groups)?;
            (params.x_shift, params.segment_shift) = (integer.shift, integer.segment_shift);
        }
        let (kernel, groups) = linear.kernel(self.choice.shape, self.tokens, part.tiles);
        let params = gpu.uniform("parameters", params)?;
        let input = if self.gathered_stride > 0 { gathered } else { x };
        let mut buffers = vec![&params, &part.codes, &part.scales, &part.zeros, &part.left, z, input];
        if integer.is_some() {
            buffers.push(x_scales);
        }
        buffers.push(y);
        gpu.dispatch(kernel, nonlinearity, groups, &buffers)
    }

    /// The low-rank term of one part by itself.
    fn raise(&self, part: &Part, nonlinearity: Nonlinearity) -> Result<Dispatch, Error> {
        let (linear, gpu) = (self.linear, &self.linear.gpu);
        let params = RaiseParams {
            tiles: narrow("rows", part.tiles)?,
            height: narrow("rows", linear.tiles)?,
            base: narrow("rows", part.base)?,
            tokens: narrow("tokens", self.tokens)?,
            rank: narrow("rank", linear.terms)?,
            ..RaiseParams::default()
        };
        let params = gpu.uniform("parameters", params)?;
        let groups = matrix_groups(self.tokens as u64, part.tiles as u64, 1);
        let buffers = [&params, &part.left, self.buffers.z, self.buffers.y];
        gpu.dispatch(Kernel::Raise, nonlinearity, groups, &buffers)
    }

    fn coded(&self, coded: &Coded, nonlinearity: Nonlinearity) -> Result<Dispatch, Error> {
        let (linear, gpu) = (self.linear, &self.linear.gpu);
        let &Coded { rows, blocks, window, outliers, .. } = coded;
        let (threads, each) = (gpu.threads(), CODED_TOKENS[usize::from(self.tokens > 1)]);
        let across = (linear.tiles as u64 * super::ROWS as u64).div_ceil(u64::from(threads));
        let groups = across.saturating_mul((self.tokens as u64).div_ceil(u64::from(each)));
        let stride = if self.gathered_stride > 0 { self.gathered_stride } else { self.stride };
        let params = CodedParams {
            tiles: narrow("rows", linear.tiles)?,
            rows,
            blocks,
            window,
            outliers,
            tokens: narrow("tokens", self.tokens)?,
            x_stride: narrow("columns", stride / 4)?,
            rank: narrow("rank", linear.terms)?,
        };
        let params = gpu.uniform("parameters", params)?;
        let Coded { codes, columns, values, row_parts, .. } = coded;
        let Buffers { x, y, z, gathered, .. } = self.buffers;
        let input = if self.gathered_stride > 0 { gathered } else { x };
        // Vector codes come in one part.
        let left = linear.parts.first().map_or(&linear.right, |part| &part.left);
        let buffers = [&params, codes, columns, values, row_parts, input, left, z, y];
        gpu.dispatch(
            Kernel::Coded { code: coded.code, threads, tokens: each },
            nonlinearity,
            groups,
            &buffers,
        )
    }
}

/// f32s of a token of x, in whole lines.
pub(super) const fn stride(features: usize) -> usize {
    features.div_ceil(COLUMNS) * COLUMNS
}
