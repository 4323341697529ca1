//! Nested bases: PyTorch's and NumPy's vectors, orthogonality, the theorem of principal components, training against them, the
//! budget, the cache, gradients, bad input.

use proptest::prelude::*;
use rankbit_attention::matryoshka::{
    Bases, BasesGradient, BudgetOptions, Cache, Calibration, NestedGradients, Ranks, TrainOptions, cayley,
    cayley_gradient, distillation, greedy, nested, nested_gradient, train,
};
use rankbit_attention::{Error, ExactOptions, Tensor, View, exact};
use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_quant::{Group, scheme};

use crate::common::{check_gradients, gap, levels, random, rounded};

mod refused;
mod training;

fn matrix(tensor: &Tensor<f64>) -> Mat<f64> {
    let [.., rows, columns] = tensor.shape();
    Mat::from_fn(rows, columns, |i, j| tensor.as_slice()[i * columns + j])
}

/// Row-major.
fn entries(a: &Mat<f64>) -> Vec<f64> {
    (0..a.nrows()).flat_map(|i| (0..a.ncols()).map(move |j| a[(i, j)])).collect()
}

fn matrices(tensor: &Tensor<f64>) -> Vec<Mat<f64>> {
    let [_, _, rows, columns] = tensor.shape();
    let one = |data: &[f64]| Mat::from_fn(rows, columns, |i, j| data[i * columns + j]);
    tensor.as_slice().chunks_exact(rows * columns).map(one).collect()
}

/// Rotations by Cayley's map of random matrices.
fn rotations(heads: usize, size: usize, seed: u64) -> Vec<Mat<f64>> {
    let one = |seed| cayley(matrix(&random([1, 1, size, size], seed)).as_ref()).expect("a rotation");
    (0..heads as u64).map(|head| one(seed + head)).collect()
}

fn bases(heads: usize, d: usize, e: usize, seed: u64) -> Bases {
    Bases::new(rotations(heads, d, seed), rotations(heads, e, seed + 100)).expect("orthogonal")
}

fn ranks(heads: usize, d: usize, e: usize, seed: usize) -> Ranks {
    let of = |size: usize, salt: usize| (0..heads).map(|head| 1 + (seed + salt + 7 * head) % size).collect();
    Ranks { key: of(d, 0), value: of(e, 3) }
}

fn residual(u: &Mat<f64>) -> f64 {
    let gram = u.transpose() * u;
    gap(&entries(&gram), &entries(&Mat::identity(u.ncols(), u.ncols())))
}

/// Vectors of PyTorch 2.15 and NumPy 2.4 (scripts/oracle/matryoshka.py).
#[test]
fn pytorch_agrees() {
    let text = include_str!("../../../tests/vectors/matryoshka.json");
    let json: serde_json::Value = serde_json::from_str(text).expect("JSON");
    let tensor = |value: &serde_json::Value| -> Tensor<f64> {
        let shape: Vec<usize> = serde_json::from_value(value["shape"].clone()).expect("a shape");
        let data: Vec<f64> = serde_json::from_value(value["data"].clone()).expect("numbers");
        Tensor::from_vec(data, shape.try_into().expect("four sizes")).expect("it fits")
    };
    let numbers =
        |value: &serde_json::Value| -> Vec<usize> { serde_json::from_value(value.clone()).expect("ranks") };
    for case in json["attention"].as_array().expect("cases") {
        let list = |name: &str| -> Vec<Tensor<f64>> {
            case[name].as_array().expect("a list").iter().map(tensor).collect()
        };
        let (t, by) = (list("operands"), list("gradients"));
        let bases = Bases::new(matrices(&t[3]), matrices(&t[4])).expect("orthogonal");
        let ranks = Ranks { key: numbers(&case["key_ranks"]), value: numbers(&case["value_ranks"]) };
        let causal = case["causal"].as_bool().expect("a flag");
        let options = ExactOptions { causal, ..Default::default() };
        let [q, k, v] = [0, 1, 2].map(|i| t[i].view());
        let found = nested(q, k, v, &bases, &ranks, &options).expect("good operands");
        assert!(gap(found.output.as_slice(), tensor(&case["output"]).as_slice()) <= 1e-12);
        let upstream = tensor(&case["upstream"]);
        let found =
            nested_gradient(q, k, v, &bases, &ranks, &options, upstream.view()).expect("good operands");
        for (found, expected) in [&found.query, &found.key, &found.value].into_iter().zip(&by) {
            assert!(gap(found.as_slice(), expected.as_slice()) <= 1e-11);
        }
        for (found, expected) in [(&found.bases.key, &by[3]), (&found.bases.value, &by[4])] {
            let found: Vec<f64> = found.iter().flat_map(entries).collect();
            assert!(gap(&found, expected.as_slice()) <= 1e-11);
        }
    }
    for case in json["cayley"].as_array().expect("cases") {
        let [a, rotation, upstream, gradient] =
            ["a", "rotation", "upstream", "gradient"].map(|name| tensor(&case[name]));
        let (a, upstream) = (matrix(&a), matrix(&upstream));
        assert!(gap(&entries(&cayley(a.as_ref()).expect("a rotation")), rotation.as_slice()) <= 1e-13);
        let found = cayley_gradient(a.as_ref(), upstream.as_ref()).expect("a rotation");
        assert!(gap(&entries(&found), gradient.as_slice()) <= 1e-13);
    }
    let case = &json["divergence"];
    let (loss, gradient) =
        distillation(tensor(&case["teacher"]).view(), tensor(&case["student"]).view()).expect("finite");
    assert!((loss - case["loss"].as_f64().expect("a number")).abs() <= 1e-14);
    assert!(gap(gradient.as_slice(), tensor(&case["gradient"]).as_slice()) <= 1e-15);

    let case = &json["components"];
    let x = tensor(&case["x"]);
    let mut calibration = Calibration::new(1, 6, 6).expect("small");
    calibration.update(x.view(), x.view()).expect("finite");
    let found = calibration.bases().expect("tokens were seen");
    let expected = matrix(&tensor(&case["vectors"]));
    for j in 0..6 {
        // Up to its sign.
        let dot: f64 = (0..6).map(|i| expected[(i, j)] * found.key()[0][(i, j)]).sum();
        assert!((dot.abs() - 1.0).abs() <= 1e-9, "component {j}: {dot}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// All coordinates: exact attention, whatever the options; at every level, any threads.
    #[test]
    fn full_rank_is_exact(
        (batch, kv, group) in (1..3_usize, 1..3_usize, 1..3_usize), (n, s) in (1..9_usize, 1..9_usize),
        (d, e) in (1..9_usize, 1..20_usize), causal in any::<bool>(), seed in 0..1000_u64,
    ) {
        let heads = kv * group;
        let q: Tensor<f64> = random([batch, heads, n, d], seed);
        let (k, v): (Tensor<f64>, Tensor<f64>) = (random([batch, kv, s, d], seed + 1), random([batch, kv, s, e], seed + 2));
        let bias: Tensor<f64> = random([batch, heads, n, s], seed + 3);
        let mask: Vec<bool> = (0..batch * heads * n * s).map(|i| i % 5 != 0).collect();
        let mask = View::contiguous(&mask, [batch, heads, n, s]).expect("it fits");
        let options = ExactOptions { causal, bias: Some(bias.view()), mask: Some(mask), scale: None };
        let bases = bases(kv, d, e, seed);
        let expected = exact(q.view(), k.view(), v.view(), &options).expect("good operands");
        let all = bases.ranks(1.0).expect("in range");
        for found in levels(|| nested(q.view(), k.view(), v.view(), &bases, &all, &options)) {
            let found = found.expect("good operands");
            prop_assert!(gap(found.output.as_slice(), expected.output.as_slice()) <= 1e-10);
            prop_assert!(gap(found.lse.as_slice(), expected.lse.as_slice()) <= 1e-10);
        }
    }

    /// By operands, and by the matrices that Cayley's map makes the bases of.
    #[test]
    fn gradients_are_those_of_differences(
        (batch, kv, group) in (1..3_usize, 1..3_usize, 1..3_usize), (n, s) in (1..5_usize, 1..6_usize),
        (d, e) in (1..6_usize, 1..6_usize), causal in any::<bool>(), at in 0..50_usize, seed in 0..1000_u64,
    ) {
        let shapes = [
            [batch, kv * group, n, d], [batch, kv, s, d], [batch, kv, s, e], [1, kv, d, d], [1, kv, e, e],
        ];
        let t: Vec<Tensor<f64>> = shapes.into_iter().zip(seed..).map(|(shape, seed)| random(shape, seed)).collect();
        let start = bases(kv, d, e, seed);
        let ranks = ranks(kv, d, e, at);
        let options = ExactOptions { causal, ..Default::default() };
        let turned = |t: &Tensor<f64>, start: &[Mat<f64>]| -> Vec<Mat<f64>> {
            matrices(t).iter().zip(start).map(|(a, u)| u * cayley(a.as_ref()).expect("a rotation")).collect()
        };
        let moved = |t: &[Tensor<f64>]| Bases::new(turned(&t[3], start.key()), turned(&t[4], start.value())).expect("orthogonal");
        let output = |t: &[Tensor<f64>]| {
            nested(t[0].view(), t[1].view(), t[2].view(), &moved(t), &ranks, &options).expect("good operands").output
        };
        let upstream = random([batch, kv * group, n, e], seed + 20);
        let bases = moved(&t);
        let found = levels(|| {
            nested_gradient(t[0].view(), t[1].view(), t[2].view(), &bases, &ranks, &options, upstream.view())
        });
        for found in found {
            let NestedGradients { query, key, value, bases: by } = found.expect("good operands");
            let pulled = |which: usize, start: &[Mat<f64>], by: &[Mat<f64>]| {
                let each = matrices(&t[which]).iter().zip(start).zip(by).flat_map(|((a, u), by)| {
                    let by_rotation = u.transpose() * by;
                    entries(&cayley_gradient(a.as_ref(), by_rotation.as_ref()).expect("a rotation"))
                }).collect();
                Tensor::from_vec(each, t[which].shape()).expect("it fits")
            };
            let (by_key, by_value) = (pulled(3, start.key(), &by.key), pulled(4, start.value(), &by.value));
            check_gradients(&t, &[&query, &key, &value, &by_key, &by_value], &upstream, output);
        }
    }

    /// Cayley's map makes rotations of anything, and `(I - S)·R = I + S`.
    #[test]
    fn cayley_rotates(n in 1..12_usize, scale in -3..5_i32, seed in 0..1000_u64) {
        let a = matrix(&random([1, 1, n, n], seed)) * rankbit_linalg::faer::Scale(10.0_f64.powi(scale));
        let r = cayley(a.as_ref()).expect("a rotation");
        prop_assert!(residual(&r) <= 1e-9);
        let s = &a - a.transpose();
        let (plus, minus) = (Mat::<f64>::identity(n, n) + &s, Mat::<f64>::identity(n, n) - &s);
        let norm = 1.0 + s.norm_l2();
        prop_assert!(gap(&entries(&(&minus * &r)), &entries(&plus)) <= 1e-9 * norm);
    }

    /// The theorem: what r components lose is the sum of the other eigenvalues, and no other r directions lose less. And logits
    /// err by no more than the length of the query times what the key loses.
    #[test]
    fn components_lose_least((n, d) in (1..30_usize, 1..9_usize), r in 1..9_usize, seed in 0..1000_u64) {
        let r = r.min(d);
        let x: Tensor<f32> = random([1, 1, n, d], seed);
        let mut calibration = Calibration::new(1, d, d).expect("small");
        // In two parts: calibration streams.
        let (first, rest) = x.as_slice().split_at(n / 2 * d);
        for part in [first, rest] {
            let part = View::contiguous(part, [1, 1, part.len() / d, d]).expect("it fits");
            calibration.update(part, part).expect("finite");
        }
        let found = calibration.bases().expect("tokens were seen");
        let x = Mat::from_fn(n, d, |i, j| f64::from(x.as_slice()[i * d + j]));
        let lost = |u: &Mat<f64>| {
            let u = u.get(.., ..r);
            (&x - &x * u * u.transpose()).squared_norm_l2()
        };
        let squares = rankbit_linalg::singular_values(x.as_ref()).expect("finite");
        let tail: f64 = squares.iter().skip(r).map(|x| x * x).sum();
        let total: f64 = squares.iter().map(|x| x * x).sum();
        prop_assert!((lost(&found.key()[0]) - tail).abs() <= 1e-9 * total);
        for other in rotations(4, d, seed) {
            prop_assert!(lost(&other) >= tail - 1e-9 * total);
        }

        // Of one query: its lse moves by no more than the largest error of a logit.
        let query: Tensor<f64> = random([1, 1, 1, d], seed + 1);
        let key = Tensor::from_vec(entries(&x), [1, 1, n, d]).expect("it fits");
        let options = ExactOptions { scale: Some(1.0), ..Default::default() };
        let run = |rank| {
            let ranks = Ranks { key: vec![rank], value: vec![d] };
            let found = nested(query.view(), key.view(), key.view(), &found, &ranks, &options);
            found.expect("good operands").lse.as_slice()[0]
        };
        let u = found.key()[0].get(.., ..r);
        let rest = &x - &x * u * u.transpose();
        let worst = (0..n).map(|i| rest.row(i).norm_l2()).fold(0.0, f64::max);
        let length = query.as_slice().iter().map(|x| x * x).sum::<f64>().sqrt();
        prop_assert!((run(r) - run(d)).abs() <= length * worst + 1e-9);
    }

    /// The greedy search is optimal where losses add up and are convex in each rank, and meets its budget by one move at most.
    #[test]
    fn greedy_is_optimal_for_convex_sums(
        (d, e) in (1..5_usize, 1..5_usize), keep in 0.3..1.0_f64, costs in prop::collection::vec(0.1..5.0_f64, 4),
    ) {
        let layers = [bases(1, d, e, 1), bases(1, d, e, 2)];
        let all = 2 * (d + e);
        let keep = keep.max(4.0 / all as f64);
        let loss = |ranks: &[Ranks]| -> f64 {
            let each = ranks.iter().flat_map(|r| [(d, r.key[0]), (e, r.value[0])]);
            each.zip(&costs).map(|((size, rank), cost)| cost * ((size - rank) as f64).powi(2)).sum()
        };
        let options = BudgetOptions { step: 1, keep };
        let found = greedy(&layers, &options, |ranks| Ok::<_, Error>(loss(ranks))).expect("in range");
        let count = |ranks: &[Ranks]| ranks.iter().map(|r| r.key[0] + r.value[0]).sum::<usize>();
        let kept = count(&found.ranks);
        prop_assert!(kept as f64 <= keep * all as f64 && (kept + 1) as f64 > keep * all as f64);
        prop_assert!(found.path.windows(2).all(|pair| pair[1].0 < pair[0].0 && pair[1].1 >= pair[0].1));
        let mut best = f64::INFINITY;
        for (a, b, c, f) in (1..=d).flat_map(|a| (1..=e).flat_map(move |b| (1..=d).flat_map(move |c| (1..=e).map(move |f| (a, b, c, f))))) {
            if a + b + c + f == kept {
                let ranks = [Ranks { key: vec![a], value: vec![b] }, Ranks { key: vec![c], value: vec![f] }];
                best = best.min(loss(&ranks));
            }
        }
        prop_assert!((found.path.last().expect("not empty").1 - best).abs() <= 1e-9);
    }

    /// However many tokens come at a time, the same is stored; as f32 that gives the bits of attention at the ranks.
    #[test]
    fn the_cache_forgets_how_tokens_came(
        (batch, kv, group) in (1..3_usize, 1..3_usize, 1..3_usize), s in 1..200_usize, chunk in 1..90_usize,
        (d, e) in (1..9_usize, 1..9_usize), at in 0..50_usize, seed in 0..1000_u64,
    ) {
        let q: Tensor<f32> = random([batch, kv * group, 3, d], seed);
        let (k, v): (Tensor<f32>, Tensor<f32>) = (random([batch, kv, s, d], seed + 1), random([batch, kv, s, e], seed + 2));
        let (bases, ranks) = (bases(kv, d, e, seed), ranks(kv, d, e, at));
        let options = ExactOptions { causal: s >= 3, ..Default::default() };
        for scheme in [None, Some(scheme::INT8), Some(scheme::UINT4)] {
            let mut all = Cache::new(bases.clone(), ranks.clone(), batch, scheme).expect("good ranks");
            let mut parts = all.clone();
            all.append(k.view(), v.view()).expect("finite");
            for first in (0..s).step_by(chunk) {
                let len = chunk.min(s - first);
                let part = |t: &Tensor<f32>, dim: usize| {
                    let lines = (0..batch * kv).flat_map(|i| t.as_slice()[(i * s + first) * dim..][..len * dim].to_vec());
                    Tensor::from_vec(lines.collect(), [batch, kv, len, dim]).expect("it fits")
                };
                parts.append(part(&k, d).view(), part(&v, e).view()).expect("finite");
            }
            prop_assert_eq!(&all, &parts);
            prop_assert_eq!(all.tokens(), s);
            let found = all.attend(q.view(), &options).expect("good operands");
            if scheme.is_none() {
                let expected = nested(q.view(), k.view(), v.view(), &bases, &ranks, &options).expect("good operands");
                prop_assert_eq!(found, expected);
                let each: usize = ranks.key.iter().chain(&ranks.value).sum();
                prop_assert_eq!(all.stored_bits(), 32 * (batch * s * each) as u64);
            }
        }
    }
}

/// Fewer bits, more error; and the stored bits are those of codes and scales.
#[test]
fn bits_and_errors_of_the_cache() {
    let (s, d) = (640, 32);
    let t: [Tensor<f32>; 3] = [random([1, 4, 16, d], 1), random([1, 2, s, d], 2), random([1, 2, s, d], 3)];
    let bases = bases(2, d, d, 4);
    let half = bases.ranks(0.5).expect("in range");
    let options = ExactOptions::default();
    let expected =
        nested(t[0].view(), t[1].view(), t[2].view(), &bases, &half, &options).expect("good operands");
    let run = |scheme| {
        let mut cache = Cache::new(bases.clone(), half.clone(), 1, Some(scheme)).expect("good ranks");
        cache.append(t[1].view(), t[2].view()).expect("finite");
        let found = levels(|| cache.attend(t[0].view(), &options).expect("good operands").output);
        let worst = found.iter().map(|x| gap(x.as_slice(), expected.output.as_slice())).fold(0.0, f64::max);
        (cache.stored_bits(), worst)
    };
    // Keys and values of two heads, 16 coordinates of 8 or 4 bits and a scale of 16.
    let (bits, error) = run(scheme::INT8);
    assert_eq!(bits, 4 * 640 * (16 * 8 + 16));
    assert!(error > 0.0 && error <= 0.01, "{error}");
    let (fewer, larger) = run(scheme::INT4);
    assert_eq!(fewer, 4 * 640 * (16 * 4 + 16));
    assert!(larger > error && larger <= 0.1, "{larger}");
}

/// Single precision, more tokens than one task takes.
#[test]
fn single_precision_and_many_tokens() {
    let t: [Tensor<f64>; 3] =
        [random([1, 2, 300, 16], 1), random([1, 1, 300, 16], 2), random([1, 1, 300, 20], 3)];
    let (bases, ranks) = (bases(1, 16, 20, 4), Ranks { key: vec![10], value: vec![7] });
    let options = ExactOptions { causal: true, ..Default::default() };
    let expected =
        nested(t[0].view(), t[1].view(), t[2].view(), &bases, &ranks, &options).expect("good operands");
    let single = t.each_ref().map(rounded);
    let options = ExactOptions { causal: true, ..Default::default() };
    for found in
        levels(|| nested(single[0].view(), single[1].view(), single[2].view(), &bases, &ranks, &options))
    {
        assert!(gap(found.expect("good operands").output.as_slice(), expected.output.as_slice()) <= 2e-5);
    }
}
