//! Feature maps and Scatterbrain against performer-pytorch and PyTorch: `scripts/oracle/attention_features.py`.

use rankbit_attention::{
    FeatureMap, RandomFeatures, ScatterbrainOptions, Support, Tensor, linear, scatterbrain,
};

use crate::common::{gap, levels, rounded};

fn vectors() -> serde_json::Value {
    serde_json::from_str(include_str!("../../tests/vectors/attention-features.json")).expect("JSON")
}

fn tensor(value: &serde_json::Value) -> Tensor<f64> {
    let shape: Vec<usize> = serde_json::from_value(value["shape"].clone()).expect("a shape");
    Tensor::from_vec(numbers(value), shape.try_into().expect("four sizes")).expect("it fits")
}

fn numbers(value: &serde_json::Value) -> Vec<f64> {
    serde_json::from_value(value["data"].clone()).expect("numbers")
}

fn operands(case: &serde_json::Value) -> [Tensor<f64>; 3] {
    ["q", "k", "v"].map(|name| tensor(&case[name]))
}

/// The directions that the other code was given.
fn features(case: &serde_json::Value, dim: usize) -> RandomFeatures {
    let hyperbolic = case["hyperbolic"].as_bool().expect("a flag");
    RandomFeatures::from_directions(numbers(&case["projection"]), dim, hyperbolic).expect("finite directions")
}

fn cases<'a>(json: &'a serde_json::Value, name: &str) -> &'a [serde_json::Value] {
    let cases = json[name].as_array().expect("cases");
    assert!(!cases.is_empty(), "{name}");
    cases
}

#[test]
fn random_features_are_those_of_performer_pytorch() {
    let json = vectors();
    for case in cases(&json, "performer") {
        let [q, k, v] = operands(case);
        let features = features(case, q.shape()[3]);
        let map = FeatureMap::Random { features: &features, scale: None };
        let expected = tensor(&case["output"]);
        for found in levels(|| linear(q.view(), k.view(), v.view(), map, false)) {
            assert!(gap(found.expect("good operands").as_slice(), expected.as_slice()) <= 1e-12);
        }
        let [q, k, v] = [&q, &k, &v].map(rounded);
        for found in levels(|| linear(q.view(), k.view(), v.view(), map, false)) {
            assert!(gap(found.expect("good operands").as_slice(), expected.as_slice()) <= 2e-5);
        }
    }
}

#[test]
fn elu_and_taylor_are_their_dense_matrices_in_pytorch() {
    let json = vectors();
    for case in cases(&json, "dense") {
        let [q, k, v] = operands(case);
        let causal = case["causal"].as_bool().expect("a flag");
        for (name, map) in [("elu", FeatureMap::Elu), ("taylor", FeatureMap::Taylor { scale: None })] {
            let expected = tensor(&case[name]);
            for found in levels(|| linear(q.view(), k.view(), v.view(), map, causal)) {
                let gap = gap(found.expect("good operands").as_slice(), expected.as_slice());
                assert!(gap <= 1e-12, "{name}: {gap}");
            }
        }
    }
}

/// Given its pairs and projection. The weights too, read from the numerators through values that are unit vectors.
#[test]
fn scatterbrain_is_that_of_the_published_steps() {
    let json = vectors();
    for case in cases(&json, "scatterbrain") {
        let [q, k, v] = operands(case);
        let pairs: Vec<Vec<Vec<u32>>> = serde_json::from_value(case["pairs"].clone()).expect("keys");
        let [batch, heads, n, dim] = q.shape();
        let support = Support::from_rows([batch, heads, n, n], |[_, h, i], row| row.extend(&pairs[h][i]));
        let support = support.expect("keys inside");
        let features = features(case, dim);
        let map = FeatureMap::Random { features: &features, scale: None };
        let options = ScatterbrainOptions::default();
        let expected = tensor(&case["output"]);
        for found in levels(|| scatterbrain(q.view(), k.view(), v.view(), map, &support, &options)) {
            assert!(gap(found.expect("good operands").as_slice(), expected.as_slice()) <= 1e-12);
        }
        let unit = (0..heads * n * n).map(|i| f64::from(u8::from(i / n % n == i % n))).collect();
        let unit = Tensor::from_vec(unit, [1, heads, n, n]).expect("it fits");
        let found = scatterbrain(q.view(), k.view(), unit.view(), map, &support, &options);
        let weights = tensor(&case["weights"]);
        let mut expected = vec![];
        for line in weights.as_slice().chunks_exact(n) {
            let sum: f64 = line.iter().sum();
            expected.extend(line.iter().map(|w| w / sum));
        }
        assert!(gap(found.expect("good operands").as_slice(), &expected) <= 1e-12);
    }
}
