//! Products from vector codes. Trellis: a block of rows at a time, columns one after another into its sums; lattice: a
//! row at a time, E8P in whole numbers wherever those are as exact as floats ([`whole`]).

use super::{ROWS_PER_TASK, dot, run};
use crate::lattice::dot::Inputs;
use crate::vector::Decoder;
use crate::{Quantized, float};
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
    let multiplier = decoder.multiplier();
    let inputs = scaled.chunks_exact(features.max(1));
    let whole: Vec<_> = inputs.map(|x| multiplier.as_ref().and_then(|_| whole(x))).collect();
    let all_whole = whole.iter().all(Option::is_some);
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
                if !all_whole {
                    decoder.plain_row(first + i, &mut row);
                }
                let inputs = scaled.chunks_exact(features.max(1)).zip(&whole);
                for (value, (x, whole)) in values.iter_mut().zip(inputs) {
                    *value = match (&multiplier, whole) {
                        (Some(multiplier), Some(whole)) => {
                            float::narrow(multiplier.dot(decoder.row_codes(first + i), whole))
                        }
                        _ => dot(&row, x),
                    };
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

/// Inputs in three planes of whole numbers, where no input is so far above the rest that those lose what floats keep.
///
/// ```text
/// |Σ w·e| ≤ Σ|w|·max|x|·254⁻³ ≤ 1.48·n·1.03·u·max|x|     Σ|w|² ≤ 12 and a shift of ¼ in a block of 8:  Σ|w| ≤ 1.48·n
/// Σ|w|·|x| ≥ ¼·Σ|x|                                     so in·u·Σ|w|·|x| is no less while 8·max|x| ≤ Σ|x|
/// ```
/// (with the padding of the last block, from 64 inputs on), which leaves 2·u for scales and the rounding at the end: the
/// bound of [`super`] holds.
fn whole(x: &[f32]) -> Option<Inputs> {
    let (sum, largest) = x.iter().fold((0.0, 0.0_f64), |(sum, largest), x| {
        let x = f64::from(x.abs());
        (sum + x, largest.max(x))
    });
    if x.len() >= 64 && 8.0 * largest <= sum { Inputs::new(x, 3) } else { None }
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
        if let [sums] = sums.as_mut_slice() {
            decoder.column_add(&mut streams, column, first, scaled[column], sums);
            continue;
        }
        if !decoder.column_into(&mut streams, column, first, &mut values) {
            continue;
        }
        for (sums, x) in sums.iter_mut().zip(scaled.chunks_exact(features)) {
            streams.add(x[column], &values, sums);
        }
    }
    sums
}
