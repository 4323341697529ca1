//! Vector codes: errors, storage, products, error feedback, bad input.

use crate::common::{row, view};
use proptest::prelude::*;
use rankbit_kit::strategy::{Matrix, matrix};
use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_linalg::{ErrorFeedback, Order, Stream, SweepOptions};
use rankbit_quant::simd::Level;
use rankbit_quant::trellis::rates;
use rankbit_quant::trellis::viterbi::{Encoder, Scratch, cost};
use rankbit_quant::vector::outlier;
use rankbit_quant::{
    Code, ColumnParts, Context, Error, FloatFormat, Floats, Group, Outliers, Quantized, Rate, Rounder,
    Scheme, Trellis, matmul, part_lengths, quantize, quantize_with, scheme, trellis_columns,
};

/// Quick ones: windows of 8 bits.
fn quick(rate: Rate) -> Scheme {
    Scheme { code: Code::Trellis(Trellis { window: 8, rate }), ..scheme::TRELLIS2 }
}

fn schemes() -> Vec<Scheme> {
    let uniform = (1..=8).map(|rate| quick(Rate::Uniform(rate)));
    let budgets = [1.5, 3.3, 6.0].map(|bits| quick(Rate::budget(bits)));
    uniform.chain(budgets).chain([scheme::E8P, scheme::E8P3, scheme::E8P4]).collect()
}

fn normal(rows: usize, cols: usize, name: &str) -> Mat<f32> {
    let mut values = vec![0.0_f32; rows * cols];
    Stream::new(11, name).fill_normal(&mut values);
    Mat::from_fn(rows, cols, |i, j| values[i * cols + j])
}

/// Normal values, rows and columns of several scales, some entries far outside.
fn trained(rows: usize, cols: usize) -> Mat<f32> {
    let mut w = normal(rows, cols, "trained");
    for j in 0..cols {
        for i in 0..rows {
            w[(i, j)] *= 0.02 * (1.0 + (i % 5) as f32) * (0.3 + (j % 7) as f32 / 3.0);
        }
    }
    w[(3, 2)] = 7.5;
    w[(rows - 1, cols - 1)] = -4.25;
    w
}

fn hessian(n: usize) -> Mat<f64> {
    let x = normal(3 * n, n, "inputs");
    let x =
        Mat::from_fn(3 * n, n, |t, j| f64::from(x[(t, j)] + 0.7 * x[(t, 0)]) * (1.0 + j as f64 / n as f64));
    x.transpose() * &x
}

fn relative(weight: MatRef<'_, f32>, found: &Mat<f32>) -> f64 {
    let (mut error, mut norm) = (0.0, 0.0);
    for j in 0..weight.ncols() {
        for i in 0..weight.nrows() {
            error += (f64::from(weight[(i, j)]) - f64::from(found[(i, j)])).powi(2);
            norm += f64::from(weight[(i, j)]).powi(2);
        }
    }
    (error / norm).sqrt()
}

/// tr(E·H·Eᵀ), rows weighted.
fn form(weight: MatRef<'_, f32>, found: &Mat<f32>, hessian: MatRef<'_, f64>, rows: Option<&[f64]>) -> f64 {
    let weights = |i: usize| rows.map_or(1.0, |rows| rows[i].sqrt());
    let error = Mat::from_fn(weight.nrows(), weight.ncols(), |i, j| {
        weights(i) * f64::from(weight[(i, j)] - found[(i, j)])
    });
    let image = &error * hessian;
    error
        .col_iter()
        .zip(image.col_iter())
        .map(|(a, b)| a.iter().zip(b.iter()).map(|(a, b)| a * b).sum::<f64>())
        .sum()
}

/// The relative errors of the specification, on rings of 256 normal values: equal to 0.5 % and the spread of samples.
#[test]
fn errors_on_normal_values() {
    let mut x = vec![0.0_f32; 1 << 18];
    Stream::new(5, "normal").fill_normal(&mut x);
    let (w, mut states, mut scratch) = (vec![1.0; 256], vec![0; 256], Scratch::default());
    let mut error = |window, rate, samples: usize| {
        let encoder = Encoder::new(window, rate, Level::current());
        let (mut error, mut norm) = (0.0, 0.0);
        for x in x[..samples].chunks_exact(256) {
            encoder.ring(x, &w, &mut scratch, &mut states);
            error += cost(encoder.values(), x, &w, &states);
            norm += x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>();
        }
        (error / norm).sqrt()
    };
    for (window, rate, expected) in [
        (12, 1, 0.5294),
        (12, 2, 0.2655),
        (12, 3, 0.1347),
        (12, 4, 0.0688),
        (12, 5, 0.0353),
        (10, 2, 0.2692),
        (10, 3, 0.1376),
        (10, 4, 0.0716),
        (8, 2, 0.2760),
        (8, 3, 0.1435),
        (8, 4, 0.0792),
    ] {
        let found = error(window, rate, if window == 12 { 1 << 17 } else { 1 << 18 });
        println!("L {window} k {rate}: {found:.4}, expected {expected}");
        // Values far outside, which cost most, are the samples' luck.
        let slack = if rate >= 4 { 0.02 } else { 0.01 };
        assert!((found / expected - 1.0).abs() <= slack, "L {window} k {rate}: {found}");
        assert!(found > 0.5_f64.powi(i32::from(rate)), "below the limit of all codes");
    }
    let found = error(16, 2, 1 << 15);
    assert!(found <= 0.265, "L 16: {found}");
}

#[test]
fn every_view_of_the_storage_is_one_matrix() {
    for (rows, cols) in [(1, 1), (5, 3), (32, 8), (70, 13), (33, 40)] {
        let w = if rows < 4 { normal(rows, cols, "small") } else { trained(rows, cols) };
        for scheme in schemes() {
            let Ok(rounded) = quantize(w.as_ref(), &scheme, Rounder::Nearest) else {
                // Small matrices whose scales take more than the budget.
                assert!(matches!(scheme.code, Code::Trellis(Trellis { rate: Rate::Budget(_), .. })));
                continue;
            };
            let q = rounded.quantized;
            let whole = q.dequantize();
            for i in 0..rows {
                let row = row(&q, i);
                assert!(
                    row.iter().zip(whole.row(i).iter()).all(|(a, b)| a.to_bits() == b.to_bits()),
                    "{scheme:?}"
                );
            }
            let parts = q.columns().unwrap();
            let outliers = parts.outliers();
            let parts = ColumnParts::new(
                q.shape(),
                q.scheme(),
                parts.scales().to_vec(),
                parts.rates().to_vec(),
                Outliers::new(outliers.positions().to_vec(), outliers.values().clone()).unwrap(),
            );
            let back = Quantized::from_vector_parts(
                q.shape(),
                *q.scheme(),
                q.codes().to_vec(),
                q.scales().floats().clone(),
                parts.unwrap(),
            );
            assert_eq!(back.as_ref(), Ok(&q));
            // Every bit is counted; where the rate is fixed, as foretold.
            let lengths = part_lengths(q.shape(), q.scheme()).unwrap();
            let apart = 48 * outliers.positions().len() as u64;
            let bits = 8 * (q.codes().len() + 2 * rows + lengths.columns) as u64 + apart;
            assert_eq!(q.stored_bits(), bits);
            if let Code::Trellis(Trellis { rate: Rate::Budget(units), .. }) = scheme.code {
                assert!(bits as f64 <= f64::from(units) / 65536.0 * (rows * cols) as f64);
            } else {
                assert_eq!(q.codes().len(), lengths.codes);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn products_are_those_of_the_decoded_matrix(
        w in matrix(1..=70, 1..=40), x in matrix(1..=5, 40..=40), which in 0..schemes().len()
    ) {
        let Ok(rounded) = quantize(view(&w), &schemes()[which], Rounder::Nearest) else { return Ok(()) };
        let (q, x) = (rounded.quantized, view(&x).subcols(0, w.cols));
        let (found, expected) = (matmul::apply(&q, x).unwrap(), matmul::reference::apply(&q, x).unwrap());
        let whole = q.dequantize();
        let outliers = q.columns().unwrap().outliers();
        for t in 0..x.nrows() {
            for o in 0..w.rows {
                let mut bound: f64 = (0..w.cols).map(|k| f64::from((x[(t, k)] * whole[(o, k)]).abs())).sum();
                // An outlier and its code are added apart.
                for (at, position) in outliers.positions().iter().enumerate() {
                    if *position as usize % w.rows == o {
                        let k = *position as usize / w.rows;
                        bound += 2.0 * f64::from((outliers.values().get(at) * x[(t, k)]).abs());
                    }
                }
                let gamma = (w.cols + 6) as f64 * f64::from(f32::EPSILON);
                let difference = f64::from((found[(t, o)] - expected[(t, o)]).abs());
                prop_assert!(difference <= gamma * bound + 1e-37, "{difference} {bound}");
            }
        }
    }
}

#[test]
fn threads_do_not_matter() {
    let w = trained(300, 40);
    for scheme in [quick(Rate::Uniform(3)), quick(Rate::budget(3.5)), scheme::E8P3] {
        let one = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let q = quantize(w.as_ref(), &scheme, Rounder::Nearest).unwrap().quantized;
                let y = matmul::apply(&q, normal(3, 40, "x").as_ref()).unwrap();
                (q, y)
            })
        };
        assert!(one(1) == one(3), "{scheme:?}");
    }
}

#[test]
fn outliers_are_right_to_their_format_and_scales_do_not_know_them() {
    let mut w = trained(96, 64);
    for scheme in [quick(Rate::Uniform(2)), quick(Rate::Uniform(5)), scheme::E8P] {
        let q = quantize(w.as_ref(), &scheme, Rounder::Nearest).unwrap().quantized;
        let outliers = q.columns().unwrap().outliers();
        assert!(outliers.positions().contains(&(2 * 96 + 3)) && outliers.positions().len() < 20);
        let found = q.dequantize();
        for position in outliers.positions() {
            let (i, j) = (*position as usize % 96, *position as usize / 96);
            assert!((found[(i, j)] / w[(i, j)] - 1.0).abs() <= 2.0_f32.powi(-10), "{i} {j}");
        }
    }
    // A weight ten times as far outside changes nothing but itself.
    let codes = |w: &Mat<f32>| {
        quantize(w.as_ref(), &quick(Rate::Uniform(3)), Rounder::Nearest).unwrap().quantized.codes().to_vec()
    };
    let before = codes(&w);
    w[(3, 2)] *= 10.0;
    assert!(codes(&w) == before);
}

#[test]
fn powers_of_two_scale_the_result() {
    let w = trained(64, 24);
    let scaled = Mat::from_fn(64, 24, |i, j| w[(i, j)] * 0.125);
    for scheme in [quick(Rate::Uniform(2)), quick(Rate::budget(4.0)), scheme::E8P4] {
        let decode =
            |w: &Mat<f32>| quantize(w.as_ref(), &scheme, Rounder::Nearest).unwrap().quantized.dequantize();
        let (one, other) = (decode(&w), decode(&scaled));
        assert!((0..64).all(|i| (0..24).all(|j| one[(i, j)] * 0.125 == other[(i, j)])), "{scheme:?}");
    }
}

#[test]
fn errors_fall_with_bits_and_with_states() {
    let w = normal(256, 48, "falling");
    let error = |window, rate| {
        let scheme =
            Scheme { code: Code::Trellis(Trellis { window, rate: Rate::Uniform(rate) }), ..scheme::TRELLIS2 };
        relative(w.as_ref(), &quantize(w.as_ref(), &scheme, Rounder::Nearest).unwrap().quantized.dequantize())
    };
    let by_rate: Vec<f64> = (1..=8).map(|rate| error(8, rate)).collect();
    assert!(by_rate.windows(2).all(|pair| pair[1] < pair[0]), "{by_rate:?}");
    // Beyond that 256 states have too few values.
    assert!(by_rate[..5].windows(2).all(|pair| pair[1] < 0.6 * pair[0]), "{by_rate:?}");
    let by_window: Vec<f64> = [8, 10, 12].into_iter().map(|window| error(window, 3)).collect();
    assert!(by_window.windows(2).all(|pair| pair[1] < pair[0]), "{by_window:?}");
}

#[test]
fn a_budget_beats_the_uniform_rate_where_columns_differ() {
    // Three octaves between columns: half of the columns hold nearly everything.
    let w = normal(128, 64, "budget");
    let w = Mat::from_fn(128, 64, |i, j| w[(i, j)] * if j % 2 == 0 { 1.0 } else { 0.02 });
    let error = |scheme: &Scheme| {
        let q = quantize(w.as_ref(), scheme, Rounder::Nearest).unwrap().quantized;
        (relative(w.as_ref(), &q.dequantize()), q.stored_bits() as f64 / (128.0 * 64.0))
    };
    let (uniform, bits) = error(&quick(Rate::Uniform(3)));
    let (chosen, spent) = error(&quick(Rate::budget(bits)));
    // Less than an error of weights alone would move: of inputs nothing is known.
    assert!(spent <= bits && chosen < 0.6 * uniform, "{chosen} at {spent}, {uniform} at {bits}");
}

/// One look at all matrices, then each by itself: exactly the rates of the common allocation.
#[test]
fn a_budget_over_several_matrices() {
    let (loud, quiet) = (trained(64, 24), normal(96, 32, "quiet"));
    let quiet = Mat::from_fn(96, 32, |i, j| quiet[(i, j)] * 0.02);
    let h = hessian(24);
    let context = Context { hessian: Some(h.as_ref()), ..Context::default() };
    let scheme = quick(Rate::budget(1.0));
    let matrices = [
        trellis_columns(loud.as_ref(), &scheme, 0.01, &context).unwrap(),
        trellis_columns(quiet.as_ref(), &scheme, 0.01, &Context::default()).unwrap(),
    ];
    let budget = 4 * (64 * 24 + 96 * 32);
    let rates = rates::allocate(&matrices, budget).unwrap();
    let alone = |k: usize| {
        let rate = matrices[k].budget(&rates[k]);
        Scheme { code: Code::Trellis(Trellis { window: 8, rate }), ..scheme }
    };
    let loud = quantize_with(loud.as_ref(), &alone(0), FEEDBACK, &context).unwrap().quantized;
    let quiet = quantize(quiet.as_ref(), &alone(1), Rounder::Nearest).unwrap().quantized;
    assert_eq!(loud.columns().unwrap().rates(), rates[0]);
    assert_eq!(quiet.columns().unwrap().rates(), rates[1]);
    let spent = loud.stored_bits() + quiet.stored_bits();
    assert!(spent <= budget && spent + 96 > budget, "{spent} of {budget}");
    let mean = |rates: &[u8]| rates.iter().map(|&k| f64::from(k)).sum::<f64>() / rates.len() as f64;
    assert!(mean(&rates[0]) > mean(&rates[1]) + 0.5, "{rates:?}");
    let zeros = Mat::zeros(4, 4);
    assert!(trellis_columns(zeros.as_ref(), &scheme::E8P, 0.01, &Context::default()).is_err());
}

fn fed(
    w: &Mat<f32>,
    scheme: &Scheme,
    rounder: Rounder,
    h: MatRef<'_, f64>,
    rows: Option<&[f64]>,
) -> Quantized {
    let context = Context { hessian: Some(h), row_weights: rows };
    quantize_with(w.as_ref(), scheme, rounder, &context).unwrap().quantized
}

const FEEDBACK: Rounder = Rounder::Gptq { act_order: true, damping: 0.01 };

fn descent(sweeps: u32) -> Rounder {
    Rounder::CoordinateDescent { damping: 0.01, sweeps }
}

/// Plain coding weighs rows by the inverse of their scales and fits these afterwards; beyond that the two are one.
#[test]
fn feedback_without_correlation_is_plain_coding() {
    let w = trained(64, 24);
    let identity = Mat::identity(24, 24);
    for scheme in [quick(Rate::Uniform(2)), quick(Rate::Uniform(3))] {
        let plain = quantize(w.as_ref(), &scheme, Rounder::Nearest).unwrap().quantized;
        let scales = fed(&w, &scheme, FEEDBACK, identity.as_ref(), None).scales().floats().to_f32();
        let inverse: Vec<f64> = scales.iter().map(|&scale| f64::from(scale).recip()).collect();
        let fed = fed(&w, &scheme, FEEDBACK, identity.as_ref(), Some(&inverse));
        assert!(fed.codes() == plain.codes(), "{scheme:?}");
        assert_eq!(fed.columns().unwrap().scales(), plain.columns().unwrap().scales());
        let fitted = plain.scales().floats().to_f32();
        assert!(scales.iter().zip(&fitted).all(|(before, after)| (after / before - 1.0).abs() < 0.3));
        // The fit costs nothing, overall.
        let error = |q: &Quantized| relative(w.as_ref(), &q.dequantize());
        assert!(error(&plain) < 1.01 * error(&fed), "{scheme:?}: {} {}", error(&plain), error(&fed));
    }
}

#[test]
fn feedback_and_sweeps_lower_the_error_they_are_for() {
    let (w, h) = (trained(96, 40), hessian(40));
    let options = SweepOptions { damping: 0.01, order: Order::ByDiagonal, ..SweepOptions::default() };
    let damped = ErrorFeedback::new(h.as_ref(), &options).unwrap().damped();
    let rows: Vec<f64> = (0..96).map(|i| 0.1 + f64::from(i % 10)).collect();
    for scheme in [quick(Rate::Uniform(2)), quick(Rate::Uniform(4)), quick(Rate::budget(3.0))] {
        let plain = quantize(w.as_ref(), &scheme, Rounder::Nearest).unwrap().quantized;
        for weights in [None, Some(rows.as_slice())] {
            let error = |q: &Quantized| form(w.as_ref(), &q.dequantize(), damped.as_ref(), weights);
            let mut last = error(&plain);
            let fed = |rounder| fed(&w, &scheme, rounder, h.as_ref(), weights);
            let first = error(&fed(FEEDBACK));
            assert!(first < 0.9 * last, "{scheme:?}: {first} {last}");
            last = first;
            for sweeps in 1..=4 {
                let next = error(&fed(descent(sweeps)));
                assert!(next <= last * (1.0 + 1e-6), "{scheme:?}, {sweeps}: {next} {last}");
                last = next;
            }
            assert!(last < 0.995 * first);
        }
        // What counts more gets less error.
        let weighted = fed(&w, &scheme, descent(2), h.as_ref(), Some(&rows)).dequantize();
        let plain = fed(&w, &scheme, descent(2), h.as_ref(), None).dequantize();
        let error = |found| form(w.as_ref(), found, damped.as_ref(), Some(&rows));
        assert!(error(&weighted) < error(&plain), "{scheme:?}");
    }
}

#[test]
fn equal_row_weights_are_none_and_inputs_may_come_in_any_order() {
    let (w, h) = (trained(64, 24), hessian(24));
    let scheme = quick(Rate::Uniform(3));
    let found = fed(&w, &scheme, descent(2), h.as_ref(), None);
    assert!(fed(&w, &scheme, descent(2), h.as_ref(), Some(&[2.5; 64])) == found);
    let place = |j: usize| (j * 7 + 3) % 24;
    let moved = Mat::from_fn(64, 24, |i, j| w[(i, place(j))]);
    let moved_h = Mat::from_fn(24, 24, |i, j| h[(place(i), place(j))]);
    let (moved, found) =
        (fed(&moved, &scheme, descent(2), moved_h.as_ref(), None).dequantize(), found.dequantize());
    assert!((0..64).all(|i| (0..24).all(|j| moved[(i, j)] == found[(i, place(j))])));
}

#[test]
fn without_bits_only_outliers_are_left() {
    let w = trained(64, 24);
    let outliers = quantize(w.as_ref(), &quick(Rate::Uniform(1)), Rounder::Nearest).unwrap().quantized;
    let outliers = outliers.columns().unwrap().outliers().positions().to_vec();
    // Just what scales and outliers take.
    let bits = (16 * 64 + 12 * 24 + 48 * outliers.len()) as f64 / (64.0 * 24.0) + 1e-4;
    let q = quantize(w.as_ref(), &quick(Rate::budget(bits)), Rounder::Nearest).unwrap().quantized;
    assert_eq!((q.codes().len(), q.columns().unwrap().rates()), (0, [0; 24].as_slice()));
    let found = q.dequantize();
    for j in 0..24 {
        for i in 0..64 {
            let position = u32::try_from(j * 64 + i).unwrap();
            let expected =
                if outliers.contains(&position) { FloatFormat::F16.round(w[(i, j)].into()) } else { 0.0 };
            assert_eq!(found[(i, j)], expected);
        }
    }
    let error = quantize(w.as_ref(), &quick(Rate::budget(bits - 0.1)), Rounder::Nearest).unwrap_err();
    assert!(matches!(error, Error::InvalidOption { what: "budget", .. }), "{error}");
}

#[test]
fn constant_zero_and_extreme_matrices() {
    for scheme in schemes() {
        for value in [0.0, 1.0, -3.0, 1e-30, 1e30, f32::MAX, f32::MIN_POSITIVE / 8.0] {
            let w = Mat::full(40, 17, value);
            let Ok(rounded) = quantize(w.as_ref(), &scheme, Rounder::Nearest) else { continue };
            let found = rounded.quantized.dequantize();
            assert!((0..40).all(|i| (0..17).all(|j| found[(i, j)].is_finite())), "{scheme:?} {value}");
            if value != 0.0 && value.is_normal() {
                // So few bits that most columns have none, or beyond the largest scales: as near as they come.
                let few =
                    matches!(scheme.code, Code::Trellis(Trellis { rate, .. }) if rate == Rate::budget(1.5));
                let bound = if few || value == f32::MAX { 1.0 } else { 0.8 };
                assert!(relative(w.as_ref(), &found) <= bound, "{scheme:?} {value}");
            } else {
                assert!((0..40).all(|i| (0..17).all(|j| found[(i, j)].abs() <= 2.0 * value.abs())));
            }
        }
        for (rows, cols) in [(0, 0), (0, 5), (5, 0)] {
            let w = Mat::<f32>::zeros(rows, cols);
            if let Ok(rounded) = quantize(w.as_ref(), &scheme, Rounder::Nearest) {
                assert_eq!(
                    matmul::apply(&rounded.quantized, Mat::zeros(2, cols).as_ref()).unwrap().ncols(),
                    rows
                );
            }
        }
    }
}

#[test]
fn bad_input_is_refused_by_name() {
    let w = trained(40, 16);
    let h = hessian(16);
    let context = Context { hessian: Some(h.as_ref()), row_weights: None };
    let scheme = quick(Rate::Uniform(2));
    for rounder in [Rounder::HQQ, Rounder::Mse, Rounder::Stochastic { seed: 0 }] {
        assert!(matches!(
            quantize_with(w.as_ref(), &scheme, rounder, &context),
            Err(Error::InvalidScheme { .. })
        ));
    }
    let lattice = quantize_with(w.as_ref(), &scheme::E8P, Rounder::LDLQ, &context);
    assert!(matches!(lattice, Err(Error::InvalidScheme { .. })));
    assert!(matches!(quantize(w.as_ref(), &scheme, Rounder::LDLQ), Err(Error::MissingHessian { .. })));
    let short = Context { row_weights: Some(&[1.0; 3]), ..context };
    let found = quantize_with(w.as_ref(), &scheme, Rounder::LDLQ, &short);
    assert!(matches!(found, Err(Error::ShapeMismatch { what: "row weights", .. })));
    let small = Context { hessian: Some(h.as_ref().subrows(0, 15).subcols(0, 15)), row_weights: None };
    assert!(matches!(quantize_with(w.as_ref(), &scheme, FEEDBACK, &small), Err(Error::ShapeMismatch { .. })));
    let mut bad = w.clone();
    bad[(7, 9)] = f32::NAN;
    for rounder in [Rounder::Nearest, FEEDBACK] {
        assert_eq!(
            quantize_with(bad.as_ref(), &scheme, rounder, &context),
            Err(Error::NonFinite { row: 7, col: 9 })
        );
    }
    for scheme in [
        quick(Rate::Uniform(0)),
        quick(Rate::Uniform(9)),
        Scheme { code: Code::Trellis(Trellis { window: 7, rate: Rate::Uniform(2) }), ..scheme },
        Scheme { code: Code::Trellis(Trellis { window: 17, rate: Rate::Uniform(2) }), ..scheme },
        scheme.with_group(Group::Size(64)),
        scheme::E8P.with_scale_format(FloatFormat::E8m0),
        Scheme { zero: rankbit_quant::ZeroPoint::Integer, ..scheme::E8P },
    ] {
        assert!(matches!(quantize(w.as_ref(), &scheme, Rounder::Nearest), Err(Error::InvalidScheme { .. })));
    }
}

/// Hostile parts are refused; those that are not decode to something.
#[test]
fn hostile_storage() {
    let scheme = quick(Rate::budget(4.0));
    let shape = (40, 6);
    let rates = vec![0, 1, 8, 3, 2, 5];
    let bytes = 19 * 64 / 8;
    let columns = |scales: usize, rates: Vec<u8>, positions: Vec<u32>, values: Vec<f32>| {
        let outliers = Outliers::new(positions, Floats::encode(&values, FloatFormat::F16))?;
        ColumnParts::new(
            shape,
            &scheme,
            (0..scales).map(|i| (i * 37).to_le_bytes()[0]).collect(),
            rates,
            outliers,
        )
    };
    let good = columns(6, rates.clone(), vec![0, 100, 239], vec![1.0, -2.0, 3.0]).unwrap();
    let ones = Floats::encode(&[1.0; 40], FloatFormat::F16);
    let build = |codes: usize, scales: &Floats, columns: &ColumnParts| {
        let codes = (0..codes).map(|i| (i * i * 7).to_le_bytes()[0]).collect();
        Quantized::from_vector_parts(shape, scheme, codes, scales.clone(), columns.clone())
    };
    let q = build(bytes, &ones, &good).unwrap();
    assert!(q.dequantize().col_iter().all(|col| col.iter().all(|value| value.is_finite())));
    assert!(matches!(build(bytes - 1, &ones, &good), Err(Error::PartLength { part: "codes", .. })));
    let scales = Floats::encode(&[1.0; 39], FloatFormat::F16);
    assert!(matches!(build(bytes, &scales, &good), Err(Error::PartLength { part: "scales", .. })));
    let scales = Floats::encode(&[f32::INFINITY; 40], FloatFormat::F16);
    assert!(matches!(build(bytes, &scales, &good), Err(Error::StoredNonFinite { .. })));
    let scales = Floats::encode(&[1.0; 40], FloatFormat::Bf16);
    assert!(matches!(build(bytes, &scales, &good), Err(Error::InvalidScheme { .. })));
    let rate = |rates: &[u8]| columns(6, rates.to_vec(), vec![], vec![]).unwrap_err();
    assert!(matches!(rate(&[9, 0, 0, 0, 0, 0]), Error::InvalidOption { what: "rate", .. }));
    assert!(matches!(rate(&[1; 5]), Error::PartLength { part: "rates", .. }));
    let outlier = |positions: &[u32]| {
        columns(6, rates.clone(), positions.to_vec(), vec![1.0; positions.len()]).unwrap_err()
    };
    assert_eq!(outlier(&[5, 5]), Error::InvalidOutlier { index: 1 });
    assert_eq!(outlier(&[5, 240]), Error::InvalidOutlier { index: 1 });
    assert!(columns(6, rates.clone(), vec![1], vec![f32::NAN]).is_err());
    assert!(columns(6, rates.clone(), vec![1], vec![]).is_err());
    assert!(columns(5, rates.clone(), vec![], vec![]).is_err());
    assert!(Quantized::from_parts((32, 8), scheme::TRELLIS2, vec![0; 64], ones.clone(), vec![]).is_err());
    assert!(
        ColumnParts::new((4, 4), &scheme::INT4, vec![0; 4], vec![], Outliers::none(FloatFormat::F16))
            .is_err()
    );
    for shape in [(usize::MAX, 1), (1, usize::MAX), (1 << 40, 1 << 40)] {
        for (_, scheme) in scheme::NAMED_VECTOR {
            assert!(part_lengths(shape, &scheme).is_err() || shape.0 == 1, "{shape:?} {scheme:?}");
        }
    }
}

#[test]
fn names() {
    for (name, scheme) in scheme::NAMED_VECTOR {
        assert_eq!(Scheme::named(name), Some(scheme));
        assert_eq!(scheme.name(), Some(name));
        assert_eq!(scheme.with_scale_format(FloatFormat::F32).check(), Ok(()));
    }
    assert_eq!(scheme::TRELLIS.with_budget(2.75).name(), Some("trellis"));
    assert_eq!(scheme::INT4.with_budget(2.75), scheme::INT4);
    assert_eq!(quick(Rate::Uniform(2)).name(), None);
    let _ = (outlier::THRESHOLD, Matrix { rows: 0, cols: 0, values: vec![] });
}

/// Products of E8P, in whole numbers or floats as the inputs allow: within the elementwise bound of all products, each
/// token as if alone, the same bits on every level.
#[test]
fn products_of_e8p_keep_the_bound_whatever_the_inputs() {
    for features in [40, 64, 70, 259, 384] {
        let w = trained(50, features);
        let q = quantize(w.as_ref(), &scheme::E8P, Rounder::Nearest).unwrap().quantized;
        let dense = q.dequantize();
        let mut x = normal(6, features, "spikes");
        // Around where one input may be above the rest, far beyond it, tiny, and nothing.
        (x[(1, 3)], x[(2, 0)], x[(3, 5)]) = (features as f32 / 9.0, features as f32 / 11.0, 1e6);
        for j in 0..features {
            x[(4, j)] *= 1e-30;
            x[(5, j)] = 0.0;
        }
        let run = || matmul::apply(&q, x.as_ref()).unwrap();
        let found = Level::Portable.run(run).unwrap();
        for level in Level::ALL.into_iter().filter(|level| level.is_available()) {
            assert!(level.run(run).unwrap() == found, "{features} {level:?}");
        }
        let k = (features + 2) as f64 * 2.0_f64.powi(-24);
        for t in 0..6 {
            let alone = matmul::apply(&q, x.as_ref().subrows(t, 1)).unwrap();
            for o in 0..50 {
                let terms = || (0..features).map(|j| f64::from(x[(t, j)]) * f64::from(dense[(o, j)]));
                let (exact, size) = (terms().sum::<f64>(), terms().map(f64::abs).sum::<f64>());
                let error = (f64::from(found[(t, o)]) - exact).abs();
                assert!(error <= k / (1.0 - k) * size, "{features} [{t}, {o}]: {error} {size}");
                assert_eq!(alone[(0, o)], found[(t, o)]);
            }
        }
    }
}
