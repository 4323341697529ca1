//! Seconds that GPTQ takes on one large layer.
//!
//! ```text
//! cargo bench -p rankbit-quant --bench gptq [-- SIZE]
//! ```
//! A square matrix (4096 unless said otherwise) to `uint4` in groups of 64 under the Gram matrix of inputs of unequal
//! loudness, on two threads, in stored order and in act-order. Printed are wall time, the sum of all threads' CPU time
//! where the system tells it (what counts on a busy machine: half of it is the wall time of two free cores), and the
//! part of both that goes into the factor of the Gram matrix.

use rankbit_linalg::faer::{Accum, Mat, MatRef, Par, linalg::matmul::matmul};
use rankbit_linalg::{ErrorFeedback, Stream, SweepOptions};
use rankbit_quant::{Context, Rounder, quantize_with, scheme};
use std::time::Instant;

fn main() {
    let size = std::env::args().skip(1).find_map(|a| a.parse().ok()).unwrap_or(4096);
    let mut stream = Stream::new(1, "gptq bench");
    let mut values = vec![0.0_f32; size * size];
    stream.fill_normal(&mut values);
    let weight = MatRef::from_row_major_slice(&values, size, size);
    let hessian = gram(&mut stream, size);

    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("two threads");
    println!("{size}x{size}, uint4 in groups of 64, 2 threads: seconds of wall time (CPU time)");
    time("factor of the Gram matrix", || {
        let made = pool.install(|| ErrorFeedback::new(hessian.as_ref(), &SweepOptions::default()));
        assert!(made.is_ok());
    });
    for (name, act_order) in [("gptq, stored order", false), ("gptq, act-order", true)] {
        time(name, || {
            let context = Context { hessian: Some(hessian.as_ref()), ..Context::default() };
            let quantize = || quantize_with(weight, &scheme::UINT4, Rounder::gptq(act_order), &context);
            assert!(pool.install(quantize).is_ok());
        });
    }
}

/// XᵀX of tokens whose channels differ in loudness, and a little of the identity for the directions they leave out.
fn gram(stream: &mut Stream, size: usize) -> Mat<f64> {
    let tokens = size.div_ceil(4);
    let x = Mat::from_fn(tokens, size, |_, j| stream.next_normal() * if j % 16 == 0 { 8.0 } else { 1.0 });
    let mut gram = Mat::from_fn(size, size, |i, j| if i == j { 1.0 } else { 0.0 });
    matmul(gram.as_mut(), Accum::Add, x.transpose(), x.as_ref(), 1.0, Par::Seq);
    Mat::from_fn(size, size, |i, j| gram[(i.max(j), i.min(j))])
}

fn time(name: &str, work: impl FnOnce()) {
    let (start, before) = (Instant::now(), cpu_seconds());
    work();
    let cpu = cpu_seconds()
        .zip(before)
        .map_or_else(String::new, |(after, before)| format!(" ({:.1})", after - before));
    println!("{name:<28}{:>6.1}{cpu}", start.elapsed().as_secs_f64());
}

/// CPU time of all threads of this process so far, in seconds: Linux only.
fn cpu_seconds() -> Option<f64> {
    let tasks = std::fs::read_dir("/proc/self/task").ok()?;
    let nanoseconds = tasks.flatten().filter_map(|task| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<f64>().ok()
    });
    Some(nanoseconds.sum::<f64>() / 1e9)
}
