//! A small classifier of handwritten digits without a single float: calibrated once, then integers only.
//!
//! ```text
//! cargo run --release -p rankbit-quant --example digits
//! ```
//! Convolutions with batch norm (folded) and ReLU, a residual addition, both kinds of pooling and a linear layer, at 8
//! bits and at 4 (first and last layer 8, as HAWQ-V3 has it), beside the float network that they were made from. The
//! integer network is `network.rs`, which forbids floats.

mod data;
mod network;
mod twin;

use rankbit_quant::Error;
use std::time::Instant;
use twin::Twin;

fn main() -> Result<(), Error> {
    let (train, test) = data::digits();
    let twin = Twin::new()?;
    let report = |name: &str, classes: &[usize], start: Instant, rest: &str| {
        let count = test.labels.len();
        let (right, per_image) = (test.right(classes), start.elapsed().as_secs_f64() * 1e6 / count as f64);
        let percent = 100.0 * right as f64 / count as f64;
        println!("{name:<6} {right} of {count} right ({percent:.2} %), {per_image:.0} µs an image{rest}");
    };

    let start = Instant::now();
    report("float", &twin.classify(&test), start, "");
    let calibration = train.first(300);
    let work = twin::work()?;
    for bits in [8, 4] {
        let network = twin.calibrate(&calibration, bits)?;
        // From here on: integers only.
        let start = Instant::now();
        let classes = network.classify(&test.pixels)?;
        let (mut size, mut operations) = (0, 0);
        for (layer, one) in work.iter().enumerate() {
            let bits = if layer == 0 || layer + 1 == work.len() { 8 } else { bits };
            size += one.size(bits)? / 8;
            operations += one.bit_operations(bits, bits)?;
        }
        let rest = format!(
            "; {size} bytes of weights, {:.1} million bit operations, no sum beyond {} (i32)",
            operations as f64 / 1e6,
            network.bound()
        );
        report(&format!("int{bits}"), &classes, start, &rest);
    }
    println!("after calibration no float is used: quant/src/dyadic/integer and network.rs forbid them");
    Ok(())
}
