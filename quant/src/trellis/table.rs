//! The values of the states: normal quantiles in Weyl order.
//!
//! ```text
//! T[s] = round( 4096 · Φ⁻¹( ((A·s mod 2^L) + ½) / 2^L ) ) / 4096        s = 0 … 2^L − 1,  A odd
//! ```
//! A odd makes `s ↦ A·s mod 2^L` a permutation, so the values are the 2^L quantiles of a normal distribution, each
//! once; the multiplicative order spreads the 2^k successors of a state evenly over them. With a random order, or
//! with a hash of the state, errors are 2 to 15 % larger at L ≤ 12. Entries are whole multiples of 2⁻¹² in i16.
//!
//! The constants A for L = 8, 10, 12 and k ≤ 5 are the best of 100 to 300 random draws; for all others A is
//! `⌊(√5 − 1)/2 · 2^L⌋`, made odd, which is 0.5 to 2 % worse.

use crate::code::normal_float::normal_quantile;
use alloc::{borrow::Cow, vec::Vec};
use num_traits::Float;

/// Units of a table entry: entries are multiples of its inverse.
const UNIT: f64 = 4096.0;

/// The factor A of window `window` (L) and rate `rate` (k).
pub const fn multiplier(window: u8, rate: u8) -> u32 {
    let best: [u32; 5] = match window {
        8 => [121, 185, 161, 177, 137],
        10 => [477, 761, 123, 301, 249],
        12 => [2159, 3001, 3547, 725, 641],
        _ => [0; 5],
    };
    if rate >= 1 && rate <= 5 && best[rate as usize - 1] != 0 {
        best[rate as usize - 1]
    } else {
        // ⌊0.6180339887…·2³²⌋ = 2654435769.
        let shift = if window > 32 { 0 } else { 32 - window as u32 };
        2_654_435_769_u32 >> shift | 1
    }
}

/// The 2^L quantiles in increasing order, as multiples of 2⁻¹².
fn quantiles(window: u8) -> Vec<i16> {
    let half = 1_u32 << (window - 1);
    let total = f64::from(half) * 2.0;
    let mut upper = Vec::with_capacity(half as usize);
    let mut last = 0.0;
    for i in 0..half {
        // From the last one: Newton's steps rise to the root from below.
        last = normal_quantile(0.5 + (f64::from(i) + 0.5) / total, last);
        upper.push(round(last * UNIT));
    }
    let lower = upper.iter().rev().map(|&value| -value);
    lower.chain(upper.iter().copied()).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "a quantile of at most 2^16 levels is below 5")]
fn round(value: f64) -> i16 {
    Float::round(value) as i16
}

/// T by state, as multiples of 2⁻¹²: 2^L entries.
///
/// # Panics
/// When `window` is not 1 to 16.
pub fn table(window: u8, rate: u8) -> Vec<i16> {
    assert!((1..=16).contains(&window), "a window of 1 to 16 bits");
    let sorted = quantiles(window);
    let (factor, mask) = (multiplier(window, rate), (1_u32 << window) - 1);
    (0..=mask).map(|state| sorted[(factor.wrapping_mul(state) & mask) as usize]).collect()
}

/// T in f32, by state.
pub(crate) fn by_state(window: u8, rate: u8) -> Vec<f32> {
    table(window, rate).into_iter().map(value).collect()
}

/// T in f32 in the order of windows, `Tw[v] = T[v with its L bits reversed]`: what a decoder looks up.
pub(crate) fn by_window(window: u8, rate: u8) -> Cow<'static, [f32]> {
    #[cfg(feature = "std")]
    {
        use std::sync::OnceLock;
        static CACHE: [[OnceLock<Vec<f32>>; 9]; 17] = [const { [const { OnceLock::new() }; 9] }; 17];
        if let Some(cell) = CACHE.get(usize::from(window)).and_then(|row| row.get(usize::from(rate))) {
            return Cow::Borrowed(cell.get_or_init(|| windows_first(window, rate)));
        }
    }
    Cow::Owned(windows_first(window, rate))
}

fn windows_first(window: u8, rate: u8) -> Vec<f32> {
    let table = table(window, rate);
    let shift = 32 - u32::from(window);
    (0..1_u32 << window).map(|v| value(table[(v.reverse_bits() >> shift) as usize])).collect()
}

fn value(entry: i16) -> f32 {
    f32::from(entry) / 4096.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_golden_factors() {
        for (window, factor) in [(8, 159), (10, 633), (12, 2531), (14, 10125), (16, 40503)] {
            assert_eq!(multiplier(window, 6), factor, "{window}");
        }
        assert_eq!(multiplier(12, 2), 3001);
        assert_eq!(multiplier(14, 2), 10125);
    }

    #[test]
    fn entries_are_the_quantiles_each_once() {
        // Φ⁻¹ at (i + ½)/16, i = 8 … 15, from tables of the normal distribution.
        let by_hand = [0.078_412_413, 0.237_202_109, 0.402_250_065, 0.579_132_162];
        let further = [0.776_421_761, 1.009_990_169, 1.318_010_897, 1.862_731_867];
        let mut sorted = table(4, 1);
        sorted.sort_unstable();
        for (i, expected) in by_hand.into_iter().chain(further).enumerate() {
            let expected = round(expected * 4096.0);
            assert_eq!((sorted[8 + i], sorted[7 - i]), (expected, -expected), "{i}");
        }
        for window in [8, 12, 16] {
            let (mut one, mut other) = (table(window, 2), table(window, 7));
            one.sort_unstable();
            other.sort_unstable();
            assert_eq!(one, other);
            assert_eq!(one.iter().map(|&x| i64::from(x)).sum::<i64>(), 0);
        }
    }

    #[test]
    fn windows_are_reversed_states() {
        for (window, rate) in [(4, 1), (8, 3), (12, 4)] {
            let (states, windows) = (by_state(window, rate), by_window(window, rate));
            for (state, value) in states.iter().enumerate() {
                let reversed = (0..window).fold(0, |v, bit| (v << 1) | (state >> bit & 1));
                assert_eq!(windows[reversed], *value);
            }
        }
    }
}
