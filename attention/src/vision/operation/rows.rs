//! Rows of a matrix by a list: windows, strips, patches, shifts; the convolutions and maxima made of them.

use alloc::{vec, vec::Vec};

use super::super::tape::{Matrix, Pull, Tape, Var};
use crate::{Element, Error};

/// For each new row, `taps` old ones; `None` is a row of zeros.
#[derive(Clone)]
pub(in super::super) struct Rows {
    taps: usize,
    from: Vec<Option<usize>>,
}

impl Rows {
    /// One old row for each new one.
    pub(in super::super) fn each(from: impl IntoIterator<Item = usize>) -> Self {
        Self { taps: 1, from: from.into_iter().map(Some).collect() }
    }

    /// The same number of old rows for each new one, all lists one after the other.
    pub(in super::super) fn lists(taps: usize, from: impl IntoIterator<Item = usize>) -> Self {
        Self { taps, ..Self::each(from) }
    }

    /// The neighborhood of each place of a `height`×`width` grid that a kernel of odd sides, centred there, reaches.
    pub(in super::super) fn around([height, width]: [usize; 2], [down, across]: [usize; 2]) -> Self {
        let near = |i: usize, tap: usize, side: usize, len: usize| {
            (i + tap).checked_sub(side / 2).filter(|&i| i < len)
        };
        let mut from = Vec::with_capacity(height * width * down * across);
        for (i, j) in (0..height).flat_map(|i| (0..width).map(move |j| (i, j))) {
            for (y, x) in (0..down).flat_map(|y| (0..across).map(move |x| (y, x))) {
                let at = near(i, y, down, height).zip(near(j, x, across, width));
                from.push(at.map(|(i, j)| i * width + j));
            }
        }
        Self { taps: down * across, from }
    }

    /// Squares of `side` rows and columns, side by side, over what of a `height`×`width` grid they fill.
    pub(in super::super) fn tiles([height, width]: [usize; 2], side: usize) -> Self {
        let tiles =
            (0..height / side).flat_map(move |i| (0..width / side).map(move |j| i * side * width + j * side));
        let from =
            tiles.flat_map(move |corner| (0..side * side).map(move |k| corner + k / side * width + k % side));
        Self::lists(side * side, from)
    }

    /// The same lists for `blocks` blocks of `len` old rows, one after the other.
    fn repeated(&self, blocks: usize, len: usize) -> Self {
        let from = (0..blocks).flat_map(|b| self.from.iter().map(move |at| at.map(|at| at + b * len)));
        Self { taps: self.taps, from: from.collect() }
    }
}

/// `len` places and those beyond them up to `end`, mirrored at the last: `end < 2·len`.
pub(in super::super) fn mirrored(len: usize, end: usize) -> impl Iterator<Item = usize> + Clone {
    (0..end).map(move |i| if i < len { i } else { 2 * (len - 1) - i })
}

/// Old rows side by side.
struct Gather(Var, Rows);

impl<T: Element> Pull<T> for Gather {
    fn pull(&self, tape: &Tape<T>, _: &Matrix<T>, up: &Matrix<T>) -> Result<Vec<(Var, Matrix<T>)>, Error> {
        let from = tape.value(self.0);
        let mut sum = Matrix { data: vec![T::from_f64(0.0); from.data.len()], ..*from };
        for (at, up) in self.1.from.iter().zip(up.data.chunks_exact(from.columns.max(1))) {
            if let Some(at) = at {
                let line = &mut sum.data[at * from.columns..][..from.columns];
                line.iter_mut().zip(up).for_each(|(sum, &up)| *sum += up);
            }
        }
        Ok(vec![(self.0, sum)])
    }
}

/// For each entry, the old row that it is from.
struct Maximum(Var, Vec<usize>);

impl<T: Element> Pull<T> for Maximum {
    fn pull(&self, tape: &Tape<T>, _: &Matrix<T>, up: &Matrix<T>) -> Result<Vec<(Var, Matrix<T>)>, Error> {
        let from = tape.value(self.0);
        let mut sum = Matrix { data: vec![T::from_f64(0.0); from.data.len()], ..*from };
        for (i, (&row, &up)) in self.1.iter().zip(&up.data).enumerate() {
            sum.data[row * from.columns + i % from.columns] += up;
        }
        Ok(vec![(self.0, sum)])
    }
}

impl<T: Element> Tape<T> {
    /// Old rows side by side: `taps` times as many columns. Every row of the list lies inside.
    pub(in super::super) fn gather(&mut self, a: Var, rows: Rows) -> Var {
        let from = self.value(a);
        let columns = from.columns;
        let mut data = Vec::with_capacity(rows.from.len() * columns);
        for at in &rows.from {
            match at {
                Some(at) => data.extend_from_slice(&from.data[at * columns..][..columns]),
                None => data.resize(data.len() + columns, T::from_f64(0.0)),
            }
        }
        let taps = rows.taps.max(1);
        let value = Matrix { rows: rows.from.len() / taps, columns: taps * columns, data };
        self.record(value, Gather(a, rows))
    }

    /// The largest of the old rows, entry by entry; the first of equal ones. Each list holds at least one row.
    pub(in super::super) fn maximum(&mut self, a: Var, rows: &Rows) -> Var {
        let from = self.value(a);
        let columns = from.columns;
        let (mut data, mut chosen) = (vec![], vec![]);
        for list in rows.from.chunks_exact(rows.taps.max(1)) {
            for column in 0..columns {
                let entry = |&row: &usize| from.data[row * columns + column];
                let inside = list.iter().copied().flatten();
                let best = inside.reduce(|best, row| if entry(&row) > entry(&best) { row } else { best });
                let best = best.unwrap_or(0);
                data.push(entry(&best));
                chosen.push(best);
            }
        }
        let value = Matrix { rows: rows.from.len() / rows.taps.max(1), columns, data };
        self.record(value, Maximum(a, chosen))
    }

    /// A convolution of pixels in rows: `weight` holds `out·taps` rows of in/groups, which divide in and out.
    ///
    /// ```text
    /// y[p, o] = Σ_taps Σ_i x[rows[p, tap], group(o)·in/groups + i]·w[o, tap, i]
    /// ```
    pub(in super::super) fn convolved(&mut self, x: Var, weight: Var, rows: &Rows) -> Var {
        let (from, kernel) = (self.value(x), self.value(weight));
        let groups = from.columns / kernel.columns.max(1);
        let (len, out) = (from.rows, kernel.rows / rows.taps.max(1));
        let weight = self.reshaped(weight, out);
        if groups == 1 {
            let patches = self.gather(x, rows.clone());
            return self.linear(patches, weight);
        }
        let apart = self.swapped(x, groups);
        let apart = self.reshaped(apart, groups * len);
        let patches = self.gather(apart, rows.repeated(groups, len));
        let found = self.products(patches, weight, groups);
        let found = self.reshaped(found, groups);
        self.swapped(found, rows.from.len() / rows.taps.max(1))
    }
}
