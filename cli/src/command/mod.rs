//! The subcommands, a module each: its arguments and `run`.

pub(crate) mod compare;
pub(crate) mod compress;
pub(crate) mod decompress;
pub(crate) mod demo;
pub(crate) mod gpu;
pub(crate) mod inspect;
pub(crate) mod spectrum;

use std::path::{Path, PathBuf};

use crate::container::writer::{folder, follow};
use crate::error::Error;

/// What every subcommand does.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Every method side by side on embedded real weights: error, bits, CPU and GPU time; a table and a page.
    Demo(demo::Args),
    /// Compress a checkpoint: every large matrix becomes few bits and few ranks.
    Compress(Box<compress::Args>),
    /// Turn a compressed checkpoint back into a dense one.
    Decompress(decompress::Args),
    /// Show what is inside a file: shapes, recipes, bits per weight, provenance.
    Inspect(inspect::Args),
    /// Per-tensor and total errors between two checkpoints, compressed or not.
    Compare(compare::Args),
    /// Singular values, effective rank, outliers and the best 4-bit format of each matrix.
    Spectrum(spectrum::Args),
    /// GPU adapters, kernel self-test against the CPU twins, bench.
    Gpu(gpu::Args),
}

/// Flags of every subcommand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Global {
    /// Print nothing but errors.
    pub(crate) quiet: bool,
}

impl Command {
    /// Runs it.
    pub(crate) fn run(&self, global: Global) -> Result<(), Error> {
        match self {
            Self::Demo(args) => demo::run(args, global),
            Self::Compress(args) => compress::run(args, global),
            Self::Decompress(args) => decompress::run(args, global),
            Self::Inspect(args) => inspect::run(args),
            Self::Compare(args) => compare::run(args),
            Self::Spectrum(args) => spectrum::run(args),
            Self::Gpu(args) => gpu::run(args, global),
        }
    }
}

/// Refuses to write to a file that is read, or twice to one file.
pub(crate) fn check_outputs(inputs: &[&Path], outputs: &[&Path]) -> Result<(), Error> {
    for (i, output) in outputs.iter().enumerate() {
        if inputs.iter().any(|input| same_file(input, output)) {
            return Err(Error::input(output, "the output is an input: nothing was written"));
        }
        if outputs.iter().take(i).any(|other| same_file(other, output)) {
            return Err(Error::usage(format!("{}: named as output twice", output.display())));
        }
    }
    Ok(())
}

/// Whether two paths name one file, through links too.
fn same_file(a: &Path, b: &Path) -> bool {
    #[cfg(unix)]
    if let (Ok(a), Ok(b)) = (std::fs::metadata(a), std::fs::metadata(b)) {
        use std::os::unix::fs::MetadataExt as _;
        return (a.dev(), a.ino()) == (b.dev(), b.ino());
    }
    resolved(a) == resolved(b)
}

/// The path with all links resolved, also when the file does not exist yet.
fn resolved(path: &Path) -> PathBuf {
    let path = follow(path).unwrap_or_else(|_| path.to_owned());
    match (std::fs::canonicalize(folder(&path)), path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => path,
    }
}

/// Bytes for people.
pub(crate) fn bytes(count: u64) -> String {
    indicatif::HumanBytes(count).to_string()
}
