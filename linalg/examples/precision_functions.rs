//! The worst measured errors of the special functions, in units of their bounds, as a table for `tests/precision.md`.
//!
//! `cargo run --release -p rankbit-linalg --example precision_functions`
//!
//! References: `tests/vectors/log_bessel.csv`, more than 30 digits each. "ULP": worst error where |ln| ≥ 1 in units in
//! the last place of the value; "small": where 1e-3 ≤ |ln| < 1; "scaled": worst of all, in units of 2⁻⁵²·max(1, |ln|).

use rankbit_linalg::special::{log_bessel_i, log_bessel_k};

fn ulp(value: f64) -> f64 {
    let value = value.abs();
    f64::from_bits(value.to_bits() + 1) - value
}

fn region(first: bool, v: f64, x: f64) -> usize {
    let square = v * v + x * x;
    if square >= 65536.0 {
        0
    } else if square >= 1024.0 {
        1
    } else if x > 8.0 {
        2
    } else if x > if first { 4.0 } else { 1.0 } {
        3
    } else {
        4
    }
}

fn main() {
    let names = ["hypot(v, x) ≥ 256", "hypot(v, x) ≥ 32", "x > 8", "x ≤ 8", "x ≤ 4 (I), ≤ 1 (K)"];
    println!(
        "| function | region | points | ULP, \\|ln\\| ≥ 1 | ULP, 1e-3 … 1 | absolute there / 2⁻⁵² | scaled |"
    );
    println!("|---|---|---|---|---|---|---|");
    for first in [true, false] {
        let mut worst = [[0.0f64; 5]; 5];
        let mut at = [(0.0, 0.0); 5];
        for line in include_str!("../../tests/vectors/log_bessel.csv").lines().filter(|l| !l.starts_with('#'))
        {
            let n: Vec<f64> = line.split(',').filter_map(|n| n.parse().ok()).collect();
            let &[v, x, i, i_low, k, k_low] = n.as_slice() else { continue };
            let (found, high, low) =
                if first { (log_bessel_i(v, x), i, i_low) } else { (log_bessel_k(v, x), k, k_low) };
            let error = ((found - high) - low).abs();
            let row = region(first, v, x);
            worst[row][0] += 1.0;
            let units = if error.is_nan() { f64::INFINITY } else { error / ulp(high) };
            if high.abs() >= 1.0 {
                if units > worst[row][1] {
                    at[row] = (v, x);
                }
                worst[row][1] = worst[row][1].max(units);
            } else if high.abs() >= 1e-3 {
                worst[row][2] = worst[row][2].max(units);
                worst[row][3] = worst[row][3].max(error / f64::EPSILON);
            }
            worst[row][4] = worst[row][4].max(error / f64::EPSILON / high.abs().max(1.0));
        }
        for ((name, worst), at) in names.iter().zip(worst).zip(at) {
            let [points, large, small, absolute, scaled] = worst;
            let kind = if first { "ln I" } else { "ln K" };
            println!(
                "| {kind} | {name} | {points} | {large:.2} | {small:.1} | {absolute:.2} | {scaled:.2} | <!-- {at:?} -->"
            );
        }
    }
}
