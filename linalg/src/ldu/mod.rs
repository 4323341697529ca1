//! LDU: a matrix as lower triangle times diagonal times upper triangle, whole or cut to a rank.
//!
//! ```text
//! P·A·Q = L·D·U      A: m×n,  L: m×r unit lower,  D: r,  U: r×n unit upper;  P, Q permutations
//! ```
//! | [`Pivoting`] | pivot of a step: the largest modulus of | bounds | cost |
//! |---|---|---|---|
//! | partial | the first column | abs(L) ≤ 1 | (m·n − (m + n)·r/2 + r²/3)·2r flops, nearly all in products of matrices |
//! | rook | its own row and column | abs(L), abs(U) ≤ 1 | the same, and a few rows and columns a step, formed apart |
//! | complete | all that is left | abs(L), abs(U) ≤ 1, least growth | r passes over what is left, vectorized: several times as long |
//!
//! Partial pivoting takes columns in order, Q = I, but for columns that vanish: those go last, since D·U could not hold
//! the rest of their row.
//!
//! **Cut to a rank** r the factors are those of the first r steps, as LoLDU takes them. What they leave is the Schur
//! complement S, zero in the rows and columns of pivots: `‖A − Pᵀ·L·D·U·Qᵀ‖ = ‖S‖`, returned. Pivots come in no order of
//! importance: with partial pivoting ‖S‖ may exceed the best approximation's error, and even ‖A‖. Complete pivoting
//! reveals the rank of most matrices.
//!
//! **Accuracy**, entry by entry, u half the distance from 1 to the next number:
//! ```text
//! |P·A·Q − L·D·U − S| ≤ γ·|L|·|D|·|U|      γ = K·u/(1 − K·u),  K = r + 2
//! ```
//! Source: N. J. Higham, *Accuracy and Stability of Numerical Algorithms* (2002), theorem 9.3, and sections 9.1 and 9.4
//! for the pivoting strategies; L. V. Foster, *The growth factor and efficiency of Gaussian elimination with rook
//! pivoting* (1997).

mod kernel;
mod partial;
mod search;

use alloc::{vec, vec::Vec};

use faer::reborrow::{Reborrow, ReborrowMut};
use faer::{Mat, MatRef};

pub(crate) use kernel::Combine;

use crate::{Error, Factors, Scalar, dense};

/// Where the pivots of [`ldu`] come from; see the [module](self).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pivoting {
    /// The largest modulus of the next column.
    #[default]
    Partial,
    /// The largest modulus of both its row and its column.
    Rook,
    /// The largest modulus of all that is left.
    Complete,
}

/// Options of [`ldu`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LduOptions {
    /// Where pivots come from.
    pub pivoting: Pivoting,
    /// Steps r, at most min(m, n); `None` for all.
    pub rank: Option<usize>,
}

/// What [`ldu`] found.
#[derive(Debug, Clone)]
pub struct Ldu<T> {
    /// m×r: L below the diagonal, U above.
    left: Mat<T>,
    /// r×(n − r): the other columns of U.
    right: Mat<T>,
    diagonal: Vec<T>,
    row_order: Vec<usize>,
    column_order: Vec<usize>,
    /// How it went.
    pub info: LduInfo,
}

/// How an elimination went.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LduInfo {
    /// ‖A − Pᵀ·L·D·U·Qᵀ‖, Frobenius norm of the Schur complement; 0 when nothing is left.
    pub residual: f64,
    /// Largest modulus of D·U over that of A: the growth that the error bounds hang on. 1 for an empty or zero matrix.
    pub growth: f64,
    /// Whether any column changed its place.
    pub columns_exchanged: bool,
}

/// P·A·Q = L·D·U; see the [module](self).
///
/// `a` may have any shape and strides. Matrices far from 1 are scaled by a power of two first, so that entries like
/// 1e±150 do no harm. The rank of the result is that asked for, or less when what remains is exactly zero.
///
/// ```
/// use rankbit_linalg::faer::mat;
/// use rankbit_linalg::{LduOptions, ldu};
/// let a = mat![[2.0, 1.0], [4.0, 8.0]];
/// let found = ldu(a.as_ref(), &LduOptions::default())?;
/// assert_eq!(found.row_order(), [1, 0]);
/// assert_eq!(found.diagonal(), [4.0, -3.0]);
/// assert_eq!((found.lower()[(1, 0)], found.upper()[(0, 1)]), (0.5, 2.0));
/// # Ok::<(), rankbit_linalg::Error>(())
/// ```
///
/// # Errors
/// [`Error::RankOutOfRange`] if more than min(m, n) steps are asked for; [`Error::NonFinite`] for NaN or infinite
/// entries, or (as `diagonal`) when the elimination leaves the range of `T`.
pub fn ldu<T: Scalar>(a: MatRef<'_, T>, options: &LduOptions) -> Result<Ldu<T>, Error> {
    let (rows, columns) = a.shape();
    let max = rows.min(columns);
    let steps = options.rank.unwrap_or(max);
    if steps > max {
        return Err(Error::RankOutOfRange { rank: steps, max });
    }
    let largest = dense::largest_modulus(a, "matrix")?;
    let exponent = dense::scale_exponent::<T>(largest);
    let mut work = copy(a, exponent);
    let mut quick = None;
    if options.pivoting == Pivoting::Partial {
        quick = partially(&mut work, steps);
        if quick.is_none() {
            work = copy(a, exponent);
        }
    }
    let done = match quick {
        Some(done) => done,
        None => {
            let eliminated = search::eliminate(&mut work, steps, options.pivoting);
            let (diagonal, growth, _) = divide_rows(&mut work, eliminated.rank);
            Done { eliminated, diagonal, growth }
        }
    };
    finish(work, done, largest, exponent)
}

/// A factorization in place.
struct Done<T> {
    eliminated: search::Eliminated,
    diagonal: Vec<T>,
    /// Largest modulus of D·U.
    growth: f64,
}

/// By partial pivoting, unless a column vanishes or U overflows.
fn partially<T: Scalar>(work: &mut Mat<T>, steps: usize) -> Option<Done<T>> {
    let (rows, columns) = work.shape();
    let mut swaps = vec![0; steps];
    let (mut left, right) = work.as_mut().split_at_col_mut(steps);
    if !partial::eliminate(left.rb_mut(), &mut swaps) {
        return None;
    }
    partial::reduce(left.rb(), right, &swaps);
    let (diagonal, growth, finite) = divide_rows(work, steps);
    if !finite {
        return None;
    }
    let mut row_order: Vec<usize> = (0..rows).collect();
    for (row, other) in swaps.into_iter().enumerate() {
        row_order.swap(row, other);
    }
    let column_order = (0..columns).collect();
    Some(Done { eliminated: search::Eliminated { rank: steps, row_order, column_order }, diagonal, growth })
}

/// `a·2⁻ᵉ` by columns whose distance is an odd number of cache lines: a power of two would put all of a row into a few
/// sets of the cache.
fn copy<T: Scalar>(a: MatRef<'_, T>, exponent: i32) -> Mat<T> {
    const LINE: usize = 64;
    let line = LINE / size_of::<T>();
    let lines = a.nrows().div_ceil(line) | 1;
    let mut work = Mat::with_capacity(lines.saturating_mul(line), a.ncols());
    work.resize_with(a.nrows(), a.ncols(), |_, _| T::default());
    if exponent == 0 && a.row_stride() == 1 {
        work.copy_from(a);
    } else {
        dense::convert_into(work.as_mut(), a, dense::power_of_two(-exponent));
    }
    work
}

/// The first `rank` rows right of the diagonal divided by it: D·U to U. Also D, the largest modulus of D·U, and whether
/// all of U is finite.
fn divide_rows<T: Scalar>(work: &mut Mat<T>, rank: usize) -> (Vec<T>, f64, bool) {
    let diagonal: Vec<T> = (0..rank).map(|i| work[(i, i)]).collect();
    let mut growth = T::default();
    let mut finite = true;
    for c in 0..work.ncols() {
        let column = &mut work.col_as_slice_mut(c)[..rank];
        for (entry, &pivot) in column.iter_mut().zip(diagonal.iter().take(c)) {
            let modulus = num_traits::Float::abs(*entry);
            growth = if modulus > growth { modulus } else { growth };
            *entry /= pivot;
            finite &= num_traits::Float::abs(*entry) <= T::max_value();
        }
    }
    for &pivot in &diagonal {
        let modulus = num_traits::Float::abs(pivot);
        growth = if modulus > growth { modulus } else { growth };
        finite &= modulus <= T::max_value();
    }
    (diagonal, growth.to_f64(), finite)
}

/// Undoes the scaling and parts the factors.
fn finish<T: Scalar>(work: Mat<T>, done: Done<T>, largest: f64, exponent: i32) -> Result<Ldu<T>, Error> {
    let Done { eliminated: search::Eliminated { rank, row_order, column_order }, mut diagonal, growth } =
        done;
    let (rows, columns) = work.shape();
    let scale = dense::power_of_two(exponent);
    // All entries on the way are at most largest + r·growth: none was infinite unless this is.
    let reach = growth * (rank as f64 + 1.0) + largest / scale;
    let mut bad = if reach < 0.25 * T::max_value().to_f64() { None } else { Some(0) };
    for (at, pivot) in diagonal.iter_mut().enumerate() {
        *pivot = T::from_f64(pivot.to_f64() * scale);
        if !num_traits::Float::is_finite(*pivot) {
            bad = bad.or(Some(at));
        }
    }
    if let Some(at) = bad {
        return Err(Error::NonFinite { what: "diagonal", row: at, col: at });
    }
    let rest = work.as_ref().submatrix(rank, rank, rows - rank, columns - rank);
    let info = LduInfo {
        residual: libm::sqrt(dense::norm_squared(rest)) * scale,
        growth: if growth > 0.0 { growth * scale / largest } else { 1.0 },
        columns_exchanged: column_order.iter().enumerate().any(|(at, &column)| at != column),
    };
    let right = work.as_ref().submatrix(0, rank, rank, columns - rank).to_owned();
    let left = if rank == columns { work } else { work.subcols(0, rank).to_owned() };
    Ok(Ldu { left, right, diagonal, row_order, column_order, info })
}

impl<T: Scalar> Ldu<T> {
    /// Steps done: the size of D.
    pub fn rank(&self) -> usize {
        self.diagonal.len()
    }

    /// D, the pivots, in the order they were taken.
    pub fn diagonal(&self) -> &[T] {
        &self.diagonal
    }

    /// P: row i of P·A·Q is row `row_order()[i]` of A.
    pub fn row_order(&self) -> &[usize] {
        &self.row_order
    }

    /// Q: column j of P·A·Q is column `column_order()[j]` of A.
    pub fn column_order(&self) -> &[usize] {
        &self.column_order
    }

    /// L, m×r: ones on the diagonal, zeros above.
    pub fn lower(&self) -> Mat<T> {
        Mat::from_fn(self.left.nrows(), self.rank(), |i, j| self.lower_entry(i, j))
    }

    /// U, r×n: ones on the diagonal, zeros below.
    pub fn upper(&self) -> Mat<T> {
        Mat::from_fn(self.rank(), self.column_order.len(), |i, j| self.upper_entry(i, j))
    }

    /// The factors in the places of A's rows and columns: `left = Pᵀ·L`, m×r, and `right = U·Qᵀ`, r×n, so that
    /// `A ≈ left·diag(D)·right`.
    pub fn factors(&self) -> Factors<T> {
        let mut left = Mat::zeros(self.left.nrows(), self.rank());
        for (i, &row) in self.row_order.iter().enumerate() {
            for j in 0..self.rank() {
                left[(row, j)] = self.lower_entry(i, j);
            }
        }
        let mut right = Mat::zeros(self.rank(), self.column_order.len());
        for (j, &column) in self.column_order.iter().enumerate() {
            for i in 0..self.rank() {
                right[(i, column)] = self.upper_entry(i, j);
            }
        }
        Factors { left, right }
    }

    /// Pᵀ·L·D·U·Qᵀ, m×n. O(m·n·r).
    pub fn reconstruct(&self) -> Mat<T> {
        let Factors { mut left, right } = self.factors();
        for (column, &pivot) in left.col_iter_mut().zip(&self.diagonal) {
            for entry in column.iter_mut() {
                *entry *= pivot;
            }
        }
        dense::product(left.rb(), right.rb())
    }

    fn lower_entry(&self, i: usize, j: usize) -> T {
        match i.cmp(&j) {
            core::cmp::Ordering::Less => T::default(),
            core::cmp::Ordering::Equal => T::from_f64(1.0),
            core::cmp::Ordering::Greater => self.left[(i, j)],
        }
    }

    fn upper_entry(&self, i: usize, j: usize) -> T {
        match i.cmp(&j) {
            core::cmp::Ordering::Greater => T::default(),
            core::cmp::Ordering::Equal => T::from_f64(1.0),
            core::cmp::Ordering::Less if j < self.rank() => self.left[(i, j)],
            core::cmp::Ordering::Less => self.right[(i, j - self.rank())],
        }
    }
}

/// The first entry of modulus `most`.
fn position<T: Scalar>(entries: &[T], most: T) -> usize {
    entries.iter().position(|&entry| num_traits::Float::abs(entry) == most).unwrap_or(0)
}
