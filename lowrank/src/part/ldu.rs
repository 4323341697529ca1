//! Onto the first r pivots of an elimination.

use super::{Term, factors, residual};
use crate::{Adjustment, Error, FactorFormat, LowRank, Split};
use alloc::vec::Vec;
use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_linalg::{Factors, LduOptions, Metric, Pivoting, ldu};
use rankbit_quant::FloatFormat;

/// The triangular step of a recipe.
pub(crate) struct LduPart {
    pub(crate) rank: usize,
    pub(crate) factors: FloatFormat,
}

impl LduPart {
    /// `L·R = Pᵀ·L₁…ᵣ·D₁…ᵣ·U₁…ᵣ` of `W - Q̃·Tᵀ - S`, the pivots in R; `work` is scratch for `W`'s shape. Where fewer steps
    /// leave nothing, the rest of both factors is zero.
    pub(crate) fn project(
        &self,
        weight: MatRef<'_, f32>,
        split: &Split,
        work: &mut [f32],
        adjustments: &mut Vec<Adjustment>,
    ) -> Result<LowRank, Error> {
        let target = if split.base().is_none() && split.sparse().is_none() {
            weight
        } else {
            residual(weight, split, Some(Term::LowRank), work)?;
            MatRef::from_row_major_slice(work, weight.nrows(), weight.ncols())
        };
        let options = LduOptions { pivoting: Pivoting::Partial, rank: Some(self.rank) };
        let found = ldu(target, &options)?;
        let Factors { left, right } = found.factors();
        let pivots = found.diagonal();
        let left =
            Mat::from_fn(left.nrows(), self.rank, |i, k| if k < pivots.len() { left[(i, k)] } else { 0.0 });
        let right =
            Mat::from_fn(self.rank, right.ncols(), |k, j| pivots.get(k).map_or(0.0, |d| d * right[(k, j)]));
        let format = FactorFormat::Float(self.factors);
        let (low_rank, widened) =
            factors::encode(target, &Factors { left, right }, format, &Metric::identity())?;
        if widened {
            adjustments.push(Adjustment::FactorsWidened { asked: format });
        }
        Ok(low_rank)
    }
}
