//! Singular value decompositions truncated to a rank.
//!
//! ```text
//! A ≈ U · diag(σ) · Vᵀ      A: m×n,  U: m×k,  σ: k, descending,  V: n×k,  UᵀU = VᵀV = I
//! ```
//!
//! | function | when | cost |
//! |---|---|---|
//! | [`truncated`] | small sides, or ranks near the smaller side | O(m·n·min(m, n)) |
//! | [`randomized`] | ranks well below both sides | O(m·n·(k + p)·(q + 1)) |
//! | [`krylov`] | the same, nearer to the least error for the same work | about 9·m·n·k flops |
//! | [`to_tolerance`] | the error is given, the rank is not | as [`krylov`] of the rank found |
//! | [`StreamingSvd`] | one pass over rows, constant memory | O(m·n·ℓ) for a sketch of ℓ rows |
//! | [`Svd::append_rows`] | a decomposition and some more rows | O((m + n)·(k + b)·k) |
//! | [`weighted`] | the error that matters is not the Frobenius norm | one of the above + O(m·n²) |
//!
//! All run on the calling thread and return the same bits whatever pool or thread calls them.
//!
//! **Signs.** Singular vectors are fixed by one rule: the entry of largest modulus of each column of `U` (the
//! first one among equals) is positive.

mod krylov;
pub(crate) mod orthonormal;
mod randomized;
mod residual;
mod sketch;
pub(crate) mod small;
mod streaming;
mod tolerance;
mod truncated;
mod update;
mod weighted;

use alloc::vec::Vec;

use faer::reborrow::Reborrow;
use faer::{Mat, MatRef};

use crate::{Error, Scalar, dense};

pub use krylov::{KrylovOptions, krylov};
pub use randomized::{RandomizedOptions, randomized};
pub use sketch::Sketch;
pub use streaming::{Streamed, StreamingSvd};
pub use tolerance::to_tolerance;
pub use truncated::{singular_values, truncated};
pub use weighted::{weighted, weighted_both};

/// A singular value decomposition truncated to a rank `k`.
#[derive(Debug, Clone)]
pub struct Svd<T> {
    /// Left singular vectors, m×k, orthonormal columns.
    pub u: Mat<T>,
    /// The k singular values, descending.
    pub singular_values: Vec<T>,
    /// Right singular vectors, n×k, orthonormal columns.
    pub v: Mat<T>,
    /// How it was found and what it leaves.
    pub info: SvdInfo,
}

/// What a decomposition did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SvdInfo {
    /// The algorithm that ran.
    pub method: SvdMethod,
    /// Power iterations done (0 for the exact algorithm).
    pub power_iterations: usize,
    /// Columns of the sketch beyond the rank (0 for the exact algorithm).
    pub oversampling: usize,
    /// ‖A − U·diag(σ)·Vᵀ‖, Frobenius norm.
    pub residual: f64,
    /// ‖A‖, Frobenius norm.
    pub norm: f64,
}

/// The algorithm behind a decomposition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SvdMethod {
    /// Exact, by bidiagonalization.
    Truncated,
    /// A sketch with power iterations.
    Randomized,
    /// A block Krylov space.
    Krylov,
    /// Rows appended to another decomposition.
    Updated,
}

/// Two factors whose product approximates a matrix.
#[derive(Debug, Clone)]
pub struct Factors<T> {
    /// m×r.
    pub left: Mat<T>,
    /// r×n.
    pub right: Mat<T>,
}

/// How [`best_rank`] and [`weighted`] decompose.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Method {
    /// Always [`truncated`].
    Truncated,
    /// Always [`randomized`].
    Randomized(RandomizedOptions),
    /// [`truncated`] where it is about as fast (smaller side up to 64, or a sketch wider than a third of it),
    /// else [`randomized`].
    Auto(RandomizedOptions),
}

impl Default for Method {
    fn default() -> Self {
        Self::Auto(RandomizedOptions::default())
    }
}

/// Best approximation of a rank, by the chosen method.
///
/// # Errors
/// Those of [`truncated`] and [`randomized`].
pub fn best_rank<T: Scalar>(a: MatRef<'_, T>, rank: usize, method: &Method) -> Result<Svd<T>, Error> {
    match method {
        Method::Truncated => truncated(a, rank),
        Method::Randomized(options) => randomized(a, rank, options),
        Method::Auto(options) => {
            let side = a.nrows().min(a.ncols());
            if side <= 64 || rank.saturating_add(options.oversampling) > side / 3 {
                truncated(a, rank)
            } else {
                randomized(a, rank, options)
            }
        }
    }
}

impl<T: Scalar> Svd<T> {
    /// The number of singular values kept.
    pub fn rank(&self) -> usize {
        self.singular_values.len()
    }

    /// U·diag(σ)·Vᵀ, m×n. O(m·n·k).
    pub fn reconstruct(&self) -> Mat<T> {
        let scaled = scale_columns(self.u.as_ref(), self.singular_values.iter().copied());
        dense::product(scaled.as_ref(), self.v.transpose())
    }

    /// The two factors of equal norm:
    ///
    /// ```text
    /// left = U·diag(√σ)   m×k        right = diag(√σ)·Vᵀ   k×n
    /// ```
    pub fn balanced(&self) -> Factors<T> {
        let roots = || self.singular_values.iter().map(|s| num_traits::Float::sqrt(*s));
        let left = scale_columns(self.u.as_ref(), roots());
        let right = scale_columns(self.v.as_ref(), roots()).transpose().to_owned();
        Factors { left, right }
    }
}

impl<T: Scalar> Factors<T> {
    /// left·right, m×n.
    pub fn product(&self) -> Mat<T> {
        dense::product(self.left.as_ref(), self.right.as_ref())
    }

    /// The inner dimension.
    pub fn rank(&self) -> usize {
        self.left.ncols()
    }
}

/// `a·diag(factors)`.
fn scale_columns<T: Scalar>(a: MatRef<'_, T>, factors: impl Iterator<Item = T>) -> Mat<T> {
    let mut out = a.to_owned();
    for (column, factor) in out.col_iter_mut().zip(factors) {
        for value in column.iter_mut() {
            *value *= factor;
        }
    }
    out
}

/// Checks a rank against a shape.
fn check_rank<T>(a: MatRef<'_, T>, rank: usize) -> Result<(), Error> {
    let max = a.nrows().min(a.ncols());
    if rank > max { Err(Error::RankOutOfRange { rank, max }) } else { Ok(()) }
}

/// Makes the entry of largest modulus of each column of `u` positive, and flips `v` with it.
fn fix_signs<T: Scalar>(u: &mut Mat<T>, v: &mut Mat<T>) {
    for (u, v) in u.col_iter_mut().zip(v.col_iter_mut()) {
        let mut largest = T::default();
        for &value in u.rb().iter() {
            if num_traits::Float::abs(value) > num_traits::Float::abs(largest) {
                largest = value;
            }
        }
        if largest < T::default() {
            for value in u.iter_mut().chain(v.iter_mut()) {
                *value = -*value;
            }
        }
    }
}

/// A matrix brought to a scale near 1, so that no square leaves the range of its numbers.
struct Scaled<'a, T> {
    /// A·2⁻ᵉ.
    a: MatRef<'a, T>,
    /// 2ᵉ.
    factor: f64,
    /// ‖A·2⁻ᵉ‖².
    norm_squared: f64,
}

impl<'a, T: Scalar> Scaled<'a, T> {
    /// `storage` holds the copy where one is needed.
    ///
    /// # Errors
    /// [`Error::NonFinite`] for a NaN or infinity.
    fn new(a: MatRef<'a, T>, storage: &'a mut Option<Mat<T>>) -> Result<Self, Error> {
        let exponent = dense::scale_exponent::<T>(dense::largest_modulus(a, "matrix")?);
        let a = dense::prepared(a, exponent, storage);
        Ok(Self { a, factor: dense::power_of_two(exponent), norm_squared: dense::norm_squared(a) })
    }
}

/// The decomposition of rank 0, or of an empty matrix.
fn nothing<T: Scalar>(a: MatRef<'_, T>, method: SvdMethod, norm: f64) -> Svd<T> {
    Svd {
        u: Mat::zeros(a.nrows(), 0),
        singular_values: Vec::new(),
        v: Mat::zeros(a.ncols(), 0),
        info: SvdInfo { method, power_iterations: 0, oversampling: 0, residual: norm, norm },
    }
}

/// Converts singular values of `A·2⁻ᵉ` to those of `A`.
///
/// # Errors
/// [`Error::NonFinite`] if one exceeds the range of `T` (its index is the row and column).
fn unscale_values<T: Scalar>(values: impl Iterator<Item = f64>, factor: f64) -> Result<Vec<T>, Error> {
    values
        .enumerate()
        .map(|(index, value)| {
            let value = T::from_f64(value * factor);
            if num_traits::Float::is_finite(value) {
                Ok(value)
            } else {
                Err(Error::NonFinite { what: "singular values", row: index, col: index })
            }
        })
        .collect()
}
