//! Scales that are themselves a few bits: double quantization.
//!
//! ```text
//! s_i = μ + S_k · v(c_i)           k = the block of scale i
//!
//! linear:   v(c) = c,  c of b bits                         S = fl(max(s - μ) / (2^b - 1)),  c = rne((s - μ)/S)
//! dynamic:  v = 256 values from -0.993 to 1                S = max|s - μ|,  c = nearest to (s - μ)/S
//! μ:        0, the mean of all scales, or the least one; one f32 for the matrix
//! ```
//! QLoRA is `dynamic` with the mean, in runs of 256 scales that do not care for rows ([`Nested::QLORA`]); LQ-LoRA is
//! `linear` above the least ([`Nested::lq_lora`]). The formats `uint2-n` to `uint4-n` are `linear` from 0, in blocks
//! inside a row.
//!
//! Every operation of a decoded scale is one in f32, product before sum.
//!
//! Sources: QLoRA, arXiv 2305.14314, section 3; LQ-LoRA, arXiv 2311.12023, section 3 and its released code; the
//! dynamic values are those of Dettmers, arXiv 1511.04561, as bitsandbytes has them. Deviations: the unit of LQ-LoRA's
//! codes is what is rounded to 16 bits (not the largest scale), which makes products of unit and code exact; the mean
//! is rounded once from f64 (bitsandbytes' order of summation depends on the machine).

use crate::{Error, FloatFormat, ScaleRule};

/// How scales are stored as a few bits each.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Nested {
    /// Which numbers the codes stand for.
    pub code: ScaleCode,
    /// Which scales share a scale of their own.
    pub block: ScaleBlock,
    /// What all scales of the matrix have in common.
    pub offset: Offset,
}

/// Numbers of a scale's code, see the [module](self).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum ScaleCode {
    /// `0 ..= 2^bits - 1`.
    Linear {
        /// Width of a code, 1 to 8.
        bits: u8,
    },
    /// The 256 values of bitsandbytes' signed dynamic map ([`dynamic_value`]), 8 bits. The weights' own codes are then
    /// the nearest under the scales *before* they are rounded, as QLoRA has it.
    Dynamic,
}

/// Which scales share a second-level scale.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum ScaleBlock {
    /// This many neighbours in one row of scales; the last block of a row may be shorter.
    Row(u32),
    /// This many in the order of the storage, across rows.
    Flat(u32),
}

/// What is subtracted from all scales first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum Offset {
    /// Nothing, and nothing is stored.
    None,
    /// Their mean.
    Mean,
    /// The least of them.
    Least,
}

impl ScaleCode {
    /// Bits of one code.
    pub const fn bits(self) -> usize {
        match self {
            Self::Linear { bits } => bits as usize,
            Self::Dynamic => 8,
        }
    }

    /// The number of a code.
    pub fn value(self, code: u8) -> f32 {
        match self {
            Self::Linear { .. } => f32::from(code),
            Self::Dynamic => dynamic_value(code),
        }
    }

    /// The largest number.
    pub(crate) fn max(self) -> f32 {
        match self {
            Self::Linear { bits } => f32::from((1_u16 << bits.clamp(1, 8)) - 1),
            Self::Dynamic => 1.0,
        }
    }

    /// The code of the number nearest to `x`; a tie to the even code (linear) or the lower one.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole and clamped to 0 ..= 255"
    )]
    pub(crate) fn nearest(self, x: f32) -> u8 {
        match self {
            Self::Linear { .. } => crate::code::int::round_ties_even(x.clamp(0.0, self.max())) as u8,
            Self::Dynamic => {
                let above = DYNAMIC.partition_point(|v| *v < x).clamp(1, 255);
                let (low, high) = (DYNAMIC[above - 1], DYNAMIC[above]);
                let up = f64::from(high) - f64::from(x) < f64::from(x) - f64::from(low);
                (above - usize::from(!up)).to_le_bytes()[0]
            }
        }
    }
}

impl Nested {
    /// QLoRA's double quantization.
    pub const QLORA: Self =
        Self { code: ScaleCode::Dynamic, block: ScaleBlock::Flat(256), offset: Offset::Mean };

    /// LQ-LoRA's: scales of `bits` bits above the least, in runs of `block`.
    pub const fn lq_lora(bits: u8, block: u32) -> Self {
        Self { code: ScaleCode::Linear { bits }, block: ScaleBlock::Flat(block), offset: Offset::Least }
    }

    /// Whether the fields fit together, and to scales by `rule` stored as `format`.
    pub(crate) fn check(&self, rule: ScaleRule, format: FloatFormat) -> Result<(), Error> {
        let invalid = |reason| Err(Error::InvalidScheme { reason });
        if let ScaleCode::Linear { bits } = self.code
            && !(1..=8).contains(&bits)
        {
            return invalid("scale codes have 1 to 8 bits");
        }
        if matches!(self.block, ScaleBlock::Row(0) | ScaleBlock::Flat(0)) {
            return invalid("a block of scales has at least one");
        }
        if !matches!(format, FloatFormat::F32 | FloatFormat::F16 | FloatFormat::Bf16) {
            return invalid("scales of scales are f32, f16 or bf16");
        }
        if matches!(rule, ScaleRule::Power(_) | ScaleRule::Ratio(_) | ScaleRule::Block) {
            return invalid("powers of two, power-of-two ratios and block layouts have no nested scales");
        }
        Ok(())
    }

    /// Number of blocks over scales of shape `[rows, per_row]`; `None` when that overflows.
    pub(crate) fn blocks(&self, (rows, per_row): (usize, usize)) -> Option<usize> {
        match self.block {
            ScaleBlock::Row(len) => rows.checked_mul(per_row.div_ceil(size(len))),
            ScaleBlock::Flat(len) => rows.checked_mul(per_row).map(|all| all.div_ceil(size(len))),
        }
    }

    /// The block of scale `index`.
    pub(crate) fn block_of(&self, index: usize, per_row: usize) -> usize {
        match self.block {
            ScaleBlock::Row(len) => {
                let per_row = per_row.max(1);
                index / per_row * per_row.div_ceil(size(len)) + index % per_row / size(len)
            }
            ScaleBlock::Flat(len) => index / size(len),
        }
    }
}

/// A block's length as an index.
fn size(len: u32) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX).max(1)
}

/// Entry `code` of the signed dynamic map of 8 bits.
///
/// ```text
/// ±10^(i-6) · (the means of neighbours in 2^i + 1 points from 0.1 to 1),  i = 0 … 6;   0;   1
/// ```
/// In order: 127 negative values from -0.99296874, zero at 127, 127 positive ones, and 1.
pub fn dynamic_value(code: u8) -> f32 {
    DYNAMIC[usize::from(code)]
}

const DYNAMIC: [f32; 256] = dynamic_map();

/// The map as PyTorch computes it: each operation rounded to f32, products and sums of `linspace` in one step.
const fn dynamic_map() -> [f32; 256] {
    const POWERS: [f32; 7] = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0];
    let mut map = [0.0; 256];
    map[255] = 1.0;
    let (mut i, mut at) = (0, 0);
    while i < 7 {
        let steps = 1_u16 << i;
        let mut k = 0;
        while k < steps {
            let mean = (point(k, steps) + point(k + 1, steps)) / 2.0;
            map[128 + at] = POWERS[i] * mean;
            map[126 - at] = -POWERS[i] * mean;
            at += 1;
            k += 1;
        }
        i += 1;
    }
    map
}

/// Point `k` of `steps + 1` from 0.1 to 1, counted from the nearer end.
const fn point(k: u16, steps: u16) -> f32 {
    let step = (1.0 - 0.1_f32) / steps as f32;
    let (from, by) = if k < steps.div_ceil(2) { (0.1_f32, k as f64) } else { (1.0, -((steps - k) as f64)) };
    crate::float::narrow(from as f64 + step as f64 * by)
}
