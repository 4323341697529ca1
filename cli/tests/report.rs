//! The reports' form.

use crate::support::{Checkpoint, Folder, compress, noise, read_json, succeed};

fn network() -> Checkpoint {
    let mut file = Checkpoint::default().f32("bias", &[64], &noise(64, 60, 0.1));
    for i in 0..5_u64 {
        let name = format!("layer.{i}.<weight>&");
        file = file.f32(&name, &[80, 96], &noise(80 * 96, 61 + i, 0.1));
    }
    file
}

#[test]
fn json_has_every_key_of_the_contract() {
    let folder = Folder::new();
    let (input, report) = (folder.path("in"), folder.path("report.json"));
    network().write(&input);
    let text = report.display().to_string();
    for args in [&["--method", "rtn"][..], &["--method", "lowrank"], &["--method", "lorc", "--group", "row"]]
    {
        let args: Vec<&str> = args.iter().copied().chain(["--seed", "3", "--report", &text]).collect();
        succeed(&compress(&input, &folder.path("out"), &args));
        let report = read_json(&report);
        let keys = |value: &serde_json::Value| -> Vec<String> {
            let mut keys: Vec<String> = value.as_object().expect("an object").keys().cloned().collect();
            keys.sort();
            keys
        };
        let sorted = |names: &[&str]| {
            let mut names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            names.sort();
            names
        };
        assert_eq!(
            keys(&report),
            sorted(&[
                "format_version",
                "rankbit_version",
                "input",
                "seed",
                "tensors",
                "skipped",
                "budget",
                "total"
            ])
        );
        let tensor_keys = [
            "name",
            "shape",
            "method",
            "recipe",
            "format",
            "group",
            "rank",
            "activations",
            "sparsity",
            "bits_per_weight",
            "relative_error",
            "metric_error",
            "predicted_error",
            "seconds",
            "warnings",
        ];
        assert_eq!(keys(&report["tensors"][0]), sorted(&tensor_keys));
        assert_eq!(keys(&report["skipped"][0]), sorted(&["name", "reason"]));
        let total_keys = [
            "bits_per_weight",
            "relative_error",
            "mean_relative_error",
            "metric_error",
            "mean_metric_error",
            "bytes_in",
            "bytes_out",
            "seconds",
        ];
        assert_eq!(keys(&report["total"]), sorted(&total_keys));
        let tensor = &report["tensors"][0];
        assert!(tensor["sparsity"].is_null() && tensor["metric_error"].is_null());
        assert_eq!(tensor["recipe"]["seed"], 3);
        match args[1] {
            "rtn" => assert!(tensor["rank"].is_null() && tensor["group"] == 64 && tensor["format"] == "nf4"),
            "lowrank" => {
                assert!(tensor["rank"] == 16 && tensor["group"].is_null() && tensor["format"].is_null())
            }
            _ => assert!(tensor["rank"] == 16 && tensor["group"] == "row"),
        }
    }
}

#[test]
fn html_is_one_file_that_fetches_nothing_and_escapes_names() {
    let folder = Folder::new();
    let (input, html, json) = (folder.path("in"), folder.path("report.html"), folder.path("report.json"));
    network().write(&input);
    let (html_text, json_text) = (html.display().to_string(), json.display().to_string());
    let args = ["--method", "svdquant", "--rank", "4", "--report", &html_text, "--report", &json_text];
    succeed(&compress(&input, &folder.path("out"), &args));
    let page = std::fs::read_to_string(&html).expect("the page");
    assert!(json.exists());
    for banned in ["http://", "https://", "<script", "src=", "@import", "url(", "<weight>"] {
        let found = page.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
        assert!(!found.contains(banned), "{banned}");
    }
    for expected in
        ["prefers-color-scheme: dark", "layer.0.&lt;weight&gt;&amp;", "<svg", "viewBox", "lq-lora"]
    {
        assert!(page.contains(expected), "{expected}");
    }
    // Two charts of errors, three spectra, three comparisons; the limit in one and in the last three.
    assert_eq!(page.matches("<figure>").count(), 8);
    assert_eq!(page.matches("2⁻ᵇ, Gaussian limit").count(), 4);
    assert!(!page.contains("NaN"), "no chart holds a NaN");
}

#[test]
fn html_of_a_file_without_matrices() {
    let folder = Folder::new();
    let (input, html) = (folder.path("in"), folder.path("report.html"));
    Checkpoint::default().f32("bias", &[64], &noise(64, 60, 0.1)).write(&input);
    let text = html.display().to_string();
    succeed(&compress(&input, &folder.path("out"), &["--report", &text]));
    assert!(std::fs::read_to_string(&html).expect("the page").contains("left alone"));
}

#[test]
fn quiet_prints_nothing() {
    let folder = Folder::new();
    let input = folder.path("in");
    network().write(&input);
    let output = compress(&input, &folder.path("out"), &["-q"]);
    assert_eq!(succeed(&output), "");
    assert!(output.stderr.is_empty());
    let loud = compress(&input, &folder.path("out"), &["-v"]);
    assert!(String::from_utf8_lossy(&loud.stderr).contains("layer.4"));
    let plain = compress(&input, &folder.path("out"), &[]);
    assert!(plain.stderr.is_empty(), "no progress when stderr is no terminal");
    assert!(succeed(&plain).contains("smaller"));
}

#[test]
fn warnings_that_go_to_a_file_hold_no_escape_sequences() {
    let folder = Folder::new();
    let (input, output) = (folder.path("in"), folder.path("out"));
    Checkpoint::default().f32("tiny", &[64, 64], &noise(64 * 64, 5, 1e-30)).write(&input);
    let run = compress(&input, &output, &["--format", "int4"]);
    let stderr = String::from_utf8_lossy(&run.stderr).into_owned();
    succeed(&run);
    assert!(stderr.contains("WARN tensor 'tiny': scales stored as f32"), "{stderr}");
    assert!(!stderr.contains('\u{1b}'), "{stderr:?}");
}
