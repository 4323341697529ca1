use super::{PLAIN, nearest};
use crate::{ActivationRule, FactorFormat, MetricRule, Recipe, Rounds, Space, Step, Stop, TransformRule};
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
pub fn lq_lora(scheme: Scheme, rank: usize, factors: impl Into<FactorFormat>, rounds: u32) -> Recipe {
    Recipe {
        transform: TransformRule::Identity,
        activation: ActivationRule::FLOAT,
        metric: PLAIN,
        round: vec![Step::LowRank { rank, factors: factors.into() }, nearest(scheme)],
        rounds: Rounds { max: rounds, stop: Stop::FirstRise },
        seed: 0,
    }
}

/// LQ-LoRA under Fisher weights: [`lq_lora`] with the low-rank step, and the choice of the iterate, weighted.
///
/// ```text
/// minimize ‖√F ⊙ (W - Q - L·R)‖²,   F_ij = E[(∂ℓ/∂W_ij)²] ≈ E[g_i²]·E[x_j²]
/// L·R = D_r⁻¹·[D_r·(W - Q)·D_c]_r·D_c⁻¹,   D_r = diag(√E[g_i²]),   D_c = diag(√E[x_j²])
/// ```
/// Source: arXiv 2311.12023, section 3.3: the weighted decomposition is exact for an F of rank one, and the paper
/// averages F over rows and columns to get one. Here the calibration's row weights (mean squared gradients of the
/// outputs) and the inputs' mean squares are these averages directly; without row weights all rows count alike. As in
/// the paper the quantizer itself is not weighted.
///
/// Held by the tests: for weights of rank one the low-rank step beats the unweighted one in the weighted norm.
pub fn lq_lora_fisher(scheme: Scheme, rank: usize, factors: impl Into<FactorFormat>, rounds: u32) -> Recipe {
    let metric = MetricRule { project: Space::Diagonal, accept: Space::Diagonal };
    Recipe { metric, ..lq_lora(scheme, rank, factors, rounds) }
}

/// The candidates of LQ-LoRA's program for one tensor: NF2, NF3, NF4 and 8-bit integers, in groups of 16, 32 and 64,
/// with scales in 16 and 32 bits, all with the same branch. [`Plan::new`](crate::plan::Plan::new) chooses among them.
///
/// Source: arXiv 2311.12023, section 3.2, equation 6. Deviation: the paper's grid also varies the second level of
/// nested scales; here scales are stored directly.
pub fn lq_lora_candidates(rank: usize, factors: impl Into<FactorFormat>, rounds: u32) -> Vec<Recipe> {
    let factors = factors.into();
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
