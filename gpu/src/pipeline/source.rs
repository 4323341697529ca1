//! The WGSL text of each permutation.

use super::template::Parts;
use super::{
    BESSEL_THREADS, GATHER_THREADS, Inputs, Kernel, MATRIX_SHAPE, TILE_TOKENS, TILE_WIDE, VectorCode,
};
use crate::operator::split_matmul::coded::{FIRST, PATTERNS, POINTS, SECOND};
use std::fmt::Write as _;

macro_rules! shared {
    ($name:literal) => {
        include_str!(concat!("../../shader/shared/", $name, ".wgsl"))
    };
}

macro_rules! kernel {
    ($name:literal) => {
        include_str!(concat!("../../shader/split_matmul/", $name, ".wgsl"))
    };
}

impl Kernel {
    /// The header's constants.
    fn constants(self) -> Vec<(&'static str, u32)> {
        let mut constants = match self {
            Self::Gather => vec![("THREADS", GATHER_THREADS)],
            Self::LogBessel { first } => vec![("THREADS", BESSEL_THREADS), ("KIND", u32::from(first))],
            Self::Project { threads, side } => vec![("THREADS", threads), ("TOKENS", side), ("RANKS", side)],
            Self::Vector { threads, tokens, .. }
            | Self::Sparse { threads, tokens, .. }
            | Self::Coded { threads, tokens, .. } => vec![("THREADS", threads), ("TOKENS", tokens)],
            Self::Quantize { threads, .. } => vec![("THREADS", threads)],
            Self::Matrix { wide, .. } => {
                let [quads, blocks] = MATRIX_SHAPE;
                vec![("QUADS", quads), ("BLOCKS", blocks), ("WIDE", wide), ("TOKENS", super::MATRIX_TOKENS)]
            }
            Self::Raise => {
                let [quads, blocks] = MATRIX_SHAPE;
                vec![("QUADS", quads), ("BLOCKS", blocks), ("WIDE", 1), ("TOKENS", super::MATRIX_TOKENS)]
            }
            Self::Tile { .. } => vec![("WIDE", TILE_WIDE), ("TOKENS", TILE_TOKENS)],
        };
        if let Self::Coded { code, .. } = self {
            let stages = match code {
                VectorCode::Trellis => return constants,
                VectorCode::E8p => 1,
                VectorCode::E8p4 => 2,
                VectorCode::E8p3 => 3,
            };
            constants.extend([("STAGES", stages), ("FIRST", FIRST), ("SECOND", SECOND)]);
            constants.extend([("PATTERNS", PATTERNS), ("POINTS", POINTS)]);
        }
        if let Some((format, inputs)) = self.product() {
            constants.extend(format.constants(inputs));
        }
        constants
    }

    /// Its own file, and the files of whole text and of parts that go with it.
    fn files(self) -> (&'static str, Vec<&'static str>, Vec<&'static str>) {
        let (text, mut whole, mut parts) = match self {
            Self::Gather => (kernel!("gather"), vec![], vec![]),
            Self::LogBessel { .. } => (include_str!("../../shader/log_bessel.wgsl"), vec![], vec![]),
            Self::Project { .. } => (kernel!("project"), vec![], vec![]),
            Self::Vector { subgroup, .. } => {
                let meet = if subgroup { shared!("meet_subgroup") } else { shared!("meet_memory") };
                (kernel!("vector"), vec![], vec![meet])
            }
            Self::Matrix { .. } => (kernel!("matrix"), vec![], vec![shared!("rest")]),
            Self::Tile { .. } => (kernel!("tile"), vec![], vec![shared!("rest")]),
            Self::Raise => (kernel!("raise"), vec![], vec![shared!("rest")]),
            Self::Quantize { gathered, output, .. } => {
                let input = if gathered { shared!("input_gathered") } else { shared!("input_plain") };
                let output = match output {
                    Inputs::Float => shared!("output_numbers"),
                    Inputs::Int8 => shared!("output_int8"),
                    Inputs::Int4 => shared!("output_int4"),
                };
                (kernel!("quantize"), vec![input, output], vec![])
            }
            Self::Sparse { half, .. } => {
                let kept = if half { shared!("kept_f16") } else { shared!("kept_f32") };
                (kernel!("sparse"), vec![kept], vec![])
            }
            Self::Coded { code, .. } => {
                let decoder = if code == VectorCode::Trellis {
                    shared!("code_trellis")
                } else {
                    shared!("code_lattice")
                };
                (kernel!("coded"), vec![shared!("coded"), decoder], vec![])
            }
        };
        if let Some((format, inputs)) = self.product() {
            let width = if format.wide() { shared!("width8") } else { shared!("width4") };
            let (read, product) = match inputs {
                Inputs::Float => (shared!("inputs_float"), shared!("product_float")),
                Inputs::Int8 => (shared!("inputs_int8"), shared!("product_integer")),
                Inputs::Int4 => (shared!("inputs_int4"), shared!("product_integer")),
            };
            let functions = if inputs == Inputs::Float { "" } else { "#insert functions\n" };
            whole.extend([shared!("split"), read, width, format.source(inputs), functions]);
            parts.push(product);
        }
        (text, whole, parts)
    }

    /// The WGSL text.
    pub fn source(self) -> String {
        let (constants, (text, whole, parts)) = (self.constants(), self.files());
        let mut out = String::new();
        for (name, value) in &constants {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "const {name}: u32 = {value}u;");
        }
        if let Some((format, inputs)) = self.product() {
            for (code, value) in format.literals(inputs).iter().enumerate() {
                let _ = writeln!(out, "const T{code} = {value};");
            }
        }
        out += shared!("grid");
        if self.makes_results() {
            out += shared!("nonlinearity");
        }
        let parts = Parts::of(&parts);
        for file in whole.into_iter().chain([text]) {
            out += &parts.expand(file, &constants);
        }
        out
    }

    /// The text for compilers that, unlike naga, want every extension named (`enable subgroups;`), as Tint in browsers.
    pub fn source_with_extensions(self) -> String {
        if self.needs_subgroups() { format!("enable subgroups;\n{}", self.source()) } else { self.source() }
    }
}
