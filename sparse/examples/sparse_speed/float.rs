//! Values of f32 against a dense product and against reading the stored bytes.

use crate::timing::{sum, time};
use rankbit_linalg::Stream;
use rankbit_linalg::faer::linalg::matmul::matmul;
use rankbit_linalg::faer::{Accum, MatMut, MatRef, Par};
use rankbit_quant::FloatFormat;
use rankbit_sparse::matmul::Prepared;
use rankbit_sparse::{Error, NmMatrix, NmPattern, Pattern, ValueFormat, criterion, select};

/// Rounds of which the least counts.
const ROUNDS: usize = 8;

/// Products with f32 values against a dense product.
pub(super) fn run(side: usize) -> Result<(), Error> {
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
                    result = copies_of_one[turn % copies].apply_into(x, y);
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
    Ok(())
}
