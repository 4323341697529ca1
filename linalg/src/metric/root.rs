//! Roots of a metric that survive rank deficiency.
//!
//! ```text
//! S·Sᵀ = H + δ·I
//! ```
//!
//! A Gram matrix is first factored by Cholesky with δ at least n·ε·max(diag H), which costs n³/3 flops and
//! works for every Gram matrix accumulated in f64, singular or not. If rounding made it indefinite beyond that
//! (sums in single precision), the symmetric eigendecomposition takes over and small or negative eigenvalues
//! are raised to a floor.

use alloc::vec::Vec;

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt::factor::{cholesky_in_place, cholesky_in_place_scratch};
use faer::linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch};
use faer::linalg::triangular_solve::solve_upper_triangular_in_place;
use faer::{Col, Mat, MatRef, Par};

use super::{ColumnMetric, Metric};
use crate::{Error, Scalar, dense};

/// A square root of a [`Metric`]: `‖E‖_M = ‖apply(E)‖`. Made by [`Metric::root`].
#[derive(Debug, Clone)]
pub struct MetricRoot {
    columns: ColumnRoot,
    /// S = scale · (the root stored in `columns`), a power of two that keeps the stored root near 1.
    scale: f64,
    /// √row weights, none below 10⁻⁶ of the largest.
    rows: Option<Vec<f64>>,
    floored: usize,
}

#[derive(Debug, Clone)]
enum ColumnRoot {
    Identity,
    /// S = diag(s).
    Diagonal(Vec<f64>),
    /// S = L, lower triangular.
    Cholesky(Mat<f64>),
    /// S = V·diag(s).
    Eigen {
        vectors: Mat<f64>,
        roots: Vec<f64>,
    },
}

/// Smallest row root, relative to the largest: rows without weight still get finite factors.
const ROW_FLOOR: f64 = 1e-6;

/// Negative eigenvalue, relative to the largest, beyond which a matrix is no Gram matrix.
const INDEFINITE: f64 = 1e-3;

impl MetricRoot {
    pub(super) fn new(metric: &Metric, damping: f64) -> Result<Self, Error> {
        if !(damping >= 0.0 && damping.is_finite()) {
            return Err(Error::InvalidOption {
                what: "damping",
                requirement: "finite and not negative",
                found: damping,
            });
        }
        let rows = metric.rows.as_deref().map(row_roots).transpose()?;
        match &metric.columns {
            ColumnMetric::Identity => {
                let scale = libm::sqrt(1.0 + damping);
                Ok(Self { columns: ColumnRoot::Identity, scale, rows, floored: 0 })
            }
            ColumnMetric::Diagonal(weights) => {
                super::check_weights(weights, "column weight", false)?;
                let (roots, scale, floored) = diagonal_roots(weights, damping);
                Ok(Self { columns: ColumnRoot::Diagonal(roots), scale, rows, floored })
            }
            ColumnMetric::Gram(gram) => {
                let (columns, scale, floored) = gram_root(gram, damping)?;
                Ok(Self { columns, scale, rows, floored })
            }
        }
    }

    /// Pivots or eigenvalues that had to be raised to the rounding floor: about n − rank(H) without damping.
    pub fn floored(&self) -> usize {
        self.floored
    }

    /// diag(√row)·E·S.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] if the metric has another width or height than `e`.
    pub fn apply<T: Scalar>(&self, e: MatRef<'_, T>) -> Result<Mat<T>, Error> {
        let mut out = self.apply_normalized(e)?;
        scale_in_place(&mut out, self.scale);
        Ok(out)
    }

    /// R·S⁻¹ (no row weights): rows of a factor back to original coordinates.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] if the metric has another width than `r`.
    pub fn unapply_right<T: Scalar>(&self, r: MatRef<'_, T>) -> Result<Mat<T>, Error> {
        self.check_width(r)?;
        let mut out: Mat<f64> = dense::convert(r, 1.0 / self.scale);
        match &self.columns {
            ColumnRoot::Identity => {}
            ColumnRoot::Diagonal(roots) => divide_columns(&mut out, roots),
            ColumnRoot::Cholesky(lower) => {
                // X·L = R  ⇔  Lᵀ·Xᵀ = Rᵀ
                solve_upper_triangular_in_place(lower.transpose(), out.as_mut().transpose_mut(), Par::Seq);
            }
            ColumnRoot::Eigen { vectors, roots } => {
                divide_columns(&mut out, roots);
                out = dense::product(out.as_ref(), vectors.transpose());
            }
        }
        Ok(dense::convert(out.as_ref(), 1.0))
    }

    /// diag(√row)⁻¹·L: columns of a factor back to original coordinates.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] if the metric has another height than `l`.
    pub fn unapply_left<T: Scalar>(&self, l: MatRef<'_, T>) -> Result<Mat<T>, Error> {
        self.check_height(l)?;
        let mut out = l.to_owned();
        self.unscale_rows(&mut out);
        Ok(out)
    }

    /// [`MetricRoot::apply`] up to a constant factor, free of overflow.
    pub(crate) fn apply_normalized<T: Scalar>(&self, e: MatRef<'_, T>) -> Result<Mat<T>, Error> {
        self.check_width(e)?;
        self.check_height(e)?;
        let rows = self.scale_rows(e);
        let e = rows.as_ref().map_or(e, |rows| rows.as_ref());
        Ok(match &self.columns {
            ColumnRoot::Identity => e.to_owned(),
            ColumnRoot::Diagonal(roots) => {
                let mut out = e.to_owned();
                multiply_columns(&mut out, roots);
                out
            }
            ColumnRoot::Cholesky(lower) => dense::product(e, dense::convert(lower.as_ref(), 1.0).as_ref()),
            ColumnRoot::Eigen { vectors, roots } => {
                let mut out = dense::product(e, dense::convert(vectors.as_ref(), 1.0).as_ref());
                multiply_columns(&mut out, roots);
                out
            }
        })
    }

    /// diag(√row)·E, or `None` without row weights.
    pub(crate) fn scale_rows<T: Scalar>(&self, e: MatRef<'_, T>) -> Option<Mat<T>> {
        let roots = self.rows.as_ref()?;
        let mut out = e.to_owned();
        for column in out.col_iter_mut() {
            for (value, root) in column.iter_mut().zip(roots) {
                *value = T::from_f64(value.to_f64() * root);
            }
        }
        Some(out)
    }

    /// L ← diag(√row)⁻¹·L.
    pub(crate) fn unscale_rows<T: Scalar>(&self, l: &mut Mat<T>) {
        if let Some(roots) = &self.rows {
            for column in l.col_iter_mut() {
                for (value, root) in column.iter_mut().zip(roots) {
                    *value = T::from_f64(value.to_f64() / root);
                }
            }
        }
    }

    fn check_width<T>(&self, a: MatRef<'_, T>) -> Result<(), Error> {
        let width = match &self.columns {
            ColumnRoot::Identity => a.ncols(),
            ColumnRoot::Diagonal(roots) => roots.len(),
            ColumnRoot::Cholesky(root) | ColumnRoot::Eigen { vectors: root, .. } => root.nrows(),
        };
        if width == a.ncols() {
            return Ok(());
        }
        let expected = (a.nrows(), width);
        Err(Error::ShapeMismatch { what: "matrix under a metric", expected, found: a.shape() })
    }

    fn check_height<T>(&self, a: MatRef<'_, T>) -> Result<(), Error> {
        match &self.rows {
            Some(rows) if rows.len() != a.nrows() => Err(Error::ShapeMismatch {
                what: "matrix under a metric",
                expected: (rows.len(), a.ncols()),
                found: a.shape(),
            }),
            _ => Ok(()),
        }
    }
}

fn multiply_columns<T: Scalar>(a: &mut Mat<T>, factors: &[f64]) {
    for (column, factor) in a.col_iter_mut().zip(factors) {
        for value in column.iter_mut() {
            *value = T::from_f64(value.to_f64() * factor);
        }
    }
}

fn divide_columns(a: &mut Mat<f64>, divisors: &[f64]) {
    for (column, divisor) in a.col_iter_mut().zip(divisors) {
        for value in column.iter_mut() {
            *value /= divisor;
        }
    }
}

fn scale_in_place<T: Scalar>(a: &mut Mat<T>, factor: f64) {
    for column in a.col_iter_mut() {
        for value in column.iter_mut() {
            *value = T::from_f64(value.to_f64() * factor);
        }
    }
}

fn row_roots(weights: &[f64]) -> Result<Vec<f64>, Error> {
    super::check_weights(weights, "row weight", true)?;
    let largest = weights.iter().copied().fold(0.0, f64::max);
    if largest == 0.0 {
        return Ok(weights.iter().map(|_| 1.0).collect());
    }
    // Relative to the largest: constant factors change no minimizer, but `apply` must keep them.
    Ok(weights.iter().map(|w| libm::sqrt(*w).max(ROW_FLOOR * libm::sqrt(largest))).collect())
}

/// A power of four near `value`, and its root.
fn near(value: f64) -> (f64, f64) {
    let half = libm::frexp(value).1.clamp(-900, 900) / 2;
    (dense::power_of_two(2 * half), dense::power_of_two(half))
}

/// Roots of `weights + damping·mean`, scaled, floored at rounding level; the scale; the number floored.
fn diagonal_roots(weights: &[f64], damping: f64) -> (Vec<f64>, f64, usize) {
    let largest = weights.iter().copied().fold(0.0, f64::max);
    if largest == 0.0 {
        return (weights.iter().map(|_| 1.0).collect(), 0.0, weights.len());
    }
    let (square, scale) = near(largest);
    let mean = weights.iter().map(|w| w / square).sum::<f64>() / weights.len() as f64;
    let floor = f64::EPSILON * largest / square;
    let mut floored = 0;
    let roots = weights.iter().map(|w| {
        let value = w / square + damping * mean;
        floored += usize::from(value < floor);
        libm::sqrt(value.max(floor))
    });
    let roots = roots.collect();
    (roots, scale, floored)
}

fn gram_root(gram: &Mat<f64>, damping: f64) -> Result<(ColumnRoot, f64, usize), Error> {
    let n = gram.nrows();
    if gram.ncols() != n {
        return Err(Error::ShapeMismatch { what: "Gram matrix", expected: (n, n), found: gram.shape() });
    }
    if dense::largest_modulus(gram.as_ref(), "Gram matrix")? == 0.0 {
        // Every error has norm 0, every approximation is optimal: take the plain one.
        return Ok((ColumnRoot::Diagonal((0..n).map(|_| 1.0).collect()), 0.0, n));
    }
    let largest = gram.diagonal().column_vector().iter().copied().fold(0.0, f64::max);
    if largest == 0.0 {
        return Err(Error::InvalidMetric { what: "Gram matrix with zero diagonal", row: 0, col: 0 });
    }
    let (square, scale) = near(largest);
    let mut scaled = dense::convert::<f64, f64>(gram.as_ref(), 1.0 / square);
    let mean = scaled.diagonal().column_vector().iter().sum::<f64>() / n as f64;
    let floor = n as f64 * f64::EPSILON * largest / square;
    for value in scaled.diagonal_mut().column_vector_mut().iter_mut() {
        *value += damping * mean + floor;
    }
    let mut lower = scaled.clone();
    let mut memory = MemBuffer::new(cholesky_in_place_scratch::<f64>(n, Par::Seq, Default::default()));
    let factored = cholesky_in_place(
        lower.as_mut(),
        Default::default(),
        Par::Seq,
        MemStack::new(&mut memory),
        Default::default(),
    );
    if factored.is_err() {
        let (columns, floored) = eigen_root(&scaled, floor)?;
        return Ok((columns, scale, floored));
    }
    let mut floored = 0;
    for j in 0..n {
        let pivot = lower[(j, j)];
        floored += usize::from(pivot * pivot < 16.0 * floor);
        for i in 0..j {
            lower[(i, j)] = 0.0;
        }
    }
    Ok((ColumnRoot::Cholesky(lower), scale, floored))
}

fn eigen_root(gram: &Mat<f64>, floor: f64) -> Result<(ColumnRoot, usize), Error> {
    let n = gram.nrows();
    let mut vectors = Mat::<f64>::zeros(n, n);
    let mut values = Col::<f64>::zeros(n);
    let scratch = self_adjoint_evd_scratch::<f64>(n, ComputeEigenvectors::Yes, Par::Seq, Default::default());
    let mut memory = MemBuffer::new(scratch);
    self_adjoint_evd(
        gram.as_ref(),
        values.as_diagonal_mut(),
        Some(vectors.as_mut()),
        Par::Seq,
        MemStack::new(&mut memory),
        Default::default(),
    )
    .map_err(|_| Error::NoConvergence { what: "eigendecomposition of a Gram matrix" })?;
    let largest = values.iter().copied().fold(0.0, f64::max);
    if let Some(at) = values.iter().position(|&value| value < -INDEFINITE * largest) {
        return Err(Error::InvalidMetric { what: "negative eigenvalue of a Gram matrix", row: at, col: at });
    }
    let mut floored = 0;
    let roots = values.iter().map(|&value| {
        floored += usize::from(value < floor);
        libm::sqrt(value.max(floor))
    });
    let roots = roots.collect();
    Ok((ColumnRoot::Eigen { vectors, roots }, floored))
}
