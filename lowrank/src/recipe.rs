//! A recipe: which terms, under which metric, in which order, how often, after which change of basis.
//!
//! A published method is a value of [`Recipe`]; the functions in [`preset`](crate::preset) return them.

use crate::FactorFormat;
use alloc::vec::Vec;
use rankbit_quant::{Activation, Code, FloatFormat, Rounder, Scheme};
use rankbit_sparse::{Pattern, Pruner, ValueFormat};

/// What [`fit`](crate::fit) runs.
#[derive(Clone, PartialEq, Debug)]
#[cfg_attr(feature = "file", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Recipe {
    /// The change of basis on the quantized term's path, fixed before the first step.
    pub transform: TransformRule,
    /// What happens to the quantized term's inputs when the split is applied. No step looks at it.
    #[cfg_attr(feature = "file", serde(default, skip_serializing_if = "ActivationRule::is_float"))]
    pub activation: ActivationRule,
    /// In which space steps project and iterates are compared.
    pub metric: MetricRule,
    /// The steps of one round, in order.
    pub round: Vec<Step>,
    /// How often the round runs. The best iterate is kept.
    pub rounds: Rounds,
    /// Seed of every random number; each tensor's stream also depends on its name.
    pub seed: u64,
}

/// How the change of basis is found.
#[derive(Clone, PartialEq, Debug)]
#[cfg_attr(feature = "file", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum TransformRule {
    /// None.
    Identity,
    /// `λ_j = max|X_j|^α / max|W_j|^β`, from the calibration's absmax.
    Smooth {
        /// Exponent of the activations' absmax.
        alpha: f64,
        /// Exponent of the weight's absmax.
        beta: f64,
        /// How λ is stored.
        format: FloatFormat,
    },
    /// [`TransformRule::Smooth`] with the exponents under which one round of this very recipe loses least of the layer's
    /// output: `(0, 0)`, `(i/grid, 0)` and `(i/grid, 1 - i/grid)` for `0 < i < grid` (SVDQuant, arXiv 2411.05007, and
    /// its released calibration). With float inputs the Gram matrix tells that error; quantized inputs are tried on the
    /// calibration's sample of rows.
    SmoothSearch {
        /// Steps of the exponents; the paper's 20.
        grid: u32,
        /// How λ is stored.
        format: FloatFormat,
    },
    /// AWQ: `λ_j = (mean |X_j|)^α` over its middle, α by least error of the layer's output after rounding to nearest by
    /// the first quantizing step's scheme; see [`rankbit_quant::transform::awq`].
    Awq {
        /// Exponents tried, from 0 in steps of 1/grid; the paper's 20.
        grid: u32,
        /// How λ is stored.
        format: FloatFormat,
    },
    /// Inputs by falling mean square of their activations.
    Permute,
    /// A Hadamard rotation with random signs. They depend on this seed alone, not on the tensor's name: layers that
    /// share an input then share its rotation, and it can be folded into what is before them.
    Rotate {
        /// What the signs are drawn from.
        seed: u64,
    },
    /// Several of these, in this order, each at most once: `Smooth` or `Awq`, `Permute`, `Rotate`.
    Compose(Vec<TransformRule>),
}

impl TransformRule {
    /// AWQ with its paper's grid, factors in f16.
    pub const AWQ: Self = Self::Awq { grid: 20, format: FloatFormat::F16 };

    /// The single transforms it is made of.
    pub fn parts(&self) -> &[Self] {
        match self {
            Self::Identity => &[],
            Self::Compose(parts) => parts,
            single => core::slice::from_ref(single),
        }
    }

    /// This rule, then `next`: one composition of both.
    #[must_use]
    pub fn then(self, next: Self) -> Self {
        let mut parts = self.parts().to_vec();
        parts.extend_from_slice(next.parts());
        match <[Self; 1]>::try_from(parts) {
            Ok([single]) => single,
            Err(parts) if parts.is_empty() => Self::Identity,
            Err(parts) => Self::Compose(parts),
        }
    }
}

/// How the policy for the quantized term's inputs is found.
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(feature = "file", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum ActivationRule {
    /// As it stands.
    Given(Activation),
    /// One scale for all inputs: the calibration's largest magnitude after the transform takes the largest code.
    Calibrated {
        /// What inputs become.
        code: Code,
    },
}

impl ActivationRule {
    /// Inputs stay floats.
    pub const FLOAT: Self = Self::Given(Activation::Float);

    /// Whether inputs stay floats.
    pub const fn is_float(&self) -> bool {
        matches!(self, Self::Given(Activation::Float))
    }
}

impl Default for ActivationRule {
    fn default() -> Self {
        Self::FLOAT
    }
}

impl From<Activation> for ActivationRule {
    fn from(policy: Activation) -> Self {
        Self::Given(policy)
    }
}

impl Recipe {
    /// The same recipe with another rule for the quantized term's inputs.
    #[must_use]
    pub fn with_activation(mut self, rule: impl Into<ActivationRule>) -> Self {
        self.activation = rule.into();
        self
    }
}

/// The space in which an error is measured.
///
/// Those that follow from calibration weigh rows as well, where calibration does.
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(feature = "file", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum Space {
    /// `‖E‖`, the plain Frobenius norm.
    Identity,
    /// `‖E·T⁻ᵀ‖`: the space in which the quantizer works.
    Transformed,
    /// `√tr(E·H·Eᵀ)` with the calibration's Gram matrix (or its diagonal when only that was given).
    Moments,
    /// `√tr(E·diag(H)·Eᵀ)`: the mean squares of the inputs alone, as if they were uncorrelated.
    Diagonal,
    /// `√tr(E·(H - μ·μᵀ)·Eᵀ)`: what of the output's error a bias does not take up.
    Centred,
    /// `‖E·diag(a)‖`, `a_j = (mean |X_j|)^exponent`.
    MeanAbs {
        /// The exponent.
        exponent: f64,
    },
    /// `√Σᵢ rowᵢ·‖eᵢ‖²`: only the weights of rows (an embedding's frequencies).
    Rows,
}

impl Space {
    /// Whether it follows from calibration.
    pub const fn is_calibrated(self) -> bool {
        !matches!(self, Self::Identity | Self::Transformed)
    }

    /// Whether it follows from the inputs' mean squares or products.
    pub const fn has_second_moments(self) -> bool {
        matches!(self, Self::Moments | Self::Diagonal | Self::Centred)
    }
}

/// Where projections happen and where iterates are compared.
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(feature = "file", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct MetricRule {
    /// The metric under which the low-rank step is the best of its rank.
    pub project: Space,
    /// The metric in which the best iterate is chosen.
    pub accept: Space,
}

/// One projection. Each replaces its term, given the others as they are.
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(feature = "file", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum Step {
    /// `Q̃ = quantize((W - L·R - S)·T⁻ᵀ)`.
    Quantize {
        /// The number format.
        scheme: Scheme,
        /// How values become codes.
        rounder: Rounder,
    },
    /// `L·R` = the best rank-r approximation of `W - Q̃·Tᵀ - S` under the projection metric, `√Σ` in each factor.
    LowRank {
        /// The rank, 1 to the smaller side.
        rank: usize,
        /// How both factors are stored.
        factors: FactorFormat,
    },
    /// `L·R` = the first r steps of `P·(W - Q̃·Tᵀ - S) = L·D·U` with partial pivoting, in the plain norm: L of ones and
    /// entries up to 1, the pivots in R.
    Ldu {
        /// Steps, 1 to the smaller side.
        rank: usize,
        /// How both factors are stored.
        factors: FloatFormat,
    },
    /// Gradient steps on L and R, the error measured in the accepting metric; never rises but for the factors' rounding.
    Gradient {
        /// How many steps on both.
        steps: u32,
    },
    /// `b = (W - Ŵ)·μ`, so that the output is right on average over the calibration.
    Bias,
    /// `S` = `W - Q̃·Tᵀ - L·R` pruned to a pattern, under the calibration's metric in original coordinates.
    Sparse {
        /// Where kept entries may lie.
        pattern: Pattern,
        /// Which are kept, and what becomes of their values.
        pruner: Pruner,
        /// Whether kept values become the best of their mask, whatever chose it. Needs the Gram matrix.
        #[cfg_attr(feature = "file", serde(default, skip_serializing_if = "core::ops::Not::not"))]
        refit: bool,
        /// How kept values are stored.
        values: ValueFormat,
    },
}

/// How often the round runs.
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(feature = "file", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Rounds {
    /// At most this often, at least once.
    pub max: u32,
    /// When to stop earlier.
    pub stop: Stop,
}

/// When to stop before [`Rounds::max`].
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(feature = "file", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum Stop {
    /// As soon as a round ends with a larger error than the round before.
    FirstRise,
    /// As soon as a round improves the error by less than this fraction of it.
    Gain(f64),
    /// Never.
    Never,
}

impl Rounds {
    /// Exactly one round.
    pub const ONCE: Self = Self { max: 1, stop: Stop::Never };
}
