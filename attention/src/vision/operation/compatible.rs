//! Attention whose scores are weighted by how well the distances between two pairs of points agree.
//!
//! ```text
//! β_ij = max(0, 1 - (|x_i - x_j| - |y_i - y_j|)²/σ²)      O_i = Σⱼ softmaxⱼ(τ·β_ij·q_i·k_j)·v_j
//! ```
//! In blocks of queries, so that no n×n matrix is held.

use alloc::{vec, vec::Vec};

use num_traits::Float;

use super::super::tape::{Matrix, Pull, Tape, Var, dot, product};
use crate::{Element, Error, parallel};

/// Queries of a task.
const ROWS: usize = 64;

#[derive(Clone, Copy)]
struct Compatible<T> {
    operands: [Var; 3],
    /// x and y: points in rows.
    points: [Var; 2],
    /// 1/σ.
    sharpness: T,
    /// τ.
    scale: T,
}

/// Rows `first..` of a matrix, at most [`ROWS`].
fn rows<T: Element>(from: &Matrix<T>, index: usize) -> Matrix<T> {
    let first = index * ROWS;
    let rows = ROWS.min(from.rows - first);
    let data = from.data[first * from.columns..][..rows * from.columns].to_vec();
    Matrix { rows, columns: from.columns, data }
}

impl<T: Element> Compatible<T> {
    /// τ·β and the softmax of a block of queries.
    fn weights(&self, tape: &Tape<T>, index: usize) -> [Matrix<T>; 2] {
        let [q, k, _] = self.operands.map(|x| tape.value(x));
        let points = self.points.map(|x| tape.value(x));
        let scores = product(tape.kernels(), &rows(q, index), &k.transposed());
        let (zero, one) = (T::from_f64(0.0), T::from_f64(1.0));
        let point = |which: usize, i: usize| {
            let from = points[which];
            &from.data[i * from.columns..][..from.columns]
        };
        let distance = |which: usize, i: usize, j: usize| {
            let pairs = point(which, i).iter().zip(point(which, j));
            Float::sqrt(pairs.fold(zero, |sum, (&a, &b)| sum + (a - b) * (a - b)))
        };
        let mut factors = scores.clone();
        for (i, line) in factors.data.chunks_exact_mut(k.rows.max(1)).enumerate() {
            for (j, factor) in line.iter_mut().enumerate() {
                let i = index * ROWS + i;
                let gap = (distance(0, i, j) - distance(1, i, j)) * self.sharpness;
                let left = one - gap * gap;
                // Not `max`: distances that overflow have to show.
                *factor = self.scale * if left < zero { zero } else { left };
            }
        }
        let mut weights = Matrix { data: Vec::with_capacity(scores.data.len()), ..scores };
        for (line, factors) in scores.lines().zip(factors.lines()) {
            let score = |(&x, &f): (&T, &T)| x * f;
            let max = line.iter().zip(factors).map(score).fold(T::neg_infinity(), Float::max);
            let first = weights.data.len();
            weights.data.extend(line.iter().zip(factors).map(|pair| Float::exp(score(pair) - max)));
            let sum = weights.data[first..].iter().fold(zero, |sum, &x| sum + x);
            weights.data[first..].iter_mut().for_each(|x| *x /= sum);
        }
        [factors, weights]
    }
}

impl<T: Element> Pull<T> for Compatible<T> {
    fn pull(&self, tape: &Tape<T>, _: &Matrix<T>, up: &Matrix<T>) -> Result<Vec<(Var, Matrix<T>)>, Error> {
        let [q, k, v] = self.operands.map(|x| tape.value(x));
        let kernels = tape.kernels();
        let task = |index: usize| {
            let [factors, weights] = self.weights(tape, index);
            let up = rows(up, index);
            let by_value = product(kernels, &weights.transposed(), &up);
            let mut slopes = product(kernels, &up, &v.transposed());
            let lines = slopes.data.chunks_exact_mut(k.rows.max(1));
            for ((slopes, weights), factors) in lines.zip(weights.lines()).zip(factors.lines()) {
                let mean = dot(slopes, weights);
                for ((slope, &weight), &factor) in slopes.iter_mut().zip(weights).zip(factors) {
                    *slope = factor * weight * (*slope - mean);
                }
            }
            let by_key = product(kernels, &slopes.transposed(), &rows(q, index));
            [product(kernels, &slopes, k), by_key, by_value]
        };
        let zero = |from: &Matrix<T>| Matrix { data: vec![T::from_f64(0.0); from.data.len()], ..*from };
        let mut found = [Matrix { data: Vec::with_capacity(q.data.len()), ..*q }, zero(k), zero(v)];
        // Those by keys and values are of all of them.
        parallel::few(q.rows.div_ceil(ROWS), task, |_, [by_query, by_key, by_value]| {
            found[0].data.extend(by_query.data);
            for (sum, by) in found[1..].iter_mut().zip([by_key, by_value]) {
                sum.data.iter_mut().zip(by.data).for_each(|(sum, by)| *sum += by);
            }
        });
        Ok(self.operands.into_iter().zip(found).collect())
    }
}

impl<T: Element> Tape<T> {
    /// Attention over all rows, scores weighted by the distances of `points`, which count as constant.
    pub(in super::super) fn compatible(
        &mut self,
        operands: [Var; 3],
        points: [Var; 2],
        [sigma, scale]: [f64; 2],
    ) -> Var {
        let how =
            Compatible { operands, points, sharpness: T::from_f64(1.0 / sigma), scale: T::from_f64(scale) };
        let [q, _, v] = operands.map(|x| self.value(x));
        let mut data = Vec::with_capacity(q.rows * v.columns);
        let task = |index: usize| {
            let [_, weights] = how.weights(self, index);
            product(self.kernels(), &weights, v).data
        };
        parallel::waves(q.rows.div_ceil(ROWS), task, |_, part| data.extend(part));
        let value = Matrix { rows: q.rows, columns: v.columns, data };
        self.record(value, how)
    }
}
