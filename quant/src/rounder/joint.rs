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
//! between such. All these numbers are those outside which groups of Gaussian numbers gain nothing (2 to 4 bits, 12 to 32
//! entries); nothing follows from data. Cost: 200 to 400 encodings an entry.
//!
//! Zero points of whole numbers and fractions, and codes of any kind; scales of [`ScaleCode::Linear`] from 0 in blocks
//! inside a row.

use super::grid::{self, Grid, GroupOf, Levels};
use super::search;
use crate::{Error, Floats, Group, Grouping, Offset, ScaleBlock, ScaleCode, Scales, Scheme, ZeroPoint, code};
use alloc::{vec, vec::Vec};
use num_traits::Float;
use rankbit_linalg::faer::MatRef;

/// Scales of a profile.
const POINTS: usize = 20;
/// The first of them, relative to what spans the range.
const FIRST: f32 = 0.55;
/// Each over the one before.
const RATIO: f32 = 1.05;
/// Units looked up, each over the next, and the first, relative to the one under which the widest group has the largest code.
const UNITS: (u8, f32, f32) = (24, 1.04, 1.1);
/// Pairs are tried up to this much above the least error of a profile.
const NEAR: f32 = 1.15;
/// Zero points tried side by side.
const LANES: usize = 8;
/// By how many steps a range may miss the levels' ends.
const SLACK: f32 = 0.6;

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

/// Steps 1 to 3 for every block of `weight`.
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
        let mut joint = Joint::new(scheme, levels);
        let (mut grids, mut units) = (Vec::new(), Vec::new());
        let mut block = Block::default();
        let last = grouping.per_row.saturating_sub(1);
        grid::each_group(weight.subrows(rows.start, rows.len()), grouping, |group| {
            let side = group.place % grouping.per_row.max(1);
            block.add(&group, importance);
            if side == last || block.ends.len() == span {
                units.push(joint.block(&mut block, &mut grids));
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

/// Step 1 of one group.
#[derive(Clone, Copy)]
struct Profile {
    /// log of the scale that spans the range; minus infinity for a group of zeros.
    spanning: f32,
    /// Σ h·w², the error of a scale of 0.
    nothing: f32,
    errors: [f32; POINTS],
}

impl Profile {
    /// The error at a scale of logarithm `log`, read off.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to the points' indices"
    )]
    fn at(&self, log: f32, step: f32) -> f32 {
        let place = (log - self.spanning) / step;
        if place.is_nan() || place < 0.0 {
            return f32::INFINITY;
        }
        let last = (POINTS - 1) as f32;
        if place >= last {
            // Beyond, an error grows as the square of its step.
            let over = (place - last) * 2.0 * step;
            return self.errors[POINTS - 1] * (1.0 + over + over * over);
        }
        let below = place as usize;
        let share = place - below as f32;
        self.errors[below] * (1.0 - share) + self.errors[below + 1] * share
    }
}

/// The pairs of a scheme.
pub(super) struct Joint<'a> {
    scheme: &'a Scheme,
    levels: &'a Levels,
    /// Zero points, rising, and those of the profile.
    zeros: Vec<f32>,
    few_zeros: Vec<f32>,
    /// Logarithms of the scale codes from 1.
    logs: Vec<f32>,
    profiles: Vec<Profile>,
    /// Entries in units of the scale at hand.
    scaled: Vec<f32>,
}

impl<'a> Joint<'a> {
    pub(super) fn new(scheme: &'a Scheme, levels: &'a Levels) -> Self {
        let bits = scheme.zero.bits(scheme.code);
        let zeros: Vec<f32> = match scheme.zero {
            ZeroPoint::Integer | ZeroPoint::Fraction { .. } => {
                (0..=u8::MAX).take(1 << bits).map(|c| scheme.zero.value(scheme.code, c)).collect()
            }
            ZeroPoint::None | ZeroPoint::Min | ZeroPoint::Float(_) => vec![0.0],
        };
        let every = match scheme.zero {
            ZeroPoint::Fraction { fraction, .. } => 1 << fraction.clamp(2, 8) >> 2,
            _ => 1,
        };
        let top = match scheme.nested.map(|nested| nested.code) {
            Some(ScaleCode::Linear { bits }) => u8::MAX >> (8 - bits.clamp(1, 8)),
            _ => u8::MAX,
        };
        Self {
            scheme,
            levels,
            few_zeros: zeros.iter().copied().step_by(every).collect(),
            zeros,
            logs: (1..=top).map(|code| Float::ln(f32::from(code))).collect(),
            profiles: Vec::new(),
            scaled: Vec::new(),
        }
    }

    /// Appends the best grids of a block's groups to `grids`; returns the unit. The block's values are brought near 1.
    fn block(&mut self, block: &mut Block, grids: &mut Vec<Grid>) -> f32 {
        let factor = power_of_two(&mut block.values);
        self.profiles.clear();
        for (values, weights) in block.groups() {
            let profile = self.profile(values, weights);
            self.profiles.push(profile);
        }
        let limit = f64::from(self.largest_unit());
        let mut best = (f64::INFINITY, 0.0_f32);
        let (mut found, mut trial) = (Vec::new(), Vec::new());
        let mut units = self.units().map(Some).to_vec();
        units.push(None);
        for unit in units {
            // The last is the refit of the best.
            let unit = unit.unwrap_or_else(|| best.1 * factor * refit(block, &found, self.levels, factor));
            let wanted = (f64::from(unit) / f64::from(factor)).min(limit);
            let (unit, kept) = grid::stored(wanted, self.scheme.scale_format);
            if !(kept && unit >= 0.0) && !found.is_empty() {
                continue;
            }
            let mut total = 0.0;
            trial.clear();
            for (index, (values, weights)) in block.groups().enumerate() {
                let profile = self.profiles[index];
                let (grid, error) = self.pair(values, weights, unit * factor, &profile);
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

    /// The largest unit whose largest product is an f32.
    fn largest_unit(&self) -> f32 {
        let (low, high) = self.levels.ends();
        let ends = (self.zeros[0], self.zeros[self.zeros.len() - 1]);
        let reach = (high - ends.0).abs().max((low - ends.1).abs()).max((high - ends.1).abs()).max(1.0);
        f32::MAX / reach / 256.0
    }

    /// Step 2: the two units that promise the least error.
    fn units(&self) -> [f32; 2] {
        let step = Float::ln(RATIO);
        let widest = self.profiles.iter().map(|p| p.spanning).fold(f32::NEG_INFINITY, f32::max);
        if widest == f32::NEG_INFINITY {
            return [0.0; 2];
        }
        let (count, ratio, first) = UNITS;
        let start = widest - self.logs.last().copied().unwrap_or(0.0) + Float::ln(first) - Float::ln(FIRST);
        let mut best = [(f32::INFINITY, start); 2];
        for index in 0..count {
            let unit = start - f32::from(index) * Float::ln(ratio);
            let error =
                |p: &Profile| self.logs.iter().map(|code| p.at(code + unit, step)).fold(p.nothing, f32::min);
            let total: f32 = self.profiles.iter().map(error).sum();
            if total < best[0].0 {
                best = [(total, unit), best[0]];
            } else if total < best[1].0 {
                best[1] = (total, unit);
            }
        }
        best.map(|(_, log)| Float::exp(log))
    }

    /// Step 1; `spanning` is that of the first scale.
    fn profile(&mut self, values: &[f32], weights: &[f32]) -> Profile {
        let square = |sum: f32, (&w, &h): (&f32, &f32)| sum + h * w * w;
        let nothing = values.iter().zip(weights).fold(0.0, square);
        let mut profile = Profile { spanning: f32::NEG_INFINITY, nothing, errors: [nothing; POINTS] };
        let ends = range(values);
        let mut scale = self.spanning(ends) * FIRST;
        if scale > 0.0 {
            profile.spanning = Float::ln(scale);
            for error in &mut profile.errors {
                *error = self.zero(values, weights, (scale, ends), true).0;
                scale *= RATIO;
            }
        }
        profile
    }

    /// The scale under which the levels just span a range.
    fn spanning(&self, (low, high): (f32, f32)) -> f32 {
        let Scheme { code, zero, .. } = *self.scheme;
        match zero.shifts() {
            true => crate::float::narrow(zero.spanning(code, (f64::from(low), f64::from(high)))),
            false => high.max(-low) / code.max(),
        }
    }

    /// The best grid of one group under a unit that is given. The values are brought near 1.
    pub(super) fn under(&mut self, values: &mut [f32], weights: &[f32], unit: f32) -> Grid {
        let factor = power_of_two(values);
        let profile = self.profile(values, weights);
        let grid = self.pair(values, weights, unit * factor, &profile).0;
        Grid { scale: grid.scale / factor, ..grid }
    }

    /// Step 3: the best grid of one group under `unit`, and its error.
    fn pair(&mut self, values: &[f32], weights: &[f32], unit: f32, profile: &Profile) -> (Grid, f32) {
        let nothing = Grid { scale: 0.0, zero: self.scheme.zero.round(self.scheme.code, 0.0), minimum: 0.0 };
        let mut best = (nothing, profile.nothing);
        if unit <= 0.0 {
            return best;
        }
        let (step, log) = (Float::ln(RATIO), Float::ln(unit));
        let promised = |code: f32| profile.at(code + log, step);
        let limit = self.logs.iter().map(|&code| promised(code)).fold(f32::INFINITY, f32::min) * NEAR;
        let ends = range(values);
        for index in 0..self.logs.len() {
            if profile.at(self.logs[index] + log, step) > limit {
                continue;
            }
            let scale = (index + 1) as f32 * unit;
            let (error, zero) = self.zero(values, weights, (scale, ends), false);
            if error < best.1 {
                best = (Grid { scale, zero, minimum: 0.0 }, error);
            }
        }
        best
    }

    /// The least error under `scale` and the zero point that gives it, of all or of the profile's.
    fn zero(
        &mut self,
        values: &[f32],
        weights: &[f32],
        (scale, (low, high)): (f32, (f32, f32)),
        few: bool,
    ) -> (f32, f32) {
        let reciprocal = scale.recip();
        self.scaled.clear();
        self.scaled.extend(values.iter().map(|w| w * reciprocal));
        let zeros = if few { &self.few_zeros } else { &self.zeros };
        let ends = (-low * reciprocal, self.scheme.code.max() - high * reciprocal);
        let from = zeros.partition_point(|z| *z < ends.0.min(ends.1) - SLACK).min(zeros.len() - 1);
        let to = zeros.partition_point(|z| *z <= ends.0.max(ends.1) + SLACK);
        let mut best = (f32::INFINITY, zeros[from]);
        for zeros in zeros[from..to.max(from + 1)].chunks(LANES) {
            let mut lanes = [zeros[0]; LANES];
            lanes[..zeros.len()].copy_from_slice(zeros);
            for (&error, &zero) in self.errors(weights, &lanes).iter().zip(zeros) {
                if error < best.0 {
                    best = (error, zero);
                }
            }
        }
        (best.0 * scale * scale, best.1)
    }

    /// Σ h·(x + z − value of the nearest code)² over the scaled entries x, for each of the zero points.
    fn errors(&self, weights: &[f32], zeros: &[f32; LANES]) -> [f32; LANES] {
        let mut sums = [0.0_f32; LANES];
        let (low, high) = self.levels.ends();
        for (&x, &h) in self.scaled.iter().zip(weights) {
            if self.levels.is_whole() {
                for (sum, &zero) in sums.iter_mut().zip(zeros) {
                    let at = x + zero;
                    let e = at - code::int::round_ties_even(at.max(low).min(high));
                    *sum += h * e * e;
                }
            } else {
                for (sum, &zero) in sums.iter_mut().zip(zeros) {
                    let e = x + zero - self.levels.nearest(x + zero).1;
                    *sum += h * e * e;
                }
            }
        }
        sums
    }
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

/// Multiplies `values` by the power of two that brings the largest near 1, so that no square leaves f32; returns it.
fn power_of_two(values: &mut [f32]) -> f32 {
    let largest = values.iter().fold(0.0, |top: f32, value| top.max(value.abs()));
    let exponent = (largest.to_bits() >> 23).clamp(1, 253);
    let factor = f32::from_bits((254 - exponent) << 23);
    for value in values {
        *value *= factor;
    }
    factor
}

/// The least and the greatest of the values and 0.
fn range(values: &[f32]) -> (f32, f32) {
    values.iter().fold((0.0, 0.0), |(low, high), &x| (low.min(x), high.max(x)))
}
