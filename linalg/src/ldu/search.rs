//! Pivots searched in rows and columns: rook and complete pivoting, and partial pivoting past columns that vanish.
//!
//! A panel of steps is kept apart: entries of the matrix right of it stay as they were when it began, and what is
//! asked for, a column, a row or all moduli, is formed with the panel's steps.
//!
//! ```text
//! S = A − L·W      L: columns of the panel, unit diagonal      W = D·U: rows of the panel
//! ```
//! At the panel's end W goes to its rows and one product updates the rest. Complete pivoting, which forms every entry at
//! every step, stores them: panels of one step.

use alloc::{vec, vec::Vec};

use faer::linalg::matmul::matmul;
use faer::reborrow::{Reborrow, ReborrowMut};
use faer::{Accum, Mat, Par};

use super::{Pivoting, position};
use crate::Scalar;

/// Most steps of a panel.
const WIDEST: usize = 32;

/// What [`eliminate`] did: L, D and D·U are in the first `rank` columns and rows, the Schur complement is the rest.
pub(super) struct Eliminated {
    pub(super) rank: usize,
    pub(super) row_order: Vec<usize>,
    pub(super) column_order: Vec<usize>,
}

/// Eliminates up to `steps` columns of `a`, fewer when all that remains vanishes.
pub(super) fn eliminate<T: Scalar>(a: &mut Mat<T>, steps: usize, pivoting: Pivoting) -> Eliminated {
    let (rows, columns) = a.shape();
    let complete = pivoting == Pivoting::Complete;
    let width = if complete { 1 } else { WIDEST };
    let mut search = Search {
        eliminated: Eliminated {
            rank: 0,
            row_order: (0..rows).collect(),
            column_order: (0..columns).collect(),
        },
        a,
        right: Mat::zeros(columns, width),
        start: 0,
        active: columns,
        column: vec![T::default(); rows],
        row: vec![T::default(); columns],
    };
    let mut more = true;
    while more && search.eliminated.rank < steps {
        search.start = search.eliminated.rank;
        let end = if complete { steps } else { steps.min(search.start.saturating_add(width)) };
        while more && search.eliminated.rank < end {
            match search.find(pivoting) {
                Some((row, column)) => search.step(row, column),
                None => more = false,
            }
        }
        search.finish_panel();
    }
    search.eliminated
}

struct Search<'a, T> {
    a: &'a mut Mat<T>,
    /// Wᵀ: entry c of its column j belongs to column c of the matrix.
    right: Mat<T>,
    /// First step of the panel.
    start: usize,
    /// Columns from here on vanish.
    active: usize,
    eliminated: Eliminated,
    /// The last column and row asked for.
    column: Vec<T>,
    row: Vec<T>,
}

impl<T: Scalar> Search<'_, T> {
    /// Column `c` of S from the current step on, and the row of its largest modulus, which comes first.
    fn form_column(&mut self, c: usize) -> (T, usize) {
        let (k, start) = (self.eliminated.rank, self.start);
        let mut columns: [&[T]; WIDEST] = [&[]; WIDEST];
        let mut factors = [T::default(); WIDEST];
        for (j, (slot, factor)) in columns.iter_mut().zip(&mut factors).enumerate().take(k - start) {
            *slot = &self.a.col_as_slice(start + j)[k..];
            *factor = self.right[(c, j)];
        }
        self.column[k..].copy_from_slice(&self.a.col_as_slice(c)[k..]);
        let below = &mut self.column[k..];
        let most = T::combine(below, &columns[..k - start], &factors[..k - start]);
        (most, k + position(below, most))
    }

    /// Row `r` of S from the current step on, and the column of its largest modulus among the active.
    fn form_row(&mut self, r: usize) -> (T, usize) {
        let (k, start) = (self.eliminated.rank, self.start);
        let mut columns: [&[T]; WIDEST] = [&[]; WIDEST];
        let mut factors = [T::default(); WIDEST];
        for (j, (slot, factor)) in columns.iter_mut().zip(&mut factors).enumerate().take(k - start) {
            *slot = &self.right.col_as_slice(j)[k..self.active];
            *factor = self.a[(r, start + j)];
        }
        for (c, entry) in self.row.iter_mut().enumerate().skip(k) {
            *entry = self.a[(r, c)];
        }
        let beside = &mut self.row[k..self.active];
        let most = T::combine(beside, &columns[..k - start], &factors[..k - start]);
        (most, k + position(beside, most))
    }

    /// The column with the largest modulus of all S, which is stored: the end of a panel of at most one step.
    fn scan(&mut self) -> Option<usize> {
        let (k, start) = (self.eliminated.rank, self.start);
        let (left, mut right) = self.a.as_mut().split_at_col_mut(k);
        let left = left.rb();
        let mut columns: [&[T]; 1] = [&[]; 1];
        for (slot, column) in columns.iter_mut().zip(left.subcols(start, k - start).col_iter()) {
            *slot = column.try_as_col_major().map_or(&[], |column| &column.as_slice()[k..]);
        }
        let columns = &columns[..k - start];
        let mut best = (T::default(), None);
        for (c, column) in right.rb_mut().col_iter_mut().enumerate() {
            let Some(column) = column.try_as_col_major_mut() else { continue };
            let factors = &self.right.col_as_slice(0)[k + c..][..columns.len()];
            let (above, below) = column.as_slice_mut().split_at_mut(k);
            let most = T::combine(below, columns, factors);
            above[start..].copy_from_slice(factors);
            if most > best.0 {
                best = (most, Some(k + c));
            }
        }
        self.start = k;
        best.1
    }

    /// Where the next pivot is, its column and row formed; `None` when nothing is left.
    fn find(&mut self, pivoting: Pivoting) -> Option<(usize, usize)> {
        let k = self.eliminated.rank;
        if pivoting == Pivoting::Complete {
            let column = self.scan()?;
            let (_, row) = self.form_column(column);
            self.form_row(row);
            return Some((row, column));
        }
        while k < self.active {
            let mut column = k;
            let (mut pivot, mut row) = self.form_column(column);
            if pivot == T::default() {
                self.active -= 1;
                self.exchange_columns(k, self.active);
                continue;
            }
            let (mut most, mut largest) = self.form_row(row);
            // Partial pivoting takes what it finds, if U stays finite.
            if pivoting == Pivoting::Partial && num_traits::Float::is_finite(most / pivot) {
                return Some((row, column));
            }
            // Pivots grow strictly, so this ends.
            while most > pivot {
                column = largest;
                let (value, found) = self.form_column(column);
                pivot = value;
                if found == row {
                    break;
                }
                row = found;
                (most, largest) = self.form_row(row);
            }
            return Some((row, column));
        }
        None
    }

    fn exchange_columns(&mut self, one: usize, other: usize) {
        if one == other {
            return;
        }
        self.eliminated.column_order.swap(one, other);
        self.row.swap(one, other);
        let (left, right) = self.a.as_mut().split_at_col_mut(one.max(other));
        faer::perm::swap_cols(left.col_mut(one.min(other)), right.col_mut(0));
        for j in 0..self.right.ncols() {
            self.right.col_as_slice_mut(j).swap(one, other);
        }
    }

    /// One step with the pivot at `row` and `column`, whose row and column are formed.
    fn step(&mut self, row: usize, column: usize) {
        let (k, start) = (self.eliminated.rank, self.start);
        self.exchange_columns(k, column);
        if row != k {
            self.eliminated.row_order.swap(k, row);
            self.column.swap(k, row);
            for c in 0..self.a.ncols() {
                self.a.col_as_slice_mut(c).swap(k, row);
            }
        }
        let pivot = self.column[k];
        let target = self.a.col_as_slice_mut(k);
        for (j, entry) in target[start..k].iter_mut().enumerate() {
            *entry = self.right[(k, j)];
        }
        target[k] = pivot;
        for (entry, &value) in target[k + 1..].iter_mut().zip(&self.column[k + 1..]) {
            *entry = value / pivot;
        }
        let target = self.right.col_as_slice_mut(k - start);
        target[k..self.active].copy_from_slice(&self.row[k..self.active]);
        target[self.active..].fill(T::default());
        self.eliminated.rank += 1;
    }

    /// W to its rows, and the rest of the matrix less L·W.
    fn finish_panel(&mut self) {
        let (k, start) = (self.eliminated.rank, self.start);
        let (rows, columns) = self.a.shape();
        let steps = k - start;
        for c in k..columns {
            for (j, entry) in self.a.col_as_slice_mut(c)[start..k].iter_mut().enumerate() {
                *entry = self.right[(c, j)];
            }
        }
        let (left, right) = self.a.as_mut().split_at_col_mut(k);
        matmul(
            right.subrows_mut(k, rows - k),
            Accum::Add,
            left.rb().submatrix(k, start, rows - k, steps),
            self.right.as_ref().submatrix(k, 0, columns - k, steps).transpose(),
            T::from_f64(-1.0),
            Par::Seq,
        );
    }
}
