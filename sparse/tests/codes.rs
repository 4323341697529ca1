//! Products with whole-number codes: the same bits on every path, exact where inputs are whole numbers.

use crate::common::normal;
use proptest::prelude::*;
use rankbit_kit::guarded::Guarded;
use rankbit_linalg::faer::{Mat, MatMut, MatRef};
use rankbit_quant::simd::Level;
use rankbit_quant::{FloatFormat, Group, Quantized, Rounder, Scheme, scheme};
use rankbit_sparse::matmul::{Prepared, PreparedCodes, reference};
use rankbit_sparse::{Error, NmMatrix, NmPattern, Pattern, ValueFormat, Values, criterion, select};

fn stored(weight: MatRef<'_, f32>, pattern: NmPattern, scheme: Scheme) -> NmMatrix {
    let mask = select(criterion::magnitude(weight).unwrap().as_ref(), &Pattern::Nm(pattern)).unwrap();
    let format = ValueFormat::Scheme(scheme, Rounder::Nearest);
    NmMatrix::new(weight, &mask, pattern, &format).unwrap().0
}

/// Whole numbers from −127 to 127, one of ±127 in every two columns: 8 bits hold them exactly, with the scale 1.
fn whole_inputs(tokens: usize, cols: usize) -> Mat<f32> {
    Mat::from_fn(tokens, cols, |t, k| match k % 2 {
        0 => [127.0, -127.0][(t + k / 2) % 3 % 2],
        _ => ((t * 37 + k * 101) % 255) as f32 - 127.0,
    })
}

/// The product on every path: the same bits.
fn product(s: &NmMatrix, x: MatRef<'_, f32>) -> Mat<f32> {
    let prepared = PreparedCodes::new(s).unwrap();
    assert_eq!((prepared.shape(), prepared.pattern()), (s.shape(), s.pattern()));
    let on = |level: Level| {
        let mut y = Mat::from_fn(x.nrows(), s.shape().0, |_, _| f32::NAN);
        level.run(|| prepared.apply_into(x, y.as_mut())).unwrap().unwrap();
        y
    };
    let plain = on(Level::Portable);
    for level in Level::ALL.into_iter().filter(|level| level.is_available()) {
        assert_eq!(on(level), plain, "{level:?} {}", s.pattern());
    }
    plain
}

/// |Δ| ≤ γ·|X|·|S|ᵀ + half a step of the inputs (`step` = 1: they were exact) times |S|.
fn check(s: &NmMatrix, x: MatRef<'_, f32>, terms: usize, step: f64) {
    let (y, expected, dense) = (product(s, x), reference::apply(s, x).unwrap(), s.reconstruct());
    let sizes = match s.values() {
        Values::Quantized(quantized) if !quantized.zeros().is_empty() => {
            // Codes and zero points count apart: each is at most 255 scales.
            let groups = quantized.grouping();
            Mat::from_fn(dense.nrows(), 1, |row, _| {
                (0..groups.per_row).map(|g| quantized.scale(row, g).abs()).fold(0.0, f32::max) * 510.0
            })
        }
        _ => Mat::zeros(dense.nrows(), 1),
    };
    let gamma = (terms + 6) as f64 * 2.0_f64.powi(-24) * 1.01;
    for t in 0..x.nrows() {
        let largest = x.row(t).iter().fold(0.0_f32, |m, x| m.max(x.abs()));
        let half = f64::from(largest) / 254.0 * step;
        for o in 0..dense.nrows() {
            let mut bound = 1e-30;
            for k in 0..dense.ncols() {
                let (x, w) = (f64::from(x[(t, k)].abs()), f64::from(dense[(o, k)].abs()));
                bound += gamma * (x + half) * (w + f64::from(sizes[(o, 0)])) + half * w;
            }
            let difference = (f64::from(y[(t, o)]) - f64::from(expected[(t, o)])).abs();
            assert!(difference <= bound, "{t} {o}: {difference} {bound}");
        }
    }
}

fn schemes() -> impl Strategy<Value = Scheme> {
    let all = vec![
        scheme::INT2,
        scheme::INT3,
        scheme::INT4,
        scheme::INT5,
        scheme::INT8,
        scheme::UINT2,
        scheme::UINT4,
        scheme::UINT4_F,
        scheme::UINT6,
        scheme::UINT8,
    ];
    let groups = prop::sample::select(vec![Group::Size(64), Group::Size(128), Group::Row]);
    let scales = prop::sample::select(vec![FloatFormat::F16, FloatFormat::F32]);
    (prop::sample::select(all), groups, scales)
        .prop_map(|(scheme, group, format)| scheme.with_group(group).with_scale_format(format))
}

/// Every N:M that has a kernel.
fn short_nm() -> impl Strategy<Value = NmPattern> {
    let any = (2_u32..=16).prop_flat_map(|of| (1..=of).prop_map(move |keep| (keep, of)));
    let dense = (2_u32..=32).prop_map(|of| (of, of));
    let common =
        prop::sample::select(vec![(2, 4), (1, 4), (1, 8), (2, 8), (4, 8), (1, 16), (2, 16), (4, 16)]);
    prop_oneof![any, dense, common].prop_map(|(keep, of)| NmPattern::new(keep, of).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whole inputs leave nothing but the rounding of the blocks' sums.
    #[test]
    fn whole_inputs_are_multiplied_exactly(
        pattern in short_nm(), scheme in schemes(), (rows, cols) in (1_usize..40, 1_usize..700),
        tokens in prop_oneof![1_usize..10, 30_usize..40],
    ) {
        let s = stored(normal(rows, cols, "w").as_ref(), pattern, scheme);
        // A last group of one column of 127s at most stays exact too.
        check(&s, whole_inputs(tokens, cols).as_ref(), s.kept_per_row().div_ceil(64), 0.0);
    }

    /// Others are off by half a step of their scale at most.
    #[test]
    fn inputs_are_rounded_to_nearest(
        pattern in short_nm(), scheme in schemes(), (rows, cols) in (1_usize..20, 1_usize..300),
        tokens in 1_usize..6, exponent in -100_i32..100,
    ) {
        let s = stored(normal(rows, cols, "w").as_ref(), pattern, scheme);
        let x = normal(tokens, cols, "x");
        let x = Mat::from_fn(tokens, cols, |t, k| x[(t, k)] * 2.0_f32.powi(exponent));
        check(&s, x.as_ref(), s.kept_per_row().div_ceil(64), 1.0);
    }
}

/// The largest sums there are: every code the lowest or the highest, every input ±127.
#[test]
fn extreme_codes_and_inputs_do_not_overflow() {
    for (keep, of) in [(2, 4), (1, 4), (2, 8), (4, 8), (1, 16), (4, 4)] {
        let pattern = NmPattern::new(keep, of).unwrap();
        let cols = 256 / keep as usize * of as usize;
        for scheme in [scheme::INT4, scheme::INT8, scheme::UINT4, scheme::UINT8] {
            let s = stored(normal(17, cols, "w").as_ref(), pattern, scheme);
            let Values::Quantized(q) = s.values() else { panic!("codes") };
            for byte in [0x00, 0xFF, 0x0F, 0xF0] {
                let codes = vec![byte; q.codes().len()];
                let values =
                    Quantized::from_parts(q.shape(), scheme, codes, q.scales().clone(), q.zeros().to_vec())
                        .unwrap();
                let indices = s.indices().to_vec();
                let s = NmMatrix::from_parts(s.shape(), pattern, Values::Quantized(values), indices).unwrap();
                for sign in [1.0, -1.0] {
                    let x =
                        Mat::from_fn(5, cols, |t, k| if t == 4 && k % 3 == 0 { -sign } else { sign } * 127.0);
                    check(&s, x.as_ref(), 4, 0.0);
                }
            }
        }
    }
}

/// Scales of any size, and zeros.
#[test]
fn scales_and_inputs_of_any_size() {
    let weight = normal(20, 300, "w");
    for size in [1e-30_f32, 1e-6, 1.0, 1e20] {
        let scaled = Mat::from_fn(20, 300, |i, j| weight[(i, j)] * size);
        let scheme = scheme::INT4.with_scale_format(FloatFormat::F32);
        let s = stored(scaled.as_ref(), NmPattern::TWO_OF_FOUR, scheme);
        check(&s, whole_inputs(3, 300).as_ref(), 3, 0.0);
    }
    let s = stored(weight.as_ref(), NmPattern::TWO_OF_FOUR, scheme::INT4);
    for tiny in [0.0, f32::from_bits(1), 1e-38, 1e-36] {
        let x = Mat::from_fn(2, 300, |_, _| tiny);
        let y = product(&s, x.as_ref());
        assert!((0..20).all(|o| y[(0, o)].abs() <= 300.0 * 4.0 * tiny), "{tiny}");
    }
}

/// Any strides in and out, nothing written beside, the same bits for any number of threads and of tokens at a time.
#[test]
fn strides_guards_threads_and_tokens() {
    let s = stored(normal(600, 200, "w").as_ref(), NmPattern::TWO_OF_FOUR, scheme::INT4);
    let prepared = PreparedCodes::new(&s).unwrap();
    let tokens = 41;
    let x = normal(tokens, 200, "x");
    let rows: Vec<f32> = (0..tokens).flat_map(|t| (0..200).map(move |k| (t, k))).map(|at| x[at]).collect();
    let row_major = MatRef::from_row_major_slice(&rows, tokens, 200);
    for level in Level::ALL.into_iter().filter(|level| level.is_available()) {
        let run = |threads, x: MatRef<'_, f32>| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut y = Mat::zeros(x.nrows(), 600);
            pool.install(|| level.run(|| prepared.apply_into(x, y.as_mut())).unwrap()).unwrap();
            y
        };
        let expected = run(1, x.as_ref());
        assert_eq!(run(3, row_major), expected);
        for t in [0, 7, 40] {
            assert_eq!(run(2, x.subrows(t, 1)).as_ref(), expected.subrows(t, 1));
        }
        let mut out = Guarded::new(tokens * 600, 64, 0.0_f32, 1e30);
        let view = MatMut::from_row_major_slice_mut(out.logical(), tokens, 600);
        level.run(|| prepared.apply_into(row_major, view)).unwrap().unwrap();
        assert_eq!(MatRef::from_row_major_slice(out.check(), tokens, 600), expected.as_ref());
    }
}

/// What the documentation says is stored.
#[test]
fn stored_bits_are_as_documented() {
    for ((keep, of), bits) in [((4, 4), 4.25), ((2, 4), 2.875), ((1, 4), 1.5625), ((1, 8), 0.90625)] {
        let s = stored(normal(32, 1024, "w").as_ref(), NmPattern::new(keep, of).unwrap(), scheme::INT4);
        let bytes = PreparedCodes::new(&s).unwrap().bytes();
        assert_eq!(8.0 * bytes as f64 / (32.0 * 1024.0), bits, "{keep}:{of}");
    }
}

#[test]
fn what_has_no_kernel_is_refused() {
    let weight = normal(8, 256, "w");
    let refused = |s: &NmMatrix| matches!(PreparedCodes::new(s), Err(Error::Unsupported { .. }));
    let two = NmPattern::TWO_OF_FOUR;
    assert!(refused(&stored(weight.as_ref(), two, scheme::NF4)));
    assert!(refused(&stored(weight.as_ref(), two, scheme::Q4_0)));
    assert!(refused(&stored(weight.as_ref(), two, scheme::INT4.with_group(Group::Size(32)))));
    assert!(refused(&stored(weight.as_ref(), NmPattern::new(1, 32).unwrap(), scheme::INT4)));
    let mask = select(criterion::magnitude(weight.as_ref()).unwrap().as_ref(), &Pattern::Nm(two)).unwrap();
    let floats = NmMatrix::new(weight.as_ref(), &mask, two, &ValueFormat::Float(FloatFormat::F16)).unwrap().0;
    assert!(refused(&floats) && Prepared::new(&floats).is_ok());

    let prepared = PreparedCodes::new(&stored(weight.as_ref(), two, scheme::INT4)).unwrap();
    assert!(matches!(prepared.apply(normal(2, 255, "x").as_ref()), Err(Error::ShapeMismatch { .. })));
    let mut y = Mat::zeros(2, 9);
    let wrong = prepared.apply_into(normal(2, 256, "x").as_ref(), y.as_mut());
    assert!(matches!(wrong, Err(Error::ShapeMismatch { what: "output", .. })));
    for bad in [f32::NAN, f32::INFINITY] {
        let mut x = normal(3, 256, "x");
        x[(1, 7)] = bad;
        let expected = Error::NonFinite { what: "activations", row: 1, col: 7 };
        assert_eq!(prepared.apply(x.as_ref()).unwrap_err(), expected);
    }
    for (rows, cols, tokens) in [(0, 4, 2), (4, 0, 2), (4, 4, 0), (0, 0, 0), (1, 1, 1), (4, 0, 9)] {
        let s = stored(normal(rows, cols, "w").as_ref(), two, scheme::INT4);
        let y = product(&s, normal(tokens, cols, "x").as_ref());
        assert_eq!(y.shape(), (tokens, rows));
    }
}
