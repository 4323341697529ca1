//! The arguments of `compress`.

use std::path::{Path, PathBuf};

use clap::builder::PossibleValuesParser;
use rankbit::quant::{FloatFormat, Group};

use crate::error::Error;
use crate::method::{self, Method, Plan, Request, RounderName};
use crate::select;

/// Arguments of `compress`.
#[derive(clap::Args, Debug)]
#[command(after_long_help = select::left_alone_help())]
pub(crate) struct Args {
    /// The checkpoint (safetensors).
    #[arg(value_name = "IN")]
    pub(crate) input: PathBuf,
    /// The compressed checkpoint (safetensors). An existing file is replaced once the new one is whole.
    #[arg(short, long, value_name = "OUT", required_unless_present = "dry_run")]
    pub(crate) output: Option<PathBuf>,
    /// How matrices are split.
    #[arg(long, value_enum, default_value = "rtn")]
    method: Method,
    /// The number format of the quantized term [default: nf4].
    #[arg(long, value_parser = PossibleValuesParser::new(method::format_names()))]
    format: Option<String>,
    /// Entries of a row that share a scale: a number, 'row' or 'tensor' [default: 64].
    #[arg(long, value_name = "N|row|tensor", value_parser = method::parse_group)]
    group: Option<Group>,
    /// Rank of the low-rank term [default: 16].
    #[arg(long, value_name = "R")]
    rank: Option<usize>,
    /// Calibration: activations or their moments (safetensors; see scripts/capture.py).
    #[arg(long, value_name = "ACTS")]
    pub(crate) calib: Option<PathBuf>,
    /// Compress only tensors whose name matches; may be given several times. Takes names that are otherwise left
    /// alone.
    #[arg(long, value_name = "RE")]
    pub(crate) include: Vec<String>,
    /// Leave tensors alone whose name matches; may be given several times.
    #[arg(long, value_name = "RE")]
    pub(crate) exclude: Vec<String>,
    /// What becomes of the other float tensors.
    #[arg(long, value_enum, default_value = "keep")]
    pub(crate) rest: RestRule,
    /// How values become codes [default: the method's own, mostly nearest].
    #[arg(long, value_enum)]
    rounder: Option<RounderName>,
    /// GPTQ: columns in the order of their inputs' energy, not as stored.
    #[arg(long)]
    act_order: bool,
    /// How scales are stored: f32, f16 or bf16 [default: f16, f32 for nf4].
    #[arg(long, value_parser = method::parse_float)]
    scale: Option<FloatFormat>,
    /// How low-rank factors are stored: f32, f16 or bf16 [default: f16].
    #[arg(long, value_parser = method::parse_float)]
    factors: Option<FloatFormat>,
    /// Smoothing strength, 0 to 1, for any method that quantizes; needs --calib [default: 0.5 for svdquant and
    /// smoothquant, none for the others].
    #[arg(long, value_name = "ALPHA", value_parser = method::parse_smooth)]
    smooth: Option<f64>,
    /// Rotate the quantized term's inputs by a Hadamard matrix with random signs, so that outliers spread (QuaRot).
    #[arg(long)]
    rotate: bool,
    /// Alternations at most [default: 10].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// Seed of every random number.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Threads [default: all cores]. The output does not depend on it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Write a report: FILE.json or FILE.html; may be given several times.
    #[arg(long, value_name = "FILE", conflicts_with = "dry_run")]
    pub(crate) report: Vec<PathBuf>,
    /// Show what would be done and write nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `--rest`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum RestRule {
    /// Byte for byte.
    Keep,
    /// f32, bf16 and f64 become f16 where their range fits.
    F16,
    /// Not available yet.
    #[value(name = "q8_0", hide = true)]
    Q8_0,
}

/// The kinds of reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ReportKind {
    /// For programs.
    Json,
    /// For people.
    Html,
}

/// Number of cores that this process may use.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl Args {
    /// The method with everything decided.
    pub(crate) fn plan(&self) -> Result<Plan, Error> {
        if self.rest == RestRule::Q8_0 {
            return Err(Error::usage("--rest q8_0 does not exist yet: take keep or f16"));
        }
        Plan::new(
            self.method,
            &Request {
                format: self.format.clone(),
                group: self.group,
                rank: self.rank,
                rounder: self.rounder,
                act_order: self.act_order,
                scale: self.scale,
                factors: self.factors,
                smooth: self.smooth,
                rotate: self.rotate,
                rounds: self.rounds,
                calibrated: self.calib.is_some(),
                seed: self.seed,
            },
        )
    }

    /// Number of threads.
    pub(crate) fn threads(&self) -> usize {
        self.threads.map_or_else(cores, usize::from)
    }

    /// The reports asked for, by their endings.
    pub(crate) fn reports(&self) -> Result<Vec<(ReportKind, &Path)>, Error> {
        self.report
            .iter()
            .map(|path| match path.extension().and_then(|ending| ending.to_str()) {
                Some("json") => Ok((ReportKind::Json, path.as_path())),
                Some("html") => Ok((ReportKind::Html, path.as_path())),
                _ => Err(Error::usage(format!("--report {}: must end in .json or .html", path.display()))),
            })
            .collect()
    }
}
