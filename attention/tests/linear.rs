//! Linear attention: the dense formula of each map at every instruction set, the features' theorem, gradients, bad input.

use proptest::prelude::*;
use rankbit_attention::{
    Error, FeatureMap, RandomFeatureOptions, RandomFeatures, RowNorm, Tensor, View, linear, linear_gradient,
};
use rankbit_linalg::Stream;

use crate::common::{check_gradients, gap, levels, random, rounded};

/// Weight of a pair, as each map defines it.
pub(crate) fn weight(map: FeatureMap<'_>, q: &[f64], k: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    match map {
        FeatureMap::Identity => dot(q, k),
        FeatureMap::Elu => {
            let elu = |x: &[f64]| -> Vec<f64> {
                x.iter().map(|&x| if x > 0.0 { x + 1.0 } else { x.exp() }).collect()
            };
            dot(&elu(q), &elu(k))
        }
        FeatureMap::Taylor { scale } => {
            let x = scale.unwrap_or(1.0 / (q.len() as f64).sqrt()) * dot(q, k);
            1.0 + x + x * x / 2.0
        }
        FeatureMap::Random { features, scale } => dot(
            &features.features(q, scale).expect("a vector"),
            &features.features(k, scale).expect("a vector"),
        ),
    }
}

pub(crate) fn row(x: &Tensor<f64>, b: usize, h: usize, t: usize) -> Vec<f64> {
    (0..x.shape()[3]).map(|i| x.view().get([b, h, t, i]).expect("inside")).collect()
}

/// `Σ w·v / Σ w`, zeros where there is no weight.
pub(crate) fn dense(
    [q, k, v]: [&Tensor<f64>; 3],
    weight: impl Fn([usize; 4], &[f64], &[f64]) -> f64,
) -> Tensor<f64> {
    let ([batch, heads, n, _], [_, kv_heads, s, e]) = (q.shape(), v.shape());
    let mut out = vec![];
    for (b, h, i) in (0..batch).flat_map(|b| (0..heads).flat_map(move |h| (0..n).map(move |i| (b, h, i)))) {
        let kv = h * kv_heads / heads;
        let (mut line, mut sum) = (vec![0.0; e], 0.0);
        for j in 0..s {
            let w = weight([b, h, i, j], &row(q, b, h, i), &row(k, b, kv, j));
            sum += w;
            line.iter_mut().zip(row(v, b, kv, j)).for_each(|(line, v)| *line += w * v);
        }
        out.extend(line.into_iter().map(|x| if sum == 0.0 { 0.0 } else { x / sum }));
    }
    Tensor::from_vec(out, [batch, heads, n, e]).expect("it fits")
}

/// Batch, key heads, query heads per key head, queries, keys, head_dim, value_dim.
type Sizes = (usize, usize, usize, usize, usize, usize, usize);

fn sizes() -> impl Strategy<Value = Sizes> {
    let tokens = prop_oneof![1..6_usize, 30..36_usize, 60..70_usize];
    (
        1..3_usize,
        1..3_usize,
        1..3_usize,
        tokens.clone(),
        tokens,
        1..9_usize,
        prop_oneof![1..6_usize, 31..35_usize],
    )
}

pub(crate) fn operands(sizes: Sizes, causal: bool, seed: u64) -> [Tensor<f64>; 3] {
    let (batch, kv, group, n, s, d, e) = sizes;
    let s = if causal { n } else { s };
    let shapes = [[batch, kv * group, n, d], [batch, kv, s, d], [batch, kv, s, e]];
    [0, 1, 2].map(|i| random(shapes[i], seed + i as u64))
}

pub(crate) fn features(dim: usize, hyperbolic: bool, seed: u64) -> RandomFeatures {
    let options = RandomFeatureOptions { draws: Some(19), hyperbolic, seed, ..Default::default() };
    RandomFeatures::new(dim, &options).expect("a size")
}

fn maps(features: &RandomFeatures) -> [FeatureMap<'_>; 3] {
    [FeatureMap::Elu, FeatureMap::Taylor { scale: Some(0.4) }, FeatureMap::Random { features, scale: None }]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn it_is_the_formula(sizes in sizes(), seed in 0..1000_u64, causal: bool, hyperbolic: bool) {
        let [q, k, v] = operands(sizes, causal, seed);
        let features = features(sizes.5, hyperbolic, seed);
        for map in maps(&features) {
            let pair = |at: [usize; 4], q: &[f64], k: &[f64]| if causal && at[3] > at[2] { 0.0 } else { weight(map, q, k) };
            let expected = dense([&q, &k, &v], pair);
            for found in levels(|| linear(q.view(), k.view(), v.view(), map, causal)) {
                prop_assert!(gap(found.expect("good operands").as_slice(), expected.as_slice()) <= 1e-12);
            }
            let [q, k, v] = [&q, &k, &v].map(rounded);
            for found in levels(|| linear(q.view(), k.view(), v.view(), map, causal)) {
                prop_assert!(gap(found.expect("good operands").as_slice(), expected.as_slice()) <= 1e-4);
            }
        }
    }

    #[test]
    fn gradients_are_those_of_differences(sizes in sizes(), seed in 0..1000_u64, causal: bool, hyperbolic: bool) {
        let [q, k, v] = operands(sizes, causal, seed);
        let upstream = random([sizes.0, sizes.1 * sizes.2, sizes.3, sizes.6], seed + 3);
        let features = features(sizes.5, hyperbolic, seed);
        for map in maps(&features) {
            let run = |t: &[Tensor<f64>]| linear(t[0].view(), t[1].view(), t[2].view(), map, causal).expect("good operands");
            for found in levels(|| linear_gradient(q.view(), k.view(), v.view(), map, causal, upstream.view())) {
                let found = found.expect("good operands");
                check_gradients(&[q.clone(), k.clone(), v.clone()], &[&found.query, &found.key, &found.value], &upstream, run);
            }
        }
    }
}

/// The caller's own features: those of elu handed in give what the map elu gives.
#[test]
fn features_can_be_handed_in() {
    let [q, k, v] = operands((1, 2, 2, 40, 50, 6, 5), false, 3);
    let elu = |x: &Tensor<f64>| {
        let data = x.as_slice().iter().map(|&x| if x > 0.0 { x + 1.0 } else { x.exp() }).collect();
        Tensor::from_vec(data, x.shape()).expect("it fits")
    };
    let (own_q, own_k) = (elu(&q), elu(&k));
    let found =
        linear(own_q.view(), own_k.view(), v.view(), FeatureMap::Identity, false).expect("good operands");
    let expected = linear(q.view(), k.view(), v.view(), FeatureMap::Elu, false).expect("good operands");
    assert!(gap(found.as_slice(), expected.as_slice()) <= 1e-13);
    let upstream = random([1, 4, 40, 5], 9);
    let by =
        linear_gradient(own_q.view(), own_k.view(), v.view(), FeatureMap::Identity, false, upstream.view());
    let by = by.expect("good operands");
    let run = |t: &[Tensor<f64>]| {
        linear(t[0].view(), t[1].view(), t[2].view(), FeatureMap::Identity, false).expect("good operands")
    };
    check_gradients(&[own_q, own_k, v], &[&by.query, &by.key, &by.value], &upstream, run);
}

/// Lemma 1: the mean over draws is the exponential, and the variance is the stated one; hyperbolic is never worse.
#[test]
fn random_features_are_unbiased() {
    let dim = 4;
    let mut stream = Stream::new(3, "pair");
    let (mut q, mut k) = (vec![0.0; dim], vec![0.0; dim]);
    stream.fill_normal(&mut q);
    stream.fill_normal(&mut k);
    let tau = 0.5;
    let dot: f64 = q.iter().zip(&k).map(|(a, b)| a * b).sum();
    let expected = (tau * dot).exp();
    let z: f64 = q.iter().zip(&k).map(|(a, b)| tau * (a + b) * (a + b)).sum();
    let draws = 8;
    let runs = 20_000_u32;
    let sample = |orthogonal, hyperbolic| {
        let (mut mean, mut square) = (0.0, 0.0);
        for seed in 0..u64::from(runs) {
            let draws = if hyperbolic { draws / 2 } else { draws };
            let options =
                RandomFeatureOptions { draws: Some(draws), orthogonal, norm: RowNorm::Chi, hyperbolic, seed };
            let features = RandomFeatures::new(dim, &options).expect("a size");
            let x = weight(FeatureMap::Random { features: &features, scale: Some(tau) }, &q, &k) - expected;
            mean += x / f64::from(runs);
            square += x * x / f64::from(runs);
        }
        (mean, square)
    };
    // (1/m)·SM²·exp(|z|²)·(1 - exp(-|z|²)), and that times (1 - exp(-|z|²)) at equal count.
    let variance = expected * expected * z.exp() * (1.0 - (-z).exp()) / draws as f64;
    for (orthogonal, hyperbolic, stated) in [
        (false, false, variance),
        (false, true, variance * (1.0 - (-z).exp())),
        (true, false, variance),
        (true, true, variance),
    ] {
        let (mean, square) = sample(orthogonal, hyperbolic);
        let error = (square / f64::from(runs)).sqrt();
        assert!(mean.abs() <= 4.0 * error, "{orthogonal} {hyperbolic}: {mean} against {error}");
        if orthogonal {
            assert!(square <= stated, "{square} is more than {stated}");
        } else {
            assert!((square / stated - 1.0).abs() <= 0.25, "{square} is not {stated}");
        }
    }
}

/// Directions of a block are orthogonal, and as long as asked.
#[test]
fn directions_are_orthogonal() {
    let options = RandomFeatureOptions { draws: Some(17), norm: RowNorm::Root, ..Default::default() };
    let features = RandomFeatures::new(7, &options).expect("a size");
    let rows: Vec<&[f64]> = features.directions().chunks_exact(7).collect();
    assert_eq!((rows.len(), features.count(), features.dim()), (17, 17, 7));
    for (i, a) in rows.iter().enumerate() {
        for (j, b) in rows.iter().enumerate().filter(|(j, _)| j / 7 == i / 7) {
            let dot: f64 = a.iter().zip(*b).map(|(a, b)| a * b).sum();
            let expected = if i == j { 7.0 } else { 0.0 };
            assert!((dot - expected).abs() <= 1e-12, "{i} {j}: {dot}");
        }
    }
    assert_eq!(RandomFeatures::new(7, &RandomFeatureOptions::default()).expect("a size").count(), 13);
}

/// Features far outside the range of the exponential: their common factors cancel.
#[test]
fn large_vectors_do_not_overflow() {
    let mut x = random::<f32>([1, 1, 50, 8], 1);
    x.as_mut_slice().iter_mut().for_each(|x| *x *= 30.0);
    let features = features(8, true, 4);
    let map = FeatureMap::Random { features: &features, scale: Some(1.0) };
    let v = random::<f32>([1, 1, 50, 3], 2);
    let largest = v.as_slice().iter().fold(0.0_f32, |a, x| a.max(x.abs()));
    for causal in [false, true] {
        for found in levels(|| linear(x.view(), x.view(), v.view(), map, causal)) {
            // Weighted means, or zeros where all weights underflow.
            let found = found.expect("factors cancel");
            assert!(found.as_slice().iter().all(|x| x.abs() <= largest * 1.0001), "{found:?}");
        }
    }
}

#[test]
fn bad_input_is_refused() {
    let x = random::<f32>([1, 2, 5, 4], 1);
    let random_features = features(3, false, 1);
    let map = FeatureMap::Random { features: &random_features, scale: None };
    let run = |q: View<'_, f32>, k: View<'_, f32>, map, causal| linear(q, k, k, map, causal);
    let invalid = |found: Result<Tensor<f32>, Error>, named: &str| {
        assert!(matches!(found, Err(Error::InvalidOption { what, .. }) if what == named), "{found:?}");
    };
    invalid(run(x.view(), x.view(), map, false), "head_dim");
    for scale in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e300] {
        invalid(run(x.view(), x.view(), FeatureMap::Taylor { scale: Some(scale) }, false), "scale");
    }
    let three = random::<f32>([1, 3, 5, 4], 2);
    invalid(run(x.view(), three.view(), FeatureMap::Elu, false), "key heads");
    let wide = random::<f32>([1, 2, 5, 0], 2);
    invalid(run(wide.view(), wide.view(), FeatureMap::Elu, false), "head_dim");
    let longer = random::<f32>([1, 2, 6, 4], 2);
    let found = run(x.view(), longer.view(), FeatureMap::Elu, true);
    assert!(matches!(found, Err(Error::ShapeMismatch { what: "key", .. })));
    assert!(run(x.view(), longer.view(), FeatureMap::Elu, false).is_ok());
    let mut bad = x.clone();
    bad.as_mut_slice()[7] = f32::NAN;
    let found = run(x.view(), bad.view(), FeatureMap::Elu, false);
    assert_eq!(found, Err(Error::NonFinite { what: "key", index: [0, 0, 1, 3] }));
    let huge = Tensor::from_vec(vec![1e38_f32; 40], [1, 2, 5, 4]).expect("it fits");
    let found = run(huge.view(), huge.view(), FeatureMap::Elu, false);
    assert_eq!(found, Err(Error::Overflow { batch: 0, head: 0, token: 0 }));
    let found = linear_gradient(x.view(), x.view(), x.view(), FeatureMap::Elu, false, longer.view());
    assert!(matches!(found, Err(Error::ShapeMismatch { what: "output gradient", .. })));
    for (n, s) in [(0, 0), (0, 3), (3, 0)] {
        let (q, k) = (random::<f32>([2, 1, n, 4], 1), random::<f32>([2, 1, s, 4], 2));
        let found = linear(q.view(), k.view(), k.view(), FeatureMap::Elu, false).expect("nothing to do");
        assert!(found.shape() == [2, 1, n, 4] && found.as_slice().iter().all(|x| *x == 0.0));
        let by = linear_gradient(q.view(), k.view(), k.view(), FeatureMap::Elu, false, q.view());
        assert!(by.expect("nothing to do").key.as_slice().iter().all(|x| *x == 0.0));
    }
    let empty = random::<f32>([0, 0, 3, 4], 1);
    assert!(linear(empty.view(), empty.view(), empty.view(), FeatureMap::Elu, true).is_ok());
    let options = |draws| RandomFeatureOptions { draws: Some(draws), ..Default::default() };
    assert!(RandomFeatures::new(0, &options(3)).is_err() && RandomFeatures::new(3, &options(0)).is_err());
    assert!(matches!(RandomFeatures::new(3, &options(usize::MAX)), Err(Error::TooLarge { .. })));
    assert!(RandomFeatures::from_directions(vec![1.0; 5], 2, false).is_err());
    assert!(RandomFeatures::from_directions(vec![1.0, f64::NAN], 2, false).is_err());
    assert!(random_features.features(&[1.0; 4], None).is_err());
}
