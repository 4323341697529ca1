//! Which kernels make a product.
//!
//! What is fast on one device is slow on another: barriers are dear on software drivers and cheap on hardware, reading a
//! weight once for 64 tokens pays where memory is far away. So every shape is there on every device, a rule says which one
//! is taken, and [`GpuLinear::tune`](super::GpuLinear::tune) measures instead.

use super::GpuLinear;
use crate::Gpu;
use crate::pipeline::{Inputs, Kernel, MATRIX_SHAPE, MATRIX_TOKENS, THREADS, TILE_LINES_SHIFT, TILE_SIDE};
use std::fmt;
use std::str::FromStr;

/// From this many tokens on the matrix kernel is the rule's.
const MATRIX_TOKENS_LEAST: usize = 9;
/// From this many tokens on the kernel of tiles is the rule's, on hardware.
const TILE_TOKENS_LEAST: usize = 48;
/// Most tokens for which the vector kernel is tried.
const VECTOR_TOKENS_MOST: usize = 16;

/// Which kernels make a product; its text form is that of the tuner's file: `vector 64`, `vector 64 subgroup`,
/// `matrix 1`, `matrix 2`, `tile`, each with `separate` behind it when the low-rank term has its own dispatch.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Choice {
    /// The kernel of the quantized term.
    pub shape: Shape,
    /// Whether the low-rank term's way up is in the same dispatch.
    pub fused: bool,
}

/// The kernel of the quantized term.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Shape {
    /// A workgroup makes 16 rows; its threads share out the columns.
    Vector {
        /// Threads of a workgroup: 8 or 64.
        threads: u32,
        /// Whether partial sums meet within subgroups first.
        subgroup: bool,
    },
    /// A thread makes 4 or 8 rows × 4 tokens, without barriers.
    Matrix {
        /// Fours of rows, 1 or 2.
        wide: u32,
    },
    /// A workgroup makes 64 rows × 64 tokens through its memory.
    Tile,
}

impl Gpu {
    /// Whether kernels of subgroups run in workgroups of `threads`.
    pub(crate) fn subgroups_within(&self, threads: u32) -> bool {
        self.adapter().subgroups.is_some_and(|[least, most]| least >= 4 && most <= threads)
    }
}

impl GpuLinear {
    /// What the kernels for scalar codes read.
    pub(super) fn inputs(&self) -> Inputs {
        self.quantizer.map_or(Inputs::Float, |quantizer| quantizer.output())
    }

    /// The rule: what is taken for `tokens` unless [`GpuLinear::tune`] measured it. The same on every run.
    pub fn default_choice(&self, tokens: usize) -> Choice {
        let software = self.gpu.adapter().kind == "cpu";
        let shape = if tokens < MATRIX_TOKENS_LEAST {
            Shape::Vector { threads: self.gpu.threads(), subgroup: false }
        } else if !software && tokens >= TILE_TOKENS_LEAST && self.allows(Shape::Tile) {
            Shape::Tile
        } else {
            let wide = if self.inputs() == Inputs::Float { 1 } else { 2 };
            Shape::Matrix { wide }
        };
        Choice { shape, fused: true }
    }

    /// Every choice that is right for `tokens`, the rule's first.
    pub fn choices(&self, tokens: usize) -> Vec<Choice> {
        let first = self.default_choice(tokens);
        if self.coded.is_some() {
            return vec![first];
        }
        let mut shapes = Vec::new();
        if tokens <= VECTOR_TOKENS_MOST {
            shapes.extend(THREADS.map(|threads| Shape::Vector { threads, subgroup: false }));
            shapes.push(Shape::Vector { threads: THREADS[1], subgroup: true });
        }
        if tokens > 2 {
            shapes.extend([1, 2].map(|wide| Shape::Matrix { wide }));
            shapes.push(Shape::Tile);
        }
        let branches: &[bool] = if self.rank > 0 { &[true, false] } else { &[true] };
        let shapes = shapes.into_iter().filter(|&shape| self.allows(shape));
        let all = shapes.flat_map(|shape| branches.iter().map(move |&fused| Choice { shape, fused }));
        [first].into_iter().chain(all.filter(|&choice| choice != first)).collect()
    }

    /// Whether a shape can multiply this matrix on this device.
    pub(super) fn allows(&self, shape: Shape) -> bool {
        match shape {
            Shape::Vector { threads, subgroup } => {
                THREADS.contains(&threads)
                    && (!subgroup || (threads == THREADS[1] && self.gpu.subgroups_within(threads)))
            }
            Shape::Matrix { wide } => matches!(wide, 1 | 2),
            // Segments of whole steps.
            Shape::Tile => {
                let integer = self.quantizer.and_then(|quantizer| quantizer.integer);
                integer.is_none_or(|integer| integer.segment_shift >= TILE_LINES_SHIFT)
            }
        }
    }

    /// The kernel of `shape` for `tokens`, and how many workgroups `tiles` of 16 rows take.
    pub(super) fn kernel(&self, shape: Shape, tokens: usize, tiles: usize) -> (Kernel, u64) {
        let (format, inputs, tiles, tokens) = (self.format, self.inputs(), tiles as u64, tokens as u64);
        match shape {
            Shape::Vector { threads, subgroup } => {
                let each = match tokens {
                    0 | 1 => 1,
                    2 => 2,
                    _ => 4,
                };
                let kernel = Kernel::Vector { format, inputs, threads, tokens: each, subgroup };
                (kernel, tokens.div_ceil(u64::from(each)).saturating_mul(tiles))
            }
            Shape::Matrix { wide } => {
                (Kernel::Matrix { format, inputs, wide }, matrix_groups(tokens, tiles, wide))
            }
            Shape::Tile => {
                let side = u64::from(TILE_SIDE);
                let groups = (16 * tiles).div_ceil(side).saturating_mul(tokens.div_ceil(side));
                (Kernel::Tile { format, inputs }, groups)
            }
        }
    }
}

/// Workgroups of the kernels that are shaped as `matrix.wgsl`.
pub(super) fn matrix_groups(tokens: u64, tiles: u64, wide: u32) -> u64 {
    let [across, down] = MATRIX_SHAPE.map(u64::from);
    let columns = (4 * tiles / u64::from(wide)).div_ceil(across);
    columns.saturating_mul(tokens.div_ceil(u64::from(MATRIX_TOKENS) * down))
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.shape {
            Shape::Vector { threads, subgroup } => {
                write!(f, "vector {threads}{}", if subgroup { " subgroup" } else { "" })
            }
            Shape::Matrix { wide } => write!(f, "matrix {wide}"),
            Shape::Tile => f.write_str("tile"),
        }?;
        if self.fused { Ok(()) } else { f.write_str(" separate") }
    }
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (shape, fused) = text.strip_suffix(" separate").map_or((text, true), |shape| (shape, false));
        let number = |text: &str| text.parse::<u32>().map_err(|error| format!("'{text}': {error}"));
        let shape = match shape.split(' ').collect::<Vec<_>>().as_slice() {
            ["vector", threads] => Shape::Vector { threads: number(threads)?, subgroup: false },
            ["vector", threads, "subgroup"] => Shape::Vector { threads: number(threads)?, subgroup: true },
            ["matrix", wide] => Shape::Matrix { wide: number(wide)? },
            ["tile"] => Shape::Tile,
            _ => return Err(format!("'{text}' names no kernel")),
        };
        Ok(Self { shape, fused })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        for text in ["vector 8", "vector 64 subgroup separate", "matrix 2", "matrix 1 separate", "tile"] {
            assert_eq!(text.parse::<Choice>().unwrap().to_string(), text);
        }
        for text in ["", "tile 3", "matrix", "matrix two", "vector 8 lanes", "separate", "vector -8"] {
            assert!(text.parse::<Choice>().is_err(), "{text}");
        }
    }
}
