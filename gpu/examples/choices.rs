//! Times every choice of kernels for one product, in alternating rounds: `choices TOKENS OUT IN FORMAT RANK INPUTS ROUNDS`,
//! with INPUTS `float`, `int8` or `int4` (per group of 64). A line each: the least milliseconds from submission
//! to idle on resident buffers, the dispatches, the choice.
//!
//! ```text
//! cargo run --release -p rankbit-gpu --example choices -- 128 1024 1024 int4 32 int8 20
//! ```

mod layer;

use layer::Layer;
use rankbit_gpu::Gpu;
use std::error::Error;
use std::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    let layer = Layer::from_arguments()?;
    let (tokens, whole) = (layer.x.nrows(), layer.split(true)?);
    let without_rank = whole.low_rank().is_none();
    let gpu = Gpu::new()?;
    let (alone, linear) = (gpu.upload(&layer.split(false)?)?, gpu.upload(&whole)?);
    let mut all = Vec::new();
    for (what, linear) in [("without the low-rank term", &alone), ("with it", &linear)] {
        if without_rank && what != "with it" {
            continue;
        }
        for choice in linear.choices(tokens) {
            let workspace = linear.workspace_with(tokens, choice)?;
            workspace.apply(layer.x.as_ref())?;
            all.push((what, choice, workspace, f64::INFINITY));
        }
    }
    for _ in 0..layer.count.max(1) {
        for (_, _, workspace, best) in &mut all {
            let start = Instant::now();
            workspace.run()?;
            *best = best.min(start.elapsed().as_secs_f64());
        }
    }
    println!("{}", gpu.adapter().name);
    for (what, choice, workspace, best) in &all {
        println!("{:9.3} ms  {} dispatches  {choice} {what}", best * 1e3, workspace.dispatches());
    }
    Ok(())
}
