//! What the rounders that look beyond one entry share: a scheme's grid for each group, and panels of rows.

use crate::{Code, Error, FloatFormat, Floats, Quantized, ScaleRule, Scheme, ZeroPoint, code, float, pack};
use alloc::{vec, vec::Vec};
use core::ops::Range;
use rankbit_linalg::faer::MatRef;

/// Rows that one thread takes at a time. Fixed, so that results do not depend on the number of threads.
const PANEL: usize = 128;

/// Runs `work` on panels of rows, in parallel with `std`; results in order.
pub(super) fn panels<R: Send>(
    rows: usize,
    work: impl Fn(Range<usize>) -> Result<R, Error> + Sync,
) -> Result<Vec<R>, Error> {
    let panel = |index: usize| work(index * PANEL..rows.min((index + 1) * PANEL));
    let count = rows.div_ceil(PANEL);
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

/// Scale and zero point of one group.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct Grid {
    pub(super) scale: f32,
    pub(super) zero: u8,
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
    pub(super) fn new(code: Code) -> Self {
        let count = 1_u16 << code.bits();
        let mut pairs: Vec<(f32, u8)> =
            (0..count).filter_map(|c| u8::try_from(c).ok()).map(|c| (code.value(c), c)).collect();
        if let Code::Int { signed: true, .. } = code {
            // The lowest code is never produced: the range is symmetric.
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
        let zero = f32::from(grid.zero);
        let scaled =
            if grid.scale == 0.0 { zero } else { float::narrow(target / f64::from(grid.scale)) + zero };
        let (place, value) = self.nearest(scaled);
        (self.codes[place], (value - zero) * grid.scale)
    }
}

/// Whether scales are stored each by itself and may be any number: what fitting them needs.
pub(super) fn free_scales(scheme: &Scheme) -> bool {
    !matches!(scheme.scale_format, FloatFormat::E8m0 | FloatFormat::E4m3)
        && matches!(scheme.scale_rule, ScaleRule::Absmax | ScaleRule::Range)
}

/// The grid whose levels span `low ..= high` (`low ≤ 0 ≤ high`); whether the scale format kept the scale.
pub(super) fn spanning(low: f64, high: f64, scheme: &Scheme) -> (Grid, bool) {
    let steps = f64::from(scheme.code.max());
    let width = match scheme.scale_rule {
        ScaleRule::Range => high - low,
        _ => high.max(-low),
    };
    let largest = f64::from(f32::MAX) / steps * (1.0 - f64::from(f32::EPSILON));
    let (scale, kept) = stored((width / steps).min(largest), scheme.scale_format);
    (Grid { scale, zero: zero_point(low, scale, scheme) }, kept)
}

/// A scale as its format stores it, and whether that is within 2⁻⁸ of it.
pub(super) fn stored(scale: f64, format: FloatFormat) -> (f32, bool) {
    let rounded = format.round(scale);
    let kept = rounded.is_finite() && (f64::from(rounded) - scale).abs() <= scale / 256.0;
    (rounded, kept || format == FloatFormat::F32)
}

/// The code that zero takes when `low` takes the first.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and clamped to 0 ..= 255")]
pub(super) fn zero_point(low: f64, scale: f32, scheme: &Scheme) -> u8 {
    if scheme.zero == ZeroPoint::None || scale == 0.0 {
        return 0;
    }
    let position = (-low / f64::from(scale)).clamp(0.0, f64::from(scheme.code.max()));
    code::int::round_ties_even(float::narrow(position)) as u8
}

/// Codes and grids of a panel of rows, as a rounder leaves them: one byte a code, groups in order.
pub(super) struct Coded {
    pub(super) codes: Vec<u8>,
    pub(super) grids: Vec<Grid>,
}

/// The grids of some rows of a stored matrix, group by group.
pub(super) fn grids_of(quantized: &Quantized, rows: Range<usize>) -> Vec<Grid> {
    let groups = quantized.grouping().per_row;
    rows.flat_map(|row| {
        (0..groups).map(move |g| Grid { scale: quantized.scale(row, g), zero: quantized.zero_point(row, g) })
    })
    .collect()
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

/// `start` with other codes on the same grids.
pub(super) fn recode(start: Quantized, panels: &[Coded]) -> Result<Quantized, Error> {
    let codes = packed(panels, start.shape(), start.scheme().code.bits())?;
    start.with_codes(codes)
}

/// A matrix of a scheme with [free scales](free_scales), from its panels.
pub(super) fn assemble(shape: (usize, usize), scheme: &Scheme, panels: &[Coded]) -> Result<Quantized, Error> {
    let bits = scheme.code.bits();
    let codes = packed(panels, shape, bits)?;
    let grids = || panels.iter().flat_map(|panel| panel.grids.iter());
    let mut scales = Floats::with_capacity(scheme.scale_format, grids().count());
    let mut zero_points = Vec::new();
    for grid in grids() {
        scales.push(f64::from(grid.scale));
        if scheme.zero == ZeroPoint::Integer {
            zero_points.push(grid.zero);
        }
    }
    let zero_bytes =
        pack::packed_len(zero_points.len(), bits).ok_or(Error::TooLarge { what: "zero points" })?;
    let mut zeros = vec![0; zero_bytes];
    pack::pack(&zero_points, bits, &mut zeros);
    Quantized::from_parts(shape, *scheme, codes, scales, zeros)
}

/// Checks that a form fits a weight.
pub(super) fn check_hessian(weight: MatRef<'_, f32>, hessian: MatRef<'_, f64>) -> Result<(), Error> {
    let expected = (weight.ncols(), weight.ncols());
    let found = (hessian.nrows(), hessian.ncols());
    if expected == found { Ok(()) } else { Err(Error::ShapeMismatch { what: "hessian", expected, found }) }
}
