//! A decomposition that follows its matrix as rows are appended.

use faer::{Mat, MatRef};

use super::orthonormal::{Basis, rounding};
use super::sketch::gaussian;
use super::{Svd, SvdInfo, SvdMethod, fix_signs, small, unscale_values};
use crate::{Error, Scalar, dense};

impl<T: Scalar> Svd<T> {
    /// The decomposition of [A; C] cut to `rank`, from this one of A (m×n, rank k) and the new rows C (b×n).
    ///
    /// ```text
    /// C = L·Vᵀ + H,   Hᵀ = J·K,   JᵀJ = I,   VᵀJ = 0
    ///
    /// ⎡U diag(σ) Vᵀ⎤   ⎡U  0⎤ ⎡diag(σ)  0 ⎤ ⎡Vᵀ⎤
    /// ⎣     C      ⎦ = ⎣0  I⎦ ⎣   L     Kᵀ⎦ ⎣Jᵀ⎦           the core, (k+b)×(k+j), is decomposed and cut
    /// ```
    /// Exact for the matrix that this decomposition stands for; what it left of A stays lost. `info.residual` is
    /// `√(before² + cut²)`: the error against [A; C] where `UᵀA = diag(σ)·Vᵀ` (all of this module's for m ≥ n, and
    /// exact ones), at most √2 times that else. Give many rows at once: errors add up over calls.
    ///
    /// O((m + n)·(k + b)·k + (k + b)³) time.
    ///
    /// Source: M. Brand, *Fast low-rank modifications of the thin singular value decomposition* (Linear Algebra Appl.
    /// 415, 2006), section 2, with V and J orthogonalized again until they are to rounding.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for rows of another width, or factors that do not fit each other;
    /// [`Error::RankOutOfRange`] if `rank > min(k + b, n)`; [`Error::NonFinite`] for NaN or infinite entries, or if a
    /// singular value leaves the range of `T`; [`Error::NoConvergence`] if faer gives up.
    pub fn append_rows(&self, rows: MatRef<'_, T>, rank: usize) -> Result<Self, Error> {
        let (m, n, k, b) = (self.u.nrows(), self.v.nrows(), self.singular_values.len(), rows.nrows());
        if rows.ncols() != n {
            let found = rows.shape();
            return Err(Error::ShapeMismatch { what: "appended rows", expected: (b, n), found });
        }
        for (what, factor, expected) in [("U", &self.u, (m, k)), ("V", &self.v, (n, k))] {
            if factor.shape() != expected || k > m.min(n) {
                return Err(Error::ShapeMismatch { what, expected, found: factor.shape() });
            }
            dense::largest_modulus(factor.as_ref(), what)?;
        }
        let max = (k + b).min(n);
        if rank > max {
            return Err(Error::RankOutOfRange { rank, max });
        }
        let values = MatRef::from_column_major_slice(&self.singular_values, k, 1);
        let largest = dense::largest_modulus(rows, "appended rows")?
            .max(dense::largest_modulus(values, "singular values")?);
        let exponent = dense::scale_exponent::<T>(largest);
        let (shrink, factor) = (dense::power_of_two(-exponent), dense::power_of_two(exponent));
        let scaled = dense::convert::<T, T>(rows, shrink);

        // V and U once more, to rounding; then what the rows add to the span of V.
        let exact = (0.0, rounding::<T>());
        let new = b.min(n - k);
        let (mut left, mut right) = (Basis::<T>::new(m, k), Basis::<T>::new(n, k + new));
        let of_u = left.append(&mut self.u.clone(), exact, |stream| gaussian(m, 1, stream));
        let of_v = right.append(&mut self.v.clone(), exact, |stream| gaussian(n, 1, stream));
        if new > 0 {
            // More rows than directions left: any completion of V spans all of them.
            let mut fresh = if b <= new { scaled.transpose().to_owned() } else { Mat::zeros(n, new) };
            right.append(&mut fresh, exact, |stream| gaussian(n, 1, stream));
        }
        let mut core = Mat::<f64>::zeros(k + b, k + new);
        let values = self.singular_values.iter().map(|value| Scalar::to_f64(*value) * shrink);
        let kept = dense::product(super::scale_columns(of_u.as_ref(), values).as_ref(), of_v.transpose());
        core.as_mut().submatrix_mut(0, 0, k, k).copy_from(&kept);
        let components = dense::product(scaled.as_ref(), right.view());
        dense::convert_into(core.as_mut().subrows_mut(k, b), components.as_ref(), 1.0);

        let small = small::thin(core.as_ref(), true)?;
        let turned: Mat<T> = dense::convert(small.u.subcols(0, rank), 1.0);
        let mut u = Mat::<T>::zeros(m + b, rank);
        dense::product_into(u.as_mut().subrows_mut(0, m), left.view(), turned.as_ref().subrows(0, k));
        u.as_mut().subrows_mut(m, b).copy_from(turned.as_ref().subrows(k, b));
        let turned: Mat<T> = dense::convert(small.v.subcols(0, rank), 1.0);
        let mut v = dense::product(right.view(), turned.as_ref());
        fix_signs(&mut u, &mut v);
        let cut: f64 = small.values.iter().skip(rank).map(|value| value * value).sum();
        let before = self.info.residual * shrink;
        let norm = self.info.norm * shrink;
        let info = SvdInfo {
            method: SvdMethod::Updated,
            power_iterations: 0,
            oversampling: 0,
            residual: libm::sqrt(before * before + cut) * factor,
            norm: libm::sqrt(norm * norm + dense::norm_squared(scaled.as_ref())) * factor,
        };
        let singular_values = unscale_values(small.values.iter().take(rank).copied(), factor)?;
        Ok(Self { u, singular_values, v, info })
    }
}
