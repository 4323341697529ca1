//! How long a Hadamard rotation takes, beside an in-place scaling pass and a copy of the same bytes.
//!
//! `cargo run --release -p rankbit-linalg --example hadamard`
//!
//! Prints, per width, the least time of many runs: the scaling pass `x ← c·x`, the copy, the rotation, and its ratio to
//! both. One thread.

use rankbit_linalg::Hadamard;
use std::hint::black_box;
use std::time::Instant;

fn least(mut run: impl FnMut()) -> f64 {
    let mut least = f64::INFINITY;
    for _ in 0..40 {
        let start = Instant::now();
        run();
        least = least.min(start.elapsed().as_secs_f64());
    }
    least * 1e3
}

fn main() -> Result<(), rankbit_linalg::Error> {
    println!(
        "{:>7} {:>6} {:>9} {:>9} {:>9} {:>8} {:>8}",
        "width", "rows", "pass ms", "copy ms", "T ms", "T/pass", "T/copy"
    );
    for width in [256, 384, 768, 1024, 4096, 5120, 11008, 14336, 16384, 32768] {
        let rows = (1 << 22) / width;
        let mut x: Vec<f32> = (0..rows * width).map(|i| (i % 251) as f32 - 125.0).collect();
        let mut y = x.clone();
        let rotation = Hadamard::new(width).with_signs(1);
        let factor = black_box(-1.0);
        let pass = least(|| black_box(&mut x).iter_mut().for_each(|x| *x *= factor));
        let copy = least(|| black_box(&mut y).copy_from_slice(black_box(&x)));
        let mut result = Ok(());
        let time = least(|| result = rotation.forward_slice(&mut x));
        result?;
        println!(
            "{width:>7} {rows:>6} {pass:>9.3} {copy:>9.3} {time:>9.3} {:>8.2} {:>8.2}",
            time / pass,
            time / copy
        );
    }
    Ok(())
}
