//! Each preset: its recipe's value, its paper's theorem, and how it compares.

use crate::common::{gaussian, moments, norm_squared, plain, singular_values, tail, weight};
use proptest::prelude::*;
use rankbit_linalg::faer::Mat;
use rankbit_lowrank::{
    ActivationRule, Fit, Input, MetricRule, Recipe, Rounds, Space, Step, Stop, TransformRule, fit,
    fit_observed, preset,
};
use rankbit_quant::{FloatFormat, Group, Rounder, quantize, scheme};

const F16: FloatFormat = FloatFormat::F16;
const F32: FloatFormat = FloatFormat::F32;

/// Rounding of a decomposition in f32 and of its product, relative to the matrix: a few units per dimension.
fn svd_rounding(rows: usize, cols: usize, rank: usize) -> f64 {
    4.0 * (rows + cols + rank) as f64 * 2.0_f64.powi(-24)
}

fn absolute(fit: &Fit, weight: &Mat<f32>) -> f64 {
    fit.info.relative_error * norm_squared(weight.as_ref()).sqrt()
}

#[test]
fn recipes_are_plain_values() {
    let quantize = Step::Quantize { scheme: scheme::UINT4, rounder: Rounder::Nearest };
    let low_rank = Step::LowRank { rank: 16, factors: F16.into() };
    let plain = MetricRule { project: Space::Identity, accept: Space::Identity };
    let by_hand = |round: Vec<Step>, rounds| Recipe {
        transform: TransformRule::Identity,
        activation: ActivationRule::FLOAT,
        metric: plain,
        round,
        rounds,
        seed: 0,
    };
    let to_the_rise = Rounds { max: 10, stop: Stop::FirstRise };
    assert_eq!(preset::rtn(scheme::UINT4), by_hand(vec![quantize], Rounds::ONCE));
    assert_eq!(preset::low_rank(16, F16), by_hand(vec![low_rank], Rounds::ONCE));
    assert_eq!(preset::lorc(scheme::UINT4, 16, F16), by_hand(vec![quantize, low_rank], Rounds::ONCE));
    assert_eq!(preset::lq_lora(scheme::UINT4, 16, F16, 10), by_hand(vec![low_rank, quantize], to_the_rise));
    let svdquant = |smooth| {
        preset::svdquant(preset::SvdQuant {
            scheme: scheme::UINT4,
            rounder: Rounder::Nearest,
            rank: 16,
            factors: F16.into(),
            smooth,
            rounds: 10,
        })
    };
    assert_eq!(svdquant(preset::Smoothing::Off), by_hand(vec![low_rank, quantize], to_the_rise));
    let calibrated = Recipe {
        transform: TransformRule::Smooth { alpha: 0.75, beta: 0.25, format: F16 },
        metric: MetricRule { project: Space::Transformed, accept: Space::Moments },
        ..svdquant(preset::Smoothing::Off)
    };
    assert_eq!(svdquant(preset::Smoothing::Fixed(0.75)), calibrated);
}

#[test]
fn rtn_is_the_quantizer_alone() {
    for (_, scheme) in scheme::NAMED {
        let w = weight(40, if scheme.block_len().is_some() { 256 } else { 100 }, 1);
        let fit = plain(w.as_ref(), &preset::rtn(scheme));
        let direct = quantize(w.as_ref(), &scheme, Rounder::Nearest).unwrap().quantized;
        assert_eq!(fit.split.base(), Some(&direct));
        let error = norm_squared((&w - direct.dequantize()).as_ref()).sqrt();
        assert!((absolute(&fit, &w) - error).abs() <= 1e-6 * error);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Eckart–Young: the error is the tail of the singular values, and nothing of that rank does better.
    #[test]
    fn low_rank_is_optimal(rows in 2..60_usize, cols in 2..60_usize, rank in 1..12_usize, seed in 0..1000_u64) {
        let w = weight(rows, cols, seed);
        let rank = rank.min(rows).min(cols);
        let fit = plain(w.as_ref(), &preset::low_rank(rank, F32));
        let (error, best) = (absolute(&fit, &w), tail(&singular_values(w.as_ref()), rank));
        let rounding = svd_rounding(rows, cols, rank) * norm_squared(w.as_ref()).sqrt();
        prop_assert!(error >= best - rounding && error <= best * 1.01 + rounding, "{error} for {best}");
    }

    /// ‖W - Q - L·R‖² = Σ_{i>r} σ_i(W - Q)² ≤ ‖W - Q‖².
    #[test]
    fn lorc_leaves_the_residuals_tail(rows in 8..60_usize, cols in 8..60_usize, rank in 1..6_usize, seed in 0..1000_u64) {
        let w = weight(rows, cols, seed);
        let fit = plain(w.as_ref(), &preset::lorc(scheme::UINT3, rank, F32));
        let q = quantize(w.as_ref(), &scheme::UINT3, Rounder::Nearest).unwrap().quantized;
        prop_assert_eq!(fit.split.base(), Some(&q));
        let residual = &w - q.dequantize();
        let best = tail(&singular_values(residual.as_ref()), rank);
        let (error, rounding) =
            (absolute(&fit, &w), svd_rounding(rows, cols, rank) * norm_squared(w.as_ref()).sqrt());
        prop_assert!(error >= best - rounding && error <= best * 1.01 + rounding, "{error} for {best}");
        prop_assert!(error <= norm_squared(residual.as_ref()).sqrt() + rounding);
    }

    /// The best iterate is what comes back, every iterate was reported, and rounds stop at the first rise.
    #[test]
    fn alternations_return_their_best(rows in 10..50_usize, cols in 10..90_usize, seed in 0..1000_u64, calibrated: bool) {
        let w = weight(rows, cols, seed);
        let moments = moments(cols, 2 * cols, seed);
        let recipe = if calibrated {
            preset::svdquant(preset::SvdQuant { scheme: scheme::INT3, rounder: Rounder::Nearest, rank: 4, factors: F16.into(), smooth: preset::Smoothing::Fixed(0.5), rounds: 6 })
        } else {
            preset::lq_lora(scheme::NF4, 4, F16, 6)
        };
        let mut seen = Vec::new();
        let input = Input { name: "w", moments: Some(&moments) };
        let fit = fit_observed(w.as_ref(), &recipe, &input, &mut |iterate, split| seen.push((*iterate, split.clone()))).unwrap();
        prop_assert_eq!(fit.info.iterates.len(), seen.len());
        let least = seen.iter().map(|(i, _)| i.error).fold(f64::INFINITY, f64::min);
        prop_assert_eq!(fit.info.iterates[fit.info.best].error, least);
        prop_assert_eq!(&seen[fit.info.best].1, &fit.split);
        let reported = if calibrated { fit.info.metric_error.unwrap() } else { fit.info.relative_error };
        prop_assert!((reported - least).abs() <= 1e-5 * least + 1e-7, "{reported} for {least}");
        let ends: Vec<f64> = seen.iter().filter(|(i, _)| i.step == 1).map(|(i, _)| i.error).collect();
        prop_assert!(ends.windows(2).rev().skip(1).all(|e| e[1] <= e[0]), "{ends:?}");
    }

    /// Full rank leaves nothing but the rounding of the factors.
    #[test]
    fn svdquant_at_full_rank_is_exact(rows in 2..20_usize, cols in 2..40_usize, seed in 0..1000_u64) {
        let w = weight(rows, cols, seed);
        let moments = moments(cols, 3 * cols, seed);
        let recipe = preset::svdquant(preset::SvdQuant {
            scheme: scheme::INT4, rounder: Rounder::Nearest,
            rank: rows.min(cols),
            factors: F32.into(),
            smooth: preset::Smoothing::Fixed(0.5),
            rounds: 1,
        });
        let fit = fit(w.as_ref(), &recipe, &Input { name: "w", moments: Some(&moments) }).unwrap();
        prop_assert!(fit.info.relative_error <= 1e-6 + svd_rounding(rows, cols, rows.min(cols)), "{}", fit.info.relative_error);
    }
}

/// Smoothing in the branch's space: after one round the smoothed residual is the tail of W·diag(λ).
#[test]
fn svdquant_projects_in_the_smoothed_space() {
    let (w, moments) = (weight(48, 64, 5), moments(64, 200, 5));
    let recipe = preset::svdquant(preset::SvdQuant {
        scheme: scheme::INT8.with_group(Group::Size(16)),
        rounder: Rounder::Nearest,
        rank: 6,
        factors: F32.into(),
        smooth: preset::Smoothing::Fixed(0.5),
        rounds: 1,
    });
    let mut first = None;
    let input = Input { name: "w", moments: Some(&moments) };
    fit_observed(w.as_ref(), &recipe, &input, &mut |_, split| first = Some(split.clone())).unwrap();
    let split = first.unwrap();
    let lambda = split.transform().unwrap().smooth().unwrap().forward();
    let low_rank = split.low_rank().unwrap();
    let (left, right) = (low_rank.left().to_f32(), low_rank.right().to_f32());
    let smoothed = Mat::from_fn(48, 64, |i, j| w[(i, j)] * lambda[j]);
    let residual = Mat::from_fn(48, 64, |i, j| {
        (w[(i, j)] - (0..6).map(|k| left[i * 6 + k] * right[k * 64 + j]).sum::<f32>()) * lambda[j]
    });
    let (error, best) =
        (norm_squared(residual.as_ref()).sqrt(), tail(&singular_values(smoothed.as_ref()), 6));
    assert!(error >= best * 0.99999 && error <= best * 1.01, "{error} for {best}");
}

/// On a matrix with loud inputs, calibration pays where it is measured.
#[test]
fn calibrated_svdquant_beats_plain_on_the_outputs() {
    let (w, moments) = (weight(64, 128, 9), moments(128, 1000, 9));
    let run = |smooth| {
        let recipe = preset::svdquant(preset::SvdQuant {
            scheme: scheme::INT4,
            rounder: Rounder::Nearest,
            rank: 4,
            factors: F16.into(),
            smooth,
            rounds: 10,
        });
        fit(w.as_ref(), &recipe, &Input { name: "w", moments: Some(&moments) })
            .unwrap()
            .info
            .metric_error
            .unwrap()
    };
    let (plain, calibrated) = (run(preset::Smoothing::Off), run(preset::Smoothing::Fixed(0.5)));
    assert!(calibrated < 0.9 * plain, "{calibrated} against {plain}");
}

/// More of everything is never worse on a real-looking matrix: bits, rank, rounds.
#[test]
fn orderings() {
    let w = weight(96, 128, 3);
    let error = |recipe: &Recipe| plain(w.as_ref(), recipe).info.relative_error;
    let rtn = [scheme::INT2, scheme::INT3, scheme::INT4, scheme::INT8].map(|s| error(&preset::rtn(s)));
    assert!(rtn.windows(2).all(|e| e[1] < e[0]), "{rtn:?}");
    let ranks = [1, 2, 4, 8, 16].map(|r| error(&preset::lorc(scheme::UINT4, r, F16)));
    assert!(ranks.windows(2).all(|e| e[1] < e[0]), "{ranks:?}");
    let rounds = [1, 2, 5].map(|r| error(&preset::lq_lora(scheme::UINT4, 8, F16, r)));
    assert!(rounds.windows(2).all(|e| e[1] <= e[0]), "{rounds:?}");
    assert!(error(&preset::lorc(scheme::UINT4, 8, F16)) < error(&preset::rtn(scheme::UINT4)));
    assert!(error(&preset::lq_lora(scheme::UINT4, 8, F16, 5)) < error(&preset::lorc(scheme::UINT4, 8, F16)));
}

/// Same seed and name, same split, whatever the pool; another name, another sketch.
#[test]
fn deterministic() {
    let w = gaussian(150, 170, 4);
    let recipe = preset::lq_lora(scheme::INT4, 5, F16, 3);
    let run = |threads, name| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| fit(w.as_ref(), &recipe, &Input { name, moments: None }).unwrap().split)
    };
    let one = run(1, "a");
    assert_eq!(one, run(2, "a"));
    assert_eq!(one, run(7, "a"));
    assert_ne!(one, run(1, "b"));
    let row_major: Vec<f32> = (0..150).flat_map(|i| w.row(i).iter().copied().collect::<Vec<_>>()).collect();
    let view = rankbit_linalg::faer::MatRef::from_row_major_slice(&row_major, 150, 170);
    assert_eq!(one, fit(view, &recipe, &Input { name: "a", moments: None }).unwrap().split);
}
