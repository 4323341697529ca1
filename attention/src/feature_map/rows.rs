//! Features of up to 32 tokens at a time, in rows of 32 lanes, and their pull-back.

use alloc::{vec, vec::Vec};

use super::{FeatureMap, Problem};
use crate::kernel::{self, Init, Kernels, Strided};
use crate::{Element, View};

/// Lanes of a row, and tokens of a chunk.
pub(super) const LANES: usize = 32;

/// One row of lanes.
pub(super) type Row<T> = [T; LANES];

/// Makes features, with its own memory.
pub(super) struct Maker<T> {
    kernels: Kernels,
    dim: usize,
    features: usize,
    root: T,
    kind: Kind<T>,
    /// The chunk's vectors, one after another; times √τ for the Taylor map.
    inputs: Vec<T>,
    /// Random: what was subtracted from each token's exponents (base 2).
    shifts: Row<T>,
    /// Random features of queries: the base-2 logarithm of what their rows have to be multiplied by, but for 1/√m; else 0.
    pub(super) scales: Row<T>,
    /// Features `[feature / 32][token of the chunk][feature % 32]`; zeros beyond the last.
    pub(super) rows: Vec<Row<T>>,
}

enum Kind<T> {
    /// None at all.
    Nothing,
    Identity,
    Elu,
    Taylor,
    /// √τ·log₂e·w, `[feature / 32][d][feature % 32]`.
    Random(Vec<Row<T>>),
}

/// What is subtracted from the exponents of random features (base 2).
#[derive(Clone, Copy)]
pub(super) enum Shift<T> {
    /// Each token's largest: of queries.
    Own,
    /// The larger of this and the chunk's largest: of keys.
    AtLeast(T),
    /// This.
    Fixed(T),
}

impl<T: Element> Maker<T> {
    pub(super) fn new(kernels: Kernels, problem: &Problem<'_, T>) -> Self {
        let zero = T::from_f64(0.0);
        let (dim, features) = (problem.query.shape()[3], problem.features);
        let kind = match problem.map {
            None => Kind::Nothing,
            Some(FeatureMap::Identity) => Kind::Identity,
            Some(FeatureMap::Elu) => Kind::Elu,
            Some(FeatureMap::Taylor { .. }) => Kind::Taylor,
            Some(FeatureMap::Random { features: random, .. }) => {
                let mut directions = vec![[zero; LANES]; features.div_ceil(LANES) * dim];
                let factor = problem.root * core::f64::consts::LOG2_E;
                for (f, (sign, w)) in random.signed().enumerate() {
                    for (k, &w) in w.iter().enumerate() {
                        directions[f / LANES * dim + k][f % LANES] = T::from_f64(sign * factor * w);
                    }
                }
                Kind::Random(directions)
            }
        };
        Self {
            kernels,
            dim,
            features,
            root: T::from_f64(problem.root),
            kind,
            inputs: vec![zero; dim * LANES],
            shifts: [zero; LANES],
            scales: [zero; LANES],
            rows: vec![[zero; LANES]; features.div_ceil(LANES) * LANES],
        }
    }

    /// Features of tokens `first..first + len` (at most 32) of a head; hands back what keys were shifted by.
    pub(super) fn make(
        &mut self,
        view: View<'_, T>,
        at: (usize, usize),
        first: usize,
        len: usize,
        shift: Shift<T>,
    ) -> T {
        let (dim, zero) = (self.dim, T::from_f64(0.0));
        for (i, line) in self.inputs.chunks_exact_mut(dim).take(len).enumerate() {
            view.copy_line(at.0, at.1, first + i, line);
        }
        match &self.kind {
            Kind::Nothing => return zero,
            Kind::Identity | Kind::Elu => {
                for (i, line) in self.inputs.chunks_exact(dim).take(len).enumerate() {
                    for (group, part) in line.chunks(LANES).enumerate() {
                        self.rows[group * LANES + i][..part.len()].copy_from_slice(part);
                    }
                }
                if matches!(self.kind, Kind::Elu) {
                    for group in self.rows.chunks_exact_mut(LANES) {
                        kernel::elu(self.kernels, &mut group[..len]);
                    }
                }
            }
            Kind::Taylor => {
                let root_half = T::from_f64(core::f64::consts::FRAC_1_SQRT_2);
                for (i, line) in self.inputs.chunks_exact_mut(dim).take(len).enumerate() {
                    line.iter_mut().for_each(|x| *x *= self.root);
                    let mut f = 0;
                    let mut put = |x: T| {
                        self.rows[f / LANES * LANES + i][f % LANES] = x;
                        f += 1;
                    };
                    put(T::from_f64(1.0));
                    line.iter().for_each(|&x| put(x));
                    for (j, &x) in line.iter().enumerate() {
                        put(x * x * root_half);
                        line[j + 1..].iter().for_each(|&y| put(x * y));
                    }
                }
            }
            Kind::Random(_) => return self.random(len, shift),
        }
        // Lanes beyond the last feature.
        let tail = self.features % LANES;
        if tail > 0 {
            let last = self.rows.len() - LANES;
            self.rows[last..last + len].iter_mut().for_each(|row| row[tail..].fill(zero));
        }
        zero
    }

    /// `2^(log₂e·(±√τ·w·x - τ·|x|²/2) - shift)`.
    fn random(&mut self, len: usize, shift: Shift<T>) -> T {
        let (dim, zero) = (self.dim, T::from_f64(0.0));
        let Kind::Random(table) = &self.kind else { return zero };
        let least = least();
        let half = self.root * self.root * T::from_f64(core::f64::consts::LOG2_E / 2.0);
        let tail = self.features % LANES;
        let groups = self.rows.len() / LANES;
        let a = Strided { data: &self.inputs, row: dim, column: 1 };
        let mut lanes = [[least; LANES]; LANES];
        for (g, (group, w)) in self.rows.chunks_exact_mut(LANES).zip(table.chunks_exact(dim)).enumerate() {
            kernel::product(self.kernels, a, w, &mut group[..len], Init::Zero);
            let real = if g + 1 == groups && tail > 0 { tail } else { LANES };
            for (row, most) in group[..len].iter_mut().zip(&mut lanes) {
                // Lanes beyond the last feature become zeros.
                row[real..].fill(num_traits::Float::neg_infinity());
                for (most, &x) in most.iter_mut().zip(&*row) {
                    *most = if x > *most { x } else { *most };
                }
            }
        }
        let most: Row<T> =
            lanes.map(|lanes| lanes.iter().fold(least, |most, &x| if x > most { x } else { most }));
        let norms: Row<T> = core::array::from_fn(|i| {
            let line = &self.inputs[i * dim..(i + 1) * dim];
            half * dot(line, line)
        });
        let common = match shift {
            Shift::Own => zero,
            Shift::Fixed(shift) => shift,
            Shift::AtLeast(shift) => {
                let of_chunk = most.iter().zip(&norms).take(len).map(|(&most, &norm)| most - norm);
                of_chunk.fold(shift, |a, b| if b > a { b } else { a })
            }
        };
        for i in 0..LANES {
            self.shifts[i] = if matches!(shift, Shift::Own) { most[i] } else { norms[i] + common };
            self.scales[i] = most[i] - norms[i];
        }
        for group in self.rows.chunks_exact_mut(LANES) {
            kernel::exponentials(self.kernels, &mut group[..len], &self.shifts[..len]);
        }
        common
    }

    /// From the gradient by the features that were made last (lanes are tokens), that by their vectors, one after another.
    pub(super) fn pull_back(&self, slopes: &[Row<T>], len: usize, out: &mut [T]) {
        let (dim, zero) = (self.dim, T::from_f64(0.0));
        let feature = |i: usize, f: usize| self.rows[f / LANES * LANES + i][f % LANES];
        for (i, (to, x)) in out.chunks_exact_mut(dim).zip(self.inputs.chunks_exact(dim)).take(len).enumerate()
        {
            match &self.kind {
                Kind::Nothing => to.fill(zero),
                Kind::Identity => to.iter_mut().zip(slopes).for_each(|(to, slope)| *to = slope[i]),
                Kind::Elu => {
                    for (f, (to, slope)) in to.iter_mut().zip(slopes).enumerate() {
                        *to = slope[i] * num_traits::Float::min(feature(i, f), T::from_f64(1.0));
                    }
                }
                Kind::Taylor => {
                    let root_two = T::from_f64(core::f64::consts::SQRT_2);
                    to.iter_mut().zip(&slopes[1..]).for_each(|(to, slope)| *to = slope[i]);
                    let mut rest = slopes[1 + dim..].iter().map(|slope| slope[i]);
                    for j in 0..dim {
                        to[j] += root_two * x[j] * rest.next().unwrap_or(zero);
                        for k in j + 1..dim {
                            let slope = rest.next().unwrap_or(zero);
                            to[j] += slope * x[k];
                            to[k] += slope * x[j];
                        }
                    }
                    to.iter_mut().for_each(|x| *x *= self.root);
                }
                Kind::Random(table) => {
                    // φ'ᵣ = φᵣ·(√τ·wᵣ - τ·x)
                    let mut total = zero;
                    to.fill(zero);
                    for (f, slope) in slopes.iter().enumerate() {
                        let weight = slope[i] * feature(i, f);
                        total += weight;
                        for (to, row) in to.iter_mut().zip(&table[f / LANES * dim..]) {
                            *to += weight * row[f % LANES];
                        }
                    }
                    let (to_e, square) = (T::from_f64(core::f64::consts::LN_2), self.root * self.root);
                    to.iter_mut().zip(x).for_each(|(to, &x)| *to = *to * to_e - square * x * total);
                }
            }
        }
    }
}

/// Below every exponent, with room to subtract from.
pub(super) fn least<T: Element>() -> T {
    T::from_f64(<T as num_traits::Float>::min_value().to_f64() / 4.0)
}

/// `Σ a·b` over the shorter length, in sixteen sums.
pub(super) fn dot<T: Element>(a: &[T], b: &[T]) -> T {
    let mut sums = [T::from_f64(0.0); 16];
    let (a, b) = (a.chunks(16), b.chunks(16));
    for (a, b) in a.zip(b) {
        for ((sum, &a), &b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().fold(T::from_f64(0.0), |sum, &x| sum + x)
}

/// `out[column][i]` of rows `[column / 32][i][column % 32]`.
pub(super) fn transpose<T: Copy>(rows: &[Row<T>], out: &mut [Row<T>]) {
    for (column, out) in out.iter_mut().enumerate() {
        for (i, x) in out.iter_mut().enumerate() {
            *x = rows[column / LANES * LANES + i][column % LANES];
        }
    }
}

/// Copies tokens `first..first + len` of a head into rows `[e / 32][token][e % 32]`; `line` has the view's last dimension.
pub(super) fn read<T: Element>(
    view: View<'_, T>,
    at: (usize, usize),
    (first, len): (usize, usize),
    line: &mut [T],
    rows: &mut [Row<T>],
) {
    for i in 0..len {
        view.copy_line(at.0, at.1, first + i, line);
        for (group, part) in line.chunks(LANES).enumerate() {
            rows[group * LANES + i][..part.len()].copy_from_slice(part);
        }
    }
}

/// The features of a query head and of its key head, `[token][feature]`; the keys' of one common factor.
#[cfg(feature = "std")]
pub(crate) fn all_features<T: Element>(
    problem: &Problem<'_, T>,
    batch: usize,
    head: usize,
    kv_head: usize,
) -> [Vec<T>; 2] {
    let count = problem.features;
    let mut found = [problem.query, problem.key].map(|view| vec![T::from_f64(0.0); view.shape()[2] * count]);
    each_chunk(problem, [batch, head, kv_head], |side, maker, first, len| {
        let lines = found[side][first * count..(first + len) * count].chunks_exact_mut(count.max(1));
        for (i, line) in lines.enumerate() {
            for (g, part) in line.chunks_mut(LANES).enumerate() {
                part.copy_from_slice(&maker.rows[g * LANES + i][..part.len()]);
            }
        }
    });
    found
}

/// From gradients by what [`all_features`] makes, those by the queries and the keys, `[token][head_dim]`.
#[cfg(feature = "std")]
pub(crate) fn pull_back_all<T: Element>(
    problem: &Problem<'_, T>,
    place: [usize; 3],
    slopes: [&[f64]; 2],
) -> [Vec<T>; 2] {
    let (count, dim) = (problem.features, problem.query.shape()[3]);
    let mut found = [problem.query, problem.key].map(|view| vec![T::from_f64(0.0); view.shape()[2] * dim]);
    let mut turned = vec![[T::from_f64(0.0); LANES]; count];
    each_chunk(problem, place, |side, maker, first, len| {
        for (f, row) in turned.iter_mut().enumerate() {
            for (i, x) in row[..len].iter_mut().enumerate() {
                *x = T::from_f64(slopes[side][(first + i) * count + f]);
            }
        }
        maker.pull_back(&turned, len, &mut found[side][first * dim..(first + len) * dim]);
    });
    found
}

/// Makes the features of a head's queries (side 0) and of its keys (side 1), up to 32 tokens `first..first + len` at a time.
#[cfg(feature = "std")]
fn each_chunk<T: Element>(
    problem: &Problem<'_, T>,
    [batch, head, kv_head]: [usize; 3],
    mut work: impl FnMut(usize, &Maker<T>, usize, usize),
) {
    let mut maker = Maker::new(Kernels::current(), problem);
    let keys = problem.key.shape()[2];
    let mut shift = least();
    for first in (0..keys).step_by(LANES) {
        let len = LANES.min(keys - first);
        shift = maker.make(problem.key, (batch, kv_head), first, len, Shift::AtLeast(shift));
    }
    let sides = [(problem.query, head, Shift::Own), (problem.key, kv_head, Shift::Fixed(shift))];
    for (side, (view, head, shift)) in sides.into_iter().enumerate() {
        let tokens = view.shape()[2];
        for first in (0..tokens).step_by(LANES) {
            let len = LANES.min(tokens - first);
            maker.make(view, (batch, head), first, len, shift);
            work(side, &maker, first, len);
        }
    }
}
