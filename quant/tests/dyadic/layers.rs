//! Linear layers, convolutions, requantization and addition against the formulas in exact arithmetic.

use super::exact::{any_format, at, fraction, layer_dyadic, place, rounded, tensor, values, whole, window};
use proptest::prelude::*;
use rankbit_quant::Error;
use rankbit_quant::dyadic::integer::Wide;
use rankbit_quant::dyadic::{Conv2d, Dyadic, IntFormat, Linear, Requantize, Residual, Sums, Tensor, Window};

fn weights(len: usize) -> impl Strategy<Value = Vec<i8>> {
    prop::collection::vec(prop_oneof![4 => any::<i8>(), 1 => Just(i8::MIN), 1 => Just(i8::MAX)], len)
}

/// Some layers need i64: a large bias does it.
fn bias(len: usize) -> impl Strategy<Value = Vec<i32>> {
    prop_oneof![
        prop::collection::vec(-1000..1000, len),
        prop::collection::vec(prop_oneof![any::<i32>(), Just(i32::MIN), Just(i32::MAX)], len)
    ]
}

fn scales(channels: usize) -> impl Strategy<Value = Vec<Dyadic>> {
    prop_oneof![prop::collection::vec(layer_dyadic(), channels), prop::collection::vec(layer_dyadic(), 1)]
}

fn of_channel(scales: &[Dyadic], channel: usize) -> Dyadic {
    if scales.len() == 1 { scales[0] } else { scales[channel] }
}

/// `clamp(⌊acc·b/2^c + ½⌋)` of every sum.
fn requantized(
    sums: &[i64],
    shape: [usize; 4],
    scales: &[Dyadic],
    format: IntFormat,
    relu: bool,
) -> Vec<i64> {
    let low = if relu { 0 } else { i64::from(format.low()) };
    let channel = |i: usize| i / (shape[2] * shape[3]) % shape[1];
    let one = |(i, &sum): (usize, &i64)| {
        rounded(&(whole(sum) * fraction(of_channel(scales, channel(i)))), low, format.high().into())
    };
    sums.iter().enumerate().map(one).collect()
}

/// A linear layer, its weights and bias, codes that fit it, and scales for its sums.
fn linear() -> impl Strategy<Value = (Linear, Vec<i8>, Vec<i32>, Tensor, Vec<Dyadic>)> {
    let sizes = (0_usize..4, 1_usize..6, 1_usize..40, any_format());
    sizes.prop_flat_map(|(batch, out, features, format)| {
        let input = tensor([batch, 1, 1, features], format);
        (weights(out * features), bias(out), input, scales(out)).prop_map(
            move |(weights, bias, input, scales)| {
                let layer = Linear::new((out, features), weights.clone(), bias.clone(), format).unwrap();
                (layer, weights, bias, input, scales)
            },
        )
    })
}

/// A convolution and codes that fit it.
fn convolution() -> impl Strategy<Value = (Conv2d, Vec<i8>, Vec<i32>, usize, Tensor)> {
    let sizes =
        (1_usize..=3, 1_usize..=3, 1_usize..=3, 0_usize..=2, (1_usize..=7, 1_usize..=7), any_format());
    sizes.prop_flat_map(|(groups, per_out, per_in, batch, image, format)| {
        window(image).prop_flat_map(move |window| {
            let shape = [groups * per_out, per_in, window.kernel.0, window.kernel.1];
            let input = [batch, groups * per_in, image.0, image.1];
            (weights(shape.iter().product()), bias(shape[0]), tensor(input, format)).prop_map(
                move |(weights, bias, input)| {
                    let conv =
                        Conv2d::new(shape, weights.clone(), bias.clone(), window, groups, format).unwrap();
                    (conv, weights, bias, groups, input)
                },
            )
        })
    })
}

proptest! {
    #[test]
    fn linear_is_exact((layer, weights, bias, x, scales) in linear()) {
        let ((out, features), batch) = (layer.shape(), x.shape()[0]);
        let sums = layer.apply(&x).unwrap();
        let x = values(&x);
        let mut expected = Vec::new();
        for t in 0..batch {
            for o in 0..out {
                let products = (0..features).map(|k| x[t * features + k] * i64::from(weights[o * features + k]));
                expected.push(products.sum::<i64>() + i64::from(bias[o]));
            }
        }
        prop_assert_eq!(sums.to_i64(), expected.clone());
        prop_assert_eq!(matches!(sums.values(), Wide::I32(_)), i32::try_from(layer.bound()).is_ok());
        for (format, relu) in [(IntFormat::INT8, false), (IntFormat::UINT4, true), (IntFormat::INT4, true)] {
            let y = Requantize::new(scales.clone(), format, relu).unwrap().apply(&sums).unwrap();
            prop_assert_eq!(values(&y), requantized(&expected, [batch, out, 1, 1], &scales, format, relu));
            prop_assert_eq!((y.shape(), y.format()), ([batch, out, 1, 1], format));
        }
        let wide = Requantize::new(scales.clone(), IntFormat::INT8, false).unwrap().apply_wide(&sums).unwrap();
        let exact = expected.iter().enumerate().map(|(i, &sum)| {
            let exact = whole(sum) * fraction(of_channel(&scales, i % out));
            rounded(&exact, i32::MIN.into(), i32::MAX.into())
        });
        prop_assert_eq!(wide.to_i64(), exact.collect::<Vec<_>>());
    }

    #[test]
    fn convolution_is_exact((conv, weights, bias, groups, input) in convolution()) {
        let [batch, channels, height, width] = input.shape();
        let (out, window) = (conv.channels().0, *conv.window());
        let (rows, cols) = window.outputs((height, width)).unwrap();
        let sums = conv.apply(&input).unwrap();
        prop_assert_eq!(sums.shape(), [batch, out, rows, cols]);
        let (x, shape, per_in) = (values(&input), input.shape(), channels / groups);
        let mut expected = Vec::new();
        for (n, o) in (0..batch).flat_map(|n| (0..out).map(move |o| (n, o))) {
            let group = o / (out / groups);
            for (y, col) in (0..rows).flat_map(|y| (0..cols).map(move |x| (y, x))) {
                let mut sum = i64::from(bias[o]);
                for c in 0..per_in {
                    for i in 0..window.kernel.0 {
                        for j in 0..window.kernel.1 {
                            let v = place(y, i, window.stride.0, window.padding.0, window.dilation.0);
                            let h = place(col, j, window.stride.1, window.padding.1, window.dilation.1);
                            let w = weights[((o * per_in + c) * window.kernel.0 + i) * window.kernel.1 + j];
                            let x = at(&x, shape, [n, group * per_in + c], v, h).unwrap_or(0);
                            sum += x * i64::from(w);
                        }
                    }
                }
                expected.push(sum);
            }
        }
        prop_assert_eq!(sums.to_i64(), expected.clone());
        prop_assert!(expected.iter().all(|sum| sum.unsigned_abs() <= conv.bound()));
    }

    #[test]
    fn addition_is_exact(
        left in prop::collection::vec(any::<i32>(), 12),
        right in prop::collection::vec(prop_oneof![any::<i64>(), -(1_i64 << 36)..1 << 36], 12),
        (l, r) in (scales(3), scales(3)),
        format in any_format(),
        relu in any::<bool>(),
    ) {
        let shape = [2, 3, 1, 2];
        let add = Residual::new(l.clone(), r.clone(), format, relu).unwrap();
        let (a, b) = (Wide::I32(left.clone()), Wide::I64(right.clone()));
        let y = add.apply(&Sums::new(shape, a).unwrap(), &Sums::new(shape, b).unwrap()).unwrap();
        let low = if relu { 0 } else { i64::from(format.low()) };
        let limits = (i64::from(i32::MIN), i64::from(i32::MAX));
        let expected = (0..12).map(|i| {
            let channel = i / 2 % 3;
            let l = rounded(&(whole(left[i]) * fraction(of_channel(&l, channel))), limits.0, limits.1);
            let r = rounded(&(whole(right[i]) * fraction(of_channel(&r, channel))), limits.0, limits.1);
            (l + r).clamp(low, format.high().into())
        });
        prop_assert_eq!(values(&y), expected.collect::<Vec<_>>());
    }

    #[test]
    fn addition_is_within_one_of_the_exact_sum(
        (l, r) in (-200_000..200_000_i32, -200_000..200_000_i32),
        (a, b) in (layer_dyadic(), layer_dyadic()),
    ) {
        let exact = whole(l) * fraction(a) + whole(r) * fraction(b);
        let one = |value| Sums::new([1, 1, 1, 1], Wide::I32(vec![value])).unwrap();
        let add = Residual::new(vec![a], vec![b], IntFormat::INT8, false).unwrap();
        let y = values(&add.apply(&one(l), &one(r)).unwrap())[0];
        prop_assert!((-128..=127).contains(&y));
        if exact.clone() > whole(-128) && exact < whole(127) {
            let difference = whole(y) - exact;
            prop_assert!(difference <= whole(1) && difference >= whole(-1));
        }
    }

    #[test]
    fn codes_survive_a_scale_of_one(input in any_format().prop_flat_map(|f| tensor([2, 3, 2, 2], f))) {
        let same = Requantize::new(vec![Dyadic::ONE], input.format(), false).unwrap();
        prop_assert_eq!(&same.apply(&Sums::from(&input)).unwrap(), &input);
        let relu = Requantize::new(vec![Dyadic::ONE], input.format(), true).unwrap();
        prop_assert_eq!(relu.apply(&Sums::from(&input)).unwrap(), input.relu());
        let expected: Vec<i64> = values(&input).into_iter().map(|value| value.max(0)).collect();
        prop_assert_eq!(values(&input.relu()), expected);
    }
}

/// One output whose bound is `bound`, and the input that reaches it.
fn at_bound(bound: u64) -> (Linear, Tensor) {
    let rest = bound - 2 * 128 * 128;
    let bias = i32::try_from(rest).unwrap();
    let layer = Linear::new((1, 2), vec![-128, -128], vec![bias], IntFormat::INT8).unwrap();
    (layer, Tensor::new([1, 2, 1, 1], IntFormat::INT8, &[-128, -128]).unwrap())
}

#[test]
fn the_width_follows_from_the_bound_exactly() {
    let limit = u64::from(i32::MAX.unsigned_abs());
    for (bound, narrow) in [(limit, true), (limit + 1, false)] {
        let (layer, x) = at_bound(bound);
        assert_eq!(layer.bound(), bound);
        let sums = layer.apply(&x).unwrap();
        assert_eq!(matches!(sums.values(), Wide::I32(_)), narrow);
        assert_eq!(sums.to_i64(), [i64::try_from(bound).unwrap()], "the bound is reached");
    }
}

#[test]
fn rows_too_long_for_i32_are_summed_in_pieces() {
    let features = 200_000;
    let layer = Linear::new((1, features), vec![i8::MIN; features], vec![7], IntFormat::UINT8).unwrap();
    let x = Tensor::new([1, features, 1, 1], IntFormat::UINT8, &vec![255; features]).unwrap();
    assert_eq!(layer.apply(&x).unwrap().to_i64(), [7 - 128 * 255 * 200_000]);
}

#[test]
fn an_image_of_nothing_but_padding() {
    let window = Window { kernel: (2, 2), stride: (1, 1), padding: (1, 1), dilation: (1, 1) };
    let conv = Conv2d::new([1, 1, 2, 2], vec![1; 4], vec![5], window, 1, IntFormat::INT8).unwrap();
    for image in [(0, 0), (0, 3), (3, 0)] {
        let x = Tensor::new([1, 1, image.0, image.1], IntFormat::INT8, &[]).unwrap();
        let sums = conv.apply(&x).unwrap();
        assert!(sums.to_i64().iter().all(|&sum| sum == 5), "{image:?}");
        assert_eq!(sums.shape(), [1, 1, image.0 + 1, image.1 + 1]);
    }
}

#[test]
fn codes_of_another_format_are_refused() {
    let layer = Linear::new((1, 1), vec![1], vec![0], IntFormat::INT4).unwrap();
    let x = Tensor::new([1, 1, 1, 1], IntFormat::INT8, &[100]).unwrap();
    assert!(matches!(layer.apply(&x), Err(Error::InvalidLayer { .. })));
}
