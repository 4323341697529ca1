//! Methods with a low-rank term from end to end, `--factors`, `--keep`, `--smooth search`, and `spectrum`.

use crate::support::{Checkpoint, Folder, compress, fail, noise, read_json, run, succeed};
use std::path::Path;

const OUT: usize = 80;
const IN: usize = 96;

/// Inputs that are correlated, loud in a few channels, and not centred.
fn activations(tokens: usize) -> Vec<f32> {
    let mut x = noise(tokens * IN, 50, 1.0);
    for (t, row) in x.chunks_exact_mut(IN).enumerate() {
        let common = row[t % 7] + 0.5;
        for (j, value) in row.iter_mut().enumerate() {
            *value = (*value + common) * if j % 24 == 5 { 20.0 } else { 1.0 };
        }
    }
    x
}

fn network() -> Checkpoint {
    let mut weight = noise(OUT * IN, 51, 0.1);
    let (left, right) = (noise(OUT, 52, 1.0), noise(IN, 53, 1.0));
    for (i, row) in weight.chunks_exact_mut(IN).enumerate() {
        for (value, r) in row.iter_mut().zip(&right) {
            *value += left[i] * r;
        }
    }
    Checkpoint::default()
        .f32("layer.weight", &[OUT, IN], &weight)
        .f32("layer.bias", &[OUT], &noise(OUT, 54, 1.0))
        .f32("other.weight", &[OUT, IN], &noise(OUT * IN, 55, 0.1))
}

/// A checkpoint and its calibration.
fn files(folder: &Folder) -> (std::path::PathBuf, String) {
    let (input, acts) = (folder.path("in"), folder.path("acts"));
    network().write(&input);
    Checkpoint::default()
        .f32("layer.weight", &[400, IN], &activations(400))
        .metadata("alias", r#"{"other.weight":"layer.weight"}"#)
        .write(&acts);
    (input, acts.display().to_string())
}

/// Mean squared outputs' error of two dense checkpoints' first layer, relative, biases included.
fn output_error(a: &Checkpoint, b: &Checkpoint) -> f64 {
    let x = activations(400);
    let outputs = |file: &Checkpoint| {
        let (w, bias) = (file.find("layer.weight").values(), file.find("layer.bias").values());
        let mut y = Vec::new();
        for row in x.chunks_exact(IN) {
            for (weights, b) in w.chunks_exact(IN).zip(&bias) {
                y.push(row.iter().zip(weights).map(|(x, w)| f64::from(*x) * w).sum::<f64>() + b);
            }
        }
        y
    };
    let w = a.find("layer.weight").values();
    let norm: f64 = x
        .chunks_exact(IN)
        .flat_map(|row| {
            w.chunks_exact(IN).map(move |weights| {
                row.iter().zip(weights).map(|(x, w)| f64::from(*x) * w).sum::<f64>().powi(2)
            })
        })
        .sum();
    let (ya, yb) = (outputs(a), outputs(b));
    (ya.iter().zip(&yb).map(|(a, b)| (a - b) * (a - b)).sum::<f64>() / norm).sqrt()
}

fn dense(folder: &Folder, compressed: &Path) -> Checkpoint {
    let path = folder.path("dense");
    succeed(&run(&["decompress".as_ref(), compressed.as_os_str(), "-o".as_ref(), path.as_os_str()]));
    Checkpoint::read(&path)
}

/// Every method runs, its report's errors are those of the dense files, and its size is what a dry run says.
#[test]
fn methods_from_end_to_end() {
    let folder = Folder::new();
    let (input, acts) = files(&folder);
    let (output, report) = (folder.path("out"), folder.path("report.json"));
    let report_text = report.display().to_string();
    for (method, more) in [
        ("eora", vec!["--format", "uint3", "--rank", "4"]),
        ("qera", vec!["--format", "uint3", "--rank", "4", "--factors", "bf16"]),
        ("qera-diagonal", vec!["--format", "uint3", "--rank", "4"]),
        ("loftq", vec!["--format", "uint3", "--rank", "4", "--rounds", "3"]),
        ("loldu", vec!["--format", "uint3", "--rank", "4"]),
        ("lrec", vec!["--format", "uint3", "--rank", "4", "--rounds", "2"]),
        ("caldera", vec!["--format", "uint3", "--rank", "4", "--rounds", "2", "--factors", "int4"]),
        (
            "caldera",
            vec![
                "--format",
                "uint3",
                "--rank",
                "4",
                "--rounds",
                "2",
                "--rounder",
                "gptq",
                "--factors",
                "int8",
            ],
        ),
        ("lq-lora-fisher", vec!["--format", "uint3", "--rank", "4"]),
        ("svdquant", vec!["--format", "int4", "--rank", "4", "--smooth", "search", "--rounds", "2"]),
        (
            "svdquant",
            vec![
                "--format",
                "int4",
                "--rank",
                "4",
                "--smooth",
                "search",
                "--activations",
                "int4",
                "--rounds",
                "1",
                "--rounder",
                "gptq",
            ],
        ),
        ("svd-llm", vec!["--rank", "8"]),
        ("asvd", vec!["--keep", "0.4"]),
        ("dsformer", vec!["--rank", "24"]),
        ("rpca", vec!["--rank", "4", "--sparsity", "0.9"]),
        ("lord", vec!["--rank", "8", "--factors", "int8"]),
    ] {
        let args =
            [&["--method", method, "--calib", &acts, "--report", &report_text], more.as_slice()].concat();
        succeed(&compress(&input, &output, &args));
        let found = read_json(&report);
        let layer = found["tensors"]
            .as_array()
            .expect("tensors")
            .iter()
            .find(|t| t["name"] == "layer.weight")
            .expect("reported");
        let expected = output_error(&network(), &dense(&folder, &output));
        let stated = layer["metric_error"].as_f64().expect("a metric error");
        assert!((stated - expected).abs() <= 1e-4 * expected + 1e-6, "{method}: {stated} against {expected}");
        let dry = [&["--method", method, "--calib", &acts, "--dry-run"], more.as_slice()].concat();
        let planned = succeed(&compress(&input, &output, &dry));
        let bits = format!("{:.3}", layer["bits_per_weight"].as_f64().expect("bits"));
        assert!(planned.contains(&bits), "{method}: {bits} is not in {planned}");
        let searched = layer["recipe"]["transform"].to_string();
        assert!(!searched.contains("search"), "{method}: the exponents found are recorded: {searched}");
    }
}

/// A table's entries count by how often they are looked up: weights of rows are all that it takes.
#[test]
fn a_table_is_weighed_by_its_look_ups() {
    let folder = Folder::new();
    let (input, output, counts) = (folder.path("in"), folder.path("out"), folder.path("counts"));
    let table = Checkpoint::default().f32("layer.weight", &[OUT, IN], &noise(OUT * IN, 60, 0.1));
    table.write(&input);
    let looked_up: Vec<f32> = (0..OUT).map(|i| if i % 5 == 0 { 40.0 } else { 1.0 }).collect();
    Checkpoint::default().f32("layer.weight.row_weight", &[OUT], &looked_up).write(&counts);
    let counts = counts.display().to_string();
    let error = |args: &[&str]| {
        succeed(&compress(&input, &output, &[args, &["--rank", "8", "--factors", "f32"]].concat()));
        let (w, found) =
            (table.find("layer.weight").values(), dense(&folder, &output).find("layer.weight").values());
        let weighed = |v: &dyn Fn(usize) -> f64| -> f64 {
            (0..OUT * IN).map(|i| f64::from(looked_up[i / IN]) * v(i).powi(2)).sum()
        };
        (weighed(&|i| w[i] - found[i]) / weighed(&|i| w[i])).sqrt()
    };
    let plain = error(&["--method", "lowrank"]);
    let weighed = error(&["--method", "unified-ctr", "--calib", &counts]);
    assert!(weighed < 0.95 * plain, "{weighed} against {plain}");
    let (_, acts) = files(&folder);
    let refuse = |code, args: &[&str], words: &[&str]| fail(&compress(&input, &output, args), code, words);
    refuse(3, &["--method", "unified-ctr", "--calib", &acts], &["layer.weight.row_weight"]);
    refuse(3, &["--method", "eora", "--calib", &counts], &["layer.weight.gram"]);
}

/// WeLore spends where spectra fall, leaves the rest dense and says so.
#[test]
fn welore_finds_ranks() {
    let folder = Folder::new();
    let (input, _) = files(&folder);
    let (output, report) = (folder.path("out"), folder.path("report.json"));
    let report_text = report.display().to_string();
    succeed(&compress(&input, &output, &["--method", "welore", "--keep", "0.6", "--report", &report_text]));
    let found = read_json(&report);
    let tensors = found["tensors"].as_array().expect("tensors");
    let kept: f64 = tensors.iter().map(|t| t["rank"].as_f64().expect("a rank") * (OUT + IN) as f64).sum();
    let dense = 2 - tensors.len();
    assert!(kept + (dense * OUT * IN) as f64 <= 0.6 * (2 * OUT * IN) as f64, "{found}");
    assert!(tensors.iter().any(|t| t["name"] == "layer.weight"), "{found}");
    let planned = succeed(&compress(&input, &output, &["--method", "welore", "--keep", "0.6", "--dry-run"]));
    assert!(planned.contains("layer.weight"), "{planned}");
    // Nothing is a low-rank component when everything is to stay.
    succeed(&compress(&input, &output, &["--method", "welore", "--keep", "1", "--report", &report_text]));
    let skipped = read_json(&report)["skipped"].to_string();
    assert!(skipped.contains("no low-rank component"), "{skipped}");
}

#[test]
fn what_is_refused() {
    let folder = Folder::new();
    let (input, acts) = files(&folder);
    let output = folder.path("out");
    let refuse = |code, args: &[&str], words: &[&str]| fail(&compress(&input, &output, args), code, words);
    for method in [
        "eora",
        "qera",
        "qera-diagonal",
        "lrec",
        "caldera",
        "lord",
        "unified-ctr",
        "svd-llm",
        "asvd",
        "lq-lora-fisher",
    ] {
        refuse(3, &["--method", method], &["--calib"]);
    }
    refuse(2, &["--method", "eora", "--calib", &acts, "--keep", "0.5"], &["--keep"]);
    refuse(2, &["--method", "lord", "--calib", &acts, "--keep", "0.5", "--rank", "3"], &["--keep", "--rank"]);
    refuse(2, &["--method", "welore", "--rank", "3"], &["--rank"]);
    refuse(2, &["--method", "lrec", "--calib", &acts, "--factors", "int8"], &["--factors"]);
    refuse(3, &["--method", "eora", "--smooth", "search"], &["--calib"]);
    refuse(3, &["--method", "eora", "--calib", &acts, "--rank", "81"], &["layer.weight", "81", "80"]);
    // Calibration that does not do.
    let calib = |name: &str, file: Checkpoint| {
        let path = folder.path(name);
        file.write(&path);
        path.display().to_string()
    };
    let alias = r#"{"other.weight":"layer.weight"}"#;
    let zeros = calib(
        "zeros",
        Checkpoint::default().f32("layer.weight", &[50, IN], &vec![0.0; 50 * IN]).metadata("alias", alias),
    );
    let wide = calib(
        "wide",
        Checkpoint::default()
            .f32("layer.weight", &[50, IN + 1], &vec![1.0; 50 * (IN + 1)])
            .metadata("alias", alias),
    );
    let foreign = calib("foreign", Checkpoint::default().f32("somewhere", &[50, IN], &vec![1.0; 50 * IN]));
    let nan = calib(
        "nan",
        Checkpoint::default()
            .f32("layer.weight", &[50, IN], &vec![f32::NAN; 50 * IN])
            .metadata("alias", alias),
    );
    let gram: Vec<f64> = (0..IN * IN).map(|i| if i % (IN + 1) == 0 { 1.0 } else { 0.0 }).collect();
    let bare = calib(
        "bare",
        Checkpoint::default().f64("layer.weight.gram", &[IN, IN], &gram).metadata("alias", alias),
    );
    for method in ["eora", "caldera", "svd-llm", "lord", "asvd"] {
        refuse(3, &["--method", method, "--calib", &zeros], &["layer.weight", "zero"]);
        refuse(3, &["--method", method, "--calib", &wide], &["layer.weight", "96"]);
        refuse(3, &["--method", method, "--calib", &foreign], &["layer.weight", "calibration"]);
        refuse(3, &["--method", method, "--calib", &nan], &["layer.weight"]);
    }
    refuse(3, &["--method", "lord", "--calib", &bare], &["mean"]);
    refuse(3, &["--method", "asvd", "--calib", &bare], &["mean_abs"]);
    // Too few tokens work, and the report says so.
    let few = calib(
        "few",
        Checkpoint::default().f32("layer.weight", &[20, IN], &activations(20)).metadata("alias", alias),
    );
    let report = folder.path("report.json");
    succeed(&compress(
        &input,
        &output,
        &["--method", "eora", "--calib", &few, "--report", &report.display().to_string()],
    ));
    let warnings = read_json(&report)["tensors"][0]["warnings"].to_string();
    assert!(warnings.contains("20 calibration tokens for 96 inputs"), "{warnings}");
}

/// A table, JSON and a page; also of a compressed file; and what is refused.
#[test]
fn spectra_are_shown() {
    let folder = Folder::new();
    let (input, _) = files(&folder);
    let input_text = input.display().to_string();
    let page = folder.path("page.html");
    let page_text = page.display().to_string();
    let text = succeed(&run(&["spectrum", &input_text, "--html", &page_text]));
    assert!(text.contains("layer.weight") && text.contains("effective rank"), "{text}");
    let html = std::fs::read_to_string(&page).expect("a page");
    assert!(html.contains("<svg") && html.contains("other.weight"));
    let json: serde_json::Value =
        serde_json::from_str(&succeed(&run(&["spectrum", &input_text, "--json"]))).expect("JSON");
    let layer = &json[0];
    assert_eq!(
        (&layer["name"], layer["singular_values"].as_array().map(Vec::len)),
        (&"layer.weight".into(), Some(OUT))
    );
    let sigma: Vec<f64> =
        layer["singular_values"].as_array().expect("values").iter().filter_map(|v| v.as_f64()).collect();
    let norm: f64 = network().find("layer.weight").values().iter().map(|w| w * w).sum();
    assert!((sigma.iter().map(|s| s * s).sum::<f64>() / norm - 1.0).abs() <= 1e-5);
    let number = |key: &str| layer[key].as_f64().expect("a number");
    assert!(number("stable_rank") >= 1.0 && number("stable_rank") <= number("effective_rank"), "{layer}");
    assert!(number("best_format_error") > 0.0 && layer["best_format"].is_string());
    let output = folder.path("out");
    succeed(&compress(&input, &output, &["--method", "lorc"]));
    let of_compressed = succeed(&run(&["spectrum", &output.display().to_string(), "--include", "layer"]));
    assert!(of_compressed.contains("layer.weight") && !of_compressed.contains("other.weight"));
    fail(&run(&["spectrum", &input_text, "--include", "nowhere"]), 3, &["no matrix"]);
    fail(&run(&["spectrum", &input_text, "--html", &input_text]), 3, &["output is an input"]);
    fail(&run(&["spectrum", &folder.path("missing").display().to_string()]), 3, &["missing"]);
}

#[test]
fn help_lists_methods_by_family() {
    let help = succeed(&run(&["compress", "--help"]));
    for words in [
        "Few bits, W ≈ Q",
        "Few bits and few ranks, W ≈ Q + L·R",
        "Few ranks, W ≈ L·R",
        "eora",
        "svd-llm",
        "caldera",
    ] {
        assert!(help.contains(words), "{words} is not in {help}");
    }
}
