use super::{PLAIN, nearest};
use crate::{ActivationRule, Recipe, Rounds, Step, TransformRule};
use alloc::vec;
use rankbit_quant::{FloatFormat, Scheme};

/// LoLDU: where an adapter between triangular factors starts.
///
/// ```text
/// W = Pᵀ·L·D·U by partial pivoting,   L·R = Pᵀ·L₁…ᵣ · D₁…ᵣ·U₁…ᵣ,   Q̃ = quantize(W - L·R)
/// ```
/// The paper keeps P, L, U and the residual, and trains D's r entries, which begin as the pivots: nothing changes at the
/// start. Here the residual is kept in few bits, or, without a scheme, not at all: the fit's error is then that of the
/// truncated factorization, `‖W - L·R‖`, the Schur complement that [`rankbit_linalg::ldu`](fn@rankbit_linalg::ldu) states. Pivot k
/// is row k of R where column k of L has its 1.
///
/// Source: LoLDU, arXiv 2410.13618, section 3 (z = D, "lu"). Deviations: the residual's rounding; the factor s = α/r, which
/// the start leaves out of account, is 1. The first pivots are not the principal directions: at equal rank
/// [`low_rank`](super::low_rank) leaves less.
///
/// Held by the tests: the columns of L are unit triangular under one order of rows, with no entry above 1; the error is that
/// of the scheme on the residual alone; never below the tail of the spectrum; nothing is left at full rank.
pub fn loldu(residual: Option<Scheme>, rank: usize, factors: FloatFormat) -> Recipe {
    let mut round = vec![Step::Ldu { rank, factors }];
    round.extend(residual.map(nearest));
    Recipe {
        transform: TransformRule::Identity,
        activation: ActivationRule::FLOAT,
        metric: PLAIN,
        round,
        rounds: Rounds::ONCE,
        seed: 0,
    }
}
