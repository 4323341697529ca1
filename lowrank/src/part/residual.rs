//! What the terms of a split leave of the matrix.

use crate::{Error, LowRank, Split};
use alloc::{vec, vec::Vec};
use rankbit_linalg::faer::{Accum, MatMut, MatRef, Par, linalg::matmul::matmul};
use rankbit_quant::rows;

/// A term of a split.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Term {
    Base,
    LowRank,
    Sparse,
}

/// `W` less every term of `split` but `without`, into `work`, row-major.
pub(crate) fn residual(
    weight: MatRef<'_, f32>,
    split: &Split,
    without: Option<Term>,
    work: &mut [f32],
) -> Result<(), Error> {
    let cols = weight.ncols();
    let mut buffer = Vec::new();
    for (i, row) in work.chunks_exact_mut(cols.max(1)).enumerate() {
        row.copy_from_slice(rows::row(weight, i, &mut buffer));
    }
    let wanted = |term: Term| without != Some(term);
    if let Some(base) = split.base().filter(|_| wanted(Term::Base)) {
        let mut decoded = vec![0.0; cols];
        for (i, row) in work.chunks_exact_mut(cols.max(1)).enumerate() {
            base.row_into(i, &mut decoded)?;
            if let Some(transform) = split.transform() {
                transform.transpose(&mut decoded)?;
            }
            row.iter_mut().zip(&decoded).for_each(|(value, q)| *value -= q);
        }
    }
    if let Some(low_rank) = split.low_rank().filter(|_| wanted(Term::LowRank)) {
        subtract_branch(low_rank, work, cols);
    }
    if let Some(sparse) = split.sparse().filter(|_| wanted(Term::Sparse)) {
        let mut kept = vec![0.0; cols];
        for (i, row) in work.chunks_exact_mut(cols.max(1)).enumerate() {
            sparse.row_into(i, &mut kept)?;
            row.iter_mut().zip(&kept).for_each(|(value, s)| *value -= s);
        }
    }
    check_range(work, cols)
}

/// Of a finite matrix nothing but the end of f32's range makes an entry of `work` infinite or NaN.
pub(crate) fn check_range(work: &[f32], cols: usize) -> Result<(), Error> {
    match work.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(at) => Err(Error::Overflow { row: at / cols.max(1), col: at % cols.max(1) }),
    }
}

/// `work -= L·R`.
fn subtract_branch(low_rank: &LowRank, work: &mut [f32], cols: usize) {
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
