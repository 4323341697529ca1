//! What can go wrong, in one enum.

/// Error of every function in this crate.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An operand has another shape than the operation needs.
    #[error("{what}: expected shape {} x {}, found {} x {}", .expected.0, .expected.1, .found.0, .found.1)]
    ShapeMismatch {
        /// The operand.
        what: &'static str,
        /// Rows and columns that were needed.
        expected: (usize, usize),
        /// Rows and columns that were given.
        found: (usize, usize),
    },
    /// The rank asked for exceeds the smaller side of the matrix.
    #[error("rank {rank} exceeds the smaller side of the matrix, {max}")]
    RankOutOfRange {
        /// Rank asked for.
        rank: usize,
        /// Largest rank that exists: `min(rows, columns)`.
        max: usize,
    },
    /// An entry is NaN or infinite (or a result left the range of its type).
    #[error("{what}: entry at row {row}, column {col} is not finite")]
    NonFinite {
        /// The operand.
        what: &'static str,
        /// Zero-based row.
        row: usize,
        /// Zero-based column.
        col: usize,
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
    /// A statistic is needed that calibration did not collect.
    #[error("calibration moment `{name}` is needed but missing")]
    MissingMoment {
        /// Name of the statistic, as in calibration files (`gram`, `absmax`, ...).
        name: &'static str,
    },
    /// A metric (or a moment that defines one) is not symmetric positive semi-definite.
    #[error("{what} at row {row}, column {col}")]
    InvalidMetric {
        /// What is wrong.
        what: &'static str,
        /// Zero-based row of the offending entry.
        row: usize,
        /// Zero-based column of the offending entry.
        col: usize,
    },
    /// A matrix that has to be factored is not positive definite (beyond rounding).
    #[error("{what} is not positive definite at column {pivot}: ask for more damping")]
    NotPositiveDefinite {
        /// The matrix.
        what: &'static str,
        /// Zero-based column whose pivot failed.
        pivot: usize,
    },
    /// An iterative decomposition did not converge (not seen on finite input so far).
    #[error("{what} did not converge")]
    NoConvergence {
        /// The decomposition.
        what: &'static str,
    },
    /// An item of a knapsack has nothing to choose from.
    #[error("item {item} has no choice")]
    NoChoice {
        /// Zero-based item.
        item: usize,
    },
    /// No selection fits a budget.
    #[error("a budget of {budget} cannot be met: the smallest that can is {smallest}")]
    BudgetTooSmall {
        /// The budget given.
        budget: u64,
        /// The sum of the smallest costs.
        smallest: u64,
    },
    /// Each of several limits can be met, but not all of them together.
    #[error("no selection meets all limits together")]
    LimitsExclude,
    /// A count or a sum leaves its range, or a search what it may take of memory.
    #[error("{what}: too large")]
    TooLarge {
        /// What is.
        what: &'static str,
    },
}
