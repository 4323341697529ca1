use super::{Compensation, eora};
use crate::{Recipe, Rounds, Stop};

/// Share of the error below which a further round of [`caldera`] is not worth its time.
const GAIN: f64 = 1e-3;

/// CALDERA: `W ≈ Q + L·R`, all three in few bits, alternating under the activations' metric.
///
/// ```text
/// L·R = 0;   repeat   Q = round(W - L·R) under H,   L·R = argmin over rank r and the factors' grids of ‖W - Q - L·R‖_H
/// ```
/// Source: CALDERA, arXiv 2405.18886, algorithms 1 and 2 (there Q is LDLQ's with E8P codes, factors have 4 or 16 bits,
/// 15 to 20 rounds). The factors' own alternation is part of the low-rank step. The best iterate is returned, rounds stop
/// when one gains less than 0.1 %.
///
/// Held by the tests: never worse than its first round, which is [`eora`]; with 8-bit factors at the same bits better.
pub fn caldera(parameters: Compensation, rounds: u32) -> Recipe {
    Recipe { rounds: Rounds { max: rounds, stop: Stop::Gain(GAIN) }, ..eora(parameters) }
}
