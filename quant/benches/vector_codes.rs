//! How fast vector codes are encoded and multiplied with, on one core, for every instruction set:
//! `cargo bench -p rankbit-quant --bench vector_codes`; with ` -- errors`, how well they code many normal values (minutes).

use rankbit_linalg::Stream;
use rankbit_linalg::faer::MatRef;
use rankbit_quant::lattice::dot::{Inputs, Multiplier};
use rankbit_quant::lattice::{self, Lattice};
use rankbit_quant::matmul::apply_rows_into;
use rankbit_quant::simd::Level;
use rankbit_quant::trellis::decode::Decoder;
use rankbit_quant::trellis::viterbi::{Encoder, Scratch, cost};
use rankbit_quant::{Rounder, quantize, scheme};
use std::hint::black_box;
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
    if std::env::args().any(|argument| argument == "errors") {
        return errors();
    }
    println!("one core; each figure the best of many short runs, the limits measured between them");
    trellis();
    lattice_rows();
    product();
    encode();
}

/// Relative errors on more normal values than a test has time for: 10⁷ for the lattices, and the largest trellis.
fn errors() {
    let mut normal = Stream::new(0, "errors");
    for lattice in [Lattice::E8p, Lattice::E8p3, Lattice::E8p4] {
        let encoder = lattice::Encoder::new(lattice);
        let (mut norm, mut error, mut x) = (0.0, 0.0, vec![0.0_f32; 80_000]);
        for _ in 0..125 {
            normal.fill_normal(&mut x);
            for x in x.as_chunks::<8>().0 {
                let point = encoder.encode(x, &mut [0; 4]);
                norm += x.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>();
                error += x.iter().zip(point).map(|(&x, p)| f64::from(x - p) * f64::from(x - p)).sum::<f64>();
            }
        }
        println!("{lattice:?}: {:.5} on 10 million values", (error / norm).sqrt());
    }
    for (window, rate, rings) in [(12, 2, 4096), (12, 3, 4096), (12, 4, 4096), (16, 2, 1024)] {
        let trellis = Encoder::new(window, rate, Level::current());
        let (w, mut states, mut scratch) = (vec![1.0; 256], vec![0; 256], Scratch::default());
        let (mut norm, mut error, mut x) = (0.0, 0.0, vec![0.0_f32; 256]);
        for _ in 0..rings {
            normal.fill_normal(&mut x);
            trellis.ring(&x, &w, &mut scratch, &mut states);
            norm += x.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>();
            error += cost(trellis.values(), &x, &w, &states);
        }
        println!("L {window} k {rate}: {:.5} on {rings} rings of 256", (error / norm).sqrt());
    }
}

/// Billions of items a second, the best of `runs` runs of `items` items each, contenders taking turns.
fn best<const N: usize>(runs: usize, items: usize, mut contenders: [&mut dyn FnMut(); N]) -> [f64; N] {
    let mut least = [f64::INFINITY; N];
    for _ in 0..runs {
        for (least, run) in least.iter_mut().zip(&mut contenders) {
            let start = Instant::now();
            run();
            *least = least.min(start.elapsed().as_secs_f64());
        }
    }
    least.map(|seconds| items as f64 / seconds / 1e9)
}

/// Sum of bytes read: what memory gives.
fn read(bytes: &[u64]) -> u64 {
    bytes.iter().fold(0, |sum, word| sum.wrapping_add(*word))
}

/// Multiplications and additions on 64 floats in registers: what arithmetic gives, 64 a round.
fn multiply_add(rounds: usize) -> f32 {
    let mut sums = [1.0_f32; 64];
    let factor = black_box(0.999_f32);
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = *sum * factor + 1e-9;
        }
    }
    sums.iter().sum()
}

/// Random bytes.
fn bytes(len: usize) -> Vec<u8> {
    let mut random = Stream::new(0, "codes");
    (0..len).map(|_| random.next_below(256).to_le_bytes()[0]).collect()
}

/// Decode one column after another and add it, times its activation, to the outputs.
fn trellis() {
    println!("trellis L = 12, decode and multiply, 1536 x 384: billions of weights a second");
    let (rows, cols) = (1536, 384);
    let x: Vec<f32> = (0..cols).map(|j| j as f32 * 0.01 - 1.0).collect();
    for rate in 1..=8_u8 {
        let column = rows / 8 * usize::from(rate);
        let codes = bytes(column * cols);
        let words: Vec<u64> = codes.as_chunks().0.iter().map(|&bytes| u64::from_le_bytes(bytes)).collect();
        let table: Vec<f32> = (0..4096).map(|i| i as f32 / 4096.0).collect();
        for set in Level::ALL.into_iter().filter(|set| set.is_available()) {
            let mut decoder = Decoder::new(12, set);
            let mut y = vec![0.0_f32; rows];
            let [speed, loads, products] = best(
                40,
                rows * cols,
                [
                    &mut || {
                        for (x, column) in x.iter().zip(codes.chunks_exact(column)) {
                            for (block, y) in y.chunks_mut(256).enumerate() {
                                decoder.accumulate(column, rate, &table, 256 * block, *x, y);
                            }
                        }
                    },
                    &mut || {
                        black_box(read(black_box(&words)));
                    },
                    &mut || {
                        black_box(multiply_add(rows * cols / 64));
                    },
                ],
            );
            println!(
                "k {rate} {set:?}: {speed:.2}; reading the codes {loads:.0}, products alone {products:.1}"
            );
        }
    }
}

/// Rows of E8P times one vector of whole numbers.
fn lattice_rows() {
    println!("e8p, decode and multiply, 64 x 4096: billions of weights a second");
    let (rows, cols) = (64, 4096);
    let codes = bytes(rows * cols / 4);
    let words: Vec<u64> = codes.as_chunks().0.iter().map(|&bytes| u64::from_le_bytes(bytes)).collect();
    let mut x = vec![0.0; cols];
    Stream::new(1, "inputs").fill_normal(&mut x);
    for set in Level::ALL.into_iter().filter(|set| set.is_available()) {
        let multiplier = Multiplier::new(set);
        for planes in 1..=3 {
            let inputs = Inputs::new(&x, planes).expect("inputs have a scale");
            let [speed, loads] = best(
                40,
                rows * cols,
                [
                    &mut || {
                        let rows = codes.chunks_exact(cols / 4);
                        black_box(rows.map(|row| multiplier.dot(row, &inputs)).sum::<f64>());
                    },
                    &mut || {
                        black_box(read(black_box(&words)));
                    },
                ],
            );
            println!("{planes} planes {set:?}: {speed:.1}; reading the codes {loads:.0}");
        }
    }
}

/// Products of whole matrices, one token, one thread.
fn product() {
    println!("products of a 1536 x 1536 matrix and one token: billions of weights a second");
    let side = 1536;
    let mut weight = vec![0.0; side * side];
    Stream::new(2, "weight").fill_normal(&mut weight);
    let mut x = vec![0.0; side];
    Stream::new(3, "inputs").fill_normal(&mut x);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("one thread");
    let weight = MatRef::from_row_major_slice(&weight, side, side);
    for scheme in [scheme::E8P, scheme::TRELLIS2] {
        let matrix = quantize(weight, &scheme, Rounder::Nearest).expect("a normal matrix").quantized;
        let mut y = vec![0.0; side];
        for set in Level::ALL.into_iter().filter(|set| set.is_available()) {
            pool.install(|| {
                set.run(|| {
                    let [speed] = best(
                        40,
                        side * side,
                        [&mut || apply_rows_into(&matrix, &x, 1, &mut y).expect("shapes fit")],
                    );
                    println!("{} {set:?}: {speed:.1}", scheme.name().unwrap_or("?"));
                })
            });
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
