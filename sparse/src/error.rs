//! The crate's one error type.

use thiserror::Error;

/// Why a pattern, a mask, a stored matrix or a product refused its input.
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
    /// A pattern that means nothing: nothing kept, more kept than there is, or groups too long.
    #[error("pattern {keep}:{of} is not valid: 1 ≤ keep ≤ of, 2 ≤ of ≤ 32")]
    InvalidPattern {
        /// Entries kept.
        keep: u32,
        /// Entries of a group.
        of: u32,
    },
    /// An option lies outside its documented range.
    #[error("option {what} = {found}: must be {requirement}")]
    InvalidOption {
        /// The option's name.
        what: &'static str,
        /// Its documented range.
        requirement: &'static str,
        /// The value given.
        found: f64,
    },
    /// NaN or an infinity in a matrix, a score or a stored value.
    #[error("{what}[{row}, {col}] is not finite")]
    NonFinite {
        /// The operand.
        what: &'static str,
        /// Row of the first such entry.
        row: usize,
        /// Column of the first such entry.
        col: usize,
    },
    /// A group holds more entries than the pattern keeps; dropping one silently would change the matrix.
    #[error("row {row}, columns from {col}: {found} kept entries where the pattern holds {keep}")]
    TooManyKept {
        /// Row of the group.
        row: usize,
        /// First column of the group.
        col: usize,
        /// Entries that the pattern holds.
        keep: usize,
        /// Entries found.
        found: usize,
    },
    /// Stored indices that name no place, or one place twice.
    #[error("{what} {position} of row {row} is {found}: {requirement}")]
    InvalidIndex {
        /// Which stored numbers.
        what: &'static str,
        /// Row (of blocks, for block storage).
        row: usize,
        /// Place of the number in its row.
        position: usize,
        /// The number.
        found: usize,
        /// What it has to be.
        requirement: &'static str,
    },
    /// A stored part has the wrong length.
    #[error("part '{part}' has length {found}, expected {expected}")]
    PartLength {
        /// The part's name.
        part: &'static str,
        /// Length that shape and pattern ask for.
        expected: usize,
        /// Length that was passed.
        found: usize,
    },
    /// A pruner needs to know more of the layer's inputs.
    #[error("{pruner} needs {needed} of the layer's inputs")]
    MissingMoments {
        /// The pruner's name.
        pruner: &'static str,
        /// What it needs.
        needed: &'static str,
    },
    /// A format cannot hold this matrix.
    #[error("{format} cannot hold this matrix: {reason}")]
    Unsupported {
        /// The format.
        format: &'static str,
        /// Why not.
        reason: &'static str,
    },
    /// A size that overflows this machine's address space, or a 32-bit index.
    #[error("{what} is too large")]
    TooLarge {
        /// What is too large.
        what: &'static str,
    },
    /// From the quantizer or its storage.
    #[error(transparent)]
    Quant(#[from] rankbit_quant::Error),
    /// From the linear algebra: a Gram matrix that is none, or not positive definite.
    #[error(transparent)]
    Linalg(#[from] rankbit_linalg::Error),
}
