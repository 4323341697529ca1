//! The gradient by a bias of exact attention: differences, what is shared, PyTorch's sums.

use proptest::prelude::*;
use rankbit_attention::{Error, ExactOptions, Tensor, View, exact, exact_gradient, exact_gradient_with_bias};

use crate::common::{check_gradients, gap, levels, output, random};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Any dimensions repeated, grouped heads, causal: differences of what is stored once, and the same bits for any threads.
    #[test]
    fn gradients_are_those_of_differences(
        (batch, kv, group) in (1..3_usize, 1..3_usize, 1..3_usize),
        (n, s) in (prop_oneof![1..6_usize, 126..140_usize], prop_oneof![1..6_usize, 110..120_usize]),
        repeated in [any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()],
        causal: bool,
        seed in 0..1000_u64,
    ) {
        let (heads, shape) = (kv * group, [batch, kv * group, n, s]);
        let own: [usize; 4] = core::array::from_fn(|i| if repeated[i] { 1 } else { shape[i] });
        let strides: [usize; 4] = core::array::from_fn(|i| {
            if repeated[i] { 0 } else { own[i + 1..].iter().product() }
        });
        let operands = [
            random::<f64>([batch, heads, n, 3], seed),
            random([batch, kv, s, 3], seed + 1),
            random([batch, kv, s, 2], seed + 2),
            random(own, seed + 3),
        ];
        let upstream = random([batch, heads, n, 2], seed + 4);
        let with = |t: &[Tensor<f64>], work: &mut dyn FnMut(&ExactOptions<'_, f64>)| {
            let bias = View::new(t[3].as_slice(), shape, strides).expect("it fits");
            work(&ExactOptions { bias: Some(bias), causal, ..Default::default() });
        };
        let run = |t: &[Tensor<f64>]| {
            let mut found = None;
            with(t, &mut |options| found = Some(exact(t[0].view(), t[1].view(), t[2].view(), options)));
            found.expect("it ran")
        };
        for found in levels(|| {
            let [q, k, v, _] = operands.each_ref().map(Tensor::view);
            let result = run(&operands).expect("good operands");
            let mut found = None;
            with(&operands, &mut |options| {
                let all = exact_gradient_with_bias(q, k, v, options, &result, upstream.view()).expect("good operands");
                let plain = exact_gradient(q, k, v, options, &result, upstream.view()).expect("good operands");
                assert!(gap(all.0.key.as_slice(), plain.key.as_slice()) <= 1e-13);
                found = Some(all);
            });
            found.expect("it ran")
        }) {
            let (by, bias) = found;
            let bias = bias.expect("there is a bias");
            check_gradients(&operands, &[&by.query, &by.key, &by.value, &bias], &upstream, |t| output(run(t)));
        }
    }
}

/// A number for all keys of a query changes nothing; no bias, no gradient; a hidden row has none; NaN is refused.
#[test]
fn what_changes_nothing() {
    let [q, k, v] = [1, 2, 3].map(|seed| random::<f64>([1, 2, 9, 4], seed));
    let upstream = random::<f64>([1, 2, 9, 4], 4);
    let numbers = random::<f64>([1, 1, 9, 1], 5);
    let bias = View::new(numbers.as_slice(), [1, 2, 9, 9], [0, 0, 1, 0]).expect("it fits");
    let run = |options: &ExactOptions<'_, f64>| {
        let found = exact(q.view(), k.view(), v.view(), options).expect("good operands");
        exact_gradient_with_bias(q.view(), k.view(), v.view(), options, &found, upstream.view())
            .expect("good operands")
            .1
    };
    let by = run(&ExactOptions { bias: Some(bias), ..Default::default() }).expect("there is a bias");
    assert_eq!(by.shape(), [1, 1, 9, 1]);
    assert!(gap(by.as_slice(), &[0.0; 9]) <= 1e-13);
    assert_eq!(run(&ExactOptions::default()), None);
    let full = random::<f64>([1, 2, 9, 9], 6);
    let open: Vec<bool> = (0..81).map(|at| at / 9 != 4).collect();
    let mask = View::new(&open, [1, 2, 9, 9], [0, 0, 9, 1]).expect("it fits");
    let options = ExactOptions { bias: Some(full.view()), mask: Some(mask), ..Default::default() };
    let by = run(&options).expect("there is a bias");
    assert!(by.as_slice()[4 * 9..5 * 9].iter().all(|x| *x == 0.0) && by.as_slice()[0] != 0.0);
    let nan = [f64::NAN];
    let bias = View::new(&nan, [1, 2, 9, 9], [0; 4]).expect("it fits");
    let options = ExactOptions { bias: Some(bias), ..Default::default() };
    let found = exact(q.view(), k.view(), v.view(), &options);
    assert!(matches!(found, Err(Error::NonFinite { what: "bias", .. })));
}
