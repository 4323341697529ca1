//! The pairs of few-bit scale and zero point that one group can have: steps 1 and 3 of [`super::joint`].

use super::grid::{Grid, Levels};
use crate::{ScaleCode, Scheme, ZeroPoint, code};
use alloc::{vec, vec::Vec};
use num_traits::Float;

/// Scales of a profile.
const POINTS: usize = 20;
/// The first of them, relative to what spans the range.
pub(super) const FIRST: f32 = 0.55;
/// Each over the one before.
const RATIO: f32 = 1.05;
/// Pairs are tried up to this much above the least error of a profile.
const NEAR: f32 = 1.15;
/// Zero points tried side by side.
const LANES: usize = 8;
/// By how many steps a range may miss the levels' ends.
const SLACK: f32 = 0.6;

/// Step 1 of one group.
#[derive(Clone, Copy)]
pub(super) struct Profile {
    /// log of the first scale; minus infinity for a group of zeros.
    pub(super) spanning: f32,
    /// Σ h·w², the error of a scale of 0.
    pub(super) nothing: f32,
    errors: [f32; POINTS],
}

impl Profile {
    /// The error at a scale of logarithm `log`, read off.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to the points' indices"
    )]
    pub(super) fn at(&self, log: f32) -> f32 {
        let step = Float::ln(RATIO);
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
pub(super) struct Pairs<'a> {
    pub(super) scheme: &'a Scheme,
    pub(super) levels: &'a Levels,
    /// Zero points, rising, and those of the profile.
    zeros: Vec<f32>,
    few_zeros: Vec<f32>,
    /// Logarithms of the scale codes from 1.
    pub(super) logs: Vec<f32>,
    /// Entries in units of the scale at hand.
    scaled: Vec<f32>,
}

impl<'a> Pairs<'a> {
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
            scaled: Vec::new(),
        }
    }

    /// The largest unit whose largest product is an f32.
    pub(super) fn largest_unit(&self) -> f32 {
        let (low, high) = self.levels.ends();
        let ends = (self.zeros[0], self.zeros[self.zeros.len() - 1]);
        let reach = (high - ends.0).abs().max((low - ends.1).abs()).max((high - ends.1).abs()).max(1.0);
        f32::MAX / reach / 256.0
    }

    /// Step 1.
    pub(super) fn profile(&mut self, values: &[f32], weights: &[f32]) -> Profile {
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
    pub(super) fn pair(
        &mut self,
        values: &[f32],
        weights: &[f32],
        unit: f32,
        profile: &Profile,
    ) -> (Grid, f32) {
        let nothing = Grid { scale: 0.0, zero: self.scheme.zero.round(self.scheme.code, 0.0), minimum: 0.0 };
        let mut best = (nothing, profile.nothing);
        if unit <= 0.0 {
            return best;
        }
        let log = Float::ln(unit);
        let promised = |code: f32| profile.at(code + log);
        let limit = self.logs.iter().map(|&code| promised(code)).fold(f32::INFINITY, f32::min) * NEAR;
        let ends = range(values);
        for index in 0..self.logs.len() {
            if promised(self.logs[index]) > limit {
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

/// Multiplies `values` by the power of two that brings the largest near 1, so that no square leaves f32; returns it.
pub(super) fn power_of_two(values: &mut [f32]) -> f32 {
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
