//! `--budget`, `--config`, `--rest q8_0`.

use std::path::Path;

use serde_json::Value;

use crate::support::{Checkpoint, Folder, compress, fail, noise, read_json, run, succeed};

/// Matrices of different loudness and shape, and what is left alone.
fn network() -> Checkpoint {
    let mut file = Checkpoint::default();
    for (i, (rows, cols, scale)) in
        [(96, 128, 0.02), (64, 256, 0.3), (128, 64, 1.0), (64, 100, 0.1)].into_iter().enumerate()
    {
        file =
            file.f32(&format!("layer.{i}.weight"), &[rows, cols], &noise(rows * cols, 3 + i as u64, scale));
    }
    file.f32("embed.weight", &[10, 96], &noise(960, 20, 0.5)).f32("norm.weight", &[128], &noise(128, 21, 1.0))
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

/// Compresses with a report.
fn reported(input: &Path, folder: &Folder, name: &str, more: &[&str]) -> Value {
    let report = folder.path(&format!("{name}.json"));
    let text = report.to_str().expect("a plain path").to_owned();
    let mut args = more.to_vec();
    args.extend(["--report", &text]);
    succeed(&compress(input, &folder.path(name), &args));
    read_json(&report)
}

#[test]
fn the_budget_holds_and_no_format_alone_is_better() {
    let folder = Folder::new();
    let input = folder.path("in");
    network().write(&input);
    let formats = ["uint2", "uint3", "uint4", "uint5", "int6", "nf4"];
    let uniform: Vec<(f64, f64)> = formats
        .iter()
        .map(|format| {
            let total = reported(&input, &folder, format, &["--format", format])["total"].clone();
            (number(&total["bits_per_weight"]), number(&total["relative_error"]))
        })
        .collect();
    let mut before = f64::INFINITY;
    for budget in ["2.4", "3", "3.5", "4.25", "4.5", "5", "6"] {
        let report = reported(&input, &folder, budget, &["--budget", budget, "--format", &formats.join(",")]);
        let total = &report["total"];
        let (bits, error) = (number(&total["bits_per_weight"]), number(&total["relative_error"]));
        let limit: f64 = budget.parse().expect("a number");
        assert!(bits <= limit, "{bits} above {limit}");
        assert!(error <= before, "{budget}: {error} after {before}");
        before = error;
        for (other, (uniform_bits, uniform_error)) in formats.iter().zip(&uniform) {
            assert!(*uniform_bits > limit || error <= uniform_error * (1.0 + 1e-9), "{other} beats {budget}");
        }
        // What was promised is what came out.
        let found = &report["budget"];
        assert_eq!((number(&found["asked"]), number(&found["bits_per_weight"])), (limit, bits));
        assert!((number(&found["error"]) / error - 1.0).abs() < 1e-5, "{found} for {error}");
        let front = found["front"].as_array().expect("a front");
        assert!(front.windows(2).all(|pair| {
            number(&pair[0]["bits_per_weight"]) < number(&pair[1]["bits_per_weight"])
                && number(&pair[0]["error"]) > number(&pair[1]["error"])
        }));
        assert_eq!(found["uniform"].as_array().expect("a list").len(), formats.len());
    }
}

#[test]
fn every_default_candidate_runs_and_threads_do_not_matter() {
    let folder = Folder::new();
    let input = folder.path("in");
    network().write(&input);
    let one = reported(&input, &folder, "one", &["--method", "rtn", "--budget", "4.3", "--threads", "1"]);
    reported(&input, &folder, "four", &["--method", "rtn", "--budget", "4.3", "--threads", "4"]);
    assert!(number(&one["total"]["bits_per_weight"]) <= 4.3);
    // Blocks of 32 do not divide a row of 100; the others may take them.
    let uniform = one["budget"]["uniform"].as_array().expect("a list");
    let named = |name: &str| uniform.iter().any(|u| u["format"] == name);
    assert!(named("uint4") && named("nf4") && !named("q8_0") && !named("q4_k"), "{uniform:?}");
    let bytes = |name: &str| std::fs::read(folder.path(name)).expect("an output");
    assert!(bytes("one") == bytes("four"));
    // A method with a branch, and a rounder that fills no blocks.
    let report = reported(
        &input,
        &folder,
        "lorc",
        &["--budget", "6", "--method", "lorc", "--rank", "4", "--rounder", "hqq"],
    );
    assert!(number(&report["total"]["bits_per_weight"]) <= 6.0);
    let tensors = report["tensors"].as_array().expect("tensors");
    assert!(tensors.iter().all(|t| t["rank"] == 4 && t["method"] == "lorc"));
}

#[test]
fn a_plan_is_written_and_read_back() {
    let folder = Folder::new();
    let (input, plan) = (folder.path("in"), folder.path("plan.toml"));
    network().write(&input);
    let at = |name: &str| folder.path(name).to_str().expect("a plain path").to_owned();
    let (input_text, plan_text) = (at("in"), at("plan.toml"));
    let args = [
        "compress",
        &input_text,
        "--method",
        "rtn",
        "--budget",
        "3.7",
        "--config",
        &plan_text,
        "--dry-run",
        "--exclude",
        "layer.3",
    ];
    let printed = succeed(&run(&args));
    for word in ["layer.1.weight", "uint", "this plan", "plan.toml", "bits/weight"] {
        assert!(printed.contains(word), "{word}: {printed}");
    }
    assert_eq!(folder.names(), ["in", "plan.toml"]);
    let text = std::fs::read_to_string(&plan).expect("a plan");
    assert!(text.contains("budget = 3.7") && text.contains("name = \"layer.0.weight\""), "{text}");

    let direct =
        reported(&input, &folder, "direct", &["--method", "rtn", "--budget", "3.7", "--exclude", "layer.3"]);
    let read = reported(&input, &folder, "read", &["--config", &plan_text]);
    let tensors = |report: &Value| -> Vec<(Value, Value)> {
        let list = report["tensors"].as_array().expect("tensors").iter();
        list.map(|t| (t["format"].clone(), t["bits_per_weight"].clone())).collect()
    };
    assert_eq!(tensors(&direct), tensors(&read));
    assert!(read["budget"].is_null() && !direct["budget"].is_null());
    let skipped = read["skipped"].as_array().expect("skipped");
    assert!(
        skipped.iter().any(|s| s["name"] == "layer.3.weight" && s["reason"] == "not in the plan"),
        "{skipped:?}"
    );
    let parts = |name: &str| {
        let mut tensors = Checkpoint::read(&folder.path(name)).tensors;
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        tensors
    };
    assert_eq!(parts("direct"), parts("read"));
    let printed = succeed(&run(&["compress", &input_text, "--config", &plan_text, "--dry-run"]));
    assert!(printed.contains("nothing was written (--dry-run)"), "{printed}");

    // Written beside an output too, as the same text.
    let again = at("again.toml");
    succeed(&compress(
        &input,
        &folder.path("out"),
        &["--method", "rtn", "--budget", "3.7", "--exclude", "layer.3", "--config", &again],
    ));
    assert_eq!(std::fs::read_to_string(again).expect("a plan"), text);
}

#[test]
fn plans_that_do_not_fit_are_refused() {
    let folder = Folder::new();
    let (input, output, plan) = (folder.path("in"), folder.path("out"), folder.path("plan.toml"));
    network().write(&input);
    let text = plan.to_str().expect("a plain path");
    succeed(&compress(&input, &output, &["--method", "rtn", "--budget", "3.7", "--config", text]));
    let good = std::fs::read_to_string(&plan).expect("a plan");
    std::fs::remove_file(&output).expect("an output");
    let whole = |from: &str, to: &str| good.replacen(from, to, 1);
    let second = good.find("[[tensors]]").expect("tensors");
    for (bad, words) in [
        ("not toml".to_owned(), &["plan.toml", "line 1"][..]),
        (String::new(), &["plan.toml", "missing field"]),
        (whole("format_version = 1", "format_version = 99"), &["99"]),
        (whole("method = \"rtn\"", "method = \"magic\""), &["magic"]),
        (whole("layer.0.weight", "layer.7.weight"), &["layer.7.weight"]),
        (whole("layer.0.weight", "embed.weight"), &["embed.weight"]),
        (whole("layer.0.weight", "layer.1.weight"), &["layer.1.weight", "twice"]),
        (whole("weights = 12288", "weights = 12"), &["layer.0.weight", "12288"]),
        (whole("seed = 0", "seed = -1"), &["plan.toml"]),
        (format!("{}\nextra = 1\n{}", &good[..second], &good[second..]), &["extra"]),
        (whole("layer.0.weight", "layer\\u001b[31m.weight"), &["plan.toml"]),
        (
            good.replace("bits = 2", "bits = 20")
                .replace("bits = 3", "bits = 30")
                .replace("bits = 4", "bits = 40"),
            &["layer."],
        ),
    ] {
        std::fs::write(&plan, &bad).expect("a file");
        let run = compress(&input, &output, &["--config", text]);
        assert!(!String::from_utf8_lossy(&run.stderr).contains('\u{1b}'));
        fail(&run, 3, words);
        assert!(!output.exists(), "{bad}");
    }
    fail(&compress(&input, &output, &["--config", "/nowhere/plan.toml"]), 3, &["no such file"]);
    std::fs::write(&plan, &good).expect("a file");
    for flag in [
        &["--format", "int4"][..],
        &["--method", "rtn"],
        &["--rank", "3"],
        &["--seed", "1"],
        &["--group", "32"],
    ] {
        let args = [&["--config", text][..], flag].concat();
        fail(&compress(&input, &output, &args), 2, &[flag[0], "plan"]);
    }
    fail(&compress(&input, &plan, &["--config", text]), 3, &["is an input"]);
}

#[test]
fn budgets_that_cannot_be_met_name_the_smallest() {
    let folder = Folder::new();
    let (input, output) = (folder.path("in"), folder.path("out"));
    network().write(&input);
    let plan = folder.path("plan.toml");
    let text = plan.to_str().expect("a plain path");
    let run = compress(&input, &output, &["--budget", "2", "--format", "int4,uint3", "--config", text]);
    fail(&run, 3, &["--budget 2", "smallest"]);
    assert!(!output.exists() && !plan.exists());
    let message = String::from_utf8_lossy(&run.stderr).into_owned();
    let smallest = message.split("can is ").nth(1).and_then(|t| t.split(' ').next()).expect("a number");
    succeed(&compress(&input, &output, &["--budget", smallest, "--format", "int4,uint3"]));
    let below = format!("{}", smallest.parse::<f64>().expect("a number") - 0.002);
    fail(
        &compress(&input, &output, &["--budget", &below, "--format", "int4,uint3"]),
        3,
        &["smallest", smallest],
    );

    for (args, word) in [
        (&["--budget", "0"][..], "0"),
        (&["--budget", "nan"], "nan"),
        (&["--budget", "-3"], "-3"),
        (&["--budget", "4", "--method", "lowrank"], "--budget"),
        (&["--format", "int4,int5"], "--budget"),
        (&["--budget", "4", "--format", "int4,int9"], "int9"),
        (&["--budget", "4", "--format", "q8_0,q4_0", "--group", "32"], "--group"),
    ] {
        fail(&compress(&input, &output, args), 2, &[word]);
    }
    fail(&compress(&input, &output, &["--budget", "4", "--method", "gptq"]), 3, &["--calib"]);
    // A weight that is not finite is named, as without a budget.
    network().f32("bad.weight", &[64, 64], &[f32::NAN; 4096]).write(&input);
    fail(&compress(&input, &output, &["--budget", "4"]), 3, &["bad.weight", "[0, 0]", "NaN"]);
}

#[test]
fn calibration_decides_where_the_bits_go() {
    let folder = Folder::new();
    let (input, acts) = (folder.path("in"), folder.path("acts"));
    let (a, b) = (noise(64 * 64, 1, 0.3), noise(64 * 64, 2, 0.3));
    Checkpoint::default().f32("a.weight", &[64, 64], &a).f32("b.weight", &[64, 64], &b).write(&input);
    let identity =
        |scale: f64| -> Vec<f64> { (0..4096).map(|i| if i % 65 == 0 { scale } else { 0.0 }).collect() };
    let with = |weights: bool| {
        let mut file = Checkpoint::default().f64("a.weight.gram", &[64, 64], &identity(1.0));
        file = file.f64("b.weight.gram", &[64, 64], &identity(100.0));
        if weights {
            file = file.f32("a.weight.row_weight", &[64], &[1.0; 64]).f32(
                "b.weight.row_weight",
                &[64],
                &[1.0; 64],
            );
        }
        file.write(&acts);
        let acts = acts.to_str().expect("a plain path");
        let report = reported(
            &input,
            &folder,
            "out",
            &["--budget", "4", "--format", "uint2,uint3,uint4,uint5", "--calib", acts],
        );
        let bits = |i: usize| number(&report["tensors"][i]["bits_per_weight"]);
        let minimized = report["budget"]["minimized"].as_str().expect("a text").to_owned();
        (bits(0), bits(1), minimized)
    };
    // Plain activations: each layer counts alike. Weighed by gradients: the units agree, and the louder layer gets more.
    let (quiet, loud, minimized) = with(false);
    assert!((quiet - loud).abs() < 1.1 && minimized.contains("relative"), "{quiet} and {loud}: {minimized}");
    let (quiet, loud, minimized) = with(true);
    assert!(
        loud >= quiet + 1.0 && minimized == "squared error of outputs",
        "{quiet} and {loud}: {minimized}"
    );
    Checkpoint::default().f64("a.weight.gram", &[64, 64], &identity(1.0)).write(&acts);
    let text = acts.to_str().expect("a plain path");
    let args = ["--method", "rtn", "--budget", "4", "--calib", text];
    fail(&compress(&input, &folder.path("none"), &args), 3, &["b.weight"]);
}

#[test]
fn the_rest_as_q8_0() {
    let folder = Folder::new();
    let (input, small, back) = (folder.path("in"), folder.path("small"), folder.path("back"));
    let nan = [&[f32::NAN][..], &noise(63, 5, 1.0)].concat();
    let file = network().f16("tok.embed.weight", &[4, 64], &noise(256, 30, 2.0)).f32(
        "odd.embed",
        &[3, 33],
        &noise(99, 31, 1.0),
    );
    file.f32("nan.embed", &[2, 32], &nan).raw("ids", "I64", &[2], vec![0; 16]).write(&input);
    let report = reported(&input, &folder, "small", &["--rest", "q8_0", "--format", "int4"]);
    let reason = |name: &str| -> String {
        let list = report["skipped"].as_array().expect("skipped");
        let entry = list.iter().find(|s| s["name"] == name).expect("an entry");
        entry["reason"].as_str().expect("a text").to_owned()
    };
    for name in ["embed.weight", "tok.embed.weight"] {
        assert!(reason(name).ends_with("; stored as q8_0"), "{}", reason(name));
    }
    for name in ["norm.weight", "odd.embed", "ids"] {
        assert!(!reason(name).contains("q8_0"), "{}", reason(name));
    }
    assert!(reason("nan.embed").contains("kept as it is"), "{}", reason("nan.embed"));
    // What was left alone does not count among the compressed.
    assert_eq!(report["tensors"].as_array().map(Vec::len), Some(4));
    assert_eq!(number(&report["total"]["bits_per_weight"]), int4_bits());

    let run_back = |dtype: &str| {
        let args = [
            "decompress",
            small.to_str().expect("plain"),
            "-o",
            back.to_str().expect("plain"),
            "--dtype",
            dtype,
        ];
        succeed(&run(&args));
        Checkpoint::read(&back)
    };
    let (before, after) = (Checkpoint::read(&input), run_back("source"));
    for name in ["embed.weight", "tok.embed.weight"] {
        assert_eq!(
            (&after.find(name).dtype, &after.find(name).shape),
            (&before.find(name).dtype, &before.find(name).shape)
        );
        let (old, new) = (before.find(name).values(), after.find(name).values());
        for (old, new) in old.chunks(32).zip(new.chunks(32)) {
            let top = old.iter().fold(0.0_f64, |top, v| top.max(v.abs()));
            // Half a step, the scale's own rounding to f16, and that of the source's type.
            let bound = top / 127.0 * 0.5 + 1.01 * top * 2.0_f64.powi(-10);
            assert!(old.iter().zip(new).all(|(a, b)| (a - b).abs() <= bound), "{name}");
        }
    }
    for name in ["norm.weight", "odd.embed", "nan.embed", "ids"] {
        assert_eq!(before.find(name), after.find(name));
    }
    let listing = succeed(&run(&["inspect", small.to_str().expect("plain"), "--json"]));
    let listing: Value = serde_json::from_str(&listing).expect("JSON");
    assert_eq!(listing["total"]["compressed_weights"], 12288 + 16384 + 8192 + 6400);
}

/// Bits of `int4` on the four matrices: rows of 100 end in a short group.
fn int4_bits() -> f64 {
    let scales = 12288 / 64 + 16384 / 64 + 8192 / 64 + 64 * 2;
    (4.0 * 43264.0 + f64::from(scales) * 16.0) / 43264.0
}

#[test]
fn inspect_says_what_the_numbers_mean() {
    let folder = Folder::new();
    let (input, output) = (folder.path("in"), folder.path("out"));
    network().write(&input);
    succeed(&compress(
        &input,
        &output,
        &["--method", "lorc", "--format", "uint4", "--rank", "4", "--exclude", "layer.3"],
    ));
    let text = succeed(&run(&["inspect", output.to_str().expect("plain")]));
    for words in [
        "lorc: Quantize, then the best low-rank approximation",
        "uint4: whole numbers 0…15 less a zero point; groups of 64 share an f16 scale; 5.479",
        "bits per weight = 4 codes + 0.25 scales + 0.0625 zeros + 0.5 left + 0.6667 right",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let json = succeed(&run(&["inspect", output.to_str().expect("plain"), "--json"]));
    let json: Value = serde_json::from_str(&json).expect("JSON");
    let tensors = json["tensors"].as_array().expect("tensors");
    let meaning =
        |name: &str| tensors.iter().find(|t| t["name"] == name).expect("a tensor")["meaning"].clone();
    assert!(
        meaning("layer.1.weight").as_str().is_some_and(|m| m.contains("4 codes"))
            && meaning("norm.weight").is_null()
    );
    // The same words as the help's.
    let help = succeed(&run(&["compress", "--help"]));
    let help: String = help.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(help.contains("whole numbers 0…15 less a zero point; groups of 64 share an f16 scale"), "{help}");
    assert!(help.contains("Quantize, then the best low-rank approximation"), "{help}");
}

/// Under a budget the columns of each matrix share its bits; without one there is nothing to share, and vector codes
/// refuse what they cannot do.
#[test]
fn a_trellis_spends_the_budget_column_by_column() {
    let folder = Folder::new();
    let input = folder.path("in");
    network().write(&input);
    let mut before = f64::INFINITY;
    for budget in ["2.6", "3.3", "4"] {
        let total = &reported(&input, &folder, budget, &["--budget", budget, "--format", "trellis"])["total"];
        let (bits, error) = (number(&total["bits_per_weight"]), number(&total["relative_error"]));
        let limit: f64 = budget.parse().expect("a number");
        assert!(bits <= limit && bits > limit - 0.05, "{bits} of {limit}");
        assert!(error < 0.8 * before, "{error} after {before}");
        before = error;
        let back = folder.path("back");
        succeed(&run(&[
            "decompress".as_ref(),
            folder.path(budget).as_os_str(),
            "-o".as_ref(),
            back.as_os_str(),
        ]));
        assert_eq!(Checkpoint::read(&back).find("layer.0.weight").values().len(), 96 * 128);
    }
    let out = folder.path("out");
    fail(&compress(&input, &out, &["--format", "trellis"]), 2, &["trellis", "--budget"]);
    fail(&compress(&input, &out, &["--format", "trellis3", "--group", "32"]), 2, &["--group", "trellis3"]);
    fail(&compress(&input, &out, &["--format", "e8p", "--method", "hqq"]), 2, &["e8p", "hqq"]);
}
