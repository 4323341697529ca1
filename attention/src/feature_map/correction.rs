//! Exact weights on a support, in place of the features' products: `w_ij = exp(τ·q_i·k_j) - φ(q_i)·φ(k_j)`.
//!
//! Everything of query i is divided by `2^Mᵢ`, Mᵢ the larger of its largest logit and of the scale of its features' products
//! (both base 2): the features' part is multiplied by `λ = 2^(scale - M) ≤ 1`, and nothing overflows.

use alloc::{vec, vec::Vec};

use super::Problem;
use super::rows::{LANES, Maker, Row, dot, least};
use crate::Element;

/// A query head's batch entry and number, its key head, and the query's token.
pub(super) type Place = ((usize, usize), usize, usize);

/// One pair of the support.
#[derive(Clone, Copy)]
pub(super) struct Pair<T> {
    pub(super) key: usize,
    /// exp(τ·q·k)/2^M.
    pub(super) exact: T,
    /// w/2^M.
    pub(super) weight: T,
    /// What the product of the stored features is multiplied by.
    pub(super) factor: T,
}

/// The keys' features of one head, and the pairs of one query.
pub(super) struct Correction<T> {
    /// Features of each key, one after another, padded with zeros.
    pub(super) features: Vec<Row<T>>,
    /// What each chunk of keys is relative to.
    shifts: Vec<T>,
    groups: usize,
    /// The last query's pairs, λ and features.
    pub(super) pairs: Vec<Pair<T>>,
    pub(super) lambda: T,
    pub(super) own: Vec<Row<T>>,
    query: Vec<T>,
    key: Vec<T>,
    /// Base-2 logarithm of m.
    log_count: T,
}

impl<T: Element> Correction<T> {
    pub(super) fn new(problem: &Problem<'_, T>) -> Self {
        let zero = T::from_f64(0.0);
        let (keys, dim) = (problem.key.shape()[2], problem.key.shape()[3]);
        let groups = problem.features.div_ceil(LANES);
        let log_count = num_traits::Float::log2(problem.features.max(1) as f64);
        Self {
            features: vec![[zero; LANES]; keys * groups],
            shifts: vec![zero; keys.div_ceil(LANES)],
            groups,
            pairs: vec![],
            lambda: zero,
            own: vec![[zero; LANES]; groups],
            query: vec![zero; dim],
            key: vec![zero; dim],
            log_count: T::from_f64(if problem.shifted() { log_count } else { 0.0 }),
        }
    }

    /// Stores a chunk of features that are relative to `shift`.
    pub(super) fn remember(&mut self, rows: &[Row<T>], shift: T, first: usize, len: usize) {
        for (g, group) in rows.chunks_exact(LANES).enumerate() {
            for (i, row) in group[..len].iter().enumerate() {
                self.features[(first + i) * self.groups + g] = *row;
            }
        }
        self.shifts[first / LANES] = shift;
    }

    /// The stored features of a key.
    pub(super) fn features(&self, key: usize) -> &[Row<T>] {
        &self.features[key * self.groups..(key + 1) * self.groups]
    }

    /// Finds λ and the pairs of the chunk's query i, while the state is relative to `shift`.
    pub(super) fn correct(
        &mut self,
        problem: &Problem<'_, T>,
        queries: &Maker<T>,
        shift: T,
        (at, kv_head, token): Place,
        i: usize,
    ) {
        let zero = T::from_f64(0.0);
        self.pairs.clear();
        self.lambda = T::from_f64(1.0);
        let Some(support) = problem.support else { return };
        let scale = if problem.map.is_none() {
            num_traits::Float::neg_infinity()
        } else if problem.shifted() {
            queries.scales[i] + shift - self.log_count
        } else {
            zero
        };
        problem.query.copy_line(at.0, at.1, token, &mut self.query);
        let base = T::from_f64(problem.scale * core::f64::consts::LOG2_E);
        self.query.iter_mut().for_each(|x| *x *= base);
        for (g, own) in self.own.iter_mut().enumerate() {
            *own = queries.rows[g * LANES + i];
        }
        let mut most = if scale > least() { scale } else { num_traits::Float::neg_infinity() };
        for &key in support.row(at.0, at.1, token) {
            let key = key as usize;
            if problem.causal && key > token {
                continue;
            }
            problem.key.copy_line(at.0, kv_head, key, &mut self.key);
            let logit = dot(&self.query, &self.key);
            most = if logit > most { logit } else { most };
            self.pairs.push(Pair { key, exact: logit, weight: zero, factor: zero });
        }
        if most == num_traits::Float::neg_infinity() {
            return;
        }
        self.lambda = num_traits::Float::exp2(scale - most);
        for k in 0..self.pairs.len() {
            let Pair { key, exact: logit, .. } = self.pairs[k];
            let exact = num_traits::Float::exp2(logit - most);
            let factor = if problem.shifted() {
                self.lambda * num_traits::Float::exp2(self.shifts[key / LANES] - shift)
            } else {
                self.lambda
            };
            let product = dot(self.own.as_flattened(), self.features(key).as_flattened());
            self.pairs[k] = Pair { key, exact, weight: exact - factor * product, factor };
        }
    }

    /// Multiplies the features' part of query i by λ and adds its pairs.
    pub(super) fn add(
        &mut self,
        problem: &Problem<'_, T>,
        (at, kv_head, _): Place,
        i: usize,
        outputs: &mut [Row<T>],
        sums: &mut Row<T>,
    ) {
        let (zero, lambda) = (T::from_f64(0.0), self.lambda);
        outputs.chunks_exact_mut(LANES).for_each(|rows| rows[i].iter_mut().for_each(|x| *x *= lambda));
        let (mut sum, mut exact) = (sums[i] * lambda, zero);
        for pair in &self.pairs {
            sum += pair.weight;
            exact += pair.exact;
            let from = problem.value.offset([at.0, kv_head, pair.key, 0]);
            match problem.value.lines() {
                Some(data) => {
                    let line = &data[from..from + problem.value.shape()[3]];
                    for (rows, part) in outputs.chunks_exact_mut(LANES).zip(line.chunks(LANES)) {
                        rows[i].iter_mut().zip(part).for_each(|(to, &x)| *to += pair.weight * x);
                    }
                }
                None => {
                    for e in 0..problem.value.shape()[3] {
                        let x = problem.value.at([at.0, kv_head, pair.key, e]);
                        outputs[e / LANES * LANES + i][e % LANES] += pair.weight * x;
                    }
                }
            }
        }
        // Weights outside the support are positive, so that only rounding can bring the sum below that of the support.
        sums[i] = if sum > exact { sum } else { exact };
    }
}
