//! Bits for every column of every matrix under one budget.
//!
//! ```text
//! minimize Σₜ uₜ·Σⱼ Gₜⱼ·d(kₜⱼ)   subject to   Σₜ (overheadₜ + rowsₜ·Σⱼ kₜⱼ) ≤ budget
//! ```
//! Without calibration gains are no losses: see [`rates`].
//!
//! `d(k)` is what a k-bit trellis code leaves of a normal variance, `G` what a column's variance counts
//! ([`trellis_columns`]), `u` the unit that makes the sums a [`Loss`]. One price of a bit, a Lagrange multiplier, holds
//! for all columns of all matrices ([`rates::allocate`]); budgets of any fraction are met to one step.
//!
//! 1. [`Shared::new`] looks at one matrix: O(out·in), O(in³) with a Gram matrix; nothing is coded.
//! 2. [`share`] chooses all rates: O(N log N) for N columns. Each matrix then gets a recipe of its own, whose scheme
//!    carries its share of the budget. Running that recipe gives these rates again, so a plan needs no list of them.
//!
//! The loss is predicted, not measured: normal values, errors of columns independent of each other, no sweeps after the
//! first, and nothing passed on by columns without bits. The measured error of one matrix may be half again as large.

use alloc::{string::String, vec, vec::Vec};
use rankbit_linalg::faer::MatRef;
use rankbit_quant::trellis::rates::{self, Columns};
use rankbit_quant::{Code, Context, Rate, Rounder, Scheme, Trellis, trellis_columns};

use super::{Loss, Norms, Plan, Planned};
use crate::{Error, Input, Recipe, Step, TransformRule, basis};

/// Damping where the rounder has none of its own.
const DAMPING: f64 = 0.01;

/// A matrix whose columns share a budget with those of all others.
#[derive(Clone, PartialEq, Debug)]
pub struct Shared {
    /// Its name.
    pub name: String,
    /// What runs on it, under any budget.
    pub recipe: Recipe,
    /// Its columns, gains in units of the loss.
    pub columns: Columns,
}

/// Between whose columns bits are exchanged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Exchange {
    /// Those of all matrices. Right where losses have one unit across matrices.
    All,
    /// Those of one matrix: each gets the same bits for a weight. Right where nothing tells which matrix matters more.
    Inside,
}

impl Shared {
    /// Looks at `weight` (`[out, in]`). `norms` are those of the same weight and moments.
    ///
    /// # Errors
    /// [`Error::InvalidRecipe`] for a recipe that is anything but one trellis code of the whole matrix in its own basis;
    /// [`Error::MissingCalibration`] for a loss under moments that the rounder does not work with, or the reverse;
    /// as [`trellis_columns`] and [`Loss::of`].
    pub fn new(
        weight: MatRef<'_, f32>,
        recipe: &Recipe,
        input: &Input<'_>,
        loss: Loss,
        norms: &Norms,
    ) -> Result<Self, Error> {
        let (scheme, rounder) = whole(recipe)?;
        let damping = match rounder {
            Rounder::Gptq { damping, .. }
            | Rounder::Ldlq { damping, .. }
            | Rounder::CoordinateDescent { damping, .. } => damping,
            _ => DAMPING,
        };
        let hessian = basis::hessian(recipe, input, None)?;
        let row_weights = input.moments.and_then(|moments| moments.row_weight());
        let context = match rounder.needs_hessian() {
            true => Context { hessian: hessian.as_ref().map(|gram| gram.as_ref()), row_weights },
            false => Context::default(),
        };
        let rows = weight.nrows() as f64;
        let mut columns = trellis_columns(weight, &scheme, damping, &context)?;
        // Both are means over rows under weights of mean 1.
        let total = context.row_weights.map_or(rows, |weights| weights.iter().sum());
        let unit = total * loss.unit(norms, context.hessian.is_some())?;
        columns.losses.iter_mut().for_each(|loss| *loss *= unit);
        match context.hessian {
            Some(_) => columns.gains.clone_from(&columns.losses),
            None => relative_to_their_mean(&mut columns.gains, rows),
        }
        Ok(Self { name: input.name.into(), recipe: recipe.clone(), columns })
    }

    /// Bits and predicted loss under given rates.
    fn planned(&self, rates: &[u8]) -> Planned {
        let Columns { rows, weights, overhead, .. } = self.columns;
        let codes = rates.iter().map(|&rate| u64::from(rate)).sum::<u64>().saturating_mul(rows as u64);
        let loss = self.columns.loss(rates);
        let mut recipe = self.recipe.clone();
        for step in &mut recipe.round {
            if let Step::Quantize { scheme: Scheme { code: Code::Trellis(trellis), .. }, .. } = step {
                trellis.rate = self.columns.budget(rates);
            }
        }
        let stored_bits = overhead.saturating_add(codes);
        Planned { name: self.name.clone(), weights, stored_bits, loss, recipe }
    }
}

/// Gains without calibration: a weight of the mean column counts alike in all matrices.
fn relative_to_their_mean(gains: &mut [f64], rows: f64) {
    let mean = gains.iter().sum::<f64>() / gains.len().max(1) as f64;
    if mean > 0.0 {
        gains.iter_mut().for_each(|gain| *gain *= rows / mean);
    }
}

/// The scheme and rounder of a recipe that codes the whole matrix once, by a trellis under a budget.
fn whole(recipe: &Recipe) -> Result<(Scheme, Rounder), Error> {
    match recipe.round.as_slice() {
        [Step::Quantize { scheme, rounder }]
            if recipe.transform == TransformRule::Identity
                && matches!(scheme.code, Code::Trellis(Trellis { rate: Rate::Budget(_), .. })) =>
        {
            Ok((*scheme, *rounder))
        }
        _ => {
            let reason = "columns share a budget when one trellis code of a budget takes the whole matrix";
            Err(Error::InvalidRecipe { reason })
        }
    }
}

/// Whether columns can share a budget under this recipe: it is one trellis code of the whole matrix in its own basis.
pub fn shares(recipe: &Recipe) -> bool {
    whole(recipe).is_ok()
}

/// The rates of all columns under `budget_bits` in all, as a plan: each matrix's recipe with its share of the budget.
///
/// The plan takes at most `budget_bits`, and the step of largest gain that it does not take would exceed them (with
/// [`Exchange::Inside`]: those of each matrix its part of them).
///
/// # Errors
/// [`Error::Linalg`] (a budget too small, with the smallest) where scales and outliers alone exceed it.
pub fn share(tensors: &[Shared], budget_bits: u64, exchange: Exchange) -> Result<Plan, Error> {
    let budgets = budgets(tensors, budget_bits, exchange);
    let smallest = tensors.iter().fold(0_u64, |sum, tensor| sum.saturating_add(tensor.columns.overhead));
    let short = match exchange {
        Exchange::All => smallest > budget_bits,
        Exchange::Inside => {
            tensors.iter().zip(&budgets).any(|(tensor, &budget)| tensor.columns.overhead > budget)
        }
    };
    if short {
        let smallest = match exchange {
            Exchange::All => smallest,
            Exchange::Inside => least_inside(tensors),
        };
        let error = rankbit_linalg::Error::BudgetTooSmall { budget: budget_bits, smallest };
        return Err(error.into());
    }
    let columns: Vec<Columns> = tensors.iter().map(|tensor| tensor.columns.clone()).collect();
    let rates = match exchange {
        Exchange::All => rates::allocate(&columns, budget_bits)?,
        Exchange::Inside => {
            let mut rates = Vec::with_capacity(columns.len());
            for (columns, &budget) in columns.iter().zip(&budgets) {
                rates.extend(rates::allocate(core::slice::from_ref(columns), budget)?);
            }
            rates
        }
    };
    let planned = tensors.iter().zip(&rates).map(|(tensor, rates)| tensor.planned(rates));
    Ok(Plan { budget_bits, tensors: planned.collect() })
}

/// Each matrix's part of the budget: in proportion to its weights, rounded down.
fn budgets(tensors: &[Shared], budget_bits: u64, exchange: Exchange) -> Vec<u64> {
    let weights: u128 = tensors.iter().map(|tensor| u128::from(tensor.columns.weights)).sum();
    match exchange {
        Exchange::All => vec![budget_bits; tensors.len()],
        Exchange::Inside => tensors
            .iter()
            .map(|tensor| {
                let part = u128::from(budget_bits) * u128::from(tensor.columns.weights) / weights.max(1);
                u64::try_from(part).unwrap_or(u64::MAX)
            })
            .collect(),
    }
}

/// The least budget of which each matrix's part holds its scales and outliers.
fn least_inside(tensors: &[Shared]) -> u64 {
    let weights: u128 = tensors.iter().map(|tensor| u128::from(tensor.columns.weights)).sum();
    let needs = tensors.iter().map(|tensor| {
        let Columns { weights: own, overhead, .. } = tensor.columns;
        (u128::from(overhead) * weights).div_ceil(u128::from(own).max(1))
    });
    u64::try_from(needs.max().unwrap_or(0)).unwrap_or(u64::MAX)
}
