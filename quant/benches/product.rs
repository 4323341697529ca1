//! GFLOP/s of the product from packed codes, one thread.
//!
//! ```text
//! cargo bench -p rankbit-quant --bench product
//! ```
//! A matrix of 4096×4096 against 1 and 32 tokens, the best of several times, at every level of instructions:
//! `2 · tokens · out · in` operations over the seconds of `matmul::apply_rows_into`.

use rankbit_quant::{matmul, nearest, scheme, simd::Level};
use std::time::Instant;

const SHAPE: (usize, usize) = (4096, 4096);

fn main() {
    let wave = |len: usize, step: usize| -> Vec<f32> {
        (0..len).map(|k| ((k * step + 13) % 1009) as f32 / 504.0 - 1.0).collect()
    };
    let weight = wave(SHAPE.0 * SHAPE.1, 7919);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("one thread");
    println!("{:<10}{:<8}{:>12}{:>12}", "level", "format", "1 token", "32 tokens");
    for level in Level::ALL.into_iter().filter(|level| level.is_available()) {
        for (name, scheme) in [("int8", scheme::INT8), ("int4", scheme::INT4), ("nf4", scheme::NF4)] {
            let stored = nearest::quantize_rows(&weight, SHAPE, &scheme).expect("finite").quantized;
            print!("{:<10}{name:<8}", format!("{level:?}"));
            for tokens in [1, 32] {
                let x = wave(tokens * SHAPE.1, 101);
                let mut y = vec![0.0; tokens * SHAPE.0];
                let mut best = f64::MAX;
                for _ in 0..7 {
                    let start = Instant::now();
                    let product = || level.run(|| matmul::apply_rows_into(&stored, &x, tokens, &mut y));
                    assert!(pool.install(product).is_some_and(|result| result.is_ok()));
                    best = best.min(start.elapsed().as_secs_f64());
                }
                print!("{:>12.1}", 2.0 * (tokens * SHAPE.0 * SHAPE.1) as f64 / best / 1e9);
            }
            println!();
        }
    }
}
