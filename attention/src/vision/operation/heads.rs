//! Exact attention of many heads and windows, with a bias that is learned.
//!
//! ```text
//! S = τ·q·kᵀ + B      P = softmax(S)      O = P·V      ∂B = Σ_windows P ⊙ (dO·Vᵀ - D)      D_i = Σ dO·O
//! ```

use alloc::{vec, vec::Vec};

use super::super::tape::{Matrix, Pull, Tape, Var, overflow};
use crate::{Attention, Element, Error, ExactOptions, View, exact, exact_gradient_with_bias};

/// What [`Tape::heads`] does with its operands.
#[derive(Clone)]
pub(in super::super) struct Heads {
    /// Blocks of rows that see only each other.
    pub(in super::super) windows: usize,
    /// Parts of the columns.
    pub(in super::super) heads: usize,
    /// τ.
    pub(in super::super) scale: f64,
    /// B: one row of `queries·keys` for each head, the same in all windows.
    pub(in super::super) bias: Option<Var>,
    /// Which keys a query sees, `[windows][queries][keys]`.
    pub(in super::super) mask: Option<Vec<bool>>,
}

struct Attend<T> {
    operands: [Var; 3],
    how: Heads,
    found: Attention<T>,
}

impl Heads {
    /// `[windows, heads, rows, dim]`.
    fn view<'a, T: Element>(&self, x: &'a Matrix<T>) -> Result<View<'a, T>, Error> {
        let (n, dim) = (x.rows / self.windows, x.columns / self.heads);
        View::new(&x.data, [self.windows, self.heads, n, dim], [n * x.columns, dim, x.columns, 1])
    }

    /// `work` with the options of the attention of `queries` and `keys` a window.
    fn with<T: Element, R>(
        &self,
        tape: &Tape<T>,
        [queries, keys]: [usize; 2],
        work: impl FnOnce(&ExactOptions<'_, T>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let (len, shape) = (queries * keys, [self.windows, self.heads, queries, keys]);
        let bias = self.bias.map(|bias| View::new(&tape.value(bias).data, shape, [0, len, keys, 1]));
        let mask = self.mask.as_ref().map(|mask| View::new(mask.as_slice(), shape, [len, 0, keys, 1]));
        let options = ExactOptions {
            scale: Some(self.scale),
            causal: false,
            mask: mask.transpose()?,
            bias: bias.transpose()?,
        };
        work(&options).map_err(overflow)
    }

    /// Back from `[windows, heads, rows, dim]`.
    fn matrix<T: Element>(&self, tensor: View<'_, T>) -> Matrix<T> {
        let [windows, heads, n, dim] = tensor.shape();
        let mut data = vec![T::from_f64(0.0); windows * n * heads * dim];
        for (i, line) in data.chunks_exact_mut(dim.max(1)).enumerate() {
            tensor.copy_line(i / heads / n, i % heads, i / heads % n, line);
        }
        Matrix { rows: windows * n, columns: heads * dim, data }
    }
}

impl<T: Element> Pull<T> for Attend<T> {
    fn pull(&self, tape: &Tape<T>, _: &Matrix<T>, up: &Matrix<T>) -> Result<Vec<(Var, Matrix<T>)>, Error> {
        let [q, k, v] = self.operands.map(|x| self.how.view(tape.value(x)));
        let (q, k, v, up) = (q?, k?, v?, self.how.view(up)?);
        let sizes = [q.shape()[2], k.shape()[2]];
        self.how.with(tape, sizes, |options| {
            let (by, by_bias) = exact_gradient_with_bias(q, k, v, options, &self.found, up)?;
            let parts = [by.query, by.key, by.value].map(|by| self.how.matrix(by.view()));
            let mut found: Vec<(Var, Matrix<T>)> = self.operands.into_iter().zip(parts).collect();
            if let Some((bias, by)) = self.how.bias.zip(by_bias) {
                let from = tape.value(bias);
                found.push((bias, Matrix { data: by.into_vec(), ..*from }));
            }
            Ok(found)
        })
    }
}

impl<T: Element> Tape<T> {
    /// Exact attention in windows: rows of queries, of keys and of values come in as many blocks, columns in as many heads.
    pub(in super::super) fn heads(&mut self, operands: [Var; 3], how: Heads) -> Result<Var, Error> {
        let [q, k, v] = operands.map(|x| how.view(self.value(x)));
        let (q, k, v) = (q?, k?, v?);
        let sizes = [q.shape()[2], k.shape()[2]];
        let found = how.with(self, sizes, |options| exact(q, k, v, options))?;
        let value = how.matrix(found.output.view());
        Ok(self.record(value, Attend { operands, how, found }))
    }
}
