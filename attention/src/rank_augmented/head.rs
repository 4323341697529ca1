//! One head of rank-augmented attention: its buffer, its outputs, its gradients.

use alloc::{vec, vec::Vec};

use super::{Problem, RankAugmented};
use crate::dense::{self, dot};
use crate::kernel::Kernels;
use crate::{Element, View};

/// What outputs and gradients share.
pub(super) struct Head<'a, 'p, T> {
    kernels: Kernels,
    problem: &'a Problem<'p, T>,
    at: (usize, usize),
    /// Q and R(Q), `[n, d]`.
    query: Vec<T>,
    turned_query: Vec<T>,
    /// K and R(K), `[s, d]`, and v, `[s, e]`.
    key: Vec<T>,
    turned_key: Vec<T>,
    value: Vec<T>,
    /// q̄.
    mean: Vec<T>,
    /// α/s.
    weights: Vec<T>,
    /// B, `[d, e]`, and z.
    buffer: Vec<T>,
    sums: Vec<T>,
    /// `Q_i·z + ε`.
    denominators: Vec<T>,
    /// y, `[n, e]`.
    output: Vec<T>,
    dim: usize,
    value_dim: usize,
}

impl<'a, 'p, T: Element> Head<'a, 'p, T> {
    pub(super) fn new(kernels: Kernels, problem: &'a Problem<'p, T>, at: (usize, usize)) -> Self {
        let RankAugmented { query, key, value, .. } = problem.operands;
        let ([.., n, dim], [.., s, value_dim]) = (query.shape(), value.shape());
        let zero = T::from_f64(0.0);
        let mut query = gather(query, at);
        let mut key = gather(key, at);
        let value = gather(value, at);
        for x in query.iter_mut().chain(&mut key) {
            *x = elu(*x);
        }
        // 1. The weights of the keys.
        let mut mean = vec![zero; dim];
        add_lines(&mut mean, &query, |_| T::from_f64(1.0));
        mean.iter_mut().for_each(|x| *x /= T::from_f64(n.max(1) as f64));
        let mut weights: Vec<T> =
            key.chunks_exact(dim).map(|line| problem.scale * dot(&mean, line)).collect();
        let most = weights.iter().copied().fold(T::neg_infinity(), num_traits::Float::max);
        weights.iter_mut().for_each(|x| *x = num_traits::Float::exp(*x - most));
        let sum = weights.iter().fold(zero, |sum, &x| sum + x);
        weights.iter_mut().for_each(|x| *x /= sum);
        // 2. The buffer.
        let one = T::from_f64(1.0);
        let turned_query = turned(&problem.turns, &query, dim, one);
        let turned_key = turned(&problem.turns, &key, dim, one);
        let weighted: Vec<T> = turned_key
            .chunks_exact(dim)
            .zip(&weights)
            .flat_map(|(line, &weight)| line.iter().map(move |&x| weight * x))
            .collect();
        let buffer = dense::product(
            kernels,
            dense::transposed(&weighted, dim),
            dense::rows(&value, value_dim),
            [dim, s, value_dim],
        );
        let mut sums = vec![zero; dim];
        add_lines(&mut sums, &key, |j| weights[j]);
        // 3. The outputs.
        let denominators: Vec<T> =
            query.chunks_exact(dim).map(|line| dot(line, &sums) + problem.epsilon).collect();
        let mut output = dense::product(
            kernels,
            dense::rows(&turned_query, dim),
            dense::rows(&buffer, value_dim),
            [n, dim, value_dim],
        );
        for (line, &denominator) in output.chunks_exact_mut(value_dim.max(1)).zip(&denominators) {
            line.iter_mut().for_each(|x| *x /= denominator);
        }
        Self {
            kernels,
            problem,
            at,
            query,
            turned_query,
            key,
            turned_key,
            value,
            mean,
            weights,
            buffer,
            sums,
            denominators,
            output,
            dim,
            value_dim,
        }
    }

    /// `(y + l) ⊙ g`.
    pub(super) fn output(mut self, out: &mut [T]) {
        self.add_local();
        let gate = self.problem.operands.gate.map(|gate| gather(gate, self.at));
        out.copy_from_slice(&self.output);
        for (x, g) in out.iter_mut().zip(gate.into_iter().flatten()) {
            *x *= g;
        }
    }

    fn add_local(&mut self) {
        if let Some(local) = self.problem.operands.local {
            for (x, l) in self.output.iter_mut().zip(gather(local, self.at)) {
                *x += l;
            }
        }
    }

    /// Of every operand that is present.
    pub(super) fn gradient(mut self, upstream: View<'_, T>) -> RankAugmented<Vec<T>> {
        let RankAugmented { local, gate, .. } = self.problem.operands;
        let (n, s) = (self.denominators.len(), self.weights.len());
        let (dim, value_dim, zero) = (self.dim, self.value_dim, T::from_f64(0.0));
        // 1. Through the gate.
        let mut up = gather(upstream, self.at);
        let output = self.output.clone();
        self.add_local();
        let by_gate = gate.map(|gate| {
            let by = up.iter().zip(&self.output).map(|(&up, &y)| up * y).collect();
            up.iter_mut().zip(gather(gate, self.at)).for_each(|(up, g)| *up *= g);
            by
        });
        let by_local = local.map(|_| up.clone());
        // 2. Through the quotient: of the numerator, in place, and of the denominator.
        let mut by_denominator = vec![zero; n];
        for (i, up) in up.chunks_exact_mut(value_dim.max(1)).enumerate() {
            let y = &output[i * value_dim..][..value_dim];
            by_denominator[i] = -dot(up, y) / self.denominators[i];
            up.iter_mut().for_each(|x| *x /= self.denominators[i]);
        }
        // 3. To queries, buffer and sums.
        let product = |a, b, sizes| dense::product(self.kernels, a, b, sizes);
        let by_turned = product(
            dense::rows(&up, value_dim),
            dense::transposed(&self.buffer, value_dim),
            [n, value_dim, dim],
        );
        let back = T::from_f64(-1.0);
        let mut by_query = turned(&self.problem.turns, &by_turned, dim, back);
        let by_buffer = product(
            dense::transposed(&self.turned_query, dim),
            dense::rows(&up, value_dim),
            [dim, n, value_dim],
        );
        let mut by_sums = vec![zero; dim];
        add_lines(&mut by_sums, &self.query, |i| by_denominator[i]);
        // 4. To values and keys, and to the weights α/s.
        let mut by_value = product(
            dense::rows(&self.turned_key, dim),
            dense::rows(&by_buffer, value_dim),
            [s, dim, value_dim],
        );
        let pulled = product(
            dense::rows(&self.value, value_dim),
            dense::transposed(&by_buffer, value_dim),
            [s, value_dim, dim],
        );
        let mut by_weight = vec![zero; s];
        let mut by_turned = pulled;
        for (j, &weight) in self.weights.iter().enumerate() {
            let line = j * dim..(j + 1) * dim;
            let pulled = &mut by_turned[line.clone()];
            by_weight[j] = dot(&self.turned_key[line.clone()], pulled) + dot(&self.key[line], &by_sums);
            pulled.iter_mut().for_each(|x| *x *= weight);
            by_value[j * value_dim..][..value_dim].iter_mut().for_each(|x| *x *= weight);
        }
        let mut by_key = turned(&self.problem.turns, &by_turned, dim, back);
        // 5. Through the softmax to its scores, and from them to keys and mean query.
        let mean = dot(&self.weights, &by_weight);
        let mut by_mean = vec![zero; dim];
        for (j, by_key) in by_key.chunks_exact_mut(dim).enumerate() {
            let weight = self.weights[j];
            let by_score = self.problem.scale * weight * (by_weight[j] - mean);
            for (c, by) in by_key.iter_mut().enumerate() {
                *by += weight * by_sums[c] + by_score * self.mean[c];
                by_mean[c] += by_score * self.key[j * dim + c];
            }
        }
        let count = T::from_f64(n.max(1) as f64);
        for (by_query, &by) in by_query.chunks_exact_mut(dim).zip(&by_denominator) {
            for (c, x) in by_query.iter_mut().enumerate() {
                *x += by * self.sums[c] + by_mean[c] / count;
            }
        }
        // 6. Through elu + 1.
        through_elu(&mut by_query, &self.query);
        through_elu(&mut by_key, &self.key);
        RankAugmented { query: by_query, key: by_key, value: by_value, local: by_local, gate: by_gate }
    }
}

/// All lines of one head.
fn gather<T: Element>(view: View<'_, T>, (batch, head): (usize, usize)) -> Vec<T> {
    view.part(batch..batch + 1, head..head + 1).to_vec()
}

/// elu(x) + 1.
fn elu<T: Element>(x: T) -> T {
    let zero = T::from_f64(0.0);
    if x > zero { x + T::from_f64(1.0) } else { num_traits::Float::exp(x) }
}

/// The slope of elu is 1 above 0 and elu + 1 below.
fn through_elu<T: Element>(by: &mut [T], values: &[T]) {
    let one = T::from_f64(1.0);
    for (by, &value) in by.iter_mut().zip(values) {
        *by *= num_traits::Float::min(value, one);
    }
}

/// `sum += Σ factor(i)·line i`.
fn add_lines<T: Element>(sum: &mut [T], lines: &[T], factor: impl Fn(usize) -> T) {
    for (i, line) in lines.chunks_exact(sum.len().max(1)).enumerate() {
        let factor = factor(i);
        sum.iter_mut().zip(line).for_each(|(sum, &x)| *sum += factor * x);
    }
}

/// R of every line, its transpose (which is its inverse) where `sign` is -1.
pub(crate) fn turned<T: Element>(turns: &[(T, T)], lines: &[T], dim: usize, sign: T) -> Vec<T> {
    let mut lines = lines.to_vec();
    turn(turns, &mut lines, dim, sign);
    lines
}

fn turn<T: Element>(turns: &[(T, T)], lines: &mut [T], dim: usize, sign: T) {
    for (line, turns) in lines.chunks_exact_mut(dim).zip(turns.chunks_exact(dim / 2 + usize::from(dim < 2))) {
        for (pair, &(cos, sin)) in line.chunks_exact_mut(2).zip(turns) {
            if let [x, y] = pair {
                (*x, *y) = (*x * cos - *y * (sin * sign), *y * cos + *x * (sin * sign));
            }
        }
    }
}
