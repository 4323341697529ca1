//! Tables on the terminal.

use std::collections::BTreeMap;
use std::path::Path;

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};

use super::{json, limit};
use crate::command::bytes;
use crate::error::{Error, printable};
use crate::output::print;

/// What a dry run tells of one tensor.
pub(crate) struct Outlook {
    /// Its name.
    pub(crate) name: String,
    /// Its shape.
    pub(crate) shape: Vec<usize>,
    /// Its element type.
    pub(crate) dtype: String,
    /// Its format, when it is quantized.
    pub(crate) format: Option<&'static str>,
    /// Bits per weight, should every format's range suffice.
    pub(crate) bits_per_weight: f64,
    /// Number of weights.
    pub(crate) weights: u64,
}

/// An empty table with these headings; all columns but the first `left` are aligned right.
pub(crate) fn table(headings: &[&str], left: usize) -> Table {
    let mut table = Table::new();
    let line = LineStyle::new('─', '─', '─', '─');
    table.load_style(TableStyle::new().header_separator(line).bottom_border(line));
    table.set_content_arrangement(ContentArrangement::Disabled).set_header(headings.to_vec());
    for column in table.column_iter_mut().skip(left) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// A shape as people write it.
pub(crate) fn shape(sides: &[usize]) -> String {
    sides.iter().map(ToString::to_string).collect::<Vec<_>>().join("×")
}

/// A number, or a dash for none.
pub(crate) fn optional(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
}

/// After `compress`.
pub(crate) fn compressed(report: &json::Report) -> Result<(), Error> {
    let metric = report.total.metric_error.is_some();
    // One format for all is what was asked for; else it is news.
    let mixed = report.tensors.windows(2).any(|pair| pair[0].format != pair[1].format);
    let mut headings = vec!["tensor", "shape", "bits/weight", "error", limit::HEADING];
    if mixed {
        headings.insert(2, "format");
    }
    if metric {
        headings.push("metric error");
    }
    let mut rows = table(&headings, 1);
    for tensor in &report.tensors {
        let mut row = vec![
            printable(&tensor.name).into_owned(),
            shape(&tensor.shape),
            format!("{:.3}", tensor.bits_per_weight),
            format!("{:.4}", tensor.relative_error),
            limit::ratio(tensor.bits_per_weight, tensor.relative_error),
        ];
        if metric {
            row.push(optional(tensor.metric_error, 4));
        }
        if mixed {
            row.insert(2, tensor.format.unwrap_or("–").to_owned());
        }
        rows.add_row(row);
    }
    let total = &report.total;
    let mut row = vec![
        "all".to_owned(),
        format!("{}", report.tensors.len()),
        optional(total.bits_per_weight, 3),
        optional(total.relative_error, 4),
        total
            .bits_per_weight
            .zip(total.relative_error)
            .map_or_else(String::new, |(bits, error)| limit::ratio(bits, error)),
    ];
    let mut mean = vec![
        "mean".to_owned(),
        String::new(),
        String::new(),
        optional(total.mean_relative_error, 4),
        String::new(),
    ];
    if metric {
        row.push(optional(total.metric_error, 4));
        mean.push(optional(total.mean_metric_error, 4));
    }
    if mixed {
        row.insert(2, String::new());
        mean.insert(2, String::new());
    }
    rows.add_row(row).add_row(mean);
    let mut text = String::new();
    if report.tensors.is_empty() {
        text.push_str("no tensor was compressed\n");
    } else {
        text.push_str(&format!("{}\n{}\n", rows.trim_fmt(), limit::NOTE));
    }
    text.push_str(&left_alone(&report.skipped));
    if let Some(budget) = &report.budget {
        text.push_str(&trade_off(budget));
        if let Some(achieved) = budget.achieved {
            let predicted = budget.found.error;
            text.push_str(&format!(
                "{}: {predicted:.4} predicted, {achieved:.4} achieved\n",
                budget.minimized
            ));
        }
    }
    text.push_str(&format!(
        "{} → {} ({:.2}× smaller) in {:.1} s\n",
        bytes(total.bytes_in),
        bytes(total.bytes_out),
        total.bytes_in as f64 / total.bytes_out.max(1) as f64,
        total.seconds
    ));
    print(&text)
}

/// Instead of `compress`.
pub(crate) fn dry_run(
    rows: &[Outlook],
    skipped: &[json::Skipped],
    budget: Option<&json::Budget>,
    written: Option<&Path>,
) -> Result<(), Error> {
    let mut out = table(&["tensor", "shape", "type", "format", "bits/weight"], 1);
    let (mut bits, mut weights) = (0.0, 0.0);
    for row in rows {
        bits += row.bits_per_weight * row.weights as f64;
        weights += row.weights as f64;
        let cells = [
            printable(&row.name).into_owned(),
            shape(&row.shape),
            row.dtype.clone(),
            row.format.unwrap_or("–").to_owned(),
            format!("{:.3}", row.bits_per_weight),
        ];
        out.add_row(cells);
    }
    if weights > 0.0 {
        out.add_row(["all", "", "", "", &format!("{:.3}", bits / weights)]);
    }
    let trade_off = budget.map(trade_off).unwrap_or_default();
    let end = match written {
        None => "nothing was written (--dry-run)".to_owned(),
        Some(path) => {
            format!("nothing was written but {} (--dry-run)", printable(&path.display().to_string()))
        }
    };
    print(&format!("{}\n{}{trade_off}{end}\n", out.trim_fmt(), left_alone(skipped)))
}

/// Rows of the table of a budget's front, at most.
const FRONT_ROWS: usize = 12;

/// What other budgets would give: the front at even steps of bits, and what one format for all comes to.
fn trade_off(budget: &json::Budget) -> String {
    let mut out = table(&["bits/weight", "error", ""], 0);
    let mut rows: Vec<(json::Point, &str)> = thinned(&budget.front).map(|&point| (point, "")).collect();
    rows.push((budget.found, "this plan"));
    rows.extend(budget.uniform.iter().map(|uniform| (uniform.point, uniform.format)));
    rows.sort_by(|(a, _), (b, _)| a.bits_per_weight.total_cmp(&b.bits_per_weight));
    for (point, what) in rows {
        out.add_row([
            format!("{:.3}", point.bits_per_weight),
            format!("{:.4}", point.error),
            what.to_owned(),
        ]);
    }
    let what = if budget.uniform.is_empty() {
        "what other budgets would give"
    } else {
        "plans on the lower convex hull, and one format for all"
    };
    let note = budget.note.as_ref().map(|note| format!("{note}\n")).unwrap_or_default();
    format!("{what} ({}):\n{}\n{note}", budget.minimized, out.trim_fmt())
}

/// The ends of a front and points at about even distances of bits between them.
fn thinned(front: &[json::Point]) -> impl Iterator<Item = &json::Point> {
    let ends = (front.first(), front.last());
    let (low, high) = (ends.0.map_or(0.0, |p| p.bits_per_weight), ends.1.map_or(0.0, |p| p.bits_per_weight));
    let step = (high - low) / (FRONT_ROWS - 1) as f64;
    let mut next = low;
    front.iter().filter(move |point| {
        let last = ends.1 == Some(point);
        let shown = last || (point.bits_per_weight >= next && point.bits_per_weight + step / 2.0 < high);
        if shown {
            next = point.bits_per_weight + step;
        }
        shown
    })
}

/// How many tensors were left alone, by reason.
fn left_alone(skipped: &[json::Skipped]) -> String {
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for skipped in skipped {
        *reasons.entry(&skipped.reason).or_default() += 1;
    }
    let mut text = String::new();
    for (reason, count) in reasons {
        text.push_str(&format!("left alone: {count} ({reason})\n"));
    }
    text
}
