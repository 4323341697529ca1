//! The Lasso: optimality, certificate, screening, kept solutions, bad input; relevance and allocation.

use proptest::prelude::*;
use rankbit_linalg::Error;
use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_linalg::lasso::{
    Lasso, LassoOptions, allocate_samples, lambda_grid, lambda_max, lasso, lasso_path, relevance,
};

use crate::support::{Layouts, at_most, close, gaussian, oracle};

fn options(tolerance: f64) -> LassoOptions {
    LassoOptions { tolerance, ..LassoOptions::default() }
}

/// Xᵀ(y − X·b).
fn correlations(x: MatRef<'_, f64>, y: &[f64], b: &[f64]) -> Vec<f64> {
    let y = nalgebra::DVector::from_row_slice(y);
    let b = nalgebra::DVector::from_row_slice(b);
    (oracle(x).transpose() * (y - oracle(x) * b)).iter().copied().collect()
}

/// P(b), by another hand.
fn objective(x: MatRef<'_, f64>, y: &[f64], solution: &Lasso, weights: &[f64]) -> f64 {
    let residual = nalgebra::DVector::from_row_slice(y)
        - oracle(x) * nalgebra::DVector::from_row_slice(&solution.coefficients);
    let penalty: f64 = solution.coefficients.iter().zip(weights).map(|(b, w)| b.abs() * w).sum();
    residual.norm_squared() / 2.0 + solution.lambda * penalty
}

#[test]
fn orthonormal_columns_shrink() {
    let x = Mat::from_fn(9, 5, |i, j| if i == j { -1.0 } else { 0.0 });
    let y = [3.0, -2.0, 0.5, -0.25, 1.0, 7.0, 0.0, 0.0, -1.0];
    let solution = lasso(x.as_ref(), &y, 0.75, &options(1e-14)).unwrap();
    for (found, expected) in solution.coefficients.iter().zip([-2.25, 1.25, 0.0, 0.0, -0.25]) {
        close(*found, expected, 1e-12);
    }
    assert!(solution.converged);
    let positive = LassoOptions { non_negative: true, ..options(1e-14) };
    let solution = lasso(x.as_ref(), &y, 0.75, &positive).unwrap();
    for (found, expected) in solution.coefficients.iter().zip([0.0, 1.25, 0.0, 0.0, 0.0]) {
        close(*found, expected, 1e-12);
    }
}

/// `scripts/oracle/lasso.py`: scikit-learn's solutions at tolerance 1e-14.
#[test]
fn as_scikit_learn() {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../../tests/vectors/lasso.json")).expect("kept vectors");
    let numbers = |value: &serde_json::Value| -> Vec<f64> {
        value.as_array().expect("an array").iter().map(|x| x.as_f64().expect("a number")).collect()
    };
    let (rows, columns) = (30, 60);
    let x = numbers(&vectors["x"]);
    let x = MatRef::from_row_major_slice(&x, rows, columns);
    let y = numbers(&vectors["y"]);
    let cases = vectors["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 6);
    for case in cases {
        let non_negative = case["non_negative"].as_bool().expect("a flag");
        let lambda = case["lambda"].as_f64().expect("a number");
        let options = LassoOptions { non_negative, ..options(1e-14) };
        let solution = lasso(x, &y, lambda, &options).unwrap();
        for (found, expected) in solution.coefficients.iter().zip(numbers(&case["coefficients"])) {
            close(*found, expected, 2e-6);
        }
    }
}

#[test]
fn bad_input() {
    let x = gaussian(4, 3, 1);
    let y = [1.0, 2.0, 3.0, 4.0];
    let run = |lambda: f64, options: &LassoOptions| lasso(x.as_ref(), &y, lambda, options);
    let base = LassoOptions::default();
    for lambda in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(matches!(run(lambda, &base), Err(Error::InvalidOption { what: "lambda", .. })));
    }
    assert!(matches!(lasso(x.as_ref(), &y[..3], 1.0, &base), Err(Error::ShapeMismatch { what: "y", .. })));
    let bad = [1.0, f64::NAN, 3.0, 4.0];
    assert!(matches!(
        lasso(x.as_ref(), &bad, 1.0, &base),
        Err(Error::NonFinite { what: "y", row: 1, col: 0 })
    ));
    let mut broken = x.clone();
    broken[(2, 1)] = f64::INFINITY;
    assert!(matches!(
        lasso(broken.as_ref(), &y, 1.0, &base),
        Err(Error::NonFinite { what: "X", row: 2, col: 1 })
    ));
    let weights = LassoOptions { weights: Some(vec![1.0, 0.0, 1.0]), ..base.clone() };
    assert!(matches!(run(1.0, &weights), Err(Error::InvalidOption { what: "weights", .. })));
    let weights = LassoOptions { weights: Some(vec![1.0]), ..base.clone() };
    assert!(matches!(run(1.0, &weights), Err(Error::ShapeMismatch { what: "weights", .. })));
    let tolerance = LassoOptions { tolerance: f64::NAN, ..base.clone() };
    assert!(matches!(run(1.0, &tolerance), Err(Error::InvalidOption { what: "tolerance", .. })));
    // Nothing to choose from, nothing to explain, columns of zeros, no sweeps.
    assert_eq!(
        lasso(Mat::<f64>::zeros(4, 0).as_ref(), &y, 1.0, &base).unwrap().coefficients,
        Vec::<f64>::new()
    );
    assert_eq!(lasso(Mat::<f64>::zeros(0, 2).as_ref(), &[], 1.0, &base).unwrap().coefficients, [0.0; 2]);
    assert_eq!(lasso(x.as_ref(), &[0.0; 4], 1.0, &base).unwrap().coefficients, [0.0; 3]);
    let zero = lasso(Mat::<f64>::zeros(4, 2).as_ref(), &y, 1.0, &base).unwrap();
    assert!(zero.converged && zero.coefficients == [0.0; 2]);
    let none = lasso(x.as_ref(), &y, 1e-3, &LassoOptions { sweeps: 0, ..base.clone() }).unwrap();
    assert!(!none.converged && none.gap > 0.0 && none.coefficients == [0.0; 3]);
    assert_eq!(lambda_grid(2.0, 0.25, 3), [2.0, 1.0, 0.5]);
    assert!(lambda_grid(1.0, 0.1, 0).is_empty());
}

/// 1e±150 in X or y: the same solution, scaled.
#[test]
fn wild_scales() {
    let (x, y) = (gaussian(12, 20, 4), gaussian(12, 1, 5));
    let y: Vec<f64> = y.col(0).iter().copied().collect();
    let plain = lasso(x.as_ref(), &y, 0.5, &options(1e-13)).unwrap();
    for (a, b) in [(1e150, 1.0), (1e-150, 1.0), (1.0, 1e150), (1e-150, 1e-150), (1e140, 1e150)] {
        let scaled = Mat::from_fn(12, 20, |i, j| x[(i, j)] * a);
        let target: Vec<f64> = y.iter().map(|y| y * b).collect();
        let solution = lasso(scaled.as_ref(), &target, 0.5 * a * b, &options(1e-13)).unwrap();
        for (found, expected) in solution.coefficients.iter().zip(&plain.coefficients) {
            close(found * (a / b), *expected, 1e-5);
        }
    }
}

/// A problem: sides, seed, copies among the columns or not.
fn problem() -> impl Strategy<Value = (Mat<f64>, Vec<f64>)> {
    (1usize..25, 1usize..40, any::<u64>(), any::<bool>()).prop_map(|(m, n, seed, copies)| {
        let base = gaussian(m, n, seed);
        let x = Mat::from_fn(m, n, |i, j| base[(i, if copies { j / 2 } else { j })]);
        let y = gaussian(m, 1, seed ^ 1);
        let y = (0..m).map(|i| y[(i, 0)] + 2.0 * x[(i, 0)] - x[(i, n / 2)]).collect();
        (x, y)
    })
}

proptest! {
    /// The conditions of optimality, for each variant, and a gap that tells the truth.
    #[test]
    fn optimality((x, y) in problem(), relative in 0.01f64..1.2, weighted: bool, non_negative: bool) {
        let n = x.ncols();
        let weights: Vec<f64> = (0..n).map(|j| if weighted { 0.5 + (j % 4) as f64 } else { 1.0 }).collect();
        let options = LassoOptions { weights: weighted.then(|| weights.clone()), non_negative, ..options(1e-13) };
        let largest = lambda_max(x.as_ref(), &y, &options).unwrap();
        prop_assume!(largest > 1e-6);
        let lambda = relative * largest;
        let solution = lasso(x.as_ref(), &y, lambda, &options).unwrap();
        prop_assert!(solution.converged);
        let scale = y.iter().map(|y| y * y).sum::<f64>();
        prop_assert!((objective(x.as_ref(), &y, &solution, &weights) - solution.objective).abs() <= 1e-12 * scale);
        for ((&b, c), w) in solution.coefficients.iter().zip(correlations(x.as_ref(), &y, &solution.coefficients)).zip(&weights) {
            let slack = 1e-4 * (scale.sqrt() + 1.0) * (x.nrows() as f64).sqrt();
            let bound = lambda * w;
            prop_assert!(c <= bound + slack && (non_negative || -c <= bound + slack), "{c} {bound}");
            prop_assert!(!non_negative || b >= 0.0);
            if b.abs() > 1e-3 {
                prop_assert!((c - bound * b.signum()).abs() <= slack, "{b} {c} {bound}");
            }
        }
        if relative >= 1.0 {
            prop_assert!(solution.coefficients.iter().all(|&b| b == 0.0));
        }
        // A coarse solution is no farther from the optimum than its gap says.
        let coarse = lasso(x.as_ref(), &y, lambda, &LassoOptions { tolerance: 0.05, ..options.clone() }).unwrap();
        at_most(coarse.objective - solution.objective, coarse.gap, 1e-12 * scale);
        prop_assert!(coarse.gap <= 0.05 * scale / 2.0);
    }

    /// A path ends where single solves do, and layouts do not matter.
    #[test]
    fn paths_and_layouts((x, y) in problem()) {
        let options = options(1e-13);
        let largest = lambda_max(x.as_ref(), &y, &options).unwrap();
        prop_assume!(largest > 1e-6);
        let grid = lambda_grid(largest, 0.05, 5);
        let path = lasso_path(x.as_ref(), &y, &grid, &options).unwrap();
        let scale = y.iter().map(|y| y * y).sum::<f64>();
        for (solution, &lambda) in path.iter().zip(&grid) {
            let single = lasso(x.as_ref(), &y, lambda, &options).unwrap();
            prop_assert!((single.objective - solution.objective).abs() <= 1e-12 * scale);
        }
        let layouts = Layouts::new(x.as_ref());
        let first = lasso(x.as_ref(), &y, grid[4], &options).unwrap();
        for view in layouts.views() {
            prop_assert_eq!(&lasso(view, &y, grid[4], &options).unwrap(), &first);
        }
    }

    /// Samples: the total, the floor, proportion.
    #[test]
    fn allocations(weights in prop::collection::vec(-5.0f64..5.0, 0..12), total in 0u64..10_000, least in 0u64..50, power in 0.5f64..3.0) {
        let counts = allocate_samples(&weights, power, total, least).unwrap();
        prop_assert_eq!(counts.len(), weights.len());
        prop_assert!(counts.iter().all(|&count| count >= least));
        if !weights.is_empty() {
            prop_assert_eq!(counts.iter().sum::<u64>(), total.max(least * weights.len() as u64));
        }
        for (a, n) in weights.iter().zip(&counts) {
            for (b, m) in weights.iter().zip(&counts) {
                prop_assert!(a.abs() < b.abs() || n + 1 >= *m, "{} {} {} {}", a, b, n, m);
            }
        }
    }
}

#[test]
fn allocation_by_hand() {
    assert_eq!(allocate_samples(&[1.0, -3.0, 0.0], 1.0, 100, 4).unwrap(), [24, 72, 4]);
    assert_eq!(allocate_samples(&[1.0, -3.0], 2.0, 100, 0).unwrap(), [10, 90]);
    assert_eq!(allocate_samples(&[0.0, 0.0, 0.0], 1.0, 10, 0).unwrap(), [4, 3, 3]);
    assert_eq!(allocate_samples(&[1.0, 2.0], 1.0, 3, 5).unwrap(), [5, 5]);
    assert_eq!(allocate_samples(&[1.0], 1.0, u64::MAX, 0).unwrap().len(), 1);
    assert!(matches!(allocate_samples(&[f64::NAN], 1.0, 1, 0), Err(Error::NonFinite { .. })));
    assert!(matches!(allocate_samples(&[1.0], 0.0, 1, 0), Err(Error::InvalidOption { .. })));
    assert!(matches!(allocate_samples(&[1.0; 3], 1.0, 1, u64::MAX), Err(Error::TooLarge { .. })));
}

/// Duplicated sources: ν¹ explains the target with at most k of T sources and no larger ‖ν‖₁ than ν².
#[test]
fn relevance_is_sparse() {
    let (k, sources) = (5, 40);
    let heads = gaussian(k, sources, 11);
    let target: Vec<f64> = (0..k).map(|i| 2.0 * heads[(i, 3)] - heads[(i, 17)]).collect();
    let found = relevance(heads.as_ref(), &target, 1e-4, &options(1e-14)).unwrap();
    let support = found.weights.iter().filter(|weight| weight.abs() > 1e-9).count();
    assert!(support <= k, "{support}");
    let pseudo = oracle(heads.as_ref()).pseudo_inverse(1e-12).expect("finite");
    let second = pseudo * nalgebra::DVector::from_row_slice(&target);
    assert!(found.norm <= second.lp_norm(1) * (1.0 + 1e-9));
    let recovered = oracle(heads.as_ref()) * nalgebra::DVector::from_row_slice(&found.weights);
    close((recovered - nalgebra::DVector::from_row_slice(&target)).norm(), 0.0, 1e-2);
    assert!(relevance(heads.as_ref(), &target, 0.0, &options(1e-9)).is_err());
    assert!(relevance(heads.as_ref(), &[0.0; 5], 0.1, &options(1e-9)).unwrap().norm == 0.0);
}
