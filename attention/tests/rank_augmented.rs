//! Rank-augmented attention and the rank meter: PyTorch's and NumPy's vectors, identities, the claim, gradients, bad input.

use proptest::prelude::*;
use rankbit_attention::{
    Element, Error, FeatureMap, RankAugmented, RankAugmentedOptions, Tensor, View, linear, rank_augmented,
    rank_augmented_gradient, ranks,
};

use crate::common::{check_gradients, gap, levels, random, rounded};

/// Which operands there are beside queries, keys and values: the local term, the gate.
type Extra = (bool, bool);

fn operands<T: Element>(tensors: &[Tensor<T>], (local, gate): Extra) -> RankAugmented<View<'_, T>> {
    RankAugmented {
        query: tensors[0].view(),
        key: tensors[1].view(),
        value: tensors[2].view(),
        local: local.then(|| tensors[3].view()),
        gate: gate.then(|| tensors[3 + usize::from(local)].view()),
    }
}

fn list<T>(by: RankAugmented<Tensor<T>>) -> Vec<Tensor<T>> {
    [Some(by.query), Some(by.key), Some(by.value), by.local, by.gate].into_iter().flatten().collect()
}

/// Queries, keys, values and what else there is.
fn tensors(batch: usize, sizes: [usize; 4], extra: Extra, seed: u64) -> Vec<Tensor<f64>> {
    let [n, s, d, e] = sizes;
    let mut shapes = vec![[batch, 2, n, d], [batch, 2, s, d], [batch, 2, s, e]];
    shapes.resize(3 + usize::from(extra.0) + usize::from(extra.1), [batch, 2, n, e]);
    shapes.into_iter().zip(seed..).map(|(shape, seed)| random(shape, seed)).collect()
}

fn rotary(plane: [usize; 2]) -> RankAugmentedOptions {
    RankAugmentedOptions { rotary: Some(plane), ..Default::default() }
}

/// Vectors of PyTorch 2.15 and NumPy 2.4 (scripts/oracle/rank_augmented.py).
#[test]
fn pytorch_agrees() {
    let text = include_str!("../../tests/vectors/rank_augmented.json");
    let json: serde_json::Value = serde_json::from_str(text).expect("JSON");
    let tensor = |value: &serde_json::Value| {
        let shape: Vec<usize> = serde_json::from_value(value["shape"].clone()).expect("a shape");
        let data: Vec<f64> = serde_json::from_value(value["data"].clone()).expect("numbers");
        Tensor::from_vec(data, shape.try_into().expect("four sizes")).expect("it fits")
    };
    let list_of = |value: &serde_json::Value| -> Vec<Tensor<f64>> {
        value.as_array().expect("a list").iter().map(tensor).collect()
    };
    let cases = json["attention"].as_array().expect("cases");
    assert_eq!(cases.len(), 4);
    for case in cases {
        let names: Vec<String> = serde_json::from_value(case["names"].clone()).expect("names");
        let extra = (names.contains(&"local".into()), names.contains(&"gate".into()));
        let options = RankAugmentedOptions {
            rotary: serde_json::from_value(case["plane"].clone()).expect("a plane"),
            ..Default::default()
        };
        let (tensors, gradients) = (list_of(&case["operands"]), list_of(&case["gradients"]));
        let operands = operands(&tensors, extra);
        let found = rank_augmented(&operands, &options).expect("good operands");
        assert!(gap(found.as_slice(), tensor(&case["output"]).as_slice()) <= 1e-12);
        let by = rank_augmented_gradient(&operands, &options, tensor(&case["upstream"]).view());
        let by = list(by.expect("good operands"));
        assert_eq!(by.len(), gradients.len());
        for (name, (found, expected)) in names.iter().zip(by.iter().zip(&gradients)) {
            assert!(gap(found.as_slice(), expected.as_slice()) <= 1e-11, "{name}");
        }
    }
    let features = tensor(&json["meter"]["features"]);
    let tolerances: Vec<f64> = serde_json::from_value(json["meter"]["tolerances"].clone()).expect("numbers");
    let expected: Vec<usize> = serde_json::from_value(json["meter"]["numerical"].clone()).expect("ranks");
    let found = |&tolerance| ranks(features.view(), tolerance).expect("finite")[0].numerical;
    assert_eq!(tolerances.iter().map(found).collect::<Vec<_>>(), expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Without the rotary map: the dense weighted mean, `y_i = Σⱼ α_j (Q_i·K_j) v_j / Σⱼ α_j (Q_i·K_j)`, and each output
    /// lies between the smallest and the largest value.
    #[test]
    fn is_a_weighted_mean(
        sizes in [1..9_usize, 1..9_usize, 1..9_usize, 1..20_usize], scale in 0.05..2.0_f64, seed in 0..1000_u64,
    ) {
        let [n, s, d, e] = sizes;
        let t = tensors(2, sizes, (false, false), seed);
        let options = RankAugmentedOptions { scale: Some(scale), epsilon: 1e-30, rotary: None };
        let found = rank_augmented(&operands(&t, (false, false)), &options).expect("good operands");
        let kappa = |x: Option<f64>| x.map_or(f64::NAN, |x| if x > 0.0 { x + 1.0 } else { x.exp() });
        let mut expected = vec![];
        for (b, h) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let q = |i, c| kappa(t[0].view().get([b, h, i, c]));
            let k = |j, c| kappa(t[1].view().get([b, h, j, c]));
            let score = |j| scale * (0..d).map(|c| (0..n).map(|i| q(i, c)).sum::<f64>() / n as f64 * k(j, c)).sum::<f64>();
            let alpha: Vec<f64> = (0..s).map(|j| score(j).exp()).collect();
            let total: f64 = alpha.iter().sum();
            for i in 0..n {
                let weight = |j: usize| alpha[j] / total * (0..d).map(|c| q(i, c) * k(j, c)).sum::<f64>();
                let sum: f64 = (0..s).map(weight).sum();
                for c in 0..e {
                    let value = |j| t[2].view().get([b, h, j, c]).expect("inside");
                    expected.push((0..s).map(|j| weight(j) * value(j)).sum::<f64>() / sum);
                }
            }
        }
        prop_assert!(gap(found.as_slice(), &expected) <= 1e-12);
    }

    /// Equal keys have equal weights: linear attention with elu. And with any weights, reordering the keys changes nothing.
    #[test]
    fn reduces_to_linear_attention(sizes in [1..9_usize, 1..9_usize, 1..9_usize, 1..9_usize], seed in 0..1000_u64) {
        let mut t = tensors(1, sizes, (false, false), seed);
        let options = RankAugmentedOptions { epsilon: 1e-30, ..Default::default() };
        let before = rank_augmented(&operands(&t, (false, false)), &options).expect("good operands");
        let mut moved = t.clone();
        for (which, len) in [(1, sizes[2]), (2, sizes[3])] {
            for head in moved[which].as_mut_slice().chunks_exact_mut(sizes[1] * len) {
                head.rotate_left(len);
            }
        }
        let after = rank_augmented(&operands(&moved, (false, false)), &options).expect("good operands");
        prop_assert!(gap(before.as_slice(), after.as_slice()) <= 1e-12);

        let (s, d) = (sizes[1], sizes[2]);
        for head in t[1].as_mut_slice().chunks_exact_mut(s * d) {
            let (first, rest) = head.split_at_mut(d);
            rest.chunks_exact_mut(d).for_each(|line| line.copy_from_slice(first));
        }
        let found = rank_augmented(&operands(&t, (false, false)), &options).expect("good operands");
        let expected = linear(t[0].view(), t[1].view(), t[2].view(), FeatureMap::Elu, false).expect("good operands");
        prop_assert!(gap(found.as_slice(), expected.as_slice()) <= 1e-12);
    }

    /// At every level, any threads, for every set of operands.
    #[test]
    fn gradients_are_those_of_differences(
        (batch, h, w) in (1..3_usize, 1..4_usize, 1..4_usize), (d, e) in (2..5_usize, 1..20_usize),
        extra in any::<Extra>(), turn in any::<bool>(), seed in 0..1000_u64,
    ) {
        let (n, d) = (h * w, 4 * d);
        let s = if turn { n } else { n + 2 };
        let options = if turn { rotary([h, w]) } else { RankAugmentedOptions::default() };
        let t = tensors(batch, [n, s, d, e], extra, seed);
        let upstream = random([batch, 2, n, e], seed + 20);
        for found in levels(|| rank_augmented_gradient(&operands(&t, extra), &options, upstream.view())) {
            let found = list(found.expect("good operands"));
            let found: Vec<&Tensor<f64>> = found.iter().collect();
            let output = |t: &[Tensor<f64>]| rank_augmented(&operands(t, extra), &options).expect("good operands");
            check_gradients(&t, &found, &upstream, output);
        }
    }

    /// One place alone is turned by angles of 0.
    #[test]
    fn the_first_place_is_not_turned(d in 2..5_usize, seed in 0..1000_u64) {
        let t = tensors(1, [1, 1, 4 * d, 3], (false, false), seed);
        let operands = operands(&t, (false, false));
        let turned = rank_augmented(&operands, &rotary([1, 1])).expect("good operands");
        prop_assert_eq!(turned, rank_augmented(&operands, &RankAugmentedOptions::default()).expect("good operands"));
    }

    /// Numerical rank of a product of factors; every measure between 1 and it (the numerical at tolerance 0).
    #[test]
    fn the_meter_counts_directions(
        (n, d) in (1..12_usize, 1..12_usize), r in 1..6_usize, power in -60..60_i32, seed in 0..1000_u64,
    ) {
        let r = r.min(n).min(d);
        let (a, b) = (random::<f64>([1, 1, n, r], seed), random::<f64>([1, 1, r, d], seed + 1));
        let entry = |i: usize, j: usize| (0..r).map(|k| a.as_slice()[i * r + k] * b.as_slice()[k * d + j]).sum::<f64>();
        let data = (0..n * d).map(|at| entry(at / d, at % d) * 2.0_f64.powi(power)).collect();
        let product = Tensor::from_vec(data, [1, 1, n, d]).expect("it fits");
        let found = ranks(product.view(), 1e-12).expect("finite")[0];
        prop_assert_eq!(found.numerical, r);
        prop_assert!(found.effective >= 1.0 - 1e-9 && found.effective <= r as f64 + 1e-6);
        prop_assert!(found.stable >= 1.0 - 1e-9 && found.stable <= r as f64 + 1e-6);
    }
}

/// 196 tokens of 64 features through random layers (figure 1 of the source: 14×14 tokens, full rank 64).
fn layers(seed: u64) -> [Tensor<f64>; 4] {
    let x: Tensor<f64> = random([1, 1, 196, 64], seed);
    core::array::from_fn(|i| {
        let w: Tensor<f64> = random([1, 1, 64, 64], seed + 1 + i as u64);
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>() / 8.0;
        let lines = x.as_slice().chunks_exact(64);
        let data = lines.flat_map(|a| w.as_slice().chunks_exact(64).map(move |b| dot(a, b))).collect();
        Tensor::from_vec(data, [1, 1, 196, 64]).expect("it fits")
    })
}

/// The source's claim on outputs: linear attention's have a low rank, the modulated ones all but the full one.
#[test]
fn modulation_raises_the_rank_of_the_output() {
    for seed in [1, 100, 200, 300] {
        let [q, k, v, g] = layers(seed);
        let plain = linear(q.view(), k.view(), v.view(), FeatureMap::Elu, false).expect("good operands");
        let operands = RankAugmented {
            query: q.view(),
            key: k.view(),
            value: v.view(),
            local: None,
            gate: Some(g.view()),
        };
        let found = rank_augmented(&operands, &RankAugmentedOptions::default()).expect("good operands");
        let rank = |x: &Tensor<f64>| ranks(x.view(), 1e-2).expect("finite")[0];
        let (plain, found) = (rank(&plain), rank(&found));
        assert!(plain.numerical <= 24 && found.numerical >= 56, "{plain:?} {found:?}");
        assert!(found.effective > 4.0 * plain.effective, "{plain:?} {found:?}");
    }
}

/// The source's claim on the buffer of keys and values holds where the mean query favours what is rare: here 8 different tokens among
/// 188 that are alike. The buffer is read off through queries that single out one feature each.
#[test]
fn weights_raise_the_rank_of_the_buffer_where_they_favour_rare_tokens() {
    let (d, alike, rare) = (16, 188, 8);
    let s = alike + rare;
    let noise: Tensor<f64> = random([1, 1, s, d], 1);
    let values: Tensor<f64> = random([1, 1, s, d], 2);
    let mut key = noise.clone();
    let mut value = values.clone();
    for j in 0..s {
        for c in 0..d {
            let (k, v) = (&mut key.as_mut_slice()[j * d + c], &mut value.as_mut_slice()[j * d + c]);
            // Background: one key, one value, a little noise; rare tokens: long keys of their own.
            let own = j >= alike;
            *k = if own { 4.0 * noise.as_slice()[j * d + c].abs() } else { -1.0 + 0.01 * *k };
            *v = if own { *v } else { 1.0 + 0.01 * *v };
        }
    }
    // Query i is all but 0 after elu + 1, its i-th feature apart: row i of the buffer over a number.
    let mut query = vec![-40.0; d * d];
    (0..d).for_each(|i| query[i * d + i] = 0.0);
    let query = Tensor::from_vec(query, [1, 1, d, d]).expect("it fits");
    let operands =
        RankAugmented { query: query.view(), key: key.view(), value: value.view(), local: None, gate: None };
    let rank = |scale: f64| {
        let options = RankAugmentedOptions { scale: Some(scale), ..Default::default() };
        let rows = rank_augmented(&operands, &options).expect("good operands");
        ranks(rows.view(), 1e-2).expect("finite")[0]
    };
    // The smallest scale has equal weights.
    let (equal, weighted) = (rank(1e-12), rank(0.5));
    assert!(weighted.effective > equal.effective, "{equal:?} {weighted:?}");
}

/// Single precision near f64, with more tokens than one task takes; strides; thread counts.
#[test]
fn single_precision_and_many_tokens() {
    let t = tensors(1, [300, 300, 16, 20], (true, true), 3);
    let expected = rank_augmented(&operands(&t, (true, true)), &rotary([15, 20])).expect("good operands");
    let single: Vec<Tensor<f32>> = t.iter().map(rounded).collect();
    for found in levels(|| rank_augmented(&operands(&single, (true, true)), &rotary([15, 20]))) {
        let found = found.expect("good operands");
        assert!(gap(found.as_slice(), expected.as_slice()) <= 2e-5);
    }
    // Tokens before heads in memory.
    let [_, _, n, d] = t[0].shape();
    let mut swapped = vec![0.0; 2 * n * d];
    for (i, x) in swapped.iter_mut().enumerate() {
        *x = t[0].view().get([0, i / d % 2, i / (2 * d), i % d]).expect("inside");
    }
    let query = View::new(&swapped, [1, 2, n, d], [2 * n * d, d, 2 * d, 1]).expect("it fits");
    let strided = RankAugmented { query, ..operands(&t, (true, true)) };
    assert_eq!(rank_augmented(&strided, &rotary([15, 20])).as_ref(), Ok(&expected));
}

#[test]
fn bad_input_is_refused() {
    let options = RankAugmentedOptions::default();
    let run = |t: &[Tensor<f64>], options: &RankAugmentedOptions| {
        let found = rank_augmented(&operands(t, (true, true)), options);
        let upstream = match &found {
            Ok(output) => output.clone(),
            Err(_) => t[3].clone(),
        };
        let by = rank_augmented_gradient(&operands(t, (true, true)), options, upstream.view());
        // As text: NaN is not equal to itself.
        assert_eq!(format!("{:?}", found.as_ref().err()), format!("{:?}", by.as_ref().err()));
        found
    };
    // Nothing to do, or nothing to see.
    for sizes in [[0, 3, 8, 2], [3, 3, 8, 0], [0, 0, 8, 0]] {
        let found = run(&tensors(2, sizes, (true, true), 1), &options).expect("empty");
        assert!(found.as_slice().is_empty());
    }
    assert!(run(&tensors(0, [2, 3, 8, 2], (true, true), 1), &options).expect("empty").as_slice().is_empty());
    let blind = tensors(2, [3, 0, 300, 2], (false, true), 1);
    let found = rank_augmented(&operands(&blind, (false, true)), &options).expect("no keys");
    assert!(found.as_slice().iter().all(|&x| x == 0.0));
    assert!(run(&tensors(1, [1, 1, 1, 1], (true, true), 1), &options).is_ok());

    let good = tensors(1, [6, 6, 8, 2], (true, true), 1);
    assert!(matches!(
        run(&tensors(1, [2, 2, 0, 2], (true, true), 1), &options),
        Err(Error::InvalidOption { what: "head_dim", .. })
    ));
    for i in 1..5 {
        let mut bad = good.clone();
        bad[i] = random([1, 3, 6, 2], 1);
        assert!(matches!(run(&bad, &options), Err(Error::ShapeMismatch { .. })), "operand {i}");
    }
    for i in 0..5 {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let mut bad = good.clone();
            bad[i].as_mut_slice()[3] = value;
            assert!(matches!(run(&bad, &options), Err(Error::NonFinite { .. })), "operand {i}");
        }
    }
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let scale = RankAugmentedOptions { scale: Some(bad), ..options };
        assert!(matches!(run(&good, &scale), Err(Error::InvalidOption { what: "scale", .. })));
        let epsilon = RankAugmentedOptions { epsilon: bad, ..options };
        assert!(matches!(run(&good, &epsilon), Err(Error::InvalidOption { what: "epsilon", .. })));
        assert!(bad == 0.0 || matches!(ranks(good[0].view(), bad), Err(Error::InvalidOption { .. })));
    }
    for plane in [[2, 2], [0, 6], [usize::MAX, 2]] {
        assert!(matches!(run(&good, &rotary(plane)), Err(Error::InvalidOption { what: "rotary", .. })));
    }
    for dim in [4, 6, 10] {
        let narrow = tensors(1, [6, 6, dim, 2], (true, true), 1);
        assert!(matches!(run(&narrow, &rotary([2, 3])), Err(Error::InvalidOption { what: "head_dim", .. })));
    }
    assert!(matches!(
        run(&tensors(1, [6, 5, 8, 2], (true, true), 1), &rotary([2, 3])),
        Err(Error::ShapeMismatch { what: "key", .. })
    ));
    // Queries so long that scores overflow; so short that nothing is left: zeros before local term and gate.
    let mut huge = good.clone();
    huge[0].as_mut_slice().fill(1e200);
    huge[1].as_mut_slice().fill(1e200);
    assert!(matches!(run(&huge, &options), Err(Error::Overflow { .. })));
    let mut none = good.clone();
    none[0].as_mut_slice().fill(-1e30);
    none[1].as_mut_slice().fill(-1e30);
    let found = run(&none, &options).expect("finite");
    let local: Vec<f64> = none[3].as_slice().iter().zip(none[4].as_slice()).map(|(l, g)| l * g).collect();
    assert_eq!(found.as_slice(), local);

    let short = random([1, 2, 5, 2], 1);
    assert!(matches!(
        rank_augmented_gradient(&operands(&good, (true, true)), &options, short.view()),
        Err(Error::ShapeMismatch { what: "output gradient", .. })
    ));
    let nan = Tensor::from_vec(vec![f64::NAN; 4], [1, 1, 2, 2]).expect("it fits");
    assert!(matches!(ranks(nan.view(), 0.1), Err(Error::NonFinite { .. })));
    let empty = Tensor::from_vec(Vec::<f64>::new(), [2, 3, 0, 4]).expect("it fits");
    assert!(ranks(empty.view(), 0.1).expect("empty").iter().all(|rank| rank.numerical == 0));
}
