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
use faer::linalg::cholesky::llt::factor::{LltError, cholesky_in_place, cholesky_in_place_scratch};
use faer::linalg::triangular_solve::solve_upper_triangular_in_place;
use faer::{Mat, MatRef, Par};

use super::{ColumnMetric, Metric};
use crate::dense::{self, Oriented};
use crate::{Error, Scalar, eigen};

/// A square root of a [`Metric`]: `‖E‖_M = ‖apply(E)‖`. Made by [`Metric::root`].
#[derive(Debug, Clone)]
pub struct MetricRoot {
    columns: ColumnRoot,
    /// S = scale · (the root stored in `columns`), a power of two that keeps the stored root near 1; 0 for a
    /// metric without any weight.
    scale: f64,
    /// √row = row_scale · rows, none below 10⁻⁶ of the largest; `row_scale` is like `scale`.
    rows: Option<Vec<f64>>,
    row_scale: f64,
    floored: usize,
}

/// How the root of a Gram matrix is taken; see [`Metric::root_by`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RootMethod {
    /// Cholesky, and eigen where that fails.
    #[default]
    Auto,
    /// S = L, lower triangular: n³/3 flops.
    Cholesky,
    /// S = V·diag(√λ), small and negative eigenvalues raised to the level of rounding: about 9·n³ flops.
    Eigen,
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

/// Pivots below this share of the largest diagonal entry carry rounding errors only.
const NEGLIGIBLE: f64 = 1e-10;

/// Negative eigenvalue, relative to the largest, beyond which a matrix is no Gram matrix.
const INDEFINITE: f64 = 1e-3;

impl MetricRoot {
    pub(super) fn new(metric: &Metric, damping: f64, method: RootMethod) -> Result<Self, Error> {
        if !(damping >= 0.0 && damping.is_finite()) {
            return Err(Error::InvalidOption {
                what: "damping",
                requirement: "finite and not negative",
                found: damping,
            });
        }
        let (rows, row_scale) = match metric.rows.as_deref().map(row_roots).transpose()? {
            Some((roots, scale)) => (Some(roots), scale),
            None => (None, 1.0),
        };
        match &metric.columns {
            ColumnMetric::Identity => {
                let scale = libm::sqrt(1.0 + damping);
                Ok(Self { columns: ColumnRoot::Identity, scale, rows, row_scale, floored: 0 })
            }
            ColumnMetric::Diagonal(weights) => {
                super::check_weights(weights, "column weight", false)?;
                let (roots, scale, floored) = diagonal_roots(weights, damping);
                Ok(Self { columns: ColumnRoot::Diagonal(roots), scale, rows, row_scale, floored })
            }
            ColumnMetric::Gram(gram) => {
                let (columns, scale, floored) = gram_root(gram, damping, method)?;
                Ok(Self { columns, scale, rows, row_scale, floored })
            }
        }
    }

    /// Directions without weight of their own: weights at the rounding floor, pivots or eigenvalues below 10⁻¹⁰ of the
    /// largest diagonal entry. About n − rank(H) without damping.
    pub fn floored(&self) -> usize {
        self.floored
    }

    /// diag(√row)·E·S, so that its Frobenius norm is ‖E‖_M (of the damped metric).
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] if the metric has another width or height than `e`; [`Error::NonFinite`] if an
    /// entry of `e` or of the result is NaN or infinite.
    pub fn apply<T: Scalar>(&self, e: MatRef<'_, T>) -> Result<Mat<T>, Error> {
        dense::largest_modulus(e, "matrix under a metric")?;
        let out = dense::convert(self.apply_normalized(e)?.view(), self.scale * self.row_scale);
        finite(out)
    }

    /// R·S⁻¹ (no row weights): rows of a factor back to original coordinates.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] if the metric has another width than `r`; [`Error::NonFinite`] if an entry of
    /// `r` or of the result is NaN or infinite.
    pub fn unapply_right<T: Scalar>(&self, r: MatRef<'_, T>) -> Result<Mat<T>, Error> {
        self.check_width(r)?;
        dense::largest_modulus(r, "factor under a metric")?;
        let out = self.unapply_normalized(dense::convert(r, inverse(self.scale)));
        finite(dense::convert(out.as_ref(), 1.0))
    }

    /// [`MetricRoot::unapply_right`] without the constant factor, for a factor of the right width.
    pub(crate) fn unapply_normalized(&self, mut out: Mat<f64>) -> Mat<f64> {
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
        out
    }

    /// diag(√row)⁻¹·L: columns of a factor back to original coordinates.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] if the metric has another height than `l`; [`Error::NonFinite`] if an entry of
    /// `l` or of the result is NaN or infinite.
    pub fn unapply_left<T: Scalar>(&self, l: MatRef<'_, T>) -> Result<Mat<T>, Error> {
        self.check_height(l)?;
        dense::largest_modulus(l, "factor under a metric")?;
        let mut out = dense::convert(l, inverse(self.row_scale));
        self.unscale_rows(&mut out);
        finite(out)
    }

    /// Whether rows have weights.
    pub(crate) fn has_rows(&self) -> bool {
        self.rows.is_some()
    }

    /// Whether nothing is weighted: every minimizer is that of the Frobenius norm.
    pub(crate) fn is_identity(&self) -> bool {
        self.rows.is_none() && matches!(self.columns, ColumnRoot::Identity)
    }

    /// [`MetricRoot::apply`] without the constant factors: free of overflow for matrices of moderate scale.
    pub(crate) fn apply_normalized<T: Scalar>(&self, e: MatRef<'_, T>) -> Result<Oriented<T>, Error> {
        self.check_shape(e)?;
        let rows = self.rows.as_deref();
        let weighted = |root: &Mat<f64>, lower: bool| {
            let root = dense::convert(root.as_ref(), 1.0);
            let scaled = rows.map(|rows| dense::scaled(e, Some(rows), None));
            let e = scaled.as_ref().map_or(e, |scaled| scaled.view());
            if lower {
                dense::product_lower(e, root.as_ref(), false, T::from_f64(1.0))
            } else {
                dense::product(e, root.as_ref())
            }
        };
        Ok(match &self.columns {
            ColumnRoot::Identity => dense::scaled(e, rows, None),
            ColumnRoot::Diagonal(roots) => dense::scaled(e, rows, Some(roots)),
            ColumnRoot::Cholesky(lower) => weighted(lower, true).into(),
            ColumnRoot::Eigen { vectors, roots } => {
                dense::scaled(weighted(vectors, false).as_ref(), None, Some(roots))
            }
        })
    }

    /// diag(√row)·E up to a constant factor, or `None` without row weights.
    pub(crate) fn scale_rows<T: Scalar>(&self, e: MatRef<'_, T>) -> Option<Oriented<T>> {
        self.rows.as_deref().map(|roots| dense::scaled(e, Some(roots), None))
    }

    /// L ← diag(√row)⁻¹·L up to the same factor.
    pub(crate) fn unscale_rows<T: Scalar>(&self, l: &mut Mat<T>) {
        if let Some(roots) = &self.rows {
            for column in l.col_iter_mut() {
                for (value, root) in column.iter_mut().zip(roots) {
                    *value = T::from_f64(value.to_f64() / root);
                }
            }
        }
    }

    pub(crate) fn check_shape<T>(&self, a: MatRef<'_, T>) -> Result<(), Error> {
        self.check_width(a)?;
        self.check_height(a)
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

/// A result that left the range of its type is an error, not an infinity.
fn finite<T: Scalar>(a: Mat<T>) -> Result<Mat<T>, Error> {
    dense::largest_modulus(a.as_ref(), "result under a metric").map(|_| a)
}

/// 1/scale; 1 for a metric without weight, of which nothing can be undone.
fn inverse(scale: f64) -> f64 {
    if scale == 0.0 { 1.0 } else { 1.0 / scale }
}

fn divide_columns(a: &mut Mat<f64>, divisors: &[f64]) {
    for (column, divisor) in a.col_iter_mut().zip(divisors) {
        for value in column.iter_mut() {
            *value /= divisor;
        }
    }
}

/// Normalized roots of the row weights, and their scale.
fn row_roots(weights: &[f64]) -> Result<(Vec<f64>, f64), Error> {
    super::check_weights(weights, "row weight", true)?;
    let largest = weights.iter().copied().fold(0.0, f64::max);
    if largest == 0.0 {
        return Ok((weights.iter().map(|_| 1.0).collect(), 0.0));
    }
    let (square, scale) = near(largest);
    let floor = ROW_FLOOR * libm::sqrt(largest / square);
    Ok((weights.iter().map(|w| libm::sqrt(w / square).max(floor)).collect(), scale))
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

fn gram_root(gram: &Mat<f64>, damping: f64, method: RootMethod) -> Result<(ColumnRoot, f64, usize), Error> {
    let n = super::check_square(gram)?;
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
    let negligible = (NEGLIGIBLE * largest / square).max(floor);
    if method == RootMethod::Eigen {
        let (columns, floored) = eigen_root(&scaled, floor, negligible)?;
        return Ok((columns, scale, floored));
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
    if let Err(LltError::NonPositivePivot { index: pivot }) = factored {
        if method == RootMethod::Cholesky {
            return Err(Error::NotPositiveDefinite { what: "Gram matrix", pivot });
        }
        let (columns, floored) = eigen_root(&scaled, floor, negligible)?;
        return Ok((columns, scale, floored));
    }
    let mut floored = 0;
    for j in 0..n {
        let pivot = lower[(j, j)];
        floored += usize::from(pivot * pivot < negligible);
        for i in 0..j {
            lower[(i, j)] = 0.0;
        }
    }
    Ok((ColumnRoot::Cholesky(lower), scale, floored))
}

fn eigen_root(gram: &Mat<f64>, floor: f64, negligible: f64) -> Result<(ColumnRoot, usize), Error> {
    let (values, vectors) = eigen::symmetric(gram.as_ref(), "eigendecomposition of a Gram matrix")?;
    let largest = values.iter().copied().fold(0.0, f64::max);
    if let Some(at) = values.iter().position(|&value| value < -INDEFINITE * largest) {
        return Err(Error::InvalidMetric { what: "negative eigenvalue of a Gram matrix", row: at, col: at });
    }
    let mut floored = 0;
    let roots = values.iter().map(|&value| {
        floored += usize::from(value < negligible);
        libm::sqrt(value.max(floor))
    });
    let roots = roots.collect();
    Ok((ColumnRoot::Eigen { vectors, roots }, floored))
}
