//! An orthonormal basis of the range of a tall matrix, in f64.

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::householder::{
    apply_block_householder_sequence_on_the_left_in_place_scratch,
    apply_block_householder_sequence_on_the_left_in_place_with_conj,
};
use faer::linalg::qr::no_pivoting::factor::{qr_in_place, qr_in_place_scratch, recommended_block_size};
use faer::{Conj, Mat, Par};

/// `y = Q·R` with `QᵀQ = I`: Q (m×l, the shape of `y`, m ≥ l) and R (l×l, upper triangular).
///
/// A rank-deficient `y` gives an orthonormal Q all the same, completed by arbitrary directions.
pub(crate) fn factor(y: Mat<f64>) -> (Mat<f64>, Mat<f64>) {
    householder(y)
}

/// Householder QR: always orthonormal, about 4·m·l² flops.
fn householder(mut y: Mat<f64>) -> (Mat<f64>, Mat<f64>) {
    let (m, l) = y.shape();
    if l == 0 {
        return (y, Mat::zeros(0, 0));
    }
    let block = recommended_block_size::<f64>(m, l);
    let mut coefficients = Mat::<f64>::zeros(block, l);
    let mut memory = MemBuffer::new(qr_in_place_scratch::<f64>(m, l, block, Par::Seq, Default::default()));
    qr_in_place(y.as_mut(), coefficients.as_mut(), Par::Seq, MemStack::new(&mut memory), Default::default());
    let r = Mat::from_fn(l, l, |i, j| if i <= j { y[(i, j)] } else { 0.0 });
    let mut q = Mat::<f64>::identity(m, l);
    let mut memory =
        MemBuffer::new(apply_block_householder_sequence_on_the_left_in_place_scratch::<f64>(m, block, l));
    apply_block_householder_sequence_on_the_left_in_place_with_conj(
        y.as_ref(),
        coefficients.as_ref(),
        Conj::No,
        q.as_mut(),
        Par::Seq,
        MemStack::new(&mut memory),
    );
    (q, r)
}
