use super::CALIBRATED;
use crate::{ActivationRule, Recipe, Rounds, Step, TransformRule};
use alloc::vec;
use rankbit_quant::{Rounder, Scheme};

/// LDLQ: error feedback with scales fixed beforehand, then ten sweeps of coordinate descent on the codes.
///
/// ```text
/// H = (I + Ů)·D·(I + Ů)ᵀ:   q_j = nearest(w_j + Σ_{l<j} (w_l - q_l)·Ů_lj)
/// ```
/// Source: QuIP, arXiv 2307.13304, section 3, which shows it equal to GPTQ's feedback; the sweeps are those of QuIP#'s
/// released code (arXiv 2402.04396). The incoherence transform of both papers is a separate part.
pub fn ldlq(scheme: Scheme) -> Recipe {
    Recipe {
        transform: TransformRule::Identity,
        activation: ActivationRule::FLOAT,
        metric: CALIBRATED,
        round: vec![Step::Quantize { scheme, rounder: Rounder::LDLQ }],
        rounds: Rounds::ONCE,
        seed: 0,
    }
}
