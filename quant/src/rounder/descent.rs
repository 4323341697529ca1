//! Better than GPTQ at equal bits: coordinate descent on the codes and the best scales in closed form, in turn.
//!
//! ```text
//! minimize  tr((W − Ŵ)·H·(W − Ŵ)ᵀ)   over codes, scales and zero points,   H damped
//! ```
//! 1. Scales and zero points by the search for the least squared error, weighted by diag H.
//! 2. GPTQ in act-order on these grids.
//! 3. Coordinate descent: each column to the codes nearest to `ŵ_j + ((W − Ŵ)·H)_j / H_jj`.
//! 4. All scales of a row at once: with `c_a` the row's code values less zero points in group a and 0 elsewhere,
//!    `ŵ = Σ_a s_a·c_a` and the best scales solve `A·s = b`, `A_ab = c_a·H·c_bᵀ`, `b_a = w·H·c_aᵀ` (with a ridge of
//!    10⁻⁴). A scale outside half to twice its old value keeps the old; all are rounded as stored; a row whose
//!    error would not fall keeps its scales. Scales that are few bits (nested, E4M3, powers of two) move one after the
//!    other instead, each to the one nearest to `s_a = (b_a − Σ_{b≠a} A_ab·s_b)/A_aa` where that lowers the error.
//! 5. Zero points, where the scheme has them, one group after the other in closed form ([`super::zeros`]).
//!
//! Steps 3 to 5 are repeated `sweeps` times.
//!
//! **Monotone**: steps 3 to 5 never raise a row's error, so the result is at least as good as GPTQ on the searched
//! grids. Powers of two, signs and block layouts go without 1, block layouts, groups of several rows and scales in power-of-two
//! ratios without 4 and 5.
//!
//! Cost: the factor of H, O(in³), and per sweep about 5·out·in² multiply-adds, nearly all in matrix products.
//! Memory beside the result: 4·in² f64, and for each thread some 6 panels of 128 rows in f64.
//!
//! Sources: coordinate descent as in QuIP#, arXiv 2402.04396; the closed-form scales are the normal equations.

use super::gptq::Panel;
use super::grid::{self, Grid, Levels, Store};
use super::search::{self, Searched};
use super::zeros::ZeroFit;
use super::{Context, Rounded, nearest};
use crate::{Error, ScaleRule, Scheme};
use alloc::{vec, vec::Vec};
use num_traits::Float;
use rankbit_linalg::faer::linalg::matmul::matmul;
use rankbit_linalg::faer::{Accum, Mat, MatRef, Par};
use rankbit_linalg::{ErrorFeedback, Order, SweepOptions};

/// Ridge of the scale fit, relative to its diagonal.
const RIDGE: f64 = 1e-4;

pub(super) fn quantize(
    weight: MatRef<'_, f32>,
    scheme: &Scheme,
    context: &Context<'_>,
    damping: f64,
    sweeps: u32,
) -> Result<Rounded, Error> {
    let Some(hessian) = context.hessian else { return Err(Error::MissingHessian { rounder: "cd" }) };
    let mut rounded = nearest::quantize(weight, scheme)?;
    let start = &rounded.quantized;
    let (scheme, grouping) = (*start.scheme(), *start.grouping());
    let order = Order::ByDiagonal;
    let feedback = ErrorFeedback::new(hessian, &SweepOptions { damping, order, ..SweepOptions::default() })?;
    (rounded.damping, rounded.dead_inputs) = (Some(feedback.added()), feedback.dead());
    let searched = match search::searchable(&scheme) {
        true => Some(Searched::new(weight, start, Some(&search::importance(hessian)))?),
        false => None,
    };
    let store = searched.as_ref().map_or(Store { scheme: &scheme, scales: start.scales() }, Searched::store);
    let ratio = matches!(scheme.scale_rule, ScaleRule::Ratio(_));
    let fits = scheme.layout.is_planar() && grouping.rows == 1 && !ratio;
    let levels = Levels::new(&scheme);
    let form = feedback.damped();
    let zeros = if fits { ZeroFit::new(form.as_ref(), store, grouping.size) } else { None };
    let panels = grid::panels(weight.nrows(), grouping.rows, |rows| {
        let panel = weight.subrows(rows.start, rows.len());
        let first = grouping.index(rows.start, 0);
        let grids = match &searched {
            Some(searched) => searched.grids_of(rows.clone(), &grouping),
            None => grid::grids_of(start, rows.clone()),
        };
        let mut state = Panel::new(&levels, grids, rows.len(), start);
        let mut projected = feedback.sweep(panel, &mut state)?.projected;
        let mut scales = fits.then(|| ScaleFit::new(panel, form.as_ref(), store, (grouping.size, first)));
        for _ in 0..sweeps {
            projected = feedback.refine(panel, projected.as_ref(), &mut state)?.projected;
            if let Some(scales) = &mut scales {
                scales.run(&mut state, &mut projected);
            }
            if let Some(zeros) = &zeros {
                zeros.run(panel, &mut state, &mut projected);
            }
        }
        Ok(state.finish())
    })?;
    rounded.quantized = match scheme.layout.is_planar() {
        true => grid::assemble(weight.shape(), &store, &panels)?,
        false => grid::recode(rounded.quantized, &panels)?,
    };
    Ok(rounded)
}

/// Step 4 on a panel.
struct ScaleFit<'a> {
    form: MatRef<'a, f64>,
    store: Store<'a>,
    size: usize,
    /// Place of the panel's first scale in the storage.
    first: usize,
    /// W·H.
    weighted: Mat<f64>,
    /// Code values less zero points.
    values: Mat<f64>,
    /// c_b·H for one group b.
    product: Mat<f64>,
}

impl<'a> ScaleFit<'a> {
    fn new(
        weight: MatRef<'_, f32>,
        form: MatRef<'a, f64>,
        store: Store<'a>,
        (size, first): (usize, usize),
    ) -> Self {
        let (m, n) = weight.shape();
        let double = Mat::from_fn(m, n, |i, j| f64::from(weight[(i, j)]));
        let mut weighted = Mat::zeros(m, n);
        matmul(weighted.as_mut(), Accum::Replace, double.as_ref(), form, 1.0, Par::Seq);
        Self { form, store, size, first, weighted, values: Mat::zeros(m, n), product: Mat::zeros(m, n) }
    }

    /// Fits the scales of every row; `projected` follows.
    fn run(&mut self, state: &mut Panel<'_>, projected: &mut Mat<f64>) {
        let (m, n) = self.values.shape();
        let groups = n.div_ceil(self.size);
        for j in 0..n {
            let group = j / self.size;
            for (i, value) in self.values.col_as_slice_mut(j).iter_mut().enumerate() {
                let grid = state.grids[i * groups + group];
                *value = f64::from(self.store.scheme.code.value(state.codes[i * n + j]) - grid.zero);
            }
        }
        let (matrices, right) = self.normal_equations(groups);
        let mut row = Row::new(groups);
        for i in 0..m {
            for a in 0..groups {
                row.right[a] = right[a][i];
                for b in 0..=a {
                    row.matrix[a * groups + b] = matrices[a * groups + b][i];
                    row.matrix[b * groups + a] = matrices[a * groups + b][i];
                }
            }
            let grids = &mut state.grids[i * groups..(i + 1) * groups];
            if row.fit(grids, &self.store, self.first + i * groups) {
                for j in 0..n {
                    projected[(i, j)] = self.values[(i, j)] * f64::from(grids[j / self.size].scale);
                }
            }
        }
    }

    /// A (its lower half, by `a·groups + b`) and b, each a vector over the rows.
    fn normal_equations(&mut self, groups: usize) -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
        let (m, n) = self.values.shape();
        let mut matrices = vec![Vec::new(); groups * groups];
        let mut right = vec![vec![0.0; m]; groups];
        for b in 0..groups {
            let first = b * self.size;
            let len = self.size.min(n - first);
            let mut product = self.product.as_mut().subcols_mut(first, n - first);
            let form = self.form.submatrix(first, first, len, n - first);
            matmul(product.as_mut(), Accum::Replace, self.values.subcols(first, len), form, 1.0, Par::Seq);
            for a in b..groups {
                let mut sums = vec![0.0; m];
                for j in a * self.size..n.min((a + 1) * self.size) {
                    add_products(&mut sums, self.values.col_as_slice(j), self.product.col_as_slice(j));
                }
                matrices[a * groups + b] = sums;
            }
            for j in first..first + len {
                add_products(&mut right[b], self.values.col_as_slice(j), self.weighted.col_as_slice(j));
            }
        }
        (matrices, right)
    }
}

fn add_products(sums: &mut [f64], x: &[f64], y: &[f64]) {
    for ((sum, x), y) in sums.iter_mut().zip(x).zip(y) {
        *sum += x * y;
    }
}

/// The normal equations of one row.
struct Row {
    groups: usize,
    matrix: Vec<f64>,
    right: Vec<f64>,
    factor: Vec<f64>,
    old: Vec<f64>,
    new: Vec<f64>,
}

impl Row {
    fn new(groups: usize) -> Self {
        let (square, vector) = (vec![0.0; groups * groups], vec![0.0; groups]);
        let (factor, right, old, new) = (square.clone(), vector.clone(), vector.clone(), vector);
        Self { groups, matrix: square, right, factor, old, new }
    }

    /// Better scales into `grids`, whose first stands at `first` in the storage; whether there were any.
    fn fit(&mut self, grids: &mut [Grid], store: &Store<'_>, first: usize) -> bool {
        for (old, grid) in self.old.iter_mut().zip(grids.iter()) {
            *old = f64::from(grid.scale);
        }
        let found = match grid::free_scales(store.scheme) {
            true => self.fit_all(store, first),
            false => self.fit_each(store, first),
        };
        let better = found && self.error(&self.new) < self.error(&self.old);
        if better {
            for (grid, new) in grids.iter_mut().zip(&self.new) {
                grid.scale = crate::float::narrow(*new);
            }
        }
        better
    }

    /// All scales at once into `new`, each rounded as stored.
    fn fit_all(&mut self, store: &Store<'_>, first: usize) -> bool {
        if !self.solve() {
            return false;
        }
        for (index, (new, &old)) in (first..).zip(self.new.iter_mut().zip(&self.old)) {
            let (scale, kept) = store.scale(index, *new);
            let usable = kept && *new >= 0.5 * old && *new <= 2.0 * old;
            *new = if usable { f64::from(scale) } else { old };
        }
        true
    }

    /// One scale after the other into `new`.
    fn fit_each(&mut self, store: &Store<'_>, first: usize) -> bool {
        self.new.copy_from_slice(&self.old);
        let mut moved = false;
        for (a, line) in self.matrix.chunks_exact(self.groups).enumerate() {
            let curvature = line[a];
            if curvature <= 0.0 || self.old[a] == 0.0 {
                continue;
            }
            let product: f64 = line.iter().zip(&self.new).map(|(x, s)| x * s).sum();
            let best = self.new[a] + (self.right[a] - product) / curvature;
            let scale = f64::from(store.scale(first + a, best).0);
            if scale > 0.0 && (scale - best).abs() < (self.new[a] - best).abs() {
                (self.new[a], moved) = (scale, true);
            }
        }
        moved
    }

    /// s·A·sᵀ − 2·b·sᵀ.
    fn error(&self, scales: &[f64]) -> f64 {
        let mut total = 0.0;
        for ((line, s), b) in self.matrix.chunks_exact(self.groups).zip(scales).zip(&self.right) {
            let product: f64 = line.iter().zip(scales).map(|(a, t)| a * t).sum();
            total += s * (product - 2.0 * b);
        }
        total
    }

    /// `new` = (A + ridge)⁻¹·b by Cholesky; `false` when that fails.
    fn solve(&mut self) -> bool {
        let n = self.groups;
        self.factor.copy_from_slice(&self.matrix);
        self.new.copy_from_slice(&self.right);
        for a in 0..n {
            let value = &mut self.factor[a * n + a];
            // A group without codes: its scale is of no consequence.
            *value = if *value > 0.0 { *value * (1.0 + RIDGE) } else { 1.0 };
        }
        for a in 0..n {
            for b in 0..=a {
                let (upper, lower) = (&self.factor[b * n..b * n + b], &self.factor[a * n..a * n + b]);
                let dot: f64 = upper.iter().zip(lower).map(|(x, y)| x * y).sum();
                let value = self.factor[a * n + b] - dot;
                if a != b {
                    self.factor[a * n + b] = value / self.factor[b * n + b];
                } else if value > 0.0 {
                    self.factor[a * n + a] = Float::sqrt(value);
                } else {
                    return false;
                }
            }
        }
        for a in 0..n {
            let dot: f64 = self.factor[a * n..a * n + a].iter().zip(&self.new).map(|(x, y)| x * y).sum();
            self.new[a] = (self.new[a] - dot) / self.factor[a * n + a];
        }
        for a in (0..n).rev() {
            let dot: f64 = (a + 1..n).map(|b| self.factor[b * n + a] * self.new[b]).sum();
            self.new[a] = (self.new[a] - dot) / self.factor[a * n + a];
        }
        self.new.iter().all(|x| x.is_finite())
    }
}
