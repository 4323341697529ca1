//! The crate's one error type.

use thiserror::Error;

/// Why an operator refused its input.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Error)]
pub enum Error {
    /// Two arguments disagree in shape.
    #[error("{what}: expected shape {expected:?}, found {found:?}")]
    ShapeMismatch {
        /// The argument that disagrees.
        what: &'static str,
        /// The shape that the other arguments ask for.
        expected: [usize; 4],
        /// The shape that was passed.
        found: [usize; 4],
    },
    /// A view's largest index lies outside its slice.
    #[error("a view of shape {shape:?} and strides {strides:?} does not fit into {len} values")]
    ViewOutOfRange {
        /// The view's shape.
        shape: [usize; 4],
        /// The view's strides.
        strides: [usize; 4],
        /// Length of the slice.
        len: usize,
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
    /// NaN or an infinity in an operand.
    #[error("{what}{index:?} is not finite")]
    NonFinite {
        /// The operand.
        what: &'static str,
        /// The first such entry.
        index: [usize; 4],
    },
    /// Finite operands whose scores (or the sums made of them) leave the range of the element type.
    #[error("the scores of query {token} (batch {batch}, head {head}) overflow")]
    Overflow {
        /// Batch entry.
        batch: usize,
        /// Query head.
        head: usize,
        /// Query token.
        token: usize,
    },
    /// A size that overflows this machine's address space, or a 32-bit token index.
    #[error("{what} is too large")]
    TooLarge {
        /// What is too large.
        what: &'static str,
    },
    /// A matrix that has to be orthogonal is not.
    #[error("{what} {head} is not orthogonal: an entry of UᵀU is {deviation} from the identity's")]
    NotOrthogonal {
        /// What the matrix is.
        what: &'static str,
        /// Its head.
        head: usize,
        /// Largest entry of |UᵀU - I|.
        deviation: f64,
    },
    /// From the linear algebra.
    #[error(transparent)]
    Linalg(#[from] rankbit_linalg::Error),
    /// From quantization.
    #[error(transparent)]
    Quant(#[from] rankbit_quant::Error),
}
