//! `--activations`, `llm-int8` and `zeroquant-fp`: what a file says of its inputs, and what that costs a real network.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::real_network::REAL;
use crate::support::{Checkpoint, Folder, command, compress, noise, read_json, succeed};
use rankbit::linalg::faer::{Mat, MatRef};
use rankbit::lowrank::Split;
use rankbit::lowrank::split::file::{self, Header, PartType, PartView};
use rankbit::quant::{Activation, FloatFormat, Group};
use rankbit_kit::model::{checkpoint, mean_cosine};
use serde_json::Value;

/// The splits of a compressed file, read by hand.
fn splits(path: &Path) -> BTreeMap<String, Split> {
    let file = Checkpoint::read(path);
    let records: Value = serde_json::from_str(&file.metadata["rankbit"]).expect("JSON");
    let tensors = records["tensors"].as_object().expect("records");
    let one = |(name, record): (&String, &Value)| {
        let header = Header::from_json(&record["split"].to_string()).expect("a header");
        let split = file::read(&header, |part| {
            let stored = file.tensors.iter().find(|t| t.name == format!("{name}.rankbit.{part}"))?;
            let element = match stored.dtype.as_str() {
                "U8" => PartType::U8,
                "F16" => PartType::Float(FloatFormat::F16),
                "F32" => PartType::Float(FloatFormat::F32),
                other => panic!("no part of {other}"),
            };
            Some(PartView { element, shape: &stored.shape, bytes: &stored.bytes })
        });
        (name.clone(), split.expect("a split"))
    };
    tensors.iter().map(one).collect()
}

fn small() -> Checkpoint {
    Checkpoint::default().f32("a", &[64, 96], &noise(64 * 96, 1, 0.1)).f32(
        "b",
        &[70, 96],
        &noise(70 * 96, 2, 0.1),
    )
}

#[test]
fn the_file_says_what_inputs_become() {
    let folder = Folder::new();
    let (input, plain) = (folder.path("in"), folder.path("plain"));
    small().write(&input);
    succeed(&compress(&input, &plain, &["--format", "int8"]));
    assert!(!Checkpoint::read(&plain).metadata["rankbit"].contains("activation"));
    for (arguments, policy, text) in [
        (&["--format", "int8", "--activations", "int8"][..], Activation::INT8, "int8 per token"),
        (&["--format", "int4", "--activations", "int4"], Activation::INT4, "int4 per token and group of 64"),
        (&["--method", "llm-int8"], Activation::LLM_INT8, "int8 per token, columns with |x| ≥ 6 in floats"),
        (&["--method", "zeroquant-fp"], Activation::FP8, "fp8-e4m3 per token"),
        (
            &["--method", "svdquant", "--rank", "4", "--activations", "int4"],
            Activation::INT4,
            "int4 per token",
        ),
    ] {
        let (output, report) = (folder.path("out"), folder.path("report.json"));
        let mut arguments = arguments.to_vec();
        arguments.extend(["--report", report.to_str().expect("a plain path")]);
        succeed(&compress(&input, &output, &arguments));
        for split in splits(&output).values() {
            assert_eq!(split.activation(), &policy, "{arguments:?}");
        }
        for entry in read_json(&report)["tensors"].as_array().expect("tensors") {
            assert!(entry["activations"].as_str().expect("a policy").starts_with(text), "{entry}");
        }
        let listing =
            command(&["inspect".as_ref(), output.as_os_str()]).output().expect("the program starts");
        succeed(&listing);
        let listing = String::from_utf8_lossy(&listing.stdout).into_owned();
        assert!(listing.contains("inputs") && listing.contains(text), "{listing}");
    }
    // Inputs are no part of the matrix: the same codes, the same dense file.
    let quantized = folder.path("quantized");
    succeed(&compress(&input, &quantized, &["--format", "int8", "--activations", "int8"]));
    let (old, new) = (Checkpoint::read(&plain), Checkpoint::read(&quantized));
    assert!(old.tensors.len() == new.tensors.len());
    assert!(old.tensors.iter().all(|tensor| tensor == new.find(&tensor.name)));
    succeed(&compress(&input, &quantized, &["--format", "int8", "--activations", "float"]));
    let bytes = |path: &Path| std::fs::read(path).expect("a file");
    assert_eq!(bytes(&plain), bytes(&quantized));
}

#[test]
fn flags_without_meaning_are_wrong_usage() {
    let folder = Folder::new();
    let (input, output) = (folder.path("in"), folder.path("out"));
    small().write(&input);
    for arguments in [
        &["--method", "lowrank", "--activations", "int8"][..],
        &["--method", "llm-int8", "--format", "int4"],
        &["--method", "llm-int8", "--group", "64"],
        &["--method", "zeroquant-fp", "--factors", "f32"],
        &["--activations", "int3"],
    ] {
        let found = compress(&input, &output, arguments);
        assert_eq!(found.status.code(), Some(2), "{arguments:?}");
        assert!(!output.exists());
    }
}

/// Held-out sentences that run through the network, the first of them: a product with quantized inputs is slow in a test.
const SENTENCES: usize = 32;

/// Compresses the encoder by the command.
fn encoder(arguments: &[&str]) -> BTreeMap<String, Split> {
    let folder = Folder::new();
    let output = folder.path("small");
    let mut arguments = arguments.to_vec();
    arguments.extend(["--include", "encoder"]);
    succeed(&compress(&checkpoint(), &output, &arguments));
    let splits = splits(&output);
    assert_eq!(splits.len(), 36);
    splits
}

/// Mean over the linear layers of ‖Y − Ŷ‖/‖Y‖ on their true inputs, and the mean cosine of the embeddings when every
/// layer runs from its split.
fn measure(splits: &BTreeMap<String, Split>, policy: Option<Activation>, name: &str) -> (f64, f64) {
    let real = &*REAL;
    let with = |split: &Split| match policy {
        None => split.clone(),
        Some(policy) => split.clone().with_activation(policy).expect("a policy"),
    };
    let splits: BTreeMap<String, Split> =
        splits.iter().map(|(name, split)| (name.clone(), with(split))).collect();
    let mut sums: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    let observe = &mut |name: &str, x: &[f32]| {
        let split = &splits[name];
        let (out, features) = split.shape();
        let x = MatRef::from_row_major_slice(x, x.len() / features, features);
        let weight = MatRef::from_row_major_slice(&real.model.tensors()[name].values, out, features);
        let exact: Mat<f32> = x * weight.transpose();
        let found = split.apply(x).expect("a product");
        let squares =
            |m: &Mat<f32>| m.col_iter().flat_map(|c| c.iter()).map(|v| f64::from(*v).powi(2)).sum::<f64>();
        let (error, norm) = (squares(&(&exact - &found)), squares(&exact));
        let sum = sums.entry(name.to_owned()).or_default();
        *sum = (sum.0 + error, sum.1 + norm);
    };
    let sentences = &real.held_out[..SENTENCES];
    real.model.embed_observed(sentences, observe).expect("embeddings");
    let error = sums.values().map(|(error, norm)| (error / norm).sqrt()).sum::<f64>() / sums.len() as f64;
    let product = move |name: &str, x: &[f32]| {
        let split = splits.get(name)?;
        let y =
            split.apply(MatRef::from_row_major_slice(x, x.len() / split.shape().1, split.shape().1)).ok()?;
        Some((0..y.nrows()).flat_map(|t| y.row(t).iter().copied().collect::<Vec<_>>()).collect())
    };
    let embedded = real.model.with_product(Arc::new(product)).embed(sentences).expect("embeddings");
    let cosine = mean_cosine(&real.original[..SENTENCES].to_vec(), &embedded).expect("as many embeddings");
    println!("{name}: output error {error:.5}, cosine {cosine:.5}");
    (error, cosine)
}

/// LLM.int8() against plain 8-bit inputs: the columns that it keeps in floats are what spoils a token's scale.
#[test]
fn eight_bits_on_both_sides() {
    let llm = encoder(&["--method", "llm-int8"]);
    let (float, float_cosine) = measure(&llm, Some(Activation::Float), "int8 rows, float inputs");
    let (plain, plain_cosine) = measure(&llm, Some(Activation::INT8), "int8 rows, int8 inputs");
    let (outliers, cosine) = measure(&llm, None, "llm-int8");
    assert!(float <= 0.0075 && float_cosine >= 0.999, "{float} {float_cosine}");
    assert!(outliers <= 0.0140 && cosine >= 0.998, "{outliers} {cosine}");
    assert!(plain <= 0.0165 && plain_cosine >= 0.995, "{plain} {plain_cosine}");
    assert!(outliers < 0.9 * plain && cosine > plain_cosine, "{outliers} against {plain}");
}

/// Four bits in the weights, eight or four in the inputs.
#[test]
fn four_bits() {
    let w4 = encoder(&["--format", "int4"]);
    let (w4a8, w4a8_cosine) = measure(&w4, Some(Activation::INT8), "int4, int8 inputs");
    let (w4a4, w4a4_cosine) = measure(&w4, Some(Activation::INT4), "int4, int4 inputs");
    let (tokens, _) = measure(&w4, Some(Activation::integer(4, Group::Row)), "int4, int4 inputs per token");
    assert!(w4a8 <= 0.099 && w4a8_cosine >= 0.930, "{w4a8} {w4a8_cosine}");
    assert!(w4a4 <= 0.170 && w4a4_cosine >= 0.880, "{w4a4} {w4a4_cosine}");
    assert!(w4a4 < tokens, "{w4a4} {tokens}");
    let calibration = REAL.acts.path().to_str().expect("a plain path");
    let arguments = ["--method", "svdquant", "--format", "int4", "--rank", "32", "--calib", calibration];
    let svdquant = encoder(&[&arguments[..], &["--activations", "int4"]].concat());
    let (svdquant, svdquant_cosine) = measure(&svdquant, None, "svdquant int4 r32, int4 inputs");
    assert!(svdquant <= 0.096 && svdquant_cosine >= 0.960, "{svdquant} {svdquant_cosine}");
    let fp = encoder(&["--method", "zeroquant-fp"]);
    let (fp8, fp8_cosine) = measure(&fp, None, "zeroquant-fp");
    assert!(fp8 <= 0.145 && fp8_cosine >= 0.915, "{fp8} {fp8_cosine}");
}
