use super::{PLAIN, nearest};
use crate::{ActivationRule, Recipe, Rounds, Step, Stop, TransformRule};
use alloc::{vec, vec::Vec};
use rankbit_quant::{FloatFormat, Group, Scheme, scheme};

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

/// The candidates of LQ-LoRA's program for one tensor: NF2, NF3, NF4 and 8-bit integers, in groups of 16, 32 and 64,
/// with scales in 16 and 32 bits, all with the same branch. [`Plan::new`](crate::plan::Plan::new) chooses among them.
///
/// Source: arXiv 2311.12023, section 3.2, equation 6. Deviation: the paper's grid also varies the second level of
/// nested scales; here scales are stored directly.
pub fn lq_lora_candidates(rank: usize, factors: FloatFormat, rounds: u32) -> Vec<Recipe> {
    let mut candidates = Vec::new();
    for scheme in [scheme::NF2, scheme::NF3, scheme::NF4, scheme::INT8] {
        for group in [16, 32, 64] {
            for scale in [FloatFormat::Bf16, FloatFormat::F16, FloatFormat::F32] {
                let scheme = scheme.with_group(Group::Size(group)).with_scale_format(scale);
                candidates.push(lq_lora(scheme, rank, factors, rounds));
            }
        }
    }
    candidates
}
