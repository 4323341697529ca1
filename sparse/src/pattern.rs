//! Which entries may be kept: N of every M, the same in both directions, blocks, or any.

use crate::Error;
use core::{fmt, str::FromStr};

/// `keep` of every `of` consecutive entries along `in`; the rest are zero.
///
/// ```text
/// group g of a row = columns of·g … of·g + of − 1;  |{kept in g}| = keep
/// ```
/// N **kept** of M, as hardware says it (2:4 keeps two of four, 1:8 one of eight). The last group of a row may be
/// short; it keeps `min(keep, its length)`.
///
/// ```
/// use rankbit_sparse::NmPattern;
/// let pattern: NmPattern = "1:8".parse()?;
/// assert_eq!((pattern.keep(), pattern.of(), pattern.density()), (1, 8, 0.125));
/// assert_eq!(pattern.kept_per_row(20), 3); // two whole groups and a short one of four entries
/// assert!(NmPattern::new(5, 4).is_err());
/// # Ok::<(), rankbit_sparse::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "RawPattern", into = "RawPattern"))]
pub struct NmPattern {
    keep: u8,
    of: u8,
}

/// [`NmPattern`] before its check.
#[cfg(feature = "serde")]
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPattern {
    keep: u32,
    of: u32,
}

#[cfg(feature = "serde")]
impl TryFrom<RawPattern> for NmPattern {
    type Error = Error;

    fn try_from(raw: RawPattern) -> Result<Self, Error> {
        Self::new(raw.keep, raw.of)
    }
}

#[cfg(feature = "serde")]
impl From<NmPattern> for RawPattern {
    fn from(pattern: NmPattern) -> Self {
        Self { keep: pattern.keep.into(), of: pattern.of.into() }
    }
}

impl NmPattern {
    /// 2:4, the pattern of sparse tensor cores.
    pub const TWO_OF_FOUR: Self = Self { keep: 2, of: 4 };

    /// Longest group.
    pub const MAX_OF: u32 = 32;

    /// `keep` of every `of`.
    ///
    /// # Errors
    /// [`Error::InvalidPattern`] unless 1 ≤ keep ≤ of and 2 ≤ of ≤ 32.
    pub fn new(keep: u32, of: u32) -> Result<Self, Error> {
        match (u8::try_from(keep), u8::try_from(of)) {
            (Ok(k), Ok(o)) if k >= 1 && k <= o && o >= 2 && of <= Self::MAX_OF => Ok(Self { keep: k, of: o }),
            _ => Err(Error::InvalidPattern { keep, of }),
        }
    }

    /// Entries kept of a whole group, N.
    pub const fn keep(self) -> usize {
        self.keep as usize
    }

    /// Entries of a whole group, M.
    pub const fn of(self) -> usize {
        self.of as usize
    }

    /// N/M.
    pub fn density(self) -> f64 {
        f64::from(self.keep) / f64::from(self.of)
    }

    /// Bits of one stored index, ⌈log₂ M⌉.
    pub const fn index_bits(self) -> usize {
        (usize::BITS - (self.of as usize - 1).leading_zeros()) as usize
    }

    /// Entries kept in a row of `in_features`.
    pub const fn kept_per_row(self, in_features: usize) -> usize {
        let short = in_features % self.of();
        in_features / self.of() * self.keep() + if short < self.keep() { short } else { self.keep() }
    }

    /// N and M.
    pub(crate) fn numbers(self) -> (u32, u32) {
        (self.keep.into(), self.of.into())
    }

    /// Length of the group that starts at column `start` of a row of `in_features`: M, or less at the end.
    pub(crate) fn group_len(self, start: usize, in_features: usize) -> usize {
        self.of().min(in_features.saturating_sub(start))
    }
}

impl fmt::Display for NmPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.keep, self.of)
    }
}

impl FromStr for NmPattern {
    type Err = Error;

    /// `"2:4"`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let numbers =
            text.split_once(':').and_then(|(n, m)| Some((n.trim().parse().ok()?, m.trim().parse().ok()?)));
        let (keep, of) = numbers.ok_or(Error::InvalidPattern { keep: 0, of: 0 })?;
        Self::new(keep, of)
    }
}

/// The entries that compete with each other for being kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum Scope {
    /// Those of one row: every output keeps the same number.
    Row,
    /// All.
    Matrix,
}

/// Where the kept entries of a matrix may lie.
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum Pattern {
    /// N of every M along `in`.
    Nm(NmPattern),
    /// N of every M along `in` *and* along `out`: exactly N in each row and column of every M×M block, so that the
    /// transposed matrix has the pattern too. At a ragged edge at most N.
    Transposable(NmPattern),
    /// Whole blocks, ⌈density · blocks⌉ of them; blocks at the edges may be short.
    Block {
        /// Rows of a block.
        rows: usize,
        /// Columns of a block.
        cols: usize,
        /// Blocks kept, as a fraction, 0 to 1.
        density: f64,
    },
    /// Any ⌈density · entries⌉ entries.
    Unstructured {
        /// Entries kept, as a fraction, 0 to 1.
        density: f64,
        /// Of what.
        scope: Scope,
    },
}

impl Pattern {
    /// Whether the numbers are in range.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for a density that is not between 0 and 1 or a block without entries.
    pub fn check(&self) -> Result<(), Error> {
        let density = match *self {
            Self::Nm(_) | Self::Transposable(_) => return Ok(()),
            Self::Block { rows, cols, density } => {
                if rows == 0 || cols == 0 {
                    let found = rows.min(cols) as f64;
                    return Err(Error::InvalidOption {
                        what: "block side",
                        requirement: "at least 1",
                        found,
                    });
                }
                density
            }
            Self::Unstructured { density, .. } => density,
        };
        if (0.0..=1.0).contains(&density) {
            Ok(())
        } else {
            Err(Error::InvalidOption { what: "density", requirement: "between 0 and 1", found: density })
        }
    }
}

/// ⌈density · len⌉, with 10⁻⁹ of slack so that 0.1 · 10 is 1.
pub(crate) fn kept_of(density: f64, len: usize) -> usize {
    let exact = density * len as f64 - 1e-9;
    let kept = num_traits::Float::ceil(exact).max(0.0);
    num_traits::ToPrimitive::to_usize(&kept).unwrap_or(len).min(len)
}
