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
//! `h` is the diagonal of a Gram matrix when there is one, else 1. About 50 (150) encodings an entry.
//! Formats whose scales are not free numbers keep those of the nearest rounder.
//!
//! Source: the search of GPTQ's released code (its `mse` option), with squared error and the closed-form scale.

use super::grid::{self, Coded, Grid, Levels};
use super::{Context, Rounded, nearest};
use crate::{Error, Quantized, Scheme, ZeroPoint, group::Group, rows};
use alloc::{vec, vec::Vec};
use rankbit_linalg::faer::MatRef;

/// Shrinking factors tried.
const STEPS: u8 = 25;
/// The last of them.
const LEAST: f64 = 0.4;
/// How an end is shrunk by itself.
const SKEW: f64 = 0.85;

pub(super) fn quantize(
    weight: MatRef<'_, f32>,
    scheme: &Scheme,
    context: &Context<'_>,
) -> Result<Rounded, Error> {
    let Rounded { quantized: start, widened_from } = nearest::quantize(weight, scheme)?;
    if let Some(hessian) = context.hessian {
        grid::check_hessian(weight, hessian)?;
    }
    let importance = context.hessian.map(importance);
    if !searchable(start.scheme()) {
        return Ok(Rounded { quantized: start, widened_from });
    }
    let (scheme, size) = (*start.scheme(), start.grouping().size);
    let levels = Levels::new(scheme.code);
    let panels = grid::panels(weight.nrows(), |rows| {
        let weight = weight.subrows(rows.start, rows.len());
        let grids = grids(weight, &start, rows.start, &levels, importance.as_deref());
        Ok(nearest_on(weight, &levels, grids, size))
    })?;
    Ok(Rounded { quantized: grid::assemble(start.shape(), &scheme, &panels)?, widened_from })
}

/// Whether the search can choose the scales of a scheme.
pub(super) fn searchable(scheme: &Scheme) -> bool {
    grid::free_scales(scheme) && scheme.group != Group::Tensor
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

/// Nearest codes on given grids.
pub(super) fn nearest_on(weight: MatRef<'_, f32>, levels: &Levels, grids: Vec<Grid>, size: usize) -> Coded {
    let mut codes = Vec::with_capacity(weight.nrows() * weight.ncols());
    let groups = weight.ncols().div_ceil(size);
    let mut buffer = Vec::new();
    for i in 0..weight.nrows() {
        let row = rows::row(weight, i, &mut buffer);
        for (values, grid) in row.chunks(size).zip(&grids[i * groups..]) {
            codes.extend(values.iter().map(|&value| levels.encode(f64::from(value), *grid).0));
        }
    }
    Coded { codes, grids }
}

/// The best grids of a panel whose first row is `first` of the whole.
pub(super) fn grids(
    weight: MatRef<'_, f32>,
    start: &Quantized,
    first: usize,
    levels: &Levels,
    importance: Option<&[f32]>,
) -> Vec<Grid> {
    let size = start.grouping().size;
    let ones = vec![1.0; size];
    let mut grids = grid::grids_of(start, first..first + weight.nrows());
    let groups = start.grouping().per_row;
    let mut search = Search { levels, scheme: start.scheme(), values: vec![0.0; size] };
    let mut buffer = Vec::new();
    for i in 0..weight.nrows() {
        let row = rows::row(weight, i, &mut buffer);
        for (g, (values, grid)) in row.chunks(size).zip(&mut grids[i * groups..]).enumerate() {
            let weights = importance.and_then(|h| h.get(g * size..g * size + values.len()));
            let weights = weights.unwrap_or(&ones[..values.len()]);
            *grid = search.best(values, weights, *grid);
        }
    }
    grids
}

struct Search<'a> {
    levels: &'a Levels,
    scheme: &'a Scheme,
    /// Code values less the zero point, of the last evaluation.
    values: Vec<f32>,
}

impl Search<'_> {
    /// The best grid of one group, starting from `given`.
    fn best(&mut self, group: &[f32], weights: &[f32], given: Grid) -> Grid {
        let fold = |(low, high): (f32, f32), &x: &f32| (low.min(x), high.max(x));
        let (low, high) = group.iter().fold((0.0, 0.0), fold);
        let (low, high) = (f64::from(low), f64::from(high));
        let mut best = (given, self.evaluate(group, weights, given).error);
        let skewed: &[(f64, f64)] = &[(1.0, 1.0), (SKEW, 1.0), (1.0, SKEW)];
        let few = self.scheme.zero == ZeroPoint::Integer && self.levels.bits() <= 3;
        let skewed = if few { skewed } else { &skewed[..1] };
        for step in 0..STEPS {
            let shrink = 1.0 - (1.0 - LEAST) * f64::from(step) / f64::from(STEPS - 1);
            for (left, right) in skewed {
                let (grid, kept) = grid::spanning(low * shrink * left, high * shrink * right, self.scheme);
                if !kept || grid.scale <= 0.0 {
                    continue;
                }
                let found = self.evaluate(group, weights, grid);
                if found.error < best.1 {
                    best = (grid, found.error);
                }
                let (scale, kept) = grid::stored(found.scale, self.scheme.scale_format);
                if kept && scale > 0.0 {
                    let grid = Grid { scale, ..grid };
                    let error = self.evaluate(group, weights, grid).error;
                    if error < best.1 {
                        best = (grid, error);
                    }
                }
            }
        }
        best.0
    }

    /// Weighted squared error of the nearest codes, and the best scale for these codes.
    fn evaluate(&mut self, group: &[f32], weights: &[f32], grid: Grid) -> Found {
        let Grid { scale, zero } = grid;
        let zero = f32::from(zero);
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
