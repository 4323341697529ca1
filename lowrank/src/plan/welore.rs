//! WeLore: one threshold on normalized spectra decides every rank.
//!
//! ```text
//! s'_i = (σ_i - σ_min)/(σ_max - σ_min),   r = #{i : s'_i ≥ k},   k such that Σ r·(out + in) over low-rank components
//!                                                                plus Σ out·in over the others meets the target
//! ```
//! A matrix whose factors would be larger than itself is a [`Label::Dense`] component (the paper's N-LRC) and stays as it
//! is; the others are [`Label::LowRank`] (LRC), the ones worth fine-tuning. Matrices whose spectra fall steeply give most.
//!
//! Source: WeLore, arXiv 2407.11239, section 3, and its released code, from which the normalization and the bisection are.
//! Deviations: the target is a share of parameters, not of ranks; a rank is at least 1; a flat spectrum (σ_max = σ_min)
//! keeps its full rank.

use crate::Error;
use alloc::vec::Vec;

/// What a matrix is by its spectrum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Label {
    /// A low-rank component of this rank: fewer parameters as `L·R`.
    LowRank {
        /// The rank.
        rank: usize,
    },
    /// Not a low-rank component: kept dense.
    Dense,
}

impl Label {
    /// Parameters of a matrix `[out, in]` with this label.
    pub fn parameters(self, (out, inputs): (usize, usize)) -> f64 {
        match self {
            Self::LowRank { rank } => rank as f64 * (out as f64 + inputs as f64),
            Self::Dense => out as f64 * inputs as f64,
        }
    }
}

/// A matrix and its singular values, descending.
#[derive(Clone, PartialEq, Debug)]
pub struct Spectrum {
    /// `(out, in)`.
    pub shape: (usize, usize),
    /// All its singular values.
    pub singular_values: Vec<f64>,
}

impl Spectrum {
    /// `#{i : s'_i ≥ threshold}`, at least 1; all of a flat spectrum. Never rises with the threshold, and does not depend
    /// on the matrix's scale.
    pub fn rank(&self, threshold: f64) -> usize {
        let values = &self.singular_values;
        let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let smallest = values.iter().copied().fold(f64::INFINITY, f64::min);
        let range = largest - smallest;
        if range.is_nan() || range <= 0.0 {
            return values.len().max(1);
        }
        values.iter().filter(|&&value| (value - smallest) / range >= threshold).count().max(1)
    }

    /// The label under a threshold.
    pub fn label(&self, threshold: f64) -> Label {
        let rank = self.rank(threshold);
        let low = Label::LowRank { rank };
        if low.parameters(self.shape) < Label::Dense.parameters(self.shape) { low } else { Label::Dense }
    }
}

/// What [`labels`] finds.
#[derive(Clone, PartialEq, Debug)]
pub struct Labels {
    /// The threshold k.
    pub threshold: f64,
    /// The label of each matrix, in order.
    pub labels: Vec<Label>,
    /// Parameters that are left, over all.
    pub kept: f64,
}

/// The least threshold, by bisection to 2⁻⁴⁰, under which the matrices keep at most `keep` of their parameters. When rank
/// 1 for all keeps more, that is what is returned.
///
/// # Errors
/// [`Error::Linalg`] (an option out of range) for a `keep` that is not above 0 and at most 1;
/// [`Error::InvalidRecipe`] without a matrix, or for a spectrum with values that are no finite numbers.
pub fn labels(spectra: &[Spectrum], keep: f64) -> Result<Labels, Error> {
    if !(keep > 0.0 && keep <= 1.0) {
        let (what, requirement) = ("share of parameters to keep", "above 0 and at most 1");
        return Err(rankbit_linalg::Error::InvalidOption { what, requirement, found: keep }.into());
    }
    let finite = |spectrum: &Spectrum| spectrum.singular_values.iter().all(|value| value.is_finite());
    if spectra.is_empty() || !spectra.iter().all(finite) {
        return Err(Error::InvalidRecipe { reason: "thresholds need spectra of finite singular values" });
    }
    let all: f64 = spectra.iter().map(|spectrum| Label::Dense.parameters(spectrum.shape)).sum();
    let at = |threshold: f64| {
        let labels: Vec<Label> = spectra.iter().map(|spectrum| spectrum.label(threshold)).collect();
        let left: f64 = spectra.iter().zip(&labels).map(|(s, label)| label.parameters(s.shape)).sum();
        Labels { threshold, kept: if all > 0.0 { left / all } else { 1.0 }, labels }
    };
    let mut found = at(0.0);
    if found.kept <= keep {
        return Ok(found);
    }
    let (mut low, mut high) = (0.0, 1.0);
    found = at(high);
    for _ in 0..40 {
        let middle = 0.5 * (low + high);
        let tried = at(middle);
        if tried.kept <= keep {
            high = middle;
            found = tried;
        } else {
            low = middle;
        }
    }
    Ok(found)
}
