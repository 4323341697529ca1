//! One clear error, the right exit code, nothing written.

use crate::support::{Checkpoint, Folder, compress, container, fail, noise, run};

/// Compresses the bytes over an old output and expects the error; old output and folder stay as they are.
fn refuse(bytes: &[u8], more: &[&str], code: i32, words: &[&str]) {
    let folder = Folder::new();
    let (input, output) = (folder.path("in.safetensors"), folder.path("out.safetensors"));
    std::fs::write(&input, bytes).expect("a written file");
    std::fs::write(&output, b"old").expect("a written file");
    let report = folder.path("report.json").display().to_string();
    let mut args = more.to_vec();
    args.extend(["--report", &report]);
    let result = compress(&input, &output, &args);
    fail(&result, code, words);
    assert_eq!(folder.names(), ["in.safetensors", "out.safetensors"], "nothing new, no leftover");
    assert_eq!(std::fs::read(&output).expect("the old output"), b"old");
}

fn good() -> Checkpoint {
    Checkpoint::default().f32("layer.weight", &[64, 96], &noise(64 * 96, 1, 0.1)).f32(
        "layer.bias",
        &[64],
        &noise(64, 2, 0.1),
    )
}

fn entry(dtype: &str, shape: &str, offsets: &str) -> String {
    format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}"#)
}

#[test]
fn truncated_files() {
    let bytes = good().bytes();
    refuse(&[], &[], 3, &["in.safetensors", "truncated"]);
    refuse(&bytes[..5], &[], 3, &["truncated"]);
    refuse(&bytes[..8], &[], 3, &["truncated", "offset 8"]);
    refuse(&bytes[..40], &[], 3, &["truncated"]);
    refuse(&bytes[..bytes.len() - 1], &[], 3, &["tensor 'layer.", "out of range"]);
    refuse(&[bytes.as_slice(), b"x"].concat(), &[], 3, &["cover only"]);
}

#[test]
fn header_longer_than_the_file_or_than_the_format_allows() {
    refuse(&[&u64::MAX.to_le_bytes()[..], b"{}"].concat(), &[], 3, &["truncated", "18446744073709551615"]);
    let huge = container(&format!("{{}}{}", " ".repeat(100_000_001)), &[]);
    refuse(&huge, &[], 3, &["more than 100000000"]);
}

#[test]
fn header_that_is_not_json() {
    for (header, words) in [
        ("hello", &["not JSON"][..]),
        ("", &["not JSON"]),
        ("{\"a\":", &["not valid", "offset"]),
        ("{\"a\":1}", &["tensor 'a'"]),
        ("{\"__metadata__\":{\"k\":{}}}", &["__metadata__", "'k'"]),
        ("{} {}", &["not valid"]),
    ] {
        refuse(&container(header, &[]), &[], 3, words);
    }
    let mut bytes = container("{ab}", &[]);
    bytes[9] = 0xFF;
    refuse(&bytes, &[], 3, &["not UTF-8", "offset 9"]);
    refuse(&container(&"{\"a\":".repeat(5000), &[]), &[], 3, &["not valid"]);
}

#[test]
fn duplicate_names() {
    let a = entry("F32", "[1]", "[0,4]");
    refuse(&container(&format!(r#"{{"a":{a},"a":{a}}}"#), &[0; 4]), &[], 3, &["'a' appears twice"]);
}

#[test]
fn offsets_that_overlap_or_leave_holes_or_leave_the_file() {
    let two =
        |a: &str, b: &str| format!(r#"{{"a":{},"b":{}}}"#, entry("U8", "[4]", a), entry("U8", "[4]", b));
    refuse(&container(&two("[0,4]", "[2,6]"), &[0; 6]), &[], 3, &["tensor 'b'", "overlaps", "offset 2"]);
    refuse(&container(&two("[0,4]", "[6,10]"), &[0; 10]), &[], 3, &["tensor 'b'", "offset 6"]);
    refuse(&container(&two("[0,4]", "[4,8]"), &[0; 7]), &[], 3, &["tensor 'b'", "out of range"]);
    refuse(&container(&two("[0,4]", "[8,4]"), &[0; 8]), &[], 3, &["tensor 'b'", "out of range"]);
    let far = format!("[{},{}]", u64::MAX - 3, u64::MAX);
    refuse(&container(&two("[0,4]", &far), &[0; 8]), &[], 3, &["tensor 'b'", "out of range"]);
}

#[test]
fn sizes_that_overflow() {
    for shape in [
        "[4294967296,4294967296]",
        "[2305843009213693951]",
        "[18446744073709551615]",
        "[0,18446744073709551615,2]",
    ] {
        let result = container(&format!(r#"{{"a":{}}}"#, entry("F64", shape, "[0,8]")), &[0; 8]);
        refuse(&result, &[], 3, &["tensor 'a'"]);
    }
    // Eight tensors whose sizes add up past 64 bits: the safetensors crate 0.8.0 panics on this one.
    let side = (1_u64 << 61) - 1;
    let tensors: Vec<String> = (0..8)
        .map(|i| {
            format!(
                r#""t{i}":{}"#,
                entry("U8", &format!("[{side}]"), &format!("[{},{}]", i * side, (i + 1) * side))
            )
        })
        .collect();
    refuse(
        &container(&format!("{{{}}}", tensors.join(",")), &[0; 8]),
        &[],
        3,
        &["tensor 't0'", "out of range"],
    );
    refuse(
        &container(&format!(r#"{{"a":{}}}"#, entry("U8", "[-1]", "[0,1]")), &[0]),
        &[],
        3,
        &["tensor 'a'"],
    );
    refuse(
        &container(&format!(r#"{{"a":{}}}"#, entry("U8", "[1e30]", "[0,1]")), &[0]),
        &[],
        3,
        &["tensor 'a'"],
    );
}

#[test]
fn element_types() {
    refuse(
        &container(&format!(r#"{{"a":{}}}"#, entry("Q9", "[1]", "[0,4]")), &[0; 4]),
        &[],
        3,
        &["tensor 'a'", "unknown dtype 'Q9'"],
    );
    refuse(
        &container(&format!(r#"{{"a":{}}}"#, entry("F32", "[2]", "[0,4]")), &[0; 4]),
        &[],
        3,
        &["tensor 'a'", "takes 8"],
    );
}

#[test]
fn nan_and_infinity_are_named_by_tensor_and_index() {
    let nan: fn(Checkpoint, &str, &[usize], &[f32]) -> Checkpoint = Checkpoint::f32;
    for (store, bad, word) in [
        (nan, f32::NAN, "NaN"),
        (Checkpoint::f16, f32::INFINITY, "infinite"),
        (Checkpoint::bf16, f32::NEG_INFINITY, "infinite"),
    ] {
        let mut values = noise(96 * 64, 3, 0.1);
        values[64 * 70 + 13] = bad;
        let file = store(good(), "second.weight", &[96, 64], &values).bytes();
        for method in ["rtn", "svdquant", "lowrank"] {
            refuse(&file, &["--method", method], 3, &["tensor 'second.weight'", "[70, 13]", word]);
        }
    }
}

#[test]
fn a_tensor_that_is_left_alone_may_hold_nan() {
    let folder = Folder::new();
    let (input, output) = (folder.path("in"), folder.path("out"));
    good().f32("norm.weight", &[2], &[f32::NAN, f32::INFINITY]).write(&input);
    crate::support::succeed(&compress(&input, &output, &[]));
}

#[test]
fn ranks_and_groups() {
    let file = good().bytes();
    refuse(&file, &["--method", "lorc", "--rank", "65"], 3, &["tensor 'layer.weight'", "rank 65", "64"]);
    refuse(&file, &["--method", "lowrank", "--rank", "0"], 3, &["tensor 'layer.weight'", "rank 0"]);
    refuse(&file, &["--group", "0"], 3, &["group 0"]);
}

#[test]
fn flags_that_mean_nothing_or_are_out_of_range() {
    let file = good().bytes();
    for (args, word) in [
        (&["--rank", "4"][..], "--rank"),
        (&["--method", "lorc", "--rounds", "3"], "--rounds"),
        (&["--method", "lowrank", "--format", "int4"], "--format"),
        (&["--method", "lowrank", "--group", "32"], "--group"),
        (&["--rest", "q4_0"], "q4_0"),
        (&["--report", "report.txt"], "report.txt"),
        (&["--include", "("], "--include"),
        (&["--include", "nothing-of-this-name"], "nothing-of-this-name"),
        (&["--format", "int9"], "int9"),
        (&["--method", "magic"], "magic"),
        (&["--group", "many"], "many"),
        (&["--rounds", "0"], "0"),
        (&["--threads", "0"], "0"),
        (&["--smooth", "2"], "2"),
        (&["--scale", "f8"], "f8"),
        (&["--unheard-of"], "--unheard-of"),
    ] {
        refuse(&file, args, 2, &[word]);
    }
    refuse(&file, &["--method", "svdquant", "--smooth", "0.5"], 3, &["--smooth needs --calib"]);
    refuse(&file, &["--smooth", "0.5"], 3, &["--smooth needs --calib"]);
    refuse(&file, &["--method", "awq"], 3, &["awq needs --calib"]);
    assert_eq!(run::<&str>(&[]).status.code(), Some(2));
    assert_eq!(run(&["compress", "only-an-input"]).status.code(), Some(2));
}

#[test]
fn an_output_that_is_an_input() {
    let folder = Folder::new();
    let input = folder.path("in.safetensors");
    good().write(&input);
    let before = std::fs::read(&input).expect("the input");
    let unusual = folder.path(".").join("in.safetensors");
    fail(&compress(&input, &input, &[]), 3, &["in.safetensors", "is an input"]);
    fail(&compress(&input, &unusual, &[]), 3, &["is an input"]);
    #[cfg(unix)]
    {
        let (link, hard) = (folder.path("link"), folder.path("hard"));
        std::os::unix::fs::symlink(&input, &link).expect("a link");
        std::fs::hard_link(&input, &hard).expect("a hard link");
        fail(&compress(&input, &link, &[]), 3, &["is an input"]);
        fail(&compress(&input, &hard, &[]), 3, &["is an input"]);
    }
    let report = folder.path("r.json").display().to_string();
    let out = folder.path("r.json");
    fail(&compress(&input, &out, &["--report", &report]), 2, &["twice"]);
    fail(
        &run(&["decompress".as_ref(), input.as_os_str(), "-o".as_ref(), input.as_os_str()]),
        3,
        &["is an input"],
    );
    assert_eq!(std::fs::read(&input).expect("the input"), before);
}

#[test]
fn files_that_are_not_there_or_no_files() {
    let folder = Folder::new();
    let (missing, output) = (folder.path("missing"), folder.path("out"));
    fail(&compress(&missing, &output, &[]), 3, &["missing", "no such file"]);
    fail(&compress(&folder.path("."), &output, &[]), 3, &["not a file"]);
    let input = folder.path("in");
    good().write(&input);
    fail(&compress(&input, &folder.path("."), &[]), 2, &["not a file"]);
    #[cfg(unix)]
    for device in ["/dev/null", "/dev/stdout"] {
        fail(&compress(&input, std::path::Path::new(device), &[]), 2, &[device, "not a file"]);
    }
    assert_eq!(folder.names(), ["in"]);
}

#[test]
fn compressed_files_that_were_tampered_with() {
    let folder = Folder::new();
    let (input, output, dense) = (folder.path("in"), folder.path("out"), folder.path("dense"));
    good().write(&input);
    crate::support::succeed(&compress(&input, &output, &["--format", "uint4"]));
    fail(&compress(&output, &folder.path("again"), &[]), 3, &["already compressed"]);
    let compressed = Checkpoint::read(&output);
    let refuse = |change: &dyn Fn(&mut Checkpoint), words: &[&str]| {
        let mut changed = compressed.clone();
        change(&mut changed);
        let path = folder.path("changed");
        changed.write(&path);
        let args = ["decompress".as_ref(), path.as_os_str(), "-o".as_ref(), dense.as_os_str()];
        fail(&run(&args), 3, words);
        assert!(!dense.exists(), "nothing is written");
    };
    let edit = |from: &str, to: &str| {
        let (from, to) = (from.to_owned(), to.to_owned());
        move |file: &mut Checkpoint| {
            let text = &file.metadata["rankbit"];
            assert!(text.contains(&from), "{from} is in {text}");
            let text = text.replacen(&from, &to, 1);
            file.metadata.insert("rankbit".to_owned(), text);
        }
    };
    refuse(&edit("{", "["), &["'rankbit'"]);
    refuse(&edit("\"format_version\":1", "\"format_version\":2"), &["format version 2", "newer"]);
    refuse(&edit("[64,96]", "[64,97]"), &["tensor 'layer.weight'"]);
    refuse(&edit("\"bits\":4", "\"bits\":5"), &["tensor 'layer.weight'", "codes"]);
    refuse(&edit("\"bits\":4", "\"bits\":99"), &["tensor 'layer.weight'"]);
    refuse(&edit("{\"size\":64}", "{\"size\":0}"), &["tensor 'layer.weight'"]);
    refuse(&edit("\"layer.weight\"", "\"other.weight\""), &["tensor 'other.weight'", "no data"]);
    refuse(
        &|file| file.tensors.retain(|t| !t.name.ends_with(".scales")),
        &["tensor 'layer.weight'", "scales"],
    );
    refuse(
        &|file| file.tensors.retain(|t| !t.name.contains(".rankbit.")),
        &["tensor 'layer.weight'", "no data"],
    );
    refuse(
        &|file| {
            let scales = file.tensors.iter_mut().find(|t| t.name.ends_with(".scales")).expect("scales");
            scales.bytes[..2].copy_from_slice(&half::f16::NAN.to_le_bytes());
        },
        &["tensor 'layer.weight'", "scales[0]"],
    );
    refuse(
        &|file| *file = std::mem::take(file).f32("layer.weight.rankbit.left", &[64, 1], &[0.0; 64]),
        &["tensor 'layer.weight'", "'left' is stored but not described"],
    );
    refuse(
        &|file| *file = std::mem::take(file).f32("layer.weight", &[1], &[1.0]),
        &["tensor 'layer.weight'", "both"],
    );
    fail(
        &run(&["decompress".as_ref(), input.as_os_str(), "-o".as_ref(), dense.as_os_str()]),
        3,
        &["not compressed"],
    );
}

/// `inspect` puts schemes into words without reading parts: it says of one that a file made up why it is none.
#[test]
fn schemes_that_are_none_have_no_words() {
    let folder = Folder::new();
    let (input, output, changed) = (folder.path("in"), folder.path("out"), folder.path("changed"));
    good().write(&input);
    for (args, from, widths) in [
        (&["--format", "uint4"][..], "\"bits\":4", &["0", "1", "32", "63", "255"][..]),
        (&["--format", "int8"], "\"bits\":8", &["0", "63"]),
        (&["--sparsity", "2:4", "--format", "int4"], "\"bits\":4", &["0", "63"]),
        (&["--format", "trellis2"], "\"window\":12", &["0", "32", "255"]),
    ] {
        crate::support::succeed(&compress(&input, &output, args));
        for width in widths {
            let mut file = Checkpoint::read(&output);
            let text = file.metadata.get_mut("rankbit").expect("records");
            let (name, _) = from.split_once(':').expect("a field");
            let found = format!("{name}:{width}");
            assert!(text.contains(from), "{from} is in {text}");
            *text = text.replace(from, &found);
            file.write(&changed);
            let printed = crate::support::succeed(&run(&["inspect".as_ref(), changed.as_os_str()]));
            assert!(printed.contains("scheme is not valid"), "{found}: {printed}");
        }
    }
}

#[test]
fn a_part_that_would_take_the_name_of_another_tensor() {
    let file = good().f32("layer.weight.rankbit.codes", &[1], &[1.0]).bytes();
    refuse(&file, &[], 3, &["tensor 'layer.weight'", "layer.weight.rankbit.codes"]);
}

#[test]
fn a_name_from_a_file_stays_on_the_first_line() {
    let mut values = noise(64 * 64, 3, 0.1);
    values[5] = f32::NAN;
    let file = Checkpoint::default().f32("a\nrankbit: all is well\u{1b}[2J", &[64, 64], &values);
    refuse(&file.bytes(), &[], 3, &["a\\nrankbit: all is well\\u{1b}[2J", "[0, 5] is NaN"]);
}

#[test]
fn an_error_comes_before_the_warnings_of_earlier_tensors() {
    let mut values = noise(64 * 64, 3, 0.1);
    let tiny: Vec<f32> = values.iter().map(|value| value * 1e-30).collect();
    values[5] = f32::NAN;
    let file = Checkpoint::default().f32("a", &[64, 64], &tiny).f32("b", &[64, 64], &values);
    refuse(&file.bytes(), &["--format", "int4"], 3, &["tensor 'b'", "[0, 5] is NaN"]);
}

#[cfg(target_os = "linux")]
#[test]
fn more_threads_than_cores_start_no_more_threads() {
    let folder = Folder::new();
    let (input, output) = (folder.path("in"), folder.path("out"));
    good().write(&input);
    // 65535 stacks do not fit into 16 GiB of addresses.
    let script = "ulimit -v 16777216; exec \"$0\" compress \"$1\" -o \"$2\" --threads 65535";
    let mut shell = std::process::Command::new("bash");
    shell.arg("-c").arg(script).arg(env!("CARGO_BIN_EXE_rankbit")).arg(&input).arg(&output);
    crate::support::succeed(&shell.output().expect("bash starts"));
}
