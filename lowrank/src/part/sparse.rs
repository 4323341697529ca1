//! Onto a pattern of non-zeros, under the metric of the layer's inputs.

use super::{Term, residual};
use crate::{Adjustment, Error, Split};
use alloc::vec::Vec;
use rankbit_linalg::Moments;
use rankbit_linalg::faer::MatRef;
use rankbit_sparse::prune::{Context, prune};
use rankbit_sparse::{Pattern, Pruner, SparseMatrix, ValueFormat};

/// The sparse step of a recipe.
pub(crate) struct SparsePart<'a> {
    pub(crate) pattern: &'a Pattern,
    pub(crate) pruner: &'a Pruner,
    pub(crate) refit: bool,
    pub(crate) values: &'a ValueFormat,
    pub(crate) moments: Option<&'a Moments>,
}

impl SparsePart<'_> {
    /// `S` from `W - Q̃·Tᵀ - L·R`; `work` is scratch for `W`'s shape, row-major.
    pub(crate) fn project(
        &self,
        weight: MatRef<'_, f32>,
        split: &Split,
        work: &mut [f32],
        adjustments: &mut Vec<Adjustment>,
    ) -> Result<SparseMatrix, Error> {
        let target = match (split.base(), split.low_rank()) {
            (None, None) => weight,
            _ => {
                residual(weight, split, Some(Term::Sparse), work)?;
                MatRef::from_row_major_slice(work, weight.nrows(), weight.ncols())
            }
        };
        let gram = match self.moments {
            Some(moments) if self.pruner.needs_gram() || self.refit => Some(moments.gram()?),
            _ => None,
        };
        let second_moment = match self.moments {
            Some(moments) if self.pruner.needs_moments() => Some(moments.second_moment()?),
            _ => None,
        };
        let context = Context { second_moment: second_moment.as_deref(), gram };
        let (values, mask) = prune(target, self.pattern, self.pruner, self.refit, &context)?;
        let (stored, widened) = SparseMatrix::new(values.as_ref(), &mask, self.pattern, self.values)?;
        if let Some(asked) = widened {
            adjustments.push(match self.values {
                ValueFormat::Float(_) => Adjustment::ValuesWidened { asked },
                ValueFormat::Scheme(..) => Adjustment::ScalesWidened { asked },
            });
        }
        Ok(stored)
    }
}
