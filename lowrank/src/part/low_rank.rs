//! Onto rank r, under a metric.

use super::{Term, residual};
use crate::{Adjustment, Error, Factor, LowRank, Split};
use alloc::vec::Vec;
use rankbit_linalg::faer::MatRef;
use rankbit_linalg::{MetricRoot, svd};
use rankbit_quant::FloatFormat;

/// The low-rank step of a recipe.
pub(crate) struct LowRankPart<'a> {
    pub(crate) rank: usize,
    pub(crate) factors: FloatFormat,
    pub(crate) root: &'a MetricRoot,
    pub(crate) method: svd::Method,
}

impl LowRankPart<'_> {
    /// `L·R = [W - Q̃·Tᵀ - S]_r` under the metric; `work` is scratch for `W`'s shape.
    pub(crate) fn project(
        &self,
        weight: MatRef<'_, f32>,
        split: &Split,
        work: &mut [f32],
        adjustments: &mut Vec<Adjustment>,
    ) -> Result<LowRank, Error> {
        let max = weight.nrows().min(weight.ncols());
        if self.rank == 0 || self.rank > max {
            return Err(Error::RankOutOfRange { rank: self.rank, max });
        }
        let target = if split.base().is_none() && split.sparse().is_none() {
            weight
        } else {
            residual(weight, split, Some(Term::LowRank), work)?;
            MatRef::from_row_major_slice(work, weight.nrows(), weight.ncols())
        };
        let factors = svd::weighted(target, self.rank, self.root, &self.method)?;
        let (left, left_widened) = Factor::encode(factors.left.as_ref(), self.factors);
        let (right, right_widened) = Factor::encode(factors.right.as_ref(), self.factors);
        if left_widened || right_widened {
            adjustments.push(Adjustment::FactorsWidened { asked: self.factors });
        }
        LowRank::new(left, right)
    }
}
