//! `compare` and `inspect`.

use crate::support::{Checkpoint, Folder, command, compress, fail, noise, read_json, run, succeed};
use serde_json::Value;

fn network() -> Checkpoint {
    Checkpoint::default()
        .f32("a", &[64, 96], &noise(64 * 96, 50, 0.1))
        .bf16("b", &[128, 64], &noise(128 * 64, 51, 0.1))
        .f32("bias", &[64], &noise(64, 52, 0.1))
        .raw("ids", "I64", &[1], vec![0; 8])
        .metadata("format", "pt")
}

fn json(args: &[&std::ffi::OsStr]) -> Value {
    serde_json::from_str(&succeed(&run(args))).expect("JSON")
}

#[test]
fn compare_agrees_with_the_report_however_the_files_are_stored() {
    let folder = Folder::new();
    let (input, small, dense) = (folder.path("in"), folder.path("small"), folder.path("dense"));
    let report = folder.path("report.json");
    network().write(&input);
    let text = report.display().to_string();
    succeed(&compress(&input, &small, &["--method", "lorc", "--rank", "4", "--report", &text]));
    succeed(&run(&["decompress".as_ref(), small.as_os_str(), "-o".as_ref(), dense.as_os_str()]));
    let report = read_json(&report);
    for (other, differing) in [(&small, 2), (&dense, 2)] {
        let result = json(&["compare".as_ref(), input.as_os_str(), other.as_os_str(), "--json".as_ref()]);
        assert_eq!(result["total"]["differing"].as_u64(), Some(differing));
        assert_eq!(result["total"]["compared"].as_u64(), Some(4));
        for key in ["relative_error", "mean_relative_error"] {
            let (ours, theirs) = (&result["total"][key], &report["total"][key]);
            let (ours, theirs) = (ours.as_f64().expect("a number"), theirs.as_f64().expect("a number"));
            assert!((ours - theirs).abs() <= 1e-6 * theirs, "{key}: {ours} against {theirs}");
        }
    }
    let same = json(&["compare".as_ref(), small.as_os_str(), dense.as_os_str(), "--json".as_ref()]);
    assert_eq!(same["total"]["differing"].as_u64(), Some(0));
    let table = succeed(&run(&["compare".as_ref(), input.as_os_str(), small.as_os_str()]));
    assert!(table.contains("4 tensors compared, 2 differ"), "{table}");
}

#[test]
fn compare_names_what_does_not_match() {
    let folder = Folder::new();
    let (a, b) = (folder.path("a"), folder.path("b"));
    network().f32("only here", &[1], &[1.0]).f32("shape", &[2, 3], &[0.0; 6]).write(&a);
    network().f32("only there", &[1], &[1.0]).f32("shape", &[3, 2], &[0.0; 6]).write(&b);
    let result = json(&["compare".as_ref(), a.as_os_str(), b.as_os_str(), "--json".as_ref()]);
    assert_eq!(result["only_in_a"][0], "only here");
    assert_eq!(result["only_in_b"][0], "only there");
    assert_eq!(result["mismatched"][0]["name"], "shape");
    assert!(
        result["mismatched"][0]["reason"].as_str().is_some_and(|r| r.contains("2×3") && r.contains("3×2"))
    );
    let text = succeed(&run(&["compare".as_ref(), a.as_os_str(), b.as_os_str()]));
    assert!(
        text.contains("only here") && text.contains("only there") && text.contains("not comparable: shape")
    );
}

#[test]
fn compare_refuses_values_without_a_difference() {
    let folder = Folder::new();
    let (a, b) = (folder.path("a"), folder.path("b"));
    Checkpoint::default().f32("x", &[2, 2], &[1.0, f32::NAN, 2.0, 3.0]).write(&a);
    Checkpoint::default().f32("x", &[2, 2], &[1.0, 1.0, 2.0, 3.0]).write(&b);
    fail(&run(&["compare".as_ref(), a.as_os_str(), b.as_os_str()]), 3, &["tensor 'x'", "[0, 1]"]);
    let same = json(&["compare".as_ref(), a.as_os_str(), a.as_os_str(), "--json".as_ref()]);
    assert_eq!(same["total"]["differing"].as_u64(), Some(0));
}

#[test]
fn inspect_shows_provenance() {
    let folder = Folder::new();
    let (input, small) = (folder.path("in"), folder.path("small"));
    network().write(&input);
    succeed(&compress(
        &input,
        &small,
        &["--method", "lorc", "--format", "int4", "--rank", "4", "--seed", "7"],
    ));
    let result = json(&["inspect".as_ref(), small.as_os_str(), "--json".as_ref()]);
    assert_eq!(result["seed"].as_u64(), Some(7));
    let tensors = result["tensors"].as_array().expect("tensors");
    let a = tensors.iter().find(|t| t["name"] == "a").expect("listed");
    assert_eq!((a["method"].as_str(), a["format"].as_str()), (Some("lorc"), Some("int4")));
    assert_eq!((a["rank"].as_u64(), a["group"].as_u64()), (Some(4), Some(64)));
    assert_eq!(a["dtype"], "F32");
    // The hash is that of the tensor's bytes in the input.
    let bytes = &network().find("a").bytes.clone();
    let expected: String =
        <sha2::Sha256 as sha2::Digest>::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(a["source_sha256"].as_str(), Some(expected.as_str()));
    // 4 bits, 2 scales of 16 bits a row of 96, factors 4·(64 + 96)·16 bits.
    let bits = 4.0 + 2.0 * 16.0 / 96.0 + 4.0 * 160.0 * 16.0 / (64.0 * 96.0);
    assert!((a["bits_per_weight"].as_f64().expect("bits") - bits).abs() < 1e-12);
    assert_eq!(a["parts"].as_array().map(Vec::len), Some(4));
    let bias = tensors.iter().find(|t| t["name"] == "bias").expect("listed");
    assert!(bias["method"].is_null() && bias["recipe"].is_null(), "keys are there, values are null");

    let text = succeed(&run(&["inspect".as_ref(), small.as_os_str()]));
    for word in ["lorc", "int4", "recipe", "seed 7", "metadata format: pt"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let plain = succeed(&run(&["inspect".as_ref(), input.as_os_str()]));
    assert!(plain.contains("bias") && !plain.contains("recipe"));
}

#[cfg(unix)]
#[test]
fn a_closed_pipe_is_no_error() {
    let folder = Folder::new();
    let input = folder.path("in");
    let many = (0..5000).fold(Checkpoint::default(), |file, i| file.f32(&format!("t{i}"), &[1], &[0.0]));
    many.write(&input);
    let mut child = crate::support::command(&["inspect".as_ref(), input.as_os_str()])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the program starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty());
}

#[test]
fn tensors_without_elements_take_no_time_whatever_their_sides() {
    let folder = Folder::new();
    let (file, output, dense) = (folder.path("file"), folder.path("out"), folder.path("dense"));
    let side = 1 << (usize::BITS - 1);
    Checkpoint::default().f32("a", &[side, 0], &[]).f32("b", &[0, side, side], &[]).write(&file);
    succeed(&compress(&file, &output, &["--rest", "f16"]));
    succeed(&run(&["compare".as_ref(), file.as_os_str(), output.as_os_str()]));
    let args = ["decompress".as_ref(), output.as_os_str(), "-o".as_ref(), dense.as_os_str()];
    succeed(&command(&args).args(["--dtype", "source"]).output().expect("the program starts"));
    let (dense, file) = (Checkpoint::read(&dense), Checkpoint::read(&file));
    for name in ["a", "b"] {
        assert_eq!(dense.find(name), file.find(name));
    }
}
