//! How fast vector codes are encoded and multiplied with, on one core, for every instruction set:
//! `cargo bench -p rankbit-quant --bench vector_codes`.

use rankbit_linalg::Stream;
use rankbit_quant::simd::Level;
use rankbit_quant::trellis::decode::Decoder;
use rankbit_quant::trellis::viterbi::{Encoder, Scratch, cost};
use std::time::Instant;

/// The least time of three runs, in seconds.
fn least(mut run: impl FnMut()) -> f64 {
    let time = |_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    };
    (0..3).map(time).fold(f64::INFINITY, f64::min)
}

fn main() {
    multiply();
    encode();
}

/// Decode one column after another and add it, times its activation, to the outputs.
fn multiply() {
    println!("decode and multiply: 1536 x 384, billions of weights a second");
    let (rows, cols) = (1536, 384);
    let x: Vec<f32> = (0..cols).map(|j| j as f32 * 0.01 - 1.0).collect();
    for rate in 2..=5_u8 {
        let bytes = rows / 8 * usize::from(rate);
        let codes: Vec<u8> = (0..bytes * cols).map(|i| (i * i * 31 + i * 7).to_le_bytes()[1]).collect();
        let table: Vec<f32> = (0..4096).map(|i| i as f32).collect();
        for set in Level::ALL.into_iter().filter(|set| set.is_available()) {
            let mut decoder = Decoder::new(12, set);
            let (mut values, mut y) = (vec![0.0; rows], vec![0.0_f32; rows]);
            let seconds = least(|| {
                for (x, column) in x.iter().zip(codes.chunks_exact(bytes)) {
                    decoder.values(column, rate, &table, 0, &mut values);
                    for (y, value) in y.iter_mut().zip(&values) {
                        *y += x * value;
                    }
                }
            });
            println!("k {rate} {set:?}: {:.2} (sum {:.1})", (rows * cols) as f64 / seconds / 1e9, y[0]);
        }
    }
}

fn encode() {
    println!("encode: rings of 256 normal values, relative error, seconds per million weights");
    let mut x = vec![0.0_f32; 256 * 128];
    Stream::new(0, "bench").fill_normal(&mut x);
    let norm: f64 = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    let (w, mut states, mut scratch) = (vec![1.0; 256], vec![0; 256], Scratch::default());
    for (window, rates) in [(8, 2..=4), (10, 2..=4), (12, 1..=5)] {
        for rate in rates {
            for set in Level::ALL.into_iter().filter(|set| set.is_available()) {
                let trellis = Encoder::new(window, rate, set);
                let mut error = 0.0;
                let seconds = least(|| {
                    error = 0.0;
                    for x in x.chunks_exact(256) {
                        trellis.ring(x, &w, &mut scratch, &mut states);
                        error += cost(trellis.values(), x, &w, &states);
                    }
                });
                let per_million = seconds / x.len() as f64 * 1e6;
                println!("L {window} k {rate} {set:?}: {:.4}, {per_million:.3} s", (error / norm).sqrt());
            }
        }
    }
}
