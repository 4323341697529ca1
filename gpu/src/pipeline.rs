//! The kernels: which permutations there are, their WGSL text, bindings and parameters.
//!
//! A permutation's text is a header of constants followed by the files it needs, so that sizes are typed once, in
//! Rust. [`Kernel::permutations`] lists them for tests and for other WGSL compilers.

mod format;
mod params;
mod source;
mod template;

use crate::operator::nonlinearity::Nonlinearity;
pub use format::{Format, Inputs, VectorCode};
pub(crate) use params::{
    BesselParams, CodedParams, GatherParams, ProjectParams, QuantizeParams, RaiseParams, SparseParams,
    SplitParams,
};
use std::mem::offset_of;

/// One kernel in one permutation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kernel {
    /// `shader/split_matmul/gather.wgsl`.
    Gather,
    /// `shader/split_matmul/project.wgsl`.
    Project {
        /// Threads of a workgroup.
        threads: u32,
        /// Tokens, and ranks, of a workgroup.
        side: u32,
    },
    /// `shader/split_matmul/vector.wgsl`.
    Vector {
        /// What the codes mean.
        format: Format,
        /// What the inputs are.
        inputs: Inputs,
        /// Threads of a workgroup, a multiple of 4.
        threads: u32,
        /// Tokens of a workgroup.
        tokens: u32,
        /// Whether partial sums meet within subgroups first.
        subgroup: bool,
    },
    /// `shader/split_matmul/matrix.wgsl`.
    Matrix {
        /// What the codes mean.
        format: Format,
        /// What the inputs are.
        inputs: Inputs,
        /// Row quads of a thread, 1 or 2.
        wide: u32,
    },
    /// `shader/split_matmul/tile.wgsl`.
    Tile {
        /// What the codes mean.
        format: Format,
        /// What the inputs are.
        inputs: Inputs,
    },
    /// `shader/split_matmul/raise.wgsl`.
    Raise,
    /// `shader/split_matmul/quantize.wgsl`.
    Quantize {
        /// Threads of a workgroup, a multiple of 8.
        threads: u32,
        /// Whether inputs are smoothed, permuted or padded on the way.
        gathered: bool,
        /// What is written: codes, for the kernels of integers, or the numbers they stand for.
        output: Inputs,
    },
    /// `shader/split_matmul/sparse.wgsl`.
    Sparse {
        /// Whether kept values are f16, not f32.
        half: bool,
        /// Threads of a workgroup, a multiple of 4.
        threads: u32,
        /// Tokens of a workgroup.
        tokens: u32,
    },
    /// `shader/split_matmul/coded.wgsl`.
    Coded {
        /// What the codes mean.
        code: VectorCode,
        /// Threads of a workgroup.
        threads: u32,
        /// Tokens of a thread.
        tokens: u32,
    },
    /// `shader/log_bessel.wgsl`.
    LogBessel {
        /// Whether it is ln I, not ln K.
        first: bool,
    },
}

/// Threads of a log-Bessel workgroup.
pub(crate) const BESSEL_THREADS: u32 = 64;
/// Threads of the workgroups that share one sum: on software drivers, on hardware.
pub(crate) const THREADS: [u32; 2] = [8, 64];
/// Tokens of a thread of the kernel for vector codes: for one token, for more.
pub(crate) const CODED_TOKENS: [u32; 2] = [1, 4];
/// Threads of a gather workgroup.
pub(crate) const GATHER_THREADS: u32 = 64;
/// Threads across (along rows) and down (along tokens) of a matrix workgroup.
pub(crate) const MATRIX_SHAPE: [u32; 2] = [8, 8];
/// Tokens of a thread of the matrix kernel.
pub(crate) const MATRIX_TOKENS: u32 = 4;
/// Row quads and tokens of a thread of the kernel of tiles.
pub(crate) const TILE_WIDE: u32 = 2;
pub(crate) const TILE_TOKENS: u32 = 8;
/// Rows, and tokens, of a workgroup of the kernel of tiles.
pub(crate) const TILE_SIDE: u32 = 64;
/// Lines of a step of the kernel of tiles for inputs of integers.
pub(crate) const TILE_LINES_SHIFT: u32 = 3;

/// Threads that quantize a group.
pub(crate) const QUANTIZE_LANES: u32 = 8;

/// Lists a struct's fields with their offsets, and its size.
macro_rules! fields {
    ($type:ty: $($field:ident),*) => {
        (size_of::<$type>(), vec![$((stringify!($field), offset_of!($type, $field))),*])
    };
}

impl Kernel {
    /// Every permutation that a device may be asked for; those of subgroups only by devices that have the feature.
    pub fn permutations() -> Vec<Self> {
        let mut all = vec![Self::Gather, Self::Raise];
        let products = || {
            let pairs = |inputs| Format::ALL.into_iter().map(move |format| (format, inputs));
            let all = Inputs::ALL.into_iter().flat_map(pairs);
            all.filter(|(format, inputs)| *inputs == Inputs::Float || format.integer_factor().is_some())
        };
        for threads in THREADS {
            all.extend([1, 4].map(|side| Self::Project { threads, side }));
            for (format, inputs) in products() {
                let vector =
                    |subgroup| move |tokens| Self::Vector { format, inputs, threads, tokens, subgroup };
                all.extend([1, 2, 4].map(vector(false)));
                if threads == THREADS[1] {
                    all.extend([1, 2, 4].map(vector(true)));
                }
            }
            for output in Inputs::ALL {
                all.extend([false, true].map(|gathered| Self::Quantize { threads, gathered, output }));
            }
            for half in [false, true] {
                all.extend([1, 2, 4].map(|tokens| Self::Sparse { half, threads, tokens }));
            }
            for code in VectorCode::ALL {
                all.extend(CODED_TOKENS.map(|tokens| Self::Coded { code, threads, tokens }));
            }
        }
        for (format, inputs) in products() {
            all.extend([1, 2].map(|wide| Self::Matrix { format, inputs, wide }));
            all.push(Self::Tile { format, inputs });
        }
        all.extend([false, true].map(|first| Self::LogBessel { first }));
        all
    }

    /// What the codes mean and what the inputs are, of the products of scalar codes.
    const fn product(self) -> Option<(Format, Inputs)> {
        match self {
            Self::Vector { format, inputs, .. }
            | Self::Matrix { format, inputs, .. }
            | Self::Tile { format, inputs } => Some((format, inputs)),
            _ => None,
        }
    }

    /// Whether it needs a device with the feature `SUBGROUP`.
    pub const fn needs_subgroups(self) -> bool {
        matches!(self, Self::Vector { subgroup: true, .. })
    }

    /// Whether it writes a product, and takes a [`Nonlinearity`] as its override `NONLINEARITY`.
    pub const fn makes_results(self) -> bool {
        !matches!(self, Self::Gather | Self::Quantize { .. } | Self::Project { .. } | Self::LogBessel { .. })
    }

    /// Threads of a workgroup, `[x, y, z]`.
    pub const fn workgroup_size(self) -> [u32; 3] {
        match self {
            Self::Gather => [GATHER_THREADS, 1, 1],
            Self::LogBessel { .. } => [BESSEL_THREADS, 1, 1],
            Self::Project { threads, .. }
            | Self::Vector { threads, .. }
            | Self::Quantize { threads, .. }
            | Self::Coded { threads, .. }
            | Self::Sparse { threads, .. } => [threads, 1, 1],
            Self::Matrix { .. } | Self::Raise => [MATRIX_SHAPE[0], MATRIX_SHAPE[1], 1],
            Self::Tile { .. } => [TILE_SIDE / 4 / TILE_WIDE, TILE_SIDE / TILE_TOKENS, 1],
        }
    }

    /// Number of storage bindings, at the end, that are written; the others are only read.
    pub const fn written_bindings(self) -> u32 {
        if matches!(self, Self::Quantize { .. }) { 2 } else { 1 }
    }

    /// Number of storage bindings after the uniform at binding 0.
    pub const fn storage_bindings(self) -> u32 {
        if let Some((_, inputs)) = self.product() {
            return if matches!(inputs, Inputs::Float) { 7 } else { 8 };
        }
        match self {
            Self::Gather | Self::Sparse { .. } => 4,
            Self::Quantize { gathered, .. } => 3 + 2 * gathered as u32,
            Self::Coded { .. } => 8,
            _ => 3,
        }
    }

    /// Size in bytes, and fields with their offsets, of the parameters at binding 0.
    pub fn parameters(self) -> (usize, Vec<(&'static str, usize)>) {
        match self {
            Self::Gather => fields!(GatherParams: tokens, features, x_stride, out_stride),
            Self::LogBessel { .. } => fields!(BesselParams: count, stride, unused, reserved),
            Self::Project { .. } => fields!(ProjectParams: tokens, rank, stride, z_stride),
            Self::Raise => fields!(RaiseParams: tiles, height, base, tokens, rank, unused0, unused1, unused2),
            Self::Sparse { .. } => {
                fields!(SparseParams: tiles, chunks, slots, keep, span, bits, tokens, x_stride)
            }
            Self::Quantize { .. } => fields!(
                QuantizeParams: tokens, features, x_stride, lines, span, groups, most, top, factor, unused0, unused1,
                unused2
            ),
            Self::Vector { .. } | Self::Matrix { .. } | Self::Tile { .. } => fields!(
                SplitParams: tiles, lines, groups, group_shift, tokens, x_stride, rank, x_groups, x_shift,
                segment_shift, height, base
            ),
            Self::Coded { .. } => {
                fields!(CodedParams: tiles, rows, blocks, window, outliers, tokens, x_stride, rank)
            }
        }
    }

    /// Compiles the kernel; errors go to the caller's error scopes.
    pub(crate) fn compile(self, device: &wgpu::Device, nonlinearity: Nonlinearity) -> wgpu::ComputePipeline {
        let label = format!("{self:?}");
        let label = Some(label.as_str());
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label,
            source: wgpu::ShaderSource::Wgsl(self.source().into()),
        });
        let last = self.storage_bindings();
        let entries: Vec<_> = (0..=last)
            .map(|binding| wgpu::BindGroupLayoutEntry {
                binding,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: if binding == 0 {
                        wgpu::BufferBindingType::Uniform
                    } else {
                        wgpu::BufferBindingType::Storage {
                            read_only: binding + self.written_bindings() <= last,
                        }
                    },
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            })
            .collect();
        let group =
            device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label, entries: &entries });
        let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label,
            bind_group_layouts: &[Some(&group)],
            immediate_size: 0,
        });
        let constants = [("NONLINEARITY", nonlinearity.number())];
        device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label,
            layout: Some(&layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                // Every kernel writes its workgroup memory before it reads it.
                zero_initialize_workgroup_memory: false,
                constants: if self.makes_results() { &constants } else { &[] },
            },
            cache: None,
        })
    }
}
