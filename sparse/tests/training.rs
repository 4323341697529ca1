//! Schedules at work: a small classifier trained at 1:8, the loop of the example `sparse_training`.

#[path = "../examples/sparse_training/data.rs"]
mod data;
#[path = "../examples/sparse_training/network.rs"]
mod network;
#[path = "../examples/sparse_training/recipe.rs"]
mod recipe;

use rankbit_sparse::NmPattern;
use rankbit_sparse::schedule::{Decay, Frames, GradientFlow, MaskDecay, SrSte, StructureDecay};
use recipe::{Recipe, Training};

const STEPS: u64 = 320;

/// Densities at every step, the pattern in the end, and a classifier that is nearly as good as a dense one (97 to 98 %).
#[test]
fn a_classifier_learns_at_one_of_eight() {
    let pattern = NmPattern::new(1, 8).unwrap();
    let (start, end) = (STEPS / 4, STEPS - STEPS / 4);
    let decay = Decay::Exponential { rate: 5.0 / (end - start) as f64 };
    let fading = MaskDecay::new(start, end, decay, GradientFlow::Straight).unwrap();
    let stepwise = StructureDecay::new(start, end, pattern, Frames::Stepwise).unwrap();
    let geometric = StructureDecay::new(start, end, pattern, Frames::Geometric).unwrap();
    let frame = (end - start) / 4;
    let stepwise_density = |step: u64| match step {
        _ if step < start => 1.0,
        _ if step < start + frame => 7.0 / 8.0,
        _ if step < start + 2 * frame => 0.5,
        _ if step < start + 3 * frame => 0.25,
        _ => 0.125,
    };
    // In the first step of its decay a mask still counts fully.
    let after = |first: u64| move |step: u64| if step < first { 1.0 } else { 0.125 };
    let recipes: [(Recipe, &dyn Fn(u64) -> f64); 4] = [
        (Recipe::SrSte(SrSte::new(pattern, 2e-4).unwrap()), &|_| 0.125),
        (Recipe::MaskDecay(fading), &after(start + 1)),
        (Recipe::StructureDecay(stepwise), &stepwise_density),
        (Recipe::StructureDecay(geometric), &after(start)),
    ];
    let (train, test) = data::digits();
    let run = |recipe: &Recipe| {
        let training = Training { pattern, steps: STEPS, rate: 3e-3, seed: 0 };
        recipe::run(recipe, &training, (&train, &test)).unwrap()
    };
    for (k, (recipe, density)) in recipes.iter().enumerate() {
        let outcome = run(recipe);
        for (step, found) in (0..).zip(&outcome.densities) {
            assert_eq!(*found, density(step), "recipe {k}, step {step}");
        }
        for mask in &outcome.masks {
            mask.check(pattern).unwrap();
            assert_eq!(mask.density(), 0.125);
        }
        assert!(outcome.accuracy > 0.94, "recipe {k}: {}", outcome.accuracy);
    }
    // What all this is for: a dense network does not survive the same mask.
    let (dense, pruned) = (run(&Recipe::Dense), run(&Recipe::OneShot));
    assert!(dense.accuracy > 0.96 && dense.masks.is_empty(), "{}", dense.accuracy);
    assert!(pruned.accuracy < 0.9, "{}", pruned.accuracy);
}
