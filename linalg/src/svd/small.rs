//! faer's SVD, called on the calling thread.

use alloc::vec::Vec;

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::svd::{ComputeSvdVectors, svd, svd_scratch};
use faer::{Col, Mat, MatRef, Par};

use crate::{Error, Scalar};

/// Thin factors of a matrix: all min(m, n) singular triplets, descending.
pub(crate) struct Thin<T> {
    pub(crate) u: Mat<T>,
    pub(crate) values: Vec<T>,
    pub(crate) v: Mat<T>,
}

/// All singular values and, if asked, both sets of thin singular vectors (else they have no columns).
///
/// # Errors
/// [`Error::NoConvergence`] if faer gives up.
pub(crate) fn thin<T: Scalar>(a: MatRef<'_, T>, vectors: bool) -> Result<Thin<T>, Error> {
    let (m, n) = a.shape();
    let size = m.min(n);
    let width = if vectors { size } else { 0 };
    let mut u = Mat::zeros(m, width);
    let mut v = Mat::zeros(n, width);
    let mut values = Col::<T>::zeros(size);
    if size > 0 {
        let compute = if vectors { ComputeSvdVectors::Thin } else { ComputeSvdVectors::No };
        let scratch = svd_scratch::<T>(m, n, compute, compute, Par::Seq, Default::default());
        let mut memory = MemBuffer::new(scratch);
        svd(
            a,
            values.as_diagonal_mut(),
            vectors.then(|| u.as_mut()),
            vectors.then(|| v.as_mut()),
            Par::Seq,
            MemStack::new(&mut memory),
            Default::default(),
        )
        .map_err(|_| Error::NoConvergence { what: "singular value decomposition" })?;
    }
    Ok(Thin { u, values: values.iter().copied().collect(), v })
}
