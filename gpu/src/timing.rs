//! Time of resident work, from submission to idle.

use crate::Error;
use std::time::Instant;

/// Seconds of one run, over several.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Timing {
    /// The fastest run.
    pub best: f64,
    /// The median run.
    pub median: f64,
    /// How many runs.
    pub runs: usize,
}

impl Timing {
    /// Times `runs` calls of `work` (at least one), after one that is not counted.
    pub(crate) fn of(runs: usize, mut work: impl FnMut() -> Result<(), Error>) -> Result<Self, Error> {
        work()?;
        let mut seconds = Vec::new();
        for _ in 0..runs.max(1) {
            let start = Instant::now();
            work()?;
            seconds.push(start.elapsed().as_secs_f64());
        }
        seconds.sort_by(f64::total_cmp);
        let best = seconds.first().copied().unwrap_or(f64::NAN);
        let median = seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN);
        Ok(Self { best, median, runs: seconds.len() })
    }
}
