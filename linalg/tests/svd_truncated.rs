//! The exact decomposition.

use crate::support::*;
use proptest::prelude::*;
use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_linalg::{Error, Method, RandomizedOptions, SvdMethod, best_rank, singular_values, truncated};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Eckart and Young: the error is exactly the tail; the values are nalgebra's.
    #[test]
    fn error_is_the_tail((a, rank) in matrix_and_rank()) {
        let exact = oracle_values(a.as_ref());
        let layouts = Layouts::new(a.as_ref());
        for view in layouts.views() {
            let svd = truncated(view, rank).unwrap();
            close(distance(a.as_ref(), svd.reconstruct().as_ref()), tail(&exact, rank), 1e-12);
            close(svd.info.residual, tail(&exact, rank), 1e-12);
            close(svd.info.norm, norm(a.as_ref()), 1e-12);
            prop_assert!(orthonormality(svd.u.as_ref()) <= 1e-12);
            prop_assert!(orthonormality(svd.v.as_ref()) <= 1e-12);
            let values = singular_values(view).unwrap();
            prop_assert_eq!(values.len(), exact.len());
            for (found, expected) in values.iter().zip(&exact) {
                close(*found, *expected, 1e-12);
            }
            for (found, expected) in svd.singular_values.iter().zip(&values) {
                close(*found, *expected, 1e-12);
            }
        }
    }

    /// No other matrix of that rank is nearer: neither random factors nor a step away from the optimum.
    #[test]
    fn no_rival_is_nearer((a, rank) in matrix_and_rank(), seed in any::<u64>(), step in 1e-4f64..1.0) {
        let svd = truncated(a.as_ref(), rank).unwrap();
        let factors = svd.balanced();
        let (left, right) = (oracle(factors.left.as_ref()), oracle(factors.right.as_ref()));
        let away = left + step * oracle(gaussian(a.nrows(), rank, seed).as_ref());
        let aside = right + step * oracle(gaussian(rank, a.ncols(), seed ^ 2).as_ref());
        at_most(svd.info.residual, (oracle(a.as_ref()) - away * aside).norm(), 1e-12);
    }

    /// The two factors multiply to the approximation and share its singular values evenly.
    #[test]
    fn balanced_factors((a, rank) in matrix_and_rank()) {
        let svd = truncated(a.as_ref(), rank).unwrap();
        let factors = svd.balanced();
        prop_assert_eq!(factors.rank(), rank);
        prop_assert!(distance(factors.product().as_ref(), svd.reconstruct().as_ref()) <= 1e-12);
        for (i, value) in svd.singular_values.iter().enumerate() {
            close(oracle(factors.left.as_ref()).column(i).norm_squared(), *value, 1e-12);
            close(oracle(factors.right.as_ref()).row(i).norm_squared(), *value, 1e-12);
        }
    }

    /// Signs follow the rule, so they survive a change of sign of A on the left vectors.
    #[test]
    fn sign_convention(m in 1usize..12, n in 1usize..12, seed in any::<u64>()) {
        let a = gaussian(m, n, seed);
        let negative = Mat::from_fn(m, n, |i, j| -a[(i, j)]);
        let rank = m.min(n);
        let (one, two) = (truncated(a.as_ref(), rank).unwrap(), truncated(negative.as_ref(), rank).unwrap());
        prop_assert!(distance(one.u.as_ref(), two.u.as_ref()) <= 1e-7);
        for column in one.u.col_iter() {
            let largest = column.iter().copied().max_by(|x, y| x.abs().total_cmp(&y.abs())).unwrap();
            prop_assert!(largest > 0.0);
        }
    }
}

/// diag(3, 2, 1) by hand.
#[test]
fn by_hand() {
    let a = MatRef::from_row_major_slice(&[0.0, 2.0, 0.0, -3.0, 0.0, 0.0, 0.0, 0.0, 1.0f64], 3, 3);
    let svd = truncated(a, 2).unwrap();
    close(svd.singular_values[0], 3.0, 1e-15);
    close(svd.singular_values[1], 2.0, 1e-15);
    close(svd.u[(1, 0)], 1.0, 1e-15);
    close(svd.v[(0, 0)], -1.0, 1e-15);
    close(svd.info.residual, 1.0, 1e-15);
    assert_eq!(svd.info.method, SvdMethod::Truncated);
}

#[test]
fn extreme_scales() {
    let base = gaussian(12, 9, 8);
    let exact = oracle_values(base.as_ref());
    for scale in [1e-30, 1e30] {
        let a = single(Mat::from_fn(12, 9, |i, j| base[(i, j)] * scale).as_ref());
        let svd = truncated(a.as_ref(), 9).unwrap();
        for (found, expected) in svd.singular_values.iter().zip(&exact) {
            close(f64::from(*found) / scale, *expected, 1e-5);
        }
        let values = singular_values(a.as_ref()).unwrap();
        close(f64::from(values[8]) / scale, exact[8], 1e-5);
    }
    let huge = Mat::<f32>::from_fn(20, 20, |_, _| f32::MAX);
    let expected = Error::NonFinite { what: "singular values", row: 0, col: 0 };
    assert_eq!(truncated(huge.as_ref(), 1).unwrap_err(), expected);
    assert_eq!(singular_values(huge.as_ref()).unwrap_err(), expected);
}

/// The choice of algorithm follows the documented rule.
#[test]
fn best_rank_chooses() {
    let options = RandomizedOptions::default();
    let small = gaussian(64, 200, 1);
    let large = gaussian(120, 130, 1);
    let method =
        |a: &Mat<f64>, rank, method: Method| best_rank(a.as_ref(), rank, &method).unwrap().info.method;
    assert_eq!(method(&small, 4, Method::Auto(options)), SvdMethod::Truncated);
    assert_eq!(method(&large, 4, Method::Auto(options)), SvdMethod::Randomized);
    assert_eq!(method(&large, 31, Method::Auto(options)), SvdMethod::Truncated);
    assert_eq!(method(&small, 4, Method::Randomized(options)), SvdMethod::Randomized);
    assert_eq!(method(&large, 4, Method::Truncated), SvdMethod::Truncated);
    assert_eq!(Method::default(), Method::Auto(options));
}

#[test]
fn degenerate_and_bad_input() {
    for (m, n) in [(0, 0), (0, 3), (3, 0)] {
        let a = Mat::<f64>::zeros(m, n);
        assert_eq!(truncated(a.as_ref(), 0).unwrap().reconstruct().shape(), (m, n));
        assert!(singular_values(a.as_ref()).unwrap().is_empty());
        assert_eq!(truncated(a.as_ref(), 1).unwrap_err(), Error::RankOutOfRange { rank: 1, max: 0 });
    }
    let one = MatRef::from_row_major_slice(&[-2.0f64], 1, 1);
    assert_eq!(truncated(one, 1).unwrap().singular_values, [2.0]);
    assert_eq!(truncated(one, 0).unwrap().info.residual, 2.0);
    assert_eq!(truncated(one, 2).unwrap_err(), Error::RankOutOfRange { rank: 2, max: 1 });
    assert_eq!(singular_values(Mat::<f32>::zeros(3, 2).as_ref()).unwrap(), [0.0; 2]);
    let mut a = gaussian(5, 6, 1);
    a[(3, 4)] = f64::NAN;
    let expected = Error::NonFinite { what: "matrix", row: 3, col: 4 };
    assert_eq!(truncated(a.as_ref(), 1).unwrap_err(), expected);
    assert_eq!(singular_values(a.as_ref()).unwrap_err(), expected);
    assert_eq!(expected.to_string(), "matrix: entry at row 3, column 4 is not finite");
}
