//! Gradient steps on both factors, the error measured through the moments.
//!
//! ```text
//! f(L, R) = ‖E - L·R‖²_M,   G = E - L·R
//! step    L += η·(D·G·H·Rᵀ)·(R·H·Rᵀ)⁻¹/D,      R += η·(Lᵀ·D·L)⁻¹·(Lᵀ·D·G·H)·diag(H)⁻¹
//! ```
//! The gradients are scaled by the factors' own Gram matrices, so that a step does not depend on how `L·R` is shared
//! between them (scaled gradient descent, arXiv 2005.08898), and by the inputs' mean squares, so that loud inputs do not
//! drown quiet ones; η is the exact minimizer along the line,
//! `⟨G, Δ⟩_M/‖Δ‖²_M` for the change Δ of `L·R`, so f never rises.

use super::factors::{decoded, multiply, narrow, product, residual, weighted, wide};
use crate::{Error, Factor, FactorFormat, LowRank};
use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_linalg::{ColumnMetric, Factors, Metric, solve_spd};

/// Added to the diagonal of the small systems, as a fraction of its mean.
const DAMPING: f64 = 1e-9;

/// The gradient steps of a recipe.
pub(crate) struct GradientPart<'a> {
    pub(crate) steps: u32,
    pub(crate) metric: &'a Metric,
}

impl GradientPart<'_> {
    /// `low_rank` after the steps, for the residual `target = W - Q̃·Tᵀ`; stored as it was.
    pub(crate) fn descend(
        &self,
        target: MatRef<'_, f32>,
        low_rank: &LowRank,
    ) -> Result<(LowRank, bool), Error> {
        let (mut left, mut right) = (decoded(low_rank.left()), decoded(low_rank.right()));
        let mut residual = residual(wide(target), &left, &right);
        for _ in 0..self.steps {
            // L: D cancels, for every row has its own.
            let image = product(right.as_ref(), &self.metric.columns);
            let system = multiply(image.as_ref(), right.transpose());
            let gradient = multiply(image.as_ref(), residual.transpose());
            let Some(direction) = solve_spd(system.as_ref(), gradient.as_ref(), DAMPING)? else { break };
            let change = multiply(direction.transpose(), right.as_ref());
            let step = self.take(&mut residual, &change)?;
            add(&mut left, direction.transpose(), step);
            // R.
            let weighted = weighted(&left, self.metric);
            let system = multiply(weighted.transpose(), left.as_ref());
            let gradient =
                product(multiply(weighted.transpose(), residual.as_ref()).as_ref(), &self.metric.columns);
            let Some(mut direction) = solve_spd(system.as_ref(), gradient.as_ref(), DAMPING)? else { break };
            self.divide(&mut direction);
            let change = multiply(left.as_ref(), direction.as_ref());
            let step = self.take(&mut residual, &change)?;
            add(&mut right, direction.as_ref(), step);
        }
        let found = Factors { left: narrow(left.as_ref()), right: narrow(right.as_ref()) };
        let format = match low_rank.left().format() {
            FactorFormat::Float(format) => format,
            // Refused before the first step.
            FactorFormat::Int8 | FactorFormat::Int4 | FactorFormat::Atoms(_) => {
                rankbit_quant::FloatFormat::F16
            }
        };
        let (left, left_widened) = Factor::encode(found.left.as_ref(), format);
        let (right, right_widened) = Factor::encode(found.right.as_ref(), format);
        Ok((LowRank::new(left, right)?, left_widened || right_widened))
    }

    /// The best step along `change`, taken: 0 where there is nothing to gain.
    fn take(&self, residual: &mut Mat<f64>, change: &Mat<f64>) -> Result<f64, Error> {
        let norm = self.metric.norm_squared(change.as_ref())?;
        if norm == 0.0 {
            return Ok(0.0);
        }
        let image = product(change.as_ref(), &self.metric.columns);
        let mut along = 0.0;
        for j in 0..image.ncols() {
            for i in 0..image.nrows() {
                let row = self.metric.rows.as_ref().map_or(1.0, |rows| rows.get(i).copied().unwrap_or(0.0));
                along += row * residual[(i, j)] * image[(i, j)];
            }
        }
        let step = along / norm;
        if !step.is_finite() {
            return Ok(0.0);
        }
        add(residual, change.as_ref(), -step);
        Ok(step)
    }

    /// Each column over its mean square; those of inputs that never fired are 0 as they are.
    fn divide(&self, direction: &mut Mat<f64>) {
        for j in 0..direction.ncols() {
            let square = match &self.metric.columns {
                ColumnMetric::Identity => 1.0,
                ColumnMetric::Diagonal(weights) => weights.get(j).copied().unwrap_or(0.0),
                ColumnMetric::Gram(gram) => gram[(j, j)],
            };
            if square > 0.0 {
                direction.col_mut(j).iter_mut().for_each(|value| *value /= square);
            }
        }
    }
}

/// `a += factor·b`.
fn add(a: &mut Mat<f64>, b: MatRef<'_, f64>, factor: f64) {
    for j in 0..a.ncols() {
        for (value, &other) in a.col_mut(j).iter_mut().zip(b.col(j).iter()) {
            *value += factor * other;
        }
    }
}
