//! `--sparsity` and the methods that prune, with and beside everything else.

use crate::support::{Checkpoint, Folder, compress, fail, noise, read_json, run, succeed};

const OUT: usize = 64;
const IN: usize = 128;

/// Inputs of different sizes that resemble their neighbours.
fn activations() -> Vec<f32> {
    let tokens = 300;
    let x = noise(tokens * IN, 50, 1.0);
    let size = |j: usize| if j % 16 == 3 { 8.0 } else { 1.0 };
    (0..tokens * IN).map(|i| (x[i] + x[(i + 1) % (tokens * IN)]) * size(i % IN)).collect()
}

/// A folder with a network of two matrices and their calibration.
fn set_up() -> Folder {
    let folder = Folder::new();
    let network = Checkpoint::default()
        .f32("query", &[OUT, IN], &noise(OUT * IN, 51, 0.1))
        .f32("key", &[OUT, IN], &noise(OUT * IN, 52, 0.1))
        .f32("bias", &[OUT], &noise(OUT, 53, 0.1));
    network.write(&folder.path("in"));
    let acts = Checkpoint::default().f32("query", &[300, IN], &activations());
    acts.metadata("alias", r#"{"key":"query"}"#).write(&folder.path("acts"));
    folder
}

/// Compresses and decompresses; the report and the dense `query`.
fn there_and_back(folder: &Folder, more: &[&str]) -> (serde_json::Value, Vec<f64>) {
    let (input, output, dense) = (folder.path("in"), folder.path("out"), folder.path("dense"));
    let (report, acts) = (folder.path("report.json"), folder.path("acts"));
    let mut arguments = vec!["--report", report.to_str().expect("a plain path")];
    arguments.extend(
        more.iter().map(|&text| if text == "ACTS" { acts.to_str().expect("a plain path") } else { text }),
    );
    succeed(&compress(&input, &output, &arguments));
    succeed(&run(&["decompress".as_ref(), output.as_os_str(), "-o".as_ref(), dense.as_os_str()]));
    (read_json(&report), Checkpoint::read(&dense).find("query").values())
}

fn kept_of_four(values: &[f64]) -> usize {
    values.chunks_exact(4).map(|group| group.iter().filter(|v| **v != 0.0).count()).max().unwrap_or(0)
}

#[test]
fn each_method_keeps_two_of_four_and_loses_less_than_the_one_before() {
    let folder = set_up();
    let mut last = f64::INFINITY;
    for method in ["magnitude", "wanda", "sparsegpt", "admm"] {
        let (report, dense) = there_and_back(&folder, &["--method", method, "--calib", "ACTS"]);
        let tensor = &report["tensors"][0];
        assert_eq!((&tensor["method"], &tensor["sparsity"]), (&method.into(), &"2:4".into()));
        assert_eq!(
            (&tensor["format"], &tensor["rank"]),
            (&serde_json::Value::Null, &serde_json::Value::Null)
        );
        assert_eq!(report["total"]["bits_per_weight"].as_f64(), Some(9.0));
        assert_eq!(kept_of_four(&dense), 2);
        let error = report["total"]["metric_error"].as_f64().expect("a number");
        assert!(error < last, "{method}: {error} after {last}");
        last = error;
    }
    // The pattern alone chooses the method that fits what is known.
    let (report, _) = there_and_back(&folder, &["--sparsity", "1:4"]);
    assert_eq!(report["tensors"][0]["method"], "magnitude");
    let (report, dense) = there_and_back(&folder, &["--sparsity", "1:4", "--calib", "ACTS"]);
    assert_eq!((&report["tensors"][0]["method"], kept_of_four(&dense)), (&"sparsegpt".into(), 1));
}

#[test]
fn kept_values_take_formats_and_a_branch_takes_what_they_lose() {
    let folder = set_up();
    let error = |more: &[&str], bits: f64| {
        let (report, _) =
            there_and_back(&folder, &[&["--method", "wanda", "--calib", "ACTS"], more].concat());
        let found = report["total"]["bits_per_weight"].as_f64().expect("a number");
        assert!((found - bits).abs() < 1e-9, "{more:?}: {found}");
        report["total"]["metric_error"].as_f64().expect("a number")
    };
    let branch = 4.0 * 16.0 * (OUT + IN) as f64 / (OUT * IN) as f64;
    let alone = error(&["--format", "int4"], 3.125);
    let with_branch = error(&["--format", "int4", "--rank", "4"], 3.125 + branch);
    let wider = error(&["--format", "int8", "--group", "row"], 5.0 + 16.0 / IN as f64);
    assert!(with_branch < alone && wider < alone, "{alone} {with_branch} {wider}");
    // Blocks that do not divide the kept values of a row give way, and the report says so.
    let (report, _) = there_and_back(&folder, &["--sparsity", "1:8", "--format", "q4_0"]);
    assert_eq!(report["tensors"][0]["format"], "int8");
    assert!(report["tensors"][0]["warnings"][0].as_str().is_some_and(|text| text.contains("kept values")));
}

#[test]
fn outliers_beside_other_terms() {
    let folder = set_up();
    let error = |more: &[&str]| {
        let (report, _) = there_and_back(&folder, more);
        let total = &report["total"];
        let number = |key: &str| total[key].as_f64().expect("a number");
        (number("relative_error"), number("bits_per_weight"), report["tensors"][0]["sparsity"].clone())
    };
    let (plain, bits, none) = error(&["--format", "int3"]);
    let (found, more, some) = error(&["--method", "rtn", "--format", "int3", "--sparsity", "0.95"]);
    assert!(found < plain && more > bits && more < bits + 2.5, "{plain} {found} {bits} {more}");
    assert!(none.is_null() && some == "0.95", "{some}");
    let lq =
        ["--method", "lq-lora", "--format", "int3", "--rank", "4", "--sparsity", "0.95", "--calib", "ACTS"];
    assert_eq!(error(&lq).2, "0.95");
    let (low, ..) = error(&["--method", "lowrank", "--rank", "8"]);
    let (both, ..) = error(&["--method", "lowrank", "--rank", "8", "--sparsity", "0.8", "--rounds", "3"]);
    assert!(both < low, "{both} for {low}");
    let (_, blocks, name) = error(&["--sparsity", "16x8:0.5"]);
    assert!(name == "16x8:0.5" && blocks < 8.5, "{blocks}");
}

#[test]
fn inspect_and_dry_run_tell_of_it() {
    let folder = set_up();
    let (input, output) = (folder.path("in"), folder.path("out"));
    succeed(&compress(&input, &output, &["--sparsity", "2:4", "--format", "int4"]));
    let text = succeed(&run(&["inspect".as_ref(), output.as_os_str()]));
    for words in ["sparsity", "2:4", "2 of every 4 inputs kept as whole numbers -7…7", "1 sparse indices"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let text = succeed(&compress(&input, &output, &["--sparsity", "2:4", "--format", "int4", "--dry-run"]));
    assert!(text.contains("3.125") && text.contains("int4"), "{text}");
    let text = succeed(&compress(&input, &output, &["--sparsity", "0.5", "--dry-run"]));
    // Half of the weights in 16 bits, 16 for their column, and where rows start.
    assert!(text.contains(&format!("{:.3}", 16.0 + 32.0 * (OUT + 1) as f64 / (OUT * IN) as f64)), "{text}");
}

#[test]
fn what_means_nothing_or_is_missing_is_said() {
    let folder = set_up();
    let (input, output) = (folder.path("in"), folder.path("out"));
    let refuse = |code, arguments: &[&str], words: &[&str]| {
        fail(&compress(&input, &output, arguments), code, words);
        assert!(!output.exists());
    };
    for method in ["wanda", "ria", "sparsegpt", "admm"] {
        refuse(3, &["--method", method], &[method, "--calib"]);
    }
    refuse(2, &["--sparsity", "5:4"], &["--sparsity", "5:4"]);
    refuse(2, &["--sparsity", "most"], &["--sparsity", "most"]);
    refuse(2, &["--method", "magnitude", "--group", "32"], &["--group", "--format"]);
    refuse(2, &["--method", "magnitude", "--rotate"], &["--rotate", "no quantized term"]);
    refuse(2, &["--method", "magnitude", "--rounds", "3"], &["--rounds", "--rank"]);
    refuse(2, &["--method", "magnitude", "--factors", "f32"], &["--factors", "--rank"]);
    refuse(2, &["--method", "magnitude", "--format", "trellis2"], &["trellis2"]);
    refuse(2, &["--sparsity", "0.5", "--format", "int4"], &["0.5", "int4", "--method rtn"]);
    refuse(2, &["--sparsity", "2:4", "--format", "int4", "--rounder", "gptq"], &["gptq", "kept values"]);
    refuse(2, &["--sparsity", "2:4", "--budget", "4"], &["--budget", "magnitude"]);
    // Calibration without what the method needs names the tensor and the part.
    let acts = folder.path("light");
    Checkpoint::default().f32("query.absmax", &[IN], &[1.0; IN]).write(&acts);
    let acts = acts.to_str().expect("a plain path");
    refuse(3, &["--method", "admm", "--calib", acts], &["query.gram"]);
}
