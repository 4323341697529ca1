//! Changes of basis through a fit: coordinates, metric, products, files, refusals.

use crate::common::{gaussian, moments, weight};
use proptest::prelude::*;
use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_linalg::{MomentKinds, MomentParts, Moments};
use rankbit_lowrank::split::file::{self, Header, Part, PartView};
use rankbit_lowrank::split::matmul::reference;
use rankbit_lowrank::{
    ActivationRule, Adjustment, Error, Input, Recipe, Split, Step, TransformRule, fit, preset,
};
use rankbit_quant::transform::fold;
use rankbit_quant::{Activation, FloatFormat, Group, Rounder, Scheme, scheme};

const SMOOTH: TransformRule = TransformRule::Smooth { alpha: 0.5, beta: 0.5, format: FloatFormat::F16 };
const ROTATE: TransformRule = TransformRule::Rotate { seed: 11 };

fn rules() -> Vec<TransformRule> {
    vec![
        SMOOTH,
        TransformRule::AWQ,
        TransformRule::Permute,
        ROTATE,
        SMOOTH.then(ROTATE),
        TransformRule::AWQ.then(TransformRule::Permute).then(ROTATE),
    ]
}

fn with(recipe: Recipe, transform: &TransformRule) -> Recipe {
    Recipe { transform: transform.clone(), ..recipe }
}

fn fitted(w: &Mat<f32>, recipe: &Recipe, m: &Moments) -> rankbit_lowrank::Fit {
    fit(w.as_ref(), recipe, &Input { name: "w", moments: Some(m) }).expect("a recipe that runs")
}

/// ‖A - B‖ / ‖B‖.
fn distance(a: MatRef<'_, f32>, b: MatRef<'_, f32>) -> f64 {
    let sum = |f: &dyn Fn(usize, usize) -> f64| -> f64 {
        (0..b.nrows()).flat_map(|i| (0..b.ncols()).map(move |j| (i, j))).map(|(i, j)| f(i, j).powi(2)).sum()
    };
    let difference = sum(&|i, j| f64::from(a[(i, j)]) - f64::from(b[(i, j)]));
    (difference / sum(&|i, j| f64::from(b[(i, j)]))).sqrt()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Whatever the basis, everything outside the quantized term is in original coordinates: the reconstruction is near
    /// W, its rows are the looked-up rows bit for bit, products are its products, and the errors are its errors.
    #[test]
    fn coordinates_are_the_original_ones(out in 2..20_usize, features in 2..70_usize, seed in 0..500_u64) {
        let (w, m) = (weight(out, features, seed), moments(features, 2 * features, seed));
        let x = gaussian(3, features, seed + 5);
        for rule in rules() {
            for recipe in [preset::rtn(scheme::INT8), preset::lorc(scheme::UINT4, 1, FloatFormat::F16)] {
                let eight_bits = recipe.round.len() == 1;
                let found = fitted(&w, &with(recipe, &rule), &m);
                let (split, dense) = (&found.split, found.split.reconstruct());
                let error = distance(dense.as_ref(), w.as_ref());
                prop_assert!(error < if eight_bits { 0.05 } else { 0.6 }, "{rule:?}: {error}");
                prop_assert!((error - found.info.relative_error).abs() <= 1e-5 * error);
                let mut row = vec![0.0; features];
                for i in 0..out {
                    split.row_into(i, &mut row).unwrap();
                    prop_assert!((0..features).all(|j| row[j].to_bits() == dense[(i, j)].to_bits()));
                }
                let y = split.apply(x.as_ref()).unwrap();
                let exact = reference::apply(split, x.as_ref()).unwrap();
                let through = &x * dense.transpose();
                prop_assert!(distance(y.as_ref(), exact.as_ref()) < 1e-5, "{rule:?}");
                prop_assert!(distance(through.as_ref(), exact.as_ref()) < 1e-4, "{rule:?}");
            }
        }
    }

    /// AWQ's smoothing is never worse than plain rounding in the calibration's metric.
    #[test]
    fn awq_never_loses_to_plain_rounding(out in 2..16_usize, features in 2..60_usize, seed in 0..500_u64) {
        let (w, m) = (weight(out, features, seed), moments(features, 3 * features, seed));
        for scheme in [scheme::UINT4, scheme::INT3, scheme::NF4] {
            let plain = fitted(&w, &preset::rtn(scheme), &m).info.metric_error.unwrap();
            let searched = fitted(&w, &with(preset::rtn(scheme), &TransformRule::AWQ), &m);
            let error = searched.info.metric_error.unwrap();
            prop_assert!(error <= plain * (1.0 + 1e-5), "{error} against {plain}");
        }
    }
}

/// In the transform's basis the form is TᵀHT: with the form left behind, feedback would correct the wrong errors.
#[test]
fn feedback_works_under_every_transform() {
    let (w, m) = (weight(48, 96, 5), moments(96, 600, 6));
    for rule in rules() {
        let error = |recipe: Recipe| fitted(&w, &with(recipe, &rule), &m).info.metric_error.unwrap();
        let plain = error(preset::rtn(scheme::UINT3));
        for recipe in
            [preset::gptq(scheme::UINT3, true), preset::ldlq(scheme::UINT3), preset::cd(scheme::UINT3)]
        {
            let fed_back = error(recipe);
            assert!(fed_back < 0.8 * plain, "{rule:?}: {fed_back} against {plain}");
        }
    }
}

/// One weight that owns its group's range: rotated, it is shared by all.
#[test]
fn rotation_spreads_outliers() {
    let mut w = gaussian(32, 96, 3);
    for i in 0..32 {
        w[(i, 7)] *= 40.0;
    }
    let input = Input { name: "w", moments: None };
    let error = |recipe: &Recipe| fit(w.as_ref(), recipe, &input).unwrap().info.relative_error;
    let scheme = scheme::INT4.with_group(Group::Row);
    let (plain, rotated) = (error(&preset::rtn(scheme)), error(&with(preset::rtn(scheme), &ROTATE)));
    assert!(rotated < 0.75 * plain, "{rotated} against {plain}");
}

/// Layers that share an input share its rotation, whatever their names; another seed is another rotation.
#[test]
fn rotations_depend_on_the_seed_alone() {
    let w = weight(8, 48, 1);
    let transform = |name, seed| {
        let recipe = with(preset::rtn(scheme::INT4), &TransformRule::Rotate { seed });
        fit(w.as_ref(), &recipe, &Input { name, moments: None }).unwrap().split.transform().cloned()
    };
    assert_eq!(transform("query", 1), transform("key", 1));
    assert_ne!(transform("query", 1), transform("query", 2));
}

#[test]
fn widths_without_an_order_are_rotated_in_blocks_and_say_so() {
    for (features, block) in [(52, Some(4)), (35, Some(1)), (48, None), (1, None)] {
        let w = weight(4, features, 1);
        let recipe = with(preset::rtn(scheme::INT8), &ROTATE);
        let found = fit(w.as_ref(), &recipe, &Input { name: "w", moments: None }).unwrap();
        let said: Vec<Adjustment> =
            block.map(|block| Adjustment::RotatedInBlocks { size: features, block }).into_iter().collect();
        assert_eq!(found.info.adjustments, said);
        if let Some(said) = said.first() {
            assert!(said.to_string().contains(&features.to_string()), "{said}");
        }
    }
}

/// Groups of a permuted layer hold inputs of like energy.
#[test]
fn permutation_is_by_falling_energy() {
    let (w, m) = (weight(4, 40, 2), moments(40, 100, 2));
    let split = fitted(&w, &with(preset::rtn(scheme::INT4), &TransformRule::Permute), &m).split;
    let (energy, order) = (m.second_moment().unwrap(), split.transform().unwrap().permutation().unwrap());
    assert!(order.order().windows(2).all(|pair| energy[pair[0] as usize] >= energy[pair[1] as usize]));
}

/// A split that keeps λ, and the layer with λ folded into the norm before it: the same outputs.
#[test]
fn smoothquant_folds_into_the_norm_before() {
    let (w, m) = (weight(12, 64, 4), moments(64, 300, 4));
    let recipe = preset::smoothquant(scheme::INT8.with_group(Group::Row), 0.5, Activation::INT8);
    let split = fitted(&w, &recipe, &m).split;
    let normed = gaussian(5, 64, 9);
    let (mut gamma, mut beta) = (vec![1.5_f32; 64], vec![0.25_f32; 64]);
    let x = Mat::from_fn(5, 64, |t, j| gamma[j] * normed[(t, j)] + beta[j]);
    let kept = split.apply(x.as_ref()).unwrap();
    fold::into_norm(split.transform().unwrap(), &mut gamma, Some(&mut beta)).unwrap();
    let folded = Mat::from_fn(5, 64, |t, j| gamma[j] * normed[(t, j)] + beta[j]);
    let without = Split::new((12, 64), None, split.base().cloned(), None)
        .unwrap()
        .with_activation(*split.activation())
        .unwrap();
    let without = without.apply(folded.as_ref()).unwrap();
    // Codes may differ by one where the two roundings of X·diag(1/λ) straddle a tie.
    assert!(distance(without.as_ref(), kept.as_ref()) < 2e-3);
    let exact = &x * w.transpose();
    assert!(distance(kept.as_ref(), exact.as_ref()) < 0.02);
}

#[test]
fn awq_makes_do_with_a_sample() {
    let (w, all) = (weight(12, 32, 7), moments(32, 200, 7));
    let mut sampled = Moments::new(32, MomentKinds { gram: false, sample: 64 });
    sampled.update(gaussian(200, 32, 1).as_ref()).unwrap();
    let parts = MomentParts {
        sample: sampled.parts().sample.clone(),
        mean_abs: all.parts().mean_abs.clone(),
        ..MomentParts::default()
    };
    let sample_only = Moments::from_parts(32, parts.clone()).unwrap();
    let split = fitted(&w, &preset::awq(scheme::UINT4), &sample_only).split;
    assert!(split.transform().unwrap().smooth().is_some());
    let missing = Moments::from_parts(32, MomentParts { mean_abs: None, ..parts.clone() }).unwrap();
    let blind = Moments::from_parts(32, MomentParts { sample: None, ..parts }).unwrap();
    for m in [&missing, &blind] {
        let found = fit(w.as_ref(), &preset::awq(scheme::UINT4), &Input { name: "w", moments: Some(m) });
        assert!(
            matches!(found, Err(Error::Linalg(rankbit_linalg::Error::MissingMoment { .. }))),
            "{found:?}"
        );
    }
}

/// After a rotation no absmax tells the largest input: only a sample does.
#[test]
fn static_inputs_under_a_rotation_need_a_sample() {
    let w = weight(6, 48, 1);
    let code = rankbit_quant::Code::Int { bits: 8, signed: true };
    let recipe =
        with(preset::rtn(scheme::INT8), &ROTATE).with_activation(ActivationRule::Calibrated { code });
    let without = moments(48, 100, 2);
    let found = fit(w.as_ref(), &recipe, &Input { name: "w", moments: Some(&without) });
    assert!(matches!(found, Err(Error::Linalg(rankbit_linalg::Error::MissingMoment { name: "sample" }))));
    let mut sampled = Moments::new(48, MomentKinds { gram: false, sample: 50 });
    sampled.update(gaussian(50, 48, 3).as_ref()).unwrap();
    let split = fitted(&w, &recipe, &sampled).split;
    assert!(matches!(split.activation(), Activation::Static { .. }));
}

#[test]
fn presets_are_their_recipes_by_hand() {
    let by_hand = |transform, activation: ActivationRule, rounder| {
        let mut recipe = with(preset::rtn(scheme::UINT4), &transform).with_activation(activation);
        recipe.round = vec![Step::Quantize { scheme: scheme::UINT4, rounder }];
        recipe
    };
    assert_eq!(
        preset::awq(scheme::UINT4),
        by_hand(
            TransformRule::Awq { grid: 20, format: FloatFormat::F16 },
            ActivationRule::FLOAT,
            Rounder::Clip
        )
    );
    let smoothing = TransformRule::Smooth { alpha: 0.75, beta: 0.25, format: FloatFormat::F16 };
    assert_eq!(
        preset::smoothquant(scheme::UINT4, 0.75, Activation::INT8),
        by_hand(smoothing, Activation::INT8.into(), Rounder::Nearest)
    );
}

#[test]
fn compositions_have_one_order() {
    let w = weight(4, 24, 1);
    let m = moments(24, 100, 1);
    let recipe = |transform: TransformRule| with(preset::rtn(scheme::INT4), &transform);
    for parts in [
        vec![ROTATE, SMOOTH],
        vec![ROTATE, ROTATE],
        vec![SMOOTH, TransformRule::AWQ],
        vec![TransformRule::Permute, SMOOTH],
        vec![TransformRule::Identity],
        vec![SMOOTH, TransformRule::Compose(vec![ROTATE])],
        vec![TransformRule::Awq { grid: 0, format: FloatFormat::F16 }],
    ] {
        let recipe = recipe(TransformRule::Compose(parts));
        let found = fit(w.as_ref(), &recipe, &Input { name: "w", moments: Some(&m) });
        assert!(matches!(found, Err(Error::InvalidRecipe { .. })), "{recipe:?}");
    }
    assert_eq!(TransformRule::Identity.then(TransformRule::Identity), TransformRule::Identity);
    assert_eq!(TransformRule::Identity.then(ROTATE), ROTATE);
    assert_eq!(SMOOTH.then(ROTATE), TransformRule::Compose(vec![SMOOTH, ROTATE]));
    // A transform serves a quantizer; without one it is refused.
    let none = with(preset::low_rank(2, FloatFormat::F16), &ROTATE);
    assert!(matches!(fit(w.as_ref(), &none, &Input::default()), Err(Error::InvalidRecipe { .. })));
    for rule in [SMOOTH, TransformRule::AWQ, TransformRule::Permute] {
        let found = fit(w.as_ref(), &recipe(rule), &Input::default());
        assert!(matches!(found, Err(Error::MissingCalibration { .. })), "{found:?}");
    }
}

fn read(header: &Header, parts: &[Part]) -> Result<Split, Error> {
    file::read(header, |name| {
        parts.iter().find(|p| p.name == name).map(|p| PartView {
            element: p.element,
            shape: &p.shape,
            bytes: &p.bytes,
        })
    })
}

fn stored(scheme: Scheme) -> (Header, Vec<Part>) {
    let (w, m) = (weight(4, 48, 1), moments(48, 100, 1));
    let rule = SMOOTH.then(TransformRule::Permute).then(ROTATE);
    file::write(&fitted(&w, &with(preset::rtn(scheme), &rule), &m).split)
}

#[test]
fn headers_say_how_inputs_are_rotated() {
    let (header, parts) = stored(scheme::INT4);
    let text = header.to_json().unwrap();
    let expected = r#""smooth":"f16","permuted":true,"rotation":{"block":48,"seed":11}"#;
    assert!(text.contains(expected), "{text}");
    let names: Vec<&str> = parts.iter().map(|part| part.name).collect();
    assert_eq!(names, ["codes", "scales", "smooth", "permutation"]);
    assert_eq!(parts[3].shape, [48, 1]);
    assert_eq!(
        read(&Header::from_json(&text).unwrap(), &parts).unwrap().reconstruct(),
        read(&header, &parts).unwrap().reconstruct()
    );
}

#[test]
fn hostile_transforms_are_errors() {
    let (header, parts) = stored(scheme::INT4);
    let text = header.to_json().unwrap();
    let with = |from: &str, to: &str| Header::from_json(&text.replace(from, to));
    for block in ["0", "5", "96", "18446744073709551615", "6"] {
        let header = with(r#""block":48"#, &format!(r#""block":{block}"#)).unwrap();
        assert!(matches!(read(&header, &parts), Err(Error::Linalg(_))), "block {block}");
    }
    // Smaller blocks are another rotation, but a valid one.
    read(&with(r#""block":48"#, r#""block":12"#).unwrap(), &parts).unwrap();
    assert!(with(r#""seed":11"#, r#""seed":-1"#).is_err());
    assert!(with(r#""seed":11"#, r#""seed":11,"depth":2"#).is_err());
    // Parts and header disagree.
    let header_without = with(r#""permuted":true,"#, "").unwrap();
    assert!(matches!(read(&header_without, &parts), Err(Error::InvalidHeader { .. })));
    let without: Vec<Part> = parts.iter().filter(|p| p.name != "permutation").cloned().collect();
    assert_eq!(read(&header, &without), Err(Error::MissingPart { part: "permutation" }));
    let broken = |change: &dyn Fn(&mut Part)| {
        let mut parts = parts.clone();
        change(&mut parts[3]);
        read(&header, &parts)
    };
    let twice = broken(&|part| part.bytes[1] = part.bytes[0]);
    let error = rankbit_quant::Error::NotAPermutation { index: 1 };
    assert_eq!(twice, Err(Error::Quant(error)));
    assert!(matches!(broken(&|part| part.bytes[0] = 48), Err(Error::Quant(_))));
    assert!(matches!(broken(&|part| part.bytes.truncate(47)), Err(Error::Quant(_))));
    assert!(matches!(broken(&|part| part.shape = vec![24, 2]), Err(Error::PartMismatch { .. })));
    // A transform serves a quantized term.
    let alone =
        r#"{"shape":[4,48],"rotation":{"block":48},"low_rank":{"rank":1,"left":"f16","right":"f16"}}"#;
    assert!(matches!(read(&Header::from_json(alone).unwrap(), &[]), Err(Error::InvalidHeader { .. })));
}
