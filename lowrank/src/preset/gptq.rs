use super::CALIBRATED;
use crate::{ActivationRule, Recipe, Rounds, Step, TransformRule};
use alloc::vec;
use rankbit_quant::{Rounder, Scheme};

/// GPTQ: quantize one input column after the other; the later ones take up the errors of the earlier.
///
/// ```text
/// minimize ‖(W - Q)·H^½‖:   q_j = nearest(v_j),   v_l -= (v_j - q_j)·U_jl / U_jj for l > j,   H⁻¹ = Uᵀ·U
/// ```
/// Source: GPTQ, arXiv 2210.17323, algorithm 1, with its damping of 1 % of the mean diagonal; `act_order` is the
/// released code's flag of that name together with its static groups, so that groups stay as stored.
///
/// Held by the tests: with a diagonal Gram matrix it is [`rtn`](super::rtn); on correlated inputs it beats it in the
/// calibration's metric.
pub fn gptq(scheme: Scheme, act_order: bool) -> Recipe {
    Recipe {
        transform: TransformRule::Identity,
        activation: ActivationRule::FLOAT,
        metric: CALIBRATED,
        round: vec![Step::Quantize { scheme, rounder: Rounder::gptq(act_order) }],
        rounds: Rounds::ONCE,
        seed: 0,
    }
}
