//! Runs a recipe on one matrix: see [`fit`].

use crate::part::{
    GradientPart, LduPart, LowRankPart, QuantizedPart, SparsePart, Term, check_range, residual,
};
use crate::{Error, FactorFormat, Recipe, Split, Step, Stop, TransformRule};
use crate::{basis, search, space};
use alloc::{vec, vec::Vec};
use core::fmt;
use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_linalg::{Metric, MetricRoot, Moments, Stream, svd};
use rankbit_quant::{FloatFormat, Rounder};
use rankbit_sparse::SparseMatrix;

/// Damping of a Gram metric, as a fraction of its mean diagonal: keeps directions that calibration never saw
/// from being free.
const DAMPING: f64 = 1e-4;

/// What a fit knows besides the matrix and the recipe.
#[derive(Clone, Copy, Default)]
pub struct Input<'a> {
    /// The tensor's name; random numbers depend on it and on the recipe's seed alone.
    pub name: &'a str,
    /// The calibration statistics of the layer's input.
    pub moments: Option<&'a Moments>,
}

/// A split and how it was found.
#[derive(Clone, PartialEq, Debug)]
pub struct Fit {
    /// The best iterate.
    pub split: Split,
    /// How it was found.
    pub info: FitInfo,
}

/// How a split was found.
#[derive(Clone, PartialEq, Debug)]
pub struct FitInfo {
    /// Every iterate that had all terms of the recipe, in order.
    pub iterates: Vec<Iterate>,
    /// Index of the returned one.
    pub best: usize,
    /// `‖W - Ŵ‖ / ‖W‖` of the f32 reconstruction, Frobenius norm; 0/0 = 0.
    pub relative_error: f64,
    /// The same under the calibration's metric, when calibration has one: the error of outputs, bias included.
    pub metric_error: Option<f64>,
    /// What was changed from what the recipe asked.
    pub adjustments: Vec<Adjustment>,
    /// What ran, where a search in the recipe decided a part of it.
    pub decided: Option<Recipe>,
    /// Wall time of the fit in seconds; `None` without `std`.
    pub seconds: Option<f64>,
}

/// One iterate of a fit.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Iterate {
    /// Which round, from 0.
    pub round: u32,
    /// Which step of the round ended in it, from 0.
    pub step: usize,
    /// Relative error in the accepting metric.
    pub error: f64,
}

/// Something that was changed from what the recipe asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Adjustment {
    /// The scale format's range was too small: scales are f32.
    ScalesWidened {
        /// The format asked for.
        asked: FloatFormat,
    },
    /// The factor format's range was too small: factors are f32.
    FactorsWidened {
        /// The format asked for.
        asked: FactorFormat,
    },
    /// Fewer tokens than inputs: the Gram matrix is singular, and damping decides in directions that were never seen.
    FewTokens {
        /// Tokens of the calibration.
        tokens: u64,
        /// Inputs of the layer.
        inputs: usize,
    },
    /// The value format's range was too small: kept values of the sparse term are f32.
    ValuesWidened {
        /// The format asked for.
        asked: FloatFormat,
    },
    /// The width has no Hadamard matrix that is built in: the rotation mixes blocks of it.
    RotatedInBlocks {
        /// The width.
        size: usize,
        /// Entries of a block.
        block: usize,
    },
    /// The smoothing format's range was too small: smoothing factors are f32.
    SmoothingWidened {
        /// The format asked for.
        asked: FloatFormat,
    },
}

impl fmt::Display for Adjustment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, asked) = match self {
            Self::ScalesWidened { asked } => ("scales", asked.name()),
            Self::FactorsWidened { asked } => ("low-rank factors", asked.name()),
            Self::SmoothingWidened { asked } => ("smoothing factors", asked.name()),
            Self::ValuesWidened { asked } => ("values of the sparse term", asked.name()),
            Self::FewTokens { tokens, inputs } => {
                return write!(
                    f,
                    "{tokens} calibration tokens for {inputs} inputs: the Gram matrix is singular and was damped; \
                     capture more"
                );
            }
            Self::RotatedInBlocks { size, block } => {
                return write!(
                    f,
                    "no Hadamard matrix of order {size} is known: rotated in blocks of {block}"
                );
            }
        };
        write!(f, "{what} stored as f32: their range does not fit {asked}")
    }
}

/// Runs `recipe` on `weight` (`[out, in]`, any strides).
///
/// ```text
/// minimize ‖W - Ŵ‖_M   over   Ŵ = Q̃·Tᵀ + L·R + S
/// ```
/// 1. The transform `T` is fixed, from the calibration and the weight.
/// 2. Each step of a round replaces its own term, given the others: a projection onto the quantizer's grid, onto rank r
///    or onto a pattern of non-zeros. Whenever all terms of the recipe exist, the iterate's error is measured in the accepting metric.
/// 3. The best iterate is kept: plain rounding is no projection onto a convex set, nor is pruning, so iterates can get worse.
/// 4. The reported errors are measured anew on the f32 reconstruction of what is returned.
///
/// Cost per round: one decode and one residual, O(out·in·r), one SVD of rank r, and the metric's norm (a Gram
/// metric costs O(out·in²)). Memory: two copies of `W` in f32 beside it, the codes of two iterates.
///
/// Deterministic: the same weight, recipe and input give the same bits on one build and CPU feature level,
/// whatever the number of threads.
///
/// # Errors
/// [`Error::InvalidRecipe`] for a recipe without steps or rounds, or whose transform has no quantizer to serve;
/// [`Error::ShapeMismatch`] for an empty matrix or calibration of another width; [`Error::MissingCalibration`]
/// or a missing moment when the recipe needs one; [`Error::RankOutOfRange`]; a NaN or infinite weight, named;
/// [`Error::Overflow`] where entries near the end of f32's range leave no room for a residual.
pub fn fit(weight: MatRef<'_, f32>, recipe: &Recipe, input: &Input<'_>) -> Result<Fit, Error> {
    fit_observed(weight, recipe, input, &mut |_, _| {})
}

/// [`fit`], with `observe` called on every iterate that has all terms of the recipe.
///
/// # Errors
/// As [`fit`].
pub fn fit_observed(
    weight: MatRef<'_, f32>,
    recipe: &Recipe,
    input: &Input<'_>,
    observe: &mut dyn FnMut(&Iterate, &Split),
) -> Result<Fit, Error> {
    #[cfg(feature = "std")]
    let start = std::time::Instant::now();
    check(weight, recipe, input)?;
    let searched = search::resolve(weight, recipe, input)?;
    let recipe = searched.as_ref().unwrap_or(recipe);
    let mut state = State::new(weight, recipe, input)?;
    let mut best: Option<(usize, Split)> = None;
    let mut iterates: Vec<Iterate> = Vec::new();
    let mut last_round = f64::INFINITY;
    for round in 0..recipe.rounds.max {
        for (step, what) in recipe.round.iter().enumerate() {
            state.run(what)?;
            let Some(error) = state.error()? else { continue };
            let iterate = Iterate { round, step, error };
            observe(&iterate, &state.split);
            if best.as_ref().is_none_or(|(at, _)| error < iterates[*at].error) {
                best = Some((iterates.len(), state.split.clone()));
            }
            iterates.push(iterate);
        }
        let error = iterates.last().map_or(f64::INFINITY, |iterate| iterate.error);
        let stop = match recipe.rounds.stop {
            Stop::FirstRise => error > last_round,
            Stop::Gain(fraction) => error > last_round * (1.0 - fraction),
            Stop::Never => false,
        };
        if stop || error == 0.0 {
            break;
        }
        last_round = error;
    }
    let Some((best, split)) = best else {
        return Err(Error::InvalidRecipe { reason: "no round ended with all terms present" });
    };
    let (relative_error, metric_error) = state.final_errors(&split)?;
    Ok(Fit {
        split,
        info: FitInfo {
            iterates,
            best,
            relative_error,
            metric_error,
            adjustments: state.adjustments,
            decided: searched,
            #[cfg(feature = "std")]
            seconds: Some(start.elapsed().as_secs_f64()),
            #[cfg(not(feature = "std"))]
            seconds: None,
        },
    })
}

/// Everything about the arguments that can be told before the first step.
fn check(weight: MatRef<'_, f32>, recipe: &Recipe, input: &Input<'_>) -> Result<(), Error> {
    let shape = (weight.nrows(), weight.ncols());
    if shape.0 == 0 || shape.1 == 0 {
        return Err(Error::ShapeMismatch { what: "weight", expected: (1, 1), found: shape });
    }
    if recipe.round.is_empty() || recipe.rounds.max == 0 {
        return Err(Error::InvalidRecipe { reason: "no step to run" });
    }
    let quantizes = recipe.round.iter().any(|step| matches!(step, Step::Quantize { .. }));
    if recipe.transform != TransformRule::Identity && !quantizes {
        return Err(Error::InvalidRecipe { reason: "a transform needs a quantizing step" });
    }
    if !recipe.activation.is_float() && !quantizes {
        return Err(Error::InvalidRecipe { reason: "quantized inputs need a quantizing step" });
    }
    if recipe.transform != TransformRule::Identity {
        basis::check(&recipe.transform)?;
    }
    for (index, step) in recipe.round.iter().enumerate() {
        match *step {
            Step::Quantize { ref scheme, .. } => scheme.check()?,
            Step::LowRank { rank, .. } | Step::Ldu { rank, .. } => {
                let max = shape.0.min(shape.1);
                if rank == 0 || rank > max {
                    return Err(Error::RankOutOfRange { rank, max });
                }
            }
            Step::Gradient { .. } => {
                let floats =
                    |step: &Step| matches!(step, Step::LowRank { factors: FactorFormat::Float(_), .. });
                if !recipe.round.iter().take(index).any(floats) {
                    return Err(Error::InvalidRecipe {
                        reason: "gradient steps need a low-rank step before them, its factors floats",
                    });
                }
            }
            Step::Bias => {}
            Step::Sparse { ref pattern, ref pruner, refit, ref values } => {
                SparseMatrix::check(pattern, values)?;
                if input.moments.is_none() && (refit || pruner.needs_gram()) {
                    return Err(Error::MissingCalibration {
                        needed: "the Gram matrix of the layer's inputs",
                    });
                }
                if input.moments.is_none() && pruner.needs_moments() {
                    return Err(Error::MissingCalibration {
                        needed: "the second moments of the layer's inputs",
                    });
                }
            }
        }
    }
    if let Some(moments) = input.moments
        && moments.in_features() != shape.1
    {
        return Err(Error::ShapeMismatch {
            what: "calibration",
            expected: (1, shape.1),
            found: (1, moments.in_features()),
        });
    }
    Ok(())
}

/// A fit under way.
struct State<'a> {
    name: &'a str,
    weight: MatRef<'a, f32>,
    split: Split,
    work: Vec<f32>,
    /// Which terms an iterate must have: quantized, low rank, sparse, bias.
    wants: [bool; 4],
    /// The projecting metric, for factors that are rounded under it; else the identity.
    project: Metric,
    root: MetricRoot,
    method: svd::Method,
    accept: Metric,
    weight_norm: f64,
    calibration: Option<Metric>,
    /// `TᵀHT`, for rounders that weigh errors by the layer's inputs.
    hessian: Option<Mat<f64>>,
    moments: Option<&'a Moments>,
    /// What an error of each output counts.
    row_weights: Option<&'a [f64]>,
    adjustments: Vec<Adjustment>,
}

impl<'a> State<'a> {
    fn new(weight: MatRef<'a, f32>, recipe: &Recipe, input: &Input<'a>) -> Result<Self, Error> {
        let shape = (weight.nrows(), weight.ncols());
        let mut adjustments = Vec::new();
        let transform = basis::find(weight, recipe, input, &mut adjustments)?;
        let activation = basis::activation(recipe.activation, input, transform.as_ref())?;
        let calibration = input.moments.and_then(|moments| moments.metric().ok());
        let space = |space| space::metric(space, input, transform.as_ref());
        let accept = space(recipe.metric.accept)?;
        let hessian = basis::hessian(recipe, input, transform.as_ref())?;
        let grams = hessian.is_some()
            || [recipe.metric.accept, recipe.metric.project]
                .into_iter()
                .any(crate::Space::has_second_moments);
        if let Some(tokens) = input.moments.map(Moments::tokens).filter(|&tokens| grams && tokens > 0)
            && tokens < shape.1 as u64
        {
            adjustments.push(Adjustment::FewTokens { tokens, inputs: shape.1 });
        }
        let weight_norm = accept.norm_squared(weight).map_err(|e| named(weight, e))?;
        let has = |kind: fn(&Step) -> bool| recipe.round.iter().any(kind);
        let low_rank = has(|step| matches!(step, Step::LowRank { .. }));
        let project = if low_rank { space(recipe.metric.project)? } else { Metric::identity() };
        let rounded = |step: &Step| matches!(step, Step::LowRank { factors, .. } if !matches!(factors, FactorFormat::Float(_)));
        let rounded = recipe.round.iter().any(rounded);
        let seed = Stream::derive_seed(recipe.seed, input.name);
        Ok(Self {
            name: input.name,
            weight,
            split: Split::new(shape, transform, None, None)?.with_activation(activation)?,
            work: vec![0.0; shape.0 * shape.1],
            wants: [
                has(|step| matches!(step, Step::Quantize { .. })),
                low_rank || has(|step| matches!(step, Step::Ldu { .. })),
                has(|step| matches!(step, Step::Sparse { .. })),
                has(|step| matches!(step, Step::Bias)),
            ],
            root: project.root(DAMPING)?,
            project: if rounded { project } else { Metric::identity() },
            method: svd::Method::Auto(svd::RandomizedOptions {
                seed,
                power_iterations: 4,
                ..Default::default()
            }),
            accept,
            weight_norm,
            calibration,
            hessian,
            moments: input.moments,
            row_weights: input.moments.and_then(Moments::row_weight),
            adjustments,
        })
    }

    /// Runs one step: its term is replaced.
    fn run(&mut self, step: &Step) -> Result<(), Error> {
        let (weight, split, work) = (self.weight, &self.split, &mut self.work);
        let mut adjustments = Vec::new();
        let (base, low_rank, sparse);
        match step {
            Step::Quantize { scheme, rounder } => {
                let hessian = self.hessian.as_ref().map(|gram| gram.as_ref());
                let rounder = match *rounder {
                    Rounder::Stochastic { seed } => {
                        Rounder::Stochastic { seed: Stream::derive_seed(seed, self.name) }
                    }
                    other => other,
                };
                let part = QuantizedPart { scheme, rounder, hessian, row_weights: self.row_weights };
                base = Some(part.project(weight, split, work, &mut adjustments)?);
                (low_rank, sparse) = (split.low_rank().cloned(), split.sparse().cloned());
            }
            Step::LowRank { rank, factors } => {
                let (root, method, metric) = (&self.root, self.method, &self.project);
                let part = LowRankPart { rank: *rank, factors: *factors, metric, root, method };
                low_rank = Some(part.project(weight, split, work, &mut adjustments)?);
                (base, sparse) = (split.base().cloned(), split.sparse().cloned());
            }
            Step::Ldu { rank, factors } => {
                let part = LduPart { rank: *rank, factors: *factors };
                low_rank = Some(part.project(weight, split, work, &mut adjustments)?);
                (base, sparse) = (split.base().cloned(), split.sparse().cloned());
            }
            Step::Sparse { pattern, pruner, refit, values } => {
                let part = SparsePart { pattern, pruner, refit: *refit, values, moments: self.moments };
                sparse = Some(part.project(weight, split, work, &mut adjustments)?);
                (base, low_rank) = (split.base().cloned(), split.low_rank().cloned());
            }
            Step::Gradient { steps } => {
                let Some(start) = split.low_rank() else {
                    return Err(Error::InvalidRecipe { reason: "gradient steps need a low-rank term" });
                };
                residual(weight, split, Some(Term::LowRank), work)?;
                let target = MatRef::from_row_major_slice(work, weight.nrows(), weight.ncols());
                let part = GradientPart { steps: *steps, metric: &self.accept };
                let (found, widened) = part.descend(target, start)?;
                if widened {
                    adjustments.push(Adjustment::FactorsWidened { asked: start.left().format() });
                }
                low_rank = Some(found);
                (base, sparse) = (split.base().cloned(), split.sparse().cloned());
            }
            Step::Bias => {
                self.split = self.split.clone().with_bias(self.mean_error()?)?;
                return Ok(());
            }
        }
        for adjustment in adjustments {
            if !self.adjustments.contains(&adjustment) {
                self.adjustments.push(adjustment);
            }
        }
        let activation = *split.activation();
        self.split = Split::new(split.shape(), split.transform().cloned(), base, low_rank)?
            .with_sparse(sparse)?
            .with_activation(activation)?;
        Ok(())
    }

    /// `(W - Ŵ)·μ`.
    fn mean_error(&mut self) -> Result<Vec<f32>, Error> {
        let needed = "the mean of the layer's inputs";
        let mean = self.moments.ok_or(Error::MissingCalibration { needed })?.mean()?;
        residual(self.weight, &self.split, None, &mut self.work)?;
        let cols = self.weight.ncols().max(1);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "stored as f32; an overflow is refused as not finite"
        )]
        let sum = |row: &[f32]| row.iter().zip(mean).map(|(&e, m)| f64::from(e) * m).sum::<f64>() as f32;
        Ok(self.work.chunks_exact(cols).map(sum).collect())
    }

    /// Relative error of the iterate in the accepting metric, or `None` while a term is missing.
    fn error(&mut self) -> Result<Option<f64>, Error> {
        let split = &self.split;
        let (base, low_rank) = (split.base().is_some(), split.low_rank().is_some());
        if [base, low_rank, split.sparse().is_some(), split.bias().is_some()] != self.wants {
            return Ok(None);
        }
        residual(self.weight, &self.split, None, &mut self.work)?;
        let residual = MatRef::from_row_major_slice(&self.work, self.weight.nrows(), self.weight.ncols());
        Ok(Some(ratio(self.accept.norm_squared(residual)?, self.weight_norm)))
    }

    /// Relative errors of the f32 reconstruction: plain, and under the calibration's metric.
    fn final_errors(&mut self, split: &Split) -> Result<(f64, Option<f64>), Error> {
        let cols = self.weight.ncols();
        let rows = split.rows();
        let mut buffer = Vec::new();
        for (i, row) in self.work.chunks_exact_mut(cols).enumerate() {
            rows.read(i, row)?;
            let weight = rankbit_quant::rows::row(self.weight, i, &mut buffer);
            for (value, w) in row.iter_mut().zip(weight) {
                *value = w - *value;
            }
        }
        check_range(&self.work, cols)?;
        let residual = MatRef::from_row_major_slice(&self.work, self.weight.nrows(), cols);
        let plain = Metric::identity().relative_error(residual, self.weight)?;
        let metric = match (&self.calibration, split.bias()) {
            (Some(metric), None) => Some(metric.relative_error(residual, self.weight)?),
            // The bias takes up the mean: of the outputs' error the centred part is left.
            (Some(metric), Some(_)) => {
                let input = Input { name: self.name, moments: self.moments };
                let centred = space::metric(crate::Space::Centred, &input, None)?;
                Some(ratio(centred.norm_squared(residual)?, metric.norm_squared(self.weight)?))
            }
            (None, _) => None,
        };
        Ok((plain, metric))
    }
}

/// `√(error² / norm²)`, 0/0 = 0.
fn ratio(error: f64, norm: f64) -> f64 {
    if error == 0.0 { 0.0 } else { num_traits::Float::sqrt(error / norm) }
}

/// A non-finite weight is the quantizer's error as well as linalg's: report one kind.
fn named(weight: MatRef<'_, f32>, error: rankbit_linalg::Error) -> Error {
    for i in 0..weight.nrows() {
        if let Some(col) = weight.row(i).iter().position(|w| !w.is_finite()) {
            return rankbit_quant::Error::NonFinite { row: i, col }.into();
        }
    }
    error.into()
}
