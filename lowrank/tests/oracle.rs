//! Presets against what NumPy and SciPy compute of the papers' formulas (`scripts/oracle/low_rank_presets.py`).

use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_linalg::{MomentKinds, MomentParts, Moments};
use rankbit_lowrank::preset::{self, Compensation, Qera};
use rankbit_lowrank::{FactorFormat, Input, Recipe, fit};
use rankbit_quant::{FloatFormat, Group, Rounder, scheme};
use rankbit_sparse::{Pattern, Scope};
use serde_json::Value;

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|x| x.as_f64().expect("a number")).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "the vectors hold f32 values")]
fn matrix(value: &Value, rows: usize, cols: usize) -> Mat<f32> {
    let values: Vec<f32> = numbers(value).iter().map(|&x| x as f32).collect();
    MatRef::from_row_major_slice(&values, rows, cols).to_owned()
}

#[test]
fn presets_are_those_of_the_papers() {
    let vectors: Value =
        serde_json::from_str(include_str!("../../tests/vectors/low-rank-presets.json")).expect("JSON");
    let count = |name: &str| usize::try_from(vectors[name].as_u64().expect("a count")).expect("small");
    let (out, inputs, rank) = (count("out"), count("in"), count("rank"));
    let rounds = u32::try_from(count("rounds")).expect("small");
    let weight = matrix(&vectors["weight"], out, inputs);
    let x = matrix(&vectors["x"], count("tokens"), inputs);
    let mut moments = Moments::new(inputs, MomentKinds { gram: true, sample: 0 });
    moments.update(x.as_ref()).expect("finite");
    let parts = MomentParts { row_weight: Some(numbers(&vectors["rows"])), ..moments.parts().clone() };
    let weighed = Moments::from_parts(inputs, parts).expect("as many as outputs");

    let long = u32::try_from(count("caldera_rounds")).expect("small");
    let density = vectors["density"].as_f64().expect("a density");
    let pattern = Pattern::Unstructured { density, scope: Scope::Matrix };
    let factors = FactorFormat::Float(FloatFormat::F32);
    let scheme = scheme::INT4.with_group(Group::Row).with_scale_format(FloatFormat::F32);
    let terms = Compensation { scheme, rounder: Rounder::Nearest, rank, factors };
    let recipe_of = |name: &str| -> Recipe {
        match name {
            "lorc" => preset::lorc(scheme, rank, factors),
            "eora" => preset::eora(terms),
            "qera-diagonal" => preset::qera(terms, Qera::Diagonal),
            "svd-llm" => preset::svd_llm(rank, factors),
            "asvd" => preset::asvd(0.5, rank, factors),
            "unified-ctr" => preset::embedding(rank, factors),
            "lord" => preset::lord(rank, factors),
            "loldu" => preset::loldu(Some(scheme), rank, FloatFormat::F32),
            "loldu-alone" => preset::loldu(None, rank, FloatFormat::F32),
            "loftq" => preset::loftq(terms, rounds),
            "lq-lora-fisher" => preset::lq_lora_fisher(scheme, rank, factors, rounds),
            "caldera" => preset::caldera(terms, long),
            "caldera-ldlq" => {
                let rounder = Rounder::Ldlq { damping: 0.01, sweeps: 0 };
                preset::caldera(Compensation { rounder, ..terms }, long)
            }
            "rpca" => preset::rpca(rank, pattern, factors, rounds, false),
            other => panic!("no preset {other}"),
        }
    };
    let cases = vectors["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 14);
    for case in cases {
        let name = case["name"].as_str().expect("a name");
        let weighs_rows = ["unified-ctr", "lq-lora-fisher"].contains(&name);
        let input = Input { name, moments: Some(if weighs_rows { &weighed } else { &moments }) };
        let found = fit(weight.as_ref(), &recipe_of(name), &input).expect("a recipe that runs");
        let low_rank = found.split.low_rank().expect("factors");
        let (left, right) = (low_rank.left().to_f32(), low_rank.right().to_f32());
        let expected = numbers(&case["low_rank"]);
        let (mut gap, mut norm) = (0.0, 0.0);
        for (at, value) in expected.iter().enumerate() {
            let (i, j) = (at / inputs, at % inputs);
            let product: f64 =
                (0..rank).map(|k| f64::from(left[i * rank + k]) * f64::from(right[k * inputs + j])).sum();
            gap += (product - value).powi(2);
            norm += value * value;
        }
        assert!((gap / norm).sqrt() <= 2e-5, "{name}: L·R differs by {}", (gap / norm).sqrt());
        let error = case["error"].as_f64().expect("an error");
        let stated = found.info.iterates[found.info.best].error;
        assert!((stated - error).abs() <= 2e-5 * error, "{name}: {stated} for {error}");
        if let Some(bias) = case.get("bias") {
            let size: f64 = numbers(bias).iter().map(|b| b * b).sum::<f64>().sqrt();
            let found = found.split.bias().expect("a bias");
            for (b, expected) in found.iter().zip(numbers(bias)) {
                assert!((f64::from(*b) - expected).abs() <= 2e-5 * size, "{name}: {b} for {expected}");
            }
        }
    }
}
