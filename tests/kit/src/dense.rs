//! The two dense products of the network and its moments. Work is cut into fixed panels, each computed by
//! one thread, so results do not depend on how many threads there are.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

/// Rows of one panel: enough that packing the other operand is a small part of the work.
const PANEL: usize = 128;

/// `Y = X·Wᵀ + b` for row-major `x: [tokens, inputs]`, `weight: [outputs, inputs]`, `bias: [outputs]`.
pub(crate) fn linear(x: &[f32], weight: &[f32], bias: &[f32], inputs: usize) -> Vec<f32> {
    let outputs = bias.len();
    let weight = MatRef::from_row_major_slice(weight, outputs, inputs);
    let mut y = bias.repeat(x.len() / inputs);
    y.par_chunks_mut(PANEL * outputs).zip(x.par_chunks(PANEL * inputs)).for_each(|(y, x)| {
        let tokens = x.len() / inputs;
        let x = MatRef::from_row_major_slice(x, tokens, inputs);
        let y = MatMut::from_row_major_slice_mut(y, tokens, outputs);
        matmul(y, Accum::Add, x, weight.transpose(), 1.0, Par::Seq);
    });
    y
}

/// `A·B` for row-major `a: [rows, inner]`, `b: [inner, cols]`.
pub(crate) fn product(a: &[f64], b: &[f64], inner: usize, cols: usize) -> Vec<f64> {
    let b = MatRef::from_row_major_slice(b, inner, cols);
    let mut out = vec![0.0; a.len() / inner * cols];
    out.par_chunks_mut(PANEL * cols).zip(a.par_chunks(PANEL * inner)).for_each(|(out, a)| {
        let rows = a.len() / inner;
        let a = MatRef::from_row_major_slice(a, rows, inner);
        matmul(MatMut::from_row_major_slice_mut(out, rows, cols), Accum::Add, a, b, 1.0, Par::Seq);
    });
    out
}

/// Adds `XᵀX` to the upper block triangle of `gram: [inputs, inputs]`; [`mirror`] fills the rest.
pub(crate) fn add_upper_gram(gram: &mut [f64], x: &[f64], inputs: usize) {
    let x = MatRef::from_row_major_slice(x, x.len() / inputs, inputs);
    gram.par_chunks_mut(PANEL * inputs).enumerate().for_each(|(panel, rows)| {
        let (start, height) = (panel * PANEL, rows.len() / inputs);
        let target = MatMut::from_row_major_slice_mut(rows, height, inputs);
        let left = x.subcols(start, height).transpose();
        let right = x.subcols(start, inputs - start);
        matmul(target.subcols_mut(start, inputs - start), Accum::Add, left, right, 1.0, Par::Seq);
    });
}

/// Copies the upper triangle of a square matrix onto its lower one.
pub(crate) fn mirror(square: &mut [f64], side: usize) {
    for row in 1..side {
        for col in 0..row {
            square[row * side + col] = square[col * side + row];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tolerance::assert_close;

    /// Values in ±1 without a pattern a panel could share.
    fn noise(len: usize) -> Vec<f64> {
        (0..len).map(|i| (i as f64 * 12.9898).sin()).collect()
    }

    #[test]
    #[expect(clippy::cast_possible_truncation, reason = "the operands are rounded on purpose")]
    fn products_match_plain_loops_over_several_panels() {
        let (tokens, inputs, outputs) = (PANEL + 3, 2 * PANEL + 5, 7);
        let (x, weight, bias) = (noise(tokens * inputs), noise(outputs * inputs), noise(outputs));
        let narrow = |values: &[f64]| values.iter().map(|&value| value as f32).collect::<Vec<_>>();
        let y = linear(&narrow(&x), &narrow(&weight), &narrow(&bias), inputs);
        let mut expected = Vec::new();
        for x in x.chunks_exact(inputs) {
            for (row, b) in weight.chunks_exact(inputs).zip(&bias) {
                expected.push((b + x.iter().zip(row).map(|(a, b)| a * b).sum::<f64>()) as f32);
            }
        }
        // |Δ| ≤ (inputs + 1)·2⁻²³·Σ|x||w|, and Σ|x||w| ≤ inputs
        assert_close(&y, &expected, 270.0 * 270.0 / 8_388_608.0);

        let mut gram = vec![0.0; inputs * inputs];
        add_upper_gram(&mut gram, &x, inputs);
        mirror(&mut gram, inputs);
        let mut expected = vec![0.0; inputs * inputs];
        for x in x.chunks_exact(inputs) {
            for (row, a) in expected.chunks_exact_mut(inputs).zip(x) {
                row.iter_mut().zip(x).for_each(|(sum, b)| *sum += a * b);
            }
        }
        assert_close(&gram, &expected, 1e-11);

        let transposed: Vec<f64> =
            (0..inputs * tokens).map(|i| x[i % tokens * inputs + i / tokens]).collect();
        assert_close(&product(&transposed, &x, tokens, inputs), &expected, 1e-11);
    }
}
