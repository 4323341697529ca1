//! Scales that differ by powers of two inside a row.
//!
//! ```text
//! S = the largest absmax scale of the row (of the matrix, where a row has one group),   s' = S / 2^k
//! clip:    k = ⌈log₂(S / s)⌉      s/2 < s' ≤ s    the largest entries of a group may saturate
//! keep:    k = ⌊log₂(S / s)⌋      s ≤ s' < 2s     nothing saturates, steps are up to twice as wide
//! ```
//! So every decoded value of a row is `S` times a code times a power of two: a 4-bit float becomes an 8-bit one by
//! changing its exponent, and one multiplication by `S` is left at the end of a row's sum. The ratio is exact as
//! stored unless a 16-bit scale is subnormal. A group of zeros keeps scale 0. Cost O(groups).
//!
//! Source: ZeroQuant-FP, arXiv 2307.09782, section 3, constraint M2 (with the ceiling).

use super::{Range, low_half};
use crate::{Grouping, RatioRule};

/// Replaces each scale by the row's largest over a power of two.
pub(super) fn constrain(ranges: &mut [Range], grouping: &Grouping, rule: RatioRule) {
    let groups = if grouping.per_row > 1 { grouping.per_row } else { ranges.len() };
    for row in ranges.chunks_mut(groups.max(1)) {
        let top = row.iter().fold(Range::default(), |top, r| if r.absmax > top.absmax { *r } else { top });
        for range in row.iter_mut().filter(|range| range.absmax > 0.0) {
            // Of two f32 numbers: a quotient that is a power of two is exact, and no other becomes one by rounding.
            let bits = (top.absmax / range.absmax).to_bits();
            let floor = i32::from(u16::from_le_bytes(low_half(bits >> 52))) - 1023;
            let steps = match rule {
                RatioRule::Clip => floor + i32::from(bits << 12 != 0),
                RatioRule::Keep => floor,
            };
            range.scale = top.scale * num_traits::Float::powi(2.0_f64, -steps);
        }
    }
}
