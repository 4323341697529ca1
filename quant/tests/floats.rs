//! Mini floats, MX, NVFP4 and NormalFloats: bit for bit with ml_dtypes and torchao
//! (`scripts/oracle/quant_floats.py`), and the properties of their block scales.

use crate::common::{blocks, bytes, floats, fnv, half_gap, nearest, row, view};
use proptest::prelude::*;
use rankbit_kit::strategy::matrix;
use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_quant::{
    Code, FloatFormat, Group, MiniFloat, PowerRule, ScaleRule, Scheme, code, matmul, pack, scheme,
};
use serde_json::Value;

fn kept() -> Value {
    serde_json::from_str(include_str!("../../tests/vectors/quant-floats.json")).unwrap()
}

#[test]
fn every_code_and_every_f16_as_in_ml_dtypes() {
    let kept = kept();
    for (name, format) in ["e2m1", "e2m3", "e3m2", "e4m3", "e5m2"].into_iter().zip(MiniFloat::ALL) {
        let expected = &kept["elements"][name];
        let values = expected["values"].as_array().unwrap();
        assert_eq!(values.len(), 1 << format.bits());
        for (code, value) in (0..=255).zip(values) {
            let value = f32::from_bits(u32::try_from(value.as_u64().unwrap()).unwrap());
            let found = format.value(code);
            assert!(found.to_bits() == value.to_bits() || found.is_nan() && value.is_nan(), "{name} {code}");
            if value.is_finite() {
                assert_eq!(format.encode(value), code, "{name}");
            }
        }
        let hashes = expected["codes_of_f16"].as_array().unwrap();
        assert_eq!(hashes.len(), 256);
        for (chunk, hash) in (0_u16..).zip(hashes) {
            let codes = (0..256)
                .map(|i| half::f16::from_bits(chunk * 256 + i))
                .map(|x| if x.is_nan() { 0 } else { format.encode(x.to_f32()) });
            assert_eq!(fnv(codes), hash.as_str().unwrap(), "{name}: inputs from {chunk} · 256");
        }
    }
}

#[test]
fn formats_as_in_ml_dtypes_and_torchao() {
    let kept = kept();
    let size = |key: &str| usize::try_from(kept[key].as_u64().unwrap()).unwrap();
    let (rows, cols) = (size("rows"), size("cols"));
    let input = floats(&kept["input"]);
    let formats = kept["formats"].as_object().unwrap();
    assert_eq!(formats.len(), 9);
    for (name, expected) in formats {
        let scheme = Scheme::named(name).unwrap();
        let q = nearest(MatRef::from_row_major_slice(&input, rows, cols), &scheme).quantized;
        assert_eq!(q.scales().floats().to_bytes(), bytes(&expected["scales"]), "{name}: scales");
        let global = q.scales().global_scale().map(|g| u64::from(g.to_bits()));
        assert_eq!(global, expected.get("global_scale").and_then(Value::as_u64), "{name}");
        let (codes, mut found) = (bytes(&expected["codes"]), vec![0; cols]);
        for i in 0..rows {
            pack::unpack(q.row_codes(i), scheme.code.bits(), &mut found);
            assert_eq!(found, codes[i * cols..(i + 1) * cols], "{name}: codes of row {i}");
            let decoded = fnv(row(&q, i).into_iter().flat_map(|v| (v + 0.0).to_le_bytes()));
            assert_eq!(decoded, expected["decoded"][i].as_str().unwrap(), "{name}: values of row {i}");
        }
    }
}

/// QLoRA's construction gives the tables that are in use.
#[test]
fn normal_floats_by_construction() {
    use code::{normal_float, normal_float::offset, table};
    assert!((offset(4) - 0.967_708_333).abs() < 1e-8);
    for (bits, kept) in [(2, table::NF2.as_slice()), (3, &table::NF3), (4, &table::NF4)] {
        let made = normal_float(bits, offset(bits)).unwrap();
        assert_eq!(made.len(), kept.len());
        for (a, b) in made.iter().zip(kept) {
            assert!((a - b).abs() <= 3e-7, "{bits} bits: {a} for {b}");
        }
    }
    // The other convention: the offset of 4 bits at every width (LoftQ, QERA).
    let nf3 = normal_float(3, 0.967_708_3).unwrap();
    let expected = [-1.0, -0.478_629_16, -0.217_141_82, 0.0, 0.160_930_17, 0.337_915_19, 0.562_616_97, 1.0];
    assert!(nf3.iter().zip(expected).all(|(a, b)| (a - b).abs() < 2e-7), "{nf3:?}");
    for bits in 2..=8 {
        let made = normal_float(bits, offset(bits)).unwrap();
        assert!(made.windows(2).all(|w| w[0] < w[1]) && made.contains(&0.0) && made.len() == 1 << bits);
    }
    assert!(normal_float(1, 0.9).is_err() && normal_float(9, 0.9).is_err());
    for offset in [0.5, 1.0, f64::NAN, -1.0] {
        assert!(normal_float(4, offset).is_err());
    }
}

/// The planar formats among [`blocks`].
fn scaled_blocks() -> Vec<(&'static str, Scheme)> {
    blocks().into_iter().filter(|(_, scheme)| scheme.layout.is_planar()).collect()
}

/// What a block's scale can clip from its extreme, relative to the scale.
fn clipped(scheme: &Scheme) -> f64 {
    let max = f64::from(scheme.code.max());
    match scheme.scale_format {
        // absmax / X is below 2^(emax + 1).
        FloatFormat::E8m0 => 2.0_f64.powf(max.log2().floor() + 1.0) - max,
        _ => max / 17.0 * 1.001,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn blocks_keep_their_bound(m in matrix(1..=4, 96..=96), (name, scheme) in prop::sample::select(scaled_blocks())) {
        let q = nearest(view(&m), &scheme).quantized;
        let bound = half_gap(scheme.code).max(clipped(&scheme)) * (1.0 + 1e-6);
        let x = Mat::from_fn(1, m.cols, |_, j| (j as f32).cos());
        prop_assert!(matmul::apply(&q, x.as_ref()).unwrap().col(0).iter().all(|v| !v.is_nan()));
        for i in 0..m.rows {
            for (j, value) in row(&q, i).into_iter().enumerate() {
                let scale = f64::from(q.scale(i, j / q.grouping().size));
                let error = (f64::from(value) - f64::from(m.values[i * m.cols + j])).abs();
                prop_assert!(error <= scale * bound + 1e-38, "{name} [{i}, {j}]: {value}");
            }
        }
    }

    /// Powers of two move the scales of MX blocks and nothing else; NVFP4's move its common factor only.
    #[test]
    fn powers_of_two_move_block_scales_only(m in matrix(1..=3, 64..=64), exponent in -6..6_i32, (_, scheme) in prop::sample::select(scaled_blocks())) {
        prop_assume!(m.values.iter().all(|v| *v == 0.0 || v.abs() > 1e-25));
        let scaled: Vec<f32> = m.values.iter().map(|v| v * 2.0_f32.powi(exponent)).collect();
        prop_assume!(scaled.iter().all(|v| v.is_finite()));
        let plain = nearest(view(&m), &scheme).quantized;
        let moved = nearest(MatRef::from_row_major_slice(&scaled, m.rows, m.cols), &scheme).quantized;
        prop_assert_eq!(plain.codes(), moved.codes());
        if plain.scales().global_scale().is_some() {
            prop_assert_eq!(plain.scales().floats().to_bytes(), moved.scales().floats().to_bytes());
        }
    }
}

/// The rules of the power of two, by hand on E2M1 (largest 6, emax 2).
#[test]
fn power_rules() {
    let scale = |absmax: f32, rule| {
        let scheme = Scheme { scale_rule: ScaleRule::Power(rule), ..scheme::MXFP4 };
        let mut block = vec![0.0; 32];
        block[9] = -absmax;
        nearest(MatRef::from_row_major_slice(&block, 1, 32), &scheme).quantized.scale(0, 0)
    };
    for (absmax, floor, even, ceil) in [
        (6.0, 1.0, 1.0, 1.0),
        (6.001, 1.0, 1.0, 2.0),
        (6.999, 1.0, 1.0, 2.0),
        (7.0, 1.0, 2.0, 2.0),
        (8.0, 2.0, 2.0, 2.0),
        (3.0, 0.5, 0.5, 0.5),
        (4.0, 1.0, 1.0, 1.0),
    ] {
        let found = [PowerRule::Floor, PowerRule::Even, PowerRule::Ceil].map(|rule| scale(absmax, rule));
        assert_eq!(found, [floor, even, ceil], "{absmax}");
    }
    let smallest = f32::MIN_POSITIVE / 2.0;
    for rule in [PowerRule::Floor, PowerRule::Even, PowerRule::Ceil] {
        assert_eq!([scale(0.0, rule), scale(1e-44, rule)], [smallest; 2]);
        assert!(scale(f32::MAX, rule) * 6.0 < f32::INFINITY);
    }
}

/// Names belong to numbers, and for block formats to block and scales as well.
#[test]
fn names() {
    for (name, scheme) in scheme::NAMED {
        assert_eq!(Scheme::named(name), Some(scheme));
        assert_eq!(scheme.name(), Some(name));
    }
    assert_eq!(scheme::NF4.with_group(Group::Row).name(), Some("nf4"));
    assert_eq!(scheme::MXFP4.with_group(Group::Size(16)).name(), None);
    assert_eq!(scheme::NVFP4.with_scale_format(FloatFormat::F32).name(), None);
    assert_eq!(scheme::MXINT8.code, Code::Fixed);
}
