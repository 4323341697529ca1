//! Round to nearest: each entry by itself.
//!
//! ```text
//! s = fl(scale of the group)                       the scheme's rule, see its `ScaleRule`
//! code = nearest(w / s)                            codes without a zero point
//! z = clamp(rne(-lo / s), 0, 2^b - 1)              integer zero points, lo = min(0, min w)
//! code = clamp(rne(w / s) + z, 0, 2^b - 1)
//! ```
//! `fl` rounds to the stored scale format; everything after it uses the rounded `s`, so that a stored matrix
//! holds the codes nearest under the scales it is stored with. A group of zeros decodes to zeros.
//!
//! **Accuracy**: with f32 scales every entry of an integer format errs by at most `s/2` (plus f32 rounding of
//! the quotient). A 16-bit scale may come out smaller by 2⁻¹¹ (f16) or 2⁻⁸ (bf16) of itself, and the group's
//! extreme entry can then err by up to `s/2 + max(code)·s·2⁻¹¹` (or `2⁻⁸`). A table or float errs by at most half
//! its widest gap times `s`, except where the rule clips: the power of two of the MX standard, and E4M3 scales,
//! which may come out smaller by 1/17. Only a group that spans more than the largest f32 is clipped to what f32
//! can hold.
//!
//! E4M3 scales (NVFP4): the common factor is `g = max|W| / (448 · max(code))`, a block's scale
//! `e4m3(max(fl32(absmax / max(code)) / g, 2⁻⁶))`, and codes are taken of `w · ((1/g) / scale)`, each operation in
//! f32. The floor of 2⁻⁶, E4M3's smallest normal value, and that order are torchao's.
//!
//! Nested scales are stored as [`Nested`](crate::Nested) says. Codes follow the stored scales, except under the dynamic map
//! of QLoRA, where they follow the scales before that rounding, as in bitsandbytes.
//!
//! Block layouts have encoders of their own ([`Block`]), and the rule [`ScaleRule::Search`] is the search of
//! [`Rounder::Mse`](super::Rounder::Mse) without weights.
//!
//! Steps: (1) extremes of each group and its exact scale in f64; (2) decide the scale format; (3) round the
//! scales, then choose zero points and codes. Two passes over the matrix, O(out · in); memory: the result.
//!
//! Sources: spec of the integer formats as in GPTQ (arXiv 2210.17323) and AWQ with a range that contains 0;
//! NF4 from QLoRA (arXiv 2305.14314), which multiplies by the reciprocal of the scale in f32, as is done here.

use super::Rounded;
use crate::scale::{Range, ranges};
use crate::{
    Block, Code, Error, FloatFormat, Floats, Grouping, Layout, MiniFloat, Quantized, ScaleCode, ScaleRule,
    Scales, Scheme, float, pack,
    rows::{RowMajor, Rows},
    zero,
};
#[cfg(target_arch = "x86_64")]
use crate::{codec::encode, simd::Kernels};
use alloc::{vec, vec::Vec};

/// Quantizes the row-major matrix `weight` of `shape`, `[out, in]`, by `scheme`: what
/// [`Rounder::Nearest`](super::Rounder::Nearest) does, without the linear algebra of the other rounders.
///
/// # Errors
/// [`Error::ShapeMismatch`] when `weight` does not have `out · in` values; [`Error::InvalidScheme`],
/// [`Error::GroupSize`], [`Error::TooLarge`] for a scheme that does not work on this shape, the first of them also for
/// [`ScaleRule::Search`] without the feature `solve`; [`Error::NonFinite`]
/// naming the first NaN or infinite entry; [`Error::BlockOverflow`].
pub fn quantize_rows(weight: &[f32], shape: (usize, usize), scheme: &Scheme) -> Result<Rounded, Error> {
    let rows = RowMajor::new("weight", weight, shape)?;
    if scheme.code.is_vector() {
        return crate::vector::encode::quantize(weight, shape, scheme);
    }
    quantize(rows, scheme)
}

pub(super) fn quantize(weight: impl Rows, scheme: &Scheme) -> Result<Rounded, Error> {
    match scheme.scale_rule {
        #[cfg(feature = "solve")]
        ScaleRule::Search => super::search::quantize(weight.matrix(), scheme, &super::Context::default()),
        #[cfg(not(feature = "solve"))]
        ScaleRule::Search => {
            Err(Error::InvalidScheme { reason: "a search for scales needs the feature `solve`" })
        }
        _ => by_extremes(weight, scheme),
    }
}

/// [`quantize`] with scales that follow from the extremes of a group, a rule that searches taken for one that does not.
pub(super) fn by_extremes(weight: impl Rows, scheme: &Scheme) -> Result<Rounded, Error> {
    scheme.check()?;
    let shape = (weight.nrows(), weight.ncols());
    let lengths = crate::quantized::part_lengths(shape, scheme)?;
    let grouping = scheme.grouping(shape)?;
    if shape.0 == 0 || shape.1 == 0 {
        // Without entries there may still be more rows than anyone could count.
        let none = match scheme.nested {
            Some(nested) => Scales::encode(&[], nested, grouping.scale_shape(shape.0), scheme.scale_format)?,
            None => Floats::with_capacity(scheme.scale_format, 0).into(),
        };
        return Ok(Rounded::new(Quantized::from_parts(shape, *scheme, Vec::new(), none, Vec::new())?));
    }
    #[cfg(target_arch = "x86_64")]
    if let Kernels::Avx2(avx2) = Kernels::current()
        && let Some((codes, scales, zeros)) = encode::quantize(avx2, weight, scheme, &grouping, lengths)
    {
        let quantized = Quantized::from_parts(shape, *scheme, codes, scales, zeros)?;
        return Ok(Rounded::new(quantized));
    }
    let ranges = ranges(weight, scheme, &grouping)?;
    if let Layout::Block(block) = scheme.layout {
        return encode_blocks(weight, scheme, block, lengths.codes);
    }
    let (scheme, scales, widened_from) = encode_scales(scheme, &ranges, grouping.scale_shape(shape.0))?;
    let Scheme { code, zero, .. } = scheme;
    let zero_points: Vec<f32> = if zero.shifts() {
        ranges
            .iter()
            .enumerate()
            .map(|(index, range)| zero_point(range.low, scales.get(index), &scheme))
            .collect()
    } else {
        Vec::new()
    };
    let zeros = zero::pack(code, zero, zero_points.iter().copied())?;

    let before_rounding = scheme.nested.is_some_and(|nested| nested.code == ScaleCode::Dynamic);
    let divisor = |index: usize| match ranges.get(index) {
        Some(range) if before_rounding => Divisor::of(float::narrow(range.scale), code),
        _ => Divisor::new(&scales, index, code),
    };
    let packed = encode_rows(weight, (&grouping, lengths.codes), code, divisor, &zero_points);
    let quantized = Quantized::from_parts(shape, scheme, packed, scales, zeros)?;
    Ok(Rounded { widened_from, ..Rounded::new(quantized) })
}

/// Step 3, the codes: all rows packed, `bytes` in total.
fn encode_rows(
    weight: impl Rows,
    (grouping, bytes): (&Grouping, usize),
    code: Code,
    divisor: impl Fn(usize) -> Divisor,
    zero_points: &[f32],
) -> Vec<u8> {
    let (rows, cols) = (weight.nrows(), weight.ncols());
    let row_bytes = bytes.checked_div(rows).unwrap_or(0);
    let mut packed = vec![0; bytes];
    let (mut buffer, mut scaled, mut codes) = (Vec::new(), vec![0.0; grouping.size], vec![0; cols]);
    for i in 0..rows {
        let row = weight.row_slice(i, &mut buffer);
        for (g, (values, codes)) in row.chunks(grouping.size).zip(codes.chunks_mut(grouping.size)).enumerate()
        {
            let index = grouping.index(i, g);
            let zero = zero_points.get(index).copied().unwrap_or(0.0);
            let scaled = &mut scaled[..values.len()];
            divide(values, divisor(index), scaled);
            code.encode(scaled, zero, codes);
        }
        pack::pack(&codes, code.bits(), &mut packed[i * row_bytes..(i + 1) * row_bytes]);
    }
    packed
}

/// Block layouts: every block by its own encoder.
fn encode_blocks(weight: impl Rows, scheme: &Scheme, block: Block, bytes: usize) -> Result<Rounded, Error> {
    let (rows, cols) = (weight.nrows(), weight.ncols());
    let mut packed = vec![0; bytes];
    let (len, mut buffer) = (usize::try_from(block.len()).unwrap_or(usize::MAX), Vec::new());
    let row_bytes = bytes.checked_div(rows).unwrap_or(0).max(1);
    for (i, packed) in packed.chunks_exact_mut(row_bytes).enumerate() {
        let row = weight.row_slice(i, &mut buffer);
        for (b, (values, bytes)) in
            row.chunks_exact(len).zip(packed.chunks_exact_mut(block.bytes())).enumerate()
        {
            if !block.encode(values, bytes) {
                return Err(Error::BlockOverflow { row: i, col: b * len });
            }
        }
    }
    let scales = Floats::with_capacity(scheme.scale_format, 0);
    let quantized = Quantized::from_parts((rows, cols), *scheme, packed, scales, Vec::new())?;
    Ok(Rounded::new(quantized))
}

/// Step 2: whether `format` keeps `scale` to 2⁻⁸ of itself. f32 and the 8-bit formats keep whatever they can.
fn in_range(scale: f64, format: FloatFormat) -> bool {
    if !matches!(format, FloatFormat::F16 | FloatFormat::Bf16 | FloatFormat::Dyadic) {
        return true;
    }
    let near_overflow = scale > f64::from(f32::MAX) / 512.0;
    !near_overflow && (f64::from(format.round(scale)) - scale).abs() <= scale * (1.0 / 256.0)
}

/// Steps 2 and 3: the scales as they are stored, the scheme that has them, and the format that was not wide enough.
fn encode_scales(
    scheme: &Scheme,
    ranges: &[Range],
    shape: (usize, usize),
) -> Result<(Scheme, Scales, Option<FloatFormat>), Error> {
    let (format, single) = (scheme.scale_format, FloatFormat::F32);
    let wide = scheme.with_scale_format(single);
    if let Some(nested) = scheme.nested {
        let wanted: Vec<f64> = ranges.iter().map(|range| range.scale).collect();
        let exact = Scales::encode(&wanted, nested, shape, single)?;
        let keeps_range = exact.floats().to_f32().iter().all(|scale| in_range(f64::from(*scale), format));
        return Ok(match (keeps_range, format) {
            (true, FloatFormat::F32) => (*scheme, exact, None),
            (true, _) => (*scheme, Scales::encode(&wanted, nested, shape, format)?, None),
            (false, _) => (wide, exact, Some(format)),
        });
    }
    let keeps_range = ranges.iter().all(|range| in_range(range.scale, format));
    let stored = if keeps_range { *scheme } else { wide };
    let (mut scales, floor) = empty_scales(&stored, ranges)?;
    for range in ranges {
        scales.push(range.scale.max(floor));
    }
    Ok((stored, scales.into(), (!keeps_range).then_some(format)))
}

/// Step 3: the code that zero takes.
pub(crate) fn zero_point(low: f64, scale: f32, scheme: &Scheme) -> f32 {
    let position = if scale > 0.0 { -low / f64::from(scale) } else { 0.0 };
    scheme.zero.round(scheme.code, position)
}

/// Step 3: scales of the scheme's format, none yet, and the smallest that is stored.
fn empty_scales(scheme: &Scheme, ranges: &[Range]) -> Result<(Floats, f64), Error> {
    let scales = Floats::with_capacity(scheme.scale_format, ranges.len());
    if scheme.scale_format != FloatFormat::E4m3 {
        return Ok((scales, 0.0));
    }
    let steps = f64::from(scheme.code.max()) * f64::from(MiniFloat::E4m3.max());
    let absmax = ranges.iter().fold(0.0, |max: f64, range| max.max(range.absmax));
    let largest = f64::from(f32::MAX) / steps * (1.0 - 4.0 * f64::from(f32::EPSILON));
    let global = match float::narrow((absmax / steps).min(largest)) {
        0.0 => 1.0,
        global => global.max(f32::MIN_POSITIVE),
    };
    let floor = f64::from(global) / 64.0;
    Ok((scales.with_global_scale(global)?, floor))
}

/// What the entries of a group are divided by.
#[derive(Clone, Copy)]
enum Divisor {
    /// A scale of zero: all entries are zero.
    Zero,
    /// By division.
    Scale(f32),
    /// By its reciprocal, as other implementations do.
    Reciprocal(f32),
}

impl Divisor {
    fn new(scales: &Scales, index: usize, code: Code) -> Self {
        match scales.floats() {
            Floats::E4m3(codes, global) => {
                Self::with(scales.get(index), global.recip() / MiniFloat::E4m3.value(codes[index]))
            }
            _ => Self::of(scales.get(index), code),
        }
    }

    fn of(scale: f32, code: Code) -> Self {
        Self::with(scale, if matches!(code, Code::Table(_)) { scale.recip() } else { f32::INFINITY })
    }

    fn with(scale: f32, reciprocal: f32) -> Self {
        match () {
            () if scale == 0.0 => Self::Zero,
            () if reciprocal.is_finite() => Self::Reciprocal(reciprocal),
            () => Self::Scale(scale),
        }
    }
}

/// Step 3: the entries of one group in units of its scale.
fn divide(values: &[f32], divisor: Divisor, scaled: &mut [f32]) {
    for (x, &value) in scaled.iter_mut().zip(values) {
        *x = match divisor {
            Divisor::Zero => 0.0,
            Divisor::Scale(scale) => value / scale,
            Divisor::Reciprocal(reciprocal) => value * reciprocal,
        };
    }
}
