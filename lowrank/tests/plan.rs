//! Plans: the program against every choice there is, and what each loss means.

use crate::common::{gaussian, moments, norm_squared, weight};
use proptest::prelude::*;
use rankbit_linalg::Error as LinalgError;
use rankbit_linalg::faer::Mat;
use rankbit_linalg::trace::{TraceOptions, trace_blocks};
use rankbit_lowrank::plan::{self, Candidate, Loss, Norms, Plan, Tensor};
use rankbit_lowrank::{Error, Input, Recipe, fit, preset};
use rankbit_quant::{FloatFormat, scheme};

/// Three formats on matrices of different size and loudness.
fn tensors(loss: Loss) -> Vec<(Tensor, Mat<f32>)> {
    (0..4_usize)
        .map(|i| {
            let matrix =
                weight(32 + 16 * i, 64, 7 * i as u64) * rankbit_linalg::faer::Scale(1.0 + 3.0 * i as f32);
            let norms = Norms::new(matrix.as_ref(), None).expect("norms");
            let name = format!("layer.{i}");
            let input = Input { name: &name, moments: None };
            let candidates = [scheme::UINT2, scheme::UINT3, scheme::UINT4].map(|scheme| {
                plan::candidate(matrix.as_ref(), &preset::rtn(scheme), &input, loss, &norms)
                    .expect("a candidate")
            });
            let weights = (matrix.nrows() * matrix.ncols()) as u64;
            (Tensor { name: name.clone(), weights, candidates: candidates.to_vec() }, matrix)
        })
        .collect()
}

#[test]
fn plans_are_the_best_there_are_and_as_large_as_they_say() {
    let (tensors, matrices): (Vec<Tensor>, Vec<Mat<f32>>) = tensors(Loss::SquaredError).into_iter().unzip();
    let mut all: Vec<(u64, f64)> = vec![(0, 0.0)];
    for tensor in &tensors {
        let add = |&(bits, loss): &(u64, f64)| {
            let candidates = tensor.candidates.clone();
            candidates.into_iter().map(move |c| (bits + c.stored_bits, loss + c.loss))
        };
        all = all.iter().flat_map(add).collect();
    }
    let (low, high) =
        (all.iter().map(|a| a.0).min().expect("plans"), all.iter().map(|a| a.0).max().expect("plans"));
    let mut before = f64::INFINITY;
    for budget in (0..=20).map(|i| low + (high - low) * i / 20) {
        let found = Plan::new(&tensors, budget).expect("a plan");
        let least = all.iter().filter(|a| a.0 <= budget).map(|a| a.1).fold(f64::INFINITY, f64::min);
        assert!((found.loss() - least).abs() <= 1e-12 * least, "{} for {least}", found.loss());
        assert!(found.stored_bits() <= budget && found.loss() <= before);
        before = found.loss();
        // Run anew, each recipe takes the bits and loses what the plan says.
        for (planned, matrix) in found.tensors.iter().zip(&matrices) {
            let fitted = fit(matrix.as_ref(), &planned.recipe, &Input { name: &planned.name, moments: None })
                .expect("a fit");
            assert_eq!(fitted.split.stored_bits(), planned.stored_bits);
            let squared = norm_squared((matrix - fitted.split.reconstruct()).as_ref());
            assert!((squared - planned.loss).abs() <= 1e-6 * squared, "{squared} for {}", planned.loss);
        }
    }
    // Louder layers get more.
    let middle = Plan::new(&tensors, (low + high) / 2).expect("a plan");
    let bits = |i: usize| middle.tensors[i].stored_bits as f64 / middle.tensors[i].weights as f64;
    assert!(bits(3) > bits(0), "{} and {}", bits(3), bits(0));
    let front = plan::front(&tensors).expect("a front");
    assert_eq!((front[0].cost, front[front.len() - 1].cost), (low, high));
    for total in front {
        let found = Plan::new(&tensors, total.cost).expect("a plan");
        assert!((found.loss() - total.loss).abs() <= 1e-9 * total.loss);
    }
}

#[test]
fn plans_survive_serialization() {
    let (tensors, _): (Vec<Tensor>, Vec<Mat<f32>>) = tensors(Loss::RelativeSquaredError).into_iter().unzip();
    let found = Plan::new(&tensors, 40_000).expect("a plan");
    let text = serde_json::to_string(&found).expect("JSON");
    assert_eq!(serde_json::from_str::<Plan>(&text).expect("the same"), found);
    assert!(serde_json::from_str::<Plan>(&text.replace("budget_bits", "budget")).is_err());
    assert_eq!(found.find("layer.2"), found.tensors.get(2));
    assert_eq!(found.find("layer.9"), None);
}

#[test]
fn losses_are_their_formulas() {
    let matrix = weight(24, 48, 3);
    let moments = moments(48, 200, 4);
    let input = Input { name: "layer", moments: Some(&moments) };
    let fitted = fit(matrix.as_ref(), &preset::rtn(scheme::UINT3), &input).expect("a fit");
    let error = &matrix - fitted.split.reconstruct();
    let norms = Norms::new(matrix.as_ref(), Some(&moments)).expect("norms");
    let gram = moments.gram().expect("a Gram matrix");
    let under = |m: &Mat<f32>| -> f64 {
        let mut sum = 0.0;
        for i in 0..m.nrows() {
            for j in 0..48 {
                for k in 0..48 {
                    sum += f64::from(m[(i, j)]) * gram[(j, k)] * f64::from(m[(i, k)]);
                }
            }
        }
        sum
    };
    let (plain, whole) = (norm_squared(error.as_ref()), norm_squared(matrix.as_ref()));
    let hessian = Loss::hessian(12.0 * 24.0 * 48.0, 24 * 48).expect("a trace");
    for (loss, expected) in [
        (Loss::SquaredError, plain),
        (Loss::RelativeSquaredError, plain / whole),
        (Loss::Moments, under(&error)),
        (Loss::RelativeMoments, under(&error) / under(&matrix)),
        (hessian, 12.0 * plain),
        (Loss::Relevance { score: 0.5 }, 0.5 * plain / whole),
    ] {
        let found = loss.of(&fitted.info, &norms).expect("a loss");
        assert!((found / expected - 1.0).abs() < 1e-5, "{loss:?}: {found} for {expected}");
    }
}

/// HAWQ-V2's claim on a function whose Hessian is known: the mean increase under an error of any direction is half of
/// (Tr / n)·‖E‖², with the sum of squares and the block's own n.
#[test]
fn the_hessian_loss_predicts_the_increase() {
    let lengths = [40, 90];
    let curvature: Vec<f64> =
        (0..130).map(|i| if i < 40 { 5.0 + f64::from(i) } else { 0.1 * f64::from(i) }).collect();
    let traces = trace_blocks(&lengths, &TraceOptions::default(), |z, out| {
        for ((out, z), d) in out.iter_mut().zip(z).zip(&curvature) {
            *out = d * z;
        }
        Ok::<(), LinalgError>(())
    })
    .expect("traces");
    let mut first = 0;
    for (block, &len) in lengths.iter().enumerate() {
        let loss = Loss::hessian(traces[block].trace, len as u64).expect("a loss");
        let Loss::Hessian { mean_trace } = loss else { panic!("{loss:?}") };
        let trials = 4000;
        let errors = gaussian(trials, len, 9 + block as u64);
        let (mut increase, mut predicted) = (0.0, 0.0);
        for t in 0..trials {
            for j in 0..len {
                let e = f64::from(errors[(t, j)]);
                increase += 0.5 * curvature[first + j] * e * e;
                predicted += 0.5 * mean_trace * e * e;
            }
        }
        assert!((increase / predicted - 1.0).abs() < 0.01, "{increase} for {predicted}");
        first += len;
    }
}

/// LQ-LoRA's program is a thin caller: its grid, its squared error, one budget.
#[test]
fn lq_lora_as_a_plan() {
    let recipes = preset::lq_lora_candidates(4, FloatFormat::F16, 3);
    assert_eq!(recipes.len(), 36);
    let tensor = |i: u64| {
        let matrix = weight(64, 64, 40 + i);
        let norms = Norms::new(matrix.as_ref(), None).expect("norms");
        let input = Input { name: "layer", moments: None };
        let run = |recipe: &Recipe| {
            plan::candidate(matrix.as_ref(), recipe, &input, Loss::SquaredError, &norms).expect("a candidate")
        };
        Tensor { name: format!("layer.{i}"), weights: 64 * 64, candidates: recipes.iter().map(run).collect() }
    };
    let tensors = [tensor(0), tensor(1), tensor(2)];
    let weights = 3 * 64 * 64;
    let found = Plan::new(&tensors, plan::budget_bits(5.75, weights).expect("bits")).expect("a plan");
    assert!(found.bits_per_weight() <= 5.75);
    for choice in 0..36 {
        let bits: u64 = tensors.iter().map(|t| t.candidates[choice].stored_bits).sum();
        let loss: f64 = tensors.iter().map(|t| t.candidates[choice].loss).sum();
        assert!(
            bits > found.budget_bits || loss >= found.loss() * (1.0 - 1e-12),
            "uniform choice {choice} is better"
        );
    }
}

proptest! {
    #[test]
    fn budgets_in_bits_are_the_largest_that_keep_the_promise(bpw in 0.0..40.0_f64, weights in 1_u64..1 << 40) {
        let bits = plan::budget_bits(bpw, weights).expect("bits");
        prop_assert!(bits as f64 / weights as f64 <= bpw);
        prop_assert!((bits + 2) as f64 / weights as f64 > bpw);
    }
}

#[test]
fn bad_input() {
    let candidate = |loss, stored_bits| Candidate { recipe: preset::rtn(scheme::INT4), loss, stored_bits };
    let tensor = |candidates: Vec<Candidate>| Tensor { name: "t".to_owned(), weights: 100, candidates };
    let new = |candidates: Vec<Candidate>, budget| {
        Plan::new(&[tensor(candidates)], budget).map(|plan| plan.stored_bits())
    };
    assert_eq!(
        new(vec![candidate(1.0, 400)], 399),
        Err(LinalgError::BudgetTooSmall { budget: 399, smallest: 400 }.into())
    );
    assert_eq!(new(Vec::new(), 9), Err(LinalgError::NoChoice { item: 0 }.into()));
    for loss in [f64::NAN, f64::INFINITY] {
        assert!(matches!(
            new(vec![candidate(loss, 1)], 9),
            Err(Error::Linalg(LinalgError::NonFinite { .. }))
        ));
    }
    assert_eq!(Plan::new(&[], 0).map(|plan| plan.bits_per_weight()), Ok(0.0));
    for bits in [-1.0, f64::NAN, f64::INFINITY, 1e300] {
        assert!(matches!(
            plan::budget_bits(bits, 1000),
            Err(Error::Linalg(LinalgError::InvalidOption { .. }))
        ));
    }
    assert_eq!(plan::budget_bits(4.0, 0), Ok(0));
    for trace in [-1.0, f64::NAN, f64::INFINITY] {
        assert!(matches!(Loss::hessian(trace, 10), Err(Error::Linalg(LinalgError::InvalidOption { .. }))));
    }
    let matrix = weight(16, 32, 1);
    let norms = Norms::new(matrix.as_ref(), None).expect("norms");
    let input = Input { name: "t", moments: None };
    let recipe = preset::rtn(scheme::INT4);
    for loss in [Loss::Moments, Loss::RelativeMoments] {
        let found = plan::candidate(matrix.as_ref(), &recipe, &input, loss, &norms);
        assert!(matches!(found, Err(Error::MissingCalibration { .. })), "{loss:?}");
    }
    let found = plan::candidate(matrix.as_ref(), &recipe, &input, Loss::Relevance { score: -1.0 }, &norms);
    assert!(matches!(found, Err(Error::Linalg(LinalgError::InvalidOption { .. }))));
}
