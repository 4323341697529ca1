//! Rank-augmented attention, and the turns of rotary positions, of pixels in rows.

use alloc::{vec, vec::Vec};

use super::super::tape::{Matrix, Pull, Tape, Var, overflow};
use crate::rank_augmented::turned;
use crate::{
    Element, Error, RankAugmented, RankAugmentedOptions, Tensor, View, rank_augmented,
    rank_augmented_gradient,
};

/// q, k, v, local term and gate, in as many heads, on a plane of pixels.
struct Augmented {
    operands: [Var; 5],
    heads: usize,
    plane: [usize; 2],
}

/// `[1, heads, rows, dim]` of rows that hold all heads.
fn view<T: Element>(x: &Matrix<T>, heads: usize) -> Result<View<'_, T>, Error> {
    let dim = x.columns / heads;
    View::new(&x.data, [1, heads, x.rows, dim], [0, dim, x.columns, 1])
}

/// Back from `[1, heads, rows, dim]`.
fn matrix<T: Element>(tensor: &Tensor<T>) -> Matrix<T> {
    let [_, heads, rows, dim] = tensor.shape();
    let mut data = vec![T::from_f64(0.0); rows * heads * dim];
    for (i, line) in data.chunks_exact_mut(dim.max(1)).enumerate() {
        tensor.view().copy_line(0, i % heads, i / heads, line);
    }
    Matrix { rows, columns: heads * dim, data }
}

impl Augmented {
    fn views<'a, T: Element>(&self, tape: &'a Tape<T>) -> Result<RankAugmented<View<'a, T>>, Error> {
        let [query, key, value, local, gate] = self.operands.map(|x| view(tape.value(x), self.heads));
        Ok(RankAugmented { query: query?, key: key?, value: value?, local: Some(local?), gate: Some(gate?) })
    }

    fn options(&self) -> RankAugmentedOptions {
        RankAugmentedOptions { rotary: Some(self.plane), ..Default::default() }
    }
}

impl<T: Element> Pull<T> for Augmented {
    fn pull(&self, tape: &Tape<T>, _: &Matrix<T>, up: &Matrix<T>) -> Result<Vec<(Var, Matrix<T>)>, Error> {
        let by = rank_augmented_gradient(&self.views(tape)?, &self.options(), view(up, self.heads)?);
        let by = by.map_err(overflow)?;
        let parts = [Some(by.query), Some(by.key), Some(by.value), by.local, by.gate];
        let parts = self.operands.into_iter().zip(parts);
        Ok(parts.filter_map(|(var, by)| by.map(|by| (var, matrix(&by)))).collect())
    }
}

/// Pairs of channels of each head, turned by the places of the pixels.
struct Turn<T>(Var, Vec<(T, T)>, usize);

/// Turns every head of every row, or back.
fn turn<T: Element>(from: &Matrix<T>, turns: &[(T, T)], heads: usize, sign: f64) -> Matrix<T> {
    let dim = from.columns / heads;
    let mut data = Vec::with_capacity(from.data.len());
    let row = dim / 2;
    for (line, turns) in from.lines().zip(turns.chunks_exact(row.max(1))) {
        line.chunks_exact(dim).for_each(|head| data.extend(turned(turns, head, dim, T::from_f64(sign))));
    }
    Matrix { data, ..*from }
}

impl<T: Element> Pull<T> for Turn<T> {
    fn pull(&self, _: &Tape<T>, _: &Matrix<T>, up: &Matrix<T>) -> Result<Vec<(Var, Matrix<T>)>, Error> {
        Ok(vec![(self.0, turn(up, &self.1, self.2, -1.0))])
    }
}

impl<T: Element> Tape<T> {
    /// [`rank_augmented`] with the rotary map of a plane: q, k, v, local term and gate hold a pixel a row, all heads side by side.
    pub(in super::super) fn rank_augmented(
        &mut self,
        operands: [Var; 5],
        heads: usize,
        plane: [usize; 2],
    ) -> Result<Var, Error> {
        let how = Augmented { operands, heads, plane };
        let found = rank_augmented(&how.views(self)?, &how.options()).map_err(overflow)?;
        Ok(self.record(matrix(&found), how))
    }

    /// The rotary map of a plane `width` pixels wide, of every head; its size is a multiple of 4, at least 8.
    pub(in super::super) fn turned(&mut self, a: Var, heads: usize, width: usize) -> Var {
        let from = self.value(a);
        let turns = crate::rank_augmented::turns(from.rows, width, from.columns / heads);
        let value = turn(from, &turns, heads, 1.0);
        self.record(value, Turn(a, turns, heads))
    }
}
