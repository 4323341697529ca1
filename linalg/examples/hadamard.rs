//! How long a Hadamard rotation takes, beside an in-place scaling pass and a copy of the same bytes.
//!
//! `cargo run --release -p rankbit-linalg --example hadamard`
//!
//! Prints, per width of 16 MiB of f32 rows, the least thread CPU time of interleaved runs: the scaling pass `x ← c·x`, the
//! copy, the rotation (with signs), its inverse, and ratios. Then single rows that stay in cache, beside a copy of them,
//! and columns of a column-major matrix, which are rows that do not lie side by side.

use rankbit_linalg::faer::Mat;
use rankbit_linalg::{Error, Hadamard};
use std::hint::black_box;

mod clock;

const RUNS: usize = 40;

fn main() -> Result<(), Error> {
    println!(
        "{:>7} {:>6} {:>9} {:>9} {:>9} {:>9} {:>8} {:>8}",
        "width", "rows", "pass ms", "copy ms", "T ms", "T⁻¹ ms", "T/pass", "T/copy"
    );
    let factor = black_box(-1.0);
    for width in [256, 384, 768, 1024, 4096, 5120, 11008, 14336, 16384, 32768] {
        let rows = (1 << 22) / width;
        let mut x: Vec<f32> = (0..rows * width).map(|i| (i % 251) as f32 - 125.0).collect();
        let mut y = x.clone();
        let rotation = Hadamard::new(width).with_signs(1);
        let mut least = [f64::INFINITY; 4];
        let mut result = Ok(());
        for _ in 0..RUNS {
            let mut time =
                |at: usize, run: &mut dyn FnMut()| least[at] = least[at].min(clock::time(run) * 1e3);
            time(0, &mut || black_box(&mut x).iter_mut().for_each(|x| *x *= factor));
            time(2, &mut || result = rotation.forward_slice(&mut x));
            time(3, &mut || result = rotation.inverse_slice(&mut x));
            time(1, &mut || black_box(&mut y).copy_from_slice(black_box(&x)));
        }
        result?;
        let [pass, copy, forward, inverse] = least;
        println!(
            "{width:>7} {rows:>6} {pass:>9.3} {copy:>9.3} {forward:>9.3} {inverse:>9.3} {:>8.2} {:>8.2}",
            forward / pass,
            forward / copy
        );
    }

    println!("\nrows in cache: {:>7} {:>9} {:>9} {:>8}", "width", "copy ns", "T ns", "T/copy");
    for width in [64, 256, 768, 1024, 4096, 5120] {
        let mut x = vec![1.0f32; width];
        let mut y = x.clone();
        let rotation = Hadamard::new(width);
        let repeat = (1 << 20) / width;
        let mut least = [f64::INFINITY; 2];
        let mut result = Ok(());
        for _ in 0..RUNS {
            let mut time = |at: usize, per: usize, run: &mut dyn FnMut()| {
                least[at] = least[at].min(clock::time(run) * 1e9 / per as f64);
            };
            time(0, repeat, &mut || {
                for _ in 0..repeat {
                    black_box(&mut y).copy_from_slice(black_box(&x));
                }
            });
            time(1, repeat, &mut || {
                for _ in 0..repeat {
                    result = rotation.forward_slice(black_box(&mut x));
                }
            });
        }
        result?;
        println!("{:>22} {:>9.1} {:>9.1} {:>8.2}", width, least[0], least[1], least[1] / least[0]);
    }

    let mut a = Mat::<f32>::from_fn(4096, 1024, |i, j| ((i + j) % 7) as f32);
    let rotation = Hadamard::new(1024);
    let mut least = [f64::INFINITY; 2];
    let mut result = Ok(());
    for _ in 0..RUNS / 4 {
        least[0] = least[0].min(
            clock::time(|| a.col_iter_mut().for_each(|c| c.iter_mut().for_each(|x| *x *= factor))) * 1e3,
        );
        least[1] = least[1].min(clock::time(|| result = rotation.forward(a.as_mut())) * 1e3);
    }
    result?;
    let [pass, time] = least;
    println!("\n4096 rows of 1024 in columns: pass {pass:.3} ms, T {time:.3} ms ({:.2})", time / pass);
    Ok(())
}
