//! faer's symmetric eigendecomposition, called on the calling thread.

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch};
use faer::{Col, Mat, MatRef, Par};

use crate::Error;

/// Eigenvalues, ascending, and eigenvectors of a symmetric matrix, both halves of which are filled.
///
/// # Errors
/// [`Error::NoConvergence`] naming `what` if faer gives up.
pub(crate) fn symmetric(a: MatRef<'_, f64>, what: &'static str) -> Result<(Col<f64>, Mat<f64>), Error> {
    let n = a.nrows();
    let mut vectors = Mat::<f64>::zeros(n, n);
    let mut values = Col::<f64>::zeros(n);
    if n > 0 {
        let scratch =
            self_adjoint_evd_scratch::<f64>(n, ComputeEigenvectors::Yes, Par::Seq, Default::default());
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
