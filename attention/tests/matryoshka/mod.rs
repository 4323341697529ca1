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
    let text = include_str!("../../tests/vectors/matryoshka.json");
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

/// A network of one attention layer and a readout, whose logits see few directions of the values, and not the loudest. The source's
/// claim: principal components lose it at low ranks, training by the divergence of the logits finds it, for all ranks at once.
#[test]
fn training_beats_components_at_every_rank() {
    let (heads, n, d, classes) = (2, 24, 8, 5);
    let shape = [1, heads, n, d];
    // Loud channels that the readout does not see, and that queries do not ask for.
    let loud = |t: Tensor<f64>| {
        let data =
            t.as_slice().iter().enumerate().map(|(i, x)| if i % d < 4 { 4.0 * x } else { *x }).collect();
        Tensor::from_vec(data, shape).expect("it fits")
    };
    let quiet = |t: Tensor<f64>| {
        let data = t
            .as_slice()
            .iter()
            .enumerate()
            .map(|(i, x)| if i % d < 4 { 0.02 * x } else { 2.0 * x })
            .collect();
        Tensor::from_vec(data, t.shape()).expect("it fits")
    };
    let (q, k, v) = (quiet(random(shape, 1)), loud(random(shape, 2)), loud(random(shape, 3)));
    let readout = quiet(random([1, heads, classes, d], 4));
    // logits[token, class] = Σ over heads and channels.
    let logits = |output: &Tensor<f64>| {
        let at = |i: usize, c: usize| -> f64 {
            let head = |h: usize| {
                let (o, w) = (
                    &output.as_slice()[(h * n + i) * d..][..d],
                    &readout.as_slice()[(h * classes + c) * d..][..d],
                );
                o.iter().zip(w).map(|(o, w)| o * w).sum::<f64>()
            };
            (0..heads).map(head).sum()
        };
        Tensor::from_vec((0..n * classes).map(|i| at(i / classes, i % classes)).collect(), [1, 1, n, classes])
            .expect("it fits")
    };
    let options = ExactOptions::default();
    let teacher = logits(&exact(q.view(), k.view(), v.view(), &options).expect("good operands").output);
    let loss = |bases: &Bases, ranks: &Ranks| {
        let found = nested(q.view(), k.view(), v.view(), bases, ranks, &options).expect("good operands");
        distillation(teacher.view(), logits(&found.output).view()).expect("finite")
    };
    let gradient = |bases: &Bases, ranks: &Ranks| -> (f64, BasesGradient) {
        let (value, by) = loss(bases, ranks);
        let up = |at: usize| -> f64 {
            let (h, i, c) = (at / (n * d), at / d % n, at % d);
            (0..classes)
                .map(|class| {
                    by.as_slice()[i * classes + class] * readout.as_slice()[(h * classes + class) * d + c]
                })
                .sum()
        };
        let upstream = Tensor::from_vec((0..heads * n * d).map(up).collect(), shape).expect("it fits");
        let found = nested_gradient(q.view(), k.view(), v.view(), bases, ranks, &options, upstream.view());
        (value, found.expect("good operands").bases)
    };
    let mut calibration = Calibration::new(heads, d, d).expect("small");
    calibration.update(k.view(), v.view()).expect("finite");
    let before = calibration.bases().expect("tokens were seen");
    let settings = TrainOptions { steps: 800, rate: 0.03, ..Default::default() };
    let run = || {
        train(core::slice::from_ref(&before), &settings, |_, layers, ranks| {
            for u in layers[0].key().iter().chain(layers[0].value()) {
                assert!(residual(u) <= 1e-9);
            }
            let (value, by) = gradient(&layers[0], &ranks[0]);
            Ok::<_, Error>((value, vec![by]))
        })
        .expect("finite")
    };
    let trained = run();
    assert_eq!(trained, run(), "the same seed");
    assert_eq!(trained.losses.len(), 800);
    let after = &trained.layers[0];
    for u in after.key().iter().chain(after.value()) {
        assert!(residual(u) <= 1e-9);
    }
    let mut sums = [0.0, 0.0];
    for rank in 1..d {
        let ranks = before.ranks(rank as f64 / d as f64).expect("in range");
        let (before, after) = (loss(&before, &ranks).0, loss(after, &ranks).0);
        assert!(after < before, "rank {rank}: {before} before, {after} after");
        sums = [sums[0] + before, sums[1] + after];
    }
    assert!(sums[1] < 0.5 * sums[0], "{sums:?}");
    assert!(loss(after, &after.ranks(1.0).expect("in range")).0 <= 1e-12);
    // Ranks by the greedy search lose no more than equal ranks of the same budget.
    let found = greedy(core::slice::from_ref(after), &BudgetOptions { step: 1, keep: 0.5 }, |ranks| {
        Ok::<_, Error>(loss(after, &ranks[0]).0)
    });
    let equal = loss(after, &after.ranks(0.5).expect("in range")).0;
    assert!(found.expect("in range").path.last().expect("not empty").1 <= equal);
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

#[test]
fn bad_bases_and_ranks_are_refused() {
    let one = |size: usize| Mat::<f64>::identity(size, size);
    assert!(matches!(
        Bases::new(vec![one(2)], vec![]),
        Err(Error::ShapeMismatch { what: "value bases", .. })
    ));
    assert!(matches!(
        Bases::new(vec![one(2), one(3)], vec![one(2), one(2)]),
        Err(Error::ShapeMismatch { .. })
    ));
    assert!(matches!(Bases::new(vec![Mat::zeros(2, 3)], vec![one(2)]), Err(Error::ShapeMismatch { .. })));
    for bad in [1.1, f64::NAN, f64::INFINITY] {
        let mut basis = one(3);
        basis[(1, 1)] = bad;
        assert!(matches!(Bases::new(vec![basis], vec![one(2)]), Err(Error::NotOrthogonal { head: 0, .. })));
    }
    let empty = Bases::new(vec![], vec![]).expect("no heads");
    assert_eq!((empty.dims(), empty.ranks(0.5).expect("in range").key.len()), ((0, 0), 0));
    let bases = bases(2, 4, 3, 1);
    for bad in [0.0, -1.0, 1.5, f64::NAN] {
        assert!(matches!(bases.ranks(bad), Err(Error::InvalidOption { what: "fraction", .. })));
    }
    assert_eq!(bases.ranks(1e-9).expect("in range"), Ranks { key: vec![1, 1], value: vec![1, 1] });

    let good = bases.ranks(1.0).expect("in range");
    let t: [Tensor<f64>; 3] = [random([1, 4, 3, 4], 1), random([1, 2, 5, 4], 2), random([1, 2, 5, 3], 3)];
    let run = |t: &[Tensor<f64>; 3], ranks: &Ranks, options: &ExactOptions<'_, f64>| {
        let [q, k, v] = t.each_ref().map(Tensor::view);
        let found = nested(q, k, v, &bases, ranks, options);
        let upstream = Tensor::from_vec(vec![1.0; 36], [1, 4, 3, 3]).expect("it fits");
        let by = nested_gradient(q, k, v, &bases, ranks, options, upstream.view());
        assert_eq!(found.as_ref().err(), by.as_ref().err());
        found
    };
    let options = ExactOptions::default();
    assert!(run(&t, &good, &options).is_ok());
    for bad in [
        Ranks { key: vec![4], ..good.clone() },
        Ranks { value: vec![3; 3], ..good.clone() },
        Ranks { key: vec![4, 0], ..good.clone() },
        Ranks { value: vec![4, 3], ..good.clone() },
    ] {
        assert!(matches!(
            run(&t, &bad, &options),
            Err(Error::ShapeMismatch { .. } | Error::InvalidOption { .. })
        ));
        assert!(Cache::new(bases.clone(), bad, 1, None).is_err());
    }
    for (i, shape) in
        [(0, [1, 4, 3, 5]), (1, [1, 2, 5, 5]), (1, [1, 4, 5, 4]), (2, [1, 2, 5, 4]), (2, [1, 2, 4, 3])]
    {
        let mut bad = t.clone();
        bad[i] = random(shape, 1);
        assert!(matches!(run(&bad, &good, &options), Err(Error::ShapeMismatch { .. })), "{shape:?}");
    }
    for i in 0..3 {
        let mut bad = t.clone();
        bad[i].as_mut_slice()[2] = f64::NEG_INFINITY;
        assert!(matches!(run(&bad, &good, &options), Err(Error::NonFinite { .. })));
    }
    let bias = random([1, 2, 3, 5], 1);
    let narrow = ExactOptions { bias: Some(bias.view()), ..options };
    assert!(matches!(run(&t, &good, &narrow), Err(Error::ShapeMismatch { what: "bias", .. })));
    let mut huge = t.clone();
    huge[0].as_mut_slice().fill(1e200);
    huge[1].as_mut_slice().fill(1e200);
    assert!(matches!(run(&huge, &good, &options), Err(Error::Overflow { .. })));
    let upstream = random([1, 4, 3, 4], 1);
    let [q, k, v] = t.each_ref().map(Tensor::view);
    let by = nested_gradient(q, k, v, &bases, &good, &options, upstream.view());
    assert!(matches!(by, Err(Error::ShapeMismatch { what: "output gradient", .. })));
    // No tokens, no batch.
    for (n, s, batch) in [(0, 5, 1), (3, 0, 1), (3, 5, 0)] {
        let t: [Tensor<f64>; 3] =
            [random([batch, 4, n, 4], 1), random([batch, 2, s, 4], 2), random([batch, 2, s, 3], 3)];
        let [q, k, v] = t.each_ref().map(Tensor::view);
        let found = nested(q, k, v, &bases, &good, &options).expect("empty");
        assert!(found.output.as_slice().iter().all(|&x| x == 0.0));
        let by = nested_gradient(q, k, v, &bases, &good, &options, found.output.view()).expect("empty");
        assert!(by.bases.key.iter().all(|by| by.norm_max() == 0.0));
    }
}

#[test]
fn bad_steps_are_refused() {
    // Cayley.
    assert_eq!(cayley(Mat::<f64>::zeros(0, 0).as_ref()).expect("empty").shape(), (0, 0));
    assert!(matches!(cayley(Mat::<f64>::zeros(2, 3).as_ref()), Err(Error::ShapeMismatch { .. })));
    for bad in [f64::NAN, f64::INFINITY, 1e200, 1e30] {
        let a = Mat::from_fn(3, 3, |i, j| if (i, j) == (0, 1) { bad } else { (i + 2 * j) as f64 });
        let found = cayley(a.as_ref());
        match found {
            Ok(r) => assert!(residual(&r) <= 1e-9),
            Err(error) => assert!(matches!(error, Error::Linalg(_) | Error::NotOrthogonal { .. })),
        }
    }
    let a = MatRef::from_row_major_slice(&[0.0, 1.0, 2.0, 3.0], 2, 2);
    assert!(matches!(cayley_gradient(a, Mat::zeros(2, 3).as_ref()), Err(Error::ShapeMismatch { .. })));

    // Calibration.
    let mut calibration = Calibration::new(1, 2, 2).expect("small");
    assert!(matches!(calibration.bases(), Err(Error::Linalg(_))));
    assert!(matches!(Calibration::new(usize::MAX, 2, 2), Err(Error::TooLarge { .. })));
    let x: Tensor<f64> = random([1, 1, 3, 2], 1);
    let wide: Tensor<f64> = random([1, 1, 3, 3], 1);
    assert!(matches!(
        calibration.update(x.view(), wide.view()),
        Err(Error::ShapeMismatch { what: "value", .. })
    ));
    for bad in [f64::NAN, f64::INFINITY, 1e300] {
        let mut y = x.clone();
        y.as_mut_slice()[3] = bad;
        let found = calibration.update(x.view(), y.view());
        assert_eq!(found, Err(Error::NonFinite { what: "value", index: [0, 0, 1, 1] }));
    }
    assert!(matches!(calibration.bases(), Err(Error::Linalg(_))), "nothing was added");
    // Zeros have components too.
    let zeros = Tensor::from_vec(vec![0.0_f64; 6], [1, 1, 3, 2]).expect("it fits");
    calibration.update(zeros.view(), zeros.view()).expect("finite");
    assert!(calibration.bases().is_ok());

    // Training.
    let layers = [bases(1, 2, 2, 1)];
    let zero =
        |size| BasesGradient { key: vec![Mat::zeros(size, size)], value: vec![Mat::zeros(size, size)] };
    let run = |options: &TrainOptions, value: f64, by: Vec<BasesGradient>| {
        train(&layers, options, |_, _, _| Ok::<_, Error>((value, by.clone())))
    };
    let options = TrainOptions { steps: 2, ..Default::default() };
    assert_eq!(run(&options, 1.0, vec![zero(2)]).expect("nothing moves").losses, [1.0, 1.0]);
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(run(&TrainOptions { rate: bad, ..options.clone() }, 1.0, vec![zero(2)]).is_err());
        assert!(run(&TrainOptions { fractions: vec![bad], ..options.clone() }, 1.0, vec![zero(2)]).is_err());
    }
    assert!(run(&TrainOptions { fractions: vec![], ..options.clone() }, 1.0, vec![zero(2)]).is_err());
    assert!(matches!(run(&options, f64::NAN, vec![zero(2)]), Err(Error::NonFinite { what: "loss", .. })));
    assert!(matches!(run(&options, 1.0, vec![]), Err(Error::ShapeMismatch { .. })));
    assert!(matches!(run(&options, 1.0, vec![zero(3)]), Err(Error::ShapeMismatch { .. })));
    let mut nan = zero(2);
    nan.value[0][(1, 0)] = f64::NAN;
    assert!(matches!(run(&options, 1.0, vec![nan]), Err(Error::NonFinite { index: [0, 0, 1, 0], .. })));

    // Divergence: huge logits, and none.
    let teacher = Tensor::from_vec(vec![1e300_f64, -1e300], [1, 1, 1, 2]).expect("it fits");
    let (loss, by) = distillation(teacher.view(), teacher.view()).expect("finite");
    assert!(loss == 0.0 && by.as_slice() == [0.0, 0.0]);
    assert!(matches!(distillation(teacher.view(), x.view()), Err(Error::ShapeMismatch { .. })));
    let none = Tensor::from_vec(Vec::<f64>::new(), [1, 1, 3, 0]).expect("it fits");
    assert_eq!(distillation(none.view(), none.view()).expect("empty").0, 0.0);

    // Budget.
    let search =
        |step, keep, value: f64| greedy(&layers, &BudgetOptions { step, keep }, |_| Ok::<_, Error>(value));
    assert!(matches!(search(0, 0.5, 1.0), Err(Error::InvalidOption { what: "step", .. })));
    for bad in [0.0, 0.4, 1.5, f64::NAN] {
        assert!(matches!(search(1, bad, 1.0), Err(Error::InvalidOption { what: "keep", .. })), "{bad}");
    }
    assert!(matches!(search(1, 0.5, f64::NAN), Err(Error::NonFinite { what: "loss", .. })));
    assert_eq!(
        search(usize::MAX, 0.5, 1.0).expect("in range").ranks[0],
        Ranks { key: vec![1], value: vec![1] }
    );
    let none =
        greedy(&[], &BudgetOptions { step: 1, keep: 1.0 }, |_| Ok::<_, Error>(0.0)).expect("nothing to do");
    assert_eq!((none.ranks.len(), none.path.len()), (0, 1));
}

#[test]
fn bad_tokens_are_refused_by_the_cache() {
    let bases = bases(2, 4, 3, 1);
    let good = bases.ranks(1.0).expect("in range");
    let mut cache = Cache::new(bases.clone(), good.clone(), 1, Some(scheme::INT8)).expect("good ranks");
    let (k, v): (Tensor<f64>, Tensor<f64>) = (random([1, 2, 70, 4], 1), random([1, 2, 70, 3], 2));
    cache.append(k.view(), v.view()).expect("finite");
    let before = cache.clone();
    let narrow: Tensor<f64> = random([1, 2, 70, 3], 1);
    assert!(matches!(cache.append(narrow.view(), v.view()), Err(Error::ShapeMismatch { what: "key", .. })));
    let fewer: Tensor<f64> = random([1, 2, 60, 3], 1);
    assert!(matches!(cache.append(k.view(), fewer.view()), Err(Error::ShapeMismatch { what: "value", .. })));
    for (bad, far) in [(f64::NAN, false), (f64::INFINITY, false), (1e300, true)] {
        let mut v = v.clone();
        v.as_mut_slice()[200] = bad;
        let found = cache.append(k.view(), v.view());
        assert!(matches!(
            (found, far),
            (Err(Error::NonFinite { what: "value", .. }), false) | (Err(Error::Overflow { .. }), true)
        ));
    }
    assert_eq!(cache, before);
    let none: (Tensor<f64>, Tensor<f64>) = (random([1, 2, 0, 4], 1), random([1, 2, 0, 3], 1));
    cache.append(none.0.view(), none.1.view()).expect("nothing to do");
    assert_eq!(cache, before);

    let options = ExactOptions::default();
    for shape in [[1, 3, 2, 4], [2, 4, 2, 4], [1, 4, 2, 5]] {
        let q: Tensor<f64> = random(shape, 1);
        assert!(cache.attend(q.view(), &options).is_err(), "{shape:?}");
    }
    let mut q: Tensor<f64> = random([1, 4, 2, 4], 1);
    assert!(cache.attend(q.view(), &options).is_ok());
    q.as_mut_slice()[5] = f64::NAN;
    assert!(matches!(cache.attend(q.view(), &options), Err(Error::NonFinite { what: "query", .. })));
    // Nothing stored: zeros, as attention over no keys.
    let q: Tensor<f64> = random([1, 4, 2, 4], 1);
    let empty = Cache::new(bases.clone(), good.clone(), 1, None).expect("good ranks");
    let found = empty.attend(q.view(), &options).expect("no keys");
    assert!(found.output.as_slice().iter().all(|&x| x == 0.0));
    assert!(found.lse.as_slice().iter().all(|&x| x == f64::NEG_INFINITY));

    // Schemes that do not fit.
    for bad in [scheme::Q8_0, scheme::INT8.with_group(Group::Size(0))] {
        assert!(matches!(Cache::new(bases.clone(), good.clone(), 1, Some(bad)), Err(Error::Quant(_))));
    }
    assert!(matches!(Cache::new(bases, good, usize::MAX, None), Err(Error::TooLarge { .. })));
}
