//! The kernels: which permutations there are, their WGSL text, bindings and parameters.
//!
//! A permutation's text is a header of constants followed by the files it needs, so that sizes are typed once, in
//! Rust. [`Kernel::permutations`] lists them for tests and for other WGSL compilers.

mod format;
mod params;

use crate::operator::nonlinearity::Nonlinearity;
use crate::operator::split_matmul::coded::{FIRST, PATTERNS, POINTS, SECOND};
pub use format::{Format, VectorCode};
pub(crate) use params::{
    BesselParams, CodedParams, GatherParams, IntegerParams, ProjectParams, QuantizeParams, SparseParams,
    SplitParams,
};
use std::fmt::Write as _;
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
        /// Threads of a workgroup, a multiple of 4.
        threads: u32,
        /// Tokens of a workgroup.
        tokens: u32,
    },
    /// `shader/split_matmul/matrix.wgsl`.
    Matrix {
        /// What the codes mean.
        format: Format,
    },
    /// `shader/split_matmul/quantize.wgsl`.
    Quantize {
        /// Threads of a workgroup, a multiple of 8.
        threads: u32,
        /// Whether inputs are smoothed, permuted or padded on the way.
        gathered: bool,
        /// Whether codes are written, for the kernels of integers; else the numbers they stand for.
        packed: bool,
    },
    /// `shader/split_matmul/integer_vector.wgsl`.
    IntegerVector {
        /// What the codes mean.
        format: Format,
        /// Threads of a workgroup, a multiple of 4.
        threads: u32,
        /// Tokens of a workgroup.
        tokens: u32,
    },
    /// `shader/split_matmul/integer_matrix.wgsl`.
    IntegerMatrix {
        /// What the codes mean.
        format: Format,
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
/// Row quads across, and blocks of four tokens down, of a matrix workgroup.
pub(crate) const MATRIX_SHAPE: [u32; 2] = [8, 8];

/// Threads that quantize a group.
pub(crate) const QUANTIZE_LANES: u32 = 8;

/// Lists a struct's fields with their offsets, and its size.
macro_rules! fields {
    ($type:ty: $($field:ident),*) => {
        (size_of::<$type>(), vec![$((stringify!($field), offset_of!($type, $field))),*])
    };
}

impl Kernel {
    /// Every permutation that a device may be asked for.
    pub fn permutations() -> Vec<Self> {
        let mut all = vec![Self::Gather];
        for threads in THREADS {
            all.extend([1, 4].map(|side| Self::Project { threads, side }));
            for format in Format::ALL {
                all.extend([1, 2, 4].map(|tokens| Self::Vector { format, threads, tokens }));
            }
            for (gathered, packed) in [(false, false), (false, true), (true, false), (true, true)] {
                all.push(Self::Quantize { threads, gathered, packed });
            }
            for format in Format::integer() {
                all.extend([1, 2, 4].map(|tokens| Self::IntegerVector { format, threads, tokens }));
            }
            for half in [false, true] {
                all.extend([1, 2, 4].map(|tokens| Self::Sparse { half, threads, tokens }));
            }
            for code in VectorCode::ALL {
                all.extend(CODED_TOKENS.map(|tokens| Self::Coded { code, threads, tokens }));
            }
        }
        all.extend(Format::ALL.map(|format| Self::Matrix { format }));
        all.extend([false, true].map(|first| Self::LogBessel { first }));
        all.extend(Format::integer().map(|format| Self::IntegerMatrix { format }));
        all
    }

    /// The WGSL text.
    pub fn source(self) -> String {
        let mut header = String::new();
        let mut constant = |name: &str, value: u32| {
            // Writing to a String cannot fail.
            let _ = writeln!(header, "const {name}: u32 = {value}u;");
        };
        let grid = match self.makes_results() {
            true => concat!(
                include_str!("../shader/shared/grid.wgsl"),
                include_str!("../shader/shared/nonlinearity.wgsl")
            ),
            false => include_str!("../shader/shared/grid.wgsl"),
        };
        let split = include_str!("../shader/shared/split.wgsl");
        let parts = match self {
            Self::Gather => {
                constant("THREADS", GATHER_THREADS);
                [grid, "", "", include_str!("../shader/split_matmul/gather.wgsl")]
            }
            Self::LogBessel { first } => {
                constant("THREADS", BESSEL_THREADS);
                constant("KIND", u32::from(first));
                [grid, "", "", include_str!("../shader/log_bessel.wgsl")]
            }
            Self::Project { threads, side } => {
                constant("THREADS", threads);
                constant("TOKENS", side);
                constant("RANKS", side);
                [grid, "", "", include_str!("../shader/split_matmul/project.wgsl")]
            }
            Self::Vector { format, threads, tokens } => {
                constant("THREADS", threads);
                constant("TOKENS", tokens);
                [grid, split, format.source(), include_str!("../shader/split_matmul/vector.wgsl")]
            }
            Self::Matrix { format } => {
                constant("QUADS", MATRIX_SHAPE[0]);
                constant("BLOCKS", MATRIX_SHAPE[1]);
                [grid, split, format.source(), include_str!("../shader/split_matmul/matrix.wgsl")]
            }
            Self::Quantize { threads, gathered, packed } => {
                constant("THREADS", threads);
                constant("PACKED", u32::from(packed));
                let input = match gathered {
                    true => include_str!("../shader/shared/input_gathered.wgsl"),
                    false => include_str!("../shader/shared/input_plain.wgsl"),
                };
                [grid, input, "", include_str!("../shader/split_matmul/quantize.wgsl")]
            }
            Self::IntegerVector { format, threads, tokens } => {
                constant("THREADS", threads);
                constant("TOKENS", tokens);
                let kernel = include_str!("../shader/split_matmul/integer_vector.wgsl");
                [grid, include_str!("../shader/shared/integer.wgsl"), format.integer_source(), kernel]
            }
            Self::IntegerMatrix { format } => {
                constant("QUADS", MATRIX_SHAPE[0]);
                constant("BLOCKS", MATRIX_SHAPE[1]);
                let kernel = include_str!("../shader/split_matmul/integer_matrix.wgsl");
                [grid, include_str!("../shader/shared/integer.wgsl"), format.integer_source(), kernel]
            }
            Self::Sparse { half, threads, tokens } => {
                constant("THREADS", threads);
                constant("TOKENS", tokens);
                let kept = match half {
                    true => include_str!("../shader/shared/kept_f16.wgsl"),
                    false => include_str!("../shader/shared/kept_f32.wgsl"),
                };
                [grid, kept, "", include_str!("../shader/split_matmul/sparse.wgsl")]
            }
            Self::Coded { code, threads, tokens } => {
                constant("THREADS", threads);
                constant("TOKENS", tokens);
                let stages = match code {
                    VectorCode::Trellis => 0,
                    VectorCode::E8p => 1,
                    VectorCode::E8p4 => 2,
                    VectorCode::E8p3 => 3,
                };
                let decoder = if stages == 0 {
                    include_str!("../shader/shared/code_trellis.wgsl")
                } else {
                    let places =
                        [("STAGES", stages), ("FIRST", FIRST), ("SECOND", SECOND), ("PATTERNS", PATTERNS)];
                    for (name, value) in places.into_iter().chain([("POINTS", POINTS)]) {
                        constant(name, value);
                    }
                    include_str!("../shader/shared/code_lattice.wgsl")
                };
                let coded = include_str!("../shader/shared/coded.wgsl");
                [grid, coded, decoder, include_str!("../shader/split_matmul/coded.wgsl")]
            }
        };
        if let Self::Vector { format, .. } | Self::Matrix { format } = self {
            for (code, value) in format.table().iter().flatten().enumerate() {
                // The shortest decimal that reads back as the same f32.
                let _ = writeln!(header, "const T{code}: f32 = {value:?}f;");
            }
        }
        if let Self::IntegerVector { format, .. } | Self::IntegerMatrix { format } = self {
            for (code, value) in format.integer_table().iter().flatten().enumerate() {
                let _ = writeln!(header, "const T{code}: u32 = {value}u;");
            }
        }
        header + &parts.join("\n")
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
            | Self::IntegerVector { threads, .. }
            | Self::Coded { threads, .. }
            | Self::Sparse { threads, .. } => [threads, 1, 1],
            Self::Matrix { .. } | Self::IntegerMatrix { .. } => [MATRIX_SHAPE[0], MATRIX_SHAPE[1], 1],
        }
    }

    /// Number of storage bindings, at the end, that are written; the others are only read.
    pub const fn written_bindings(self) -> u32 {
        if matches!(self, Self::Quantize { .. }) { 2 } else { 1 }
    }

    /// Number of storage bindings after the uniform at binding 0.
    pub const fn storage_bindings(self) -> u32 {
        match self {
            Self::Gather | Self::Sparse { .. } => 4,
            Self::Project { .. } | Self::LogBessel { .. } => 3,
            Self::Vector { .. } | Self::Matrix { .. } => 7,
            Self::Quantize { gathered, .. } => 3 + 2 * gathered as u32,
            Self::Coded { .. } | Self::IntegerVector { .. } | Self::IntegerMatrix { .. } => 8,
        }
    }

    /// Size in bytes, and fields with their offsets, of the parameters at binding 0.
    pub fn parameters(self) -> (usize, Vec<(&'static str, usize)>) {
        match self {
            Self::Gather => fields!(GatherParams: tokens, features, x_stride, out_stride),
            Self::LogBessel { .. } => fields!(BesselParams: count, stride, unused, reserved),
            Self::Project { .. } => fields!(ProjectParams: tokens, rank, stride, z_stride),
            Self::Sparse { .. } => {
                fields!(SparseParams: tiles, chunks, slots, keep, span, bits, tokens, x_stride)
            }
            Self::Vector { .. } | Self::Matrix { .. } => {
                fields!(SplitParams: tiles, lines, groups, group_shift, tokens, x_stride, rank, unused)
            }
            Self::Quantize { .. } => fields!(
                QuantizeParams: tokens, features, x_stride, lines, span, groups, most, top, factor, unused0, unused1,
                unused2
            ),
            Self::IntegerVector { .. } | Self::IntegerMatrix { .. } => fields!(
                IntegerParams: tiles, lines, groups, group_shift, tokens, x_groups, x_shift, rank, segment_shift,
                unused0, unused1, unused2
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
