//! The same numbers in another order, and products and means of blocks of rows.

use alloc::{vec, vec::Vec};

use super::super::tape::{Matrix, Pull, Tape, Var, product};
use crate::{Element, Error};

/// Row-major order as it is, other rows.
struct Reshape(Var);

impl<T: Element> Pull<T> for Reshape {
    fn pull(&self, tape: &Tape<T>, _: &Matrix<T>, up: &Matrix<T>) -> Result<Vec<(Var, Matrix<T>)>, Error> {
        Ok(vec![(self.0, Matrix { data: up.data.clone(), ..*tape.value(self.0) })])
    }
}

/// `[rows][parts][len]` to `[parts][rows][len]`.
struct Swap(Var);

fn swapped<T: Element>(from: &Matrix<T>, parts: usize) -> Matrix<T> {
    let len = from.columns / parts.max(1);
    let mut data = Vec::with_capacity(from.data.len());
    for part in 0..parts {
        for row in 0..from.rows {
            data.extend_from_slice(&from.data[row * from.columns + part * len..][..len]);
        }
    }
    Matrix { rows: parts, columns: from.rows * len, data }
}

impl<T: Element> Pull<T> for Swap {
    fn pull(&self, tape: &Tape<T>, _: &Matrix<T>, up: &Matrix<T>) -> Result<Vec<(Var, Matrix<T>)>, Error> {
        Ok(vec![(self.0, swapped(up, tape.value(self.0).rows))])
    }
}

/// Columns from here on, as many as the node has.
struct Columns(Var, usize);

impl<T: Element> Pull<T> for Columns {
    fn pull(&self, tape: &Tape<T>, _: &Matrix<T>, up: &Matrix<T>) -> Result<Vec<(Var, Matrix<T>)>, Error> {
        let from = tape.value(self.0);
        let mut sum = Matrix { data: vec![T::from_f64(0.0); from.data.len()], ..*from };
        for (line, up) in sum.data.chunks_exact_mut(from.columns.max(1)).zip(up.lines()) {
            line[self.1..][..up.len()].copy_from_slice(up);
        }
        Ok(vec![(self.0, sum)])
    }
}

/// Columns side by side.
struct Join(Vec<Var>);

impl<T: Element> Pull<T> for Join {
    fn pull(&self, tape: &Tape<T>, _: &Matrix<T>, up: &Matrix<T>) -> Result<Vec<(Var, Matrix<T>)>, Error> {
        let mut first = 0;
        let part = |&var: &Var| {
            let from = tape.value(var);
            let mut data = Vec::with_capacity(from.data.len());
            up.lines().for_each(|up| data.extend_from_slice(&up[first..][..from.columns]));
            first += from.columns;
            (var, Matrix { data, ..*from })
        };
        Ok(self.0.iter().map(part).collect())
    }
}

/// A product for each block of rows.
struct Products([Var; 2], usize);

/// Rows of one of `blocks`.
fn block<T: Element>(from: &Matrix<T>, blocks: usize, index: usize) -> Matrix<T> {
    let rows = from.rows / blocks.max(1);
    let len = rows * from.columns;
    Matrix { rows, columns: from.columns, data: from.data[index * len..][..len].to_vec() }
}

impl<T: Element> Pull<T> for Products {
    fn pull(&self, tape: &Tape<T>, _: &Matrix<T>, up: &Matrix<T>) -> Result<Vec<(Var, Matrix<T>)>, Error> {
        let &Self([a, b], blocks) = self;
        let (left, right) = (tape.value(a), tape.value(b));
        let mut by_left = Matrix { data: Vec::with_capacity(left.data.len()), ..*left };
        let mut by_right = Matrix { data: Vec::with_capacity(right.data.len()), ..*right };
        for i in 0..blocks {
            let up = block(up, blocks, i);
            by_left.data.extend(product(tape.kernels(), &up, &block(right, blocks, i)).data);
            by_right.data.extend(product(tape.kernels(), &up.transposed(), &block(left, blocks, i)).data);
        }
        Ok(vec![(a, by_left), (b, by_right)])
    }
}

/// The mean row of each block.
struct Means(Var);

impl<T: Element> Pull<T> for Means {
    fn pull(&self, tape: &Tape<T>, _: &Matrix<T>, up: &Matrix<T>) -> Result<Vec<(Var, Matrix<T>)>, Error> {
        let from = tape.value(self.0);
        let len = from.rows / up.rows.max(1);
        let count = T::from_f64(len as f64);
        let mut data = Vec::with_capacity(from.data.len());
        for up in up.lines() {
            (0..len).for_each(|_| data.extend(up.iter().map(|&x| x / count)));
        }
        Ok(vec![(self.0, Matrix { data, ..*from })])
    }
}

impl<T: Element> Tape<T> {
    /// `x·weightᵀ + bias`: a layer.
    pub(in super::super) fn layer(&mut self, x: Var, weight: Var, bias: Var) -> Var {
        let product = self.linear(x, weight);
        self.sum(product, bias)
    }

    /// `factor·a`.
    pub(in super::super) fn scaled(&mut self, a: Var, factor: f64) -> Var {
        let factor = self.leaf(Matrix { rows: 1, columns: 1, data: vec![T::from_f64(factor)] });
        self.times(a, factor)
    }

    /// As `rows` rows; they divide the number of entries.
    pub(in super::super) fn reshaped(&mut self, a: Var, rows: usize) -> Var {
        let from = self.value(a);
        let value = Matrix { rows, columns: from.data.len() / rows.max(1), data: from.data.clone() };
        self.record(value, Reshape(a))
    }

    /// `[rows][parts][len]` as `[parts][rows][len]`: one row for each part of the columns; with as many parts as columns the
    /// transpose. Swapping again, into as many parts as there were rows, undoes it.
    pub(in super::super) fn swapped(&mut self, a: Var, parts: usize) -> Var {
        let value = swapped(self.value(a), parts);
        self.record(value, Swap(a))
    }

    /// `len` columns from `first` on, all of them inside.
    pub(in super::super) fn columns(&mut self, a: Var, first: usize, len: usize) -> Var {
        let from = self.value(a);
        let mut data = Vec::with_capacity(from.rows * len);
        from.lines().for_each(|line| data.extend_from_slice(&line[first..][..len]));
        let value = Matrix { rows: from.rows, columns: len, data };
        self.record(value, Columns(a, first))
    }

    /// Matrices of as many rows, side by side.
    pub(in super::super) fn joined(&mut self, parts: Vec<Var>) -> Var {
        let rows = parts.first().map_or(0, |&part| self.value(part).rows);
        let columns: usize = parts.iter().map(|&part| self.value(part).columns).sum();
        let mut data = Vec::with_capacity(rows * columns);
        for row in 0..rows {
            for &part in &parts {
                let from = self.value(part);
                data.extend_from_slice(&from.data[row * from.columns..][..from.columns]);
            }
        }
        self.record(Matrix { rows, columns, data }, Join(parts))
    }

    /// `a·bᵀ` for each of `blocks` blocks of rows of both.
    pub(in super::super) fn products(&mut self, a: Var, b: Var, blocks: usize) -> Var {
        if blocks == 1 {
            return self.linear(a, b);
        }
        let (left, right) = (self.value(a), self.value(b));
        let mut data = vec![];
        for i in 0..blocks {
            data.extend(
                product(self.kernels(), &block(left, blocks, i), &block(right, blocks, i).transposed()).data,
            );
        }
        let value = Matrix { rows: left.rows, columns: right.rows / blocks.max(1), data };
        self.record(value, Products([a, b], blocks))
    }

    /// The mean row of each of `blocks` blocks of rows.
    pub(in super::super) fn means(&mut self, a: Var, blocks: usize) -> Var {
        let from = self.value(a);
        let len = from.rows / blocks.max(1);
        let count = T::from_f64(len as f64);
        let mut data = vec![T::from_f64(0.0); blocks * from.columns];
        for (row, line) in from.lines().enumerate() {
            let sum = &mut data[row / len.max(1) * from.columns..][..from.columns];
            sum.iter_mut().zip(line).for_each(|(sum, &x)| *sum += x);
        }
        data.iter_mut().for_each(|x| *x /= count);
        self.record(Matrix { rows: blocks, columns: from.columns, data }, Means(a))
    }
}
