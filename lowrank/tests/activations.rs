//! Splits whose quantized term sees quantized inputs.

use crate::common::{gaussian, moments, norm_squared, plain, weight};
use proptest::prelude::*;
use rankbit_linalg::faer::Mat;
use rankbit_lowrank::split::file::{self, Header, Part, PartView};
use rankbit_lowrank::split::matmul::reference;
use rankbit_lowrank::{ActivationRule, Error, Input, Recipe, Split, fit, preset};
use rankbit_quant::{Activation, Code, FloatFormat, Group, matmul, scheme};

const INT8: Code = Code::Int { bits: 8, signed: true };

fn smoothed(scheme: rankbit_quant::Scheme, rank: usize) -> Recipe {
    preset::svdquant(preset::SvdQuant {
        scheme,
        rounder: rankbit_quant::Rounder::Nearest,
        rank,
        factors: FloatFormat::F32.into(),
        smooth: preset::Smoothing::Fixed(0.5),
        rounds: 2,
    })
}

fn read(header: &Header, parts: &[Part]) -> Result<Split, Error> {
    let part = |name: &str| parts.iter().find(|part| part.name == name);
    file::read(header, |name| {
        part(name).map(|p| PartView { element: p.element, shape: &p.shape, bytes: &p.bytes })
    })
}

/// Inputs with loud columns.
fn inputs(tokens: usize, features: usize, seed: u64) -> Mat<f32> {
    let x = gaussian(tokens, features, seed);
    Mat::from_fn(tokens, features, |t, j| x[(t, j)] * if j % 17 == 5 { 20.0 } else { 1.0 })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// `Y = act(X·T)·Q̃ᵀ + (X·Rᵀ)·Lᵀ`, term by term: the branch sees X as it comes.
    #[test]
    fn only_the_quantized_term_sees_quantized_inputs(out in 4..30_usize, features in 4..80_usize, tokens in 1..6_usize, seed in 0..1000_u64) {
        let (w, m) = (weight(out, features, seed), moments(features, 2 * features, seed));
        let x = inputs(tokens, features, seed + 7);
        for policy in [Activation::INT8, Activation::integer(4, Group::Size(16)), Activation::LLM_INT8, Activation::FP8] {
            for scheme in [scheme::UINT4, scheme::NF4] {
                let recipe = smoothed(scheme, 2).with_activation(policy);
                let split = fit(w.as_ref(), &recipe, &Input { name: "w", moments: Some(&m) }).unwrap().split;
                prop_assert_eq!(split.activation(), &policy);
                let (base, branch) = (split.base().unwrap(), split.low_rank().unwrap());
                let inverse = split.transform().unwrap().smooth().unwrap().inverse();
                let transformed = Mat::from_fn(tokens, features, |t, j| x[(t, j)] * inverse[j]);
                let quantized = matmul::quantized::apply(base, &policy, transformed.as_ref()).unwrap();
                let (left, right) = (branch.left().to_f32(), branch.right().to_f32());
                let (y, exact) = (split.apply(x.as_ref()).unwrap(), reference::apply(&split, x.as_ref()).unwrap());
                for t in 0..tokens {
                    for o in 0..out {
                        let mut term = f64::from(quantized[(t, o)]);
                        let mut magnitude = term.abs();
                        for i in 0..2 {
                            for j in 0..features {
                                let part = f64::from(x[(t, j)]) * f64::from(right[i * features + j]) * f64::from(left[o * 2 + i]);
                                (term, magnitude) = (term + part, magnitude + part.abs());
                            }
                        }
                        let dense = base.dequantize();
                        let size: f64 = (0..features).map(|j| f64::from((transformed[(t, j)] * dense[(o, j)]).abs())).sum();
                        let allowed = (features + 10) as f64 * 2.0_f64.powi(-23) * (magnitude + size) + 1e-30;
                        prop_assert!((f64::from(y[(t, o)]) - term).abs() <= allowed);
                        prop_assert!((f64::from(y[(t, o)]) - f64::from(exact[(t, o)])).abs() <= allowed);
                    }
                }
            }
        }
    }
}

/// Quantizing the inputs costs accuracy, fewer bits cost more, and the reconstruction does not notice.
#[test]
fn policies_change_products_and_nothing_else() {
    let (w, x) = (weight(48, 128, 3), inputs(32, 128, 4));
    let split = plain(w.as_ref(), &preset::lorc(scheme::INT8, 4, FloatFormat::F16)).split;
    let exact = &x * w.transpose();
    let error = |policy| {
        let other = split.clone().with_activation(policy).unwrap();
        assert_eq!(other.reconstruct(), split.reconstruct());
        assert_eq!(other.stored_bits(), split.stored_bits());
        let y = other.apply(x.as_ref()).unwrap();
        (norm_squared((&y - &exact).as_ref()) / norm_squared(exact.as_ref())).sqrt()
    };
    let float = error(Activation::Float);
    let outliers = error(Activation::LLM_INT8);
    let int8 = error(Activation::INT8);
    let int4 = error(Activation::integer(4, Group::Row));
    assert!(
        float < outliers && outliers < 0.5 * int8 && int8 < 0.2 * int4,
        "{float} {outliers} {int8} {int4}"
    );
}

/// SVDQuant's claim: at four bits on both sides, smoothing and a branch that sees float inputs beat plain rounding.
#[test]
fn the_branch_carries_what_four_bits_cannot() {
    let (w, m, x) = (weight(64, 128, 9), moments(128, 1000, 9), inputs(64, 128, 10));
    let exact = &x * w.transpose();
    let error = |recipe: Recipe| {
        let recipe = recipe.with_activation(Activation::INT4);
        let split = fit(w.as_ref(), &recipe, &Input { name: "w", moments: Some(&m) }).unwrap().split;
        let y = split.apply(x.as_ref()).unwrap();
        (norm_squared((&y - &exact).as_ref()) / norm_squared(exact.as_ref())).sqrt()
    };
    let (plain, better) = (error(preset::rtn(scheme::INT4)), error(smoothed(scheme::INT4, 8)));
    assert!(better < 0.7 * plain, "{better} against {plain}");
}

/// The static scale takes the largest transformed input of calibration to the largest code.
#[test]
fn static_scales_come_from_calibration() {
    let (w, m) = (weight(20, 40, 2), moments(40, 200, 2));
    let rule = ActivationRule::Calibrated { code: INT8 };
    for recipe in [preset::rtn(scheme::INT8), smoothed(scheme::INT8, 2)] {
        let recipe = recipe.with_activation(rule);
        let split = fit(w.as_ref(), &recipe, &Input { name: "w", moments: Some(&m) }).unwrap().split;
        let inverse = split.transform().map_or_else(|| vec![1.0; 40], |t| t.smooth().unwrap().inverse());
        let absmax = m.absmax().unwrap();
        let largest = absmax.iter().zip(&inverse).map(|(x, s)| x * s).fold(0.0, f32::max);
        assert_eq!(split.activation(), &Activation::Static { code: INT8, scale: largest / 127.0 });
    }
    let missing = fit(w.as_ref(), &preset::rtn(scheme::INT8).with_activation(rule), &Input::default());
    assert!(matches!(missing, Err(Error::MissingCalibration { .. })));
}

#[test]
fn rules_that_cannot_run() {
    let w = weight(8, 12, 1);
    let none = preset::low_rank(2, FloatFormat::F16).with_activation(Activation::INT8);
    assert!(matches!(fit(w.as_ref(), &none, &Input::default()), Err(Error::InvalidRecipe { .. })));
    let senseless = Activation::Dynamic { code: INT8, group: Group::Size(0), outliers: None };
    let recipe = preset::rtn(scheme::INT8).with_activation(senseless);
    let invalid =
        |error: Error| matches!(error, Error::Quant(rankbit_quant::Error::InvalidActivation { .. }));
    assert!(invalid(fit(w.as_ref(), &recipe, &Input::default()).unwrap_err()));
    let split = plain(w.as_ref(), &preset::rtn(scheme::INT8)).split;
    assert!(invalid(split.clone().with_activation(senseless).unwrap_err()));
    let x = Mat::from_fn(1, 12, |_, j| if j == 3 { f32::NAN } else { 1.0 });
    let found = split.with_activation(Activation::INT8).unwrap().apply(x.as_ref());
    assert_eq!(found, Err(rankbit_quant::Error::ActivationNonFinite { token: 0, feature: 3 }.into()));
}

/// A file says how inputs are quantized; one that says nothing, as all did at first, means floats.
#[test]
fn the_file_form() {
    let w = weight(9, 70, 3);
    let split = plain(w.as_ref(), &preset::rtn(scheme::INT8)).split;
    let static_scale = Activation::Static { code: Code::Int { bits: 4, signed: true }, scale: 0.1 };
    for policy in [
        Activation::Float,
        Activation::INT8,
        Activation::INT4,
        Activation::LLM_INT8,
        Activation::FP8,
        Activation::integer(5, Group::Tensor),
        static_scale,
    ] {
        let split = split.clone().with_activation(policy).unwrap();
        let (header, parts) = file::write(&split);
        let text = header.to_json().unwrap();
        assert_eq!(text.contains("activation"), policy != Activation::Float, "{text}");
        assert_eq!(read(&Header::from_json(&text).unwrap(), &parts).unwrap(), split);
        let recipe = preset::rtn(scheme::INT8).with_activation(policy);
        let text = serde_json::to_string(&recipe).unwrap();
        assert_eq!(text.contains("activation"), policy != Activation::Float, "{text}");
        assert_eq!(serde_json::from_str::<Recipe>(&text).unwrap(), recipe);
    }
    let (header, parts) = file::write(&split.clone().with_activation(Activation::LLM_INT8).unwrap());
    let text = header.to_json().unwrap();
    let policy = concat!(
        r#""activation":{"dynamic":{"code":{"int":{"bits":8,"signed":true}},"#,
        r#""group":"row","outliers":6.0}}}"#
    );
    assert!(text.ends_with(policy), "{text}");
    // Policies that make no sense, or have nothing to serve.
    for (from, to) in [
        ("\"bits\":8,\"signed\":true}},\"group\":\"row\"", "\"bits\":9,\"signed\":true}},\"group\":\"row\""),
        ("\"group\":\"row\",\"out", "\"group\":{\"size\":0},\"out"),
        ("6.0", "0.0"),
        ("6.0", "-1.0"),
        ("6.0", "1e39"),
        ("\"outliers\"", "\"inliers\""),
        ("\"dynamic\"", "\"sometimes\""),
    ] {
        let bent = text.replacen(from, to, 1);
        assert_ne!(bent, text, "{from}");
        assert!(Header::from_json(&bent).map_or(true, |header| read(&header, &parts).is_err()), "{to}");
    }
    let (mut header, parts) = file::write(&plain(w.as_ref(), &preset::low_rank(2, FloatFormat::F16)).split);
    header.activation = Activation::INT8;
    assert!(matches!(read(&header, &parts), Err(Error::InvalidHeader { .. })));
}

#[test]
fn the_presets_are_plain_values() {
    let rows = scheme::INT8.with_group(Group::Row).with_scale_format(FloatFormat::F32);
    assert_eq!(preset::llm_int8(), preset::rtn(rows).with_activation(Activation::LLM_INT8));
    let fp4 = preset::Constraint::RatioOfTwo.fp4();
    let parameters = preset::ZeroQuantFp { scheme: fp4, compensation: None };
    let by_hand = preset::rtn(fp4).with_activation(Activation::FP8);
    assert_eq!(preset::zeroquant_fp(parameters), by_hand);
    let parameters = preset::ZeroQuantFp { compensation: Some((8, FloatFormat::F16.into())), ..parameters };
    let by_hand = preset::lorc(fp4, 8, FloatFormat::F16).with_activation(Activation::FP8);
    assert_eq!(preset::zeroquant_fp(parameters), by_hand);
    for constraint in
        [preset::Constraint::Free, preset::Constraint::PowerOfTwo, preset::Constraint::RatioOfTwo]
    {
        assert_eq!(constraint.fp4().check(), Ok(()));
    }
}

/// The paper's order: a free scale, then M2, then M1; and what compensation leaves is the residual's tail.
#[test]
fn zeroquant_fp_as_its_paper_has_it() {
    let w = weight(96, 256, 7);
    let run = |constraint: preset::Constraint, compensation| {
        plain(
            w.as_ref(),
            &preset::zeroquant_fp(preset::ZeroQuantFp { scheme: constraint.fp4(), compensation }),
        )
    };
    let error = |constraint| run(constraint, None).info.relative_error;
    let free = error(preset::Constraint::Free);
    let (m1, m2) = (error(preset::Constraint::PowerOfTwo), error(preset::Constraint::RatioOfTwo));
    assert!(free < m2 && free < m1, "free {free}, M1 {m1}, M2 {m2}");
    let fitted = run(preset::Constraint::RatioOfTwo, Some((8, FloatFormat::F32.into())));
    let residual = &w - fitted.split.base().unwrap().dequantize();
    let tail = crate::common::tail(&crate::common::singular_values(residual.as_ref()), 8);
    let found = fitted.info.relative_error * norm_squared(w.as_ref()).sqrt();
    assert!(found >= tail * 0.9999 && found <= tail * 1.01, "{found} for {tail}");
    assert!(fitted.info.relative_error < m2);
}
