//! The scale of each group: extremes first, then the scheme's rule, in f64.
//!
//! ```text
//! absmax:         s = max|w| / max(code)
//! range:          s = (hi - lo) / (2^b - 1),   lo = min(0, min w), hi = max(0, max w)
//! power floor:    s = 2^(⌊log₂ max|w|⌋ - emax),  emax = ⌊log₂ max(code)⌋
//! power even:     the same after max|w| is rounded to as many bits as max(code) has behind its leading one
//! power ceil:     s = 2^⌈log₂ (max|w| / max(code))⌉
//! least squares:  binary   s = mean |w|
//!                 ternary  s = mean of the k largest |w|, for the k that maximizes (their sum)² / k
//! ratio:          s = S / 2^k, see the module `ratio`
//! ```
//! Ternary: with k entries away from zero the error is `Σ w² - (Σ_k |w|)² / k` when they are the k largest and
//! s is their mean, so one pass over the sorted magnitudes finds the optimum; there the k-th magnitude is above
//! s/2 and the next is not, which makes the nearest codes those of the optimum.
//!
//! Powers of two stay within 2⁻¹²⁷ and what keeps the largest code finite. Cost O(out · in), for ternary
//! O(out · in · log group).

mod ratio;

use crate::{Code, Error, Grouping, PowerRule, ScaleRule, Scheme, rows::Rows};
use alloc::{vec, vec::Vec};

/// The exact scale of a group, the low end of its range, and its largest magnitude.
#[derive(Clone, Copy, Default)]
pub(crate) struct Range {
    pub(crate) scale: f64,
    pub(crate) low: f64,
    pub(crate) absmax: f64,
}

/// The scale of each group of `weight`, in the order of the storage.
///
/// # Errors
/// [`Error::NonFinite`] naming the first NaN or infinite entry in row order.
pub(crate) fn ranges(weight: impl Rows, scheme: &Scheme, grouping: &Grouping) -> Result<Vec<Range>, Error> {
    let extremes = extremes(weight, grouping)?;
    let means = match scheme.scale_rule {
        ScaleRule::LeastSquares => least_squares(weight, scheme.code, grouping),
        _ => Vec::new(),
    };
    let steps = f64::from(scheme.code.max());
    let largest = largest(steps);
    let range = |(index, (low, high)): (usize, (f32, f32))| {
        let absmax = high.max(-low);
        let (low, high) = (f64::from(low), f64::from(high));
        let scale = match scheme.scale_rule {
            ScaleRule::Range | ScaleRule::Search if scheme.zero.shifts() => {
                scheme.zero.spanning(scheme.code, (low, high))
            }
            ScaleRule::Absmax | ScaleRule::Range | ScaleRule::Search | ScaleRule::Ratio(_) => {
                f64::from(absmax) / steps
            }
            ScaleRule::Power(rule) => power(absmax, scheme.code, rule),
            ScaleRule::LeastSquares => means.get(index).copied().unwrap_or(0.0),
            ScaleRule::Block | ScaleRule::Rms => 0.0,
        };
        Range { scale: scale.min(largest), low, absmax: f64::from(absmax) }
    };
    let mut ranges: Vec<Range> = extremes.into_iter().enumerate().map(range).collect();
    if let ScaleRule::Ratio(rule) = scheme.scale_rule {
        ratio::constrain(&mut ranges, grouping, rule);
    }
    Ok(ranges)
}

/// The largest scale: decoding multiplies by up to `steps`, and no scale may carry that past f32, not even after it
/// is rounded.
pub(crate) fn largest(steps: f64) -> f64 {
    f64::from(f32::MAX) / steps * (1.0 - f64::from(f32::EPSILON))
}

/// The scale of one group of `values` by a rule that is more than its extremes: a power of two or least squares.
#[cfg(feature = "solve")]
pub(crate) fn of_group(values: &[f32], scheme: &Scheme) -> f64 {
    match scheme.scale_rule {
        ScaleRule::Power(rule) => {
            power(values.iter().fold(0.0, |top: f32, value| top.max(value.abs())), scheme.code, rule)
        }
        _ => {
            let mut group = Group::default();
            group.add(values, true);
            group.scale(matches!(scheme.code, Code::Int { .. }))
        }
    }
}

/// `min(0, min w)` and `max(0, max w)` of each group.
fn extremes(weight: impl Rows, grouping: &Grouping) -> Result<Vec<(f32, f32)>, Error> {
    let mut extremes = vec![(0.0_f32, 0.0_f32); grouping.scales];
    let mut buffer = Vec::new();
    for i in 0..weight.nrows() {
        let row = weight.row_slice(i, &mut buffer);
        for (g, values) in row.chunks(grouping.size).enumerate() {
            let (mut low, mut high) = extremes[grouping.index(i, g)];
            let mut all_finite = true;
            for &value in values {
                low = low.min(value);
                high = high.max(value);
                all_finite &= value.is_finite();
            }
            if !all_finite {
                let col = values.iter().position(|v| !v.is_finite()).unwrap_or(0);
                return Err(Error::NonFinite { row: i, col: g * grouping.size + col });
            }
            extremes[grouping.index(i, g)] = (low, high);
        }
    }
    Ok(extremes)
}

/// ⌊log₂ x⌋ of a positive finite number from its bits; -127 for f32's zero and subnormals.
#[expect(clippy::cast_possible_wrap, reason = "the exponent field has 8 bits")]
const fn exponent(x: f32) -> i32 {
    (x.to_bits() >> 23) as i32 - 127
}

/// The power of two of a group; 0 for a group of zeros.
fn power(absmax: f32, code: Code, rule: PowerRule) -> f64 {
    if absmax == 0.0 {
        return 0.0;
    }
    num_traits::Float::powi(2.0_f64, Powers::new(code, rule).exponent(absmax))
}

/// The powers of two that a rule gives the groups of a code.
#[derive(Clone, Copy)]
pub(crate) struct Powers {
    rule: PowerRule,
    max: f32,
    emax: i32,
    mantissa: u32,
}

impl Powers {
    pub(crate) fn new(code: Code, rule: PowerRule) -> Self {
        let max = code.max();
        Self { rule, max, emax: exponent(max), mantissa: u32::from(code.mantissa_bits()) }
    }

    /// The exponent for a group whose largest magnitude is `absmax`, finite; the least for a group of zeros.
    pub(crate) fn exponent(&self, absmax: f32) -> i32 {
        let mut one = [0];
        self.exponents(&[absmax], &mut one);
        one[0]
    }

    /// [`Powers::exponent`] of many groups.
    pub(crate) fn exponents(&self, absmax: &[f32], out: &mut [i32]) {
        let Self { rule, max, emax, mantissa } = *self;
        let clamp = |wanted: i32| wanted.clamp(-127, 127 - emax);
        let each = absmax.iter().zip(out);
        match rule {
            PowerRule::Floor => each.for_each(|(&top, out)| *out = clamp(exponent(top) - emax)),
            PowerRule::Even => {
                // Half of the last kept bit; the carry moves the exponent.
                let half = 1 << (22 - mantissa);
                each.for_each(|(&top, out)| {
                    *out = clamp(exponent(f32::from_bits(top.to_bits() + half)) - emax)
                });
            }
            PowerRule::Ceil => each.for_each(|(&top, out)| {
                // Both are f32: the quotient of a power of two is exact in f64, any other is not one after rounding.
                let bits = (f64::from(top) / f64::from(max)).to_bits();
                let floor = i32::from(u16::from_le_bytes(low_half(bits >> 52))) - 1023;
                *out = clamp(floor + i32::from(bits << 12 != 0));
            }),
        }
    }
}

/// The lowest 16 bits.
const fn low_half(bits: u64) -> [u8; 2] {
    let [a, b, ..] = bits.to_le_bytes();
    [a, b]
}

/// The least-squares scale of each group.
fn least_squares(weight: impl Rows, code: Code, grouping: &Grouping) -> Vec<f64> {
    let ternary = matches!(code, Code::Int { .. });
    let mut groups: Vec<Group> = vec![Group::default(); grouping.scales];
    let mut buffer = Vec::new();
    for i in 0..weight.nrows() {
        let row = weight.row_slice(i, &mut buffer);
        for (g, values) in row.chunks(grouping.size).enumerate() {
            groups[grouping.index(i, g)].add(values, ternary);
        }
    }
    groups.into_iter().map(|group| group.scale(ternary)).collect()
}

/// Sums over one group.
#[derive(Clone, Default)]
struct Group {
    sum: f64,
    count: f64,
    magnitudes: Vec<f32>,
}

impl Group {
    /// Adds entries; their magnitudes are kept when asked for.
    fn add(&mut self, values: &[f32], keep: bool) {
        for &value in values {
            self.sum += f64::from(value.abs());
        }
        self.count += values.len() as f64;
        if keep {
            self.magnitudes.extend(values.iter().map(|value| value.abs()));
        }
    }

    /// The scale of least squared error.
    fn scale(self, ternary: bool) -> f64 {
        match ternary {
            true => ternary_scale(self.magnitudes),
            false if self.count > 0.0 => self.sum / self.count,
            false => 0.0,
        }
    }
}

/// The mean of the k largest for the best k.
fn ternary_scale(mut magnitudes: Vec<f32>) -> f64 {
    magnitudes.sort_unstable_by(|a, b| b.total_cmp(a));
    let (mut sum, mut count, mut best, mut scale) = (0.0, 0.0, 0.0, 0.0);
    for magnitude in magnitudes {
        sum += f64::from(magnitude);
        count += 1.0;
        let gain = sum * sum / count;
        if gain > best {
            (best, scale) = (gain, sum / count);
        }
    }
    scale
}
