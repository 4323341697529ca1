//! What the rounders that look beyond one entry share: a scheme's grid for each group, and panels of rows.

use crate::{
    Code, Error, FloatFormat, Grouping, Layout, MiniFloat, Quantized, ScaleRule, Scales, Scheme, code, float,
    pack, rows, scale,
};
use alloc::{vec, vec::Vec};
use core::ops::Range;
use rankbit_linalg::faer::MatRef;

/// Rows that one thread takes at a time. Fixed, so that results do not depend on the number of threads.
const PANEL: usize = 128;

/// Runs `work` on panels of rows, in parallel with `std`; results in order. Each is a whole number of groups of `height`
/// rows, but for the last.
pub(super) fn panels<R: Send>(
    rows: usize,
    height: usize,
    work: impl Fn(Range<usize>) -> Result<R, Error> + Sync,
) -> Result<Vec<R>, Error> {
    let size = PANEL.next_multiple_of(height.max(1));
    let panel = |index: usize| work(index * size..rows.min((index + 1) * size));
    let count = rows.div_ceil(size);
    #[cfg(feature = "std")]
    {
        use rayon::prelude::*;
        (0..count).into_par_iter().map(panel).collect()
    }
    #[cfg(not(feature = "std"))]
    {
        (0..count).map(panel).collect()
    }
}

/// The numbers that one group can hold: `scale · (code value - zero) + minimum`.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct Grid {
    pub(super) scale: f32,
    pub(super) zero: f32,
    pub(super) minimum: f32,
}

/// The representable values of a code in increasing order, ready for encoding on any [`Grid`].
#[derive(Clone, Debug)]
pub(super) struct Levels {
    code: Code,
    /// Distinct values, increasing, and a stored code of each.
    values: Vec<f32>,
    codes: Vec<u8>,
    /// Middles between neighbours.
    middles: Vec<f32>,
    /// Consecutive whole numbers, whose nearest needs no table.
    whole: bool,
}

impl Levels {
    pub(super) fn new(scheme: &Scheme) -> Self {
        let code = scheme.code;
        let count = 1_u16 << code.bits();
        let mut pairs: Vec<(f32, u8)> =
            (0..count).filter_map(|c| u8::try_from(c).ok()).map(|c| (code.value(c), c)).collect();
        if matches!(code, Code::Int { signed: true, .. }) && scheme.layout.is_planar() {
            // The lowest code is never produced: the range is symmetric. Block layouts do use it.
            pairs.retain(|(value, _)| *value >= -code.max());
        }
        pairs.retain(|(value, _)| value.is_finite());
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
        pairs.dedup_by(|a, b| a.0 == b.0);
        let values: Vec<f32> = pairs.iter().map(|p| p.0).collect();
        let middle = |pair: &[f32]| float::narrow(f64::midpoint(f64::from(pair[0]), f64::from(pair[1])));
        let middles = values.windows(2).map(middle).collect();
        let whole = matches!(code, Code::Int { .. });
        Self { code, values, codes: pairs.iter().map(|p| p.1).collect(), middles, whole }
    }

    /// Bits of a code.
    pub(super) fn bits(&self) -> usize {
        self.code.bits()
    }

    /// Whether the values are consecutive whole numbers.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    /// The value nearest to `x` (in units of the scale, the zero point added), and its place among the levels.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the levels")]
    pub(super) fn nearest(&self, x: f32) -> (usize, f32) {
        let (low, high) = self.ends();
        if self.whole {
            let value = code::int::round_ties_even(x.clamp(low, high));
            ((value - low) as usize, value)
        } else {
            let place = self.middles.partition_point(|m| x > *m);
            (place, self.values[place])
        }
    }

    /// The levels around `x`, both the same outside them or on one.
    pub(super) fn around(&self, x: f32) -> (usize, usize) {
        let above = self.values.partition_point(|v| *v < x).min(self.values.len() - 1);
        let below = if self.values[above] > x { above.saturating_sub(1) } else { above };
        (below, above)
    }

    /// The value at a place.
    pub(super) fn value(&self, place: usize) -> f32 {
        self.values[place]
    }

    /// The stored code at a place.
    pub(super) fn code(&self, place: usize) -> u8 {
        self.codes[place]
    }

    /// The least and the greatest value.
    pub(super) fn ends(&self) -> (f32, f32) {
        (self.values[0], self.values[self.values.len() - 1])
    }

    /// Stored code and decoded value of `target` on `grid`.
    #[inline]
    pub(super) fn encode(&self, target: f64, grid: Grid) -> (u8, f32) {
        let Grid { scale, zero, minimum } = grid;
        let above = target - f64::from(minimum);
        let scaled = if scale == 0.0 { zero } else { float::narrow(above / f64::from(scale)) + zero };
        let (place, value) = self.nearest(scaled);
        (self.codes[place], (value - zero) * scale + minimum)
    }
}

/// Whether scales are stored each by itself and may be any number.
pub(super) fn free_scales(scheme: &Scheme) -> bool {
    scheme.nested.is_none()
        && !matches!(scheme.scale_format, FloatFormat::E8m0 | FloatFormat::E4m3)
        && matches!(scheme.scale_rule, ScaleRule::Absmax | ScaleRule::Range | ScaleRule::Search)
}

/// A scale as its format stores it, and whether that is within 2⁻⁸ of it.
pub(super) fn stored(scale: f64, format: FloatFormat) -> (f32, bool) {
    let rounded = format.round(scale);
    let kept = rounded.is_finite() && (f64::from(rounded) - scale).abs() <= scale / 256.0;
    (rounded, kept || format == FloatFormat::F32)
}

/// Which scales and zero points a matrix can store, once what its groups share (a common factor, the scales of blocks of
/// scales) is fixed.
#[derive(Clone, Copy)]
pub(super) struct Store<'a> {
    pub(super) scheme: &'a Scheme,
    /// Scales of the matrix whose shared numbers are the ones to use.
    pub(super) scales: &'a Scales,
}

impl Store<'_> {
    /// The scale nearest to `wanted` that can stand at group `index` (in the order of the storage), and whether its
    /// format has the range: `false` is for 16-bit floats only.
    pub(super) fn scale(&self, index: usize, wanted: f64) -> (f32, bool) {
        if let Some((_, scale)) = self.scales.nearest_code(index, wanted) {
            return (scale, true);
        }
        match (self.scheme.scale_format, self.scales.global_scale()) {
            (FloatFormat::E4m3, Some(global)) => {
                let code =
                    MiniFloat::E4m3.encode(float::narrow(wanted.max(f64::from(global) / 64.0)) / global);
                (MiniFloat::E4m3.value(code) * global, true)
            }
            (FloatFormat::E8m0, _) => (FloatFormat::E8m0.round(wanted), true),
            (format, _) => stored(wanted, format),
        }
    }

    /// The grid whose levels span `low ..= high` (`low ≤ 0 ≤ high`); whether the scale format kept the scale.
    pub(super) fn spanning(&self, index: usize, low: f64, high: f64) -> (Grid, bool) {
        let Scheme { code, zero, .. } = *self.scheme;
        let steps = f64::from(code.max());
        let scale = if zero.shifts() { zero.spanning(code, (low, high)) } else { high.max(-low) / steps };
        let largest = f64::from(f32::MAX) / steps * (1.0 - f64::from(f32::EPSILON));
        let (scale, kept) = self.scale(index, scale.min(largest));
        (self.grid(scale, low), kept)
    }

    /// The grid of a scale where `low` takes the first code.
    pub(super) fn grid(&self, scale: f32, low: f64) -> Grid {
        let zero = if scale > 0.0 { -low / f64::from(scale) } else { 0.0 };
        Grid { scale, zero: self.scheme.zero.round(self.scheme.code, zero), minimum: 0.0 }
    }

    /// The grid of a group by the scheme's own rule; a search is not among them ([`super::search`]).
    pub(super) fn by_rule(&self, index: usize, values: &[f32]) -> (Grid, bool) {
        let fold = |(low, high): (f32, f32), &x: &f32| (low.min(x), high.max(x));
        let (low, high) = values.iter().fold((0.0, 0.0), fold);
        match self.scheme.scale_rule {
            ScaleRule::Absmax
            | ScaleRule::Range
            | ScaleRule::Ratio(_)
            | ScaleRule::Search
            | ScaleRule::Block
            | ScaleRule::Rms => self.spanning(index, f64::from(low), f64::from(high)),
            ScaleRule::Power(_) | ScaleRule::LeastSquares => {
                let (scale, kept) = self.scale(index, scale::of_group(values, self.scheme));
                (self.grid(scale, f64::from(low)), kept)
            }
        }
    }
}

/// Codes and grids of a panel of rows, as a rounder leaves them: one byte a code, groups in order.
pub(super) struct Coded {
    pub(super) codes: Vec<u8>,
    pub(super) grids: Vec<Grid>,
    /// Rows of blocks whose scales were chosen anew; empty where those of the start are kept.
    pub(super) blocks: Vec<u8>,
}

/// The grids of some rows of a stored matrix, group by group; those of a block layout run by run of equal scales. The
/// first row is the first of its groups.
pub(super) fn grids_of(quantized: &Quantized, rows: Range<usize>) -> Vec<Grid> {
    let grouping = quantized.grouping();
    if let Layout::Block(block) = quantized.scheme().layout {
        let bytes = rows.flat_map(|row| quantized.row_codes(row).chunks_exact(block.bytes()));
        return bytes.flat_map(|bytes| block_grids(block, bytes)).collect();
    }
    let grids = |row: usize| {
        (0..grouping.per_row).map(move |g| Grid {
            scale: quantized.scale(row, g),
            zero: quantized.zero_point(row, g),
            minimum: 0.0,
        })
    };
    rows.step_by(grouping.rows).flat_map(grids).collect()
}

/// The grids of one block.
pub(super) fn block_grids(block: crate::Block, bytes: &[u8]) -> impl Iterator<Item = Grid> + '_ {
    (0..block.runs()).map(move |run| {
        let (scale, minimum) = block.run(bytes, run);
        Grid { scale, zero: 0.0, minimum }
    })
}

/// The packed codes of panels of rows.
fn packed(panels: &[Coded], (rows, cols): (usize, usize), bits: usize) -> Result<Vec<u8>, Error> {
    let row_bytes = pack::packed_len(cols, bits).ok_or(Error::TooLarge { what: "codes" })?;
    let mut packed = vec![0; rows.checked_mul(row_bytes).ok_or(Error::TooLarge { what: "codes" })?];
    if cols > 0 && row_bytes > 0 {
        let codes = panels.iter().flat_map(|panel| panel.codes.chunks_exact(cols));
        for (bytes, codes) in packed.chunks_exact_mut(row_bytes).zip(codes) {
            pack::pack(codes, bits, bytes);
        }
    }
    Ok(packed)
}

/// Columns that stand on one grid: a group, or a run of equal scales in a block.
pub(super) fn run_len(scheme: &Scheme, grouping: &Grouping) -> usize {
    match scheme.layout {
        Layout::Planar => grouping.size,
        Layout::Block(block) => block.run_len(),
    }
}

/// `start` with other codes on the same grids, or in blocks that the panels bring along.
pub(super) fn recode(start: Quantized, panels: &[Coded]) -> Result<Quantized, Error> {
    let Layout::Block(block) = start.scheme().layout else {
        let codes = packed(panels, start.shape(), start.scheme().code.bits())?;
        return start.with_codes(codes);
    };
    let mut bytes = start.codes().to_vec();
    let (len, mut at) = (start.grouping().size, 0);
    for panel in panels {
        let blocks = panel.codes.chunks_exact(len).enumerate();
        for ((index, codes), bytes) in blocks.zip(bytes[at..].chunks_exact_mut(block.bytes())) {
            let first = index * block.bytes();
            if let Some(chosen) = panel.blocks.get(first..first + block.bytes()) {
                bytes.copy_from_slice(chosen);
            }
            block.store(codes, bytes);
        }
        at += panel.codes.len() / len * block.bytes();
    }
    start.with_codes(bytes)
}

/// A planar matrix from its panels.
pub(super) fn assemble(
    shape: (usize, usize),
    store: &Store<'_>,
    panels: &[Coded],
) -> Result<Quantized, Error> {
    let Scheme { code, zero, .. } = *store.scheme;
    let codes = packed(panels, shape, code.bits())?;
    let grids = || panels.iter().flat_map(|panel| panel.grids.iter());
    let scales = store.scales.with_values(grids().map(|grid| grid.scale))?;
    let zeros = crate::zero::pack(code, zero, grids().map(|grid| grid.zero).collect::<Vec<_>>().into_iter())?;
    Quantized::from_parts(shape, *store.scheme, codes, scales, zeros)
}

/// One group of a panel.
pub(super) struct GroupOf<'a> {
    /// Its place among the panel's groups.
    pub(super) place: usize,
    /// Its entries, row after row.
    pub(super) values: &'a [f32],
    /// Its columns.
    pub(super) columns: Range<usize>,
}

/// Shows every group of a panel of rows, whose first is the first of its groups, in the order of the storage.
pub(super) fn each_group(weight: MatRef<'_, f32>, grouping: &Grouping, mut see: impl FnMut(GroupOf<'_>)) {
    let (rows, cols) = weight.shape();
    let (mut buffer, mut values) = (Vec::new(), Vec::new());
    for first in (0..rows).step_by(grouping.rows) {
        for g in 0..grouping.per_row {
            let columns = g * grouping.size..cols.min((g + 1) * grouping.size);
            values.clear();
            for row in first..rows.min(first + grouping.rows) {
                values.extend_from_slice(&rows::row(weight, row, &mut buffer)[columns.clone()]);
            }
            let place = first / grouping.rows * grouping.per_row + g;
            see(GroupOf { place, values: &values, columns });
        }
    }
}

/// Nearest codes of a panel on given grids.
pub(super) fn nearest_on(
    weight: MatRef<'_, f32>,
    levels: &Levels,
    grids: Vec<Grid>,
    grouping: &Grouping,
) -> Coded {
    let mut codes = Vec::with_capacity(weight.nrows() * weight.ncols());
    let mut buffer = Vec::new();
    for i in 0..weight.nrows() {
        let row = rows::row(weight, i, &mut buffer);
        for (values, grid) in row.chunks(grouping.size).zip(&grids[grouping.index(i, 0)..]) {
            codes.extend(values.iter().map(|&value| levels.encode(f64::from(value), *grid).0));
        }
    }
    Coded { codes, grids, blocks: Vec::new() }
}

/// Checks that a form fits a weight.
pub(super) fn check_hessian(weight: MatRef<'_, f32>, hessian: MatRef<'_, f64>) -> Result<(), Error> {
    let expected = (weight.ncols(), weight.ncols());
    let found = (hessian.nrows(), hessian.ncols());
    if expected == found { Ok(()) } else { Err(Error::ShapeMismatch { what: "hessian", expected, found }) }
}
