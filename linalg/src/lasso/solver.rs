//! Working sets, coordinate descent, extrapolation and Newton steps on the support; the gap decides when to stop.

use alloc::vec;
use alloc::vec::Vec;

use faer::linalg::cholesky::llt::factor::{cholesky_in_place, cholesky_in_place_scratch};
use faer::linalg::triangular_solve::{solve_lower_triangular_in_place, solve_upper_triangular_in_place};
use faer::{Mat, MatRef, Par};

use super::kernel::Problem;
use crate::dense;
use crate::instructions::Instructions;

/// Sweeps between looks at the gap of a working set.
const SWEEPS: usize = 10;
/// Iterates an extrapolation joins.
const MEMORY: usize = 5;
/// Largest support for which the normal equations are formed.
const NEWTON: usize = 4096;

/// What the gap is made of.
pub(super) struct Certificate {
    /// P(b).
    pub(super) objective: f64,
    /// P(b) − D(θ).
    pub(super) gap: f64,
    /// κ with θ = κ·r/λ.
    pub(super) factor: f64,
}

/// How a solve went.
pub(super) struct Outcome {
    pub(super) certificate: Certificate,
    pub(super) sweeps: usize,
    pub(super) screened: usize,
}

pub(super) struct Solver<'a> {
    pub(super) problem: Problem<'a>,
    pub(super) y: &'a [f64],
    pub(super) instructions: Instructions,
    /// The gap to reach.
    pub(super) target: f64,
    pub(super) most_sweeps: usize,
}

fn inner(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

impl Solver<'_> {
    fn threshold(&self, j: usize) -> f64 {
        self.problem.thresholds.get(j).copied().unwrap_or(0.0)
    }

    fn square(&self, j: usize) -> f64 {
        self.problem.squares.get(j).copied().unwrap_or(0.0)
    }

    /// The part of a product that the dual constraint bounds: its modulus, or the positive part.
    fn size(&self, product: f64) -> f64 {
        if self.problem.non_negative { product.max(0.0) } else { product.abs() }
    }

    fn objective(&self, b: &[f64], residual: &[f64]) -> f64 {
        inner(residual, residual) / 2.0
            + b.iter().zip(self.problem.thresholds).map(|(b, t)| t * b.abs()).sum::<f64>()
    }

    /// The certificate of (b, r) given the products of the columns in `set` with r.
    ///
    /// ```text
    /// θ = κ·r/λ, κ = min(y·r/‖r‖², min_j λwⱼ/|xⱼ·r|)      D(θ) = κ·y·r − κ²‖r‖²/2
    /// ```
    fn certificate(&self, set: &[usize], products: &[f64], b: &[f64], residual: &[f64]) -> Certificate {
        let (square, along) = (inner(residual, residual), inner(residual, self.y));
        let mut factor = if square > 0.0 { (along / square).max(0.0) } else { 1.0 };
        for (&j, &product) in set.iter().zip(products) {
            let (size, threshold) = (self.size(product), self.threshold(j));
            if size * factor > threshold {
                factor = threshold / size;
            }
        }
        let objective = self.objective(b, residual);
        Certificate { objective, gap: objective - factor * (along - factor * square / 2.0), factor }
    }

    /// y − X·b from scratch.
    fn residual(&self, b: &[f64]) -> Vec<f64> {
        let mut residual = self.y.to_vec();
        for (j, &b) in b.iter().enumerate() {
            if b != 0.0 {
                for (r, x) in residual.iter_mut().zip(self.problem.column(j)) {
                    *r -= b * x;
                }
            }
        }
        residual
    }

    pub(super) fn run(&self, b: &mut [f64]) -> Outcome {
        let mut alive: Vec<usize> = (0..b.len()).filter(|&j| self.square(j) > 0.0).collect();
        for (j, b) in b.iter_mut().enumerate() {
            if self.square(j) == 0.0 {
                *b = 0.0;
            }
        }
        let columns = b.len();
        let mut residual = self.residual(b);
        let mut products = vec![0.0; alive.len()];
        let mut sweeps = 0;
        let mut size = 64usize;
        loop {
            products.resize(alive.len(), 0.0);
            self.instructions.products(&self.problem, &alive, &residual, &mut products);
            let certificate = self.certificate(&alive, &products, b, &residual);
            let done = certificate.gap <= self.target || sweeps >= self.most_sweeps;
            if done || certificate.gap.is_nan() {
                return Outcome { certificate, sweeps, screened: columns - alive.len() };
            }
            let working = self.screen(&mut alive, &products, &certificate, b, &mut size);
            let target = (0.3 * certificate.gap).max(0.9 * self.target);
            let whole = working.len() == alive.len();
            let target = if whole { self.target } else { target };
            residual = self.residual(b);
            sweeps += self.solve_set(&working, target, b, &mut residual, self.most_sweeps - sweeps).max(1);
            residual = self.residual(b);
        }
    }

    /// Drops what the gap proves to be zero, and returns the columns nearest to their constraint.
    ///
    /// ```text
    /// |xⱼ·θ| + ‖xⱼ‖·√(2·gap)/λ < wⱼ   ⇒   bⱼ = 0 in every solution
    /// ```
    fn screen(
        &self,
        alive: &mut Vec<usize>,
        products: &[f64],
        certificate: &Certificate,
        b: &mut [f64],
        size: &mut usize,
    ) -> Vec<usize> {
        let radius = libm::sqrt(2.0 * certificate.gap.max(0.0));
        let mut scored: Vec<(f64, usize)> = Vec::with_capacity(alive.len());
        let mut support = 0;
        for (&j, &product) in alive.iter().zip(products) {
            let norm = libm::sqrt(self.square(j));
            let slack = self.threshold(j) - certificate.factor * self.size(product);
            let Some(b) = b.get_mut(j) else { continue };
            if slack > radius * norm * (1.0 + 1e-9) {
                *b = 0.0;
            } else if *b != 0.0 {
                support += 1;
                scored.push((-1.0, j));
            } else {
                scored.push((slack.max(0.0) / norm, j));
            }
        }
        alive.clear();
        alive.extend(scored.iter().map(|scored| scored.1));
        *size = (*size).max(2 * support).min(scored.len());
        if *size < scored.len() && *size > 0 {
            scored.select_nth_unstable_by(*size - 1, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            scored.truncate(*size);
        }
        let mut working: Vec<usize> = scored.into_iter().map(|scored| scored.1).collect();
        working.sort_unstable();
        working
    }

    /// Coordinate descent on a working set until its own gap is at most `target`; returns the sweeps.
    fn solve_set(
        &self,
        set: &[usize],
        target: f64,
        b: &mut [f64],
        residual: &mut Vec<f64>,
        most: usize,
    ) -> usize {
        let mut products = vec![0.0; set.len()];
        let mut memory: Vec<Vec<f64>> = Vec::new();
        let mut sweeps = 0;
        let mut support: Vec<usize> = Vec::new();
        while sweeps < most {
            for _ in 0..SWEEPS {
                self.instructions.sweep(&self.problem, set, b, residual);
                memory.push(gather(set, b));
                if memory.len() > MEMORY {
                    self.extrapolate(set, &memory, b, residual);
                    memory.clear();
                }
            }
            sweeps += SWEEPS;
            self.instructions.products(&self.problem, set, residual, &mut products);
            if self.certificate(set, &products, b, residual).gap <= target {
                break;
            }
            // Near the end the signs stand still, and Newton's step on them is the solution.
            let now: Vec<usize> =
                set.iter().copied().filter(|&j| b.get(j).is_some_and(|&b| b != 0.0)).collect();
            let changed = now.len().abs_diff(support.len())
                + now.iter().filter(|j| support.binary_search(j).is_err()).count();
            if changed * 50 <= now.len() && now.len() <= NEWTON {
                self.newton(&now, b, residual);
                memory.clear();
            }
            support = now;
        }
        sweeps
    }

    /// Takes the new coefficients of `set` if they lower the objective.
    fn accept(&self, set: &[usize], new: &[f64], b: &mut [f64], residual: &mut Vec<f64>) -> bool {
        let before = self.objective(b, residual);
        let mut candidate = b.to_vec();
        for (&j, &new) in set.iter().zip(new) {
            if let Some(b) = candidate.get_mut(j) {
                *b = if self.problem.non_negative { new.max(0.0) } else { new };
            }
        }
        let candidate_residual = self.residual(&candidate);
        let better = self.objective(&candidate, &candidate_residual) < before;
        if better {
            b.copy_from_slice(&candidate);
            *residual = candidate_residual;
        }
        better
    }

    /// Anderson's extrapolation of the iterates: the affine combination whose differences are least.
    fn extrapolate(&self, set: &[usize], memory: &[Vec<f64>], b: &mut [f64], residual: &mut Vec<f64>) {
        let differences: Vec<Vec<f64>> = memory
            .windows(2)
            .filter_map(|pair| match pair {
                [a, b] => Some(a.iter().zip(b).map(|(a, b)| b - a).collect()),
                _ => None,
            })
            .collect();
        let k = differences.len();
        let mut gram = Mat::from_fn(k, k, |i, j| {
            differences.get(i).zip(differences.get(j)).map_or(0.0, |(a, b)| inner(a, b))
        });
        let trace: f64 = (0..k).map(|i| gram[(i, i)]).sum();
        if trace.is_nan() || trace <= 0.0 {
            return;
        }
        for i in 0..k {
            gram[(i, i)] += 1e-12 * trace;
        }
        let ones = Mat::from_fn(k, 1, |_, _| 1.0);
        let Ok(Some(weights)) = crate::solve_spd(gram.as_ref(), ones.as_ref(), 0.0) else { return };
        let total: f64 = (0..k).map(|i| weights[(i, 0)]).sum();
        if total.is_nan() || total.abs() < 1e-300 {
            return;
        }
        let mut new = vec![0.0; set.len()];
        for (i, iterate) in memory.iter().skip(1).enumerate().take(k) {
            for (new, value) in new.iter_mut().zip(iterate) {
                *new += weights[(i, 0)] / total * value;
            }
        }
        if new.iter().all(|value| value.is_finite()) {
            self.accept(set, &new, b, residual);
        }
    }

    /// Newton's step on the support with its signs: (X_SᵀX_S)·d = X_Sᵀr − λ·w·sign(b); what changes its sign becomes 0,
    /// else the step ends where the first one would.
    fn newton(&self, support: &[usize], b: &mut [f64], residual: &mut Vec<f64>) {
        let (n, rows) = (support.len(), self.problem.x.nrows());
        if n == 0 || n > rows {
            return;
        }
        let mut joined: Vec<f64> = Vec::with_capacity(n * rows);
        for &j in support {
            joined.extend_from_slice(self.problem.column(j));
        }
        let x = MatRef::from_column_major_slice(&joined, rows, n);
        let mut gram = Mat::<f64>::zeros(n, n);
        dense::add_gram_lower(gram.as_mut(), x, 1.0);
        let mut right = Mat::<f64>::zeros(n, 1);
        let mut products = vec![0.0; n];
        self.instructions.products(&self.problem, support, residual, &mut products);
        let old = gather(support, b);
        for (i, ((&j, product), old)) in support.iter().zip(&products).zip(&old).enumerate() {
            right[(i, 0)] = product - self.threshold(j).copysign(*old);
        }
        let mut buffer = faer::dyn_stack::MemBuffer::new(cholesky_in_place_scratch::<f64>(
            n,
            Par::Seq,
            Default::default(),
        ));
        let stack = faer::dyn_stack::MemStack::new(&mut buffer);
        if cholesky_in_place(gram.as_mut(), Default::default(), Par::Seq, stack, Default::default()).is_err()
        {
            return;
        }
        solve_lower_triangular_in_place(gram.as_ref(), right.as_mut(), Par::Seq);
        solve_upper_triangular_in_place(gram.transpose(), right.as_mut(), Par::Seq);
        let step = |i: usize| right[(i, 0)];
        let mut longest = 1.0f64;
        let mut projected = old.clone();
        for (i, value) in projected.iter_mut().enumerate() {
            let new = *value + step(i);
            if !new.is_finite() {
                return;
            }
            if new * *value <= 0.0 {
                longest = longest.min(-*value / step(i));
                *value = 0.0;
            } else {
                *value = new;
            }
        }
        if !self.accept(support, &projected, b, residual) {
            let partial: Vec<f64> = old.iter().enumerate().map(|(i, old)| old + longest * step(i)).collect();
            self.accept(support, &partial, b, residual);
        }
    }
}

/// The coefficients of a set.
fn gather(set: &[usize], b: &[f64]) -> Vec<f64> {
    set.iter().map(|&j| b.get(j).copied().unwrap_or(0.0)).collect()
}
