//! A triangular cascade: each column's step changes all columns after it.
//!
//! ```text
//! for j = 1 … n:   δ_j = step(r_j);   r_l −= C_jl·δ_j   for all l > j
//! ```
//! r, δ: m×n, C: n×n of which the strict upper half is read. Recursive halving: the first half of a node's columns is
//! done, its effect on the second half is one product `r₂ −= δ₁·C₁₂`, then the second half is done. When a node
//! is entered its columns carry the effect of every column before it.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, MatRef, Par};

/// What happens at each column.
pub(super) trait Visit {
    /// Before the first column of a segment, which starts at position `first`.
    fn segment(&mut self, first: usize, running: MatRef<'_, f64>);

    /// Reads `running` and writes what the columns after this one are told.
    fn column(&mut self, position: usize, running: &[f64], delta: &mut [f64]);
}

/// Runs the cascade; `running` is left as it was last read, column by column.
pub(super) fn run(
    running: &mut Mat<f64>,
    coupling: MatRef<'_, f64>,
    (block, segment): (usize, usize),
    visit: &mut impl Visit,
) {
    let (m, n) = running.shape();
    if m == 0 || n == 0 {
        return;
    }
    let segment = segment.min(n);
    let mut delta = Mat::zeros(m, n);
    let mut node = Node { coupling, block, segment, visit };
    node.run(running.as_mut(), delta.as_mut(), 0);
}

struct Node<'a, V> {
    coupling: MatRef<'a, f64>,
    block: usize,
    segment: usize,
    visit: &'a mut V,
}

impl<V: Visit> Node<'_, V> {
    /// Columns `first ..` of the whole, as many as `running` has.
    fn run(&mut self, mut running: MatMut<'_, f64>, mut delta: MatMut<'_, f64>, first: usize) {
        let len = running.ncols();
        let rest = self.coupling.ncols() - first;
        if first.is_multiple_of(self.segment) && len == self.segment.min(rest) {
            self.visit.segment(first, running.as_ref());
        }
        if len <= self.block.min(self.segment) {
            self.leaf(running, delta, first);
            return;
        }
        // Halves of whole segments; inside a segment, halves of whole blocks.
        let unit = if len > self.segment { self.segment } else { self.block };
        let half = unit * len.div_ceil(unit).div_ceil(2);
        let (mut running_1, mut running_2) = running.as_mut().split_at_col_mut(half);
        let (mut delta_1, delta_2) = delta.as_mut().split_at_col_mut(half);
        self.run(running_1.as_mut(), delta_1.as_mut(), first);
        let coupling = self.coupling.submatrix(first, first + half, half, len - half);
        matmul(running_2.as_mut(), Accum::Add, delta_1.as_ref(), coupling, -1.0, Par::Seq);
        self.run(running_2, delta_2, first + half);
    }

    /// One column after the other.
    fn leaf(&mut self, mut running: MatMut<'_, f64>, mut delta: MatMut<'_, f64>, first: usize) {
        for j in 0..running.ncols() {
            let (before, mut after) = running.as_mut().split_at_col_mut(j + 1);
            let (Some(current), Some(delta)) = (
                before.as_ref().col(j).try_as_col_major().map(|column| column.as_slice()),
                delta.as_mut().col_mut(j).try_as_col_major_mut().map(|column| column.as_slice_mut()),
            ) else {
                continue; // both were made column-major by `run`
            };
            self.visit.column(first + j, current, delta);
            for (l, column) in after.as_mut().col_iter_mut().enumerate() {
                let factor = self.coupling[(first + j, first + j + 1 + l)];
                for (value, d) in column.iter_mut().zip(delta.iter()) {
                    *value -= factor * d;
                }
            }
        }
    }
}
