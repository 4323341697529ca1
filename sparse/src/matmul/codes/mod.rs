//! Products with whole-number codes: an N:M matrix of 2- to 8-bit integers and inputs of 8 bits.

mod inputs;
mod layout;
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

use super::instructions::Kernels;
use super::{check_shapes, store, tasks};
use crate::storage::Values;
use crate::{Error, NmMatrix, NmPattern};
use alloc::{vec, vec::Vec};
use inputs::Inputs;
use layout::{BLOCK, LANES, Line, Plan, ROWS, STEPS, WINDOW};
use rankbit_linalg::faer::{Mat, MatMut, MatRef};
use rankbit_quant::{Code, FloatFormat, Layout, Quantized, pack};

/// Tokens that a kernel takes at most.
const FEW: usize = 4;
/// Tokens whose inputs stay in the second-level cache while all rows pass.
const TOKENS: usize = 32;

/// An N:M matrix of whole-number codes, ready for products with 8-bit inputs; made once from an [`NmMatrix`].
///
/// ```text
/// y_to = Σ_g s_tg·s_og·Σ_{k∈g} x̂_tk·(code_ok − z_og),     x̂_tk = rne(x_tk/s_tg) ∈ −127 … 127,  s_tg = max_{k∈g}|x_tk|/127
/// ```
/// over the kept k. A group g is a scale group of the weight: so many consecutive *kept* values of a row, which lie in
/// the same columns for all rows. Its inputs share a scale of their own.
///
/// ```text
/// tile  = 16 rows, one stream of 64-byte lines; before each two scale groups a line of their scales (16 f16 each; two
///         lines of f32 where a scale is no f16), and two of f32 zero points where the scheme has some
/// block = 64 slots of a row, 16 steps of 4, in chunks of so many: their lines of indices, then their lines of codes
///         byte 4·row + lane of a line belongs to slot 4·step + lane
/// codes : 4 bits, steps 2i (low half) and 2i + 1 in line i; 8 bits for schemes of 5 bits and more, a line for a step
/// index : 2:4    3 bits for each two slots    chunks of 16 steps, 3 lines
///         M ≤ 4  2 bits for each slot         chunks of  4 steps, 1 line
///         M ≤ 8  3 bits                       chunks of  8 steps, 3 lines
///         M ≤ 16 4 bits                       chunks of  2 steps, 1 line
///         N = M  none                         chunks of 16 steps, no line
/// ```
/// With groups of 64 and f16 scales, 4-bit codes take 2.875 bits per weight at 2:4 (4.25 for the dense matrix, 4:4), 1.563
/// at 1:4, 0.906 at 1:8.
///
/// The three bits of 2:4 are a step on a walk through the four columns that crosses each pair, in one of the two
/// directions (the pair's values change places where need be): one multiplication makes two shuffle bytes of a code.
///
/// **Accuracy**: the sums of a block are exact; their scaled values are added in f32, in order. Against X̂·Ŵᵀ: elementwise
/// `|Δ| ≤ γ·|X̂|·|Ŵ|ᵀ`, `γ = K·u/(1 − K·u)`, K the blocks of a row + 4 (+ 2 with zero points, where |Ŵ| counts codes and zero points
/// apart), `u = 2⁻²⁴`. Against X·Ŵᵀ besides `½·s_tg` for each input. The same bits on every path and for any number of tokens
/// and threads.
#[derive(Clone, Debug)]
pub struct PreparedCodes {
    shape: (usize, usize),
    plan: Plan,
    /// The column of every byte of the inputs' windows.
    order: Vec<u32>,
    lines: Vec<Line>,
}

impl PreparedCodes {
    /// Brings `matrix` into the kernels' order.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for values that are no planar whole numbers, for scale groups that are neither a multiple of
    /// 64 kept values nor the whole row, and for M above 16 (but N = M); use [`Prepared`](super::Prepared) for those.
    /// [`Error::TooLarge`] when a size overflows.
    pub fn new(matrix: &NmMatrix) -> Result<Self, Error> {
        let ((rows, cols), pattern) = (matrix.shape(), matrix.pattern());
        let codes = Codes::new(matrix.values())?;
        let plan = plan(cols, pattern, &codes)?;
        let total = rows.div_ceil(ROWS).checked_mul(plan.tile_lines());
        let total = total.filter(|lines| lines.checked_mul(size_of::<Line>()).is_some());
        let total = total.ok_or(Error::TooLarge { what: "prepared matrix" })?;
        let mut lines = vec![Line([0; 64]); total];
        for (tile, lines) in lines.chunks_exact_mut(plan.tile_lines().max(1)).enumerate() {
            for row in 0..ROWS {
                fill(&plan, matrix, &codes, tile * ROWS + row, lines);
            }
        }
        Ok(Self { shape: (rows, cols), plan, order: inputs::order(&plan), lines })
    }

    /// Rows and columns, `(out, in)`.
    pub const fn shape(&self) -> (usize, usize) {
        self.shape
    }

    /// Which entries are kept.
    pub const fn pattern(&self) -> NmPattern {
        self.plan.pattern
    }

    /// Bytes that a product reads of the matrix.
    pub fn bytes(&self) -> usize {
        self.lines.len() * size_of::<Line>()
    }

    /// `Y = X̂·Ŵᵀ` as a new matrix `[tokens, out]`.
    ///
    /// # Errors
    /// As [`PreparedCodes::apply_into`].
    pub fn apply(&self, x: MatRef<'_, f32>) -> Result<Mat<f32>, Error> {
        let mut y = Mat::zeros(x.nrows(), self.shape.0);
        self.apply_into(x, y.as_mut())?;
        Ok(y)
    }

    /// `Y = X̂·Ŵᵀ` for `x: [tokens, in]` into `y: [tokens, out]`. Cost 2·tokens·out·K whole-number operations for K
    /// kept entries of a row, and O(tokens·in) for the inputs.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when `x` or `y` does not fit; [`Error::NonFinite`] for a NaN or infinite input.
    pub fn apply_into(&self, x: MatRef<'_, f32>, mut y: MatMut<'_, f32>) -> Result<(), Error> {
        check_shapes(self.shape, x, y.as_ref())?;
        let (kernels, tokens) = (Kernels::current(), x.nrows());
        for first in (0..tokens).step_by(TOKENS) {
            let len = TOKENS.min(tokens - first);
            let inputs = Inputs::new(&self.plan, &self.order, x.subrows(first, len))?;
            self.multiply(kernels, &inputs, y.as_mut().subrows_mut(first, len));
        }
        Ok(())
    }

    fn multiply(&self, kernels: Kernels, inputs: &Inputs, y: MatMut<'_, f32>) {
        let (plan, size) = (&self.plan, self.plan.tile_lines());
        tasks(y, |first, mut y| {
            let mut sums = [[0.0; ROWS]; FEW];
            for top in (0..y.ncols()).step_by(ROWS) {
                let tile = &self.lines[(first + top) / ROWS * size..][..size];
                for token in (0..y.nrows()).step_by(FEW) {
                    let sums = &mut sums[..FEW.min(y.nrows() - token)];
                    match kernels {
                        #[cfg(target_arch = "x86_64")]
                        Kernels::Avx512 { bytes: true } => x86::tile_512(plan, tile, inputs, token, sums),
                        #[cfg(target_arch = "x86_64")]
                        Kernels::Avx2 | Kernels::Avx512 { .. } => {
                            x86::tile_256(plan, tile, inputs, token, sums)
                        }
                        Kernels::Portable => portable::tile(plan, tile, inputs, token, sums),
                    }
                    store(sums, y.as_mut(), (token, top));
                }
            }
        });
    }
}

/// What is needed of the stored values.
struct Codes<'a> {
    quantized: &'a Quantized,
    bits: usize,
    /// What is added to a stored code.
    shift: u8,
    wide: bool,
    /// Whether codes have a zero point.
    zeros: bool,
}

const FORMAT: &str = "the product with codes";

impl<'a> Codes<'a> {
    fn new(values: &'a Values) -> Result<Self, Error> {
        let unsupported = |reason| Err(Error::Unsupported { format: FORMAT, reason });
        let Values::Quantized(quantized) = values else {
            return unsupported("the values are floats");
        };
        let scheme = quantized.scheme();
        let Code::Int { bits, signed } = scheme.code else {
            return unsupported("the values are no whole numbers");
        };
        if scheme.layout != Layout::Planar {
            return unsupported("the values lie in blocks of their own");
        }
        let bits = bits.clamp(2, 8);
        let wide = bits > 4;
        let centre = if wide { 128 } else { 8 };
        let shift = if signed { centre - (1 << (bits - 1)) } else { 0 };
        Ok(Self { quantized, bits: bits.into(), shift, wide, zeros: !signed })
    }
}

fn plan(cols: usize, pattern: NmPattern, codes: &Codes<'_>) -> Result<Plan, Error> {
    let unsupported = |reason| Error::Unsupported { format: FORMAT, reason };
    let (coding, span, share) = Plan::coding(pattern).ok_or_else(|| unsupported("M is above 16"))?;
    if u32::try_from(cols).is_err() {
        return Err(Error::TooLarge { what: "column" });
    }
    let slots = pattern.kept_per_row(cols);
    let (grouping, scales) = (codes.quantized.grouping(), codes.quantized.scales());
    if grouping.per_row > 1 && !grouping.size.is_multiple_of(BLOCK) {
        return Err(unsupported("scale groups are no multiple of 64 kept values"));
    }
    let full_scales = (0..grouping.scales).any(|i| {
        let scale = scales.get(i);
        FloatFormat::F16.round(scale.into()).to_bits() != scale.to_bits()
    });
    Ok(Plan {
        pattern,
        cols,
        slots,
        coding,
        windows: (LANES / share * span).div_ceil(WINDOW),
        span,
        share,
        wide: codes.wide,
        groups: grouping.per_row,
        blocks: grouping.size.div_ceil(BLOCK),
        full_scales,
        zeros: codes.zeros,
    })
}

/// Writes one row into its tile; rows past the end are zeros.
fn fill(plan: &Plan, matrix: &NmMatrix, codes: &Codes<'_>, row: usize, tile: &mut [Line]) {
    let (lane_row, exists) = (row % ROWS, row < matrix.shape().0);
    let steps = plan.groups * plan.blocks * STEPS;
    let (mut stored, mut offsets) = (vec![plan.centre(); steps * LANES], vec![0; steps * LANES]);
    // A slot past the row's last stands at a column past its last, where inputs count as 0.
    for (slot, offset) in offsets.iter_mut().enumerate() {
        *offset = u8::try_from(slot % plan.pattern.keep()).unwrap_or(0);
    }
    if exists {
        let used = &mut stored[..plan.slots];
        pack::unpack(codes.quantized.row_codes(row), codes.bits, used);
        used.iter_mut().for_each(|code| *code = code.wrapping_add(codes.shift));
        matrix.offsets_into(row, &mut offsets[..plan.slots]);
    }
    for group in 0..plan.groups {
        if exists {
            set_head(plan, codes, (row, group), tile);
        }
        for block in 0..plan.blocks {
            let first = plan.group_line(group) + block * plan.block_lines();
            let lines = &mut tile[first..first + plan.block_lines()];
            for step in 0..STEPS {
                let at = LANES * ((group * plan.blocks + block) * STEPS + step);
                let mut places: [u8; LANES] = core::array::from_fn(|lane| offsets[at + lane]);
                let mut values: [u8; LANES] = core::array::from_fn(|lane| stored[at + lane]);
                if plan.coding == layout::Coding::Pairs {
                    let pairs = places.chunks_exact_mut(2).zip(values.chunks_exact_mut(2));
                    for (half, (places, values)) in pairs.enumerate() {
                        if layout::is_reversed([places[0], places[1]], half) {
                            places.swap(0, 1);
                            values.swap(0, 1);
                        }
                    }
                }
                plan.set_places(lines, step, lane_row, places);
                for (lane, code) in values.into_iter().enumerate() {
                    plan.set_code(lines, (step, lane_row, lane), code);
                }
            }
        }
    }
}

/// Writes the scale and zero point of one row and group.
fn set_head(plan: &Plan, codes: &Codes<'_>, (row, group): (usize, usize), tile: &mut [Line]) {
    let first = plan.group_line(group - group % 2) - plan.head_lines();
    let head = &mut tile[first..first + plan.head_lines()];
    let (odd, lane) = (group % 2, row % ROWS);
    let scale = codes.quantized.scale(row, group);
    if plan.full_scales {
        head[odd].0[4 * lane..4 * lane + 4].copy_from_slice(&scale.to_le_bytes());
    } else {
        let at = 32 * odd + 2 * lane;
        head[0].0[at..at + 2].copy_from_slice(&half::f16::from_f32(scale).to_le_bytes());
    }
    if plan.zeros {
        let beyond = f32::from(plan.centre()) - codes.quantized.zero_point(row, group);
        let line = plan.head_lines() - 2 + odd;
        head[line].0[4 * lane..4 * lane + 4].copy_from_slice(&beyond.to_le_bytes());
    }
}
