//! A pruning method as a value, and what runs it.

use super::{AdmmOptions, RefitOptions, SparseGptOptions, admm, refit, sparse_gpt};
use crate::{Error, Mask, Pattern, criterion, select};
use alloc::vec::Vec;
use rankbit_linalg::faer::{Mat, MatRef};

/// How the kept entries and their values are chosen.
///
/// | pruner | mask | kept values | needs |
/// |---|---|---|---|
/// | `Magnitude` | largest magnitudes | as they are | |
/// | `Wanda` | [`criterion::wanda`] | as they are | second moments |
/// | `Ria` | [`criterion::ria`] | as they are | second moments |
/// | `SparseGpt` | [`sparse_gpt`] | fed back | Gram matrix |
/// | `Admm` | [`admm`] | the best of the mask | Gram matrix |
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum Pruner {
    /// The largest.
    Magnitude,
    /// The largest after their inputs' size.
    Wanda,
    /// The largest of their row and column, by their inputs' size to a power.
    Ria {
        /// The power; 0.5 in the paper.
        power: f64,
    },
    /// Column by column with error feedback.
    SparseGpt {
        /// See [`SparseGptOptions::damping`].
        damping: f64,
        /// See [`SparseGptOptions::block`].
        block: usize,
    },
    /// All columns at once, then the best values (ALPS).
    Admm {
        /// See [`AdmmOptions::damping`].
        damping: f64,
    },
}

impl Pruner {
    /// RIA with the paper's power.
    pub const RIA: Self = Self::Ria { power: 0.5 };
    /// SparseGPT with the paper's numbers.
    pub const SPARSE_GPT: Self = Self::SparseGpt { damping: 0.01, block: 128 };
    /// ALPS with the usual damping.
    pub const ADMM: Self = Self::Admm { damping: 0.01 };

    /// The name used in flags and reports.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Magnitude => "magnitude",
            Self::Wanda => "wanda",
            Self::Ria { .. } => "ria",
            Self::SparseGpt { .. } => "sparsegpt",
            Self::Admm { .. } => "admm",
        }
    }

    /// Whether it needs the Gram matrix of the layer's inputs.
    pub const fn needs_gram(&self) -> bool {
        matches!(self, Self::SparseGpt { .. } | Self::Admm { .. })
    }

    /// Whether it needs the second moments of the layer's inputs: the Gram matrix's diagonal.
    pub const fn needs_moments(&self) -> bool {
        !matches!(self, Self::Magnitude)
    }
}

/// What is known of the layer's inputs.
#[derive(Clone, Copy, Default, Debug)]
pub struct Context<'a> {
    /// Second moment of each input, up to a common factor; the Gram matrix's diagonal serves where it is missing.
    pub second_moment: Option<&'a [f64]>,
    /// Their Gram matrix `[in, in]`, up to a factor.
    pub gram: Option<MatRef<'a, f64>>,
}

/// Prunes `weight` (`[out, in]`) to `pattern`: the kept values, zero elsewhere, and the mask. With `refit` the kept
/// values are the best of their mask under the Gram matrix ([`refit`](super::refit())), whatever chose it; [`Pruner::Admm`]
/// always does that.
///
/// # Errors
/// [`Error::MissingMoments`] naming what `pruner` (or the refit) needs and `context` lacks; and what the method itself
/// refuses.
pub fn prune(
    weight: MatRef<'_, f32>,
    pattern: &Pattern,
    pruner: &Pruner,
    refit_values: bool,
    context: &Context<'_>,
) -> Result<(Mat<f32>, Mask), Error> {
    let name = pruner.name();
    let missing = |pruner, needed| Error::MissingMoments { pruner, needed };
    let moments = || -> Result<Vec<f64>, Error> {
        match (context.second_moment, context.gram) {
            (Some(moments), _) => Ok(moments.to_vec()),
            (None, Some(gram)) => Ok(gram.diagonal().column_vector().iter().copied().collect()),
            (None, None) => Err(missing(name, "the second moments")),
        }
    };
    let gram = |pruner| context.gram.ok_or(missing(pruner, "the Gram matrix"));
    let (values, mask) = match *pruner {
        Pruner::Admm { damping } => {
            let options = AdmmOptions { damping, ..AdmmOptions::default() };
            let found = admm(weight, gram(name)?, pattern, &options)?;
            return Ok((found.weight, found.mask));
        }
        Pruner::SparseGpt { damping, block } => {
            let options = SparseGptOptions { damping, block };
            let found = sparse_gpt(weight, gram(name)?, pattern, &options)?;
            (found.weight, found.mask)
        }
        Pruner::Magnitude | Pruner::Wanda | Pruner::Ria { .. } => {
            let scores = match *pruner {
                Pruner::Wanda => criterion::wanda(weight, &moments()?)?,
                Pruner::Ria { power } => criterion::ria(weight, &moments()?, power)?,
                _ => criterion::magnitude(weight)?,
            };
            let mask = select(scores.as_ref(), pattern)?;
            (mask.apply(weight)?, mask)
        }
    };
    if !refit_values {
        return Ok((values, mask));
    }
    let found = refit(weight, &mask, gram("a refit")?, &RefitOptions::default())?;
    Ok((found.weight, found.mask))
}
