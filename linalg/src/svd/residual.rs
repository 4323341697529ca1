//! What an approximation leaves, measured.

use faer::{Mat, MatRef};

use crate::{Scalar, dense};

/// Below this share of ‖A‖² the difference ‖A‖² − Σσ² would consist of rounding errors of the products:
/// the residual is then measured.
const NEARLY_EXACT: f64 = 1e-3;

/// ‖A − U·diag(σ)·Vᵀ‖² for factors with `UᵀA = diag(σ)·Vᵀ`: ‖A‖² − Σσ², or entry by entry where that would cancel.
pub(super) fn squared<T: Scalar>(
    a: MatRef<'_, T>,
    norm_squared: f64,
    u: &Mat<T>,
    values: impl Iterator<Item = f64> + Clone,
    v: &Mat<T>,
) -> f64 {
    let kept: f64 = values.clone().map(|s| s * s).sum();
    if norm_squared - kept > NEARLY_EXACT * norm_squared {
        norm_squared - kept
    } else {
        measured(a, u, values, v)
    }
}

/// ‖A − Q·Rᵀ·Pᵀ‖² for orthonormal bases with `QᵀA = Rᵀ·Pᵀ`: ‖A‖² − ‖R‖², or entry by entry where that would cancel.
pub(super) fn of_projection<T: Scalar>(
    a: MatRef<'_, T>,
    norm_squared: f64,
    q: MatRef<'_, T>,
    r: MatRef<'_, f64>,
    p: MatRef<'_, T>,
) -> f64 {
    let left = norm_squared - dense::norm_squared(r);
    if left > NEARLY_EXACT * norm_squared {
        return left;
    }
    let r = dense::convert(r.transpose(), 1.0);
    difference(a, dense::product(q, r.as_ref()).as_ref(), p)
}

/// ‖A − U·diag(σ)·Vᵀ‖² entry by entry.
fn measured<T: Scalar>(a: MatRef<'_, T>, u: &Mat<T>, values: impl Iterator<Item = f64>, v: &Mat<T>) -> f64 {
    difference(a, super::scale_columns(u.as_ref(), values.map(T::from_f64)).as_ref(), v.as_ref())
}

/// ‖A − L·Vᵀ‖² entry by entry, in panels of rows, accumulated in f64.
fn difference<T: Scalar>(a: MatRef<'_, T>, left: MatRef<'_, T>, v: MatRef<'_, T>) -> f64 {
    const PANEL: usize = 64;
    let mut total = 0.0;
    let mut start = 0;
    while start < a.nrows() {
        let rows = PANEL.min(a.nrows() - start);
        let mut panel = dense::product(left.subrows(start, rows), v.transpose());
        let source = a.subrows(start, rows);
        for (column, source) in panel.col_iter_mut().zip(source.col_iter()) {
            for (value, original) in column.iter_mut().zip(source.iter()) {
                *value = *original - *value;
            }
        }
        total += dense::norm_squared(panel.as_ref());
        start += rows;
    }
    total
}
