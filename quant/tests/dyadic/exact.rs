//! The formulas in exact rational arithmetic, and inputs for them.

use num_bigint::BigInt;
use num_rational::BigRational;
use proptest::prelude::*;
use rankbit_quant::dyadic::{Dyadic, IntFormat, Tensor, Window};

/// `b / 2^c` as a fraction.
pub(super) fn fraction(scale: Dyadic) -> BigRational {
    let power = BigRational::from_integer(BigInt::from(2)).pow(-scale.shift());
    BigRational::from_integer(scale.multiplier().into()) * power
}

/// A whole number as a fraction.
pub(super) fn whole(value: impl Into<BigInt>) -> BigRational {
    BigRational::from_integer(value.into())
}

/// `⌊x + ½⌋`, limited to `low ..= high`.
pub(super) fn rounded(x: &BigRational, low: i64, high: i64) -> i64 {
    let half = BigRational::new(1.into(), 2.into());
    let nearest = (x + half).floor().to_integer();
    i64::try_from(nearest.clamp(low.into(), high.into())).unwrap()
}

/// Any dyadic number of the range.
pub(super) fn any_dyadic() -> impl Strategy<Value = Dyadic> {
    let multiplier = prop_oneof![
        1_u32 << 30..1 << 31,
        Just(1 << 30),
        Just((1 << 31) - 1),
        (0_u32..31).prop_map(|k| (1 << 30) + (1 << k) - 1)
    ];
    (multiplier, -31..=126).prop_map(|(multiplier, shift)| Dyadic::new(multiplier, shift).unwrap())
}

/// Dyadic numbers as layers have them: 2⁻²⁰ to 2⁶.
pub(super) fn layer_dyadic() -> impl Strategy<Value = Dyadic> {
    (1_u32 << 30..1 << 31, 24..=50).prop_map(|(multiplier, shift)| Dyadic::new(multiplier, shift).unwrap())
}

/// Any format.
pub(super) fn any_format() -> impl Strategy<Value = IntFormat> {
    (2_u8..=8, any::<bool>()).prop_map(|(bits, signed)| IntFormat::new(bits, signed).unwrap())
}

/// A tensor of a shape and format; its ends are frequent.
pub(super) fn tensor(shape: [usize; 4], format: IntFormat) -> impl Strategy<Value = Tensor> {
    let (low, high) = (i32::from(format.low()), i32::from(format.high()));
    let value = prop_oneof![4 => low..=high, 1 => Just(low), 1 => Just(high)];
    prop::collection::vec(value, shape.iter().product::<usize>())
        .prop_map(move |values| Tensor::new(shape, format, &values).unwrap())
}

/// Windows that fit an image.
pub(super) fn window((height, width): (usize, usize)) -> impl Strategy<Value = Window> {
    let side = || (1_usize..=4, 1_usize..=3, 1_usize..=2, 0_usize..=3);
    (side(), side())
        .prop_map(|(v, h)| Window {
            kernel: (v.0, h.0),
            stride: (v.1, h.1),
            padding: (v.3, h.3),
            dilation: (v.2, h.2),
        })
        .prop_filter("fits", move |window| window.outputs((height, width)).is_ok())
}

/// The numbers of a tensor as i64, with a bound on the indices in the formulas: 0 outside the image.
pub(super) fn at(values: &[i64], shape: [usize; 4], [n, c]: [usize; 2], y: isize, x: isize) -> Option<i64> {
    let [_, channels, height, width] = shape;
    let (y, x) = (usize::try_from(y).ok()?, usize::try_from(x).ok()?);
    (y < height && x < width).then(|| values[((n * channels + c) * height + y) * width + x])
}

/// Where entry `k` of window `o` lies.
pub(super) fn place(o: usize, k: usize, stride: usize, padding: usize, dilation: usize) -> isize {
    isize::try_from(o * stride + k * dilation).unwrap() - isize::try_from(padding).unwrap()
}

/// A tensor's numbers.
pub(super) fn values(tensor: &Tensor) -> Vec<i64> {
    tensor.values().map(i64::from).collect()
}
