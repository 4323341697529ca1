//! What the model refuses, and how it says so.

use std::path::Path;

use rankbit_kit::Error;
use rankbit_kit::bert::Config;
use rankbit_kit::calibration::Calibration;
use rankbit_kit::model::mean_cosine;
use rankbit_kit::tensor::{Tensor, read_tensors};
use rankbit_kit::text::Sentences;

use crate::model;

#[test]
fn missing_files_name_the_script() {
    let nowhere = Path::new("/nonexistent/model.safetensors");
    for error in [read_tensors(nowhere).err(), Sentences::read(nowhere).err()] {
        let message = error.expect("there is no such file").to_string();
        assert!(message.contains("/nonexistent/model.safetensors"), "{message}");
        assert!(message.contains("scripts/fetch-model.sh"), "{message}");
    }
}

#[test]
fn broken_files_are_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("short");
    std::fs::write(&path, "one sentence of exactly six words.").expect("a writable folder");
    for error in [read_tensors(&path).err(), Sentences::read(&path).err()] {
        assert!(matches!(&error, Some(Error::Format { path: named, .. }) if *named == path), "{error:?}");
    }
}

#[test]
fn replaced_tensors_must_fit() {
    let tensor =
        |shape: &[usize]| Tensor { shape: shape.to_vec(), values: vec![0.0; shape.iter().product()].into() };
    let name = "encoder.layer.0.output.dense.weight".to_owned();
    let error = model().with([(name.clone(), tensor(&[1536, 384]))]).expect_err("it is transposed");
    assert!(matches!(&error, Error::Shape { name: named, .. } if *named == name), "{error}");
    let mut short = tensor(&[384, 1536]);
    short.values = [0.0].into();
    assert!(matches!(model().with([(name, short)]), Err(Error::Shape { .. })));
    let error = model().with([("nothing".to_owned(), tensor(&[1]))]).expect_err("there is no such tensor");
    assert!(matches!(error, Error::MissingTensor { .. }), "{error}");
}

#[test]
fn tokens_must_be_known_and_few() {
    for ids in [vec![], vec![30_522], vec![101; 513]] {
        let error = model().network().embed(&[vec![101, 102], ids], &mut |_, _| {}).expect_err("bad tokens");
        assert!(matches!(error, Error::Tokens { sentence: 1, .. }), "{error}");
    }
    let none: [&str; 0] = [];
    assert_eq!(model().embed(&none).expect("nothing to do"), Vec::<Vec<f32>>::new());
    assert!(matches!(Calibration::capture(model(), &none), Err(Error::Empty(_))));
    assert!(matches!(mean_cosine(&vec![], &vec![]), Err(Error::Empty(_))));
    assert!(matches!(mean_cosine(&vec![vec![1.0]], &vec![]), Err(Error::Empty(_))));
}

#[test]
fn configurations_it_cannot_run_are_refused() {
    let good = serde_json::json!({
        "hidden_act": "gelu", "hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2,
        "num_hidden_layers": 1, "vocab_size": 9, "max_position_embeddings": 4, "layer_norm_eps": 1e-12,
    });
    assert_eq!(Config::from_json(&good).expect("it is complete").heads, 2);
    for (field, value) in [
        ("hidden_act", serde_json::json!("relu")),
        ("hidden_size", serde_json::json!(0)),
        ("num_attention_heads", serde_json::json!(3)),
        ("vocab_size", serde_json::json!("many")),
        ("layer_norm_eps", serde_json::Value::Null),
        ("position_embedding_type", serde_json::json!("relative_key")),
    ] {
        let mut bad = good.clone();
        bad[field] = value;
        assert!(matches!(Config::from_json(&bad), Err(Error::Config { field: named }) if named == field));
    }
}
