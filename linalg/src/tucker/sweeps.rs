//! Sweeps over the modes of a tensor that raise the norm of its core.
//!
//! ```text
//! for each mode k:   M = unfold_k(T ×_{l≠k} W_lᵀ),   G = M·Mᵀ,   U_k ← the r_k leading eigenvectors of G,
//!                    W_k = orth(U_k + ½·(U_k - U_k°·U_k°ᵀ·U_k))           U° of the sweep before
//! ```
//! The step beyond U_k in the direction it moved in (none in the first sweep and for the last mode) halves the number of
//! sweeps where the spectra are flat; a sweep that does not gain is taken back and done again without it.
//!
//! Where r_k is a small part of a long side, the eigenvectors are not computed from scratch: those of the sweep before
//! are refined by one Rayleigh-Ritz step and a Chebyshev polynomial of degree 3, small where G's other eigenvalues are
//! taken to lie, around their mean, which the traces tell. That is 4 products of G with n_k×r_k, and no less norm gained
//! per sweep.
//!
//! Sources: De Lathauwer, De Moor, Vandewalle, SIAM J. Matrix Anal. Appl. 21, 2000 (the sweeps); Zhou, Saad, Tiago,
//! Chelikowsky, *Self-consistent-field calculations using Chebyshev-filtered subspace iteration*, J. Comput. Phys. 219,
//! 2006 (the polynomial).

use alloc::vec::Vec;

use faer::{Mat, MatMut, MatRef};

use super::Factors;
use super::array::Array;
use crate::svd::orthonormal;
use crate::{Error, Scalar, dense, eigen};

/// How far beyond a factor the next is looked for.
const BEYOND: f64 = 0.5;

/// Sides up to which all eigenvectors are computed in every sweep.
const SHORT: usize = 64;

/// The modes with a factor, and what each sweep needs of them.
pub(super) struct Sweeps<T> {
    modes: Vec<Mode<T>>,
    /// Whether unfoldings are decomposed themselves, not their Gram matrices.
    direct: bool,
    /// The first product of a mode, reused.
    buffer: Array<T>,
}

struct Mode<T> {
    mode: usize,
    factor: Mat<T>,
    /// The factor of the sweep before.
    before: Option<Mat<T>>,
    /// T with this mode first, then those without a factor, then the others, from the last to be multiplied to the first.
    tensor: Array<T>,
}

impl<T: Scalar> Sweeps<T> {
    pub(super) fn new(tensor: &Array<T>, factors: &Factors, direct: bool) -> Self {
        let with: Vec<(usize, &Mat<f64>)> =
            factors.iter().enumerate().filter_map(|(mode, factor)| Some((mode, factor.as_ref()?))).collect();
        let without = (0..factors.len()).filter(|mode| with.iter().all(|with| with.0 != *mode));
        let modes = with.iter().enumerate().map(|(at, &(mode, factor))| {
            let (up_to, after) = with.split_at(at + 1);
            let others = up_to.iter().take(at).rev().chain(after.iter().rev()).map(|with| with.0);
            let order: Vec<usize> = core::iter::once(mode).chain(without.clone()).chain(others).collect();
            Mode {
                mode,
                factor: dense::convert(factor.as_ref(), 1.0),
                before: None,
                tensor: tensor.permuted(&order),
            }
        });
        Self { modes: modes.collect(), direct, buffer: Array { shape: Vec::new(), values: Vec::new() } }
    }

    /// Up to `most` sweeps, from a core of squared norm `start`, until one gains no more than `gain`, but at least
    /// `rounding`; returns how many were kept.
    pub(super) fn run(&mut self, start: f64, most: u32, gain: f64, rounding: f64) -> Result<u32, Error> {
        let (mut norm, mut kept, mut beyond) = (start, 0, false);
        for _ in 0..most {
            let (factors, reached) = self.sweep(beyond)?;
            let gained = reached - norm;
            if gained.is_nan() || gained <= rounding {
                if !beyond {
                    break;
                }
                // Once more, without going beyond.
                beyond = false;
                continue;
            }
            for (mode, factor) in self.modes.iter_mut().zip(factors) {
                mode.before = Some(core::mem::replace(&mut mode.factor, factor));
            }
            (norm, kept, beyond) = (reached, kept + 1, true);
            if gained <= gain {
                break;
            }
        }
        Ok(kept)
    }

    /// The factors, orthonormal in double precision.
    pub(super) fn factors(self, modes: usize) -> Factors {
        let mut factors: Factors = (0..modes).map(|_| None).collect();
        for mode in self.modes {
            if let Some(slot) = factors.get_mut(mode.mode) {
                *slot = Some(in_double(mode.factor.as_ref()));
            }
        }
        factors
    }

    /// The factors after one sweep and the squared norm of their core.
    fn sweep(&mut self, beyond: bool) -> Result<(Vec<Mat<T>>, f64), Error> {
        let count = self.modes.len();
        let mut factors = Vec::with_capacity(count);
        for mode in &self.modes {
            let factor = match &mode.before {
                Some(before) if beyond && !factors.is_empty() => farther(&mode.factor, before),
                _ => mode.factor.clone(),
            };
            factors.push(factor);
        }
        let mut reached = 0.0;
        for (at, mode) in self.modes.iter().enumerate() {
            let side = mode.factor.nrows();
            let others = (1..count).filter_map(|step| factors.get((at + step) % count));
            let unfolded = project(&mode.tensor, others, &mut self.buffer)?;
            let unfolded =
                MatRef::from_row_major_slice(unfolded, side, unfolded.len().checked_div(side).unwrap_or(0));
            let rank = mode.factor.ncols();
            let last = at + 1 == count;
            let found;
            if self.direct {
                found = dense::convert(
                    super::left_vectors(dense::convert(unfolded, 1.0).as_ref())?.1.subcols(0, rank),
                    1.0,
                );
                if last {
                    reached =
                        dense::norm_squared(dense::product(unfolded.transpose(), found.as_ref()).as_ref());
                }
            } else {
                let mut gram = Mat::<T>::zeros(side, side);
                dense::add_gram_lower(gram.as_mut(), unfolded.transpose(), T::from_f64(1.0));
                dense::mirror_lower(&mut gram);
                found = leading(&gram, &mode.factor)?;
                if last {
                    reached = trace_of_product(
                        found.as_ref(),
                        dense::product(gram.as_ref(), found.as_ref()).as_ref(),
                    );
                }
            }
            let next = if beyond && !last { farther(&found, &mode.factor) } else { found };
            if let Some(slot) = factors.get_mut(at) {
                *slot = next;
            }
        }
        Ok((factors, reached))
    }
}

/// Near orthonormal columns, made so in double precision.
pub(super) fn in_double<T: Scalar>(factor: MatRef<'_, T>) -> Mat<f64> {
    orthonormal::basis(dense::convert(factor, 1.0))
}

/// Multiplies the modes at the end by the transpose of each factor, from the last on.
fn project<'a, T: Scalar>(
    tensor: &'a Array<T>,
    mut factors: impl Iterator<Item = &'a Mat<T>>,
    buffer: &'a mut Array<T>,
) -> Result<&'a [T], Error> {
    let Some(factor) = factors.next() else { return Ok(&tensor.values) };
    let (side, rank) = factor.shape();
    let rest = tensor.values.len().checked_div(side).unwrap_or(0);
    buffer.values.resize(rest * rank, T::default());
    buffer.shape.clone_from(&tensor.shape);
    let mut mode = tensor.shape.len().saturating_sub(1);
    if let Some(last) = buffer.shape.get_mut(mode) {
        *last = rank;
    }
    // The layouts that the product reads and writes fastest.
    let factor = factor.transpose().to_owned();
    let target = MatMut::from_row_major_slice_mut(&mut buffer.values[..], rest, rank);
    dense::product_into(target, MatRef::from_row_major_slice(&tensor.values, rest, side), factor.transpose());
    for factor in factors {
        mode = mode.saturating_sub(1);
        *buffer = buffer.times(mode, factor.transpose())?;
    }
    Ok(&buffer.values)
}

/// An orthonormal basis beyond that of `new`, as seen from `old`.
fn farther<T: Scalar>(new: &Mat<T>, old: &Mat<T>) -> Mat<T> {
    let shared = dense::product(old.transpose(), new.as_ref());
    let mut moved = new.clone();
    dense::subtract_product(moved.as_mut(), old.as_ref(), shared.as_ref());
    let beyond = T::from_f64(BEYOND);
    for (moved, new) in moved.col_iter_mut().zip(new.col_iter()) {
        for (moved, &new) in moved.iter_mut().zip(new.iter()) {
            *moved = new + *moved * beyond;
        }
    }
    orthonormal::basis(moved)
}

/// As many leading eigenvectors of `gram` as `start` has columns, which are near them.
fn leading<T: Scalar>(gram: &Mat<T>, start: &Mat<T>) -> Result<Mat<T>, Error> {
    let (side, rank) = start.shape();
    if side > SHORT && 3 * rank <= side {
        let found = refine(gram, start)?;
        if found.col_iter().all(|column| column.iter().all(|&value| num_traits::Float::is_finite(value))) {
            return Ok(found);
        }
    }
    eigen::leading(gram.as_ref(), rank, super::EIGEN)
}

/// Spread of a spectrum that does not need Ritz vectors.
const EVEN: f64 = 16.0;

/// `start`, turned to its Ritz vectors where the spectrum is not even, through a polynomial of `gram` that is small on the rest of its spectrum.
///
/// ```text
/// X₀ = U,   X₁ = (G - c)·U/h,   X_{i+1} = 2·(G - c)·X_i/h - X_{i-1}      small on c - h … c + h, c the mean of the rest
/// ```
fn refine<T: Scalar>(gram: &Mat<T>, start: &Mat<T>) -> Result<Mat<T>, Error> {
    let (side, rank) = start.shape();
    let image = dense::product(gram.as_ref(), start.as_ref());
    let (mut earlier, mut now) = (start.clone(), image);
    let inner = dense::product(earlier.transpose(), now.as_ref());
    let diagonal = || (0..rank).map(|i| inner[(i, i)].to_f64());
    let (smallest, largest) =
        diagonal().fold((f64::INFINITY, 0.0), |(s, l): (f64, f64), x| (s.min(x), l.max(x)));
    let least = if largest <= EVEN * smallest {
        eigen::values(inner.as_ref(), super::EIGEN)?.first().copied().unwrap_or_default().to_f64()
    } else {
        // Each Ritz vector grows by its own factor, which does not make the columns dependent.
        let (values, turn) = eigen::symmetric(inner.as_ref(), super::EIGEN)?;
        earlier = dense::product(earlier.as_ref(), turn.as_ref());
        now = dense::product(now.as_ref(), turn.as_ref());
        values.iter().next().map_or(0.0, |value| Scalar::to_f64(*value))
    };
    let within: f64 = diagonal().sum();
    let trace: f64 = (0..side).map(|i| gram[(i, i)].to_f64()).sum();
    let mean = (trace - within) / (side - rank).max(1) as f64;
    let lowest = (2.0 * mean - least).max(0.0);
    let (centre, half) = ((least + lowest) / 2.0, (least - lowest) / 2.0);
    if half.is_nan() || half <= 1e-3 * least {
        // The start does not stand out from the rest: a plain power.
        now = dense::product(gram.as_ref(), now.as_ref());
        return Ok(orthonormal::basis(now));
    }
    let step = |image: &mut Mat<T>, now: &Mat<T>, before: Option<&Mat<T>>| {
        let factor = if before.is_some() { 2.0 } else { 1.0 } / half;
        let (factor, centre) = (T::from_f64(factor), T::from_f64(centre));
        for (j, (image, now)) in image.col_iter_mut().zip(now.col_iter()).enumerate() {
            match before {
                Some(before) => {
                    for ((image, &now), &before) in image.iter_mut().zip(now.iter()).zip(before.col(j).iter())
                    {
                        *image = factor * (*image - centre * now) - before;
                    }
                }
                None => {
                    for (image, &now) in image.iter_mut().zip(now.iter()) {
                        *image = factor * (*image - centre * now);
                    }
                }
            }
        }
    };
    step(&mut now, &earlier, None);
    for _ in 1..DEGREE {
        let mut next = dense::product(gram.as_ref(), now.as_ref());
        step(&mut next, &now, Some(&earlier));
        earlier = core::mem::replace(&mut now, next);
    }
    Ok(orthonormal::basis(now))
}

/// Degree of the polynomial.
const DEGREE: usize = 3;

/// Σ aᵢⱼ·bᵢⱼ in double precision.
fn trace_of_product<T: Scalar>(a: MatRef<'_, T>, b: MatRef<'_, T>) -> f64 {
    let columns = a.col_iter().zip(b.col_iter());
    columns
        .map(|(a, b)| {
            a.iter().zip(b.iter()).map(|(a, b)| Scalar::to_f64(*a) * Scalar::to_f64(*b)).sum::<f64>()
        })
        .sum()
}
