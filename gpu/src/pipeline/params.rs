//! The parameters at binding 0 of each kernel; a test compares them with the WGSL.

use bytemuck::{Pod, Zeroable};

/// Parameters of the product kernel for vector codes; see `shader/shared/coded.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub(crate) struct CodedParams {
    pub(crate) tiles: u32,
    pub(crate) rows: u32,
    pub(crate) blocks: u32,
    pub(crate) window: u32,
    pub(crate) outliers: u32,
    pub(crate) tokens: u32,
    pub(crate) x_stride: u32,
    pub(crate) rank: u32,
}

/// Parameters of the product kernels; see `shader/shared/split.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
pub(crate) struct SplitParams {
    pub(crate) tiles: u32,
    pub(crate) lines: u32,
    pub(crate) groups: u32,
    pub(crate) group_shift: u32,
    pub(crate) tokens: u32,
    pub(crate) x_stride: u32,
    pub(crate) rank: u32,
    pub(crate) x_groups: u32,
    pub(crate) x_shift: u32,
    pub(crate) segment_shift: u32,
    pub(crate) height: u32,
    pub(crate) base: u32,
}

/// Parameters of `raise.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
pub(crate) struct RaiseParams {
    pub(crate) tiles: u32,
    pub(crate) height: u32,
    pub(crate) base: u32,
    pub(crate) tokens: u32,
    pub(crate) rank: u32,
    pub(crate) unused0: u32,
    pub(crate) unused1: u32,
    pub(crate) unused2: u32,
}

/// Parameters of `quantize.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Debug, Pod, Zeroable)]
pub(crate) struct QuantizeParams {
    pub(crate) tokens: u32,
    pub(crate) features: u32,
    pub(crate) x_stride: u32,
    pub(crate) lines: u32,
    pub(crate) span: u32,
    pub(crate) groups: u32,
    pub(crate) most: f32,
    pub(crate) top: f32,
    pub(crate) factor: f32,
    pub(crate) unused0: u32,
    pub(crate) unused1: u32,
    pub(crate) unused2: u32,
}

/// Parameters of `project.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub(crate) struct ProjectParams {
    pub(crate) tokens: u32,
    pub(crate) rank: u32,
    pub(crate) stride: u32,
    pub(crate) z_stride: u32,
}

/// Parameters of `gather.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub(crate) struct GatherParams {
    pub(crate) tokens: u32,
    pub(crate) features: u32,
    pub(crate) x_stride: u32,
    pub(crate) out_stride: u32,
}

/// Parameters of `sparse.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub(crate) struct SparseParams {
    pub(crate) tiles: u32,
    pub(crate) chunks: u32,
    pub(crate) slots: u32,
    pub(crate) keep: u32,
    pub(crate) span: u32,
    pub(crate) bits: u32,
    pub(crate) tokens: u32,
    pub(crate) x_stride: u32,
}

/// Parameters of `log_bessel.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub(crate) struct BesselParams {
    pub(crate) count: u32,
    pub(crate) stride: u32,
    pub(crate) unused: u32,
    pub(crate) reserved: u32,
}
