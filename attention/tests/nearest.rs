//! The tree search for near keys: counts, limits, what it finds, bad input.

use proptest::prelude::*;
use rankbit_attention::{
    ClusterOptions, Error, ExactOptions, NearestOptions, ScatterbrainOptions, Support, Tensor, exact, sparse,
};

use crate::common::{gap, levels, output, random};

/// Part of the exact weights that a support holds, mean over rows.
fn held(q: &Tensor<f64>, k: &Tensor<f64>, support: &Support) -> f64 {
    let ([batch, heads, n, d], s) = (q.shape(), k.shape()[2]);
    let mut total = 0.0;
    for (b, h, i) in (0..batch).flat_map(|b| (0..heads).flat_map(move |h| (0..n).map(move |i| (b, h, i)))) {
        let logit = |j: usize| -> f64 {
            let x = (0..d).map(|c| {
                q.view().get([b, h, i, c]).expect("inside") * k.view().get([b, h, j, c]).expect("inside")
            });
            x.sum::<f64>() / (d as f64).sqrt()
        };
        let all: f64 = (0..s).map(|j| logit(j).exp()).sum();
        total += support.row(b, h, i).iter().map(|&j| logit(j as usize).exp()).sum::<f64>() / all;
    }
    total / (batch * heads * n) as f64
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Every query has as many keys as asked for, different ones, and the heavy ones are in every row; all keys are exact attention.
    #[test]
    fn every_query_has_its_keys(n in 1..40_usize, s in 1..70_usize, d in 1..6_usize, keys in 1..80_usize, heavy in 0..9_usize, seed in 0..1000_u64) {
        let (q, k) = (random::<f64>([2, 2, n, d], seed), random::<f64>([2, 1, s, d], seed + 1));
        let options = NearestOptions { keys, heavy: heavy.min(keys) };
        let support = Support::nearest(q.view(), k.view(), &options).expect("good operands");
        prop_assert_eq!(support.len(), 4 * n * keys.min(s));
        for (b, h) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let common = (0..s).filter(|&j| (0..n).all(|i| support.row(b, h, i).iter().any(|&key| key as usize == j)));
            prop_assert!(common.count() >= heavy.min(keys).min(s));
        }
        if keys >= s {
            let found = sparse(q.view(), k.view(), k.view(), &support, &ScatterbrainOptions::default()).expect("good operands");
            let expected = output(exact(q.view(), k.view(), k.view(), &ExactOptions::default()));
            prop_assert!(gap(found.as_slice(), expected.as_slice()) <= 1e-12);
        }
    }
}

/// One direction: the tree is sorted along it, and the search finds the largest products exactly.
#[test]
fn on_a_line_the_largest_are_found() {
    let (q, k) = (random::<f64>([1, 1, 20, 1], 1), random::<f64>([1, 1, 64, 1], 2));
    let options = NearestOptions { keys: 4, heavy: 0 };
    let support = Support::nearest(q.view(), k.view(), &options).expect("good operands");
    for i in 0..20 {
        let sign = q.as_slice()[i].signum();
        let mut order: Vec<u32> = (0..64).collect();
        order.sort_by(|&a, &b| {
            (sign * k.as_slice()[b as usize]).total_cmp(&(sign * k.as_slice()[a as usize]))
        });
        let mut expected = order[..4].to_vec();
        expected.sort_unstable();
        assert_eq!(support.row(0, 0, i), expected);
    }
}

/// Peaked maps with a few keys that all queries see: far more weight than hashing finds at equal memory.
#[test]
fn it_holds_more_weight_than_clusters() {
    let (mut q, mut k) = (random::<f64>([1, 2, 256, 8], 1), random::<f64>([1, 2, 256, 8], 2));
    q.as_mut_slice().iter_mut().for_each(|x| *x = 1.5 * *x + 0.5);
    for (i, x) in k.as_mut_slice().iter_mut().enumerate() {
        *x += if i / 8 % 64 == 5 { 1.0 } else { 0.0 };
    }
    let near =
        Support::nearest(q.view(), k.view(), &NearestOptions { keys: 32, heavy: 8 }).expect("good operands");
    let hashed = Support::clusters(q.view(), k.view(), &ClusterOptions { size: 16, rounds: 2, seed: 3 })
        .expect("good");
    let (near, hashed) = (held(&q, &k, &near), held(&q, &k, &hashed));
    assert!(near >= 2.0 * hashed, "{near} against {hashed}");
}

/// Threads and instruction sets change nothing; all-equal keys, which no direction parts, are cut all the same.
#[test]
fn it_is_one_support() {
    let (q, k) = (random::<f32>([1, 3, 30, 5], 1), random::<f32>([1, 3, 50, 5], 2));
    let options = NearestOptions { keys: 9, heavy: 2 };
    let found = levels(|| Support::nearest(q.view(), k.view(), &options));
    assert!(found.windows(2).all(|two| two[0] == two[1]));
    let same = Tensor::from_vec(vec![1.0_f32; 40], [1, 1, 20, 2]).expect("it fits");
    let found = Support::nearest(same.view(), same.view(), &options).expect("good operands");
    assert_eq!(found.len(), 20 * 9);
}

#[test]
fn bad_input_is_refused() {
    let x = random::<f32>([1, 1, 5, 4], 1);
    for (keys, heavy) in [(0, 0), (3, 4)] {
        let found = Support::nearest(x.view(), x.view(), &NearestOptions { keys, heavy });
        assert!(matches!(found, Err(Error::InvalidOption { .. })), "{found:?}");
    }
    let most = NearestOptions { keys: usize::MAX, heavy: usize::MAX };
    assert_eq!(Support::nearest(x.view(), x.view(), &most).expect("all keys").len(), 25);
    let mut bad = x.clone();
    bad.as_mut_slice()[2] = f32::NAN;
    let options = NearestOptions::default();
    assert!(matches!(
        Support::nearest(x.view(), bad.view(), &options),
        Err(Error::NonFinite { what: "key", .. })
    ));
    let huge = Tensor::from_vec(vec![f32::MAX; 20], [1, 1, 5, 4]).expect("it fits");
    assert_eq!(Support::nearest(huge.view(), huge.view(), &options).expect("no overflow in f64").len(), 25);
    for (n, s) in [(0, 0), (0, 3), (3, 0)] {
        let (q, k) = (random::<f32>([1, 1, n, 4], 1), random::<f32>([1, 1, s, 4], 2));
        assert!(Support::nearest(q.view(), k.view(), &options).expect("nothing to find").is_empty());
    }
}
