//! Times one product on the best adapter: `product TOKENS OUT IN FORMAT RANK INPUTS RUNS`, with INPUTS `float` or `int8` (per
//! group of 64); groups of 64. Prints milliseconds from submission to idle on resident buffers, least and median, and the
//! adapter.
//!
//! ```text
//! cargo run --release -p rankbit-gpu --example product -- 1 4096 4096 int4 0 int8 50
//! ```

use rankbit_gpu::Gpu;
use rankbit_linalg::Stream;
use rankbit_linalg::faer::Mat;
use rankbit_lowrank::{Factor, LowRank, Split};
use rankbit_quant::{Activation, FloatFormat, Group, Rounder, Scheme, quantize};
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [tokens, out, features, format, rank, inputs, runs] = words.as_slice() else {
        return Err("TOKENS OUT IN FORMAT RANK INPUTS RUNS".into());
    };
    let (tokens, out, features): (usize, usize, usize) = (tokens.parse()?, out.parse()?, features.parse()?);
    let (rank, runs): (usize, usize) = (rank.parse()?, runs.parse()?);
    let scheme = Scheme::named(format).ok_or("no such format")?;
    let activation = match inputs.as_str() {
        "float" => Activation::Float,
        "int8" => Activation::integer(8, Group::Size(64)),
        _ => return Err("inputs are float or int8".into()),
    };
    let mut random = Stream::new(0, "product");
    let mut normal = |rows: usize, cols: usize| {
        let mut values = vec![0.0_f32; rows * cols];
        random.fill_normal(&mut values);
        Mat::from_fn(rows, cols, |i, j| values[i * cols + j])
    };
    let base = quantize(normal(out, features).as_ref(), &scheme, Rounder::Nearest)?.quantized;
    let mut factor = |rows, cols| Factor::encode(normal(rows, cols).as_ref(), FloatFormat::F16).0;
    let low_rank =
        if rank == 0 { None } else { Some(LowRank::new(factor(out, rank), factor(rank, features))?) };
    let split = Split::new((out, features), None, Some(base), low_rank)?.with_activation(activation)?;
    let gpu = Gpu::new()?;
    let (_, timing) = gpu.upload(&split)?.apply_timed(normal(tokens, features).as_ref(), runs)?;
    println!("{:.4} {:.4} {}", timing.best * 1e3, timing.median * 1e3, gpu.adapter().name);
    Ok(())
}
