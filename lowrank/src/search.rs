//! The search of a smoothing: [`TransformRule::SmoothSearch`].

use crate::{ActivationRule, Error, Input, Recipe, Rounds, TransformRule, fit};
use alloc::vec::Vec;
use rankbit_linalg::Metric;
use rankbit_linalg::faer::{Accum, Mat, MatRef, Par, linalg::matmul::matmul};
use rankbit_quant::Activation;

/// `recipe` with the smoothing that its search finds in place of it; `None` when it searches nothing.
///
/// Cost: `2·grid - 1` times one round of the recipe, and as many outputs of the sample when inputs are quantized.
pub(crate) fn resolve(
    weight: MatRef<'_, f32>,
    recipe: &Recipe,
    input: &Input<'_>,
) -> Result<Option<Recipe>, Error> {
    let searched = recipe.transform.parts().iter().find_map(|part| match *part {
        TransformRule::SmoothSearch { grid, format } => Some((grid, format)),
        _ => None,
    });
    let Some((grid, format)) = searched else { return Ok(None) };
    let moments =
        input.moments.ok_or(Error::MissingCalibration { needed: "absmax and moments of the activations" })?;
    let float = matches!(recipe.activation, ActivationRule::Given(Activation::Float));
    let outputs = match float {
        true => None,
        false => Some(outputs(weight, moments.sample()?)?),
    };
    let with = |alpha: f64, beta: f64| {
        let parts = recipe.transform.parts().iter().map(|part| match part {
            TransformRule::SmoothSearch { .. } => TransformRule::Smooth { alpha, beta, format },
            other => other.clone(),
        });
        let transform = parts.fold(TransformRule::Identity, TransformRule::then);
        Recipe { transform, ..recipe.clone() }
    };
    let mut best: Option<(f64, Recipe)> = None;
    for (alpha, beta) in exponents(grid) {
        let candidate = with(alpha, beta);
        let found = fit(weight, &Recipe { rounds: Rounds::ONCE, ..candidate.clone() }, input)?;
        let error = match &outputs {
            None => found.info.metric_error.ok_or(Error::MissingCalibration { needed: "second moments" })?,
            Some(outputs) => {
                let y = found.split.apply(moments.sample()?)?;
                Metric::identity().relative_error((outputs - y).as_ref(), outputs.as_ref())?
            }
        };
        if best.as_ref().is_none_or(|(least, _)| error < *least) {
            best = Some((error, candidate));
        }
    }
    Ok(best.map(|(_, recipe)| recipe))
}

/// The exponents tried, no smoothing first.
fn exponents(grid: u32) -> Vec<(f64, f64)> {
    let mut exponents = Vec::from([(0.0, 0.0)]);
    for i in 1..grid {
        let alpha = f64::from(i) / f64::from(grid);
        exponents.extend([(alpha, 0.0), (alpha, 1.0 - alpha)]);
    }
    exponents
}

/// `X·Wᵀ`.
fn outputs(weight: MatRef<'_, f32>, sample: MatRef<'_, f32>) -> Result<Mat<f32>, Error> {
    if sample.nrows() == 0 {
        return Err(Error::MissingCalibration { needed: "a sample of the layer's input rows" });
    }
    let mut y = Mat::zeros(sample.nrows(), weight.nrows());
    matmul(y.as_mut(), Accum::Replace, sample, weight.transpose(), 1.0, Par::Seq);
    Ok(y)
}
