//! A scheme: which numbers, who shares a scale, how the scale is chosen and stored.

mod named;

use crate::{Block, Code, Error, FloatFormat, Group, Grouping, Nested, Rate, Table, ZeroPoint};
use named::all_named;
pub use named::*;

/// How a group's scale follows from its entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum ScaleRule {
    /// `s = absmax / max(code)`: the largest magnitude becomes the largest code.
    Absmax,
    /// `s = (hi - lo) / (2^b - 1)` with `lo = min(0, min w)`, `hi = max(0, max w)`: the range becomes all codes.
    Range,
    /// A power of two near `absmax / max(code)`, never below 2⁻¹²⁷.
    Power(PowerRule),
    /// Absmax, then to a power of two times the row's largest scale.
    Ratio(RatioRule),
    /// The scale of the least squared error: `mean |w|` for the signs of `binary`, the exact optimum over all
    /// thresholds for the three values of `ternary`.
    LeastSquares,
    /// The scale and zero point of the least squared error that a search finds among those that can be stored
    /// (`Rounder::Mse`).
    Search,
    /// As the encoder of the block layout has it ([`Block`]).
    Block,
    /// The root mean square of the row, times that of the column: vector codes only ([`vector`](crate::vector)).
    Rms,
}

/// Which power of two. `emax` is the exponent of the code's largest value: 2 for E2M1, whose largest is 6.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum PowerRule {
    /// `2^(⌊log₂ absmax⌋ - emax)`: the rule of the OCP MX standard. The group's extreme may be clipped, for
    /// E2M1 by up to a quarter.
    Floor,
    /// The same after rounding absmax to the code's mantissa width, ties up: clips less often.
    Even,
    /// The smallest power of two that clips nothing: `2^⌈log₂(absmax / max(code))⌉`.
    Ceil,
}

/// To which power of two times the row's largest scale S (the matrix's, where a row has one group) an absmax scale s
/// goes: ZeroQuant-FP's constraint M2 (arXiv 2307.09782), under which decoding needs exponents and one factor a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum RatioRule {
    /// `S / 2^⌈log₂(S/s)⌉`, at most s: a group's extreme may be clipped, by up to half. The paper's.
    Clip,
    /// `S / 2^⌊log₂(S/s)⌋`, at least s: nothing is clipped, steps are up to twice as wide.
    Keep,
}

/// Where the bits of a matrix lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum Layout {
    /// Codes, scales and zero points apart from each other.
    #[default]
    Planar,
    /// Codes and scales of neighbours side by side, as GGUF has them.
    Block(Block),
}

impl Layout {
    /// Whether codes and scales lie apart.
    pub const fn is_planar(&self) -> bool {
        matches!(self, Self::Planar)
    }
}

/// A number format as a plain value. The named ones are constants of this type.
///
/// ```text
/// ŵ = s · (value(code) - z)
/// ```
/// where `s` is rounded to [`Scheme::scale_format`], and to [`Scheme::nested`], *before* codes and zero point are chosen
/// (after, under [`ScaleCode::Dynamic`](crate::ScaleCode::Dynamic)).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Scheme {
    /// Which numbers a code stands for.
    pub code: Code,
    /// Who shares a scale.
    pub group: Group,
    /// How the scale is chosen.
    pub scale_rule: ScaleRule,
    /// How the scale is stored; for nested scales, those of their blocks.
    pub scale_format: FloatFormat,
    /// How scales are a few bits themselves, if they are.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub nested: Option<Nested>,
    /// How codes are shifted.
    pub zero: ZeroPoint,
    /// Where the bits lie. A block layout decides all other fields ([`Block::scheme`]).
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Layout::is_planar"))]
    pub layout: Layout,
}

impl Scheme {
    /// The named scheme, or `None` when there is none of that name.
    pub fn named(name: &str) -> Option<Self> {
        all_named().find(|(n, _)| *n == name).map(|&(_, scheme)| scheme)
    }

    /// The name of this scheme's numbers; `None` for an unnamed mixture. Group and scale format may be any, except
    /// where they belong to the format ([`Scheme::owns_scales`]).
    pub fn name(&self) -> Option<&'static str> {
        let numbers = |s: &Self| (s.code.with_any_budget(), s.scale_rule, s.zero, s.layout, s.nested);
        let scales = |s: &Self| s.owns_scales().then_some((s.group, s.scale_format));
        let same = |s: &Self| numbers(s) == numbers(self) && scales(s) == scales(self);
        all_named().find(|(_, s)| same(s)).map(|&(name, _)| name)
    }

    /// The length of a block, for formats whose blocks are part of the format: block layouts, and groups of a fixed
    /// size with 8-bit scales. `in` must be a multiple of it. `None` for all others, whose groups may be any and may end short.
    pub const fn block_len(&self) -> Option<u32> {
        match (self.layout, self.scale_format, self.group) {
            (Layout::Block(block), _, _) => Some(block.len()),
            (Layout::Planar, FloatFormat::E8m0 | FloatFormat::E4m3, Group::Size(len)) => Some(len),
            _ => None,
        }
    }

    /// Whether groups and scale format are part of the format: in those of [`Scheme::block_len`] and in those with
    /// dyadic scales.
    pub const fn owns_scales(&self) -> bool {
        self.block_len().is_some() || matches!(self.scale_format, FloatFormat::Dyadic)
    }

    /// The groups of a matrix `[out, in]`.
    ///
    /// # Errors
    /// [`Error::GroupSize`] for a size of 0, or when `in` is not a multiple of [`Scheme::block_len`];
    /// [`Error::TooLarge`] when the number of groups overflows.
    pub fn grouping(&self, shape: (usize, usize)) -> Result<Grouping, Error> {
        if let Some(len) = self.block_len() {
            let len = usize::try_from(len).unwrap_or(usize::MAX);
            if len == 0 || !shape.1.is_multiple_of(len) {
                return Err(Error::GroupSize { group_size: len, in_features: shape.1 });
            }
        }
        self.group.over(shape)
    }

    /// This scheme with other groups.
    #[must_use]
    pub const fn with_group(mut self, group: Group) -> Self {
        self.group = group;
        self
    }

    /// This scheme with scales stored in another format.
    #[must_use]
    pub const fn with_scale_format(mut self, format: FloatFormat) -> Self {
        self.scale_format = format;
        self
    }

    /// This scheme with a budget of `bits` a weight in all, for trellis codes; others stay what they are.
    #[must_use]
    pub fn with_budget(mut self, bits: f64) -> Self {
        if let Code::Trellis(trellis) = &mut self.code {
            trellis.rate = Rate::budget(bits);
        }
        self
    }

    /// This scheme with another zero point.
    #[must_use]
    pub const fn with_zero(mut self, zero: ZeroPoint) -> Self {
        self.zero = zero;
        self
    }

    /// This scheme with nested scales, or with plain ones.
    #[must_use]
    pub const fn with_nested(mut self, nested: Option<Nested>) -> Self {
        self.nested = nested;
        self
    }

    /// Whether the fields fit together.
    ///
    /// # Errors
    /// [`Error::InvalidScheme`] for integers not of 2 to 8 bits; a scale rule and zero point that do not belong
    /// to the code (unsigned integers take range or search and a zero point, all others no zero point; least
    /// squares exists for signs and for signed 2-bit integers); zero points of no such width or format; 8-bit scales
    /// with another rule than theirs (E8M0 a power of two, E4M3 absmax); dyadic scales of anything but rows of signed
    /// integers under absmax; nested scales of no such width, or of powers of two or in power-of-two ratios; a block
    /// layout with other fields than [`Block::scheme`]; or vector codes with another rule or group than theirs, or with
    /// numbers outside their ranges.
    pub fn check(&self) -> Result<(), Error> {
        if let Layout::Block(block) = self.layout {
            let reason = "a block layout has its format's own code, group, scales and minima";
            return if *self == block.scheme() { Ok(()) } else { Err(Error::InvalidScheme { reason }) };
        }
        if self.code.is_vector() {
            return self.check_vector();
        }
        if let Code::Int { bits, .. } = self.code
            && !(2..=8).contains(&bits)
        {
            return Err(Error::InvalidScheme { reason: "integers have 2 to 8 bits" });
        }
        let unsigned = matches!(self.code, Code::Int { signed: false, .. });
        let rule_fits = match self.scale_rule {
            ScaleRule::Range => unsigned,
            ScaleRule::Absmax | ScaleRule::Power(_) | ScaleRule::Ratio(_) => !unsigned,
            ScaleRule::LeastSquares => {
                matches!(self.code, Code::Table(Table::Sign) | Code::Int { bits: 2, signed: true })
            }
            ScaleRule::Search => true,
            ScaleRule::Block | ScaleRule::Rms => false,
        };
        let zero_fits = if unsigned { self.zero.shifts() } else { self.zero == ZeroPoint::None };
        if !rule_fits || !zero_fits {
            return Err(Error::InvalidScheme {
                reason: "scale rule and zero point do not belong to the code",
            });
        }
        let zero_exists = match self.zero {
            ZeroPoint::Float(format) => {
                matches!(format, FloatFormat::F32 | FloatFormat::F16 | FloatFormat::Bf16)
            }
            ZeroPoint::Fraction { bits, fraction } => (1..=8).contains(&bits) && fraction <= 8,
            ZeroPoint::None | ZeroPoint::Integer | ZeroPoint::Min => true,
        };
        if !zero_exists {
            return Err(Error::InvalidScheme {
                reason: "zero points are f32, f16 or bf16, or have 1 to 8 bits, up to 8 behind the point",
            });
        }
        if let Some(nested) = &self.nested {
            return nested.check(self.scale_rule, self.scale_format);
        }
        let format_fits = match self.scale_format {
            FloatFormat::F32 | FloatFormat::F16 | FloatFormat::Bf16 => true,
            FloatFormat::E8m0 => matches!(self.scale_rule, ScaleRule::Power(_)),
            FloatFormat::E4m3 => self.scale_rule == ScaleRule::Absmax,
            FloatFormat::Dyadic => {
                let signed = matches!(self.code, Code::Int { signed: true, .. });
                signed && self.scale_rule == ScaleRule::Absmax && matches!(self.group, Group::Row)
            }
        };
        if format_fits {
            Ok(())
        } else {
            Err(Error::InvalidScheme {
                reason: "the scale format does not belong to code, groups and scale rule",
            })
        }
    }

    /// [`Scheme::check`] for vector codes.
    fn check_vector(&self) -> Result<(), Error> {
        let wide = matches!(self.scale_format, FloatFormat::F32 | FloatFormat::F16 | FloatFormat::Bf16);
        let own =
            self.scale_rule == ScaleRule::Rms && self.group == Group::Row && self.zero == ZeroPoint::None;
        if !own || !wide {
            let reason = "vector codes have a root mean square for each row, in f32, f16 or bf16";
            return Err(Error::InvalidScheme { reason });
        }
        match self.code {
            Code::Trellis(trellis) => trellis.check(),
            _ => Ok(()),
        }
    }
}
