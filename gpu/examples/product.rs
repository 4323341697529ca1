//! Times one product on the best adapter: `product TOKENS OUT IN FORMAT RANK INPUTS RUNS`, with INPUTS `float`, `int8` or
//! `int4` (per group of 64). Prints milliseconds from submission to idle on resident buffers, least and median, and the
//! adapter.
//!
//! ```text
//! cargo run --release -p rankbit-gpu --example product -- 1 4096 4096 int4 0 int8 50
//! ```

mod layer;

use layer::Layer;
use rankbit_gpu::Gpu;
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let layer = Layer::from_arguments()?;
    let gpu = Gpu::new()?;
    let (_, timing) = gpu.upload(&layer.split(true)?)?.apply_timed(layer.x.as_ref(), layer.count)?;
    println!("{:.4} {:.4} {}", timing.best * 1e3, timing.median * 1e3, gpu.adapter().name);
    Ok(())
}
