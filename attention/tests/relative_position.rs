//! Toeplitz products by FFT and relative positions: the dense formulas, limits, bad input.

use proptest::prelude::*;
use rankbit_attention::{
    Error, FeatureMap, RandomFeatureOptions, RandomFeatures, RelativeOptions, Tensor, View, linear, relative,
    toeplitz,
};

use crate::common::{gap, random, rounded};
use crate::linear::{dense, features, operands, weight};

/// The product of the definition, and each row's largest term.
fn product(weight: &[f64], x: &Tensor<f64>) -> Vec<(f64, f64)> {
    let [_, _, n, e] = x.shape();
    let mut out = vec![];
    for i in 0..n {
        for k in 0..e {
            let terms = (0..n).map(|j| weight[j + n - 1 - i] * x.as_slice()[j * e + k]);
            out.push(terms.fold((0.0, 0.0_f64), |(sum, most), x| (sum + x, most.max(x.abs()))));
        }
    }
    out
}

/// Small, prime and long; f64 to 1e-10 and f32 to 1e-5 of each row's largest term.
#[test]
fn it_is_the_dense_product() {
    for n in [1, 2, 3, 5, 8, 17, 100, 1025] {
        for decay in [0.0, 0.02, 3.0] {
            let noise = random::<f64>([1, 1, 1, 2 * n - 1], n as u64);
            let weights: Vec<f64> = (0..2 * n - 1)
                .map(|t| (0.3 * noise.as_slice()[t] - decay * (t as f64 - (n - 1) as f64).abs()).exp())
                .collect();
            let x = random::<f64>([1, 1, n, 11], 7);
            let view = View::contiguous(&weights, [1, 1, 1, 2 * n - 1]).expect("it fits");
            let found = toeplitz(view, x.view()).expect("good operands");
            for (found, (expected, most)) in found.as_slice().iter().zip(product(&weights, &x)) {
                assert!((found - expected).abs() <= 1e-10 * most, "{n} {decay}: {found} is not {expected}");
            }
            let small: Vec<f32> = weights.iter().map(|&x| rankbit_linalg::Scalar::from_f64(x)).collect();
            let (exact, x) = (small.iter().map(|&x| f64::from(x)).collect::<Vec<_>>(), rounded(&x));
            let view = View::contiguous(&small, [1, 1, 1, 2 * n - 1]).expect("it fits");
            let found = toeplitz(view, x.view()).expect("good operands");
            let wide =
                Tensor::from_vec(x.as_slice().iter().map(|&x| f64::from(x)).collect(), x.shape()).unwrap();
            for (found, (expected, most)) in found.as_slice().iter().zip(product(&exact, &wide)) {
                assert!(
                    (f64::from(*found) - expected).abs() <= 1e-5 * most,
                    "{n} {decay}: {found} is not {expected}"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// Every map, normalized or not, causal or not, with hidden distances, in f64 and f32.
    #[test]
    fn attention_is_the_formula(n in 1..40_usize, seed in 0..1000_u64, causal: bool, normalized: bool, hidden: bool) {
        let [q, k, v] = operands((2, 1, 2, n, n, 4, 5), true, seed);
        let features = features(4, true, seed);
        let mut bias = random::<f64>([1, 4, 1, 2 * n - 1], seed + 5);
        if hidden && n > 3 {
            for head in bias.as_mut_slice().chunks_exact_mut(2 * n - 1) {
                head[n + 1] = f64::NEG_INFINITY;
                head[0] = f64::NEG_INFINITY;
            }
        }
        // One row of heads for both batch entries; two of them.
        let width = 2 * n - 1;
        let view = View::new(bias.as_slice(), [2, 2, 1, width], [0, width, width, 1]).expect("it fits");
        let options = RelativeOptions { normalized, causal };
        let unit = |x: &[f64]| -> Vec<f64> {
            let norm = x.iter().map(|x| x * x).sum::<f64>().sqrt();
            x.iter().map(|x| if normalized { x / norm } else { *x }).collect()
        };
        for map in [FeatureMap::Elu, FeatureMap::Taylor { scale: None }, FeatureMap::Random { features: &features, scale: Some(1.0) }] {
            let expected = dense([&q, &k, &v], |at, q, k| {
                let c = view.get([at[0], at[1], 0, at[3] + n - 1 - at[2]]).expect("inside").exp();
                if causal && at[3] > at[2] { 0.0 } else { c * weight(map, &unit(q), &unit(k)) }
            });
            let found = relative(q.view(), k.view(), v.view(), view, map, &options).expect("good operands");
            prop_assert!(gap(found.as_slice(), expected.as_slice()) <= 1e-9);
            let [q, k, v] = [&q, &k, &v].map(rounded);
            let bias = rounded(&bias);
            let view = View::new(bias.as_slice(), [2, 2, 1, width], [0, width, width, 1]).expect("it fits");
            let found = relative(q.view(), k.view(), v.view(), view, map, &options).expect("good operands");
            prop_assert!(gap(found.as_slice(), expected.as_slice()) <= 1e-3);
        }
    }
}

/// No bias: linear attention. Many features: attention with a bias.
#[test]
fn its_limits() {
    let [q, k, v] = operands((1, 1, 2, 50, 50, 4, 3), true, 1);
    let zero = [0.0_f64];
    let flat = View::new(&zero, [1, 2, 1, 99], [0; 4]).expect("it fits");
    for causal in [false, true] {
        let options = RelativeOptions { causal, normalized: false };
        let found =
            relative(q.view(), k.view(), v.view(), flat, FeatureMap::Elu, &options).expect("good operands");
        let expected = linear(q.view(), k.view(), v.view(), FeatureMap::Elu, causal).expect("good operands");
        assert!(gap(found.as_slice(), expected.as_slice()) <= 1e-11);
    }
    let bias = random::<f64>([1, 2, 1, 99], 4);
    let options = RandomFeatureOptions { draws: Some(3000), hyperbolic: true, ..Default::default() };
    let features = RandomFeatures::new(4, &options).expect("a size");
    let map = FeatureMap::Random { features: &features, scale: Some(0.25) };
    let options = RelativeOptions { normalized: true, causal: false };
    let found = relative(q.view(), k.view(), v.view(), bias.view(), map, &options).expect("good operands");
    let expected = dense([&q, &k, &v], |at, q, k| {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let cosine = dot(q, k) / (dot(q, q) * dot(k, k)).sqrt();
        (0.25 * cosine + bias.view().get([0, at[1], 0, at[3] + 49 - at[2]]).expect("inside")).exp()
    });
    assert!(gap(found.as_slice(), expected.as_slice()) <= 0.05);
}

/// A later row of 10⁶ is no more than rounding to a causal product.
#[test]
fn later_rows_are_rounding() {
    let n = 300;
    let mut x = random::<f64>([1, 1, n, 2], 1);
    let mut weights: Vec<f64> = (0..2 * n - 1).map(|t| if t < n { 1.0 } else { 0.0 }).collect();
    weights[0] = 0.5;
    let view = View::contiguous(&weights, [1, 1, 1, 2 * n - 1]).expect("it fits");
    let before = toeplitz(view, x.view()).expect("good operands");
    x.as_mut_slice()[2 * n - 2] = 1e6;
    let after = toeplitz(view, x.view()).expect("good operands");
    assert!(gap(&before.as_slice()[..2 * n - 2], &after.as_slice()[..2 * n - 2]) <= 1e-8);
    assert!(after.as_slice()[2 * n - 2] > 9e5);
}

#[test]
fn bad_input_is_refused() {
    let x = random::<f32>([1, 2, 5, 4], 1);
    let options = RelativeOptions::default();
    let run = |bias: &[f32], width| {
        let bias = View::new(bias, [1, 2, 1, width], [0, 0, 0, 1]).expect("it fits");
        relative(x.view(), x.view(), x.view(), bias, FeatureMap::Elu, &options)
    };
    assert!(matches!(run(&[0.0; 8], 8), Err(Error::ShapeMismatch { what: "bias", .. })));
    for bad in [f32::NAN, f32::INFINITY] {
        let mut bias = [0.0; 9];
        bias[4] = bad;
        assert_eq!(run(&bias, 9), Err(Error::NonFinite { what: "bias", index: [0, 0, 0, 4] }));
    }
    // The first row sees distances 0 … 4 only: next to nothing against e³⁰ of the others.
    let mut bias = [0.0; 9];
    bias[0] = 30.0;
    assert!(matches!(run(&bias, 9), Err(Error::InvalidOption { what: "bias", .. })));
    // Every distance hidden: no weight, zeros.
    let found = run(&[f32::NEG_INFINITY; 9], 9).expect("zeros");
    assert!(found.as_slice().iter().all(|x| *x == 0.0));
    let other = random::<f32>([1, 2, 6, 4], 1);
    let bias = View::new(&[0.0_f32], [1, 2, 1, 9], [0; 4]).expect("it fits");
    let found = relative(x.view(), other.view(), other.view(), bias, FeatureMap::Elu, &options);
    assert!(matches!(found, Err(Error::ShapeMismatch { what: "key", .. })));
    let empty = random::<f32>([1, 2, 0, 4], 1);
    let none = View::new(&[0.0_f32], [1, 2, 1, 0], [0; 4]).expect("it fits");
    assert!(relative(empty.view(), empty.view(), empty.view(), none, FeatureMap::Elu, &options).is_ok());
    assert!(toeplitz(none, empty.view()).is_ok());
    assert!(matches!(toeplitz(none, x.view()), Err(Error::ShapeMismatch { what: "weight", .. })));
}
