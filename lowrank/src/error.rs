//! The crate's one error type.

use thiserror::Error;

/// Why a recipe, a split, a product or a stored split was refused.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Error)]
pub enum Error {
    /// Two arguments disagree in shape.
    #[error("{what}: expected shape {expected:?}, found {found:?}")]
    ShapeMismatch {
        /// The argument that disagrees.
        what: &'static str,
        /// The shape that the other arguments ask for.
        expected: (usize, usize),
        /// The shape that was passed.
        found: (usize, usize),
    },
    /// A rank of zero, or above the smaller side of the matrix.
    #[error("rank {rank} is not between 1 and {max}")]
    RankOutOfRange {
        /// The rank asked for.
        rank: usize,
        /// The smaller side of the matrix.
        max: usize,
    },
    /// A recipe that cannot run.
    #[error("recipe is not valid: {reason}")]
    InvalidRecipe {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A recipe needs calibration and got none.
    #[error("the recipe needs calibration: {needed}")]
    MissingCalibration {
        /// What it needs.
        needed: &'static str,
    },
    /// Calibration in which nothing ever fired.
    #[error(
        "the calibration's activations are all zero (or constant, where means are taken off): capture it again on real inputs"
    )]
    DeadCalibration,
    /// The matrix is finite, but a term or the residual leaves the range of f32 (entries near its end).
    #[error("[{row}, {col}] leaves the range of f32 when the matrix is split: scale the matrix down")]
    Overflow {
        /// Row of the first such entry.
        row: usize,
        /// Its column.
        col: usize,
    },
    /// A stored split lacks a part.
    #[error("part '{part}' is missing")]
    MissingPart {
        /// The part's name.
        part: &'static str,
    },
    /// A stored part is not of the type or shape that its header asks for.
    #[error("part '{part}' is not {expected}")]
    PartMismatch {
        /// The part's name.
        part: &'static str,
        /// Type and shape expected.
        expected: alloc::string::String,
    },
    /// A header that is no description of a split.
    #[error("split header: {reason}")]
    InvalidHeader {
        /// What the reader found.
        reason: alloc::string::String,
    },
    /// From the quantizer or its storage.
    #[error(transparent)]
    Quant(#[from] rankbit_quant::Error),
    /// From pruning or the storage of the sparse term.
    #[error(transparent)]
    Sparse(#[from] rankbit_sparse::Error),
    /// From the linear algebra.
    #[error(transparent)]
    Linalg(#[from] rankbit_linalg::Error),
}
