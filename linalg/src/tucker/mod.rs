//! Tucker's decomposition of a tensor of any order, over all modes or some.
//!
//! ```text
//! T ≈ G ×₁ U₁ ×₂ U₂ … ×_N U_N         T: n₁×…×n_N,  U_k: n_k×r_k with orthonormal columns,  G: r₁×…×r_N
//! unfold_k(T): n_k rows, the other modes in their order as columns
//!
//! HOSVD   U_k = the r_k leading left singular vectors of unfold_k(T),   G = T ×₁ U₁ᵀ … ×_N U_Nᵀ
//! HOOI    again and again for each k: U_k = those of unfold_k(T ×_{l≠k} U_lᵀ)
//! ```
//! The sequentially truncated HOSVD takes each `U_k` from what the factors before left, `unfold_k(T ×_{l<k} U_lᵀ)`: less
//! work, and its squared error is exactly the sum of what each step drops.
//!
//! With orthonormal factors `‖T - T̂‖² = ‖T‖² - ‖G‖²`. The squared error of both forms of HOSVD is at most the sum over
//! modes of the tails of their spectra, hence at most N times the least; HOOI's error never rises from there. A mode
//! without a rank keeps its side (no factor): two of four modes make the partial form that compresses a convolution.
//!
//! Singular vectors are eigenvectors of `unfold·unfoldᵀ` in f64, which resolves errors down to 10⁻⁷ of ‖T‖; where less is
//! asked for or found, the unfoldings themselves are decomposed.
//!
//! Sources: De Lathauwer, De Moor, Vandewalle, SIAM J. Matrix Anal. Appl. 21, 2000 (both parts); Vannieuwenhoven,
//! Vandebril, Meerbergen, SIAM J. Sci. Comput. 34, 2012 (sequential truncation, theorem 5.1 for its error); Kim et al.,
//! arXiv 1511.06530 (convolutions).

mod tensor;

use alloc::vec::Vec;

use faer::Mat;

pub use tensor::Tensor;

use crate::svd::small::thin;
use crate::{Error, dense, eigen};

/// A decomposed tensor; from [`tucker`] or [`decompose`].
#[derive(Clone, Debug)]
pub struct Tucker {
    /// G.
    pub core: Tensor,
    /// `U_k`, n_k×r_k with orthonormal columns; `None` where a mode keeps its side.
    pub factors: Vec<Option<Mat<f64>>>,
    /// `‖T - T̂‖/‖T‖`; 0/0 = 0.
    pub relative_error: f64,
    /// Sweeps of HOOI that were kept.
    pub sweeps: u32,
}

/// What a decomposition has to reach.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum TuckerGoal<'a> {
    /// A rank for each mode; `None` keeps the mode as it is.
    Ranks(&'a [Option<usize>]),
    /// `‖T - T̂‖ ≤ tolerance·‖T‖`, with the ranks that this needs, at least 1.
    Tolerance {
        /// Relative error, not negative.
        tolerance: f64,
        /// The modes that get a factor.
        modes: &'a [usize],
    },
}

/// How the factors are found before any sweep.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TuckerStart {
    /// Each factor from the whole tensor.
    Hosvd,
    /// Each factor from what the factors before left, in the order of the modes.
    #[default]
    SequentiallyTruncated,
}

/// Options of [`decompose`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct TuckerOptions {
    /// The first factors.
    pub start: TuckerStart,
    /// Sweeps of HOOI at most; 0 for none.
    pub sweeps: u32,
    /// HOOI ends when a sweep lowers the squared error by no more than this share of ‖T‖².
    pub gain: f64,
}

impl Default for TuckerOptions {
    /// Sequential truncation, then up to 20 sweeps that each gain more than 10⁻⁵.
    fn default() -> Self {
        Self { start: TuckerStart::SequentiallyTruncated, sweeps: 20, gain: 1e-5 }
    }
}

impl Tucker {
    /// `T̂`.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for factors that do not fit the core, which [`decompose`] does not return.
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
/// HOOI while the error falls; 0 is HOSVD alone. [`decompose`] with these options.
///
/// # Errors
/// Those of [`decompose`].
pub fn tucker(tensor: &Tensor, ranks: &[Option<usize>], sweeps: u32) -> Result<Tucker, Error> {
    let options = TuckerOptions { start: TuckerStart::Hosvd, sweeps, gain: 1e-12 };
    decompose(tensor, TuckerGoal::Ranks(ranks), &options)
}

/// Decomposes `tensor` to ranks or to a tolerance.
///
/// To a tolerance τ, sequential truncation lets each mode drop its equal share of what is left of `τ²·‖T‖²`, HOSVD
/// `τ²·‖T‖²/N`; sweeps then lower the error at these ranks.
///
/// Cost: n_k·Πn flops and an eigendecomposition of n_k×n_k for each mode (of the tensor as it is by then), once and in each
/// sweep.
///
/// # Errors
/// [`Error::ShapeMismatch`] for another number of ranks than modes, or a mode that is not there; [`Error::RankOutOfRange`]
/// for a rank of 0 or above its side; [`Error::InvalidOption`] for a tolerance or gain that is negative or NaN;
/// [`Error::NonFinite`] if the core leaves the range of f64; [`Error::NoConvergence`].
pub fn decompose(tensor: &Tensor, goal: TuckerGoal<'_>, options: &TuckerOptions) -> Result<Tucker, Error> {
    let wanted = Wanted::new(tensor, goal)?;
    for (what, found) in [("tolerance", wanted.tolerance), ("gain", options.gain)] {
        if found.is_nan() || found < 0.0 {
            return Err(Error::InvalidOption { what, requirement: "not negative", found });
        }
    }
    let largest = tensor.values().iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
    let exponent = dense::scale_exponent::<f64>(largest);
    let shrunk = (exponent != 0).then(|| tensor.scaled(dense::power_of_two(-exponent)));
    let scaled = shrunk.as_ref().unwrap_or(tensor);
    let by_gram = !matches!(goal, TuckerGoal::Tolerance { tolerance, .. } if tolerance < UNRESOLVED);
    let mut found = run(scaled, &wanted, options, by_gram)?;
    if by_gram && found.relative_error > 0.0 && found.relative_error < UNRESOLVED {
        found = run(scaled, &wanted, options, false)?;
    }
    if exponent != 0 {
        found.core = found.core.scaled(dense::power_of_two(exponent));
        if let Some(col) = found.core.values().iter().position(|value| !value.is_finite()) {
            return Err(Error::NonFinite { what: "core", row: 0, col });
        }
    }
    Ok(found)
}

/// Relative errors below which the Gram matrices no longer tell directions from rounding.
const UNRESOLVED: f64 = 1e-6;

/// What each mode is to get.
struct Wanted {
    modes: Vec<Mode>,
    /// 0 for given ranks.
    tolerance: f64,
}

#[derive(Clone, Copy)]
enum Mode {
    Keep,
    Rank(usize),
    Enough,
}

impl Wanted {
    fn new(tensor: &Tensor, goal: TuckerGoal<'_>) -> Result<Self, Error> {
        let shape = tensor.shape();
        match goal {
            TuckerGoal::Ranks(ranks) => {
                if ranks.len() != shape.len() {
                    let (expected, found) = ((1, shape.len()), (1, ranks.len()));
                    return Err(Error::ShapeMismatch { what: "ranks of a tensor", expected, found });
                }
                let modes = shape.iter().zip(ranks).map(|(&max, rank)| match *rank {
                    None => Ok(Mode::Keep),
                    Some(rank) if rank == 0 || rank > max => Err(Error::RankOutOfRange { rank, max }),
                    Some(rank) => Ok(Mode::Rank(rank)),
                });
                Ok(Self { modes: modes.collect::<Result<_, _>>()?, tolerance: 0.0 })
            }
            TuckerGoal::Tolerance { tolerance, modes: chosen } => {
                let mut modes: Vec<Mode> = shape.iter().map(|_| Mode::Keep).collect();
                for &mode in chosen {
                    let expected = (1, shape.len());
                    let missing = Error::ShapeMismatch { what: "mode", expected, found: (1, mode) };
                    *modes.get_mut(mode).ok_or(missing)? = Mode::Enough;
                }
                Ok(Self { modes, tolerance })
            }
        }
    }

    /// Modes from `first` on that get a factor.
    fn left(&self, first: usize) -> usize {
        self.modes.iter().skip(first).filter(|mode| !matches!(mode, Mode::Keep)).count()
    }
}

/// The decomposition of a tensor of moderate scale.
fn run(tensor: &Tensor, wanted: &Wanted, options: &TuckerOptions, by_gram: bool) -> Result<Tucker, Error> {
    let norm = tensor.norm_squared();
    let target = wanted.tolerance * wanted.tolerance * norm;
    let sequential = options.start == TuckerStart::SequentiallyTruncated;
    let mut factors: Vec<Option<Mat<f64>>> = Vec::with_capacity(wanted.modes.len());
    let mut rest = None;
    let mut dropped = 0.0;
    for (index, &mode) in wanted.modes.iter().enumerate() {
        if matches!(mode, Mode::Keep) {
            factors.push(None);
            continue;
        }
        let from = rest.as_ref().unwrap_or(tensor);
        let spectrum = Spectrum::new(from, index, by_gram)?;
        let rank = match mode {
            Mode::Rank(rank) => rank,
            _ if sequential => {
                spectrum.enough((target - dropped).max(0.0) / wanted.left(index).max(1) as f64)
            }
            _ => spectrum.enough(target / wanted.left(0).max(1) as f64),
        };
        dropped += spectrum.squares.iter().skip(rank).sum::<f64>();
        let factor = spectrum.leading(rank);
        if sequential {
            rest = Some(from.times(index, factor.transpose())?);
        }
        factors.push(Some(factor));
    }
    let core = match rest {
        Some(rest) => rest,
        None => project(tensor, &factors, None)?,
    };
    let mut result = Tucker { core, factors, relative_error: 0.0, sweeps: 0 };
    let truncates = result.core.shape() != tensor.shape();
    while truncates && result.sweeps < options.sweeps {
        let (core, factors) = sweep(tensor, &result.factors, by_gram)?;
        let gain = core.norm_squared() - result.core.norm_squared();
        if gain <= 1e-12 * norm {
            break;
        }
        (result.core, result.factors, result.sweeps) = (core, factors, result.sweeps + 1);
        if gain <= options.gain * norm {
            break;
        }
    }
    result.relative_error = relative_error(tensor, norm, &result)?;
    Ok(result)
}

/// ‖T - T̂‖/‖T‖: from ‖T‖² - ‖G‖², or entry by entry where that would cancel.
fn relative_error(tensor: &Tensor, norm: f64, found: &Tucker) -> Result<f64, Error> {
    if norm == 0.0 {
        return Ok(0.0);
    }
    let gap = norm - found.core.norm_squared();
    if gap > UNRESOLVED * norm {
        return Ok(libm::sqrt(gap / norm));
    }
    let again = found.reconstruct()?;
    let squares = tensor.values().iter().zip(again.values()).map(|(a, b)| (a - b) * (a - b));
    Ok(libm::sqrt(squares.sum::<f64>() / norm))
}

/// A factor for each mode, `None` where it keeps its side.
type Factors = Vec<Option<Mat<f64>>>;

/// One sweep of HOOI: the new core and factors.
fn sweep(tensor: &Tensor, factors: &[Option<Mat<f64>>], by_gram: bool) -> Result<(Tensor, Factors), Error> {
    let mut factors = factors.to_vec();
    let mut core = None;
    for mode in 0..factors.len() {
        let Some(rank) = factors.get(mode).and_then(|factor| factor.as_ref().map(Mat::ncols)) else {
            continue;
        };
        let others = project(tensor, &factors, Some(mode))?;
        let factor = Spectrum::new(&others, mode, by_gram)?.leading(rank);
        core = Some(others.times(mode, factor.transpose())?);
        if let Some(slot) = factors.get_mut(mode) {
            *slot = Some(factor);
        }
    }
    // The last mode's projection is the core.
    let core = match core {
        Some(core) => core,
        None => tensor.clone(),
    };
    Ok((core, factors))
}

/// `T ×_k U_kᵀ` over all modes with a factor but `except`.
fn project(tensor: &Tensor, factors: &[Option<Mat<f64>>], except: Option<usize>) -> Result<Tensor, Error> {
    let mut core = None;
    for (mode, factor) in factors.iter().enumerate().filter(|&(mode, _)| Some(mode) != except) {
        if let Some(factor) = factor {
            core = Some(core.as_ref().unwrap_or(tensor).times(mode, factor.transpose())?);
        }
    }
    Ok(core.unwrap_or_else(|| tensor.clone()))
}

/// Squared singular values of an unfolding, descending, with a complete set of left singular vectors.
struct Spectrum {
    squares: Vec<f64>,
    vectors: Mat<f64>,
}

impl Spectrum {
    fn new(tensor: &Tensor, mode: usize, by_gram: bool) -> Result<Self, Error> {
        if by_gram {
            let (values, vectors) =
                eigen::symmetric(tensor.gram(mode)?.as_ref(), "eigendecomposition of an unfolding")?;
            let squares = values.iter().rev().map(|value| value.max(0.0)).collect();
            return Ok(Self { squares, vectors: vectors.reverse_cols().to_owned() });
        }
        let unfolded = tensor.unfold(mode)?;
        // Zero columns complete the left vectors.
        let (side, columns) = (unfolded.nrows(), unfolded.ncols());
        let wide =
            Mat::from_fn(side, columns.max(side), |i, j| if j < columns { unfolded[(i, j)] } else { 0.0 });
        let found = thin(wide.as_ref(), true)?;
        Ok(Self { squares: found.values.iter().map(|value| value * value).collect(), vectors: found.u })
    }

    fn leading(&self, rank: usize) -> Mat<f64> {
        self.vectors.subcols(0, rank.min(self.vectors.ncols())).to_owned()
    }

    /// The least rank whose tail is at most `budget`; at least 1 where there is a direction.
    fn enough(&self, budget: f64) -> usize {
        let mut tail = 0.0;
        for (index, square) in self.squares.iter().enumerate().rev() {
            tail += square;
            if tail > budget {
                return index + 1;
            }
        }
        self.squares.len().min(1)
    }
}
