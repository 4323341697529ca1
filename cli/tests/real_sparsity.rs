//! Four layers of a real network: what each method loses of the outputs on sentences that it has not seen.

use rankbit::linalg::Metric;
use rankbit::linalg::faer::{Mat, MatRef};
use rankbit::sparse::prune::{AdmmOptions, SparseGptOptions, admm, sparse_gpt};
use rankbit::sparse::{NmPattern, Pattern, criterion, select};
use rankbit_kit::calibration::{Calibration, InputMoments};
use rankbit_kit::model::{SentenceModel, corpus};
use rankbit_kit::text::Sentences;

const TENSORS: [&str; 4] = [
    "encoder.layer.0.attention.self.query.weight",
    "encoder.layer.3.attention.output.dense.weight",
    "encoder.layer.2.intermediate.dense.weight",
    "encoder.layer.4.output.dense.weight",
];

fn gram(moments: &InputMoments) -> MatRef<'_, f64> {
    let side = moments.absmax.len();
    MatRef::from_row_major_slice(&moments.gram, side, side)
}

/// Held-out error of the outputs at 2:4: SparseGPT below Wanda below magnitude, and the alternation at most 0.85 of
/// SparseGPT.
#[test]
fn the_methods_come_in_their_published_order() {
    let model = SentenceModel::load().expect("the model: run scripts/fetch-model.sh");
    let text = Sentences::read(&corpus()).expect("the text: run scripts/fetch-model.sh");
    let seen = Calibration::capture(&model, &text.calibration[..256]).expect("calibration");
    let held = Calibration::capture(&model, &text.held_out[..128]).expect("held-out moments");
    let pattern = Pattern::Nm(NmPattern::TWO_OF_FOUR);
    let mut sums = [0.0; 4];
    for name in TENSORS {
        let tensor = &model.tensors()[name];
        let weight = MatRef::from_row_major_slice(&tensor.values, tensor.shape[0], tensor.shape[1]);
        let gram_seen = gram(seen.of(name).expect(name));
        let metric = Metric::gram(gram(held.of(name).expect(name)).to_owned()).expect(name);
        let error =
            |pruned: &Mat<f32>| metric.relative_error((weight - pruned).as_ref(), weight).expect(name);
        let masked =
            |scores: Mat<f64>| select(scores.as_ref(), &pattern).expect(name).apply(weight).expect(name);
        let moments: Vec<f64> = (0..weight.ncols()).map(|j| gram_seen[(j, j)]).collect();
        let errors = [
            error(&masked(criterion::magnitude(weight).expect(name))),
            error(&masked(criterion::wanda(weight, &moments).expect(name))),
            error(&sparse_gpt(weight, gram_seen, &pattern, &SparseGptOptions::default()).expect(name).weight),
            error(&admm(weight, gram_seen, &pattern, &AdmmOptions::default()).expect(name).weight),
        ];
        println!("{name}: magnitude, Wanda, SparseGPT, ADMM {errors:.4?}");
        assert!(
            errors[1] <= errors[0] && errors[2] <= errors[1] && errors[3] <= 0.9 * errors[2],
            "{errors:?}"
        );
        sums.iter_mut().zip(errors).for_each(|(sum, error)| *sum += error);
    }
    assert!(sums[3] <= 0.85 * sums[2], "{sums:?}");
}
