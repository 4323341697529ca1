//! Tucker's decomposition of a tensor of any order, over all modes or some.
//!
//! ```text
//! T ≈ G ×₁ U₁ ×₂ U₂ … ×_N U_N         T: n₁×…×n_N,  U_k: n_k×r_k with orthonormal columns,  G: r₁×…×r_N
//! unfold_k(T): n_k rows, the other modes in their order as columns
//!
//! HOSVD   U_k = the r_k leading left singular vectors of unfold_k(T),   G = T ×₁ U₁ᵀ … ×_N U_Nᵀ
//! HOOI    again and again for each k: U_k = those of unfold_k(T ×_{l≠k} U_lᵀ)
//! ```
//! With orthonormal factors `‖T - T̂‖² = ‖T‖² - ‖G‖²`. HOSVD's squared error is at most the sum over modes of the tails of
//! their spectra, hence at most N times the least; HOOI's error never rises from there. A mode without a rank keeps its
//! side (no factor): two of four modes make the partial form that compresses a convolution.
//!
//! Sources: De Lathauwer, De Moor, Vandewalle, SIAM J. Matrix Anal. Appl. 21, 2000 (both parts); Kim et al., arXiv
//! 1511.06530 (convolutions).

use alloc::vec;
use alloc::vec::Vec;

use faer::{Mat, MatRef};

use crate::svd::small::thin;
use crate::{Error, Scalar, dense};

/// A tensor, its last side fastest.
#[derive(Clone, PartialEq, Debug)]
pub struct Tensor {
    shape: Vec<usize>,
    values: Vec<f64>,
}

impl Tensor {
    /// A tensor of `shape` from its values in row-major order.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for another number of values; [`Error::NonFinite`].
    pub fn new<T: Scalar>(shape: &[usize], values: &[T]) -> Result<Self, Error> {
        let len = shape.iter().try_fold(1_usize, |product, &side| product.checked_mul(side));
        if len != Some(values.len()) {
            let expected = (1, len.unwrap_or(usize::MAX));
            return Err(Error::ShapeMismatch { what: "tensor", expected, found: (1, values.len()) });
        }
        if let Some(col) = values.iter().position(|value| !Scalar::to_f64(*value).is_finite()) {
            return Err(Error::NonFinite { what: "tensor", row: 0, col });
        }
        Ok(Self {
            shape: shape.to_vec(),
            values: values.iter().map(|value| Scalar::to_f64(*value)).collect(),
        })
    }

    /// Its sides.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Its values in row-major order.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// `‖T‖²`.
    pub fn norm_squared(&self) -> f64 {
        self.values.iter().map(|value| value * value).sum()
    }

    /// Entries before and after a mode.
    fn around(&self, mode: usize) -> (usize, usize) {
        (self.shape.iter().take(mode).product(), self.shape.iter().skip(mode + 1).product())
    }

    /// `unfold_k(T)`.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for a mode that is not there.
    pub fn unfold(&self, mode: usize) -> Result<Mat<f64>, Error> {
        let side = self.side(mode)?;
        let (before, after) = self.around(mode);
        Ok(Mat::from_fn(side, before * after, |i, column| {
            let (b, a) = (column / after.max(1), column % after.max(1));
            self.values[(b * side + i) * after + a]
        }))
    }

    fn side(&self, mode: usize) -> Result<usize, Error> {
        let expected = (1, self.shape.len());
        let missing = Error::ShapeMismatch { what: "mode", expected, found: (1, mode) };
        self.shape.get(mode).copied().ok_or(missing)
    }

    /// `T ×_k A` for `A: r×n_k`.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for a mode that is not there or another width of `a`.
    pub fn times(&self, mode: usize, a: MatRef<'_, f64>) -> Result<Self, Error> {
        let side = self.side(mode)?;
        if a.ncols() != side {
            let (expected, found) = ((a.nrows(), side), a.shape());
            return Err(Error::ShapeMismatch { what: "factor of a mode", expected, found });
        }
        let product = dense::product(a, self.unfold(mode)?.as_ref());
        let (before, after) = self.around(mode);
        let mut shape = self.shape.clone();
        if let Some(changed) = shape.get_mut(mode) {
            *changed = a.nrows();
        }
        let mut values = vec![0.0; before * a.nrows() * after];
        for (b, block) in values.chunks_exact_mut((a.nrows() * after).max(1)).enumerate() {
            for (i, row) in block.chunks_exact_mut(after.max(1)).enumerate() {
                for (k, value) in row.iter_mut().enumerate() {
                    *value = product[(i, b * after + k)];
                }
            }
        }
        Ok(Self { shape, values })
    }
}

/// A decomposed tensor; from [`tucker`].
#[derive(Clone, Debug)]
pub struct Tucker {
    /// G.
    pub core: Tensor,
    /// `U_k`, `None` where a mode keeps its side.
    pub factors: Vec<Option<Mat<f64>>>,
    /// `‖T - T̂‖/‖T‖`; 0/0 = 0.
    pub relative_error: f64,
    /// Sweeps of HOOI that were kept.
    pub sweeps: u32,
}

impl Tucker {
    /// `T̂`.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for factors that do not fit the core, which [`tucker`] does not return.
    pub fn reconstruct(&self) -> Result<Tensor, Error> {
        let mut tensor = self.core.clone();
        for (mode, factor) in self.factors.iter().enumerate() {
            if let Some(factor) = factor {
                tensor = tensor.times(mode, factor.as_ref())?;
            }
        }
        Ok(tensor)
    }
}

/// Decomposes `tensor` with one rank for each mode (`None`: keep the side), HOSVD first, then up to `sweeps` sweeps of
/// HOOI while the error falls; 0 is HOSVD alone.
///
/// Cost a sweep: a thin singular value decomposition of each unfolding.
///
/// # Errors
/// [`Error::ShapeMismatch`] for another number of ranks than modes; [`Error::RankOutOfRange`] for a rank of 0 or above its
/// side; [`Error::NoConvergence`].
pub fn tucker(tensor: &Tensor, ranks: &[Option<usize>], sweeps: u32) -> Result<Tucker, Error> {
    if ranks.len() != tensor.shape.len() {
        let (expected, found) = ((1, tensor.shape.len()), (1, ranks.len()));
        return Err(Error::ShapeMismatch { what: "ranks of a tensor", expected, found });
    }
    for (&side, rank) in tensor.shape.iter().zip(ranks) {
        if let Some(rank) = rank.filter(|&rank| rank == 0 || rank > side) {
            return Err(Error::RankOutOfRange { rank, max: side });
        }
    }
    let mut factors: Vec<Option<Mat<f64>>> = Vec::with_capacity(ranks.len());
    for (mode, rank) in ranks.iter().enumerate() {
        factors.push(rank.map(|rank| leading(tensor.unfold(mode)?.as_ref(), rank)).transpose()?);
    }
    let mut core = project(tensor, &factors, None)?;
    let mut kept = 0;
    for _ in 0..sweeps {
        let mut tried = factors.clone();
        for (mode, rank) in ranks.iter().enumerate() {
            let Some(rank) = *rank else { continue };
            let others = project(tensor, &tried, Some(mode))?;
            if let Some(slot) = tried.get_mut(mode) {
                *slot = Some(leading(others.unfold(mode)?.as_ref(), rank)?);
            }
        }
        let found = project(tensor, &tried, None)?;
        if found.norm_squared() <= core.norm_squared() * (1.0 + 1e-12) {
            break;
        }
        (core, factors, kept) = (found, tried, kept + 1);
    }
    let norm = tensor.norm_squared();
    let mut result = Tucker { core, factors, relative_error: 0.0, sweeps: kept };
    let reconstructed = result.reconstruct()?;
    let gap: f64 = tensor.values.iter().zip(&reconstructed.values).map(|(a, b)| (a - b) * (a - b)).sum();
    result.relative_error = if gap == 0.0 { 0.0 } else { libm::sqrt(gap / norm) };
    Ok(result)
}

/// `T ×_k U_kᵀ` over all modes with a factor but `except`.
fn project(tensor: &Tensor, factors: &[Option<Mat<f64>>], except: Option<usize>) -> Result<Tensor, Error> {
    let mut core = tensor.clone();
    for (mode, factor) in factors.iter().enumerate().filter(|&(mode, _)| Some(mode) != except) {
        if let Some(factor) = factor {
            core = core.times(mode, factor.transpose())?;
        }
    }
    Ok(core)
}

/// The `rank` leading left singular vectors; where there are fewer columns than that, completed by zeros.
fn leading(a: MatRef<'_, f64>, rank: usize) -> Result<Mat<f64>, Error> {
    let u = thin(a, true)?.u;
    Ok(Mat::from_fn(a.nrows(), rank, |i, k| if k < u.ncols() { u[(i, k)] } else { 0.0 }))
}
