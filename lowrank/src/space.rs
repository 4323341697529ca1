//! The metric of a [`Space`].

use crate::{Error, Input, Space, basis};
use alloc::vec::Vec;
use num_traits::Float;
use rankbit_linalg::faer::Mat;
use rankbit_linalg::{ColumnMetric, Metric, Moments};
use rankbit_quant::Transform;

/// Share of an input's mean square below which what centring leaves of it is rounding.
const CONSTANT: f64 = 1e-6;

/// The metric of `space` for this calibration and this transform.
pub(crate) fn metric(
    space: Space,
    input: &Input<'_>,
    transform: Option<&Transform>,
) -> Result<Metric, Error> {
    let needed = |needed| input.moments.ok_or(Error::MissingCalibration { needed });
    match space {
        Space::Identity => Ok(Metric::identity()),
        Space::Transformed => basis::transformed(transform),
        Space::Moments => alive(needed("a Gram matrix or second moments")?.metric()?),
        Space::Diagonal => {
            let moments = needed("second moments of the layer's inputs")?;
            alive(with_rows(Metric::diagonal(moments.second_moment()?)?, moments)?)
        }
        Space::Centred => {
            let moments = needed("the Gram matrix and the mean of the layer's inputs")?;
            alive(with_rows(centred(moments)?, moments)?)
        }
        Space::MeanAbs { exponent } => {
            let moments = needed("mean magnitudes of the layer's inputs")?;
            let weights: Vec<f64> =
                moments.mean_abs()?.iter().map(|&a| Float::powf(a, 2.0 * exponent)).collect();
            alive(with_rows(Metric::diagonal(weights)?, moments)?)
        }
        Space::Rows => {
            let rows = needed("weights of the rows")?.row_weight();
            let rows = rows.ok_or(Error::MissingCalibration { needed: "weights of the rows" })?;
            Ok(Metric::identity().with_rows(rows.to_vec())?)
        }
    }
}

/// The same form with the calibration's row weights.
fn with_rows(metric: Metric, moments: &Moments) -> Result<Metric, Error> {
    match moments.row_weight() {
        None => Ok(metric),
        Some(rows) => Ok(metric.with_rows(rows.to_vec())?),
    }
}

/// `H - μ·μᵀ`. An input that calibration saw constant counts nothing, as a bias does all that it does.
fn centred(moments: &Moments) -> Result<Metric, Error> {
    let (gram, mean) = (moments.gram()?, moments.mean()?);
    let n = mean.len();
    let constant: Vec<bool> =
        mean.iter().enumerate().map(|(j, m)| gram[(j, j)] - m * m <= CONSTANT * gram[(j, j)]).collect();
    let form =
        Mat::from_fn(
            n,
            n,
            |i, j| {
                if constant[i] || constant[j] { 0.0 } else { gram[(i, j)] - mean[i] * mean[j] }
            },
        );
    Ok(Metric { rows: None, columns: ColumnMetric::Gram(form) })
}

/// Under a metric that is zero every approximation would be perfect.
fn alive(metric: Metric) -> Result<Metric, Error> {
    let dead = match &metric.columns {
        ColumnMetric::Identity => false,
        ColumnMetric::Diagonal(weights) => weights.iter().all(|&w| w == 0.0),
        ColumnMetric::Gram(gram) => (0..gram.nrows()).all(|j| gram[(j, j)] == 0.0),
    };
    if dead { Err(Error::DeadCalibration) } else { Ok(metric) }
}
