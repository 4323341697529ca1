//! From scores to a mask: the best entries that a pattern allows, ties to the lower index.

use crate::pattern::kept_of;
use crate::{Error, Mask, NmPattern, Pattern, Scope, transposable};
use alloc::{vec, vec::Vec};
use core::ops::Range;
use rankbit_linalg::faer::MatRef;

/// The mask that keeps the largest scores (`[out, in]`, not negative) which `pattern` allows.
///
/// ```text
/// Nm:           the `keep` largest of each group of a row
/// Transposable: the largest sum over each M×M block with N in every row and column, exactly (min-cost flow)
/// Block:        the blocks of largest summed score
/// Unstructured: the largest of each row, or of the matrix
/// ```
/// Exactly as many as the pattern says are kept, zeros included; of equal scores the lower index is kept (for blocks
/// and whole matrices: in row order). For [`Pattern::Transposable`] equal optima are told apart in a fixed way.
///
/// Cost O(out · in · M) for N:M, O(out · in · N·M) with its transposable variant, one selection for the rest.
///
/// # Errors
/// [`Error::InvalidOption`] for a density or block that means nothing; [`Error::NonFinite`] for a NaN or infinite
/// score, [`Error::InvalidOption`] for a negative one.
pub fn select(scores: MatRef<'_, f64>, pattern: &Pattern) -> Result<Mask, Error> {
    pattern.check()?;
    check(scores)?;
    let mut mask = Mask::empty(scores.shape());
    select_columns(&mut mask, scores, 0, pattern);
    Ok(mask)
}

/// Finite and not negative.
pub(crate) fn check(scores: MatRef<'_, f64>) -> Result<(), Error> {
    for (col, column) in scores.col_iter().enumerate() {
        if let Some((row, &score)) = column.iter().enumerate().find(|(_, s)| !(s.is_finite() && **s >= 0.0)) {
            return Err(if score.is_finite() {
                Error::InvalidOption { what: "score", requirement: "not negative", found: score }
            } else {
                Error::NonFinite { what: "score", row, col }
            });
        }
    }
    Ok(())
}

/// Chooses among the columns `first ..` of `mask`, as many as `scores` has; `first` starts a group. What the scores
/// hold has been checked, or comes out wrong but never panics.
pub(crate) fn select_columns(mask: &mut Mask, scores: MatRef<'_, f64>, first: usize, pattern: &Pattern) {
    let (rows, cols) = scores.shape();
    match *pattern {
        Pattern::Nm(nm) => select_nm(mask, scores, first, nm),
        Pattern::Transposable(nm) => {
            let of = nm.of();
            for top in (0..rows).step_by(of) {
                for left in (0..cols).step_by(of) {
                    let (height, width) = (of.min(rows - top), of.min(cols - left));
                    let block = scores.submatrix(top, left, height, width);
                    transposable::exact_block(block, nm.keep(), |i, j| {
                        mask.insert(top + i, first + left + j)
                    });
                }
            }
        }
        Pattern::Block { rows: height, cols: width, density } => {
            let (down, across) = (rows.div_ceil(height), cols.div_ceil(width));
            let range = |k: usize, side: usize, end: usize| k * side..((k + 1) * side).min(end);
            let mut sums = Vec::with_capacity(down * across);
            for i in 0..down {
                for j in 0..across {
                    let (r, c) = (range(i, height, rows), range(j, width, cols));
                    sums.push(c.map(|col| r.clone().map(|row| scores[(row, col)]).sum::<f64>()).sum());
                }
            }
            for block in largest(&sums, kept_of(density, sums.len())) {
                for row in range(block / across, height, rows) {
                    range(block % across, width, cols).for_each(|col| mask.insert(row, first + col));
                }
            }
        }
        Pattern::Unstructured { density, scope } => {
            let height = if scope == Scope::Row { 1 } else { rows.max(1) };
            let mut flat = Vec::with_capacity(height * cols);
            for top in (0..rows).step_by(height) {
                flat.clear();
                flat.extend((top..top + height).flat_map(|row| (0..cols).map(move |col| scores[(row, col)])));
                for at in largest(&flat, kept_of(density, flat.len())) {
                    mask.insert(top + at / cols, first + at % cols);
                }
            }
        }
    }
}

/// The `keep` best of each group of each row.
fn select_nm(mask: &mut Mask, scores: MatRef<'_, f64>, first: usize, pattern: NmPattern) {
    let (rows, cols) = scores.shape();
    let mut group = [0.0; NmPattern::MAX_OF as usize];
    for start in (0..cols).step_by(pattern.of()) {
        let len = pattern.group_len(start, cols);
        let group = &mut group[..len];
        for row in 0..rows {
            for (offset, score) in group.iter_mut().enumerate() {
                *score = scores[(row, start + offset)];
            }
            for offset in best_of_group(group, pattern.keep()) {
                mask.insert(row, first + start + offset);
            }
        }
    }
}

/// Offsets of the `keep` largest of a short group, ascending; of equals the lower ones.
pub(crate) fn best_of_group(group: &[f64], keep: usize) -> impl Iterator<Item = usize> + '_ {
    (0..group.len()).filter(move |&i| {
        let better = |j: usize| group[j] > group[i] || (group[j] == group[i] && j < i);
        (0..group.len()).filter(|&j| better(j)).count() < keep
    })
}

/// Indices of the `keep` largest, ascending; of equals the lower ones.
pub(crate) fn largest(scores: &[f64], keep: usize) -> Vec<usize> {
    extreme(scores, keep, false)
}

/// Indices of the `keep` smallest, ascending; of equals the lower ones.
pub(crate) fn smallest(scores: &[f64], keep: usize) -> Vec<usize> {
    extreme(scores, keep, true)
}

fn extreme(scores: &[f64], keep: usize, smallest: bool) -> Vec<usize> {
    let mut indices: Vec<usize> = (0..scores.len()).collect();
    let order = |a: &usize, b: &usize| {
        let by_score =
            if smallest { scores[*a].total_cmp(&scores[*b]) } else { scores[*b].total_cmp(&scores[*a]) };
        by_score.then(a.cmp(b))
    };
    if keep == 0 {
        return vec![];
    }
    if keep < indices.len() {
        indices.select_nth_unstable_by(keep - 1, order);
        indices.truncate(keep);
    }
    indices.sort_unstable();
    indices
}

/// The ranges into which `len` columns are cut, `unit` by `unit`.
pub(crate) fn units(len: usize, unit: usize) -> impl Iterator<Item = Range<usize>> {
    (0..len).step_by(unit.max(1)).map(move |start| start..(start + unit.max(1)).min(len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_equals_the_lower_index_is_kept() {
        assert_eq!(best_of_group(&[1.0, 2.0, 1.0, 2.0], 3).collect::<Vec<_>>(), [0, 1, 3]);
        assert_eq!(best_of_group(&[0.0; 4], 2).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(best_of_group(&[3.0], 2).collect::<Vec<_>>(), [0]);
        assert_eq!(largest(&[0.0, 0.0, 5.0, 0.0], 2), [0, 2]);
        assert_eq!(smallest(&[1.0, 0.0, 0.0, 0.0], 2), [1, 2]);
        assert_eq!(largest(&[1.0], 0), []);
        assert_eq!(kept_of(0.1, 10), 1);
        assert_eq!(kept_of(0.11, 10), 2);
        assert_eq!(kept_of(1.0, 7), 7);
    }
}
