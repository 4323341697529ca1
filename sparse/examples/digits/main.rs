//! Training a small classifier sparse: masks from the first step against masks that come gradually.
//!
//! ```text
//! cargo run --release -p rankbit-sparse --example digits [N:M [SEEDS [STEPS [RATE]]]]
//! ```

mod data;
mod network;
mod recipe;

use rankbit_sparse::NmPattern;
use rankbit_sparse::schedule::{Decay, Frames, GradientFlow, MaskDecay, SrSte, StructureDecay};
use recipe::{Recipe, Training};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let pattern: NmPattern = arguments.next().as_deref().unwrap_or("1:8").parse()?;
    let seeds: u64 = arguments.next().map_or(Ok(10), |text| text.parse())?;
    let steps: u64 = arguments.next().map_or(Ok(1200), |text| text.parse())?;
    let rate: f32 = arguments.next().map_or(Ok(3e-3), |text| text.parse())?;
    // A quarter dense, half of decay, a quarter of fine-tuning under the mask.
    let (start, end) = (steps / 4, steps - steps / 4);
    let linear = Decay::Linear { rate: 1.0 / (end - start) as f64 };
    let exponential = Decay::Exponential { rate: 5.0 / (end - start) as f64 };
    let mask = |decay, flow| MaskDecay::new(start, end, decay, flow).map(Recipe::MaskDecay);
    let structure = |frames| StructureDecay::new(start, end, pattern, frames).map(Recipe::StructureDecay);
    let recipes = [
        ("dense", Recipe::Dense),
        ("one shot", Recipe::OneShot),
        ("STE", Recipe::SrSte(SrSte::new(pattern, 0.0)?)),
        ("SR-STE, λ = 2e-4", Recipe::SrSte(SrSte::new(pattern, 2e-4)?)),
        ("mask decay, linear, straight", mask(linear, GradientFlow::Straight)?),
        ("mask decay, linear, restricted", mask(linear, GradientFlow::Restricted)?),
        ("mask decay, exponential, straight", mask(exponential, GradientFlow::Straight)?),
        ("mask decay, exponential, restricted", mask(exponential, GradientFlow::Restricted)?),
        ("structure decay, stepwise", structure(Frames::Stepwise)?),
        ("structure decay, geometric", structure(Frames::Geometric)?),
    ];
    let (train, test) = data::digits();
    println!("{pattern} of both hidden layers, {steps} steps, rate {rate}, {seeds} seeds");
    for (name, recipe) in &recipes {
        let mut accuracies = Vec::new();
        for seed in 0..seeds {
            let training = Training { pattern, steps, rate, seed };
            accuracies.push(100.0 * recipe::run(recipe, &training, (&train, &test))?.accuracy);
        }
        let mean = accuracies.iter().sum::<f64>() / seeds as f64;
        let squares: f64 = accuracies.iter().map(|a| (a - mean) * (a - mean)).sum();
        let error = (squares / (seeds as f64 - 1.0).max(1.0) / seeds as f64).sqrt();
        println!("  {name:<36} {mean:.2} ± {error:.2} % right");
    }
    Ok(())
}
