//! The randomized decomposition: a Gaussian sketch, sharpened by power iterations.

use alloc::vec;

use faer::{Mat, MatRef};

use super::{Svd, SvdInfo, SvdMethod, check_rank, fix_signs, nothing, orthonormal, small, unscale_values};
use crate::{Error, Scalar, Stream, dense};

/// Options of [`randomized`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RandomizedOptions {
    /// Columns of the sketch beyond the rank, p. The sketch is never wider than the smaller side.
    pub oversampling: usize,
    /// Power iterations, q: each multiplies by A·Aᵀ once more, which separates slowly decaying spectra.
    pub power_iterations: usize,
    /// Seed of the sketch: the same seed gives the same bits.
    pub seed: u64,
}

impl Default for RandomizedOptions {
    /// p = 10, q = 2, seed 0.
    fn default() -> Self {
        Self { oversampling: 10, power_iterations: 2, seed: 0 }
    }
}

/// A near-best approximation of rank `rank`.
///
/// ```text
/// 1  Ω: n×l Gaussian, l = k + p          (A: m×n with m ≥ n; a wide A is decomposed as Aᵀ)
/// 2  Q R = A·Ω                            m×l
/// 3  q times:  Z R = Aᵀ·Q,  Q R = A·Z     re-orthonormalized at each half step
/// 4  Z R = Aᵀ·Q                           so that QᵀA = Rᵀ·Zᵀ
/// 5  Rᵀ = U′ Σ V′ᵀ                        l×l, exact
/// 6  U = Q·U′, V = Z·V′, cut to k
/// ```
///
/// Cost: 4·(q + 1)·m·n·l flops of matrix products in the precision of A, which dominate; bases and the small
/// SVD are computed in f64. Memory: (m + n)·l numbers and no copy of A, unless A has no unit stride or an
/// extreme scale.
///
/// Accuracy (p ≥ 2, any q ≥ 0; for q = 0 this is Halko, Martinsson and Tropp's theorem 10.5 followed by the
/// truncation to k of step 6):
///
/// ```text
/// E‖A − U Σ Vᵀ‖² ≤ (2 + k/(p − 1)) · Σⱼ₌ₖ₊₁ σⱼ²
/// ```
///
/// and the error is the least possible, to rounding, when the rank of A is at most l.
///
/// Source: N. Halko, P. G. Martinsson, J. A. Tropp, *Finding structure with randomness* (arXiv:0909.4061),
/// algorithms 4.4 and 5.1. Deviation: step 4 orthonormalizes Aᵀ·Q, so that the exact SVD is l×l.
///
/// `a` may have any shape and strides; rank 0 gives empty factors.
///
/// # Errors
/// [`Error::RankOutOfRange`] if `rank > min(m, n)`; [`Error::NonFinite`] for NaN or infinite entries, or if a
/// singular value leaves the range of `T`; [`Error::NoConvergence`] if faer's small SVD gives up.
pub fn randomized<T: Scalar>(
    a: MatRef<'_, T>,
    rank: usize,
    options: &RandomizedOptions,
) -> Result<Svd<T>, Error> {
    check_rank(a, rank)?;
    let exponent = dense::scale_exponent::<T>(dense::largest_modulus(a, "matrix")?);
    let mut storage = None;
    let scaled = dense::prepared(a, exponent, &mut storage);
    let factor = dense::power_of_two(exponent);
    let norm_squared = dense::norm_squared(scaled);
    if rank == 0 {
        return Ok(nothing(a, SvdMethod::Randomized, libm::sqrt(norm_squared) * factor));
    }
    let wide = scaled.nrows() < scaled.ncols();
    let tall = if wide { scaled.transpose() } else { scaled };
    let width = rank.saturating_add(options.oversampling).min(tall.ncols());
    // A sketch as wide as the matrix already spans everything.
    let power_iterations = if width == tall.ncols() { 0 } else { options.power_iterations };

    let (q, z, r) = bases(tall, width, power_iterations, options.seed);
    let small = small::thin(r.transpose(), true)?;
    let mut u: Mat<T> = narrow(&q, small.u.as_ref(), rank);
    let mut v: Mat<T> = narrow(&z, small.v.as_ref(), rank);
    if wide {
        core::mem::swap(&mut u, &mut v);
    }
    fix_signs(&mut u, &mut v);

    let values = || small.values.iter().take(rank).copied();
    let singular_values = unscale_values(values(), factor)?;
    let kept: f64 = values().map(|s| s * s).sum();
    let residual_squared = if norm_squared - kept > NEARLY_EXACT * norm_squared {
        norm_squared - kept
    } else {
        residual_squared(scaled, &u, values(), &v)
    };
    let info = SvdInfo {
        method: SvdMethod::Randomized,
        power_iterations,
        oversampling: width - rank,
        residual: libm::sqrt(residual_squared) * factor,
        norm: libm::sqrt(norm_squared) * factor,
    };
    Ok(Svd { u, singular_values, v, info })
}

/// Below this share of ‖A‖² the difference ‖A‖² − Σσ² would consist of rounding errors of the products:
/// the residual is then measured.
const NEARLY_EXACT: f64 = 1e-3;

/// Steps 1 to 4: Q (m×l), Z (n×l) and R (l×l) with A ≈ Q·Rᵀ·Zᵀ.
fn bases<T: Scalar>(
    a: MatRef<'_, T>,
    width: usize,
    power_iterations: usize,
    seed: u64,
) -> (Mat<f64>, Mat<f64>, Mat<f64>) {
    let (m, n) = a.shape();
    let mut tall = Mat::<T>::zeros(m, width);
    let mut short = sketch::<T>(n, width, seed);
    for _ in 0..power_iterations {
        dense::product_into(tall.as_mut(), a, short.as_ref());
        let (q, _) = orthonormal::factor(dense::convert(tall.as_ref(), 1.0));
        dense::convert_into(tall.as_mut(), q.as_ref(), 1.0);
        dense::product_into(short.as_mut(), a.transpose(), tall.as_ref());
        let (z, _) = orthonormal::factor(dense::convert(short.as_ref(), 1.0));
        dense::convert_into(short.as_mut(), z.as_ref(), 1.0);
    }
    dense::product_into(tall.as_mut(), a, short.as_ref());
    let (q, _) = orthonormal::factor(dense::convert(tall.as_ref(), 1.0));
    dense::convert_into(tall.as_mut(), q.as_ref(), 1.0);
    dense::product_into(short.as_mut(), a.transpose(), tall.as_ref());
    let (z, r) = orthonormal::factor(dense::convert(short.as_ref(), 1.0));
    (q, z, r)
}

/// Step 1: a Gaussian matrix, filled column by column.
fn sketch<T: Scalar>(rows: usize, columns: usize, seed: u64) -> Mat<T> {
    let mut stream = Stream::new(seed, "svd.randomized");
    let mut column = vec![T::default(); rows];
    let mut out = Mat::zeros(rows, columns);
    for target in out.col_iter_mut() {
        stream.fill_normal(&mut column);
        for (to, from) in target.iter_mut().zip(&column) {
            *to = *from;
        }
    }
    out
}

/// Step 6: the first `rank` columns of `basis·small`, rounded to `T`.
fn narrow<T: Scalar>(basis: &Mat<f64>, small: MatRef<'_, f64>, rank: usize) -> Mat<T> {
    dense::convert(dense::product(basis.as_ref(), small.subcols(0, rank)).as_ref(), 1.0)
}

/// ‖A − U·diag(σ)·Vᵀ‖² entry by entry, in panels of rows, accumulated in f64.
fn residual_squared<T: Scalar>(
    a: MatRef<'_, T>,
    u: &Mat<T>,
    values: impl Iterator<Item = f64>,
    v: &Mat<T>,
) -> f64 {
    const PANEL: usize = 64;
    let scaled = super::scale_columns(u.as_ref(), values.map(T::from_f64));
    let mut total = 0.0;
    let mut start = 0;
    while start < a.nrows() {
        let rows = PANEL.min(a.nrows() - start);
        let mut panel = dense::product(scaled.as_ref().subrows(start, rows), v.transpose());
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
