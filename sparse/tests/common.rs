//! What the modules share.

use proptest::prelude::*;
use rankbit_kit::strategy::Matrix;
use rankbit_linalg::Stream;
use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_sparse::{NmPattern, Pattern, Scope};

/// A view of a row-major matrix.
pub(crate) fn view(matrix: &Matrix) -> MatRef<'_, f32> {
    MatRef::from_row_major_slice(&matrix.values, matrix.rows, matrix.cols)
}

/// Every valid N:M.
pub(crate) fn nm() -> impl Strategy<Value = NmPattern> {
    (2_u32..=32).prop_flat_map(|of| (1..=of).prop_map(move |keep| NmPattern::new(keep, of).unwrap()))
}

/// Those in use.
pub(crate) fn common_nm() -> impl Strategy<Value = NmPattern> {
    prop::sample::select(vec![(1, 2), (2, 4), (1, 4), (4, 8), (2, 8), (1, 8), (1, 16), (3, 5), (16, 32)])
        .prop_map(|(keep, of)| NmPattern::new(keep, of).unwrap())
}

/// Patterns of every kind.
pub(crate) fn patterns() -> impl Strategy<Value = Pattern> {
    prop_oneof![
        common_nm().prop_map(Pattern::Nm),
        (1_u32..=4, 4_u32..=8).prop_map(|(k, m)| Pattern::Transposable(NmPattern::new(k, m).unwrap())),
        (1_usize..6, 1_usize..6, 0.0..=1.0).prop_map(|(rows, cols, density)| Pattern::Block {
            rows,
            cols,
            density
        }),
        (0.0..=1.0, any::<bool>()).prop_map(|(density, row)| Pattern::Unstructured {
            density,
            scope: if row { Scope::Row } else { Scope::Matrix }
        }),
    ]
}

/// Standard normal values.
pub(crate) fn normal(rows: usize, cols: usize, name: &str) -> Mat<f32> {
    let mut stream = Stream::new(0, name);
    let mut values = vec![0.0; rows * cols];
    stream.fill_normal(&mut values);
    MatRef::from_row_major_slice(&values, rows, cols).to_owned()
}

/// Correlated inputs' Gram matrix: some loud, all mixed with their neighbours.
pub(crate) fn gram(inputs: usize, name: &str) -> Mat<f64> {
    let x = normal(3 * inputs, inputs, name);
    let x = Mat::from_fn(x.nrows(), inputs, |t, j| {
        let neighbour = x[(t, (j + 1) % inputs)] + x[(t, (j * 7 + 3) % inputs)];
        f64::from(x[(t, j)] + 0.8 * neighbour) * if j % 8 == 0 { 4.0 } else { 1.0 }
    });
    x.transpose() * &x
}

/// tr(E·H·Eᵀ), the slow way.
pub(crate) fn loss(weight: MatRef<'_, f32>, pruned: MatRef<'_, f32>, gram: MatRef<'_, f64>) -> f64 {
    let e = Mat::from_fn(weight.nrows(), weight.ncols(), |i, j| {
        f64::from(weight[(i, j)]) - f64::from(pruned[(i, j)])
    });
    let image = &e * gram;
    (0..e.nrows()).flat_map(|i| (0..e.ncols()).map(move |j| (i, j))).map(|at| e[at] * image[at]).sum()
}

/// `gram` with damping on its diagonal.
pub(crate) fn damped(gram: &Mat<f64>, damping: f64) -> Mat<f64> {
    let n = gram.nrows();
    let mean = (0..n).map(|j| gram[(j, j)]).sum::<f64>() / n as f64;
    Mat::from_fn(n, n, |i, j| gram[(i, j)] + if i == j { damping * mean } else { 0.0 })
}

/// f64 → f32, to nearest.
pub(crate) fn single(value: f64) -> f32 {
    rankbit_quant::FloatFormat::F32.round(value)
}

/// A whole number of at most a few thousands, rounded down.
#[expect(clippy::cast_possible_truncation, reason = "counts of entries in a test")]
pub(crate) fn whole(value: f64) -> usize {
    value as usize
}
