//! The best zero points in closed form, for coordinate descent.
//!
//! With `1_a` the indicator of group a and `e = w − ŵ` the error of a row, another zero point `z' = z + δ` changes
//! `e` to `e + s·δ·1_a`, so
//! ```text
//! change of e·H·eᵀ = 2·s·δ·R_a + s²·δ²·G_aa,    R = e·H·Eᵀ,  G = E·H·Eᵀ,  E = (1_a)_a
//! best δ = −R_a / (s·G_aa)
//! ```
//! rounded to what the scheme stores. Groups move one after the other; each that lowers the error moves, and
//! `R += s·δ·G_a` follows. G and H·Eᵀ are the same for all rows.

use super::gptq::Panel;
use super::grid::Store;
use crate::Scheme;
use alloc::{vec, vec::Vec};
use rankbit_linalg::faer::linalg::matmul::matmul;
use rankbit_linalg::faer::{Accum, Mat, MatRef, Par};

/// What all rows share.
pub(super) struct ZeroFit<'a> {
    store: Store<'a>,
    size: usize,
    /// H·Eᵀ: `in × groups`.
    sums: Mat<f64>,
    /// G, row after row.
    gram: Vec<f64>,
}

impl<'a> ZeroFit<'a> {
    /// For groups of `size` columns under `form`; `None` where the scheme has no zero points.
    pub(super) fn new(form: MatRef<'_, f64>, store: Store<'a>, size: usize) -> Option<Self> {
        if !store.scheme.zero.shifts() {
            return None;
        }
        let n = form.ncols();
        let groups = n.div_ceil(size);
        let columns = |group: usize| group * size..n.min((group + 1) * size);
        let sums = Mat::from_fn(n, groups, |j, a| columns(a).map(|l| form[(j, l)]).sum::<f64>());
        let mut gram = vec![0.0; groups * groups];
        for (index, entry) in gram.iter_mut().enumerate() {
            *entry = columns(index / groups).map(|j| sums[(j, index % groups)]).sum();
        }
        Some(Self { store, size, sums, gram })
    }

    /// Fits the zero points of a panel's rows; `projected` follows.
    pub(super) fn run(&self, weight: MatRef<'_, f32>, state: &mut Panel<'_>, projected: &mut Mat<f64>) {
        let (m, n) = weight.shape();
        let groups = self.sums.ncols();
        let error = Mat::from_fn(m, n, |i, j| f64::from(weight[(i, j)]) - projected[(i, j)]);
        let mut products = Mat::zeros(m, groups);
        matmul(products.as_mut(), Accum::Replace, error.as_ref(), self.sums.as_ref(), 1.0, Par::Seq);
        let Scheme { code, zero: rule, .. } = *self.store.scheme;
        for i in 0..m {
            for a in 0..groups {
                let grid = &mut state.grids[i * groups + a];
                let (scale, line) = (f64::from(grid.scale), &self.gram[a * groups..(a + 1) * groups]);
                let best = f64::from(grid.zero) - products[(i, a)] / (scale * line[a]);
                if !best.is_finite() {
                    continue;
                }
                let zero = rule.round(code, best);
                let step = scale * (f64::from(zero) - f64::from(grid.zero));
                let change = step * (2.0 * products[(i, a)] + step * line[a]);
                if change.is_nan() || change >= 0.0 {
                    continue;
                }
                grid.zero = zero;
                for (b, entry) in line.iter().enumerate() {
                    products[(i, b)] += step * entry;
                }
                for j in a * self.size..n.min((a + 1) * self.size) {
                    let value = code.value(state.codes[i * n + j]) - zero;
                    projected[(i, j)] = f64::from(value) * scale;
                }
            }
        }
    }
}
