//! Vectors that HAWQ's definitions and PyTorch gave (scripts/oracle/hawq_dyadic.py).

use super::exact::values;
use crate::common::{bytes, floats};
use rankbit_quant::dyadic::integer::Wide;
use rankbit_quant::dyadic::{
    Activation, Average, AveragePool, Conv2d, Dyadic, IntFormat, MaxPool, Sums, Tensor, Window, calibrate,
};
use serde_json::Value;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../tests/vectors/quant-dyadic.json")).unwrap()
}

fn list<T: TryFrom<i64, Error: std::fmt::Debug>>(value: &Value) -> Vec<T> {
    value.as_array().unwrap().iter().map(|v| T::try_from(v.as_i64().unwrap()).unwrap()).collect()
}

fn shape(value: &Value) -> [usize; 4] {
    list(value).try_into().unwrap()
}

fn window(value: &Value) -> Window {
    let [a, b, c, d, e, f, g, h] = list(value)[..] else { panic!("eight numbers") };
    Window { kernel: (a, b), stride: (c, d), padding: (e, f), dilation: (g, h) }
}

fn tensor(value: &Value, format: IntFormat) -> Tensor {
    Tensor::new(shape(&value[0]), format, &list::<i32>(&value[1])).unwrap()
}

/// Sums of one channel.
fn sums(values: &[i32]) -> Sums {
    Sums::new([1, 1, 1, values.len()], Wide::I32(values.to_vec())).unwrap()
}

#[test]
fn dyadic_numbers_are_hawqs() {
    for case in vectors()["derive"].as_array().unwrap() {
        let scale = f64::from_le_bytes(bytes(&case[0]).try_into().unwrap());
        let multiplier = u32::try_from(case[1].as_i64().unwrap()).unwrap();
        let shift = i32::try_from(case[2].as_i64().unwrap()).unwrap();
        // HAWQ leaves b = 2³¹ as it is; `new` makes it 2³⁰.
        assert_eq!(calibrate::dyadic(scale).unwrap(), Dyadic::new(multiplier, shift).unwrap(), "{scale:e}");
    }
}

#[test]
fn requantization_is_hawqs_but_for_ties() {
    let (mut same, mut all) = (0, 0);
    for case in vectors()["requantize"].as_array().unwrap() {
        let [x, w, y] = floats(&case["scales"])[..] else { panic!("three scales") };
        let output = Activation::new(y, IntFormat::INT8).unwrap();
        let step = calibrate::requantize(&[x * w], output, false).unwrap();
        let acc = sums(&list(&case["acc"]));
        let limit = |v: i64| v.clamp(i32::MIN.into(), i32::MAX.into());
        let exact: Vec<i64> = list(&case["exact"]).into_iter().map(limit).collect();
        assert_eq!(step.apply_wide(&acc).unwrap().to_i64(), exact);
        let codes: Vec<i64> = exact.iter().map(|&v| v.clamp(-128, 127)).collect();
        assert_eq!(values(&step.apply(&acc).unwrap()), codes);
        for (ours, simulated) in exact.iter().zip(list::<i64>(&case["simulated"])) {
            assert!((ours - limit(simulated)).abs() <= 1);
            same += usize::from(*ours == limit(simulated));
            all += 1;
        }
    }
    assert!(all > 500 && same * 100 >= all * 99, "{same} of {all}");
}

#[test]
fn additions_are_hawqs() {
    for case in vectors()["residual"].as_array().unwrap() {
        let [m, r, y] = floats(&case["scales"])[..] else { panic!("three scales") };
        let output = Activation::new(y, IntFormat::INT8).unwrap();
        let add = calibrate::residual(&[m], &[r], output, false).unwrap();
        let sum = add.apply(&sums(&list(&case["left"])), &sums(&list(&case["right"]))).unwrap();
        let expected: Vec<i64> = list(&case["exact"]).into_iter().map(|v: i64| v.clamp(-128, 127)).collect();
        assert_eq!(values(&sum), expected);
    }
}

#[test]
fn convolutions_are_pytorchs() {
    for case in vectors()["convolution"].as_array().unwrap() {
        let format = if case["unsigned"].as_bool().unwrap() { IntFormat::UINT8 } else { IntFormat::INT8 };
        let groups = usize::try_from(case["groups"].as_u64().unwrap()).unwrap();
        let (weights, bias) = (list(&case["w"][1]), list(&case["b"]));
        let conv = Conv2d::new(shape(&case["w"][0]), weights, bias, window(&case["window"]), groups, format)
            .unwrap();
        let y = conv.apply(&tensor(&case["x"], format)).unwrap();
        assert_eq!(y.shape(), shape(&case["y"][0]));
        assert_eq!(y.to_i64(), list::<i64>(&case["y"][1]));
    }
}

#[test]
fn maxima_are_pytorchs() {
    for case in vectors()["maximum"].as_array().unwrap() {
        let pool = MaxPool::new(window(&case["window"])).unwrap();
        let y = pool.apply(&tensor(&case["x"], IntFormat::INT8)).unwrap();
        assert_eq!((y.shape(), values(&y)), (shape(&case["y"][0]), list(&case["y"][1])));
    }
}

#[test]
fn averages_are_hawqs_and_exact() {
    for case in vectors()["average"].as_array().unwrap() {
        let (x, window) = (tensor(&case["x"], IntFormat::INT8), window(&case["window"]));
        let truncating = AveragePool::new(window, Average::Truncate, IntFormat::INT8).unwrap();
        let y = truncating.apply(&x).unwrap();
        assert_eq!((y.shape(), values(&y)), (shape(&case["shape"]), list(&case["truncated"])));
        let [input, output] = floats(&case["scales"])[..] else { panic!("two scales") };
        let activation = |scale| Activation::new(scale, IntFormat::INT8).unwrap();
        let pool = calibrate::average_pool(window, activation(input), activation(output)).unwrap();
        let exact: Vec<i64> = list(&case["exact"]).into_iter().map(|v: i64| v.clamp(-128, 127)).collect();
        assert_eq!(values(&pool.apply(&x).unwrap()), exact);
    }
}
