//! How fast products with N:M matrices are, against a dense product and the memory's speed in the same run.
//!
//! ```text
//! cargo run --release -p rankbit-sparse --example sparse_speed [SIDE [PATH]]
//! ```
//! One thread. Each figure is the least of several rounds in which all candidates take turns. Batch 1 reads another
//! copy of the matrix each time, so that every byte comes from memory.

use rankbit_linalg::Stream;
use rankbit_linalg::faer::linalg::matmul::matmul;
use rankbit_linalg::faer::{Accum, Mat, MatMut, MatRef, Par};
use rankbit_quant::FloatFormat;
use rankbit_sparse::matmul::{Path, Prepared};
use rankbit_sparse::{Error, NmMatrix, NmPattern, Pattern, ValueFormat, criterion, select};
use std::hint::black_box;
use std::time::Instant;

/// Rounds of which the least counts.
const ROUNDS: usize = 3;
/// Seconds that one figure takes, at least: the scheduler's ticks are milliseconds.
const LEAST: f64 = 0.06;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let side: usize = arguments.next().map_or(Ok(4096), |text| text.parse())?;
    let path = match arguments.next().as_deref() {
        Some("portable") => Path::Portable,
        Some("avx2") => Path::Avx2,
        Some("avx512") => Path::Avx512,
        _ => Path::best(),
    };
    println!("{side} x {side}, one thread, {}", path.name());
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    pool.install(|| run(side, path))?;
    Ok(())
}

fn run(side: usize, path: Path) -> Result<(), Error> {
    let mut stream = Stream::new(0, "speed");
    let mut values = vec![0.0_f32; side * side];
    stream.fill_normal(&mut values);
    let weight = MatRef::from_row_major_slice(&values, side, side);
    let patterns: [(u32, u32); 6] = [(2, 4), (4, 8), (1, 4), (2, 8), (1, 8), (1, 16)];
    let mut prepared = Vec::new();
    for (keep, of) in patterns {
        let pattern = NmPattern::new(keep, of)?;
        let mask = select(criterion::magnitude(weight)?.as_ref(), &Pattern::Nm(pattern))?;
        let (stored, _) = NmMatrix::new(weight, &mask, pattern, &ValueFormat::Float(FloatFormat::F32))?;
        prepared.push((pattern, Prepared::new(&stored)?));
    }
    for tokens in [1, 4, 16, 64, 128] {
        let mut input = vec![0.0_f32; tokens * side];
        stream.fill_normal(&mut input);
        let x = MatRef::from_row_major_slice(&input, tokens, side);
        let mut output = vec![0.0_f32; tokens * side];
        // Enough copies that none is still in a cache when its turn comes again.
        let copies = if tokens <= 4 { 4 } else { 1 };
        let dense = vec![values.clone(); copies];
        let many: Vec<Vec<Prepared>> = prepared.iter().map(|(_, p)| vec![p.clone(); copies]).collect();
        let (mut read, mut dense_time) = (f64::INFINITY, f64::INFINITY);
        let mut times = vec![f64::INFINITY; prepared.len()];
        let mut turn = 0;
        for _ in 0..ROUNDS {
            read = read.min(time(|| {
                turn += 1;
                sum(&dense[turn % copies])
            }));
            dense_time = dense_time.min(time(|| {
                turn += 1;
                let weight = MatRef::from_row_major_slice(&dense[turn % copies], side, side);
                let y = MatMut::from_row_major_slice_mut(&mut output, tokens, side);
                matmul(y, Accum::Replace, x, weight.transpose(), 1.0, Par::Seq);
            }));
            for (least, copies_of_one) in times.iter_mut().zip(&many) {
                let mut result = Ok(());
                *least = least.min(time(|| {
                    turn += 1;
                    let y = MatMut::from_row_major_slice_mut(&mut output, tokens, side);
                    result = copies_of_one[turn % copies].apply_into(path, x, y);
                }));
                result?;
            }
        }
        let read = read / (side * side * 4) as f64;
        let flops = 2.0 * (tokens * side * side) as f64;
        println!(
            "batch {tokens}: dense {:.3} ms ({:.1} GFLOP/s), reading memory {:.1} GB/s",
            dense_time * 1e3,
            flops / dense_time / 1e9,
            1e-9 / read
        );
        for ((pattern, prepared), time) in prepared.iter().zip(&times) {
            let of_read = prepared.bytes() as f64 * read / time;
            println!(
                "  {pattern:>4}: {:.3} ms, {:.2} x dense, {:.1} GFLOP/s of kept entries, {of_read:.2} of read",
                time * 1e3,
                dense_time / time,
                flops * pattern.density() / time / 1e9
            );
        }
    }
    // The product is the dense one.
    let x = Mat::from_fn(3, side, |t, j| ((t * 7 + j * 3) % 11) as f32 - 5.0);
    black_box(prepared[0].1.apply(x.as_ref())?);
    Ok(())
}

/// Processor seconds of one call, from as many calls as take [`LEAST`]: other programs' turns do not count.
fn time<R>(mut work: impl FnMut() -> R) -> f64 {
    let start = processor_seconds();
    let mut calls = 0;
    loop {
        black_box(work());
        calls += 1;
        let spent = processor_seconds() - start;
        if spent >= LEAST {
            return spent / f64::from(calls);
        }
    }
}

/// Seconds that this thread has run, where Linux tells; else the clock's.
fn processor_seconds() -> f64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let clock = || START.get_or_init(Instant::now).elapsed().as_secs_f64();
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = told.and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok());
    nanoseconds.map_or_else(clock, |nanoseconds| nanoseconds * 1e-9)
}

/// Reads every byte: 64 sums side by side.
fn sum(values: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 64];
    for chunk in values.chunks_exact(64) {
        for (sum, value) in sums.iter_mut().zip(chunk) {
            *sum += value;
        }
    }
    sums.iter().sum()
}
