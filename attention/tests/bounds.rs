//! The stated bounds of rounding, entry by entry, in f32 against f64.

use proptest::prelude::*;
use rankbit_attention::{
    Axis, ExactOptions, FeatureMap, NeighborhoodOptions, RankAugmented, RankAugmentedOptions, Tensor, exact,
    linear, neighborhood, rank_augmented,
};

use crate::common::{levels, output, random, rounded};

/// Half a unit in the last place of 1.
const U: f64 = f32::EPSILON as f64 / 2.0;

/// Random operands of one head, as f32 holds them, `size` large.
fn operands([n, s, d, e]: [usize; 4], size: f64, seed: u64) -> [Tensor<f64>; 3] {
    [[n, d], [s, d], [s, e]].map(|[tokens, dim]| {
        let mut x = random::<f64>([1, 1, tokens, dim], seed + (tokens * dim) as u64);
        x.as_mut_slice().iter_mut().for_each(|x| *x *= size);
        wide(&rounded(&x))
    })
}

fn wide(x: &Tensor<f32>) -> Tensor<f64> {
    Tensor::from_vec(x.as_slice().iter().map(|&x| f64::from(x)).collect(), x.shape()).expect("it fits")
}

fn line(x: &Tensor<f64>, i: usize) -> &[f64] {
    let dim = x.shape()[3];
    &x.as_slice()[i * dim..(i + 1) * dim]
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Every entry of `found` within `bound(i)·Σⱼ |w_ij|·|v_j|` of `Σⱼ w_ij·v_j`; weights of a row sum to what they have to.
fn within(
    found: &Tensor<f32>,
    value: &Tensor<f64>,
    weights: impl Fn(usize) -> Vec<f64>,
    bound: impl Fn(usize) -> f64,
) {
    let [.., n, e] = found.shape();
    for i in 0..n {
        let weights = weights(i);
        for k in 0..e {
            let (mut sum, mut size) = (0.0, 0.0);
            for (j, weight) in weights.iter().enumerate() {
                sum += weight * line(value, j)[k];
                size += weight.abs() * line(value, j)[k].abs();
            }
            let found = f64::from(found.as_slice()[i * e + k]);
            // And the rounding of the result.
            let most = bound(i) * size + U * sum.abs();
            assert!((found - sum).abs() <= most, "{i} {k}: {found} is not {sum} within {most}");
        }
    }
}

fn softmax(scores: Vec<f64>) -> Vec<f64> {
    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = scores.iter().map(|x| (x - most).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|x| x / sum).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Exact attention and neighborhoods of one axis.
    #[test]
    fn softmax_attention(sizes in [1..40_usize, 1..300_usize, 1..70_usize, 1..9_usize], large in 0..6_i32, window in 1..40_usize, seed in 0..1000_u64) {
        let size = 2.0_f64.powi(large - 3);
        let [n, s, d, _] = sizes;
        let [q, k, v] = operands(sizes, size, seed);
        let scale = 1.0 / (d as f64).sqrt();
        let reach = |q: &[f64], k: &[f64]| scale * (dot(q, q) * dot(k, k)).sqrt();
        let bound = |i: usize, keys: usize| {
            let most = (0..k.shape()[2]).map(|j| reach(line(&q, i), line(&k, j))).fold(0.0, f64::max);
            2.0 * (2.0 * d as f64 * most + keys as f64 + 16.0) * U
        };
        let single = [&q, &k, &v].map(rounded);
        let [a, b, c] = single.each_ref().map(Tensor::view);
        for found in levels(|| exact(a, b, c, &ExactOptions::default())) {
            let weights = |i: usize| softmax((0..s).map(|j| scale * dot(line(&q, i), line(&k, j))).collect());
            within(&output(found), &v, weights, |i| bound(i, s));
        }
        // As many queries as keys, side by side.
        let [q, k, v] = operands([n, n, d, sizes[3]], size, seed);
        let single = [&q, &k, &v].map(rounded);
        let [a, b, c] = single.each_ref().map(Tensor::view);
        let axis = Axis::new(n, window.min(n));
        for found in levels(|| neighborhood(a, b, c, &[axis], &NeighborhoodOptions::default())) {
            let weights = |i: usize| {
                let near: Vec<usize> = axis.neighbors(i).expect("good").expect("inside").collect();
                let score = |j: usize| {
                    if near.contains(&j) { scale * dot(line(&q, i), line(&k, j)) } else { f64::NEG_INFINITY }
                };
                softmax((0..n).map(score).collect())
            };
            let most = |i: usize| {
                (0..n).map(|j| reach(line(&q, i), line(&k, j))).fold(0.0, f64::max)
            };
            let keys = (15 + axis.window) as f64;
            within(&output(found), &v, weights, |i| 2.0 * (2.0 * d as f64 * most(i) + keys + 16.0) * U);
        }
    }

    /// Linear and rank-augmented attention.
    #[test]
    fn linear_attention(sizes in [1..40_usize, 1..300_usize, 1..40_usize, 1..9_usize], seed in 0..1000_u64) {
        let [_, s, d, _] = sizes;
        let [q, k, v] = operands(sizes, 1.0, seed);
        let elu = |x: &[f64]| -> Vec<f64> { x.iter().map(|&x| if x > 0.0 { x + 1.0 } else { x.exp() }).collect() };
        let shares = |i: usize, factors: &[f64]| {
            let terms: Vec<f64> = (0..s).map(|j| factors[j] * dot(&elu(line(&q, i)), &elu(line(&k, j)))).collect();
            let sum: f64 = terms.iter().sum();
            terms.into_iter().map(|x| x / sum).collect::<Vec<_>>()
        };
        let single = [&q, &k, &v].map(rounded);
        let [a, b, c] = single.each_ref().map(Tensor::view);
        let ones = vec![1.0; s];
        for found in levels(|| linear(a, b, c, FeatureMap::Elu, false)) {
            let bound = 2.0 * (s + d + 8) as f64 * U;
            within(&found.expect("good operands"), &v, |i| shares(i, &ones), |_| bound);
        }
        let mean: Vec<f64> = (0..d)
            .map(|c| (0..sizes[0]).map(|i| elu(line(&q, i))[c]).sum::<f64>() / sizes[0] as f64)
            .collect();
        let scores: Vec<f64> = (0..s).map(|j| dot(&mean, &elu(line(&k, j))) / (d as f64).sqrt()).collect();
        let most = scores.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
        let factors = softmax(scores);
        let operands = RankAugmented { query: a, key: b, value: c, local: None, gate: None };
        for found in levels(|| rank_augmented(&operands, &RankAugmentedOptions::default())) {
            let bound = 2.0 * ((s + d + 16) as f64 + 2.0 * most * d as f64) * U;
            // ε in the denominator is part of the formula, of order 1e-6 relative to it: as weights here.
            let weights = |i: usize| {
                let sum: f64 = (0..s).map(|j| factors[j] * dot(&elu(line(&q, i)), &elu(line(&k, j)))).sum();
                shares(i, &factors).into_iter().map(|x| x * (sum / (sum + 1e-6))).collect()
            };
            within(&found.expect("good operands"), &v, weights, |_| bound);
        }
    }
}
