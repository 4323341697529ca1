//! The storage of both factors, few bits included.
//!
//! ```text
//! minimize ‖E - L·R‖²_M   over L, R on their grids,   ‖E‖²_M = Σᵢ dᵢ·eᵢ H eᵢᵀ
//!
//! 1.  L·R = [E]_r under the metric; the columns of D^½·L are orthogonal, so that
//!     ‖L·(R - R̃)‖²_M = Σ_k ‖D^½·l_k‖²·(r_k - r̃_k) H (r_k - r̃_k)ᵀ: each row of R by itself under H
//! 2.  R̃ = round(R) under H
//! 3.  L = E·H·R̃ᵀ·(R̃·H·R̃ᵀ)⁻¹, the best for this R̃, then L̃ = round(L) under R̃·H·R̃ᵀ, again each row by itself
//! 4.  R = (L̃ᵀ·D·L̃)⁻¹·L̃ᵀ·D·E, the best for this L̃ (for any H); from 2 again; the best pair is kept
//! ```
//! Source: CALDERA, arXiv 2405.18886, section 3 (LPLRFactorize), there with plain rounding; here errors are fed back.

use crate::{Error, Factor, FactorFormat, LowRank, Side};
use rankbit_linalg::faer::{Accum, Mat, MatRef, Par, linalg::matmul::matmul};
use rankbit_linalg::{ColumnMetric, Factors, Metric, solve_spd};
use rankbit_quant::{Context, Rounder, quantize_with};

/// How often steps 2 to 4 run.
const ROUNDS: usize = 3;

/// Added to the diagonal of the small systems, as a fraction of its mean.
const DAMPING: f64 = 1e-9;

/// Both factors stored as `format`, and whether f32 had to be taken because its range was too small.
pub(super) fn encode(
    target: MatRef<'_, f32>,
    factors: &Factors<f32>,
    format: FactorFormat,
    metric: &Metric,
) -> Result<(LowRank, bool), Error> {
    let floats = |format| -> Result<(LowRank, bool), Error> {
        let (left, left_widened) = Factor::encode(factors.left.as_ref(), format);
        let (right, right_widened) = Factor::encode(factors.right.as_ref(), format);
        Ok((LowRank::new(left, right)?, left_widened || right_widened))
    };
    match format {
        FactorFormat::Float(format) => floats(format),
        FactorFormat::Atoms(per_column) => super::atoms::encode(target, factors, per_column, metric),
        FactorFormat::Int8 | FactorFormat::Int4 => match few_bits(target, factors, format, metric)? {
            Some(low_rank) => Ok((low_rank, false)),
            None => Ok((floats(rankbit_quant::FloatFormat::F32)?.0, true)),
        },
    }
}

/// Steps 2 to 4; `None` when a scale does not fit its format.
fn few_bits(
    target: MatRef<'_, f32>,
    factors: &Factors<f32>,
    format: FactorFormat,
    metric: &Metric,
) -> Result<Option<LowRank>, Error> {
    let wide = wide(target);
    let form = form(&metric.columns);
    let (mut left, mut right) = (factors.left.clone(), factors.right.clone());
    let mut best: Option<(f64, LowRank)> = None;
    for _ in 0..ROUNDS {
        let Some(stored_right) = round(&right, format, Side::Right, form.as_ref())? else { return Ok(None) };
        let decoded = decoded(&stored_right);
        let (system, solved) = best_left(&wide, &decoded, metric, DAMPING)?;
        if let Some(solved) = solved {
            left = narrow(solved.as_ref());
        }
        let Some(stored_left) = round(&left, format, Side::Left, Some(&system))? else { return Ok(None) };
        let stored = self::decoded(&stored_left);
        let error = metric.norm_squared(residual(wide.clone(), &stored, &decoded).as_ref())?;
        if best.as_ref().is_none_or(|(least, _)| error < *least) {
            best = Some((error, LowRank::new(stored_left, stored_right)?));
        }
        let weighted = weighted(&stored, metric);
        let system = multiply(weighted.transpose(), stored.as_ref());
        let sides = multiply(weighted.transpose(), wide.as_ref());
        match solve_spd(system.as_ref(), sides.as_ref(), DAMPING)? {
            Some(solved) => right = narrow(solved.as_ref()),
            None => break,
        }
    }
    Ok(best.map(|(_, low_rank)| low_rank))
}

/// A factor on its grid, under `form` when there is one.
fn round(
    factor: &Mat<f32>,
    format: FactorFormat,
    side: Side,
    form: Option<&Mat<f64>>,
) -> Result<Option<Factor>, Error> {
    let Some(scheme) = format.scheme(side) else { return Ok(None) };
    let hessian = form.filter(|form| (0..form.nrows()).any(|j| form[(j, j)] > 0.0)).map(|form| form.as_ref());
    let rounder = match hessian {
        Some(_) => Rounder::CoordinateDescent { damping: 0.01, sweeps: 2 },
        None => Rounder::Mse,
    };
    let rounded = quantize_with(factor.as_ref(), &scheme, rounder, &Context { hessian, row_weights: None })?;
    if rounded.widened_from.is_some() {
        return Ok(None);
    }
    Ok(Some(Factor::quantized(rounded.quantized, format, side)?))
}

/// H in full; `None` for the identity.
fn form(columns: &ColumnMetric) -> Option<Mat<f64>> {
    match columns {
        ColumnMetric::Identity => None,
        ColumnMetric::Diagonal(weights) => {
            let n = weights.len();
            let mut form = Mat::zeros(n, n);
            for (j, &weight) in weights.iter().enumerate() {
                form[(j, j)] = weight;
            }
            Some(form)
        }
        ColumnMetric::Gram(gram) => Some(gram.clone()),
    }
}

/// The best L for a right factor, `E·H·Rᵀ·(R·H·Rᵀ)⁻¹` (`None` where the damped system is singular), after `R·H·Rᵀ`.
pub(super) fn best_left(
    target: &Mat<f64>,
    right: &Mat<f64>,
    metric: &Metric,
    damping: f64,
) -> Result<(Mat<f64>, Option<Mat<f64>>), Error> {
    let image = product(right.as_ref(), &metric.columns);
    let system = multiply(image.as_ref(), right.transpose());
    let sides = multiply(image.as_ref(), target.transpose());
    let solved = solve_spd(system.as_ref(), sides.as_ref(), damping)?;
    Ok((system, solved.map(|solved| solved.transpose().to_owned())))
}

/// `E - L·R`.
pub(super) fn residual(mut target: Mat<f64>, left: &Mat<f64>, right: &Mat<f64>) -> Mat<f64> {
    matmul(target.as_mut(), Accum::Add, left.as_ref(), right.as_ref(), -1.0, Par::Seq);
    target
}

/// `D·L`.
pub(super) fn weighted(left: &Mat<f64>, metric: &Metric) -> Mat<f64> {
    match &metric.rows {
        None => left.clone(),
        Some(rows) => Mat::from_fn(left.nrows(), left.ncols(), |i, k| {
            left[(i, k)] * rows.get(i).copied().unwrap_or(0.0)
        }),
    }
}

/// `A·H`.
pub(super) fn product(a: MatRef<'_, f64>, columns: &ColumnMetric) -> Mat<f64> {
    match columns {
        ColumnMetric::Identity => a.to_owned(),
        ColumnMetric::Diagonal(weights) => {
            Mat::from_fn(a.nrows(), a.ncols(), |i, j| a[(i, j)] * weights.get(j).copied().unwrap_or(0.0))
        }
        ColumnMetric::Gram(gram) => multiply(a, gram.as_ref()),
    }
}

/// `A·B` on this thread.
pub(super) fn multiply(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Mat<f64> {
    let mut out = Mat::zeros(a.nrows(), b.ncols());
    matmul(out.as_mut(), Accum::Replace, a, b, 1.0, Par::Seq);
    out
}

/// In f64.
pub(super) fn wide(a: MatRef<'_, f32>) -> Mat<f64> {
    Mat::from_fn(a.nrows(), a.ncols(), |i, j| f64::from(a[(i, j)]))
}

/// In f32.
#[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is this function's purpose")]
pub(super) fn narrow(a: MatRef<'_, f64>) -> Mat<f32> {
    Mat::from_fn(a.nrows(), a.ncols(), |i, j| a[(i, j)] as f32)
}

/// A factor's values in f64.
pub(super) fn decoded(factor: &Factor) -> Mat<f64> {
    let (rows, cols) = factor.shape();
    wide(MatRef::from_row_major_slice(&factor.to_f32(), rows, cols))
}
