//! `--budget` with trellis codes: one budget for the columns of all matrices.

use rankbit::linalg::faer::MatRef;
use rankbit::lowrank::plan::{self, Exchange, Loss, Norms, Plan, Shared};
use rankbit::lowrank::{Error as FitError, Input, Recipe, Step};

use super::args::Args;
use super::budget::{Allocation, name_of};
use super::run::Job;
use crate::error::Error;
use crate::method::Method;
use crate::report::json;

/// Budgets, in bits per weight, at which the report shows what would be lost.
const SHOWN: [f64; 12] = [1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0, 7.0, 8.0];

impl Job {
    /// Looks at every tensor and chooses the rates of all columns.
    pub(super) fn share(
        &self,
        args: &Args,
        recipe: &Recipe,
        budget: f64,
        quiet: bool,
    ) -> Result<Allocation, Error> {
        let loss = if feeds_back(recipe) { self.loss()? } else { Loss::RelativeSquaredError };
        let exchange = if self.exchanges(loss) { Exchange::All } else { Exchange::Inside };
        let (tensors, norms) = self.look_at_each(args, quiet, "columns of", |index, shape| {
            self.columns(index, shape, recipe, loss)
        })?;
        let weights = tensors.iter().fold(0_u64, |sum, shared| sum.saturating_add(shared.columns.weights));
        let fail = |error: FitError| self.budget_error(error, budget, weights);
        let at = |bits: f64| plan::share(&tensors, plan::budget_bits(bits, weights)?, exchange);
        let found = at(budget).map_err(fail)?;
        let point = |plan: &Plan| json::Point {
            bits_per_weight: plan.bits_per_weight(),
            error: json::ratio(plan.loss().max(0.0), norms),
        };
        // Budgets that scales alone exceed have no plan.
        let front = SHOWN.iter().filter_map(|&bits| at(bits).ok()).map(|plan| point(&plan)).collect();
        let report = json::Budget {
            asked: budget,
            minimized: name_of(loss),
            found: point(&found),
            front,
            uniform: Vec::new(),
            achieved: None,
            note: self.missing(loss),
        };
        let indices = self.chosen.iter().map(|chosen| chosen.index);
        Ok(Allocation {
            tensors: indices.zip(found.tensors).collect(),
            loss: Some(loss),
            budget: Some(report),
        })
    }

    /// Whether matrices exchange bits. `best` does not where all that is known are errors relative to each layer's own
    /// output: they say nothing of how much a layer matters, and those that are easy to approximate would be starved.
    fn exchanges(&self, loss: Loss) -> bool {
        self.plan.method != Method::Best || loss != Loss::RelativeMoments
    }

    /// One tensor's columns, and the squared norm that its loss is relative to.
    fn columns(
        &self,
        index: usize,
        (rows, cols): (usize, usize),
        recipe: &Recipe,
        loss: Loss,
    ) -> Result<(Shared, f64), Error> {
        let tensor = self.tensor(index)?;
        let name = tensor.name.as_str();
        let fail = |error: &dyn std::fmt::Display| self.reader.tensor_error(name, error);
        // Where calibration has nothing for a tensor, `best` does without: there too losses are relative.
        let calibration = match &self.calibration {
            Some(calibration) if feeds_back(recipe) && calibration.has_gram(name)? => Some(calibration),
            _ => None,
        };
        let (recipe, loss) = match calibration {
            None if feeds_back(recipe) => (self.plan.uncalibrated(recipe), Loss::RelativeSquaredError),
            _ => (recipe.clone(), loss),
        };
        let loaded = self.load(tensor, cols)?;
        let weight = MatRef::from_row_major_slice(&loaded.values, rows, cols);
        let moments = match calibration {
            Some(calibration) => calibration.load(name, (rows, cols))?,
            None => None,
        };
        let norms = Norms::new(weight, moments.as_ref()).map_err(|error| fail(&error))?;
        let input = Input { name, moments: moments.as_ref() };
        let shared = Shared::new(weight, &recipe, &input, loss, &norms).map_err(|error| fail(&error))?;
        let norm = if loss == Loss::Moments { norms.moments.unwrap_or(0.0) } else { 1.0 };
        Ok((shared, norm))
    }

    /// What would let `best` do better.
    fn missing(&self, loss: Loss) -> Option<String> {
        if self.plan.method != Method::Best {
            return None;
        }
        let how = "scripts/capture.py --gradients writes them";
        match loss {
            Loss::Moments => None,
            Loss::RelativeMoments => Some(format!(
                "every matrix got the same bits per weight: moments weighed by gradients would tell which matter more \
                 ({how})"
            )),
            _ => Some(format!(
                "without --calib errors are those of weights, each value for itself: moments weighed by gradients would \
                 tell what matters ({how})"
            )),
        }
    }
}

/// Whether a recipe's rounder feeds errors back.
fn feeds_back(recipe: &Recipe) -> bool {
    recipe.round.iter().any(|step| matches!(step, Step::Quantize { rounder, .. } if rounder.needs_hessian()))
}
