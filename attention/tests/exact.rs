//! Exact attention: the formula in f64 at every instruction set, PyTorch's vectors, gradients, bad input.

use proptest::prelude::*;
use rankbit_attention::{Error, ExactOptions, Tensor, View, exact, exact_gradient, reference};

use crate::common::{check_gradients, gap, levels, output, random, rounded};

/// One problem's sizes: batch, key heads, query heads per key head, queries, keys, head_dim, value_dim.
type Sizes = (usize, usize, usize, usize, usize, usize, usize);

fn sizes() -> impl Strategy<Value = Sizes> {
    let tokens = prop_oneof![1..6_usize, 30..36_usize, 60..70_usize, 126..140_usize];
    (1..3_usize, 1..3_usize, 1..3_usize, tokens.clone(), tokens, 1..20_usize, 1..20_usize)
}

fn operands(sizes: Sizes, seed: u64) -> [Tensor<f64>; 3] {
    let (batch, kv, group, n, s, d, e) = sizes;
    let shapes = [[batch, kv * group, n, d], [batch, kv, s, d], [batch, kv, s, e]];
    [0, 1, 2].map(|i| random(shapes[i], seed + i as u64))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Any sizes, masks, biases, causality, at every level, in f32 and f64.
    #[test]
    fn it_is_the_formula(sizes in sizes(), seed in 0..1000_u64, causal: bool, masked: bool, biased: bool) {
        let [q, k, v] = operands(sizes, seed);
        let (n, s) = (sizes.3, sizes.4);
        let open: Vec<bool> = random::<f64>([1, 1, n, s], seed + 3).as_slice().iter().map(|x| *x > 0.5).collect();
        let bias = random::<f64>([sizes.0, sizes.1 * sizes.2, n, s], seed + 4);
        let mask_view = View::new(&open, bias.shape(), [0, 0, s, 1]).expect("it fits");
        let score = |at: [usize; 4]| {
            let hidden = masked && !open[at[2] * s + at[3]] || causal && at[3] + n > at[2] + s;
            if hidden { f64::NEG_INFINITY } else if biased { bias.view().get(at).unwrap() } else { 0.0 }
        };
        let expected = reference::attention(q.view(), k.view(), v.view(), None, score).expect("good operands");
        let options = ExactOptions { causal, mask: masked.then_some(mask_view), bias: biased.then_some(bias.view()), scale: None };
        for found in levels(|| exact(q.view(), k.view(), v.view(), &options)) {
            let found = found.expect("good operands");
            prop_assert!(gap(found.output.as_slice(), expected.as_slice()) <= 1e-13);
            for (i, lse) in found.lse.as_slice().iter().enumerate() {
                let row = &found.output.as_slice()[i * sizes.6..(i + 1) * sizes.6];
                prop_assert!(lse.is_finite() || (*lse == f64::NEG_INFINITY && row.iter().all(|x| *x == 0.0)));
            }
        }
        let ([q, k, v], bias) = ([&q, &k, &v].map(rounded), rounded(&bias));
        let options = ExactOptions { causal, mask: masked.then_some(mask_view), bias: biased.then_some(bias.view()), scale: None };
        for found in levels(|| exact(q.view(), k.view(), v.view(), &options)) {
            prop_assert!(gap(output(found).as_slice(), expected.as_slice()) <= 2e-5);
        }
    }

    /// Gradients against differences, also where rows see nothing, and the same bits for any threads.
    #[test]
    fn gradients_are_those_of_differences(sizes in sizes(), seed in 0..1000_u64, causal: bool) {
        let [q, k, v] = operands(sizes, seed);
        let upstream = random([sizes.0, sizes.1 * sizes.2, sizes.3, sizes.6], seed + 3);
        let options = ExactOptions { causal, ..Default::default() };
        let run = |t: &[Tensor<f64>]| exact(t[0].view(), t[1].view(), t[2].view(), &options);
        let operands = [q, k, v];
        for found in levels(|| {
            let [q, k, v] = operands.each_ref().map(Tensor::view);
            exact_gradient(q, k, v, &options, &run(&operands).expect("good operands"), upstream.view())
        }) {
            let found = found.expect("good operands");
            check_gradients(&operands, &[&found.query, &found.key, &found.value], &upstream, |t| output(run(t)));
        }
    }
}

/// Vectors of PyTorch 2.15 (scripts/oracle/attention.py).
#[test]
fn pytorch_agrees() {
    let text = include_str!("../../tests/vectors/attention.json");
    let json: serde_json::Value = serde_json::from_str(text).expect("JSON");
    let tensor = |value: &serde_json::Value| {
        let shape: Vec<usize> = serde_json::from_value(value["shape"].clone()).expect("a shape");
        let data: Vec<f64> = serde_json::from_value(value["data"].clone()).expect("numbers");
        Tensor::from_vec(data, shape.try_into().expect("four sizes")).expect("it fits")
    };
    let cases = json["exact"].as_array().expect("cases");
    assert_eq!(cases.len(), 4);
    for case in cases {
        let [q, k, v, up, out] = ["q", "k", "v", "upstream", "output"].map(|name| tensor(&case[name]));
        let bias = (!case["bias"].is_null()).then(|| tensor(&case["bias"]));
        let causal = case["causal"].as_bool().expect("a flag");
        let options = ExactOptions { causal, bias: bias.as_ref().map(Tensor::view), ..Default::default() };
        let found = exact(q.view(), k.view(), v.view(), &options).expect("good operands");
        assert!(gap(found.output.as_slice(), out.as_slice()) <= 1e-12);
        let by =
            exact_gradient(q.view(), k.view(), v.view(), &options, &found, up.view()).expect("good operands");
        for (found, name) in [(by.query, "dq"), (by.key, "dk"), (by.value, "dv")] {
            assert!(gap(found.as_slice(), tensor(&case[name]).as_slice()) <= 1e-11, "{name}");
        }
    }
}

/// Strides of other layouts, and steps between features, change nothing.
#[test]
fn strides_change_nothing() {
    let (n, heads, d) = (37, 2, 5);
    let x = random::<f32>([1, n, heads, 2 * d], 1);
    let strided = View::new(x.as_slice(), [1, heads, n, d], [n * heads * 2 * d, 2 * d, heads * 2 * d, 2])
        .expect("it fits");
    let dense: Vec<f32> =
        (0..heads * n * d).map(|i| strided.get([0, i / d / n, i / d % n, i % d]).expect("inside")).collect();
    let dense = View::contiguous(&dense, [1, heads, n, d]).expect("it fits");
    let options = ExactOptions::default();
    assert_eq!(exact(strided, strided, strided, &options), exact(dense, dense, dense, &options));
}

#[test]
fn sizes_of_zero_and_hidden_rows() {
    let options = ExactOptions::<f32>::default();
    for (n, s) in [(0, 0), (0, 3), (3, 0)] {
        let (q, k) = (random::<f32>([2, 1, n, 4], 1), random([2, 1, s, 4], 2));
        let found = exact(q.view(), k.view(), k.view(), &options).expect("nothing to do");
        assert!(found.output.as_slice().iter().all(|x| *x == 0.0) && found.output.shape() == [2, 1, n, 4]);
        assert!(found.lse.as_slice().iter().all(|x| *x == f32::NEG_INFINITY));
        let by =
            exact_gradient(q.view(), k.view(), k.view(), &options, &found, q.view()).expect("nothing to do");
        assert!([by.query, by.key, by.value].iter().all(|x| x.as_slice().iter().all(|x| *x == 0.0)));
    }
    let empty = random::<f32>([0, 0, 3, 4], 1);
    assert!(exact(empty.view(), empty.view(), empty.view(), &options).is_ok());
    let wide = random::<f32>([1, 1, 3, 0], 1);
    assert!(matches!(
        exact(wide.view(), wide.view(), wide.view(), &options),
        Err(Error::InvalidOption { .. })
    ));
}

#[test]
fn large_scores() {
    let options = ExactOptions { scale: Some(1.0), ..Default::default() };
    // Scores ±1e30: a hard maximum.
    let (q, k) = (vec![1e15_f32, 1e15], vec![1e15_f32, -1e15, 0.0]);
    let v = vec![3.0_f32, 5.0, 7.0];
    let view = |x: &'static [f32]| View::contiguous(x, [1, 1, x.len(), 1]).expect("it fits");
    let [q, k, v] = [q, k, v].map(|x| view(x.leak()));
    for found in levels(|| exact(q, k, v, &options)) {
        assert_eq!(output(found).as_slice(), [3.0, 3.0]);
    }
    // And those that leave f32.
    let q = view(&[1.0, 1e30]);
    for found in levels(|| exact(q, view(&[1e30, 1.0, 2.0]), v, &options)) {
        assert_eq!(found, Err(Error::Overflow { batch: 0, head: 0, token: 1 }));
    }
}

#[test]
fn bad_input_is_refused() {
    let x = random::<f32>([1, 2, 5, 4], 1);
    let options = ExactOptions::default();
    for (bad, what) in [([1, 2, 5, 3], "key"), ([2, 2, 5, 4], "key"), ([1, 2, 4, 4], "value")] {
        let bad = random::<f32>(bad, 2);
        let (k, v) = if what == "key" { (bad.view(), x.view()) } else { (x.view(), bad.view()) };
        let found = exact(x.view(), k, v, &options);
        assert!(matches!(found, Err(Error::ShapeMismatch { what: named, .. }) if named == what), "{found:?}");
    }
    let three = random::<f32>([1, 3, 5, 4], 2);
    assert!(matches!(
        exact(x.view(), three.view(), three.view(), &options),
        Err(Error::InvalidOption { .. })
    ));
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut bad = x.clone();
        bad.as_mut_slice()[27] = value;
        let refused = |found: Result<_, Error>, name| {
            assert_eq!(found.err(), Some(Error::NonFinite { what: name, index: [0, 1, 1, 3] }));
        };
        refused(exact(bad.view(), x.view(), x.view(), &options), "query");
        refused(exact(x.view(), bad.view(), x.view(), &options), "key");
        refused(exact(x.view(), x.view(), bad.view(), &options), "value");
    }
    for scale in [f64::NAN, f64::INFINITY, 1e300] {
        let options = ExactOptions { scale: Some(scale), ..Default::default() };
        assert!(matches!(exact(x.view(), x.view(), x.view(), &options), Err(Error::InvalidOption { .. })));
    }
    let short = [true; 9];
    let mask = View::contiguous(&short, [1, 1, 3, 3]).expect("it fits");
    let options = ExactOptions { mask: Some(mask), ..Default::default() };
    assert!(matches!(
        exact(x.view(), x.view(), x.view(), &options),
        Err(Error::ShapeMismatch { what: "mask", .. })
    ));
    let options = ExactOptions::default();
    let found = exact(x.view(), x.view(), x.view(), &options).expect("good operands");
    let wrong = exact_gradient(x.view(), x.view(), x.view(), &options, &found, three.view());
    assert!(matches!(wrong, Err(Error::ShapeMismatch { what: "output gradient", .. })));
    for value in [f32::NAN, f32::INFINITY] {
        let mut found = found.clone();
        found.lse.as_mut_slice()[7] = value;
        let wrong = exact_gradient(x.view(), x.view(), x.view(), &options, &found, x.view());
        assert_eq!(wrong, Err(Error::NonFinite { what: "lse", index: [0, 1, 2, 0] }));
    }
}

#[test]
fn views_that_do_not_fit_are_refused() {
    let data = [0.0_f32; 12];
    let huge = usize::MAX / 2;
    for (shape, strides) in [
        ([1, 1, 4, 4], [0, 0, 4, 1]),
        ([2, 1, 3, 4], [1, 0, 4, 1]),
        ([1, 1, 3, 4], [0, 0, huge, huge]),
        ([huge, 4, 1, 1], [0; 4]),
    ] {
        assert!(View::new(&data, shape, strides).is_err());
    }
    assert!(View::new(&data, [huge, huge, 0, 4], [huge; 4]).is_ok());
    assert!(Tensor::from_vec(vec![0.0_f32; 3], [1, 1, 2, 2]).is_err());
}

/// A row whose mask hides everything: output 0, lse -∞, no part in any gradient.
#[test]
fn a_row_that_is_all_masked() {
    let [q, k, v] = operands((1, 1, 1, 40, 50, 4, 3), 1);
    let open: Vec<bool> = (0..40 * 50).map(|at| at / 50 != 33).collect();
    let mask = View::contiguous(&open, [1, 1, 40, 50]).expect("it fits");
    let options = ExactOptions { mask: Some(mask), ..Default::default() };
    let upstream = random([1, 1, 40, 3], 5);
    for (found, by) in levels(|| {
        let found = exact(q.view(), k.view(), v.view(), &options).expect("good operands");
        let by = exact_gradient(q.view(), k.view(), v.view(), &options, &found, upstream.view());
        (found, by.expect("good operands"))
    }) {
        assert_eq!(found.lse.as_slice()[33], f64::NEG_INFINITY);
        assert_eq!(found.output.as_slice()[33 * 3..34 * 3], [0.0; 3]);
        assert_eq!(by.query.as_slice()[33 * 4..34 * 4], [0.0; 4]);
        let finite =
            [&by.query, &by.key, &by.value].iter().all(|x| x.as_slice().iter().all(|x| x.is_finite()));
        assert!(finite && by.query.as_slice()[0] != 0.0);
    }
}

/// Biases of ±1e30: a hard choice, and no NaN.
#[test]
fn biases_of_any_size() {
    let [q, k, v] = operands((1, 1, 1, 3, 4, 4, 2), 1).each_ref().map(rounded);
    let mut bias = vec![0.0_f32; 12];
    bias[1] = 1e30;
    bias[4..8].fill(-1e30);
    bias[6] = 1e30;
    let bias = View::contiguous(&bias, [1, 1, 3, 4]).expect("it fits");
    let options = ExactOptions { bias: Some(bias), ..Default::default() };
    for found in levels(|| exact(q.view(), k.view(), v.view(), &options)) {
        let found = output(found);
        assert_eq!(found.as_slice()[..2], v.as_slice()[2..4]);
        assert_eq!(found.as_slice()[2..4], v.as_slice()[4..6]);
        assert!(found.as_slice().iter().all(|x| x.is_finite()));
    }
}
