//! AWQ's two searches: an independent implementation on a real layer, and what they promise.

use crate::common::floats;
use proptest::prelude::*;
use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_linalg::{Metric, Stream};
use rankbit_quant::transform::awq::{Options, search};
use rankbit_quant::{Context, Error, FloatFormat, Group, Quantized, Rounder, Scheme, quantize_with, scheme};
use serde_json::Value;

/// tr(E·H·Eᵀ) of the residual, by loops of its own.
fn form(weight: MatRef<'_, f32>, dense: MatRef<'_, f32>, gram: MatRef<'_, f64>) -> f64 {
    let n = weight.ncols();
    (0..weight.nrows())
        .map(|i| {
            let e: Vec<f64> = (0..n).map(|j| f64::from(weight[(i, j)]) - f64::from(dense[(i, j)])).collect();
            (0..n).map(|j| (0..n).map(|k| e[j] * gram[(j, k)] * e[k]).sum::<f64>()).sum::<f64>()
        })
        .sum()
}

#[test]
fn equals_an_independent_implementation_on_a_real_layer() {
    let kept: Value = serde_json::from_str(include_str!("../../tests/vectors/awq.json")).unwrap();
    let side = |at: usize| usize::try_from(kept["shape"][at].as_u64().unwrap()).unwrap();
    let (out, inputs) = (side(0), side(1));
    let (weight, gram) = (floats(&kept["weight"]), floats(&kept["gram"]));
    let weight = MatRef::from_row_major_slice(&weight, out, inputs);
    let gram = Mat::from_fn(inputs, inputs, |i, j| f64::from(gram[i * inputs + j]));
    let mean_abs: Vec<f64> = floats(&kept["mean_abs"]).into_iter().map(f64::from).collect();
    let metric = Metric::gram(gram.clone()).unwrap();
    for case in kept["cases"].as_array().unwrap() {
        let scheme = if case["bits"] == 4 { scheme::UINT4 } else { scheme::UINT3 };
        let scheme = scheme.with_group(Group::Size(32));
        let found = search(weight, &mean_abs, &metric, &scheme, &Options::default()).unwrap();
        let losses: Vec<f64> =
            case["losses"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
        let best = usize::try_from(case["best"].as_u64().unwrap()).unwrap();
        assert_eq!(found.alpha, best as f64 / 20.0);
        assert!((found.plain / losses[0] - 1.0).abs() < 1e-5, "{} {}", found.plain, losses[0]);
        assert!((found.error / losses[best] - 1.0).abs() < 1e-5, "{} {}", found.error, losses[best]);
        let factors: Vec<f32> = case["factors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|v| FloatFormat::F32.round(v.as_f64().unwrap()))
            .collect();
        // A power function may differ in its last place, which f16 seldom shows.
        for (found, expected) in found.smooth.forward().into_iter().zip(factors) {
            assert!((found / expected - 1.0).abs() <= 0.001, "{found} {expected}");
        }

        let clipped = quantize_with(
            weight,
            &scheme,
            Rounder::Clip,
            &Context { hessian: Some(gram.as_ref()), ..Context::default() },
        )
        .unwrap()
        .quantized;
        let nearest =
            quantize_with(weight, &scheme, Rounder::Nearest, &Context::default()).unwrap().quantized;
        let (losses, total) = blocks(weight, &clipped, gram.as_ref(), 32);
        let expected = case["clipped"].as_f64().unwrap();
        assert!((total / expected - 1.0).abs() < 1e-5, "{total} {expected}");
        let cuts = case["cuts"].as_array().unwrap();
        assert_eq!(cuts.len(), losses.len());
        for (at, cut) in cuts.iter().enumerate() {
            let (row, group) = (at / (inputs / 32), at % (inputs / 32));
            let same = clipped.scale(row, group) == nearest.scale(row, group);
            assert_eq!(same, cut == 0, "row {row}, group {group}: cut {cut}");
        }
    }
}

/// Δ·H_gg·Δᵀ of each group of each row, and their sum.
fn blocks(weight: MatRef<'_, f32>, q: &Quantized, gram: MatRef<'_, f64>, size: usize) -> (Vec<f64>, f64) {
    let dense = q.dequantize();
    let mut losses = Vec::new();
    for i in 0..weight.nrows() {
        for first in (0..weight.ncols()).step_by(size) {
            let len = size.min(weight.ncols() - first);
            losses.push(form(
                weight.submatrix(i, first, 1, len),
                dense.as_ref().submatrix(i, first, 1, len),
                gram.submatrix(first, first, len, len),
            ));
        }
    }
    let total = losses.iter().sum();
    (losses, total)
}

/// A layer with loud inputs: weights, and rows of X.
fn layer(out: usize, inputs: usize, seed: u64) -> (Mat<f32>, Mat<f64>, Vec<f64>) {
    let mut stream = Stream::new(seed, "awq");
    let w = Mat::from_fn(out, inputs, |_, _| FloatFormat::F32.round(stream.next_normal()));
    let loud: Vec<f64> = (0..inputs).map(|_| (2.0 * stream.next_normal()).exp()).collect();
    let x = Mat::from_fn(2 * inputs, inputs, |_, j| stream.next_normal() * loud[j]);
    let mean_abs =
        (0..inputs).map(|j| x.col(j).iter().map(|x| x.abs()).sum::<f64>() / x.nrows() as f64).collect();
    let gram =
        Mat::from_fn(inputs, inputs, |i, j| (0..x.nrows()).map(|t| x[(t, i)] * x[(t, j)]).sum::<f64>());
    (w, gram, mean_abs)
}

const SCHEMES: [Scheme; 4] = [scheme::UINT4, scheme::INT3, scheme::NF4, scheme::MXFP4];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Never worse than α = 0, which is rounding to nearest; and the error it reports is that of its λ.
    #[test]
    fn never_loses_to_plain_rounding(out in 1..12_usize, blocks in 1..3_usize, seed in 0..1000_u64, which in 0..4_usize) {
        let (w, gram, mean_abs) = layer(out, 32 * blocks, seed);
        let metric = Metric::gram(gram.clone()).unwrap();
        let scheme = if which == 3 { SCHEMES[which] } else { SCHEMES[which].with_group(Group::Size(16)) };
        let found = search(w.as_ref(), &mean_abs, &metric, &scheme, &Options::default()).unwrap();
        let nearest = quantize_with(w.as_ref(), &scheme, Rounder::Nearest, &Context::default()).unwrap().quantized;
        let plain = form(w.as_ref(), nearest.dequantize().as_ref(), gram.as_ref());
        prop_assert!((found.plain / plain - 1.0).abs() < 1e-6, "{} {plain}", found.plain);
        prop_assert!(found.error <= found.plain);
        let (lambda, inverse) = (found.smooth.forward(), found.smooth.inverse());
        let scaled = Mat::from_fn(out, w.ncols(), |i, j| w[(i, j)] * lambda[j]);
        let q = quantize_with(scaled.as_ref(), &scheme, Rounder::Nearest, &Context::default()).unwrap().quantized.dequantize();
        let back = Mat::from_fn(out, w.ncols(), |i, j| q[(i, j)] * inverse[j]);
        let error = form(w.as_ref(), back.as_ref(), gram.as_ref());
        prop_assert!((found.error / error - 1.0).abs() < 1e-6, "{} {error}", found.error);
    }

    /// Group by group, in the form of its own block.
    #[test]
    fn clipping_never_loses_in_a_group(out in 1..8_usize, inputs in 1..50_usize, seed in 0..1000_u64, which in 0..3_usize, with in any::<bool>()) {
        let (w, gram, _) = layer(out, inputs, seed);
        let scheme = SCHEMES[which].with_group(Group::Size(16));
        let identity = Mat::from_fn(inputs, inputs, |i, j| f64::from(u8::from(i == j)));
        let hessian = with.then_some(gram.as_ref());
        let clipped = quantize_with(w.as_ref(), &scheme, Rounder::Clip, &Context { hessian, ..Context::default() }).unwrap().quantized;
        let nearest = quantize_with(w.as_ref(), &scheme, Rounder::Nearest, &Context::default()).unwrap().quantized;
        let h = hessian.unwrap_or(identity.as_ref());
        let (ours, _) = blocks(w.as_ref(), &clipped, h, 16);
        let (theirs, _) = blocks(w.as_ref(), &nearest, h, 16);
        for (ours, theirs) in ours.iter().zip(&theirs) {
            prop_assert!(*ours <= theirs * (1.0 + 1e-6) + 1e-12, "{ours} {theirs}");
        }
    }
}

#[test]
fn the_search_pays_where_inputs_are_loud() {
    let (w, gram, mean_abs) = layer(16, 64, 5);
    let found =
        search(w.as_ref(), &mean_abs, &Metric::gram(gram).unwrap(), &scheme::UINT3, &Options::default())
            .unwrap();
    assert!(found.alpha > 0.0 && found.error < 0.8 * found.plain, "{found:?}");
}

#[test]
fn bad_input() {
    let (w, gram, mean_abs) = layer(3, 16, 1);
    let metric = Metric::gram(gram.clone()).unwrap();
    let try_with = |w: &Mat<f32>, mean: &[f64], grid| {
        let options = Options { grid, ..Options::default() };
        search(w.as_ref(), mean, &metric, &scheme::UINT4, &options)
    };
    assert!(matches!(try_with(&w, &mean_abs, 0), Err(Error::InvalidOption { what: "grid", .. })));
    assert!(matches!(try_with(&w, &mean_abs[..15], 20), Err(Error::ShapeMismatch { .. })));
    let mut nan = w.clone();
    nan[(2, 3)] = f32::NAN;
    assert_eq!(try_with(&nan, &mean_abs, 20), Err(Error::NonFinite { row: 2, col: 3 }));
    // Dead, absurd and non-finite means: factors stay positive and finite, and nothing gets worse.
    for mean in [vec![0.0; 16], vec![f64::NAN; 16], vec![f64::INFINITY; 16], vec![-1.0; 16], vec![1e300; 16]]
    {
        let found = try_with(&w, &mean, 20).unwrap();
        assert!(found.error <= found.plain);
        assert!(found.smooth.forward().iter().all(|f| f.is_finite() && *f > 0.0));
    }
    let mut wild = mean_abs.clone();
    (wild[0], wild[1]) = (1e-300, 1e300);
    let found = try_with(&w, &wild, 20).unwrap();
    assert!(found.error <= found.plain && found.error.is_finite());
    // Empty and 1 × 1.
    let none =
        search(Mat::<f32>::zeros(0, 16).as_ref(), &mean_abs, &metric, &scheme::UINT4, &Options::default())
            .unwrap();
    assert_eq!(none.error, 0.0);
    let one = Mat::from_fn(1, 1, |_, _| 2.5_f32);
    let metric = Metric::identity();
    search(one.as_ref(), &[0.3], &metric, &scheme::UINT4, &Options::default()).unwrap();
    let clip = |hessian| {
        quantize_with(w.as_ref(), &scheme::UINT4, Rounder::Clip, &Context { hessian, ..Context::default() })
    };
    let small = Mat::<f64>::zeros(3, 3);
    assert!(matches!(clip(Some(small.as_ref())), Err(Error::ShapeMismatch { .. })));
    assert_eq!(clip(None).unwrap().quantized.shape(), (3, 16));
}
