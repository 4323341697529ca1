//! A scheme: which numbers, who shares a scale, how the scale is chosen and stored.

use crate::{Code, Error, FloatFormat, Group, Table};

/// How a group's scale follows from its entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum ScaleRule {
    /// `s = absmax / max(code)`: the largest magnitude becomes the largest code.
    Absmax,
    /// `s = (hi - lo) / (2^b - 1)` with `lo = min(0, min w)`, `hi = max(0, max w)`: the range becomes all codes.
    Range,
}

/// What a stored code is shifted by before scaling.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum ZeroPoint {
    /// Nothing: `value = s · code value`.
    None,
    /// A whole number as wide as a code: `value = s · (code - z)`, `z = rne(-lo / s)`.
    Integer,
}

/// A number format as a plain value. The named ones are constants of this type.
///
/// ```text
/// ŵ = s · (value(code) - z)
/// ```
/// where `s` is rounded to [`Scheme::scale_format`] *before* codes and zero point are chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Scheme {
    /// Which numbers a code stands for.
    pub code: Code,
    /// Who shares a scale.
    pub group: Group,
    /// How the scale is chosen.
    pub scale_rule: ScaleRule,
    /// How the scale is stored.
    pub scale_format: FloatFormat,
    /// How codes are shifted.
    pub zero: ZeroPoint,
}

const fn symmetric(bits: u8) -> Scheme {
    Scheme {
        code: Code::Int { bits, signed: true },
        group: Group::Size(64),
        scale_rule: ScaleRule::Absmax,
        scale_format: FloatFormat::F16,
        zero: ZeroPoint::None,
    }
}

const fn asymmetric(bits: u8) -> Scheme {
    Scheme {
        code: Code::Int { bits, signed: false },
        group: Group::Size(64),
        scale_rule: ScaleRule::Range,
        scale_format: FloatFormat::F16,
        zero: ZeroPoint::Integer,
    }
}

/// Symmetric 8-bit integers, groups of 64, f16 scales.
pub const INT8: Scheme = symmetric(8);
/// Symmetric 4-bit integers, groups of 64, f16 scales.
pub const INT4: Scheme = symmetric(4);
/// Symmetric 3-bit integers, groups of 64, f16 scales.
pub const INT3: Scheme = symmetric(3);
/// Symmetric 2-bit integers (-1, 0, 1), groups of 64, f16 scales.
pub const INT2: Scheme = symmetric(2);
/// 8-bit integers with integer zero point, groups of 64, f16 scales.
pub const UINT8: Scheme = asymmetric(8);
/// 4-bit integers with integer zero point, groups of 64, f16 scales.
pub const UINT4: Scheme = asymmetric(4);
/// 3-bit integers with integer zero point, groups of 64, f16 scales.
pub const UINT3: Scheme = asymmetric(3);
/// 2-bit integers with integer zero point, groups of 64, f16 scales.
pub const UINT2: Scheme = asymmetric(2);
/// NF4, groups of 64, f32 scales.
pub const NF4: Scheme = Scheme {
    code: Code::Table(Table::Nf4),
    group: Group::Size(64),
    scale_rule: ScaleRule::Absmax,
    scale_format: FloatFormat::F32,
    zero: ZeroPoint::None,
};

/// Every named scheme with its default group size and scale format, by the name used in files, flags and code.
pub const NAMED: [(&str, Scheme); 9] = [
    ("int8", INT8),
    ("int4", INT4),
    ("int3", INT3),
    ("int2", INT2),
    ("uint8", UINT8),
    ("uint4", UINT4),
    ("uint3", UINT3),
    ("uint2", UINT2),
    ("nf4", NF4),
];

impl Scheme {
    /// The named scheme, or `None` when there is none of that name.
    pub fn named(name: &str) -> Option<Self> {
        NAMED.iter().find(|(n, _)| *n == name).map(|&(_, scheme)| scheme)
    }

    /// The name of this scheme's numbers, whatever its group and scale format; `None` for an unnamed mixture.
    pub fn name(&self) -> Option<&'static str> {
        NAMED
            .iter()
            .find(|(_, s)| (s.code, s.scale_rule, s.zero) == (self.code, self.scale_rule, self.zero))
            .map(|&(name, _)| name)
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

    /// Whether the fields fit together.
    ///
    /// # Errors
    /// [`Error::InvalidScheme`] for integers not of 2 to 8 bits, or a scale rule and zero point that do not
    /// belong to the code (signed and table codes take absmax and no zero point, unsigned ones range and an
    /// integer zero point).
    pub fn check(&self) -> Result<(), Error> {
        if let Code::Int { bits, .. } = self.code
            && !(2..=8).contains(&bits)
        {
            return Err(Error::InvalidScheme { reason: "integers have 2 to 8 bits" });
        }
        let fits = match self.code {
            Code::Int { signed: false, .. } => {
                (self.scale_rule, self.zero) == (ScaleRule::Range, ZeroPoint::Integer)
            }
            Code::Int { signed: true, .. } | Code::Table(_) => {
                (self.scale_rule, self.zero) == (ScaleRule::Absmax, ZeroPoint::None)
            }
        };
        if fits {
            Ok(())
        } else {
            Err(Error::InvalidScheme { reason: "scale rule and zero point do not belong to the code" })
        }
    }
}
