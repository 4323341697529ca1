//! Tokens and embeddings against `tests/vectors/minilm-embeddings.json`, made by
//! `scripts/oracle/minilm_embeddings.py`, and the figures known of the whole text.

use std::sync::Arc;

use rankbit_kit::bert::Bert;
use rankbit_kit::model::{cosines, mean_cosine};
use rankbit_kit::tensor::Tensor;
use rankbit_kit::tolerance::assert_close;

use crate::{model, sentences, vectors};

#[test]
fn agree_with_the_published_path() {
    let file = vectors("minilm-embeddings.json");
    let cases = file["cases"].as_array().expect("a list of cases");
    assert_eq!(cases.len(), 6);
    let texts: Vec<&str> = cases.iter().map(|case| case["text"].as_str().expect("a text")).collect();
    let numbers = |case: &serde_json::Value, key: &str| -> Vec<f64> {
        let list = case[key].as_array().expect("a list");
        list.iter().map(|value| value.as_f64().expect("a number")).collect()
    };
    let tokens = model().tokens(&texts).expect("plain sentences");
    let embeddings = model().embed(&texts).expect("plain sentences");
    let mut worst = 0.0f64;
    for ((case, tokens), embedding) in cases.iter().zip(&tokens).zip(&embeddings) {
        assert_close(&tokens.iter().map(|&id| f64::from(id)).collect::<Vec<_>>(), &numbers(case, "ids"), 0.0);
        let expected = numbers(case, "embedding");
        for (a, e) in embedding.iter().zip(&expected) {
            worst = worst.max((f64::from(*a) - e).abs());
        }
        // Two float32 forward passes that sum in other orders. Measured: 2e-7.
        assert_close(&embedding.iter().map(|&x| f64::from(x)).collect::<Vec<_>>(), &expected, 2e-6);
        // Both have unit length.
        let cosine: f64 = embedding.iter().zip(&expected).map(|(&a, e)| f64::from(a) * e).sum();
        assert!((cosine - 1.0).abs() < 1e-6, "cosine {cosine}");
    }
    println!("largest difference of an element: {worst:e}");
    assert!(tokens.iter().any(|tokens| tokens.len() == 128), "no case is cut");
}

#[test]
fn do_not_depend_on_company() {
    // Alone or within a group: the same rows go through the same layers, up to summation order.
    let texts = &sentences().held_out[..60];
    let together = model().embed(texts).expect("plain sentences");
    for (text, expected) in texts.iter().zip(&together).step_by(7) {
        let alone = model().embed(&[text]).expect("plain sentences");
        assert_close(&alone[0], expected, 2e-6);
    }
}

#[test]
fn text_has_the_tokens_the_baselines_were_measured_on() {
    for (texts, count, tokens) in
        [(&sentences().calibration, 768, 22_484), (&sentences().held_out, 384, 11_640)]
    {
        assert_eq!(texts.len(), count);
        let ids = model().tokens(texts).expect("plain sentences");
        assert_eq!(ids.iter().map(Vec::len).sum::<usize>(), tokens);
    }
    let calibration: std::collections::HashSet<_> = sentences().calibration.iter().collect();
    let shared = sentences().held_out.iter().filter(|text| calibration.contains(text)).count();
    assert_eq!(shared, 0, "held-out sentences also calibrate");
}

#[test]
fn rounding_to_four_bits_costs_what_the_baseline_says() {
    // Asymmetric integers of 4 bits, groups of 64 along a row, f16 scales: mean cosine 0.9641, worst 0.9449.
    let started = std::time::Instant::now();
    let texts = &sentences().held_out;
    let original = model().embed(texts).expect("plain sentences");
    println!("{} sentences in {:?}", texts.len(), started.elapsed());
    let replaced = model().network().linear_names().map(|name| {
        let mut tensor = model().tensors()[name].clone();
        let mut values = tensor.values.to_vec();
        values.chunks_exact_mut(64).for_each(round_group);
        tensor.values = values.into();
        (name.to_owned(), tensor)
    });
    let rounded = model().with(replaced).expect("same shapes").embed(texts).expect("plain sentences");
    let mean = mean_cosine(&original, &rounded).expect("as many");
    let worst = cosines(&original, &rounded).expect("as many").into_iter().fold(1.0, f64::min);
    println!("mean cosine {mean}, worst {worst}");
    assert!((mean - 0.9641).abs() < 5e-4, "mean cosine {mean}");
    assert!((worst - 0.9449).abs() < 2e-3, "worst cosine {worst}");
}

/// Written out here, without the crates under test.
fn round_group(group: &mut [f32]) {
    let low = group.iter().fold(0.0f32, |low, &w| low.min(w));
    let high = group.iter().fold(0.0f32, |high, &w| high.max(w));
    let zero = (-low / ((high - low) / 15.0)).round_ties_even();
    let scale = half::f16::from_f32((high - low) / 15.0).to_f32();
    for w in group {
        *w = (((*w / scale).round_ties_even() + zero).clamp(0.0, 15.0) - zero) * scale;
    }
}

#[test]
fn every_linear_layer_matters_and_is_seen_once() {
    let mut seen = Vec::new();
    let texts = &sentences().held_out[..2];
    let original = model().embed_observed(texts, &mut |name, x| seen.push((name.to_owned(), x.len())));
    let original = original.expect("plain sentences");
    let tokens: usize = model().tokens(texts).expect("plain sentences").iter().map(Vec::len).sum();
    let names: Vec<String> = model().network().linear_names().map(str::to_owned).collect();
    assert_eq!(names.len(), 36);
    assert_eq!(seen.iter().map(|(name, _)| name).collect::<Vec<_>>(), names.iter().collect::<Vec<_>>());
    for (name, len) in seen {
        let shape = &model().tensors()[&name].shape;
        assert_eq!(len, tokens * shape[1], "{name}");
        let zero: Arc<[f32]> = vec![0.0; shape[0] * shape[1]].into();
        let without = model().with([(name.clone(), Tensor { shape: shape.clone(), values: zero })]);
        let without = without.expect("same shape").embed(texts).expect("plain sentences");
        let cosine = mean_cosine(&original, &without).expect("as many");
        assert!(cosine < 0.9999, "without {name} the cosine is {cosine}");
        assert!(names.contains(&Bert::shared_input(&name)));
    }
}
