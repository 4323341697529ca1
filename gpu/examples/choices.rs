//! Times every choice of kernels for one product, in alternating rounds: `choices TOKENS OUT IN FORMAT RANK INPUTS ROUNDS`,
//! with INPUTS `float`, `int8` or `int4` (per group of 64); groups of 64. A line each: the least milliseconds from submission
//! to idle on resident buffers, the dispatches, the choice.
//!
//! ```text
//! cargo run --release -p rankbit-gpu --example choices -- 128 1024 1024 int4 32 int8 20
//! ```

use rankbit_gpu::Gpu;
use rankbit_linalg::Stream;
use rankbit_linalg::faer::Mat;
use rankbit_lowrank::{Factor, LowRank, Split};
use rankbit_quant::{Activation, FloatFormat, Group, Rounder, Scheme, quantize};
use std::error::Error;
use std::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [tokens, out, features, format, rank, inputs, rounds] = words.as_slice() else {
        return Err("TOKENS OUT IN FORMAT RANK INPUTS ROUNDS".into());
    };
    let (tokens, out, features): (usize, usize, usize) = (tokens.parse()?, out.parse()?, features.parse()?);
    let (rank, rounds): (usize, usize) = (rank.parse()?, rounds.parse()?);
    let scheme = Scheme::named(format).ok_or("no such format")?.with_group(Group::Size(64));
    let activation = match inputs.as_str() {
        "float" => Activation::Float,
        "int8" => Activation::integer(8, Group::Size(64)),
        "int4" => Activation::INT4,
        _ => return Err("inputs are float, int8 or int4".into()),
    };
    let mut random = Stream::new(0, "choices");
    let mut normal = |rows: usize, cols: usize| {
        let mut values = vec![0.0_f32; rows * cols];
        random.fill_normal(&mut values);
        Mat::from_fn(rows, cols, |i, j| values[i * cols + j])
    };
    let base = quantize(normal(out, features).as_ref(), &scheme, Rounder::Nearest)?.quantized;
    let mut factor = |rows, cols| Factor::encode(normal(rows, cols).as_ref(), FloatFormat::F16).0;
    let low_rank =
        if rank == 0 { None } else { Some(LowRank::new(factor(out, rank), factor(rank, features))?) };
    let x = normal(tokens, features);
    let gpu = Gpu::new()?;
    let alone = Split::new((out, features), None, Some(base.clone()), None)?.with_activation(activation)?;
    let split = Split::new((out, features), None, Some(base), low_rank)?.with_activation(activation)?;
    let (alone, linear) = (gpu.upload(&alone)?, gpu.upload(&split)?);
    let mut all = Vec::new();
    for (what, linear) in [("without the low-rank term", &alone), ("with it", &linear)] {
        if rank == 0 && what != "with it" {
            continue;
        }
        for choice in linear.choices(tokens) {
            let workspace = linear.workspace_with(tokens, choice)?;
            workspace.apply(x.as_ref())?;
            all.push((what, choice, workspace, f64::INFINITY));
        }
    }
    for _ in 0..rounds.max(1) {
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
