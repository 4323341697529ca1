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
//! Singular vectors are eigenvectors of `unfold·unfoldᵀ`. For given ranks and values in single precision that matrix and the
//! sweeps are in single precision, as long as the relative error found is above 0.03: the squared error then exceeds its
//! bound by at most 10⁻⁵·‖T‖². Else they are in f64, which resolves errors down to 10⁻⁷ of ‖T‖; where less is asked for or
//! found, the unfoldings themselves are decomposed. Factors are orthonormal in f64, and the core is computed in f64, always.
//!
//! Sources: De Lathauwer, De Moor, Vandewalle, SIAM J. Matrix Anal. Appl. 21, 2000 (both parts); Vannieuwenhoven,
//! Vandebril, Meerbergen, SIAM J. Sci. Comput. 34, 2012 (sequential truncation, theorem 5.1 for its error); Kim et al.,
//! arXiv 1511.06530 (convolutions).

mod array;
mod sweeps;
mod tensor;

use alloc::vec::Vec;

use faer::{Mat, MatRef};

pub use tensor::Tensor;

use crate::svd::small::thin;
use crate::{Error, dense, eigen};
use array::Array;
use sweeps::{Sweeps, in_double};

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
/// Cost: n_k·Πn flops and the reduction of an n_k×n_k matrix to its eigenvalues for each mode (of the tensor as it is by
/// then), once. Each sweep: 2·r·Πn flops for each mode that is multiplied away, n_k²·Πr/r_k for the Gram matrix, and that
/// reduction again only where `3·r_k > n_k` or the side is short; else 8·n_k²·r_k.
///
/// `[512, 512, 3, 3]` of f32 noise to `[128, 128, 3, 3]`, one thread, 100 GFLOP/s of f32 products
/// (`scripts/linalg-peers.py DIR tucker`; ‖T - T̂‖/‖T‖ in brackets):
///
/// | | here | NumPy and tensorly |
/// |---|---|---|
/// | HOSVD | 88 ms (0.92135); sequentially truncated 76 ms (0.90670) | Gram and eigen 110 ms (0.92135) |
/// | HOOI | 12 sweeps 0.47 s (0.89279) | to 10⁻⁴ 5.3 s (0.89334); to 10⁻⁵ 13.1 s (0.89281) |
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
    let single = tensor.single && matches!(goal, TuckerGoal::Ranks(_));
    let largest = tensor.values().iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
    let exponent =
        if single { dense::scale_exponent::<f32>(largest) } else { dense::scale_exponent::<f64>(largest) };
    let shrunk = (exponent != 0).then(|| tensor.array.scaled(dense::power_of_two(-exponent)));
    let scaled = shrunk.as_ref().unwrap_or(&tensor.array);
    let mut resolution = match goal {
        TuckerGoal::Tolerance { tolerance, .. } if tolerance < Resolution::Double.least() => {
            Resolution::Direct
        }
        _ if single => Resolution::Single,
        _ => Resolution::Double,
    };
    let mut found = run(scaled, &wanted, options, resolution)?;
    while found.relative_error > 0.0
        && found.relative_error < resolution.least()
        && let Some(finer) = resolution.finer()
    {
        resolution = finer;
        found = run(scaled, &wanted, options, resolution)?;
    }
    if exponent != 0 {
        found.core = found.core.array.scaled(dense::power_of_two(exponent)).into();
        if let Some(col) = found.core.values().iter().position(|value| !value.is_finite()) {
            return Err(Error::NonFinite { what: "core", row: 0, col });
        }
    }
    Ok(found)
}

/// What a decomposition without convergence is called.
const EIGEN: &str = "eigendecomposition of an unfolding";

/// How singular vectors are found.
#[derive(Clone, Copy, PartialEq)]
enum Resolution {
    /// From Gram matrices in single precision.
    Single,
    /// From Gram matrices in double precision.
    Double,
    /// From the unfoldings themselves.
    Direct,
}

impl Resolution {
    /// Relative errors below which directions are no longer told from rounding.
    const fn least(self) -> f64 {
        match self {
            Self::Single => 0.03,
            Self::Double => UNRESOLVED,
            Self::Direct => 0.0,
        }
    }

    const fn finer(self) -> Option<Self> {
        match self {
            Self::Single => Some(Self::Double),
            Self::Double => Some(Self::Direct),
            Self::Direct => None,
        }
    }
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

    /// Whether a given rank is below its side.
    fn truncates(&self, tensor: &Array<f64>) -> bool {
        let mut modes = self.modes.iter().zip(&tensor.shape);
        modes.any(|(mode, &side)| matches!(mode, Mode::Rank(rank) if *rank < side))
    }

    /// Modes from `first` on that get a factor.
    fn left(&self, first: usize) -> usize {
        self.modes.iter().skip(first).filter(|mode| !matches!(mode, Mode::Keep)).count()
    }
}

/// A factor for each mode, `None` where it keeps its side.
type Factors = Vec<Option<Mat<f64>>>;

/// The decomposition of a tensor of moderate scale.
fn run(
    tensor: &Array<f64>,
    wanted: &Wanted,
    options: &TuckerOptions,
    resolution: Resolution,
) -> Result<Tucker, Error> {
    let norm = tensor.norm_squared();
    let single = (resolution == Resolution::Single).then(|| tensor.convert::<f32>());
    let start = start(tensor, single.as_ref(), wanted, norm, options, resolution)?;
    let swept = options.sweeps > 0 && start.core.shape != tensor.shape;
    let before = start.core.norm_squared();
    let mut result =
        Tucker { core: start.core.into(), factors: start.factors, relative_error: 0.0, sweeps: 0 };
    if swept {
        let (most, gain) = (options.sweeps, options.gain * norm);
        let (factors, sweeps) = match &single {
            Some(single) => {
                let mut sweeps = Sweeps::new(single, &result.factors, false);
                let kept = sweeps.run(before, most, gain, 4.0 * f64::from(f32::EPSILON) * norm)?;
                (sweeps.factors(tensor.shape.len()), kept)
            }
            None => {
                let mut sweeps = Sweeps::new(tensor, &result.factors, resolution == Resolution::Direct);
                let kept = sweeps.run(before, most, gain, 1e-12 * norm)?;
                (sweeps.factors(tensor.shape.len()), kept)
            }
        };
        if sweeps > 0 || start.rough {
            let core = project(tensor, &factors)?;
            if core.norm_squared() > before || start.rough {
                result = Tucker { core: core.into(), factors, relative_error: 0.0, sweeps };
            }
        }
    }
    result.relative_error = relative_error(tensor, norm, &result)?;
    Ok(result)
}

/// The core and the factors before any sweep.
struct Start {
    core: Array<f64>,
    factors: Factors,
    /// Whether both are rounded to single precision, since sweeps follow.
    rough: bool,
}

fn start(
    tensor: &Array<f64>,
    single: Option<&Array<f32>>,
    wanted: &Wanted,
    norm: f64,
    options: &TuckerOptions,
    resolution: Resolution,
) -> Result<Start, Error> {
    let sequential = options.start == TuckerStart::SequentiallyTruncated;
    if let Some(single) = single
        && sequential
        && wanted.truncates(tensor)
        && options.sweeps > 0
    {
        return rough_start(single, wanted);
    }
    let target = wanted.tolerance * wanted.tolerance * norm;
    let mut factors: Factors = Vec::with_capacity(wanted.modes.len());
    let mut rest: Option<Array<f64>> = None;
    let mut dropped = 0.0;
    for (index, &mode) in wanted.modes.iter().enumerate() {
        let from = rest.as_ref().unwrap_or(tensor);
        let factor = match mode {
            Mode::Keep => {
                factors.push(None);
                continue;
            }
            Mode::Rank(rank) if resolution == Resolution::Single => {
                let gram = match (&rest, single) {
                    (None, Some(single)) => single.gram(index)?,
                    _ => from.convert::<f32>().gram(index)?,
                };
                in_double(eigen::leading(gram.as_ref(), rank, EIGEN)?.as_ref())
            }
            Mode::Rank(rank) if resolution == Resolution::Double => {
                eigen::leading(from.gram(index)?.as_ref(), rank, EIGEN)?
            }
            Mode::Rank(rank) => left_vectors(from.unfold(index)?.as_ref())?.1.subcols(0, rank).to_owned(),
            Mode::Enough => {
                let (squares, vectors) = if resolution == Resolution::Direct {
                    left_vectors(from.unfold(index)?.as_ref())?
                } else {
                    let (values, vectors) = eigen::symmetric(from.gram(index)?.as_ref(), EIGEN)?;
                    let squares = values.iter().rev().map(|value| value.max(0.0)).collect();
                    (squares, vectors.reverse_cols().to_owned())
                };
                let budget = if sequential {
                    (target - dropped).max(0.0) / wanted.left(index).max(1) as f64
                } else {
                    target / wanted.left(0).max(1) as f64
                };
                let rank = enough(&squares, budget);
                dropped += squares.iter().skip(rank).sum::<f64>();
                vectors.subcols(0, rank).to_owned()
            }
        };
        if sequential {
            rest = Some(from.times(index, factor.transpose())?);
        }
        factors.push(Some(factor));
    }
    let core = match rest {
        Some(rest) => rest,
        None => project(tensor, &factors)?,
    };
    Ok(Start { core, factors, rough: false })
}

/// Sequential truncation to given ranks, all in single precision.
fn rough_start(tensor: &Array<f32>, wanted: &Wanted) -> Result<Start, Error> {
    let mut factors: Factors = Vec::with_capacity(wanted.modes.len());
    let mut rest: Option<Array<f32>> = None;
    for (index, &mode) in wanted.modes.iter().enumerate() {
        let Mode::Rank(rank) = mode else {
            factors.push(None);
            continue;
        };
        let from = rest.as_ref().unwrap_or(tensor);
        let factor = eigen::leading(from.gram(index)?.as_ref(), rank, EIGEN)?;
        factors.push(Some(dense::convert(factor.as_ref(), 1.0)));
        rest = Some(from.times(index, factor.transpose())?);
    }
    Ok(Start { core: rest.as_ref().unwrap_or(tensor).convert(), factors, rough: true })
}

/// ‖T - T̂‖/‖T‖: from ‖T‖² - ‖G‖², or entry by entry where that would cancel.
fn relative_error(tensor: &Array<f64>, norm: f64, found: &Tucker) -> Result<f64, Error> {
    if norm == 0.0 {
        return Ok(0.0);
    }
    let gap = norm - found.core.norm_squared();
    if gap > UNRESOLVED * norm {
        return Ok(libm::sqrt(gap / norm));
    }
    let again = found.reconstruct()?;
    let squares = tensor.values.iter().zip(again.values()).map(|(a, b)| (a - b) * (a - b));
    Ok(libm::sqrt(squares.sum::<f64>() / norm))
}

/// `T ×_k U_kᵀ` over all modes with a factor.
fn project(tensor: &Array<f64>, factors: &[Option<Mat<f64>>]) -> Result<Array<f64>, Error> {
    let mut core: Option<Array<f64>> = None;
    for (mode, factor) in factors.iter().enumerate() {
        if let Some(factor) = factor {
            core = Some(core.as_ref().unwrap_or(tensor).times(mode, factor.transpose())?);
        }
    }
    Ok(core.unwrap_or_else(|| tensor.clone()))
}

/// Squared singular values of an unfolding, descending, and a complete set of left singular vectors.
fn left_vectors(unfolded: MatRef<'_, f64>) -> Result<(Vec<f64>, Mat<f64>), Error> {
    // Zero columns complete the left vectors.
    let (side, columns) = (unfolded.nrows(), unfolded.ncols());
    let wide = Mat::from_fn(side, columns.max(side), |i, j| if j < columns { unfolded[(i, j)] } else { 0.0 });
    let found = thin(wide.as_ref(), true)?;
    Ok((found.values.iter().map(|value| value * value).collect(), found.u))
}

/// The least rank whose tail is at most `budget`; at least 1 where there is a direction.
fn enough(squares: &[f64], budget: f64) -> usize {
    let mut tail = 0.0;
    for (index, square) in squares.iter().enumerate().rev() {
        tail += square;
        if tail > budget {
            return index + 1;
        }
    }
    squares.len().min(1)
}
