//! Scatterbrain: the dense formula, its limits, unbiasedness, clusters, gradients, bad input.

use proptest::prelude::*;
use rankbit_attention::{
    ClusterOptions, Error, ExactOptions, FeatureMap, RandomFeatureOptions, RandomFeatures,
    ScatterbrainOptions, Support, Tensor, exact, linear, scatterbrain, scatterbrain_gradient, sparse,
    sparse_gradient,
};

use crate::common::{check_gradients, gap, levels, output, random, rounded};
use crate::linear::{dense, features, operands, weight};

const SIZES: [(usize, usize, usize, usize, usize, usize, usize); 3] =
    [(1, 1, 1, 5, 5, 3, 2), (2, 1, 2, 40, 37, 4, 33), (1, 2, 1, 70, 70, 6, 5)];

/// Some pairs at random, rows without any among them.
fn support(shape: [usize; 4], seed: u64) -> Support {
    let [_, heads, n, s] = shape;
    let open = random::<f64>([shape[0], heads, n, s], seed);
    Support::from_rows(shape, |[b, h, i], row| {
        let keys = (0..s).filter(|&j| i % 7 != 3 && open.view().get([b, h, i, j]).expect("inside") > 1.0);
        row.extend(keys.map(|j| u32::try_from(j).expect("small")));
    })
    .expect("keys inside")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn it_is_the_formula(which in 0..3_usize, seed in 0..1000_u64, causal: bool, hyperbolic: bool) {
        let sizes = SIZES[which];
        let [q, k, v] = operands(sizes, causal, seed);
        let features = features(sizes.5, hyperbolic, seed);
        let shape = [q.shape()[0], q.shape()[1], q.shape()[2], k.shape()[2]];
        let support = support(shape, seed + 7);
        let tau = 1.0 / (sizes.5 as f64).sqrt();
        let options = ScatterbrainOptions { causal, ..Default::default() };
        let upstream = random([shape[0], shape[1], shape[2], sizes.6], seed + 3);
        let on = |at: [usize; 4]| support.row(at[0], at[1], at[2]).iter().any(|&j| j as usize == at[3]);
        let exactly = |q: &[f64], k: &[f64]| (tau * q.iter().zip(k).map(|(a, b)| a * b).sum::<f64>()).exp();
        for map in [FeatureMap::Random { features: &features, scale: None }, FeatureMap::Taylor { scale: None }] {
            let expected = dense([&q, &k, &v], |at, q, k| {
                if causal && at[3] > at[2] { 0.0 } else if on(at) { exactly(q, k) } else { weight(map, q, k) }
            });
            for found in levels(|| scatterbrain(q.view(), k.view(), v.view(), map, &support, &options)) {
                prop_assert!(gap(found.expect("good operands").as_slice(), expected.as_slice()) <= 1e-11);
            }
            let [a, b, c] = [&q, &k, &v].map(rounded);
            let found = scatterbrain(a.view(), b.view(), c.view(), map, &support, &options).expect("good operands");
            prop_assert!(gap(found.as_slice(), expected.as_slice()) <= 1e-3);
            let run = |t: &[Tensor<f64>]| {
                scatterbrain(t[0].view(), t[1].view(), t[2].view(), map, &support, &options).expect("good operands")
            };
            for by in levels(|| scatterbrain_gradient(q.view(), k.view(), v.view(), map, &support, &options, upstream.view())) {
                let by = by.expect("good operands");
                check_gradients(&[q.clone(), k.clone(), v.clone()], &[&by.query, &by.key, &by.value], &upstream, run);
            }
        }
        let expected = dense([&q, &k, &v], |at, q, k| {
            if on(at) && (!causal || at[3] <= at[2]) { exactly(q, k) } else { 0.0 }
        });
        let found = sparse(q.view(), k.view(), v.view(), &support, &options).expect("good operands");
        prop_assert!(gap(found.as_slice(), expected.as_slice()) <= 1e-12);
        let run = |t: &[Tensor<f64>]| {
            sparse(t[0].view(), t[1].view(), t[2].view(), &support, &options).expect("good operands")
        };
        let by = sparse_gradient(q.view(), k.view(), v.view(), &support, &options, upstream.view()).expect("good operands");
        check_gradients(&[q, k, v], &[&by.query, &by.key, &by.value], &upstream, run);
    }
}

/// No support: the features alone, bit for bit. All pairs: exact attention.
#[test]
fn its_limits() {
    let [q, k, v] = [1, 2, 3].map(|seed| random::<f32>([1, 2, 50, 8], seed));
    let features = features(8, false, 5);
    let map = FeatureMap::Random { features: &features, scale: None };
    for causal in [false, true] {
        let options = ScatterbrainOptions { causal, ..Default::default() };
        let nothing = Support::from_rows([1, 2, 50, 50], |_, _| {}).expect("no keys");
        let found = scatterbrain(q.view(), k.view(), v.view(), map, &nothing, &options);
        assert_eq!(found, linear(q.view(), k.view(), v.view(), map, causal));
        let all = Support::window([1, 2, 50, 50], usize::MAX).expect("all keys");
        assert_eq!((all.len(), all.is_empty(), all.shape()), (2 * 50 * 50, false, [1, 2, 50, 50]));
        let expected =
            output(exact(q.view(), k.view(), v.view(), &ExactOptions { causal, ..Default::default() }));
        let found = scatterbrain(q.view(), k.view(), v.view(), map, &all, &options).expect("good operands");
        assert!(gap(found.as_slice(), expected.as_slice()) <= 1e-4);
        let found = sparse(q.view(), k.view(), v.view(), &all, &options).expect("good operands");
        assert!(gap(found.as_slice(), expected.as_slice()) <= 2e-6);
    }
}

/// Theorem 2: entry by entry unbiased off the support, exact on it, so that a pair more never adds to the expected error. Read from
/// the numerators through values that are unit vectors, with a denominator made known by one heavy exact pair.
#[test]
fn it_is_unbiased() {
    let (n, runs) = (6, 4000_u32);
    let [q, k] = [1, 2].map(|seed| random::<f64>([1, 1, n, 3], seed));
    let tau = 0.4;
    let truth = |i: usize, j: usize| -> f64 {
        let dot = (0..3).map(|c| q.as_slice()[i * 3 + c] * k.as_slice()[j * 3 + c]).sum::<f64>();
        (tau * dot).exp()
    };
    let unit =
        Tensor::from_vec((0..n * n).map(|i| f64::from(u8::from(i / n == i % n))).collect(), [1, 1, n, n]);
    let unit = unit.expect("it fits");
    // Query i sees key i exactly: its weight is known, and with it the scale of the row.
    let support = Support::window([1, 1, n, n], 0).expect("own keys");
    let (mut mean, mut square) = (vec![0.0; n * n], vec![0.0; n * n]);
    for seed in 0..u64::from(runs) {
        let options = RandomFeatureOptions { draws: Some(4), seed, ..Default::default() };
        let features = RandomFeatures::new(3, &options).expect("a size");
        let map = FeatureMap::Random { features: &features, scale: Some(tau) };
        let found =
            scatterbrain(q.view(), k.view(), unit.view(), map, &support, &ScatterbrainOptions::default());
        let found = found.expect("good operands");
        for i in 0..n {
            let line = &found.as_slice()[i * n..(i + 1) * n];
            let sum = truth(i, i) / line[i];
            for (j, x) in line.iter().enumerate() {
                let error = x * sum - truth(i, j);
                mean[i * n + j] += error / f64::from(runs);
                square[i * n + j] += error * error / f64::from(runs);
            }
        }
    }
    for i in 0..n * n {
        if i / n == i % n {
            assert!(square[i] <= 1e-24);
        } else {
            let error = (square[i] / f64::from(runs)).sqrt();
            assert!(mean[i].abs() <= 5.0 * error && error > 0.0, "{i}: {} against {error}", mean[i]);
        }
    }
}

/// Clusters are equal, cover every query, and hold near keys far more often than chance.
#[test]
fn clusters_find_near_keys() {
    let (n, size) = (256, 16);
    let x = random::<f32>([1, 2, n, 8], 1);
    let options = ClusterOptions { size, rounds: 1, seed: 2 };
    let found = Support::clusters(x.view(), x.view(), &options).expect("good operands");
    assert_eq!(found.len(), 2 * n * size);
    assert_eq!(found, Support::clusters(x.view(), x.view(), &options).expect("good operands"));
    let many = Support::clusters(x.view(), x.view(), &ClusterOptions { rounds: 4, ..options })
        .expect("good operands");
    assert!(many.len() > found.len() && many.len() <= 4 * found.len());
    let clustered = random::<f32>([1, 1, 16, 8], 3);
    let mut data = vec![];
    for i in 0..n {
        let noise = random::<f32>([1, 1, 1, 8], i as u64);
        let centre = &clustered.as_slice()[i % 16 * 8..(i % 16 + 1) * 8];
        data.extend(centre.iter().zip(noise.as_slice()).map(|(c, x)| 5.0 * c + 0.1 * x));
    }
    let x = Tensor::from_vec(data, [1, 1, n, 8]).expect("it fits");
    let found =
        Support::clusters(x.view(), x.view(), &ClusterOptions { rounds: 2, ..options }).expect("good");
    let same: usize =
        (0..n).map(|i| found.row(0, 0, i).iter().filter(|&&j| j as usize % 16 == i % 16).count()).sum();
    assert!(same * 2 > found.len(), "{same} of {}", found.len());
}

#[test]
fn bad_input_is_refused() {
    let x = random::<f32>([1, 1, 5, 4], 1);
    let map = FeatureMap::Taylor { scale: None };
    let options = ScatterbrainOptions::default();
    let other = Support::window([1, 1, 5, 6], 1).expect("a window");
    let found = scatterbrain(x.view(), x.view(), x.view(), map, &other, &options);
    assert!(matches!(found, Err(Error::ShapeMismatch { what: "support", .. })));
    let own = Support::window([1, 1, 5, 5], 1).expect("a window");
    for scale in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e300] {
        let options = ScatterbrainOptions { scale: Some(scale), ..options };
        let found = sparse(x.view(), x.view(), x.view(), &own, &options);
        assert!(matches!(found, Err(Error::InvalidOption { what: "scale", .. })), "{found:?}");
    }
    assert!(matches!(
        Support::from_rows([1, 1, 2, 3], |_, row| row.push(3)),
        Err(Error::InvalidOption { what: "support", .. })
    ));
    assert!(matches!(Support::window([1, 1, 0, usize::MAX], 1), Err(Error::TooLarge { .. })));
    assert_eq!(own.row(0, 0, 9), [0_u32; 0]);
    for (size, rounds) in [(0, 1), (1, 0)] {
        let found = Support::clusters(x.view(), x.view(), &ClusterOptions { size, rounds, seed: 0 });
        assert!(matches!(found, Err(Error::InvalidOption { .. })));
    }
    let mut bad = x.clone();
    bad.as_mut_slice()[2] = f32::INFINITY;
    assert!(matches!(
        Support::clusters(bad.view(), x.view(), &ClusterOptions::default()),
        Err(Error::NonFinite { what: "query", .. })
    ));
    let empty = random::<f32>([1, 1, 0, 4], 1);
    let none = Support::clusters(empty.view(), empty.view(), &ClusterOptions::default()).expect("no tokens");
    assert!(
        none.is_empty()
            && scatterbrain(empty.view(), empty.view(), empty.view(), map, &none, &options).is_ok()
    );
}

/// Scores of ±1e30: the largest wins; scores that leave f32 are refused.
#[test]
fn large_scores() {
    let one = |data: Vec<f32>| {
        let n = data.len();
        Tensor::from_vec(data, [1, 1, n, 1]).expect("it fits")
    };
    let (q, k, v) = (one(vec![1e15; 3]), one(vec![1e15, -1e15, 0.0]), one(vec![3.0, 5.0, 7.0]));
    let all = Support::window([1, 1, 3, 3], 3).expect("all");
    let options = ScatterbrainOptions { scale: Some(1.0), ..Default::default() };
    let found = sparse(q.view(), k.view(), v.view(), &all, &options).expect("good operands");
    assert_eq!(found.as_slice(), [3.0; 3]);
    let q = one(vec![1e30; 3]);
    let found = sparse(q.view(), q.view(), v.view(), &all, &options);
    assert_eq!(found, Err(Error::Overflow { batch: 0, head: 0, token: 0 }));
}
