//! How fast products with N:M matrices are, against dense products and the memory's speed in the same run.
//!
//! ```text
//! cargo run --release -p rankbit-sparse --example sparse_speed [float|codes [SIDE [portable|avx2|avx512]]]
//! ```
//! One thread. Each figure is the least of several rounds in which all candidates take turns. Batch 1 reads another
//! copy of the matrix each time, so that every byte comes from memory.
//!
//! `float`: f32 values against faer's dense product. `codes`: 4- and 8-bit codes and inputs of 8 bits against the dense
//! product of the same codes (N:M = 4:4), whose loop is as good and which reads at the memory's speed too.

mod codes;
mod float;
mod timing;

use rankbit_quant::simd::Level;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let what = arguments.next();
    let side: usize = arguments.next().map_or(Ok(4096), |text| text.parse())?;
    let level = match arguments.next().as_deref() {
        Some("portable") => Level::Portable,
        Some("avx2") => Level::Avx2,
        Some("avx512") => Level::Avx512,
        _ => Level::current(),
    };
    println!("{side} x {side}, one thread, {level:?}");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    let all = || {
        if what.as_deref() != Some("codes") {
            float::run(side)?;
        }
        if what.as_deref() != Some("float") { codes::run(side) } else { Ok(()) }
    };
    pool.install(|| level.run(all)).ok_or("this machine does not have it")??;
    Ok(())
}
