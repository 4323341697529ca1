//! The error-feedback sweep: project a matrix column by column, each column told the errors of those before it.
//!
//! ```text
//! minimize  tr((W − Q)·H·(W − Q)ᵀ)   over Q whose columns lie on a grid (quantized, sparse, ...)
//!
//! sweep:    v = W;  for j = 1 … n:   q_j = project(v_j),   e_j = (v_j − q_j)/U_jj,   v_l −= e_j·U_jl  (l > j)
//! refine:   for j = 1 … n:           q_j = project(q_j + ((W − Q)·H)_j / H_jj)
//! ```
//! W, Q: m×n, H: n×n symmetric positive definite, `H⁻¹ = Uᵀ·U` with U upper triangular. The sweep's target `v_j` is
//! where column j would be best if the columns after it were free, so its squared error is a sum over columns,
//! `tr((W − Q)·H·(W − Q)ᵀ) = Σ_j ‖v_j − q_j‖²/U_jj²`. Coordinate descent (`refine`) then moves one column at a time
//! with all the others fixed: a projection onto the nearest point never raises the error.
//!
//! GPTQ, LDLQ and SparseGPT are this sweep with different projections; a vector code that spans a whole column
//! fits as well, since the projection sees all rows of a column at once. Rows do not mix anywhere else: a caller
//! may cut W into panels of rows and sweep them in parallel under one [`ErrorFeedback`].
//!
//! 1. **Order.** Columns are visited as given, by falling H_jj (GPTQ's act-order), or in a caller's order.
//! 2. **Dead inputs.** H_jj = 0 says nothing about column j: it is decoupled (H_jj takes the mean) and so projected
//!    plainly. (The GPTQ reference sets such weights to zero instead.)
//! 3. **Damping** as asked: `H + damping·mean(diag H)·I`.
//! 4. **Factor** in f64 without forming the inverse: with J the reversal of the order, `J·H·J = L·Lᵀ` and
//!    `U = J·L⁻¹·J`. A pivot at rounding level is refused, not patched.
//! 5. **Cascade**: recursive halving. A half's feedback to the other half is one matrix product, so nearly all of
//!    the m·n² multiply-adds run in gemm; only within [`SweepOptions::block`] columns are they vector updates.
//!
//! Cost: factor 2n³/3 flops once; sweep m·n²; refine 3·m·n². Memory 2·n² f64 in [`ErrorFeedback`] (one n² more while
//! it is made), 2 to 3·m·n f64 in a sweep. Everything on the calling thread: same input, same bits.
//!
//! Sources: GPTQ, arXiv 2210.17323, algorithm 1; QuIP, arXiv 2307.13304, section 3 (LDLQ, and that the two are one);
//! coordinate descent as in QuIP#, arXiv 2402.04396. Deviations: steps 2, 4 and 5.

mod cascade;

use alloc::vec::Vec;

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt::factor::{LltError, cholesky_in_place, cholesky_in_place_scratch};
use faer::linalg::triangular_inverse::invert_lower_triangular;
use faer::{Mat, MatRef, Par};

use crate::{Error, Scalar, dense, metric};

/// In which order columns are visited.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Order<'a> {
    /// As they are stored.
    #[default]
    Natural,
    /// By falling H_jj, ties as stored: columns that matter most have the most others to correct them.
    ByDiagonal,
    /// The first entry is the column visited first; a permutation of `0..n`.
    Given(&'a [usize]),
}

/// Options of [`ErrorFeedback::new`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SweepOptions<'a> {
    /// Added to the diagonal, as a fraction of its mean over live inputs; finite, not negative. 0.01 in GPTQ.
    pub damping: f64,
    /// Columns up to which feedback is applied one column at a time, at least 1. Changes the result by rounding only.
    pub block: usize,
    /// Visited columns are cut into segments of this length (the last may be shorter), and
    /// [`Projector::segment`] sees each with all feedback of the segments before it. At least 1.
    pub segment: usize,
    /// In which order columns are visited.
    pub order: Order<'a>,
}

impl Default for SweepOptions<'_> {
    fn default() -> Self {
        Self { damping: 0.01, block: 32, segment: usize::MAX, order: Order::Natural }
    }
}

/// What a sweep does to one column. A closure `FnMut(column, target, projected)` is one.
pub trait Projector {
    /// Called before the first column of each segment ([`SweepOptions::segment`]) with the segment's columns and
    /// their current targets, one column each: where a quantizer fits its scales to the fed-back weights.
    fn segment(&mut self, columns: &[usize], targets: MatRef<'_, f64>) {
        let _ = (columns, targets);
    }

    /// Writes the projection of `target` (all rows of column `column`, by its index in `W`) to `projected`, which
    /// holds the column's present value: 0 in a sweep, the one to improve in a refinement.
    fn column(&mut self, column: usize, target: &[f64], projected: &mut [f64]);
}

impl<F: FnMut(usize, &[f64], &mut [f64])> Projector for F {
    fn column(&mut self, column: usize, target: &[f64], projected: &mut [f64]) {
        self(column, target, projected);
    }
}

/// A Gram matrix made ready for sweeps: order, damping, and the factor U.
#[derive(Clone, Debug)]
pub struct ErrorFeedback {
    /// Column visited at each position.
    order: Vec<usize>,
    /// The damped form in visiting order, times 1/scale.
    hessian: Mat<f64>,
    /// U of the scaled form: H⁻¹ = Uᵀ·U / scale.
    upper: Mat<f64>,
    scale: f64,
    added: f64,
    dead: usize,
    block: usize,
    segment: usize,
}

/// What [`ErrorFeedback::sweep`] returns.
#[derive(Clone, PartialEq, Debug)]
pub struct Swept {
    /// Q, columns as in W.
    pub projected: Mat<f64>,
    /// tr((W − Q)·H·(W − Q)ᵀ) with the damped H.
    pub error: f64,
}

/// What [`ErrorFeedback::refine`] returns.
#[derive(Clone, PartialEq, Debug)]
pub struct Refined {
    /// The better Q, columns as in W.
    pub projected: Mat<f64>,
    /// tr((W − Q)·H·(W − Q)ᵀ) with the damped H, before.
    pub before: f64,
    /// The same after; at most `before` (up to rounding) when every projection is to the nearest point.
    pub after: f64,
}

/// Pivots below n·ε·(largest diagonal entry) times this are rounding errors only.
const PIVOT_SLACK: f64 = 4.0;

impl ErrorFeedback {
    /// Steps 1 to 4 for the form `hessian` (n×n).
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for an option outside its range or an order that is no permutation;
    /// [`Error::ShapeMismatch`] if `hessian` is not square; [`Error::NonFinite`]; [`Error::InvalidMetric`] for a
    /// negative diagonal entry or an asymmetric matrix; [`Error::NotPositiveDefinite`] naming the column whose
    /// pivot is at rounding level or negative: more damping is what helps.
    pub fn new(hessian: MatRef<'_, f64>, options: &SweepOptions<'_>) -> Result<Self, Error> {
        let &SweepOptions { damping, block, segment, order } = options;
        if !(damping >= 0.0 && damping.is_finite()) {
            let requirement = "finite and not negative";
            return Err(Error::InvalidOption { what: "damping", requirement, found: damping });
        }
        for (what, value) in [("block", block), ("segment", segment)] {
            if value == 0 {
                return Err(Error::InvalidOption { what, requirement: "at least 1", found: 0.0 });
            }
        }
        let mut gram = hessian.to_owned();
        metric::symmetrize(&mut gram)?;
        let n = gram.nrows();
        let diagonal: Vec<f64> = gram.diagonal().column_vector().iter().copied().collect();
        let order = visiting_order(order, &diagonal)?;
        // Powers of two only: nothing changes but the range.
        let largest = diagonal.iter().copied().fold(0.0, f64::max);
        let scale = if largest > 0.0 { dense::power_of_two(libm::frexp(largest).1) } else { 1.0 };
        let alive = diagonal.iter().filter(|d| **d > 0.0).count();
        let mean = diagonal.iter().map(|d| d / scale).sum::<f64>() / alive.max(1) as f64;
        let mean = if mean > 0.0 { mean } else { 1.0 };
        let mut damped = Mat::from_fn(n, n, |i, j| gram[(order[i], order[j])] / scale);
        for j in 0..n {
            let value = &mut damped[(j, j)];
            *value = if *value > 0.0 { *value } else { mean } + damping * mean;
        }
        drop(gram);
        let upper = upper_factor(damped.as_ref()).map_err(|position| Error::NotPositiveDefinite {
            what: "the form of an error-feedback sweep",
            pivot: order.get(position).copied().unwrap_or(position),
        })?;
        let added = damping * mean * scale;
        Ok(Self { order, hessian: damped, upper, scale, added, dead: n - alive, block, segment })
    }

    /// Number of columns n.
    pub fn width(&self) -> usize {
        self.order.len()
    }

    /// The column visited at each position.
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// What damping added to each diagonal entry.
    pub fn added(&self) -> f64 {
        self.added
    }

    /// Inputs with H_jj = 0, whose columns are projected plainly.
    pub fn dead(&self) -> usize {
        self.dead
    }

    /// The damped form, columns as in `hessian`: n² entries.
    pub fn damped(&self) -> Mat<f64> {
        let n = self.width();
        let mut out = Mat::zeros(n, n);
        for (b, &column) in self.order.iter().enumerate() {
            for (a, &row) in self.order.iter().enumerate() {
                out[(row, column)] = self.hessian[(a, b)] * self.scale;
            }
        }
        out
    }

    /// 1/U_jj² of the column visited at `position`: what a unit error of its target costs. NaN when there is no such
    /// position.
    pub fn sensitivity(&self, position: usize) -> f64 {
        if position >= self.width() {
            return f64::NAN;
        }
        let pivot = self.upper[(position, position)];
        self.scale / (pivot * pivot)
    }

    /// Projects `weight` (m×n, any strides) column by column; see the [module](self).
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for another width; [`Error::NonFinite`] for a NaN or infinite weight, or (named
    /// "projection") when the projector returned one.
    pub fn sweep<T: Scalar>(
        &self,
        weight: MatRef<'_, T>,
        projector: &mut impl Projector,
    ) -> Result<Swept, Error> {
        let mut running = self.gather(weight)?;
        let (m, n) = running.shape();
        let mut projected = alloc::vec![0.0; m];
        let mut out = Mat::zeros(m, n);
        let mut error = 0.0;
        cascade::run(
            &mut running,
            self.upper.as_ref(),
            (self.block, self.segment),
            &mut Visitor {
                order: &self.order,
                projector,
                step: |projector: &mut _, position, target: &[f64], delta: &mut [f64]| {
                    let column = self.order[position];
                    projected.fill(0.0);
                    Projector::column(projector, column, target, &mut projected);
                    let pivot = self.upper[(position, position)];
                    for ((e, v), q) in delta.iter_mut().zip(target).zip(&projected) {
                        *e = (v - q) / pivot;
                        error += *e * *e;
                    }
                    out.col_as_slice_mut(column).copy_from_slice(&projected);
                },
            },
        );
        let error = finite(error * self.scale)?;
        Ok(Swept { projected: out, error })
    }

    /// One sweep of coordinate descent from `projected` (m×n, as [`ErrorFeedback::sweep`] returned it).
    ///
    /// # Errors
    /// As [`ErrorFeedback::sweep`]; [`Error::ShapeMismatch`] if `weight` and `projected` differ in shape.
    pub fn refine<T: Scalar>(
        &self,
        weight: MatRef<'_, T>,
        projected: MatRef<'_, f64>,
        projector: &mut impl Projector,
    ) -> Result<Refined, Error> {
        if projected.shape() != weight.shape() {
            let (expected, found) = (weight.shape(), projected.shape());
            return Err(Error::ShapeMismatch { what: "projected matrix", expected, found });
        }
        let mut residual = self.gather(weight)?;
        for (position, &column) in self.order.iter().enumerate() {
            for (e, q) in residual.col_mut(position).iter_mut().zip(projected.col(column).iter()) {
                *e -= q;
            }
        }
        let mut gradient = dense::product(residual.as_ref(), self.hessian.as_ref());
        let before: f64 = residual
            .col_iter()
            .zip(gradient.col_iter())
            .map(|(e, g)| e.iter().zip(g.iter()).map(|(e, g)| e * g).sum::<f64>())
            .sum();
        drop(residual);
        let mut out = projected.to_owned();
        let m = out.nrows();
        let (mut target, mut next) = (alloc::vec![0.0; m], alloc::vec![0.0; m]);
        let mut change = 0.0;
        cascade::run(
            &mut gradient,
            self.hessian.as_ref(),
            (self.block, self.segment),
            &mut Visitor {
                order: &self.order,
                projector,
                step: |projector: &mut _, position, gradient: &[f64], delta: &mut [f64]| {
                    let column = self.order[position];
                    let curvature = self.hessian[(position, position)];
                    let present = out.col_as_slice_mut(column);
                    for ((t, q), g) in target.iter_mut().zip(present.iter()).zip(gradient) {
                        *t = q + g / curvature;
                    }
                    next.copy_from_slice(present);
                    Projector::column(projector, column, &target, &mut next);
                    for (((d, q), new), t) in delta.iter_mut().zip(present).zip(&next).zip(&target) {
                        *d = new - *q;
                        change += curvature * ((new - t) * (new - t) - (*q - t) * (*q - t));
                        *q = *new;
                    }
                },
            },
        );
        let (before, after) = (finite(before * self.scale)?, finite((before + change) * self.scale)?);
        Ok(Refined { projected: out, before: before.max(0.0), after: after.max(0.0) })
    }

    /// tr(E·H·Eᵀ) with the damped H.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for another width; [`Error::NonFinite`].
    pub fn error<T: Scalar>(&self, residual: MatRef<'_, T>) -> Result<f64, Error> {
        let residual = self.gather(residual)?;
        // ‖E·U⁻¹‖² would need a solve; the product reads H once and is as fast.
        let gradient = dense::product(residual.as_ref(), self.hessian.as_ref());
        let total: f64 = residual
            .col_iter()
            .zip(gradient.col_iter())
            .map(|(e, g)| e.iter().zip(g.iter()).map(|(e, g)| e * g).sum::<f64>())
            .sum();
        Ok(finite(total * self.scale)?.max(0.0))
    }

    /// The matrix in f64, columns in visiting order.
    fn gather<T: Scalar>(&self, weight: MatRef<'_, T>) -> Result<Mat<f64>, Error> {
        let (m, n) = weight.shape();
        if n != self.width() {
            let expected = (m, self.width());
            return Err(Error::ShapeMismatch { what: "matrix of a sweep", expected, found: (m, n) });
        }
        dense::largest_modulus(weight, "matrix of a sweep")?;
        let mut out = Mat::zeros(m, n);
        let double = dense::convert::<T, f64>(weight, 1.0);
        for (position, &column) in self.order.iter().enumerate() {
            out.col_as_slice_mut(position).copy_from_slice(double.col_as_slice(column));
        }
        Ok(out)
    }
}

/// Joins a projector and what the sweep does around it.
struct Visitor<'a, P, F> {
    order: &'a [usize],
    projector: &'a mut P,
    step: F,
}

impl<P: Projector, F: FnMut(&mut P, usize, &[f64], &mut [f64])> cascade::Visit for Visitor<'_, P, F> {
    fn segment(&mut self, first: usize, running: MatRef<'_, f64>) {
        self.projector.segment(&self.order[first..first + running.ncols()], running);
    }

    fn column(&mut self, position: usize, running: &[f64], delta: &mut [f64]) {
        (self.step)(self.projector, position, running, delta);
    }
}

/// A sum that a projector can have spoiled.
fn finite(error: f64) -> Result<f64, Error> {
    if error.is_finite() { Ok(error) } else { Err(Error::NonFinite { what: "projection", row: 0, col: 0 }) }
}

/// Step 1.
fn visiting_order(order: Order<'_>, diagonal: &[f64]) -> Result<Vec<usize>, Error> {
    let n = diagonal.len();
    match order {
        Order::Natural => Ok((0..n).collect()),
        Order::ByDiagonal => {
            let mut columns: Vec<usize> = (0..n).collect();
            columns.sort_by(|&a, &b| diagonal[b].total_cmp(&diagonal[a]));
            Ok(columns)
        }
        Order::Given(given) => {
            let mut seen = alloc::vec![false; n];
            let fresh = |column: &usize| seen.get_mut(*column).is_some_and(|s| !core::mem::replace(s, true));
            if given.len() == n && given.iter().all(fresh) {
                Ok(given.to_vec())
            } else {
                let (what, requirement) = ("order", "a permutation of all columns");
                Err(Error::InvalidOption { what, requirement, found: given.len() as f64 })
            }
        }
    }
}

/// Step 4: U with H⁻¹ = Uᵀ·U, or the position of the pivot that failed.
fn upper_factor(hessian: MatRef<'_, f64>) -> Result<Mat<f64>, usize> {
    let n = hessian.nrows();
    let largest = (0..n).map(|j| hessian[(j, j)]).fold(0.0, f64::max);
    let mut lower = hessian.reverse_rows_and_cols().to_owned();
    let mut memory = MemBuffer::new(cholesky_in_place_scratch::<f64>(n, Par::Seq, Default::default()));
    cholesky_in_place(
        lower.as_mut(),
        Default::default(),
        Par::Seq,
        MemStack::new(&mut memory),
        Default::default(),
    )
    .map_err(|LltError::NonPositivePivot { index }| (n - 1).saturating_sub(index))?;
    let floor = PIVOT_SLACK * n as f64 * f64::EPSILON * largest;
    for j in 0..n {
        let pivot = lower[(j, j)];
        // Also a NaN is not above the floor.
        let positive = pivot * pivot > floor;
        if !positive {
            return Err(n - 1 - j);
        }
    }
    let mut upper = Mat::zeros(n, n);
    invert_lower_triangular(upper.as_mut().reverse_rows_and_cols_mut(), lower.as_ref(), Par::Seq);
    Ok(upper)
}
