//! The best approximation of a rank under a metric, in closed form.

use faer::reborrow::Reborrow;
use faer::{Mat, MatRef};

use super::{Factors, Method, best_rank};
use crate::{Error, MetricRoot, Scalar, dense};

/// argmin ‖A − C‖_M over matrices of rank at most `rank`, as two factors in original coordinates whose
/// columns and rows have equal norms pairwise.
///
/// ```text
/// minimize ‖A − C‖_M  over rank C ≤ r        ‖E‖²_M = Σᵢ dᵢ · eᵢ H eᵢᵀ = ‖D^½ E S‖²,   H = S Sᵀ
///
/// C = D^-½ · [D^½ A S]ᵣ · S⁻¹ = D^-½ · Uᵣ · (Uᵣᵀ D^½ A)       Uᵣ: left singular vectors of D^½ A S
/// ```
///
/// The second form needs no inverse of S, because `[B]ᵣ = Uᵣ Uᵣᵀ B`. So a singular H (fewer tokens than inputs) costs no
/// accuracy, and in directions without weight C continues A's projection instead of blowing up. The result
/// does not depend on which root S is taken, because B Bᵀ = D^½ A H Aᵀ D^½ does not.
///
/// Sources: arXiv:2403.07378 (SVD-LLM), arXiv:2312.05821 (ASVD), and the metric form of Eckart and Young.
///
/// Cost: one product A·S (2·m·n² flops with a Gram metric, m·n with a diagonal one), then that of `method`.
///
/// # Errors
/// [`Error::ShapeMismatch`] if the metric has another width or height than `a`; otherwise those of
/// [`best_rank`].
pub fn weighted<T: Scalar>(
    a: MatRef<'_, T>,
    rank: usize,
    root: &MetricRoot,
    method: &Method,
) -> Result<Factors<T>, Error> {
    super::check_rank(a, rank)?;
    let exponent = dense::scale_exponent::<T>(dense::largest_modulus(a, "matrix")?);
    let mut storage = None;
    let scaled = dense::prepared(a, exponent, &mut storage);
    root.check_shape(scaled)?;
    let mut u = if root.is_identity() {
        best_rank(scaled, rank, method)?.u
    } else {
        best_rank(root.apply_normalized(scaled)?.view(), rank, method)?.u
    };
    let rows = root.scale_rows(scaled);
    let mut right = dense::product(u.transpose(), rows.as_ref().map_or(scaled, |rows| rows.view()));
    root.unscale_rows(&mut u);
    balance(&mut u, &mut right, dense::power_of_two(exponent));
    Ok(Factors { left: u, right })
}

/// argmin ‖Sₗᵀ·(A − C)·S‖ over matrices of rank at most `rank`, as [`weighted`] for a form on either side.
///
/// ```text
/// ‖E‖² = tr(Hₗ E H Eᵀ)      Hₗ = Sₗ Sₗᵀ: m×m,  H = S Sᵀ: n×n
///
/// C = Sₗ⁻ᵀ · [Sₗᵀ A S]ᵣ · S⁻¹ = Sₗ⁻ᵀ · Uᵣ · (Uᵣᵀ Sₗᵀ A)      Uᵣ: left singular vectors of Sₗᵀ A S
/// ```
/// `left` is the root of a metric of width m. Computed in f64, because a singular Hₗ has to be undone.
///
/// Cost: 2·m·n·(m + n) flops with two Gram matrices, then that of `method`.
///
/// # Errors
/// [`Error::InvalidOption`] if either metric has row weights (on the left, a diagonal metric is what they are); otherwise
/// those of [`weighted`].
pub fn weighted_both<T: Scalar>(
    a: MatRef<'_, T>,
    rank: usize,
    left: &MetricRoot,
    right: &MetricRoot,
    method: &Method,
) -> Result<Factors<T>, Error> {
    super::check_rank(a, rank)?;
    if left.has_rows() || right.has_rows() {
        let requirement = "absent where both sides have a metric";
        return Err(Error::InvalidOption { what: "row weights", requirement, found: 1.0 });
    }
    let exponent = dense::scale_exponent::<T>(dense::largest_modulus(a, "matrix")?);
    let scaled: Mat<f64> = dense::convert(a, dense::power_of_two(-exponent));
    let from_left = left.apply_normalized(scaled.transpose())?;
    let from_left = from_left.view().transpose();
    let u = best_rank(right.apply_normalized(from_left)?.view(), rank, method)?.u;
    let mut factor = dense::product(u.transpose(), from_left);
    let mut u = left.unapply_normalized(u.transpose().to_owned()).transpose().to_owned();
    balance(&mut u, &mut factor, dense::power_of_two(exponent));
    let factors =
        Factors { left: dense::convert(u.as_ref(), 1.0), right: dense::convert(factor.as_ref(), 1.0) };
    dense::largest_modulus(factors.left.as_ref(), "left factor")?;
    dense::largest_modulus(factors.right.as_ref(), "right factor")?;
    Ok(factors)
}

/// Multiplies the product by `factor` and shares it so that column i of `left` and row i of `right` have
/// equal norms.
fn balance<T: Scalar>(left: &mut Mat<T>, right: &mut Mat<T>, factor: f64) {
    for (column, row) in left.col_iter_mut().zip(right.row_iter_mut()) {
        let left_norm = libm::sqrt(column.rb().iter().map(|&x| x.to_f64() * x.to_f64()).sum());
        let right_norm = libm::sqrt(row.rb().iter().map(|&x| x.to_f64() * x.to_f64()).sum()) * factor;
        let share =
            if left_norm > 0.0 && right_norm > 0.0 { libm::sqrt(right_norm / left_norm) } else { 1.0 };
        for value in column.iter_mut() {
            *value = T::from_f64(value.to_f64() * share);
        }
        for value in row.iter_mut() {
            *value = T::from_f64(value.to_f64() * (factor / share));
        }
    }
}
