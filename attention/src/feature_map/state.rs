//! What a head remembers of its keys: the m×e matrix Σ φ(k)·vᵀ and the vector Σ φ(k); and the pairs of one causal chunk.

use alloc::{vec, vec::Vec};

use super::rows::{LANES, Row};
use crate::Element;
use crate::kernel::{self, Init, Kernels, Strided};

/// `Σⱼ φ_j·v_jᵀ` and `Σⱼ w_j·φ_j`.
pub(super) struct State<T> {
    kernels: Kernels,
    features: usize,
    /// `[e / 32][feature][e % 32]`.
    matrix: Vec<Row<T>>,
    /// `[feature / 32][feature % 32]`.
    vector: Vec<Row<T>>,
}

impl<T: Element> State<T> {
    pub(super) fn new(kernels: Kernels, features: usize, dim: usize) -> Self {
        let zero = [T::from_f64(0.0); LANES];
        let matrix = vec![zero; dim.div_ceil(LANES) * features];
        Self { kernels, features, matrix, vector: vec![zero; features.div_ceil(LANES)] }
    }

    pub(super) fn scale(&mut self, factor: T) {
        self.matrix.iter_mut().chain(&mut self.vector).flatten().for_each(|x| *x *= factor);
    }

    /// Adds a chunk: features `[feature / 32][token][..]`, values `[e / 32][token][..]`, and weights of the vector (`None`: ones).
    pub(super) fn absorb(
        &mut self,
        features: &[Row<T>],
        values: &[Row<T>],
        weights: Option<&Row<T>>,
        len: usize,
    ) {
        let count = self.features;
        for (g, (rows, sums)) in features.chunks_exact(LANES).zip(&mut self.vector).enumerate() {
            let a = Strided { data: rows.as_flattened(), row: 1, column: LANES };
            let part = g * LANES..count.min((g + 1) * LANES);
            for (matrix, values) in self.matrix.chunks_exact_mut(count).zip(values.chunks_exact(LANES)) {
                kernel::product(self.kernels, a, &values[..len], &mut matrix[part.clone()], Init::Add);
            }
            for (i, row) in rows[..len].iter().enumerate() {
                match weights {
                    None => sums.iter_mut().zip(row).for_each(|(sum, &x)| *sum += x),
                    Some(weights) => {
                        sums.iter_mut().zip(row).for_each(|(sum, &x)| *sum += weights[i] * x);
                    }
                }
            }
        }
    }

    /// `out[e / 32][token] += φ·matrix` and `sums[token] += φ·vector`.
    pub(super) fn apply(&self, features: &[Row<T>], out: &mut [Row<T>], sums: &mut Row<T>, len: usize) {
        let (count, zero) = (self.features, T::from_f64(0.0));
        for (g, (rows, vector)) in features.chunks_exact(LANES).zip(&self.vector).enumerate() {
            let a = Strided { data: rows.as_flattened(), row: LANES, column: 1 };
            let part = g * LANES..count.min((g + 1) * LANES);
            for (matrix, out) in self.matrix.chunks_exact(count).zip(out.chunks_exact_mut(LANES)) {
                kernel::product(self.kernels, a, &matrix[part.clone()], &mut out[..len], Init::Add);
            }
            for (row, sum) in rows[..len].iter().zip(&mut *sums) {
                let mut lanes = [zero; LANES];
                for ((lane, &x), &y) in lanes.iter_mut().zip(row).zip(vector) {
                    *lane = x * y;
                }
                *sum = lanes.iter().fold(*sum, |sum, &x| sum + x);
            }
        }
    }

    /// The adjoint by the features: `out[feature][token] = matrix·v + w·vector`, of values `[e][token]`.
    pub(super) fn adjoint(&self, values: &[Row<T>], weights: &Row<T>, out: &mut [Row<T>]) {
        for (f, out) in out.iter_mut().enumerate() {
            let x = self.vector[f / LANES][f % LANES];
            out.iter_mut().zip(weights).for_each(|(out, &weight)| *out = weight * x);
        }
        if self.features == 0 {
            return;
        }
        for (matrix, values) in self.matrix.chunks_exact(self.features).zip(values.chunks(LANES)) {
            let a = Strided { data: matrix.as_flattened(), row: LANES, column: 1 };
            kernel::product(self.kernels, a, values, out, Init::Add);
        }
    }
}

/// `pairs[i][j] = left_i·right_j` where `j ≤ i`, else 0: left `[column / 32][i][..]`, right `[column][j]`.
pub(super) fn pairs<T: Element>(
    kernels: Kernels,
    left: &[Row<T>],
    right: &[Row<T>],
    weights: Option<&Row<T>>,
    len: usize,
    pairs: &mut [Row<T>],
) {
    let zero = T::from_f64(0.0);
    for (i, row) in pairs.iter_mut().enumerate() {
        row.fill(weights.map_or(zero, |weights| weights[i]));
    }
    for (rows, right) in left.chunks_exact(LANES).zip(right.chunks(LANES)) {
        let a = Strided { data: rows.as_flattened(), row: LANES, column: 1 };
        kernel::product(kernels, a, right, &mut pairs[..len], Init::Add);
    }
    for (i, row) in pairs.iter_mut().enumerate() {
        row[i + 1..].fill(zero);
        row[len..].fill(zero);
    }
}
