use super::{PLAIN, nearest};
use crate::{FactorFormat, Recipe, Rounds, Step, TransformRule};
use alloc::vec;
use rankbit_quant::{
    Activation, Code, FloatFormat, Group, Layout, MiniFloat, PowerRule, RatioRule, ScaleRule, Scheme,
    ZeroPoint,
};

/// What ZeroQuant-FP asks of the weight's scales, so that a 4-bit float becomes an 8-bit one by its exponent alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Constraint {
    /// Nothing.
    Free,
    /// M1: each scale a power of two, `2^⌈log₂ s⌉`; nothing is clipped.
    PowerOfTwo,
    /// M2: powers of two times the row's largest scale, `S / 2^⌈log₂(S/s)⌉`; a group's extreme may be clipped.
    RatioOfTwo,
}

impl Constraint {
    /// E2M1 in groups of 128 with f32 scales under this constraint. The paper also tries E3M0 and finds E2M1 better.
    pub const fn fp4(self) -> Scheme {
        Scheme {
            code: Code::MiniFloat(MiniFloat::E2m1),
            group: Group::Size(128),
            scale_rule: match self {
                Self::Free => ScaleRule::Absmax,
                Self::PowerOfTwo => ScaleRule::Power(PowerRule::Ceil),
                Self::RatioOfTwo => ScaleRule::Ratio(RatioRule::Clip),
            },
            scale_format: FloatFormat::F32,
            nested: None,
            zero: ZeroPoint::None,
            layout: Layout::Planar,
        }
    }
}

/// Parameters of [`zeroquant_fp`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ZeroQuantFp {
    /// Format of the weight: [`Constraint::fp4`], or any other.
    pub scheme: Scheme,
    /// Rank and storage of LoRC's compensation, when it is wanted (the paper: 8).
    pub compensation: Option<(usize, FactorFormat)>,
}

/// ZeroQuant-FP: weights as 4-bit floats, inputs as 8-bit floats, perhaps with low-rank compensation.
///
/// ```text
/// Y = fp8(X)·Qᵀ  (+ (X·Rᵀ)·Lᵀ),   Q = fp4(W),   L·R = [W - Q]_r
/// ```
/// Source: ZeroQuant-FP, arXiv 2307.09782 (section 3: formats, M1, M2; FP8 is E4M3 per token); LoRC from ZeroQuant-V2,
/// arXiv 2303.08302. The paper rounds weights with GPTQ, which is a rounder here ([`gptq`](super::gptq)) and fits any
/// scheme; this recipe needs no calibration. Its compensation also runs on quantized inputs, here it sees `X` itself.
///
/// Held by the tests: under M1 and M2 the scales of a row have ratios that are exact powers of two, and values over
/// the row's scale are exact in E5M2; M1 never clips; compensation leaves the tail of the residual's singular values.
pub fn zeroquant_fp(parameters: ZeroQuantFp) -> Recipe {
    let ZeroQuantFp { scheme, compensation } = parameters;
    let mut round = vec![nearest(scheme)];
    round.extend(compensation.map(|(rank, factors)| Step::LowRank { rank, factors }));
    Recipe {
        transform: TransformRule::Identity,
        activation: Activation::FP8.into(),
        metric: PLAIN,
        round,
        rounds: Rounds::ONCE,
        seed: 0,
    }
}
