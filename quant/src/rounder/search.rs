//! Scales of least squared error: a search over clipping, then the closed form.
//!
//! ```text
//! per group:   minimize  Σ_j h_j·(w_j − ŵ_j)²   over scale and zero point
//! ```
//! 1. Candidates: the group's range shrunk by 25 factors from 1 to 0.4; with an integer zero point and at most
//!    8 values also with either end shrunk by another 0.85.
//! 2. Each: nearest codes, then the best scale for these codes, `s = Σ h·w·c / Σ h·c²` (c the code less zero point),
//!    rounded as stored, then codes again.
//! 3. The nearest rounder's own grid is a candidate too, so no group is ever worse than it under `h`.
//!
//! 4. Zero points that are no whole numbers: the straight line through (code, w) gives scale and zero point at once,
//!    both rounded as stored; from the best codes again and again, until the error no longer falls.
//!
//! `h` is the diagonal of a Gram matrix when there is one, else 1. About 50 (150) encodings an entry.
//! Scales of a few bits in blocks inside a row have a search of their own ([`super::joint`]). Powers of two, signs, scales of a whole matrix and
//! block layouts keep the scales of the nearest rounder.
//!
//! Source: the search of GPTQ's released code (its `mse` option), with squared error and the closed-form scale.

use super::grid::{self, Grid, Levels, Store};
use super::{Context, Rounded, joint, nearest};
use crate::{Error, Group, Grouping, Quantized, Scheme, ZeroPoint};
use crate::{ScaleRule, Scales};
use alloc::vec::Vec;
use core::ops::Range;
use rankbit_linalg::faer::MatRef;

/// Shrinking factors tried.
const STEPS: u8 = 25;
/// The last of them.
const LEAST: f64 = 0.4;
/// Lines fitted to the best codes at most.
const LINES: u8 = 20;
/// How an end is shrunk by itself.
const SKEW: f64 = 0.85;

pub(super) fn quantize(
    weight: MatRef<'_, f32>,
    scheme: &Scheme,
    context: &Context<'_>,
) -> Result<Rounded, Error> {
    if let Some(hessian) = context.hessian {
        grid::check_hessian(weight, hessian)?;
    }
    let start = nearest::by_extremes(weight, scheme)?;
    if !searchable(start.quantized.scheme()) || start.quantized.grouping().scales == 0 {
        return Ok(start);
    }
    let importance = context.hessian.map(importance);
    let searched = Searched::new(weight, &start.quantized, importance.as_deref())?;
    let levels = Levels::new(&searched.scheme);
    let grouping = *start.quantized.grouping();
    let panels = grid::panels(weight.nrows(), grouping.rows, |rows| {
        let weight = weight.subrows(rows.start, rows.len());
        Ok(grid::nearest_on(weight, &levels, searched.grids_of(rows, &grouping), &grouping))
    })?;
    let quantized = grid::assemble(weight.shape(), &searched.store(), &panels)?;
    Ok(Rounded { quantized, ..start })
}

/// Whether the search can choose the scales of a scheme.
pub(super) fn searchable(scheme: &Scheme) -> bool {
    let rule = matches!(scheme.scale_rule, ScaleRule::Absmax | ScaleRule::Range | ScaleRule::Search);
    rule && scheme.scale_format.bits() > 8 && scheme.group != Group::Tensor
}

/// Searched grids of a whole matrix.
pub(super) struct Searched {
    pub(super) scheme: Scheme,
    /// What the scales share.
    scales: Scales,
    grids: Vec<Grid>,
}

impl Searched {
    /// The best grids of `weight`, for a [searchable] scheme whose nearest grids are those of `start`.
    pub(super) fn new(
        weight: MatRef<'_, f32>,
        start: &Quantized,
        importance: Option<&[f32]>,
    ) -> Result<Self, Error> {
        let (scheme, grouping) = (*start.scheme(), *start.grouping());
        let levels = Levels::new(&scheme);
        let mut scales = start.scales().clone();
        let panels = if joint::applies(&scheme) {
            let found = joint::blocks(weight, &scheme, &grouping, &levels, importance)?;
            scales = found.scales;
            found.grids
        } else {
            let store = Store { scheme: &scheme, scales: &scales };
            grid::panels(weight.nrows(), grouping.rows, |rows| {
                let first = grouping.index(rows.start, 0);
                let mut grids = grid::grids_of(start, rows.clone());
                let mut search = Search::new(&levels, store);
                let mut weights = Vec::new();
                let panel = weight.subrows(rows.start, rows.len());
                grid::each_group(panel, &grouping, |group| {
                    weigh(importance, &group.columns, group.values.len(), &mut weights);
                    let grid = &mut grids[group.place];
                    *grid = search.best(group.values, &weights, Some(*grid), first + group.place);
                });
                Ok(grids)
            })?
            .concat()
        };
        Ok(Self { scheme, scales, grids: panels })
    }

    pub(super) fn store(&self) -> Store<'_> {
        Store { scheme: &self.scheme, scales: &self.scales }
    }

    /// The grids of a panel's rows.
    pub(super) fn grids_of(&self, rows: Range<usize>, grouping: &Grouping) -> Vec<Grid> {
        let bands = rows.len().div_ceil(grouping.rows);
        let first = grouping.index(rows.start, 0);
        self.grids[first..first + bands * grouping.per_row].to_vec()
    }
}

/// The weights of a group's entries: its columns' importance, row after row.
pub(super) fn weigh(importance: Option<&[f32]>, columns: &Range<usize>, len: usize, weights: &mut Vec<f32>) {
    weights.clear();
    match importance.and_then(|h| h.get(columns.clone())) {
        Some(row) if !row.is_empty() => {
            while weights.len() < len {
                weights.extend_from_slice(row);
            }
        }
        _ => weights.resize(len, 1.0),
    }
}

/// diag(H) over its mean; all ones without any weight.
pub(super) fn importance(hessian: MatRef<'_, f64>) -> Vec<f32> {
    let diagonal: Vec<f64> = (0..hessian.nrows()).map(|j| hessian[(j, j)]).collect();
    let largest = diagonal.iter().copied().fold(0.0, f64::max);
    diagonal
        .into_iter()
        .map(
            |h| {
                if largest > 0.0 && h.is_finite() {
                    crate::float::narrow((h / largest).max(1e-6))
                } else {
                    1.0
                }
            },
        )
        .collect()
}

/// The search for the grid of one group after another.
pub(super) struct Search<'a> {
    levels: &'a Levels,
    store: Store<'a>,
    /// Code values less the zero point, of the last evaluation.
    values: Vec<f32>,
}

impl<'a> Search<'a> {
    pub(super) fn new(levels: &'a Levels, store: Store<'a>) -> Self {
        Self { levels, store, values: Vec::new() }
    }

    /// The best grid of a group that stands at `index` in the storage, never worse than `given`.
    pub(super) fn best(&mut self, group: &[f32], weights: &[f32], given: Option<Grid>, index: usize) -> Grid {
        self.values.resize(group.len().max(self.values.len()), 0.0);
        let fold = |(low, high): (f32, f32), &x: &f32| (low.min(x), high.max(x));
        let (low, high) = group.iter().fold((0.0, 0.0), fold);
        let (low, high) = (f64::from(low), f64::from(high));
        let given = given.unwrap_or_else(|| self.store.spanning(index, low, high).0);
        let mut best = (given, self.evaluate(group, weights, given).error);
        let zero = self.store.scheme.zero;
        let skewed: &[(f64, f64)] = &[(1.0, 1.0), (SKEW, 1.0), (1.0, SKEW)];
        let few = zero.shifts() && (self.levels.bits() <= 3 || zero != ZeroPoint::Integer);
        let skewed = if few { skewed } else { &skewed[..1] };
        for step in 0..STEPS {
            let shrink = 1.0 - (1.0 - LEAST) * f64::from(step) / f64::from(STEPS - 1);
            for (left, right) in skewed {
                let (grid, kept) = self.store.spanning(index, low * shrink * left, high * shrink * right);
                if !kept || grid.scale <= 0.0 {
                    continue;
                }
                let found = self.evaluate(group, weights, grid);
                if found.error < best.1 {
                    best = (grid, found.error);
                }
                let (scale, kept) = self.store.scale(index, found.scale);
                if kept && scale > 0.0 {
                    self.offer(group, weights, Grid { scale, ..grid }, &mut best);
                }
                if matches!(zero, ZeroPoint::Float(_) | ZeroPoint::Fraction { .. })
                    && let Some(line) = self.line(group, weights, grid, index)
                {
                    self.offer(group, weights, line, &mut best);
                }
            }
        }
        // The line of the best codes gives other codes: until the error no longer falls.
        for _ in 0..LINES {
            let last = best.1;
            if zero.shifts()
                && zero != ZeroPoint::Integer
                && let Some(line) = self.line(group, weights, best.0, index)
            {
                self.offer(group, weights, line, &mut best);
            }
            if best.1 >= last {
                break;
            }
        }
        best.0
    }

    /// Takes `grid` if it is better.
    fn offer(&mut self, group: &[f32], weights: &[f32], grid: Grid, best: &mut (Grid, f64)) {
        let error = self.evaluate(group, weights, grid).error;
        if error < best.1 {
            *best = (grid, error);
        }
    }

    /// Step 4: the grid of the straight line through the codes that `grid` gives.
    fn line(&mut self, group: &[f32], weights: &[f32], grid: Grid, index: usize) -> Option<Grid> {
        self.evaluate(group, weights, grid);
        let (mut sum, mut sum_c, mut sum_w, mut sum_cc, mut sum_cw) = (0.0_f64, 0.0, 0.0, 0.0, 0.0);
        for ((&c, &w), &h) in self.values.iter().zip(group).zip(weights) {
            let (h, c, w) = (f64::from(h), f64::from(c), f64::from(w));
            sum += h;
            sum_c += h * c;
            sum_w += h * w;
            sum_cc += h * c * c;
            sum_cw += h * c * w;
        }
        let determinant = sum * sum_cc - sum_c * sum_c;
        if determinant <= 0.0 {
            return None;
        }
        let (scale, kept) = self.store.scale(index, (sum * sum_cw - sum_c * sum_w) / determinant);
        if !kept || scale <= 0.0 {
            return None;
        }
        // The best intercept for the scale as stored; the codes are less the old zero point.
        let shift = (sum_w - f64::from(scale) * sum_c) / sum / f64::from(scale);
        let scheme = self.store.scheme;
        Some(Grid { scale, zero: scheme.zero.round(scheme.code, f64::from(grid.zero) - shift), minimum: 0.0 })
    }

    /// Weighted squared error of the nearest codes, and the best scale for these codes.
    fn evaluate(&mut self, group: &[f32], weights: &[f32], grid: Grid) -> Found {
        let Grid { scale, zero, .. } = grid;
        let reciprocal = if scale > 0.0 { scale.recip() } else { 0.0 };
        let (low, high) = self.levels.ends();
        if self.levels.is_whole() {
            for (value, &w) in self.values.iter_mut().zip(group) {
                let x = (w * reciprocal + zero).clamp(low, high);
                *value = crate::code::int::round_ties_even(x) - zero;
            }
        } else {
            for (value, &w) in self.values.iter_mut().zip(group) {
                *value = self.levels.nearest(w * reciprocal + zero).1 - zero;
            }
        }
        const LANES: usize = 8;
        let mut sums = [[0.0_f32; LANES]; 3];
        let mut add = |values: &[f32; LANES], group: &[f32; LANES], weights: &[f32; LANES]| {
            for lane in 0..LANES {
                let (c, w, h) = (values[lane], group[lane], weights[lane]);
                let (e, hc) = (w - c * scale, h * c);
                sums[0][lane] += h * e * e;
                sums[1][lane] += hc * w;
                sums[2][lane] += hc * c;
            }
        };
        let (values, values_rest) = self.values[..group.len()].as_chunks::<LANES>();
        let (group, group_rest) = group.as_chunks::<LANES>();
        let (weights, weights_rest) = weights.as_chunks::<LANES>();
        for ((values, group), weights) in values.iter().zip(group).zip(weights) {
            add(values, group, weights);
        }
        let rest = |rest: &[f32]| {
            let mut padded = [0.0; LANES];
            padded.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            padded
        };
        add(&rest(values_rest), &rest(group_rest), &rest(weights_rest));
        let [error, cross, square] = sums.map(|lanes| lanes.iter().map(|x| f64::from(*x)).sum::<f64>());
        Found { error, scale: if square > 0.0 { cross / square } else { f64::from(scale) } }
    }
}

struct Found {
    error: f64,
    scale: f64,
}
