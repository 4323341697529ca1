//! Times of the operators on one thread: thread CPU time, least of some runs, 8 heads of 64.
//!
//! `cargo run --release -p rankbit-attention --example speed [-- TOKENS [NAME]]`; `scripts/attention-peers.py` runs it beside
//! PyTorch.

use std::time::Instant;

use rankbit_attention::{
    Axis, ExactOptions, NeighborhoodOptions, Tensor, exact, exact_gradient, neighborhood,
    neighborhood_gradient,
};
use rankbit_linalg::Stream;

const HEADS: usize = 8;
const DIM: usize = 64;

fn random(tokens: usize, name: &str) -> Tensor<f32> {
    let mut data = vec![0.0; HEADS * tokens * DIM];
    Stream::new(1, name).fill_normal(&mut data);
    Tensor::from_vec(data, [1, HEADS, tokens, DIM]).expect("the length fits")
}

/// CPU time of this thread in seconds, from Linux; elsewhere the wall clock.
fn now(start: Instant) -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let cpu = stat.split(' ').next().and_then(|nanoseconds| nanoseconds.parse::<f64>().ok());
    cpu.map_or_else(|| start.elapsed().as_secs_f64(), |nanoseconds| nanoseconds * 1e-9)
}

/// Times `work` unless the second argument names something else.
fn time(name: &str, runs: usize, mut work: impl FnMut()) {
    if std::env::args().nth(2).is_some_and(|only| !name.contains(&only)) {
        return;
    }
    let start = Instant::now();
    let mut least = f64::INFINITY;
    for _ in 0..runs {
        let before = now(start);
        work();
        least = least.min(now(start) - before);
    }
    println!("{name:32} {:9.2} ms", least * 1e3);
}

fn main() {
    let tokens = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(4096);
    let pool =
        rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build().expect("one thread");
    pool.install(|| run(tokens));
}

fn run(tokens: usize) {
    let (q, k, v, up) = (random(tokens, "q"), random(tokens, "k"), random(tokens, "v"), random(tokens, "up"));
    let (q, k, v) = (q.view(), k.view(), v.view());
    for causal in [false, true] {
        let options = ExactOptions { causal, ..Default::default() };
        let name = if causal { "exact causal" } else { "exact" };
        time(name, 4, || drop(exact(q, k, v, &options)));
        let found = exact(q, k, v, &options).expect("good operands");
        time(&format!("{name} gradient"), 2, || drop(exact_gradient(q, k, v, &options, &found, up.view())));
    }

    let side = 56;
    let [q, k, v, up] = ["q", "k", "v", "up"].map(|name| random(side * side, name));
    let (q, k, v, axes) = (q.view(), k.view(), v.view(), [Axis::new(side, 7); 2]);
    let options = NeighborhoodOptions::default();
    time("neighborhood 56x56, window 7", 100, || drop(neighborhood(q, k, v, &axes, &options)));
    let found = neighborhood(q, k, v, &axes, &options).expect("good operands");
    time("neighborhood gradient", 5, || {
        drop(neighborhood_gradient(q, k, v, &axes, &options, &found, up.view()));
    });
}
