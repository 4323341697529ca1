//! The exact decomposition, cut to a rank.

use alloc::vec::Vec;

use faer::MatRef;

use super::{Scaled, Svd, SvdInfo, SvdMethod, check_rank, fix_signs, nothing, small, unscale_values};
use crate::{Error, Scalar, dense};

/// The best approximation of rank `rank`, exactly (to rounding).
///
/// ```text
/// [A]ₖ = Σᵢ₌₁ᵏ σᵢ uᵢ vᵢᵀ        ‖A − [A]ₖ‖² = Σᵢ₌ₖ₊₁ σᵢ²
/// ```
///
/// No matrix of rank k is nearer to A, in this norm and in every other unitarily invariant one.
///
/// Source: C. Eckart, G. Young, *The approximation of one matrix by another of lower rank* (1936);
/// L. Mirsky (1960). The decomposition is faer's (bidiagonalization, then divide and conquer).
///
/// `a` may have any shape and strides; rank 0 gives empty factors. O(m·n·min(m, n)) time, three copies of
/// `a` in memory.
///
/// # Errors
/// [`Error::RankOutOfRange`] if `rank > min(m, n)`; [`Error::NonFinite`] for NaN or infinite entries, or if a
/// singular value leaves the range of `T`; [`Error::NoConvergence`] if faer gives up.
pub fn truncated<T: Scalar>(a: MatRef<'_, T>, rank: usize) -> Result<Svd<T>, Error> {
    check_rank(a, rank)?;
    let mut storage = None;
    let Scaled { a: scaled, factor, norm_squared } = Scaled::new(a, &mut storage)?;
    if rank == 0 {
        return Ok(nothing(a, SvdMethod::Truncated, libm::sqrt(norm_squared) * factor));
    }
    let thin = small::thin(scaled, true)?;
    let tail: f64 = thin.values.iter().skip(rank).map(|&s| s.to_f64() * s.to_f64()).sum();
    let mut u = thin.u.subcols(0, rank).to_owned();
    let mut v = thin.v.subcols(0, rank).to_owned();
    fix_signs(&mut u, &mut v);
    let singular_values = unscale_values(thin.values.iter().take(rank).map(|&s| s.to_f64()), factor)?;
    let info = SvdInfo {
        method: SvdMethod::Truncated,
        power_iterations: 0,
        oversampling: 0,
        residual: libm::sqrt(tail) * factor,
        norm: libm::sqrt(norm_squared) * factor,
    };
    Ok(Svd { u, singular_values, v, info })
}

/// All min(m, n) singular values, descending. O(m·n·min(m, n)) time.
///
/// # Errors
/// [`Error::NonFinite`] for NaN or infinite entries, or if a value leaves the range of `T`;
/// [`Error::NoConvergence`] if faer gives up.
pub fn singular_values<T: Scalar>(a: MatRef<'_, T>) -> Result<Vec<T>, Error> {
    let exponent = dense::scale_exponent::<T>(dense::largest_modulus(a, "matrix")?);
    let mut storage = None;
    let scaled = dense::prepared(a, exponent, &mut storage);
    let thin = small::thin(scaled, false)?;
    unscale_values(thin.values.iter().map(|&s| s.to_f64()), dense::power_of_two(exponent))
}
