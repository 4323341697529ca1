//! The searches behind the K-quants and IQ4_NL: a scale, or a scale and a minimum, of least weighted error.
//!
//! All of them alternate two closed forms: codes nearest under a trial scale, then the scale that is best for those
//! codes. What they are and in which order they run is ggml's; sums are taken in order, in f32, for the same bytes.

use super::nearest;
use crate::code::table::IQ4_NL;

/// Groups of smaller magnitudes have no scale.
pub(super) const TINY: f32 = 1e-15;

/// The first entry of the largest magnitude.
fn extreme(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |top: f32, &v| if v.abs() > top.abs() { v } else { top })
}

/// `Σ w·x·q` and `Σ w·q²` with `w = x²`: their quotient is the best scale of codes `q`.
#[derive(Clone, Copy, Default)]
struct Sums {
    cross: f32,
    square: f32,
}

impl Sums {
    fn add(&mut self, x: f32, q: f32) {
        let w = x * x;
        self.cross += w * x * q;
        self.square += w * q * q;
    }

    /// Whether these codes explain more than `best`, the explained part of other codes.
    fn beats(&self, best: f32) -> bool {
        self.square > 0.0 && self.cross * self.cross > best * self.square
    }
}

/// Scale of codes `-half ..= half - 1` for Q6_K: nineteen trial scales around `-extreme/half`, the best kept.
/// `codes` receives them shifted by `half`.
pub(super) fn signed_scale(values: &[f32], half: i8, codes: &mut [u8]) -> f32 {
    let top = extreme(values);
    if top.abs() < TINY {
        codes.fill(0);
        return 0.0;
    }
    let (mut scale, mut best) = (0.0, 0.0);
    let order = core::iter::once(0_i8).chain((-9..=9).filter(|&step| step != 0));
    for step in order {
        let inverse = -(f32::from(half) + 0.1 * f32::from(step)) / top;
        let mut sums = Sums::default();
        for &x in values {
            sums.add(x, f32::from(nearest(inverse * x, -half, half - 1)));
        }
        let first = step == 0;
        if first || sums.beats(best) {
            scale = if sums.square > 0.0 || !first { sums.cross / sums.square } else { 0.0 };
            best = scale * sums.cross;
            for (code, &x) in codes.iter_mut().zip(values) {
                *code = shifted(nearest(inverse * x, -half, half - 1), half);
            }
        }
    }
    scale
}

/// Scale of codes `-half ..= half - 1` for Q3_K: start at `-extreme/half`, then up to five passes that move one code
/// at a time where that explains more. `codes` receives them shifted by `half`.
pub(super) fn coordinate_scale(values: &[f32], half: i8, codes: &mut [u8]) -> f32 {
    let top = extreme(values);
    if top.abs() < TINY {
        codes.fill(0);
        return 0.0;
    }
    let inverse = -f32::from(half) / top;
    let mut chosen = [0_i8; 16];
    let mut sums = Sums::default();
    for (q, &x) in chosen.iter_mut().zip(values) {
        *q = nearest(inverse * x, -half, half - 1);
        sums.add(x, f32::from(*q));
    }
    for _ in 0..5 {
        let mut changed = false;
        for (q, &x) in chosen.iter_mut().zip(values) {
            let (w, old) = (x * x, f32::from(*q));
            let mut cross = sums.cross - w * x * old;
            if cross <= 0.0 {
                continue;
            }
            let mut square = sums.square - w * old * old;
            let new = nearest(x * square / cross, -half, half - 1);
            if new == *q {
                continue;
            }
            let moved = f32::from(new);
            cross += w * x * moved;
            square += w * moved * moved;
            if square > 0.0 && cross * cross * sums.square > sums.cross * sums.cross * square {
                (*q, sums) = (new, Sums { cross, square });
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    for (code, q) in codes.iter_mut().zip(chosen) {
        *code = shifted(q, half);
    }
    if sums.square > 0.0 { sums.cross / sums.square } else { 0.0 }
}

/// A signed code as it is stored.
fn shifted(q: i8, half: i8) -> u8 {
    // -half ..= half - 1 becomes 0 ..= 2·half - 1.
    q.wrapping_add(half).to_le_bytes()[0]
}

/// How a scale and a minimum are searched.
pub(super) struct Affine {
    /// Largest code.
    pub(super) top: i8,
    /// First trial, relative to `top` steps over the range.
    pub(super) start: f32,
    /// Distance between trials.
    pub(super) step: f32,
    /// Trials after the first.
    pub(super) steps: u8,
    /// Errors count by magnitude, not by square.
    pub(super) absolute: bool,
}

impl Affine {
    /// `(scale, -minimum)` of least weighted error for `w ≈ scale·q + minimum`, `minimum ≤ 0`, and the codes.
    pub(super) fn search(&self, values: &[f32], weights: &[f32], codes: &mut [u8]) -> (f32, f32) {
        let mut low = values.iter().copied().fold(f32::MAX, f32::min).min(0.0);
        let high = values.iter().copied().fold(f32::MIN, f32::max);
        if high == low {
            codes.fill(0);
            return (0.0, -low);
        }
        let top = f32::from(self.top);
        let (mut sum_w, mut sum_x) = (0.0, 0.0);
        for (&x, &w) in values.iter().zip(weights) {
            sum_w += w;
            sum_x += w * x;
        }
        let inverse = top / (high - low);
        let mut scale = 1.0 / inverse;
        let mut best = self.error(values, weights, inverse, low, (scale, low));
        self.codes(values, inverse, low, codes);
        for trial in 0..=self.steps {
            // From the best minimum so far, not from the first.
            let (from, range) = (low, high - low);
            let inverse = (self.start + self.step * f32::from(trial) + top) / range;
            let (mut sum_q, mut sum_qq, mut sum_xq) = (0.0, 0.0, 0.0);
            for (&x, &w) in values.iter().zip(weights) {
                let q = self.code(x, inverse, from);
                sum_q += w * q;
                sum_qq += w * q * q;
                sum_xq += w * q * x;
            }
            let determinant = sum_w * sum_qq - sum_q * sum_q;
            if determinant > 0.0 {
                let mut slope = (sum_w * sum_xq - sum_x * sum_q) / determinant;
                let mut minimum = (sum_qq * sum_x - sum_q * sum_xq) / determinant;
                if minimum > 0.0 {
                    (slope, minimum) = (sum_xq / sum_qq, 0.0);
                }
                let error = self.error(values, weights, inverse, from, (slope, minimum));
                if error < best {
                    (best, scale, low) = (error, slope, minimum);
                    self.codes(values, inverse, from, codes);
                }
            }
        }
        (scale, -low)
    }

    fn code(&self, x: f32, inverse: f32, from: f32) -> f32 {
        f32::from(nearest(inverse * (x - from), 0, self.top))
    }

    fn codes(&self, values: &[f32], inverse: f32, from: f32, codes: &mut [u8]) {
        for (code, &x) in codes.iter_mut().zip(values) {
            *code = nearest(inverse * (x - from), 0, self.top).to_le_bytes()[0];
        }
    }

    fn error(
        &self,
        values: &[f32],
        weights: &[f32],
        inverse: f32,
        from: f32,
        (scale, minimum): (f32, f32),
    ) -> f32 {
        let mut error = 0.0;
        for (&x, &w) in values.iter().zip(weights) {
            let difference = scale * self.code(x, inverse, from) + minimum - x;
            error += w * if self.absolute { difference.abs() } else { difference * difference };
        }
        error
    }
}

/// Rank of the table entry nearest to `x`; a tie goes to the upper one.
pub(super) fn table_index(x: f32) -> u8 {
    let above = IQ4_NL.windows(2).filter(|pair| x - pair[0] >= pair[1] - x).count();
    above.to_le_bytes()[0]
}

/// Scale of IQ4_NL: fifteen trial scales, the best kept.
pub(super) fn table_scale(values: &[f32]) -> f32 {
    let top = extreme(values);
    if top.abs() < TINY {
        return 0.0;
    }
    let sums = |inverse: f32| {
        let mut sums = Sums::default();
        for &x in values {
            let q = IQ4_NL[usize::from(table_index(inverse * x))];
            let w = x * x;
            sums.cross += w * q * x;
            sums.square += w * q * q;
        }
        sums
    };
    let first = sums(1.0 / (-top / IQ4_NL[0]));
    let mut scale = first.cross / first.square;
    let mut best = scale * first.cross;
    for trial in -7_i8..=7 {
        let sums = sums((f32::from(trial) + IQ4_NL[0]) / top);
        if sums.beats(best) {
            scale = sums.cross / sums.square;
            best = scale * sums.cross;
        }
    }
    scale
}
