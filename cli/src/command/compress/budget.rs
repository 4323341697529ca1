//! `--budget` and `--config`: which recipe each tensor gets, and the file that keeps such a plan.

use std::collections::HashMap;
use std::io::Read as _;
use std::path::Path;

use rankbit::linalg::faer::MatRef;
use rankbit::lowrank::plan::{self, Candidate, Loss, Norms, Planned, Tensor};
use rankbit::lowrank::{Error as FitError, Input, Recipe, Step};
use rankbit::quant::{Code, Rate, Rounder, Scheme, Trellis};
use serde::{Deserialize, Serialize};

use super::args::Args;
use super::run::Job;
use crate::candidates;
use crate::container::record;
use crate::container::writer::AtomicFile;
use crate::error::Error;
use crate::memory;
use crate::method::{Method, scheme_in};
use crate::progress::Progress;
use crate::report::json;

/// Version of the plan file's form.
const FORMAT_VERSION: u32 = 1;
/// Bytes of a plan file at most.
const MAX_BYTES: u64 = 64 << 20;

/// What each tensor gets, by its index in the file, and how that came about.
pub(super) struct Allocation {
    pub(super) tensors: HashMap<usize, Planned>,
    /// What the losses are; `None` for a plan that was read and does not say.
    pub(super) loss: Option<Loss>,
    /// `None` when the plan was read.
    pub(super) budget: Option<json::Budget>,
}

/// A plan as a file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PlanFile {
    format_version: u32,
    rankbit_version: String,
    /// Bits per weight asked for.
    budget: f64,
    /// Bits per weight that the plan takes.
    bits_per_weight: f64,
    /// What the losses are.
    loss: String,
    method: String,
    seed: u64,
    tensors: Vec<Planned>,
}

impl PlanFile {
    /// Reads a plan.
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(|error| Error::read(path, &error))?;
        match file.take(MAX_BYTES + 1).read_to_string(&mut text) {
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                return Err(Error::input(path, "is no plan: not UTF-8"));
            }
            Err(error) => return Err(Error::read(path, &error)),
            Ok(len) if len as u64 > MAX_BYTES => return Err(Error::input(path, "is too long for a plan")),
            Ok(_) => {}
        }
        let plan: Self = toml::from_str(&text).map_err(|error| {
            let line =
                error.span().map_or(0, |span| 1 + text.get(..span.start).unwrap_or("").matches('\n').count());
            Error::input(path, format!("is no plan: line {line}: {}", error.message()))
        })?;
        if plan.format_version > FORMAT_VERSION {
            let reason = format!("plan version {} is newer than {FORMAT_VERSION}", plan.format_version);
            return Err(Error::input(path, reason));
        }
        Ok(plan)
    }

    /// The method that its recipes are of.
    pub(super) fn method(&self, path: &Path) -> Result<Method, Error> {
        candidates::method_named(&self.method)
            .ok_or_else(|| Error::input(path, format!("there is no method '{}'", self.method)))
    }

    /// The seed of its recipes.
    pub(super) const fn seed(&self) -> u64 {
        self.seed
    }

    /// What its losses are, where this program knows it.
    pub(super) fn loss(&self) -> Option<Loss> {
        let known = [Loss::SquaredError, Loss::RelativeSquaredError, Loss::Moments, Loss::RelativeMoments];
        known.into_iter().find(|loss| name_of(*loss) == self.loss)
    }

    /// What each tensor becomes.
    pub(super) fn tensors(self) -> Vec<Planned> {
        self.tensors
    }
}

impl Job {
    /// Measures every candidate on every tensor and chooses.
    pub(super) fn allocate(&self, args: &Args, budget: f64, quiet: bool) -> Result<Allocation, Error> {
        let schemes = candidates::schemes(&self.plan, &args.request(), args.formats())?;
        let recipe = schemes.first().map(|scheme| self.plan.recipe_of(self.plan.method, *scheme));
        if let Some(recipe) = recipe.filter(|recipe| schemes.len() == 1 && plan::shares(recipe)) {
            return self.share(args, &recipe, budget, quiet);
        }
        // Inside a matrix, a trellis spends the budget column by column.
        let budgeted = |scheme: &Scheme| match scheme.code {
            Code::Trellis(Trellis { rate: Rate::Budget(_), .. }) => scheme.with_budget(budget),
            _ => *scheme,
        };
        let schemes: Vec<Scheme> = schemes.iter().map(budgeted).collect();
        let loss = self.loss()?;
        let (tensors, norms) = self.look_at_each(args, quiet, "candidates for", |index, shape| {
            self.measure(index, shape, &schemes, loss)
        })?;
        self.choose(&tensors, &schemes, budget, (loss, norms))
    }

    /// `look` at every chosen tensor, in parallel; what it found, in order, and the sum of the squared norms.
    pub(super) fn look_at_each<T: Send>(
        &self,
        args: &Args,
        quiet: bool,
        what: &str,
        look: impl Fn(usize, (usize, usize)) -> Result<(T, f64), Error> + Sync,
    ) -> Result<(Vec<T>, f64), Error> {
        let (costs, most) = self.memory(self.chosen.iter())?;
        let bytes: u64 =
            self.chosen.iter().filter_map(|chosen| self.tensor(chosen.index).ok()).map(|t| t.len).sum();
        let progress = Progress::new(bytes, quiet);
        let mut tensors: Vec<T> = Vec::new();
        let mut norms = 0.0;
        memory::run_in_order(
            &costs,
            most,
            args.threads(),
            |i| {
                let Some(chosen) = self.chosen.get(i) else { return look(usize::MAX, (0, 0)) };
                let tensor = self.tensor(chosen.index)?;
                progress.start(&format!("{what} {}", tensor.name));
                let found = look(chosen.index, chosen.shape);
                progress.add(tensor.len);
                found
            },
            |_| 0,
            |_, (tensor, norm)| {
                norms += norm;
                tensors.push(tensor);
                Ok(())
            },
        )?;
        progress.finish();
        Ok((tensors, norms))
    }

    /// What is minimized: with calibration the error of outputs, else that of weights.
    pub(super) fn loss(&self) -> Result<Loss, Error> {
        let Some(calibration) = &self.calibration else { return Ok(Loss::SquaredError) };
        for chosen in &self.chosen {
            let name = self.tensor(chosen.index)?.name.as_str();
            if !(calibration.weighs_rows(name) && calibration.has_gram(name)?) {
                return Ok(Loss::RelativeMoments);
            }
        }
        Ok(Loss::Moments)
    }

    /// Every candidate on one tensor, and the squared norm that its loss is relative to.
    fn measure(
        &self,
        index: usize,
        (rows, cols): (usize, usize),
        schemes: &[Scheme],
        loss: Loss,
    ) -> Result<(Tensor, f64), Error> {
        let tensor = self.tensor(index)?;
        let name = tensor.name.as_str();
        let fail = |error: &dyn std::fmt::Display| self.reader.tensor_error(name, error);
        let loaded = self.load(tensor, cols)?;
        let weight = MatRef::from_row_major_slice(&loaded.values, rows, cols);
        let moments = match &self.calibration {
            Some(calibration) => calibration.load(name, (rows, cols))?,
            None => None,
        };
        let norms = Norms::new(weight, moments.as_ref()).map_err(|error| fail(&error))?;
        let input = Input { name, moments: moments.as_ref() };
        let mut candidates = Vec::with_capacity(schemes.len());
        for recipe in self.recipes((rows, cols), schemes) {
            let candidate = plan::candidate(weight, &self.quick(&recipe), &input, loss, &norms);
            candidates.push(Candidate { recipe, ..candidate.map_err(|error| fail(&error))? });
        }
        let norm = match loss {
            Loss::SquaredError => norms.plain,
            Loss::Moments => norms.moments.unwrap_or(0.0),
            _ => 1.0,
        };
        Ok((Tensor { name: name.to_owned(), weights: tensor.elements(), candidates }, norm))
    }

    /// What stands for a recipe of `best` while formats are compared: GPTQ, whose order of formats is that of coordinate
    /// descent at a seventh of its time.
    fn quick(&self, recipe: &Recipe) -> Recipe {
        let mut quick = recipe.clone();
        for step in &mut quick.round {
            if let Step::Quantize { rounder: rounder @ Rounder::CoordinateDescent { .. }, .. } = step
                && self.plan.method == Method::Best
            {
                *rounder = Rounder::gptq(true);
            }
        }
        quick
    }

    /// The candidates of a shape: formats whose blocks do not fit it are none, and where none fits, what the method
    /// falls back to is the only one.
    fn recipes(&self, shape: (usize, usize), schemes: &[Scheme]) -> Vec<Recipe> {
        let recipe = |scheme: &Scheme| self.plan.recipe_of(self.plan.method, *scheme);
        let fitting: Vec<Recipe> =
            schemes.iter().filter(|scheme| scheme.grouping(shape).is_ok()).map(recipe).collect();
        if fitting.is_empty() {
            let fallback = schemes.first().and_then(|scheme| self.plan.fallback_of(*scheme, shape));
            return fallback.iter().map(|(scheme, _)| recipe(scheme)).collect();
        }
        fitting
    }

    fn choose(
        &self,
        tensors: &[Tensor],
        schemes: &[Scheme],
        budget: f64,
        (loss, norms): (Loss, f64),
    ) -> Result<Allocation, Error> {
        let weights = tensors.iter().fold(0_u64, |sum, tensor| sum.saturating_add(tensor.weights));
        let fail = |error: FitError| self.budget_error(error, budget, weights);
        let bits = plan::budget_bits(budget, weights).map_err(fail)?;
        let found = plan::Plan::new(tensors, bits).map_err(fail)?;
        let point = |bits: f64, loss: f64| json::Point {
            bits_per_weight: bits / (weights as f64).max(1.0),
            error: json::ratio(loss.max(0.0), norms),
        };
        let front = plan::front(tensors).map_err(fail)?;
        let uniform = schemes.iter().filter_map(|scheme| {
            let (mut bits, mut loss) = (0.0, 0.0);
            for tensor in tensors {
                let candidates = &tensor.candidates;
                let candidate = candidates.iter().find(|c| scheme_in(&c.recipe) == Some(*scheme))?;
                bits += candidate.stored_bits as f64;
                loss += candidate.loss;
            }
            Some(json::Uniform { format: scheme.name()?, point: point(bits, loss) })
        });
        let report = json::Budget {
            asked: budget,
            minimized: name_of(loss),
            found: point(found.stored_bits() as f64, found.loss()),
            front: front.iter().map(|total| point(total.cost as f64, total.loss)).collect(),
            uniform: uniform.collect(),
            achieved: None,
            note: None,
        };
        let indices = self.chosen.iter().map(|chosen| chosen.index);
        Ok(Allocation {
            tensors: indices.zip(found.tensors).collect(),
            loss: Some(loss),
            budget: Some(report),
        })
    }

    /// Why a budget cannot be planned for.
    pub(super) fn budget_error(&self, error: FitError, budget: f64, weights: u64) -> Error {
        match error {
            FitError::Linalg(rankbit::linalg::Error::BudgetTooSmall { smallest, .. }) => {
                let smallest = ceil_thousandth(smallest as f64 / weights.max(1) as f64);
                let reason = format!(
                    "--budget {budget} cannot be met: the smallest that can is {smallest:.3} bits per weight"
                );
                Error::input(self.reader.path(), reason)
            }
            other => Error::input(self.reader.path(), format!("--budget: {other}")),
        }
    }

    /// Writes the plan.
    pub(super) fn write_plan(&self, mut file: AtomicFile, path: &Path) -> Result<(), Error> {
        let Some(Allocation { tensors, budget: Some(budget), .. }) = &self.allocation else { return Ok(()) };
        let chosen = self.chosen.iter().filter_map(|chosen| tensors.get(&chosen.index).cloned());
        let plan = PlanFile {
            format_version: FORMAT_VERSION,
            rankbit_version: record::RANKBIT_VERSION.to_owned(),
            budget: budget.asked,
            bits_per_weight: budget.found.bits_per_weight,
            loss: budget.minimized.to_owned(),
            method: self.plan.method.name().to_owned(),
            seed: self.plan.seed,
            tensors: chosen.collect(),
        };
        let text = toml::to_string(&plan).map_err(|error| {
            Error::usage(format!("{}: the plan has no TOML form: {error}", path.display()))
        })?;
        file.write(text.as_bytes())?;
        file.commit().map(|_| ())
    }
}

/// What the losses of a plan are, in files and reports.
pub(super) fn name_of(loss: Loss) -> &'static str {
    match loss {
        Loss::Moments => "squared error of outputs",
        Loss::RelativeMoments => "squared relative error of outputs, tensor by tensor",
        Loss::RelativeSquaredError => "squared relative error of weights, tensor by tensor",
        _ => "squared error of weights",
    }
}

/// Rounded up, so that the number named can be met.
fn ceil_thousandth(bits: f64) -> f64 {
    (bits * 1000.0).ceil() / 1000.0
}
