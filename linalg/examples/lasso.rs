//! Time and certified gap of a Lasso of 2000×10000 at λ_max/100.
//!
//! `cargo run --release -p rankbit-linalg --example lasso [-- FILE]`: writes the problem to FILE (columns, then y, as
//! f64) for `scripts/linalg-peers-functions.py lasso`. Gaussian columns, 100 non-zero coefficients, noise of 0.3 times the
//! signal, so that three quarters as many coefficients as rows end in the support. Thread CPU time.

mod clock;

use rankbit_linalg::Stream;
use rankbit_linalg::faer::Mat;
use rankbit_linalg::lasso::{LassoOptions, lambda_max, lasso};
use std::io::Write;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (rows, columns) = (2000, 10000);
    let mut stream = Stream::new(0, "lasso");
    let x = Mat::from_fn(rows, columns, |_, _| stream.next_normal());
    let mut y = vec![0.0; rows];
    for k in 0..100 {
        let coefficient = stream.next_normal();
        for (y, x) in y.iter_mut().zip(x.col(k * 97).iter()) {
            *y += coefficient * x;
        }
    }
    let signal = y.iter().map(|y| y * y).sum::<f64>() / rows as f64;
    for y in &mut y {
        *y += 0.3 * signal.sqrt() * stream.next_normal();
    }
    if let Some(path) = std::env::args().nth(1) {
        let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
        for value in x.col_iter().flat_map(|column| column.iter()).chain(&y) {
            file.write_all(&value.to_le_bytes())?;
        }
        file.flush()?;
    }
    let half = y.iter().map(|y| y * y).sum::<f64>() / 2.0;
    for tolerance in [1e-4, 1e-6, 1e-10] {
        let options = LassoOptions { tolerance, ..LassoOptions::default() };
        let lambda = lambda_max(x.as_ref(), &y, &options)? / 100.0;
        let mut least = f64::INFINITY;
        let mut solution = None;
        for _ in 0..3 {
            let mut result = None;
            least = least.min(clock::time(|| result = Some(lasso(x.as_ref(), &y, lambda, &options))));
            solution = result.transpose()?;
        }
        let Some(solution) = solution else { continue };
        let support = solution.coefficients.iter().filter(|b| **b != 0.0).count();
        println!(
            "rankbit, tolerance {tolerance:e}: {least:.2} s, gap / ½|y|² {:.1e}, {} sweeps, support {support}, screened {}",
            solution.gap / half,
            solution.sweeps,
            solution.screened
        );
    }
    Ok(())
}
