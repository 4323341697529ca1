//! Onto a quantizer's grid, in the transform's basis.

use super::{Term, check_range, residual};
use crate::{Adjustment, Error, Split};
use alloc::vec::Vec;
use rankbit_linalg::faer::MatRef;
use rankbit_quant::{Context, Quantized, Rounder, Scheme, quantize_with};

/// The quantizing step of a recipe.
pub(crate) struct QuantizedPart<'a> {
    pub(crate) scheme: &'a Scheme,
    pub(crate) rounder: Rounder,
    /// The calibration's Gram matrix in the transform's basis, `TᵀHT`.
    pub(crate) hessian: Option<MatRef<'a, f64>>,
    /// What an error of each output counts, when calibration says so.
    pub(crate) row_weights: Option<&'a [f64]>,
}

impl QuantizedPart<'_> {
    /// `quantize((W - L·R - S)·T⁻ᵀ)`; `work` is scratch for `W`'s shape, row-major.
    pub(crate) fn project(
        &self,
        weight: MatRef<'_, f32>,
        split: &Split,
        work: &mut [f32],
        adjustments: &mut Vec<Adjustment>,
    ) -> Result<Quantized, Error> {
        let cols = weight.ncols();
        let target = match (split.low_rank(), split.sparse(), split.transform()) {
            (None, None, None) => weight,
            _ => {
                residual(weight, split, Some(Term::Base), work)?;
                if let Some(transform) = split.transform() {
                    transform.inverse_transpose(work)?;
                }
                check_range(work, cols)?;
                MatRef::from_row_major_slice(work, weight.nrows(), cols)
            }
        };
        let context = Context { hessian: self.hessian, row_weights: self.row_weights };
        let rounded = quantize_with(target, self.scheme, self.rounder, &context)?;
        if let Some(asked) = rounded.widened_from {
            adjustments.push(Adjustment::ScalesWidened { asked });
        }
        Ok(rounded.quantized)
    }
}
