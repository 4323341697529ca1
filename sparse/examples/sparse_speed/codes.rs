//! Codes of 4 and 8 bits against the dense product of the same codes and against reading the stored bytes.

use crate::timing::{sum, time};
use rankbit_linalg::Stream;
use rankbit_linalg::faer::{MatMut, MatRef};
use rankbit_quant::{Rounder, Scheme, scheme};
use rankbit_sparse::matmul::PreparedCodes;
use rankbit_sparse::{Error, NmMatrix, NmPattern, Pattern, ValueFormat, criterion, select};

/// Rounds of which the least counts.
const ROUNDS: usize = 8;
/// Bytes of all copies of a matrix, at least: more than any cache holds.
const SPREAD: usize = 160 << 20;

/// Times of the dense product and of several patterns.
pub(super) fn run(side: usize) -> Result<(), Error> {
    let mut stream = Stream::new(0, "speed");
    let mut values = vec![0.0_f32; side * side];
    stream.fill_normal(&mut values);
    for (name, scheme) in [("int4", scheme::INT4), ("int8", scheme::INT8)] {
        let weight = MatRef::from_row_major_slice(&values, side, side);
        let patterns: [(u32, u32); 7] = [(4, 4), (2, 4), (4, 8), (1, 4), (2, 8), (1, 8), (1, 16)];
        let prepared = patterns.map(|(keep, of)| prepare(weight, keep, of, &scheme));
        let prepared: Vec<PreparedCodes> = prepared.into_iter().collect::<Result<_, _>>()?;
        for tokens in [1, 4, 32, 128] {
            measure(name, side, tokens, &values, &prepared)?;
        }
    }
    Ok(())
}

fn prepare(weight: MatRef<'_, f32>, keep: u32, of: u32, scheme: &Scheme) -> Result<PreparedCodes, Error> {
    let pattern = NmPattern::new(keep, of)?;
    let mask = select(criterion::magnitude(weight)?.as_ref(), &Pattern::Nm(pattern))?;
    let format = ValueFormat::Scheme(*scheme, Rounder::Nearest);
    PreparedCodes::new(&NmMatrix::new(weight, &mask, pattern, &format)?.0)
}

/// `prepared` holds the dense matrix first.
fn measure(
    name: &str,
    side: usize,
    tokens: usize,
    values: &[f32],
    prepared: &[PreparedCodes],
) -> Result<(), Error> {
    let mut input = vec![0.0_f32; tokens * side];
    Stream::new(1, "input").fill_normal(&mut input);
    let x = MatRef::from_row_major_slice(&input, tokens, side);
    let mut output = vec![0.0_f32; tokens * side];
    let copies = |p: &PreparedCodes| if tokens <= 4 { SPREAD.div_ceil(p.bytes()) } else { 1 };
    let many: Vec<Vec<PreparedCodes>> = prepared.iter().map(|p| vec![p.clone(); copies(p)]).collect();
    let mut read = f64::INFINITY;
    let mut times = vec![f64::INFINITY; prepared.len()];
    let mut turn = 0;
    for _ in 0..ROUNDS {
        read = read.min(time(|| sum(values)) / size_of_val(values) as f64);
        for (least, copies) in times.iter_mut().zip(&many) {
            let mut result = Ok(());
            *least = least.min(time(|| {
                turn += 1;
                let y = MatMut::from_row_major_slice_mut(&mut output, tokens, side);
                result = copies[turn % copies.len()].apply_into(x, y);
            }));
            result?;
        }
    }
    println!("{name}, batch {tokens}: reading memory {:.1} GB/s", 1e-9 / read);
    let weights = (side * side) as f64;
    for (prepared, time) in prepared.iter().zip(&times) {
        println!(
            "  {:>4}: {:.3} bits per weight, {:.3} ms, {:.2} x dense, {:.0} GOP/s of dense work, {:.2} of read",
            prepared.pattern().to_string(),
            8.0 * prepared.bytes() as f64 / weights,
            time * 1e3,
            times[0] / time,
            2.0 * tokens as f64 * weights / time / 1e9,
            prepared.bytes() as f64 * read / time,
        );
    }
    Ok(())
}
