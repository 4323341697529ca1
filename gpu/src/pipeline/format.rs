//! Which numbers the kernels decode.

use rankbit_quant::{Block, Code, Layout, MiniFloat, Scheme, Table, ZeroPoint};

/// What a product's inputs are on the device.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Inputs {
    /// Numbers in f32, also those that quantized inputs stand for.
    Float,
    /// Codes of 8 bits.
    Int8,
    /// Codes of 4 bits, two to a byte.
    Int4,
}

impl Inputs {
    pub(super) const ALL: [Self; 3] = [Self::Float, Self::Int8, Self::Int4];
}

/// Codes of at most 8 bits, as the split product decodes them from 4 or 8.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Format {
    /// `value = code - 8`: signed integers of 2 to 4 bits, those of fewer with `8 - 2^(bits-1)` added to their codes.
    Int4,
    /// `value = code - z`: unsigned integers of 2 to 4 bits with a whole zero point.
    Uint4,
    /// `value = code - 128`: signed integers of 5 to 8 bits, those of fewer with `128 - 2^(bits-1)` added to their codes.
    Int8,
    /// `value = code - z`: unsigned integers of 5 to 8 bits with a whole zero point.
    Uint8,
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
            Layout::Block(Block::Q8_0) => return Some(Self::Int8),
            Layout::Block(Block::Iq4Nl) => return Some(Self::Table(Table::Iq4Nl)),
            Layout::Block(_) => return None,
        }
        match (scheme.code, scheme.zero) {
            (Code::Int { bits: 2..=4, signed: true }, ZeroPoint::None) => Some(Self::Int4),
            (Code::Int { bits: 2..=4, signed: false }, ZeroPoint::Integer) => Some(Self::Uint4),
            (Code::Int { bits: 5..=8, signed: true }, ZeroPoint::None) => Some(Self::Int8),
            (Code::Int { bits: 5..=8, signed: false }, ZeroPoint::Integer) => Some(Self::Uint8),
            (Code::Table(table), ZeroPoint::None) => Some(Self::Table(table)),
            (Code::MiniFloat(MiniFloat::E2m1), ZeroPoint::None) => Some(Self::E2m1),
            _ => None,
        }
    }

    pub(super) const ALL: [Self; 12] = [
        Self::Int4,
        Self::Uint4,
        Self::Int8,
        Self::Uint8,
        Self::Table(Table::Nf4),
        Self::Table(Table::Nf3),
        Self::Table(Table::Nf2),
        Self::Table(Table::Af4),
        Self::Table(Table::BnbFp4),
        Self::Table(Table::Iq4Nl),
        Self::Table(Table::Sign),
        Self::E2m1,
    ];

    /// Whether codes take 8 bits on the device.
    pub(crate) const fn wide(self) -> bool {
        matches!(self, Self::Int8 | Self::Uint8)
    }

    /// Whether there is a zero point for each group and row.
    pub(crate) const fn has_zeros(self) -> bool {
        matches!(self, Self::Uint4 | Self::Uint8)
    }

    /// The decoder's file.
    pub(super) const fn source(self, inputs: Inputs) -> &'static str {
        match (self, inputs) {
            (Self::Table(_) | Self::E2m1, Inputs::Float) => {
                include_str!("../../shader/shared/code_table4.wgsl")
            }
            (_, Inputs::Float) => include_str!("../../shader/shared/code_integer.wgsl"),
            (Self::Table(_) | Self::E2m1, _) => include_str!("../../shader/shared/bytes_table4.wgsl"),
            _ => include_str!("../../shader/shared/bytes_integer.wgsl"),
        }
    }

    /// The decoder's header constants.
    pub(super) fn constants(self, inputs: Inputs) -> Vec<(&'static str, u32)> {
        let zeros = ("ZEROS", u32::from(self.has_zeros()));
        let wide = u32::from(self.wide());
        match (self, inputs) {
            (Self::Table(_) | Self::E2m1, _) => Vec::new(),
            (_, Inputs::Float) => vec![zeros, ("MIDDLE", if self.wide() { 128 } else { 8 })],
            _ => {
                let up = if self == Self::Int4 { 4 } else { 0 };
                let flip = if self == Self::Uint4 { 0 } else { 0x8080_8080 };
                vec![zeros, ("UP", up), ("FLIP", flip), ("LESS", 128 * wide)]
            }
        }
    }

    /// The table's entries as WGSL, for formats that have one.
    pub(super) fn literals(self, inputs: Inputs) -> Vec<String> {
        if inputs == Inputs::Float {
            // The shortest decimal that reads back as the same f32.
            return self.table().iter().flatten().map(|value| format!("{value:?}f")).collect();
        }
        self.integer_table().iter().flatten().map(|value| format!("{value}u")).collect()
    }

    /// The 16 values of formats that have a table; a shorter one repeats its last.
    fn table(self) -> Option<[f32; 16]> {
        let code = match self {
            Self::Int4 | Self::Uint4 | Self::Int8 | Self::Uint8 => return None,
            Self::Table(table) => Code::Table(table),
            Self::E2m1 => Code::MiniFloat(MiniFloat::E2m1),
        };
        let mut values = [0.0; 16];
        for (value, index) in values.iter_mut().zip(0..) {
            *value = code.value(index);
        }
        Some(values)
    }

    /// The power of two of which every value is a whole multiple within 8 bits, as `shader/shared/bytes_*.wgsl` takes it;
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
    fn integer_table(self) -> Option<[u32; 16]> {
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
