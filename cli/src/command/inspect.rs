//! `rankbit inspect`: what is inside a file.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

use super::bytes;
use crate::container::checkpoint::Checkpoint;
use crate::container::record::{self, GroupName, Record};
use crate::describe;
use crate::error::{Error, printable};
use crate::output::{print, print_json};
use crate::report::terminal::{optional, shape, table};
use crate::sparsity;

/// Arguments of `inspect`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// A safetensors file, compressed or not.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What `--json` prints. Keys are never missing and only ever added.
#[derive(Serialize)]
struct Listing<'a> {
    format_version: Option<u32>,
    rankbit_version: Option<&'a str>,
    seed: Option<u64>,
    file: String,
    bytes: u64,
    tensors: Vec<Tensor<'a>>,
    metadata: Vec<(&'a str, &'a str)>,
    total: Total,
}

#[derive(Serialize)]
struct Tensor<'a> {
    name: &'a str,
    shape: &'a [usize],
    dtype: String,
    bytes: u64,
    bits_per_weight: Option<f64>,
    method: Option<&'a str>,
    recipe: Option<&'a Value>,
    format: Option<&'a str>,
    group: Option<&'a GroupName>,
    rank: Option<usize>,
    /// Pattern of the sparse term, as `--sparsity` takes it; null without one.
    sparsity: Option<String>,
    /// What the quantized term's inputs become; null when they stay floats.
    activations: Option<String>,
    relative_error: Option<f64>,
    metric_error: Option<f64>,
    source_sha256: Option<&'a str>,
    seed: Option<u64>,
    warnings: &'a [String],
    parts: Vec<Part<'a>>,
    /// What the format means, and the bits of each part.
    meaning: Option<String>,
}

#[derive(Serialize)]
struct Part<'a> {
    name: &'a str,
    dtype: String,
    shape: &'a [usize],
    bytes: u64,
}

#[derive(Default, Serialize)]
struct Total {
    weights: u64,
    compressed_weights: u64,
    bits_per_weight: Option<f64>,
}

/// Runs `inspect`.
pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let checkpoint = Checkpoint::open(&args.file)?;
    let listing = listing(&checkpoint);
    if args.json { print_json(&listing) } else { print(&text(&listing)) }
}

fn listing(checkpoint: &Checkpoint) -> Listing<'_> {
    let reader = checkpoint.reader();
    let mut total = Total::default();
    let mut compressed_bytes = 0;
    let mut tensors = Vec::new();
    for entry in checkpoint.entries() {
        let weights = entry.shape.iter().fold(1_u64, |product, &side| product.saturating_mul(side as u64));
        total.weights = total.weights.saturating_add(weights);
        let record = checkpoint.record(&entry.name);
        let plain = reader.find(&entry.name);
        let parts: Vec<Part<'_>> = match record {
            None => Vec::new(),
            Some(_) => checkpoint
                .parts(&entry.name)
                .map(|(name, part)| Part {
                    name,
                    dtype: part.dtype.to_string(),
                    shape: &part.shape,
                    bytes: part.len,
                })
                .collect(),
        };
        let bytes = plain.map_or_else(|| parts.iter().map(|part| part.bytes).sum(), |tensor| tensor.len);
        if record.is_some_and(|record| !record.rest) {
            total.compressed_weights = total.compressed_weights.saturating_add(weights);
            compressed_bytes += bytes;
        }
        let dtype = record.map(|record| record.source_dtype).or_else(|| plain.map(|tensor| tensor.dtype));
        tensors.push(Tensor {
            name: &entry.name,
            shape: &entry.shape,
            dtype: dtype.map_or_else(String::new, |dtype| dtype.to_string()),
            bytes,
            bits_per_weight: (weights > 0).then(|| bytes as f64 * 8.0 / weights as f64),
            method: record.map(|record| record.method.as_str()),
            recipe: record.map(|record| &record.recipe),
            format: record.and_then(|record| record.format.as_deref()),
            group: record.and_then(|record| record.group.as_ref()),
            rank: record.and_then(|record| record.rank),
            sparsity: record.and_then(|record| sparsity::stored(&record.split)),
            activations: record
                .map(|record| record.split.activation)
                .filter(|policy| !policy.is_float())
                .map(|policy| policy.to_string()),
            relative_error: record.and_then(|record| record.relative_error),
            metric_error: record.and_then(|record| record.metric_error),
            source_sha256: record.map(|record| record.source_sha256.as_str()),
            seed: record.map(|record| record.seed),
            warnings: record.map_or(&[], |record| &record.warnings),
            meaning: record.map(|record| meaning(record, &parts, weights)),
            parts,
        });
    }
    total.bits_per_weight = (total.compressed_weights > 0)
        .then(|| compressed_bytes as f64 * 8.0 / total.compressed_weights as f64);
    let metadata = &reader.header().metadata;
    Listing {
        format_version: checkpoint.records().map(|records| records.format_version),
        rankbit_version: checkpoint.records().map(|records| records.rankbit_version.as_str()),
        seed: checkpoint.records().map(|records| records.seed),
        file: reader.path().display().to_string(),
        bytes: reader.len(),
        tensors,
        metadata: metadata
            .iter()
            .filter(|(key, _)| key.as_str() != record::KEY)
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect(),
        total,
    }
}

/// What the numbers of a compressed tensor are, in words.
fn meaning(record: &Record, parts: &[Part<'_>], weights: u64) -> String {
    let scheme = record.split.scheme.as_ref();
    let parts: Vec<(&str, u64)> = parts.iter().map(|part| (part.name, part.bytes)).collect();
    let bits = describe::bits(scheme, &parts, weights);
    let kept = sparsity::describe(&record.split);
    match scheme {
        Some(scheme) => {
            let (levels, inputs) = (describe::describe(scheme), describe::transform(&record.split));
            format!("{levels}; {inputs}{kept}{bits}")
        }
        None => format!("{kept}{bits}"),
    }
}

fn text(listing: &Listing<'_>) -> String {
    let compressed = listing.format_version.is_some();
    let mut headings = vec!["tensor", "shape", "type", "bytes"];
    if compressed {
        headings.extend(["method", "format", "group", "rank", "bits/weight", "error"]);
    }
    let sparse = listing.tensors.iter().any(|tensor| tensor.sparsity.is_some());
    if sparse {
        headings.push("sparsity");
    }
    let inputs = listing.tensors.iter().any(|tensor| tensor.activations.is_some());
    if inputs {
        headings.push("inputs");
    }
    let mut rows = table(&headings, 1);
    for tensor in &listing.tensors {
        let name = printable(tensor.name).into_owned();
        let mut row = vec![name, shape(tensor.shape), tensor.dtype.clone(), bytes(tensor.bytes)];
        if compressed {
            let dash = || "–".to_owned();
            row.extend([
                tensor.method.map_or_else(dash, |method| printable(method).into_owned()),
                tensor.format.map_or_else(dash, |format| printable(format).into_owned()),
                tensor.group.map_or_else(dash, |group| printable(&group.to_string()).into_owned()),
                tensor.rank.map_or_else(dash, |rank| rank.to_string()),
                optional(tensor.bits_per_weight, 3),
                optional(tensor.relative_error, 4),
            ]);
        }
        if sparse {
            row.push(tensor.sparsity.clone().unwrap_or_else(|| "–".to_owned()));
        }
        if inputs {
            row.push(tensor.activations.clone().unwrap_or_else(|| "float".to_owned()));
        }
        rows.add_row(row);
    }
    let mut text = format!("{}\n", rows.trim_fmt());
    for tensor in listing.tensors.iter().filter(|tensor| !tensor.warnings.is_empty()) {
        text.push_str(&printable(&format!("{}: {}", tensor.name, tensor.warnings.join("; "))));
        text.push('\n');
    }
    text.push_str(&meanings(listing));
    for (i, tensor) in listing.tensors.iter().enumerate() {
        // Each recipe once: most files have one.
        let before = listing.tensors.iter().take(i);
        if let Some(recipe) = tensor.recipe
            && before.filter_map(|tensor| tensor.recipe).all(|other| other != recipe)
        {
            text.push_str(&format!("recipe ({}): {recipe}\n", printable(tensor.method.unwrap_or("?"))));
        }
    }
    for (key, value) in &listing.metadata {
        let short: String = value.chars().take(200).collect();
        text.push_str(&format!(
            "metadata {}: {}{}\n",
            printable(key),
            printable(&short),
            if short.len() < value.len() { "…" } else { "" }
        ));
    }
    if let (Some(version), Some(seed)) = (listing.rankbit_version, listing.seed) {
        text.push_str(&format!("written by rankbit {}, seed {seed}\n", printable(version)));
    }
    let bits = match listing.total.bits_per_weight {
        Some(bits) => format!(", {} of them compressed at {bits:.3} bits", listing.total.compressed_weights),
        None => String::new(),
    };
    text.push_str(&format!(
        "{} tensors, {} weights{bits}, {}\n",
        listing.tensors.len(),
        listing.total.weights,
        bytes(listing.bytes)
    ));
    text
}

/// A line for each method, and for each tensor one of what its format means; tensors that share it share the line.
fn meanings(listing: &Listing<'_>) -> String {
    let mut methods: Vec<&str> = listing.tensors.iter().filter_map(|tensor| tensor.method).collect();
    methods.sort_unstable();
    methods.dedup();
    let mut text = String::new();
    for name in methods {
        if let Some(what) = describe::method(name) {
            text.push_str(&format!("{}: {what}\n", printable(name)));
        }
    }
    let mut lines: Vec<(String, Vec<&str>)> = Vec::new();
    for tensor in &listing.tensors {
        let Some(meaning) = &tensor.meaning else { continue };
        let line = format!("{}: {meaning}", tensor.format.unwrap_or("no format"));
        match lines.iter_mut().find(|(known, _)| *known == line) {
            Some((_, names)) => names.push(tensor.name),
            None => lines.push((line, vec![tensor.name])),
        }
    }
    for (line, names) in lines {
        let who = match *names.as_slice() {
            [one] => one.to_owned(),
            [first, ..] => format!("{first} and {} more", names.len() - 1),
            [] => String::new(),
        };
        text.push_str(&format!("{}\n", printable(&format!("{line} ({who})"))));
    }
    text
}
