//! Norms under a metric, and its roots.

use crate::support::*;
use nalgebra::DMatrix;
use proptest::prelude::*;
use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_linalg::{ColumnMetric, Error, Metric};

/// A Gram matrix of `tokens` random rows.
fn gram(n: usize, tokens: usize, seed: u64) -> Mat<f64> {
    let x = oracle(gaussian(tokens, n, seed).as_ref());
    mat(&(x.transpose() * &x / tokens.max(1) as f64))
}

fn positive(n: usize, seed: u64) -> Vec<f64> {
    gaussian(n, 1, seed).col_as_slice(0).iter().map(|x| x * x).collect()
}

/// The form H of a metric, for nalgebra.
fn form(metric: &Metric, n: usize) -> DMatrix<f64> {
    match &metric.columns {
        ColumnMetric::Identity => DMatrix::identity(n, n),
        ColumnMetric::Diagonal(h) => DMatrix::from_diagonal(&nalgebra::DVector::from_row_slice(h)),
        ColumnMetric::Gram(h) => oracle(h.as_ref()),
    }
}

/// The definition, entry by entry.
fn reference(metric: &Metric, e: MatRef<'_, f64>) -> f64 {
    let h = form(metric, e.ncols());
    let mut total = 0.0;
    for i in 0..e.nrows() {
        for j in 0..e.ncols() {
            for k in 0..e.ncols() {
                let weight = metric.rows.as_ref().map_or(1.0, |rows| rows[i]);
                total += weight * e[(i, j)] * h[(j, k)] * e[(i, k)];
            }
        }
    }
    total
}

fn metrics() -> impl Strategy<Value = (Metric, usize, usize, u64)> {
    (1usize..20, 1usize..20, any::<u64>(), 0..3, any::<bool>(), 1usize..40).prop_map(
        |(m, n, seed, kind, by_row, tokens)| {
            let metric = match kind {
                0 => Metric::identity(),
                1 => Metric::diagonal(positive(n, seed)).unwrap(),
                _ => Metric::gram(gram(n, tokens, seed)).unwrap(),
            };
            let metric = if by_row { metric.with_rows(positive(m, seed ^ 7)).unwrap() } else { metric };
            (metric, m, n, seed)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// The norm is its definition, for every layout and both precisions.
    #[test]
    fn norm_is_its_definition((metric, m, n, seed) in metrics()) {
        let e = gaussian(m, n, seed ^ 1);
        let expected = reference(&metric, e.as_ref());
        let layouts = Layouts::new(e.as_ref());
        for view in layouts.views() {
            close(metric.norm_squared(view).unwrap(), expected, 1e-11 * (1.0 + expected));
        }
        let rounded = single(e.as_ref());
        let expected = reference(&metric, double(rounded.as_ref()).as_ref());
        close(metric.norm_squared(rounded.as_ref()).unwrap(), expected, 1e-11 * (1.0 + expected));
    }

    /// S·Sᵀ = H + damping·mean(diag H)·I; ‖apply(E)‖ is the norm; unapply undoes apply.
    #[test]
    fn root_is_a_root((metric, m, n, seed) in metrics(), damping in 0.01f64..1.0) {
        let root = metric.root(damping).unwrap();
        let h = form(&metric, n);
        let damped = &h + DMatrix::identity(n, n) * (damping * h.trace() / n as f64);
        let without_rows = Metric { rows: None, columns: metric.columns.clone() };
        let s = oracle(without_rows.root(damping).unwrap().apply(Mat::<f64>::identity(n, n).as_ref()).unwrap().as_ref());
        prop_assert!((&s * s.transpose() - &damped).norm() <= 1e-10 * (1.0 + damped.norm()));

        let e = gaussian(m, n, seed ^ 1);
        let image = root.apply(e.as_ref()).unwrap();
        let whole = Metric { rows: metric.rows.clone(), columns: ColumnMetric::Gram(mat(&damped)) };
        let expected = whole.norm_squared(e.as_ref()).unwrap();
        close(norm(image.as_ref()).powi(2), expected, 1e-9 * (1.0 + expected));
        let back = root.unapply_left(root.unapply_right(image.as_ref()).unwrap().as_ref()).unwrap();
        // Row weights below 10⁻¹² of the largest are raised to it by the root.
        prop_assert!(distance(back.as_ref(), e.as_ref()) <= 1e-6 * (1.0 + norm(e.as_ref())));
    }

    /// Rank deficiency is counted, and the undamped root is still a root to rounding.
    #[test]
    fn root_of_a_singular_gram(n in 2usize..16, seed in any::<u64>(), part in any::<usize>()) {
        let tokens = 1 + part % (n - 1);
        let h = gram(n, tokens, seed);
        let root = Metric::gram(h.clone()).unwrap().root(0.0).unwrap();
        // Counted by pivots, so an ill-conditioned sample may shift it by one (from one to none, too).
        prop_assert!(root.floored().abs_diff(n - tokens) <= 1);
        let s = oracle(root.apply(Mat::<f64>::identity(n, n).as_ref()).unwrap().as_ref());
        let size = oracle(h.as_ref()).norm();
        prop_assert!((&s * s.transpose() - oracle(h.as_ref())).norm() <= 1e-12 * size);
    }

    /// A change of basis of the metric is a change of basis of the matrix.
    #[test]
    fn scaled_metric((metric, m, n, seed) in metrics()) {
        let scale: Vec<f64> = gaussian(n, 1, seed ^ 5).col_as_slice(0).to_vec();
        let e = gaussian(m, n, seed ^ 1);
        let scaled = Mat::from_fn(m, n, |i, j| e[(i, j)] * scale[j]);
        let expected = metric.norm_squared(scaled.as_ref()).unwrap();
        let found = metric.scaled(&scale).unwrap().norm_squared(e.as_ref()).unwrap();
        close(found, expected, 1e-10 * (1.0 + expected));
    }
}

/// H = [[2, 1], [1, 3]], E = [[1, -1], [2, 0]]: rows give 3 and 8.
#[test]
fn by_hand() {
    let metric = Metric::gram(Mat::from_fn(2, 2, |i, j| [[2.0, 1.0], [1.0, 3.0]][i][j])).unwrap();
    let e = MatRef::from_row_major_slice(&[1.0f32, -1.0, 2.0, 0.0], 2, 2);
    close(metric.norm_squared(e).unwrap(), 11.0, 1e-14);
    let metric = metric.with_rows(vec![2.0, 0.5]).unwrap();
    close(metric.norm_squared(e).unwrap(), 10.0, 1e-14);
    assert_eq!(metric.width(), Some(2));
}

/// Panels of rows do not show.
#[test]
fn many_rows() {
    let metric = Metric::gram(gram(7, 9, 1)).unwrap().with_rows(positive(300, 2)).unwrap();
    let e = gaussian(300, 7, 3);
    let expected = reference(&metric, e.as_ref());
    close(metric.norm_squared(e.as_ref()).unwrap(), expected, 1e-11 * expected);
}

#[test]
fn relative_error() {
    let metric = Metric::diagonal(vec![1.0, 4.0, 0.0]).unwrap();
    let weight = MatRef::from_row_major_slice(&[3.0f64, 2.0, 9.0], 1, 3);
    let residual = MatRef::from_row_major_slice(&[0.0f64, 1.0, 9.0], 1, 3);
    close(metric.relative_error(residual, weight).unwrap(), 0.4, 1e-15);
    let zero = Mat::<f64>::zeros(1, 3);
    assert_eq!(metric.relative_error(zero.as_ref(), zero.as_ref()).unwrap(), 0.0);
    assert_eq!(metric.relative_error(residual, zero.as_ref()).unwrap(), f64::INFINITY);
    let empty = Mat::<f64>::zeros(0, 3);
    assert_eq!(metric.relative_error(empty.as_ref(), empty.as_ref()).unwrap(), 0.0);
    let error = metric.relative_error(residual.transpose(), weight).unwrap_err();
    assert_eq!(error, Error::ShapeMismatch { what: "residual", expected: (1, 3), found: (3, 1) });
}

/// Sums in single precision can leave a Gram matrix slightly indefinite: the eigenvalue floor takes over.
#[test]
fn slightly_indefinite_gram() {
    let mut h = gram(12, 5, 4);
    for i in 0..12 {
        h[(i, i)] -= 1e-6;
    }
    let root = Metric::gram(h.clone()).unwrap().root(0.0).unwrap();
    assert_eq!(root.floored(), 7);
    let s = oracle(root.apply(Mat::<f64>::identity(12, 12).as_ref()).unwrap().as_ref());
    assert!((&s * s.transpose() - oracle(h.as_ref())).norm() < 1e-5);
    let e = gaussian(3, 12, 1);
    let back = root.unapply_right(root.apply(e.as_ref()).unwrap().as_ref()).unwrap();
    assert!(distance(back.as_ref(), e.as_ref()) < 1e-6);
    // Damping lifts it above zero again.
    assert_eq!(Metric::gram(h).unwrap().root(1e-3).unwrap().floored(), 0);
}

#[test]
fn bad_metrics_are_named() {
    let error = Metric::diagonal(vec![1.0, -1.0]).unwrap_err();
    assert_eq!(error, Error::InvalidMetric { what: "negative column weight", row: 0, col: 1 });
    let error = Metric::diagonal(vec![f64::NAN]).unwrap_err();
    assert_eq!(error, Error::NonFinite { what: "column weight", row: 0, col: 0 });
    let error = Metric::identity().with_rows(vec![0.0, f64::INFINITY]).unwrap_err();
    assert_eq!(error, Error::NonFinite { what: "row weight", row: 1, col: 0 });
    let error = Metric::identity().with_rows(vec![-2.0]).unwrap_err();
    assert_eq!(error.to_string(), "negative row weight at row 0, column 0");
    let error = Metric::gram(Mat::zeros(2, 3)).unwrap_err();
    assert_eq!(error, Error::ShapeMismatch { what: "Gram matrix", expected: (2, 2), found: (2, 3) });
    let mut h = gram(4, 9, 1);
    h[(2, 1)] += 1.0;
    let error = Metric::gram(h.clone()).unwrap_err();
    assert_eq!(error, Error::InvalidMetric { what: "Gram matrix not symmetric", row: 2, col: 1 });
    h[(3, 0)] = f64::NAN;
    let error = Metric::gram(h.clone()).unwrap_err();
    assert_eq!(error, Error::NonFinite { what: "Gram matrix", row: 3, col: 0 });
    let mut h = gram(4, 9, 1);
    h[(1, 1)] = -0.5;
    let error = Metric::gram(h).unwrap_err();
    assert_eq!(error, Error::InvalidMetric { what: "negative diagonal of a Gram matrix", row: 1, col: 1 });
    // Symmetric, non-negative diagonal, yet indefinite: only the root can tell.
    let h = Mat::from_fn(3, 3, |i, j| if i == j { 1.0 } else { -0.9 });
    assert!(matches!(Metric::gram(h).unwrap().root(0.0), Err(Error::InvalidMetric { .. })));
    let h = Mat::from_fn(2, 2, |i, j| if i == j { 0.0 } else { 2.0 });
    let error = Metric::gram(h).unwrap_err();
    assert_eq!(error, Error::InvalidMetric { what: "Gram entry above its diagonal's bound", row: 1, col: 0 });
    // Built around the checks.
    let metric = Metric { rows: None, columns: ColumnMetric::Gram(Mat::zeros(2, 3)) };
    assert!(matches!(metric.root(0.0), Err(Error::ShapeMismatch { .. })));
    assert!(metric.norm_squared(Mat::<f32>::zeros(2, 3).as_ref()).is_err());
    let metric = Metric { rows: Some(vec![-1.0]), columns: ColumnMetric::Diagonal(vec![f64::NAN]) };
    assert!(metric.root(0.0).is_err());
}

#[test]
fn bad_operands_are_named() {
    let metric = Metric::diagonal(vec![1.0; 3]).unwrap().with_rows(vec![1.0; 2]).unwrap();
    let mut e = Mat::<f32>::zeros(2, 3);
    e[(1, 2)] = f32::NAN;
    let expected = Error::NonFinite { what: "matrix under a metric", row: 1, col: 2 };
    assert_eq!(metric.norm_squared(e.as_ref()).unwrap_err(), expected);
    let root = metric.root(0.0).unwrap();
    assert_eq!(root.apply(e.as_ref()).unwrap_err(), expected);
    let what = "factor under a metric";
    assert_eq!(root.unapply_left(e.as_ref()).unwrap_err(), Error::NonFinite { what, row: 1, col: 2 });
    assert_eq!(root.unapply_right(e.as_ref()).unwrap_err(), Error::NonFinite { what, row: 1, col: 2 });
    let e = Mat::<f32>::zeros(3, 2);
    let expected = Error::ShapeMismatch { what: "matrix under a metric", expected: (2, 3), found: (3, 2) };
    assert_eq!(metric.norm_squared(e.as_ref()).unwrap_err(), expected);
    assert!(root.apply(e.as_ref()).is_err());
    assert!(root.unapply_left(e.as_ref()).is_err());
    assert!(root.unapply_right(e.as_ref()).is_err());
    for damping in [-1.0, f64::NAN, f64::INFINITY] {
        assert!(matches!(metric.root(damping), Err(Error::InvalidOption { what: "damping", .. })));
    }
    let error = metric.scaled(&[1.0]).unwrap_err();
    assert_eq!(error, Error::ShapeMismatch { what: "column scale", expected: (1, 3), found: (1, 1) });
    let error = metric.scaled(&[1.0, f64::NAN, 1.0]).unwrap_err();
    assert_eq!(error, Error::NonFinite { what: "column scale", row: 0, col: 1 });
    let huge = Mat::<f64>::from_fn(2, 3, |_, _| 1e200);
    let error = metric.norm_squared(huge.as_ref()).unwrap_err();
    assert_eq!(error, Error::NonFinite { what: "norm under a metric", row: 0, col: 0 });
}

/// Scales far from 1, and metrics without any weight.
#[test]
fn extreme_metrics() {
    for scale in [1e-250, 1e-60, 1e60, 1e250] {
        let h = gram(5, 9, 1);
        let metric = Metric::gram(Mat::from_fn(5, 5, |i, j| h[(i, j)] * scale)).unwrap();
        let root = metric.root(0.0).unwrap();
        assert_eq!(root.floored(), 0);
        let e = gaussian(3, 5, 2);
        let image = root.apply(e.as_ref()).unwrap();
        let expected = Metric::gram(h).unwrap().norm_squared(e.as_ref()).unwrap();
        close((norm(image.as_ref()) / scale.sqrt()).powi(2), expected, 1e-9);
        let back = root.unapply_right(image.as_ref()).unwrap();
        assert!(distance(back.as_ref(), e.as_ref()) < 1e-9);
    }
    let e = gaussian(3, 5, 2);
    let zero = Metric::gram(Mat::zeros(5, 5)).unwrap().with_rows(vec![0.0; 3]).unwrap();
    let root = zero.root(0.5).unwrap();
    assert_eq!(zero.norm_squared(e.as_ref()).unwrap(), 0.0);
    assert_eq!(norm(root.apply(e.as_ref()).unwrap().as_ref()), 0.0);
    assert!(root.unapply_right(e.as_ref()).is_ok());
    assert_eq!(root.floored(), 5);
    assert_eq!(Metric::identity().norm_squared(Mat::<f32>::zeros(0, 4).as_ref()).unwrap(), 0.0);
}
