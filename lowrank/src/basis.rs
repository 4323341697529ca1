//! Step 1 of a fit: the change of basis, and what the metric becomes under it.

use crate::{ActivationRule, Adjustment, Error, Input, Recipe, Step, TransformRule};
use alloc::{vec, vec::Vec};
use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_linalg::{Metric, Moments};
use rankbit_quant::transform::{Hadamard, Permutation, Smooth, Transform, awq};
use rankbit_quant::{Activation, Rounder, Scheme, rows};

/// What can be told of a rule before any calibration is seen.
pub(crate) fn check(rule: &TransformRule) -> Result<(), Error> {
    let mut last = 0;
    for part in rule.parts() {
        let place = match *part {
            TransformRule::Identity | TransformRule::Compose(_) => {
                return Err(Error::InvalidRecipe { reason: "a composition is made of single transforms" });
            }
            TransformRule::Smooth { alpha, beta, .. } => {
                if !(alpha.is_finite() && beta.is_finite()) {
                    return Err(Error::InvalidRecipe { reason: "smoothing exponents must be finite" });
                }
                1
            }
            TransformRule::Awq { grid, .. } | TransformRule::SmoothSearch { grid, .. } => {
                if grid == 0 {
                    return Err(Error::InvalidRecipe { reason: "a search needs at least one candidate" });
                }
                1
            }
            TransformRule::Permute => 2,
            TransformRule::Rotate { .. } => 3,
        };
        if place <= last {
            return Err(Error::InvalidRecipe {
                reason: "a composition smooths (or searches), permutes, rotates, in this order, each at most once",
            });
        }
        last = place;
    }
    Ok(())
}

/// The transform that `recipe` asks for.
pub(crate) fn find(
    weight: MatRef<'_, f32>,
    recipe: &Recipe,
    input: &Input<'_>,
    adjustments: &mut Vec<Adjustment>,
) -> Result<Option<Transform>, Error> {
    let features = weight.ncols();
    let (mut smooth, mut permutation, mut rotation) = (None, None, None);
    for part in recipe.transform.parts() {
        match *part {
            // A search has become the smoothing that it found.
            TransformRule::Identity | TransformRule::Compose(_) | TransformRule::SmoothSearch { .. } => {}
            TransformRule::Smooth { alpha, beta, format } => {
                let absmax = needed(input, "absmax of the activations")?.absmax()?;
                let (found, widened) =
                    Smooth::from_absmax(absmax, &column_absmax(weight), (alpha, beta), format)?;
                if widened {
                    adjustments.push(Adjustment::SmoothingWidened { asked: format });
                }
                smooth = Some(found);
            }
            TransformRule::Awq { grid, format } => {
                let moments = needed(input, "mean magnitudes of the activations")?;
                let scheme = scheme_of(recipe)?;
                let metric = output_metric(moments)?;
                let options = awq::Options { grid, format };
                let found = awq::search(weight, moments.mean_abs()?, &metric, scheme, &options)?;
                if found.widened {
                    adjustments.push(Adjustment::SmoothingWidened { asked: format });
                }
                smooth = Some(found.smooth);
            }
            TransformRule::Permute => {
                let mut energy = needed(input, "second moments of the activations")?.second_moment()?;
                // In the order's own place: after smoothing.
                if let Some(smooth) = &smooth {
                    for (energy, inverse) in energy.iter_mut().zip(smooth.inverse()) {
                        *energy *= f64::from(inverse) * f64::from(inverse);
                    }
                }
                permutation = Some(Permutation::falling(&energy)?);
            }
            TransformRule::Rotate { seed } => {
                let found = Hadamard::new(features).with_signs(seed);
                if !found.is_whole() {
                    adjustments.push(Adjustment::RotatedInBlocks { size: features, block: found.block() });
                }
                rotation = Some(found);
            }
        }
    }
    let transform = Transform::new(features, smooth, permutation, rotation)?;
    Ok((!transform.is_identity()).then_some(transform))
}

/// The policy for inputs. `X·T` has the calibration's absmax times `1/λ`; after a rotation only a sample of rows tells.
pub(crate) fn activation(
    rule: ActivationRule,
    input: &Input<'_>,
    transform: Option<&Transform>,
) -> Result<Activation, Error> {
    let code = match rule {
        ActivationRule::Given(policy) => return Ok(policy),
        ActivationRule::Calibrated { code } => code,
    };
    let moments = needed(input, "absmax of the activations")?;
    let largest = |values: &[f32]| values.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
    let largest = match transform {
        None => largest(moments.absmax()?),
        Some(transform) => {
            let mut values = Vec::new();
            if transform.rotation().is_none() {
                values.extend_from_slice(moments.absmax()?);
            } else {
                let sample = moments.sample()?;
                let mut buffer = Vec::new();
                for i in 0..sample.nrows() {
                    values.extend_from_slice(rows::row(sample, i, &mut buffer));
                }
            }
            transform.forward(&mut values)?;
            largest(&values)
        }
    };
    Ok(Activation::calibrated(code, largest)?)
}

/// The metric of the transform's basis: `‖E·T⁻ᵀ‖ = ‖E·diag(λ)‖`, for moving and rotating change no norm.
pub(crate) fn transformed(transform: Option<&Transform>) -> Result<Metric, Error> {
    match transform.and_then(Transform::smooth) {
        None => Ok(Metric::identity()),
        Some(smooth) => {
            let squares = smooth.forward().into_iter().map(|x| f64::from(x) * f64::from(x)).collect();
            Ok(Metric::diagonal(squares)?)
        }
    }
}

/// The calibration's Gram matrix in the transform's basis, `TᵀHT`, when a quantizing step uses one.
pub(crate) fn hessian(
    recipe: &Recipe,
    input: &Input<'_>,
    transform: Option<&Transform>,
) -> Result<Option<Mat<f64>>, Error> {
    let rounders = || {
        recipe.round.iter().filter_map(|step| match step {
            Step::Quantize { rounder, .. } => Some(rounder),
            _ => None,
        })
    };
    let required = rounders().any(Rounder::needs_hessian);
    if !rounders().any(Rounder::uses_hessian) {
        return Ok(None);
    }
    let Some(moments) = input.moments else {
        return if required {
            Err(Error::MissingCalibration { needed: "the Gram matrix of the layer's inputs" })
        } else {
            Ok(None)
        };
    };
    let gram = match moments.gram() {
        Ok(gram) => gram,
        Err(error) if required => return Err(error.into()),
        Err(_) => return Ok(None),
    };
    match transform {
        None => Ok(Some(gram.to_owned())),
        Some(transform) => Ok(Some(transform.gram(gram)?)),
    }
}

/// The calibration, or an error that says what it is needed for.
fn needed<'a>(input: &Input<'a>, needed: &'static str) -> Result<&'a Moments, Error> {
    input.moments.ok_or(Error::MissingCalibration { needed })
}

/// The scheme of the first quantizing step.
fn scheme_of(recipe: &Recipe) -> Result<&Scheme, Error> {
    let mut schemes = recipe.round.iter().filter_map(|step| match step {
        Step::Quantize { scheme, .. } => Some(scheme),
        _ => None,
    });
    schemes.next().ok_or(Error::InvalidRecipe { reason: "a transform needs a quantizing step" })
}

/// The form of output errors: the Gram matrix; of the sampled rows where only those are known; else the diagonal.
fn output_metric(moments: &Moments) -> Result<Metric, Error> {
    let sample = match moments.sample() {
        Ok(sample) if moments.gram().is_err() && sample.nrows() > 0 => sample,
        _ => return Ok(moments.metric()?),
    };
    let mut sampled =
        Moments::new(moments.in_features(), rankbit_linalg::MomentKinds { gram: true, sample: 0 });
    sampled.update(sample)?;
    let metric = sampled.metric()?;
    match moments.row_weight() {
        Some(weights) => Ok(metric.with_rows(weights.to_vec())?),
        None => Ok(metric),
    }
}

/// Largest magnitude of each column.
fn column_absmax(weight: MatRef<'_, f32>) -> Vec<f32> {
    let mut absmax = vec![0.0_f32; weight.ncols()];
    let mut buffer = Vec::new();
    for i in 0..weight.nrows() {
        for (top, w) in absmax.iter_mut().zip(rows::row(weight, i, &mut buffer)) {
            *top = top.max(w.abs());
        }
    }
    absmax
}
