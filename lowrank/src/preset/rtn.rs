use super::{PLAIN, nearest};
use crate::{ActivationRule, Recipe, Rounds, TransformRule};
use alloc::vec;
use rankbit_quant::Scheme;

/// Round to nearest: `W ≈ Q`, the baseline of every other method.
///
/// Theorem held by the tests: every entry errs by at most half a step of its group (the bound in
/// [`nearest`](rankbit_quant::nearest)).
pub fn rtn(scheme: Scheme) -> Recipe {
    Recipe {
        transform: TransformRule::Identity,
        activation: ActivationRule::FLOAT,
        metric: PLAIN,
        round: vec![nearest(scheme)],
        rounds: Rounds::ONCE,
        seed: 0,
    }
}
