//! How fast the prepared product is, beside what this processor can do at most.
//!
//! ```text
//! cargo run --release -p rankbit-quant --example matmul_speed [-- FORMAT,FORMAT… [TOKENS,TOKENS…]]
//! ```
//! A matrix of 4096×4096, 8-bit inputs quantized anew each time, one thread. `FORMAT-token` has one scale for the inputs of
//! a token instead of one for each group, `FORMAT-float` inputs that stay floats. As many copies of the matrix as exceed the
//! caches take turns, so that every byte comes from memory. Times are CPU times of the thread, the least of many;
//! the limits are measured in between: reading as many bytes, and multiplying and adding in registers.

mod limits;

use rankbit_quant::matmul::prepared::{
    FloatActivations, Output, Plain, Prepared, PreparedActivations, ScaleOf,
};
use rankbit_quant::simd::Level;
use rankbit_quant::{Scheme, nearest};

const SHAPE: (usize, usize) = (4096, 4096);
/// Bytes of all copies at least: with 256 MiB some caches still held a part.
const MEMORY: usize = 1 << 30;

fn main() {
    let mut args = std::env::args().skip(1);
    let list = |arg: Option<String>, default: &str| -> Vec<String> {
        arg.unwrap_or_else(|| default.into()).split(',').map(str::to_owned).collect()
    };
    let formats = list(args.next(), "int4,uint4,q4_0,q4_k,nf4,bnb-fp4,mxfp4,nvfp4,int8");
    let tokens = list(args.next(), "1,2,4,8,16,32,128");
    let tokens: Vec<usize> = tokens.iter().map(|t| t.parse().expect("a number of tokens")).collect();
    let memory = vec![1_u64; MEMORY / 8];
    println!(
        "{:<9}{:<9}{:<7}{:>7}{:>10}{:>10}{:>9}{:>10}{:>9}",
        "level", "format", "scales", "tokens", "ms", "GB/s", "of read", "GOP/s", "of peak"
    );
    for name in formats {
        let (base, inputs, shown) = if let Some(base) = name.strip_suffix("-token") {
            (base, Inputs::Int8(ScaleOf::Token), "token")
        } else if let Some(base) = name.strip_suffix("-float") {
            (base, Inputs::Float, "float")
        } else {
            (&*name, Inputs::Int8(ScaleOf::Group), "group")
        };
        let scheme = Scheme::named(base).expect("a named format");
        let copies = copies(&scheme);
        for level in [Level::Avx512, Level::Avx2].into_iter().filter(|level| level.is_available()) {
            for &tokens in &tokens {
                let best = measure(&copies, &memory, level, tokens, inputs);
                let operations = 2.0 * (SHAPE.0 * SHAPE.1 * tokens) as f64;
                let bytes = copies[0].bytes() as f64;
                println!(
                    "{:<9}{base:<9}{shown:<7}{tokens:>7}{:>10.3}{:>10.1}{:>9.2}{:>10.0}{:>9.2}",
                    format!("{level:?}"),
                    best.product * 1e3,
                    bytes / best.product / 1e9,
                    best.read / best.product,
                    operations / best.product / 1e9,
                    operations / best.product / best.peak,
                );
            }
        }
    }
}

/// What inputs become.
#[derive(Clone, Copy)]
enum Inputs {
    Float,
    Int8(ScaleOf),
}

fn copies(scheme: &Scheme) -> Vec<Prepared> {
    let values: Vec<f32> =
        (0..SHAPE.0 * SHAPE.1).map(|k| ((k * 7919 + k / 64 * 31) % 1009) as f32 / 504.0 - 1.0).collect();
    let stored = nearest::quantize_rows(&values, SHAPE, scheme).expect("finite values").quantized;
    let first = Prepared::new(&stored).expect("a supported format");
    let count = MEMORY.div_ceil(first.bytes());
    vec![first; count]
}

/// The least seconds of the product and of reading its bytes, and the most operations a second.
struct Best {
    product: f64,
    read: f64,
    peak: f64,
}

fn measure(copies: &[Prepared], memory: &[u64], level: Level, tokens: usize, kind: Inputs) -> Best {
    let x: Vec<f32> = (0..tokens * SHAPE.1).map(|k| ((k * 101 + 7) % 997) as f32 / 498.0 - 1.0).collect();
    let (mut inputs, mut floats) = (PreparedActivations::new(), FloatActivations::new());
    let mut y = vec![0.0; tokens * SHAPE.0];
    let mut best = Best { product: f64::MAX, read: f64::MAX, peak: 0.0 };
    let bytes = copies[0].bytes();
    let mut at = 0;
    let mut product = |weight: &Prepared| {
        level.run(|| {
            let mut output = Output::new(&mut y, tokens, SHAPE.0).expect("room for all outputs");
            let tiles = 0..weight.tiles();
            match kind {
                Inputs::Float => {
                    floats.set(&x, (tokens, SHAPE.1)).expect("as many inputs");
                    weight.multiply_floats(tiles, &floats, &mut output, &Plain).expect("matching shapes");
                }
                Inputs::Int8(scale_of) => {
                    inputs.quantize(weight, &x, tokens, scale_of).expect("finite inputs");
                    weight.multiply(tiles, &inputs, &mut output, &Plain).expect("matching shapes");
                }
            }
        });
    };
    // About three seconds for each.
    let rounds = (600 / (tokens + 8)).max(4);
    for _ in 0..rounds {
        for weight in copies.iter().cycle().skip(at).take(4) {
            best.product = best.product.min(limits::seconds(|| product(weight)));
        }
        at = (at + 4) % copies.len();
        for _ in 0..4 {
            let first = at * bytes / 8 % (memory.len() - bytes / 8);
            best.read = best.read.min(limits::seconds(|| limits::read(&memory[first..][..bytes / 8])));
            at = (at + 1) % copies.len();
        }
        best.peak = best.peak.max(limits::peak(level));
    }
    best
}
