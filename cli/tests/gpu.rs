//! `rankbit gpu` on a real driver: a machine without any adapter fails these tests.

use crate::support::{command, fail, succeed};

#[test]
fn lists_an_adapter() {
    let text = succeed(&command(&["gpu", "--list"]).output().expect("the command starts"));
    assert!(!text.contains("no GPU adapter") && text.contains("backend"), "{text}");
}

#[test]
fn the_self_test_passes() {
    let text = succeed(&command(&["gpu", "--self-test"]).output().expect("the command starts"));
    let cases: usize = text
        .split(": ")
        .nth(1)
        .and_then(|t| t.split(' ').next())
        .and_then(|n| n.parse().ok())
        .expect("a count");
    assert!(cases >= 300 && text.contains("within their bounds"), "{text}");
}

#[test]
fn without_a_driver_the_list_says_so_and_the_self_test_fails() {
    let without = |flag| {
        command(&["gpu", flag])
            .env("VK_DRIVER_FILES", "/nonexistent.json")
            .env("VK_ICD_FILENAMES", "/nonexistent.json")
            .output()
            .expect("the command starts")
    };
    assert!(succeed(&without("--list")).contains("no GPU adapter"));
    fail(&without("--self-test"), 4, &["adapter"]);
}
