//! Quantized activations and their products, and LLM.int8() as bitsandbytes computes it.

use crate::common::{bytes, floats, nearest, schemes, view};
use proptest::prelude::*;
use rankbit_kit::strategy::{even_matrix, matrix};
use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_quant::matmul::{quantized, reference};
use rankbit_quant::{
    Activation, Activations, Code, Error, FloatFormat, Group, MiniFloat, Quantized, Scheme, ZeroPoint,
    matmul, pack, scheme,
};
use serde_json::Value;

const INT8_ROWS: Scheme = scheme::INT8.with_group(Group::Row).with_scale_format(FloatFormat::F32);

fn quantize(policy: &Activation, x: &[f32], shape: (usize, usize)) -> Activations {
    policy.quantize(x, shape).expect("finite activations").expect("a policy that quantizes")
}

fn rows(matrix: MatRef<'_, f32>) -> Vec<f32> {
    (0..matrix.nrows()).flat_map(|t| matrix.row(t).iter().copied().collect::<Vec<_>>()).collect()
}

/// Every kind of policy.
fn policies() -> impl Strategy<Value = Activation> {
    let code = prop_oneof![
        (2_u8..=8).prop_map(|bits| Code::Int { bits, signed: true }),
        prop::sample::select(MiniFloat::ALL.to_vec()).prop_map(Code::MiniFloat),
    ];
    let group = prop_oneof![Just(Group::Row), Just(Group::Tensor), (1_u32..80).prop_map(Group::Size)];
    let outliers = prop::option::of(0.01_f32..4.0);
    prop_oneof![
        8 => (code.clone(), group, outliers)
            .prop_map(|(code, group, outliers)| Activation::Dynamic { code, group, outliers }),
        1 => (code, 1e-3_f32..2.0).prop_map(|(code, scale)| Activation::Static { code, scale }),
    ]
}

/// The documented distance of the product from its reference.
fn check(weight: &Quantized, x: &Activations, found: MatRef<'_, f32>) {
    let exact = reference::apply_quantized(weight, x).unwrap();
    let (tokens, features) = x.shape();
    let dense = weight.dequantize();
    let whole = weight.scheme().layout.is_planar()
        && matches!(weight.scheme().zero, ZeroPoint::None | ZeroPoint::Integer)
        && matches!((weight.scheme().code, x.code()), (Code::Int { .. }, Code::Int { .. }));
    let k = (features + 4) as f64 * 2.0_f64.powi(-24);
    let gamma = if whole { 2.0_f64.powi(-50) } else { k / (1.0 - k) };
    let mut row = vec![0.0; features];
    for t in 0..tokens {
        x.row_into(t, &mut row).unwrap();
        for o in 0..weight.shape().0 {
            let magnitude: f64 = row
                .iter()
                .zip(dense.row(o).iter())
                .map(|(x, w)| f64::from(x.abs()) * f64::from(w.abs()))
                .sum();
            let (a, b) = (f64::from(found[(t, o)]), f64::from(exact[(t, o)]));
            // The reference is itself rounded once.
            let allowed = gamma * magnitude + 2.0_f64.powi(-23) * b.abs() + f64::from(f32::MIN_POSITIVE);
            assert!((a - b).abs() <= allowed, "[{t}, {o}]: {a} for {b}");
        }
    }
}

#[test]
fn equal_to_bitsandbytes() {
    let kept: Value = serde_json::from_str(include_str!("../../tests/vectors/llm-int8.json")).unwrap();
    let size = |value: &Value| usize::try_from(value.as_u64().unwrap()).unwrap();
    let (features, out) = (size(&kept["in"]), size(&kept["out"]));
    let signed = |value: &Value| -> Vec<i8> { bytes(value).into_iter().map(u8::cast_signed).collect() };
    let values = floats(&kept["weight"]);
    let weight = MatRef::from_row_major_slice(&values, out, features);
    let (w_codes, w_stats) = (signed(&kept["weight_codes"]), floats(&kept["weight_stats"]));

    // The weight, by the policy's quantizer and by the scheme: the same codes.
    let as_input = quantize(&Activation::INT8, &values, (out, features));
    let stored = nearest(weight, &INT8_ROWS).quantized;
    let mut unpacked = vec![0; features];
    for row in 0..out {
        pack::unpack(stored.row_codes(row), 8, &mut unpacked);
        for column in 0..features {
            let code = i16::from(w_codes[row * features + column]) + 128;
            assert_eq!(i16::from(unpacked[column]), code);
            assert_eq!(i16::from(as_input.codes()[row * features + column]), code);
        }
        assert_eq!(stored.scale(row, 0), w_stats[row] / 127.0);
    }

    let cases = kept["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 9);
    for case in cases {
        let (name, tokens) = (&case["name"], size(&case["tokens"]));
        let threshold = case["threshold"].as_f64().unwrap();
        let policy = if threshold > 0.0 { Activation::LLM_INT8 } else { Activation::INT8 };
        let x = floats(&case["x"]);
        let q = quantize(&policy, &x, (tokens, features));
        let outliers: Vec<usize> = case["outliers"].as_array().unwrap().iter().map(size).collect();
        assert_eq!(q.outliers(), outliers, "{name}: outlier columns");
        let stats = floats(&case["stats"]);
        let scales: Vec<f32> = stats.iter().map(|absmax| absmax / 127.0).collect();
        assert_eq!(q.scales(), scales, "{name}: scales");
        let codes: Vec<i8> = q.codes().iter().map(|code| code.wrapping_sub(128).cast_signed()).collect();
        assert_eq!(codes, signed(&case["codes"]), "{name}: codes");
        // Its sums are ours, and with its constant so are its scaled sums, bit for bit.
        let kept_sums: Vec<i32> = bytes(&case["sums"])
            .chunks_exact(4)
            .map(|c| i32::from_le_bytes([c[0], c[1], c[2], c[3]]))
            .collect();
        let (scaled, y) = (floats(&case["scaled"]), floats(&case["y"]));
        let product = quantized::apply(&stored, &policy, MatRef::from_row_major_slice(&x, tokens, features));
        let product = product.unwrap();
        check(&stored, &q, product.as_ref());
        for t in 0..tokens {
            for o in 0..out {
                let at = t * out + o;
                let (a, b) = (&codes[t * features..][..features], &w_codes[o * features..][..features]);
                let sum: i32 = a.iter().zip(b).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum();
                assert_eq!(sum, kept_sums[at], "{name}");
                assert_eq!(sum as f32 * (stats[t] * w_stats[o]) * 6.200_124e-05, scaled[at], "{name}");
                // What it returns, within the roundings of its 16-bit steps and of that constant.
                let mut magnitude = f64::from(scaled[at].abs());
                let mut exact = f64::from(sum) * f64::from(stats[t]) * f64::from(w_stats[o]) / 127.0 / 127.0;
                for (&j, &kept) in outliers.iter().zip(q.kept(t)) {
                    let term = f64::from(kept) * f64::from(b[j]) * f64::from(w_stats[o]) / 127.0;
                    (exact, magnitude) = (exact + term, magnitude + term.abs());
                }
                let ours = f64::from(product[(t, o)]);
                assert!((ours - exact).abs() <= 1e-6 * magnitude + 1e-30, "{name}: {ours} for {exact}");
                let allowed = magnitude * (3.0 * 2.0_f64.powi(-11) + 2e-5) + 2.0_f64.powi(-24);
                assert!((ours - f64::from(y[at])).abs() <= allowed, "{name}: {ours} for {}", y[at]);
            }
        }
    }
}

proptest! {
    /// Half a step at most, and the codes of the extremes are the largest.
    #[test]
    fn integers_err_by_half_a_step(x in matrix(1..=6, 1..=70), bits in 2_u8..=8, size in 1_u32..80) {
        prop_assume!(x.values.iter().all(|v| v.abs() < 1e30));
        for group in [Group::Row, Group::Tensor, Group::Size(size)] {
            let q = quantize(&Activation::integer(bits, group), &x.values, (x.rows, x.cols));
            let mut row = vec![f32::NAN; x.cols];
            for (t, values) in x.values.chunks_exact(x.cols).enumerate() {
                q.row_into(t, &mut row).unwrap();
                for (j, (value, decoded)) in values.iter().zip(&row).enumerate() {
                    let scale = f64::from(q.scale(t, j / q.grouping().size));
                    let error = (f64::from(*value) - f64::from(*decoded)).abs();
                    // Scales below f32's normal range lose their own digits.
                    let allowed = scale * (0.5 + 2.0_f64.powi(-15)) + 128.0 * 2.0_f64.powi(-149) + error_of_subnormal(scale);
                    prop_assert!(error <= allowed, "{value} became {decoded}, scale {scale}");
                }
            }
        }
    }

    /// The product is its reference, for every scheme, policy, shape and group.
    #[test]
    fn within_its_bound(w in even_matrix(1..=24, 1..=90), x in even_matrix(1..=5, 1..=90), scheme in schemes(), policy in policies()) {
        let cols = w.cols.min(x.cols);
        let weight = nearest(view(&w).subcols(0, cols), &scheme).quantized;
        let x = view(&x).subcols(0, cols);
        let y = quantized::apply(&weight, &policy, x).unwrap();
        let q = quantize(&policy, &rows(x), (x.nrows(), cols));
        check(&weight, &q, y.as_ref());
        // The same through slices.
        let mut slice = vec![f32::NAN; x.nrows() * weight.shape().0];
        quantized::apply_quantized_with(&weight, &q, &mut slice, |_, _| {}).unwrap();
        prop_assert_eq!(&slice, &rows(y.as_ref()));
        quantized::apply_rows_with(&weight, &policy, &rows(x), x.nrows(), &mut slice, |_, _| {}).unwrap();
        prop_assert_eq!(&slice, &rows(y.as_ref()));
    }

    /// With every column an outlier nothing is quantized; with none it is the plain policy.
    #[test]
    fn the_thresholds_ends(w in even_matrix(1..=12, 1..=60), x in even_matrix(1..=4, 1..=60)) {
        let cols = w.cols.min(x.cols);
        let weight = nearest(view(&w).subcols(0, cols), &INT8_ROWS).quantized;
        let x = view(&x).subcols(0, cols);
        let with = |outliers| Activation::Dynamic { code: Code::Int { bits: 8, signed: true }, group: Group::Row, outliers };
        let top = x.col_iter().flat_map(|c| c.iter()).fold(0.0_f32, |a, b| a.max(b.abs()));
        prop_assert_eq!(
            quantized::apply(&weight, &with(Some(top * 2.0 + 1.0)), x).unwrap(),
            quantized::apply(&weight, &Activation::INT8, x).unwrap()
        );
        let tiny = with(Some(f32::MIN_POSITIVE * f32::EPSILON));
        let floats = matmul::reference::apply(&weight, x).unwrap();
        let found = quantized::apply(&weight, &tiny, x).unwrap();
        let dense = weight.dequantize();
        for t in 0..x.nrows() {
            for o in 0..w.rows {
                let magnitude: f32 = (0..cols).map(|k| (x[(t, k)] * dense[(o, k)]).abs()).sum();
                prop_assert!((found[(t, o)] - floats[(t, o)]).abs() <= 1e-6 * magnitude);
            }
        }
    }
}

/// What a scale in f32's subnormal range loses of itself, times the largest code.
fn error_of_subnormal(scale: f64) -> f64 {
    if scale < f64::from(f32::MIN_POSITIVE) { 128.0 * 2.0_f64.powi(-149) } else { 0.0 }
}

/// Values on the grid come through a product of whole numbers exactly.
#[test]
fn exact_on_the_grid() {
    // Scales are powers of two, codes are whole, the largest code occurs in every row and token.
    let whole = |i: usize, j: usize| if j == 0 { 127.0 } else { ((i * 37 + j * 101) % 255) as f32 - 127.0 };
    let w = Mat::from_fn(9, 100, |i, j| whole(i, j) / 64.0);
    let x = Mat::from_fn(4, 100, |t, j| whole(t + 5, j) / 16.0);
    let weight = nearest(w.as_ref(), &INT8_ROWS).quantized;
    let y = quantized::apply(&weight, &Activation::INT8, x.as_ref()).unwrap();
    for t in 0..4 {
        for o in 0..9 {
            let exact: f64 = (0..100).map(|j| f64::from(x[(t, j)]) * f64::from(w[(o, j)])).sum();
            assert_eq!(f64::from(y[(t, o)]), exact);
        }
    }
}

/// More terms of the largest size than 32 bits hold, zero points far away: still exact.
#[test]
fn long_rows_do_not_overflow() {
    let features = 140_000;
    let scheme = scheme::UINT8.with_group(Group::Row).with_scale_format(FloatFormat::F32);
    // Scale 1 and zero point 255: values -255 ..= 0; one entry of 0 and all others -255.
    let w = Mat::from_fn(1, features, |_, j| if j == 0 { 0.0 } else { -255.0 });
    let x = Mat::from_fn(1, features, |_, _| 127.0);
    let weight = nearest(w.as_ref(), &scheme).quantized;
    let y = quantized::apply(&weight, &Activation::INT8, x.as_ref()).unwrap();
    let exact = -255.0 * 127.0 * (features - 1) as f64;
    assert_eq!(f64::from(y[(0, 0)]), f64::from(FloatFormat::F32.round(exact)));
    assert!(exact.abs() > f64::from(i32::MAX));
}

/// The same bits for any number of threads, and floats are the float product.
#[test]
fn threads_and_floats() {
    let w = Mat::from_fn(133, 200, |i, j| ((i * 31 + j * 17) % 97) as f32 / 97.0 - 0.5);
    let x = Mat::from_fn(5, 200, |t, j| ((t + 3 * j) as f32).sin() * if j == 20 { 9.0 } else { 1.0 });
    let q = nearest(w.as_ref(), &scheme::UINT4).quantized;
    assert_eq!(quantized::apply(&q, &Activation::Float, x.as_ref()), matmul::apply(&q, x.as_ref()));
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| quantized::apply(&q, &Activation::LLM_INT8, x.as_ref()).unwrap())
    };
    let one = run(1);
    assert_eq!(one, run(2));
    assert_eq!(one, run(7));
    // The epilogue sees each row once and its additions stay.
    let mut y = Mat::zeros(5, 133);
    quantized::apply_with(&q, &Activation::LLM_INT8, x.as_ref(), y.as_mut(), |row, values| {
        values.iter_mut().for_each(|value| *value += row as f32);
    })
    .unwrap();
    assert_eq!(y, Mat::from_fn(5, 133, |t, o| one[(t, o)] + o as f32));
}

/// A static scale takes calibration's extreme to the largest code and clips what is beyond.
#[test]
fn static_scales_saturate() {
    let code = Code::Int { bits: 8, signed: true };
    let policy = Activation::calibrated(code, 2.0).unwrap();
    let q = quantize(&policy, &[2.0, -1.0, 5.0, -7.0, 0.0], (1, 5));
    let mut row = [0.0; 5];
    q.row_into(0, &mut row).unwrap();
    let scale = 2.0 / 127.0;
    for (value, expected) in row.iter().zip([2.0, -64.0 * scale, 2.0, -2.0, 0.0]) {
        assert!((value - expected).abs() < 1e-6, "{row:?}");
    }
    assert_eq!(Activation::calibrated(code, 0.0), Ok(Activation::Static { code, scale: 1.0 }));
    for bad in [f32::NAN, f32::INFINITY, -1.0] {
        assert!(matches!(Activation::calibrated(code, bad), Err(Error::InvalidActivation { .. })), "{bad}");
    }
}

#[test]
fn senseless_policies_are_errors() {
    let int8 = Code::Int { bits: 8, signed: true };
    let dynamic = |code, group, outliers| Activation::Dynamic { code, group, outliers };
    let bad = [
        dynamic(Code::Int { bits: 8, signed: false }, Group::Row, None),
        dynamic(Code::Int { bits: 1, signed: true }, Group::Row, None),
        dynamic(Code::Int { bits: 9, signed: true }, Group::Row, None),
        dynamic(Code::Fixed, Group::Row, None),
        dynamic(scheme::NF4.code, Group::Row, None),
        dynamic(int8, Group::Size(0), None),
        dynamic(int8, Group::Row, Some(0.0)),
        dynamic(int8, Group::Row, Some(-6.0)),
        dynamic(int8, Group::Row, Some(f32::NAN)),
        dynamic(int8, Group::Row, Some(f32::INFINITY)),
        Activation::Static { code: int8, scale: 0.0 },
        Activation::Static { code: int8, scale: f32::NAN },
        Activation::Static { code: int8, scale: -1.0 },
        Activation::Static { code: int8, scale: f32::MAX },
    ];
    let weight = nearest(Mat::<f32>::zeros(2, 3).as_ref(), &scheme::INT4).quantized;
    for policy in bad {
        assert!(matches!(policy.check(), Err(Error::InvalidActivation { .. })), "{policy:?}");
        let found = quantized::apply(&weight, &policy, Mat::<f32>::zeros(1, 3).as_ref());
        assert!(matches!(found, Err(Error::InvalidActivation { .. })), "{policy:?}");
    }
}

#[test]
fn bad_inputs_are_errors() {
    let weight = nearest(Mat::<f32>::zeros(2, 3).as_ref(), &scheme::INT4).quantized;
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let x = Mat::from_fn(2, 3, |t, j| if (t, j) == (1, 2) { bad } else { 0.5 });
        for policy in [Activation::INT8, Activation::LLM_INT8, Activation::FP8] {
            let found = quantized::apply(&weight, &policy, x.as_ref());
            assert_eq!(found, Err(Error::ActivationNonFinite { token: 1, feature: 2 }));
        }
    }
    let x = Mat::<f32>::zeros(2, 4);
    let found = quantized::apply(&weight, &Activation::INT8, x.as_ref());
    assert!(matches!(found, Err(Error::ShapeMismatch { what: "activations", .. })));
    let q = quantize(&Activation::INT8, &[0.0; 6], (2, 3));
    let found = quantized::apply_quantized_with(&weight, &q, &mut [0.0; 3], |_, _| {});
    assert!(matches!(found, Err(Error::ShapeMismatch { what: "output", .. })));
    let wide = quantize(&Activation::INT8, &[0.0; 8], (2, 4));
    assert!(reference::apply_quantized(&weight, &wide).is_err());
    assert!(quantized::apply_quantized_with(&weight, &wide, &mut [0.0; 4], |_, _| {}).is_err());
    for (shape, len) in [((2, 3), 5), ((usize::MAX, 2), 6), ((0, 3), 1)] {
        let found = Activation::INT8.quantize(&vec![0.0; len], shape);
        assert!(matches!(found, Err(Error::ShapeMismatch { .. })), "{shape:?}");
    }
    assert!(q.row_into(2, &mut [0.0; 3]).is_err() && q.row_into(0, &mut [0.0; 2]).is_err());
}

/// No tokens, no outputs, no inputs; and entries at both ends of f32's range.
#[test]
fn empty_sides_and_extremes_work() {
    // More rows than anyone could count, and no token to make them matter.
    let huge = rankbit_quant::nearest::quantize_rows(&[], (usize::MAX, 0), &scheme::INT8).unwrap().quantized;
    quantized::apply_rows_with(&huge, &Activation::INT8, &[], 0, &mut [], |_, _| {}).unwrap();
    for policy in [
        Activation::INT8,
        Activation::INT4,
        Activation::LLM_INT8,
        Activation::FP8,
        Activation::integer(4, Group::Tensor),
        Activation::Static { code: Code::Int { bits: 8, signed: true }, scale: 0.5 },
    ] {
        for (out, features, tokens) in [(0, 4, 2), (3, 0, 2), (3, 4, 0), (0, 0, 0), (1, 1, 1)] {
            let q = nearest(Mat::<f32>::zeros(out, features).as_ref(), &scheme::UINT4).quantized;
            let y = quantized::apply(&q, &policy, Mat::<f32>::zeros(tokens, features).as_ref()).unwrap();
            assert_eq!((y.nrows(), y.ncols()), (tokens, out));
            assert!(y.col_iter().all(|c| c.iter().all(|v| *v == 0.0)));
        }
        for top in [f32::MAX, f32::MIN_POSITIVE, 1e-45, 3e-44] {
            let q = quantize(&policy, &[top, -top, 0.0, top / 2.0], (1, 4));
            let mut row = [f32::NAN; 4];
            q.row_into(0, &mut row).unwrap();
            assert!(
                row.iter().all(|v| v.is_finite() && v.abs() <= top * 1.01),
                "{policy}: {top} became {row:?}"
            );
        }
    }
}

#[test]
fn policies_say_what_they_are() {
    let text = |policy: Activation| policy.to_string();
    assert_eq!(text(Activation::Float), "float");
    assert_eq!(text(Activation::INT8), "int8 per token");
    assert_eq!(text(Activation::INT4), "int4 per token and group of 64");
    assert_eq!(text(Activation::LLM_INT8), "int8 per token, columns with |x| ≥ 6 in floats");
    assert_eq!(text(Activation::FP8), "fp8-e4m3 per token");
    assert_eq!(
        text(Activation::Static { code: Code::Int { bits: 8, signed: true }, scale: 0.5 }),
        "int8, scale 0.5"
    );
}
