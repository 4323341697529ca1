//! The best kept values of a given mask.

use super::Pruned;
use crate::{Error, Mask, dense, select};
use alloc::{vec, vec::Vec};
use core::ops::Range;
use rankbit_linalg::faer::{Mat, MatRef};

/// Options of [`refit`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RefitOptions {
    /// Added to the diagonal of H, as a fraction of its mean; finite, not negative.
    pub damping: f64,
    /// Iterations at most.
    pub iterations: u32,
    /// A row stops when its preconditioned residual is this small relative to its first; finite, not negative.
    pub tolerance: f64,
}

impl Default for RefitOptions {
    fn default() -> Self {
        Self { damping: 0.01, iterations: 50, tolerance: 1e-5 }
    }
}

/// The kept values of `mask` that lose least of `weight` (`[out, in]`) under the Gram matrix `gram` (`[in, in]`),
/// starting from the weights themselves: never worse than masking alone.
///
/// ```text
/// row by row:  minimize (w − b)·H·(w − b)ᵀ  over b that is zero outside S   ⇔   H_SS·b_S = (H·w)_S
/// ```
/// Conjugate gradients with residuals masked to S, preconditioned by the diagonal, all rows of a panel together (each
/// with step lengths of its own), so that the work is one product with H per iteration. The error never rises.
///
/// Source: the back-solve of ALPS, Meng et al., NeurIPS 2024, arXiv 2406.07831, section 3.3.
///
/// Cost O(out·in²) per iteration.
///
/// # Errors
/// [`Error::ShapeMismatch`] for a mask or Gram matrix that does not fit; [`Error::InvalidOption`];
/// [`Error::NonFinite`]; from [`Error::Linalg`] a Gram matrix that is none.
pub fn refit(
    weight: MatRef<'_, f32>,
    mask: &Mask,
    gram: MatRef<'_, f64>,
    options: &RefitOptions,
) -> Result<Pruned, Error> {
    mask.check_shape(weight.shape())?;
    if !(options.tolerance.is_finite() && options.tolerance >= 0.0) {
        let (requirement, found) = ("finite and not negative", options.tolerance);
        return Err(Error::InvalidOption { what: "tolerance", requirement, found });
    }
    let form = super::damped(weight, gram, options.damping)?;
    let target = transposed(weight);
    let (values, iterations) = solve(&target, &target, mask, form.as_ref(), options);
    super::finish(weight, form.as_ref(), (values.as_ref(), mask.clone()), iterations)
}

/// `weight`, transposed in f64: a row of the weight is contiguous.
pub(super) fn transposed(weight: MatRef<'_, f32>) -> Mat<f64> {
    dense::wide(weight.transpose())
}

/// The masked solutions (transposed) from `start` (of which only kept entries count), and the iterations taken.
pub(super) fn solve(
    target: &Mat<f64>,
    start: &Mat<f64>,
    mask: &Mask,
    form: MatRef<'_, f64>,
    options: &RefitOptions,
) -> (Mat<f64>, u32) {
    let mut out = Mat::zeros(target.nrows(), target.ncols());
    let panels: Vec<Range<usize>> = select::units(target.ncols(), dense::PANEL).collect();
    let solved = dense::map(panels.clone(), |rows: Range<usize>| {
        let kept: Vec<Vec<usize>> = rows.clone().map(|row| mask.row(row).collect()).collect();
        let target = target.subcols(rows.start, rows.len());
        let start = start.subcols(rows.start, rows.len());
        solve_panel(target, start, &kept, form, options)
    });
    let mut most = 0;
    for (rows, (panel, iterations)) in panels.into_iter().zip(solved) {
        out.subcols_mut(rows.start, rows.len()).copy_from(&panel);
        most = most.max(iterations);
    }
    (out, most)
}

/// [`solve`] for a panel; `kept` are the kept inputs of each output.
fn solve_panel(
    target: MatRef<'_, f64>,
    start: MatRef<'_, f64>,
    kept: &[Vec<usize>],
    form: MatRef<'_, f64>,
    options: &RefitOptions,
) -> (Mat<f64>, u32) {
    let (n, rows) = target.shape();
    let mut values = Mat::zeros(n, rows);
    for (row, kept) in kept.iter().enumerate() {
        for &j in kept {
            values[(j, row)] = start[(j, row)];
        }
    }
    let mut residual = dense::product(form, (target - &values).as_ref());
    let mut direction = Mat::<f64>::zeros(n, rows);
    let mut products = vec![0.0; rows];
    // An input that never fires says nothing about its weights: they stay.
    let precondition = |j: usize, r: f64| if form[(j, j)] > 0.0 { r / form[(j, j)] } else { 0.0 };
    for (row, kept) in kept.iter().enumerate() {
        for &j in kept {
            let r = residual[(j, row)];
            direction[(j, row)] = precondition(j, r);
            products[row] += r * precondition(j, r);
        }
    }
    let first = products.clone();
    let open =
        |product: f64, first: f64| product > first * options.tolerance * options.tolerance && product > 0.0;
    for iteration in 0..options.iterations {
        if !products.iter().zip(&first).any(|(p, f)| open(*p, *f)) {
            return (values, iteration);
        }
        let image = dense::product(form, direction.as_ref());
        for (row, kept) in kept.iter().enumerate() {
            let curvature: f64 = kept.iter().map(|&j| direction[(j, row)] * image[(j, row)]).sum();
            let step = products[row] / curvature;
            if !(open(products[row], first[row]) && step.is_finite() && step > 0.0) {
                products[row] = 0.0;
                continue;
            }
            let mut next = 0.0;
            for &j in kept {
                values[(j, row)] += step * direction[(j, row)];
                let r = residual[(j, row)] - step * image[(j, row)];
                residual[(j, row)] = r;
                next += r * precondition(j, r);
            }
            let turn = next / products[row];
            for &j in kept {
                direction[(j, row)] = precondition(j, residual[(j, row)]) + turn * direction[(j, row)];
            }
            products[row] = next;
        }
    }
    (values, options.iterations)
}
