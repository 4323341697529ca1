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
use crate::{Code, FloatFormat, Floats, Group, Grouping, ScaleRule, Scheme, ZeroPoint, pack};
use alloc::{vec, vec::Vec};
use half::f16;

/// Entries of a piece, unless one group is more.
const PIECE: usize = 1024;

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
    if scheme.group == Group::Tensor || !scheme.layout.is_planar() {
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
    let mut pieces = Pieces {
        avx2,
        kind,
        scheme,
        size,
        lows: vec![0.0; groups],
        highs: vec![0.0; groups],
        halves: vec![0; groups],
        scales: vec![0.0; groups],
        by: vec![0.0; groups],
        zeros: vec![0.0; groups],
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

/// How scaled entries become codes.
enum Kind {
    Whole(Whole),
    /// By the middles between a table's entries, and the codes in the order of the entries when they are not 0, 1, 2 …
    Ranks([f32; 15], Option<[u8; 16]>),
    Float(crate::MiniFloat),
}

impl Kind {
    /// `None` for what has no kernel.
    fn of(scheme: &Scheme) -> Option<Self> {
        let rule = matches!(scheme.scale_rule, ScaleRule::Absmax | ScaleRule::Range | ScaleRule::Power(_));
        let format = matches!(scheme.scale_format, FloatFormat::F32 | FloatFormat::F16 | FloatFormat::E8m0);
        if !(rule && format) {
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
    // Of the groups of the present piece, in whole fours.
    lows: Vec<f32>,
    highs: Vec<f32>,
    halves: Vec<u16>,
    scales: Vec<f32>,
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
        let steps = f64::from(self.scheme.code.max());
        let largest = scale::largest(steps);
        let power = match self.scheme.scale_rule {
            ScaleRule::Power(rule) => Some(Powers::new(self.scheme.code, rule)),
            _ => None,
        };
        match (&mut self.stored, power) {
            (Floats::E8m0(stored), Some(power)) => {
                for (scale, &top) in scales.iter_mut().zip(highs.iter()).take(count) {
                    let exponent = if top == 0.0 { -127 } else { power.exponent(top) };
                    let [code, ..] = (exponent + 127).to_le_bytes();
                    stored.push(code);
                    *scale = crate::float::e8m0_value(code);
                }
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
                let point = crate::nearest::zero_point(f64::from(low), scale, self.scheme.code);
                self.zero_points.push(point);
                *zero = f32::from(point);
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
        let run = (values, self.size);
        match &self.kind {
            Kind::Whole(whole) => {
                divide(by);
                self.avx2.encode_whole(run, by, &self.zeros[..count], *whole, codes);
            }
            Kind::Ranks(middles, order) => {
                for (by, &scale) in by.iter_mut().zip(scales) {
                    *by = if scale == 0.0 { 0.0 } else { scale.recip() };
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
                    for (by, &scale) in by.iter_mut().zip(scales) {
                        // Of a power of two between 2⁻¹²⁷ and 2¹²⁶: exact.
                        *by = scale.recip();
                    }
                } else {
                    divide(by);
                }
                self.avx2.encode_floats(run, (powers, by), *format, codes);
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
