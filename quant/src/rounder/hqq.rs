//! HQQ: grids that fit most of a group well, without calibration.
//!
//! ```text
//! minimize  Σ_j |w_j − ŵ_j|^p,  p < 1,   ŵ = s·(q − z),   by splitting off the outliers E:
//! E = shrink(W − Ŵ),  shrink(x) = sign(x)·max(0, |x| − |x|^(p−1)/β);   then q, s, z for W − E by least squares
//! ```
//! Per group, from the grid of the nearest rounder: (1) nearest codes; (2) E; (3) the best s and z for `W − E` given
//! the codes: a straight line through (q, w − e), its zero crossing rounded to what is stored, then
//! the best s for that; (4) again until the squared error no longer falls. The best grid is kept, so a group never gets
//! worse in it; starting also from the range clipped a little (0.9, 0.8) finds better ones.
//!
//! O(iterations · out · in). Formats whose scales are not free numbers keep those of the nearest rounder, as do groups of
//! the whole matrix.
//!
//! Source: HQQ (Badri and Shaji, 2023) and its released code, whose zero points are 16-bit floats: the formats `uint2-f` to
//! `uint8-f`. With whole zero points the error of 4 bits in groups of 64 is 8 % larger. Deviation: the scale is fitted as
//! well, which HQQ leaves alone.

use super::grid::{self, Grid, Levels, Store};
use super::{Rounded, nearest};
use crate::{Error, Group, Scheme};
use alloc::vec::Vec;
use num_traits::Float;
use rankbit_linalg::faer::MatRef;

/// Shares of the range's two ends from which the alternation starts.
const STARTS: [(f64, f64); 7] =
    [(1.0, 1.0), (0.9, 0.9), (0.8, 0.8), (1.0, 0.87), (0.87, 1.0), (1.0, 0.94), (0.94, 1.0)];

/// As in [`Rounder::Hqq`](super::Rounder::Hqq).
#[derive(Clone, Copy)]
pub(super) struct Options {
    pub(super) norm: f64,
    pub(super) beta: f64,
    pub(super) iterations: u32,
}

pub(super) fn quantize(weight: MatRef<'_, f32>, scheme: &Scheme, options: Options) -> Result<Rounded, Error> {
    let Options { norm, beta, .. } = options;
    if !(norm > 0.0 && norm < 1.0) {
        return Err(Error::InvalidOption { what: "norm", requirement: "between 0 and 1", found: norm });
    }
    if !(beta > 0.0 && beta.is_finite()) {
        return Err(Error::InvalidOption { what: "beta", requirement: "finite and positive", found: beta });
    }
    let start = nearest::quantize(weight, scheme)?;
    let (scheme, grouping) = (*start.quantized.scheme(), *start.quantized.grouping());
    if !grid::free_scales(&scheme) || scheme.group == Group::Tensor {
        return Ok(start);
    }
    let store = Store { scheme: &scheme, scales: start.quantized.scales() };
    let levels = Levels::new(&scheme);
    let panels = grid::panels(weight.nrows(), grouping.rows, |rows| {
        let weight = weight.subrows(rows.start, rows.len());
        let first = grouping.index(rows.start, 0);
        let mut grids = grid::grids_of(&start.quantized, rows);
        let mut solver = Solver::new(&levels, store, options);
        grid::each_group(weight, &grouping, |group| {
            let grid = &mut grids[group.place];
            *grid = solver.solve(group.values, *grid, first + group.place);
        });
        Ok::<_, Error>(grid::nearest_on(weight, &levels, grids, &grouping))
    })?;
    let quantized = grid::assemble(weight.shape(), &store, &panels)?;
    Ok(Rounded { quantized, ..start })
}

struct Solver<'a> {
    levels: &'a Levels,
    store: Store<'a>,
    options: Options,
    /// |x| up to which shrink(x) = 0: x^(2−p) = 1/β.
    threshold: f32,
    codes: Vec<f32>,
}

impl<'a> Solver<'a> {
    fn new(levels: &'a Levels, store: Store<'a>, options: Options) -> Self {
        let threshold = Float::powf(1.0 / options.beta, 1.0 / (2.0 - options.norm));
        Self { levels, store, options, threshold: crate::float::narrow(threshold), codes: Vec::new() }
    }

    /// The best grid found for one group, `given` included.
    fn solve(&mut self, group: &[f32], given: Grid, index: usize) -> Grid {
        self.codes.resize(group.len().max(self.codes.len()), 0.0);
        let fold = |(low, high): (f32, f32), &x: &f32| (low.min(x), high.max(x));
        let (low, high) = group.iter().fold((0.0, 0.0), fold);
        let (low, high) = (f64::from(low), f64::from(high));
        let mut best = (given, f32::INFINITY);
        let both = self.store.scheme.zero.shifts();
        for (left, right) in STARTS.into_iter().filter(|(left, right)| both || left == right) {
            let (mut grid, kept) = if left < 1.0 || right < 1.0 {
                self.store.spanning(index, low * left, high * right)
            } else {
                (given, true)
            };
            if !kept || grid.scale <= 0.0 {
                continue;
            }
            let mut last = f32::INFINITY;
            for _ in 0..=self.options.iterations {
                let found = self.encode(group, grid);
                if found < best.1 {
                    best = (grid, found);
                }
                if found >= last {
                    break;
                }
                last = found;
                match self.refit(group, grid, index) {
                    Some(next) if next != grid => grid = next,
                    _ => break,
                }
            }
        }
        best.0
    }

    /// Step 1: nearest codes; returns Σ(w − ŵ)².
    fn encode(&mut self, group: &[f32], Grid { scale, zero, .. }: Grid) -> f32 {
        let reciprocal = scale.recip();
        let (low, high) = self.levels.ends();
        if self.levels.is_whole() {
            for (code, &w) in self.codes.iter_mut().zip(group) {
                *code = crate::code::int::round_ties_even((w * reciprocal + zero).clamp(low, high));
            }
        } else {
            for (code, &w) in self.codes.iter_mut().zip(group) {
                *code = self.levels.nearest(w * reciprocal + zero).1;
            }
        }
        let mut lanes = [0.0_f32; 8];
        for (codes, group) in self.codes[..group.len()].chunks(8).zip(group.chunks(8)) {
            for ((lane, code), w) in lanes.iter_mut().zip(codes).zip(group) {
                let error = w - (code - zero) * scale;
                *lane += error * error;
            }
        }
        lanes.iter().sum()
    }

    /// Steps 2 and 3: the next grid, or `None` when there is no usable one.
    fn refit(&self, group: &[f32], Grid { scale, zero, .. }: Grid, index: usize) -> Option<Grid> {
        let (mut sum_q, mut sum_t, mut sum_qq, mut sum_qt) = (0.0_f64, 0.0, 0.0, 0.0);
        for (&q, &w) in self.codes.iter().zip(group) {
            let error = w - (q - zero) * scale;
            let (q, t) = (f64::from(q), f64::from(w) - self.shrink(error));
            sum_q += q;
            sum_t += t;
            sum_qq += q * q;
            sum_qt += q * t;
        }
        let count = group.len() as f64;
        let mut zero = zero;
        if self.store.scheme.zero.shifts() {
            let variance = sum_qq - sum_q * sum_q / count;
            let slope = (sum_qt - sum_q * sum_t / count) / variance;
            if variance > 0.0 && slope > 0.0 {
                let offset = (sum_t - slope * sum_q) / count;
                zero = self.store.grid(crate::float::narrow(slope), offset).zero;
            }
        }
        let z = f64::from(zero);
        let square = sum_qq - 2.0 * z * sum_q + z * z * count;
        let best = (sum_qt - z * sum_t) / square;
        let (scale, kept) = self.store.scale(index, best);
        (square > 0.0 && kept && scale > 0.0).then_some(Grid { scale, zero, minimum: 0.0 })
    }

    fn shrink(&self, x: f32) -> f64 {
        if x.abs() <= self.threshold {
            return 0.0;
        }
        let size = f64::from(x.abs());
        let shrunk = size - Float::powf(size, self.options.norm - 1.0) / self.options.beta;
        shrunk.max(0.0) * f64::from(x.signum())
    }
}
