//! The best approximation under a metric.

use crate::support::*;
use nalgebra::{DMatrix, SymmetricEigen};
use proptest::prelude::*;
use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_linalg::{
    Error, Method, Metric, MetricRoot, RandomizedOptions, truncated, weighted, weighted_both,
};

/// A Gram matrix of full rank and moderate condition.
fn gram(n: usize, seed: u64) -> Mat<f64> {
    let x = oracle(gaussian(3 * n + 5, n, seed).as_ref());
    let scale = DMatrix::from_fn(n, n, |i, j| if i == j { 1.0 + i as f64 } else { 0.0 });
    mat(&(&scale * x.transpose() * x * &scale / (3 * n + 5) as f64))
}

fn positive(n: usize, seed: u64) -> Vec<f64> {
    gaussian(n, 1, seed).col_as_slice(0).iter().map(|x| 0.1 + x * x).collect()
}

fn exact(a: MatRef<'_, f64>, rank: usize, root: &MetricRoot) -> Mat<f64> {
    weighted(a, rank, root, &Method::Truncated).unwrap().product()
}

fn error(metric: &Metric, a: MatRef<'_, f64>, c: MatRef<'_, f64>) -> f64 {
    let residual = Mat::from_fn(a.nrows(), a.ncols(), |i, j| a[(i, j)] - c[(i, j)]);
    metric.norm_squared(residual.as_ref()).unwrap().sqrt()
}

/// diag(√rows) for nalgebra.
fn row_root(rows: &[f64]) -> DMatrix<f64> {
    DMatrix::from_fn(rows.len(), rows.len(), |i, j| if i == j { rows[i].sqrt() } else { 0.0 })
}

fn metric_and_matrix() -> impl Strategy<Value = (Metric, Mat<f64>, Mat<f64>, Vec<f64>, usize)> {
    (1usize..14, 1usize..14, any::<u64>(), any::<bool>(), any::<bool>()).prop_flat_map(
        |(m, n, seed, full, by_row)| {
            let h = if full {
                gram(n, seed)
            } else {
                let weights = positive(n, seed);
                Mat::from_fn(n, n, |i, j| if i == j { weights[i] } else { 0.0 })
            };
            let metric = if full {
                Metric::gram(h.clone()).unwrap()
            } else {
                Metric::diagonal((0..n).map(|i| h[(i, i)]).collect()).unwrap()
            };
            let rows = if by_row { positive(m, seed ^ 7) } else { vec![1.0; m] };
            let metric = if by_row { metric.with_rows(rows.clone()).unwrap() } else { metric };
            (Just(metric), Just(h), Just(gaussian(m, n, seed ^ 3)), Just(rows), 0..=m.min(n))
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The error is the tail of the singular values of D^½ A S, with a root S of the oracle's (Cholesky, and the
    /// symmetric one: the same), and the plain decomposition is never better.
    #[test]
    fn error_is_the_least_possible((metric, h, a, rows, rank) in metric_and_matrix()) {
        let c = exact(a.as_ref(), rank, &metric.root(0.0).unwrap());
        let found = error(&metric, a.as_ref(), c.as_ref());
        let size = error(&metric, a.as_ref(), Mat::zeros(a.nrows(), a.ncols()).as_ref());
        let cholesky = oracle(h.as_ref()).cholesky().unwrap().l();
        let eigen = SymmetricEigen::new(oracle(h.as_ref()));
        let symmetric = &eigen.eigenvectors
            * DMatrix::from_diagonal(&eigen.eigenvalues.map(f64::sqrt))
            * eigen.eigenvectors.transpose();
        for root in [cholesky, symmetric] {
            let values = oracle_values(mat(&(row_root(&rows) * oracle(a.as_ref()) * root)).as_ref());
            close(found, tail(&values, rank), 1e-7 * size);
        }
        let plain = truncated(a.as_ref(), rank).unwrap().reconstruct();
        at_most(found, error(&metric, a.as_ref(), plain.as_ref()), 1e-7 * size);
    }

    /// The approximation itself is D^-½ [D^½ A S]ᵣ S⁻¹ with either root of the oracle's.
    #[test]
    fn does_not_depend_on_the_root((metric, h, a, rows, rank) in metric_and_matrix()) {
        let c = exact(a.as_ref(), rank, &metric.root(0.0).unwrap());
        let eigen = SymmetricEigen::new(oracle(h.as_ref()));
        let symmetric = &eigen.eigenvectors
            * DMatrix::from_diagonal(&eigen.eigenvalues.map(f64::sqrt))
            * eigen.eigenvectors.transpose();
        for root in [oracle(h.as_ref()).cholesky().unwrap().l(), symmetric] {
            let b = row_root(&rows) * oracle(a.as_ref()) * &root;
            let values = oracle_values(mat(&b).as_ref());
            // Where two singular values meet at the cut, the minimizer is not unique.
            let gap = rank == 0 || rank == values.len() || values[rank - 1] - values[rank] > 1e-3 * values[0];
            prop_assume!(gap);
            let svd = b.svd(true, true);
            let mut order: Vec<usize> = (0..values.len()).collect();
            order.sort_by(|&i, &j| svd.singular_values[j].total_cmp(&svd.singular_values[i]));
            let mut best = DMatrix::zeros(a.nrows(), a.ncols());
            for &i in order.iter().take(rank) {
                let (u, v) = (svd.u.as_ref().unwrap().column(i), svd.v_t.as_ref().unwrap().row(i));
                best += svd.singular_values[i] * u * v;
            }
            let inverse = root.clone().try_inverse().unwrap();
            let undo = row_root(&rows).try_inverse().unwrap();
            let expected = undo * best * inverse;
            let size = 1.0 + expected.norm();
            prop_assert!(distance(c.as_ref(), mat(&expected).as_ref()) <= 1e-6 * size);
        }
    }

    /// First-order conditions: Lᵀ·D·(A − C)·H = 0 and D·(A − C)·H·Rᵀ = 0.
    #[test]
    fn stationary((metric, h, a, rows, rank) in metric_and_matrix()) {
        let factors = weighted(a.as_ref(), rank, &metric.root(0.0).unwrap(), &Method::Truncated).unwrap();
        let d = DMatrix::from_diagonal(&nalgebra::DVector::from_row_slice(&rows));
        let residual = oracle(a.as_ref()) - oracle(factors.product().as_ref());
        let (left, right) = (oracle(factors.left.as_ref()), oracle(factors.right.as_ref()));
        let gradient = &d * residual * oracle(h.as_ref());
        let size = (1.0 + (&d * oracle(a.as_ref()) * oracle(h.as_ref())).norm()) * (1.0 + left.norm() + right.norm());
        prop_assert!((left.transpose() * &gradient).norm() <= 1e-8 * size);
        prop_assert!((&gradient * right.transpose()).norm() <= 1e-6 * size);
    }

    /// Columns of the left and rows of the right factor have equal norms.
    #[test]
    fn balanced((metric, _, a, _, rank) in metric_and_matrix()) {
        let factors = weighted(a.as_ref(), rank, &metric.root(0.0).unwrap(), &Method::Truncated).unwrap();
        prop_assert_eq!(factors.rank(), rank);
        for i in 0..rank {
            let (left, right) = (oracle(factors.left.as_ref()), oracle(factors.right.as_ref()));
            close(left.column(i).norm(), right.row(i).norm(), 1e-9);
        }
    }

    /// Fewer tokens than inputs: the Gram matrix is singular, and the output error of the samples is still the
    /// least possible, ‖(A − C)·Xᵀ‖² = tail of A·Xᵀ, with bounded factors.
    #[test]
    fn singular_gram(m in 2usize..12, n in 3usize..14, seed in any::<u64>(), part in any::<usize>()) {
        let tokens = 1 + part % (n - 1);
        let x = oracle(gaussian(tokens, n, seed).as_ref());
        let a = gaussian(m, n, seed ^ 3);
        let metric = Metric::gram(mat(&(x.transpose() * &x / tokens as f64))).unwrap();
        let root = metric.root(0.0).unwrap();
        // Rounding can lift one pivot above the floor.
        prop_assert!(root.floored() + 1 >= n - tokens);
        let outputs = oracle(a.as_ref()) * x.transpose();
        let values = oracle_values(mat(&outputs).as_ref());
        for rank in 0..=m.min(n) {
            let c = exact(a.as_ref(), rank, &root);
            let left = (oracle(a.as_ref()) - oracle(c.as_ref())) * x.transpose();
            close(left.norm(), tail(&values, rank), 1e-5 * (1.0 + outputs.norm()));
            at_most(norm(c.as_ref()), norm(a.as_ref()), 1e-9);
        }
    }

    /// Strides agree.
    #[test]
    fn strides((metric, _, a, _, rank) in metric_and_matrix()) {
        let root = metric.root(1e-3).unwrap();
        let expected = error(&metric, a.as_ref(), exact(a.as_ref(), rank, &root).as_ref());
        let layouts = Layouts::new(a.as_ref());
        for view in layouts.views() {
            close(error(&metric, a.as_ref(), exact(view, rank, &root).as_ref()), expected, 1e-7 * (1.0 + expected));
        }
    }
}

/// H = c·I leaves nothing to weigh: the plain decomposition, and H elsewhere trades Frobenius error away.
#[test]
fn identity_is_the_plain_decomposition() {
    let a = gaussian(12, 15, 2);
    let plain = truncated(a.as_ref(), 4).unwrap().reconstruct();
    let scaled = Mat::from_fn(15, 15, |i, j| if i == j { 7.0 } else { 0.0 });
    for metric in [
        Metric::identity(),
        Metric::identity().with_rows(vec![3.0; 12]).unwrap(),
        Metric::diagonal(vec![0.5; 15]).unwrap(),
        Metric::gram(scaled).unwrap(),
        Metric::diagonal(vec![0.0; 15]).unwrap(),
        Metric::gram(Mat::zeros(15, 15)).unwrap(),
        Metric::identity().with_rows(vec![0.0; 12]).unwrap(),
    ] {
        let c = exact(a.as_ref(), 4, &metric.root(0.0).unwrap());
        assert!(distance(c.as_ref(), plain.as_ref()) < 1e-9);
    }
    let metric = Metric::gram(gram(15, 5)).unwrap();
    let c = exact(a.as_ref(), 4, &metric.root(0.0).unwrap());
    assert!(distance(a.as_ref(), c.as_ref()) > 1.01 * distance(a.as_ref(), plain.as_ref()));
    assert!(error(&metric, a.as_ref(), c.as_ref()) < 0.99 * error(&metric, a.as_ref(), plain.as_ref()));
}

/// The randomized method comes near the same error, in single precision, and any scale of A or H is fine.
#[test]
fn randomized_single_precision_and_scales() {
    let a = gaussian(90, 120, 2);
    let h = gram(120, 6);
    let metric = Metric::gram(h.clone()).unwrap();
    let best = error(&metric, a.as_ref(), exact(a.as_ref(), 10, &metric.root(0.0).unwrap()).as_ref());
    let method = Method::Randomized(RandomizedOptions { power_iterations: 4, ..Default::default() });
    for (scale_a, scale_h) in [(1.0, 1.0), (1e-30, 1.0), (1e30, 1e-60), (1.0, 1e80), (1e-20, 1e200)] {
        let scaled = single(Mat::from_fn(90, 120, |i, j| a[(i, j)] * scale_a).as_ref());
        let metric_scaled = Metric::gram(Mat::from_fn(120, 120, |i, j| h[(i, j)] * scale_h)).unwrap();
        let root = metric_scaled.root(0.0).unwrap();
        let c = double(weighted(scaled.as_ref(), 10, &root, &method).unwrap().product().as_ref());
        let c = Mat::from_fn(90, 120, |i, j| c[(i, j)] / scale_a);
        at_most(error(&metric, a.as_ref(), c.as_ref()), best * 1.01, 0.0);
    }
}

/// A row without weight costs nothing, and its factors stay finite and sensible.
#[test]
fn weightless_rows() {
    let a = gaussian(8, 10, 2);
    let mut rows = vec![1.0; 8];
    rows[3] = 0.0;
    let metric = Metric::identity().with_rows(rows.clone()).unwrap();
    let c = exact(a.as_ref(), 3, &metric.root(0.0).unwrap());
    let values = oracle_values(mat(&(row_root(&rows) * oracle(a.as_ref()))).as_ref());
    close(error(&metric, a.as_ref(), c.as_ref()), tail(&values, 3), 1e-9);
    at_most(norm(c.as_ref()), 2.0 * norm(a.as_ref()), 0.0);
}

#[test]
fn degenerate_and_bad_input() {
    let method = Method::default();
    let a = gaussian(4, 6, 1);
    let root = Metric::diagonal(vec![1.0; 5]).unwrap().root(0.0).unwrap();
    let expected = |expected| Error::ShapeMismatch { what: "matrix under a metric", expected, found: (4, 6) };
    assert_eq!(weighted(a.as_ref(), 2, &root, &method).unwrap_err(), expected((4, 5)));
    let root = Metric::identity().with_rows(vec![1.0; 3]).unwrap().root(0.0).unwrap();
    assert_eq!(weighted(a.as_ref(), 2, &root, &method).unwrap_err(), expected((3, 6)));
    let root = Metric::identity().root(0.0).unwrap();
    let error = weighted(a.as_ref(), 5, &root, &method).unwrap_err();
    assert_eq!(error, Error::RankOutOfRange { rank: 5, max: 4 });
    let mut bad = a.clone();
    bad[(1, 5)] = f64::INFINITY;
    let error = weighted(bad.as_ref(), 2, &root, &method).unwrap_err();
    assert_eq!(error, Error::NonFinite { what: "matrix", row: 1, col: 5 });
    let zero = weighted(a.as_ref(), 0, &root, &method).unwrap();
    assert_eq!((zero.left.shape(), zero.right.shape(), zero.product().shape()), ((4, 0), (0, 6), (4, 6)));
    for (m, n) in [(0, 0), (0, 3), (3, 0)] {
        let root = Metric::gram(Mat::zeros(n, n)).unwrap().root(0.1).unwrap();
        let none = weighted(Mat::<f32>::zeros(m, n).as_ref(), 0, &root, &method).unwrap();
        assert_eq!(none.product().shape(), (m, n));
    }
    let one = weighted(MatRef::from_row_major_slice(&[-8.0f64], 1, 1), 1, &root, &method).unwrap();
    close(one.left[(0, 0)] * one.right[(0, 0)], -8.0, 1e-14);
    close(one.left[(0, 0)], 8f64.sqrt(), 1e-14);
}

/// ‖E‖² = tr(Hₗ E H Eᵀ) by nalgebra.
fn both(left: &Metric, right: &Metric, e: MatRef<'_, f64>) -> f64 {
    let form = |metric: &Metric, n: usize| match &metric.columns {
        rankbit_linalg::ColumnMetric::Identity => DMatrix::identity(n, n),
        rankbit_linalg::ColumnMetric::Diagonal(h) => {
            DMatrix::from_diagonal(&nalgebra::DVector::from_row_slice(h))
        }
        rankbit_linalg::ColumnMetric::Gram(h) => oracle(h.as_ref()),
    };
    let e = oracle(e);
    (form(left, e.nrows()) * &e * form(right, e.ncols()) * e.transpose()).trace().max(0.0).sqrt()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Under a form on either side the error is the tail of the weighted matrix, and no other matrix of the rank does
    /// better.
    #[test]
    fn both_sides_are_optimal(m in 1usize..12, n in 1usize..12, kinds in (0..3, 0..3), share in 0.0..1.0f64, seed in any::<u64>()) {
        let metric = |kind: i32, side: usize, seed: u64| match kind {
            0 => Metric::identity(),
            1 => Metric::diagonal(positive(side, seed)).unwrap(),
            _ => Metric::gram(gram(side, seed)).unwrap(),
        };
        let (left, right) = (metric(kinds.0, m, seed), metric(kinds.1, n, seed ^ 1));
        let a = gaussian(m, n, seed ^ 2);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a small count")]
        let rank = (m.min(n) as f64 * share) as usize;
        let (sl, sr) = (left.root(0.0).unwrap(), right.root(0.0).unwrap());
        let found = weighted_both(a.as_ref(), rank, &sl, &sr, &Method::Truncated).unwrap().product();
        let difference = Mat::from_fn(m, n, |i, j| a[(i, j)] - found[(i, j)]);
        let reached = both(&left, &right, difference.as_ref());
        let left_root = oracle(sl.apply(Mat::<f64>::identity(m, m).as_ref()).unwrap().as_ref());
        let right_root = oracle(sr.apply(Mat::<f64>::identity(n, n).as_ref()).unwrap().as_ref());
        let values = oracle_values(mat(&(left_root.transpose() * oracle(a.as_ref()) * right_root)).as_ref());
        let size = tail(&values, 0);
        close(reached, tail(&values, rank), 1e-7 * size);
        let plain = truncated(a.as_ref(), rank).unwrap().reconstruct();
        let difference = Mat::from_fn(m, n, |i, j| a[(i, j)] - plain[(i, j)]);
        at_most(reached, both(&left, &right, difference.as_ref()), 1e-7 * size);
        // With nothing on the left it is the one-sided form.
        if kinds.0 == 0 {
            let one = weighted(a.as_ref(), rank, &sr, &Method::Truncated).unwrap().product();
            prop_assert!(distance(one.as_ref(), found.as_ref()) <= 1e-8 * norm(a.as_ref()));
        }
    }
}

/// Singular forms, single precision and extreme scales on both sides.
#[test]
fn both_sides_singular_and_scaled() {
    let (m, n) = (9, 7);
    let singular = |side: usize, seed: u64| {
        let x = oracle(gaussian(3, side, seed).as_ref());
        Metric::gram(mat(&(x.transpose() * &x))).unwrap()
    };
    let (left, right) = (singular(m, 1), singular(n, 2));
    let (sl, sr) = (left.root(0.0).unwrap(), right.root(0.0).unwrap());
    let a = single(gaussian(m, n, 3).as_ref());
    let found = weighted_both(a.as_ref(), 3, &sl, &sr, &Method::default()).unwrap().product();
    let difference = Mat::from_fn(m, n, |i, j| f64::from(a[(i, j)]) - f64::from(found[(i, j)]));
    let whole = both(&left, &right, double(a.as_ref()).as_ref());
    at_most(both(&left, &right, difference.as_ref()), 1e-3 * whole, 0.0);
    let wide = double(a.as_ref());
    let plain = weighted_both(wide.as_ref(), 2, &sl, &sr, &Method::default()).unwrap().product();
    for scale in [1e-150, 1e150] {
        let b = Mat::from_fn(m, n, |i, j| wide[(i, j)] * scale);
        let found = weighted_both(b.as_ref(), 2, &sl, &sr, &Method::default()).unwrap().product();
        let again = Mat::from_fn(m, n, |i, j| found[(i, j)] / scale);
        at_most(distance(again.as_ref(), plain.as_ref()), 1e-6 * norm(plain.as_ref()), 0.0);
    }
    let rows = Metric::identity().with_rows(vec![1.0; n]).unwrap().root(0.0).unwrap();
    let refused = weighted_both(wide.as_ref(), 1, &sl, &rows, &Method::default());
    assert!(matches!(refused, Err(Error::InvalidOption { .. })));
    assert!(matches!(
        weighted_both(wide.as_ref(), 1, &sr, &sl, &Method::default()),
        Err(Error::ShapeMismatch { .. })
    ));
    assert!(matches!(
        weighted_both(wide.as_ref(), 8, &sl, &sr, &Method::default()),
        Err(Error::RankOutOfRange { .. })
    ));
}
