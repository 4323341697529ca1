//! The search behind few-bit scales and zero points: a block's unit and, under each, every pair that could be the best.
//!
//! ```text
//! minimize  Σ_groups Σ_j h_j·(w_j − U·c·(q_j − z))²      U a stored float for a block of groups;
//!                                                       c, z few bits for each group;  q_j nearest
//! ```
//! Rounding a good scale and a good zero point to a few bits each loses much more than choosing the pair that is best
//! among those that exist: a scale some percent off is as good with the zero point that goes with it.
//!
//! 1. **Profile** of each group: its least error E(s) over the zero points, for 20 scales s from 0.55 to 1.4 times what
//!    spans its range, each 5 % above the one before. Of finer zero points only every quarter of a step is tried.
//! 2. **Unit**: of 24 from 1.1 to 0.44 times the one under which the widest group just has the largest code, the two of
//!    the least Σ min_c E(U·c), E read off the profile on straight lines in log s.
//! 3. **Pairs** under both: for each group, the c whose E is within 15 % of its least (and 0), each with all zero points
//!    that could be the best; then the better unit.
//! 4. **Refit**: that unit by least squares for these codes, `U = Σ h·w·v / Σ h·v²` with `v = c·(q − z)`; step 3 under it, kept
//!    if better. Entries that lie on a grid come out exact.
//!
//! A zero point could be the best when either end of the range lies within 0.6 steps of the first and the last level, or
//! between such. With these numbers Gaussian matrices lose nothing against every pair under nine units (0.0653, 0.1335
//! and 0.2581 for the three named formats, 0.0659, 0.1339 and 0.2592 that way); none of them follows from a model's
//! weights. Cost: 200 to 400 encodings an entry.
//!
//! Zero points of whole numbers and fractions, and codes of any kind; scales of [`ScaleCode::Linear`] from 0 in blocks
//! inside a row.

use super::grid::{self, Grid, GroupOf, Levels};
use super::pairs::{FIRST, Pairs, Profile, power_of_two};
use super::search;
use crate::{Error, Floats, Group, Grouping, Offset, ScaleBlock, ScaleCode, Scales, Scheme, ZeroPoint};
use alloc::{vec, vec::Vec};
use num_traits::Float;
use rankbit_linalg::faer::MatRef;

/// Units looked up, each over the next, and the first, relative to the one under which the widest group has the largest code.
const UNITS: (u8, f32, f32) = (24, 1.04, 1.1);

/// Whether this search chooses the scales of `scheme`.
pub(super) fn applies(scheme: &Scheme) -> bool {
    let nested = scheme.nested.is_some_and(|nested| {
        matches!(nested.code, ScaleCode::Linear { .. })
            && matches!(nested.block, ScaleBlock::Row(_))
            && nested.offset == Offset::None
    });
    nested && !matches!(scheme.zero, ZeroPoint::Float(_)) && scheme.group != Group::Tensor
}

/// Grids of a whole matrix, in the order of the storage, and their scales as they are stored.
pub(super) struct Found {
    pub(super) grids: Vec<Grid>,
    pub(super) scales: Scales,
}

/// The best grids of every block of `weight`.
pub(super) fn blocks(
    weight: MatRef<'_, f32>,
    scheme: &Scheme,
    grouping: &Grouping,
    levels: &Levels,
    importance: Option<&[f32]>,
) -> Result<Found, Error> {
    let Some(nested) = scheme.nested else {
        return Err(Error::InvalidScheme { reason: "scales are not nested" });
    };
    let span = match nested.block {
        ScaleBlock::Row(len) | ScaleBlock::Flat(len) => usize::try_from(len).unwrap_or(usize::MAX),
    };
    let panels = grid::panels(weight.nrows(), grouping.rows, |rows| {
        let mut pairs = Pairs::new(scheme, levels);
        let (mut grids, mut units) = (Vec::new(), Vec::new());
        let mut block = Block::default();
        let last = grouping.per_row.saturating_sub(1);
        grid::each_group(weight.subrows(rows.start, rows.len()), grouping, |group| {
            let side = group.place % grouping.per_row.max(1);
            block.add(&group, importance);
            if side == last || block.ends.len() == span {
                units.push(solve(&mut pairs, &mut block, &mut grids));
                block.clear();
            }
        });
        Ok((grids, units))
    })?;
    let mut floats = Floats::with_capacity(scheme.scale_format, panels.len());
    let mut grids = Vec::new();
    for (found, units) in panels {
        grids.extend(found);
        for unit in units {
            floats.push(f64::from(unit));
        }
    }
    let shape = grouping.scale_shape(weight.nrows());
    let scales = Scales::from_codes(nested, shape, &vec![0; grids.len()], floats, 0.0)?;
    let scales = scales.with_values(grids.iter().map(|grid| grid.scale))?;
    Ok(Found { grids, scales })
}

/// The groups of one block.
#[derive(Default)]
struct Block {
    values: Vec<f32>,
    weights: Vec<f32>,
    ends: Vec<usize>,
    row: Vec<f32>,
}

impl Block {
    fn add(&mut self, group: &GroupOf<'_>, importance: Option<&[f32]>) {
        search::weigh(importance, &group.columns, group.values.len(), &mut self.row);
        self.values.extend_from_slice(group.values);
        self.weights.extend_from_slice(&self.row);
        self.ends.push(self.values.len());
    }

    fn clear(&mut self) {
        self.values.clear();
        self.weights.clear();
        self.ends.clear();
    }

    fn groups(&self) -> impl Iterator<Item = (&[f32], &[f32])> {
        let starts = core::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| (&self.values[start..end], &self.weights[start..end]))
    }
}

/// Steps 1 to 4 of one block, whose values are brought near 1: appends the best grids of its groups to `grids` and returns
/// the unit.
fn solve(pairs: &mut Pairs<'_>, block: &mut Block, grids: &mut Vec<Grid>) -> f32 {
    let factor = power_of_two(&mut block.values);
    let profiles: Vec<Profile> =
        block.groups().map(|(values, weights)| pairs.profile(values, weights)).collect();
    let limit = f64::from(pairs.largest_unit());
    let mut best = (f64::INFINITY, 0.0_f32);
    let (mut found, mut trial) = (Vec::new(), Vec::new());
    let mut units = units(&pairs.logs, &profiles).map(Some).to_vec();
    units.push(None);
    for unit in units {
        // The last is the refit of the best.
        let unit = unit.unwrap_or_else(|| best.1 * factor * refit(block, &found, pairs.levels, factor));
        let wanted = (f64::from(unit) / f64::from(factor)).min(limit);
        let (unit, kept) = grid::stored(wanted, pairs.scheme.scale_format);
        let usable = kept && unit >= 0.0;
        if !(usable || found.is_empty()) {
            continue;
        }
        let mut total = 0.0;
        trial.clear();
        for ((values, weights), profile) in block.groups().zip(&profiles) {
            let (grid, error) = pairs.pair(values, weights, unit * factor, profile);
            trial.push(Grid { scale: grid.scale / factor, ..grid });
            total += f64::from(error);
        }
        if total < best.0 || found.is_empty() {
            best = (total, unit);
            core::mem::swap(&mut found, &mut trial);
        }
    }
    grids.extend(found);
    best.1
}

/// Step 2: the two units that promise the least error.
fn units(logs: &[f32], profiles: &[Profile]) -> [f32; 2] {
    let widest = profiles.iter().map(|p| p.spanning).fold(f32::NEG_INFINITY, f32::max);
    if widest == f32::NEG_INFINITY {
        return [0.0; 2];
    }
    let (count, ratio, first) = UNITS;
    let start = widest - logs.last().copied().unwrap_or(0.0) + Float::ln(first) - Float::ln(FIRST);
    let mut best = [(f32::INFINITY, start); 2];
    for index in 0..count {
        let unit = start - f32::from(index) * Float::ln(ratio);
        let error = |p: &Profile| logs.iter().map(|code| p.at(code + unit)).fold(p.nothing, f32::min);
        let total: f32 = profiles.iter().map(error).sum();
        if total < best[0].0 {
            best = [(total, unit), best[0]];
        } else if total < best[1].0 {
            best[1] = (total, unit);
        }
    }
    best.map(|(_, log)| Float::exp(log))
}

/// Step 4: what the unit of `grids` is to be multiplied by. The block's values are `factor` times what these are for.
fn refit(block: &Block, grids: &[Grid], levels: &Levels, factor: f32) -> f32 {
    let (mut cross, mut square) = (0.0_f64, 0.0_f64);
    for ((values, weights), grid) in block.groups().zip(grids) {
        let grid = Grid { scale: grid.scale * factor, ..*grid };
        for (&w, &h) in values.iter().zip(weights) {
            let v = f64::from(levels.encode(f64::from(w), grid).1);
            cross += f64::from(h) * f64::from(w) * v;
            square += f64::from(h) * v * v;
        }
    }
    if square > 0.0 { crate::float::narrow(cross / square) } else { 0.0 }
}
