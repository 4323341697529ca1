//! The decomposition of the rank that a tolerance needs.

use alloc::vec::Vec;

use faer::MatRef;

use super::krylov::Space;
use super::{KrylovOptions, Scaled, Svd, SvdMethod, nothing, truncated};
use crate::{Error, Scalar, dense};

/// The approximation of the least rank found whose error is within a tolerance.
///
/// ```text
/// ‖A − U·diag(σ)·Vᵀ‖ ≤ τ·‖A‖          0 ≤ τ = tolerance
/// ```
/// The basis of [`krylov`](super::krylov) grows block by block. Its residual is measured: `‖A − QQᵀA‖² = ‖A‖² − ‖R‖²`,
/// formed entry by entry where that difference would be rounding. Once the tolerance is met the basis grows on until it is
/// as wide as [`krylov`](super::krylov) would make it for the rank that is enough now, which brings that rank down to
/// about the least.
///
/// Where rounding leaves more than the tolerance even in the whole space, the exact decomposition is cut to what the
/// tolerance allows: to all min(m, n) triplets for τ = 0. `options.basis` bounds the basis, and with it the rank: at the
/// bound the result is what was found, of which `info.residual` tells how far it is.
///
/// Cost and memory as [`krylov`](super::krylov) of the rank that is returned, plus the singular values of R a few times,
/// O(d³), and with a tolerance below about 0.03 a product 2·m·n·d for each measurement.
///
/// Sources: as [`krylov`](super::krylov); the adaptive range finder is that of Halko, Martinsson, Tropp,
/// arXiv:0909.4061, section 4.4, with the error measured in place of estimated.
///
/// # Errors
/// [`Error::InvalidOption`] for a tolerance that is negative or NaN; otherwise as [`krylov`](super::krylov).
pub fn to_tolerance<T: Scalar>(
    a: MatRef<'_, T>,
    tolerance: f64,
    options: &KrylovOptions,
) -> Result<Svd<T>, Error> {
    if tolerance.is_nan() || tolerance < 0.0 {
        let requirement = "not negative";
        return Err(Error::InvalidOption { what: "tolerance", requirement, found: tolerance });
    }
    let mut storage = None;
    let Scaled { a: scaled, factor, norm_squared } = Scaled::new(a, &mut storage)?;
    if tolerance >= 1.0 || norm_squared == 0.0 {
        return Ok(nothing(a, SvdMethod::Krylov, libm::sqrt(norm_squared) * factor));
    }
    let target = tolerance * tolerance * norm_squared;
    let side = a.nrows().min(a.ncols());
    let most = options.basis.unwrap_or(usize::MAX).max(1).min(side);
    // The rank is not known yet: blocks for a 32nd of the side.
    let block = options.block(side / 32);
    let mut space = Space::new(scaled, block, (4 * block).min(most), options.sketch, options.seed);
    // The tolerance is met.
    let mut checked = 0;
    let left = loop {
        if !space.grow() {
            if space.width() == most {
                break space.left_over(norm_squared);
            }
            space.reserve((2 * space.width()).min(most));
            continue;
        }
        // The safe form costs a product: not after every block.
        let cheap = norm_squared - dense::norm_squared(space.triangle());
        if cheap <= target && space.width() >= checked + checked / 8 {
            let left = space.left_over(norm_squared);
            if left <= target {
                break left;
            }
            checked = space.width();
        }
    };
    if left > target && space.width() == side {
        // Rounding is in the way: the whole spectrum tells, or all of it is needed.
        let mut exact = truncated(a, side)?;
        let values: Vec<f64> =
            exact.singular_values.iter().map(|value| Scalar::to_f64(*value) / factor).collect();
        let rank = enough(&values, 0.0, target);
        exact.u = exact.u.subcols(0, rank).to_owned();
        exact.v = exact.v.subcols(0, rank).to_owned();
        exact.singular_values.truncate(rank);
        exact.info.residual = libm::sqrt(values.iter().skip(rank).map(|value| value * value).sum()) * factor;
        return Ok(exact);
    }
    // The rank that is enough falls as the basis grows.
    let mut left = left;
    loop {
        let values = crate::svd::small::thin(space.triangle(), false)?.values;
        let wanted = options.basis(enough(&values, left, target), block).min(most);
        let width = space.width();
        if width >= wanted {
            break;
        }
        space.reserve(wanted);
        while space.width() < wanted.min(width + (wanted - width).div_ceil(2).max(block)) && space.grow() {}
        left = space.left_over(norm_squared);
    }
    space.decompose(|values| enough(values, left, target), norm_squared, factor)
}

/// The least rank whose tail, with what the basis leaves, is within the target.
fn enough(values: &[f64], left: f64, target: f64) -> usize {
    let mut tail = left;
    for (rank, value) in values.iter().enumerate().rev() {
        tail += value * value;
        if tail > target {
            return rank + 1;
        }
    }
    0
}
