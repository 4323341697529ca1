//! What happens to the inputs of a layer before they meet its quantized weight.
//!
//! ```text
//! X: [tokens, in]     X̂ = s · value(code),   code = nearest(x · fl(max(code) / absmax)),   s = fl(absmax / max(code))
//! dynamic   absmax over a token, a group of its entries, or all of X, at the moment of the product
//! static    s fixed beforehand, entries beyond it saturate
//! outliers  O = { j : some |X_tj| ≥ threshold }; those columns stay floats:
//!           y_to = Σ_{j∉O} x̂_tj·ŵ_oj + Σ_{j∈O} x_tj·ŵ_oj
//! ```
//! `fl` rounds to f32, `nearest` is the code's own (ties to even). With outliers, absmax is over the entries below the
//! threshold, also those inside the columns of `O`, as the released code has it. Note that `O`, and with
//! [`Group::Tensor`] the scale, depend on all tokens of a product: a token may come out differently in another batch.
//!
//! **Accuracy**: an integer entry errs by at most `s·(½ + 2⁻¹⁵)` unless a static scale clips it.
//!
//! Sources: LLM.int8(), arXiv 2208.07339, section 3 (vector-wise absmax, outlier columns at 6.0; the paper's `>` is
//! `≥` in its code, followed here); SmoothQuant, arXiv 2211.10438, table 2 (per token, per tensor, static); SVDQuant,
//! arXiv 2411.05007 (per group); ZeroQuant-FP, arXiv 2307.09782 (FP8 per token).

pub mod channel_wise;
mod quantize;

use crate::{Code, Error, Group, MiniFloat};
use core::fmt;
pub use quantize::Activations;

/// A policy for the inputs of a product.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case", deny_unknown_fields))]
pub enum Activation {
    /// As they come.
    #[default]
    Float,
    /// Scales from the inputs themselves.
    Dynamic {
        /// Signed integers of 2 to 8 bits, or small floats.
        code: Code,
        /// Who shares a scale: [`Group::Row`] is a token.
        group: Group,
        /// Magnitude from which on a column is an outlier and stays in floats; `None` for no such columns.
        #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
        outliers: Option<f32>,
    },
    /// One scale for all inputs, from calibration.
    Static {
        /// Signed integers of 2 to 8 bits, or small floats.
        code: Code,
        /// The scale, positive and finite.
        scale: f32,
    },
}

impl Activation {
    /// 8-bit integers, one scale per token.
    pub const INT8: Self = Self::integer(8, Group::Row);
    /// 4-bit integers, one scale per token and group of 64 (SVDQuant's).
    pub const INT4: Self = Self::integer(4, Group::Size(64));
    /// LLM.int8(): 8-bit integers per token, columns with an entry of 6 or more in floats.
    pub const LLM_INT8: Self =
        Self::Dynamic { code: Code::Int { bits: 8, signed: true }, group: Group::Row, outliers: Some(6.0) };
    /// Floats E4M3, one scale per token (ZeroQuant-FP's).
    pub const FP8: Self =
        Self::Dynamic { code: Code::MiniFloat(MiniFloat::E4m3), group: Group::Row, outliers: None };

    /// Dynamic signed integers.
    pub const fn integer(bits: u8, group: Group) -> Self {
        Self::Dynamic { code: Code::Int { bits, signed: true }, group, outliers: None }
    }

    /// The static policy whose scale takes `absmax`, the largest magnitude in calibration, to the largest code. A
    /// layer whose calibration saw only zeros takes scale 1.
    ///
    /// # Errors
    /// [`Error::InvalidActivation`] for a code that activations cannot have, or an `absmax` that is negative or not
    /// finite.
    pub fn calibrated(code: Code, absmax: f32) -> Result<Self, Error> {
        if !(absmax.is_finite() && absmax >= 0.0) {
            return Err(Error::InvalidActivation { reason: "absmax must be a finite number of at least 0" });
        }
        let scale = if absmax > 0.0 { (absmax / code.max()).max(f32::MIN_POSITIVE) } else { 1.0 };
        let policy = Self::Static { code, scale };
        policy.check()?;
        Ok(policy)
    }

    /// Whether inputs stay floats.
    pub const fn is_float(&self) -> bool {
        matches!(self, Self::Float)
    }

    /// What inputs become, unless they stay floats.
    pub const fn code(&self) -> Option<Code> {
        match self {
            Self::Float => None,
            Self::Dynamic { code, .. } | Self::Static { code, .. } => Some(*code),
        }
    }

    /// Whether the fields make sense.
    ///
    /// # Errors
    /// [`Error::InvalidActivation`] for a code other than signed integers of 2 to 8 bits and small floats, groups of
    /// 0 entries, a threshold or scale that is not positive and finite.
    pub fn check(&self) -> Result<(), Error> {
        let invalid = |reason| Err(Error::InvalidActivation { reason });
        match self.code() {
            None | Some(Code::Int { bits: 2..=8, signed: true } | Code::MiniFloat(_)) => {}
            Some(_) => {
                return invalid("activations are signed integers of 2 to 8 bits or floats of 4 to 8 bits");
            }
        }
        let positive = |value: f32| value.is_finite() && value > 0.0;
        match *self {
            Self::Dynamic {
                group: Group::Size(0) | Group::Block { rows: 0, .. } | Group::Block { cols: 0, .. },
                ..
            } => invalid("a group has at least one entry"),
            Self::Dynamic { outliers: Some(threshold), .. } if !positive(threshold) => {
                invalid("the outliers' threshold must be positive and finite")
            }
            Self::Static { code, scale } if !(positive(scale) && (scale * code.max()).is_finite()) => {
                invalid("a static scale must be positive, and finite times the largest code")
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Activation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = |f: &mut fmt::Formatter<'_>, code: Code| match code {
            Code::Int { bits, .. } => write!(f, "int{bits}"),
            Code::MiniFloat(format) => {
                write!(f, "fp{}-e{}m{}", format.bits(), format.exponent_bits(), format.mantissa_bits())
            }
            other => write!(f, "{other:?}"),
        };
        match *self {
            Self::Float => f.write_str("float"),
            Self::Dynamic { code: c, group, outliers } => {
                code(f, c)?;
                match group {
                    Group::Row => f.write_str(" per token")?,
                    Group::Tensor => f.write_str(" per product")?,
                    Group::Size(size) => write!(f, " per token and group of {size}")?,
                    Group::Block { rows, cols } => write!(f, " per {rows} tokens and {cols} features")?,
                }
                match outliers {
                    Some(threshold) => write!(f, ", columns with |x| ≥ {threshold} in floats"),
                    None => Ok(()),
                }
            }
            Self::Static { code: c, scale } => {
                code(f, c)?;
                write!(f, ", scale {scale}")
            }
        }
    }
}
