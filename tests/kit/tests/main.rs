//! The sentence model against the published path, and calibration against `scripts/capture.py`.
//!
//! All of it needs the files of `scripts/fetch-model.sh`, and fails without them.

mod bad_input;
mod calibration;
mod embeddings;

use std::path::Path;
use std::sync::OnceLock;

use rankbit_kit::model::{SentenceModel, corpus};
use rankbit_kit::text::Sentences;

/// The model, loaded once for all tests.
fn model() -> &'static SentenceModel {
    static MODEL: OnceLock<SentenceModel> = OnceLock::new();
    MODEL.get_or_init(|| SentenceModel::load().unwrap_or_else(|error| panic!("{error}")))
}

/// The text, read once for all tests.
fn sentences() -> &'static Sentences {
    static SENTENCES: OnceLock<Sentences> = OnceLock::new();
    SENTENCES.get_or_init(|| Sentences::read(&corpus()).unwrap_or_else(|error| panic!("{error}")))
}

/// A kept file of `tests/vectors`.
fn vectors(name: &str) -> serde_json::Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vectors").join(name);
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
