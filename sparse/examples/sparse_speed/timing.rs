//! How long a call takes.

use std::hint::black_box;
use std::time::Instant;

/// Seconds that one turn of a figure takes, at least.
const SPAN: f64 = 0.05;

/// Calls that take longer are timed by the processor's clock: other programs had their turns meanwhile.
const LONG: f64 = 0.01;

/// Seconds of the fastest call of as many as fit [`SPAN`], at least two: that at which other programs disturbed least.
pub(super) fn time<R>(mut work: impl FnMut() -> R) -> f64 {
    let (begin, mut least) = (Instant::now(), f64::INFINITY);
    for call in 0.. {
        let (start, start_processor) = (Instant::now(), processor_seconds());
        black_box(work());
        let mut seconds = start.elapsed().as_secs_f64();
        if let (true, Some(before), Some(after)) = (seconds > LONG, start_processor, processor_seconds()) {
            seconds = after - before;
        }
        least = least.min(seconds);
        if call > 0 && begin.elapsed().as_secs_f64() >= SPAN {
            break;
        }
    }
    least
}

/// Seconds that this thread has run, where Linux tells.
fn processor_seconds() -> Option<f64> {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(told.split_whitespace().next()?.parse::<f64>().ok()? * 1e-9)
}

/// Reads every byte: 64 sums side by side.
pub(super) fn sum(values: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 64];
    for chunk in values.chunks_exact(64) {
        for (sum, value) in sums.iter_mut().zip(chunk) {
            *sum += value;
        }
    }
    sums.iter().sum()
}
