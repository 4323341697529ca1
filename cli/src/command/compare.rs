//! `rankbit compare`: how far two checkpoints are apart, tensor by tensor.

use std::path::PathBuf;

use rankbit::linalg::faer::MatRef;
use rankbit::linalg::{ColumnMetric, Metric};
use serde::Serialize;

use super::decompress::rows_and_columns;
use crate::calibration::{Calibration, Needs};
use crate::container::CHUNK;
use crate::container::checkpoint::{Checkpoint, Entry};
use crate::error::{Error, printable};
use crate::output::{print, print_json};
use crate::report::json::{ErrorSum, ratio};
use crate::report::terminal::{optional, shape, table};

/// Arguments of `compare`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The reference, usually the original.
    #[arg(value_name = "A")]
    a: PathBuf,
    /// The other, usually the compressed one.
    #[arg(value_name = "B")]
    b: PathBuf,
    /// Calibration: errors are also measured under its metric.
    #[arg(long, value_name = "ACTS")]
    calib: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What `--json` prints. Keys are never missing and only ever added.
#[derive(Serialize)]
struct Comparison {
    a: String,
    b: String,
    tensors: Vec<Tensor>,
    only_in_a: Vec<String>,
    only_in_b: Vec<String>,
    mismatched: Vec<Mismatch>,
    total: Total,
}

/// One tensor of both; errors are null for types that are not f32, f16 or bf16.
#[derive(Serialize)]
struct Tensor {
    name: String,
    shape: Vec<usize>,
    identical: bool,
    relative_error: Option<f64>,
    metric_error: Option<f64>,
}

#[derive(Serialize)]
struct Mismatch {
    name: String,
    reason: String,
}

/// Errors over the tensors that are compressed in either file; when none is, over those that differ.
#[derive(Serialize)]
struct Total {
    relative_error: Option<f64>,
    mean_relative_error: Option<f64>,
    metric_error: Option<f64>,
    mean_metric_error: Option<f64>,
    compared: usize,
    differing: usize,
}

/// Squares of error and norm.
#[derive(Clone, Copy, Default)]
struct Squares {
    error: f64,
    norm: f64,
}

/// Runs `compare`.
pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let (a, b) = (Checkpoint::open(&args.a)?, Checkpoint::open(&args.b)?);
    let calibration = args.calib.as_deref().map(Calibration::open).transpose()?;
    let comparison = compare(&a, &b, calibration.as_ref())?;
    if args.json { print_json(&comparison) } else { print(&text(&comparison)) }
}

fn compare(a: &Checkpoint, b: &Checkpoint, calibration: Option<&Calibration>) -> Result<Comparison, Error> {
    let (mut tensors, mut only_in_a, mut mismatched) = (Vec::new(), Vec::new(), Vec::new());
    // Totals are over compressed tensors, or over those that differ where neither file has any.
    let compressed = |name: &str| a.record(name).is_some() || b.record(name).is_some();
    let any_compressed = a.entries().iter().any(|entry| compressed(&entry.name))
        || b.entries().iter().any(|entry| compressed(&entry.name));
    let (mut plain, mut metric, mut differing) = (ErrorSum::default(), ErrorSum::default(), 0);
    for entry in a.entries() {
        let name = &entry.name;
        let Some(other) = b.find(name) else {
            only_in_a.push(name.clone());
            continue;
        };
        if entry.shape != other.shape {
            let reason = format!("shape {} against {}", shape(&entry.shape), shape(&other.shape));
            mismatched.push(Mismatch { name: name.clone(), reason });
            continue;
        }
        let tensor = match (a.values(entry)?, b.values(other)?) {
            (Some(_), Some(_)) => {
                let (squares, under_metric) = errors(a, b, (entry, other), calibration)?;
                if compressed(name) || (!any_compressed && squares.error > 0.0) {
                    plain.add_squares(squares.error, squares.norm);
                    if let Some(squares) = under_metric {
                        metric.add_squares(squares.error, squares.norm);
                    }
                }
                Tensor {
                    name: name.clone(),
                    shape: entry.shape.clone(),
                    identical: squares.error == 0.0,
                    relative_error: Some(ratio(squares.error, squares.norm)),
                    metric_error: under_metric.map(|squares| ratio(squares.error, squares.norm)),
                }
            }
            (None, None) => {
                let Some(identical) = same_bytes(a, b, name)? else {
                    mismatched
                        .push(Mismatch { name: name.clone(), reason: "element types differ".to_owned() });
                    continue;
                };
                Tensor {
                    name: name.clone(),
                    shape: entry.shape.clone(),
                    identical,
                    relative_error: None,
                    metric_error: None,
                }
            }
            _ => {
                mismatched.push(Mismatch { name: name.clone(), reason: "element types differ".to_owned() });
                continue;
            }
        };
        differing += usize::from(!tensor.identical);
        tensors.push(tensor);
    }
    let missing = b.entries().iter().filter(|entry| a.find(&entry.name).is_none());
    Ok(Comparison {
        a: a.reader().path().display().to_string(),
        b: b.reader().path().display().to_string(),
        only_in_a,
        only_in_b: missing.map(|entry| entry.name.clone()).collect(),
        mismatched,
        total: Total {
            relative_error: plain.relative(),
            mean_relative_error: plain.mean(),
            metric_error: metric.relative(),
            mean_metric_error: metric.mean(),
            compared: tensors.len(),
            differing,
        },
        tensors,
    })
}

/// ‖A − B‖² and ‖A‖², plain and under the calibration's metric, block of rows by block of rows.
fn errors(
    a: &Checkpoint,
    b: &Checkpoint,
    (entry, other): (&Entry, &Entry),
    calibration: Option<&Calibration>,
) -> Result<(Squares, Option<Squares>), Error> {
    let (Some(left), Some(right)) = (a.values(entry)?, b.values(other)?) else {
        return Ok((Squares::default(), None));
    };
    let (left, right) = (left.blocks(), right.blocks());
    let (rows, cols) = rows_and_columns(&entry.shape);
    let fail = |error: rankbit::linalg::Error| a.reader().tensor_error(&entry.name, error);
    let mut metric = match calibration {
        Some(calibration) if calibration.check(&entry.name, (rows, cols), Needs::default())? => {
            // Without a Gram matrix there is no metric to measure under.
            calibration.load(&entry.name, (rows, cols))?.and_then(|moments| moments.metric().ok())
        }
        _ => None,
    };
    let row_weights = metric.as_mut().and_then(|metric| metric.rows.take());
    // A Gram metric costs in² per block beside its rows: many rows at once.
    let step = (CHUNK / (4 * cols.max(1))).max(64);
    let (mut plain, mut under_metric) = (Squares::default(), metric.as_ref().map(|_| Squares::default()));
    let (mut x, mut y) = (Vec::new(), Vec::new());
    let mut first = 0;
    while first < rows {
        let count = step.min(rows - first);
        x.resize(count * cols, 0.0);
        y.resize(count * cols, 0.0);
        left.read(first, cols, &mut x)?;
        right.read(first, cols, &mut y)?;
        for (at, (x, y)) in x.iter().zip(&mut y).enumerate() {
            let equal = x.to_bits() == y.to_bits() || (x.is_nan() && y.is_nan());
            let error = if equal { 0.0 } else { f64::from(*x) - f64::from(*y) };
            if !error.is_finite() || (!x.is_finite() && metric.is_some()) {
                let (row, col) = (first + at / cols, at % cols);
                return Err(a
                    .reader()
                    .tensor_error(&entry.name, format!("[{row}, {col}] is {x} against {y}")));
            }
            plain.error += error * error;
            if x.is_finite() {
                plain.norm += f64::from(*x) * f64::from(*x);
            }
            *y = x - *y;
        }
        if let (Some(metric), Some(squares)) = (&mut metric, &mut under_metric) {
            metric.rows =
                row_weights.as_ref().and_then(|rows| rows.get(first..first + count)).map(<[f64]>::to_vec);
            let view = |values| MatRef::from_row_major_slice(values, count, cols);
            squares.error += metric.norm_squared(view(&y)).map_err(fail)?;
            squares.norm += metric.norm_squared(view(&x)).map_err(fail)?;
        }
        first += count;
    }
    debug_assert!(
        !matches!(metric, Some(Metric { columns: ColumnMetric::Identity, .. })),
        "moments give a metric"
    );
    Ok((plain, under_metric))
}

/// Whether two plain tensors hold the same bytes; `None` when they are not of one type and size.
fn same_bytes(a: &Checkpoint, b: &Checkpoint, name: &str) -> Result<Option<bool>, Error> {
    let (Some(left), Some(right)) = (a.reader().find(name), b.reader().find(name)) else { return Ok(None) };
    if left.dtype != right.dtype || left.len != right.len {
        return Ok(None);
    }
    let (mut same, mut offset) = (true, 0);
    let mut other = Vec::new();
    a.reader().stream(left, |bytes| {
        if same {
            other.resize(bytes.len(), 0);
            b.reader().read_at(right, offset, &mut other)?;
            same = bytes == other.as_slice();
        }
        offset += bytes.len() as u64;
        Ok(())
    })?;
    Ok(Some(same))
}

fn text(comparison: &Comparison) -> String {
    let metric = comparison.total.metric_error.is_some();
    let mut headings = vec!["tensor", "shape", "error"];
    if metric {
        headings.push("metric error");
    }
    let mut rows = table(&headings, 1);
    for tensor in comparison.tensors.iter().filter(|tensor| !tensor.identical) {
        let error = match tensor.relative_error {
            None => "bytes differ".to_owned(),
            error => optional(error, 5),
        };
        let mut row = vec![printable(&tensor.name).into_owned(), shape(&tensor.shape), error];
        if metric {
            row.push(optional(tensor.metric_error, 5));
        }
        rows.add_row(row);
    }
    let total = &comparison.total;
    let mut text = String::new();
    if total.differing > 0 {
        let totals = [
            ("all", total.relative_error, total.metric_error),
            ("mean", total.mean_relative_error, total.mean_metric_error),
        ];
        for (name, plain, under_metric) in totals {
            let mut row = vec![name.to_owned(), String::new(), optional(plain, 5)];
            if metric {
                row.push(optional(under_metric, 5));
            }
            rows.add_row(row);
        }
        text.push_str(&format!("{}\n", rows.trim_fmt()));
    }
    for (names, file) in [(&comparison.only_in_a, &comparison.a), (&comparison.only_in_b, &comparison.b)] {
        for name in names {
            text.push_str(&format!("only in {}: {}\n", printable(file), printable(name)));
        }
    }
    for mismatch in &comparison.mismatched {
        text.push_str(&format!("not comparable: {}: {}\n", printable(&mismatch.name), mismatch.reason));
    }
    text.push_str(&format!("{} tensors compared, {} differ\n", total.compared, total.differing));
    text
}
