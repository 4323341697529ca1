//! The demo: every method in the table, a page beside it, with and without a GPU.

use crate::support::command;

const METHODS: [&str; 6] = ["dense", "rtn", "lorc", "svdquant", "lq-lora", "lowrank"];

/// Checks what the demo printed and wrote, and gives back the error of each row by method and format.
fn check(stdout: &str, page: &std::path::Path) -> Vec<(String, f64, f64)> {
    let html = std::fs::read_to_string(page).expect("a page");
    assert!(html.contains("<svg") && html.contains("Error against bits"));
    assert!(html.contains("2⁻ᵇ, Gaussian limit") && html.contains("2⁻ᵇ, the limit at b bits"));
    assert!(stdout.contains("× limit"), "{stdout}");
    assert!(stdout.contains(page.to_str().expect("a plain path")), "{stdout}");
    let mut rows = Vec::new();
    for line in stdout.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some(method) = words.first().filter(|w| METHODS.contains(w)) else { continue };
        // The format may be of several words; bits and error are the first two numbers after it.
        let mut numbers = words[1..].iter().filter(|w| w.contains('.')).filter_map(|w| w.parse::<f64>().ok());
        let (bits, error) = (numbers.next().expect("bits"), numbers.next().expect("an error"));
        if error > 0.0 {
            // Both are printed rounded: four digits of the error, three behind the point of the bits.
            let (ratio, expected) = (numbers.next().expect("a ratio"), error * bits.exp2());
            let bound = 0.006 + expected * (6e-5 / error + 6e-4);
            assert!((ratio - expected).abs() <= bound, "{line}");
        }
        rows.push((format!("{method} {}", words[1]), bits, error));
    }
    for method in METHODS {
        assert!(rows.iter().any(|(name, ..)| name.starts_with(method)), "{method} is not in {stdout}");
        assert!(html.contains(method), "{method} is not on the page");
    }
    rows
}

#[test]
fn without_a_gpu_it_says_so_and_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let page = folder.path().join("demo.html");
    let run = command(&["demo", "--report"])
        .arg(&page)
        .env("VK_DRIVER_FILES", "/nonexistent.json")
        .env("VK_ICD_FILENAMES", "/nonexistent.json")
        .output()
        .expect("the command starts");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let stdout = String::from_utf8(run.stdout).expect("text");
    assert!(stdout.contains("no GPU product") && !stdout.contains("GPU ms"), "{stdout}");
    let rows = check(&stdout, &page);
    let of = |name: &str| rows.iter().find(|(n, ..)| n == name).map(|(_, bits, error)| (*bits, *error));
    // The embedded matrices are fixed, so are these: bits exactly, errors to the last printed digit or two.
    let (bits, error) = of("rtn uint4").expect("a row");
    assert!((bits - 4.3125).abs() < 1e-3 && (error - 0.0931).abs() < 2e-4, "{bits} {error}");
    let (bits, error) = of("svdquant uint4").expect("a row");
    assert!((bits - 5.3125).abs() < 1e-3 && error < 0.0715, "{bits} {error}");
}

#[test]
fn with_a_gpu_it_times_the_product() {
    let folder = tempfile::tempdir().expect("a folder");
    let page = folder.path().join("demo.html");
    let run = command(&["demo", "--report"]).arg(&page).output().expect("the command starts");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let stdout = String::from_utf8(run.stdout).expect("text");
    check(&stdout, &page);
    assert!(stdout.contains("GPU: ") && stdout.contains("GPU ms, 1 token"), "no adapter was found: {stdout}");
}
