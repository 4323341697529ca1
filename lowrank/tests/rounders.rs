//! Recipes whose quantizing step weighs errors by the layer's inputs.

use crate::common::{moments, weight};
use rankbit_linalg::faer::Mat;
use rankbit_linalg::{MomentParts, Moments};
use rankbit_lowrank::{Error, Fit, Input, Recipe, Step, fit, preset};
use rankbit_quant::{Context, FloatFormat, Rounder, quantize_with, scheme};

fn calibrated(weight: &Mat<f32>, recipe: &Recipe, moments: &Moments) -> Fit {
    fit(weight.as_ref(), recipe, &Input { name: "test", moments: Some(moments) }).expect("a recipe that runs")
}

fn with_rounder(mut recipe: Recipe, chosen: Rounder) -> Recipe {
    for step in &mut recipe.round {
        if let Step::Quantize { rounder, .. } = step {
            *rounder = chosen;
        }
    }
    recipe
}

#[test]
fn presets_are_one_quantizing_step() {
    for (recipe, rounder) in [
        (preset::gptq(scheme::UINT4, false), Rounder::Gptq { act_order: false, damping: 0.01 }),
        (preset::gptq(scheme::UINT4, true), Rounder::Gptq { act_order: true, damping: 0.01 }),
        (preset::ldlq(scheme::UINT4), Rounder::LDLQ),
        (preset::cd(scheme::UINT4), Rounder::COORDINATE_DESCENT),
        (preset::hqq(scheme::UINT4), Rounder::HQQ),
    ] {
        // HQQ's own zero points are floats.
        let scheme = if rounder == Rounder::HQQ { scheme::UINT4_F } else { scheme::UINT4 };
        assert_eq!(recipe.round, [Step::Quantize { scheme, rounder }]);
        // The same bits as the rounder alone.
        let (w, m) = (weight(40, 64, 1), moments(64, 300, 2));
        let fitted = calibrated(&w, &recipe, &m);
        let context = Context { hessian: Some(m.gram().expect("a Gram matrix")), ..Context::default() };
        let alone = quantize_with(w.as_ref(), &scheme, rounder, &context).expect("a valid matrix");
        assert_eq!(fitted.split.base(), Some(&alone.quantized), "{rounder:?}");
    }
}

#[test]
fn better_rounders_lower_the_calibrated_error_at_equal_bits() {
    let (w, m) = (weight(64, 128, 3), moments(128, 600, 4));
    let error = |recipe: &Recipe| {
        let fitted = calibrated(&w, recipe, &m);
        (fitted.info.metric_error.expect("a metric"), fitted.split.stored_bits())
    };
    let (plain, bits) = error(&preset::rtn(scheme::UINT3));
    let (gptq, gptq_bits) = error(&preset::gptq(scheme::UINT3, true));
    let (cd, cd_bits) = error(&preset::cd(scheme::UINT3));
    let (ldlq, _) = error(&preset::ldlq(scheme::UINT3));
    assert_eq!((bits, bits), (gptq_bits, cd_bits));
    assert!(gptq < 0.8 * plain && ldlq < 0.8 * plain && cd < gptq, "{plain} {gptq} {ldlq} {cd}");
}

#[test]
fn the_gram_matrix_follows_the_transform() {
    // Smoothing changes the basis of the quantizer: with the form left behind, GPTQ would correct the wrong errors.
    let (w, m) = (weight(64, 128, 5), moments(128, 600, 6));
    let parameters = preset::SvdQuant {
        scheme: scheme::UINT3,
        rounder: Rounder::Nearest,
        rank: 4,
        factors: FloatFormat::F16.into(),
        smooth: preset::Smoothing::Fixed(0.5),
        rounds: 3,
    };
    let plain = calibrated(&w, &preset::svdquant(parameters), &m);
    for rounder in [Rounder::gptq(true), Rounder::COORDINATE_DESCENT] {
        let fed_back = calibrated(&w, &with_rounder(preset::svdquant(parameters), rounder), &m);
        let (before, after) = (plain.info.metric_error.unwrap(), fed_back.info.metric_error.unwrap());
        assert!(after < 0.8 * before, "{rounder:?}: {after} after {before}");
    }
}

#[test]
fn a_missing_gram_matrix_is_an_error() {
    let w = weight(16, 32, 1);
    let diagonal = MomentParts { absmax: Some(vec![1.0; 32]), ..MomentParts::default() };
    let diagonal = Moments::from_parts(32, diagonal).expect("moments");
    for recipe in [
        preset::gptq(scheme::UINT4, false),
        preset::cd(scheme::UINT4),
        preset::ldlq(scheme::UINT4),
        with_rounder(preset::lorc(scheme::UINT4, 2, FloatFormat::F16), Rounder::gptq(true)),
    ] {
        let found = fit(w.as_ref(), &recipe, &Input { name: "test", moments: None });
        assert!(matches!(found, Err(Error::MissingCalibration { .. })), "{found:?}");
        let found = fit(w.as_ref(), &recipe, &Input { name: "test", moments: Some(&diagonal) });
        assert!(matches!(found, Err(Error::Linalg(_))), "{found:?}");
    }
    // Those that can do without do.
    for rounder in [Rounder::HQQ, Rounder::Mse, Rounder::Stochastic { seed: 3 }] {
        let recipe = with_rounder(preset::rtn(scheme::UINT4), rounder);
        fit(w.as_ref(), &recipe, &Input { name: "test", moments: None }).expect("no calibration needed");
    }
}

#[test]
fn random_rounding_depends_on_the_tensors_name() {
    let w = weight(16, 32, 1);
    let recipe = with_rounder(preset::rtn(scheme::UINT4), Rounder::Stochastic { seed: 3 });
    let [a, again, b] = ["a", "a", "b"].map(|name| {
        fit(w.as_ref(), &recipe, &Input { name, moments: None }).expect("a recipe that runs").split
    });
    assert!(a == again && a != b);
}
