//! Products from vector codes. Trellis: a block of rows at a time, columns one after another into its sums; lattice: a
//! row at a time.

use super::{ROWS_PER_TASK, dot, run};
use crate::Quantized;
use crate::vector::Decoder;
use alloc::{vec, vec::Vec};

/// Rows of a trellis that one task handles: a multiple of 32.
const ROWS_OF_TRELLIS: usize = 256;

/// Hands the outputs of each weight row for all tokens of the row-major `x` to `store`, row by row; `false` for a matrix
/// of scalar codes.
pub(super) fn products(
    weight: &Quantized,
    x: &[f32],
    tokens: usize,
    finish: impl Fn(usize, &mut [f32]) + Send + Sync,
    mut store: impl FnMut(usize, &[f32]),
) -> bool {
    let Some(decoder) = Decoder::new(weight) else { return false };
    let (out, features) = weight.shape();
    // Column scales belong to the activations here; the products with outliers are those of `x` itself.
    let scaled = x.chunks_exact(features.max(1)).flat_map(|x| x.iter().zip(&decoder.column_scales));
    let scaled: Vec<f32> = scaled.map(|(x, scale)| x * scale).collect();
    let complete = |row: usize, values: &mut [f32]| {
        for (token, value) in values.iter_mut().enumerate() {
            *value *= decoder.row_scales[row];
            for &(_, col, outlier) in decoder.outliers(row) {
                *value += outlier * x[token * features + col];
            }
        }
        finish(row, values);
    };
    let rows = if decoder.runs_down() { ROWS_OF_TRELLIS } else { ROWS_PER_TASK };
    let task = |block: usize| {
        let first = block * rows;
        let count = rows.min(out - first);
        let mut values = vec![0.0; count * tokens];
        if decoder.runs_down() {
            let sums = sums_down(&decoder, first, count, &scaled, tokens);
            for (token, sums) in sums.iter().enumerate() {
                for (value, sum) in values.iter_mut().skip(token).step_by(tokens).zip(sums) {
                    *value = *sum;
                }
            }
        } else {
            let mut row = vec![0.0; features];
            for (i, values) in values.chunks_exact_mut(tokens.max(1)).enumerate() {
                decoder.plain_row(first + i, &mut row);
                for (value, x) in values.iter_mut().zip(scaled.chunks_exact(features.max(1))) {
                    *value = dot(&row, x);
                }
            }
        }
        for (i, values) in values.chunks_exact_mut(tokens.max(1)).enumerate() {
            complete(first + i, values);
        }
        values
    };
    for (block, values) in run(out.div_ceil(rows), task) {
        for (i, values) in values.chunks_exact(tokens.max(1)).enumerate() {
            store(block * rows + i, values);
        }
    }
    true
}

/// `Σ_j u_j · value_ij` for rows `first ..`, by token.
fn sums_down(
    decoder: &Decoder<'_>,
    first: usize,
    count: usize,
    scaled: &[f32],
    tokens: usize,
) -> Vec<Vec<f32>> {
    let padded = count.next_multiple_of(crate::trellis::stream::ROWS);
    let mut sums = vec![vec![0.0; padded]; tokens];
    let mut values = vec![0.0; padded];
    let mut streams = decoder.column_decoder();
    let features = decoder.column_scales.len();
    for column in 0..features {
        if !decoder.column_into(&mut streams, column, first, &mut values) {
            continue;
        }
        for (sums, x) in sums.iter_mut().zip(scaled.chunks_exact(features)) {
            streams.add(x[column], &values, sums);
        }
    }
    sums
}
