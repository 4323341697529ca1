//! How close rounding to nearest and decoding come to copying memory.
//!
//! ```text
//! cargo bench -p rankbit-quant --bench codec [-- portable|avx2]
//! ```
//! One thread. Sixteen matrices of 512×4096 f32, 128 MiB in all, in turn, so that each comes from memory. A format's
//! rate is the bytes it must move, f32 read and packed bytes written (encoding) or the other way round (decoding),
//! over the best of many times; the measure is a copy of f32 between the same buffers, read plus written, interleaved
//! with the formats in the same run: `ratio = rate / rate of the copy`. The public functions are what is timed:
//! `nearest::quantize_rows`, `Quantized::dequantize_into`, and `Quantized::row_into` over all rows.

use rankbit_quant::{Quantized, nearest, scheme, simd::Level};
use std::hint::black_box;
use std::time::Instant;

const SHAPE: (usize, usize) = (512, 4096);
const MATRICES: usize = 16;
const ROUNDS: usize = 6;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    for level in Level::ALL.into_iter().filter(|level| level.is_available()) {
        let name = format!("{level:?}").to_lowercase();
        if wanted.is_empty() || wanted.contains(&name) {
            println!("\n{name}: GB/s, ratio to memory copy (best of {})", ROUNDS * MATRICES);
            let _ = level.run(measure);
        }
    }
}

/// Seconds of the fastest run.
struct Best(f64);

impl Best {
    fn time<R>(&mut self, work: impl FnOnce() -> R) -> R {
        let start = Instant::now();
        let result = black_box(work());
        self.0 = self.0.min(start.elapsed().as_secs_f64());
        result
    }
}

fn measure() {
    let count = SHAPE.0 * SHAPE.1;
    let mut state = 1_u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let [.., a, b] = state.to_le_bytes();
        f32::from(u16::from_le_bytes([a, b])) / 65536.0 - 0.5
    };
    // Sums of four uniform numbers: bell-shaped, as weights are.
    let sources: Vec<Vec<f32>> =
        (0..MATRICES).map(|_| (0..count).map(|_| (0..4).map(|_| uniform()).sum()).collect()).collect();
    let mut targets = vec![vec![0.0_f32; count]; MATRICES];
    let dense = (count * 4) as f64;
    let formats = [
        ("int8", scheme::INT8),
        ("int4", scheme::INT4),
        ("nf4", scheme::NF4),
        ("mxfp4", scheme::MXFP4),
        ("uint4", scheme::UINT4),
    ];
    let mut best: Vec<[Best; 3]> =
        formats.iter().map(|_| [Best(f64::MAX), Best(f64::MAX), Best(f64::MAX)]).collect();
    let mut copy = Best(f64::MAX);
    let mut sizes = vec![0.0; formats.len()];
    for _ in 0..ROUNDS {
        for (((_, scheme), [encode, all, rows]), size) in formats.iter().zip(&mut best).zip(&mut sizes) {
            for (source, target) in sources.iter().zip(&mut targets) {
                copy.time(|| target.copy_from_slice(source));
            }
            for source in &sources {
                let stored = encode.time(|| nearest::quantize_rows(source, SHAPE, scheme));
                *size = stored.expect("finite").quantized.stored_bits() as f64 / 8.0;
            }
            let stored: Vec<Quantized> = sources
                .iter()
                .map(|source| nearest::quantize_rows(source, SHAPE, scheme).expect("finite").quantized)
                .collect();
            for (stored, target) in stored.iter().zip(&mut targets) {
                all.time(|| stored.dequantize_into(target)).expect("the right length");
            }
            for (stored, target) in stored.iter().zip(&mut targets) {
                rows.time(|| {
                    for (row, out) in target.chunks_exact_mut(SHAPE.1).enumerate() {
                        stored.row_into(row, out).expect("a row that exists");
                    }
                });
            }
        }
    }
    let copied = 2.0 * dense / copy.0;
    println!("{:<8}{:>14}{:>20}{:>20}{:>20}", "", "copy", "encode", "decode all", "row by row");
    for (((name, _), times), size) in formats.iter().zip(&best).zip(&sizes) {
        print!("{name:<8}{:>14.1}", copied / 1e9);
        for Best(seconds) in times {
            let rate = (dense + size) / seconds;
            print!("{:>12.1} ({:>4.2}x)", rate / 1e9, rate / copied);
        }
        println!();
    }
}
