//! Peak memory does not follow the checkpoint's size.

use std::fs::File;
use std::io::{BufWriter, Seek as _, SeekFrom, Write as _};
use std::process::Stdio;
use std::time::Duration;

use crate::support::{Folder, command, noise};

/// Bytes of the matrix that is compressed most expensively: 1024×1024 in f32.
const LARGEST: u64 = 4 << 20;
const MATRICES: u64 = 32;
/// Bytes that are only copied; a hole in the file, so that making it costs nothing.
const BULK: u64 = 512 << 20;

#[test]
fn peak_memory_is_far_below_the_files_size() {
    let folder = Folder::new();
    let (input, output) = (folder.path("in"), folder.path("out"));
    let mut entries = vec![format!(r#""bulk":{{"dtype":"U8","shape":[{BULK}],"data_offsets":[0,{BULK}]}}"#)];
    for i in 0..MATRICES {
        let begin = BULK + i * LARGEST;
        let end = begin + LARGEST;
        entries
            .push(format!(r#""m{i}":{{"dtype":"F32","shape":[1024,1024],"data_offsets":[{begin},{end}]}}"#));
    }
    let header = format!("{{{}}}", entries.join(","));
    let mut file = BufWriter::new(File::create(&input).expect("a file"));
    file.write_all(&(header.len() as u64).to_le_bytes()).expect("written");
    file.write_all(header.as_bytes()).expect("written");
    file.seek(SeekFrom::Current(i64::try_from(BULK).expect("small"))).expect("a hole");
    let matrix: Vec<u8> = noise(1024 * 1024, 100, 0.1).iter().flat_map(|v| v.to_le_bytes()).collect();
    for _ in 0..MATRICES {
        file.write_all(&matrix).expect("written");
    }
    file.into_inner().expect("written");
    let size = std::fs::metadata(&input).expect("a file").len();

    let mut child = command(&["compress".as_ref(), input.as_os_str(), "-o".as_ref(), output.as_os_str()])
        .args(["--format", "int4", "--threads", "2"])
        .stdout(Stdio::null())
        .spawn()
        .expect("the program starts");
    let mut peak = 0;
    while child.try_wait().expect("a status").is_none() {
        peak = peak.max(high_water_mark(child.id()));
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(child.wait().expect("a status").success());
    // The contract is 1 GiB + 6 × the largest matrix; with two small matrices under way much less is due.
    let bound = (128 << 20) + 6 * LARGEST;
    assert!(peak > LARGEST, "the peak was seen: {peak}");
    assert!(peak < bound, "peak {peak} is above {bound} for a file of {size}");
    assert!(bound < size / 4, "the bound tells something");
}

/// `VmHWM` of a process in bytes; 0 once it is gone.
fn high_water_mark(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
