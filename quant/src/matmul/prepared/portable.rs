//! The product of a tile, entry by entry: what the kernels are held to, and what machines without them run.

use super::activations::{TOKENS, Tokens};
use super::layout::{LANES, Line, Plan, ROWS};
use num_traits::Float;

/// Adds the products of `tile` with the first tokens of `x`, as many as `sums`, to `sums`.
pub(super) fn tile(plan: &Plan, tile: &[Line], x: &Tokens<'_>, sums: &mut [[f32; ROWS]]) {
    let mut main = [[0.0_f32; ROWS]; TOKENS];
    let main = &mut main[..sums.len()];
    for group in 0..plan.groups {
        let mut dots = [[0_i32; ROWS]; TOKENS];
        let first = plan.first_lane(group);
        for lane in 0..plan.columns(group) / LANES {
            for row in 0..ROWS {
                let weights: [i32; LANES] =
                    core::array::from_fn(|i| plan.value(plan.code(tile, group, row, LANES * lane + i)));
                for (t, dots) in dots.iter_mut().take(main.len()).enumerate() {
                    let inputs = x.lanes[(first + lane) * x.stride + t];
                    for (w, q) in weights.iter().zip(inputs) {
                        dots[row] += w * i32::from(q);
                    }
                }
            }
        }
        for row in 0..ROWS {
            let scale = plan.scale(tile, group, row);
            let shifted = plan.shifted(scale, plan.shift(tile, group, row));
            let scale = scale * plan.factor;
            for (t, main) in main.iter_mut().enumerate() {
                let at = group * x.stride + t;
                let scale = if x.uniform { scale } else { scale * x.scales[at] };
                main[row] = Float::mul_add(dots[t][row] as f32, scale, main[row]);
                if plan.shift != super::layout::Shift::None {
                    main[row] = Float::mul_add(shifted, x.sums[at], main[row]);
                }
            }
        }
    }
    for (t, (sums, main)) in sums.iter_mut().zip(main).enumerate() {
        for (sum, main) in sums.iter_mut().zip(main) {
            *sum = match x.scales.get(t) {
                Some(&scale) if x.uniform => Float::mul_add(*main, scale, *sum),
                _ => *sum + *main,
            };
        }
    }
}
