//! Writes the sentence model's calibration file, as the tests use it:
//!
//! ```text
//! cargo run --release -p rankbit-kit --features model --example capture -- acts.safetensors [held-out]
//! cargo run --release -p rankbit-kit --features model --example capture -- sentences.txt sentences
//! ```
//! The second writes the calibration sentences themselves, one a line, for `scripts/capture.py`.

use std::error::Error;
use std::path::Path;

use rankbit_kit::calibration::Calibration;
use rankbit_kit::model::{SentenceModel, corpus};
use rankbit_kit::text::Sentences;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let sentences = Sentences::read(&corpus())?;
    let (path, texts) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [path] => (path, sentences.calibration),
        [path, "held-out"] => (path, sentences.held_out),
        [path, "sentences"] => {
            std::fs::write(path, sentences.calibration.join("\n") + "\n")?;
            println!("{path}: {} sentences", sentences.calibration.len());
            return Ok(());
        }
        _ => return Err("usage: capture OUT [held-out | sentences]".into()),
    };
    let calibration = Calibration::capture(&SentenceModel::load()?, &texts)?;
    calibration.write(Path::new(path))?;
    println!("{path}: {} inputs, {} sentences", calibration.moments.len(), texts.len());
    Ok(())
}
