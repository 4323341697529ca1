//! Moments against `tests/vectors/minilm-moments.json`, made by `scripts/oracle/minilm_moments.py` with
//! `scripts/capture.py`; the file they are written to; the error they judge.

use rankbit_kit::calibration::{Calibration, output_error};
use rankbit_kit::tolerance::assert_close;
use safetensors::{Dtype, SafeTensors};

use crate::{model, sentences, vectors};

fn captured() -> Calibration {
    Calibration::capture(model(), &sentences().calibration[..16]).expect("plain sentences")
}

#[test]
fn agree_with_the_capture_script() {
    let kept = vectors("minilm-moments.json");
    let ours = captured();
    let inputs = kept["inputs"].as_object().expect("an object");
    assert_eq!(ours.moments.keys().collect::<Vec<_>>(), inputs.keys().collect::<Vec<_>>());
    assert_eq!(ours.moments.len(), 24);
    let alias = serde_json::to_value(&ours.alias).expect("a map of strings");
    assert_eq!(alias, kept["alias"]);
    let mut worst = 0.0f64;
    for (name, moments) in &ours.moments {
        assert_eq!(Some(moments.tokens), kept["tokens"].as_i64(), "{name}");
        let side = moments.absmax.len();
        let trace: f64 = moments.gram.iter().step_by(side + 1).sum();
        let frobenius = moments.gram.iter().map(|h| h * h).sum::<f64>().sqrt();
        let sum = |values: &[f32]| values.iter().map(|&x| f64::from(x)).sum::<f64>();
        let magnitude = sum(&moments.mean_abs);
        for (key, value, size) in [
            ("trace", trace, trace),
            ("frobenius", frobenius, frobenius),
            // One element and a sum of either sign: relative to what they are made of.
            ("corner", moments.gram[side - 1], frobenius),
            ("mean", sum(&moments.mean), magnitude),
            ("mean_abs", magnitude, magnitude),
            ("absmax", sum(&moments.absmax), sum(&moments.absmax)),
        ] {
            let expected = inputs[name][key].as_f64().expect("a number");
            let difference = (value - expected).abs() / size;
            assert!(difference <= 1e-5, "{name} {key}: {value}, expected {expected}");
            worst = worst.max(difference);
        }
    }
    println!("largest relative difference: {worst:e}");
}

#[test]
fn moments_fit_together() {
    let calibration = captured();
    for (name, moments) in &calibration.moments {
        let side = moments.absmax.len();
        assert_eq!(moments.gram.len(), side * side, "{name}");
        for row in 0..side {
            let second = moments.gram[row * side + row];
            let (mean, mean_abs) = (f64::from(moments.mean[row]), f64::from(moments.mean_abs[row]));
            let absmax = f64::from(moments.absmax[row]);
            // |E x| ≤ E|x| ≤ √(E x²) ≤ max|x|, up to the rounding of the stored f32.
            let chain = [mean.abs(), mean_abs, second.sqrt(), absmax];
            assert!(chain.is_sorted_by(|a, b| *a <= *b * (1.0 + 1e-6)), "{name} column {row}: {chain:?}");
            let mirrored: Vec<f64> = (0..side).map(|col| moments.gram[col * side + row]).collect();
            assert_close(&mirrored, &moments.gram[row * side..][..side], 0.0);
        }
    }
    let key = "encoder.layer.3.attention.self.key.weight";
    let query = "encoder.layer.3.attention.self.query.weight";
    assert_eq!(calibration.of(key), calibration.moments.get(query));
    assert!(calibration.of(key).is_some() && calibration.of("embeddings.LayerNorm.weight").is_none());
}

#[test]
fn the_file_holds_what_was_captured() {
    let calibration = captured();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("acts.safetensors");
    calibration.write(&path).expect("a writable folder");
    let bytes = std::fs::read(&path).expect("the file just written");
    let (_, header) = SafeTensors::read_metadata(&bytes).expect("a safetensors file");
    let metadata = header.metadata().as_ref().expect("metadata");
    let alias = serde_json::from_str::<serde_json::Value>(&metadata["alias"]).expect("JSON");
    assert_eq!(alias, serde_json::to_value(&calibration.alias).expect("a map of strings"));
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    assert_eq!(file.len(), 5 * calibration.moments.len());
    for (name, moments) in &calibration.moments {
        let side = moments.absmax.len();
        let read = |part: &str, dtype: Dtype, shape: &[usize]| {
            let view = file.tensor(&format!("{name}.{part}")).expect("the part is there");
            assert_eq!((view.dtype(), view.shape()), (dtype, shape), "{name}.{part}");
            view.data().to_vec()
        };
        assert_eq!(read("tokens", Dtype::I64, &[1]), moments.tokens.to_le_bytes());
        let gram = read("gram", Dtype::F64, &[side, side]);
        let gram = gram.as_chunks().0.iter().map(|&bytes| f64::from_le_bytes(bytes));
        assert!(gram.eq(moments.gram.iter().copied()), "{name}.gram");
        for (part, values) in
            [("absmax", &moments.absmax), ("mean_abs", &moments.mean_abs), ("mean", &moments.mean)]
        {
            let stored = read(part, Dtype::F32, &[side]);
            let stored = stored.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes));
            assert!(stored.eq(values.iter().copied()), "{name}.{part}");
        }
    }
}

#[test]
fn output_error_is_that_of_the_outputs() {
    // X = [[1, 2], [0, 1], [3, 0]], XᵀX = [[10, 2], [2, 5]]; the factor 1/tokens cancels.
    let gram = [10.0, 2.0, 2.0, 5.0];
    // W·Xᵀ for W = [[1, 1]] is (3, 1, 3), of squared length 19; for E = [[1, 0]] it is (1, 0, 3), of 10.
    let error = output_error(&[1.0, 1.0], &[0.0, 1.0], &gram).expect("shapes fit");
    assert!((error - (10.0f64 / 19.0).sqrt()).abs() < 1e-15, "{error}");
    assert_eq!(output_error(&[1.0, 1.0], &[1.0, 1.0], &gram).expect("shapes fit"), 0.0);
    assert!(output_error(&[1.0, 1.0], &[1.0], &gram).is_err());
    assert!(output_error(&[1.0], &[1.0], &gram).is_err());
    assert!(output_error(&[], &[], &[]).is_err());
    assert!(output_error(&[0.0, 0.0], &[1.0, 1.0], &gram).is_err());
}
