//! The named schemes.

use super::{Layout, PowerRule, ScaleRule, Scheme, ZeroPoint};
use crate::{
    Block, Code, FloatFormat, Group, Lattice, MiniFloat, Nested, Offset, Rate, ScaleBlock, ScaleCode, Table,
    Trellis,
};

/// Codes without a zero point in groups of 64, scaled by absmax.
const fn scaled(code: Code, scale_format: FloatFormat) -> Scheme {
    Scheme {
        code,
        group: Group::Size(64),
        scale_rule: ScaleRule::Absmax,
        scale_format,
        nested: None,
        zero: ZeroPoint::None,
        layout: Layout::Planar,
    }
}

const fn symmetric(bits: u8) -> Scheme {
    scaled(Code::Int { bits, signed: true }, FloatFormat::F16)
}

const fn asymmetric(bits: u8) -> Scheme {
    Scheme {
        code: Code::Int { bits, signed: false },
        group: Group::Size(64),
        scale_rule: ScaleRule::Range,
        scale_format: FloatFormat::F16,
        nested: None,
        zero: ZeroPoint::Integer,
        layout: Layout::Planar,
    }
}

/// Integers with a zero point in f16.
const fn float_zero(bits: u8) -> Scheme {
    asymmetric(bits).with_zero(ZeroPoint::Float(FloatFormat::F16))
}

/// Groups of 16 whose scales are whole multiples of an f16 for every 32 of them, and zero points of parts of a step;
/// both by search.
const fn nested(bits: u8, scale_bits: u8, zero: ZeroPoint) -> Scheme {
    let scales = Nested {
        code: ScaleCode::Linear { bits: scale_bits },
        block: ScaleBlock::Row(32),
        offset: Offset::None,
    };
    Scheme { scale_rule: ScaleRule::Search, nested: Some(scales), zero, ..asymmetric(bits) }
        .with_group(Group::Size(16))
}

const fn table(table: Table) -> Scheme {
    scaled(Code::Table(table), FloatFormat::F32)
}

const fn fp8(format: MiniFloat) -> Scheme {
    Scheme { group: Group::Row, ..scaled(Code::MiniFloat(format), FloatFormat::F32) }
}

/// Blocks of 32 with a power of two each.
const fn microscaling(code: Code) -> Scheme {
    Scheme {
        group: Group::Size(32),
        scale_rule: ScaleRule::Power(PowerRule::Floor),
        ..scaled(code, FloatFormat::E8m0)
    }
}

/// Symmetric 8-bit integers, groups of 64, f16 scales.
pub const INT8: Scheme = symmetric(8);
/// Symmetric 7-bit integers, groups of 64, f16 scales.
pub const INT7: Scheme = symmetric(7);
/// Symmetric 6-bit integers, groups of 64, f16 scales.
pub const INT6: Scheme = symmetric(6);
/// Symmetric 5-bit integers, groups of 64, f16 scales.
pub const INT5: Scheme = symmetric(5);
/// Symmetric 4-bit integers, groups of 64, f16 scales.
pub const INT4: Scheme = symmetric(4);
/// Symmetric 3-bit integers, groups of 64, f16 scales.
pub const INT3: Scheme = symmetric(3);
/// Symmetric 2-bit integers (-1, 0, 1), groups of 64, f16 scales.
pub const INT2: Scheme = symmetric(2);
/// 8-bit integers with integer zero point, groups of 64, f16 scales.
pub const UINT8: Scheme = asymmetric(8);
/// 7-bit integers with integer zero point, groups of 64, f16 scales.
pub const UINT7: Scheme = asymmetric(7);
/// 6-bit integers with integer zero point, groups of 64, f16 scales.
pub const UINT6: Scheme = asymmetric(6);
/// 5-bit integers with integer zero point, groups of 64, f16 scales.
pub const UINT5: Scheme = asymmetric(5);
/// 4-bit integers with integer zero point, groups of 64, f16 scales.
pub const UINT4: Scheme = asymmetric(4);
/// 3-bit integers with integer zero point, groups of 64, f16 scales.
pub const UINT3: Scheme = asymmetric(3);
/// 2-bit integers with integer zero point, groups of 64, f16 scales.
pub const UINT2: Scheme = asymmetric(2);
/// 8-bit integers with an f16 zero point, groups of 64, f16 scales: the storage of HQQ.
pub const UINT8_F: Scheme = float_zero(8);
/// 4-bit integers with an f16 zero point, groups of 64, f16 scales: the storage of HQQ.
pub const UINT4_F: Scheme = float_zero(4);
/// 3-bit integers with an f16 zero point, groups of 64, f16 scales: the storage of HQQ.
pub const UINT3_F: Scheme = float_zero(3);
/// 2-bit integers with an f16 zero point, groups of 64, f16 scales: the storage of HQQ.
pub const UINT2_F: Scheme = float_zero(2);
/// 4-bit integers in groups of 16 with 3-bit scales and 4-bit zero points of half steps, an f16 for every 32 groups:
/// 4.47 bits (4.48 at `in` = 384). Scales and zero points by search.
pub const UINT4_N: Scheme = nested(4, 3, ZeroPoint::Fraction { bits: 4, fraction: 1 });
/// 3-bit integers in groups of 16 with 3-bit scales and 3-bit zero points of half steps, an f16 for every 32 groups:
/// 3.41 bits (3.42 at `in` = 384). Scales and zero points by search.
pub const UINT3_N: Scheme = nested(3, 3, ZeroPoint::Fraction { bits: 3, fraction: 1 });
/// 2-bit integers in groups of 16 with 4-bit scales and 5-bit zero points of eighths of a step, an f16 for every 32
/// groups: 2.59 bits (2.60 at `in` = 384). Scales and zero points by search.
pub const UINT2_N: Scheme = nested(2, 4, ZeroPoint::Fraction { bits: 5, fraction: 3 });
/// NF4, groups of 64, f32 scales.
pub const NF4: Scheme = table(Table::Nf4);
/// NF3, groups of 64, f32 scales.
pub const NF3: Scheme = table(Table::Nf3);
/// NF2, groups of 64, f32 scales.
pub const NF2: Scheme = table(Table::Nf2);
/// bitsandbytes' FP4, groups of 64, f32 scales.
pub const BNB_FP4: Scheme = table(Table::BnbFp4);
/// NF4 with QLoRA's double quantization: groups of 64 whose scales are 8-bit codes in runs of 256, 4.127 bits. Equal to
/// bitsandbytes' `nf4` with `compress_statistics`.
pub const NF4_DQ: Scheme = NF4.with_nested(Some(Nested::QLORA));
/// NF4 with LQ-LoRA's double quantization: groups of 64 whose scales are 8 bits above the least, in runs of 256 with one
/// bf16, 4.126 bits.
pub const NF4_LQ: Scheme =
    NF4.with_nested(Some(Nested::lq_lora(8, 256))).with_scale_format(FloatFormat::Bf16);
/// AF4, groups of 64, f32 scales: the 16 values of the least mean absolute error on blocks of 64 normal numbers
/// (arXiv 2306.06965).
pub const AF4: Scheme = table(Table::Af4);
/// Floats E4M3, one f32 scale per row.
pub const FP8_E4M3: Scheme = fp8(MiniFloat::E4m3);
/// Floats E5M2, one f32 scale per row.
pub const FP8_E5M2: Scheme = fp8(MiniFloat::E5m2);
/// OCP MXFP4: E2M1, blocks of 32, E8M0 scales.
pub const MXFP4: Scheme = microscaling(Code::MiniFloat(MiniFloat::E2m1));
/// OCP MXFP6 with E2M3, blocks of 32, E8M0 scales.
pub const MXFP6_E2M3: Scheme = microscaling(Code::MiniFloat(MiniFloat::E2m3));
/// OCP MXFP6 with E3M2, blocks of 32, E8M0 scales.
pub const MXFP6_E3M2: Scheme = microscaling(Code::MiniFloat(MiniFloat::E3m2));
/// OCP MXFP8 with E4M3, blocks of 32, E8M0 scales.
pub const MXFP8_E4M3: Scheme = microscaling(Code::MiniFloat(MiniFloat::E4m3));
/// OCP MXFP8 with E5M2, blocks of 32, E8M0 scales.
pub const MXFP8_E5M2: Scheme = microscaling(Code::MiniFloat(MiniFloat::E5m2));
/// OCP MXINT8, blocks of 32, E8M0 scales.
pub const MXINT8: Scheme = microscaling(Code::Fixed);
/// NVFP4: E2M1, blocks of 16, E4M3 scales under one f32 scale of the whole matrix.
pub const NVFP4: Scheme =
    Scheme { group: Group::Size(16), ..scaled(Code::MiniFloat(MiniFloat::E2m1), FloatFormat::E4m3) };
/// Signs times `mean |w|`, groups of 64, f16 scales (XNOR-Net, arXiv 1603.05279).
pub const BINARY: Scheme =
    Scheme { scale_rule: ScaleRule::LeastSquares, ..scaled(Code::Table(Table::Sign), FloatFormat::F16) };
/// -1, 0, 1 times the scale of least squared error, groups of 64, f16 scales: the problem of Ternary Weight
/// Networks (arXiv 1605.04711), solved exactly instead of by their threshold `0.7 · mean |w|`.
pub const TERNARY: Scheme = Scheme { scale_rule: ScaleRule::LeastSquares, ..INT2 };

/// Symmetric integers with one dyadic scale per row, for arithmetic without floats ([`dyadic`](crate::dyadic)).
const fn dyadic(bits: u8) -> Scheme {
    Scheme { group: Group::Row, ..scaled(Code::Int { bits, signed: true }, FloatFormat::Dyadic) }
}

/// Symmetric 8-bit integers, one dyadic scale per row (HAWQ-V3, arXiv 2011.10680).
pub const INT8_DYADIC: Scheme = dyadic(8);
/// Symmetric 4-bit integers, one dyadic scale per row (HAWQ-V3, arXiv 2011.10680).
pub const INT4_DYADIC: Scheme = dyadic(4);

/// GGUF's Q4_0, see [`Block`].
pub const Q4_0: Scheme = Block::Q4_0.scheme();
/// GGUF's Q4_1, see [`Block`].
pub const Q4_1: Scheme = Block::Q4_1.scheme();
/// GGUF's Q5_0, see [`Block`].
pub const Q5_0: Scheme = Block::Q5_0.scheme();
/// GGUF's Q5_1, see [`Block`].
pub const Q5_1: Scheme = Block::Q5_1.scheme();
/// GGUF's Q8_0, see [`Block`].
pub const Q8_0: Scheme = Block::Q8_0.scheme();
/// GGUF's Q2_K, see [`Block`].
pub const Q2_K: Scheme = Block::Q2K.scheme();
/// GGUF's Q3_K, see [`Block`].
pub const Q3_K: Scheme = Block::Q3K.scheme();
/// GGUF's Q4_K, see [`Block`].
pub const Q4_K: Scheme = Block::Q4K.scheme();
/// GGUF's Q5_K, see [`Block`].
pub const Q5_K: Scheme = Block::Q5K.scheme();
/// GGUF's Q6_K, see [`Block`].
pub const Q6_K: Scheme = Block::Q6K.scheme();
/// GGUF's IQ4_NL, see [`Block`].
pub const IQ4_NL: Scheme = Block::Iq4Nl.scheme();

/// Every named scheme of scalar codes with its default group size and scale format, by the name used in files, flags
/// and code.
pub const NAMED: [(&str, Scheme); 52] = [
    ("int8", INT8),
    ("int7", INT7),
    ("int6", INT6),
    ("int5", INT5),
    ("int4", INT4),
    ("int3", INT3),
    ("int2", INT2),
    ("uint8", UINT8),
    ("uint7", UINT7),
    ("uint6", UINT6),
    ("uint5", UINT5),
    ("uint4", UINT4),
    ("uint3", UINT3),
    ("uint2", UINT2),
    ("uint8-f", UINT8_F),
    ("uint4-f", UINT4_F),
    ("uint3-f", UINT3_F),
    ("uint2-f", UINT2_F),
    ("uint4-n", UINT4_N),
    ("uint3-n", UINT3_N),
    ("uint2-n", UINT2_N),
    ("nf4", NF4),
    ("nf3", NF3),
    ("nf2", NF2),
    ("nf4-dq", NF4_DQ),
    ("nf4-lq", NF4_LQ),
    ("af4", AF4),
    ("bnb-fp4", BNB_FP4),
    ("fp8-e4m3", FP8_E4M3),
    ("fp8-e5m2", FP8_E5M2),
    ("mxfp4", MXFP4),
    ("mxfp6-e2m3", MXFP6_E2M3),
    ("mxfp6-e3m2", MXFP6_E3M2),
    ("mxfp8-e4m3", MXFP8_E4M3),
    ("mxfp8-e5m2", MXFP8_E5M2),
    ("mxint8", MXINT8),
    ("nvfp4", NVFP4),
    ("q4_0", Q4_0),
    ("q4_1", Q4_1),
    ("q5_0", Q5_0),
    ("q5_1", Q5_1),
    ("q8_0", Q8_0),
    ("q2_k", Q2_K),
    ("q3_k", Q3_K),
    ("q4_k", Q4_K),
    ("q5_k", Q5_K),
    ("q6_k", Q6_K),
    ("iq4_nl", IQ4_NL),
    ("binary", BINARY),
    ("ternary", TERNARY),
    ("int8-dyadic", INT8_DYADIC),
    ("int4-dyadic", INT4_DYADIC),
];

/// Vector codes, rows scaled by their root mean square.
const fn vector(code: Code) -> Scheme {
    Scheme {
        code,
        group: Group::Row,
        scale_rule: ScaleRule::Rms,
        scale_format: FloatFormat::F16,
        nested: None,
        zero: ZeroPoint::None,
        layout: Layout::Planar,
    }
}

const fn trellis(rate: Rate) -> Scheme {
    vector(Code::Trellis(Trellis { window: 12, rate }))
}

/// A trellis of 2^12 states, 2 bits a weight; see [`trellis`](crate::trellis).
pub const TRELLIS2: Scheme = trellis(Rate::Uniform(2));
/// A trellis of 2^12 states, 3 bits a weight.
pub const TRELLIS3: Scheme = trellis(Rate::Uniform(3));
/// A trellis of 2^12 states, 4 bits a weight.
pub const TRELLIS4: Scheme = trellis(Rate::Uniform(4));
/// A trellis of 2^12 states, 5 bits a weight.
pub const TRELLIS5: Scheme = trellis(Rate::Uniform(5));
/// A trellis of 2^12 states with a rate for each column, 4 bits a weight in all; see [`Scheme::with_budget`].
pub const TRELLIS: Scheme = trellis(Rate::Budget(4 << 16));
/// QuIP#'s E8P, 2 bits a weight; see [`lattice`](crate::lattice).
pub const E8P: Scheme = vector(Code::Lattice(Lattice::E8p));
/// E8P and a residual of E8, 3 bits a weight.
pub const E8P3: Scheme = vector(Code::Lattice(Lattice::E8p3));
/// E8P and a residual of E8P, 4 bits a weight.
pub const E8P4: Scheme = vector(Code::Lattice(Lattice::E8p4));

/// Every named scheme of vector codes, by the name used in files, flags and code.
pub const NAMED_VECTOR: [(&str, Scheme); 8] = [
    ("trellis2", TRELLIS2),
    ("trellis3", TRELLIS3),
    ("trellis4", TRELLIS4),
    ("trellis5", TRELLIS5),
    ("trellis", TRELLIS),
    ("e8p", E8P),
    ("e8p3", E8P3),
    ("e8p4", E8P4),
];

/// Every named scheme.
pub(super) fn all_named() -> impl Iterator<Item = &'static (&'static str, Scheme)> {
    const { &NAMED }.iter().chain(const { &NAMED_VECTOR })
}
