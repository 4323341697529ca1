//! What goes in comes out, with exactly the error that the report states.

use std::path::Path;

use crate::support::{Checkpoint, Folder, Stored, compress, noise, read_json, run, succeed};
use serde_json::Value;

/// Weights of a small network in three types, a 1×1 convolution, and tensors that are left alone.
fn network() -> Checkpoint {
    let low_rank = |seed: u64| -> Vec<f32> {
        let (u, v) = (noise(96, seed, 1.0), noise(128, seed + 1, 1.0));
        let rest = noise(96 * 128, seed + 2, 0.05);
        (0..96 * 128).map(|i| u[i / 128] * v[i % 128] + rest[i]).collect()
    };
    Checkpoint::default()
        .metadata("format", "pt")
        .raw("ids", "I64", &[3], (0..24).collect())
        .f32("a.weight", &[96, 128], &low_rank(10))
        .f32("a.bias", &[96], &noise(96, 4, 0.1))
        .f16("b.weight", &[96, 128], &low_rank(20))
        .raw("odd", "U8", &[3], vec![1, 2, 3])
        .bf16("c.weight", &[96, 128], &low_rank(30))
        .f32("conv.weight", &[64, 70, 1, 1], &noise(64 * 70, 5, 0.1))
        .f32("conv3.weight", &[64, 64, 3, 3], &noise(64 * 64 * 9, 6, 0.1))
        .f32("embeddings.word_embeddings.weight", &[200, 64], &noise(200 * 64, 7, 0.1))
        .f64("wide", &[2], &[1.0, -2.5])
        .f32("empty", &[0, 64], &[])
}

const MATRICES: [&str; 4] = ["a.weight", "b.weight", "c.weight", "conv.weight"];

fn decompress(input: &Path, output: &Path, dtype: &str) {
    let args = ["decompress".as_ref(), input.as_os_str(), "-o".as_ref(), output.as_os_str()];
    let mut command = crate::support::command(&args);
    succeed(&command.args(["--dtype", dtype]).output().expect("the program starts"));
}

/// ‖a − b‖² and ‖a‖².
fn squares(a: &Stored, b: &Stored) -> (f64, f64) {
    let (a, b) = (a.values(), b.values());
    assert_eq!(a.len(), b.len());
    let error = a.iter().zip(&b).map(|(a, b)| (a - b) * (a - b)).sum();
    (error, a.iter().map(|a| a * a).sum())
}

/// |a − b| within 1e-9 of b; NaN fails.
fn assert_close(a: f64, b: f64, what: &str) {
    assert!((a - b).abs() <= 1e-9 * b.abs(), "{what}: {a} against {b}");
}

/// Every format by its name: written, read back, reported; blocks that do not divide a row give way.
#[test]
fn every_format_is_written_and_read() {
    let names = "int2 int3 int4 int5 int6 int7 int8 uint2 uint3 uint4 uint5 uint6 uint7 uint8 nf2 nf3 nf4 bnb-fp4 \
                 fp8-e4m3 fp8-e5m2 mxfp4 mxfp6-e2m3 mxfp6-e3m2 mxfp8-e4m3 mxfp8-e5m2 mxint8 nvfp4 q4_0 q4_1 q5_0 \
                 q5_1 q8_0 q2_k q3_k q4_k q5_k q6_k iq4_nl binary ternary int4-dyadic \
                 int8-dyadic";
    let original = Checkpoint::default()
        .f32("wide", &[64, 256], &noise(64 * 256, 40, 0.1))
        .f32("halves", &[64, 128], &noise(64 * 128, 41, 0.1))
        .f32("odd", &[64, 70], &noise(64 * 70, 42, 0.1));
    let folder = Folder::new();
    let (input, small, dense) = (folder.path("in"), folder.path("small"), folder.path("dense"));
    let report = folder.path("report.json");
    original.write(&input);
    for name in names.split_whitespace() {
        succeed(&compress(
            &input,
            &small,
            &["--method", "rtn", "--format", name, "--report", &report.display().to_string()],
        ));
        decompress(&small, &dense, "f32");
        let (back, report) = (Checkpoint::read(&dense), read_json(&report));
        for tensor in report["tensors"].as_array().expect("tensors") {
            let of = tensor["name"].as_str().expect("a name");
            let (error, norm) = squares(back.find(of), original.find(of));
            let found = (error / squares(original.find(of), original.find(of)).1).sqrt();
            assert!(norm > 0.0 && found < 0.7, "{name}: {of} errs by {found}");
            assert_close(found, tensor["relative_error"].as_f64().expect("an error"), name);
            let block = match name {
                _ if name.ends_with("_k") => 256,
                "nvfp4" => 16,
                _ if name.starts_with('q') || name.starts_with("mx") || name == "iq4_nl" => 32,
                _ => 1,
            };
            let cols = original.find(of).shape[1];
            let fits = cols % block == 0;
            let expected = if fits {
                name
            } else if cols % 32 == 0 {
                "q8_0"
            } else {
                "int8"
            };
            assert_eq!(tensor["format"].as_str(), Some(expected), "{name}: {of}");
            assert_eq!(tensor["warnings"].as_array().map(Vec::len), Some(usize::from(!fits)), "{name}: {of}");
        }
    }
}

#[test]
fn errors_and_sizes_are_those_that_the_report_states() {
    let original = network();
    for args in [
        &["--method", "rtn"][..],
        &["--method", "rtn", "--format", "uint3", "--group", "row", "--scale", "bf16"],
        &["--method", "rtn", "--format", "int8", "--group", "tensor"],
        &["--method", "rtn", "--format", "nvfp4"],
        &["--method", "rtn", "--format", "mxfp8-e5m2"],
        &["--method", "rtn", "--format", "q4_k"],
        &["--method", "lorc", "--format", "iq4_nl", "--rank", "3"],
        &["--method", "lorc", "--format", "int4", "--rank", "3", "--factors", "f32"],
        &["--method", "svdquant", "--format", "uint4", "--rank", "5", "--group", "48"],
        &["--method", "lq-lora", "--rank", "1", "--rounds", "3", "--factors", "bf16"],
        &["--method", "lowrank", "--rank", "20"],
    ] {
        let folder = Folder::new();
        let (input, small, dense) = (folder.path("in"), folder.path("small"), folder.path("dense"));
        let report = folder.path("report.json");
        original.write(&input);
        let report_text = report.display().to_string();
        let args: Vec<&str> = args.iter().copied().chain(["--report", &report_text]).collect();
        succeed(&compress(&input, &small, &args));
        decompress(&small, &dense, "f32");
        let (compressed, decompressed, report) =
            (Checkpoint::read(&small), Checkpoint::read(&dense), read_json(&report));

        let tensors = report["tensors"].as_array().expect("tensors");
        assert_eq!(tensors.iter().map(|t| t["name"].as_str().expect("a name")).collect::<Vec<_>>(), MATRICES);
        let (mut error, mut norm, mut mean, mut bits, mut weights) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for tensor in tensors {
            let name = tensor["name"].as_str().expect("a name");
            let (before, after) = (original.find(name), decompressed.find(name));
            assert_eq!((&before.shape, after.dtype.as_str()), (&after.shape, "F32"));
            let (e, n) = squares(before, after);
            assert_close(tensor["relative_error"].as_f64().expect("an error"), (e / n).sqrt(), name);
            let parts = compressed.tensors.iter().filter(|t| t.name.starts_with(&format!("{name}.rankbit.")));
            let stored: usize = parts.map(|part| part.bytes.len() * 8).sum();
            let count: usize = before.shape.iter().product();
            assert_close(
                tensor["bits_per_weight"].as_f64().expect("bits"),
                stored as f64 / count as f64,
                "bits per weight",
            );
            (error, norm, mean) = (error + e, norm + n, mean + (e / n).sqrt() / 4.0);
            (bits, weights) = (bits + stored as f64, weights + count as f64);
        }
        let total = |key: &str| report["total"][key].as_f64().expect("a total");
        assert_close(total("relative_error"), (error / norm).sqrt(), "total error");
        assert_close(total("mean_relative_error"), mean, "mean error");
        assert_close(total("bits_per_weight"), bits / weights, "total bits");
        for (key, path) in [("bytes_in", &input), ("bytes_out", &small)] {
            let size = std::fs::metadata(path).expect("a file").len();
            assert_eq!(report["total"][key].as_u64(), Some(size), "{key}");
        }

        // Everything else is what it was, byte for byte, in both files.
        for tensor in original.tensors.iter().filter(|t| !MATRICES.contains(&t.name.as_str())) {
            assert_eq!(compressed.find(&tensor.name), tensor);
            assert_eq!(decompressed.find(&tensor.name), tensor);
        }
        assert_eq!(decompressed.tensors.len(), original.tensors.len());
        assert_eq!(decompressed.metadata, original.metadata);
        assert_eq!(compressed.metadata["format"], "pt");
    }
}

#[test]
fn every_tensor_lies_on_a_multiple_of_its_elements_size() {
    let folder = Folder::new();
    let (input, small) = (folder.path("in"), folder.path("small"));
    network().write(&input);
    succeed(&compress(&input, &small, &["--method", "lorc", "--format", "uint3", "--rank", "3"]));
    let bytes = std::fs::read(&small).expect("the output");
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
    assert_eq!(length % 8, 0);
    let header: Value =
        serde_json::from_slice(&bytes[8..8 + usize::try_from(length).expect("small")]).expect("JSON");
    for (name, tensor) in header.as_object().expect("an object") {
        let size = match tensor["dtype"].as_str() {
            Some("F64" | "I64") => 8,
            Some("F32") => 4,
            Some("F16" | "BF16") => 2,
            _ => 1,
        };
        let begin = tensor["data_offsets"][0].as_u64().unwrap_or(0);
        assert_eq!(begin % size, 0, "{name}");
    }
}

#[test]
fn the_files_bytes_do_not_depend_on_the_number_of_threads() {
    let folder = Folder::new();
    let input = folder.path("in");
    network().write(&input);
    for args in [&["--method", "rtn"][..], &["--method", "svdquant", "--rank", "4"], &["--method", "lq-lora"]]
    {
        let outputs: Vec<Vec<u8>> = ["1", "2", "7"]
            .iter()
            .map(|threads| {
                let output = folder.path(&format!("out{threads}"));
                let args: Vec<&str> = args.iter().copied().chain(["--threads", threads]).collect();
                succeed(&compress(&input, &output, &args));
                std::fs::read(&output).expect("the output")
            })
            .collect();
        assert!(outputs.iter().all(|output| *output == outputs[0]), "{args:?}");
    }
}

#[test]
fn the_seed_and_the_name_decide_random_numbers() {
    let folder = Folder::new();
    let input = folder.path("in");
    // Large enough for the randomized decomposition.
    let values = noise(256 * 256, 9, 0.1);
    Checkpoint::default().f32("x", &[256, 256], &values).f32("y", &[256, 256], &values).write(&input);
    let run = |seed: &str| {
        let output = folder.path(&format!("out{seed}"));
        succeed(&compress(&input, &output, &["--method", "lowrank", "--rank", "4", "--seed", seed]));
        Checkpoint::read(&output)
    };
    let (first, second) = (run("0"), run("1"));
    let left = |file: &Checkpoint, name: &str| file.find(&format!("{name}.rankbit.left")).bytes.clone();
    assert_ne!(left(&first, "x"), left(&second, "x"));
    assert_ne!(left(&first, "x"), left(&first, "y"));
    assert_eq!(left(&first, "x"), left(&run("0"), "x"));
}

#[test]
fn decompress_gives_the_types_asked_for() {
    let folder = Folder::new();
    let (input, small) = (folder.path("in"), folder.path("small"));
    let original = network();
    original.write(&input);
    succeed(&compress(&input, &small, &["--format", "int8"]));
    let as_type = |dtype: &str| {
        let dense = folder.path(dtype);
        decompress(&small, &dense, dtype);
        Checkpoint::read(&dense)
    };
    let exact = as_type("f32");
    for (dtype, stored) in [("f16", "F16"), ("bf16", "BF16")] {
        let file = as_type(dtype);
        for name in MATRICES {
            let (wide, narrow) = (exact.find(name), file.find(name));
            assert_eq!(narrow.dtype, stored);
            let unit = if dtype == "f16" { 2.0_f64.powi(-11) } else { 2.0_f64.powi(-8) };
            for (w, n) in wide.values().iter().zip(narrow.values()) {
                assert!((w - n).abs() <= w.abs() * unit + 3e-8, "{name}: {w} became {n}");
            }
        }
    }
    let source = as_type("source");
    for name in MATRICES {
        assert_eq!(source.find(name).dtype, original.find(name).dtype);
        assert_eq!(source.find(name).shape, original.find(name).shape);
    }
}

#[test]
fn a_value_beyond_f16_is_refused_and_not_lost() {
    let folder = Folder::new();
    let (input, small, dense) = (folder.path("in"), folder.path("small"), folder.path("dense"));
    Checkpoint::default().f32("large", &[64, 64], &noise(64 * 64, 11, 1e6)).write(&input);
    succeed(&compress(&input, &small, &[]));
    let args = ["decompress".as_ref(), small.as_os_str(), "-o".as_ref(), dense.as_os_str()];
    let output =
        crate::support::command(&args).args(["--dtype", "f16"]).output().expect("the program starts");
    crate::support::fail(&output, 3, &["tensor 'large'", "f16"]);
    assert_eq!(folder.names(), ["in", "small"]);
}

#[test]
fn scales_beyond_f16_become_f32_and_the_report_says_so() {
    for scale in [1e-30_f32, 1e6] {
        let folder = Folder::new();
        let (input, small, dense) = (folder.path("in"), folder.path("small"), folder.path("dense"));
        let report = folder.path("report.json");
        let original = Checkpoint::default().f32("extreme", &[64, 128], &noise(64 * 128, 12, scale)).f32(
            "plain",
            &[64, 128],
            &noise(64 * 128, 13, 0.1),
        );
        original.write(&input);
        let text = report.display().to_string();
        let output = compress(&input, &small, &["--format", "int4", "--report", &text]);
        succeed(&output);
        let warned = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(warned.contains("extreme") && warned.contains("f32"), "{warned}");
        let report = read_json(&report);
        let (extreme, plain) = (&report["tensors"][0], &report["tensors"][1]);
        assert!(extreme["warnings"][0].as_str().is_some_and(|w| w.contains("f32") && w.contains("f16")));
        assert_eq!(plain["warnings"].as_array().map(Vec::len), Some(0));
        assert_eq!(Checkpoint::read(&small).find("extreme.rankbit.scales").dtype, "F32");
        decompress(&small, &dense, "f32");
        let (error, norm) = squares(original.find("extreme"), Checkpoint::read(&dense).find("extreme"));
        let relative = (error / norm).sqrt();
        assert!(relative < 0.2, "{relative}");
        assert_close(extreme["relative_error"].as_f64().expect("an error"), relative, "stated error");
    }
}

#[test]
fn the_rest_as_f16() {
    let folder = Folder::new();
    let (input, small) = (folder.path("in"), folder.path("small"));
    let original =
        network().f32("huge", &[2], &[1e9, 1.0]).f32("holes", &[3], &[f32::NAN, f32::INFINITY, 0.5]);
    original.write(&input);
    let report = folder.path("report.json");
    let text = report.display().to_string();
    succeed(&compress(&input, &small, &["--rest", "f16", "--report", &text]));
    let file = Checkpoint::read(&small);
    for name in ["a.bias", "conv3.weight", "embeddings.word_embeddings.weight"] {
        assert_eq!(file.find(name).dtype, "F16", "{name}");
        for (before, after) in original.find(name).values().iter().zip(file.find(name).values()) {
            assert!((before - after).abs() <= before.abs() * 2.0_f64.powi(-11) + 3e-8);
        }
    }
    assert_eq!(file.find("wide").dtype, "F16");
    assert_eq!(file.find("huge"), original.find("huge"), "a value beyond f16 keeps its tensor");
    let holes = file.find("holes").values();
    assert!(holes[0].is_nan() && holes[1] == f64::INFINITY && holes[2] == 0.5);
    assert_eq!(file.find("ids"), original.find("ids"));
    let report = read_json(&report);
    let skipped = report["skipped"].as_array().expect("skipped");
    let reason = |name: &str| {
        let found = skipped.iter().find(|s| s["name"] == name).expect("listed");
        found["reason"].as_str().expect("a reason").to_owned()
    };
    assert!(reason("a.bias").contains("f16"));
    assert!(reason("huge").contains("kept"));
    for (dtype, expected) in [("source", "F32"), ("f32", "F16")] {
        let dense = folder.path("dense");
        decompress(&small, &dense, dtype);
        assert_eq!(Checkpoint::read(&dense).find("a.bias").dtype, expected);
    }
}

#[test]
fn include_and_exclude_choose() {
    let folder = Folder::new();
    let (input, small) = (folder.path("in"), folder.path("small"));
    network().write(&input);
    let chosen = |args: &[&str]| -> Vec<String> {
        succeed(&compress(&input, &small, args));
        let file = Checkpoint::read(&small);
        let mut names: Vec<String> = file
            .tensors
            .iter()
            .filter_map(|t| t.name.strip_suffix(".rankbit.codes").map(str::to_owned))
            .collect();
        names.sort();
        names
    };
    assert_eq!(chosen(&[]), MATRICES);
    assert_eq!(chosen(&["--include", "^[ab]"]), ["a.weight", "b.weight"]);
    assert_eq!(chosen(&["--include", "embed"]), ["embeddings.word_embeddings.weight"]);
    assert_eq!(chosen(&["--exclude", "conv", "--exclude", "^a"]), ["b.weight", "c.weight"]);
    assert_eq!(
        chosen(&["--include", "weight", "--exclude", "conv|embed"]),
        ["a.weight", "b.weight", "c.weight"]
    );
}

#[test]
fn a_dry_run_writes_nothing_and_tells_the_bits() {
    let folder = Folder::new();
    let (input, small) = (folder.path("in"), folder.path("small"));
    network().write(&input);
    let args = ["--method", "lorc", "--format", "uint3", "--rank", "4"];
    let dry: Vec<&str> = args.iter().copied().chain(["--dry-run"]).collect();
    let told = succeed(&compress(&input, &small, &dry));
    assert_eq!(folder.names(), ["in"]);
    succeed(&run(&["compress".as_ref(), input.as_os_str(), "--dry-run".as_ref()]));
    let report = folder.path("report.json");
    let text = report.display().to_string();
    let wet: Vec<&str> = args.iter().copied().chain(["--report", &text]).collect();
    succeed(&compress(&input, &small, &wet));
    for tensor in read_json(&report)["tensors"].as_array().expect("tensors") {
        let bits = format!("{:.3}", tensor["bits_per_weight"].as_f64().expect("bits"));
        let line = told.lines().find(|line| line.contains(tensor["name"].as_str().expect("a name")));
        assert!(line.is_some_and(|line| line.contains(&bits)), "{bits} in {line:?}");
    }
}

#[test]
fn a_file_without_matrices_passes_through() {
    let folder = Folder::new();
    let (input, small, dense) = (folder.path("in"), folder.path("small"), folder.path("dense"));
    let original = Checkpoint::default().f32("bias", &[3], &[1.0, 2.0, 3.0]);
    original.write(&input);
    succeed(&compress(&input, &small, &[]));
    decompress(&small, &dense, "f32");
    assert_eq!(Checkpoint::read(&dense).tensors, original.tensors);
    Checkpoint::default().write(&input);
    succeed(&compress(&input, &small, &[]));
    decompress(&small, &dense, "f32");
    assert!(Checkpoint::read(&dense).tensors.is_empty());
}
