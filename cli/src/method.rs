//! From flags to a recipe: the presets by name, and which flags mean something to which.

use clap::ValueEnum as _;
use rankbit::lowrank::{FactorFormat, Recipe, Rounds, Space, Step, Stop, TransformRule, preset};
use rankbit::quant::{Activation, Code, FloatFormat, Group, Rounder, Scheme, part_lengths, scheme};
use rankbit::sparse::{NmPattern, Pattern, Scope, SparseMatrix, ValueFormat, storage};

use crate::error::Error;
use crate::sparsity;

/// A published method, by the name used in flags, files and reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Method {
    /// Round to nearest.
    Rtn,
    /// Quantize, then the best low-rank approximation of what rounding lost (ZeroQuant-V2).
    Lorc,
    /// Smooth when calibrated, low rank first, quantize the rest, alternate (SVDQuant).
    Svdquant,
    /// Alternate low rank and quantization until the error rises (LQ-LoRA).
    LqLora,
    /// Round, then the low-rank term that makes up for most of the output (EoRA). Needs --calib.
    Eora,
    /// The same optimum, named by QERA's theorem 1. Needs --calib.
    Qera,
    /// As if inputs were uncorrelated: their mean squares alone (QERA's theorem 2). Needs --calib.
    QeraDiagonal,
    /// Alternate quantization and low rank, quantized first, every round run (LoftQ).
    Loftq,
    /// Low rank in closed form, then gradient steps on the layer's output (INT2.1). Needs --calib.
    Lrec,
    /// Alternate error-fed-back quantization and low rank, factors in few bits too (CALDERA). Needs --calib.
    Caldera,
    /// Alternate as lq-lora, weighted by mean squares of inputs and output gradients (LQ-LoRA). Needs --calib.
    LqLoraFisher,
    /// Truncated SVD, nothing quantized.
    Lowrank,
    /// Ranks by one threshold on all normalized spectra; matrices of full rank stay dense (WeLore).
    Welore,
    /// The affine map of low rank closest to the layer's output, with its bias (LORD). Needs --calib.
    Lord,
    /// Truncated SVD after whitening: least output error of its rank (SVD-LLM). Needs --calib.
    SvdLlm,
    /// Truncated SVD after scaling inputs by their mean magnitudes (ASVD). Needs --calib.
    Asvd,
    /// A dense factor times one with --rank/4 entries in every column (DSFormer).
    Dsformer,
    /// Low rank and the entries that do not fit it, --sparsity of them zero [default: 0.95], in turn (robust PCA).
    Rpca,
    /// Column by column, each error taken up by the columns after it (GPTQ). Needs --calib.
    Gptq,
    /// Codes and scales in turn from GPTQ's start: the least error at equal bits. Needs --calib.
    Cd,
    /// Grids under a norm that forgives outliers, without calibration (HQQ). Zero points are stored as f16.
    Hqq,
    /// Error feedback with fixed scales, then coordinate descent on the codes (QuIP). Needs --calib.
    Ldlq,
    /// 8-bit integers per row, inputs in 8-bit integers with outlier columns in floats (LLM.int8()).
    LlmInt8,
    /// 4-bit floats whose scales differ by powers of two, inputs in 8-bit floats; --rank adds compensation
    /// (ZeroQuant-FP).
    ZeroquantFp,
    /// Inputs that matter scaled up before rounding, by a search (AWQ). Needs --calib.
    Awq,
    /// Range moved from activations to weights, then round to nearest (SmoothQuant). Needs --calib.
    Smoothquant,
    /// The least error within a budget: trellis codes, bits for each column, errors fed back when calibrated.
    Best,
    /// Pruning: the largest weights are kept. --format says how, --rank adds what they lose.
    Magnitude,
    /// Pruning: the largest weights after their inputs' size (Wanda). Needs --calib.
    Wanda,
    /// Pruning: Wanda on weights relative to their row and column (RIA). Needs --calib.
    Ria,
    /// Pruning column by column, each loss taken up by the columns after it (SparseGPT). Needs --calib.
    Sparsegpt,
    /// Pruning all columns at once, then the best values for what is kept (ALPS): the least error. Needs --calib.
    Admm,
}

impl Method {
    /// Every method, in the order of the help.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 32] = [
        Self::Rtn,
        Self::Lorc,
        Self::Svdquant,
        Self::LqLora,
        Self::Eora,
        Self::Qera,
        Self::QeraDiagonal,
        Self::Loftq,
        Self::Lrec,
        Self::Caldera,
        Self::LqLoraFisher,
        Self::Lowrank,
        Self::Welore,
        Self::Lord,
        Self::SvdLlm,
        Self::Asvd,
        Self::Dsformer,
        Self::Rpca,
        Self::Gptq,
        Self::Cd,
        Self::Hqq,
        Self::Ldlq,
        Self::LlmInt8,
        Self::ZeroquantFp,
        Self::Awq,
        Self::Smoothquant,
        Self::Best,
        Self::Magnitude,
        Self::Wanda,
        Self::Ria,
        Self::Sparsegpt,
        Self::Admm,
    ];

    /// The name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Rtn => "rtn",
            Self::Lorc => "lorc",
            Self::Svdquant => "svdquant",
            Self::LqLora => "lq-lora",
            Self::Eora => "eora",
            Self::Qera => "qera",
            Self::QeraDiagonal => "qera-diagonal",
            Self::Loftq => "loftq",
            Self::Lrec => "lrec",
            Self::Caldera => "caldera",
            Self::LqLoraFisher => "lq-lora-fisher",
            Self::Lowrank => "lowrank",
            Self::Welore => "welore",
            Self::Lord => "lord",
            Self::SvdLlm => "svd-llm",
            Self::Asvd => "asvd",
            Self::Dsformer => "dsformer",
            Self::Rpca => "rpca",
            Self::Gptq => "gptq",
            Self::Cd => "cd",
            Self::Hqq => "hqq",
            Self::Ldlq => "ldlq",
            Self::LlmInt8 => "llm-int8",
            Self::ZeroquantFp => "zeroquant-fp",
            Self::Awq => "awq",
            Self::Smoothquant => "smoothquant",
            Self::Best => "best",
            Self::Magnitude => "magnitude",
            Self::Wanda => "wanda",
            Self::Ria => "ria",
            Self::Sparsegpt => "sparsegpt",
            Self::Admm => "admm",
        }
    }

    /// The scheme that is part of the method, unless `--format` may name another.
    fn scheme(self) -> Option<Scheme> {
        match self {
            Self::LlmInt8 => Some(scheme::INT8.with_group(Group::Row).with_scale_format(FloatFormat::F32)),
            Self::ZeroquantFp => Some(preset::Constraint::RatioOfTwo.fp4()),
            Self::Best => Some(scheme::TRELLIS),
            _ => None,
        }
    }

    /// Whether it has a quantized term.
    pub(crate) fn quantizes(self) -> bool {
        !matches!(self.family(), Family::LowRank | Family::Sparse)
    }

    /// What it is made of.
    pub(crate) const fn family(self) -> Family {
        match self {
            Self::Rtn
            | Self::Gptq
            | Self::Cd
            | Self::Hqq
            | Self::Ldlq
            | Self::LlmInt8
            | Self::ZeroquantFp
            | Self::Awq
            | Self::Smoothquant
            | Self::Best => Family::Quantized,
            Self::Lorc
            | Self::Svdquant
            | Self::LqLora
            | Self::Eora
            | Self::Qera
            | Self::QeraDiagonal
            | Self::Loftq
            | Self::Lrec
            | Self::Caldera
            | Self::LqLoraFisher => Family::Compensated,
            Self::Lowrank
            | Self::Welore
            | Self::Lord
            | Self::SvdLlm
            | Self::Asvd
            | Self::Dsformer
            | Self::Rpca => Family::LowRank,
            Self::Magnitude | Self::Wanda | Self::Ria | Self::Sparsegpt | Self::Admm => Family::Sparse,
        }
    }

    /// What it takes of calibration beyond a rounder's Gram matrix, by name; `None` when it does without.
    const fn follows(self) -> Option<&'static str> {
        match self {
            Self::Awq | Self::Smoothquant => Some("its scales follow from the activations"),
            Self::Eora
            | Self::Qera
            | Self::QeraDiagonal
            | Self::Lrec
            | Self::Caldera
            | Self::LqLoraFisher => Some("its low-rank term follows from the activations"),
            Self::Lord | Self::SvdLlm | Self::Asvd => Some("its factors follow from the activations"),
            _ => None,
        }
    }

    /// Whether its matrix is the sparse term.
    pub(crate) fn prunes(self) -> bool {
        self.family() == Family::Sparse
    }

    /// Whether it has a low-rank term.
    pub(crate) fn has_low_rank(self) -> bool {
        matches!(self.family(), Family::Compensated | Family::LowRank)
    }

    /// Whether it alternates.
    pub(crate) fn alternates(self) -> bool {
        matches!(
            self,
            Self::Svdquant
                | Self::LqLora
                | Self::LqLoraFisher
                | Self::Loftq
                | Self::Lrec
                | Self::Caldera
                | Self::Rpca
        )
    }

    /// Whether it smooths when there is calibration.
    pub(crate) fn smooths(self) -> bool {
        matches!(self, Self::Svdquant | Self::Smoothquant)
    }
}

/// Methods of the same terms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Family {
    /// Few bits.
    Quantized,
    /// Few bits and few ranks.
    Compensated,
    /// Few ranks.
    LowRank,
    /// Few non-zeros.
    Sparse,
}

impl Family {
    /// All, in the order of the help, with what they are called there.
    pub(crate) const ALL: [(Self, &'static str); 4] = [
        (Self::Quantized, "Few bits, W ≈ Q"),
        (Self::Compensated, "Few bits and few ranks, W ≈ Q + L·R"),
        (Self::LowRank, "Few ranks, W ≈ L·R"),
        (Self::Sparse, "Few non-zeros, W ≈ S, or S + L·R with --rank"),
    ];
}

/// `--rounder`, by the name used in files, flags and reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum RounderName {
    /// Each value by itself.
    Nearest,
    /// Column by column with error feedback. Needs --calib.
    Gptq,
    /// Codes and scales in turn from GPTQ's start. Needs --calib.
    Cd,
    /// Grids under a norm that forgives outliers.
    Hqq,
    /// Error feedback with fixed scales, then coordinate descent. Needs --calib.
    Ldlq,
    /// Scales of least squared error, weighted by calibration when given.
    Mse,
    /// Each group's range cut where least of the layer's output is lost (AWQ's).
    Clip,
    /// At random to one of the two neighbours, right on average.
    Stochastic,
}

impl RounderName {
    /// The rounder with its usual numbers.
    fn rounder(self, act_order: bool, seed: u64) -> Rounder {
        match self {
            Self::Nearest => Rounder::Nearest,
            Self::Gptq => Rounder::gptq(act_order),
            Self::Cd => Rounder::COORDINATE_DESCENT,
            Self::Hqq => Rounder::HQQ,
            Self::Ldlq => Rounder::LDLQ,
            Self::Mse => Rounder::Mse,
            Self::Clip => Rounder::Clip,
            Self::Stochastic => Rounder::Stochastic { seed },
        }
    }
}

/// `--formats`: what `best` may store.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub(crate) enum Codes {
    /// Trellis codes, bits for each column.
    #[default]
    Trellis,
    /// `uint2` to `uint8`, one for each matrix: for engines that cannot decode a trellis.
    Uint,
}

/// `--activations`: what becomes of the quantized term's inputs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Activations {
    /// Nothing.
    Float,
    /// 8-bit integers, one scale per token.
    Int8,
    /// 4-bit integers, one scale per token and group of 64.
    Int4,
}

impl Activations {
    const fn policy(self) -> Activation {
        match self {
            Self::Float => Activation::Float,
            Self::Int8 => Activation::INT8,
            Self::Int4 => Activation::INT4,
        }
    }
}

/// Default rank.
pub(crate) const RANK: usize = 16;
/// Share of the parameters that WeLore keeps by default.
pub(crate) const KEEP: f64 = 0.5;
/// Entries beside the low-rank term in robust PCA.
const RARE: Pattern = Pattern::Unstructured { density: 0.05, scope: Scope::Matrix };
/// Ranks for each entry of a column in DSFormer's sparse factor.
const ATOMS: usize = 4;
/// Gradient steps of a round of LREC.
const STEPS: u32 = 10;
/// ASVD's exponent.
const MAGNITUDES: f64 = 0.5;
/// Steps of a smoothing search.
const GRID: u32 = 10;
/// Default number of rounds.
pub(crate) const ROUNDS: u32 = 10;
/// Default smoothing strength.
pub(crate) const SMOOTH: f64 = 0.5;
/// Default format.
pub(crate) const FORMAT: &str = "nf4";

/// What was asked for on the command line; `None` where a flag was not given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    /// `--format`.
    pub(crate) format: Option<String>,
    /// `--group`.
    pub(crate) group: Option<Group>,
    /// `--rank`.
    pub(crate) rank: Option<usize>,
    /// `--rounder`.
    pub(crate) rounder: Option<RounderName>,
    /// `--act-order`.
    pub(crate) act_order: bool,
    /// `--scale`.
    pub(crate) scale: Option<FloatFormat>,
    /// `--sparsity`.
    pub(crate) sparsity: Option<Pattern>,
    /// `--factors`.
    pub(crate) factors: Option<FactorFormat>,
    /// `--keep`.
    pub(crate) keep: Option<f64>,
    /// `--smooth`.
    pub(crate) smooth: Option<f64>,
    /// `--smooth search`.
    pub(crate) search: bool,
    /// `--activations`.
    pub(crate) activations: Option<Activations>,
    /// `--rotate`.
    pub(crate) rotate: bool,
    /// `--rounds`.
    pub(crate) rounds: Option<u32>,
    /// `--formats`.
    pub(crate) codes: Option<Codes>,
    /// `--fast`.
    pub(crate) fast: bool,
    /// Whether `--calib` was given.
    pub(crate) calibrated: bool,
    /// `--seed`.
    pub(crate) seed: u64,
}

/// A method with everything decided.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The method.
    pub(crate) method: Method,
    /// What runs on every tensor.
    pub(crate) recipe: Recipe,
    /// The format, when it quantizes, or of kept values.
    pub(crate) scheme: Option<Scheme>,
    /// The pattern of the sparse term, when it has one.
    pub(crate) sparsity: Option<Pattern>,
    calibrated: bool,
    /// The rank, when it has a low-rank term.
    pub(crate) rank: Option<usize>,
    /// The share of its parameters that each matrix keeps, when the rank follows from it.
    pub(crate) keep: Option<f64>,
    /// How factors are stored.
    pub(crate) factors: FactorFormat,
    /// Smoothing strength, when it smooths.
    pub(crate) smooth: Option<f64>,
    /// Whether smoothing is searched for each tensor.
    pub(crate) search: bool,
    /// Whether `--smooth` was given.
    smooths_all: bool,
    /// Whether inputs are rotated.
    pub(crate) rotate: bool,
    /// Rounds at most.
    pub(crate) rounds: u32,
    /// The seed.
    pub(crate) seed: u64,
    /// What replaces the method's own rounder.
    rounder: Option<Rounder>,
    act_order: bool,
    effort: preset::Effort,
    /// What replaces the method's own policy for inputs.
    activation: Option<Activation>,
}

impl Plan {
    /// Decides what the flags leave open; a flag that means nothing to the method is wrong usage.
    pub(crate) fn new(method: Method, request: &Request) -> Result<Self, Error> {
        check(method, request)?;
        let mut scheme = match method.scheme().filter(|_| request.format.is_none()) {
            Some(own) => with_flags(own, request),
            None => scheme_of(request.format.as_deref().unwrap_or(FORMAT), request)?,
        };
        let own = (method.smooths() && request.calibrated && !request.search).then_some(SMOOTH);
        let smooth = request.smooth.or(own);
        if scheme.code.is_vector() {
            check_vector(method, request, scheme.name().unwrap_or(FORMAT), &scheme)?;
        }
        if method == Method::Hqq && request.rounder.is_none() {
            scheme = preset::hqq_scheme(scheme);
        }
        let few_bits = if method.prunes() { request.format.is_some() } else { method.quantizes() };
        let plan = Self {
            method,
            recipe: preset::rtn(scheme),
            scheme: few_bits.then_some(scheme),
            sparsity: request.sparsity.or(match method {
                Method::Rpca => Some(RARE),
                _ => method.prunes().then_some(Pattern::Nm(NmPattern::TWO_OF_FOUR)),
            }),
            calibrated: request.calibrated,
            rank: if method == Method::ZeroquantFp || method.prunes() {
                request.rank
            } else if request.keep.is_some() || method == Method::Welore {
                None
            } else {
                method.has_low_rank().then(|| request.rank.unwrap_or(RANK))
            },
            keep: request.keep.or((method == Method::Welore).then_some(KEEP)),
            factors: request.factors.unwrap_or(FactorFormat::F16),
            smooth,
            search: request.search,
            smooths_all: request.smooth.is_some(),
            rotate: request.rotate,
            rounds: request.rounds.unwrap_or(ROUNDS),
            seed: request.seed,
            rounder: request.rounder.map(|name| name.rounder(request.act_order, request.seed)),
            act_order: request.act_order,
            effort: if request.fast { preset::Effort::Fast } else { preset::Effort::Full },
            activation: request.activations.map(Activations::policy),
        };
        Ok(Self { recipe: plan.recipe_of(method, scheme), ..plan })
    }

    /// The recipe of another method or scheme with the same numbers.
    pub(crate) fn recipe_of(&self, method: Method, scheme: Scheme) -> Recipe {
        let rank = self.rank.unwrap_or(RANK);
        let (factors, rounds) = (self.factors, self.rounds);
        let terms = preset::Compensation { scheme, rounder: Rounder::Nearest, rank, factors };
        let mut recipe = match method {
            Method::Rtn => preset::rtn(scheme),
            Method::Lorc => preset::lorc(scheme, rank, factors),
            Method::Svdquant => {
                let smooth = match self.smooth {
                    _ if self.search => preset::Smoothing::Search(GRID),
                    Some(alpha) => preset::Smoothing::Fixed(alpha),
                    None => preset::Smoothing::Off,
                };
                let rounder = Rounder::Nearest;
                preset::svdquant(preset::SvdQuant { scheme, rounder, rank, factors, smooth, rounds })
            }
            Method::Eora => preset::eora(terms),
            Method::Qera => preset::qera(terms, preset::Qera::Exact),
            Method::QeraDiagonal => preset::qera(terms, preset::Qera::Diagonal),
            Method::Loftq => preset::loftq(terms, rounds),
            Method::Lrec => preset::lrec(terms, rounds.saturating_mul(STEPS)),
            Method::Caldera => {
                let rounder = Rounder::COORDINATE_DESCENT;
                preset::caldera(preset::Compensation { rounder, ..terms }, rounds)
            }
            Method::LqLoraFisher => preset::lq_lora_fisher(scheme, rank, factors, rounds),
            Method::Lord => preset::lord(rank, factors),
            Method::SvdLlm => preset::svd_llm(rank, factors),
            Method::Dsformer => {
                preset::dsformer(rank, u32::try_from(rank / ATOMS).unwrap_or(u32::MAX).max(1))
            }
            Method::Asvd => preset::asvd(MAGNITUDES, rank, factors),
            Method::LqLora => preset::lq_lora(scheme, rank, factors, rounds),
            Method::Lowrank | Method::Welore => preset::low_rank(rank, factors),
            Method::Gptq => preset::gptq(scheme, self.act_order),
            Method::Cd => preset::cd(scheme),
            Method::Hqq => preset::hqq(scheme),
            Method::Ldlq => preset::ldlq(scheme),
            Method::LlmInt8 => preset::llm_int8(),
            Method::ZeroquantFp => {
                let compensation = self.rank.map(|rank| (rank, factors));
                preset::zeroquant_fp(preset::ZeroQuantFp { scheme, compensation })
            }
            Method::Awq => preset::awq(scheme),
            Method::Best => match scheme.code {
                Code::Trellis(trellis) => preset::best(trellis.rate.bits(), self.calibrated, self.effort),
                _ => preset::best_scalar(scheme, self.calibrated, self.effort),
            },
            Method::Smoothquant => {
                preset::smoothquant(scheme, self.smooth.unwrap_or(SMOOTH), Activation::Float)
            }
            Method::Rpca => {
                let pattern = self.sparsity.unwrap_or(RARE);
                preset::rpca(rank, pattern, factors, rounds, self.calibrated)
            }
            Method::Magnitude => preset::magnitude(self.pattern(), self.values(scheme)),
            Method::Wanda => preset::wanda(self.pattern(), self.values(scheme)),
            Method::Ria => preset::ria(self.pattern(), self.values(scheme)),
            Method::Sparsegpt => preset::sparse_gpt(self.pattern(), self.values(scheme)),
            Method::Admm => preset::alps(self.pattern(), self.values(scheme)),
        };
        if let (true, Some(rank)) = (method.prunes(), self.rank) {
            recipe = preset::sparse_low_rank(recipe, rank, factors, rounds);
        }
        if let (Some(pattern), false) = (self.outliers(), method == Method::Rpca) {
            recipe = preset::with_outliers(recipe, pattern, self.calibrated);
            if method == Method::Lowrank {
                recipe.rounds = Rounds { max: rounds, stop: Stop::FirstRise };
            }
        }
        if let (Some(alpha), TransformRule::Identity) = (self.smooth_of(method), &recipe.transform) {
            recipe.transform = TransformRule::Smooth { alpha, beta: 1.0 - alpha, format: FloatFormat::F16 };
        }
        if self.search && method.quantizes() && recipe.transform == TransformRule::Identity {
            recipe.transform = TransformRule::SmoothSearch { grid: GRID, format: FloatFormat::F16 };
        }
        if self.rotate && method.quantizes() {
            recipe.transform = recipe.transform.then(TransformRule::Rotate { seed: self.seed });
        }
        if let Some(policy) = self.activation {
            recipe.activation = policy.into();
        }
        if let Some(chosen) = self.rounder {
            for step in &mut recipe.round {
                if let Step::Quantize { rounder, .. } = step {
                    *rounder = chosen;
                }
            }
        }
        recipe.seed = self.seed;
        recipe
    }

    /// The recipe of a tensor that calibration says nothing of: rounded to nearest, errors in weights.
    pub(crate) fn uncalibrated(&self, recipe: &Recipe) -> Recipe {
        let mut found = recipe.clone();
        found.metric = preset::rtn(scheme::TRELLIS).metric;
        for step in &mut found.round {
            if let Step::Quantize { rounder, .. } = step {
                *rounder = Rounder::Nearest;
            }
        }
        found
    }

    /// The recipe for a matrix `[out, in]` without a quantized term.
    pub(crate) fn unquantized(&self, shape: (usize, usize)) -> Recipe {
        match self.keep {
            None => self.recipe.clone(),
            Some(keep) => with_rank(self.recipe.clone(), preset::rank_within(shape, keep)),
        }
    }

    /// The pattern of a method that prunes.
    fn pattern(&self) -> Pattern {
        self.sparsity.unwrap_or(Pattern::Nm(NmPattern::TWO_OF_FOUR))
    }

    /// The pattern of a sparse term beside what the method finds.
    fn outliers(&self) -> Option<Pattern> {
        self.sparsity.filter(|_| !self.method.prunes())
    }

    /// How a method that prunes stores what it keeps.
    fn values(&self, scheme: Scheme) -> ValueFormat {
        match self.scheme {
            None => ValueFormat::Float(FloatFormat::F16),
            Some(_) => ValueFormat::Scheme(scheme, self.rounder.unwrap_or(Rounder::Nearest)),
        }
    }

    /// The shape of what is quantized of a matrix `[out, in]`: itself, or its kept values.
    pub(crate) fn quantized_shape(&self, (out, inputs): (usize, usize)) -> (usize, usize) {
        match self.sparsity {
            Some(Pattern::Nm(nm) | Pattern::Transposable(nm)) if self.method.prunes() => {
                (out, nm.kept_per_row(inputs))
            }
            _ => (out, inputs),
        }
    }

    /// The scheme of a matrix `[out, in]`, and what to say when it is not the one that was asked for: blocks that
    /// do not divide `in` give way to `q8_0`, and where that does not fit either, to `int8`.
    pub(crate) fn scheme_for(&self, shape: (usize, usize)) -> Option<(Scheme, Option<String>)> {
        self.fallback_of(self.scheme?, self.quantized_shape(shape))
    }

    /// [`Plan::scheme_for`], of another scheme.
    pub(crate) fn fallback_of(
        &self,
        asked: Scheme,
        shape: (usize, usize),
    ) -> Option<(Scheme, Option<String>)> {
        let fits = |scheme: &Scheme| scheme.grouping(shape).is_ok();
        let Some(block) = asked.block_len().filter(|_| !fits(&asked)) else { return Some((asked, None)) };
        let other = if fits(&scheme::Q8_0) { scheme::Q8_0 } else { scheme::INT8 };
        let name = |scheme: &Scheme| scheme.name().unwrap_or("this format");
        let warning = format!(
            "{} has blocks of {block}, which do not divide {} = {}: {} instead",
            name(&asked),
            if self.method.prunes() { "a row's kept values" } else { "in" },
            shape.1,
            name(&other)
        );
        Some((other, Some(warning)))
    }

    /// Smoothing strength of another method under the same flags: `--smooth` is for all, a default for its own.
    fn smooth_of(&self, method: Method) -> Option<f64> {
        self.smooth.filter(|_| method.quantizes() && (method.smooths() || self.smooths_all))
    }

    /// Stored bits over weights that [`Plan::recipe_of`] gives for a matrix `[out, in]`, should every format's range
    /// suffice.
    pub(crate) fn bits_per_weight(
        &self,
        method: Method,
        scheme: &Scheme,
        (out, inputs): (usize, usize),
    ) -> Result<f64, rankbit::sparse::Error> {
        let mut bits = 0.0;
        if method.quantizes() {
            bits += part_lengths((out, inputs), scheme)?.bytes as f64 * 8.0;
        }
        let kept = match method.prunes() {
            true => Some((self.pattern(), self.values(*scheme))),
            false => self.outliers().map(|pattern| (pattern, ValueFormat::Float(FloatFormat::F16))),
        };
        if let Some((pattern, values)) = kept {
            bits += storage::stored_bits((out, inputs), &pattern, &values)? as f64;
        }
        let optional = method == Method::ZeroquantFp || method.prunes();
        let compensates = optional && self.rank.is_some();
        if method.has_low_rank() || compensates {
            let rank = self.rank.unwrap_or(RANK);
            let rank = self.keep.map_or(rank, |keep| preset::rank_within((out, inputs), keep));
            let factors = match method {
                Method::Dsformer => {
                    FactorFormat::Atoms(u32::try_from(rank / ATOMS).unwrap_or(u32::MAX).max(1))
                }
                _ => self.factors,
            };
            bits += factors.stored_bits((out, inputs), rank)? as f64;
        }
        if method == Method::Lord {
            bits += 32.0 * out as f64;
        }
        if self.smooth_of(method).is_some() || method == Method::Awq || (self.search && method.quantizes()) {
            bits += (inputs * FloatFormat::F16.bits()) as f64;
        }
        Ok(bits / (out as f64 * inputs as f64))
    }

    /// The rounder, pruner or method that cannot do without a Gram matrix, by name; smoothing is not counted.
    pub(crate) fn needs_gram(&self) -> Option<&'static str> {
        let rounder = self.recipe.round.iter().find_map(|step| match step {
            Step::Quantize { rounder, .. } if rounder.needs_hessian() => Some(rounder.name()),
            Step::Sparse { pruner, .. } if pruner.needs_moments() => Some(pruner.name()),
            _ => None,
        });
        let metric = self.recipe.metric;
        let measured = self.smooth.is_none() && !self.search && metric.accept.has_second_moments();
        rounder.or(measured.then(|| self.method.name()))
    }

    /// Whether iterates are compared under the calibration's metric.
    pub(crate) fn measures(&self) -> bool {
        self.recipe.metric.accept.has_second_moments()
    }

    /// Whether it takes mean magnitudes of inputs.
    pub(crate) fn needs_magnitudes(&self) -> bool {
        matches!(self.recipe.metric.project, Space::MeanAbs { .. }) || self.method == Method::Awq
    }

    /// Whether factors are more than a decomposition rounded to floats.
    pub(crate) fn works_on_factors(&self) -> bool {
        self.recipe.round.iter().any(|step| match step {
            Step::LowRank { factors, .. } => !matches!(factors, FactorFormat::Float(_)),
            step => matches!(step, Step::Gradient { .. }),
        })
    }

    /// Whether it takes means of inputs.
    pub(crate) fn needs_means(&self) -> bool {
        self.recipe.round.contains(&Step::Bias)
    }

    /// Whether every quantizing step takes each value by itself.
    pub(crate) fn rounds_to_nearest(&self) -> bool {
        self.recipe.round.iter().all(|step| match step {
            Step::Quantize { rounder, .. } => *rounder == Rounder::Nearest,
            _ => true,
        })
    }

    /// The format's name.
    pub(crate) fn format(&self) -> Option<&'static str> {
        self.scheme.as_ref().and_then(Scheme::name)
    }
}

/// A recipe with another rank.
pub(crate) fn with_rank(mut recipe: Recipe, rank: usize) -> Recipe {
    for step in &mut recipe.round {
        if let Step::LowRank { rank: asked, .. } = step {
            *asked = rank;
        }
    }
    recipe
}

/// The scheme of a recipe's quantized term, or else of its sparse term's values.
pub(crate) fn scheme_in(recipe: &Recipe) -> Option<Scheme> {
    let base = recipe.round.iter().find_map(|step| match step {
        Step::Quantize { scheme, .. } => Some(*scheme),
        _ => None,
    });
    let kept = || {
        recipe.round.iter().find_map(|step| match step {
            Step::Sparse { values: ValueFormat::Scheme(scheme, _), .. } => Some(*scheme),
            _ => None,
        })
    };
    base.or_else(kept)
}

/// What a format is under `--group` and `--scale`.
pub(crate) fn scheme_of(format: &str, request: &Request) -> Result<Scheme, Error> {
    let scheme =
        Scheme::named(format).ok_or_else(|| Error::usage(format!("there is no format '{format}'")))?;
    if scheme.owns_scales() {
        let given = [(request.group.is_some(), "--group"), (request.scale.is_some(), "--scale")];
        if let Some((_, flag)) = given.into_iter().find(|(given, _)| *given) {
            let why = "its groups and their scales are part of it";
            return Err(Error::usage(format!("{flag} means nothing to --format {format}: {why}")));
        }
    }
    if scheme.code.is_vector() && request.group.is_some() {
        let why = "it has a scale for each row and column";
        return Err(Error::usage(format!("--group means nothing to --format {format}: {why}")));
    }
    Ok(with_flags(scheme, request))
}

/// A scheme with the groups and scales that were asked for.
fn with_flags(scheme: Scheme, request: &Request) -> Scheme {
    let scheme = request.group.map_or(scheme, |group| scheme.with_group(group));
    request.scale.map_or(scheme, |scale| scheme.with_scale_format(scale))
}

/// Flags that mean nothing to the method.
fn check(method: Method, request: &Request) -> Result<(), Error> {
    let name = method.name();
    let refuse = |flag: &str, why: &str| {
        Err(Error::usage(format!("{flag} means nothing to --method {name}: it {why}")))
    };
    let quantizer = [
        (request.format.is_some(), "--format"),
        (request.group.is_some(), "--group"),
        (request.scale.is_some(), "--scale"),
        (request.rounder.is_some(), "--rounder"),
        (request.activations.is_some(), "--activations"),
        (request.smooth.is_some() || request.search, "--smooth"),
        (request.rotate, "--rotate"),
    ];
    if let Some((_, flag)) = quantizer.iter().take(3).find(|(given, _)| *given && method == Method::LlmInt8) {
        return refuse(flag, "has 8-bit integers with one f32 scale per row");
    }
    if request.keep.is_some() {
        if method == Method::Dsformer {
            return refuse("--keep", "has a sparse factor, whose size --rank decides");
        }
        if method.family() != Family::LowRank {
            return refuse("--keep", "is of more than a low-rank term, whose size the format decides");
        }
        if request.rank.is_some() {
            return Err(Error::usage("--keep and --rank both decide the rank: give one"));
        }
    }
    if method.prunes() {
        return check_pruning(method, request, &quantizer);
    }
    if let Some((_, flag)) = quantizer.into_iter().find(|(given, _)| *given && !method.quantizes()) {
        return refuse(flag, "quantizes nothing");
    }
    let branch = [(request.rank.is_some(), "--rank"), (request.factors.is_some(), "--factors")];
    let has_branch = method.has_low_rank() || method == Method::ZeroquantFp;
    if let Some((_, flag)) = branch.into_iter().find(|(given, _)| *given && !has_branch) {
        return refuse(flag, "has no low-rank term");
    }
    if method == Method::ZeroquantFp && request.factors.is_some() && request.rank.is_none() {
        return refuse("--factors", "has a low-rank term with --rank only");
    }
    let outliers_in_turn = method == Method::Lowrank && request.sparsity.is_some();
    if request.rounds.is_some() && !method.alternates() && !outliers_in_turn {
        return refuse("--rounds", "does not alternate");
    }
    let own = [
        (request.format.is_some(), "--format"),
        (request.group.is_some(), "--group"),
        (request.scale.is_some(), "--scale"),
        (request.rounder.is_some(), "--rounder"),
        (request.smooth.is_some(), "--smooth"),
        (request.rotate, "--rotate"),
    ];
    if let Some((_, flag)) = own.into_iter().find(|(given, _)| *given && method == Method::Best) {
        return refuse(flag, "decides that itself (see --budget and --formats)");
    }
    let only = [(request.codes.is_some(), "--formats"), (request.fast, "--fast")];
    if let Some((_, flag)) = only.into_iter().find(|(given, _)| *given && method != Method::Best) {
        return refuse(flag, "has one way of its own; --method best takes it");
    }
    let rounds_by_gptq = request.rounder.map_or(method == Method::Gptq, |name| name == RounderName::Gptq);
    if request.act_order && !rounds_by_gptq {
        return Err(Error::usage("--act-order means something to --method gptq or --rounder gptq only"));
    }
    if method == Method::Welore && request.rank.is_some() {
        return refuse("--rank", "finds the ranks itself, under --keep");
    }
    if method == Method::Dsformer && request.factors.is_some() {
        return refuse("--factors", "has a sparse factor in f16");
    }
    if method == Method::Lrec && matches!(request.factors, Some(FactorFormat::Int8 | FactorFormat::Int4)) {
        return refuse("--factors int8 or int4", "trains factors, which floats can take");
    }
    if request.smooth.is_some() || request.search {
        if method == Method::Awq {
            return refuse("--smooth", "searches its own scales");
        }
        if !request.calibrated {
            return Err(Error::uncalibrated(
                "--smooth needs --calib: smoothing follows from the activations",
            ));
        }
    }
    if let (Some(why), false) = (method.follows(), request.calibrated) {
        return Err(Error::uncalibrated(format!("--method {name} needs --calib: {why}")));
    }
    Ok(())
}

/// [`check`] of a method that prunes; `quantizer` are the flags of a quantized term.
fn check_pruning(method: Method, request: &Request, quantizer: &[(bool, &str)]) -> Result<(), Error> {
    let name = method.name();
    let refuse = |flag: &str, why: &str| {
        Err(Error::usage(format!("{flag} means nothing to --method {name}: it {why}")))
    };
    let of_values = ["--format", "--group", "--scale", "--rounder"];
    for &(_, flag) in quantizer.iter().filter(|(given, _)| *given) {
        if !of_values.contains(&flag) {
            return refuse(flag, "has no quantized term");
        }
        if request.format.is_none() {
            return refuse(flag, "keeps 16-bit floats unless --format names another format");
        }
    }
    if request.act_order {
        return refuse("--act-order", "does not round by gptq");
    }
    if let (Some(flag), None) = (request.factors.map(|_| "--factors"), request.rank) {
        return refuse(flag, "has a low-rank term with --rank only");
    }
    if let (Some(flag), None) = (request.rounds.map(|_| "--rounds"), request.rank) {
        return refuse(flag, "alternates with --rank only");
    }
    let Some(format) = request.format.as_deref() else { return Ok(()) };
    let rounder = request.rounder.map_or(Rounder::Nearest, |name| name.rounder(false, request.seed));
    if rounder.needs_hessian() {
        let rounder = rounder.name();
        return Err(Error::usage(format!(
            "--rounder {rounder} cannot round kept values: take nearest or mse"
        )));
    }
    let pattern = request.sparsity.unwrap_or(Pattern::Nm(NmPattern::TWO_OF_FOUR));
    match SparseMatrix::check(&pattern, &ValueFormat::Scheme(scheme_of(format, request)?, rounder)) {
        Ok(()) => Ok(()),
        Err(error) if matches!(pattern, Pattern::Nm(_) | Pattern::Transposable(_)) => {
            Err(Error::usage(format!("--format {format}: {error}")))
        }
        Err(_) => {
            let pattern = sparsity::name(&pattern);
            Err(Error::usage(format!(
                "--sparsity {pattern} keeps floats, --format {format} needs N:M; to keep outliers beside a \
                 quantized matrix add --method rtn"
            )))
        }
    }
}

/// What does not go with vector codes.
fn check_vector(method: Method, request: &Request, format: &str, scheme: &Scheme) -> Result<(), Error> {
    let rounder = request.rounder.unwrap_or(match method {
        Method::Gptq => RounderName::Gptq,
        Method::Cd | Method::Caldera => RounderName::Cd,
        Method::Ldlq | Method::Best => RounderName::Ldlq,
        Method::Hqq => RounderName::Hqq,
        Method::Awq => RounderName::Clip,
        Method::Rtn
        | Method::Lorc
        | Method::Svdquant
        | Method::LqLora
        | Method::Eora
        | Method::Qera
        | Method::QeraDiagonal
        | Method::Loftq
        | Method::Lrec
        | Method::LqLoraFisher
        | Method::Lowrank
        | Method::Welore
        | Method::Lord
        | Method::SvdLlm
        | Method::Asvd
        | Method::Dsformer
        | Method::Rpca
        | Method::LlmInt8
        | Method::ZeroquantFp
        | Method::Smoothquant
        | Method::Magnitude
        | Method::Wanda
        | Method::Ria
        | Method::Sparsegpt
        | Method::Admm => RounderName::Nearest,
    });
    let fits = match rounder {
        RounderName::Nearest => true,
        RounderName::Gptq | RounderName::Cd | RounderName::Ldlq => matches!(scheme.code, Code::Trellis(_)),
        RounderName::Hqq | RounderName::Mse | RounderName::Clip | RounderName::Stochastic => false,
    };
    if fits {
        return Ok(());
    }
    let name = rounder.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
    Err(Error::usage(format!("--format {format} cannot be rounded by {name}")))
}

/// `--group`: a number, `row`, `tensor`, or rows and columns as in `128x128`.
pub(crate) fn parse_group(text: &str) -> Result<Group, String> {
    match text {
        "row" => return Ok(Group::Row),
        "tensor" => return Ok(Group::Tensor),
        _ => {}
    }
    let group = match text.split_once('x') {
        None => text.parse().ok().map(Group::Size),
        Some((rows, cols)) => match (rows.parse(), cols.parse()) {
            (Ok(rows), Ok(cols)) => Some(Group::Block { rows, cols }),
            _ => None,
        },
    };
    group.ok_or_else(|| "expected a number, 'row', 'tensor' or rows and columns as in 128x128".to_owned())
}

/// `--smooth`: a strength, or a search for it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Smooth {
    /// With this α.
    Fixed(f64),
    /// With the α and β of least output error.
    Search,
}

/// `--keep`: a share of the parameters.
pub(crate) fn parse_keep(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(keep) if keep > 0.0 && keep <= 1.0 => Ok(keep),
        _ => Err("expected a number above 0 and at most 1".to_owned()),
    }
}

/// `--factors`: `f32`, `f16`, `bf16`, `int8` or `int4`.
pub(crate) fn parse_factors(text: &str) -> Result<FactorFormat, String> {
    let formats = [FloatFormat::F32, FloatFormat::F16, FloatFormat::Bf16].map(FactorFormat::Float);
    let mut formats = formats.into_iter().chain([FactorFormat::Int8, FactorFormat::Int4]);
    formats
        .find(|format| format.name() == text)
        .ok_or_else(|| "expected f32, f16, bf16, int8 or int4".to_owned())
}

/// `--smooth`: a number from 0 to 1, or `search`.
pub(crate) fn parse_smooth(text: &str) -> Result<Smooth, String> {
    if text == "search" {
        return Ok(Smooth::Search);
    }
    match text.parse::<f64>() {
        Ok(alpha) if (0.0..=1.0).contains(&alpha) => Ok(Smooth::Fixed(alpha)),
        _ => Err("expected a number from 0 to 1, or 'search'".to_owned()),
    }
}

/// `f32`, `f16` or `bf16`.
pub(crate) fn parse_float(text: &str) -> Result<FloatFormat, String> {
    [FloatFormat::F32, FloatFormat::F16, FloatFormat::Bf16]
        .into_iter()
        .find(|format| format.name() == text)
        .ok_or_else(|| "expected f32, f16 or bf16".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rankbit::lowrank::ActivationRule;

    #[test]
    fn defaults_are_the_contracts() {
        let plan = Plan::new(Method::Rtn, &Request::default()).expect("defaults");
        assert_eq!(plan.recipe, preset::rtn(scheme::NF4.with_group(Group::Size(64))));
        assert_eq!((plan.rank, plan.format()), (None, Some("nf4")));
        let plan = Plan::new(Method::Svdquant, &Request::default()).expect("defaults");
        assert_eq!((plan.rank, plan.rounds, plan.smooth), (Some(16), 10, None));
        let calibrated = Request { calibrated: true, ..Request::default() };
        assert_eq!(Plan::new(Method::Svdquant, &calibrated).expect("defaults").smooth, Some(0.5));
    }

    #[test]
    fn flags_that_mean_nothing_are_refused() {
        let cases = [
            (Method::Rtn, Request { rank: Some(4), ..Request::default() }, "--rank"),
            (
                Method::Rtn,
                Request { factors: Some(FloatFormat::F32.into()), ..Request::default() },
                "--factors",
            ),
            (Method::Lorc, Request { rounds: Some(4), ..Request::default() }, "--rounds"),
            (Method::Lowrank, Request { format: Some("int4".to_owned()), ..Request::default() }, "--format"),
            (Method::Lowrank, Request { group: Some(Group::Row), ..Request::default() }, "--group"),
            (Method::Lowrank, Request { scale: Some(FloatFormat::F32), ..Request::default() }, "--scale"),
            (Method::Lowrank, Request { rounder: Some(RounderName::Mse), ..Request::default() }, "--rounder"),
            (Method::Gptq, Request { rank: Some(4), ..Request::default() }, "--rank"),
            (Method::LlmInt8, Request { format: Some("int4".to_owned()), ..Request::default() }, "--format"),
            (Method::LlmInt8, Request { group: Some(Group::Size(64)), ..Request::default() }, "--group"),
            (Method::LlmInt8, Request { scale: Some(FloatFormat::F16), ..Request::default() }, "--scale"),
            (Method::LlmInt8, Request { rank: Some(4), ..Request::default() }, "--rank"),
            (
                Method::ZeroquantFp,
                Request { factors: Some(FloatFormat::F32.into()), ..Request::default() },
                "--factors",
            ),
            (
                Method::Lowrank,
                Request { activations: Some(Activations::Int8), ..Request::default() },
                "--activations",
            ),
            (Method::Cd, Request { act_order: true, ..Request::default() }, "--act-order"),
            (Method::Awq, Request { smooth: Some(0.5), calibrated: true, ..Request::default() }, "--smooth"),
            (Method::Lowrank, Request { rotate: true, ..Request::default() }, "--rotate"),
            (Method::LqLora, Request { smooth: Some(0.5), ..Request::default() }, "--calib"),
            (Method::Awq, Request::default(), "--calib"),
            (Method::Smoothquant, Request::default(), "--calib"),
            (Method::Svdquant, Request { smooth: Some(0.5), ..Request::default() }, "--calib"),
        ];
        for (method, request, flag) in cases {
            let error = Plan::new(method, &request).expect_err(flag);
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(flag), "{error}");
        }
    }

    #[test]
    fn vector_codes_take_their_own_rounders() {
        let with = |format: &str| Request { format: Some(format.to_owned()), ..Request::default() };
        for format in ["trellis2", "e8p4"] {
            assert!(Plan::new(Method::Rtn, &with(format)).is_ok());
            assert!(Plan::new(Method::Svdquant, &with(format)).is_ok());
            assert_eq!(Plan::new(Method::Ldlq, &with(format)).is_ok(), format == "trellis2");
            for request in [
                Request { group: Some(Group::Size(64)), ..with(format) },
                Request { rounder: Some(RounderName::Mse), ..with(format) },
            ] {
                assert_eq!(Plan::new(Method::Rtn, &request).expect_err(format).exit_code(), 2);
            }
            assert_eq!(Plan::new(Method::Hqq, &with(format)).expect_err(format).exit_code(), 2);
        }
    }

    #[test]
    fn rounders_replace_the_methods_own() {
        let request = Request { rounder: Some(RounderName::Gptq), act_order: true, ..Request::default() };
        let plan = Plan::new(Method::Lorc, &request).expect("a plan");
        assert_eq!(plan.needs_gram(), Some("gptq"));
        let Some(Step::Quantize { rounder, .. }) = plan.recipe.round.first() else { panic!("{plan:?}") };
        assert_eq!(*rounder, Rounder::gptq(true));
        let plan = Plan::new(Method::Cd, &Request::default()).expect("a plan");
        assert_eq!((plan.needs_gram(), plan.rank), (Some("cd"), None));
        let request = Request { rounder: Some(RounderName::Nearest), ..Request::default() };
        assert_eq!(Plan::new(Method::Rtn, &request).expect("a plan").needs_gram(), None);
        // Its iterates are compared under the calibration's metric, whatever rounds them.
        assert_eq!(Plan::new(Method::Gptq, &request).expect("a plan").needs_gram(), Some("gptq"));
    }

    #[test]
    fn activations_replace_the_methods_own() {
        let policy = |method, activations| {
            let request = Request { activations, ..Request::default() };
            Plan::new(method, &request).expect("a plan").recipe.activation
        };
        let given = ActivationRule::Given;
        assert_eq!(policy(Method::Rtn, None), ActivationRule::FLOAT);
        assert_eq!(policy(Method::Svdquant, Some(Activations::Int4)), given(Activation::INT4));
        assert_eq!(policy(Method::LlmInt8, None), given(Activation::LLM_INT8));
        assert_eq!(policy(Method::LlmInt8, Some(Activations::Int8)), given(Activation::INT8));
        assert_eq!(policy(Method::LlmInt8, Some(Activations::Float)), ActivationRule::FLOAT);
        assert_eq!(policy(Method::ZeroquantFp, None), given(Activation::FP8));
        let rank =
            |rank| Plan::new(Method::ZeroquantFp, &Request { rank, ..Request::default() }).expect("a plan");
        assert_eq!((rank(None).rank, rank(Some(8)).rank), (None, Some(8)));
        assert_eq!(rank(None).recipe.round.len() + 1, rank(Some(8)).recipe.round.len());
        assert_eq!(rank(None).scheme, Some(preset::Constraint::RatioOfTwo.fp4()));
    }

    #[test]
    fn transforms_add_up() {
        let smoothing = TransformRule::Smooth { alpha: 0.25, beta: 0.75, format: FloatFormat::F16 };
        let rotation = TransformRule::Rotate { seed: 7 };
        let of = |method, smooth, rotate| {
            let request = Request { smooth, rotate, calibrated: true, seed: 7, ..Request::default() };
            Plan::new(method, &request).expect("a plan").recipe.transform
        };
        assert_eq!(of(Method::Rtn, None, false), TransformRule::Identity);
        assert_eq!(of(Method::Rtn, None, true), rotation);
        assert_eq!(of(Method::Gptq, Some(0.25), false), smoothing);
        assert_eq!(of(Method::Svdquant, Some(0.25), false), smoothing);
        let both = TransformRule::Compose(vec![smoothing, rotation.clone()]);
        assert_eq!(of(Method::Cd, Some(0.25), true), both);
        assert_eq!(of(Method::Smoothquant, Some(0.25), true), both);
        assert_eq!(of(Method::Awq, None, true), TransformRule::Compose(vec![TransformRule::AWQ, rotation]));
    }

    #[test]
    fn blocks_fall_back_and_keep_their_groups() {
        let with = |format: &str, group, scale| Request {
            format: Some(format.to_owned()),
            group,
            scale,
            ..Request::default()
        };
        for format in ["mxfp4", "nvfp4", "q4_k", "q8_0", "int4-dyadic"] {
            for request in [with(format, Some(Group::Row), None), with(format, None, Some(FloatFormat::F32))]
            {
                assert_eq!(Plan::new(Method::Rtn, &request).expect_err(format).exit_code(), 2);
            }
        }
        let chosen = |format: &str, cols| {
            let plan = Plan::new(Method::Rtn, &with(format, None, None)).expect(format);
            let (scheme, warning) = plan.scheme_for((64, cols)).expect("it quantizes");
            (scheme.name(), warning.is_some())
        };
        assert_eq!(chosen("q4_k", 512), (Some("q4_k"), false));
        assert_eq!(chosen("q4_k", 384), (Some("q8_0"), true));
        assert_eq!(chosen("q4_k", 100), (Some("int8"), true));
        assert_eq!(chosen("q8_0", 100), (Some("int8"), true));
        assert_eq!(chosen("nvfp4", 80), (Some("nvfp4"), false));
        assert_eq!(chosen("nvfp4", 72), (Some("int8"), true));
        assert_eq!(chosen("nf4", 77), (Some("nf4"), false));
        let fp8 = Plan::new(Method::Rtn, &with("fp8-e4m3", None, None)).expect("fp8");
        assert_eq!(fp8.scheme.map(|scheme| scheme.group), Some(Group::Row));
    }

    #[test]
    fn names_are_those_of_the_command_line() {
        for method in Method::ALL {
            assert_eq!(Method::from_str(method.name(), false), Ok(method));
        }
        assert_eq!(parse_group("row"), Ok(Group::Row));
        assert_eq!(parse_group("0"), Ok(Group::Size(0)));
        assert_eq!(parse_group("128x64"), Ok(Group::Block { rows: 128, cols: 64 }));
        assert!(["x", "1x", "x1", "1x2x3", "-1x2"].iter().all(|text| parse_group(text).is_err()));
        assert!(parse_group("-1").is_err());
        assert!(parse_smooth("nan").is_err() && parse_smooth("1.5").is_err());
        assert_eq!(parse_smooth("0.25"), Ok(Smooth::Fixed(0.25)));
        assert_eq!(parse_smooth("search"), Ok(Smooth::Search));
    }
}
