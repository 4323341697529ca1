//! Onto rank r, under a metric.

use super::{Term, factors, residual};
use crate::{Adjustment, Error, FactorFormat, LowRank, Split};
use alloc::vec::Vec;
use rankbit_linalg::faer::MatRef;
use rankbit_linalg::{Metric, MetricRoot, svd};

/// The low-rank step of a recipe.
pub(crate) struct LowRankPart<'a> {
    pub(crate) rank: usize,
    pub(crate) factors: FactorFormat,
    pub(crate) metric: &'a Metric,
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
        let found = svd::weighted(target, self.rank, self.root, &self.method)?;
        let (low_rank, widened) = factors::encode(target, &found, self.factors, self.metric)?;
        if widened {
            adjustments.push(Adjustment::FactorsWidened { asked: self.factors });
        }
        Ok(low_rank)
    }
}
