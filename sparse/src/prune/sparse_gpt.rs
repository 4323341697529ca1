//! SparseGPT: prune column by column, the later columns take up what the earlier lost.

use super::Pruned;
use crate::{Error, Mask, Pattern, Scope, dense, select};
use alloc::vec::Vec;
use core::ops::Range;
use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_linalg::{ErrorFeedback, Projector, SweepOptions};

/// Options of [`sparse_gpt`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SparseGptOptions {
    /// Added to the diagonal of H, as a fraction of its mean; finite, not negative. 0.01 in the paper.
    pub damping: f64,
    /// Columns whose mask is chosen together by unstructured patterns, and about as many by blocks; at least 1. 128 in
    /// the paper.
    pub block: usize,
}

impl Default for SparseGptOptions {
    fn default() -> Self {
        Self { damping: 0.01, block: 128 }
    }
}

/// Prunes `weight` (`[out, in]`) to `pattern` under the Gram matrix `gram` (`[in, in]`).
///
/// ```text
/// v = W;  for each column j:  q_j = v_j where kept, else 0;   v_l −= (v_j − q_j)·U_jl/U_jj  (l > j),   H⁻¹ = Uᵀ·U
/// score of an entry = v_ij²/U_jj²
/// ```
/// The score is what removing the entry costs when the columns after it are free. The mask of a group (N:M), of a
/// block's width, or of [`SparseGptOptions::block`] columns is chosen when the sweep reaches it, from the weights as
/// fed back so far.
///
/// The sweep is the linear algebra's [`ErrorFeedback`], in f64, on panels of 128 rows in parallel (rows do not mix,
/// except where a mask is chosen across them).
///
/// Source: Frantar & Alistarh 2023, arXiv 2301.00774, algorithm 1. Deviation: inputs that never fire lose their
/// weights first, but those that the pattern keeps stay as they are (the released code zeroes them).
///
/// Unstructured patterns keep ⌈density · entries⌉ of each block of columns (per row or over all rows), and blocks as
/// many of each strip of columns.
///
/// Cost O(in³ + out·in²), memory 3·in² + 3·out·in f64 at most.
///
/// # Errors
/// [`Error::InvalidOption`]; [`Error::ShapeMismatch`] for a Gram matrix of another width; [`Error::NonFinite`]; from
/// [`Error::Linalg`] a Gram matrix that is none, or not positive definite after damping.
pub fn sparse_gpt(
    weight: MatRef<'_, f32>,
    gram: MatRef<'_, f64>,
    pattern: &Pattern,
    options: &SparseGptOptions,
) -> Result<Pruned, Error> {
    pattern.check()?;
    let form = super::damped(weight, gram, options.damping)?;
    if options.block == 0 {
        return Err(Error::InvalidOption { what: "block", requirement: "at least 1", found: 0.0 });
    }
    let segment = match *pattern {
        Pattern::Nm(nm) | Pattern::Transposable(nm) => nm.of(),
        Pattern::Block { cols, .. } => cols.saturating_mul((options.block / cols).max(1)),
        Pattern::Unstructured { .. } => options.block,
    };
    let sweep = SweepOptions { damping: options.damping, segment, ..SweepOptions::default() };
    let feedback = ErrorFeedback::new(gram, &sweep)?;
    let dead: Vec<bool> = (0..weight.ncols()).map(|j| gram[(j, j)] == 0.0).collect();
    let panels: Vec<Range<usize>> = match *pattern {
        Pattern::Nm(_) | Pattern::Unstructured { scope: Scope::Row, .. } => {
            select::units(weight.nrows(), dense::PANEL).collect()
        }
        // 128 rows, rounded up to whole blocks.
        Pattern::Transposable(nm) => {
            select::units(weight.nrows(), dense::PANEL.next_multiple_of(nm.of())).collect()
        }
        Pattern::Block { .. } | Pattern::Unstructured { .. } => core::iter::once(0..weight.nrows()).collect(),
    };
    let swept = dense::map(panels.clone(), |rows: Range<usize>| {
        let panel = weight.subrows(rows.start, rows.len());
        let mask = Mask::empty(panel.shape());
        let mut projector = Choose { feedback: &feedback, dead: &dead, pattern, mask };
        let values = feedback.sweep(panel, &mut projector)?.projected;
        Ok::<_, Error>((values, projector.mask))
    });
    let mut mask = Mask::empty(weight.shape());
    let mut values = Mat::zeros(weight.ncols(), weight.nrows());
    for (rows, panel) in panels.into_iter().zip(swept) {
        let (panel_values, panel_mask) = panel?;
        for (i, row) in rows.enumerate() {
            for col in panel_mask.row(i) {
                mask.insert(row, col);
                values[(col, row)] = panel_values[(i, col)];
            }
        }
    }
    super::finish(weight, form.as_ref(), (values.as_ref(), mask), 1)
}

/// Chooses the mask segment by segment, then projects onto it.
struct Choose<'a> {
    feedback: &'a ErrorFeedback,
    dead: &'a [bool],
    pattern: &'a Pattern,
    mask: Mask,
}

impl Projector for Choose<'_> {
    fn segment(&mut self, columns: &[usize], targets: MatRef<'_, f64>) {
        let Some(&first) = columns.first() else { return };
        // The order is the natural one: a column's position is its index.
        let price = |j: usize| if self.dead[first + j] { 0.0 } else { self.feedback.sensitivity(first + j) };
        let prices: Vec<f64> = (0..columns.len()).map(price).collect();
        let scores = Mat::from_fn(targets.nrows(), columns.len(), |i, j| {
            let target = targets[(i, j)];
            target * target * prices[j]
        });
        select::select_columns(&mut self.mask, scores.as_ref(), first, self.pattern);
    }

    fn column(&mut self, column: usize, target: &[f64], projected: &mut [f64]) {
        for (row, (value, &target)) in projected.iter_mut().zip(target).enumerate() {
            // As it will be stored, so that the columns after it hear of that rounding too.
            *value = if self.mask.contains(row, column) { f64::from(dense::narrow(target)) } else { 0.0 };
        }
    }
}
