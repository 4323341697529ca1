//! The sparse term: what a recipe prunes, beside what, and how little it loses.

use crate::common::{
    F16, TWO_OF_FOUR, gaussian, moments, norm_squared, plain, share, sparse_recipes, weight,
};
use proptest::prelude::*;
use rankbit_linalg::faer::Mat;
use rankbit_linalg::{MomentKinds, Moments};
use rankbit_lowrank::{
    Adjustment, Error, Fit, Input, MetricRule, Recipe, Space, Split, Step, fit, fit_observed, preset,
};
use rankbit_quant::{FloatFormat, Group, Rounder, scheme};
use rankbit_sparse::{NmPattern, Pattern, Pruner, Scope, SparseMatrix, ValueFormat};

fn calibrated(weight: &Mat<f32>, recipe: &Recipe, moments: &Moments) -> Fit {
    fit(weight.as_ref(), recipe, &Input { name: "w", moments: Some(moments) }).unwrap()
}

/// The largest entries, whatever the pattern: no kept entry of a group is smaller than a dropped one.
#[test]
fn magnitude_keeps_the_largest_of_each_group() {
    let w = weight(12, 64, 1);
    let found = plain(w.as_ref(), &preset::magnitude(TWO_OF_FOUR, ValueFormat::Float(FloatFormat::F32)));
    let dense = found.split.reconstruct();
    for i in 0..12 {
        for group in 0..16 {
            let columns = 4 * group..4 * group + 4;
            let kept: Vec<usize> = columns.clone().filter(|&j| dense[(i, j)] != 0.0).collect();
            assert_eq!(kept.len(), 2);
            assert!(kept.iter().all(|&j| dense[(i, j)].to_bits() == w[(i, j)].to_bits()));
            let least = kept.iter().map(|&j| w[(i, j)].abs()).fold(f32::INFINITY, f32::min);
            assert!(columns.filter(|j| !kept.contains(j)).all(|j| w[(i, j)].abs() <= least));
        }
    }
    // The error of a projection: what was dropped, exactly.
    let lost = norm_squared((&w - &dense).as_ref()) / norm_squared(w.as_ref());
    assert!((found.info.relative_error - lost.sqrt()).abs() < 1e-9);
    assert!(found.split.rank() == 0 && found.split.base().is_none());
}

#[test]
fn each_method_beats_the_one_before_under_the_calibrations_metric() {
    let (w, moments) = (weight(48, 64, 2), moments(64, 400, 2));
    let error = |recipe: Recipe| calibrated(&w, &recipe, &moments).info.metric_error.unwrap();
    let magnitude = error(preset::magnitude(TWO_OF_FOUR, F16));
    let wanda = error(preset::wanda(TWO_OF_FOUR, F16));
    let gpt = error(preset::sparse_gpt(TWO_OF_FOUR, F16));
    let alps = error(preset::alps(TWO_OF_FOUR, F16));
    assert!(wanda < magnitude && gpt < wanda && alps <= 0.95 * gpt, "{magnitude} {wanda} {gpt} {alps}");
    let refit = |mut recipe: Recipe| {
        for step in &mut recipe.round {
            if let Step::Sparse { refit, .. } = step {
                *refit = true;
            }
        }
        recipe
    };
    let refitted = error(refit(preset::wanda(TWO_OF_FOUR, F16)));
    assert!(refitted < wanda && alps <= refitted * 1.001, "{refitted} {wanda} {alps}");
}

/// 2:4 alone is 9 bits in f16 and 3 bits and scales in int4; with a branch and with a base bits add up.
#[test]
fn bits_are_those_of_the_parts() {
    let (w, moments) = (weight(64, 256, 3), moments(256, 300, 3));
    let bits = |recipe: Recipe| calibrated(&w, &recipe, &moments).split.bits_per_weight();
    let int4 = ValueFormat::Scheme(scheme::INT4.with_group(Group::Size(64)), Rounder::Nearest);
    assert_eq!(bits(preset::magnitude(TWO_OF_FOUR, F16)), 9.0);
    assert_eq!(bits(preset::wanda(TWO_OF_FOUR, int4)), 3.125);
    let branch = 4.0 * 16.0 * (64.0 + 256.0) / (64.0 * 256.0);
    let with_branch = preset::sparse_low_rank(preset::wanda(TWO_OF_FOUR, int4), 4, FloatFormat::F16, 2);
    assert_eq!(bits(with_branch), 3.125 + branch);
    // 1 % of the entries: 164 of 16 + 16 bits, and 65 starts of 32.
    let outliers = (164.0 * 32.0 + 65.0 * 32.0) / (64.0 * 256.0);
    let base = bits(preset::rtn(scheme::INT4));
    assert_eq!(bits(preset::with_outliers(preset::rtn(scheme::INT4), share(0.01), false)), base + outliers);
}

/// Every iterate's error is that of its own terms, the best is returned, and a branch beside S never costs.
#[test]
fn alternating_never_loses_to_pruning_alone() {
    let (w, moments) = (weight(40, 64, 4), moments(64, 300, 4));
    for pruner in [preset::wanda(TWO_OF_FOUR, F16), preset::alps(TWO_OF_FOUR, F16)] {
        let alone = calibrated(&w, &pruner, &moments).info.metric_error.unwrap();
        let recipe = preset::sparse_low_rank(pruner, 4, FloatFormat::F32, 6);
        let mut seen = Vec::new();
        let input = Input { name: "w", moments: Some(&moments) };
        let found = fit_observed(w.as_ref(), &recipe, &input, &mut |iterate, split: &Split| {
            assert!(split.sparse().is_some() && split.rank() == 4);
            seen.push(iterate.error);
        })
        .unwrap();
        let best = found.info.metric_error.unwrap();
        assert!(best < 0.9 * alone, "{best} for {alone}");
        let least = seen.iter().copied().fold(f64::INFINITY, f64::min);
        assert!((best - least).abs() <= 1e-5 * least, "{best} for {least}");
        assert!(seen.len() >= 2, "{seen:?}");
    }
}

/// A few outliers cost a quantizer what they would without, once S holds them.
#[test]
fn outliers_leave_the_quantizer() {
    let plain_weight = gaussian(32, 128, 5);
    let spiked =
        Mat::from_fn(32, 128, |i, j| plain_weight[(i, j)] + if (i * 128 + j) % 97 == 5 { 40.0 } else { 0.0 });
    let rtn = preset::rtn(scheme::INT4);
    let norm = norm_squared(plain_weight.as_ref()).sqrt();
    let lost = |w: &Mat<f32>, recipe: &Recipe| {
        let split = plain(w.as_ref(), recipe).split;
        norm_squared((w - split.reconstruct()).as_ref()).sqrt() / norm
    };
    let (without, with) = (lost(&plain_weight, &rtn), lost(&spiked, &rtn));
    let dense_and_sparse = lost(&spiked, &preset::with_outliers(rtn, share(0.011), false));
    assert!(with > 3.0 * without && dense_and_sparse < 1.1 * without, "{without} {with} {dense_and_sparse}");
    // All of it: nothing but f16 is lost.
    assert!(lost(&spiked, &preset::with_outliers(preset::rtn(scheme::INT2), share(1.0), false)) < 1e-3);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Every pattern in every combination of terms: the reconstruction is the sum, its rows are its rows, the error is
    /// the error.
    #[test]
    fn the_parts_make_the_whole(
        (rows, cols) in (2_usize..12, 2_usize..40),
        density in 0.0..=1.0_f64,
        kind in 0_usize..4,
        terms in 0_usize..3,
        seed in 0_u64..1000,
    ) {
        let nm = NmPattern::new(2, 5).unwrap();
        let pattern = [
            Pattern::Nm(nm),
            Pattern::Transposable(nm),
            Pattern::Block { rows: 3, cols: 2, density },
            Pattern::Unstructured { density, scope: Scope::Row },
        ][kind];
        let w = weight(rows, cols, seed);
        let alone = preset::magnitude(pattern, ValueFormat::Float(FloatFormat::F32));
        let mut recipe = match terms {
            0 => alone,
            1 => preset::sparse_low_rank(alone, 1, FloatFormat::F32, 3),
            _ => preset::with_outliers(preset::lorc(scheme::INT3, 1, FloatFormat::F32), share(density), false),
        };
        recipe.metric = MetricRule { project: Space::Identity, accept: Space::Identity };
        let found = plain(w.as_ref(), &recipe);
        let split = &found.split;
        let mut sum = split.sparse().unwrap().reconstruct();
        if let Some(base) = split.base() {
            sum += base.dequantize();
        }
        if let Some(lr) = split.low_rank() {
            let (l, r) = (lr.left().to_f32(), lr.right().to_f32());
            sum += Mat::from_fn(rows, cols, |i, j| l[i] * r[j]);
        }
        let dense = split.reconstruct();
        let scale = norm_squared(w.as_ref()).sqrt() + 1e-9;
        prop_assert!(norm_squared((&sum - &dense).as_ref()).sqrt() <= 1e-6 * scale);
        let mut row = vec![f32::NAN; cols];
        for i in 0..rows {
            split.row_into(i, &mut row).unwrap();
            prop_assert!((0..cols).all(|j| row[j].to_bits() == dense[(i, j)].to_bits()));
        }
        let error = norm_squared((&w - &dense).as_ref()).sqrt() / scale;
        prop_assert!((found.info.relative_error - error).abs() <= 1e-6);
        let least = found.info.iterates.iter().map(|i| i.error).fold(f64::INFINITY, f64::min);
        prop_assert!((found.info.iterates[found.info.best].error - least).abs() == 0.0);
    }
}

#[test]
fn values_that_do_not_fit_their_format_widen() {
    let w = Mat::from_fn(4, 8, |i, j| 1e6 * (1.0 + (i * 8 + j) as f32));
    let found = plain(w.as_ref(), &preset::magnitude(TWO_OF_FOUR, F16));
    assert_eq!(found.info.adjustments, [Adjustment::ValuesWidened { asked: FloatFormat::F16 }]);
    assert!(found.info.adjustments[0].to_string().contains("sparse"));
    let int4 = ValueFormat::Scheme(scheme::INT4, Rounder::Nearest);
    let found = plain(w.as_ref(), &preset::magnitude(TWO_OF_FOUR, int4));
    assert_eq!(found.info.adjustments, [Adjustment::ScalesWidened { asked: FloatFormat::F16 }]);
}

#[test]
fn the_same_bits_for_any_number_of_threads() {
    let (w, moments) = (weight(200, 64, 6), moments(64, 300, 6));
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            sparse_recipes().iter().map(|r| calibrated(&w, r, &moments).split).collect::<Vec<_>>()
        })
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn what_cannot_be_pruned_is_refused() {
    let w = weight(6, 16, 7);
    let run = |recipe: &Recipe, moments: Option<&Moments>| {
        fit(w.as_ref(), recipe, &Input { name: "w", moments }).err()
    };
    for recipe in [preset::wanda(TWO_OF_FOUR, F16), preset::ria(TWO_OF_FOUR, F16)] {
        let Some(Error::MissingCalibration { needed }) = run(&recipe, None) else { panic!("{recipe:?}") };
        assert!(needed.contains("second moments"));
    }
    for recipe in [preset::sparse_gpt(TWO_OF_FOUR, F16), preset::alps(TWO_OF_FOUR, F16)] {
        let Some(Error::MissingCalibration { needed }) = run(&recipe, None) else { panic!("{recipe:?}") };
        assert!(needed.contains("Gram"));
        // Calibration without the Gram matrix names it as well.
        let mut light = Moments::new(16, MomentKinds { gram: false, sample: 0 });
        light.update(gaussian(40, 16, 1).as_ref()).unwrap();
        assert!(matches!(run(&recipe, Some(&light)), Some(Error::Linalg(_))));
        assert!(run(&preset::wanda(TWO_OF_FOUR, F16), Some(&light)).is_none());
    }
    let int4 = ValueFormat::Scheme(scheme::INT4, Rounder::Nearest);
    let bad = [
        preset::magnitude(Pattern::Unstructured { density: f64::NAN, scope: Scope::Row }, F16),
        preset::magnitude(Pattern::Unstructured { density: 1.5, scope: Scope::Row }, F16),
        preset::magnitude(Pattern::Block { rows: 0, cols: 1, density: 0.5 }, F16),
        preset::magnitude(share(0.5), int4),
        preset::magnitude(TWO_OF_FOUR, ValueFormat::Float(FloatFormat::E4m3)),
        preset::magnitude(TWO_OF_FOUR, ValueFormat::Scheme(scheme::NAMED_VECTOR[0].1, Rounder::Nearest)),
        preset::magnitude(TWO_OF_FOUR, ValueFormat::Scheme(scheme::INT4, Rounder::gptq(false))),
        // Blocks of 32 do not divide the 8 kept values of a row.
        preset::magnitude(TWO_OF_FOUR, ValueFormat::Scheme(scheme::Q8_0, Rounder::Nearest)),
        Recipe {
            round: vec![Step::Sparse {
                pattern: TWO_OF_FOUR,
                pruner: Pruner::Ria { power: f64::NAN },
                refit: false,
                values: F16,
            }],
            ..preset::magnitude(TWO_OF_FOUR, F16)
        },
    ];
    let known = crate::common::moments(16, 60, 1);
    for recipe in bad {
        let error = run(&recipe, Some(&known));
        assert!(matches!(error, Some(Error::Sparse(_) | Error::Quant(_))), "{recipe:?}: {error:?}");
    }
    // One entry, and nothing kept.
    let one = weight(1, 1, 1);
    for pattern in [TWO_OF_FOUR, share(0.0)] {
        let found = plain(one.as_ref(), &preset::magnitude(pattern, F16)).split;
        assert_eq!(found.apply(Mat::full(2, 1, 1.0_f32).as_ref()).unwrap().shape(), (2, 1));
    }
    let nan = Mat::from_fn(4, 8, |i, j| if (i, j) == (2, 5) { f32::NAN } else { 1.0 });
    let input = Input { name: "w", moments: None };
    assert!(fit(nan.as_ref(), &preset::magnitude(TWO_OF_FOUR, F16), &input).is_err());
}

#[test]
fn a_sparse_term_of_another_shape_is_refused() {
    let of = |cols| plain(weight(4, cols, 1).as_ref(), &preset::magnitude(TWO_OF_FOUR, F16)).split;
    let (small, large) = (of(8), of(12));
    let taken: Option<SparseMatrix> = large.sparse().cloned();
    let refused = small.clone().with_sparse(taken);
    let (expected, found) = ((4, 8), (4, 12));
    assert_eq!(refused, Err(Error::ShapeMismatch { what: "sparse term", expected, found }));
    assert_eq!(small.with_sparse(None).unwrap().stored_bits(), 0);
}
