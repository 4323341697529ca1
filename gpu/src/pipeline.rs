//! The kernels: which permutations there are, their WGSL text, bindings and parameters.
//!
//! A permutation's text is a header of constants followed by the files it needs, so that sizes are typed once, in
//! Rust. [`Kernel::permutations`] lists them for tests and for other WGSL compilers.

use crate::operator::split_matmul::coded::{FIRST, PATTERNS, POINTS, SECOND};
use bytemuck::{Pod, Zeroable};
use rankbit_quant::{Code, Scheme, Table, ZeroPoint};
use std::fmt::Write as _;
use std::mem::offset_of;

/// What the kernels decode.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Format {
    /// `value = code - 8`.
    Int4,
    /// `value = code - z`.
    Uint4,
    /// `value = table[code]`, NF4.
    Nf4,
}

impl Format {
    /// The kernels' name for the numbers of `scheme`, whatever its groups and scale format; `None` when no kernel
    /// handles it.
    pub const fn of(scheme: &Scheme) -> Option<Self> {
        if !scheme.layout.is_planar() {
            return None;
        }
        match (scheme.code, scheme.zero) {
            (Code::Int { bits: 4, signed: true }, ZeroPoint::None) => Some(Self::Int4),
            (Code::Int { bits: 4, signed: false }, ZeroPoint::Integer) => Some(Self::Uint4),
            (Code::Table(Table::Nf4), ZeroPoint::None) => Some(Self::Nf4),
            _ => None,
        }
    }

    const ALL: [Self; 3] = [Self::Int4, Self::Uint4, Self::Nf4];

    const fn source(self) -> &'static str {
        match self {
            Self::Int4 => include_str!("../shader/shared/code_int4.wgsl"),
            Self::Uint4 => include_str!("../shader/shared/code_uint4.wgsl"),
            Self::Nf4 => include_str!("../shader/shared/code_table4.wgsl"),
        }
    }
}

/// Vector codes that a kernel decodes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum VectorCode {
    /// A trellis of any window and rates.
    Trellis,
    /// E8P.
    E8p,
    /// E8P and a short point of E8.
    E8p3,
    /// E8P twice.
    E8p4,
}

impl VectorCode {
    const ALL: [Self; 4] = [Self::Trellis, Self::E8p, Self::E8p3, Self::E8p4];
}

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

/// Parameters of the two product kernels; see `shader/shared/split.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub(crate) struct SplitParams {
    pub(crate) tiles: u32,
    pub(crate) lines: u32,
    pub(crate) groups: u32,
    pub(crate) group_shift: u32,
    pub(crate) tokens: u32,
    pub(crate) x_stride: u32,
    pub(crate) rank: u32,
    pub(crate) unused: u32,
}

/// Parameters of `project.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub(crate) struct ProjectParams {
    pub(crate) tokens: u32,
    pub(crate) rank: u32,
    pub(crate) stride: u32,
    pub(crate) unused: u32,
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
            for half in [false, true] {
                all.extend([1, 2, 4].map(|tokens| Self::Sparse { half, threads, tokens }));
            }
            for code in VectorCode::ALL {
                all.extend(CODED_TOKENS.map(|tokens| Self::Coded { code, threads, tokens }));
            }
        }
        all.extend(Format::ALL.map(|format| Self::Matrix { format }));
        all.extend([false, true].map(|first| Self::LogBessel { first }));
        all
    }

    /// The WGSL text.
    pub fn source(self) -> String {
        let mut header = String::new();
        let mut constant = |name: &str, value: u32| {
            // Writing to a String cannot fail.
            let _ = writeln!(header, "const {name}: u32 = {value}u;");
        };
        let grid = include_str!("../shader/shared/grid.wgsl");
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
        if let Self::Vector { format: Format::Nf4, .. } | Self::Matrix { format: Format::Nf4 } = self {
            for (code, value) in Table::Nf4.values().iter().enumerate() {
                // The shortest decimal that reads back as the same f32.
                let _ = writeln!(header, "const T{code}: f32 = {value:?}f;");
            }
        }
        header + &parts.join("\n")
    }

    /// Threads of a workgroup, `[x, y, z]`.
    pub const fn workgroup_size(self) -> [u32; 3] {
        match self {
            Self::Gather => [GATHER_THREADS, 1, 1],
            Self::LogBessel { .. } => [BESSEL_THREADS, 1, 1],
            Self::Project { threads, .. }
            | Self::Vector { threads, .. }
            | Self::Coded { threads, .. }
            | Self::Sparse { threads, .. } => [threads, 1, 1],
            Self::Matrix { .. } => [MATRIX_SHAPE[0], MATRIX_SHAPE[1], 1],
        }
    }

    /// Number of storage bindings after the uniform at binding 0; the last one is written, the others only read.
    pub const fn storage_bindings(self) -> u32 {
        match self {
            Self::Gather | Self::Sparse { .. } => 4,
            Self::Project { .. } | Self::LogBessel { .. } => 3,
            Self::Vector { .. } | Self::Matrix { .. } => 7,
            Self::Coded { .. } => 8,
        }
    }

    /// Size in bytes, and fields with their offsets, of the parameters at binding 0.
    pub fn parameters(self) -> (usize, Vec<(&'static str, usize)>) {
        match self {
            Self::Gather => fields!(GatherParams: tokens, features, x_stride, out_stride),
            Self::LogBessel { .. } => fields!(BesselParams: count, stride, unused, reserved),
            Self::Project { .. } => fields!(ProjectParams: tokens, rank, stride, unused),
            Self::Sparse { .. } => {
                fields!(SparseParams: tiles, chunks, slots, keep, span, bits, tokens, x_stride)
            }
            Self::Vector { .. } | Self::Matrix { .. } => {
                fields!(SplitParams: tiles, lines, groups, group_shift, tokens, x_stride, rank, unused)
            }
            Self::Coded { .. } => {
                fields!(CodedParams: tiles, rows, blocks, window, outliers, tokens, x_stride, rank)
            }
        }
    }

    /// Compiles the kernel; errors go to the caller's error scopes.
    pub(crate) fn compile(self, device: &wgpu::Device) -> wgpu::ComputePipeline {
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
                        wgpu::BufferBindingType::Storage { read_only: binding != last }
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
        device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label,
            layout: Some(&layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                // Every kernel writes its workgroup memory before it reads it.
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        })
    }
}
