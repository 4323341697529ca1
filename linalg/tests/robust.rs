//! Robust principal component analysis: exact recovery, and what it refuses.

use proptest::prelude::*;
use rankbit_linalg::faer::Mat;
use rankbit_linalg::{Error, RobustOptions, Stream, robust_pca};

fn gaussian(rows: usize, cols: usize, seed: u64) -> Mat<f64> {
    let mut stream = Stream::new(seed, "robust");
    Mat::from_fn(rows, cols, |_, _| stream.next_normal())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// Low rank plus 5 % large entries at random places: both come back (arXiv 0912.3599, theorem 1.1), at any scale.
    #[test]
    fn both_terms_are_recovered(rows in 40..70_usize, cols in 40..70_usize, rank in 1..4_usize, seed in 0..1000_u64, exponent in -100..100_i32) {
        let scale = 2.0_f64.powi(exponent);
        let low = &gaussian(rows, rank, seed) * gaussian(rank, cols, seed + 1);
        let mut stream = Stream::new(seed, "places");
        let sparse = Mat::from_fn(rows, cols, |_, _| if stream.next_below(20) == 0 { 10.0 * stream.next_normal() } else { 0.0 });
        let a = Mat::from_fn(rows, cols, |i, j| scale * (low[(i, j)] + sparse[(i, j)]));
        let found = robust_pca(a.as_ref(), &RobustOptions::default()).expect("it converges");
        let gap = |x: &Mat<f64>, y: &Mat<f64>| {
            let (mut gap, mut norm) = (0.0, 0.0);
            for (x, y) in x.col_iter().flat_map(|c| c.iter()).zip(y.col_iter().flat_map(|c| c.iter())) {
                gap += (x / scale - y).powi(2);
                norm += y * y;
            }
            (gap / norm).sqrt()
        };
        prop_assert_eq!(found.rank, rank);
        prop_assert!(gap(&found.low_rank, &low) <= 1e-4, "{}", gap(&found.low_rank, &low));
        prop_assert!(gap(&found.sparse, &sparse) <= 1e-4, "{}", gap(&found.sparse, &sparse));
        prop_assert!(found.residual <= 1e-7 && found.nonzeros <= rows * cols / 8);
    }
}

#[test]
fn bad_input_is_refused() {
    let a = gaussian(6, 5, 1);
    let run = |options: RobustOptions| robust_pca(a.as_ref(), &options);
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let options = RobustOptions { tolerance: bad, ..Default::default() };
        assert!(matches!(run(options), Err(Error::InvalidOption { .. })));
        let options = RobustOptions { weight: Some(bad), ..Default::default() };
        assert!(matches!(run(options), Err(Error::InvalidOption { .. })));
    }
    let options = RobustOptions { iterations: 1, ..Default::default() };
    assert!(matches!(run(options), Err(Error::NoConvergence { .. })));
    let nan = Mat::from_fn(3, 3, |i, j| if i == j { f32::NAN } else { 1.0 });
    assert!(matches!(robust_pca(nan.as_ref(), &RobustOptions::default()), Err(Error::NonFinite { .. })));
    for (rows, cols) in [(0, 0), (0, 4), (3, 2)] {
        let zero = robust_pca(Mat::<f32>::zeros(rows, cols).as_ref(), &RobustOptions::default());
        assert_eq!(zero.expect("nothing to do").rank, 0);
    }
    let one = robust_pca(Mat::from_fn(1, 1, |_, _| 3.0_f32).as_ref(), &RobustOptions::default())
        .expect("one entry");
    assert!((one.low_rank[(0, 0)] + one.sparse[(0, 0)] - 3.0).abs() <= 1e-6);
}

/// The minimum, and where it lies, of another algorithm: `scripts/oracle/robust_pca.py`.
#[test]
fn the_minimum_is_that_of_a_fixed_step_solver() {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../../tests/vectors/robust-pca.json")).expect("kept vectors");
    let numbers = |value: &serde_json::Value| -> Vec<f64> {
        value.as_array().expect("a list").iter().map(|x| x.as_f64().expect("a number")).collect()
    };
    let cases = vectors["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 3);
    for case in cases {
        let count = |name: &str| usize::try_from(case[name].as_u64().expect("a count")).expect("small");
        let (rows, cols) = (count("rows"), count("cols"));
        let matrix = |name: &str| {
            let values = numbers(&case[name]);
            Mat::from_fn(rows, cols, |i, j| values[i * cols + j])
        };
        let (a, low, sparse) = (matrix("matrix"), matrix("low_rank"), matrix("sparse"));
        let weight = case["weight"].as_f64().expect("a weight");
        let found = robust_pca(a.as_ref(), &RobustOptions { weight: Some(weight), ..Default::default() });
        let found = found.expect("it converges");
        let norm = a.norm_l2();
        let gap = (&found.low_rank - &low).norm_l2().max((&found.sparse - &sparse).norm_l2()) / norm;
        assert!(gap <= 1e-4, "{gap}");
        let values = found.low_rank.singular_values().expect("finite");
        let cost = |x: &Mat<f64>| x.col_iter().flat_map(|c| c.iter()).map(|v| v.abs()).sum::<f64>();
        let objective = values.iter().sum::<f64>() + weight * cost(&found.sparse);
        let least = case["objective"].as_f64().expect("a number");
        assert!((objective - least).abs() <= 1e-5 * least, "{objective} for {least}");
        assert_eq!(found.rank, count("rank"));
    }
}
