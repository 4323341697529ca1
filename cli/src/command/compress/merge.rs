//! Puts what was fitted and what was left alone into one order, and adds up.

use std::collections::{BTreeMap, HashMap};

use rankbit::lowrank::plan::Loss;

use super::args::RestRule;
use super::output::Output;
use super::rest::{self, Verdict};
use super::run::{Done, Fitted, Job};
use crate::container::record::{self, Records, Rest};
use crate::container::writer::Spill;
use crate::error::Error;
use crate::report::json;

/// What is said of a tensor that is left alone and stored as q8_0.
pub(super) const AS_Q8_0: &str = "; stored as q8_0";

/// What the fits leave behind, in the input's order.
pub(super) struct Collected {
    pub(super) output: Output,
    pub(super) records: Records,
    pub(super) report: json::Report,
    /// Told once everything has gone well: the first line of a failed run is its error.
    pub(super) warnings: Vec<String>,
}

/// Puts fitted tensors and those left alone into one order, that of the input.
pub(super) struct Merge<'a> {
    job: &'a Job,
    rest: RestRule,
    skipped: HashMap<usize, &'a str>,
    next: usize,
    collected: Collected,
    errors: json::ErrorSum,
    metric_errors: json::ErrorSum,
    stored_bits: u64,
    weights: f64,
}

impl<'a> Merge<'a> {
    pub(super) fn new(job: &'a Job, rest: RestRule, spill: Spill) -> Self {
        let records = Records {
            format_version: record::FORMAT_VERSION,
            rankbit_version: record::RANKBIT_VERSION.to_owned(),
            seed: job.plan.seed,
            tensors: BTreeMap::new(),
            rest: BTreeMap::new(),
        };
        let report = json::Report {
            format_version: json::FORMAT_VERSION,
            rankbit_version: record::RANKBIT_VERSION,
            input: job.reader.path().display().to_string(),
            seed: job.plan.seed,
            tensors: Vec::new(),
            skipped: Vec::new(),
            budget: job.allocation.as_ref().and_then(|allocation| allocation.budget.clone()),
            total: json::Total::default(),
        };
        Self {
            job,
            rest,
            skipped: job.skipped.iter().map(|skipped| (skipped.index, skipped.reason.as_str())).collect(),
            next: 0,
            collected: Collected { output: Output::new(spill), records, report, warnings: Vec::new() },
            errors: json::ErrorSum::default(),
            metric_errors: json::ErrorSum::default(),
            stored_bits: 0,
            weights: 0.0,
        }
    }

    /// What became of tensor `index`.
    pub(super) fn done(&mut self, index: usize, done: Done) -> Result<(), Error> {
        self.advance(index)?;
        self.next = index + 1;
        match done {
            Done::Fitted(fitted, None) => self.fitted(*fitted),
            Done::Fitted(fitted, Some(reason)) => {
                let Fitted { report, record, parts, .. } = *fitted;
                self.collected.output.compressed(&report.name, parts)?;
                self.collected.records.tensors.insert(report.name.clone(), record);
                let reason = format!("{reason}{AS_Q8_0}");
                self.collected.report.skipped.push(json::Skipped { name: report.name, reason });
                Ok(())
            }
            Done::Kept(reason, why) => {
                let tensor = self.job.tensor(index)?;
                let Collected { output, report, warnings, .. } = &mut self.collected;
                output.keep(index, tensor);
                warnings.push(format!("{why}; kept as it is"));
                let reason = format!("{reason}; kept as it is: q8_0 cannot hold it");
                report.skipped.push(json::Skipped { name: tensor.name.clone(), reason });
                Ok(())
            }
        }
    }

    /// A tensor that was compressed.
    fn fitted(&mut self, fitted: Fitted) -> Result<(), Error> {
        let Fitted { report, record, parts, norm_squared, metric_norm_squared, stored_bits } = fitted;
        for warning in &report.warnings {
            self.collected.warnings.push(format!("tensor '{}': {warning}", report.name));
        }
        self.errors.add(report.relative_error, norm_squared);
        if let (Some(error), Some(norm)) = (report.metric_error, metric_norm_squared) {
            self.metric_errors.add(error, norm);
        }
        let weights = report.shape.iter().map(|&side| side as f64).product::<f64>();
        self.weights += weights;
        self.stored_bits = self.stored_bits.saturating_add(stored_bits);
        self.collected.output.compressed(&report.name, parts)?;
        self.collected.records.tensors.insert(report.name.clone(), record);
        self.collected.report.tensors.push(report);
        Ok(())
    }

    /// Takes the tensors left alone before `end`.
    fn advance(&mut self, end: usize) -> Result<(), Error> {
        for index in self.next..end {
            let Some(reason) = self.skipped.get(&index) else { continue };
            let tensor = self.job.tensor(index)?;
            let Collected { output, records, report, warnings } = &mut self.collected;
            let verdict = match self.rest {
                RestRule::F16 => rest::judge(&self.job.reader, tensor)?,
                RestRule::Keep | RestRule::Q8_0 => Verdict::NotConcerned,
            };
            let suffix = match verdict {
                Verdict::Converted => {
                    output.convert(index, tensor);
                    records.rest.insert(tensor.name.clone(), Rest { source_dtype: tensor.dtype });
                    "; stored as f16"
                }
                Verdict::OutOfRange => {
                    output.keep(index, tensor);
                    warnings
                        .push(format!("tensor '{}': its range does not fit f16, kept as it is", tensor.name));
                    "; kept as it is: its range does not fit f16"
                }
                Verdict::NotConcerned => {
                    output.keep(index, tensor);
                    ""
                }
            };
            let reason = format!("{reason}{suffix}");
            report.skipped.push(json::Skipped { name: tensor.name.clone(), reason });
        }
        self.next = end;
        Ok(())
    }

    /// The rest, and the totals.
    pub(super) fn finish(mut self) -> Result<Collected, Error> {
        self.advance(self.job.reader.header().tensors.len())?;
        let total = &mut self.collected.report.total;
        total.bits_per_weight = (self.weights > 0.0).then(|| self.stored_bits as f64 / self.weights);
        total.relative_error = self.errors.relative();
        total.mean_relative_error = self.errors.mean();
        total.metric_error = self.metric_errors.relative();
        total.mean_metric_error = self.metric_errors.mean();
        let achieved = self.achieved();
        if let Some(budget) = &mut self.collected.report.budget {
            budget.achieved = achieved;
        }
        Ok(self.collected)
    }

    /// What the plan predicts, measured.
    fn achieved(&self) -> Option<f64> {
        let json::Report { tensors, total, .. } = &self.collected.report;
        let mean_of_squares = |errors: &mut dyn Iterator<Item = f64>| {
            (!tensors.is_empty()).then(|| (errors.map(|e| e * e).sum::<f64>() / tensors.len() as f64).sqrt())
        };
        match self.job.allocation.as_ref()?.loss? {
            Loss::SquaredError => total.relative_error,
            Loss::Moments => total.metric_error,
            Loss::RelativeSquaredError => mean_of_squares(&mut tensors.iter().map(|t| t.relative_error)),
            // As in the plan, a tensor without calibration counts by its weights.
            Loss::RelativeMoments => {
                mean_of_squares(&mut tensors.iter().map(|t| t.metric_error.unwrap_or(t.relative_error)))
            }
            _ => None,
        }
    }
}
