//! The run: check everything that headers tell, fit tensor by tensor, write, report.

use std::path::Path;
use std::time::Instant;

use rankbit::linalg::faer::MatRef;
use rankbit::lowrank::split::file::{self, Part};
use rankbit::lowrank::{Input, fit};
use rankbit::quant::{Group, Scheme, part_lengths, scheme};

use super::args::{Args, ReportKind, cores};
use super::merge::{Collected, Merge};
use super::page;
use crate::calibration::{Calibration, Needs};
use crate::command::{Global, check_outputs};
use crate::container::convert;
use crate::container::header::Tensor;
use crate::container::reader::Reader;
use crate::container::record::{self, GroupName, Record, part_name};
use crate::container::writer::{AtomicFile, Spill};
use crate::error::{Error, printable};
use crate::memory;
use crate::method::Plan;
use crate::progress::Progress;
use crate::report::{json, terminal};
use crate::select::{Chosen, Filter, Skipped};

/// Everything that is known before the first tensor is read.
pub(super) struct Job {
    pub(super) plan: Plan,
    pub(super) reader: Reader,
    pub(super) calibration: Option<Calibration>,
    pub(super) chosen: Vec<Chosen>,
    pub(super) skipped: Vec<Skipped>,
}

/// What a fit leaves behind.
pub(super) struct Fitted {
    pub(super) report: json::Tensor,
    pub(super) record: Record,
    pub(super) parts: Vec<Part>,
    pub(super) norm_squared: f64,
    pub(super) metric_norm_squared: Option<f64>,
}

/// Runs `compress`.
pub(crate) fn run(args: &Args, global: Global) -> Result<(), Error> {
    let start = Instant::now();
    let job = Job::new(args)?;
    let Some(target) = args.output.as_deref().filter(|_| !args.dry_run) else {
        return if global.quiet { Ok(()) } else { terminal::dry_run(&job.outlook()?, &job.skipped_report()) };
    };
    // Whatever cannot be written is found out now and not after the work.
    let file = AtomicFile::create(target)?;
    let spill = Spill::create(target)?;
    let reports = args.reports()?;
    let reports: Vec<(ReportKind, AtomicFile)> = reports
        .into_iter()
        .map(|(kind, path)| Ok((kind, AtomicFile::create(path)?)))
        .collect::<Result<_, Error>>()?;

    // Products of this crate's dependencies and the page's fits keep to the same number of threads, but start no
    // more than there are cores. It can be set once a process, which is what this is.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(args.threads().min(cores())).build_global();
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
        let plan = args.plan()?;
        let filter = Filter::new(&args.include, &args.exclude)?;
        let reports: Vec<&Path> = args.reports()?.into_iter().map(|(_, path)| path).collect();
        let reader = Reader::open(&args.input)?;
        let calibration = args.calib.as_deref().map(Calibration::open).transpose()?;
        let inputs: Vec<&Path> =
            [Some(args.input.as_path()), args.calib.as_deref()].into_iter().flatten().collect();
        let outputs: Vec<&Path> = args.output.as_deref().into_iter().chain(reports).collect();
        check_outputs(&inputs, &outputs)?;
        if reader.header().metadata.contains_key(record::KEY) {
            return Err(Error::input(&args.input, "is already compressed by rankbit: decompress it first"));
        }
        let (chosen, skipped) = filter.select(&reader.header().tensors);
        if chosen.is_empty() && !args.include.is_empty() {
            let patterns = args.include.join("', '");
            return Err(Error::usage(format!(
                "no matrix of {} matches --include '{patterns}'",
                args.input.display()
            )));
        }
        let job = Self { plan, reader, calibration, chosen, skipped };
        job.check()?;
        Ok(job)
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
    fn check(&self) -> Result<(), Error> {
        if let Some(scheme) = &self.plan.scheme
            && scheme.group == Group::Size(0)
        {
            return Err(Error::input(self.reader.path(), "group 0: a group has at least one entry"));
        }
        if let (Some(what), None) = (self.plan.needs_gram(), &self.calibration) {
            let reason = format!("{what} needs the Gram matrices of the layers' inputs: give --calib");
            return Err(Error::input(self.reader.path(), reason));
        }
        let smooth = self.plan.smooth.is_some();
        let needs = Needs { absmax: smooth, metric: smooth || self.plan.needs_gram().is_some() };
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
                && let Err(error) = part_lengths(chosen.shape, &scheme)
            {
                return fail(error.to_string());
            }
            for part in file::PART_NAMES {
                if self.reader.find(&part_name(name, part)).is_some() {
                    return fail(format!(
                        "its part '{}' would take the name of another tensor",
                        part_name(name, part)
                    ));
                }
            }
            if let Some(calibration) = &self.calibration
                && !calibration.check(name, chosen.shape, needs)?
            {
                tracing::info!("tensor '{name}': no calibration");
            }
        }
        Ok(())
    }

    /// Fits every chosen tensor; results are spilled and recorded in order.
    fn fit_all(&self, args: &Args, spill: Spill, quiet: bool) -> Result<Collected, Error> {
        let mut largest = (0, 0);
        let mut costs = Vec::with_capacity(self.chosen.len());
        for chosen in &self.chosen {
            let fit = memory::fit_bytes(self.tensor(chosen.index)?.elements());
            let calibration = match &self.calibration {
                Some(_) => memory::calibration_bytes(chosen.shape.1 as u64),
                None => 0,
            };
            let calibration = match self.plan.needs_gram() {
                Some(_) => {
                    let whole = self.plan.scheme.is_some_and(|scheme| scheme.code.is_vector());
                    let elements = if whole { self.tensor(chosen.index)?.elements() } else { 0 };
                    calibration
                        .saturating_add(memory::feedback_bytes(chosen.shape.1 as u64))
                        .saturating_add(memory::column_feedback_bytes(elements))
                }
                None => calibration,
            };
            largest = (fit.max(largest.0), calibration.max(largest.1));
            costs.push(fit.saturating_add(calibration));
        }
        let budget = memory::BASE.saturating_add(largest.0).saturating_add(largest.1);
        let mut work: u64 = 0;
        for chosen in &self.chosen {
            work = work.saturating_add(self.tensor(chosen.index)?.len);
        }
        let progress = Progress::new(work, quiet);
        let mut merge = Merge::new(self, args.rest, spill);
        memory::run_in_order(
            &costs,
            budget,
            args.threads(),
            |i| {
                let Some(chosen) = self.chosen.get(i) else { return self.fit_one(0, (0, 0)) };
                let tensor = self.tensor(chosen.index)?;
                progress.start(&tensor.name);
                let fitted = self.fit_one(chosen.index, chosen.shape);
                progress.add(tensor.len);
                fitted
            },
            |fitted| fitted.parts.iter().map(|part| part.bytes.len() as u64).sum(),
            |i, fitted| {
                let index = self.chosen.get(i).map_or(0, |chosen| chosen.index);
                merge.fitted(index, fitted)
            },
        )?;
        progress.finish();
        merge.finish()
    }

    /// Reads and fits one tensor.
    fn fit_one(&self, index: usize, (rows, cols): (usize, usize)) -> Result<Fitted, Error> {
        let start = Instant::now();
        let tensor = self.tensor(index)?;
        let name = tensor.name.as_str();
        let fail = |error: &dyn std::fmt::Display| self.reader.tensor_error(name, error);
        let Some(format) = convert::float_format(tensor.dtype) else {
            return Err(fail(&"is not of f32, f16 or bf16"));
        };
        let loaded = self.reader.load(tensor, format, cols)?;
        let weight = MatRef::from_row_major_slice(&loaded.values, rows, cols);
        let moments = match &self.calibration {
            Some(calibration) => calibration.load(name, (rows, cols))?,
            None => None,
        };
        let input = Input { name, moments: moments.as_ref() };
        let chosen = self.plan.scheme_for((rows, cols));
        let (scheme, fallback) = chosen.map_or((None, None), |(scheme, warning)| (Some(scheme), warning));
        let recipe = match scheme {
            Some(scheme) => self.plan.recipe_of(self.plan.method, scheme),
            None => self.plan.recipe.clone(),
        };
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
        drop(moments);
        let bits_per_weight = fitted.split.bits_per_weight();
        let (header, parts) = file::write(&fitted.split);
        let recipe = serde_json::to_value(&recipe).map_err(|error| fail(&error))?;
        let group = header.scheme.map(|scheme| GroupName::from(scheme.group));
        let rank = header.low_rank.map(|low_rank| low_rank.rank);
        let adjustments = info.adjustments.iter().map(ToString::to_string);
        let warnings: Vec<String> = fallback.into_iter().chain(adjustments).collect();
        let report = json::Tensor {
            name: name.to_owned(),
            shape: tensor.shape.clone(),
            method: self.plan.method.name(),
            recipe: recipe.clone(),
            format: format_name,
            group: group.clone(),
            rank,
            sparsity: None,
            bits_per_weight,
            relative_error: info.relative_error,
            metric_error: info.metric_error,
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
            method: self.plan.method.name().to_owned(),
            format: format_name.map(str::to_owned),
            group,
            rank,
            source_dtype: tensor.dtype,
            relative_error: Some(info.relative_error),
            metric_error: info.metric_error,
            source_sha256: loaded.sha256,
            seed: self.plan.seed,
            warnings,
        };
        Ok(Fitted { report, record, parts, norm_squared: loaded.norm_squared, metric_norm_squared })
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

    /// What the run would give, from shapes alone.
    fn outlook(&self) -> Result<Vec<terminal::Outlook>, Error> {
        let mut rows = Vec::new();
        for chosen in &self.chosen {
            let tensor = self.tensor(chosen.index)?;
            // A method without a scheme does not look at it.
            let (scheme, fallback) = self.plan.scheme_for(chosen.shape).unwrap_or((scheme::NF4, None));
            if let Some(warning) = fallback {
                tracing::warn!("tensor '{}': {warning}", tensor.name);
            }
            let bits = self.plan.bits_per_weight(self.plan.method, &scheme, chosen.shape);
            rows.push(terminal::Outlook {
                name: tensor.name.clone(),
                shape: tensor.shape.clone(),
                dtype: tensor.dtype.to_string(),
                bits_per_weight: bits.map_err(|error| self.reader.tensor_error(&tensor.name, error))?,
                weights: tensor.elements(),
            });
        }
        Ok(rows)
    }
}
