use crate::{FactorFormat, Step};
use rankbit_quant::{Rounder, Scheme};

/// A quantized term and the low-rank term that makes up for what it loses: what [`eora`](super::eora),
/// [`qera`](super::qera), [`loftq`](super::loftq), [`lrec`](super::lrec) and [`caldera`](super::caldera) have in common.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Compensation {
    /// Format of the quantized term.
    pub scheme: Scheme,
    /// How values become its codes.
    pub rounder: Rounder,
    /// Rank of the low-rank term.
    pub rank: usize,
    /// How its factors are stored.
    pub factors: FactorFormat,
}

impl Compensation {
    /// The quantizing step.
    pub(super) const fn quantize(self) -> Step {
        Step::Quantize { scheme: self.scheme, rounder: self.rounder }
    }

    /// The low-rank step.
    pub(super) const fn low_rank(self) -> Step {
        Step::LowRank { rank: self.rank, factors: self.factors }
    }
}
