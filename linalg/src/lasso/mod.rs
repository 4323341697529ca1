//! The Lasso by coordinate descent, with a certificate of how far from the optimum it stopped.
//!
//! ```text
//! minimize P(b) = ½‖y − X·b‖² + λ·Σⱼ wⱼ|bⱼ|          X: m×n,  y: m,  b: n,  w > 0 (1 unless given),  b ≥ 0 if asked
//! maximize D(θ) = ½‖y‖² − λ²/2·‖θ − y/λ‖²            subject to |xⱼ·θ| ≤ wⱼ (xⱼ·θ ≤ wⱼ for b ≥ 0)
//! ```
//! Every feasible θ bounds the optimum from below, so gap = P(b) − D(θ) ≥ P(b) − min P is *returned*, for the solution
//! that is returned. It also proves coefficients to be zero ([screening](Lasso::screened)), for good.
//!
//! The columns nearest to their constraint form a working set, solved by sweeps of coordinate descent with Anderson's
//! extrapolation; once its signs stand still, Newton's step on the support ends it. Cost: m·n a working set, m·|set| a
//! sweep, m·|support|² + |support|³/3 a Newton step. Runs on the calling thread; the same bits on every instruction set.
//!
//! Sources: coordinate descent: Friedman, Hastie, Tibshirani (2010); screening: Ndiaye, Fercoq, Gramfort, Salmon, arXiv
//! 1611.05780, theorem 6; working sets and extrapolation: Massias, Gramfort, Salmon, arXiv 1802.07481, sections 3, 4.
//!
//! Scalings: with ½‖·‖²/m in front of it (glmnet, scikit-learn), λ here is m times theirs. An intercept: centre y and the
//! columns first.

mod allocation;
mod kernel;
mod solver;

use alloc::vec;
use alloc::vec::Vec;

use faer::MatRef;

pub use allocation::{Relevance, allocate_samples, relevance};

use crate::instructions::Instructions;
use crate::{Error, dense};
use kernel::Problem;
use solver::Solver;

/// Options of [`lasso`].
#[derive(Debug, Clone, PartialEq)]
pub struct LassoOptions {
    /// Gap to reach, relative to P(0) = ½‖y‖²; not negative.
    pub tolerance: f64,
    /// Sweeps of coordinate descent at most; what then is not reached shows in [`Lasso::gap`].
    pub sweeps: usize,
    /// wⱼ, n positive numbers; `None` for ones.
    pub weights: Option<Vec<f64>>,
    /// Only b ≥ 0.
    pub non_negative: bool,
}

impl Default for LassoOptions {
    fn default() -> Self {
        Self { tolerance: 1e-6, sweeps: 100_000, weights: None, non_negative: false }
    }
}

/// A solution.
#[derive(Debug, Clone, PartialEq)]
pub struct Lasso {
    /// b.
    pub coefficients: Vec<f64>,
    /// λ.
    pub lambda: f64,
    /// P(b).
    pub objective: f64,
    /// P(b) − D(θ) for a feasible θ: how far P(b) may be from the optimum.
    pub gap: f64,
    /// Whether the gap asked for was reached.
    pub converged: bool,
    /// Sweeps of coordinate descent.
    pub sweeps: usize,
    /// Coefficients that were proved to be zero (or whose column is).
    pub screened: usize,
}

/// Minimizes ½‖y − X·b‖² + λ·Σ wⱼ|bⱼ|; see the [module](self).
///
/// # Errors
/// [`Error::ShapeMismatch`] for y or weights; [`Error::NonFinite`] in X, y; [`Error::InvalidOption`] for λ (positive),
/// the tolerance or a weight.
pub fn lasso(x: MatRef<'_, f64>, y: &[f64], lambda: f64, options: &LassoOptions) -> Result<Lasso, Error> {
    Prepared::new(x, y, options)?.solve(lambda, options, &mut vec![0.0; x.ncols()])
}

/// The solutions for several λ in the order given, each started from the one before: a path is cheapest descending from
/// [`lambda_max`].
///
/// # Errors
/// Those of [`lasso`].
pub fn lasso_path(
    x: MatRef<'_, f64>,
    y: &[f64],
    lambdas: &[f64],
    options: &LassoOptions,
) -> Result<Vec<Lasso>, Error> {
    let prepared = Prepared::new(x, y, options)?;
    let mut start = vec![0.0; x.ncols()];
    lambdas.iter().map(|&lambda| prepared.solve(lambda, options, &mut start)).collect()
}

/// Least λ for which b = 0: maxⱼ |xⱼ·y|/wⱼ (of the positive products for b ≥ 0).
///
/// # Errors
/// Those of [`lasso`].
pub fn lambda_max(x: MatRef<'_, f64>, y: &[f64], options: &LassoOptions) -> Result<f64, Error> {
    let prepared = Prepared::new(x, y, options)?;
    let all: Vec<usize> = (0..x.ncols()).collect();
    let mut products = vec![0.0; x.ncols()];
    let problem = prepared.problem(&[], options);
    Instructions::best().products(&problem, &all, &prepared.y, &mut products);
    let largest = products.iter().zip(&prepared.weights).fold(0.0, |largest: f64, (&product, weight)| {
        largest.max(if options.non_negative { product } else { product.abs() } / weight)
    });
    Ok(largest / prepared.lambda_scale)
}

/// `count` values of λ from `largest` down to `largest·ratio`, in geometric progression.
pub fn lambda_grid(largest: f64, ratio: f64, count: usize) -> Vec<f64> {
    let steps = count.saturating_sub(1).max(1) as f64;
    (0..count).map(|i| largest * libm::pow(ratio, i as f64 / steps)).collect()
}

/// A checked problem, scaled by powers of two so that no square over- or underflows.
struct Prepared<'a> {
    x: dense::Columns<'a>,
    y: Vec<f64>,
    squares: Vec<f64>,
    weights: Vec<f64>,
    /// λ of the scaled problem over λ.
    lambda_scale: f64,
    /// b over b of the scaled problem.
    coefficient_scale: f64,
    /// P over P of the scaled problem.
    objective_scale: f64,
}

impl<'a> Prepared<'a> {
    fn new(x: MatRef<'a, f64>, y: &[f64], options: &LassoOptions) -> Result<Self, Error> {
        let (rows, columns) = x.shape();
        if y.len() != rows {
            return Err(Error::ShapeMismatch { what: "y", expected: (rows, 1), found: (y.len(), 1) });
        }
        let y_view = MatRef::from_column_major_slice(y, rows, 1);
        let exponents = (
            dense::scale_exponent::<f64>(dense::largest_modulus(x, "X")?),
            dense::scale_exponent::<f64>(dense::largest_modulus(y_view, "y")?),
        );
        if !(options.tolerance >= 0.0 && options.tolerance.is_finite()) {
            let requirement = "finite and not negative";
            return Err(Error::InvalidOption { what: "tolerance", requirement, found: options.tolerance });
        }
        let weights = match &options.weights {
            None => vec![1.0; columns],
            Some(weights) if weights.len() == columns => weights.clone(),
            Some(weights) => {
                let found = (weights.len(), 1);
                return Err(Error::ShapeMismatch { what: "weights", expected: (columns, 1), found });
            }
        };
        if let Some(&found) = weights.iter().find(|&&weight| !(weight > 0.0 && weight.is_finite())) {
            return Err(Error::InvalidOption { what: "weights", requirement: "positive and finite", found });
        }
        let (x_scale, y_scale) = (dense::power_of_two(-exponents.0), dense::power_of_two(-exponents.1));
        let x = dense::Columns::new(x, exponents.0);
        let y = y.iter().map(|y| y * y_scale).collect();
        let squares = x.view().col_iter().map(|column| dense::norm_squared(column.as_mat())).collect();
        Ok(Self {
            x,
            y,
            squares,
            weights,
            lambda_scale: x_scale * y_scale,
            coefficient_scale: x_scale / y_scale,
            objective_scale: 1.0 / y_scale / y_scale,
        })
    }

    fn problem<'b>(&'b self, thresholds: &'b [f64], options: &LassoOptions) -> Problem<'b> {
        let non_negative = options.non_negative;
        Problem { x: self.x.view(), squares: &self.squares, thresholds, non_negative }
    }

    /// The solution for λ from the scaled coefficients `b`, which are left at it.
    fn solve(&self, lambda: f64, options: &LassoOptions, b: &mut [f64]) -> Result<Lasso, Error> {
        if !(lambda > 0.0 && lambda.is_finite()) {
            return Err(Error::InvalidOption {
                what: "lambda",
                requirement: "positive and finite",
                found: lambda,
            });
        }
        let thresholds: Vec<f64> =
            self.weights.iter().map(|weight| lambda * self.lambda_scale * weight).collect();
        let at_zero = dense::line_norm_squared(&self.y) / 2.0;
        let target = options.tolerance * at_zero;
        let solver = Solver {
            problem: self.problem(&thresholds, options),
            y: &self.y,
            instructions: Instructions::best(),
            target,
            most_sweeps: options.sweeps,
        };
        let outcome = solver.run(b);
        Ok(Lasso {
            coefficients: b.iter().map(|b| b * self.coefficient_scale).collect(),
            lambda,
            objective: outcome.certificate.objective * self.objective_scale,
            gap: outcome.certificate.gap.max(0.0) * self.objective_scale,
            converged: outcome.certificate.gap <= target,
            sweeps: outcome.sweeps,
            screened: outcome.screened,
        })
    }
}
