//! An orthonormal basis of the range of a tall matrix.

use alloc::vec::Vec;

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt::factor::{cholesky_in_place, cholesky_in_place_scratch};
use faer::linalg::householder::{
    apply_block_householder_sequence_on_the_left_in_place_scratch,
    apply_block_householder_sequence_on_the_left_in_place_with_conj,
};
use faer::linalg::qr::no_pivoting::factor::{qr_in_place, qr_in_place_scratch, recommended_block_size};
use faer::linalg::triangular_solve::solve_lower_triangular_in_place;
use faer::{Conj, Mat, MatRef, Par};

use super::sketch::gaussian;
use crate::{Scalar, Stream, dense};

/// `y = Q·R` with `QᵀQ = I`: Q (m×l, the shape of `y`, m ≥ l) and R (l×l, upper triangular).
///
/// Cholesky's QR, twice: products of matrices only, 6·m·l² flops; Householder's where the columns are nearly
/// dependent. A rank-deficient `y` gives an orthonormal Q all the same, completed by arbitrary directions.
///
/// Source: Y. Yamamoto et al., *Roundoff error analysis of the CholeskyQR2 algorithm* (ETNA 44, 2015).
pub(crate) fn factor<T: Scalar>(y: Mat<T>) -> (Mat<T>, Mat<T>) {
    if y.ncols() > 0
        && let Some((once, first, _)) = cholesky(y.as_ref())
        && let Some((q, second, _)) = cholesky(once.as_ref())
    {
        return (q, dense::product(second.as_ref(), first.as_ref()));
    }
    householder(y)
}

/// Q of [`factor`] alone, in one pass where that is enough: where the least pivot is at least 1/8, orthonormal to about 8
/// roundings.
pub(crate) fn basis<T: Scalar>(y: Mat<T>) -> Mat<T> {
    if y.ncols() == 0 {
        return y;
    }
    match cholesky(y.as_ref()) {
        Some((q, _, least)) if least >= 0.125 => q,
        Some((once, ..)) => cholesky(once.as_ref()).map_or_else(|| householder(y).0, |(q, ..)| q),
        None => householder(y).0,
    }
}

/// One pass of Cholesky's QR, with the least pivot of the Gram matrix of unit columns; `None` where the columns are nearly dependent: where a pivot of the Gram matrix of unit
/// columns is below √ε. The first pass then leaves columns orthonormal to about √ε, and the second to rounding.
fn cholesky<T: Scalar>(y: MatRef<'_, T>) -> Option<(Mat<T>, Mat<T>, f64)> {
    let l = y.ncols();
    let mut gram = Mat::<T>::zeros(l, l);
    dense::add_gram_lower(gram.as_mut(), y, T::from_f64(1.0));
    // Unit columns, so that their scales do not count as dependence.
    let norms: Vec<T> = (0..l).map(|j| num_traits::Float::sqrt(gram[(j, j)])).collect();
    if !norms.iter().all(|&norm| norm > T::default() && num_traits::Float::is_finite(norm)) {
        return None;
    }
    for (j, &outer) in norms.iter().enumerate() {
        for (i, &inner) in norms.iter().enumerate().skip(j) {
            // One after the other: the product of two norms may leave the range of T.
            gram[(i, j)] = gram[(i, j)] / outer / inner;
        }
    }
    let mut memory = MemBuffer::new(cholesky_in_place_scratch::<T>(l, Par::Seq, Default::default()));
    let stack = MemStack::new(&mut memory);
    cholesky_in_place(gram.as_mut(), Default::default(), Par::Seq, stack, Default::default()).ok()?;
    let pivots = (0..l).map(|j| gram[(j, j)].to_f64() * gram[(j, j)].to_f64());
    let least = pivots.fold(1.0, |least, pivot| if pivot >= least { least } else { pivot });
    if least.is_nan() || least < libm::sqrt(T::epsilon().to_f64()) {
        return None;
    }
    // Q = Y·D⁻¹·L⁻ᵀ and R = Lᵀ·D.
    let mut inverse = Mat::<T>::identity(l, l);
    solve_lower_triangular_in_place(gram.as_ref(), inverse.as_mut(), Par::Seq);
    let zero = T::default();
    let right = Mat::from_fn(l, l, |i, j| if i <= j { inverse[(j, i)] / norms[i] } else { zero });
    let r = Mat::from_fn(l, l, |i, j| if i <= j { gram[(j, i)] * norms[j] } else { zero });
    Some((dense::product(y, right.as_ref()), r, least))
}

/// Householder QR: always orthonormal, about 4·m·l² flops.
fn householder<T: Scalar>(mut y: Mat<T>) -> (Mat<T>, Mat<T>) {
    let (m, l) = y.shape();
    if l == 0 {
        return (y, Mat::zeros(0, 0));
    }
    let block = recommended_block_size::<T>(m, l);
    let mut coefficients = Mat::<T>::zeros(block, l);
    let mut memory = MemBuffer::new(qr_in_place_scratch::<T>(m, l, block, Par::Seq, Default::default()));
    qr_in_place(y.as_mut(), coefficients.as_mut(), Par::Seq, MemStack::new(&mut memory), Default::default());
    let r = Mat::from_fn(l, l, |i, j| if i <= j { y[(i, j)] } else { T::default() });
    let mut q = Mat::<T>::identity(m, l);
    let mut memory =
        MemBuffer::new(apply_block_householder_sequence_on_the_left_in_place_scratch::<T>(m, block, l));
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

/// The triangular factor alone: `RᵀR = yᵀy`, min(m, l)×l, upper triangular (trapezoidal where m < l); `y` is spent.
pub(crate) fn triangle(mut y: Mat<f64>) -> Mat<f64> {
    let (m, l) = y.shape();
    let size = m.min(l);
    if size > 0 {
        let block = recommended_block_size::<f64>(m, l);
        let mut coefficients = Mat::<f64>::zeros(block, size);
        let scratch = qr_in_place_scratch::<f64>(m, l, block, Par::Seq, Default::default());
        let mut memory = MemBuffer::new(scratch);
        let stack = MemStack::new(&mut memory);
        qr_in_place(y.as_mut(), coefficients.as_mut(), Par::Seq, stack, Default::default());
    }
    Mat::from_fn(size, l, |i, j| if i <= j { y[(i, j)] } else { 0.0 })
}

/// Orthonormal columns that grow block by block, rounded to `T`.
pub(crate) struct Basis<T> {
    columns: Mat<T>,
    used: usize,
}

/// Projections after which a block is taken as it is.
const PASSES: usize = 5;

/// Share of a number that sums of such numbers may be off by.
pub(crate) fn rounding<T: Scalar>() -> f64 {
    16.0 * T::epsilon().to_f64()
}

/// Share of each column that must survive a projection, or it is projected again: at 1/√2 what is missing to orthogonality
/// does not grow from block to block.
const KEPT: f64 = 0.7;

/// Share of a column that must survive orthogonalization within its block, likewise.
const KEPT_IN_BLOCK: f64 = 0.1;

impl<T: Scalar> Basis<T> {
    /// No columns yet, room for `width` of `rows` entries (`width ≤ rows`).
    pub(crate) fn new(rows: usize, width: usize) -> Self {
        Self { columns: Mat::zeros(rows, width), used: 0 }
    }

    /// The columns so far.
    pub(crate) fn view(&self) -> MatRef<'_, T> {
        self.columns.subcols(0, self.used)
    }

    /// The `width` columns from `first` on.
    pub(crate) fn block(&self, first: usize, width: usize) -> MatRef<'_, T> {
        self.columns.subcols(first, width)
    }

    /// Room for `width` columns.
    pub(crate) fn reserve(&mut self, width: usize) {
        if width > self.columns.ncols() {
            let (rows, used) = (self.columns.nrows(), self.used);
            let mut wider = Mat::<T>::zeros(rows, width);
            wider.as_mut().subcols_mut(0, used).copy_from(self.columns.subcols(0, used));
            self.columns = wider;
        }
    }

    /// Appends an orthonormal basis of the part of `y` that is new, as many columns as `y` has. Where that part is not above
    /// `negligible` times the larger of `scale` and the columns of `y`, what `fresh` draws takes its place, and where that
    /// brings nothing new either, any direction. Returns C ((used + b)×b) with `y = basis·C`, up to what was negligible.
    ///
    /// Block Gram-Schmidt, repeated until no column of the projected block loses much of its length.
    pub(crate) fn append(
        &mut self,
        y: &mut Mat<T>,
        (scale, negligible): (f64, f64),
        fresh: impl Fn(&mut Stream) -> Mat<T>,
    ) -> Mat<f64> {
        let (width, used, rows) = (y.ncols(), self.used, y.nrows());
        let mut coefficients = Mat::<f64>::zeros(used + width, width);
        let mut total = Mat::<f64>::identity(width, width);
        let norms = |y: &Mat<T>| -> Vec<f64> { y.col_iter().map(column_norm).collect() };
        let mut before = norms(y);
        for pass in 0..PASSES {
            if used > 0 {
                let projection = dense::product(self.view().transpose(), y.as_ref());
                dense::subtract_product(y.as_mut(), self.view(), projection.as_ref());
                let projection: Mat<f64> = dense::convert(projection.as_ref(), 1.0);
                let added = dense::product(projection.as_ref(), total.as_ref());
                let mut top = coefficients.as_mut().subrows_mut(0, used);
                top += &added;
            }
            let after = norms(y);
            let (q, mut r) = factor(dense::convert(y.as_ref(), 1.0));
            dense::convert_into(y.as_mut(), q.as_ref(), 1.0);
            let largest = before.iter().copied().fold(if pass == 0 { scale } else { 0.0 }, f64::max);
            let noise = largest * if pass == 0 { negligible } else { rounding::<T>() };
            // Other numbers at each width: what was drawn before lies in the basis now.
            let mut stream = Stream::new(used as u64, if pass == 0 { "svd.fresh" } else { "svd.completion" });
            replace_noise(y, &mut r, noise, || {
                if pass == 0 { fresh(&mut stream) } else { gaussian(rows, 1, &mut stream) }
            });
            total = dense::product(r.as_ref(), total.as_ref());
            // A column may also vanish within the block, which orthogonalization amplifies.
            let kept = before.iter().zip(&after).enumerate().all(|(j, (&before, &after))| {
                before > 0.0 && after >= KEPT * before && r[(j, j)].abs() >= KEPT_IN_BLOCK * before
            });
            if kept {
                break;
            }
            before = norms(y);
        }
        coefficients.as_mut().subrows_mut(used, width).copy_from(&total);
        self.columns.as_mut().subcols_mut(used, width).copy_from(&*y);
        self.used += width;
        coefficients
    }
}

/// Replaces each column of `q` that carries nothing of `q·r` beyond `noise` by a fresh one, of norm 1 where it is not zero:
/// the direction that completed it may lie in the span of earlier columns, exactly.
fn replace_noise<T: Scalar>(q: &mut Mat<T>, r: &mut Mat<f64>, noise: f64, mut fresh: impl FnMut() -> Mat<T>) {
    for j in 0..q.ncols() {
        let row = r.as_mut().row_mut(j);
        if row.as_ref().iter().all(|value| value.abs() <= noise) {
            row.iter_mut().for_each(|value| *value = 0.0);
            let column = fresh();
            let norm = libm::sqrt(dense::norm_squared(column.as_ref()));
            let scale = if norm > 0.0 { 1.0 / norm } else { 0.0 };
            for (value, new) in q.col_mut(j).iter_mut().zip(column.col(0).iter()) {
                *value = T::from_f64(Scalar::to_f64(*new) * scale);
            }
        }
    }
}

fn column_norm<T: Scalar>(column: faer::ColRef<'_, T>) -> f64 {
    libm::sqrt(dense::norm_squared(column.as_mat()))
}
