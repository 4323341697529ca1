//! Pruning under the metric of the layer's inputs: which entries go, and how the kept ones make up for it.
//!
//! ```text
//! minimize  tr((W − Ŵ)·H·(W − Ŵ)ᵀ)   over Ŵ whose non-zeros follow a pattern
//! ```
//! | function | mask | kept values | cost |
//! |---|---|---|---|
//! | [`sparse_gpt`] | column by column, from the fed-back weights | fed back once | n³ + m·n² |
//! | [`refit`] | given | the best of that mask (conjugate gradients) | m·n² per iteration |
//! | [`admm`] | alternating with dense solutions, all columns at once | as [`refit`] | some 30 times 2·m·n² |
//!
//! [`prune()`] runs any of them, and the criteria without compensation, by a value: a [`Pruner`].
//!
//! H is the Gram matrix of the layer's inputs, damped as asked; its scale does not matter. m outputs, n inputs.

mod admm;
mod pruner;
mod refit;
mod sparse_gpt;

pub use admm::{AdmmOptions, admm};
pub use pruner::{Context, Pruner, prune};
pub use refit::{RefitOptions, refit};
pub use sparse_gpt::{SparseGptOptions, sparse_gpt};

use crate::{Error, Mask};
use rankbit_linalg::faer::{Mat, MatRef};

/// A pruned matrix.
#[derive(Clone, PartialEq, Debug)]
pub struct Pruned {
    /// Ŵ, `[out, in]`; zero outside the mask.
    pub weight: Mat<f32>,
    /// The kept entries; some of them may be zero.
    pub mask: Mask,
    /// `tr((W − Ŵ)·H·(W − Ŵ)ᵀ)` with the damped H.
    pub error: f64,
    /// Iterations that the method took: of the alternation for [`admm`], of conjugate gradients for [`refit`], 1 for
    /// [`sparse_gpt`].
    pub iterations: u32,
}

/// `H + damping·mean(diag H)·I` (mean over inputs that fire), checked and made symmetric.
fn damped(weight: MatRef<'_, f32>, gram: MatRef<'_, f64>, damping: f64) -> Result<Mat<f64>, Error> {
    let n = weight.ncols();
    if gram.shape() != (n, n) {
        return Err(Error::ShapeMismatch { what: "Gram matrix", expected: (n, n), found: gram.shape() });
    }
    if !(damping.is_finite() && damping >= 0.0) {
        let requirement = "finite and not negative";
        return Err(Error::InvalidOption { what: "damping", requirement, found: damping });
    }
    crate::criterion::check_finite(weight, "weight")?;
    let metric = rankbit_linalg::Metric::gram(gram.to_owned())?;
    let rankbit_linalg::ColumnMetric::Gram(mut form) = metric.columns else {
        return Err(Error::ShapeMismatch { what: "Gram matrix", expected: (n, n), found: (0, 0) });
    };
    let alive = (0..n).filter(|&j| form[(j, j)] > 0.0).count().max(1);
    let mean = (0..n).map(|j| form[(j, j)] / alive as f64).sum::<f64>();
    for j in 0..n {
        form[(j, j)] += damping * mean;
    }
    Ok(form)
}

/// `tr(E·H·Eᵀ)` with `E = W − Ŵ`, given transposed in f64.
fn quadratic(residual: MatRef<'_, f64>, form: MatRef<'_, f64>) -> f64 {
    let panels = crate::select::units(residual.ncols(), crate::dense::PANEL).collect();
    let sums = crate::dense::map(panels, |range: core::ops::Range<usize>| {
        let panel = residual.subcols(range.start, range.len());
        let image = crate::dense::product(form, panel);
        panel
            .col_iter()
            .zip(image.col_iter())
            .map(|(e, h)| e.iter().zip(h.iter()).map(|(e, h)| e * h).sum::<f64>())
            .sum::<f64>()
    });
    sums.iter().sum::<f64>().max(0.0)
}

/// A pruned matrix from its kept values (transposed, f64), rounded to f32, with its error measured anew.
fn finish(
    weight: MatRef<'_, f32>,
    form: MatRef<'_, f64>,
    (values, mask): (MatRef<'_, f64>, Mask),
    iterations: u32,
) -> Result<Pruned, Error> {
    let (rows, cols) = weight.shape();
    let mut pruned = Mat::<f32>::zeros(rows, cols);
    for row in 0..rows {
        for col in mask.row(row) {
            pruned[(row, col)] = crate::dense::narrow(values[(col, row)]);
        }
    }
    crate::criterion::check_finite(pruned.as_ref(), "pruned weight")?;
    let residual = Mat::from_fn(cols, rows, |j, i| f64::from(weight[(i, j)]) - f64::from(pruned[(i, j)]));
    let error = quadratic(residual.as_ref(), form);
    if !error.is_finite() {
        return Err(Error::NonFinite { what: "error under the Gram matrix", row: 0, col: 0 });
    }
    Ok(Pruned { weight: pruned, mask, error, iterations })
}
