//! Scales of a few bits, their search, zero points that are no whole numbers, and groups of several rows.

use crate::common::{bytes, floats, fnv, nearest, row, view};
use proptest::prelude::*;
use rankbit_kit::strategy::matrix;
use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_linalg::{Metric, Stream};
use rankbit_quant::nested::dynamic_value;
use rankbit_quant::{
    Code, Error, FloatFormat, Floats, Group, Nested, Offset, Quantized, Rounder, ScaleBlock, ScaleCode,
    Scales, Scheme, ZeroPoint, matmul, pack, quantize, scheme,
};
use serde_json::Value;

const SEARCHED: [(&str, Scheme); 3] =
    [("uint4-n", scheme::UINT4_N), ("uint3-n", scheme::UINT3_N), ("uint2-n", scheme::UINT2_N)];

fn gaussian(rows: usize, cols: usize, seed: u64) -> Mat<f32> {
    let mut values = vec![0.0; rows * cols];
    Stream::new(seed, "nested").fill_normal(&mut values);
    MatRef::from_row_major_slice(&values, rows, cols).to_owned()
}

fn relative_error(weight: &Mat<f32>, quantized: &Quantized) -> f64 {
    let residual = weight - quantized.dequantize();
    Metric::identity().relative_error(residual.as_ref(), weight.as_ref()).expect("finite")
}

/// Codes, codes of the scales, block scales, mean and decoded values of bitsandbytes (`scripts/oracle/quant_nested.py`).
#[test]
fn double_quantization_is_that_of_bitsandbytes() {
    let kept: Value = serde_json::from_str(include_str!("../../tests/vectors/quant-nested.json")).unwrap();
    let map: Vec<u32> = (0..=255).map(|code| dynamic_value(code).to_bits()).collect();
    assert_eq!(map, floats(&kept["map"]).iter().map(|v| v.to_bits()).collect::<Vec<_>>());
    let cases = kept["cases"].as_object().unwrap();
    assert_eq!(cases.len(), 8);
    for (name, case) in cases {
        let size = |key: &str| usize::try_from(case[key].as_u64().unwrap()).unwrap();
        let (rows, cols) = (size("rows"), size("cols"));
        let input = floats(&case["input"]);
        let q = nearest(MatRef::from_row_major_slice(&input, rows, cols), &scheme::NF4_DQ).quantized;
        assert_eq!(
            q.scales().offset().map(f32::to_bits),
            Some(floats(&case["offset"])[0].to_bits()),
            "{name}"
        );
        assert_eq!(q.scales().floats().to_bytes(), bytes(&case["block_scales"]), "{name}");
        assert_eq!(q.scales().packed_codes(), bytes(&case["scale_codes"]), "{name}");
        let theirs = bytes(&case["codes"]);
        let swapped: Vec<u8> = theirs.iter().map(|byte| byte.rotate_left(4)).collect();
        assert_eq!(q.codes(), swapped, "{name}");
        let decoded = (0..rows).flat_map(|i| row(&q, i)).flat_map(f32::to_le_bytes);
        assert_eq!(fnv(decoded), case["decoded"].as_str().unwrap(), "{name}");
    }
}

/// A scheme of every kind of nested scales over f32 units.
fn nestings() -> impl Strategy<Value = Scheme> {
    let code = prop_oneof![(1_u8..=8).prop_map(|bits| ScaleCode::Linear { bits }), Just(ScaleCode::Dynamic)];
    let block = prop_oneof![(1_u32..9).prop_map(ScaleBlock::Row), (1_u32..30).prop_map(ScaleBlock::Flat)];
    let offset = prop::sample::select(vec![Offset::None, Offset::Mean, Offset::Least]);
    let base = prop::sample::select(vec![scheme::NF4, scheme::INT4, scheme::UINT3, scheme::BINARY]);
    let group = prop_oneof![
        (1_u32..20).prop_map(Group::Size),
        Just(Group::Row),
        Just(Group::Tensor),
        (1_u32..4, 1_u32..20).prop_map(|(rows, cols)| Group::Block { rows, cols }),
    ];
    (base, group, code, block, offset).prop_map(|(base, group, code, block, offset)| {
        base.with_group(group)
            .with_nested(Some(Nested { code, block, offset }))
            .with_scale_format(FloatFormat::F32)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    /// A stored scale is within half a step of its code book of the plain scheme's, the step being the block's.
    #[test]
    fn scales_err_by_half_a_step(m in matrix(1..=6, 1..=90), scheme in nestings()) {
        let q = nearest(view(&m), &scheme).quantized;
        let plain = nearest(view(&m), &scheme.with_nested(None)).quantized;
        let (found, exact) = (q.scales().to_f32(), plain.scales().to_f32());
        let nested = scheme.nested.unwrap();
        let widest = exact.iter().fold(0.0_f32, |a, s| a.max(*s));
        // A mean is above the least scales: a linear code starts at 0.
        let below = if nested.offset == Offset::Mean { widest } else { 0.0 };
        let step = match nested.code {
            ScaleCode::Linear { bits } => below + widest / f32::from((1_u16 << bits) - 1) / 2.0,
            // 0.0142 between neighbours at the upper end, -0.993 for -1, and 2⁻¹⁶ for the coarse rounding before.
            ScaleCode::Dynamic => widest * (0.0142 / 2.0 + 1e-4),
        };
        for (a, b) in found.iter().zip(&exact) {
            prop_assert!((a - b).abs() <= step + 1e-6 * widest, "{} for {}, step {}", a, b, step);
        }
        prop_assert!((0..m.rows).all(|i| row(&q, i).iter().all(|v| v.is_finite())));
    }

    /// A group of several rows has one scale, and every entry is within its bound of it; at ragged edges as well.
    #[test]
    fn rectangles_share_a_scale(m in matrix(1..=9, 1..=70), rows in 1..12_u32, cols in 1..80_u32) {
        for scheme in [scheme::INT8, scheme::UINT4, scheme::FP8_E4M3] {
            let scheme = scheme.with_group(Group::Block { rows, cols }).with_scale_format(FloatFormat::F32);
            let q = nearest(view(&m), &scheme).quantized;
            let (h, w) = (usize::try_from(rows).unwrap(), usize::try_from(cols).unwrap());
            prop_assert_eq!(q.scales().len(), m.rows.div_ceil(h) * m.cols.div_ceil(w));
            let x = Mat::from_fn(2, m.cols, |t, j| ((3 * t + 5 * j) % 7) as f32 - 3.0);
            let (y, reference) = (matmul::apply(&q, x.as_ref()).unwrap(), matmul::reference::apply(&q, x.as_ref()).unwrap());
            for i in 0..m.rows {
                let decoded = row(&q, i);
                for (j, value) in decoded.iter().enumerate() {
                    let at = |r: usize, c: usize| m.values[r * m.cols + c];
                    let (r0, c0) = (i / h * h, j / w * w);
                    let block = (r0..m.rows.min(r0 + h)).flat_map(|r| (c0..m.cols.min(c0 + w)).map(move |c| at(r, c)));
                    let (low, high) = block.fold((0.0_f32, 0.0_f32), |(a, b), v| (a.min(v), b.max(v)));
                    let half_step = match scheme.code {
                        Code::Int { signed: true, .. } => high.max(-low) / 254.0,
                        Code::Int { .. } => (high / 2.0 - low / 2.0) / 15.0,
                        _ => high.max(-low) / 28.0,
                    };
                    let error = (value - at(i, j)).abs();
                    prop_assert!(error <= half_step * 1.0001 + 1e-6 * at(i, j).abs() + f32::MIN_POSITIVE, "[{}, {}]", i, j);
                }
                let size: f32 = decoded.iter().map(|v| 3.0 * v.abs()).sum();
                for t in 0..2 {
                    prop_assert!((y[(t, i)] - reference[(t, i)]).abs() <= size * 1e-4);
                }
            }
        }
    }

    /// Half a step for floats as zero points too, and the range is not clipped by more than their rounding.
    #[test]
    fn float_zero_points_keep_the_bound(m in matrix(1..=4, 1..=90), which in 0..3_usize) {
        let scheme = [scheme::UINT8_F, scheme::UINT4_F, scheme::UINT2_F][which].with_scale_format(FloatFormat::F32);
        let q = nearest(view(&m), &scheme).quantized;
        for i in 0..m.rows {
            for (j, value) in row(&q, i).into_iter().enumerate() {
                let scale = q.scale(i, j / q.grouping().size);
                // f16 holds zero points up to 255 to 2⁻⁴.
                let bound = scale * (0.5 + scheme.code.max() / 4096.0) + 1e-6 * value.abs() + f32::MIN_POSITIVE;
                prop_assert!((value - m.values[i * m.cols + j]).abs() <= bound);
            }
        }
    }

    /// Under the stored units no other pairs of scale and zero point are better by more than 3 % of squared error; 15 % where
    /// outliers make clipping both ends worth while.
    #[test]
    fn searched_pairs_are_the_best(seed: u64, n in 32..200_usize, which in 0..3_usize, heavy: bool) {
        let (_, scheme) = SEARCHED[which];
        let mut w = gaussian(2, n, seed);
        if heavy {
            w = Mat::from_fn(2, n, |i, j| w[(i, j)].powi(3));
        }
        let q = quantize(w.as_ref(), &scheme, Rounder::Nearest).unwrap().quantized;
        let (mut found, mut best) = (0.0, 0.0);
        for i in 0..2 {
            let (decoded, unit) = (row(&q, i), q.scales().floats().get(i * q.scales().floats().len() / 2));
            for (values, decoded) in row_of(&w, i).chunks(16).zip(decoded.chunks(16)) {
                found += values.iter().zip(decoded).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
                best += exhaustive(values, &scheme, unit);
            }
        }
        let slack = if heavy { 1.15 } else { 1.03 };
        prop_assert!(found <= best * slack + 1e-12, "{} against {}", found, best);
    }

    #[test]
    fn any_bytes_of_nested_scales(codes: [u8; 64], scales in prop::collection::vec(any::<u8>(), 12), offset: f32, units: [u32; 2]) {
        let nested = Nested { code: ScaleCode::Linear { bits: 6 }, block: ScaleBlock::Row(8), offset: Offset::Mean };
        let scheme = scheme::INT4.with_group(Group::Size(8)).with_nested(Some(nested)).with_scale_format(FloatFormat::F32);
        let floats = Floats::F32(units.map(f32::from_bits).to_vec());
        match Scales::nested(nested, (2, 8), scales, floats, offset) {
            Ok(scales) => {
                let q = Quantized::from_parts((2, 64), scheme, codes.to_vec(), scales, Vec::new()).unwrap();
                prop_assert!(q.scales().to_f32().iter().all(|s| s.is_finite()));
            }
            Err(error) => prop_assert!(matches!(error, Error::StoredNonFinite { .. }), "{}", error),
        }
    }
}

fn row_of(w: &Mat<f32>, i: usize) -> Vec<f32> {
    w.row(i).iter().copied().collect()
}

/// The least squared error of a group over every pair that can be stored.
fn exhaustive(values: &[f32], scheme: &Scheme, unit: f32) -> f64 {
    let (
        Some(Nested { code: ScaleCode::Linear { bits }, .. }),
        ZeroPoint::Fraction { bits: width, fraction },
    ) = (scheme.nested, scheme.zero)
    else {
        panic!("{scheme:?}")
    };
    let top = scheme.code.max();
    let step = 0.5_f32.powi(i32::from(fraction));
    let mut best = values.iter().map(|w| f64::from(*w).powi(2)).sum::<f64>();
    for c in 1..1_u16 << bits {
        for z in 0..1_u16 << width {
            let scale = f32::from(c) * unit;
            let zero = top / 2.0 + (f32::from(z) - f32::from(1_u16 << (width - 1))) * step;
            let error = |w: &f32| {
                let q = (w / scale + zero).round().clamp(0.0, top);
                f64::from(w - (q - zero) * scale).powi(2)
            };
            best = best.min(values.iter().map(error).sum());
        }
    }
    best
}

/// The formats' constants hold for Gaussian numbers, narrow and wide, not for one model.
#[test]
fn searched_formats_on_gaussian_numbers() {
    for (rows, cols, bits) in [(64, 384, [4.4792, 3.4167, 2.6042]), (6, 4096, [4.46875, 3.40625, 2.59375])] {
        let w = gaussian(rows, cols, 3);
        for (((name, scheme), bound), bits) in SEARCHED.into_iter().zip([0.0660, 0.1350, 0.2600]).zip(bits) {
            let q = quantize(w.as_ref(), &scheme, Rounder::Nearest).unwrap().quantized;
            let (error, stored) = (relative_error(&w, &q), q.stored_bits() as f64 / (rows * cols) as f64);
            println!("{name}, {cols} wide: {error:.4} at {stored:.4} bits");
            assert!(error <= bound, "{name}: {error}");
            assert!((stored - bits).abs() < 1e-4, "{name}: {stored}");
            // Half the numbers of two bits fewer, and no worse under weights that single out a column.
            let mut h = Mat::<f64>::identity(cols, cols);
            h[(5, 5)] = 50.0;
            let context = rankbit_quant::Context { hessian: Some(h.as_ref()), ..Default::default() };
            let weighted = rankbit_quant::quantize_with(w.as_ref(), &scheme, Rounder::Mse, &context).unwrap();
            let off = |q: &Quantized| (0..rows).map(|i| (row(q, i)[5] - w[(i, 5)]).powi(2)).sum::<f32>();
            assert!(off(&weighted.quantized) < 0.5 * off(&q), "{name}");
        }
    }
}

/// HQQ's storage and ours: the error with float zero points is lower than with whole ones, for the same codes.
#[test]
fn float_zero_points_pay() {
    let w = gaussian(32, 512, 8);
    for (whole, float) in
        [(scheme::UINT4, scheme::UINT4_F), (scheme::UINT3, scheme::UINT3_F), (scheme::UINT2, scheme::UINT2_F)]
    {
        for rounder in [Rounder::HQQ, Rounder::Mse] {
            let error = |scheme: &Scheme| {
                relative_error(&w, &quantize(w.as_ref(), scheme, rounder).unwrap().quantized)
            };
            let (whole, float) = (error(&whole), error(&float));
            assert!(float < 0.98 * whole, "{rounder:?}: {float} after {whole}");
        }
    }
}

#[test]
fn zeros_and_single_values() {
    for (name, scheme) in SEARCHED {
        let zeros = quantize(Mat::<f32>::zeros(3, 40).as_ref(), &scheme, Rounder::Nearest).unwrap().quantized;
        assert!((0..3).all(|i| row(&zeros, i).iter().all(|v| *v == 0.0)), "{name}");
        // A group of zeros beside others is exact: scale code 0.
        let mut w = gaussian(1, 64, 4);
        for j in 16..32 {
            w[(0, j)] = 0.0;
        }
        let q = quantize(w.as_ref(), &scheme, Rounder::Nearest).unwrap().quantized;
        assert!(row(&q, 0)[16..32].iter().all(|v| *v == 0.0), "{name}");
        assert_eq!(pack::get(q.scales().packed_codes(), scheme.nested.unwrap().code.bits(), 1), 0);
    }
}

#[test]
fn hostile_parts() {
    let w = gaussian(2, 64, 1);
    let parts = |scheme: &Scheme| quantize(w.as_ref(), scheme, Rounder::Nearest).unwrap().quantized;
    let q = parts(&scheme::NF4_DQ.with_group(Group::Size(16)));
    let nested = Nested::QLORA;
    let build = |codes: &[u8], floats: Vec<f32>, offset: f32| {
        Scales::nested(nested, (2, 4), codes.to_vec(), Floats::F32(floats), offset)
    };
    let codes = q.scales().packed_codes();
    assert!(build(codes, vec![1.0], 0.5).is_ok());
    assert!(matches!(build(&codes[1..], vec![1.0], 0.5), Err(Error::PartLength { part: "scale codes", .. })));
    assert!(matches!(build(codes, vec![1.0; 2], 0.5), Err(Error::PartLength { part: "scales", .. })));
    assert!(matches!(
        build(codes, vec![f32::NAN], 0.5),
        Err(Error::StoredNonFinite { what: "scales", index: 0 })
    ));
    assert!(matches!(build(codes, vec![f32::MAX], f32::MAX), Err(Error::StoredNonFinite { .. })));
    assert!(matches!(
        build(codes, vec![1.0], f32::INFINITY),
        Err(Error::StoredNonFinite { what: "scale offset", .. })
    ));
    let no_bits = Nested { code: ScaleCode::Linear { bits: 0 }, ..nested };
    let empty = Scales::nested(no_bits, (2, 4), Vec::new(), Floats::F32(vec![1.0]), 0.0);
    assert!(matches!(empty, Err(Error::InvalidScheme { .. })));
    let huge = Scales::nested(nested, (usize::MAX, 2), Vec::new(), Floats::F32(Vec::new()), 0.0);
    assert!(matches!(huge, Err(Error::TooLarge { .. })));
    // Nested scales for a plain scheme, plain ones for a nested scheme, and those of another nesting.
    let good = q.scales().clone();
    let plain = Floats::F32(vec![1.0; 8]);
    let make = |scheme: Scheme, scales: Scales| {
        Quantized::from_parts((2, 64), scheme, q.codes().to_vec(), scales, vec![])
    };
    assert!(make(*q.scheme(), good.clone()).is_ok());
    assert!(
        make(*q.scheme(), plain.clone().into()).is_err()
            && make(q.scheme().with_nested(None), good.clone()).is_err()
    );
    assert!(make(q.scheme().with_nested(Some(Nested::lq_lora(8, 256))), good).is_err());
    // Float zero points.
    let q = parts(&scheme::UINT4_F);
    let zeros = |bytes: Vec<u8>| {
        Quantized::from_parts((2, 64), *q.scheme(), q.codes().to_vec(), q.scales().clone(), bytes)
    };
    assert!(zeros(q.zeros().to_vec()).is_ok());
    assert_eq!(zeros(vec![0, 0, 0, 0x7C]), Err(Error::StoredNonFinite { what: "zeros", index: 1 }));
    assert!(matches!(zeros(vec![0; 3]), Err(Error::PartLength { part: "zeros", expected: 4, found: 3 })));
}

#[test]
fn schemes_that_mean_nothing() {
    let linear = |bits| Nested { code: ScaleCode::Linear { bits }, ..Nested::QLORA };
    for scheme in [
        scheme::NF4.with_nested(Some(linear(0))),
        scheme::NF4.with_nested(Some(linear(9))),
        scheme::NF4.with_nested(Some(Nested { block: ScaleBlock::Flat(0), ..Nested::QLORA })),
        scheme::NF4.with_nested(Some(Nested { block: ScaleBlock::Row(0), ..Nested::QLORA })),
        scheme::NF4_DQ.with_scale_format(FloatFormat::E4m3),
        scheme::MXFP4.with_nested(Some(Nested::QLORA)),
        scheme::Q4_0.with_nested(Some(Nested::QLORA)),
        scheme::UINT4.with_zero(ZeroPoint::Float(FloatFormat::E8m0)),
        scheme::UINT4.with_zero(ZeroPoint::Fraction { bits: 0, fraction: 1 }),
        scheme::UINT4.with_zero(ZeroPoint::Fraction { bits: 9, fraction: 1 }),
        scheme::UINT4.with_zero(ZeroPoint::Fraction { bits: 4, fraction: 9 }),
        scheme::UINT4.with_zero(ZeroPoint::None),
        scheme::INT4.with_zero(ZeroPoint::Float(FloatFormat::F16)),
        scheme::NF4.with_zero(ZeroPoint::Min),
    ] {
        let found = quantize(Mat::<f32>::zeros(2, 64).as_ref(), &scheme, Rounder::Nearest);
        assert!(matches!(found, Err(Error::InvalidScheme { .. })), "{scheme:?}");
    }
    for (rows, cols) in [(0, 3), (3, 0), (0, 0)] {
        let scheme = scheme::INT4.with_group(Group::Block { rows, cols });
        let found = quantize(Mat::<f32>::zeros(2, 64).as_ref(), &scheme, Rounder::Nearest);
        assert_eq!(found, Err(Error::GroupSize { group_size: 0, in_features: 64 }));
    }
}
