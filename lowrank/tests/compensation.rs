//! Q + L·R under a metric: the papers' theorems.

use crate::common::{gaussian, moments, norm_squared, weight};
use proptest::prelude::*;
use rankbit_linalg::faer::Mat;
use rankbit_linalg::{Metric, MomentKinds, Moments};
use rankbit_lowrank::preset::{Compensation, Qera, Smoothing, SvdQuant};
use rankbit_lowrank::{
    Adjustment, Error, FactorFormat, Fit, Input, Recipe, Space, Split, Step, TransformRule, fit, preset,
};
use rankbit_quant::{Activation, FloatFormat, Rounder, scheme};

const F32: FactorFormat = FactorFormat::Float(FloatFormat::F32);

fn with(moments: &Moments, weight: &Mat<f32>, recipe: &Recipe) -> Fit {
    fit(weight.as_ref(), recipe, &Input { name: "test", moments: Some(moments) }).expect("a recipe that runs")
}

fn terms(rank: usize, factors: FactorFormat) -> Compensation {
    Compensation { scheme: scheme::UINT3, rounder: Rounder::Nearest, rank, factors }
}

/// ‖W - Ŵ‖² under the calibration, measured from the reconstruction.
fn loss(moments: &Moments, weight: &Mat<f32>, split: &Split) -> f64 {
    let residual = weight - split.reconstruct();
    moments.metric().expect("a metric").norm_squared(residual.as_ref()).expect("finite")
}

/// Singular values of E·S by nalgebra, S the symmetric root of H (another root than the crate's).
fn weighted_spectrum(e: &Mat<f32>, moments: &Moments, centred: bool) -> Vec<f64> {
    let gram = moments.gram().expect("a Gram matrix");
    let mean = moments.mean().expect("a mean");
    let n = gram.nrows();
    let h =
        nalgebra::DMatrix::from_fn(n, n, |i, j| gram[(i, j)] - if centred { mean[i] * mean[j] } else { 0.0 });
    let eigen = h.symmetric_eigen();
    let roots = eigen.eigenvalues.map(|l| l.max(0.0).sqrt());
    let root =
        &eigen.eigenvectors * nalgebra::DMatrix::from_diagonal(&roots) * eigen.eigenvectors.transpose();
    let e = nalgebra::DMatrix::from_fn(e.nrows(), e.ncols(), |i, j| f64::from(e[(i, j)]));
    let mut values: Vec<f64> = (e * root).singular_values().iter().copied().collect();
    values.sort_by(|a, b| b.total_cmp(a));
    values
}

fn tail_squared(spectrum: &[f64], rank: usize) -> f64 {
    spectrum.iter().skip(rank).map(|s| s * s).sum()
}

#[test]
fn recipes_are_plain_values() {
    let parameters = terms(4, FactorFormat::F16);
    let eora = preset::eora(parameters);
    assert_eq!(preset::qera(parameters, Qera::Exact), eora);
    assert_eq!(eora.round.len(), 2);
    let diagonal = preset::qera(parameters, Qera::Diagonal);
    assert_eq!((diagonal.metric.project, diagonal.metric.accept), (Space::Diagonal, Space::Diagonal));
    assert_eq!(preset::loftq(parameters, 1).round, preset::lorc(scheme::UINT3, 4, FactorFormat::F16).round);
    assert_eq!(preset::lrec(parameters, 9).round[2], Step::Gradient { steps: 9 });
    assert_eq!(preset::caldera(parameters, 7).rounds.max, 7);
    let asvd = preset::asvd(0.5, 4, FloatFormat::F16);
    assert_eq!(asvd.metric.accept, Space::MeanAbs { exponent: 0.5 });
    assert_eq!(preset::lord(4, FloatFormat::F16).round[1], Step::Bias);
    assert_eq!(preset::embedding(4, FloatFormat::F16).metric.project, Space::Rows);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// The closed form is the tail of the weighted spectrum (whatever root gives it), so no other factors do better; it
    /// never loses to LoRC or to QERA's diagonal form, and a further rank never hurts.
    #[test]
    fn eora_is_the_optimum_of_the_output(rows in 12..48_usize, cols in 12..48_usize, rank in 1..5_usize, seed in 0..1000_u64) {
        let (w, moments) = (weight(rows, cols, seed), moments(cols, 3 * cols, seed));
        let of = |recipe: &Recipe| with(&moments, &w, recipe).split;
        let eora = of(&preset::eora(terms(rank, F32)));
        let plain = of(&preset::lorc(scheme::UINT3, rank, F32));
        let diagonal = of(&preset::qera(terms(rank, F32), Qera::Diagonal));
        let q = eora.base().expect("codes").dequantize();
        let best = tail_squared(&weighted_spectrum(&(&w - q), &moments, false), rank);
        let (least, lorc, qera) = (loss(&moments, &w, &eora), loss(&moments, &w, &plain), loss(&moments, &w, &diagonal));
        // Damping by 1e-4 of the mean diagonal moves the optimum a little.
        prop_assert!(least >= best * 0.999 && least <= best * 1.02, "{least} for {best}");
        prop_assert!(least <= lorc * 1.001 && least <= qera * 1.001, "{least}, {lorc}, {qera}");
        let more = of(&preset::eora(terms(rank + 1, F32)));
        prop_assert!(loss(&moments, &w, &more) <= least * 1.0001);
    }

    /// No small change of L or R lowers the output's error: a brute-force minimizer finds nothing.
    #[test]
    fn eora_is_stationary(seed in 0..1000_u64, size in 1..6_u8) {
        let (w, moments) = (weight(20, 16, seed), moments(16, 64, seed));
        let split = with(&moments, &w, &preset::eora(terms(3, F32))).split;
        let low_rank = split.low_rank().expect("factors");
        let (left, right) = (low_rank.left().to_f32(), low_rank.right().to_f32());
        let step = 10.0_f32.powi(-i32::from(size));
        let (dl, dr) = (gaussian(20, 3, seed + 5), gaussian(3, 16, seed + 6));
        let base = &w - split.base().expect("codes").dequantize();
        let metric = moments.metric().expect("a metric");
        let error = |t: f32| {
            let residual = Mat::from_fn(20, 16, |i, j| {
                let product: f32 = (0..3).map(|k| (left[i * 3 + k] + t * dl[(i, k)]) * (right[k * 16 + j] + t * dr[(k, j)])).sum();
                base[(i, j)] - product
            });
            metric.norm_squared(residual.as_ref()).expect("finite")
        };
        prop_assert!(error(step) >= error(0.0) * (1.0 - 1e-3), "{} under {}", error(step), error(0.0));
    }

    /// Gradient steps never rise, start at LoRC's error and approach EoRA's.
    #[test]
    fn lrec_descends_to_eora(seed in 0..1000_u64) {
        let (w, moments) = (weight(24, 32, seed), moments(32, 96, seed));
        let error = |recipe: &Recipe| with(&moments, &w, recipe).info.metric_error.expect("calibrated");
        let start = error(&preset::lorc(scheme::UINT3, 4, F32));
        let best = error(&preset::eora(terms(4, F32)));
        let steps: Vec<f64> = [1, 4, 16, 64].map(|steps| error(&preset::lrec(terms(4, F32), steps))).to_vec();
        prop_assert!(steps[0] <= start * 1.000001, "{steps:?} from {start}");
        prop_assert!(steps.windows(2).all(|pair| pair[1] <= pair[0] * 1.000001), "{steps:?}");
        prop_assert!(steps[3] >= best * 0.999 && steps[3] <= best * 1.05, "{steps:?} to {best}");
    }

    /// Few-bit factors are close to floats, and the error accounts for what is stored; alternation never hurts.
    #[test]
    fn caldera_keeps_its_best(rows in 16..40_usize, cols in 16..80_usize, seed in 0..1000_u64) {
        let (w, moments) = (weight(rows, cols, seed), moments(cols, 2 * cols, seed));
        let gptq = |factors| Compensation { rounder: Rounder::gptq(true), ..terms(4, factors) };
        let run = |factors, rounds| with(&moments, &w, &preset::caldera(gptq(factors), rounds));
        let error = |fit: &Fit| fit.info.metric_error.expect("calibrated");
        let first = run(FactorFormat::F16, 1);
        prop_assert_eq!(&first.split, &with(&moments, &w, &preset::eora(gptq(FactorFormat::F16))).split);
        prop_assert!(error(&run(FactorFormat::F16, 5)) <= error(&first));
        let (int8, int4) = (run(FactorFormat::Int8, 1), run(FactorFormat::Int4, 1));
        prop_assert!(error(&int8) <= error(&first) * 1.02, "{} for {}", error(&int8), error(&first));
        let alone = error(&with(&moments, &w, &preset::gptq(scheme::UINT3, true)));
        prop_assert!(error(&int4) <= alone, "{} for {alone}", error(&int4));
        let denominator = moments.metric().expect("a metric").norm_squared(w.as_ref()).expect("finite");
        for found in [&first, &int8, &int4] {
            let again = (loss(&moments, &w, &found.split) / denominator).sqrt();
            prop_assert!((again - error(found)).abs() <= 1e-6 * again, "{again} for {}", error(found));
        }
        let bits = |fit: &Fit| fit.split.low_rank().expect("factors").stored_bits();
        for (found, format) in [(&first, FactorFormat::F16), (&int8, FactorFormat::Int8), (&int4, FactorFormat::Int4)] {
            prop_assert_eq!(bits(found), format.stored_bits((rows, cols), 4).expect("counted"));
        }
    }

    /// E‖y - y'‖² is the tail of the outputs' covariance, the mean is exact, and the product adds the bias.
    #[test]
    fn lord_mimics_the_centred_output(rows in 8..32_usize, cols in 8..32_usize, rank in 1..5_usize, seed in 0..1000_u64) {
        let w = weight(rows, cols, seed);
        let noise = gaussian(5 * cols, cols, seed + 9);
        let x = Mat::from_fn(5 * cols, cols, |t, j| noise[(t, j)] + if j % 3 == 0 { 2.0 } else { 0.0 });
        let mut moments = Moments::new(cols, MomentKinds { gram: true, sample: 0 });
        moments.update(x.as_ref()).expect("finite");
        let found = with(&moments, &w, &preset::lord(rank, F32));
        let best = tail_squared(&weighted_spectrum(&w, &moments, true), rank) * x.nrows() as f64;
        let y = &x * w.transpose();
        let difference = &y - found.split.apply(x.as_ref()).expect("a product");
        let error = norm_squared(difference.as_ref());
        prop_assert!(error <= best * 1.02 + 1e-6 * norm_squared(y.as_ref()), "{error} for {best}");
        prop_assert!(error >= best * 0.999 - 1e-6 * norm_squared(y.as_ref()), "{error} for {best}");
        for o in 0..rows {
            let sum: f64 = difference.col(o).iter().map(|&d| f64::from(d)).sum();
            let scale: f64 = y.col(o).iter().map(|&d| f64::from(d).abs()).sum();
            prop_assert!(sum.abs() <= 1e-4 * scale, "{sum} of {scale}");
        }
        let relative = (error / norm_squared(y.as_ref())).sqrt();
        prop_assert!((found.info.metric_error.expect("calibrated") - relative).abs() <= 1e-3 * relative + 1e-5);
        let reference = rankbit_lowrank::split::matmul::reference::apply(&found.split, x.as_ref()).expect("a product");
        let gap = norm_squared((found.split.apply(x.as_ref()).expect("a product") - reference).as_ref());
        prop_assert!(gap <= 1e-10 * norm_squared(y.as_ref()));
    }

    /// Whitened and scaled truncation: the tail of the weighted spectrum; without a scaling the plain SVD.
    #[test]
    fn whitened_low_rank(rows in 8..32_usize, cols in 8..32_usize, rank in 1..6_usize, seed in 0..1000_u64) {
        let (w, moments) = (weight(rows, cols, seed), moments(cols, 3 * cols, seed));
        let whitened = loss(&moments, &w, &with(&moments, &w, &preset::svd_llm(rank, F32)).split);
        let best = tail_squared(&weighted_spectrum(&w, &moments, false), rank);
        let all = moments.metric().expect("a metric").norm_squared(w.as_ref()).expect("finite");
        prop_assert!(whitened >= best * 0.999 - 1e-9 * all && whitened <= best * 1.05 + 1e-9 * all, "{whitened} for {best}");
        let asvd = loss(&moments, &w, &with(&moments, &w, &preset::asvd(0.5, rank, F32)).split);
        prop_assert!(whitened <= asvd * 1.001 + 1e-9 * all);
        let plain = |recipe: &Recipe| with(&moments, &w, recipe).info.relative_error;
        prop_assert!((plain(&preset::asvd(0.0, rank, F32)) - plain(&preset::low_rank(rank, F32))).abs() <= 1e-5);
        let mut parts = moments.parts().clone();
        parts.row_weight = Some((0..rows).map(|i| 1.0 + (i % 5) as f64).collect());
        let frequent = Moments::from_parts(cols, parts).expect("moments");
        let weighted = Metric::identity().with_rows((0..rows).map(|i| 1.0 + (i % 5) as f64).collect()).expect("rows");
        let of = |recipe: &Recipe| {
            let residual = &w - with(&frequent, &w, recipe).split.reconstruct();
            weighted.norm_squared(residual.as_ref()).expect("finite")
        };
        prop_assert!(of(&preset::embedding(rank, F32)) <= of(&preset::low_rank(rank, F32)) * 1.001 + 1e-9);
        let fisher = |recipe: &Recipe| {
            let residual = &w - with(&frequent, &w, recipe).split.reconstruct();
            let diagonal = Metric::diagonal(frequent.second_moment().expect("moments")).expect("a metric");
            diagonal.with_rows((0..rows).map(|i| 1.0 + (i % 5) as f64).collect()).expect("rows").norm_squared(residual.as_ref()).expect("finite")
        };
        let one = |recipe: Recipe| Recipe { round: vec![recipe.round[1], recipe.round[0]], ..recipe };
        let weighted = fisher(&one(preset::lq_lora_fisher(scheme::UINT3, rank, F32, 1)));
        prop_assert!(weighted <= fisher(&one(preset::lq_lora(scheme::UINT3, rank, F32, 1))) * 1.001 + 1e-9);
    }
}

/// The search never loses to any of its candidates, in the error that it measures.
#[test]
fn smoothing_is_searched() {
    let w = weight(32, 48, 3);
    let mut moments = Moments::new(48, MomentKinds { gram: true, sample: 64 });
    let noise = gaussian(200, 48, 4);
    moments
        .update(Mat::from_fn(200, 48, |t, j| noise[(t, j)] * if j % 7 == 0 { 12.0 } else { 1.0 }).as_ref())
        .expect("finite");
    let recipe = |smooth| {
        preset::svdquant(SvdQuant {
            scheme: scheme::INT4,
            rounder: Rounder::Nearest,
            rank: 4,
            factors: F32,
            smooth,
            rounds: 1,
        })
    };
    for activation in [Activation::Float, Activation::INT4, Activation::INT8] {
        let error = |recipe: Recipe| {
            let found = with(&moments, &w, &recipe.with_activation(activation));
            if activation.is_float() {
                return found.info.metric_error.expect("calibrated");
            }
            let x = moments.sample().expect("a sample");
            let y = x * w.transpose();
            norm_squared((&y - found.split.apply(x).expect("a product")).as_ref()).sqrt()
        };
        let searched = error(recipe(Smoothing::Search(4)));
        for (alpha, beta) in [(0.0, 0.0), (0.25, 0.0), (0.5, 0.5), (0.75, 0.25)] {
            let mut fixed = recipe(Smoothing::Fixed(alpha));
            fixed.transform = TransformRule::Smooth { alpha, beta, format: FloatFormat::F16 };
            assert!(searched <= error(fixed) * 1.000001, "{activation:?}, {alpha}, {beta}");
        }
    }
    let nameless = Moments::new(48, MomentKinds { gram: true, sample: 0 });
    let recipe = recipe(Smoothing::Search(4)).with_activation(Activation::INT4);
    let error = fit(w.as_ref(), &recipe, &Input { name: "w", moments: Some(&nameless) }).unwrap_err();
    assert!(error.to_string().contains("sample"), "{error}");
}

/// Bad calibration is refused, or works and says so.
#[test]
fn calibration_that_does_not_do() {
    let w = weight(16, 24, 1);
    let run =
        |moments: Option<&Moments>, recipe: &Recipe| fit(w.as_ref(), recipe, &Input { name: "w", moments });
    let recipes = [
        preset::eora(terms(2, F32)),
        preset::qera(terms(2, F32), Qera::Diagonal),
        preset::svd_llm(2, F32),
        preset::asvd(0.5, 2, F32),
        preset::lord(2, F32),
        preset::lrec(terms(2, F32), 3),
        preset::caldera(terms(2, FactorFormat::Int4), 2),
    ];
    let mut dead = Moments::new(24, MomentKinds { gram: true, sample: 0 });
    dead.update(Mat::zeros(40, 24).as_ref()).expect("finite");
    let few = moments(24, 5, 2);
    let narrow = moments(23, 50, 2);
    for recipe in &recipes {
        assert!(matches!(run(None, recipe), Err(Error::MissingCalibration { .. })), "{recipe:?}");
        assert_eq!(run(Some(&dead), recipe).unwrap_err(), Error::DeadCalibration, "{recipe:?}");
        assert!(matches!(run(Some(&narrow), recipe), Err(Error::ShapeMismatch { .. })));
        let found = run(Some(&few), recipe).expect("a singular Gram matrix works");
        assert!(found.info.relative_error.is_finite());
    }
    let found = run(Some(&few), &preset::eora(terms(2, F32))).expect("it works");
    assert!(found.info.adjustments.contains(&Adjustment::FewTokens { tokens: 5, inputs: 24 }));
    assert!(matches!(run(Some(&few), &preset::embedding(2, F32)), Err(Error::MissingCalibration { .. })));
    let mut lonely = preset::lrec(terms(2, F32), 3);
    lonely.round.remove(1);
    assert!(matches!(run(Some(&few), &lonely), Err(Error::InvalidRecipe { .. })));
    assert!(run(Some(&few), &preset::lrec(terms(2, FactorFormat::Int8), 3)).is_err());
    for rank in [0, 17] {
        assert!(matches!(
            run(Some(&few), &preset::eora(terms(rank, F32))),
            Err(Error::RankOutOfRange { .. })
        ));
    }
    assert_eq!(preset::rank_within((384, 384), 0.5), 96);
    assert_eq!(preset::rank_within((384, 1536), f64::NAN), 1);
    assert_eq!(preset::rank_within((4, 4), 9.0), 4);
}

/// Factors of few bits and biases survive the file.
#[test]
fn stored_terms_come_back() {
    use rankbit_lowrank::split::file::{self, PartView};
    let (w, moments) = (weight(70, 130, 1), moments(130, 300, 2));
    for recipe in [
        preset::eora(terms(5, FactorFormat::Int4)),
        preset::eora(terms(3, FactorFormat::Int8)),
        preset::lord(3, FactorFormat::Int8),
        preset::lord(3, FactorFormat::F16),
    ] {
        let split = with(&moments, &w, &recipe).split;
        let (header, parts) = file::write(&split);
        let json = header.to_json().expect("JSON");
        let header = file::Header::from_json(&json).expect("a header");
        let find = |name: &str| {
            parts.iter().find(|part| part.name == name).map(|part| PartView {
                element: part.element,
                shape: &part.shape,
                bytes: &part.bytes,
            })
        };
        assert_eq!(file::read(&header, find).expect("a split"), split);
        let bits: usize = parts.iter().map(|part| part.bytes.len() * 8).sum();
        assert_eq!(bits as u64, split.stored_bits());
        for missing in parts.iter().map(|part| part.name) {
            assert!(
                file::read(&header, |name| if name == missing { None } else { find(name) }).is_err(),
                "{missing}"
            );
        }
        let text = serde_json::to_string(&recipe).expect("JSON");
        assert_eq!(serde_json::from_str::<Recipe>(&text).expect("a recipe"), recipe);
    }
}
