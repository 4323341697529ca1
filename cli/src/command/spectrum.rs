//! `rankbit spectrum`: what each matrix's singular values and outliers say of how to compress it.

use std::path::PathBuf;

use rankbit::linalg::faer::MatRef;
use rankbit::linalg::singular_values;
use rankbit::quant::{Rounder, Scheme, quantize, scheme};
use serde::Serialize;

use super::check_outputs;
use crate::container::checkpoint::{Checkpoint, Entry};
use crate::container::writer::AtomicFile;
use crate::error::{Error, printable};
use crate::output::{print, print_json};
use crate::report::html::{Block, Fact, Figure, Page, Table};
use crate::report::limit;
use crate::report::svg::{Chart, Series};
use crate::report::terminal::{shape, table};
use crate::select::Filter;

/// Magnitude, in standard deviations, from which an entry is an outlier.
const OUTLIER: f64 = 4.5;
/// Matrices whose curves are drawn.
const DRAWN: usize = 24;
/// Formats of about 4 bits that are tried.
const FORMATS: [Scheme; 7] =
    [scheme::INT4, scheme::UINT4, scheme::NF4, scheme::BNB_FP4, scheme::MXFP4, scheme::NVFP4, scheme::IQ4_NL];

/// Arguments of `spectrum`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// A safetensors file, compressed or not.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Write a page with the curves.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print JSON.
    #[arg(long, conflicts_with = "html")]
    json: bool,
    /// Only tensors whose name matches; may be given several times.
    #[arg(long, value_name = "RE")]
    include: Vec<String>,
    /// Leave tensors out whose name matches; may be given several times.
    #[arg(long, value_name = "RE")]
    exclude: Vec<String>,
}

/// What `--json` prints of a tensor.
#[derive(Serialize)]
struct Spectrum {
    name: String,
    shape: (usize, usize),
    singular_values: Vec<f32>,
    /// `exp(-Σ pᵢ·ln pᵢ)`, `p = σ/Σσ`.
    effective_rank: f64,
    /// `‖W‖²/σ₁²`.
    stable_rank: f64,
    /// Least rank with 90 % of the squared norm.
    rank_90: usize,
    /// Share of entries beyond 4.5 standard deviations.
    outlier_ratio: f64,
    /// Of the formats of about 4 bits, the one with the least error for its bits.
    best_format: Option<&'static str>,
    best_format_bits: Option<f64>,
    best_format_error: Option<f64>,
}

/// Runs `spectrum`.
pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let filter = Filter::new(&args.include, &args.exclude)?;
    let checkpoint = Checkpoint::open(&args.file)?;
    let page = match args.html.as_deref() {
        None => None,
        Some(path) => {
            check_outputs(&[&args.file], &[path])?;
            Some(AtomicFile::create(path)?)
        }
    };
    let mut spectra = Vec::new();
    for (entry, shape) in matrices(&checkpoint, &filter) {
        spectra.extend(measure(&checkpoint, entry, shape)?);
    }
    if spectra.is_empty() {
        return Err(Error::input(&args.file, "holds no matrix that would be compressed: see --include"));
    }
    if args.json {
        return print_json(&spectra);
    }
    if let Some(mut file) = page {
        file.write(render(&args.file.display().to_string(), &spectra)?.as_bytes())?;
        file.commit()?;
    }
    print(&text(&spectra))
}

/// Matrices that `compress` would take, or did.
fn matrices<'a>(checkpoint: &'a Checkpoint, filter: &Filter) -> Vec<(&'a Entry, (usize, usize))> {
    let tensors = &checkpoint.reader().header().tensors;
    let (chosen, _) = filter.select(tensors);
    let plain = chosen.iter().filter_map(|chosen| {
        let entry = checkpoint.find(&tensors.get(chosen.index)?.name)?;
        Some((entry, chosen.shape))
    });
    let compressed = checkpoint.entries().iter().filter_map(|entry| {
        let [rows, cols] = checkpoint.record(&entry.name)?.split.shape;
        filter.refuses(&entry.name).is_none().then_some((entry, (rows, cols)))
    });
    match checkpoint.records() {
        None => plain.collect(),
        Some(_) => compressed.collect(),
    }
}

/// What one matrix says; `None` for one that is not of floats.
fn measure(
    checkpoint: &Checkpoint,
    entry: &Entry,
    (rows, cols): (usize, usize),
) -> Result<Option<Spectrum>, Error> {
    let fail = |error: &dyn std::fmt::Display| checkpoint.reader().tensor_error(&entry.name, error);
    let Some(source) = checkpoint.values(entry)? else { return Ok(None) };
    let mut values = vec![0.0; rows * cols];
    source.blocks().read(0, cols, &mut values)?;
    let weight = MatRef::from_row_major_slice(&values, rows, cols);
    let sigma = singular_values(weight).map_err(|error| fail(&error))?;
    let wide: Vec<f64> = sigma.iter().map(|&s| f64::from(s)).collect();
    let (sum, squares): (f64, f64) = (wide.iter().sum(), wide.iter().map(|s| s * s).sum());
    let entropy: f64 = wide.iter().map(|s| s / sum).filter(|&p| p > 0.0).map(|p| -p * p.ln()).sum();
    let mut left = 0.9 * squares;
    let rank_90 = wide.iter().take_while(|&s| {
        let more = left > 0.0;
        left -= s * s;
        more
    });
    let count = values.len() as f64;
    let mean = values.iter().map(|&w| f64::from(w)).sum::<f64>() / count;
    let deviation = (squares / count - mean * mean).max(0.0).sqrt();
    let outliers = values.iter().filter(|&&w| (f64::from(w) - mean).abs() > OUTLIER * deviation).count();
    let mut best: Option<(f64, &'static str, f64, f64)> = None;
    for scheme in FORMATS.iter().filter(|scheme| scheme.grouping((rows, cols)).is_ok()) {
        let Some(name) = scheme.name() else { continue };
        let found = quantize(weight, scheme, Rounder::Nearest).map_err(|error| fail(&error))?.quantized;
        let mut loss = 0.0;
        let mut row = vec![0.0; cols];
        for (i, weights) in values.chunks_exact(cols.max(1)).enumerate() {
            found.row_into(i, &mut row).map_err(|error| fail(&error))?;
            loss += weights.iter().zip(&row).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
        }
        let bits = found.stored_bits() as f64 / count;
        let error = if loss == 0.0 { 0.0 } else { (loss / squares).sqrt() };
        let cost = error / limit::at(bits);
        if best.is_none_or(|(least, ..)| cost < least) {
            best = Some((cost, name, bits, error));
        }
    }
    let top = wide.first().copied().unwrap_or(0.0);
    Ok(Some(Spectrum {
        name: entry.name.clone(),
        shape: (rows, cols),
        effective_rank: if sum > 0.0 { entropy.exp() } else { 0.0 },
        stable_rank: if top > 0.0 { squares / (top * top) } else { 0.0 },
        rank_90: rank_90.count(),
        outlier_ratio: outliers as f64 / count.max(1.0),
        best_format: best.map(|(_, name, ..)| name),
        best_format_bits: best.map(|(_, _, bits, _)| bits),
        best_format_error: best.map(|(.., error)| error),
        singular_values: sigma,
    }))
}

/// The columns of the table, on the terminal and on the page.
const HEADINGS: [&str; 9] = [
    "tensor",
    "shape",
    "σ₁",
    "σ median",
    "effective rank",
    "stable rank",
    "90 % rank",
    "outliers",
    "best 4-bit",
];

fn cells(spectrum: &Spectrum) -> Vec<String> {
    let sigma = &spectrum.singular_values;
    let at = |i: usize| sigma.get(i).map_or_else(String::new, |s| format!("{s:.3}"));
    vec![
        printable(&spectrum.name).into_owned(),
        shape(&[spectrum.shape.0, spectrum.shape.1]),
        at(0),
        at(sigma.len() / 2),
        format!("{:.1}", spectrum.effective_rank),
        format!("{:.1}", spectrum.stable_rank),
        spectrum.rank_90.to_string(),
        format!("{:.4} %", 100.0 * spectrum.outlier_ratio),
        match (spectrum.best_format, spectrum.best_format_bits, spectrum.best_format_error) {
            (Some(name), Some(bits), Some(error)) => format!("{name} {error:.4} at {bits:.2}"),
            _ => "–".to_owned(),
        },
    ]
}

/// The table, and what its columns mean.
fn text(spectra: &[Spectrum]) -> String {
    let mut rows = table(&HEADINGS, 1);
    for spectrum in spectra {
        rows.add_row(cells(spectrum));
    }
    format!("{rows}\n{NOTE}\n")
}

/// What the columns mean.
const NOTE: &str = "effective rank: exp of the entropy of σ/Σσ; stable rank: ‖W‖²/σ₁²; 90 % rank: least with 90 % of \
                    ‖W‖²; outliers: entries beyond 4.5 standard deviations; best 4-bit: least error over 2^-bits, \
                    rounded to nearest";

/// The page.
fn render(file: &str, spectra: &[Spectrum]) -> Result<String, Error> {
    let mut figures = Vec::new();
    for spectrum in spectra.iter().take(DRAWN) {
        let top = spectrum.singular_values.first().copied().unwrap_or(0.0);
        let points = spectrum.singular_values.iter().enumerate();
        let points = points.map(|(i, s)| ((i + 1) as f64, f64::from(s / top))).collect();
        let series = vec![Series { color: 1, points, line: true, marks: false, label: String::new() }];
        let chart = Chart {
            x_label: "index".to_owned(),
            y_label: "σ/σ₁".to_owned(),
            log: true,
            series,
            size: (360, 220),
            ..Chart::default()
        };
        let note =
            format!("effective rank {:.0} of {}", spectrum.effective_rank, spectrum.singular_values.len());
        figures.push(Figure { svg: chart.render()?, title: printable(&spectrum.name).into_owned(), note });
    }
    let text = match spectra.len() {
        all if all > DRAWN => format!("The first {DRAWN} of {all} matrices."),
        _ => "A steep fall is what a low-rank term can take; a flat line is what it cannot.".to_owned(),
    };
    let mean = spectra.iter().map(|s| s.effective_rank / s.singular_values.len().max(1) as f64).sum::<f64>()
        / spectra.len().max(1) as f64;
    let fact = |label: &str, value: String, note: &str| Fact {
        label: label.to_owned(),
        value,
        note: note.to_owned(),
    };
    let page = Page {
        title: format!("Spectra of {}", printable(file)),
        lead: "Singular values, outliers and the best 4-bit format of each matrix.".to_owned(),
        blocks: vec![
            Block::Facts(vec![
                fact("Matrices", spectra.len().to_string(), "that compress takes"),
                fact("Effective rank", format!("{:.0} %", 100.0 * mean), "of the full rank, on average"),
            ]),
            Block::Heading { title: "Singular values".to_owned(), text },
            Block::Charts(figures),
            Block::Heading { title: "Matrix by matrix".to_owned(), text: NOTE.to_owned() },
            Block::Table(Table {
                headings: HEADINGS.map(str::to_owned).to_vec(),
                left: 1,
                rows: spectra.iter().map(cells).collect(),
                ..Table::default()
            }),
        ],
    };
    Ok(page.render())
}
