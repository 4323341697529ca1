//! Calibration: scales, folding, and integer layers against their float ones.

use super::exact::values;
use proptest::prelude::*;
use rankbit_quant::dyadic::calibrate::{BatchNorm, Observed, conv2d, dyadic, linear, requantize, residual};
use rankbit_quant::dyadic::{Activation, IntFormat, Sums, Window};

fn floats(len: usize, size: f32) -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(-size..size, len)
}

proptest! {
    /// |y - S_y·y_int| ≤ S_y/2 + the rounding of inputs, weights and bias, until it saturates.
    #[test]
    fn an_integer_layer_is_close_to_its_float_twin(
        weight in floats(4 * 9, 0.5),
        bias in floats(4, 2.0),
        x in floats(3 * 9, 1.0),
        bits in 3_u8..=8,
        relu in any::<bool>(),
    ) {
        let format = IntFormat::new(bits, true).unwrap();
        let input = Activation::from_absmax(1.0, format).unwrap();
        let layer = linear((4, 9), &weight, &bias, bits, input).unwrap();
        let output = Activation::from_absmax(8.0, if relu { IntFormat::UINT8 } else { IntFormat::INT8 }).unwrap();
        let codes = input.quantize([3, 9, 1, 1], &x).unwrap();
        let y = requantize(&layer.scales, output, relu).unwrap().apply(&layer.layer.apply(&codes).unwrap()).unwrap();
        let y = output.dequantize(&y);
        let half_x = f64::from(input.scale()) / 2.0;
        for t in 0..3 {
            for o in 0..4 {
                let (x, w) = (&x[9 * t..9 * t + 9], &weight[9 * o..9 * o + 9]);
                let unit = f64::from(layer.scales[o]);
                let half_w = unit / f64::from(input.scale()) / 2.0;
                let (mut exact, mut bound) = (f64::from(bias[o]), 0.0);
                for (&x, &w) in x.iter().zip(w) {
                    let (x, w) = (f64::from(x), f64::from(w));
                    exact += x * w;
                    bound += x.abs() * half_w + w.abs() * half_x + half_w * half_x;
                }
                let exact = if relu { exact.max(0.0) } else { exact };
                let bound = (bound + unit / 2.0 + f64::from(output.scale()) / 2.0) * (1.0 + 1e-5);
                let difference = (f64::from(y[4 * t + o]) - exact).abs();
                prop_assert!(difference <= bound, "{} > {}", difference, bound);
            }
        }
    }

    /// A layer and its batch norm are one layer: (w'·x + b') = γ·(w·x + b - μ)/σ + β.
    #[test]
    fn folding_changes_nothing(
        (weight, bias) in (floats(3 * 5, 1.0), prop_oneof![floats(3, 1.0), Just(Vec::new())]),
        (gamma, beta, mean) in (floats(3, 2.0), floats(3, 2.0), floats(3, 2.0)),
        variance in prop::collection::vec(0.0_f32..4.0, 3),
        x in floats(5, 3.0),
    ) {
        let norm = BatchNorm { gamma: &gamma, beta: &beta, mean: &mean, variance: &variance, epsilon: 1e-3 };
        let (w, b) = norm.fold(&weight, &bias).unwrap();
        for o in 0..3 {
            let dot = |w: &[f32]| w[5 * o..5 * o + 5].iter().zip(&x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum::<f64>();
            let before = dot(&weight) + bias.get(o).map_or(0.0, |b| f64::from(*b));
            let factor = f64::from(gamma[o]) / (f64::from(variance[o]) + f64::from(1e-3_f32)).sqrt();
            let expected = factor * (before - f64::from(mean[o])) + f64::from(beta[o]);
            let found = dot(&w) + f64::from(b[o]);
            // Every folded number was rounded to f32 once.
            let size: f64 = w[5 * o..5 * o + 5].iter().zip(&x).map(|(w, x)| f64::from((w * x).abs())).sum();
            let bound = 2.0_f64.powi(-23) * (size + f64::from(b[o].abs())) + 1e-12;
            prop_assert!((found - expected).abs() <= bound, "{found} and {expected}");
        }
    }

    /// Two branches of one activation, added: within a unit of the real sum, and of what the codes lost.
    #[test]
    fn branches_are_aligned(x in floats(8, 1.0), z in floats(8, 0.25)) {
        let (a, b) = (
            Activation::from_absmax(1.0, IntFormat::INT8).unwrap(),
            Activation::from_absmax(0.25, IntFormat::INT4).unwrap(),
        );
        let output = Activation::from_absmax(1.25, IntFormat::INT8).unwrap();
        let shape = [1, 8, 1, 1];
        let (l, r) = (a.quantize(shape, &x).unwrap(), b.quantize(shape, &z).unwrap());
        let add = residual(&[a.scale()], &[b.scale()], output, false).unwrap();
        let y = output.dequantize(&add.apply(&Sums::from(&l), &Sums::from(&r)).unwrap());
        for ((y, x), z) in y.iter().zip(&x).zip(&z) {
            let bound = output.scale() + (a.scale() + b.scale()) / 2.0;
            prop_assert!((y - (x + z)).abs() <= bound * 1.0001, "{y} for {x} + {z}");
        }
    }
}

#[test]
fn a_dead_channel_keeps_its_bias() {
    let input = Activation::from_absmax(1.0, IntFormat::UINT8).unwrap();
    // Nothing but zeros; nothing but dust beside a bias (as a batch norm with γ ≈ 0 leaves it); and an ordinary channel.
    let weight = [0.0, 0.0, 1e-12, -3e-12, 0.5, -0.25];
    let bias = [1.5, -0.75, 0.125];
    let layer = linear((3, 2), &weight, &bias, 8, input).unwrap();
    let output = Activation::from_absmax(2.0, IntFormat::INT8).unwrap();
    let x = input.quantize([1, 2, 1, 1], &[1.0, 1.0]).unwrap();
    let y = requantize(&layer.scales, output, false).unwrap().apply(&layer.layer.apply(&x).unwrap()).unwrap();
    // 1.5, -0.75 and 0.375 in units of 2/127.
    assert_eq!(values(&y), [95, -48, 24]);
    // Nothing at all is fine too.
    let layer = linear((1, 2), &[0.0, 0.0], &[], 4, input).unwrap();
    assert_eq!((layer.scales[0], layer.layer.apply(&x).unwrap().to_i64()), (input.scale(), vec![0]));
}

#[test]
fn weights_use_their_whole_range_per_channel() {
    let input = Activation::new(1.0, IntFormat::INT8).unwrap();
    let window = Window::square(1);
    let conv = conv2d([2, 2, 1, 1], &[1.0, -0.4, 100.0, 25.0], &[], window, 1, 4, input).unwrap();
    assert_eq!(conv.scales, [1.0 / 7.0, 100.0 / 7.0]);
    // 7, -2.8, 7 and 1.75 round to 7, -3, 7 and 2.
    let x = |values: &[f32]| input.quantize([1, 2, 1, 1], values).unwrap();
    assert_eq!(conv.layer.apply(&x(&[1.0, 0.0])).unwrap().to_i64(), [7, 7]);
    assert_eq!(conv.layer.apply(&x(&[0.0, 1.0])).unwrap().to_i64(), [-3, 2]);
}

#[test]
fn ranges_become_formats() {
    let mut extremes = Observed::extremes();
    assert_eq!(extremes.activation(8).unwrap(), Activation::new(1.0, IntFormat::UINT8).unwrap());
    extremes.see(&[0.0, 2.0]).unwrap();
    extremes.see(&[]).unwrap();
    extremes.see(&[1.0, 5.1]).unwrap();
    assert_eq!(extremes.activation(8).unwrap(), Activation::new(5.1 / 255.0, IntFormat::UINT8).unwrap());
    extremes.see(&[-12.7]).unwrap();
    assert_eq!(extremes.activation(8).unwrap(), Activation::new(12.7 / 127.0, IntFormat::INT8).unwrap());
    assert_eq!(extremes.range(), (-12.7, 5.1));
    let mut running = Observed::running(0.75).unwrap();
    running.see(&[-1.0, 4.0]).unwrap();
    running.see(&[-5.0, 8.0]).unwrap();
    assert_eq!(running.range(), (-2.0, 5.0));
}

#[test]
fn activations_saturate_and_round_to_even() {
    let activation = Activation::new(0.5, IntFormat::INT4).unwrap();
    let codes = activation.quantize([1, 6, 1, 1], &[0.25, 0.75, -0.25, 100.0, -100.0, f32::MAX]).unwrap();
    assert_eq!(values(&codes), [0, 2, 0, 7, -8, 7]);
    assert_eq!(activation.dequantize(&codes), [0.0, 1.0, 0.0, 3.5, -4.0, 3.5]);
}

#[test]
fn the_scale_of_a_requantization_is_one_quotient() {
    let output = Activation::new(0.3, IntFormat::INT8).unwrap();
    let expected = dyadic(f64::from(0.007_f32) / f64::from(0.3_f32)).unwrap();
    let step = requantize(&[0.007], output, false).unwrap();
    let by_hand = rankbit_quant::dyadic::Requantize::new(vec![expected], IntFormat::INT8, false).unwrap();
    assert_eq!(step, by_hand);
}
