//! 256 short points of E8: the origin, the 240 roots, and fifteen of the sixteen ±2·e_i.
//!
//! Order: the origin; ±e_i ± e_j for i < j, signs ++ +− −+ −−; (±½)⁸ with an even number of minuses, by the binary
//! number of the first seven minuses; then 2e_0, −2e_0, 2e_1, …

use super::BLOCK;
use alloc::{vec, vec::Vec};

/// All points, by code.
pub(super) fn points() -> Vec<[f32; BLOCK]> {
    let mut points = vec![[0.0; BLOCK]];
    for i in 0..BLOCK {
        for j in i + 1..BLOCK {
            for (a, b) in [(1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0)] {
                let mut point = [0.0; BLOCK];
                (point[i], point[j]) = (a, b);
                points.push(point);
            }
        }
    }
    for minuses in 0_u8..128 {
        // The eighth minus makes their number even.
        let minuses = minuses | if minuses.count_ones() % 2 == 1 { 128 } else { 0 };
        points.push(core::array::from_fn(|i| if minuses >> i & 1 == 1 { -0.5 } else { 0.5 }));
    }
    for i in 0..BLOCK {
        for sign in [2.0, -2.0] {
            let mut point = [0.0; BLOCK];
            point[i] = sign;
            points.push(point);
        }
    }
    points.truncate(256);
    points
}

/// The first nearest point and its code.
pub(super) fn nearest(points: &[[f32; BLOCK]], x: &[f32; BLOCK]) -> (u8, [f32; BLOCK]) {
    let mut best = (0, [0.0; BLOCK], f32::INFINITY);
    for (code, point) in (0..=u8::MAX).zip(points) {
        let distance: f32 = point.iter().zip(x).map(|(p, x)| p * (p - 2.0 * x)).sum();
        if distance < best.2 {
            best = (code, *point, distance);
        }
    }
    (best.0, best.1)
}
