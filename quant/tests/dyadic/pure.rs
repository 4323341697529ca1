//! No float in inference: the text of its modules names none, has no literal of one, and reaches no code that might.
//! (The compiler's lints refuse the arithmetic and the types as well; see the head of the module.)

use std::fs;
use std::path::Path;

const FORBID: &str = "#![forbid(clippy::float_arithmetic, clippy::disallowed_types, unsafe_code)]";

/// The code of a file without comments, and its name.
fn source(path: &Path) -> (String, String) {
    let code = |line: &str| line.split("//").next().unwrap_or_default().to_owned() + "\n";
    let text: String = fs::read_to_string(path).unwrap().lines().map(code).collect();
    (path.file_name().unwrap().to_string_lossy().into_owned(), text)
}

/// The modules of inference.
fn sources() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/dyadic/integer");
    let mut sources = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        assert!(path.is_file(), "this test looks at one folder: {}", path.display());
        sources.push(source(&path));
    }
    sources
}

/// The example's network.
fn network() -> (String, String) {
    source(&Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/digits/network.rs"))
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.'))
}

/// A literal like `1.0`, `1.`, `1e3` or `2f32`; not a range and not the field of a tuple.
fn is_float_literal(word: &str) -> bool {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit() || c == '_');
    let number = word.starts_with(|c: char| c.is_ascii_digit()) && !word.starts_with("0x");
    let exponent = rest.strip_prefix('e').is_some_and(|power| !power.is_empty());
    number && (rest.starts_with('.') && !rest.starts_with("..") || rest.starts_with('f') || exponent)
}

#[test]
fn no_float_is_named() {
    let sources = sources();
    assert!(sources.len() >= 10, "the modules have moved");
    for (file, text) in sources.iter().chain([&network()]) {
        for word in words(text) {
            let float = ["f16", "f32", "f64", "f128", "bf16"].iter().any(|name| word.ends_with(name));
            assert!(!float && !is_float_literal(word), "{file} knows a float: {word}");
        }
    }
    let (_, head) = sources.iter().find(|(file, _)| file == "mod.rs").unwrap();
    assert!(head.contains(FORBID) && network().1.contains(FORBID));
}

#[test]
fn nothing_else_is_used() {
    for (file, text) in sources() {
        for used in text.lines().map(str::trim).filter_map(|line| line.strip_prefix("use ")) {
            let fine = ["crate::Error;", "super::", "alloc::", "core::"];
            let own = file == "mod.rs" && used.contains("::");
            assert!(own || fine.iter().any(|path| used.starts_with(path)), "{file} uses {used}");
        }
        for path in text.match_indices("crate::").map(|(at, _)| &text[at..]) {
            assert!(
                path.starts_with("crate::Error"),
                "{file} uses {}",
                path.lines().next().unwrap_or_default()
            );
        }
        assert!(!text.contains("super::super"), "{file} leaves the folder");
    }
    let (_, text) = network();
    assert!(!text.contains("calibrate") && !text.contains("Activation"), "calibration knows floats");
}

#[test]
fn the_search_finds_what_it_looks_for() {
    for text in ["let x = 1.0;", "x as f32", "1e3", "2f64", "3.", "x: bf16"] {
        let names = ["f16", "f32", "f64"];
        let found = |word: &str| names.iter().any(|name| word.ends_with(name)) || is_float_literal(word);
        assert!(words(text).any(found), "{text}");
    }
    for text in ["0..31", "self.0", "1 << 31", "a.1.b", "63.. => 0", "c @ 1..=62", "0xFE"] {
        assert!(!words(text).any(is_float_literal), "{text}");
    }
}
