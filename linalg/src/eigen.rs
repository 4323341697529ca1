//! faer's symmetric eigendecomposition, called on the calling thread.

use alloc::vec::Vec;

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::evd::tridiag::{tridiag_in_place, tridiag_in_place_scratch};
use faer::linalg::evd::{
    ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch, tridiagonal_self_adjoint_evd,
};
use faer::linalg::householder::{
    apply_block_householder_sequence_on_the_left_in_place_scratch,
    apply_block_householder_sequence_on_the_left_in_place_with_conj,
};
use faer::linalg::qr::no_pivoting::factor::recommended_block_size;
use faer::{Col, Conj, Mat, MatRef, Par};

use crate::{Error, Scalar};

/// Eigenvalues, ascending, and eigenvectors of a symmetric matrix, whose lower half is read.
///
/// # Errors
/// [`Error::NoConvergence`] naming `what` if faer gives up.
pub(crate) fn symmetric<T: Scalar>(a: MatRef<'_, T>, what: &'static str) -> Result<(Col<T>, Mat<T>), Error> {
    let n = a.nrows();
    let mut vectors = Mat::<T>::zeros(n, n);
    let mut values = Col::<T>::zeros(n);
    if n > 0 {
        let scratch =
            self_adjoint_evd_scratch::<T>(n, ComputeEigenvectors::Yes, Par::Seq, Default::default());
        let mut memory = MemBuffer::new(scratch);
        self_adjoint_evd(
            a,
            values.as_diagonal_mut(),
            Some(vectors.as_mut()),
            Par::Seq,
            MemStack::new(&mut memory),
            Default::default(),
        )
        .map_err(|_| Error::NoConvergence { what })?;
    }
    Ok((values, vectors))
}

/// Eigenvalues, ascending, of a symmetric matrix, whose lower half is read.
///
/// # Errors
/// As [`symmetric`].
pub(crate) fn values<T: Scalar>(a: MatRef<'_, T>, what: &'static str) -> Result<Vec<T>, Error> {
    let n = a.nrows();
    let mut values = Col::<T>::zeros(n);
    if n > 0 {
        let scratch = self_adjoint_evd_scratch::<T>(n, ComputeEigenvectors::No, Par::Seq, Default::default());
        let mut memory = MemBuffer::new(scratch);
        let stack = MemStack::new(&mut memory);
        self_adjoint_evd(a, values.as_diagonal_mut(), None, Par::Seq, stack, Default::default())
            .map_err(|_| Error::NoConvergence { what })?;
    }
    Ok(values.iter().copied().collect())
}

/// The eigenvectors of the `count` largest eigenvalues of [`symmetric`], those of the largest first: the same reduction to
/// a tridiagonal matrix, but only these vectors are carried back from it.
///
/// # Errors
/// As [`symmetric`].
pub(crate) fn leading<T: Scalar>(
    a: MatRef<'_, T>,
    count: usize,
    what: &'static str,
) -> Result<Mat<T>, Error> {
    let n = a.nrows();
    let count = count.min(n);
    if n < 2 {
        return Ok(symmetric(a, what)?.1.subcols(0, count).to_owned());
    }
    let block = recommended_block_size::<T>(n, n);
    let mut reduced = Mat::<T>::zeros(n, n);
    reduced.copy_from_triangular_lower(a);
    let mut reflections = Mat::<T>::zeros(block, n - 1);
    let mut memory = MemBuffer::new(tridiag_in_place_scratch::<T>(n, Par::Seq, Default::default()));
    let stack = MemStack::new(&mut memory);
    tridiag_in_place(reduced.as_mut(), reflections.as_mut(), Par::Seq, stack, Default::default());
    let diagonal = Col::from_fn(n, |i| reduced[(i, i)]);
    let below = Col::from_fn(n, |i| if i + 1 < n { reduced[(i + 1, i)] } else { T::default() });
    let mut values = Col::<T>::zeros(n);
    let mut vectors = Mat::<T>::zeros(n, n);
    let scratch = self_adjoint_evd_scratch::<T>(n, ComputeEigenvectors::Yes, Par::Seq, Default::default());
    let mut memory = MemBuffer::new(scratch);
    tridiagonal_self_adjoint_evd(
        diagonal.as_diagonal(),
        below.as_diagonal(),
        values.as_diagonal_mut(),
        Some(vectors.as_mut()),
        Par::Seq,
        MemStack::new(&mut memory),
        Default::default(),
    )
    .map_err(|_| Error::NoConvergence { what })?;
    let mut vectors = vectors.subcols(n - count, count).reverse_cols().to_owned();
    let mut memory =
        MemBuffer::new(apply_block_householder_sequence_on_the_left_in_place_scratch::<T>(n, block, count));
    apply_block_householder_sequence_on_the_left_in_place_with_conj(
        reduced.submatrix(1, 0, n - 1, n - 1),
        reflections.as_ref(),
        Conj::No,
        vectors.as_mut().subrows_mut(1, n - 1),
        Par::Seq,
        MemStack::new(&mut memory),
    );
    Ok(vectors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Stream, dense};

    /// A·V = V·diag(λ) with orthonormal V, for any size and count, in both precisions.
    fn agrees<T: Scalar>() {
        for n in [0, 1, 2, 3, 17, 40, 130] {
            let mut stream = Stream::new(5, "eigen");
            let x = Mat::from_fn(n, n + 2, |_, _| T::from_f64(stream.next_normal()));
            let a = dense::product(x.as_ref(), x.transpose());
            for count in [0, 1, n / 2, n] {
                let count = count.min(n);
                let (values, vectors) = symmetric(a.as_ref(), "a").expect("it converges");
                let found = leading(a.as_ref(), count, "a").expect("it converges");
                assert_eq!(found.shape(), (n, count));
                let image = dense::product(a.as_ref(), found.as_ref());
                let largest = if n > 0 { Scalar::to_f64(values[n - 1]) } else { 0.0 };
                let bound = 100.0 * T::epsilon().to_f64() * (n as f64);
                for j in 0..count {
                    let value = Scalar::to_f64(values[n - 1 - j]);
                    for i in 0..n {
                        let wrong = Scalar::to_f64(image[(i, j)]) - value * Scalar::to_f64(found[(i, j)]);
                        assert!(wrong.abs() <= bound * largest, "{n} {count}: {wrong}");
                    }
                }
                let gram = dense::product(found.transpose(), found.as_ref());
                for i in 0..count {
                    for j in 0..count {
                        let wrong = Scalar::to_f64(gram[(i, j)]) - f64::from(u8::from(i == j));
                        assert!(wrong.abs() <= bound, "{n} {count}: {wrong}");
                    }
                }
                assert_eq!(vectors.shape(), (n, n));
                let alone = super::values(a.as_ref(), "a").expect("it converges");
                for (alone, value) in alone.iter().zip(values.iter()) {
                    assert!((Scalar::to_f64(*alone) - Scalar::to_f64(*value)).abs() <= bound * largest);
                }
            }
        }
    }

    #[test]
    fn leading_vectors_are_those_of_the_whole() {
        agrees::<f32>();
        agrees::<f64>();
    }
}
