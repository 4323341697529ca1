//! How fast the prepared product is, beside what this processor can do at most.
//!
//! ```text
//! cargo run --release -p rankbit-quant --example matmul_speed [-- FORMATS [TOKENS [SHAPE [THREADS [EFFORT]]]]]
//!     FORMATS   int4,nf4-token,q4_k-float …
//!     TOKENS    1,8,128 …
//!     SHAPE     4096x4096, or another out × in
//!     THREADS   1; outputs are shared equally
//!     EFFORT    rounds for each, 100 percent if not said
//! ```
//! 8-bit inputs are quantized anew each time. `FORMAT-token` has one scale for the inputs of a token instead of one for each
//! group, `FORMAT-float` inputs that stay floats. As many copies of the matrix as exceed the caches take turns, so that
//! every byte comes from memory. Times are the least of many: CPU times of the thread, of several threads wall times. The
//! limits are measured in between on as many threads: reading as many bytes from one place or four, whichever is faster, and multiplying and adding in registers, whole
//! numbers of 8 bits or f32 as the product does.

mod limits;

use limits::Streams;
use rankbit_quant::matmul::prepared::{
    FloatActivations, Output, Plain, Prepared, PreparedActivations, ScaleOf, TILE,
};
use rankbit_quant::simd::Level;
use rankbit_quant::{Scheme, nearest};
use std::ops::Range;

/// Bytes of all copies at least: with 256 MiB some caches still held a part.
const MEMORY: usize = 1 << 30;

/// What is measured in all lines alike.
struct Setting {
    /// Rows and columns.
    shape: (usize, usize),
    threads: usize,
    pool: rayon::ThreadPool,
    /// Percent of the rounds.
    effort: usize,
    memory: Vec<u64>,
}

fn main() {
    let mut args = std::env::args().skip(1);
    let list = |arg: Option<String>, default: &str| -> Vec<String> {
        arg.unwrap_or_else(|| default.into()).split(',').map(str::to_owned).collect()
    };
    let formats = list(args.next(), "int4,uint4,q4_0,q4_k,nf4,bnb-fp4,mxfp4,nvfp4,int8");
    let tokens = list(args.next(), "1,2,4,8,16,32,128");
    let tokens: Vec<usize> = tokens.iter().map(|t| t.parse().expect("a number of tokens")).collect();
    let shape = args.next().unwrap_or_else(|| "4096x4096".into());
    let (out, features) = shape.split_once('x').expect("rows x columns");
    let threads = args.next().map_or(1, |threads| threads.parse().expect("a number of threads"));
    let setting = Setting {
        shape: (out.parse().expect("rows"), features.parse().expect("columns")),
        threads,
        pool: rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads"),
        effort: args.next().map_or(100, |effort| effort.parse().expect("percent")),
        memory: vec![1_u64; MEMORY / 8],
    };
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
        let copies = copies(setting.shape, &scheme);
        for level in [Level::Avx512, Level::Avx2].into_iter().filter(|level| level.is_available()) {
            for &tokens in &tokens {
                let best = measure(&setting, &copies, level, tokens, inputs);
                let operations = 2.0 * (setting.shape.0 * setting.shape.1 * tokens) as f64;
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
#[derive(Clone, Copy, PartialEq)]
enum Inputs {
    Float,
    Int8(ScaleOf),
}

fn copies(shape: (usize, usize), scheme: &Scheme) -> Vec<Prepared> {
    let values: Vec<f32> =
        (0..shape.0 * shape.1).map(|k| ((k * 7919 + k / 64 * 31) % 1009) as f32 / 504.0 - 1.0).collect();
    let stored = nearest::quantize_rows(&values, shape, scheme).expect("finite values").quantized;
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

fn measure(setting: &Setting, copies: &[Prepared], level: Level, tokens: usize, kind: Inputs) -> Best {
    let (out, features) = setting.shape;
    let x: Vec<f32> = (0..tokens * features).map(|k| ((k * 101 + 7) % 997) as f32 / 498.0 - 1.0).collect();
    let (mut inputs, mut floats) = (PreparedActivations::new(), FloatActivations::new());
    let mut y = vec![0.0; tokens * out];
    let mut best = Best { product: f64::MAX, read: f64::MAX, peak: 0.0 };
    let bytes = copies[0].bytes();
    let seconds = |work: &mut (dyn FnMut() + Send)| {
        if setting.threads == 1 { limits::seconds(work) } else { setting.pool.install(|| limits::wall(work)) }
    };
    let mut at = 0;
    let mut product = |weight: &Prepared| {
        level.run(|| match kind {
            Inputs::Float => floats.set(&x, (tokens, features)).expect("as many inputs"),
            Inputs::Int8(scale_of) => {
                inputs.quantize(weight, &x, tokens, scale_of).expect("finite inputs");
            }
        });
        let output = Output::new(&mut y, tokens, out).expect("room for all outputs");
        share(setting.threads, 0..weight.tiles(), output, &|tiles, output| {
            level.run(|| match kind {
                Inputs::Float => weight.multiply_floats(tiles, &floats, output, &Plain),
                Inputs::Int8(_) => weight.multiply(tiles, &inputs, output, &Plain),
            });
        });
    };
    // About three seconds for each.
    let rounds = (6 * setting.effort / (tokens + 8)).max(4);
    for _ in 0..rounds {
        for weight in copies.iter().cycle().skip(at).take(4) {
            best.product = best.product.min(seconds(&mut || product(weight)));
        }
        at = (at + 4) % copies.len();
        for streams in [Streams::One, Streams::Four, Streams::One, Streams::Four] {
            let first = at * bytes / 8 % (setting.memory.len() - bytes / 8);
            let memory = &setting.memory[first..][..bytes / 8];
            best.read = best.read.min(seconds(&mut || read(setting.threads, memory, streams)));
            at = (at + 1) % copies.len();
        }
        let one = if kind == Inputs::Float { limits::peak_floats(level) } else { limits::peak(level) };
        best.peak = best.peak.max(one * setting.threads as f64);
    }
    best
}

/// Halves tiles and outputs for as many threads of the pool.
fn share(
    threads: usize,
    tiles: Range<usize>,
    mut output: Output<'_>,
    work: &(impl Fn(Range<usize>, &mut Output<'_>) + Sync),
) {
    if threads < 2 {
        return work(tiles, &mut output);
    }
    let middle = tiles.start + tiles.len() * (threads / 2) / threads;
    let (low, high) = output.split_at(middle * TILE);
    rayon::join(
        || share(threads / 2, tiles.start..middle, low, work),
        || share(threads - threads / 2, middle..tiles.end, high, work),
    );
}

fn read(threads: usize, memory: &[u64], streams: Streams) {
    if threads < 2 {
        return limits::read(memory, streams);
    }
    let (low, high) = memory.split_at(memory.len() * (threads / 2) / threads);
    rayon::join(|| read(threads / 2, low, streams), || read(threads - threads / 2, high, streams));
}
