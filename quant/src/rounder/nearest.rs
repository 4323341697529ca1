//! Round to nearest: each entry by itself.
//!
//! ```text
//! absmax:  s = fl(max|w| / max(code))          code = nearest(w / s)
//! range:   s = fl((hi - lo) / (2^b - 1))       z = clamp(rne(-lo / s), 0, 2^b - 1)
//!          lo = min(0, min w), hi = max(0, max w)   code = clamp(rne(w / s) + z, 0, 2^b - 1)
//! ```
//! `fl` rounds to the stored scale format; everything after it uses the rounded `s`, so that a stored matrix
//! holds the codes nearest under the scales it is stored with. A group of zeros has `s = 0` and decodes to zeros.
//!
//! **Accuracy**: with f32 scales every entry of an integer format errs by at most `s/2` (plus f32 rounding of
//! the quotient). A 16-bit scale may come out smaller by 2⁻¹¹ (f16) or 2⁻⁸ (bf16) of itself, and the group's
//! extreme entry can then err by up to `s/2 + max(code)·s·2⁻¹¹` (or `2⁻⁸`). A table errs by at most half its
//! widest gap times `s`. Only a group that spans more than the largest f32 is clipped to what f32 can hold.
//!
//! Steps: (1) extremes of each group and its exact scale in f64; (2) decide the scale format; (3) round the
//! scales, then choose zero points and codes. Two passes over the matrix, O(out · in); memory: the result.
//!
//! Sources: spec of the integer formats as in GPTQ (arXiv 2210.17323) and AWQ with a range that contains 0;
//! NF4 from QLoRA (arXiv 2305.14314), which multiplies by the reciprocal of the scale in f32, as is done here.

use super::Rounded;
use crate::{
    Code, Error, FloatFormat, Floats, Quantized, ScaleRule, Scheme, ZeroPoint, code, float, pack, rows,
};
use alloc::{vec, vec::Vec};
use rankbit_linalg::faer::MatRef;

/// The exact scale of a group and the low end of its range.
#[derive(Clone, Copy, Default)]
struct Range {
    scale: f64,
    low: f64,
}

pub(super) fn quantize(weight: MatRef<'_, f32>, scheme: &Scheme) -> Result<Rounded, Error> {
    scheme.check()?;
    let shape = (weight.nrows(), weight.ncols());
    let lengths = crate::quantized::part_lengths(shape, scheme)?;
    let ranges = ranges(weight, scheme)?;
    let keeps_range = ranges.iter().all(|r| in_range(r.scale, scheme.scale_format));
    let widened_from = (!keeps_range).then_some(scheme.scale_format);
    let scheme = if keeps_range { *scheme } else { scheme.with_scale_format(FloatFormat::F32) };

    let mut scales = Floats::with_capacity(scheme.scale_format, ranges.len());
    let bits = scheme.code.bits();
    let mut zero_points = Vec::new();
    for range in &ranges {
        let scale = scales.push(range.scale);
        if scheme.zero == ZeroPoint::Integer {
            zero_points.push(zero_point(range.low, scale, scheme.code));
        }
    }
    let mut zeros = vec![0; lengths.zeros];
    pack::pack(&zero_points, bits, &mut zeros);

    let grouping = scheme.group.over(shape)?;
    let row_bytes = lengths.codes.checked_div(shape.0).unwrap_or(0);
    let mut packed = vec![0; lengths.codes];
    let (mut buffer, mut scaled, mut codes) = (Vec::new(), vec![0.0; grouping.size], vec![0; shape.1]);
    for i in 0..shape.0 {
        let row = rows::row(weight, i, &mut buffer);
        for (g, (values, codes)) in row.chunks(grouping.size).zip(codes.chunks_mut(grouping.size)).enumerate()
        {
            let index = grouping.index(i, g);
            let zero = zero_points.get(index).copied().unwrap_or(0);
            let scaled = &mut scaled[..values.len()];
            encode(values, scales.get(index), zero, scheme.code, scaled, codes);
        }
        pack::pack(&codes, bits, &mut packed[i * row_bytes..(i + 1) * row_bytes]);
    }
    let quantized = Quantized::from_parts(shape, scheme, packed, scales, zeros)?;
    Ok(Rounded { quantized, widened_from })
}

/// Step 1: the exact scale of each group.
fn ranges(weight: MatRef<'_, f32>, scheme: &Scheme) -> Result<Vec<Range>, Error> {
    let shape = (weight.nrows(), weight.ncols());
    let grouping = scheme.group.over(shape)?;
    let mut extremes = vec![(0.0_f32, 0.0_f32); grouping.scales];
    let mut buffer = Vec::new();
    for i in 0..shape.0 {
        let row = rows::row(weight, i, &mut buffer);
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
    let steps = f64::from(scheme.code.max());
    // Decoding multiplies by up to `steps`: no scale may carry that past f32, not even after rounding it.
    let largest = f64::from(f32::MAX) / steps * (1.0 - f64::from(f32::EPSILON));
    Ok(extremes
        .into_iter()
        .map(|(low, high)| {
            let (low, high) = (f64::from(low), f64::from(high));
            let width = match scheme.scale_rule {
                ScaleRule::Absmax => high.max(-low),
                ScaleRule::Range => high - low,
            };
            Range { scale: (width / steps).min(largest), low }
        })
        .collect())
}

/// Step 2: whether `format` keeps `scale` to 2⁻⁸ of itself. f32 keeps whatever it can.
fn in_range(scale: f64, format: FloatFormat) -> bool {
    let near_overflow = scale > f64::from(f32::MAX) / 512.0;
    format == FloatFormat::F32
        || !near_overflow && (f64::from(format.round(scale)) - scale).abs() <= scale * (1.0 / 256.0)
}

/// Step 3: the code that zero takes.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the value was clamped to 0 ..= 255 and is whole"
)]
fn zero_point(low: f64, scale: f32, code: Code) -> u8 {
    let position = if scale > 0.0 { -low / f64::from(scale) } else { 0.0 };
    let position = float::narrow(position.clamp(0.0, f64::from(code.max())));
    code::int::round_ties_even(position) as u8
}

/// Step 3: the codes of one group.
fn encode(values: &[f32], scale: f32, zero: u8, code: Code, scaled: &mut [f32], codes: &mut [u8]) {
    if scale == 0.0 {
        scaled.fill(0.0);
    } else {
        let reciprocal = scale.recip();
        let multiply = matches!(code, Code::Table(_)) && reciprocal.is_finite();
        for (x, &value) in scaled.iter_mut().zip(values) {
            *x = if multiply { value * reciprocal } else { value / scale };
        }
    }
    match code {
        Code::Int { bits, signed } => code::int::encode(scaled, bits, signed, f32::from(zero), codes),
        Code::Table(table) => code::table::encode(scaled, table, codes),
    }
}
