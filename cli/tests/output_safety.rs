//! Nothing is lost: real kills, full disks, missing permissions.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::support::{Checkpoint, Folder, command, compress, fail, noise, succeed};

/// Matrices to fit, and much to copy, so that kills hit both phases.
fn large() -> Checkpoint {
    let mut file = Checkpoint::default();
    for i in 0..12_u64 {
        file = file.f32(&format!("layer.{i}.weight"), &[256, 256], &noise(256 * 256, 70 + i, 0.1));
    }
    file.raw("bulk", "U8", &[96 << 20], vec![7; 96 << 20])
}

/// The kernel kills the program at the byte at which one of its files would grow too large, so each kill comes at a
/// known point whatever the machine is doing.
#[cfg(unix)]
#[test]
fn a_run_killed_at_a_known_byte_leaves_the_old_output_whole() {
    let folder = Folder::new();
    let (input, output) = (folder.path("in"), folder.path("out"));
    large().write(&input);
    let old = b"the old output".repeat(1000);
    std::fs::write(&output, &old).expect("the old output");
    let args = ["--method", "lorc", "--rank", "8"];
    for kilobytes in [0, 1, 100, 400, 1 << 10, 10 << 10, 50 << 10, 90 << 10, 96 << 10] {
        let mut shell = Command::new("bash");
        // The default action of SIGXFSZ is the one of SIGKILL, but for a core file.
        let script = format!(
            "ulimit -c 0; ulimit -f {kilobytes}; exec \"$0\" compress \"$1\" -o \"$2\" {}",
            args.join(" ")
        );
        shell.arg("-c").arg(script).arg(env!("CARGO_BIN_EXE_rankbit")).arg(&input).arg(&output);
        let status = shell.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("bash starts");
        assert_eq!(status.code(), None, "a signal ends the run at {kilobytes} KB");
        assert!(std::fs::read(&output).expect("an output") == old, "at {kilobytes} KB");
    }
    only_recognizable_leftovers(&folder);
    succeed(&compress(&input, &output, &args));
    assert!(std::fs::read(&output).expect("the output") != old);
}

/// Kills that come whenever they come: before the first byte, while files are written, around the rename, or late.
#[test]
fn a_killed_run_leaves_the_old_or_the_new_output() {
    let folder = Folder::new();
    let (input, output) = (folder.path("in"), folder.path("out"));
    large().write(&input);
    let args = ["--method", "lorc", "--rank", "8"];
    let start = Instant::now();
    succeed(&compress(&input, &output, &args));
    let whole = start.elapsed();
    let new = std::fs::read(&output).expect("the new output");
    let old = b"the old output".repeat(1000);
    for permille in [0, 20, 150, 300, 450, 600, 750, 850, 900, 940, 970, 990] {
        std::fs::write(&output, &old).expect("the old output");
        let mut child = command(&["compress".as_ref(), input.as_os_str(), "-o".as_ref(), output.as_os_str()])
            .args(args)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        std::thread::sleep(whole * permille / 1000);
        // SIGKILL: nothing of the program runs any more.
        child.kill().expect("a kill");
        let status = child.wait().expect("an end");
        let found = std::fs::read(&output).expect("an output");
        assert!(
            found == new || found == old,
            "after {permille}‰ the output is neither the old nor the new one"
        );
        assert!(found == new || !status.success(), "a run that succeeds has written its output");
    }
    only_recognizable_leftovers(&folder);
    succeed(&compress(&input, &output, &args));
    assert!(std::fs::read(&output).expect("the output") == new);
}

/// What killed runs leave behind is recognizable, and in nobody's way.
fn only_recognizable_leftovers(folder: &Folder) {
    for name in folder.names() {
        let leftover = name.starts_with(".out.rankbit-") && name.ends_with(".tmp");
        assert!(leftover || name == "in" || name == "out", "{name}");
    }
}

/// A shell in which no file grows beyond `kilobytes`: writes fail as they do on a full disk.
#[cfg(unix)]
fn limited(kilobytes: u32, args: &[&Path], more: &str) -> std::process::Output {
    let mut shell = Command::new("bash");
    let script = format!("trap '' XFSZ; ulimit -f {kilobytes}; exec \"$0\" compress \"$1\" -o \"$2\" {more}");
    shell.arg("-c").arg(script).arg(env!("CARGO_BIN_EXE_rankbit")).args(args);
    shell.output().expect("bash starts")
}

#[cfg(unix)]
#[test]
fn a_disk_that_is_full_at_any_point() {
    let folder = Folder::new();
    let (input, output) = (folder.path("in"), folder.path("out"));
    let mut file = Checkpoint::default().raw("bulk", "U8", &[1 << 20], vec![7; 1 << 20]);
    for i in 0..4_u64 {
        file = file.f32(&format!("layer.{i}.weight"), &[256, 256], &noise(256 * 256, 80 + i, 0.1));
    }
    file.write(&input);
    std::fs::write(&output, b"old").expect("the old output");
    // Hits the parts' spill; the bulk; the last bytes; the report after the output.
    let report = folder.path("r.json");
    for kilobytes in [0, 1, 40, 200, 1000, 1100] {
        let result = limited(kilobytes, &[&input, &output], "");
        fail(&result, 4, &["writing"]);
        assert_eq!(folder.names(), ["in", "out"], "no leftover at {kilobytes} KB");
        assert_eq!(std::fs::read(&output).expect("the old output"), b"old");
    }
    let result = limited(100_000, &[&input, &output], "");
    succeed(&result);
    assert!(!report.exists());
}

#[cfg(target_os = "linux")]
#[test]
fn folders_that_cannot_be_written() {
    let folder = Folder::new();
    let (input, output) = (folder.path("in"), folder.path("out"));
    Checkpoint::default().f32("a.weight", &[64, 64], &noise(64 * 64, 90, 0.1)).write(&input);
    // Not even root creates files there.
    let sealed = Path::new("/sys/kernel/out.safetensors");
    fail(&compress(&input, sealed, &[]), 4, &["/sys/kernel/out.safetensors"]);
    fail(&compress(&input, &folder.path("missing/out"), &[]), 4, &["missing/out"]);
    // A report that cannot be written is found out before the work, not after.
    fail(
        &compress(&input, &output, &["--report", "/sys/kernel/report.json"]),
        4,
        &["/sys/kernel/report.json"],
    );
    assert_eq!(folder.names(), ["in"]);
}

#[cfg(unix)]
#[test]
fn permissions_and_links_are_those_of_other_programs() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = Folder::new();
    let (input, output, link) = (folder.path("in"), folder.path("out"), folder.path("link"));
    Checkpoint::default().f32("a.weight", &[64, 64], &noise(64 * 64, 91, 0.1)).write(&input);
    let mode = |path: &Path| std::fs::metadata(path).expect("a file").permissions().mode() & 0o777;
    succeed(&compress(&input, &output, &[]));
    assert_eq!(mode(&output), mode(&input), "as any file created here");
    std::fs::set_permissions(&output, std::fs::Permissions::from_mode(0o640)).expect("permissions");
    std::os::unix::fs::symlink(&output, &link).expect("a link");
    succeed(&compress(&input, &link, &["--format", "int8"]));
    assert_eq!(mode(&output), 0o640, "an old file's permissions stay");
    assert!(std::fs::symlink_metadata(&link).expect("the link").is_symlink());
    assert!(
        Checkpoint::read(&output).metadata["rankbit"].contains("int8"),
        "the file behind the link is replaced"
    );
    std::fs::remove_file(&output).expect("removed");
    fail(&compress(&input, &link, &["--report", "r.json", "--report", "./r.json"]), 2, &["twice"]);
    succeed(&compress(&input, &link, &[]));
    assert!(std::fs::symlink_metadata(&link).expect("the link").is_symlink());
    assert!(output.is_file(), "a link to a file that is not there yet");
    let circle = folder.path("circle");
    std::os::unix::fs::symlink("circle", &circle).expect("a link to itself");
    fail(&compress(&input, &circle, &[]), 4, &["circle"]);
}
