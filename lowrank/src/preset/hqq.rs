use super::PLAIN;
use crate::{ActivationRule, Recipe, Rounds, Step, TransformRule};
use alloc::vec;
use rankbit_quant::{FloatFormat, Rounder, Scheme, ZeroPoint};

/// HQQ, half-quadratic quantization: grids under an ℓp norm that forgives outliers. Needs no calibration.
///
/// ```text
/// minimize Σ|W - Q|^0.7 over scales and zero points;   codes nearest
/// ```
/// Source: Badri and Shaji, "Half-Quadratic Quantization of Large Machine Learning Models" (2023), and its released code.
/// Zero points are f16 as there: of a scheme with whole ones, [`hqq_scheme`] is what is quantized to. The scale is fitted
/// too.
pub fn hqq(scheme: Scheme) -> Recipe {
    let scheme = hqq_scheme(scheme);
    Recipe {
        transform: TransformRule::Identity,
        activation: ActivationRule::FLOAT,
        metric: PLAIN,
        round: vec![Step::Quantize { scheme, rounder: Rounder::HQQ }],
        rounds: Rounds::ONCE,
        seed: 0,
    }
}

/// The storage of HQQ for `scheme`: zero points that are whole numbers become f16, `uint4` becomes `uint4-f` (4.5 bits in
/// groups of 64). With whole zero points the error of 4 bits is 8 % larger; to keep them, take another method and
/// [`Rounder::HQQ`].
pub fn hqq_scheme(scheme: Scheme) -> Scheme {
    match scheme.zero {
        ZeroPoint::Integer => scheme.with_zero(ZeroPoint::Float(FloatFormat::F16)),
        _ => scheme,
    }
}
