//! Small symmetric positive definite systems.

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt::factor::{cholesky_in_place, cholesky_in_place_scratch};
use faer::linalg::triangular_solve::{solve_lower_triangular_in_place, solve_upper_triangular_in_place};
use faer::{Mat, MatRef, Par};

use crate::{Error, dense};

/// X with `(A + damping·mean(diag A)·I)·X = B` for symmetric positive semi-definite `A: [n, n]`, `B: [n, k]`, by
/// Cholesky; `None` when even the damped A is not positive definite to rounding, or is zero.
///
/// Only A's lower half is read. Cost n³/3 + 2·n²·k flops.
///
/// # Errors
/// [`Error::ShapeMismatch`]; [`Error::NonFinite`] for a NaN or infinity in A or B, or in X where it overflows;
/// [`Error::InvalidOption`] for a damping that is negative or not finite.
pub fn solve_spd(a: MatRef<'_, f64>, b: MatRef<'_, f64>, damping: f64) -> Result<Option<Mat<f64>>, Error> {
    let n = a.nrows();
    if a.ncols() != n {
        return Err(Error::ShapeMismatch { what: "system", expected: (n, n), found: a.shape() });
    }
    if b.nrows() != n {
        let expected = (n, b.ncols());
        return Err(Error::ShapeMismatch { what: "right-hand side", expected, found: b.shape() });
    }
    if !(damping >= 0.0 && damping.is_finite()) {
        let requirement = "finite and not negative";
        return Err(Error::InvalidOption { what: "damping", requirement, found: damping });
    }
    let largest = dense::largest_modulus(a, "system")?;
    dense::largest_modulus(b, "right-hand side")?;
    if largest == 0.0 {
        return Ok(None);
    }
    // A power of two near the largest entry, so that no square overflows.
    let scale = dense::power_of_two(-libm::frexp(largest).1.clamp(-1000, 1000));
    let mut lower: Mat<f64> = dense::convert(a, scale);
    let mean = (0..n).map(|j| lower[(j, j)]).sum::<f64>() / n as f64;
    for j in 0..n {
        lower[(j, j)] += damping * mean;
    }
    let mut memory = MemBuffer::new(cholesky_in_place_scratch::<f64>(n, Par::Seq, Default::default()));
    let stack = MemStack::new(&mut memory);
    if cholesky_in_place(lower.as_mut(), Default::default(), Par::Seq, stack, Default::default()).is_err() {
        return Ok(None);
    }
    let mut x: Mat<f64> = dense::convert(b, scale);
    solve_lower_triangular_in_place(lower.as_ref(), x.as_mut(), Par::Seq);
    solve_upper_triangular_in_place(lower.transpose(), x.as_mut(), Par::Seq);
    dense::largest_modulus(x.as_ref(), "solution")?;
    Ok(Some(x))
}
