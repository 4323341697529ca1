//! The block Krylov decomposition: small blocks, all of whose powers are kept.

use faer::reborrow::{Reborrow, ReborrowMut};
use faer::{Mat, MatRef};

use super::orthonormal::{Basis, rounding};
use super::{
    Scaled, Sketch, Svd, SvdInfo, SvdMethod, check_rank, fix_signs, nothing, residual, sketch, small,
    unscale_values,
};
use crate::{Error, Scalar, Stream, dense};

/// Options of [`krylov`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KrylovOptions {
    /// Columns b of a block; `None`: a quarter of the rank, between 8 and 32.
    pub block: Option<usize>,
    /// Columns d of the whole basis, at least the rank and at most the smaller side (else clamped); `None`:
    /// the larger of 9/4 of the rank and the rank plus six blocks.
    pub basis: Option<usize>,
    /// The first block's random matrix.
    pub sketch: Sketch,
    /// Its seed: the same seed gives the same bits.
    pub seed: u64,
}

impl KrylovOptions {
    pub(super) fn block(&self, rank: usize) -> usize {
        self.block.unwrap_or_else(|| rank.div_ceil(32).saturating_mul(8).clamp(8, 32)).max(1)
    }

    /// Columns of the basis for blocks of `block`.
    pub(super) fn basis(&self, rank: usize, block: usize) -> usize {
        let automatic = || (rank.saturating_mul(9) / 4).max(rank.saturating_add(6 * block.min(32)));
        self.basis.unwrap_or_else(automatic).max(rank)
    }
}

/// A near-best approximation of rank `rank` from a block Krylov space.
///
/// ```text
/// 1  Q₁ = orth(A·Ω)                            Ω: n×b     (A: m×n with m ≥ n; a wide A is decomposed as Aᵀ)
/// 2  P₁ … P_j R_j = Aᵀ·Q_j                     orthonormalized against all P before
/// 3  Q₁ … Q_(j+1) · = A·P_j                    orthonormalized against all Q before; again from 2 until d columns
/// 4  QᵀA = Rᵀ·Pᵀ,   Rᵀ = U′ Σ V′ᵀ              d×d, exact
/// 5  U = Q·U′, V = P·V′, cut to k
/// ```
/// The span of Q is that of `A·Ω, (AAᵀ)·A·Ω, (AAᵀ)²·A·Ω, …`: what [`randomized`](super::randomized) computes with as
/// many power iterations, and all it throws away. At equal products this finds much more: with the spectrum
/// `σᵢ = i^-½` of a 4096² matrix, rank 128 and the default options cost 640 products with a vector and leave an
/// error 1.0001 times the least; two power iterations with p = 10 cost 828 and leave 1.008 times it.
///
/// Cost: 4·m·n·d flops of products of A with blocks, 4·(m + n)·d² for the bases, O(d³). Memory (m + n)·d numbers, and no
/// copy of A unless it has no unit stride or an extreme scale.
///
/// **Repeated singular values**: a Krylov space of block b holds b directions of an eigenspace. A dominant singular value
/// repeated more than b times *exactly*, above others that differ, needs a larger block; `block ≥ rank` and `basis ≥ 3·rank`
/// is at least as good as one power iteration on any matrix. `info.residual` is what really remains.
///
/// Sources: C. Musco, C. Musco, *Randomized block Krylov methods for stronger and faster approximate singular value
/// decomposition* (arXiv:1504.05477), algorithm 2; R. Meyer, C. Musco, C. Musco, *On the unreasonable effectiveness of
/// single vector Krylov methods for low-rank approximation* (arXiv:2305.02535), for small blocks. Deviation: the basis is
/// orthonormalized as it grows (block Golub-Kahan with full reorthogonalization), so that single precision is enough.
///
/// `a` may have any shape and strides; rank 0 gives empty factors.
///
/// # Errors
/// As [`randomized`](super::randomized).
pub fn krylov<T: Scalar>(a: MatRef<'_, T>, rank: usize, options: &KrylovOptions) -> Result<Svd<T>, Error> {
    check_rank(a, rank)?;
    let mut storage = None;
    let Scaled { a: scaled, factor, norm_squared } = Scaled::new(a, &mut storage)?;
    if rank == 0 {
        return Ok(nothing(a, SvdMethod::Krylov, libm::sqrt(norm_squared) * factor));
    }
    let block = options.block(rank);
    let mut space = Space::new(scaled, block, options.basis(rank, block), options.sketch, options.seed);
    while space.grow() {}
    space.decompose(|_| rank, norm_squared, factor)
}

/// A growing pair of bases with `QᵀA = Rᵀ·Pᵀ`.
pub(super) struct Space<'a, T> {
    /// The matrix as given; `tall` is it or its transpose.
    scaled: MatRef<'a, T>,
    tall: MatRef<'a, T>,
    block: usize,
    sketch: Sketch,
    seed: u64,
    left: Basis<T>,
    right: Basis<T>,
    /// R, d×d, upper triangular in blocks; the first `done` columns are filled.
    r: Mat<f64>,
    done: usize,
    /// Columns of the last block of `right`.
    last: usize,
}

impl<'a, T: Scalar> Space<'a, T> {
    /// A space of at most `width` columns, none of them computed yet.
    pub(super) fn new(scaled: MatRef<'a, T>, block: usize, width: usize, sketch: Sketch, seed: u64) -> Self {
        let tall = if scaled.nrows() < scaled.ncols() { scaled.transpose() } else { scaled };
        let width = width.min(tall.ncols());
        Self {
            scaled,
            tall,
            block: block.min(width),
            sketch,
            seed,
            left: Basis::new(tall.nrows(), width),
            right: Basis::new(tall.ncols(), width),
            r: Mat::zeros(width, width),
            done: 0,
            last: 0,
        }
    }

    /// Columns so far.
    pub(super) fn width(&self) -> usize {
        self.done
    }

    /// Room for up to `width` columns.
    pub(super) fn reserve(&mut self, width: usize) {
        let width = width.min(self.tall.ncols());
        if width > self.r.ncols() {
            self.left.reserve(width);
            self.right.reserve(width);
            self.r.resize_with(width, width, |_, _| 0.0);
        }
    }

    /// One block more; false where there is no room.
    pub(super) fn grow(&mut self) -> bool {
        let width = self.block.min(self.r.ncols() - self.done);
        if width == 0 {
            return false;
        }
        // The three-term recurrence of Golub and Kahan removes almost all of what a block has in common with the basis;
        // the bases then only remove rounding.
        let mut scale = 0.0;
        let start = self.done - self.last;
        let known = self.last.min(width);
        let mut y = if self.done == 0 {
            self.sketch.apply(self.tall, width, self.seed)
        } else {
            // Columns beyond the last block are zero: fresh ones replace them.
            let mut y = Mat::<T>::zeros(self.tall.nrows(), width);
            let mut target = y.as_mut().subcols_mut(0, known);
            dense::product_into(target.rb_mut(), self.tall, self.right.block(start, known));
            scale = libm::sqrt(dense::norm_squared(target.rb()));
            let shared: Mat<T> =
                dense::convert(self.r.submatrix(start, start, known, self.last).transpose(), 1.0);
            dense::subtract_product(target, self.left.block(start, self.last), shared.as_ref());
            y
        };
        // Where the space has run dry, from another start: the basis is whole once its width is that of A.
        let (tall, rows) = (self.tall, self.tall.ncols());
        let fresh = |stream: &mut Stream| dense::product(tall, sketch::gaussian(rows, 1, stream).as_ref());
        // A direction that is mostly rounding may lie outside A's range; none is needed for QᵀA = Rᵀ·Pᵀ.
        let negligible = libm::sqrt(T::epsilon().to_f64());
        let new = self.left.append(&mut y, (scale, negligible), fresh);
        let mut z = dense::product(self.tall.transpose(), self.left.block(self.done, width));
        scale = libm::sqrt(dense::norm_squared(z.as_ref()));
        let shared = new.submatrix(self.done, 0, width, known).transpose();
        if known > 0 {
            let shared: Mat<T> = dense::convert(shared, 1.0);
            dense::subtract_product(z.as_mut(), self.right.block(start, known), shared.as_ref());
        }
        let mut coefficients =
            self.right.append(&mut z, (scale, rounding::<T>()), |stream| sketch::gaussian(rows, 1, stream));
        let mut part = coefficients.as_mut().subrows_mut(start, known);
        part += shared;
        let end = self.done + width;
        self.r.as_mut().submatrix_mut(0, self.done, end, width).copy_from(&coefficients);
        (self.done, self.last) = (end, width);
        true
    }

    /// R.
    pub(super) fn triangle(&self) -> MatRef<'_, f64> {
        self.r.submatrix(0, 0, self.done, self.done)
    }

    /// ‖A − Q·QᵀA‖², of which the difference ‖A‖² − ‖R‖² is the cheap form and the product the safe one.
    pub(super) fn left_over(&self, norm_squared: f64) -> f64 {
        residual::of_projection(self.tall, norm_squared, self.left.view(), self.triangle(), self.right.view())
    }

    /// The decomposition of the rank that `choose` takes from the singular values of R, for a matrix that was scaled
    /// by `1/factor`.
    pub(super) fn decompose(
        &self,
        choose: impl FnOnce(&[f64]) -> usize,
        norm_squared: f64,
        factor: f64,
    ) -> Result<Svd<T>, Error> {
        let small = small::thin(self.triangle().transpose(), true)?;
        let rank = choose(&small.values).min(self.done);
        let narrow = |basis: &Basis<T>, small: &Mat<f64>| {
            let small = dense::convert(small.subcols(0, rank), 1.0);
            dense::product(basis.view(), small.as_ref())
        };
        let (mut u, mut v) = (narrow(&self.left, &small.u), narrow(&self.right, &small.v));
        if self.scaled.nrows() < self.scaled.ncols() {
            core::mem::swap(&mut u, &mut v);
        }
        fix_signs(&mut u, &mut v);
        let values = || small.values.iter().take(rank).copied();
        let singular_values = unscale_values(values(), factor)?;
        let residual = libm::sqrt(residual::squared(self.scaled, norm_squared, &u, values(), &v));
        let info = SvdInfo {
            method: SvdMethod::Krylov,
            power_iterations: self.done.div_ceil(self.block.max(1)).saturating_sub(1),
            oversampling: self.done - rank,
            residual: residual * factor,
            norm: libm::sqrt(norm_squared) * factor,
        };
        Ok(Svd { u, singular_values, v, info })
    }
}
