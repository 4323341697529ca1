use super::PLAIN;
use crate::{ActivationRule, Recipe, Rounds, Step, TransformRule};
use alloc::vec;
use rankbit_quant::{Rounder, Scheme};

/// HQQ, half-quadratic quantization: grids under an ℓp norm that forgives outliers. Needs no calibration.
///
/// ```text
/// minimize Σ|W - Q|^0.7 over scales and zero points;   codes nearest
/// ```
/// Source: Badri and Shaji, "Half-Quadratic Quantization of Large Machine Learning Models" (2023), and its released code.
/// Zero points are whole numbers here, so the scale is fitted too.
pub fn hqq(scheme: Scheme) -> Recipe {
    Recipe {
        transform: TransformRule::Identity,
        activation: ActivationRule::FLOAT,
        metric: PLAIN,
        round: vec![Step::Quantize { scheme, rounder: Rounder::HQQ }],
        rounds: Rounds::ONCE,
        seed: 0,
    }
}
