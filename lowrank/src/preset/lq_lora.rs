use super::{PLAIN, nearest};
use crate::{ActivationRule, Recipe, Rounds, Step, Stop, TransformRule};
use alloc::vec;
use rankbit_quant::{FloatFormat, Scheme};

/// LQ-LoRA's decomposition, unweighted: alternate the low-rank and the quantized term until the error rises.
///
/// ```text
/// Q = 0;   repeat   L·R = [W - Q]_r,   Q = quantize(W - L·R)   until ‖W - Q - L·R‖ rises; the best is kept
/// ```
/// Source: LQ-LoRA, arXiv 2311.12023, algorithm 1 (low rank first; the released code stops at the first rise and
/// returns that last, worse iterate: here the best is returned). Every half step is a candidate, so an iterate
/// may also end with the low-rank step, as in LoftQ (arXiv 2310.08659).
///
/// Held by the tests: the returned error is the least of all iterates, hence at most that of the first.
pub fn lq_lora(scheme: Scheme, rank: usize, factors: FloatFormat, rounds: u32) -> Recipe {
    Recipe {
        transform: TransformRule::Identity,
        activation: ActivationRule::FLOAT,
        metric: PLAIN,
        round: vec![Step::LowRank { rank, factors }, nearest(scheme)],
        rounds: Rounds { max: rounds, stop: Stop::FirstRise },
        seed: 0,
    }
}
