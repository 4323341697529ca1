//! Gradients of attention with relative positions: differences, the dense formula, limits, bad input.

use proptest::prelude::*;
use rankbit_attention::{
    Error, FeatureMap, RelativeOptions, Tensor, View, linear_gradient, relative, relative_gradient,
};

use crate::common::{check_gradients, gap, levels, random, rounded};
use crate::linear::{features, operands};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]

    /// Every map, normalized or not, causal or not, hidden distances, a bias that heads or batch entries share; the same bits for
    /// any threads.
    #[test]
    fn gradients_are_those_of_differences(
        n in prop_oneof![1..5_usize, 30..40_usize],
        (causal, normalized, hidden) in any::<(bool, bool, bool)>(),
        shared in [any::<bool>(), any::<bool>()],
        seed in 0..1000_u64,
    ) {
        let [q, k, v] = operands((2, 1, 2, n, n, 4, 5), true, seed);
        let features = features(4, true, seed);
        let width = 2 * n - 1;
        let own = [if shared[0] { 1 } else { 2 }, if shared[1] { 1 } else { 2 }, 1, width];
        let strides = [if shared[0] { 0 } else { own[1] * width }, if shared[1] { 0 } else { width }, 0, 1];
        let mut bias = random::<f64>(own, seed + 5);
        if hidden && n > 3 {
            bias.as_mut_slice().chunks_exact_mut(width).for_each(|head| head[n + 1] = f64::NEG_INFINITY);
        }
        let options = RelativeOptions { normalized, causal };
        let operands = [q, k, v, bias];
        let upstream = random([2, 2, n, 5], seed + 6);
        for map in [FeatureMap::Elu, FeatureMap::Taylor { scale: None }, FeatureMap::Random { features: &features, scale: Some(1.0) }] {
            let run = |t: &[Tensor<f64>]| {
                let bias = View::new(t[3].as_slice(), [2, 2, 1, width], strides).expect("it fits");
                relative(t[0].view(), t[1].view(), t[2].view(), bias, map, &options).expect("good operands")
            };
            let gradient = || {
                let [q, k, v, bias] = &operands;
                let bias = View::new(bias.as_slice(), [2, 2, 1, width], strides).expect("it fits");
                relative_gradient(q.view(), k.view(), v.view(), bias, map, &options, upstream.view())
            };
            for found in levels(gradient) {
                let by = found.expect("good operands");
                prop_assert_eq!(by.bias.shape(), own);
                if hidden && n > 3 {
                    prop_assert_eq!(by.bias.as_slice()[n + 1], 0.0);
                }
                check_gradients(&operands, &[&by.query, &by.key, &by.value, &by.bias], &upstream, run);
            }
        }
    }

    /// Against the gradient of the dense formula, entry by entry: n², in f64, of features that are the operands.
    #[test]
    fn it_is_the_dense_gradient(n in prop_oneof![1..20_usize, 60..130_usize], causal: bool, seed in 0..1000_u64) {
        let (m, e) = (3, 4);
        let positive = |shape, seed| {
            let mut x = random::<f64>(shape, seed);
            x.as_mut_slice().iter_mut().for_each(|x| *x = x.abs() + 0.1);
            x
        };
        let (q, k) = (positive([1, 1, n, m], seed), positive([1, 1, n, m], seed + 1));
        let (v, up) = (random::<f64>([1, 1, n, e], seed + 2), random::<f64>([1, 1, n, e], seed + 3));
        let bias = random::<f64>([1, 1, 1, 2 * n - 1], seed + 4);
        let options = RelativeOptions { normalized: false, causal };
        let by = relative_gradient(q.view(), k.view(), v.view(), bias.view(), FeatureMap::Identity, &options, up.view())
            .expect("good operands");
        let line = |x: &Tensor<f64>, i: usize| { let d = x.shape()[3]; x.as_slice()[i * d..(i + 1) * d].to_vec() };
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let mut expected = [vec![0.0; n * m], vec![0.0; n * m], vec![0.0; n * e], vec![0.0; 2 * n - 1]];
        for i in 0..n {
            let c = |j: usize| if causal && j > i { 0.0 } else { bias.as_slice()[j + n - 1 - i].exp() };
            let weights: Vec<f64> = (0..n).map(|j| c(j) * dot(&line(&q, i), &line(&k, j))).collect();
            let sum: f64 = weights.iter().sum();
            let slope = |j: usize| dot(&line(&up, i), &line(&v, j)) / sum;
            let mean: f64 = (0..n).map(|j| weights[j] * slope(j)).sum::<f64>() / sum;
            for j in 0..n {
                // By the weight of the pair.
                let by = slope(j) - mean;
                for f in 0..m {
                    expected[0][i * m + f] += by * c(j) * line(&k, j)[f];
                    expected[1][j * m + f] += by * c(j) * line(&q, i)[f];
                }
                for x in 0..e {
                    expected[2][j * e + x] += weights[j] / sum * line(&up, i)[x];
                }
                expected[3][j + n - 1 - i] += by * weights[j];
            }
        }
        for (found, expected) in [&by.query, &by.key, &by.value, &by.bias].into_iter().zip(&expected) {
            prop_assert!(gap(found.as_slice(), expected) <= 1e-9);
        }
    }
}

/// No bias: linear attention's. Adding a number to all distances: nothing. Single precision is near.
#[test]
fn its_limits() {
    let [q, k, v] = operands((1, 1, 2, 70, 70, 4, 3), true, 1);
    let upstream = random([1, 2, 70, 3], 7);
    let zero = [0.0_f64];
    let flat = View::new(&zero, [1, 2, 1, 139], [0; 4]).expect("it fits");
    for causal in [false, true] {
        let options = RelativeOptions { causal, normalized: false };
        let run = |bias| {
            relative_gradient(q.view(), k.view(), v.view(), bias, FeatureMap::Elu, &options, upstream.view())
                .expect("good operands")
        };
        let by = run(flat);
        let expected =
            linear_gradient(q.view(), k.view(), v.view(), FeatureMap::Elu, causal, upstream.view());
        let expected = expected.expect("good operands");
        for (found, expected) in
            [(&by.query, &expected.query), (&by.key, &expected.key), (&by.value, &expected.value)]
        {
            assert!(gap(found.as_slice(), expected.as_slice()) <= 1e-10);
        }
        // One number for all distances: what it changes cancels.
        assert_eq!(by.bias.shape(), [1, 1, 1, 1]);
        assert!(by.bias.as_slice()[0].abs() <= 1e-10);
        let bias = random::<f64>([1, 2, 1, 139], 3);
        let sum: f64 = run(bias.view()).bias.as_slice().iter().sum();
        assert!(sum.abs() <= 1e-9);
        let wide = run(bias.view());
        let ([q, k, v], bias, upstream) = ([&q, &k, &v].map(rounded), rounded(&bias), rounded(&upstream));
        let map = FeatureMap::Elu;
        let by = relative_gradient(q.view(), k.view(), v.view(), bias.view(), map, &options, upstream.view());
        let by = by.expect("good operands");
        let sides = [
            (&by.query, &wide.query),
            (&by.key, &wide.key),
            (&by.value, &wide.value),
            (&by.bias, &wide.bias),
        ];
        for (found, wide) in sides {
            let most = wide.as_slice().iter().fold(1.0, |most: f64, x| most.max(x.abs()));
            assert!(gap(found.as_slice(), wide.as_slice()) <= 1e-4 * most);
        }
    }
}

#[test]
fn bad_input_is_refused() {
    let x = random::<f32>([1, 2, 5, 4], 1);
    let options = RelativeOptions { normalized: true, causal: false };
    let run = |bias: &[f32], up: &Tensor<f32>| {
        let bias = View::new(bias, [1, 2, 1, bias.len()], [0, 0, 0, 1]).expect("it fits");
        relative_gradient(x.view(), x.view(), x.view(), bias, FeatureMap::Elu, &options, up.view())
    };
    assert!(matches!(run(&[0.0; 8], &x), Err(Error::ShapeMismatch { what: "bias", .. })));
    let mut bias = [0.0; 9];
    bias[4] = f32::NAN;
    assert_eq!(run(&bias, &x), Err(Error::NonFinite { what: "bias", index: [0, 0, 0, 4] }));
    bias[4] = 0.0;
    bias[0] = 30.0;
    assert!(matches!(run(&bias, &x), Err(Error::InvalidOption { what: "bias", .. })));
    let other = random::<f32>([1, 2, 5, 3], 1);
    assert!(matches!(run(&[0.0; 9], &other), Err(Error::ShapeMismatch { what: "output gradient", .. })));
    let mut nan = x.clone();
    nan.as_mut_slice()[3] = f32::NAN;
    assert!(matches!(run(&[0.0; 9], &nan), Err(Error::NonFinite { what: "output gradient", .. })));
    // Every distance hidden: gradients of zero. A vector of zeros has no direction, and no gradient.
    let by = run(&[f32::NEG_INFINITY; 9], &x).expect("zeros");
    assert!([by.query, by.key, by.value, by.bias].iter().all(|x| x.as_slice().iter().all(|x| *x == 0.0)));
    let zero = Tensor::from_vec(vec![0.0_f32; 40], [1, 2, 5, 4]).expect("it fits");
    let none = View::new(&[0.0_f32], [1, 2, 1, 9], [0; 4]).expect("it fits");
    let by = relative_gradient(zero.view(), x.view(), x.view(), none, FeatureMap::Elu, &options, x.view());
    assert!(by.expect("good operands").query.as_slice().iter().all(|x| *x == 0.0));
    let empty = random::<f32>([1, 2, 0, 4], 1);
    let none = View::new(&[0.0_f32], [1, 2, 1, 0], [0; 4]).expect("it fits");
    let map = FeatureMap::Elu;
    assert!(
        relative_gradient(empty.view(), empty.view(), empty.view(), none, map, &options, empty.view())
            .is_ok()
    );
}
