//! A method with everything decided: its recipe, on any matrix.

use rankbit::lowrank::{FactorFormat, Recipe, Rounds, Space, Step, Stop, TransformRule, preset};
use rankbit::quant::{Activation, Code, FloatFormat, Group, Rounder, Scheme, part_lengths, scheme};
use rankbit::sparse::{NmPattern, Pattern, Scope, ValueFormat, storage};

use super::check::{check, check_vector};
use super::{Activations, Codes, Method, RounderName};
use crate::error::Error;

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
            Method::Loldu => {
                let floats = match factors {
                    FactorFormat::Float(format) => format,
                    _ => FloatFormat::F16,
                };
                preset::loldu(Some(scheme), rank, floats)
            }
            Method::Lrec => preset::lrec(terms, rounds.saturating_mul(STEPS)),
            Method::Caldera => {
                let rounder = Rounder::COORDINATE_DESCENT;
                preset::caldera(preset::Compensation { rounder, ..terms }, rounds)
            }
            Method::LqLoraFisher => preset::lq_lora_fisher(scheme, rank, factors, rounds),
            Method::Lord => preset::lord(rank, factors),
            Method::UnifiedCtr => preset::embedding(rank, factors),
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

    /// Whether it weighs rows.
    pub(crate) fn needs_row_weights(&self) -> bool {
        self.recipe.metric.project == Space::Rows
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
        if let Step::LowRank { rank: asked, .. } | Step::Ldu { rank: asked, .. } = step {
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
