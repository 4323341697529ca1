//! Rounding to nearest in one pass: each piece of a row is read from memory once and leaves it as packed codes.
//!
//! The portable rounder first takes the extremes of the whole matrix, since one scale out of the range of the scale
//! format widens all of them. Here that, like a NaN, ends the attempt: the caller then takes the portable way, which
//! knows what to do and what to report. What is returned is what that way returns, bit for bit.
//!
//! Steps, a piece of whole groups at a time: (1) extremes, which also find what is not finite; (2) scales, in f64,
//! rounded once; (3) codes, one byte each; (4) packing.

use super::avx2::Avx2;
use super::avx2_encode::Whole;
use crate::code::{int, table};
use crate::quantized::PartLengths;
use crate::rows::Rows;
use crate::scale::{self, Powers};
use crate::{Code, FloatFormat, Floats, Group, Grouping, MiniFloat, ScaleRule, Scheme, ZeroPoint, pack};
use alloc::{vec, vec::Vec};
use half::f16;

/// Entries of a piece, unless one group is more.
pub(super) const PIECE: usize = 2048;

/// Codes, scales, packed zero points.
pub(crate) type Parts = (Vec<u8>, Floats, Vec<u8>);

/// The parts of `weight` in a planar layout, or `None` when the scheme or an entry asks for the portable way.
pub(crate) fn quantize(
    avx2: Avx2,
    weight: impl Rows,
    scheme: &Scheme,
    grouping: &Grouping,
    lengths: PartLengths,
) -> Option<Parts> {
    let kind = Kind::of(scheme)?;
    if scheme.group == Group::Tensor || grouping.rows > 1 || !scheme.layout.is_planar() {
        return None;
    }
    let (rows, cols) = (weight.nrows(), weight.ncols());
    if rows == 0 || cols == 0 {
        return None;
    }
    let (size, bits) = (grouping.size, scheme.code.bits());
    let unit = if size.is_multiple_of(8) { size } else { size.checked_mul(8)? };
    let piece = (PIECE / unit).max(1).checked_mul(unit)?.min(cols.next_multiple_of(8));
    let groups = piece.div_ceil(size).next_multiple_of(4);
    let steps = f64::from(scheme.code.max());
    let mut pieces = Pieces {
        avx2,
        kind,
        scheme,
        size,
        lows: vec![0.0; groups],
        highs: vec![0.0; groups],
        halves: vec![0; groups],
        exponents: vec![0; groups],
        scales: vec![0.0; groups],
        reciprocals: vec![0.0; groups],
        by: vec![0.0; groups],
        zeros: vec![0.0; groups],
        powers: match scheme.scale_rule {
            ScaleRule::Power(rule) => Some(Powers::new(scheme.code, rule)),
            _ => None,
        },
        bounds: (steps, scale::largest(steps)),
        stored: Floats::with_capacity(scheme.scale_format, lengths.scales),
        zero_points: Vec::new(),
    };
    let row_bytes = lengths.codes.checked_div(rows)?;
    let (mut buffer, mut codes) = (Vec::new(), vec![0; piece]);
    let mut packed = Vec::with_capacity(lengths.codes);
    for i in 0..rows {
        let row = weight.row_slice(i, &mut buffer);
        packed.resize((i + 1) * row_bytes, 0);
        let packed = packed[i * row_bytes..].chunks_mut((piece * bits / 8).max(1));
        for (values, packed) in row.chunks(piece).zip(packed) {
            let codes = &mut codes[..values.len()];
            pieces.scales(values)?;
            pieces.codes(values, codes)?;
            if bits == 4 {
                avx2.pack_nibbles(codes, packed);
            } else {
                pack::pack(codes, bits, packed);
            }
        }
    }
    let mut zeros = vec![0; lengths.zeros];
    pack::pack(&pieces.zero_points, bits, &mut zeros);
    Some((packed, pieces.stored, zeros))
}

/// 2^`exponent` for -127 ..= 127.
#[expect(clippy::cast_sign_loss, reason = "not negative after the shift of the range")]
const fn power_of_two(exponent: i32) -> f32 {
    // 2⁻¹²⁷ is half of the smallest normal number.
    f32::from_bits(if exponent == -127 { 1 << 22 } else { ((exponent + 127) as u32) << 23 })
}

/// How scaled entries become codes.
enum Kind {
    Whole(Whole),
    /// By the middles between a table's entries, and the codes in the order of the entries when they are not 0, 1, 2 …
    Ranks([f32; 15], Option<[u8; 16]>),
    Float(MiniFloat),
}

impl Kind {
    /// `None` for what has no kernel.
    fn of(scheme: &Scheme) -> Option<Self> {
        let rule = matches!(scheme.scale_rule, ScaleRule::Absmax | ScaleRule::Range | ScaleRule::Power(_));
        let format = matches!(scheme.scale_format, FloatFormat::F32 | FloatFormat::F16 | FloatFormat::E8m0);
        let zero = matches!(scheme.zero, ZeroPoint::None | ZeroPoint::Integer);
        if !(rule && format && zero && scheme.nested.is_none()) {
            return None;
        }
        Some(match scheme.code {
            Code::Int { bits, signed } => {
                let range = 2.0 * int::offset(bits, true) - 1.0;
                let floor = if signed { 1.0 } else { 0.0 };
                Self::Whole(Whole { unit: 1.0, floor, top: range, complement: false })
            }
            Code::Fixed => Self::Whole(Whole { unit: 64.0, floor: 1.0, top: 255.0, complement: true }),
            Code::Table(table) => Self::Ranks(table::middles(table), table::order(table)),
            Code::MiniFloat(format) => Self::Float(format),
            Code::Trellis(_) | Code::Lattice(_) => return None,
        })
    }
}

/// The state of one pass.
struct Pieces<'a> {
    avx2: Avx2,
    kind: Kind,
    scheme: &'a Scheme,
    size: usize,
    powers: Option<Powers>,
    /// The largest code, and the largest scale that goes with it.
    bounds: (f64, f64),
    // Of the groups of the present piece, in whole fours.
    lows: Vec<f32>,
    highs: Vec<f32>,
    halves: Vec<u16>,
    exponents: Vec<i32>,
    scales: Vec<f32>,
    reciprocals: Vec<f32>,
    /// What entries are divided or multiplied by.
    by: Vec<f32>,
    zeros: Vec<f32>,
    // Of the whole matrix.
    stored: Floats,
    zero_points: Vec<u8>,
}

impl Pieces<'_> {
    /// Steps 1 and 2. `None` when an entry is not finite or a scale is out of its format's range.
    fn scales(&mut self, values: &[f32]) -> Option<()> {
        let count = values.len().div_ceil(self.size);
        let groups = count.next_multiple_of(4);
        let (lows, highs) = (&mut self.lows[..groups], &mut self.highs[..groups]);
        let scales = &mut self.scales[..groups];
        let range = self.scheme.scale_rule == ScaleRule::Range;
        let finite = if range {
            self.avx2.extremes(values, self.size, &mut lows[..count], &mut highs[..count])
        } else {
            self.avx2.absmax(values, self.size, &mut highs[..count])
        };
        if !finite {
            return None;
        }
        // Those of longer pieces before.
        lows[count..].fill(0.0);
        highs[count..].fill(0.0);
        let (steps, largest) = self.bounds;
        match (&mut self.stored, &self.powers) {
            (Floats::E8m0(stored), Some(powers)) => {
                let exponents = &mut self.exponents[..groups];
                powers.exponents(highs, exponents);
                for (scale, &mut exponent) in scales.iter_mut().zip(exponents.iter_mut()) {
                    *scale = power_of_two(exponent);
                }
                stored.extend(exponents.iter().take(count).map(|e| (e + 127).to_le_bytes()[0]));
            }
            (Floats::F16(stored), None) => {
                let halves = &mut self.halves[..groups];
                if !self.avx2.scales_f16((lows, highs), (steps, largest), halves, scales) {
                    return None;
                }
                stored.extend(halves.iter().take(count).map(|&half| f16::from_bits(half)));
            }
            (Floats::F32(stored), None) => {
                self.avx2.scales(lows, highs, steps, largest, scales);
                stored.extend(scales.iter().take(count));
            }
            _ => return None,
        }
        let wanted = match self.scheme.code {
            Code::Int { bits, signed: true } => int::offset(bits, true),
            Code::Fixed => 128.0,
            _ => 0.0,
        };
        if self.scheme.zero == ZeroPoint::Integer {
            for ((zero, &low), &scale) in
                self.zeros.iter_mut().zip(lows.iter()).zip(scales.iter()).take(count)
            {
                *zero = crate::nearest::zero_point(f64::from(low), scale, self.scheme);
                self.zero_points.push(self.scheme.zero.stored(self.scheme.code, *zero));
            }
        } else {
            self.zeros[..count].fill(wanted);
        }
        Some(())
    }

    /// Step 3. `None` when a scale is too small to have a reciprocal and one is needed.
    fn codes(&mut self, values: &[f32], codes: &mut [u8]) -> Option<()> {
        let count = values.len().div_ceil(self.size);
        let (scales, by) = (&self.scales[..count], &mut self.by[..count]);
        let divide = |by: &mut [f32]| {
            for (by, &scale) in by.iter_mut().zip(scales) {
                // Without a scale all entries count as zeros.
                *by = if scale == 0.0 { f32::INFINITY } else { scale };
            }
        };
        self.reciprocals[..count].iter_mut().zip(scales).for_each(|(r, &s)| *r = s.recip());
        let run = (values, self.size);
        match &self.kind {
            Kind::Whole(whole) => {
                divide(by);
                let zeros = &self.zeros[..count];
                // Products with the reciprocal are close enough to tell when they are not: see the kernel.
                if whole.unit == 1.0 && scales.iter().all(|scale| scale.is_normal()) {
                    let reciprocals = &self.reciprocals[..count];
                    self.avx2.encode_whole_fast(run, (by, reciprocals), zeros, *whole, codes);
                } else {
                    self.avx2.encode_whole(run, by, zeros, *whole, codes);
                }
            }
            Kind::Ranks(middles, order) => {
                for ((by, &scale), &reciprocal) in by.iter_mut().zip(scales).zip(&self.reciprocals) {
                    *by = if scale == 0.0 { 0.0 } else { reciprocal };
                }
                if by.iter().any(|by| !by.is_finite()) {
                    return None;
                }
                self.avx2.encode_ranks(run, by, middles, codes);
                if let Some(order) = order {
                    self.avx2.translate(codes, order);
                }
            }
            Kind::Float(format) => {
                let powers = self.scheme.scale_format == FloatFormat::E8m0;
                if powers {
                    // Of powers of two between 2⁻¹²⁷ and 2¹²⁶: exact.
                    by.copy_from_slice(&self.reciprocals[..count]);
                } else {
                    divide(by);
                }
                if *format == MiniFloat::E2m1 {
                    self.avx2.encode_e2m1(run, (powers, by), codes);
                } else {
                    self.avx2.encode_floats(run, (powers, by), *format, codes);
                }
                for (codes, &scale) in codes.chunks_mut(self.size).zip(scales) {
                    if scale == 0.0 {
                        codes.fill(0);
                    }
                }
            }
        }
        Some(())
    }
}
