//! How long pruning takes.
//!
//! ```text
//! cargo run --release -p rankbit-sparse --example prune_speed [SIDE]
//! ```
//! 2:4 of a square weight under the Gram matrix of correlated inputs, on all processors. With SIDE = 4096 SparseGPT took
//! 18.8 s on two cores of a Zen 4 that other programs shared. ADMM runs up to 2048.

use rankbit_linalg::Stream;
use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_sparse::prune::{AdmmOptions, SparseGptOptions, admm, sparse_gpt};
use rankbit_sparse::{NmPattern, Pattern};
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let side: usize = std::env::args().nth(1).map_or(Ok(1024), |text| text.parse())?;
    let mut stream = Stream::new(0, "prune");
    let mut values = vec![0.0_f32; side * side];
    stream.fill_normal(&mut values);
    let weight = MatRef::from_row_major_slice(&values, side, side);
    // Neighbouring inputs resemble each other, some are louder.
    let loud = |j: usize| if j.is_multiple_of(7) { 4.0 } else { 1.0 };
    let gram = Mat::from_fn(side, side, |i, j| loud(i) * loud(j) * 0.9_f64.powf(i.abs_diff(j) as f64));
    let pattern = Pattern::Nm(NmPattern::TWO_OF_FOUR);
    let start = Instant::now();
    let plain = sparse_gpt(weight, gram.as_ref(), &pattern, &SparseGptOptions::default())?;
    println!(
        "{side} x {side}, 2:4: SparseGPT {:.1} s, error {:.4e}",
        start.elapsed().as_secs_f64(),
        plain.error
    );
    if side <= 2048 {
        let start = Instant::now();
        let better = admm(weight, gram.as_ref(), &pattern, &AdmmOptions::default())?;
        let (seconds, ratio) = (start.elapsed().as_secs_f64(), (better.error / plain.error).sqrt());
        println!("ADMM {seconds:.1} s, {} alternations, {ratio:.3} of SparseGPT's error", better.iterations);
    }
    Ok(())
}
