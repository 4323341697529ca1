//! The arguments of `compress`.

use std::path::{Path, PathBuf};

use clap::builder::PossibleValuesParser;
use rankbit::lowrank::FactorFormat;
use rankbit::quant::{FloatFormat, Group};
use rankbit::sparse::Pattern;

use crate::error::Error;
use crate::method::{self, Activations, Codes, Method, Plan, Request, RounderName, Smooth};
use crate::{candidates, describe, select, sparsity};

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
    /// How matrices are split [default: best; rtn where a flag names what best decides itself, such as --format; with
    /// --sparsity alone magnitude, with --calib too sparsegpt]; --help lists the methods by family.
    #[arg(long, value_enum, hide_default_value = true, hide_possible_values = true,
          long_help = describe::methods())]
    method: Option<Method>,
    /// The number format of the quantized term [default: nf4]. With --budget a list, separated by commas, to choose
    /// from [default: integers of 2 to 8 bits, nf2 to nf4, and GGUF blocks where the rounder fills them].
    #[arg(long, value_delimiter = ',', value_parser = PossibleValuesParser::new(describe::formats()))]
    format: Vec<String>,
    /// Bits per weight of all compressed tensors together, scales, factors and padding included [default: 4.5 for best].
    /// Each tensor gets the format, each column of a trellis the bits that together lose least, in weights or, with
    /// --calib, in outputs.
    #[arg(long = "budget", value_name = "BITS", value_parser = candidates::parse_budget)]
    bits: Option<f64>,
    /// What best may store [default: trellis].
    #[arg(long, value_enum)]
    formats: Option<Codes>,
    /// Best in a quarter of the time, for 1 to 11 % more error.
    #[arg(long)]
    fast: bool,
    /// A plan: what each tensor becomes. Written with --budget (also with --dry-run), read without.
    #[arg(long, value_name = "PLAN.toml")]
    pub(crate) config: Option<PathBuf>,
    /// Entries of a row that share a scale: a number, 'row' or 'tensor' [default: 64].
    #[arg(long, value_name = "N|row|tensor", value_parser = method::parse_group)]
    group: Option<Group>,
    /// Rank of the low-rank term [default: 16].
    #[arg(long, value_name = "R")]
    rank: Option<usize>,
    /// Which weights may stay: N:M keeps N of every M inputs (2:4, 1:8), N:Mt in both directions, 0.5 drops that share of
    /// all weights, 16x16:0.5 of all blocks. To a method that prunes it is the matrix itself [default: 2:4], its kept
    /// weights stored as --format says [default: f16]; beside any other method it keeps the weights that few bits serve
    /// worst, in f16.
    #[arg(long, value_name = "PATTERN", value_parser = sparsity::parse, help_heading = "Sparse term")]
    sparsity: Option<Pattern>,
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
    /// Share of its parameters that each matrix keeps, for methods of low rank alone: its rank follows [default: 0.5 for
    /// welore, --rank for the others].
    #[arg(long, value_name = "SHARE", value_parser = method::parse_keep)]
    keep: Option<f64>,
    /// How low-rank factors are stored: f32, f16, bf16, int8 or int4 [default: f16].
    #[arg(long, value_parser = method::parse_factors)]
    factors: Option<FactorFormat>,
    /// Smoothing strength, 0 to 1, or 'search' for the one of least output error, for any method that quantizes; needs
    /// --calib [default: 0.5 for svdquant and smoothquant, none for the others].
    #[arg(long, value_name = "ALPHA|search", value_parser = method::parse_smooth)]
    smooth: Option<Smooth>,
    /// What the inputs of the quantized term become when the file is used [default: the method's own, mostly float].
    #[arg(long, value_enum)]
    activations: Option<Activations>,
    /// Rotate the quantized term's inputs by a Hadamard matrix with random signs, so that outliers spread (QuaRot).
    #[arg(long)]
    rotate: bool,
    /// Alternations at most [default: 10].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// Seed of every random number [default: 0].
    #[arg(long)]
    seed: Option<u64>,
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
    /// f32, f16 and bf16 matrices whose rows are a multiple of 32 become GGUF's q8_0.
    #[value(name = "q8_0")]
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
    /// The method: best, unless a flag says what best decides itself; pruning for a sparsity.
    fn method(&self) -> Method {
        let says = !self.format.is_empty()
            || self.group.is_some()
            || self.rank.is_some()
            || self.rounder.is_some()
            || self.act_order
            || self.scale.is_some()
            || self.factors.is_some()
            || self.keep.is_some()
            || self.smooth.is_some()
            || self.rotate
            || self.rounds.is_some();
        self.method.unwrap_or(match (self.sparsity, &self.calib) {
            (Some(_), None) => Method::Magnitude,
            (Some(_), Some(_)) => Method::Sparsegpt,
            (None, _) if says => Method::Rtn,
            (None, _) => Method::Best,
        })
    }

    /// Bits per weight to spend; none where a plan is read, or where a format is what decides.
    pub(crate) fn budget(&self) -> Option<f64> {
        let own = self.config.is_none() && self.method() == Method::Best;
        self.bits.or(own.then_some(candidates::BUDGET))
    }

    /// The method with everything decided.
    pub(crate) fn plan(&self) -> Result<Plan, Error> {
        if self.budget().is_none() && self.format.len() > 1 {
            return Err(Error::usage("--format: a list of formats needs --budget, which chooses among them"));
        }
        if self.budget().is_none() && self.format.iter().any(|name| name == "trellis") {
            return Err(Error::usage("--format trellis needs --budget: the bits of a column follow from it"));
        }
        Plan::new(self.method(), &self.request())
    }

    /// The method of a plan that is read, with nothing else given.
    pub(crate) fn planned(&self, method: Method, seed: u64) -> Result<Plan, Error> {
        let given = [
            (self.method.is_some(), "--method"),
            (!self.format.is_empty(), "--format"),
            (self.group.is_some(), "--group"),
            (self.rank.is_some(), "--rank"),
            (self.sparsity.is_some(), "--sparsity"),
            (self.rounder.is_some(), "--rounder"),
            (self.act_order, "--act-order"),
            (self.scale.is_some(), "--scale"),
            (self.keep.is_some(), "--keep"),
            (self.factors.is_some(), "--factors"),
            (self.smooth.is_some(), "--smooth"),
            (self.activations.is_some(), "--activations"),
            (self.rotate, "--rotate"),
            (self.rounds.is_some(), "--rounds"),
            (self.formats.is_some(), "--formats"),
            (self.fast, "--fast"),
            (self.seed.is_some(), "--seed"),
        ];
        if let Some((_, flag)) = given.into_iter().find(|(given, _)| *given) {
            return Err(Error::usage(format!("{flag} means nothing to --config: the plan decides it")));
        }
        Plan::new(method, &Request { calibrated: self.calib.is_some(), seed, ..Request::default() })
    }

    /// What was asked for of the method.
    pub(crate) fn request(&self) -> Request {
        Request {
            format: candidates::first(&self.format),
            group: self.group,
            rank: self.rank,
            sparsity: self.sparsity,
            rounder: self.rounder,
            act_order: self.act_order,
            scale: self.scale,
            factors: self.factors,
            keep: self.keep,
            smooth: match self.smooth {
                Some(Smooth::Fixed(alpha)) => Some(alpha),
                Some(Smooth::Search) | None => None,
            },
            search: self.smooth == Some(Smooth::Search),
            activations: self.activations,
            rotate: self.rotate,
            rounds: self.rounds,
            codes: self.formats,
            fast: self.fast,
            calibrated: self.calib.is_some(),
            seed: self.seed.unwrap_or(0),
        }
    }

    /// The formats named.
    pub(crate) fn formats(&self) -> &[String] {
        &self.format
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
