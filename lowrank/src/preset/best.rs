use super::{CALIBRATED, PLAIN};
use crate::{ActivationRule, Recipe, Rounds, Step, TransformRule};
use alloc::vec;
use rankbit_quant::{Code, Rate, Rounder, Scheme, Trellis, scheme};

/// How long [`best`] may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
pub enum Effort {
    /// Trellises of 2¹⁰ states, one sweep: a quarter of the time for 1 to 11 % more error.
    Fast,
    /// Trellises of 2¹² states, two sweeps.
    #[default]
    Full,
}

/// The least error at a given size that this crate knows: a trellis code down each column, each column with bits of its
/// own, outliers by value, and where calibration is given, errors fed back, two sweeps of coordinate descent and a fit
/// of the rows' scales after each.
///
/// ```text
/// minimize Σ_i r_i·e_i·H·e_iᵀ   over paths, scales and rates,   Σ_j rows·k_j + overhead ≤ budget
/// ```
/// The rate of the scheme is `bits` a weight, everything counted, for this matrix alone;
/// [`plan::share`](crate::plan::share) spends one budget on the columns of many.
///
/// No paper's method but the sum of known parts: trellis codes after QTIP (arXiv 2406.11235), error feedback after GPTQ
/// (arXiv 2210.17323), coordinate descent after QuIP# (arXiv 2402.04396), rates by reverse water-filling. **No low-rank
/// term**: feedback leaves a nearly white residual, of which a rank in f16 takes less than the same bits as codes do
/// (on layers of a sentence encoder at 3.5 bits, 16 ranks in 8 bits lower the error of outputs by 7.6 % where a third
/// of a bit a weight lowers it by 21 %). **No rotation**: scales of rows and columns do as well without a transform.
pub fn best(bits: f64, calibrated: bool, effort: Effort) -> Recipe {
    let (window, sweeps) = match effort {
        Effort::Fast => (10, 1),
        Effort::Full => (12, 2),
    };
    let code = Code::Trellis(Trellis { window, rate: Rate::budget(bits) });
    let rounder = if calibrated { Rounder::Ldlq { damping: 0.01, sweeps } } else { Rounder::Nearest };
    recipe(Scheme { code, ..scheme::TRELLIS }, rounder, calibrated)
}

/// The same for engines that cannot decode a trellis: a scalar `scheme` with searched scales, and where calibration is
/// given, coordinate descent from GPTQ's start.
pub fn best_scalar(scheme: Scheme, calibrated: bool, effort: Effort) -> Recipe {
    let sweeps = match effort {
        Effort::Fast => 1,
        Effort::Full => 4,
    };
    let descent = Rounder::CoordinateDescent { damping: 0.01, sweeps };
    recipe(scheme, if calibrated { descent } else { Rounder::Mse }, calibrated)
}

fn recipe(scheme: Scheme, rounder: Rounder, calibrated: bool) -> Recipe {
    Recipe {
        transform: TransformRule::Identity,
        activation: ActivationRule::FLOAT,
        metric: if calibrated { CALIBRATED } else { PLAIN },
        round: vec![Step::Quantize { scheme, rounder }],
        rounds: Rounds::ONCE,
        seed: 0,
    }
}
