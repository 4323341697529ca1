//! `--report FILE.html`: the page of one run.
//!
//! The cost is bounded whatever the checkpoint's size: spectra and comparisons are of at most three tensors, and of
//! their first rows only where they are large.

use std::collections::BTreeMap;
use std::path::Path;

use rankbit::linalg::faer::MatRef;
use rankbit::linalg::{MomentParts, Moments, RandomizedOptions, randomized, singular_values};
use rankbit::lowrank::{Input, fit};
use rankbit::quant::Scheme;
use rayon::prelude::*;

use super::run::Job;
use crate::command::bytes;
use crate::container::checkpoint::Checkpoint;
use crate::container::convert;
use crate::error::Error;
use crate::method::Method;
use crate::report::html::{Bar, Block, Fact, Figure, Page, Table};
use crate::report::json::{Report, Tensor};
use crate::report::svg::{Chart, Series};
use crate::report::terminal::{optional, shape};

/// Tensors shown closely.
const SAMPLES: usize = 3;
/// Entries of a tensor whose spectrum is taken; of larger ones, the first rows.
const SPECTRUM_ENTRIES: usize = 8 << 20;
/// Smaller side up to which all singular values are computed; above, the leading ones.
const EXACT_SIDE: usize = 1024;
/// How many leading ones.
const LEADING: usize = 128;
/// Entries of a tensor on which methods are compared.
const COMPARE_ENTRIES: usize = 300_000;
/// Alternations of each compared method, at most.
const COMPARE_ROUNDS: u32 = 3;
/// The compared methods, with their colours.
const METHODS: [Method; 4] = [Method::Rtn, Method::Lorc, Method::Svdquant, Method::LqLora];
/// Size of a chart.
const SIZE: (u32, u32) = (480, 300);

/// The page as HTML. `target` is the compressed file, already in place.
pub(super) fn render(job: &Job, report: &Report, target: &Path) -> Result<String, Error> {
    let mut page = Page {
        title: format!("{}, compressed", report.input),
        lead: format!("rankbit compress with {}", description(job)),
        blocks: vec![facts(report), Block::Bars(sizes(job, report))],
    };
    let samples = samples(report);
    if !report.tensors.is_empty() {
        page.blocks.extend(errors(report)?);
        let stored = Checkpoint::open(target)?;
        page.blocks.extend(spectra(job, report, &samples, &stored)?);
        page.blocks.extend(methods(job, report, &samples)?);
        page.blocks.push(Block::Heading { title: "Every compressed tensor".to_owned(), text: String::new() });
        page.blocks.push(Block::Table(table(report)));
    }
    page.blocks.extend(details(report));
    Ok(page.render())
}

/// What was asked for, in a line.
fn description(job: &Job) -> String {
    let plan = &job.plan;
    let mut text = format!("method {}", plan.method.name());
    if let (Some(format), Some(scheme)) = (plan.format(), plan.scheme) {
        let group = json_group(&scheme);
        text.push_str(&format!(", format {format}, group {group}, {} scales", scheme.scale_format.name()));
    }
    if let Some(rank) = plan.rank {
        text.push_str(&format!(", rank {rank} in {}", plan.factors.name()));
    }
    if let Some(alpha) = plan.smooth {
        text.push_str(&format!(", smoothing {alpha}"));
    }
    format!("{text}, seed {}.", plan.seed)
}

fn json_group(scheme: &Scheme) -> String {
    crate::container::record::GroupName::from(scheme.group).to_string()
}

fn facts(report: &Report) -> Block {
    let total = &report.total;
    let fact = |label: &str, value: String, note: String| Fact { label: label.to_owned(), value, note };
    let mut facts = vec![
        fact(
            "File",
            format!("{:.2}× smaller", total.bytes_in as f64 / total.bytes_out.max(1) as f64),
            format!("{} → {}", bytes(total.bytes_in), bytes(total.bytes_out)),
        ),
        fact(
            "Bits per weight",
            optional(total.bits_per_weight, 3),
            "codes, scales, factors, padding".to_owned(),
        ),
        fact(
            "Relative error",
            optional(total.relative_error, 4),
            format!("mean over tensors {}", optional(total.mean_relative_error, 4)),
        ),
    ];
    if total.metric_error.is_some() {
        facts.push(fact(
            "Error on calibration",
            optional(total.metric_error, 4),
            format!("mean over tensors {}", optional(total.mean_metric_error, 4)),
        ));
    }
    facts.push(fact("Time", format!("{:.1} s", total.seconds), format!("{} tensors", report.tensors.len())));
    Block::Facts(facts)
}

/// Bytes before and after, compressed tensors apart from the others.
fn sizes(job: &Job, report: &Report) -> Vec<Bar> {
    let tensors = &job.reader.header().tensors;
    let before: u64 = job.chosen.iter().filter_map(|chosen| tensors.get(chosen.index)).map(|t| t.len).sum();
    let after: f64 = report.tensors.iter().map(|t| t.bits_per_weight * weights(t) / 8.0).sum();
    let rest = |file: u64, matrices: f64| (file as f64 - matrices).max(0.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "sizes of files, as text")]
    let text = |what: &str, length: f64| format!("{what} {}", bytes(length as u64));
    let bar = |label: &str, file: u64, matrices: f64| Bar {
        label: label.to_owned(),
        segments: vec![
            (matrices, 1, text("matrices", matrices)),
            (rest(file, matrices), 6, text("everything else", rest(file, matrices))),
        ],
    };
    vec![bar("before", report.total.bytes_in, before as f64), bar("after", report.total.bytes_out, after)]
}

fn weights(tensor: &Tensor) -> f64 {
    tensor.shape.iter().map(|&side| side as f64).product()
}

/// Error of each tensor, in file order.
fn errors(report: &Report) -> Result<Vec<Block>, Error> {
    let points = |error: &dyn Fn(&Tensor) -> Option<f64>| -> Vec<(f64, f64)> {
        let each = (1..).zip(&report.tensors);
        each.filter_map(|(i, tensor)| Some((f64::from(i), error(tensor)?))).collect()
    };
    let mut series =
        vec![Series { color: 1, points: points(&|t| Some(t.relative_error)), line: false, marks: true }];
    let mut legend = vec![(1, "relative error".to_owned())];
    if report.total.metric_error.is_some() {
        series.push(Series { color: 3, points: points(&|t| t.metric_error), line: false, marks: true });
        legend.push((3, "error on the calibration".to_owned()));
    }
    let chart = Chart {
        x_label: "tensor, in file order".to_owned(),
        y_label: "error".to_owned(),
        from_zero: true,
        series,
        size: (1040, 260),
        ..Chart::default()
    };
    let mut blocks = vec![Block::Heading {
        title: "Error of each tensor".to_owned(),
        text: "‖W − Ŵ‖ / ‖W‖ of what the file holds, decoded to f32. The table below names the tensors."
            .to_owned(),
    }];
    if legend.len() > 1 {
        blocks.push(Block::Legend(legend));
    }
    blocks.push(Block::Charts(vec![Figure {
        svg: chart.render()?,
        title: String::new(),
        note: String::new(),
    }]));
    Ok(blocks)
}

/// Indices of the tensors shown closely: largest error, median error, most weights.
fn samples(report: &Report) -> Vec<(usize, &'static str)> {
    let mut by_error: Vec<usize> = (0..report.tensors.len()).collect();
    let of = |i: usize, f: &dyn Fn(&Tensor) -> f64| report.tensors.get(i).map_or(0.0, f);
    by_error.sort_by(|&a, &b| of(b, &|t| t.relative_error).total_cmp(&of(a, &|t| t.relative_error)));
    let mut by_size = by_error.clone();
    by_size.sort_by(|&a, &b| of(b, &weights).total_cmp(&of(a, &weights)));
    let mut samples: Vec<(usize, &'static str)> = Vec::new();
    let wanted = [
        (by_error.first().copied(), "largest error"),
        (by_error.get(by_error.len() / 2).copied(), "median error"),
        (by_size.iter().copied().find(|i| Some(i) != by_error.first()), "most weights"),
    ];
    for (index, why) in wanted {
        if let Some(index) = index.filter(|index| samples.iter().all(|(other, _)| other != index)) {
            samples.push((index, why));
        }
    }
    samples.truncate(SAMPLES);
    samples
}

/// The first rows of a tensor, at most `entries` values.
struct Rows {
    values: Vec<f32>,
    rows: usize,
    cols: usize,
    all_rows: usize,
}

impl Rows {
    fn read(checkpoint: &Checkpoint, name: &str, entries: usize) -> Result<Option<Self>, Error> {
        let Some(entry) = checkpoint.find(name) else { return Ok(None) };
        let [all_rows, cols, ..] = *entry.shape.as_slice() else { return Ok(None) };
        let rows = all_rows.min((entries / cols.max(1)).max(1));
        let mut values = vec![0.0; rows * cols];
        let Some(stored) = checkpoint.values(entry)? else { return Ok(None) };
        stored.blocks().read(0, cols, &mut values)?;
        Ok(Some(Self { values, rows, cols, all_rows }))
    }

    fn view(&self) -> MatRef<'_, f32> {
        MatRef::from_row_major_slice(&self.values, self.rows, self.cols)
    }

    /// Which part this is, when it is not the whole.
    fn part(&self) -> String {
        if self.rows < self.all_rows {
            format!("first {} of {} rows, ", self.rows, self.all_rows)
        } else {
            String::new()
        }
    }
}

/// Singular values of weight and residual of the samples.
fn spectra(
    job: &Job,
    report: &Report,
    samples: &[(usize, &str)],
    stored: &Checkpoint,
) -> Result<Vec<Block>, Error> {
    let figures: Vec<Option<Figure>> = samples
        .par_iter()
        .map(|&(index, why)| {
            let Some(tensor) = report.tensors.get(index) else { return Ok(None) };
            let original = original(job, &tensor.name, SPECTRUM_ENTRIES)?;
            let kept = Rows::read(stored, &tensor.name, SPECTRUM_ENTRIES)?;
            let (Some(weight), Some(mut residual)) = (original, kept) else { return Ok(None) };
            for (kept, original) in residual.values.iter_mut().zip(&weight.values) {
                *kept = original - *kept;
            }
            let fail = |error: rankbit::linalg::Error| job.reader.tensor_error(&tensor.name, error);
            let above = spectrum(weight.view()).map_err(fail)?;
            let below = spectrum(residual.view()).map_err(fail)?;
            let top = above.first().copied().unwrap_or(1.0).max(f64::MIN_POSITIVE);
            let series = |color, values: &[f64]| Series {
                color,
                points: (1..).zip(values).map(|(i, value)| (f64::from(i), value / top)).collect(),
                line: true,
                marks: false,
            };
            let side = weight.rows.min(weight.cols);
            let chart = Chart {
                x_label: "index".to_owned(),
                y_label: "σ / largest σ of W".to_owned(),
                log: true,
                series: vec![series(1, &above), series(2, &below)],
                size: SIZE,
                ..Chart::default()
            };
            let leading = if above.len() < side {
                format!(", leading {} of {side}", above.len())
            } else {
                String::new()
            };
            Ok(Some(Figure {
                svg: chart.render()?,
                title: tensor.name.clone(),
                note: format!("{why}, {}{}{leading}", weight.part(), shape(&tensor.shape)),
            }))
        })
        .collect::<Result<_, Error>>()?;
    Ok(vec![
        Block::Heading {
            title: "Singular values of weight and residual".to_owned(),
            text: "A steep beginning is what a few ranks take away; a flat residual leaves nothing for more of them."
                .to_owned(),
        },
        Block::Legend(vec![(1, "weight W".to_owned()), (2, "residual W − Ŵ".to_owned())]),
        Block::Charts(figures.into_iter().flatten().collect()),
    ])
}

/// All singular values of a small matrix, the leading ones of a large one.
fn spectrum(matrix: MatRef<'_, f32>) -> Result<Vec<f64>, rankbit::linalg::Error> {
    let side = matrix.nrows().min(matrix.ncols());
    let values = if side <= EXACT_SIDE {
        singular_values(matrix)?
    } else {
        randomized(matrix, LEADING, &RandomizedOptions::default())?.singular_values
    };
    Ok(values.into_iter().map(f64::from).collect())
}

/// The first rows of an input tensor.
fn original(job: &Job, name: &str, entries: usize) -> Result<Option<Rows>, Error> {
    let Some(tensor) = job.reader.find(name) else { return Ok(None) };
    let (Some((all_rows, cols)), Some(format)) = (tensor.as_matrix(), convert::float_format(tensor.dtype))
    else {
        return Ok(None);
    };
    let rows = all_rows.min((entries / cols.max(1)).max(1));
    let mut values = vec![0.0; rows * cols];
    job.reader.values_at(tensor, format, 0, &mut values)?;
    Ok(Some(Rows { values, rows, cols, all_rows }))
}

/// The run's format among its neighbours of other widths.
fn formats(scheme: Option<Scheme>) -> Vec<(&'static str, Scheme)> {
    let name = scheme.as_ref().and_then(Scheme::name).unwrap_or("uint4");
    let family: &[&'static str] = match name {
        "nf4" => &["int2", "int3", "nf4", "int8"],
        _ if name.starts_with("int") => &["int2", "int3", "int4", "int8"],
        _ => &["uint2", "uint3", "uint4", "uint8"],
    };
    let like = |named: Scheme| match scheme {
        Some(scheme) => {
            let named = named.with_group(scheme.group);
            // A scale format that was asked for holds for all; the formats' own defaults otherwise.
            let asked =
                Scheme::named(name).is_some_and(|default| default.scale_format != scheme.scale_format);
            if asked { named.with_scale_format(scheme.scale_format) } else { named }
        }
        None => named,
    };
    family.iter().filter_map(|&name| Some((name, like(Scheme::named(name)?)))).collect()
}

/// Every method at several widths on the samples.
fn methods(job: &Job, report: &Report, samples: &[(usize, &str)]) -> Result<Vec<Block>, Error> {
    let formats = formats(job.plan.scheme);
    let mut figures = Vec::new();
    let mut on_calibration = false;
    for &(index, why) in samples {
        let Some(tensor) = report.tensors.get(index) else { continue };
        let Some(weight) = original(job, &tensor.name, COMPARE_ENTRIES)? else { continue };
        let moments = moments(job, &tensor.name, &weight)?;
        let mut plan = job.plan.clone();
        plan.rounds = plan.rounds.min(COMPARE_ROUNDS);
        plan.rank = plan.rank.map(|rank| rank.min(weight.rows.min(weight.cols)));
        plan.smooth = plan.smooth.filter(|_| moments.is_some());
        let cases: Vec<(Method, Scheme)> = METHODS
            .iter()
            .flat_map(|&method| formats.iter().map(move |&(_, scheme)| (method, scheme)))
            .collect();
        let points: Vec<(f64, f64, bool)> = cases
            .par_iter()
            .map(|&(method, scheme)| {
                let input = Input { name: &tensor.name, moments: moments.as_ref() };
                let fitted = fit(weight.view(), &plan.recipe_of(method, scheme), &input)
                    .map_err(|error| job.reader.tensor_error(&tensor.name, error))?;
                let error = fitted.info.metric_error.unwrap_or(fitted.info.relative_error);
                Ok((fitted.split.bits_per_weight(), error, fitted.info.metric_error.is_some()))
            })
            .collect::<Result<_, Error>>()?;
        on_calibration |= points.iter().any(|point| point.2);
        let series = (1..)
            .zip(points.chunks(formats.len().max(1)))
            .map(|(color, points)| Series {
                color,
                points: points.iter().map(|&(bits, error, _)| (bits, error)).collect(),
                line: true,
                marks: true,
            })
            .collect();
        let chart = Chart {
            x_label: "bits per weight".to_owned(),
            y_label: "error".to_owned(),
            log: true,
            series,
            size: SIZE,
            ..Chart::default()
        };
        figures.push(Figure {
            svg: chart.render()?,
            title: tensor.name.clone(),
            note: format!("{why}, {}{}", weight.part(), shape(&tensor.shape)),
        });
    }
    let names: Vec<&str> = formats.iter().map(|&(name, _)| name).collect();
    let rank = job.plan.rank.unwrap_or(crate::method::RANK);
    let measure = if on_calibration { "Error on the calibration" } else { "Relative error" };
    let text = format!(
        "{measure} of each method at {}, same groups, rank {rank} where it has one, at most {COMPARE_ROUNDS} \
         alternations. Fitted anew for this page on the tensors named; lower and further left is better.",
        names.join(", ")
    );
    let legend = (1..).zip(METHODS).map(|(color, method)| (color, method.name().to_owned())).collect();
    Ok(vec![
        Block::Heading { title: "Error against bits, method by method".to_owned(), text },
        Block::Legend(legend),
        Block::Charts(figures),
    ])
}

/// Calibration of a sample; weights of rows that were cut away are left out.
fn moments(job: &Job, name: &str, weight: &Rows) -> Result<Option<Moments>, Error> {
    let Some(calibration) = &job.calibration else { return Ok(None) };
    let Some(moments) = calibration.load(name, (weight.all_rows, weight.cols))? else { return Ok(None) };
    if moments.row_weight().is_none() {
        return Ok(Some(moments));
    }
    let parts = MomentParts { row_weight: None, ..moments.parts().clone() };
    Moments::from_parts(weight.cols, parts).map(Some).map_err(|error| job.reader.tensor_error(name, error))
}

fn table(report: &Report) -> Table {
    let metric = report.total.metric_error.is_some();
    let mut headings = vec!["tensor", "shape", "bits/weight"];
    headings.extend(metric.then_some("error on calibration"));
    headings.push("relative error");
    let row =
        |name: String, shape: String, bits: Option<f64>, under_metric: Option<f64>, error: Option<f64>| {
            let mut row = vec![name, shape, optional(bits, 3)];
            row.extend(metric.then(|| optional(under_metric, 4)));
            row.push(optional(error, 4));
            row
        };
    let rows = report.tensors.iter().map(|tensor| {
        let Tensor { name, shape: sides, bits_per_weight, metric_error, relative_error, .. } = tensor;
        row(name.clone(), shape(sides), Some(*bits_per_weight), *metric_error, Some(*relative_error))
    });
    let total = &report.total;
    Table {
        headings: headings.into_iter().map(str::to_owned).collect(),
        left: 1,
        rows: rows.collect(),
        bars: report.tensors.iter().map(|tensor| tensor.relative_error).collect(),
        total: row(
            "all".to_owned(),
            report.tensors.len().to_string(),
            total.bits_per_weight,
            total.metric_error,
            total.relative_error,
        ),
    }
}

/// Warnings, what was left alone, the recipe.
fn details(report: &Report) -> Vec<Block> {
    let mut blocks = Vec::new();
    let warnings: Vec<String> = report
        .tensors
        .iter()
        .flat_map(|tensor| tensor.warnings.iter().map(move |warning| format!("{}: {warning}", tensor.name)))
        .collect();
    if !warnings.is_empty() {
        blocks.push(Block::Details { summary: format!("{} adjustments", warnings.len()), lines: warnings });
    }
    if !report.skipped.is_empty() {
        let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for skipped in &report.skipped {
            reasons.entry(&skipped.reason).or_default().push(&skipped.name);
        }
        let lines = reasons.into_iter().flat_map(|(reason, names)| {
            let names = names.into_iter().map(|name| format!("  {name}"));
            std::iter::once(format!("{reason}:")).chain(names)
        });
        let summary = format!("{} tensors left alone, and why", report.skipped.len());
        blocks.push(Block::Details { summary, lines: lines.collect() });
    }
    if let Some(tensor) = report.tensors.first() {
        let recipe = serde_json::to_string_pretty(&tensor.recipe).unwrap_or_default();
        let lines = recipe.lines().map(str::to_owned).collect();
        blocks.push(Block::Details { summary: "Recipe".to_owned(), lines });
    }
    blocks
}
