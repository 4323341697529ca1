//! The crate's one error type.

use thiserror::Error;

/// Why a quantizer, a packed storage or a product refused its input.
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
    /// A group size of zero, or blocks of a fixed size that do not divide the row.
    #[error("group size {group_size} is not usable for {in_features} input features")]
    GroupSize {
        /// The group size asked for.
        group_size: usize,
        /// Entries along `in`.
        in_features: usize,
    },
    /// NaN or an infinity in a matrix to be quantized.
    #[error("weight[{row}, {col}] is not finite")]
    NonFinite {
        /// Row of the first such entry.
        row: usize,
        /// Column of the first such entry.
        col: usize,
    },
    /// NaN or an infinity among stored values (scales, factors).
    #[error("{what}[{index}] is not finite")]
    StoredNonFinite {
        /// Which stored values.
        what: &'static str,
        /// Flat index of the first one.
        index: usize,
    },
    /// A block whose scales f16 does not hold.
    #[error("the block at [{row}, {col}] is too large for f16 scales")]
    BlockOverflow {
        /// Row of the block.
        row: usize,
        /// Column of its first entry.
        col: usize,
    },
    /// A stored code that stands for NaN or an infinity.
    #[error("code {code:#04x} at [{row}, {col}] is not a number")]
    NotANumber {
        /// Row of the first such code.
        row: usize,
        /// Column of the first such code.
        col: usize,
        /// The code.
        code: u8,
    },
    /// A stored part has the wrong number of bytes.
    #[error("part '{part}' has {found} bytes, expected {expected}")]
    PartLength {
        /// The part's name.
        part: &'static str,
        /// Bytes that shape and scheme ask for.
        expected: usize,
        /// Bytes that were passed.
        found: usize,
    },
    /// A combination of scheme fields that means nothing.
    #[error("scheme is not valid: {reason}")]
    InvalidScheme {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An outlier outside the matrix, or not behind the one before it.
    #[error("outlier {index} is outside the matrix or out of order")]
    InvalidOutlier {
        /// Its index among the stored ones.
        index: usize,
    },
    /// A product or layout that does not do what was asked of it.
    #[error("{format} does not support {reason}")]
    Unsupported {
        /// Which product or layout.
        format: &'static str,
        /// What it lacks.
        reason: &'static str,
    },
    /// A size that overflows this machine's address space.
    #[error("{what} is too large for this machine")]
    TooLarge {
        /// What is too large.
        what: &'static str,
    },
    /// A rounder that weighs errors by the layer's inputs got no Gram matrix.
    #[error("the {rounder} rounder needs the Gram matrix of the layer's inputs")]
    MissingHessian {
        /// The rounder.
        rounder: &'static str,
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
    /// A scale that no dyadic number stands for.
    #[error(
        "{what}[{index}] = {found:e} is no dyadic number: it must be positive, at least 2⁻⁹⁶ and below 2⁶²"
    )]
    DyadicScale {
        /// Which scales.
        what: &'static str,
        /// Its index.
        index: usize,
        /// The scale.
        found: f64,
    },
    /// A multiplier and shift that are no dyadic number of the supported range.
    #[error(
        "{multiplier} / 2^{shift} is no dyadic number: b is 1 to 2³¹, b / 2^c at least 2⁻⁹⁶ and below 2⁶²"
    )]
    DyadicRange {
        /// The numerator.
        multiplier: u32,
        /// The power of two below it.
        shift: i32,
    },
    /// An integer layer whose parts do not fit together.
    #[error("integer layer is not valid: {reason}")]
    InvalidLayer {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An integer layer whose sums could leave i64.
    #[error("the sums of output {row} could exceed 64 bits")]
    AccumulatorOverflow {
        /// The first such output.
        row: usize,
    },
    /// Not as many entries as there must be.
    #[error("{what}: expected {expected} entries, found {found}")]
    ElementCount {
        /// Of what.
        what: &'static str,
        /// How many there must be.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// A number that its format does not hold.
    #[error("values[{index}] = {found} is outside its format")]
    CodeOutOfRange {
        /// Its index.
        index: usize,
        /// The number.
        found: i64,
    },
    /// A policy for activations whose fields make no sense.
    #[error("activation policy is not valid: {reason}")]
    InvalidActivation {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// NaN or an infinity among activations to be quantized.
    #[error("activation[{token}, {feature}] is not finite")]
    ActivationNonFinite {
        /// Token of the first such entry.
        token: usize,
        /// Its feature.
        feature: usize,
    },
    /// An order that does not name every input once.
    #[error("entry {index} of the permutation is out of range or there already")]
    NotAPermutation {
        /// The first such entry.
        index: usize,
    },
    /// A transform that mixes or moves features, where each must stay by itself.
    #[error("only smoothing can be folded into an elementwise layer: this transform mixes or moves features")]
    NotElementwise,
    /// From the linear algebra: a Gram matrix that is none, or not positive definite.
    #[cfg(feature = "solve")]
    #[error(transparent)]
    Linalg(#[from] rankbit_linalg::Error),
}
