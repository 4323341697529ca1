//! Matrices with known properties, and conversions to the oracle.

use nalgebra::DMatrix;
use proptest::prelude::*;
use rankbit_linalg::Stream;
use rankbit_linalg::faer::{Mat, MatRef};

/// Independent standard normal entries.
pub(crate) fn gaussian(rows: usize, columns: usize, seed: u64) -> Mat<f64> {
    let mut stream = Stream::new(seed, "tests");
    Mat::from_fn(rows, columns, |_, _| stream.next_normal())
}

/// A random matrix with these singular values (at most min(rows, columns) of them).
pub(crate) fn with_spectrum(rows: usize, columns: usize, values: &[f64], seed: u64) -> Mat<f64> {
    let left = oracle(gaussian(rows, values.len(), seed).as_ref()).qr().q();
    let right = oracle(gaussian(columns, values.len(), seed ^ 0x5bd1_e995).as_ref()).qr().q();
    let diagonal = DMatrix::from_diagonal(&nalgebra::DVector::from_row_slice(values));
    mat(&(left * diagonal * right.transpose()))
}

/// The same matrix for nalgebra.
pub(crate) fn oracle(a: MatRef<'_, f64>) -> DMatrix<f64> {
    DMatrix::from_fn(a.nrows(), a.ncols(), |i, j| a[(i, j)])
}

/// The same matrix for faer.
pub(crate) fn mat(a: &DMatrix<f64>) -> Mat<f64> {
    Mat::from_fn(a.nrows(), a.ncols(), |i, j| a[(i, j)])
}

/// Rounded to f32.
pub(crate) fn single(a: MatRef<'_, f64>) -> Mat<f32> {
    Mat::from_fn(a.nrows(), a.ncols(), |i, j| <f32 as rankbit_linalg::Scalar>::from_f64(a[(i, j)]))
}

/// Widened to f64.
pub(crate) fn double(a: MatRef<'_, f32>) -> Mat<f64> {
    Mat::from_fn(a.nrows(), a.ncols(), |i, j| f64::from(a[(i, j)]))
}

/// Singular values by nalgebra, descending.
pub(crate) fn oracle_values(a: MatRef<'_, f64>) -> Vec<f64> {
    if a.nrows() == 0 || a.ncols() == 0 {
        return Vec::new();
    }
    let mut values: Vec<f64> = oracle(a).singular_values().iter().copied().collect();
    values.sort_by(|x, y| y.total_cmp(x));
    values
}

/// Norm of the singular values from `rank` on: the least error of that rank.
pub(crate) fn tail(values: &[f64], rank: usize) -> f64 {
    values.iter().skip(rank).map(|s| s * s).sum::<f64>().sqrt()
}

/// Frobenius norm of a − b.
pub(crate) fn distance(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> f64 {
    (oracle(a) - oracle(b)).norm()
}

/// Frobenius norm.
pub(crate) fn norm(a: MatRef<'_, f64>) -> f64 {
    oracle(a).norm()
}

/// ‖QᵀQ − I‖, largest entry.
pub(crate) fn orthonormality(q: MatRef<'_, f64>) -> f64 {
    let q = oracle(q);
    (q.transpose() * &q - DMatrix::identity(q.ncols(), q.ncols())).amax()
}

/// |x − y| ≤ tolerance, failing on NaN.
#[track_caller]
pub(crate) fn close(x: f64, y: f64, tolerance: f64) {
    let difference = (x - y).abs();
    assert!(difference <= tolerance, "{x} and {y} differ by {difference} > {tolerance}");
}

/// x ≤ y + tolerance, failing on NaN.
#[track_caller]
pub(crate) fn at_most(x: f64, y: f64, tolerance: f64) {
    assert!(x <= y + tolerance, "{x} exceeds {y} by {} > {tolerance}", x - y);
}

/// A random matrix (Gaussian times a decaying diagonal, some of them rank deficient) and a rank for it.
pub(crate) fn matrix_and_rank() -> impl Strategy<Value = (Mat<f64>, usize)> {
    (1usize..28, 1usize..28, any::<u64>(), 0.3f64..1.0, any::<bool>()).prop_flat_map(
        |(m, n, seed, decay, low)| {
            let side = m.min(n);
            let kept = if low { side.div_ceil(2) } else { side };
            let values: Vec<f64> = (0..kept).map(|i| 3.0 * decay.powi(i32::try_from(i).unwrap())).collect();
            (Just(with_spectrum(m, n, &values, seed)), 0..=side)
        },
    )
}

/// Every way to lay out one matrix in memory: owner of the numbers, to be viewed by [`Layouts::views`].
pub(crate) struct Layouts {
    rows: usize,
    columns: usize,
    by_columns: Vec<f64>,
    by_rows: Vec<f64>,
    spread: Vec<f64>,
    reversed: Vec<f64>,
}

impl Layouts {
    pub(crate) fn new(a: MatRef<'_, f64>) -> Self {
        let (m, n) = a.shape();
        let by_columns = (0..m * n).map(|at| a[(at % m, at / m)]).collect();
        let by_rows = (0..m * n).map(|at| a[(at / n, at % n)]).collect();
        // Every third row of a matrix with three times the rows; the other entries must not be read.
        let spread =
            (0..3 * m * n).map(|at| if at % 3 == 0 { a[((at / 3) % m, at / 3 / m)] } else { f64::NAN });
        let reversed = (0..m * n).map(|at| a[(m - 1 - at % m, n - 1 - at / m)]).collect();
        Self { rows: m, columns: n, by_columns, by_rows, spread: spread.collect(), reversed }
    }

    /// Column-major, row-major, no unit stride, negative strides.
    pub(crate) fn views(&self) -> [MatRef<'_, f64>; 4] {
        let (m, n) = (self.rows, self.columns);
        let wide = MatRef::from_column_major_slice(&self.spread, 3 * m, n);
        // SAFETY: rows 0, 3, 6, … of a column-major 3m×n slice: row stride 3, column stride 3m, all inside.
        let spread =
            unsafe { MatRef::from_raw_parts(wide.as_ptr(), m, n, 3, 3 * isize::try_from(m).unwrap()) };
        [
            MatRef::from_column_major_slice(&self.by_columns, m, n),
            MatRef::from_row_major_slice(&self.by_rows, m, n),
            spread,
            MatRef::from_column_major_slice(&self.reversed, m, n).reverse_rows_and_cols(),
        ]
    }
}
