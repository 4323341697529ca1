//! Cayley's map from any square matrix to a rotation, and its gradient.

use rankbit_linalg::faer::linalg::matmul::matmul;
use rankbit_linalg::faer::linalg::triangular_solve::{
    solve_unit_lower_triangular_in_place, solve_unit_upper_triangular_in_place,
};
use rankbit_linalg::faer::{Accum, Mat, MatRef, Par};
use rankbit_linalg::{LduOptions, ldu};

use crate::Error;

/// The rotation of a square matrix, and what its gradient needs.
pub(super) struct Rotation {
    /// R.
    pub(super) matrix: Mat<f64>,
    /// `M = (I - S)⁻¹`.
    inverse: Mat<f64>,
}

impl Rotation {
    pub(super) fn new(a: MatRef<'_, f64>) -> Result<Self, Error> {
        let n = a.nrows();
        if a.ncols() != n {
            let (expected, found) = ([1, 1, n, n], [1, 1, n, a.ncols()]);
            return Err(Error::ShapeMismatch { what: "matrix", expected, found });
        }
        let identity = |i, j| f64::from(u8::from(i == j));
        let minus = Mat::from_fn(n, n, |i, j| identity(i, j) - (a[(i, j)] - a[(j, i)]));
        // P·(I - S) = L·D·U. In exact arithmetic no pivot is 0: I - S has no singular value below 1.
        let factors = ldu(minus.as_ref(), &LduOptions::default())?;
        let failed = |deviation| Error::NotOrthogonal { what: "rotation", head: 0, deviation };
        let (order, pivots) = (factors.row_order(), factors.diagonal());
        if pivots.len() < n {
            return Err(failed(f64::INFINITY));
        }
        let mut inverse = Mat::from_fn(n, n, |i, j| identity(order[i], j));
        solve_unit_lower_triangular_in_place(factors.lower().as_ref(), inverse.as_mut(), Par::Seq);
        for column in inverse.col_iter_mut() {
            column.iter_mut().zip(pivots).for_each(|(x, pivot)| *x /= pivot);
        }
        solve_unit_upper_triangular_in_place(factors.upper().as_ref(), inverse.as_mut(), Par::Seq);
        // I + R = 2M. The product (I + S)·M would err by |S| times as much.
        let matrix = Mat::from_fn(n, n, |i, j| 2.0 * inverse[(i, j)] - identity(i, j));
        let deviation = deviation(matrix.as_ref());
        // Not so for NaN.
        if !matches!(deviation.partial_cmp(&1e-9), Some(order) if order.is_le()) {
            return Err(failed(deviation));
        }
        Ok(Self { matrix, inverse })
    }

    /// The gradient by A from that by R; the formula is at [`cayley_gradient`].
    pub(super) fn pulled(&self, upstream: MatRef<'_, f64>) -> Mat<f64> {
        let m = self.inverse.transpose();
        let by_s = times(times(m, upstream).as_ref(), m);
        Mat::from_fn(by_s.nrows(), by_s.ncols(), |i, j| 2.0 * (by_s[(i, j)] - by_s[(j, i)]))
    }
}

/// The rotation `R = (I + S)(I - S)⁻¹` of any square A, `S = A - Aᵀ`: orthogonal, of determinant 1, the identity for A = 0; every
/// rotation without the eigenvalue -1 is one. Cost: O(n³).
///
/// **Accuracy**: `|RᵀR - I| ≤ 10⁻⁹` in each entry, or an error; about n·10⁻¹⁶·(1 + |S|), as the condition of `I - S` is at most
/// `√(1 + |S|²)`.
///
/// Source: Lin et al., arXiv 2410.14731, section 4.1; Wen, Yin, *A feasible method for optimization with orthogonality constraints*,
/// 2013.
///
/// # Errors
/// [`Error::ShapeMismatch`] for a matrix that is not square; [`Error::Linalg`] for NaN and infinities; [`Error::NotOrthogonal`] where
/// A is so large that rounding destroys the orthogonality.
pub fn cayley(a: MatRef<'_, f64>) -> Result<Mat<f64>, Error> {
    Ok(Rotation::new(a)?.matrix)
}

/// Gradient of `Σ upstream·R` by A.
///
/// ```text
/// M = (I - S)⁻¹     dR = 2·M·dS·M, since I + R = 2M     ∂S = 2·Mᵀ·upstream·Mᵀ     ∂A = ∂S - ∂Sᵀ
/// ```
///
/// # Errors
/// As [`cayley`], and for an `upstream` of another shape.
pub fn cayley_gradient(a: MatRef<'_, f64>, upstream: MatRef<'_, f64>) -> Result<Mat<f64>, Error> {
    if upstream.shape() != a.shape() {
        let (expected, found) = ([1, 1, a.nrows(), a.ncols()], [1, 1, upstream.nrows(), upstream.ncols()]);
        return Err(Error::ShapeMismatch { what: "upstream", expected, found });
    }
    Ok(Rotation::new(a)?.pulled(upstream))
}

/// Largest entry of `|UᵀU - I|`, NaN where there is one.
pub(super) fn deviation(u: MatRef<'_, f64>) -> f64 {
    let gram = times(u.transpose(), u);
    let mut largest = 0.0;
    for j in 0..gram.ncols() {
        for i in 0..gram.nrows() {
            let gap = (gram[(i, j)] - f64::from(u8::from(i == j))).abs();
            if gap > largest || gap.is_nan() {
                largest = gap;
            }
            if largest.is_nan() {
                return largest;
            }
        }
    }
    largest
}

/// `a·b`, on this thread.
pub(super) fn times(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Mat<f64> {
    let mut out = Mat::zeros(a.nrows(), b.ncols());
    matmul(out.as_mut(), Accum::Replace, a, b, 1.0, Par::Seq);
    out
}
