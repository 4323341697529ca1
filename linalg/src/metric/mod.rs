//! The error that matters: norms weighted by what a layer's inputs look like.
//!
//! ```text
//! ‖E‖²_M = Σᵢ rowᵢ · eᵢ H eᵢᵀ        E: m×n,  H: n×n symmetric positive semi-definite
//! ```
//!
//! With `H = E[xxᵀ]`, the Gram matrix of a layer's inputs per token, `‖W − Ŵ‖²_M` is the mean squared error of
//! the layer's output; with its diagonal it is that of uncorrelated inputs; with the identity it is the
//! Frobenius norm. Row weights express that some outputs matter more.

mod root;

use alloc::vec::Vec;

use faer::{Mat, MatRef};

use crate::{Error, Scalar, dense};

pub use root::{MetricRoot, RootMethod};

/// A squared norm of matrices m×n; see the [module](self).
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// Weight of each row (length m, finite, non-negative); `None` is all ones.
    pub rows: Option<Vec<f64>>,
    /// The form H on rows.
    pub columns: ColumnMetric,
}

/// The symmetric positive semi-definite form `H` of a [`Metric`].
#[derive(Debug, Clone, PartialEq)]
pub enum ColumnMetric {
    /// H = I: the Frobenius norm, any width.
    Identity,
    /// H = diag(h): one non-negative weight per column.
    Diagonal(Vec<f64>),
    /// H in full, n×n.
    Gram(Mat<f64>),
}

/// Relative asymmetry (to √(gᵢᵢ·gⱼⱼ)) up to which a Gram matrix is taken for symmetric: single precision sums.
const SYMMETRY_TOLERANCE: f64 = 1e-4;

/// How far |gᵢⱼ| may exceed √(gᵢᵢ·gⱼⱼ), relatively.
const BOUND_TOLERANCE: f64 = 1e-3;

impl Metric {
    /// The Frobenius norm.
    pub fn identity() -> Self {
        Self { rows: None, columns: ColumnMetric::Identity }
    }

    /// H = diag(weights).
    ///
    /// # Errors
    /// [`Error::NonFinite`] (position as column) or [`Error::InvalidMetric`] for a negative weight.
    pub fn diagonal(weights: Vec<f64>) -> Result<Self, Error> {
        check_weights(&weights, "column weight", false)?;
        Ok(Self { rows: None, columns: ColumnMetric::Diagonal(weights) })
    }

    /// H = gram, checked and made exactly symmetric.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] if it is not square; [`Error::NonFinite`]; [`Error::InvalidMetric`] for a
    /// negative diagonal entry, or an entry not symmetric to 10⁻⁴ of √(gᵢᵢ·gⱼⱼ) or larger than that bound.
    pub fn gram(mut gram: Mat<f64>) -> Result<Self, Error> {
        symmetrize(&mut gram)?;
        Ok(Self { rows: None, columns: ColumnMetric::Gram(gram) })
    }

    /// The same form with these row weights.
    ///
    /// # Errors
    /// [`Error::NonFinite`] (position as row) or [`Error::InvalidMetric`] for a negative weight.
    pub fn with_rows(mut self, weights: Vec<f64>) -> Result<Self, Error> {
        check_weights(&weights, "row weight", true)?;
        self.rows = Some(weights);
        Ok(self)
    }

    /// ‖E‖²_M, accumulated in f64. 2·m·n flops, or m·n² with a Gram matrix.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] if the metric has another width or height than `e`; [`Error::NonFinite`] for
    /// NaN or infinite entries of `e`, or (position 0, 0) if the sum overflows.
    pub fn norm_squared<T: Scalar>(&self, e: MatRef<'_, T>) -> Result<f64, Error> {
        self.check_shape(e.shape())?;
        dense::largest_modulus(e, "matrix under a metric")?;
        let total = match &self.columns {
            ColumnMetric::Identity => dense::weighted_norm_squared(e, self.rows.as_deref(), None),
            ColumnMetric::Diagonal(weights) => {
                dense::weighted_norm_squared(e, self.rows.as_deref(), Some(weights))
            }
            ColumnMetric::Gram(gram) => self.norm_squared_gram(e, gram.as_ref()),
        };
        if total.is_finite() {
            Ok(total.max(0.0))
        } else {
            Err(Error::NonFinite { what: "norm under a metric", row: 0, col: 0 })
        }
    }

    /// ‖residual‖_M / ‖weight‖_M; 0/0 = 0, and infinite if only the denominator is 0.
    ///
    /// # Errors
    /// Those of [`Metric::norm_squared`]; [`Error::ShapeMismatch`] if the two matrices differ in shape.
    pub fn relative_error<T: Scalar>(
        &self,
        residual: MatRef<'_, T>,
        weight: MatRef<'_, T>,
    ) -> Result<f64, Error> {
        if residual.shape() != weight.shape() {
            return Err(Error::ShapeMismatch {
                what: "residual",
                expected: weight.shape(),
                found: residual.shape(),
            });
        }
        let numerator = self.norm_squared(residual)?;
        let denominator = self.norm_squared(weight)?;
        Ok(if numerator == 0.0 { 0.0 } else { libm::sqrt(numerator / denominator) })
    }

    /// The metric of E·T⁻¹ measured on E, or after a change of basis T = diag(s): H → diag(s)·H·diag(s).
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for another length; [`Error::NonFinite`] (position as column).
    pub fn scaled(&self, column_scale: &[f64]) -> Result<Self, Error> {
        let width = self.width().unwrap_or(column_scale.len());
        if column_scale.len() != width {
            return Err(Error::ShapeMismatch {
                what: "column scale",
                expected: (1, width),
                found: (1, column_scale.len()),
            });
        }
        check_finite(column_scale, "column scale", false)?;
        let columns = match &self.columns {
            ColumnMetric::Identity => ColumnMetric::Diagonal(column_scale.iter().map(|s| s * s).collect()),
            ColumnMetric::Diagonal(weights) => {
                ColumnMetric::Diagonal(weights.iter().zip(column_scale).map(|(h, s)| h * s * s).collect())
            }
            ColumnMetric::Gram(gram) => {
                let mut gram = gram.clone();
                for (column, outer) in gram.col_iter_mut().zip(column_scale) {
                    for (value, inner) in column.iter_mut().zip(column_scale) {
                        *value *= outer * inner;
                    }
                }
                ColumnMetric::Gram(gram)
            }
        };
        Ok(Self { rows: self.rows.clone(), columns })
    }

    /// A root S of the damped form, for closed-form solutions:
    ///
    /// ```text
    /// S·Sᵀ = H + damping·mean(diag H)·I
    /// ```
    ///
    /// Works for singular H (fewer tokens than inputs, dead inputs): what a factorization needs beyond the
    /// damping is added at the level of rounding and counted in [`MetricRoot::floored`]. Deterministic,
    /// O(n³/3) for a Gram matrix.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] if `damping` is negative or not finite; [`Error::NonFinite`] or
    /// [`Error::InvalidMetric`] if the metric was built around its checks or has a negative eigenvalue beyond
    /// 10⁻³ of its largest; [`Error::NoConvergence`] if faer gives up.
    pub fn root(&self, damping: f64) -> Result<MetricRoot, Error> {
        MetricRoot::new(self, damping, RootMethod::Auto)
    }

    /// [`Metric::root`] of a Gram matrix by one method.
    ///
    /// # Errors
    /// Those of [`Metric::root`]; [`Error::NotPositiveDefinite`] where only Cholesky may be used and rounding has made the
    /// matrix indefinite.
    pub fn root_by(&self, damping: f64, method: RootMethod) -> Result<MetricRoot, Error> {
        MetricRoot::new(self, damping, method)
    }

    /// The width n this metric applies to; `None` for any.
    pub fn width(&self) -> Option<usize> {
        match &self.columns {
            ColumnMetric::Identity => None,
            ColumnMetric::Diagonal(weights) => Some(weights.len()),
            ColumnMetric::Gram(gram) => Some(gram.ncols()),
        }
    }

    fn check_shape(&self, (m, n): (usize, usize)) -> Result<(), Error> {
        if let ColumnMetric::Gram(gram) = &self.columns {
            check_square(gram)?;
        }
        let expected = (self.rows.as_ref().map_or(m, Vec::len), self.width().unwrap_or(n));
        if expected == (m, n) {
            Ok(())
        } else {
            Err(Error::ShapeMismatch { what: "matrix under a metric", expected, found: (m, n) })
        }
    }

    fn row_weight(&self, row: usize) -> f64 {
        self.rows.as_ref().map_or(1.0, |rows| rows.get(row).copied().unwrap_or(0.0))
    }

    /// Σᵢ rowᵢ·eᵢ H eᵢᵀ with H = N + diag(h) + Nᵀ, N strictly lower: eᵢ H eᵢᵀ = eᵢ·(2·eᵢ N + eᵢ∘h).
    fn norm_squared_gram<T: Scalar>(&self, e: MatRef<'_, T>, gram: MatRef<'_, f64>) -> f64 {
        const PANEL: usize = 128;
        let n = gram.ncols();
        let mut total = 0.0;
        let mut start = 0;
        while start < e.nrows() {
            let rows = PANEL.min(e.nrows() - start);
            let panel: Mat<f64> = dense::convert(e.subrows(start, rows), 1.0);
            let image = dense::product_lower(panel.as_ref(), gram, true, 2.0);
            for j in 0..n {
                let diagonal = gram[(j, j)];
                let columns = panel.col(j).iter().zip(image.col(j).iter()).enumerate();
                total += columns
                    .map(|(i, (e, image))| self.row_weight(start + i) * e * (image + e * diagonal))
                    .sum::<f64>();
            }
            start += rows;
        }
        total
    }
}

/// Names the first entry that is not finite.
pub(crate) fn check_finite(values: &[f64], what: &'static str, is_rows: bool) -> Result<(), Error> {
    match values.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(at) if is_rows => Err(Error::NonFinite { what, row: at, col: 0 }),
        Some(at) => Err(Error::NonFinite { what, row: 0, col: at }),
    }
}

/// Finite and not negative.
pub(crate) fn check_weights(values: &[f64], what: &'static str, is_rows: bool) -> Result<(), Error> {
    check_finite(values, what, is_rows)?;
    match values.iter().position(|&x| x < 0.0) {
        None => Ok(()),
        Some(at) if is_rows => Err(Error::InvalidMetric { what: "negative row weight", row: at, col: 0 }),
        Some(at) => Err(Error::InvalidMetric { what: "negative column weight", row: 0, col: at }),
    }
}

/// The side of a Gram matrix.
fn check_square(gram: &Mat<f64>) -> Result<usize, Error> {
    let n = gram.nrows();
    if gram.ncols() == n {
        Ok(n)
    } else {
        Err(Error::ShapeMismatch { what: "Gram matrix", expected: (n, n), found: gram.shape() })
    }
}

/// Checks a Gram matrix and replaces both halves by their mean.
pub(crate) fn symmetrize(gram: &mut Mat<f64>) -> Result<(), Error> {
    let n = check_square(gram)?;
    dense::largest_modulus(gram.as_ref(), "Gram matrix")?;
    let mut roots = Vec::with_capacity(n);
    for j in 0..n {
        if gram[(j, j)] < 0.0 {
            return Err(Error::InvalidMetric { what: "negative diagonal of a Gram matrix", row: j, col: j });
        }
        roots.push(libm::sqrt(gram[(j, j)]));
    }
    for (j, outer) in roots.iter().enumerate() {
        for (i, inner) in roots.iter().enumerate().skip(j + 1) {
            let (lower, upper) = (gram[(i, j)], gram[(j, i)]);
            let size = outer * inner;
            if (lower - upper).abs() > SYMMETRY_TOLERANCE * size {
                return Err(Error::InvalidMetric { what: "Gram matrix not symmetric", row: i, col: j });
            }
            // Cauchy and Schwarz, to rounding.
            if lower.abs() > (1.0 + BOUND_TOLERANCE) * size {
                let what = "Gram entry above its diagonal's bound";
                return Err(Error::InvalidMetric { what, row: i, col: j });
            }
            if lower != upper {
                let mean = lower / 2.0 + upper / 2.0;
                gram[(i, j)] = mean;
                gram[(j, i)] = mean;
            }
        }
    }
    Ok(())
}
