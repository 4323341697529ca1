//! Calibration with layer-to-layer propagation: the inputs of each block are captured behind the blocks before it, as they
//! are once compressed. What it writes is a calibration file like any other; compressing by it once more, whole, gives the
//! very matrices that were seen on the way.
//!
//! ```text
//! cargo run --release -p rankbit-kit --features model --example propagate -- RANKBIT acts.safetensors [COMPRESS FLAGS …]
//! rankbit compress model.safetensors -o out.safetensors --include encoder --calib acts.safetensors [COMPRESS FLAGS …]
//! ```
//! RANKBIT is the program; a pass of the model for each block.

use std::error::Error;
use std::path::Path;
use std::process::Command;

use rankbit_kit::calibration::Calibration;
use rankbit_kit::model::{SentenceModel, checkpoint, corpus};
use rankbit_kit::tensor::read_tensors;
use rankbit_kit::text::Sentences;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [program, path, flags @ ..] = arguments.as_slice() else {
        return Err("usage: propagate RANKBIT OUT.safetensors [COMPRESS FLAGS ...]".into());
    };
    let sentences = Sentences::read(&corpus())?.calibration;
    let mut model = SentenceModel::load()?;
    let names: Vec<String> = model.network().linear_names().map(str::to_owned).collect();
    let mut blocks: Vec<&str> = names.iter().filter_map(|name| block(name)).collect();
    blocks.dedup();
    let original = checkpoint();
    let mut all = Calibration::default();
    for (done, &current) in blocks.iter().enumerate() {
        let seen = Calibration::capture(&model, &sentences)?;
        all.moments.extend(seen.moments.into_iter().filter(|(name, _)| block(name) == Some(current)));
        all.alias.extend(seen.alias.into_iter().filter(|(name, _)| block(name) == Some(current)));
        all.write(Path::new(path))?;
        println!("{current} ({} of {})", done + 1, blocks.len());
        let (small, dense) = (format!("{path}.small"), format!("{path}.dense"));
        let run = |arguments: &[&str]| -> Result<(), Box<dyn Error>> {
            let status = Command::new(program).args(arguments).status()?;
            if status.success() { Ok(()) } else { Err(format!("{arguments:?}: {status}").into()) }
        };
        let original = original.to_str().ok_or("a path that is no text")?;
        let pattern = current.replace('.', "\\.");
        let mut compress =
            vec!["compress", original, "-o", &small, "--quiet", "--include", &pattern, "--calib", path];
        compress.extend(flags.iter().map(String::as_str));
        run(&compress)?;
        run(&["decompress", &small, "-o", &dense, "--quiet"])?;
        let replaced = read_tensors(Path::new(&dense))?;
        model = model.with(replaced.into_iter().filter(|(name, _)| name.contains(current)))?;
        std::fs::remove_file(&small)?;
        std::fs::remove_file(&dense)?;
    }
    Ok(())
}

/// The block that a tensor belongs to: `layer.3.` of `encoder.layer.3.output.dense.weight`.
fn block(name: &str) -> Option<&str> {
    let start = name.find("layer.")?;
    let digits = name.get(start + "layer.".len()..)?.find('.')?;
    name.get(start..start + "layer.".len() + digits + 1)
}
