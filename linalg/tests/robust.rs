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
