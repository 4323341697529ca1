//! The formats `int4-dyadic` and `int8-dyadic`: storage, and the way from a stored weight to an integer layer.

use crate::common::{nearest, row, view};
use proptest::prelude::*;
use rankbit_kit::strategy::Matrix;
use rankbit_quant::dyadic::{Activation, IntFormat, calibrate};
use rankbit_quant::{Error, FloatFormat, Floats, Group, Quantized, Rounder, Scheme, quantize, scheme};

const BOTH: [(&str, Scheme); 2] =
    [("int4-dyadic", scheme::INT4_DYADIC), ("int8-dyadic", scheme::INT8_DYADIC)];

fn matrix(rows: usize, cols: usize) -> impl Strategy<Value = Matrix> {
    prop::collection::vec(-4.0_f32..4.0, rows * cols).prop_map(move |values| Matrix { rows, cols, values })
}

proptest! {
    /// The integer layer of a stored weight computes x·Ŵᵀ + b exactly, up to the rounding of the bias to whole units.
    #[test]
    fn a_stored_weight_becomes_an_integer_layer(
        weight in matrix(5, 13),
        bias in prop_oneof![prop::collection::vec(-3.0_f32..3.0, 5), Just(Vec::new())],
        x in prop::collection::vec(-128..128_i32, 26),
    ) {
        let input = Activation::new(0.03125, IntFormat::INT8).unwrap();
        let codes = rankbit_quant::dyadic::Tensor::new([2, 13, 1, 1], IntFormat::INT8, &x).unwrap();
        for (_, scheme) in BOTH {
            let quantized = nearest(view(&weight), &scheme).quantized;
            let layer = calibrate::linear_from(&quantized, &bias, input).unwrap();
            let sums = layer.layer.apply(&codes).unwrap().to_i64();
            for o in 0..5 {
                let unit = f64::from(layer.scales[o]);
                prop_assert_eq!(unit, f64::from(quantized.scale(o, 0)) * 0.03125, "a power of two: exact");
                let decoded = row(&quantized, o);
                for t in 0..2 {
                    // Codes times codes times one unit; the decoded weights were rounded to f32.
                    let product = |k: usize| f64::from(x[13 * t + k]) * 0.03125 * f64::from(decoded[k]);
                    let exact = (0..13).map(product).sum::<f64>() + bias.get(o).map_or(0.0, |b| f64::from(*b));
                    let size: f64 = (0..13).map(|k| product(k).abs()).sum();
                    let difference = (sums[5 * t + o] as f64 * unit - exact).abs();
                    prop_assert!(difference <= unit / 2.0 + size * 1e-7, "{}", difference);
                }
            }
        }
    }

    /// The scale is absmax / Q rounded to f32 once, and every weight is within half of it.
    #[test]
    fn scales_are_stored_exactly(weight in matrix(3, 40)) {
        for (_, scheme) in BOTH {
            let quantized = nearest(view(&weight), &scheme).quantized;
            for (i, values) in weight.values.chunks(40).enumerate() {
                let absmax = values.iter().fold(0.0_f32, |max, w| max.max(w.abs()));
                let scale = quantized.scale(i, 0);
                prop_assert_eq!(scale, FloatFormat::F32.round(f64::from(absmax) / f64::from(scheme.code.max())));
                for (w, decoded) in values.iter().zip(row(&quantized, i)) {
                    prop_assert!((w - decoded).abs() <= scale * 0.50001);
                }
            }
            let stored = quantized.scales().floats().to_bytes();
            let back = Floats::from_bytes(&stored, FloatFormat::Dyadic, 3, "scales").unwrap();
            prop_assert_eq!(&back, quantized.scales().floats());
            prop_assert_eq!(stored.len(), 12);
        }
    }
}

#[test]
fn names_belong_to_rows_with_dyadic_scales() {
    for (name, scheme) in BOTH {
        assert_eq!(Scheme::named(name), Some(scheme));
        assert_eq!(scheme.name(), Some(name));
        assert!(scheme.owns_scales() && scheme.block_len().is_none());
        assert_eq!(scheme.check(), Ok(()));
        let other = scheme.with_scale_format(FloatFormat::F16);
        assert_eq!((other.name(), other.owns_scales()), (name.split('-').next(), false));
        for group in [Group::Size(64), Group::Tensor] {
            assert!(matches!(scheme.with_group(group).check(), Err(Error::InvalidScheme { .. })));
            assert_eq!(scheme.with_group(group).name(), None);
        }
    }
    for other in [scheme::UINT4, scheme::NF4, scheme::MXINT8, scheme::TERNARY, scheme::FP8_E4M3] {
        let dyadic = other.with_scale_format(FloatFormat::Dyadic).with_group(Group::Row);
        assert!(matches!(dyadic.check(), Err(Error::InvalidScheme { .. })), "{other:?}");
    }
}

#[test]
fn rounders_work_with_them() {
    let weight = Matrix { rows: 2, cols: 6, values: (0..12_u8).map(|i| f32::from(i % 7) - 3.0).collect() };
    for rounder in [Rounder::Nearest, Rounder::Mse, Rounder::HQQ, Rounder::Stochastic { seed: 1 }] {
        let rounded = quantize(view(&weight), &scheme::INT4_DYADIC, rounder).unwrap();
        assert_eq!(rounded.quantized.scheme(), &scheme::INT4_DYADIC, "{rounder:?}");
    }
}

#[test]
fn rows_of_zeros_and_of_dust() {
    let mut values = vec![0.0; 16];
    values[8..].fill(1e-36);
    let weight = Matrix { rows: 2, cols: 8, values };
    let rounded = nearest(view(&weight), &scheme::INT8_DYADIC);
    // 2⁻¹⁰⁴ and smaller numbers lose bits: such a matrix takes f32 scales, and says so.
    assert_eq!(rounded.widened_from, Some(FloatFormat::Dyadic));
    let input = Activation::new(1.0, IntFormat::INT8).unwrap();
    assert!(matches!(
        calibrate::linear_from(&rounded.quantized, &[], input),
        Err(Error::InvalidScheme { .. })
    ));
    let zero = Matrix { rows: 1, cols: 8, values: vec![0.0; 8] };
    let quantized = nearest(view(&zero), &scheme::INT8_DYADIC).quantized;
    let layer = calibrate::linear_from(&quantized, &[2.5], input).unwrap();
    assert_eq!(layer.scales, [1.0]);
}

#[test]
fn hostile_parts() {
    let parts = |word: u32, codes: Vec<u8>| {
        let scales = Floats::from_bytes(&word.to_le_bytes(), FloatFormat::Dyadic, 1, "scales")?;
        Quantized::from_parts((1, 2), scheme::INT8_DYADIC, codes, scales, Vec::new())
    };
    // 1 / 2^-128 and (2²⁴ - 1) / 2^-105 are beyond f32.
    for word in [0x8000_0001, 0x97FF_FFFF] {
        assert!(matches!(parts(word, vec![0, 0]), Err(Error::StoredNonFinite { .. })), "{word:x}");
    }
    assert!(matches!(
        Floats::from_bytes(&[0; 3], FloatFormat::Dyadic, 1, "scales"),
        Err(Error::PartLength { .. })
    ));
    // Any other word is a number, and any code is one: -128 is never written, but read.
    let input = Activation::new(1.0, IntFormat::INT8).unwrap();
    let quantized = parts((23 << 24) | (1 << 23), vec![0, 255]).unwrap();
    let layer = calibrate::linear_from(&quantized, &[], input).unwrap();
    let one = rankbit_quant::dyadic::Tensor::new([1, 2, 1, 1], IntFormat::INT8, &[1, 0]).unwrap();
    assert_eq!((layer.layer.apply(&one).unwrap().to_i64(), layer.scales[0]), (vec![-128], 1.0));
    // A bias of more units than i32 holds, and one that is no number.
    let tiny = parts((127 << 24) | 1, vec![129, 129]).unwrap();
    let layer = calibrate::linear_from(&tiny, &[1.0], input);
    assert!(matches!(layer, Err(Error::AccumulatorOverflow { row: 0 })), "{layer:?}");
    assert!(matches!(calibrate::linear_from(&tiny, &[f32::NAN], input), Err(Error::StoredNonFinite { .. })));
    assert!(matches!(calibrate::linear_from(&tiny, &[0.0; 2], input), Err(Error::ElementCount { .. })));
    // The scale is a number, but no dyadic number of a requantization.
    let layer = calibrate::linear_from(&tiny, &[], input).unwrap();
    assert!(calibrate::requantize(&layer.scales, input, false).is_err());
    let empty =
        quantize(view(&Matrix { rows: 0, cols: 4, values: vec![] }), &scheme::INT4_DYADIC, Rounder::Nearest);
    assert!(calibrate::linear_from(&empty.unwrap().quantized, &[], input).is_err());
}
