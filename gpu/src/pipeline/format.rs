//! Which numbers the kernels decode.

use rankbit_quant::{Block, Code, Layout, MiniFloat, Scheme, Table, ZeroPoint};

/// Codes of at most 4 bits, as the split product decodes them from 4.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Format {
    /// `value = code - 8`: signed integers of 2 to 4 bits, those of fewer with `8 - 2^(bits-1)` added to their codes.
    Int4,
    /// `value = code - z`: unsigned integers of 2 to 4 bits with a whole zero point.
    Uint4,
    /// `value = table[code]`.
    Table(Table),
    /// The 4-bit floats of MXFP4 and NVFP4: `value = table[code]`.
    E2m1,
}

impl Format {
    /// The kernels' name for the numbers of `scheme`, whatever its groups and scale format; `None` when no kernel
    /// handles it.
    pub const fn of(scheme: &Scheme) -> Option<Self> {
        match scheme.layout {
            Layout::Planar => {}
            Layout::Block(Block::Q4_0) => return Some(Self::Int4),
            Layout::Block(Block::Iq4Nl) => return Some(Self::Table(Table::Iq4Nl)),
            Layout::Block(_) => return None,
        }
        match (scheme.code, scheme.zero) {
            (Code::Int { bits: 2..=4, signed: true }, ZeroPoint::None) => Some(Self::Int4),
            (Code::Int { bits: 2..=4, signed: false }, ZeroPoint::Integer) => Some(Self::Uint4),
            (Code::Table(table), ZeroPoint::None) => Some(Self::Table(table)),
            (Code::MiniFloat(MiniFloat::E2m1), ZeroPoint::None) => Some(Self::E2m1),
            _ => None,
        }
    }

    pub(super) const ALL: [Self; 10] = [
        Self::Int4,
        Self::Uint4,
        Self::Table(Table::Nf4),
        Self::Table(Table::Nf3),
        Self::Table(Table::Nf2),
        Self::Table(Table::Af4),
        Self::Table(Table::BnbFp4),
        Self::Table(Table::Iq4Nl),
        Self::Table(Table::Sign),
        Self::E2m1,
    ];

    pub(super) const fn source(self) -> &'static str {
        match self {
            Self::Int4 => include_str!("../../shader/shared/code_int4.wgsl"),
            Self::Uint4 => include_str!("../../shader/shared/code_uint4.wgsl"),
            Self::Table(_) | Self::E2m1 => include_str!("../../shader/shared/code_table4.wgsl"),
        }
    }

    /// The 16 values of formats that have a table; a shorter one repeats its last.
    pub(super) fn table(self) -> Option<[f32; 16]> {
        let code = match self {
            Self::Int4 | Self::Uint4 => return None,
            Self::Table(table) => Code::Table(table),
            Self::E2m1 => Code::MiniFloat(MiniFloat::E2m1),
        };
        let mut values = [0.0; 16];
        for (value, index) in values.iter_mut().zip(0..) {
            *value = code.value(index);
        }
        Some(values)
    }

    /// Formats that are whole multiples of a power of two within 8 bits.
    pub(super) fn integer() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|format| format.integer_factor().is_some())
    }

    /// The power of two of which every value is a whole multiple within 8 bits, as `shader/shared/code8_*.wgsl` takes it;
    /// `None` when there is none.
    pub(crate) fn integer_factor(self) -> Option<f32> {
        let whole = |factor: f32, values: [f32; 16]| {
            values.iter().all(|value| {
                let multiple = value / factor;
                multiple == multiple.round() && multiple.abs() <= 127.0
            })
        };
        match self.table() {
            Some(values) => [1.0, 0.5].into_iter().find(|&factor| whole(factor, values)),
            None if self == Self::Int4 => Some(1.0 / 16.0),
            None => Some(1.0),
        }
    }

    /// The table as multiples of [`Format::integer_factor`], each in all bytes of a word.
    pub(super) fn integer_table(self) -> Option<[u32; 16]> {
        let (values, factor) = (self.table()?, self.integer_factor()?);
        Some(values.map(|value| {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "whole and within 8 bits: what the factor is for"
            )]
            let multiple = (value / factor) as i8;
            u32::from_le_bytes([multiple.cast_unsigned(); 4])
        }))
    }

    pub(super) const fn integer_source(self) -> &'static str {
        match self {
            Self::Int4 => include_str!("../../shader/shared/code8_int4.wgsl"),
            Self::Uint4 => include_str!("../../shader/shared/code8_uint4.wgsl"),
            Self::Table(_) | Self::E2m1 => include_str!("../../shader/shared/code8_table4.wgsl"),
        }
    }
}

/// Vector codes that a kernel decodes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum VectorCode {
    /// A trellis of any window and rates.
    Trellis,
    /// E8P.
    E8p,
    /// E8P and a short point of E8.
    E8p3,
    /// E8P twice.
    E8p4,
}

impl VectorCode {
    pub(super) const ALL: [Self; 4] = [Self::Trellis, Self::E8p, Self::E8p3, Self::E8p4];
}
