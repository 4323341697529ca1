//! The run: check everything that headers tell, fit tensor by tensor, write, report.

use std::path::Path;
use std::time::Instant;

use rankbit::linalg::faer::MatRef;
use rankbit::lowrank::plan::Loss;
use rankbit::lowrank::split::file::{self, Part};
use rankbit::lowrank::{Input, Recipe, Step, fit, preset};
use rankbit::quant::{Scheme, part_lengths, scheme};

use super::args::{Args, ReportKind, RestRule, cores};
use super::budget::{Allocation, PlanFile};
use super::merge::{Collected, Merge};
use super::page;
use super::selection::{as_q8_0, planned};
use crate::calibration::{Calibration, Needs};
use crate::command::{Global, check_outputs};
use crate::container::convert;
use crate::container::header::Tensor;
use crate::container::reader::{Loaded, Reader};
use crate::container::record::{self, GroupName, Record, part_name};
use crate::container::writer::{AtomicFile, Spill};
use crate::error::{Error, printable};
use crate::memory;
use crate::method::{Method, Plan, scheme_in};
use crate::progress::Progress;
use crate::report::{json, terminal};
use crate::select::{Chosen, Filter, Skipped};
use crate::sparsity;

/// Everything that is known before the first tensor is read.
pub(super) struct Job {
    pub(super) plan: Plan,
    pub(super) reader: Reader,
    pub(super) calibration: Option<Calibration>,
    pub(super) chosen: Vec<Chosen>,
    pub(super) skipped: Vec<Skipped>,
    /// Matrices that are left alone but stored as q8_0, and why they are left alone.
    pub(super) rest: Vec<(Chosen, String)>,
    /// A recipe for each chosen tensor, when they do not all have the method's.
    pub(super) allocation: Option<Allocation>,
}

/// What a fit leaves behind.
pub(super) struct Fitted {
    pub(super) report: json::Tensor,
    pub(super) record: Record,
    pub(super) parts: Vec<Part>,
    pub(super) norm_squared: f64,
    pub(super) metric_norm_squared: Option<f64>,
    pub(super) stored_bits: u64,
}

/// What became of one tensor.
pub(super) enum Done {
    /// It was fitted; of one that the method leaves alone, why.
    Fitted(Box<Fitted>, Option<String>),
    /// It is kept as it is: why it is left alone, and why it could not be stored in fewer bits.
    Kept(String, String),
}

/// Runs `compress`.
pub(crate) fn run(args: &Args, global: Global) -> Result<(), Error> {
    let start = Instant::now();
    let mut job = Job::new(args)?;
    // Whatever cannot be written is found out now and not after the work.
    let plan = match (args.budget(), args.config.as_deref()) {
        (Some(_), Some(path)) => Some((AtomicFile::create(path)?, path)),
        _ => None,
    };
    if let Some(budget) = args.budget().filter(|_| args.output.is_none() || args.dry_run) {
        job.limit_threads(args);
        job.allocation = Some(job.allocate(args, budget, global.quiet)?);
        if let Some((file, path)) = plan {
            job.write_plan(file, path)?;
        }
        return if global.quiet { Ok(()) } else { job.print_plan(args) };
    }
    if job.plan.method == Method::Welore && args.dry_run {
        job.limit_threads(args);
        job.find_ranks(args, global.quiet)?;
    }
    let Some(target) = args.output.as_deref().filter(|_| !args.dry_run) else {
        return if global.quiet { Ok(()) } else { job.print_plan(args) };
    };
    let file = AtomicFile::create(target)?;
    let spill = Spill::create(target)?;
    let reports = args.reports()?;
    let reports: Vec<(ReportKind, AtomicFile)> = reports
        .into_iter()
        .map(|(kind, path)| Ok((kind, AtomicFile::create(path)?)))
        .collect::<Result<_, Error>>()?;

    job.limit_threads(args);
    if job.plan.method == Method::Welore {
        job.find_ranks(args, global.quiet)?;
    }
    if let Some(budget) = args.budget() {
        job.allocation = Some(job.allocate(args, budget, global.quiet)?);
    }
    if let Some((file, path)) = plan {
        job.write_plan(file, path)?;
    }
    let mut collected = job.fit_all(args, spill, global.quiet)?;
    let records = serde_json::to_string(&collected.records).map_err(|error| Error::Machine {
        what: "writing the metadata".to_owned(),
        reason: error.to_string(),
    })?;
    let bytes_out = collected.output.write(&job.reader, records, file)?;
    let total = &mut collected.report.total;
    total.bytes_in = job.reader.len();
    total.bytes_out = bytes_out;
    total.seconds = start.elapsed().as_secs_f64();

    for (kind, mut file) in reports {
        let text = match kind {
            ReportKind::Json => crate::output::json(&collected.report)?,
            ReportKind::Html => page::render(&job, &collected.report, target)?,
        };
        file.write(text.as_bytes())?;
        file.commit()?;
    }
    for warning in &collected.warnings {
        tracing::warn!("{}", printable(warning));
    }
    if global.quiet { Ok(()) } else { terminal::compressed(&collected.report) }
}

impl Job {
    /// Opens the files and checks what their headers tell.
    fn new(args: &Args) -> Result<Self, Error> {
        let read = match (args.budget(), args.config.as_deref()) {
            (None, Some(path)) => Some((PlanFile::read(path)?, path)),
            _ => None,
        };
        let plan = match &read {
            Some((file, path)) => args.planned(file.method(path)?, file.seed())?,
            None => args.plan()?,
        };
        let filter = Filter::new(&args.include, &args.exclude)?;
        let reports: Vec<&Path> = args.reports()?.into_iter().map(|(_, path)| path).collect();
        let reader = Reader::open(&args.input)?;
        let calibration = args.calib.as_deref().map(Calibration::open).transpose()?;
        let config = args.config.as_deref();
        let inputs: Vec<&Path> =
            [Some(args.input.as_path()), args.calib.as_deref(), config.filter(|_| read.is_some())]
                .into_iter()
                .flatten()
                .collect();
        let written = config.filter(|_| read.is_none());
        let outputs: Vec<&Path> = args.output.as_deref().into_iter().chain(reports).chain(written).collect();
        check_outputs(&inputs, &outputs)?;
        if reader.header().metadata.contains_key(record::KEY) {
            return Err(Error::input(&args.input, "is already compressed by rankbit: decompress it first"));
        }
        let (mut chosen, mut skipped) = filter.select(&reader.header().tensors);
        if chosen.is_empty() && !args.include.is_empty() {
            let patterns = args.include.join("', '");
            return Err(Error::usage(format!(
                "no matrix of {} matches --include '{patterns}'",
                args.input.display()
            )));
        }
        let allocation = match read {
            Some((file, path)) => Some(planned(file, path, &reader, &mut chosen, &mut skipped)?),
            None => None,
        };
        let rest = match args.rest {
            RestRule::Q8_0 => as_q8_0(&reader, &mut skipped),
            RestRule::Keep | RestRule::F16 => Vec::new(),
        };
        let job = Self { plan, reader, calibration, chosen, skipped, rest, allocation };
        job.check(args.budget().is_some())?;
        if args.budget().is_some() {
            crate::candidates::schemes(&job.plan, &args.request(), args.formats())?;
        }
        Ok(job)
    }

    /// Products of this crate's dependencies and the page's fits keep to the same number of threads, but start no
    /// more than there are cores. It can be set once a process, which is what this is.
    fn limit_threads(&self, args: &Args) {
        let _ = rayon::ThreadPoolBuilder::new().num_threads(args.threads().min(cores())).build_global();
    }

    /// The recipes of the run that differ from the method's own.
    fn planned_recipes(&self) -> impl Iterator<Item = &Recipe> {
        self.allocation
            .iter()
            .flat_map(|allocation| allocation.tensors.values())
            .map(|planned| &planned.recipe)
    }

    /// The recipe of a chosen tensor, its format, and what to say when that is not the one asked for.
    pub(super) fn recipe(
        &self,
        index: usize,
        shape: (usize, usize),
    ) -> (Recipe, Option<Scheme>, Option<String>) {
        if let Some(planned) = self.allocation.as_ref().and_then(|found| found.tensors.get(&index)) {
            return (planned.recipe.clone(), scheme_in(&planned.recipe), None);
        }
        match self.plan.scheme_for(shape) {
            Some((scheme, warning)) => (self.plan.recipe_of(self.plan.method, scheme), Some(scheme), warning),
            None => (self.plan.unquantized(shape), None, None),
        }
    }

    /// A tensor of the input.
    pub(super) fn tensor(&self, index: usize) -> Result<&Tensor, Error> {
        // Indices come from the selection of these very tensors.
        self.reader.header().tensors.get(index).ok_or_else(|| Error::Machine {
            what: "internal error".to_owned(),
            reason: format!("there is no tensor {index}"),
        })
    }

    /// Ranks, groups, names and calibration, all from headers.
    fn check(&self, budget: bool) -> Result<(), Error> {
        if let Some(scheme) = &self.plan.scheme
            && matches!(scheme.group.over((1, 1)), Err(rankbit::quant::Error::GroupSize { .. }))
        {
            return Err(Error::input(self.reader.path(), "group 0: a group has at least one entry"));
        }
        if let (Some(what), None) = (self.plan.needs_gram(), &self.calibration) {
            let reason = format!("{what} needs the Gram matrices of the layers' inputs: give --calib");
            return Err(Error::input(self.reader.path(), reason));
        }
        let smooth = self.plan.smooth.is_some() || self.plan.search;
        let measured = self.calibration.is_some() && budget;
        let needs = Needs {
            absmax: smooth,
            // Smoothing alone asks for no metric, but methods that compare iterates do.
            metric: (measured || self.plan.needs_gram().is_some() || self.plan.measures())
                // Trellis codes of `best` take what there is.
                && !(self.plan.method == Method::Best
                    && self.plan.scheme.is_some_and(|scheme| scheme.code.is_vector())),
            mean_abs: self.plan.needs_magnitudes(),
            mean: self.plan.needs_means(),
            row_weight: self.plan.needs_row_weights(),
        };
        let mut without = Vec::new();
        for chosen in &self.chosen {
            let Tensor { name, .. } = self.tensor(chosen.index)?;
            let fail = |reason: String| Err(self.reader.tensor_error(name, reason));
            let max = chosen.shape.0.min(chosen.shape.1);
            match self.plan.rank {
                Some(0) => return fail("rank 0: a low-rank term has at least rank 1".to_owned()),
                Some(rank) if rank > max => {
                    return fail(format!("rank {rank} is above min(out, in) = {max}"));
                }
                _ => {}
            }
            if let Some((scheme, _)) = self.plan.scheme_for(chosen.shape)
                && let Err(error) = part_lengths(self.plan.quantized_shape(chosen.shape), &scheme)
            {
                return fail(error.to_string());
            }
            self.check_part_names(name)?;
            if let Some(calibration) = &self.calibration
                && !calibration.check(name, chosen.shape, needs)?
            {
                without.push(name);
            }
        }
        if let (Some(calibration), Some(first)) = (&self.calibration, without.first()) {
            if without.len() == self.chosen.len() {
                return Err(calibration.of_another(self.chosen.len()));
            }
            let (some, all) = (without.len(), self.chosen.len());
            tracing::warn!(
                "no calibration for {some} of {all} tensors, done without it; the first is '{first}'"
            );
        }
        self.rest.iter().try_for_each(|(chosen, _)| self.check_part_names(&self.tensor(chosen.index)?.name))
    }

    /// No part of a tensor may take the name of another tensor.
    fn check_part_names(&self, name: &str) -> Result<(), Error> {
        for part in file::PART_NAMES {
            let part = part_name(name, part);
            if self.reader.find(&part).is_some() {
                let reason = format!("its part '{part}' would take the name of another tensor");
                return Err(self.reader.tensor_error(name, reason));
            }
        }
        Ok(())
    }

    /// What fitting each tensor takes of memory, and what all of them may take together.
    pub(super) fn memory<'a>(
        &self,
        tensors: impl Iterator<Item = &'a Chosen>,
    ) -> Result<(Vec<u64>, u64), Error> {
        let feedback = self.plan.needs_gram().is_some() || self.planned_recipes().any(needs_hessian);
        let mut largest = (0, 0);
        let mut costs = Vec::new();
        for chosen in tensors {
            let fit = memory::fit_bytes(self.tensor(chosen.index)?.elements());
            let inputs = chosen.shape.1 as u64;
            let mut calibration =
                if self.calibration.is_some() { memory::calibration_bytes(inputs) } else { 0 };
            if feedback {
                calibration = calibration.saturating_add(memory::feedback_bytes(inputs));
                if self.plan.sparsity.is_some()
                    || self.plan.scheme.is_some_and(|scheme| scheme.code.is_vector())
                {
                    let elements = self.tensor(chosen.index)?.elements();
                    calibration = calibration.saturating_add(memory::column_feedback_bytes(elements));
                }
            }
            if self.plan.works_on_factors() {
                let elements = self.tensor(chosen.index)?.elements();
                calibration = calibration.saturating_add(memory::factor_bytes(elements, inputs));
            }
            largest = (fit.max(largest.0), calibration.max(largest.1));
            costs.push(fit.saturating_add(calibration));
        }
        Ok((costs, memory::BASE.saturating_add(largest.0).saturating_add(largest.1)))
    }

    /// Fits every chosen tensor; results are spilled and recorded in order.
    fn fit_all(&self, args: &Args, spill: Spill, quiet: bool) -> Result<Collected, Error> {
        let mut works: Vec<(&Chosen, Option<&str>)> =
            self.chosen.iter().map(|chosen| (chosen, None)).collect();
        works.extend(self.rest.iter().map(|(chosen, reason)| (chosen, Some(reason.as_str()))));
        works.sort_by_key(|(chosen, _)| chosen.index);
        let (costs, budget) = self.memory(works.iter().map(|&(chosen, _)| chosen))?;
        let mut work: u64 = 0;
        for (chosen, _) in &works {
            work = work.saturating_add(self.tensor(chosen.index)?.len);
        }
        let progress = Progress::new(work, quiet);
        let mut merge = Merge::new(self, args.rest, spill);
        memory::run_in_order(
            &costs,
            budget,
            args.threads(),
            |i| {
                let Some(&(chosen, rest)) = works.get(i) else { return self.fit_any(&self.unknown(), None) };
                let tensor = self.tensor(chosen.index)?;
                progress.start(&tensor.name);
                let done = self.fit_any(chosen, rest);
                progress.add(tensor.len);
                done
            },
            |done| match done {
                Done::Fitted(fitted, _) => fitted.parts.iter().map(|part| part.bytes.len() as u64).sum(),
                Done::Kept(..) => 0,
            },
            |i, done| {
                let index = works.get(i).map_or(0, |(chosen, _)| chosen.index);
                merge.done(index, done)
            },
        )?;
        progress.finish();
        merge.finish()
    }

    /// What no index of a job stands for.
    fn unknown(&self) -> Chosen {
        Chosen { index: usize::MAX, shape: (0, 0) }
    }

    /// Fits one tensor by its recipe, or stores one of the rest as q8_0 (where its values allow).
    fn fit_any(&self, chosen: &Chosen, rest: Option<&str>) -> Result<Done, Error> {
        let Some(reason) = rest else {
            let found = self.recipe(chosen.index, chosen.shape);
            return Ok(Done::Fitted(Box::new(self.fit_one(chosen, self.plan.method, found, false)?), None));
        };
        let recipe = (preset::rtn(scheme::Q8_0), Some(scheme::Q8_0), None);
        match self.fit_one(chosen, Method::Rtn, recipe, true) {
            Ok(fitted) => Ok(Done::Fitted(Box::new(fitted), Some(reason.to_owned()))),
            Err(Error::Input { reason: why, .. }) => Ok(Done::Kept(reason.to_owned(), why)),
            Err(error) => Err(error),
        }
    }

    /// Reads a tensor of floats as a matrix of `cols` columns.
    pub(super) fn load(&self, tensor: &Tensor, cols: usize) -> Result<Loaded, Error> {
        match convert::float_format(tensor.dtype) {
            Some(format) => self.reader.load(tensor, format, cols),
            None => Err(self.reader.tensor_error(&tensor.name, "is not of f32, f16 or bf16")),
        }
    }

    /// Reads and fits one tensor.
    fn fit_one(
        &self,
        &Chosen { index, shape: (rows, cols) }: &Chosen,
        method: Method,
        (recipe, scheme, fallback): (Recipe, Option<Scheme>, Option<String>),
        rest: bool,
    ) -> Result<Fitted, Error> {
        let start = Instant::now();
        let tensor = self.tensor(index)?;
        let name = tensor.name.as_str();
        let fail = |error: &dyn std::fmt::Display| self.reader.tensor_error(name, error);
        let loaded = self.load(tensor, cols)?;
        let weight = MatRef::from_row_major_slice(&loaded.values, rows, cols);
        let moments = match &self.calibration {
            Some(calibration) if !rest => calibration.load(name, (rows, cols))?,
            _ => None,
        };
        let moments_sha256 = match &self.calibration {
            Some(calibration) if moments.is_some() => calibration.sha256(name)?,
            _ => None,
        };
        let input = Input { name, moments: moments.as_ref() };
        let format_name = scheme.as_ref().and_then(Scheme::name);
        let fitted = fit(weight, &recipe, &input).map_err(|error| fail(&error))?;
        let info = &fitted.info;
        for iterate in &info.iterates {
            tracing::debug!(
                "{name}: round {} step {}: error {:.6}",
                iterate.round,
                iterate.step,
                iterate.error
            );
        }
        let metric_norm_squared = match (&moments, info.metric_error) {
            (Some(moments), Some(_)) => {
                let norm = moments.metric().and_then(|metric| metric.norm_squared(weight));
                Some(norm.map_err(|error| fail(&error))?)
            }
            _ => None,
        };
        let predicted_error =
            if rest { None } else { self.predicted(index, loaded.norm_squared, metric_norm_squared) };
        drop(moments);
        let bits_per_weight = fitted.split.bits_per_weight();
        let stored_bits = fitted.split.stored_bits();
        let (header, parts) = file::write(&fitted.split);
        let recipe =
            serde_json::to_value(info.decided.as_ref().unwrap_or(&recipe)).map_err(|error| fail(&error))?;
        let grouped = header.scheme.or_else(|| sparsity::scheme(&header));
        let group = grouped.map(|scheme| GroupName::from(scheme.group));
        let rank = header.low_rank.map(|low_rank| low_rank.rank);
        let adjustments = info.adjustments.iter().map(ToString::to_string);
        let mut warnings: Vec<String> = fallback.into_iter().chain(adjustments).collect();
        if header.bias && self.reader.find(&record::bias_name(name).unwrap_or_default()).is_none() {
            warnings
                .push("has no bias beside it: a dense checkpoint cannot carry what this one adds".to_owned());
        }
        let report = json::Tensor {
            name: name.to_owned(),
            shape: tensor.shape.clone(),
            method: method.name(),
            recipe: recipe.clone(),
            format: format_name,
            group: group.clone(),
            rank,
            activations: (!header.activation.is_float()).then(|| header.activation.to_string()),
            sparsity: sparsity::stored(&header),
            bits_per_weight,
            relative_error: info.relative_error,
            metric_error: info.metric_error,
            predicted_error,
            seconds: start.elapsed().as_secs_f64(),
            warnings: warnings.clone(),
        };
        tracing::info!(
            "{name}: {bits_per_weight:.3} bits, error {:.5}, {:.2} s",
            report.relative_error,
            report.seconds
        );
        let record = Record {
            shape: tensor.shape.clone(),
            split: header,
            recipe,
            method: method.name().to_owned(),
            format: format_name.map(str::to_owned),
            group,
            rank,
            source_dtype: tensor.dtype,
            relative_error: Some(info.relative_error),
            metric_error: info.metric_error,
            source_sha256: loaded.sha256,
            moments_sha256,
            seed: self.plan.seed,
            warnings,
            rest,
        };
        Ok(Fitted {
            report,
            record,
            parts,
            norm_squared: loaded.norm_squared,
            metric_norm_squared,
            stored_bits,
        })
    }

    /// The relative error that a plan promised of a tensor.
    fn predicted(&self, index: usize, norm: f64, metric_norm: Option<f64>) -> Option<f64> {
        let Allocation { tensors, loss, .. } = self.allocation.as_ref()?;
        let lost = tensors.get(&index)?.loss.max(0.0);
        match (*loss)? {
            Loss::SquaredError => Some(json::ratio(lost, norm)),
            Loss::Moments => Some(json::ratio(lost, metric_norm?)),
            Loss::RelativeSquaredError | Loss::RelativeMoments => Some(lost.sqrt()),
            _ => None,
        }
    }

    /// The tensors left alone, with names.
    pub(super) fn skipped_report(&self) -> Vec<json::Skipped> {
        let tensors = &self.reader.header().tensors;
        let named = |skipped: &Skipped| {
            let name = tensors.get(skipped.index)?.name.clone();
            Some(json::Skipped { name, reason: skipped.reason.clone() })
        };
        self.skipped.iter().filter_map(named).collect()
    }
}

/// Whether a recipe's rounder works with a Gram matrix.
fn needs_hessian(recipe: &Recipe) -> bool {
    recipe.round.iter().any(|step| matches!(step, Step::Quantize { rounder, .. } if rounder.needs_hessian()))
}
