//! What a code means: the number, in units of the group's scale, that a few bits stand for.
//!
//! Every code is stored as an unsigned number of [`Code::bits`] bits. Encoding is to the nearest
//! representable value; the rule for ties is stated at each kind.
//!
//! Scalar codes have a value of their own each; vector codes ([`trellis`](crate::trellis), [`lattice`](crate::lattice))
//! stand for several weights together.

pub mod fixed;
pub mod int;
pub mod mini_float;
pub mod normal_float;
pub mod table;

pub use mini_float::MiniFloat;
pub use normal_float::normal_float;
pub use table::Table;

use crate::{Lattice, Rate, Trellis};

/// A set of representable values, indexed by the stored code.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum Code {
    /// Whole numbers; see [`int`].
    Int {
        /// Width of a code, 2 to 8.
        bits: u8,
        /// Whether the values are symmetric about zero (`-Q ..= Q`, `Q = 2^(bits-1) - 1`) or `0 ..= 2^bits - 1`.
        signed: bool,
    },
    /// A table of values; see [`table`].
    Table(Table),
    /// Floats of 4 to 8 bits; see [`mini_float`].
    MiniFloat(MiniFloat),
    /// Fixed-point numbers of 8 bits, six behind the point, two's complement; see [`fixed`].
    Fixed,
    /// Paths through a trellis, down the columns; see [`trellis`](crate::trellis).
    Trellis(Trellis),
    /// Points of a lattice, eight weights of a row; see [`lattice`](crate::lattice).
    Lattice(Lattice),
}

impl Code {
    /// Bits of one stored code; for vector codes, of a weight (a budget's whole bits).
    pub const fn bits(self) -> usize {
        match self {
            Self::Int { bits, .. } => bits as usize,
            Self::Table(table) => table.bits(),
            Self::MiniFloat(format) => format.bits(),
            Self::Fixed => 8,
            Self::Trellis(trellis) => trellis.bits(),
            Self::Lattice(lattice) => lattice.bits(),
        }
    }

    /// Largest magnitude of a representable value: `Q`, `2^bits - 1`, a table's largest (mostly 1), or the largest
    /// float; 1 for vector codes, whose scale is a root mean square. Integers of a width that [`Scheme::check`](crate::Scheme::check) refuses count as the nearest width
    /// here and in [`Code::value`].
    pub fn max(self) -> f32 {
        match self {
            Self::Int { bits, signed } => int::max(bits, signed),
            Self::Table(table) => table.max(),
            Self::MiniFloat(format) => format.max(),
            Self::Fixed => fixed::MAX,
            Self::Trellis(_) | Self::Lattice(_) => 1.0,
        }
    }

    /// The value of a stored code, before zero point and scale. Codes past a table's last one repeat the last;
    /// codes of floats that are not numbers give NaN or an infinity; vector codes, which have no value by themselves, 0.
    pub fn value(self, code: u8) -> f32 {
        match self {
            Self::Int { bits, signed } => f32::from(code) - int::offset(bits, signed),
            Self::Table(table) => table.values()[usize::from(code).min(table.values().len() - 1)],
            Self::MiniFloat(format) => format.value(code),
            Self::Fixed => fixed::value(code),
            Self::Trellis(_) | Self::Lattice(_) => 0.0,
        }
    }

    /// Whether several weights share a code: such formats have their own storage and rounders.
    pub const fn is_vector(self) -> bool {
        matches!(self, Self::Trellis(_) | Self::Lattice(_))
    }

    /// The same numbers whatever a trellis under a budget may spend, and however many states it has.
    pub(crate) const fn with_any_budget(self) -> Self {
        match self {
            Self::Trellis(Trellis { rate: Rate::Budget(_), .. }) => {
                Self::Trellis(Trellis { window: 12, rate: Rate::Budget(0) })
            }
            other => other,
        }
    }

    /// Whether every code stands for a finite number: all but the 8-bit floats.
    pub const fn is_total(self) -> bool {
        !matches!(self, Self::MiniFloat(MiniFloat::E4m3 | MiniFloat::E5m2))
    }

    /// Bits behind the leading one of the largest values: what the power-of-two rule "even" rounds to.
    pub(crate) const fn mantissa_bits(self) -> u8 {
        match self {
            Self::Int { bits, signed } => bits.saturating_sub(1 + signed as u8),
            Self::Table(_) => 0,
            Self::MiniFloat(format) => format.mantissa_bits(),
            Self::Fixed => 6,
            Self::Trellis(_) | Self::Lattice(_) => 0,
        }
    }

    /// Writes the stored codes nearest to `scaled` (entries in units of the scale) to `codes`; `zero` is the
    /// zero point, 0 for codes without.
    pub(crate) fn encode(self, scaled: &[f32], zero: f32, codes: &mut [u8]) {
        match self {
            Self::Int { bits, signed } => int::encode(scaled, bits, signed, zero, codes),
            Self::Table(table) => table::encode(scaled, table, codes),
            Self::MiniFloat(format) => mini_float::encode(scaled, format, codes),
            Self::Fixed => fixed::encode(scaled, codes),
            Self::Trellis(_) | Self::Lattice(_) => codes.fill(0),
        }
    }
}
