//! Reverse-mode differentiation of a few matrix operations: what the blocks of this folder are written in.
//!
//! A block is a list of nodes, each the value of one operation on nodes before it. [`Tape::gradients`] walks the list back
//! once and adds `∂(Σ upstream·last)/∂node` up, so a block states its forward formula only.

use alloc::{boxed::Box, vec, vec::Vec};
use core::ops::Range;

use num_traits::Float;

use crate::dense;
pub(super) use crate::dense::dot;
use crate::kernel::Kernels;
use crate::{Attention, Element, Error, ExactOptions, View, exact, exact_gradient};

/// A dense row-major matrix.
#[derive(Clone)]
pub(super) struct Matrix<T> {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) data: Vec<T>,
}

impl<T: Element> Matrix<T> {
    fn map2(&self, other: &Self, f: impl Fn(T, T) -> T) -> Self {
        let data = self.data.iter().zip(&other.data).map(|(&a, &b)| f(a, b)).collect();
        Self { data, ..*self }
    }

    pub(super) fn transposed(&self) -> Self {
        let (rows, columns) = (self.columns, self.rows);
        let data = (0..rows * columns).map(|i| self.data[i % columns * rows + i / columns]).collect();
        Self { rows, columns, data }
    }

    /// `self` where it has one row or one column, repeated to the shape of `like`: entry i of that shape.
    fn repeated(&self, like: &Self, i: usize) -> usize {
        let (row, column) = (i / like.columns, i % like.columns);
        row % self.rows * self.columns + column % self.columns
    }

    /// The transpose of [`Self::repeated`]: `from` summed over what was repeated.
    fn folded(&self, from: &Self) -> Self {
        let mut sum = Self { data: vec![T::from_f64(0.0); self.data.len()], ..*self };
        for (i, &x) in from.data.iter().enumerate() {
            let at = self.repeated(from, i);
            sum.data[at] += x;
        }
        sum
    }

    pub(super) fn lines(&self) -> impl Iterator<Item = &[T]> {
        self.data.chunks_exact(self.columns.max(1))
    }

    fn view(&self) -> Result<View<'_, T>, Error> {
        View::contiguous(&self.data, [1, 1, self.rows, self.columns])
    }
}

/// A node of a [`Tape`].
#[derive(Clone, Copy)]
pub(super) struct Var(usize);

enum Op<T> {
    Leaf,
    /// `a·bᵀ`.
    Product(Var, Var),
    /// `a + b`, b repeated.
    Sum(Var, Var),
    /// `a ⊙ b`, b repeated.
    Times(Var, Var),
    /// Of each row.
    Softmax(Var),
    Sigmoid(Var),
    /// Mean of all rows.
    Mean(Var),
    /// Each row to mean 0 and variance 1; the reciprocal deviations.
    Normalize(Var, Vec<T>),
    /// Exact attention with scale 1.
    Attend([Var; 3], Attention<T>),
    /// One of [`operation`](super::operation).
    Other(Box<dyn Pull<T>>),
}

/// How an operation hands its gradient down.
pub(super) trait Pull<T>: Send + Sync {
    /// What a node of the given value hands to each of its operands, from the gradient `up` by the node.
    fn pull(&self, tape: &Tape<T>, value: &Matrix<T>, up: &Matrix<T>)
    -> Result<Vec<(Var, Matrix<T>)>, Error>;
}

/// The nodes so far.
pub(super) struct Tape<T> {
    kernels: Kernels,
    nodes: Vec<(Op<T>, Matrix<T>)>,
}

impl<T: Element> Tape<T> {
    pub(super) fn new() -> Self {
        Self { kernels: Kernels::current(), nodes: vec![] }
    }

    pub(super) fn value(&self, x: Var) -> &Matrix<T> {
        &self.nodes[x.0].1
    }

    fn push(&mut self, op: Op<T>, value: Matrix<T>) -> Var {
        self.nodes.push((op, value));
        Var(self.nodes.len() - 1)
    }

    /// A node of another operation.
    pub(super) fn record(&mut self, value: Matrix<T>, op: impl Pull<T> + 'static) -> Var {
        self.push(Op::Other(Box::new(op)), value)
    }

    pub(super) fn kernels(&self) -> Kernels {
        self.kernels
    }

    pub(super) fn leaf(&mut self, value: Matrix<T>) -> Var {
        self.push(Op::Leaf, value)
    }

    /// `a·bᵀ`: a layer of weight b on tokens in rows.
    pub(super) fn linear(&mut self, a: Var, b: Var) -> Var {
        let value = product(self.kernels, self.value(a), &self.value(b).transposed());
        self.push(Op::Product(a, b), value)
    }

    /// `a + b`; b may have one row or one column.
    pub(super) fn sum(&mut self, a: Var, b: Var) -> Var {
        let value = self.combined(a, b, |x, y| x + y);
        self.push(Op::Sum(a, b), value)
    }

    /// `a ⊙ b`; b may have one row or one column.
    pub(super) fn times(&mut self, a: Var, b: Var) -> Var {
        let value = self.combined(a, b, |x, y| x * y);
        self.push(Op::Times(a, b), value)
    }

    fn combined(&self, a: Var, b: Var, f: impl Fn(T, T) -> T) -> Matrix<T> {
        let (a, b) = (self.value(a), self.value(b));
        let data = a.data.iter().enumerate().map(|(i, &x)| f(x, b.data[b.repeated(a, i)])).collect();
        Matrix { data, ..*a }
    }

    pub(super) fn softmax(&mut self, a: Var) -> Var {
        let from = self.value(a);
        let mut data = Vec::with_capacity(from.data.len());
        for line in from.lines() {
            let max = line.iter().copied().fold(T::neg_infinity(), Float::max);
            let first = data.len();
            data.extend(line.iter().map(|&x| Float::exp(x - max)));
            let sum = total(&data[first..]);
            data[first..].iter_mut().for_each(|x| *x /= sum);
        }
        let value = Matrix { data, ..*from };
        self.push(Op::Softmax(a), value)
    }

    pub(super) fn sigmoid(&mut self, a: Var) -> Var {
        let one = T::from_f64(1.0);
        let from = self.value(a);
        let data = from.data.iter().map(|&x| one / (one + Float::exp(-x))).collect();
        let value = Matrix { data, ..*from };
        self.push(Op::Sigmoid(a), value)
    }

    pub(super) fn mean(&mut self, a: Var) -> Var {
        let from = self.value(a);
        let mut one = Matrix { rows: 1, columns: from.columns, data: vec![T::from_f64(0.0); from.columns] };
        one = one.folded(from);
        let count = T::from_f64(from.rows as f64);
        one.data.iter_mut().for_each(|x| *x /= count);
        self.push(Op::Mean(a), one)
    }

    /// `(x - mean)/√(variance + ε)` of each row.
    pub(super) fn normalize(&mut self, a: Var, epsilon: f64) -> Var {
        let from = self.value(a);
        let count = T::from_f64(from.columns as f64);
        let (mut data, mut factors) = (Vec::with_capacity(from.data.len()), vec![]);
        for line in from.lines() {
            let mean = total(line) / count;
            let variance =
                line.iter().fold(T::from_f64(0.0), |sum, &x| sum + (x - mean) * (x - mean)) / count;
            let factor = T::from_f64(1.0) / Float::sqrt(variance + T::from_f64(epsilon));
            data.extend(line.iter().map(|&x| (x - mean) * factor));
            factors.push(factor);
        }
        let value = Matrix { data, ..*from };
        self.push(Op::Normalize(a, factors), value)
    }

    /// Exact attention of rows of queries over rows of keys and values, scale 1.
    pub(super) fn attend(&mut self, operands: [Var; 3]) -> Result<Var, Error> {
        let [q, k, v] = operands.map(|x| self.value(x).view());
        let found = exact(q?, k?, v?, &attend()).map_err(overflow)?;
        let [.., rows, columns] = found.output.shape();
        let value = Matrix { rows, columns, data: found.output.as_slice().to_vec() };
        Ok(self.push(Op::Attend(operands, found), value))
    }

    /// `∂(Σ upstream·last)/∂x` for the first `leaves` nodes, which are leaves; zeros where the last does not depend on one.
    pub(super) fn gradients(
        &self,
        upstream: Matrix<T>,
        leaves: Range<usize>,
    ) -> Result<Vec<Matrix<T>>, Error> {
        let zero = |m: &Matrix<T>| Matrix { data: vec![T::from_f64(0.0); m.data.len()], ..*m };
        let mut by: Vec<Option<Matrix<T>>> = self.nodes.iter().map(|_| None).collect();
        if let Some(last) = by.last_mut() {
            *last = Some(upstream);
        }
        for i in (leaves.end..self.nodes.len()).rev() {
            let Some(up) = by[i].take() else { continue };
            for (at, part) in self.pulled(i, &up)? {
                let sum = by[at.0].take().map_or_else(|| part.clone(), |sum| sum.map2(&part, |x, y| x + y));
                by[at.0] = Some(sum);
            }
        }
        Ok(leaves.map(|i| by[i].take().unwrap_or_else(|| zero(&self.nodes[i].1))).collect())
    }

    /// What node `i` hands to each of its operands.
    fn pulled(&self, i: usize, up: &Matrix<T>) -> Result<Vec<(Var, Matrix<T>)>, Error> {
        let (op, value) = &self.nodes[i];
        Ok(match op {
            Op::Leaf => vec![],
            Op::Product(a, b) => vec![
                (*a, product(self.kernels, up, self.value(*b))),
                (*b, product(self.kernels, &up.transposed(), self.value(*a))),
            ],
            Op::Sum(a, b) => vec![(*a, up.clone()), (*b, self.value(*b).folded(up))],
            Op::Times(a, b) => {
                let (left, right) = (self.value(*a), self.value(*b));
                let by_left = up.data.iter().enumerate().map(|(i, &x)| x * right.data[right.repeated(up, i)]);
                let by_left = Matrix { data: by_left.collect(), ..*up };
                vec![(*a, by_left), (*b, right.folded(&up.map2(left, |x, y| x * y)))]
            }
            Op::Softmax(a) => {
                let mut data = Vec::with_capacity(up.data.len());
                for (p, up) in value.lines().zip(up.lines()) {
                    let mean = dot(p, up);
                    data.extend(p.iter().zip(up).map(|(&p, &up)| p * (up - mean)));
                }
                vec![(*a, Matrix { data, ..*up })]
            }
            Op::Sigmoid(a) => vec![(*a, up.map2(value, |up, y| up * y * (T::from_f64(1.0) - y)))],
            Op::Mean(a) => {
                let from = self.value(*a);
                let count = T::from_f64(from.rows as f64);
                let data = (0..from.data.len()).map(|i| up.data[up.repeated(from, i)] / count).collect();
                vec![(*a, Matrix { data, ..*from })]
            }
            Op::Normalize(a, factors) => {
                let count = T::from_f64(value.columns as f64);
                let mut data = Vec::with_capacity(up.data.len());
                for ((y, up), &factor) in value.lines().zip(up.lines()).zip(factors) {
                    let (mean, slope) = (total(up) / count, dot(y, up) / count);
                    data.extend(y.iter().zip(up).map(|(&y, &up)| factor * (up - mean - y * slope)));
                }
                vec![(*a, Matrix { data, ..*up })]
            }
            Op::Attend(operands, found) => {
                let [q, k, v] = operands.map(|x| self.value(x).view());
                let by = exact_gradient(q?, k?, v?, &attend(), found, up.view()?).map_err(overflow)?;
                let parts = [by.query, by.key, by.value].map(|by| {
                    let [.., rows, columns] = by.shape();
                    Matrix { rows, columns, data: by.into_vec() }
                });
                operands.iter().copied().zip(parts).collect()
            }
            Op::Other(op) => op.pull(self, value, up)?,
        })
    }
}

/// Scale 1, everything visible.
fn attend<'a, T>() -> ExactOptions<'a, T> {
    ExactOptions { scale: Some(1.0), ..Default::default() }
}

/// The caller's operands are finite, so what is not was made on the way.
pub(super) fn overflow(error: Error) -> Error {
    match error {
        Error::NonFinite { index: [.., token, _], .. } => Error::Overflow { batch: 0, head: 0, token },
        other => other,
    }
}

fn total<T: Element>(line: &[T]) -> T {
    line.iter().fold(T::from_f64(0.0), |sum, &x| sum + x)
}

/// `a·b`.
pub(super) fn product<T: Element>(kernels: Kernels, a: &Matrix<T>, b: &Matrix<T>) -> Matrix<T> {
    let (left, right) = (dense::rows(&a.data, a.columns), dense::rows(&b.data, b.columns));
    let data = dense::product(kernels, left, right, [a.rows, a.columns, b.columns]);
    Matrix { rows: a.rows, columns: b.columns, data }
}
