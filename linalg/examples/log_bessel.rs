//! Values per second of the batch log-Bessel functions, on thread CPU time: many runs, the least.
//!
//! `cargo run --release -p rankbit-linalg --example log_bessel`, or `-- grid` for one line `v x lnI lnK` per cell of
//! SciPy's overflow grid. The peer: `scripts/linalg-peers-functions.py bessel`.

use rankbit_linalg::Stream;
use rankbit_linalg::special::{log_bessel_i_batch, log_bessel_k_batch};
use std::time::Instant;

type Batch = fn(&[f64], &[f64], &mut [f64]) -> Result<(), rankbit_linalg::Error>;

fn rate(v: &[f64], x: &[f64], run: Batch) -> (f64, usize) {
    let mut out = vec![0.0; x.len()];
    let mut least = f64::INFINITY;
    for _ in 0..15 {
        let start = Instant::now();
        run(v, x, &mut out).expect("lengths agree");
        least = least.min(start.elapsed().as_secs_f64());
    }
    (x.len() as f64 / least / 1e6, out.iter().filter(|value| !value.is_finite()).count())
}

fn main() {
    if std::env::args().any(|argument| argument == "grid") {
        for v in [0.0, 0.5, 1.0, 3.5, 10.0, 31.5, 64.0, 128.0, 512.0, 4096.0] {
            for x in [1e-3, 0.1, 1.0, 10.0, 60.0, 120.0, 700.0, 1500.0, 6000.0, 11900.0, 1e5] {
                let (i, k) = (
                    rankbit_linalg::special::log_bessel_i(v, x),
                    rankbit_linalg::special::log_bessel_k(v, x),
                );
                println!("{v:e} {x:e} {i:.17e} {k:.17e}");
            }
        }
        return;
    }
    println!("{:<44} {:>10} {:>10} {:>12}", "orders and arguments", "ln I, M/s", "ln K, M/s", "non-finite");
    let ranges: [(&str, [f64; 4]); 7] = [
        ("v, x in 1e-3 … 1e5, log-uniform", [1e-3, 1e5, 1e-3, 1e5]),
        ("v, x in 1 … 1e4, log-uniform", [1.0, 1e4, 1.0, 1e4]),
        ("v in 512 … 4096, x in 1 … 1e4", [512.0, 4096.0, 1.0, 1e4]),
        ("hypot(v, x) in 32 … 256", [32.0, 100.0, 1.0, 100.0]),
        ("v < 20, x in 8 … 20", [1e-3, 20.0, 8.0, 20.0]),
        ("v < 20, x in 4 … 8", [1e-3, 20.0, 4.0, 8.0]),
        ("v < 30, x in 1e-3 … 1", [1e-3, 30.0, 1e-3, 1.0]),
    ];
    for (name, [v0, v1, x0, x1]) in ranges {
        let mut stream = Stream::new(1, name);
        let mut draw =
            |low: f64, high: f64| (low.ln() + stream.next_uniform() * (high.ln() - low.ln())).exp();
        let v: Vec<f64> = (0..200_000).map(|_| draw(v0, v1)).collect();
        let x: Vec<f64> = (0..200_000).map(|_| draw(x0, x1)).collect();
        let (i, bad_i) = rate(&v, &x, log_bessel_i_batch);
        let (k, bad_k) = rate(&v, &x, log_bessel_k_batch);
        println!("{name:<44} {i:>10.1} {k:>10.1} {:>12}", bad_i + bad_k);
    }
}
