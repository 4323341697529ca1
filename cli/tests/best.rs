//! `--method best`: one number in, the whole plan out.

use std::path::Path;

use serde_json::Value;

use crate::support::{Checkpoint, Folder, compress, fail, noise, read_json, run, succeed};

const SIDES: [(usize, usize, f32); 3] = [(96, 128, 0.02), (64, 256, 0.3), (128, 64, 1.0)];

fn network() -> Checkpoint {
    let mut file = Checkpoint::default();
    for (i, (rows, cols, scale)) in SIDES.into_iter().enumerate() {
        let name = format!("layer.{i}.weight");
        file = file.f32(&name, &[rows, cols], &noise(rows * cols, 3 + i as u64, scale));
    }
    file.f32("norm.weight", &[128], &noise(128, 21, 1.0))
}

/// Gram matrices of inputs that are correlated and of very different sizes; perhaps row weights.
fn calibration(rows_too: bool, layers: &[usize]) -> Checkpoint {
    let mut file = Checkpoint::default();
    for &i in layers {
        let (rows, cols, _) = SIDES[i];
        let x = noise(300 * cols, 50 + i as u64, 1.0);
        let at = |t: usize, j: usize| {
            let common = if j > 0 { f64::from(x[t * cols + j - 1]) } else { 0.0 };
            (f64::from(x[t * cols + j]) + common) * (1.0 + (j % 9) as f64)
        };
        let gram: Vec<f64> = (0..cols * cols)
            .map(|e| (0..300).map(|t| at(t, e / cols) * at(t, e % cols)).sum::<f64>() / 300.0)
            .collect();
        file = file.f64(&format!("layer.{i}.weight.gram"), &[cols, cols], &gram);
        if rows_too {
            let weights: Vec<f32> = (0..rows).map(|r| 5.0 + (r % 5) as f32).collect();
            file = file.f32(&format!("layer.{i}.weight.row_weight"), &[rows], &weights);
        }
    }
    file
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("a number: {value}"))
}

fn reported(input: &Path, folder: &Folder, name: &str, more: &[&str]) -> (Value, String) {
    let report = folder.path(&format!("{name}.json"));
    let text = report.to_str().expect("a plain path").to_owned();
    let mut args = more.to_vec();
    args.extend(["--report", &text]);
    let printed = succeed(&compress(input, &folder.path(name), &args));
    (read_json(&report), printed)
}

fn stored_bits(report: &Value) -> f64 {
    let tensors = report["tensors"].as_array().expect("tensors");
    let bits = |t: &Value| {
        let weights: f64 = t["shape"].as_array().expect("sides").iter().map(number).product();
        number(&t["bits_per_weight"]) * weights
    };
    tensors.iter().map(bits).sum()
}

#[test]
fn the_budget_holds_to_the_bit_whatever_is_known() {
    let folder = Folder::new();
    let (input, plain, weighted) = (folder.path("in"), folder.path("plain"), folder.path("weighted"));
    network().write(&input);
    calibration(false, &[0, 1, 2]).write(&plain);
    calibration(true, &[0, 1, 2]).write(&weighted);
    let text = |path: &Path| path.to_str().expect("a plain path").to_owned();
    let (plain, weighted) = (text(&plain), text(&weighted));
    let weights: usize = SIDES.iter().map(|(rows, cols, _)| rows * cols).sum();
    for (calib, minimized, note) in [
        (None, "squared relative error of weights", true),
        (Some(&plain), "squared relative error of outputs", true),
        (Some(&weighted), "squared error of outputs", false),
    ] {
        let mut before = f64::INFINITY;
        for budget in ["2.7", "3.5", "4.5"] {
            let mut args = vec!["--method", "best", "--fast", "--budget", budget];
            args.extend(calib.iter().flat_map(|path| ["--calib", path.as_str()]));
            let (report, printed) = reported(&input, &folder, "out", &args);
            let limit = budget.parse::<f64>().expect("a number") * weights as f64;
            let bits = stored_bits(&report).round();
            // A step of the tallest matrix is 128 bits, and without exchange each may leave one.
            assert!(bits <= limit && bits + 3.0 * 128.0 > limit, "{budget}: {bits} of {limit}");
            let found = &report["budget"];
            assert!(found["minimized"].as_str().is_some_and(|m| m.starts_with(minimized)), "{found}");
            assert_eq!(found["note"].is_string(), note, "{found}");
            let (predicted, achieved) = (number(&found["error"]), number(&found["achieved"]));
            assert!((achieved / predicted - 1.0).abs() < 0.15, "{predicted} predicted, {achieved} achieved");
            assert!(achieved < before, "{budget}: {achieved} after {before}");
            before = achieved;
            assert!(printed.contains("predicted") && printed.contains("achieved"), "{printed}");
            for tensor in report["tensors"].as_array().expect("tensors") {
                let error = if calib.is_some() { &tensor["metric_error"] } else { &tensor["relative_error"] };
                let ratio = number(error) / number(&tensor["predicted_error"]);
                // Columns without bits pass on what they lose, which the prediction does not count.
                assert!((0.5..1.7).contains(&ratio), "{tensor}");
            }
        }
    }
}

/// With the units of gradients the loud layer gets the bits; the more so, the more its errors count.
#[test]
fn gradients_move_bits_between_matrices() {
    let folder = Folder::new();
    let (input, calib) = (folder.path("in"), folder.path("calib"));
    network().write(&input);
    calibration(true, &[0, 1, 2]).write(&calib);
    let args = ["--method", "best", "--fast", "--budget", "3.5", "--calib", calib.to_str().expect("plain")];
    let (report, _) = reported(&input, &folder, "out", &args);
    let bits = |i: usize| number(&report["tensors"][i]["bits_per_weight"]);
    assert!(bits(2) > bits(1) + 0.5 && bits(1) > bits(0) + 0.5, "{} {} {}", bits(0), bits(1), bits(2));
}

#[test]
fn best_is_the_default_and_formats_are_not() {
    let folder = Folder::new();
    let input = folder.path("in");
    network().write(&input);
    let method = |name: &str, args: &[&str]| -> (String, f64) {
        let (report, _) = reported(&input, &folder, name, args);
        let total = number(&report["total"]["bits_per_weight"]);
        (report["tensors"][0]["method"].as_str().expect("a name").to_owned(), total)
    };
    let (name, bits) = method("none", &[]);
    assert!(name == "best" && bits <= 4.5 && bits > 4.45, "{name} {bits}");
    let (name, bits) = method("budget", &["--budget", "3", "--fast"]);
    assert!(name == "best" && bits <= 3.0 && bits > 2.95, "{name} {bits}");
    assert_eq!(method("format", &["--format", "int4"]).0, "rtn");
    assert_eq!(method("group", &["--group", "32"]).0, "rtn");
    let out = folder.path("out");
    for flag in [
        &["--format", "int4"][..],
        &["--group", "32"],
        &["--rounder", "mse"],
        &["--rotate"],
        &["--rank", "4"],
    ] {
        fail(&compress(&input, &out, &[&["--method", "best"], flag].concat()), 2, &[flag[0], "best"]);
    }
    fail(&compress(&input, &out, &["--method", "rtn", "--fast"]), 2, &["--fast", "rtn"]);
    fail(&compress(&input, &out, &["--format", "int4", "--formats", "uint"]), 2, &["--formats", "rtn"]);
    fail(&compress(&input, &out, &["--budget", "0.1"]), 3, &["0.1", "smallest"]);
    assert!(!out.exists());
}

/// A plan is the run: written, edited and read it gives what it says; the file keeps hashes of what it was made from.
#[test]
fn plans_are_edited_and_given_back() {
    let folder = Folder::new();
    let (input, calib, plan) = (folder.path("in"), folder.path("calib"), folder.path("plan.toml"));
    network().write(&input);
    calibration(true, &[0, 1, 2]).write(&calib);
    let (calib, plan_text) = (calib.to_str().expect("plain"), plan.to_str().expect("plain"));
    let input_text = input.to_str().expect("plain");
    let given = ["--calib", calib];
    let printed = succeed(&run(&[
        &["compress", input_text, "--budget", "3.3", "--fast", "--config", plan_text, "--dry-run"][..],
        &given,
    ]
    .concat()));
    assert!(printed.contains("trellis") && printed.contains("this plan"), "{printed}");
    let (direct, _) =
        reported(&input, &folder, "direct", &[&["--budget", "3.3", "--fast"][..], &given].concat());
    let (read, _) = reported(&input, &folder, "read", &[&["--config", plan_text][..], &given].concat());
    for i in 0..3 {
        for key in ["bits_per_weight", "relative_error", "metric_error", "predicted_error", "recipe"] {
            assert_eq!(direct["tensors"][i][key], read["tensors"][i][key], "{key}");
        }
    }
    // One matrix gets other bits.
    let text = std::fs::read_to_string(&plan).expect("a plan");
    let budget =
        text.lines().find(|line| line.trim_start().starts_with("budget = ") && !line.contains("3.3"));
    let line = budget.expect("a matrix's budget in 2^-16 bits");
    std::fs::write(&plan, text.replacen(line, "budget = 393216", 1)).expect("a plan");
    let (edited, _) = reported(&input, &folder, "edited", &[&["--config", plan_text][..], &given].concat());
    let bits = number(&edited["tensors"][0]["bits_per_weight"]);
    assert!(bits <= 6.0 && bits > 5.8, "{bits}");
    assert_eq!(edited["tensors"][1]["bits_per_weight"], read["tensors"][1]["bits_per_weight"]);

    let record = Checkpoint::read(&folder.path("direct")).metadata["rankbit"].clone();
    let record: Value = serde_json::from_str(&record).expect("JSON");
    for i in 0..3 {
        let found = &record["tensors"][format!("layer.{i}.weight")];
        for key in ["source_sha256", "moments_sha256"] {
            assert_eq!(found[key].as_str().map(str::len), Some(64), "{key}");
        }
        assert_eq!(found["metric_error"], direct["tensors"][i]["metric_error"]);
    }
}

/// Where calibration is partial or lacks what error feedback needs, the rest is used.
#[test]
fn what_calibration_lacks_is_done_without() {
    let folder = Folder::new();
    let (input, calib) = (folder.path("in"), folder.path("calib"));
    network().write(&input);
    let args = ["--budget", "3.5", "--fast", "--calib", calib.to_str().expect("plain")];
    calibration(true, &[0, 2]).write(&calib);
    let (report, _) = reported(&input, &folder, "partial", &args);
    let metric = |i: usize| &report["tensors"][i]["metric_error"];
    assert!(metric(0).is_number() && metric(1).is_null() && metric(2).is_number());
    assert!(number(&report["total"]["bits_per_weight"]) <= 3.5);
    Checkpoint::default().f32("layer.0.weight.absmax", &[128], &[1.0; 128]).write(&calib);
    let (report, _) = reported(&input, &folder, "absmax", &args);
    assert!(number(&report["total"]["bits_per_weight"]) <= 3.5);
}

#[test]
fn scalar_formats_are_mixed_per_matrix() {
    let folder = Folder::new();
    let (input, calib) = (folder.path("in"), folder.path("calib"));
    network().write(&input);
    calibration(true, &[0, 1, 2]).write(&calib);
    let args = ["--budget", "4", "--formats", "uint", "--fast", "--calib", calib.to_str().expect("plain")];
    let (report, _) = reported(&input, &folder, "uint", &args);
    let formats: Vec<&str> = (0..3).filter_map(|i| report["tensors"][i]["format"].as_str()).collect();
    assert!(
        formats.iter().all(|format| format.starts_with("uint")) && formats[0] != formats[2],
        "{formats:?}"
    );
    assert!(number(&report["total"]["bits_per_weight"]) <= 4.0);
    // The plan measured a quicker rounder: what comes out is better.
    let budget = &report["budget"];
    assert!(number(&budget["achieved"]) <= number(&budget["error"]) * 1.001, "{budget}");
}
