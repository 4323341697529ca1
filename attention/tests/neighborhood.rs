//! Neighborhood attention: NATTEN's definition as masks, its identities, vectors, gradients, bad input.

use proptest::prelude::*;
use rankbit_attention::{
    Axis, Error, ExactOptions, NeighborhoodOptions, Tensor, exact, neighborhood, neighborhood_gradient,
    reference,
};

use crate::common::{check_gradients, gap, levels, output, random, rounded};

/// One axis of up to `most` tokens with any window, stride, dilation and causality that it allows.
fn axis(most: usize) -> impl Strategy<Value = Axis> {
    (1..=most, any::<bool>())
        .prop_flat_map(|(length, causal)| (Just(length), 1..=length, Just(causal)))
        .prop_flat_map(|(length, window, causal)| {
            (1..=length / window, 1..=window).prop_map(move |(dilation, stride)| Axis {
                length,
                window,
                stride,
                dilation,
                causal,
            })
        })
}

fn axes() -> impl Strategy<Value = Vec<Axis>> {
    prop_oneof![
        prop::collection::vec(axis(90), 1),
        prop::collection::vec(axis(12), 2),
        prop::collection::vec(axis(5), 3)
    ]
}

/// Whether query i sees key j, axis by axis, from the definition of the source on whole groups.
fn sees(axes: &[Axis], mut i: usize, mut j: usize) -> bool {
    axes.iter().rev().all(|axis| {
        let (a, b) = (i % axis.length, j % axis.length);
        (i, j) = (i / axis.length, j / axis.length);
        if a % axis.dilation != b % axis.dilation {
            return false;
        }
        let group: Vec<usize> = (a % axis.dilation..axis.length).step_by(axis.dilation).collect();
        let (a, len, w, s) = (a / axis.dilation, group.len(), axis.window, axis.stride);
        let key = i64::try_from(b / axis.dilation).unwrap();
        let [a, len, w, s] = [a, len, w, s].map(|x| i64::try_from(x).unwrap());
        if axis.causal {
            let leader = (a / s * s + s - 1).min(len - 1);
            (leader - w + 1).max(0) <= key && key <= a
        } else {
            let leader = (a / s * s + s / 2).min(len - 1);
            let start = (leader - w / 2).clamp(0, len - w);
            start <= key && key < start + w
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// The masked formula in f64, for any axes, extra keys and grouped heads, at every level.
    #[test]
    fn it_is_masked_attention(axes in axes(), extra in 0..4_usize, group in 1..3_usize, d in 1..9_usize, seed in 0..1000_u64) {
        let tokens: usize = axes.iter().map(|axis| axis.length).product();
        let q = random::<f64>([1, 2 * group, tokens, d], seed);
        let [k, v] = [1, 2].map(|i| random::<f64>([1, 2, tokens, d], seed + i));
        let [ek, ev] = [3, 4].map(|i| random::<f64>([1, 2, extra, d], seed + i));
        let join = |a: &Tensor<f64>, b: &Tensor<f64>| {
            let data = (0..2).flat_map(|h| {
                let of = |x: &Tensor<f64>, n: usize| x.as_slice()[h * n * d..(h + 1) * n * d].to_vec();
                [of(a, tokens), of(b, extra)].concat()
            });
            Tensor::from_vec(data.collect(), [1, 2, tokens + extra, d]).expect("it fits")
        };
        let score = |at: [usize; 4]| if at[3] >= tokens || sees(&axes, at[2], at[3]) { 0.0 } else { f64::NEG_INFINITY };
        let (all_k, all_v) = (join(&k, &ek), join(&v, &ev));
        let expected = reference::attention(q.view(), all_k.view(), all_v.view(), None, score).expect("good operands");
        let options = NeighborhoodOptions { extra: Some((ek.view(), ev.view())), ..Default::default() };
        for found in levels(|| neighborhood(q.view(), k.view(), v.view(), &axes, &options)) {
            prop_assert!(gap(output(found).as_slice(), expected.as_slice()) <= 1e-13);
        }
        let [q, k, v, ek, ev] = [&q, &k, &v, &ek, &ev].map(rounded);
        let options = NeighborhoodOptions { extra: Some((ek.view(), ev.view())), ..Default::default() };
        for found in levels(|| neighborhood(q.view(), k.view(), v.view(), &axes, &options)) {
            prop_assert!(gap(output(found).as_slice(), expected.as_slice()) <= 1e-5);
        }
    }

    /// The axis' neighbors are those of the definition; without causality there are exactly `window`.
    #[test]
    fn neighbors_are_those_of_the_definition(axis in axis(40)) {
        for i in 0..axis.length {
            let found: Vec<usize> = axis.neighbors(i).unwrap().unwrap().collect();
            let expected: Vec<usize> = (0..axis.length).filter(|&j| sees(&[axis], i, j)).collect();
            prop_assert_eq!(&found, &expected);
            prop_assert!(axis.causal && found.contains(&i) || found.len() == axis.window);
        }
        prop_assert!(axis.neighbors(axis.length).unwrap().is_none());
    }

    /// Gradients by all operands against differences.
    #[test]
    fn gradients_are_those_of_differences(axes in axes(), seed in 0..1000_u64) {
        let tokens: usize = axes.iter().map(|axis| axis.length).product();
        let shapes = [[1, 2, tokens, 3], [1, 1, tokens, 3], [1, 1, tokens, 2], [1, 1, 2, 3], [1, 1, 2, 2]];
        let operands: Vec<Tensor<f64>> = shapes.iter().zip(seed..).map(|(&shape, seed)| random(shape, seed)).collect();
        let upstream = random([1, 2, tokens, 2], seed + 9);
        let run = |t: &[Tensor<f64>]| {
            let options = NeighborhoodOptions { extra: Some((t[3].view(), t[4].view())), scale: Some(0.7) };
            neighborhood(t[0].view(), t[1].view(), t[2].view(), &axes, &options)
        };
        for found in levels(|| {
            let t = &operands;
            let options = NeighborhoodOptions { extra: Some((t[3].view(), t[4].view())), scale: Some(0.7) };
            let result = run(t).expect("good operands");
            neighborhood_gradient(t[0].view(), t[1].view(), t[2].view(), &axes, &options, &result, upstream.view())
        }) {
            let (by, extra) = found.expect("good operands");
            let extra = extra.expect("there are extra keys");
            let gradients = [&by.query, &by.key, &by.value, &extra.key, &extra.value];
            check_gradients(&operands, &gradients, &upstream, |t| output(run(t)));
        }
    }
}

#[test]
fn identities() {
    let x = random::<f32>([1, 2, 35, 8], 1);
    let run = |axes: &[Axis]| {
        output(neighborhood(x.view(), x.view(), x.view(), axes, &NeighborhoodOptions::default()))
    };
    let full =
        |causal| output(exact(x.view(), x.view(), x.view(), &ExactOptions { causal, ..Default::default() }));
    assert!(gap(run(&[Axis::new(35, 35)]).as_slice(), full(false).as_slice()) <= 1e-6);
    assert!(gap(run(&[Axis::new(7, 7), Axis::new(5, 5)]).as_slice(), full(false).as_slice()) <= 1e-6);
    assert!(
        gap(run(&[Axis { causal: true, ..Axis::new(35, 35) }]).as_slice(), full(true).as_slice()) <= 1e-6
    );
    // A window of one token hands back the value.
    assert!(gap(run(&[Axis::new(35, 1)]).as_slice(), x.as_slice()) <= 1e-6);
    // Stride = window: separate windows of 7.
    let windows = run(&[Axis { stride: 7, ..Axis::new(35, 7) }]);
    let moved = x.view();
    for w in 0..5 {
        let part: Vec<f32> =
            (0..2 * 7 * 8).map(|i| moved.get([0, i / 56, w * 7 + i / 8 % 7, i % 8]).unwrap()).collect();
        let part = Tensor::from_vec(part, [1, 2, 7, 8]).expect("it fits");
        let own = output(exact(part.view(), part.view(), part.view(), &ExactOptions::default()));
        let found: Vec<f32> = (0..2 * 7 * 8)
            .map(|i| windows.view().get([0, i / 56, w * 7 + i / 8 % 7, i % 8]).unwrap())
            .collect();
        assert!(gap(&found, own.as_slice()) <= 1e-6);
    }
}

/// Vectors of NATTEN's definition in NumPy (scripts/oracle/attention.py).
#[test]
fn natten_in_numpy_agrees() {
    let text = include_str!("../../tests/vectors/attention.json");
    let json: serde_json::Value = serde_json::from_str(text).expect("JSON");
    let cases = json["neighborhood"].as_array().expect("cases");
    assert_eq!(cases.len(), 5);
    for case in cases {
        let axes: Vec<Axis> = case["axes"]
            .as_array()
            .expect("axes")
            .iter()
            .map(|axis| {
                let size = |name: &str| usize::try_from(axis[name].as_u64().expect("a size")).expect("small");
                Axis {
                    length: size("length"),
                    window: size("window"),
                    stride: size("stride"),
                    dilation: size("dilation"),
                    causal: axis["causal"].as_bool().expect("a flag"),
                }
            })
            .collect();
        let [q, k, v, out] = ["q", "k", "v", "output"].map(|name| {
            let shape: [usize; 4] = serde_json::from_value(case[name]["shape"].clone()).expect("four sizes");
            Tensor::from_vec(serde_json::from_value(case[name]["data"].clone()).expect("numbers"), shape)
                .expect("it fits")
        });
        let out: Tensor<f64> = out;
        let found =
            output(neighborhood(q.view(), k.view(), v.view(), &axes, &NeighborhoodOptions::default()));
        assert!(gap(found.as_slice(), out.as_slice()) <= 1e-12);
    }
}

#[test]
fn bad_input_is_refused() {
    let x = random::<f32>([1, 1, 12, 4], 1);
    let run =
        |axes: &[Axis]| neighborhood(x.view(), x.view(), x.view(), axes, &NeighborhoodOptions::default());
    let good = Axis::new(12, 3);
    let refused = |axis: Axis, named: &str| {
        let found = run(&[axis]);
        assert!(matches!(found, Err(Error::InvalidOption { what, .. }) if what == named), "{found:?}");
        assert!(axis.neighbors(0).is_err());
    };
    refused(Axis::new(12, 13), "window");
    refused(Axis::new(12, 0), "window");
    refused(Axis { dilation: 5, ..good }, "dilation");
    refused(Axis { dilation: 0, ..good }, "dilation");
    refused(Axis { dilation: usize::MAX, ..good }, "dilation");
    refused(Axis { stride: 0, ..good }, "stride");
    refused(Axis { stride: 4, ..good }, "stride");
    assert!(matches!(run(&[]), Err(Error::InvalidOption { what: "axes", .. })));
    assert!(matches!(run(&[Axis::new(1, 1); 4]), Err(Error::InvalidOption { what: "axes", .. })));
    assert!(matches!(run(&[Axis::new(11, 3)]), Err(Error::ShapeMismatch { what: "query", .. })));
    let huge = Axis::new(usize::MAX, 1);
    assert!(matches!(run(&[huge, huge]), Err(Error::TooLarge { .. })));
    // No tokens: nothing to do. Even windows reach one further back.
    let none = random::<f32>([1, 1, 0, 4], 1);
    let found = neighborhood(
        none.view(),
        none.view(),
        none.view(),
        &[Axis::new(0, 3)],
        &NeighborhoodOptions::default(),
    );
    assert_eq!(output(found).shape(), [1, 1, 0, 4]);
    let even: Vec<usize> = Axis::new(12, 4).neighbors(5).unwrap().unwrap().collect();
    assert_eq!(even, [3, 4, 5, 6]);
    for value in [f32::NAN, f32::INFINITY] {
        let mut bad = x.clone();
        bad.as_mut_slice()[5] = value;
        let options = NeighborhoodOptions { extra: Some((bad.view(), x.view())), ..Default::default() };
        let found = neighborhood(x.view(), x.view(), x.view(), &[good], &options);
        assert_eq!(found, Err(Error::NonFinite { what: "extra key", index: [0, 0, 1, 1] }));
    }
    // Scores of ±1e30: the largest wins, as in the formula.
    let mut data = vec![0.0_f32; 12];
    data[4] = 1e30;
    let key = Tensor::from_vec(data.clone(), [1, 1, 12, 1]).expect("it fits");
    let one = Tensor::from_vec(vec![1.0_f32; 12], [1, 1, 12, 1]).expect("it fits");
    let value = random::<f32>([1, 1, 12, 1], 3);
    let found =
        output(neighborhood(one.view(), key.view(), value.view(), &[good], &NeighborhoodOptions::default()));
    assert_eq!(found.as_slice()[3..6], [value.as_slice()[4]; 3]);
}

#[test]
fn bad_operands_are_refused() {
    let x = random::<f32>([1, 2, 12, 4], 1);
    let (axes, options) = ([Axis::new(3, 2), Axis::new(4, 3)], NeighborhoodOptions::default());
    let run = |q: &Tensor<f32>, k: &Tensor<f32>, v: &Tensor<f32>| {
        neighborhood(q.view(), k.view(), v.view(), &axes, &options)
    };
    let good = run(&x, &x, &x).expect("good operands");
    let (narrow, short) = (random::<f32>([1, 2, 12, 3], 2), random::<f32>([1, 2, 11, 4], 2));
    assert!(matches!(run(&x, &narrow, &x), Err(Error::ShapeMismatch { what: "key", .. })));
    assert!(matches!(run(&x, &x, &short), Err(Error::ShapeMismatch { what: "value", .. })));
    assert!(matches!(run(&short, &x, &x), Err(Error::ShapeMismatch { what: "query", .. })));
    assert!(matches!(run(&x, &short, &short), Err(Error::ShapeMismatch { what: "key", .. })));
    let extra = NeighborhoodOptions { extra: Some((narrow.view(), x.view())), scale: None };
    let found = neighborhood(x.view(), x.view(), x.view(), &axes, &extra);
    assert!(matches!(found, Err(Error::ShapeMismatch { what: "extra key", .. })));
    for value in [f32::NAN, f32::NEG_INFINITY] {
        let mut bad = x.clone();
        bad.as_mut_slice()[50] = value;
        let refused = |found: Result<_, Error>, what| {
            assert_eq!(found.err(), Some(Error::NonFinite { what, index: [0, 1, 0, 2] }));
        };
        refused(run(&bad, &x, &x), "query");
        refused(run(&x, &bad, &x), "key");
        refused(run(&x, &x, &bad), "value");
        let by = neighborhood_gradient(x.view(), x.view(), x.view(), &axes, &options, &good, bad.view());
        assert_eq!(by.err(), Some(Error::NonFinite { what: "output gradient", index: [0, 1, 0, 2] }));
    }
    let by = neighborhood_gradient(x.view(), x.view(), x.view(), &axes, &options, &good, narrow.view());
    assert!(matches!(by, Err(Error::ShapeMismatch { what: "output gradient", .. })));
    // Scores of 1e30 below all others weigh nothing, and scores beyond f32 are refused.
    let mut key = x.clone();
    key.as_mut_slice()[..4].fill(-1e30);
    let ones = Tensor::from_vec(vec![1.0_f32; 96], [1, 2, 12, 4]).expect("it fits");
    let (found, mut hidden) = (output(run(&ones, &key, &x)), x.clone());
    hidden.as_mut_slice()[..4].fill(7.0);
    assert_eq!(found, output(run(&ones, &key, &hidden)));
    key.as_mut_slice().iter_mut().for_each(|x| *x *= 1e10);
    key.as_mut_slice()[..4].fill(-1e38);
    let huge = Tensor::from_vec(vec![1e30_f32; 96], [1, 2, 12, 4]).expect("it fits");
    assert!(matches!(run(&huge, &key, &x), Err(Error::Overflow { batch: 0, head: 0, .. })));
    // No tokens: no gradients.
    let none = random::<f32>([1, 1, 0, 4], 1);
    let axes = [Axis::new(0, 3)];
    let found = neighborhood(none.view(), none.view(), none.view(), &axes, &options).expect("nothing to do");
    let by =
        neighborhood_gradient(none.view(), none.view(), none.view(), &axes, &options, &found, none.view());
    assert!(by.expect("nothing to do").0.query.as_slice().is_empty());
}
