use super::{Compensation, eora};
use crate::{MetricRule, Recipe, Space, Step};

/// INT2.1's LREC, low-rank error correction, layer by layer: start in closed form, then train both factors.
///
/// ```text
/// L·R = [W - Q]_r;   then gradient steps on   f(L, R) = E‖(W - Q - L·R)·x‖² = ‖W - Q - L·R‖²_H
/// ```
/// Source: INT2.1, arXiv 2306.08162, section 3.3: adapters trained so that the quantized network behaves like the
/// original. The paper trains them through the whole network from zero; here each layer's output is the target, the
/// start is LoRC's, and the loss goes through the Gram matrix, so that no activation is kept.
///
/// Held by the tests: the gradient is that of f (finite differences); f never rises; its limit is [`eora`]'s error, the
/// least of all of this rank.
pub fn lrec(parameters: Compensation, steps: u32) -> Recipe {
    let mut recipe = eora(parameters);
    recipe.metric = MetricRule { project: Space::Identity, accept: Space::Moments };
    recipe.round.push(Step::Gradient { steps });
    recipe
}
