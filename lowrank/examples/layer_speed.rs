//! What the low-rank term and threads cost and bring in a prepared layer.
//!
//! ```text
//! cargo run --release -p rankbit-lowrank --example layer_speed [-- RANK]
//! ```
//! `int4` of 4096×4096, weights from memory (copies take turns), 8-bit inputs quantized anew each time, wall time, the least of
//! many, all variants in turn. *added* is what a variant takes beyond the layer without the term, on as many threads; *threads*
//! how many times as fast it is as on one.

use rankbit_lowrank::split::prepared::{Inputs, PreparedLinear, Scratch};
use rankbit_lowrank::{Factor, LowRank, Split};
use rankbit_quant::matmul::prepared::ScaleOf;
use rankbit_quant::{FloatFormat, Floats, nearest, scheme};
use std::time::Instant;

const SIDE: usize = 4096;
const COPIES: usize = 24;

fn wave(len: usize, step: usize) -> Vec<f32> {
    (0..len).map(|k| ((k * step + k / 64 * 31) % 1009) as f32 / 504.0 - 1.0).collect()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rank: usize = std::env::args().nth(1).map_or(Ok(32), |rank| rank.parse())?;
    let shape = (SIDE, SIDE);
    let base = nearest::quantize_rows(&wave(SIDE * SIDE, 7919), shape, &scheme::INT4)?.quantized;
    let factor = |shape: (usize, usize), step| {
        Factor::new(shape, Floats::encode_or_widen(&wave(shape.0 * shape.1, step), FloatFormat::F16).0)
    };
    let term = LowRank::new(factor((SIDE, rank), 101)?, factor((rank, SIDE), 211)?)?;
    let plain = Split::new(shape, None, Some(base.clone()), None)?;
    let split = Split::new(shape, None, Some(base), Some(term))?;
    let scales = ScaleOf::Group;
    let variants = [
        ("no low-rank term", PreparedLinear::new(&plain, Inputs::Int8(scales))?),
        ("factors of floats", PreparedLinear::new(&split, Inputs::Int8(scales))?),
        ("factors of 8 bits", PreparedLinear::new(&split, Inputs::Int8Branch(scales))?),
    ];
    let copies: Vec<Vec<PreparedLinear>> =
        variants.iter().map(|(_, layer)| vec![layer.clone(); COPIES]).collect();
    println!("{:<20}{:>7}{:>9}{:>10}{:>9}{:>9}", "term", "tokens", "threads", "ms", "added", "threads");
    for tokens in [1, 8, 32, 128] {
        let x = wave(tokens * SIDE, 37);
        let (mut y, mut scratch) = (vec![0.0; tokens * SIDE], Scratch::new());
        for (_, layer) in &variants {
            scratch.reserve(layer, tokens);
        }
        let mut best = [[f64::MAX; 3]; 2];
        for (at, threads) in [1, 2].into_iter().enumerate() {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
            pool.install(|| -> Result<(), rankbit_lowrank::Error> {
                for round in 0..(4000 / (tokens + 20)).max(12) {
                    for (best, copies) in best[at].iter_mut().zip(&copies) {
                        let start = Instant::now();
                        copies[round % COPIES].apply_into(&x, tokens, &mut y, &mut scratch)?;
                        *best = best.min(start.elapsed().as_secs_f64());
                    }
                }
                Ok(())
            })?;
        }
        for (at, threads) in [1, 2].into_iter().enumerate() {
            for (variant, (name, _)) in variants.iter().enumerate() {
                let seconds = best[at][variant];
                println!(
                    "{name:<20}{tokens:>7}{threads:>9}{:>10.3}{:>8.1}%{:>8.2}×",
                    seconds * 1e3,
                    100.0 * (seconds / best[at][0] - 1.0),
                    best[0][variant] / seconds,
                );
            }
        }
    }
    Ok(())
}
