//! The log-Bessel kernels over orders and arguments of all magnitudes.

use super::{CaseResult, GUARD_WORDS};
use crate::buffer::GUARD;
use crate::{Error, Gpu};
use rankbit_linalg::special::{log_bessel_i, log_bessel_k};

/// `32·u·(1 + s + v·|ln(x/(v + s))|)`, `s = hypot(v, x)`: the kernel's bound (`operator/log_bessel.rs`).
fn bound(v: f64, x: f64) -> f64 {
    let s = v.hypot(x);
    32.0 * 2.0_f64.powi(-24) * (1.0 + s + v * (x / (v + s)).ln().abs())
}

/// ln I and ln K of 31 × 41 pairs, zeros among the orders.
pub(super) fn run(gpu: &Gpu) -> Result<Vec<CaseResult>, Error> {
    let grid = |i: u16, steps: u16| 10.0_f32.powf(f32::from(i) * 9.0 / f32::from(steps) - 4.0);
    let orders = (0..31).map(|i| if i == 0 { 0.0 } else { grid(i, 30) });
    let pairs: Vec<(f32, f32)> = orders.flat_map(|v| (0..41).map(move |j| (v, grid(j, 40)))).collect();
    let (vs, xs): (Vec<f32>, Vec<f32>) = pairs.iter().copied().unzip();
    let mut results = Vec::new();
    for (first, name) in [(true, "ln I"), (false, "ln K")] {
        let values = gpu.log_bessel(first, &vs, &xs, GUARD_WORDS)?;
        let mut worst = 0.0_f64;
        for (&(v, x), &value) in pairs.iter().zip(&values) {
            let (v, x) = (f64::from(v), f64::from(x));
            let twin = if first { log_bessel_i(v, x) } else { log_bessel_k(v, x) };
            let ratio = (f64::from(value) - twin).abs() / bound(v, x);
            if ratio.is_nan() || ratio > worst {
                worst = ratio;
            }
            if worst.is_nan() {
                break;
            }
        }
        let stray = values.iter().skip(pairs.len()).position(|value| value.to_bits() != GUARD);
        let fault = stray.map(|word| format!("result: word {word} past the end was overwritten"));
        results.push(CaseResult { name: format!("{name} of {} pairs", pairs.len()), worst, fault });
    }
    Ok(results)
}
