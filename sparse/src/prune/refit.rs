//! The best kept values of a given mask.

use super::Pruned;
use crate::{Error, Mask, dense, select};
use alloc::{vec, vec::Vec};
use core::ops::Range;
use num_traits::Float;
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
/// with step lengths of its own), so that the work is one product with H per iteration. Steps are taken in f32 and added
/// up in f64, with a new residual in f64 whenever it has fallen a thousandfold.
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
    let system = System::new(form);
    let solved = dense::map(panels.clone(), |rows: Range<usize>| {
        let kept: Vec<Vec<usize>> = rows.clone().map(|row| mask.row(row).collect()).collect();
        let target = target.subcols(rows.start, rows.len());
        let start = start.subcols(rows.start, rows.len());
        system.solve_panel(target, start, &kept, options)
    });
    let mut most = 0;
    for (rows, (panel, iterations)) in panels.into_iter().zip(solved) {
        out.subcols_mut(rows.start, rows.len()).copy_from(&panel);
        most = most.max(iterations);
    }
    (out, most)
}

/// Steps are conjugate gradients in f32 down to this; then the residual is taken anew in f64.
const INNER: f64 = 1e-3;

/// H, and what the steps see of it.
struct System<'a> {
    form: MatRef<'a, f64>,
    /// `D^-½·H·D^-½` for H's diagonal D: a diagonal of ones; rows of inputs that never fire are 0.
    scaled: Mat<f32>,
    /// `1/√D`; 0 for inputs that never fire, which say nothing about their weights: these stay.
    inverse_root: Vec<f64>,
}

impl<'a> System<'a> {
    fn new(form: MatRef<'a, f64>) -> Self {
        let n = form.nrows();
        let inverse = |j: usize| if form[(j, j)] > 0.0 { 1.0 / Float::sqrt(form[(j, j)]) } else { 0.0 };
        let inverse_root: Vec<f64> = (0..n).map(inverse).collect();
        let entry = |i: usize, j: usize| dense::narrow(form[(i, j)] * inverse_root[i] * inverse_root[j]);
        Self { form, scaled: Mat::from_fn(n, n, entry), inverse_root }
    }

    /// [`solve`] for a panel; `kept` are the kept inputs of each output.
    fn solve_panel(
        &self,
        target: MatRef<'_, f64>,
        start: MatRef<'_, f64>,
        kept: &[Vec<usize>],
        options: &RefitOptions,
    ) -> (Mat<f64>, u32) {
        let (n, rows) = target.shape();
        let mut values = Mat::zeros(n, rows);
        for (row, kept) in kept.iter().enumerate() {
            for &j in kept {
                values[(j, row)] = start[(j, row)];
            }
        }
        let (mut taken, mut goals) = (0, Vec::new());
        loop {
            // The preconditioned residual of each row, to length 1, and that length.
            let full = dense::product(self.form, (target - &values).as_ref());
            let mut residual = Mat::<f32>::zeros(n, rows);
            let mut lengths = vec![0.0; rows];
            for (row, kept) in kept.iter().enumerate() {
                let entry = |j: usize| full[(j, row)] * self.inverse_root[j];
                let length = Float::sqrt(kept.iter().map(|&j| entry(j) * entry(j)).sum::<f64>());
                if !(length > 0.0 && length.is_finite()) {
                    continue;
                }
                lengths[row] = length;
                for &j in kept {
                    residual[(j, row)] = dense::narrow(entry(j) / length);
                }
            }
            if goals.is_empty() {
                goals = lengths.iter().map(|length| length * options.tolerance).collect();
            }
            for (length, goal) in lengths.iter_mut().zip(&goals) {
                if *length <= *goal {
                    *length = 0.0;
                }
            }
            if taken >= options.iterations || lengths.iter().all(|length| *length == 0.0) {
                return (values, taken);
            }
            let goal = |row: usize| (goals[row] / lengths[row]).max(INNER);
            let limits: Vec<f64> =
                (0..rows).map(|row| if lengths[row] > 0.0 { goal(row) * goal(row) } else { 2.0 }).collect();
            let (steps, iterations) = self.steps(residual, kept, &limits, options.iterations - taken);
            taken += iterations;
            for (row, kept) in kept.iter().enumerate() {
                for &j in kept {
                    values[(j, row)] += f64::from(steps[(j, row)]) * lengths[row] * self.inverse_root[j];
                }
            }
        }
    }

    /// Conjugate gradients for the scaled system from zero, the rows of a panel side by side, each until the square of
    /// its residual (1 at first) is below its limit; and the iterations taken, at least 1.
    fn steps(
        &self,
        mut residual: Mat<f32>,
        kept: &[Vec<usize>],
        limits: &[f64],
        iterations: u32,
    ) -> (Mat<f32>, u32) {
        let mut values = Mat::<f32>::zeros(residual.nrows(), residual.ncols());
        let mut direction = residual.clone();
        let mut squares: Vec<f64> = limits.iter().map(|limit| if *limit < 1.0 { 1.0 } else { 0.0 }).collect();
        for iteration in 0..iterations {
            if squares.iter().zip(limits).all(|(square, limit)| square <= limit) {
                return (values, iteration.max(1));
            }
            let image = dense::product(self.scaled.as_ref(), direction.as_ref());
            for (row, kept) in kept.iter().enumerate() {
                if squares[row] <= limits[row] {
                    continue;
                }
                let (direction, image) = (direction.col_as_slice_mut(row), image.col_as_slice(row));
                let (values, residual) = (values.col_as_slice_mut(row), residual.col_as_slice_mut(row));
                let curvature: f64 =
                    kept.iter().map(|&j| f64::from(direction[j]) * f64::from(image[j])).sum();
                let step = squares[row] / curvature;
                if !(step.is_finite() && step > 0.0) {
                    squares[row] = 0.0;
                    continue;
                }
                let (by, mut next) = (dense::narrow(step), 0.0);
                for &j in kept {
                    values[j] += by * direction[j];
                    residual[j] -= by * image[j];
                    next += f64::from(residual[j]) * f64::from(residual[j]);
                }
                let turn = dense::narrow(next / squares[row]);
                for &j in kept {
                    direction[j] = residual[j] + turn * direction[j];
                }
                squares[row] = next;
            }
        }
        (values, iterations.max(1))
    }
}
