//! Smoothing: the equation, its undoing, and its refusals.

use proptest::prelude::*;
use rankbit_quant::{Error, FloatFormat, Floats, Smooth};

fn positive(len: usize) -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(1e-3_f32..1e3, len)
}

proptest! {
    #[test]
    fn half_equalizes(x in positive(17), w in positive(17)) {
        // α = β = ½ makes max|X_j|/λ_j and max|W_j|·λ_j equal, up to the common factor of the normalization.
        let (smooth, widened) = Smooth::from_absmax(&x, &w, (0.5, 0.5), FloatFormat::F32).unwrap();
        prop_assert!(!widened);
        let lambda = smooth.forward();
        let ratio = |j: usize| f64::from(w[j] * lambda[j]) / f64::from(x[j] / lambda[j]);
        for j in 1..17 {
            prop_assert!((ratio(j) / ratio(0) - 1.0).abs() < 1e-5);
        }
        let mean: f64 = lambda.iter().map(|l| f64::from(*l).ln()).sum::<f64>() / 17.0;
        prop_assert!(mean.abs() < 1e-6, "geometric mean {}", mean.exp());
    }

    #[test]
    fn inverse_undoes(x in positive(9), w in positive(9), alpha in 0.0..1.0_f64) {
        let (smooth, _) = Smooth::from_absmax(&x, &w, (alpha, 1.0 - alpha), FloatFormat::F16).unwrap();
        for (l, i) in smooth.forward().into_iter().zip(smooth.inverse()) {
            prop_assert!((l * i - 1.0).abs() <= 1.2e-7);
        }
    }
}

#[test]
fn extremes_of_alpha() {
    let (x, w) = ([1.0, 4.0, 16.0], [2.0, 2.0, 2.0]);
    let lambda =
        |alpha| Smooth::from_absmax(&x, &w, (alpha, 1.0 - alpha), FloatFormat::F32).unwrap().0.forward();
    assert_eq!(lambda(0.0), [1.0, 1.0, 1.0]);
    assert_eq!(lambda(1.0), [0.25, 1.0, 4.0]);
}

#[test]
fn dead_columns_take_one() {
    let (smooth, _) =
        Smooth::from_absmax(&[0.0, 4.0, f32::INFINITY], &[1.0, 0.0, 1.0], (0.5, 0.5), FloatFormat::F16)
            .unwrap();
    assert_eq!(smooth.forward(), [1.0, 1.0, 1.0]);
}

#[test]
fn factors_out_of_range_are_widened() {
    let (smooth, widened) =
        Smooth::from_absmax(&[1e-30, 1.0, 1e30], &[1.0; 3], (0.5, 0.5), FloatFormat::F16).unwrap();
    assert!(widened);
    assert_eq!(smooth.factors().format(), FloatFormat::F32);
    assert!(smooth.forward().iter().all(|l| l.is_finite() && *l > 0.0));
}

#[test]
fn refusals() {
    let refused = |values: &[f32]| Smooth::new(Floats::encode(values, FloatFormat::F32));
    for bad in [f32::NAN, f32::INFINITY, 0.0, -1.0] {
        assert!(matches!(refused(&[1.0, bad]), Err(Error::StoredNonFinite { index: 1, .. })), "{bad}");
    }
    assert!(matches!(
        Smooth::from_absmax(&[1.0], &[1.0, 2.0], (0.5, 0.5), FloatFormat::F16),
        Err(Error::ShapeMismatch { .. })
    ));
}
