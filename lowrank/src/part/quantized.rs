//! Onto a quantizer's grid, in the transform's basis.

use crate::{Adjustment, Error, LowRank, Split};
use alloc::{vec, vec::Vec};
use rankbit_linalg::faer::{Accum, MatMut, MatRef, Par, linalg::matmul::matmul};
use rankbit_quant::{Context, Quantized, Rounder, Scheme, Transform, quantize_with, rows};

/// The quantizing step of a recipe.
pub(crate) struct QuantizedPart<'a> {
    pub(crate) scheme: &'a Scheme,
    pub(crate) rounder: Rounder,
    pub(crate) transform: Option<&'a Transform>,
    /// The calibration's Gram matrix in the transform's basis, `TᵀHT`.
    pub(crate) hessian: Option<MatRef<'a, f64>>,
    /// What an error of each output counts, when calibration says so.
    pub(crate) row_weights: Option<&'a [f64]>,
}

impl QuantizedPart<'_> {
    /// `quantize((W - L·R)·T⁻ᵀ)`; `work` is scratch for `W`'s shape, row-major.
    pub(crate) fn project(
        &self,
        weight: MatRef<'_, f32>,
        low_rank: Option<&LowRank>,
        work: &mut [f32],
        adjustments: &mut Vec<Adjustment>,
    ) -> Result<Quantized, Error> {
        let cols = weight.ncols();
        let target = match (low_rank, self.transform) {
            (None, None) => weight,
            _ => {
                copy(weight, work);
                subtract_branch(low_rank, work, cols);
                if let Some(transform) = self.transform {
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

/// `W - Q̃·Tᵀ` into `work`, row-major.
pub(crate) fn base_residual(
    weight: MatRef<'_, f32>,
    base: Option<&Quantized>,
    transform: Option<&Transform>,
    work: &mut [f32],
) -> Result<(), Error> {
    copy(weight, work);
    let Some(base) = base else { return Ok(()) };
    let cols = weight.ncols();
    let mut decoded = vec![0.0; cols];
    for (i, row) in work.chunks_exact_mut(cols.max(1)).enumerate() {
        base.row_into(i, &mut decoded)?;
        if let Some(transform) = transform {
            transform.transpose(&mut decoded)?;
        }
        for (value, q) in row.iter_mut().zip(&decoded) {
            *value -= q;
        }
    }
    check_range(work, cols)
}

/// `W - Q̃·Tᵀ - L·R` into `work`, row-major: the whole residual of `split`.
pub(crate) fn branch_residual(weight: MatRef<'_, f32>, split: &Split, work: &mut [f32]) -> Result<(), Error> {
    base_residual(weight, split.base(), split.transform(), work)?;
    subtract_branch(split.low_rank(), work, weight.ncols());
    check_range(work, weight.ncols())
}

/// Of a finite matrix nothing but the end of f32's range makes an entry of `work` infinite or NaN.
pub(crate) fn check_range(work: &[f32], cols: usize) -> Result<(), Error> {
    match work.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(at) => Err(Error::Overflow { row: at / cols.max(1), col: at % cols.max(1) }),
    }
}

/// `work -= L·R`.
fn subtract_branch(low_rank: Option<&LowRank>, work: &mut [f32], cols: usize) {
    let Some(low_rank) = low_rank else { return };
    let (rows, rank) = low_rank.left().shape();
    let (left, right) = (low_rank.left().to_f32(), low_rank.right().to_f32());
    matmul(
        MatMut::from_row_major_slice_mut(work, rows, cols),
        Accum::Add,
        MatRef::from_row_major_slice(&left, rows, rank),
        MatRef::from_row_major_slice(&right, rank, cols),
        -1.0,
        Par::Seq,
    );
}

/// Copies `weight` into `work`, row-major.
fn copy(weight: MatRef<'_, f32>, work: &mut [f32]) {
    let mut buffer = Vec::new();
    for (i, row) in work.chunks_exact_mut(weight.ncols().max(1)).enumerate() {
        row.copy_from_slice(rows::row(weight, i, &mut buffer));
    }
}
