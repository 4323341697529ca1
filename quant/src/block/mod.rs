//! Blocks of GGUF: codes, scales and minima of 32 or 256 neighbours side by side, byte for byte as ggml stores them.
//!
//! A row is a sequence of whole blocks, so `in` must be a multiple of the block's length. All fields are
//! little-endian, `f16` is IEEE half; `d` is a scale, `m` a minimum, `qs` codes, `qh` their high bits.
//!
//! | block | entries | bytes | fields in order | value |
//! |---|---|---|---|---|
//! | Q4_0 | 32 | 18 | d f16, qs\[16] | d·(q - 8) |
//! | Q4_1 | 32 | 20 | d f16, m f16, qs\[16] | d·q + m |
//! | Q5_0 | 32 | 22 | d f16, qh u32, qs\[16] | d·(q - 16) |
//! | Q5_1 | 32 | 24 | d f16, m f16, qh u32, qs\[16] | d·q + m |
//! | Q8_0 | 32 | 34 | d f16, qs i8\[32] | d·q |
//! | IQ4_NL | 32 | 18 | d f16, qs\[16] | d·table\[q] |
//! | Q2_K | 256 | 84 | 16 × (scale, min) of 4 bits, qs\[64], d f16, dmin f16 | d·s·q - dmin·m |
//! | Q3_K | 256 | 110 | qh\[32], qs\[64], 16 scales of 6 bits, d f16 | d·s·(q - 4) |
//! | Q4_K | 256 | 144 | d f16, dmin f16, 8 × (scale, min) of 6 bits, qs\[128] | d·s·q - dmin·m |
//! | Q5_K | 256 | 176 | d f16, dmin f16, 8 × (scale, min) of 6 bits, qh\[32], qs\[128] | d·s·q - dmin·m |
//! | Q6_K | 256 | 210 | qs\[128], qh\[64], 16 scales i8, d f16 | d·s·(q - 32) |
//!
//! Encoding follows ggml's reference quantizers without an importance matrix, operation by operation in f32, so that
//! the bytes are theirs. Source: the layouts and formulas of ggml (`ggml-common.h`, `ggml-quants.c`).

mod grid;
mod k;
mod legacy;
mod search;

use crate::{Code, FloatFormat, Group, Layout, ScaleRule, Scheme, Table, ZeroPoint};
use half::f16;

/// A block format of GGUF.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Block {
    /// 4 bits, a scale per 32.
    Q4_0,
    /// 4 bits, scale and minimum per 32.
    Q4_1,
    /// 5 bits, a scale per 32.
    Q5_0,
    /// 5 bits, scale and minimum per 32.
    Q5_1,
    /// 8 bits, a scale per 32.
    Q8_0,
    /// 4 bits into a table of 16 values, a scale per 32.
    Iq4Nl,
    /// 2 bits, 4-bit scales and minima per 16.
    Q2K,
    /// 3 bits, 6-bit scales per 16.
    Q3K,
    /// 4 bits, 6-bit scales and minima per 32.
    Q4K,
    /// 5 bits, 6-bit scales and minima per 32.
    Q5K,
    /// 6 bits, 8-bit scales per 16.
    Q6K,
}

impl Block {
    /// Every format.
    pub const ALL: [Self; 11] = [
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Iq4Nl,
        Self::Q2K,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
    ];

    /// Entries of one block. Never 0.
    #[expect(clippy::len_without_is_empty, reason = "a block is never empty")]
    pub const fn len(self) -> u32 {
        match self {
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 | Self::Iq4Nl => 32,
            Self::Q2K | Self::Q3K | Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Bytes of one block.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Q4_0 | Self::Iq4Nl => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q2K => 84,
            Self::Q3K => 110,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    /// Where the f16 fields begin.
    const fn halves(self) -> &'static [usize] {
        match self {
            Self::Q4_0 | Self::Q5_0 | Self::Q8_0 | Self::Iq4Nl => &[0],
            Self::Q4_1 | Self::Q5_1 | Self::Q4K | Self::Q5K => &[0, 2],
            Self::Q2K => &[80, 82],
            Self::Q3K => &[108],
            Self::Q6K => &[208],
        }
    }

    /// The scheme that these blocks are.
    pub const fn scheme(self) -> Scheme {
        let (code, zero) = match self {
            Self::Q4_0 => (Code::Int { bits: 4, signed: true }, ZeroPoint::None),
            Self::Q5_0 => (Code::Int { bits: 5, signed: true }, ZeroPoint::None),
            Self::Q8_0 => (Code::Int { bits: 8, signed: true }, ZeroPoint::None),
            Self::Q3K => (Code::Int { bits: 3, signed: true }, ZeroPoint::None),
            Self::Q6K => (Code::Int { bits: 6, signed: true }, ZeroPoint::None),
            Self::Iq4Nl => (Code::Table(Table::Iq4Nl), ZeroPoint::None),
            Self::Q4_1 | Self::Q4K => (Code::Int { bits: 4, signed: false }, ZeroPoint::Min),
            Self::Q5_1 | Self::Q5K => (Code::Int { bits: 5, signed: false }, ZeroPoint::Min),
            Self::Q2K => (Code::Int { bits: 2, signed: false }, ZeroPoint::Min),
        };
        Scheme {
            code,
            group: Group::Size(self.len()),
            scale_rule: ScaleRule::Block,
            scale_format: FloatFormat::F16,
            nested: None,
            zero,
            layout: Layout::Block(self),
        }
    }

    /// Whether all f16 fields of a block are finite.
    pub(crate) fn is_finite(self, block: &[u8]) -> bool {
        self.halves().iter().all(|&at| half_at(block, at).is_finite())
    }

    /// The values of one block (of [`Block::bytes`] bytes) into `out` ([`Block::len`] entries).
    pub(crate) fn decode(self, block: &[u8], out: &mut [f32]) {
        match self {
            Self::Q4_0 => legacy::decode_q4_0(block, out),
            Self::Q4_1 => legacy::decode_q4_1(block, out),
            Self::Q5_0 => legacy::decode_q5_0(block, out),
            Self::Q5_1 => legacy::decode_q5_1(block, out),
            Self::Q8_0 => legacy::decode_q8_0(block, out),
            Self::Iq4Nl => legacy::decode_iq4_nl(block, out),
            Self::Q2K => k::decode_q2(block, out),
            Self::Q3K => k::decode_q3(block, out),
            Self::Q4K => k::decode_q4(block, out),
            Self::Q5K => k::decode_q5(block, out),
            Self::Q6K => k::decode_q6(block, out),
        }
    }

    /// One block of finite `values` into `block`, which is zeroed before. `false` when they are too large for f16
    /// scales; the bytes then mean nothing.
    #[must_use]
    pub(crate) fn encode(self, values: &[f32], block: &mut [u8]) -> bool {
        // No format reaches this (Q6_K comes closest: 65504 · 128 · 32), and the searches' sums stay far below
        // overflow.
        if values.iter().any(|value| value.abs() > 1e9) {
            return false;
        }
        match self {
            Self::Q4_0 => legacy::encode_q4_0(values, block),
            Self::Q4_1 => legacy::encode_q4_1(values, block),
            Self::Q5_0 => legacy::encode_q5_0(values, block),
            Self::Q5_1 => legacy::encode_q5_1(values, block),
            Self::Q8_0 => legacy::encode_q8_0(values, block),
            Self::Iq4Nl => legacy::encode_iq4_nl(values, block),
            Self::Q2K => k::encode_q2(values, block),
            Self::Q3K => k::encode_q3(values, block),
            Self::Q4K => k::encode_q4(values, block),
            Self::Q5K => k::encode_q5(values, block),
            Self::Q6K => k::encode_q6(values, block),
        }
        self.is_finite(block)
    }
}

/// The f16 at byte `at`.
fn half_at(block: &[u8], at: usize) -> f16 {
    f16::from_le_bytes([block[at], block[at + 1]])
}

/// The f16 at byte `at`, as f32.
fn float_at(block: &[u8], at: usize) -> f32 {
    half_at(block, at).to_f32()
}

/// Stores `value` as f16 at byte `at` and returns what was stored.
fn store_half(block: &mut [u8], at: usize, value: f32) -> f32 {
    let half = f16::from_f32(value);
    block[at..at + 2].copy_from_slice(&half.to_le_bytes());
    half.to_f32()
}

/// `x` rounded to the nearest whole number, ties to even, within `low ..= high`; NaN becomes `low`.
#[expect(clippy::cast_possible_truncation, reason = "whole and clamped to small bounds")]
fn nearest(x: f32, low: i8, high: i8) -> i8 {
    let (low, high) = (f32::from(low), f32::from(high));
    // One beyond either end keeps ties at the ends as they are.
    let near = x.max(low - 1.0).min(high + 1.0);
    crate::code::int::round_ties_even(near).clamp(low, high) as i8
}

/// The reciprocal, 0 for 0.
fn inverse(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { 1.0 / x }
}
