//! A recipe for each tensor under one budget of stored bits.
//!
//! ```text
//! minimize Σₜ lossₜ(recipeₜ)   subject to   Σₜ bitsₜ(recipeₜ) ≤ budget
//! ```
//!
//! 1. [`candidate`] runs a recipe on a tensor and measures its [`Loss`] and every stored bit.
//! 2. [`Plan::new`] chooses one candidate for each tensor, exactly ([`knapsack`]).
//! 3. [`front`] is the trade-off that all budgets together give.
//!
//! Trellis codes have bits for each column: there [`share`] spends the budget on the columns of all tensors at once, by
//! prediction instead of measurement.
//!
//! LQ-LoRA's program (arXiv 2311.12023, section 3.2) is this with the candidates of
//! [`preset::lq_lora_candidates`](crate::preset::lq_lora_candidates), HAWQ-V2's (arXiv 1911.03852) with
//! [`Loss::Hessian`], LRP-QViT's (arXiv 2401.11243) with [`Loss::Relevance`]; HAWQ-V3's several limits are in [`hawq`].

#[cfg(feature = "std")]
pub mod hawq;
mod loss;
pub mod relevance;
mod shared;
pub mod welore;

use alloc::{string::String, vec::Vec};
use rankbit_linalg::faer::MatRef;
use rankbit_linalg::knapsack::{self, Choice, Total};

pub use loss::{Loss, Norms};
pub use shared::{Exchange, Shared, share, shares};

use crate::{Error, Input, Recipe, fit};

/// A recipe and what it gave on a tensor.
#[derive(Clone, PartialEq, Debug)]
pub struct Candidate {
    /// What ran.
    pub recipe: Recipe,
    /// What it loses.
    pub loss: f64,
    /// Every stored bit of the split, as [`Split::stored_bits`](crate::Split::stored_bits) counts them.
    pub stored_bits: u64,
}

/// A tensor and what it may become.
#[derive(Clone, PartialEq, Debug)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Number of weights.
    pub weights: u64,
    /// What it may become; at least one.
    pub candidates: Vec<Candidate>,
}

/// What one tensor becomes.
#[derive(Clone, PartialEq, Debug)]
#[cfg_attr(feature = "file", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Planned {
    /// Its name.
    pub name: String,
    /// Number of weights.
    pub weights: u64,
    /// Every stored bit, as measured.
    pub stored_bits: u64,
    /// What it loses, as measured.
    pub loss: f64,
    /// What runs on it.
    pub recipe: Recipe,
}

/// A recipe for each tensor.
#[derive(Clone, PartialEq, Debug)]
#[cfg_attr(feature = "file", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Plan {
    /// Stored bits that all tensors together may take.
    pub budget_bits: u64,
    /// Tensors in the order in which they were given.
    pub tensors: Vec<Planned>,
}

/// Fits `weight` by `recipe` and measures it. `norms` are those of the same weight and moments; they do not depend on
/// the recipe.
///
/// # Errors
/// As [`fit`] and [`Loss::of`].
pub fn candidate(
    weight: MatRef<'_, f32>,
    recipe: &Recipe,
    input: &Input<'_>,
    loss: Loss,
    norms: &Norms,
) -> Result<Candidate, Error> {
    let fitted = fit(weight, recipe, input)?;
    let loss = loss.of(&fitted.info, norms)?;
    Ok(Candidate { recipe: recipe.clone(), loss, stored_bits: fitted.split.stored_bits() })
}

impl Plan {
    /// The candidates of least total loss within `budget_bits`. Of equal losses the fewest bits; beyond that the same
    /// tensors give the same plan.
    ///
    /// # Errors
    /// As [`knapsack::minimize`]: no candidate, a loss that is not finite, a budget that cannot be met with the
    /// smallest that can, sums that leave their range.
    pub fn new(tensors: &[Tensor], budget_bits: u64) -> Result<Self, Error> {
        let found = knapsack::minimize(&choices(tensors), budget_bits)?;
        let chosen = tensors.iter().zip(&found.choices).filter_map(|(tensor, &choice)| {
            let Candidate { recipe, loss, stored_bits } = tensor.candidates.get(choice)?.clone();
            Some(Planned { name: tensor.name.clone(), weights: tensor.weights, stored_bits, loss, recipe })
        });
        Ok(Self { budget_bits, tensors: chosen.collect() })
    }

    /// The plan for a tensor.
    pub fn find(&self, name: &str) -> Option<&Planned> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// Sum of the stored bits.
    pub fn stored_bits(&self) -> u64 {
        self.tensors.iter().fold(0, |sum, tensor| sum.saturating_add(tensor.stored_bits))
    }

    /// Stored bits over all weights; 0 without weights.
    pub fn bits_per_weight(&self) -> f64 {
        let weights: f64 = self.tensors.iter().map(|tensor| tensor.weights as f64).sum();
        if weights == 0.0 { 0.0 } else { self.stored_bits() as f64 / weights }
    }

    /// Sum of the losses.
    pub fn loss(&self) -> f64 {
        self.tensors.iter().map(|tensor| tensor.loss).sum()
    }
}

/// The trade-off between stored bits and loss: the lower convex hull of all plans, from the smallest on. A plan of the
/// same bits is [`Plan::new`] with that budget.
///
/// # Errors
/// As [`knapsack::hull_front`].
pub fn front(tensors: &[Tensor]) -> Result<Vec<Total>, Error> {
    Ok(knapsack::hull_front(&choices(tensors))?)
}

/// 2⁶³: every whole number of bits up to it, and sums of two, are within `u64`.
const MAX_BITS: f64 = 9_223_372_036_854_775_808.0;

/// The largest whole number of bits that is at most `bits_per_weight` for each of `weights`.
///
/// # Errors
/// [`Error::Linalg`] (an option out of range) when `bits_per_weight` is negative or not finite, or the product
/// exceeds 2⁶³.
pub fn budget_bits(bits_per_weight: f64, weights: u64) -> Result<u64, Error> {
    let invalid = |requirement| {
        let found = bits_per_weight;
        Error::Linalg(rankbit_linalg::Error::InvalidOption { what: "bits per weight", requirement, found })
    };
    if !(bits_per_weight.is_finite() && bits_per_weight >= 0.0) {
        return Err(invalid("finite and not negative"));
    }
    let weights = weights as f64;
    let product = bits_per_weight * weights;
    if product > MAX_BITS {
        return Err(invalid("small enough that all bits can be counted"));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and 2⁶³ by the line above"
    )]
    let mut bits = product as u64;
    // The product may have been rounded up.
    while bits > 0 && bits as f64 / weights > bits_per_weight {
        bits -= 1;
    }
    Ok(bits)
}

fn choices(tensors: &[Tensor]) -> Vec<Vec<Choice>> {
    let choice = |candidate: &Candidate| Choice { cost: candidate.stored_bits, loss: candidate.loss };
    tensors.iter().map(|tensor| tensor.candidates.iter().map(choice).collect()).collect()
}
