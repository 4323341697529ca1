//! How values become codes.
//!
//! | rounder | chooses | needs |
//! |---|---|---|
//! | [`Rounder::Nearest`] | each code by itself | |
//! | [`Rounder::Stochastic`] | each code by itself, unbiased | |
//! | [`Rounder::Mse`] | scales of least squared error, then nearest | a Gram matrix helps |
//! | [`Rounder::Clip`] | a cut of each group's range (AWQ), then nearest | a Gram matrix helps |
//! | [`Rounder::Hqq`] | scales and zero points under an ℓp norm that forgives outliers, then nearest | |
//! | [`Rounder::Gptq`], [`Rounder::Ldlq`] | codes one column after the other, errors fed back | a Gram matrix |
//! | [`Rounder::CoordinateDescent`] | all of it: searched scales, fed-back codes, then both in turn | a Gram matrix |
//!
//! All but the first need linear algebra, and so the feature `solve`; [`nearest::quantize_rows`] does without.

#[cfg(feature = "solve")]
mod choose;
#[cfg(feature = "solve")]
mod clip;
#[cfg(feature = "solve")]
mod descent;
#[cfg(feature = "solve")]
mod gptq;
#[cfg(feature = "solve")]
mod grid;
#[cfg(feature = "solve")]
mod hqq;
#[cfg(feature = "solve")]
mod joint;
pub mod nearest;
#[cfg(feature = "solve")]
mod pairs;
#[cfg(feature = "solve")]
mod search;
#[cfg(feature = "solve")]
mod stochastic;
#[cfg(feature = "solve")]
mod vector;
#[cfg(feature = "solve")]
mod zeros;

#[cfg(feature = "solve")]
use crate::{Error, Scheme};
use crate::{FloatFormat, Quantized};
#[cfg(feature = "solve")]
use rankbit_linalg::faer::MatRef;

/// A rule that chooses scales and codes.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum Rounder {
    /// Each entry by itself to the nearest representable value; see [`nearest`].
    #[default]
    Nearest,
    /// Each entry to one of its two neighbours at random, so that it is right on average (inside the range):
    /// `P(b) = (x − a)/(b − a)`. Scales as [`Rounder::Nearest`].
    Stochastic {
        /// Seed of the random numbers.
        seed: u64,
    },
    /// Scale and zero point of each group by a search for the least squared error, weighted by the diagonal of the
    /// Gram matrix when there is one; codes nearest. Never worse than [`Rounder::Nearest`] in that error.
    Mse,
    /// AWQ's clipping (arXiv 2306.00978): each group's range cut where least of the layer's output is lost, by the
    /// group's block of the Gram matrix when there is one; codes nearest.
    Clip,
    /// GPTQ (arXiv 2210.17323): one column after the other, the later ones take up the errors of the earlier.
    Gptq {
        /// Columns by falling diagonal of the Gram matrix, with scales fixed beforehand; else in stored order, with
        /// scales chosen when a group is reached.
        act_order: bool,
        /// Added to the diagonal, as a fraction of its mean.
        damping: f64,
    },
    /// LDLQ (QuIP, arXiv 2307.13304): as GPTQ in stored order, with scales fixed beforehand, followed by coordinate
    /// descent on the codes.
    Ldlq {
        /// Added to the diagonal, as a fraction of its mean.
        damping: f64,
        /// Sweeps of coordinate descent.
        sweeps: u32,
    },
    /// Searched scales ([`Rounder::Mse`]), GPTQ in act-order, then in turn coordinate descent on the codes and the
    /// best scales and zero points of a row in closed form; the best is kept.
    CoordinateDescent {
        /// Added to the diagonal, as a fraction of its mean.
        damping: f64,
        /// Rounds of coordinate descent and scale fit.
        sweeps: u32,
    },
    /// HQQ, half-quadratic quantization: grids that minimize `Σ|w − ŵ|^p`, p < 1, by alternation with a shrinkage;
    /// needs no calibration.
    Hqq {
        /// The exponent p, above 0 and below 1.
        norm: f64,
        /// Weight β of the quadratic term, positive.
        beta: f64,
        /// Alternations at most.
        iterations: u32,
    },
}

impl Rounder {
    /// GPTQ with its paper's damping of 1 %.
    pub const fn gptq(act_order: bool) -> Self {
        Self::Gptq { act_order, damping: 0.01 }
    }

    /// LDLQ with 1 % damping and the ten sweeps of QuIP#'s code.
    pub const LDLQ: Self = Self::Ldlq { damping: 0.01, sweeps: 10 };
    /// Coordinate descent with 1 % damping and four rounds.
    pub const COORDINATE_DESCENT: Self = Self::CoordinateDescent { damping: 0.01, sweeps: 4 };
    /// HQQ with its code's p = 0.7, β = 10, at most 20 alternations.
    pub const HQQ: Self = Self::Hqq { norm: 0.7, beta: 10.0, iterations: 20 };

    /// The name used in files, flags and reports.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Nearest => "nearest",
            Self::Stochastic { .. } => "stochastic",
            Self::Mse => "mse",
            Self::Clip => "clip",
            Self::Gptq { .. } => "gptq",
            Self::Ldlq { .. } => "ldlq",
            Self::CoordinateDescent { .. } => "cd",
            Self::Hqq { .. } => "hqq",
        }
    }

    /// Whether it makes use of a Gram matrix when there is one.
    pub const fn uses_hessian(&self) -> bool {
        self.needs_hessian() || matches!(self, Self::Mse | Self::Clip)
    }

    /// Whether it cannot do without a Gram matrix.
    pub const fn needs_hessian(&self) -> bool {
        matches!(self, Self::Gptq { .. } | Self::Ldlq { .. } | Self::CoordinateDescent { .. })
    }
}

#[cfg(feature = "solve")]
pub use vector::trellis_columns;

/// What a rounder may know besides the matrix and the scheme.
#[cfg(feature = "solve")]
#[derive(Clone, Copy, Debug, Default)]
pub struct Context<'a> {
    /// The form under which errors count, `tr(E·H·Eᵀ)`: `[in, in]`, the Gram matrix of the layer's inputs in the
    /// basis of the matrix that is quantized. Its scale does not matter.
    pub hessian: Option<MatRef<'a, f64>>,
    /// What an error of each output counts, positive, of any scale; `[out]`. Vector codes look at it, scalar codes, whose
    /// rows are rounded each by itself, have no use for it.
    pub row_weights: Option<&'a [f64]>,
}

/// What [`quantize`] returns: the storage and what had to be adjusted.
#[derive(Clone, PartialEq, Debug)]
pub struct Rounded {
    /// The few bits.
    pub quantized: Quantized,
    /// The scale format asked for, when its range was too small for this matrix and f32 was taken instead.
    pub widened_from: Option<FloatFormat>,
    /// What damping added to each diagonal entry of the Gram matrix, for rounders that damp it.
    pub damping: Option<f64>,
    /// Inputs that never fired in calibration (a zero on the diagonal): their columns are rounded plainly. 0 for
    /// rounders without a Gram matrix.
    pub dead_inputs: usize,
}

impl Rounded {
    /// Nothing adjusted.
    pub(crate) const fn new(quantized: Quantized) -> Self {
        Self { quantized, widened_from: None, damping: None, dead_inputs: 0 }
    }
}

/// [`quantize_with`] without a context: for rounders that need no Gram matrix.
///
/// # Errors
/// As [`quantize_with`].
#[cfg(feature = "solve")]
pub fn quantize(weight: MatRef<'_, f32>, scheme: &Scheme, rounder: Rounder) -> Result<Rounded, Error> {
    quantize_with(weight, scheme, rounder, &Context::default())
}

/// Quantizes `weight` (`[out, in]`, any strides) by `scheme`.
///
/// Codes are chosen against the scales as stored. When the scheme's scale format would lose a scale by its
/// range (overflow, or an error above 2⁻⁸ through underflow), the whole matrix takes f32 scales and the
/// result says so. Every rounder works with every scheme of scalar codes; one that chooses scales leaves those alone that are no
/// free numbers (powers of two, scales under a global one, those of block layouts). The result does not depend on the
/// number of threads.
///
/// Cost O(out · in) for rounders without a Gram matrix; with one O(in³ + out · in²), some ten times that for
/// [`Rounder::CoordinateDescent`].
///
/// # Errors
/// [`Error::InvalidScheme`], [`Error::GroupSize`], [`Error::TooLarge`] for a scheme that does not work on this
/// shape; [`Error::NonFinite`] naming the first NaN or infinite entry in row order; [`Error::BlockOverflow`] for
/// weights too large for the f16 scales of a block layout; [`Error::MissingHessian`];
/// [`Error::ShapeMismatch`] for a Gram matrix of another width; [`Error::InvalidOption`]; and from
/// [`Error::Linalg`] a Gram matrix that is not symmetric, not finite or, after damping, not positive definite.
#[cfg(feature = "solve")]
pub fn quantize_with(
    weight: MatRef<'_, f32>,
    scheme: &Scheme,
    rounder: Rounder,
    context: &Context<'_>,
) -> Result<Rounded, Error> {
    if let (true, None) = (rounder.needs_hessian(), context.hessian) {
        return Err(Error::MissingHessian { rounder: rounder.name() });
    }
    if let Some(hessian) = context.hessian.filter(|_| rounder.needs_hessian()) {
        grid::check_hessian(weight, hessian)?;
    }
    if scheme.code.is_vector() {
        return vector::quantize(weight, scheme, rounder, context);
    }
    if weight.nrows() == 0 || weight.ncols() == 0 {
        return nearest::quantize(weight, scheme);
    }
    match rounder {
        Rounder::Nearest => nearest::quantize(weight, scheme),
        Rounder::Stochastic { seed } => stochastic::quantize(weight, scheme, seed),
        Rounder::Mse => search::quantize(weight, scheme, context),
        Rounder::Clip => clip::quantize(weight, scheme, context),
        Rounder::Gptq { act_order, damping } => {
            let options = gptq::Options { act_order, damping, dynamic_groups: true, sweeps: 0 };
            gptq::quantize(weight, scheme, context, options)
        }
        Rounder::Ldlq { damping, sweeps } => {
            let options = gptq::Options { act_order: false, damping, dynamic_groups: false, sweeps };
            gptq::quantize(weight, scheme, context, options)
        }
        Rounder::CoordinateDescent { damping, sweeps } => {
            descent::quantize(weight, scheme, context, damping, sweeps)
        }
        Rounder::Hqq { norm, beta, iterations } => {
            hqq::quantize(weight, scheme, hqq::Options { norm, beta, iterations })
        }
    }
}
