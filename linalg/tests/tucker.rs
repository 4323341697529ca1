//! Tucker's decomposition: its identities and bounds, with nalgebra's spectra as oracle.

use proptest::prelude::*;
use rankbit_linalg::tucker::{Tensor, tucker};
use rankbit_linalg::{Error, Stream};

fn tensor(shape: &[usize], seed: u64) -> Tensor {
    let mut stream = Stream::new(seed, "tucker");
    let values: Vec<f64> = (0..shape.iter().product())
        .map(|i: usize| stream.next_normal() + (i as f64 * 0.1).sin() * 3.0)
        .collect();
    Tensor::new(shape, &values).expect("a tensor")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// ‖T - T̂‖² = ‖T‖² - ‖G‖²; at most the sum of the modes' tails, at least the largest of them; sweeps never hurt; full
    /// ranks are exact.
    #[test]
    fn errors_are_within_their_bounds(a in 2..6_usize, b in 2..6_usize, c in 1..4_usize, d in 1..4_usize, seed in 0..1000_u64) {
        let shape = [a, b, c, d];
        let t = tensor(&shape, seed);
        let ranks = [Some(1 + a / 2), Some(1 + b / 2), None, if d > 1 { Some(d - 1) } else { None }];
        let squared = |sweeps| {
            let found = tucker(&t, &ranks, sweeps).expect("it decomposes");
            let error = (found.relative_error.powi(2)) * t.norm_squared();
            let identity = t.norm_squared() - found.core.norm_squared();
            assert!((error - identity).abs() <= 1e-9 * t.norm_squared(), "{error} for {identity}");
            error
        };
        let (hosvd, hooi) = (squared(0), squared(20));
        let tails: Vec<f64> = ranks.iter().enumerate().map(|(mode, rank)| {
            let unfolded = t.unfold(mode).expect("a mode");
            let dense = nalgebra::DMatrix::from_fn(unfolded.nrows(), unfolded.ncols(), |i, j| unfolded[(i, j)]);
            let mut sigma: Vec<f64> = dense.singular_values().iter().copied().collect();
            sigma.sort_by(|a, b| b.total_cmp(a));
            sigma.iter().skip(rank.unwrap_or(usize::MAX)).map(|s| s * s).sum()
        }).collect();
        let rounding = 1e-9 * t.norm_squared();
        let (sum, largest) = (tails.iter().sum::<f64>(), tails.iter().copied().fold(0.0, f64::max));
        prop_assert!(hosvd <= sum + rounding && hosvd >= largest - rounding, "{hosvd} between {largest} and {sum}");
        prop_assert!(hooi <= hosvd + rounding && hooi >= largest - rounding);
        let exact = tucker(&t, &[Some(a), Some(b), Some(c), Some(d)], 1).expect("full ranks");
        prop_assert!(exact.relative_error <= 1e-10);
    }
}

#[test]
fn two_modes_are_the_truncated_svd() {
    let t = tensor(&[7, 5], 3);
    let found = tucker(&t, &[Some(2), Some(2)], 5).expect("it decomposes");
    let dense = nalgebra::DMatrix::from_row_slice(7, 5, t.values());
    let mut sigma: Vec<f64> = dense.singular_values().iter().copied().collect();
    sigma.sort_by(|a, b| b.total_cmp(a));
    let tail: f64 = sigma.iter().skip(2).map(|s| s * s).sum();
    assert!((found.relative_error - (tail / t.norm_squared()).sqrt()).abs() <= 1e-9);
}

#[test]
fn bad_input_is_refused() {
    assert!(matches!(Tensor::new(&[2, 3], &[0.0_f32; 5]), Err(Error::ShapeMismatch { .. })));
    assert!(matches!(Tensor::new(&[usize::MAX, 3], &[0.0_f32; 5]), Err(Error::ShapeMismatch { .. })));
    assert!(matches!(Tensor::new(&[1, 2], &[0.0, f64::NAN]), Err(Error::NonFinite { .. })));
    let t = tensor(&[2, 3], 1);
    assert!(t.unfold(2).is_err() && t.times(5, rankbit_linalg::faer::Mat::zeros(1, 1).as_ref()).is_err());
    assert!(t.times(0, rankbit_linalg::faer::Mat::zeros(1, 3).as_ref()).is_err());
    for ranks in [vec![Some(1)], vec![Some(0), None], vec![None, Some(4)]] {
        assert!(tucker(&t, &ranks, 3).is_err(), "{ranks:?}");
    }
    let zero = Tensor::new(&[2, 2, 2], &[0.0_f32; 8]).expect("a tensor");
    assert_eq!(tucker(&zero, &[Some(1), None, Some(1)], 3).expect("zeros").relative_error, 0.0);
}
