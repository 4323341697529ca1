//! `--report FILE.html`: the page of one run.

mod closely;

use std::collections::BTreeMap;
use std::path::Path;

use rankbit::lowrank::ActivationRule;
use rankbit::quant::Scheme;

use super::run::Job;
use crate::command::bytes;
use crate::container::checkpoint::Checkpoint;
use crate::error::Error;
use crate::report::html::{Bar, Block, Fact, Figure, Page, Table};
use crate::report::json::{Budget, Point, Report, Tensor};
use crate::report::limit;
use crate::report::svg::{Chart, Series};
use crate::report::terminal::{optional, shape};

/// The page as HTML. `target` is the compressed file, already in place.
pub(super) fn render(job: &Job, report: &Report, target: &Path) -> Result<String, Error> {
    let mut page = Page {
        title: format!("{}, compressed", report.input),
        lead: format!("rankbit compress with {}", description(job)),
        blocks: vec![facts(job, report), Block::Bars(sizes(job, report))],
    };
    if let Some(budget) = &report.budget {
        page.blocks.extend(front(budget)?);
    }
    if !report.tensors.is_empty() {
        page.blocks.extend(errors(report)?);
        page.blocks.extend(against_limit(report)?);
        let stored = Checkpoint::open(target)?;
        let samples = closely::samples(report);
        page.blocks.extend(closely::spectra(job, report, &samples, &stored)?);
        page.blocks.extend(closely::methods(job, report, &samples)?);
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
    if let Some(allocation) = &job.allocation {
        let budget =
            allocation.budget.as_ref().map_or_else(|| "a plan".to_owned(), |b| format!("{} bits", b.asked));
        text.push_str(&format!(", a format for each tensor under {budget}"));
    } else if let (Some(format), Some(scheme)) = (plan.format(), plan.scheme) {
        let group = json_group(&scheme);
        text.push_str(&format!(", format {format}, group {group}, {} scales", scheme.scale_format.name()));
    }
    if let Some(pattern) = &plan.sparsity {
        text.push_str(&format!(", sparsity {}", crate::sparsity::name(pattern)));
    }
    if let Some(rank) = plan.rank {
        text.push_str(&format!(", rank {rank} in {}", plan.factors.name()));
    }
    if let Some(keep) = plan.keep {
        text.push_str(&format!(", {:.0} % of the parameters in {}", 100.0 * keep, plan.factors.name()));
    }
    if plan.search {
        text.push_str(", smoothing searched");
    }
    if let Some(alpha) = plan.smooth {
        text.push_str(&format!(", smoothing {alpha}"));
    }
    if let ActivationRule::Given(policy) = plan.recipe.activation
        && !policy.is_float()
    {
        text.push_str(&format!(", inputs {policy}"));
    }
    if plan.rotate {
        text.push_str(", rotated");
    }
    format!("{text}, seed {}.", plan.seed)
}

fn json_group(scheme: &Scheme) -> String {
    crate::container::record::GroupName::from(scheme.group).to_string()
}

fn facts(job: &Job, report: &Report) -> Block {
    let total = &report.total;
    let (before, after) = matrices(job, report);
    let fact = |label: &str, value: String, note: String| Fact { label: label.to_owned(), value, note };
    let mut facts = vec![
        fact(
            "File",
            format!("{:.2}× smaller", total.bytes_in as f64 / total.bytes_out.max(1) as f64),
            format!("{} → {}", bytes(total.bytes_in), bytes(total.bytes_out)),
        ),
        fact(
            "Matrices",
            format!("{:.2}× smaller", before / after.max(1.0)),
            format!("{} → {}", file_size(before), file_size(after)),
        ),
        fact(
            "Bits per weight",
            optional(total.bits_per_weight, 3),
            "all stored parts, padding included".to_owned(),
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

/// Bytes of the compressed matrices before and after.
fn matrices(job: &Job, report: &Report) -> (f64, f64) {
    let tensors = &job.reader.header().tensors;
    let before: u64 = job.chosen.iter().filter_map(|chosen| tensors.get(chosen.index)).map(|t| t.len).sum();
    let after = report.tensors.iter().map(|t| t.bits_per_weight * weights(t) / 8.0).sum();
    (before as f64, after)
}

/// Bytes for people.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sizes of files, whole and positive"
)]
fn file_size(count: f64) -> String {
    bytes(count as u64)
}

/// Bytes before and after, matrices apart from everything else.
fn sizes(job: &Job, report: &Report) -> Vec<Bar> {
    let bar = |label: &str, file: u64, matrices: f64| {
        let rest = (file as f64 - matrices).max(0.0);
        Bar {
            label: label.to_owned(),
            segments: vec![
                (matrices, 1, format!("matrices {}", file_size(matrices))),
                (rest, 6, format!("everything else {}", file_size(rest))),
            ],
        }
    };
    let (before, after) = matrices(job, report);
    vec![bar("before", report.total.bytes_in, before), bar("after", report.total.bytes_out, after)]
}

fn weights(tensor: &Tensor) -> f64 {
    tensor.shape.iter().map(|&side| side as f64).product()
}

/// Error against bits: plans of every budget, and one format for all tensors.
fn front(budget: &Budget) -> Result<Vec<Block>, Error> {
    let xy = |point: &Point| (point.bits_per_weight, point.error);
    let series = |color, points, line| Series { color, points, line, marks: !line, ..Series::default() };
    let chart = Chart {
        x_label: "bits per weight".to_owned(),
        y_label: "error".to_owned(),
        log: true,
        series: vec![
            series(1, budget.front.iter().map(xy).collect(), true),
            series(3, budget.uniform.iter().map(|uniform| xy(&uniform.point)).collect(), false),
            series(2, vec![xy(&budget.found)], false),
        ],
        size: (1040, 320),
        ..Chart::default()
    };
    let legend = [(1, "plans of every budget"), (2, "this plan"), (3, "one format for all tensors")];
    let rows = budget
        .uniform
        .iter()
        .map(|uniform| (uniform.format, uniform.point))
        .chain([("this plan", budget.found)]);
    let row = |(what, point): (&str, Point)| {
        vec![what.to_owned(), format!("{:.3}", point.bits_per_weight), format!("{:.4}", point.error)]
    };
    Ok(vec![
        Block::Heading {
            title: "Error against bits".to_owned(),
            text: format!(
                "Minimized: {}. The line is the lower convex hull of all plans; the error is the root of the sum, \
                 relative to that of the weights or outputs themselves.",
                budget.minimized
            ),
        },
        Block::Legend(legend.map(|(color, text)| (color, text.to_owned())).to_vec()),
        Block::Charts(vec![Figure { svg: chart.render()?, title: String::new(), note: String::new() }]),
        Block::Table(Table {
            headings: ["format", "bits/weight", "error"].map(str::to_owned).to_vec(),
            left: 1,
            rows: rows.map(row).collect(),
            ..Table::default()
        }),
    ])
}

/// Error of each tensor, in file order.
fn errors(report: &Report) -> Result<Vec<Block>, Error> {
    let points = |error: &dyn Fn(&Tensor) -> Option<f64>| -> Vec<(f64, f64)> {
        let each = (1..).zip(&report.tensors);
        each.filter_map(|(i, tensor)| Some((f64::from(i), error(tensor)?))).collect()
    };
    let mut series = vec![Series {
        color: 1,
        points: points(&|t| Some(t.relative_error)),
        line: false,
        marks: true,
        ..Series::default()
    }];
    let mut legend = vec![(1, "relative error".to_owned())];
    if report.total.metric_error.is_some() {
        series.push(Series {
            color: 3,
            points: points(&|t| t.metric_error),
            line: false,
            marks: true,
            ..Series::default()
        });
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

/// Error of each tensor against its bits, with the Gaussian limit.
fn against_limit(report: &Report) -> Result<Vec<Block>, Error> {
    let points: Vec<(f64, f64)> =
        report.tensors.iter().map(|tensor| (tensor.bits_per_weight, tensor.relative_error)).collect();
    let limit = limit::series(points.iter().copied());
    let tensors = Series { color: 1, points, marks: true, ..Series::default() };
    let chart = Chart {
        x_label: "bits per weight".to_owned(),
        y_label: "relative error".to_owned(),
        log: true,
        series: vec![tensors, limit],
        size: (760, 320),
        ..Chart::default()
    };
    Ok(vec![
        Block::Heading {
            title: "Each tensor against the Gaussian limit".to_owned(),
            text: "No method stores independent Gaussian weights with less error than 2⁻ᵇ at b bits. Points below the \
                   line have structure that was used: few ranks, or rows of very different size."
                .to_owned(),
        },
        Block::Legend(vec![(1, "a tensor".to_owned()), (limit::COLOR, limit::LEGEND.to_owned())]),
        Block::Charts(vec![Figure { svg: chart.render()?, title: String::new(), note: String::new() }]),
    ])
}

fn table(report: &Report) -> Table {
    let metric = report.total.metric_error.is_some();
    let mut headings = vec!["tensor", "shape", "format", "bits/weight"];
    headings.extend(metric.then_some("error on calibration"));
    headings.extend(["relative error", limit::HEADING]);
    let row = |[name, shape, format]: [String; 3],
               bits: Option<f64>,
               under_metric: Option<f64>,
               error: Option<f64>| {
        let mut row = vec![name, shape, format, optional(bits, 3)];
        row.extend(metric.then(|| optional(under_metric, 4)));
        row.push(optional(error, 4));
        row.push(bits.zip(error).map_or_else(String::new, |(bits, error)| limit::ratio(bits, error)));
        row
    };
    let rows = report.tensors.iter().map(|tensor| {
        let Tensor { name, shape: sides, format, bits_per_weight, metric_error, relative_error, .. } = tensor;
        let texts = [name.clone(), shape(sides), format.unwrap_or("–").to_owned()];
        row(texts, Some(*bits_per_weight), *metric_error, Some(*relative_error))
    });
    let total = &report.total;
    Table {
        headings: headings.into_iter().map(str::to_owned).collect(),
        left: 1,
        rows: rows.collect(),
        bars: report.tensors.iter().map(|tensor| tensor.relative_error).collect(),
        total: row(
            ["all".to_owned(), report.tensors.len().to_string(), String::new()],
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
