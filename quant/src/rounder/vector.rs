//! Vector codes: plain, or column by column with errors fed back.
//!
//! ```text
//! minimize  Σ_i r_i · e_i·H·e_iᵀ,   E = W − Ŵ,   each column of Ŵ one path of a trellis
//! ```
//! A stream runs down the outputs, so a column is one vector that is quantized at once and the feedback stays that of
//! scalar LDLQ, exact: no 16-column blocks as in QTIP, and no loss by them.
//!
//! 1. Outliers and row scales as without calibration. Columns are visited by falling H_jj; the order is not stored.
//! 2. Each column: its scale, then the path of least `Σ_i r_i·rs_i²·(x_i − T[s_i])²`. An outlier takes what its target
//!    asks, after feedback, so it takes up what its neighbours lost.
//! 3. Coordinate descent: each column anew to what is best with the others fixed, accepted only where the error falls.
//! 4. After each sweep the best scale of each row in closed form, `rs_i·(w_i − s_i)·H·q_iᵀ / q_i·H·q_iᵀ`, q without
//!    outliers and s the outliers; kept only where the error of the stored scale falls.
//!
//! Sweeps end early when one gains less than [`LEAST_GAIN`]. Columns follow each other: this runs on the calling thread;
//! matrices are what runs in parallel. Cost: encoding `out·in·2^L` steps a sweep, `out·in²` for feedback.
//!
//! Sources: LDLQ: QuIP, arXiv 2307.13304; trellis codes inside it: QTIP, arXiv 2406.11235, section 4.

use super::{Context, Rounded, Rounder, grid};
use crate::trellis::rates::Columns;
use crate::vector::encode::{self, rates};
use crate::vector::{Coded, ColumnCoder, Encoders, LARGEST_ROW_SCALE, Prepared};
use crate::{Code, Error, Scheme, Trellis, float, rows};
use alloc::{borrow::Cow, vec, vec::Vec};
use rankbit_linalg::faer::linalg::matmul::matmul;
use rankbit_linalg::faer::{Accum, Mat, MatRef, Par};
use rankbit_linalg::{ErrorFeedback, Order, Projector, SweepOptions};

/// Sweeps go on while they lower the squared error by more than this part of it.
const LEAST_GAIN: f64 = 0.002;

pub(super) fn quantize(
    weight: MatRef<'_, f32>,
    scheme: &Scheme,
    rounder: Rounder,
    context: &Context<'_>,
) -> Result<Rounded, Error> {
    let shape = (weight.nrows(), weight.ncols());
    let values = row_major(weight);
    let (damping, sweeps) = match rounder {
        Rounder::Nearest => return encode::quantize(&values, shape, scheme),
        Rounder::Gptq { damping, .. } => (damping, 0),
        Rounder::Ldlq { damping, sweeps } | Rounder::CoordinateDescent { damping, sweeps } => {
            (damping, sweeps)
        }
        Rounder::Stochastic { .. } | Rounder::Mse | Rounder::Clip | Rounder::Hqq { .. } => {
            let reason = "vector codes take the nearest rounder or one that feeds errors back";
            return Err(Error::InvalidScheme { reason });
        }
    };
    let Code::Trellis(trellis) = scheme.code else {
        return Err(Error::InvalidScheme { reason: "lattice codes take the nearest rounder only" });
    };
    let Some(hessian) = context.hessian else {
        return Err(Error::MissingHessian { rounder: rounder.name() });
    };
    if shape.0 == 0 || shape.1 == 0 {
        return encode::quantize(&values, shape, scheme);
    }
    let prepared = prepare(weight, &values, scheme, context)?;
    let feedback = feedback(weight, hessian, damping)?;
    let fed = Fed { weight, shape, scheme, trellis, prepared: &prepared, feedback: &feedback };
    fed.run(&values, sweeps)
}

/// What a bit is worth in each column of `weight` under a trellis `scheme`, whatever its rate, and what the matrix
/// takes beside codes: for [`rates::allocate`](crate::trellis::rates::allocate) over several matrices.
///
/// ```text
/// G_j = D_j · Σ_i (r_i/Σr)·w_ij²        D_j: of a Gram matrix H, the variance of input j that those coded later leave
/// ```
/// Without a Gram matrix see [`rates`](crate::trellis::rates).
/// With gradient-weighted statistics these have one unit across the matrices of a network; otherwise scale
/// [`Columns::gains`] and [`Columns::losses`] by what a matrix's error counts, such as `1/tr(W·H·Wᵀ)`.
///
/// # Errors
/// As [`quantize_with`](super::quantize_with); [`Error::InvalidScheme`] for a scheme without a trellis.
pub fn trellis_columns(
    weight: MatRef<'_, f32>,
    scheme: &Scheme,
    damping: f64,
    context: &Context<'_>,
) -> Result<Columns, Error> {
    let Code::Trellis(trellis) = scheme.code else {
        return Err(Error::InvalidScheme { reason: "not a trellis code" });
    };
    let shape = (weight.nrows(), weight.ncols());
    let values = row_major(weight);
    let prepared = prepare(weight, &values, scheme, context)?;
    let sensitivity = match context.hessian.filter(|_| shape.0 > 0 && shape.1 > 0) {
        Some(hessian) => Some(sensitivity(&feedback(weight, hessian, damping)?)),
        None => None,
    };
    Ok(encode::columns(&values, shape, trellis, &prepared, sensitivity.as_deref()))
}

fn prepare(
    weight: MatRef<'_, f32>,
    values: &[f32],
    scheme: &Scheme,
    context: &Context<'_>,
) -> Result<Prepared, Error> {
    let shape = (weight.nrows(), weight.ncols());
    scheme.check()?;
    if let Some(found) = context.row_weights.map(<[f64]>::len).filter(|&len| len != shape.0) {
        return Err(Error::ShapeMismatch { what: "row weights", expected: (shape.0, 1), found: (found, 1) });
    }
    Prepared::new(values, shape, scheme.scale_format, context.row_weights)
}

fn feedback(weight: MatRef<'_, f32>, hessian: MatRef<'_, f64>, damping: f64) -> Result<ErrorFeedback, Error> {
    grid::check_hessian(weight, hessian)?;
    let options = SweepOptions { damping, order: Order::ByDiagonal, ..SweepOptions::default() };
    Ok(ErrorFeedback::new(hessian, &options)?)
}

/// D_j = 1/U_jj², by column.
fn sensitivity(feedback: &ErrorFeedback) -> Vec<f64> {
    let mut sensitivity = vec![0.0; feedback.width()];
    for (position, &column) in feedback.order().iter().enumerate() {
        sensitivity[column] = feedback.sensitivity(position);
    }
    sensitivity
}

/// The entries row by row: borrowed when they lie that way.
fn row_major(weight: MatRef<'_, f32>) -> Cow<'_, [f32]> {
    let mut buffer = Vec::new();
    let mut all = Vec::with_capacity(weight.nrows() * weight.ncols());
    for i in 0..weight.nrows() {
        all.extend_from_slice(rows::row(weight, i, &mut buffer));
    }
    Cow::Owned(all)
}

/// Everything about a matrix that does not change.
struct Fed<'a> {
    weight: MatRef<'a, f32>,
    shape: (usize, usize),
    scheme: &'a Scheme,
    trellis: Trellis,
    prepared: &'a Prepared,
    feedback: &'a ErrorFeedback,
}

impl Fed<'_> {
    fn run(&self, values: &[f32], sweeps: u32) -> Result<Rounded, Error> {
        let Self { weight, shape, prepared, feedback, .. } = *self;
        let sensitivity = sensitivity(feedback);
        let rates = rates(values, shape, self.trellis, prepared, Some(&sensitivity))?;
        let encoders = Encoders::new(self.trellis.window, &rates);
        let mut columns = Coding {
            prepared,
            coder: ColumnCoder::new(prepared, &encoders),
            rates: &rates,
            row_scales: prepared.row_scales.clone(),
            coded: vec![Coded::default(); shape.1],
            under: vec![0.0; prepared.positions.len()],
            totals: vec![0.0; prepared.positions.len()],
            improve: false,
        };
        let mut projected = feedback.sweep(weight, &mut columns)?.projected;
        columns.improve = true;
        for _ in 0..sweeps {
            let refined = feedback.refine(weight, projected.as_ref(), &mut columns)?;
            projected = refined.projected;
            self.refit_rows(&mut projected, &mut columns);
            if refined.after >= refined.before * (1.0 - LEAST_GAIN) {
                break;
            }
        }
        let outliers: Vec<f32> = columns
            .totals
            .iter()
            .zip(&columns.under)
            .map(|(total, under)| prepared.store(total - under))
            .collect();
        let Coding { row_scales, coded, .. } = columns;
        encode::assemble(shape, self.scheme, prepared, &row_scales, rates, &coded, &outliers)
    }

    /// Step 4.
    fn refit_rows(&self, projected: &mut Mat<f64>, columns: &mut Coding<'_>) {
        let (rows, cols) = self.shape;
        let places = || self.prepared.positions.iter().map(|&at| (at as usize % rows, at as usize / rows));
        // Without outliers, which are no multiples of their rows' scales.
        let mut base = projected.clone();
        let mut target = Mat::from_fn(rows, cols, |i, j| f64::from(self.weight[(i, j)]));
        for ((row, col), total) in places().zip(&columns.totals) {
            base[(row, col)] = 0.0;
            target[(row, col)] -= total;
        }
        let mut form = Mat::zeros(rows, cols);
        let hessian = self.feedback.damped();
        matmul(form.as_mut(), Accum::Replace, base.as_ref(), hessian.as_ref(), 1.0, Par::Seq);
        let mut ratios = vec![1.0; rows];
        let (mut linear, mut quadratic) = (vec![0.0; rows], vec![0.0; rows]);
        for j in 0..cols {
            let sides = base.col_as_slice(j).iter().zip(target.col_as_slice(j)).zip(form.col_as_slice(j));
            for (((b, t), f), (linear, quadratic)) in sides.zip(linear.iter_mut().zip(&mut quadratic)) {
                *linear += t * f;
                *quadratic += b * f;
            }
        }
        for (i, ratio) in ratios.iter_mut().enumerate() {
            let old = f64::from(columns.row_scales[i]);
            let (a, b) = (linear[i], quadratic[i]);
            if !(b > 0.0 && old > 0.0) {
                continue;
            }
            let wanted = (old * a / b).min(f64::from(LARGEST_ROW_SCALE));
            let new = f64::from(self.prepared.format.round(wanted));
            let found = new / old;
            let error = |ratio: f64| ratio * (ratio * b - 2.0 * a);
            if new > 0.0 && found.is_finite() && error(found) < error(1.0) {
                columns.row_scales[i] = float::narrow(new);
                *ratio = found;
            }
        }
        for j in 0..cols {
            for (value, ratio) in projected.col_as_slice_mut(j).iter_mut().zip(&ratios) {
                *value *= ratio;
            }
        }
        for (((row, col), total), under) in places().zip(&columns.totals).zip(&mut columns.under) {
            *under *= ratios[row];
            projected[(row, col)] = *total;
        }
    }
}

/// Codes columns for a sweep, and remembers them.
struct Coding<'a> {
    prepared: &'a Prepared,
    coder: ColumnCoder<'a>,
    rates: &'a [u8],
    row_scales: Vec<f32>,
    coded: Vec<Coded>,
    /// Of each outlier, what its code says.
    under: Vec<f64>,
    /// Of each outlier, its value.
    totals: Vec<f64>,
    /// Whether a column is kept unless it gets better.
    improve: bool,
}

impl Projector for Coding<'_> {
    fn column(&mut self, column: usize, target: &[f64], projected: &mut [f64]) {
        let coded = self.coder.encode(column, self.rates[column], target, &self.row_scales);
        let mut found: Vec<f64> = self.coder.values.iter().map(|&value| f64::from(value)).collect();
        let outliers = self.prepared.outliers_of(column);
        let rows: Vec<usize> = self.prepared.outlier_rows(outliers.clone()).collect();
        let under: Vec<f64> = rows.iter().map(|&row| found[row]).collect();
        for &row in &rows {
            found[row] += f64::from(self.prepared.store(target[row] - found[row]));
        }
        let error = |values: &[f64]| -> f64 {
            let terms = values.iter().zip(target).zip(&self.prepared.importance);
            terms.map(|((q, t), importance)| importance * (t - q) * (t - q)).sum()
        };
        if self.improve && error(&found) >= error(projected) {
            return;
        }
        for ((&row, place), under) in rows.iter().zip(outliers).zip(under) {
            (self.under[place], self.totals[place]) = (under, found[row]);
        }
        projected.copy_from_slice(&found);
        self.coded[column] = coded;
    }
}
