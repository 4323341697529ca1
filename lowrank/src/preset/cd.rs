use super::CALIBRATED;
use crate::{ActivationRule, Recipe, Rounds, Step, TransformRule};
use alloc::vec;
use rankbit_quant::{Rounder, Scheme};

/// Coordinate descent: the scales of least error, GPTQ's codes, then codes and scales improved in turn.
///
/// ```text
/// minimize ‖(W - Q)·H^½‖ over codes, scales and zero points, each step never worse
/// ```
/// Same bits as [`gptq`](super::gptq), a smaller error; no paper's method but the sum of known parts: GPTQ (arXiv
/// 2210.17323), the coordinate descent of QuIP# (arXiv 2402.04396), and scales by the normal equations.
///
/// Held by the tests: never above [`gptq`](super::gptq) in act-order on the matrices tried.
pub fn cd(scheme: Scheme) -> Recipe {
    Recipe {
        transform: TransformRule::Identity,
        activation: ActivationRule::FLOAT,
        metric: CALIBRATED,
        round: vec![Step::Quantize { scheme, rounder: Rounder::COORDINATE_DESCENT }],
        rounds: Rounds::ONCE,
        seed: 0,
    }
}
