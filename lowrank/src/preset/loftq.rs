use super::{Compensation, PLAIN, eora};
use crate::{Recipe, Rounds, Stop};

/// LoftQ: alternate the quantized and the low-rank term, quantized first, a fixed number of times.
///
/// ```text
/// L·R = 0;   repeat T times   Q = quantize(W - L·R),   L·R = [W - Q]_r
/// ```
/// Source: LoftQ, arXiv 2310.08659, algorithm 1 (T = 1 in its library, 5 in its scripts). The iterates do rise now and
/// then; LoftQ returns the last, here the best is returned, which is never worse.
///
/// Held by the tests: T = 1 is [`lorc`](super::lorc); more rounds are never worse.
pub fn loftq(parameters: Compensation, rounds: u32) -> Recipe {
    Recipe { metric: PLAIN, rounds: Rounds { max: rounds, stop: Stop::Never }, ..eora(parameters) }
}
