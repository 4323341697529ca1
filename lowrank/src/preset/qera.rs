use super::{Compensation, eora};
use crate::{MetricRule, Recipe, Space};

/// What [`qera`] assumes of the layer's inputs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Qera {
    /// Nothing: `S = E[x·xᵀ]^½`.
    #[default]
    Exact,
    /// That different inputs are uncorrelated: `S = diag(√E[x_j²])`.
    Diagonal,
}

/// QERA: the low-rank term that makes up for most of the output that quantization lost, analytically.
///
/// ```text
/// L·R = [(W - Q)·S]_r·S⁻¹
/// ```
/// Source: QERA, arXiv 2410.06040, theorems 1 (exact) and 2 (approximate). The exact form solves EoRA's problem with
/// another root of the same matrix, so it is the same recipe as [`eora`].
///
/// Held by the tests: exact ≤ diagonal ≤ nothing in the norms that they minimize, all equal where inputs are white.
pub fn qera(parameters: Compensation, assumption: Qera) -> Recipe {
    let exact = eora(parameters);
    match assumption {
        Qera::Exact => exact,
        Qera::Diagonal => {
            Recipe { metric: MetricRule { project: Space::Diagonal, accept: Space::Diagonal }, ..exact }
        }
    }
}
