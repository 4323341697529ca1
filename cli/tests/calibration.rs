//! Calibration files: activations or moments, aliases, and what is wrong with them.

use crate::support::{Checkpoint, Folder, compress, fail, noise, read_json, run, succeed};

const OUT: usize = 64;
const IN: usize = 96;

/// Activations with a few strong channels, as real ones have.
fn activations(tokens: usize) -> Vec<f32> {
    let mut x = noise(tokens * IN, 40, 1.0);
    for (i, value) in x.iter_mut().enumerate() {
        if i % IN % 24 == 5 {
            *value *= 30.0;
        }
    }
    x
}

fn network() -> Checkpoint {
    Checkpoint::default().f32("query", &[OUT, IN], &noise(OUT * IN, 41, 0.1)).f32(
        "key",
        &[OUT, IN],
        &noise(OUT * IN, 42, 0.1),
    )
}

/// Gram matrix and absmax, worked out here.
fn moments(x: &[f32]) -> (Vec<f64>, Vec<f32>) {
    let tokens = x.len() / IN;
    let mut gram = vec![0.0; IN * IN];
    let mut absmax = vec![0.0_f32; IN];
    for row in x.chunks_exact(IN) {
        for i in 0..IN {
            absmax[i] = absmax[i].max(row[i].abs());
            for j in 0..IN {
                gram[i * IN + j] += f64::from(row[i]) * f64::from(row[j]) / tokens as f64;
            }
        }
    }
    (gram, absmax)
}

#[test]
fn activations_moments_and_aliases_give_the_same() {
    let folder = Folder::new();
    let input = folder.path("in");
    network().write(&input);
    let x = activations(300);
    let (gram, absmax) = moments(&x);
    let raw = Checkpoint::default().f32("query", &[300, IN], &x).f32("key", &[300, IN], &x);
    let alias = r#"{"key":"query"}"#;
    let raw_alias = Checkpoint::default().f32("query", &[300, IN], &x).metadata("alias", alias);
    let parts = Checkpoint::default()
        .f64("query.gram", &[IN, IN], &gram)
        .f32("query.absmax", &[IN], &absmax)
        .raw("query.tokens", "I64", &[1], 300_i64.to_le_bytes().to_vec())
        .metadata("alias", alias);
    let mut results = Vec::new();
    for (name, acts) in [("raw", raw), ("raw_alias", raw_alias), ("parts", parts)] {
        let (calib, output) = (folder.path(name), folder.path("out"));
        acts.write(&calib);
        let report = folder.path("report.json");
        let (calib_text, report_text) = (calib.display().to_string(), report.display().to_string());
        let args = ["--method", "svdquant", "--format", "int4", "--rank", "4", "--calib", &calib_text];
        let args: Vec<&str> = args.into_iter().chain(["--report", &report_text]).collect();
        succeed(&compress(&input, &output, &args));
        let file = Checkpoint::read(&output);
        assert_eq!(file.find("key.rankbit.smooth").shape, [IN]);
        let report = read_json(&report);
        // The metric error is ‖E·G^½‖ / ‖W·G^½‖, worked out from what decompress gives.
        let dense = folder.path("dense");
        succeed(&run(&["decompress".as_ref(), output.as_os_str(), "-o".as_ref(), dense.as_os_str()]));
        let dense = Checkpoint::read(&dense);
        for (i, name) in ["key", "query"].into_iter().enumerate() {
            let tensors = report["tensors"].as_array().expect("tensors");
            let tensor = tensors.iter().find(|t| t["name"] == name).expect("reported");
            let w = network().find(name).values();
            let e: Vec<f64> = w.iter().zip(dense.find(name).values()).map(|(a, b)| a - b).collect();
            let energy = |m: &[f64]| -> f64 {
                m.chunks_exact(IN)
                    .map(|row| {
                        (0..IN)
                            .map(|i| (0..IN).map(|j| row[i] * gram[i * IN + j] * row[j]).sum::<f64>())
                            .sum::<f64>()
                    })
                    .sum()
            };
            let expected = (energy(&e) / energy(&w)).sqrt();
            let stated = tensor["metric_error"].as_f64().expect("a metric error");
            assert!((stated - expected).abs() < 1e-5 * expected, "{i} {name}: {stated} against {expected}");
            assert!(stated < tensor["relative_error"].as_f64().expect("an error"));
        }
        let total = &report["total"];
        assert!(total["metric_error"].as_f64().is_some() && total["mean_metric_error"].as_f64().is_some());
        results.push(total["metric_error"].as_f64().expect("a number"));
    }
    assert_eq!(results[0], results[1]);
    assert!((results[2] - results[0]).abs() < 1e-3 * results[0], "{results:?}");
}

#[test]
fn a_tensor_without_calibration_has_no_metric_error_where_none_is_needed() {
    let folder = Folder::new();
    let (input, calib, report) = (folder.path("in"), folder.path("acts"), folder.path("report.json"));
    network().write(&input);
    Checkpoint::default().f32("query", &[50, IN], &activations(50)).write(&calib);
    let (calib, report_text) = (calib.display().to_string(), report.display().to_string());
    let args = ["--calib", &calib, "--report", &report_text];
    succeed(&compress(&input, &folder.path("out"), &args));
    let report = read_json(&report);
    let error = |name: &str| {
        let tensors = report["tensors"].as_array().expect("tensors");
        tensors.iter().find(|t| t["name"] == name).expect("reported")["metric_error"].as_f64()
    };
    assert!(error("query").is_some());
    assert_eq!(error("key"), None);
    assert!(report["total"]["metric_error"].as_f64().is_some());
}

#[test]
fn bad_calibration_is_refused_before_anything_is_written() {
    let x = activations(50);
    let (gram, absmax) = moments(&x);
    let good = || {
        Checkpoint::default()
            .f64("query.gram", &[IN, IN], &gram)
            .f32("query.absmax", &[IN], &absmax)
            .metadata("alias", r#"{"key":"query"}"#)
    };
    let without = |part: &str| {
        let mut file = good();
        file.tensors.retain(|t| t.name != part);
        file
    };
    let mut crooked = gram.clone();
    crooked[1] += 1e3;
    let mut nan = x.clone();
    nan[IN * 7 + 3] = f32::NAN;
    let cases = [
        (
            Checkpoint::default().f32("query", &[48, 100], &noise(4800, 1, 1.0)),
            &["tensor 'query'", "48, 100"][..],
        ),
        (good().f32("query.mean", &[7], &[0.0; 7]), &["tensor 'query.mean'", "96"]),
        (Checkpoint::default().f64("query.gram", &[2, 2], &[1.0; 4]), &["tensor 'query.gram'"]),
        (without("query.absmax"), &["query.absmax", "missing"]),
        (without("query.gram"), &["query.gram", "missing"]),
        (good().metadata("alias", r#"{"key":"nobody"}"#), &["tensor 'key'", "nobody"]),
        (good().metadata("alias", "{}"), &["tensor 'key'", "no calibration"]),
        (good().raw("query.tokens", "I64", &[1], vec![0; 8]), &["tensor 'query.tokens'", "0 tokens"]),
        (good().metadata("alias", "[1]"), &["alias"]),
        (Checkpoint::default(), &["tensor 'query'", "no calibration"]),
        (
            Checkpoint::default()
                .f64("query.gram", &[IN, IN], &crooked)
                .f32("query.absmax", &[IN], &absmax)
                .metadata("alias", r#"{"key":"query"}"#),
            &["tensor 'query'", "calibration"],
        ),
        (
            Checkpoint::default().f32("query", &[50, IN], &nan).metadata("alias", r#"{"key":"query"}"#),
            &["tensor 'query'"],
        ),
        (
            Checkpoint::default().f32("query", &[0, IN], &[]).metadata("alias", r#"{"key":"query"}"#),
            &["tensor 'query'", "no activations"],
        ),
    ];
    for (acts, words) in cases {
        let folder = Folder::new();
        let (input, calib, output) = (folder.path("in"), folder.path("acts"), folder.path("out"));
        // One tensor first, so that the order of checks does not decide which of two is named.
        let mut file = network();
        file.tensors.swap(0, 1);
        Checkpoint { tensors: vec![file.find("query").clone(), file.find("key").clone()], ..file }
            .write(&input);
        acts.write(&calib);
        let calib = calib.display().to_string();
        let exclude = if words[0].contains("query") && !words.iter().any(|w| w.contains("key")) {
            "^key$"
        } else {
            "^$"
        };
        let args = ["--method", "svdquant", "--rank", "4", "--exclude", exclude, "--calib", &calib];
        fail(&compress(&input, &output, &args), 3, words);
        assert_eq!(folder.names(), ["acts", "in"]);
    }
}

/// Calibration of another checkpoint is a mistake whatever the method; of some of the tensors it is said.
#[test]
fn calibration_of_other_tensors() {
    let folder = Folder::new();
    let (input, output, calib) = (folder.path("in"), folder.path("out"), folder.path("acts"));
    network().write(&input);
    let text = calib.display().to_string();
    let other = Checkpoint::default().f32("stranger", &[50, IN], &activations(50));
    for (acts, word) in [(other, "'stranger'"), (Checkpoint::default(), "empty")] {
        acts.write(&calib);
        for method in [&["--method", "rtn"][..], &["--method", "best"], &["--budget", "4"]] {
            let run = compress(&input, &output, &[method, &["--calib", &text]].concat());
            fail(&run, 3, &["no calibration", word, "captur"]);
            assert!(!output.exists());
        }
    }
    Checkpoint::default().f32("query", &[50, IN], &activations(50)).write(&calib);
    let run = compress(&input, &output, &["--method", "best", "--calib", &text]);
    succeed(&run);
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(said.contains("no calibration for") && said.contains("'key'"), "{said}");
}

#[test]
fn rounders_that_need_calibration_say_so() {
    let folder = Folder::new();
    let (input, output, calib) = (folder.path("in"), folder.path("out"), folder.path("acts"));
    network().write(&input);
    let (_, absmax) = moments(&activations(50));
    Checkpoint::default().f32("query.absmax", &[IN], &absmax).f32("key.absmax", &[IN], &absmax).write(&calib);
    let calib = calib.display().to_string();
    for args in [
        &["--method", "gptq"][..],
        &["--method", "cd"],
        &["--method", "ldlq"],
        &["--method", "lorc", "--rank", "4", "--rounder", "gptq", "--act-order"],
    ] {
        fail(&compress(&input, &output, args), 3, &["Gram", "--calib"]);
        let with_absmax = [args, &["--calib", &calib]].concat();
        fail(&compress(&input, &output, &with_absmax), 3, &["tensor 'query'", "gram"]);
    }
    fail(&compress(&input, &output, &["--method", "cd", "--act-order"]), 2, &["--act-order"]);
    fail(&compress(&input, &output, &["--method", "lowrank", "--rounder", "cd"]), 2, &["--rounder"]);
    assert_eq!(folder.names(), ["acts", "in"]);
    // These use calibration at most.
    succeed(&compress(&input, &output, &["--rounder", "mse", "--format", "uint4"]));
    succeed(&compress(&input, &output, &["--method", "hqq", "--format", "uint4"]));
}

#[test]
fn better_rounders_on_the_same_bits() {
    let folder = Folder::new();
    let (input, calib, report) = (folder.path("in"), folder.path("acts"), folder.path("report.json"));
    network().write(&input);
    let x = activations(300);
    Checkpoint::default().f32("query", &[300, IN], &x).f32("key", &[300, IN], &x).write(&calib);
    let (calib, report_text) = (calib.display().to_string(), report.display().to_string());
    let run = |extra: &[&str], threads: &str| {
        let output = folder.path("out");
        let fixed = ["--format", "uint3", "--calib", &calib, "--report", &report_text, "--threads", threads];
        succeed(&compress(&input, &output, &[&fixed, extra].concat()));
        let total = read_json(&report)["total"].clone();
        let number = |key: &str| total[key].as_f64().expect("a number");
        let bytes = std::fs::read(&output).expect("an output");
        (number("metric_error"), number("bits_per_weight"), bytes)
    };
    let (plain, bits, _) = run(&["--method", "rtn"], "2");
    for method in [
        &["--method", "gptq"][..],
        &["--method", "gptq", "--act-order"],
        &["--method", "ldlq"],
        &["--method", "cd"],
        &["--rounder", "mse"],
    ] {
        let (error, found_bits, bytes) = run(method, "2");
        assert!(error < 0.95 * plain, "{method:?}: {error} after {plain}");
        assert_eq!(found_bits, bits, "{method:?}");
        assert!(run(method, "1").2 == bytes, "{method:?}: the output depends on the number of threads");
    }
}
