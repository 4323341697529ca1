//! Against NumPy, SciPy and PyTorch: see `scripts/oracle/sparse.py`.

use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_quant::{FloatFormat, Floats};
use rankbit_sparse::prune::{RefitOptions, SparseGptOptions, refit, sparse_gpt};
use rankbit_sparse::storage::hardware::{self, Word};
use rankbit_sparse::{Mask, NmMatrix, NmPattern, Pattern, ValueFormat, Values, criterion, select};
use serde_json::Value;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../tests/vectors/sparse.json")).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn count(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

fn pattern(case: &Value) -> NmPattern {
    NmPattern::new(u32::try_from(count(&case["keep"])).unwrap(), u32::try_from(count(&case["of"])).unwrap())
        .unwrap()
}

fn single(values: &[f64]) -> Vec<f32> {
    values.iter().map(|v| crate::common::single(*v)).collect()
}

fn mask(value: &Value) -> Mask {
    let rows: Vec<&[u8]> =
        value.as_array().unwrap().iter().map(|row| row.as_str().unwrap().as_bytes()).collect();
    Mask::from_fn((rows.len(), rows[0].len()), |i, j| rows[i][j] == b'1')
}

#[test]
fn masks_and_pruned_values() {
    let vectors = vectors();
    let (rows, cols) = (count(&vectors["rows"]), count(&vectors["cols"]));
    let weight = single(&numbers(&vectors["weight"]));
    let weight = MatRef::from_row_major_slice(&weight, rows, cols);
    let gram = numbers(&vectors["gram"]);
    let gram = MatRef::from_row_major_slice(&gram, cols, cols);
    let moments: Vec<f64> = (0..cols).map(|j| gram[(j, j)]).collect();
    for case in vectors["cases"].as_array().unwrap() {
        let nm = pattern(case);
        let chosen = |scores: Mat<f64>| select(scores.as_ref(), &Pattern::Nm(nm)).unwrap();
        assert_eq!(chosen(criterion::magnitude(weight).unwrap()), mask(&case["magnitude"]), "{nm}");
        let wanda = chosen(criterion::wanda(weight, &moments).unwrap());
        assert_eq!(wanda, mask(&case["wanda"]), "{nm}");
        assert_eq!(chosen(criterion::ria(weight, &moments, 0.5).unwrap()), mask(&case["ria"]), "{nm}");
        let close = |found: &Mat<f32>, expected: &Value| {
            let expected = numbers(expected);
            for i in 0..rows {
                for j in 0..cols {
                    let (found, expected) = (f64::from(found[(i, j)]), expected[i * cols + j]);
                    assert_eq!(found == 0.0, expected == 0.0, "{nm} {i} {j}");
                    assert!((found - expected).abs() <= 1e-5, "{nm} {i} {j}: {found} {expected}");
                }
            }
        };
        let gpt = sparse_gpt(weight, gram, &Pattern::Nm(nm), &SparseGptOptions::default()).unwrap();
        close(&gpt.weight, &case["sparse_gpt"]);
        let options = RefitOptions { iterations: 200, tolerance: 1e-10, ..RefitOptions::default() };
        close(&refit(weight, &wanda, gram, &options).unwrap().weight, &case["refit"]);
    }
}

#[test]
fn transposable_optima() {
    for case in vectors()["blocks"].as_array().unwrap() {
        let nm = pattern(case);
        let scores = numbers(&case["scores"]);
        let scores = MatRef::from_row_major_slice(&scores, nm.of(), nm.of());
        let mask = select(scores, &Pattern::Transposable(nm)).unwrap();
        let total: f64 =
            (0..nm.of()).flat_map(|i| mask.row(i).map(move |j| (i, j))).map(|at| scores[at]).sum();
        let optimum = case["optimum"].as_f64().unwrap();
        assert!((total - optimum).abs() <= 1e-8 * optimum, "{nm}: {total} {optimum}");
    }
}

#[test]
fn module_importance() {
    let vectors = vectors();
    let found = criterion::dimap(&single(&numbers(&vectors["module"]))).unwrap();
    for (found, expected) in found.iter().zip(numbers(&vectors["dimap"])) {
        assert!((found - expected).abs() <= 1e-12, "{found} {expected}");
    }
}

#[test]
fn the_hardwares_metadata_is_pytorchs() {
    for case in vectors()["hardware"].as_array().unwrap() {
        let word = if case["word"] == "bits16" { Word::Bits16 } else { Word::Bits32 };
        let dense = single(&numbers(&case["dense"]));
        let dense = MatRef::from_row_major_slice(&dense, 64, 64);
        let mask = Mask::of_nonzeros(dense);
        let format = ValueFormat::Float(FloatFormat::F32);
        let (stored, _) = NmMatrix::new(dense, &mask, NmPattern::TWO_OF_FOUR, &format).unwrap();
        assert_eq!(stored.values(), &Values::Floats(Floats::F32(single(&numbers(&case["values"])))));
        let text = case["metadata"].as_str().unwrap();
        let bytes: Vec<u8> =
            (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect();
        assert_eq!(hardware::metadata(&stored, word).unwrap(), bytes);
    }
}
