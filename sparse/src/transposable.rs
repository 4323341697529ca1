//! Masks that hold in both directions: N in every row and every column of each M×M block.
//!
//! ```text
//! maximize Σ s_ij·m_ij   over m_ij ∈ {0, 1},  Σ_j m_ij = N,  Σ_i m_ij = N
//! ```
//! The constraints are those of a flow from rows to columns, so the optimum over 0 ≤ m ≤ 1 is binary: a min-cost flow
//! finds it exactly. Scores are first rounded to whole numbers of 2⁻⁴⁰ of the block's largest; on those the flow is
//! exact, and always ends.
//!
//! 1. **Exact** ([`Pattern::Transposable`](crate::Pattern::Transposable)): successive shortest augmenting paths, N·M of
//!    them, each a Dijkstra search over 2·M + 2 nodes with potentials. O(N·M³) per block.
//! 2. **Fast** ([`fast_mask`]): entries by falling score, each accepted while its row and column have room (at least
//!    half of the optimum); stranded rows are completed along alternating paths; then swaps of two entries while they
//!    gain. O(M²·log M) and a few passes of O(N²·M²).
//!
//! A block at the ragged edge keeps at most N per row and column, and as many in total as that allows.
//!
//! Source: Hubara et al., Accelerated Sparse Neural Training, NeurIPS 2021 (arXiv 2102.08124), sections 3 and 4.

use crate::{Error, Mask, NmPattern, select};
use alloc::{vec, vec::Vec};
use rankbit_linalg::faer::MatRef;

/// Steps between 0 and the largest score of a block.
const STEPS: f64 = (1_u64 << 40) as f64;

/// What no path costs.
const FAR: i64 = i64::MAX / 4;

/// A mask close to the best transposable one, much faster; see the [module](self).
///
/// On standard normal weights its sum of magnitudes is 0.2 to 0.4 % below the optimum, from 1:4 to 8:16.
///
/// # Errors
/// As [`select`](crate::select()).
pub fn fast_mask(scores: MatRef<'_, f64>, pattern: NmPattern) -> Result<Mask, Error> {
    select::check(scores)?;
    let (rows, cols) = scores.shape();
    let mut mask = Mask::empty((rows, cols));
    let of = pattern.of();
    for top in (0..rows).step_by(of) {
        for left in (0..cols).step_by(of) {
            let block = scores.submatrix(top, left, of.min(rows - top), of.min(cols - left));
            fast_block(block, pattern.keep(), |i, j| mask.insert(top + i, left + j));
        }
    }
    Ok(mask)
}

/// Whole numbers in proportion to the scores, row-major.
fn integers(scores: MatRef<'_, f64>) -> Vec<i64> {
    let largest = scores.col_iter().flat_map(|c| c.iter().copied()).fold(0.0, f64::max);
    let scale = if largest > 0.0 { STEPS / largest } else { 0.0 };
    let whole = |score: f64| {
        // A subnormal largest makes the scale infinite, and 0·∞ is no number: such a block is all ties.
        let scaled = num_traits::Float::round(score * scale).clamp(0.0, STEPS);
        num_traits::ToPrimitive::to_i64(&scaled).unwrap_or(0)
    };
    (0..scores.nrows())
        .flat_map(|i| (0..scores.ncols()).map(move |j| (i, j)))
        .map(|at| whole(scores[at]))
        .collect()
}

/// The best entries of one block, at most `keep` in each row and column: `insert(row, col)` is called for each.
pub(crate) fn exact_block(scores: MatRef<'_, f64>, keep: usize, mut insert: impl FnMut(usize, usize)) {
    let (rows, cols) = scores.shape();
    let gain = integers(scores);
    let mut flow = Flow {
        rows,
        cols,
        used: vec![false; rows * cols],
        row_room: vec![keep.min(cols); rows],
        col_room: vec![keep.min(rows); cols],
        // Reduced costs start non-negative: a column's potential is minus its best gain.
        potential: core::iter::repeat_n(0, rows)
            .chain((0..cols).map(|j| -(0..rows).map(|i| gain[i * cols + j]).max().unwrap_or(0)))
            .collect(),
        gain,
    };
    while flow.augment() {}
    for (at, _) in flow.used.iter().enumerate().filter(|(_, used)| **used) {
        insert(at / cols, at % cols);
    }
}

/// A flow of units from rows to columns.
struct Flow {
    rows: usize,
    cols: usize,
    gain: Vec<i64>,
    used: Vec<bool>,
    row_room: Vec<usize>,
    col_room: Vec<usize>,
    /// Of rows, then of columns.
    potential: Vec<i64>,
}

impl Flow {
    /// Sends one more unit along the cheapest path; `false` when no path is left.
    fn augment(&mut self) -> bool {
        let (rows, nodes) = (self.rows, self.rows + self.cols);
        let mut distance = vec![FAR; nodes];
        let mut parent = vec![usize::MAX; nodes];
        let mut done = vec![false; nodes];
        for ((distance, room), potential) in distance.iter_mut().zip(&self.row_room).zip(&self.potential) {
            if *room > 0 {
                // From a source of potential 0, at no cost.
                *distance = -potential;
            }
        }
        loop {
            let next =
                (0..nodes).filter(|&v| !done[v] && distance[v] < FAR).min_by_key(|&v| (distance[v], v));
            let Some(node) = next else { break };
            done[node] = true;
            let neighbours = if node < rows { rows..nodes } else { 0..rows };
            for other in neighbours {
                let (row, col) = if node < rows { (node, other - rows) } else { (other, node - rows) };
                let at = row * self.cols + col;
                // Forward arcs are unused entries at cost −gain, backward arcs used ones at cost +gain.
                if done[other] || self.used[at] == (node < rows) {
                    continue;
                }
                let cost = if node < rows { -self.gain[at] } else { self.gain[at] };
                let reduced = cost + self.potential[node] - self.potential[other];
                let through = distance[node] + reduced.max(0);
                if through < distance[other] {
                    distance[other] = through;
                    parent[other] = node;
                }
            }
        }
        // True distance of a column with room: reduced + potential.
        let ends = (0..self.cols).filter(|&c| self.col_room[c] > 0 && distance[rows + c] < FAR);
        let Some(end) = ends.min_by_key(|&c| (distance[rows + c] + self.potential[rows + c], c)) else {
            return false;
        };
        let farthest = distance.iter().copied().filter(|d| *d < FAR).max().unwrap_or(0);
        for (potential, d) in self.potential.iter_mut().zip(&distance) {
            *potential += (*d).min(farthest);
        }
        let mut node = rows + end;
        self.col_room[end] -= 1;
        while parent[node] != usize::MAX {
            let before = parent[node];
            let (row, col) = if before < rows { (before, node - rows) } else { (node, before - rows) };
            self.used[row * self.cols + col] = before < rows;
            node = before;
        }
        self.row_room[node] -= 1;
        true
    }
}

/// The fast choice for one block.
fn fast_block(scores: MatRef<'_, f64>, keep: usize, mut insert: impl FnMut(usize, usize)) {
    let (rows, cols) = scores.shape();
    let gain = integers(scores);
    let mut order: Vec<usize> = (0..gain.len()).collect();
    order.sort_by(|&a, &b| gain[b].cmp(&gain[a]));
    let mut used = vec![false; gain.len()];
    let (mut row_room, mut col_room) = (vec![keep.min(cols); rows], vec![keep.min(rows); cols]);
    for at in order {
        let (row, col) = (at / cols, at % cols);
        if row_room[row] > 0 && col_room[col] > 0 {
            used[at] = true;
            row_room[row] -= 1;
            col_room[col] -= 1;
        }
    }
    complete(&mut used, &mut row_room, &mut col_room);
    // Swaps: (i, a), (k, b) become (i, b), (k, a) while that gains.
    for _ in 0..rows * cols {
        let mut gained = false;
        for i in 0..rows {
            for k in i + 1..rows {
                gained |= swap_rows(&gain, &mut used, cols, i, k);
            }
        }
        if !gained {
            break;
        }
    }
    for (at, _) in used.iter().enumerate().filter(|(_, used)| **used) {
        insert(at / cols, at % cols);
    }
}

/// Makes the best swap between two rows, if one gains.
fn swap_rows(gain: &[i64], used: &mut [bool], cols: usize, i: usize, k: usize) -> bool {
    // Moving the entry from row i to row k in column a gains `move_down`; in the other direction its opposite.
    let shift = |col: usize| gain[k * cols + col] - gain[i * cols + col];
    let only = |from: usize, to: usize, col: &usize| used[from * cols + *col] && !used[to * cols + *col];
    let down =
        (0..cols).filter(|col| only(i, k, col)).max_by_key(|&col| (shift(col), core::cmp::Reverse(col)));
    let up = (0..cols).filter(|col| only(k, i, col)).min_by_key(|&col| (shift(col), col));
    match (down, up) {
        (Some(down), Some(up)) if shift(down) > shift(up) => {
            used.swap(i * cols + down, k * cols + down);
            used.swap(i * cols + up, k * cols + up);
            true
        }
        _ => false,
    }
}

/// Fills rows that greedy acceptance left short, along alternating paths (breadth first).
fn complete(used: &mut [bool], row_room: &mut [usize], col_room: &mut [usize]) {
    let (rows, cols) = (row_room.len(), col_room.len());
    for (start, room) in row_room.iter_mut().enumerate() {
        while *room > 0 {
            let mut parent = vec![usize::MAX; rows + cols];
            let mut queue = vec![start];
            let (mut head, mut end) = (0, None);
            while let (Some(&node), None) = (queue.get(head), end) {
                head += 1;
                let neighbours = if node < rows { rows..rows + cols } else { 0..rows };
                for other in neighbours {
                    let (row, col) = if node < rows { (node, other - rows) } else { (other, node - rows) };
                    let open = used[row * cols + col] != (node < rows);
                    if !open || other == start || parent[other] != usize::MAX {
                        continue;
                    }
                    parent[other] = node;
                    if other >= rows && col_room[other - rows] > 0 {
                        end = Some(other);
                        break;
                    }
                    queue.push(other);
                }
            }
            let Some(mut node) = end else { break };
            col_room[node - rows] -= 1;
            *room -= 1;
            while node != start {
                let before = parent[node];
                let (row, col) = if before < rows { (before, node - rows) } else { (node, before - rows) };
                used[row * cols + col] = before < rows;
                node = before;
            }
        }
    }
}
