//! The rounders that look beyond one entry: GPTQ, LDLQ, coordinate descent, HQQ, searched scales, stochastic.

use proptest::prelude::*;
use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_linalg::{Error as LinalgError, Metric, Stream};
use rankbit_quant::{
    Context, Error, FloatFormat, Group, Nested, Quantized, Rounder, Scheme, quantize, quantize_with, scheme,
};
use serde_json::Value;

use crate::common::{nearest, row, schemes};

const CALIBRATED: [Rounder; 4] =
    [Rounder::gptq(false), Rounder::gptq(true), Rounder::LDLQ, Rounder::COORDINATE_DESCENT];

fn gaussian(rows: usize, cols: usize, seed: u64) -> Mat<f32> {
    let mut values = vec![0.0; rows * cols];
    Stream::new(seed, "rounders").fill_normal(&mut values);
    MatRef::from_row_major_slice(&values, rows, cols).to_owned()
}

/// The Gram matrix of correlated inputs of unlike sizes.
fn gram(n: usize, seed: u64) -> Mat<f64> {
    let (own, common) = (gaussian(2 * n + 5, n, seed ^ 77), gaussian(2 * n + 5, 1, seed ^ 78));
    let x = Mat::from_fn(2 * n + 5, n, |t, j| {
        f64::from(own[(t, j)] + common[(t, 0)]) * if j % 7 == 3 { 4.0 } else { 1.0 }
    });
    x.transpose() * &x
}

fn calibrated(weight: &Mat<f32>, scheme: &Scheme, rounder: Rounder, gram: &Mat<f64>) -> Quantized {
    let context = Context { hessian: Some(gram.as_ref()), ..Context::default() };
    quantize_with(weight.as_ref(), scheme, rounder, &context).expect("a valid matrix").quantized
}

fn error(weight: &Mat<f32>, quantized: &Quantized, metric: &Metric) -> f64 {
    let residual = weight - quantized.dequantize();
    metric.relative_error(residual.as_ref(), weight.as_ref()).expect("finite")
}

/// Named schemes of every kind, and planar ones with any groups and scale formats.
fn all() -> impl Strategy<Value = Scheme> {
    prop_oneof![schemes(), prop::sample::select(scheme::NAMED.map(|(_, scheme)| scheme).to_vec())]
}

/// Those whose nearest codes are nearest under the scales as stored.
fn planar() -> impl Strategy<Value = Scheme> {
    let own = |scheme: &Scheme| scheme.layout.is_planar() && scheme.nested != Some(Nested::QLORA);
    all().prop_filter("its encoder has rules of its own", own)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_rounder_takes_every_scheme(m in 1usize..5, n in 1usize..90, scheme in all(), seed: u64) {
        let (w, h) = (gaussian(m, n, seed), gram(n, seed));
        let Ok(plain) = quantize(w.as_ref(), &scheme, Rounder::Nearest) else {
            // A block format on a width that it does not divide: the others say the same.
            for rounder in CALIBRATED {
                let context = Context { hessian: Some(h.as_ref()), ..Context::default() };
                prop_assert!(quantize_with(w.as_ref(), &scheme, rounder, &context).is_err());
            }
            return Ok(());
        };
        let all = CALIBRATED.into_iter().chain([Rounder::Mse, Rounder::HQQ, Rounder::Stochastic { seed: 1 }]);
        for rounder in all {
            let found = calibrated(&w, &scheme, rounder, &h);
            prop_assert_eq!(found.shape(), (m, n));
            prop_assert_eq!(found.stored_bits(), plain.quantized.stored_bits());
            prop_assert!((0..m).all(|i| row(&found, i).iter().all(|v| v.is_finite())));
        }
    }

    #[test]
    fn uncorrelated_inputs_need_no_feedback(m in 1usize..5, n in 1usize..90, scheme in planar(), seed: u64) {
        let w = gaussian(m, n, seed);
        let h = Mat::from_fn(n, n, |i, j| if i == j { 1.0 + (i % 5) as f64 } else { 0.0 });
        if let Ok(plain) = quantize(w.as_ref(), &scheme, Rounder::Nearest) {
            for rounder in [Rounder::gptq(false), Rounder::gptq(true), Rounder::LDLQ] {
                let found = calibrated(&w, &scheme, rounder, &h);
                let distance = (plain.quantized.dequantize() - found.dequantize()).norm_max();
                prop_assert_eq!(distance, 0.0, "{:?}", rounder);
            }
        }
    }

    #[test]
    fn searched_and_robust_scales_are_never_worse(m in 1usize..4, n in 1usize..90, scheme in planar(), seed: u64) {
        let w = gaussian(m, n, seed);
        let Ok(plain) = quantize(w.as_ref(), &scheme, Rounder::Nearest) else { return Ok(()) };
        let identity = Metric::identity();
        let plain_error = error(&w, &plain.quantized, &identity);
        for rounder in [Rounder::Mse, Rounder::HQQ] {
            let found = quantize(w.as_ref(), &scheme, rounder).unwrap().quantized;
            prop_assert!(error(&w, &found, &identity) <= plain_error * (1.0 + 1e-5), "{:?}", rounder);
        }
        let diagonal: Vec<f64> = (0..n).map(|j| 1.0 + (j % 9) as f64).collect();
        let h = Mat::from_fn(n, n, |i, j| if i == j { diagonal[i] } else { 0.0 });
        let metric = Metric::diagonal(diagonal).unwrap();
        let found = calibrated(&w, &scheme, Rounder::Mse, &h);
        prop_assert!(error(&w, &found, &metric) <= error(&w, &plain.quantized, &metric) * (1.0 + 1e-5));
    }

    #[test]
    fn coordinate_descent_never_loses_to_its_start(m in 1usize..4, n in 2usize..90, scheme in planar(), seed: u64) {
        let (w, h) = (gaussian(m, n, seed), gram(n, seed));
        let damping = 0.01;
        let mean = (0..n).map(|j| h[(j, j)]).sum::<f64>() / n as f64;
        let damped = Mat::from_fn(n, n, |i, j| h[(i, j)] + if i == j { damping * mean } else { 0.0 });
        let metric = Metric::gram(damped).unwrap();
        if quantize(w.as_ref(), &scheme, Rounder::Nearest).is_err() {
            return Ok(());
        }
        let mut last = f64::INFINITY;
        for sweeps in [0, 1, 4] {
            let found = calibrated(&w, &scheme, Rounder::CoordinateDescent { damping, sweeps }, &h);
            let error = error(&w, &found, &metric);
            prop_assert!(error <= last * (1.0 + 1e-5), "{} sweeps: {} after {}", sweeps, error, last);
            last = error;
        }
    }

    /// The same for zero points that need not be whole, which no other choice of codes can stand in for: shifts that are
    /// wider than the steps of their storage.
    #[test]
    fn no_shift_of_a_float_zero_point_is_better(m in 1usize..4, n in 2usize..60, bits in 2usize..5, seed: u64) {
        let (w, h) = (gaussian(m, n, seed), gram(n, seed));
        let scheme = [scheme::UINT2_F, scheme::UINT3_F, scheme::UINT4_F][bits - 2];
        let metric = Metric::gram(h.clone()).unwrap();
        let found = calibrated(&w, &scheme, Rounder::CoordinateDescent { damping: 0.0, sweeps: 2 }, &h);
        let (decoded, least) = (found.dequantize(), error(&w, &found, &metric));
        for row in 0..m {
            for step in [-0.25, -0.05, 0.05, 0.25] {
                let shift = found.scale(row, 0) * step;
                let moved = Mat::from_fn(m, n, |i, j| decoded[(i, j)] + if i == row { shift } else { 0.0 });
                let residual = &w - &moved;
                let tried = metric.relative_error(residual.as_ref(), w.as_ref()).unwrap();
                prop_assert!(tried >= least * (1.0 - 1e-5), "row {}, {}: {} below {}", row, step, tried, least);
            }
        }
    }

    /// With one group a row the zero point is the last step's own optimum: every other one is tried.
    #[test]
    fn no_other_zero_point_is_better(m in 1usize..4, n in 2usize..60, bits in 2u32..5, seed: u64) {
        let (w, h) = (gaussian(m, n, seed), gram(n, seed));
        let scheme = [scheme::UINT2, scheme::UINT3, scheme::UINT4][bits as usize - 2];
        let metric = Metric::gram(h.clone()).unwrap();
        let found = calibrated(&w, &scheme, Rounder::CoordinateDescent { damping: 0.0, sweeps: 2 }, &h);
        let decoded = found.dequantize();
        let least = error(&w, &found, &metric);
        for row in 0..m {
            let (scale, zero) = (found.scale(row, 0), found.zero_point(row, 0));
            for other in 0..1_u8 << bits {
                let shift = scale * (zero - f32::from(other));
                let moved = Mat::from_fn(m, n, |i, j| decoded[(i, j)] + if i == row { shift } else { 0.0 });
                let residual = &w - &moved;
                let tried = metric.relative_error(residual.as_ref(), w.as_ref()).unwrap();
                prop_assert!(tried >= least * (1.0 - 1e-5), "{} not {}: {} below {}", other, zero, tried, least);
            }
        }
    }
}

#[test]
fn equal_to_the_recursion_in_numpy() {
    let kept: Value = serde_json::from_str(include_str!("../../tests/vectors/gptq.json")).unwrap();
    let size = |key: &str| usize::try_from(kept[key].as_u64().unwrap()).unwrap();
    let numbers = |value: &Value| -> Vec<f64> {
        value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
    };
    let (rows, cols) = (size("rows"), size("cols"));
    let (weight, gram) = (numbers(&kept["weight"]), numbers(&kept["gram"]));
    let single = FloatFormat::F32;
    let weight = Mat::from_fn(rows, cols, |i, j| single.round(weight[i * cols + j]));
    let gram = MatRef::from_row_major_slice(&gram, cols, cols).to_owned();
    let cases = kept["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 10);
    for case in cases {
        let scheme = Scheme::named(case["format"].as_str().unwrap()).unwrap();
        let scheme = scheme.with_group(Group::Size(u32::try_from(size("group")).unwrap()));
        let rounder = Rounder::gptq(case["act_order"].as_bool().unwrap());
        let found = calibrated(&weight, &scheme, rounder, &gram).dequantize();
        for (at, expected) in numbers(&case["decoded"]).into_iter().enumerate() {
            let found = f64::from(found[(at / cols, at % cols)]);
            let same = (found - expected).abs() <= 1e-6 * expected.abs();
            assert!(same, "{}, {rounder:?}: value {at} is {found}, kept {expected}", case["format"]);
        }
    }
}

#[test]
fn better_rounders_err_less_on_correlated_inputs() {
    let (w, h) = (gaussian(48, 128, 5), gram(128, 6));
    let metric = Metric::gram(h.clone()).unwrap();
    for scheme in [scheme::UINT4, scheme::UINT3, scheme::UINT2, scheme::NF4, scheme::INT4] {
        let plain = error(&w, &nearest(w.as_ref(), &scheme).quantized, &metric);
        let [gptq, ordered, ldlq, cd] =
            CALIBRATED.map(|rounder| error(&w, &calibrated(&w, &scheme, rounder, &h), &metric));
        let name = scheme.name().unwrap_or("?");
        println!(
            "{name}: nearest {plain:.4}, gptq {gptq:.4}, ordered {ordered:.4}, ldlq {ldlq:.4}, cd {cd:.4}"
        );
        assert!(gptq < 0.9 * plain && ordered < 0.9 * plain && ldlq < 0.9 * plain, "{name}");
        assert!(cd < 0.98 * gptq.min(ordered), "{name}: {cd} after {gptq} and {ordered}");
    }
}

/// Error feedback pays on every layout: blocks of GGUF, powers of two, NVFP4, nested scales, rectangles, float zeros.
#[test]
fn feedback_pays_on_every_layout() {
    let (w, h) = (gaussian(48, 256, 15), gram(256, 16));
    let metric = Metric::gram(h.clone()).unwrap();
    let rectangle = scheme::UINT3.with_group(Group::Block { rows: 7, cols: 48 });
    let named = scheme::NAMED.into_iter().filter(|(_, scheme)| scheme.code.bits() <= 4);
    for (name, scheme) in named.chain([("rectangles", rectangle)]) {
        let plain = error(&w, &nearest(w.as_ref(), &scheme).quantized, &metric);
        let found = CALIBRATED.map(|rounder| error(&w, &calibrated(&w, &scheme, rounder, &h), &metric));
        println!("{name}: nearest {plain:.4}, gptq, ordered, ldlq, cd {found:.4?}");
        let [gptq, ordered, ldlq, cd] = found;
        assert!(gptq < 0.95 * plain && ordered < 0.95 * plain && ldlq < 0.95 * plain, "{name}");
        assert!(cd < gptq.min(ordered), "{name}");
    }
}

#[test]
fn stochastic_rounding_is_right_on_average() {
    let w = gaussian(2, 64, 9);
    for (name, scheme) in [("uint3", scheme::UINT3), ("nf4", scheme::NF4), ("int4", scheme::INT4)] {
        let draws = 2000;
        let mut mean = Mat::<f64>::zeros(2, 64);
        for seed in 0..draws {
            let found = quantize(w.as_ref(), &scheme, Rounder::Stochastic { seed }).unwrap().quantized;
            let found = found.dequantize();
            mean += Mat::from_fn(2, 64, |i, j| f64::from(found[(i, j)]) / draws as f64);
        }
        let plain = nearest(w.as_ref(), &scheme).quantized;
        for i in 0..2 {
            // Half a step is the largest standard deviation of one draw; inside the range only.
            let step = f64::from(plain.scale(i, 0)) * if name == "nf4" { 0.31 } else { 1.0 };
            let (scale, zero, top) = (plain.scale(i, 0), plain.zero_point(i, 0), scheme.code.max());
            let low = if name == "uint3" { -zero * scale } else { -top * scale };
            for j in 0..64 {
                let off = (mean[(i, j)] - f64::from(w[(i, j)])).abs();
                let clipped = w[(i, j)] < low || w[(i, j)] > (top - zero) * scale;
                assert!(clipped || off <= 5.0 * 0.5 * step / (draws as f64).sqrt(), "{name} {i} {j}: {off}");
            }
        }
        let twice =
            [1, 1, 2].map(|seed| quantize(w.as_ref(), &scheme, Rounder::Stochastic { seed }).unwrap());
        assert!(twice[0] == twice[1] && twice[0] != twice[2], "{name}");
    }
}

#[test]
fn values_on_a_grid_are_kept_by_all() {
    // Multiples of 1/4 from -7/4 to 8/4, both ends in every group: uint4 holds them exactly.
    let w = Mat::from_fn(3, 64, |i, j| (((i * 5 + j) % 16) as f32 - 7.0) / 4.0);
    let h = gram(64, 3);
    for rounder in CALIBRATED.into_iter().chain([Rounder::Mse, Rounder::HQQ, Rounder::Stochastic { seed: 3 }])
    {
        let found = calibrated(&w, &scheme::UINT4, rounder, &h).dequantize();
        assert!((found - &w).norm_max() <= 1e-3, "{rounder:?}");
    }
}

#[test]
fn threads_do_not_matter() {
    let (w, h) = (gaussian(300, 96, 2), gram(96, 2));
    for rounder in CALIBRATED.into_iter().chain([Rounder::Mse, Rounder::HQQ]) {
        let found = [1, 3].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| calibrated(&w, &scheme::UINT3, rounder, &h))
        });
        assert_eq!(found[0], found[1], "{rounder:?}");
    }
}

#[test]
fn scales_too_small_for_f16_are_widened() {
    let w = Mat::from_fn(2, 64, |i, j| ((i + 3 * j) % 16) as f32 * 1e-9);
    let h = gram(64, 3);
    for rounder in CALIBRATED.into_iter().chain([Rounder::Mse, Rounder::HQQ]) {
        let context = Context { hessian: Some(h.as_ref()), ..Context::default() };
        let found = quantize_with(w.as_ref(), &scheme::UINT4, rounder, &context).unwrap();
        assert_eq!(found.widened_from, Some(FloatFormat::F16), "{rounder:?}");
        assert!(error(&w, &found.quantized, &Metric::identity()) < 0.2, "{rounder:?}");
    }
}

#[test]
fn bad_input() {
    let (w, h) = (gaussian(3, 20, 1), gram(20, 1));
    let run = |rounder: Rounder, h: &Mat<f64>| {
        let context = Context { hessian: Some(h.as_ref()), ..Context::default() };
        quantize_with(w.as_ref(), &scheme::UINT4, rounder, &context).map(|_| ())
    };
    for rounder in CALIBRATED {
        let found = quantize(w.as_ref(), &scheme::UINT4, rounder);
        assert!(matches!(found, Err(Error::MissingHessian { rounder: name }) if name == rounder.name()));
        assert!(matches!(run(rounder, &gram(19, 1)), Err(Error::ShapeMismatch { what: "hessian", .. })));
        let mut bad = h.clone();
        bad[(2, 3)] = f64::NAN;
        assert!(matches!(run(rounder, &bad), Err(Error::Linalg(LinalgError::NonFinite { .. }))));
        let mut bad = w.clone();
        bad[(1, 7)] = f32::INFINITY;
        let context = Context { hessian: Some(h.as_ref()), ..Context::default() };
        let found = quantize_with(bad.as_ref(), &scheme::UINT4, rounder, &context);
        assert_eq!(found, Err(Error::NonFinite { row: 1, col: 7 }));
    }
    // Rank 1 and no damping: refused with the pivot; with damping it works.
    let flat = Mat::from_fn(20, 20, |_, _| 1.0);
    for rounder in [
        Rounder::Gptq { act_order: true, damping: 0.0 },
        Rounder::Ldlq { damping: 0.0, sweeps: 1 },
        Rounder::CoordinateDescent { damping: 0.0, sweeps: 1 },
    ] {
        let found = run(rounder, &flat);
        let refused = matches!(found, Err(Error::Linalg(LinalgError::NotPositiveDefinite { .. })));
        assert!(refused, "{found:?}");
    }
    assert_eq!(run(Rounder::COORDINATE_DESCENT, &flat), Ok(()));
    // Inputs that never fired.
    assert_eq!(run(Rounder::COORDINATE_DESCENT, &Mat::zeros(20, 20)), Ok(()));
    let mut half = h.clone();
    for j in 0..20 {
        (half[(3, j)], half[(j, 3)], half[(9, j)], half[(j, 9)]) = (0.0, 0.0, 0.0, 0.0);
    }
    let mean = (0..20).map(|j| half[(j, j)]).sum::<f64>() / 18.0;
    for rounder in CALIBRATED {
        let context = Context { hessian: Some(half.as_ref()), ..Context::default() };
        let found = quantize_with(w.as_ref(), &scheme::UINT4, rounder, &context).unwrap();
        assert_eq!(found.dead_inputs, 2, "{rounder:?}");
        assert!((found.damping.unwrap() - 0.01 * mean).abs() <= 1e-12 * mean, "{rounder:?}");
    }
    let plain = quantize(w.as_ref(), &scheme::UINT4, Rounder::HQQ).unwrap();
    assert_eq!((plain.damping, plain.dead_inputs), (None, 0));
    for damping in [-1.0, f64::NAN] {
        let found = run(Rounder::Gptq { act_order: false, damping }, &h);
        assert!(matches!(found, Err(Error::Linalg(LinalgError::InvalidOption { what: "damping", .. }))));
    }
    for (norm, beta) in [(0.0, 10.0), (1.0, 10.0), (f64::NAN, 10.0), (0.7, 0.0), (0.7, f64::NAN)] {
        let found = run(Rounder::Hqq { norm, beta, iterations: 3 }, &h);
        assert!(matches!(found, Err(Error::InvalidOption { .. })), "{norm} {beta}: {found:?}");
    }
    // Nothing to quantize.
    for (rows, cols) in [(0, 5), (5, 0), (0, 0), (1, 1)] {
        let w = Mat::<f32>::zeros(rows, cols);
        let h = Mat::<f64>::identity(cols, cols);
        for rounder in
            CALIBRATED.into_iter().chain([Rounder::Mse, Rounder::HQQ, Rounder::Stochastic { seed: 0 }])
        {
            assert_eq!(calibrated(&w, &scheme::UINT3, rounder, &h).shape(), (rows, cols), "{rounder:?}");
        }
    }
}
