//! The kernel for any machine.

use super::inputs::Inputs;
use super::layout::{LINE, Line, Plan, ROWS, STEPS, WINDOW};

/// The sums of one tile and the tokens `first ..`, as many as there are sums: `sums[t][row]`.
pub(super) fn tile(plan: &Plan, tile: &[Line], inputs: &Inputs, first: usize, sums: &mut [[f32; ROWS]]) {
    sums.iter_mut().for_each(|sums| sums.fill(0.0));
    let per_block = plan.block_window();
    for group in 0..plan.groups {
        let (scales, zeros) = head(plan, tile, group);
        for block in 0..plan.blocks {
            let lines = &tile[plan.group_line(group) + block * plan.block_lines()..][..plan.block_lines()];
            let mut whole = [[(0_i32, 0_i32); ROWS]; super::FEW];
            for step in 0..STEPS {
                let from = (group * plan.blocks + block) * per_block + step * plan.windows * WINDOW;
                for row in 0..ROWS {
                    let shuffle = plan.shuffle(lines, step, row);
                    for (lane, place) in shuffle.into_iter().enumerate() {
                        let at = from + plan.lane_base(lane).0 * WINDOW + usize::from(place);
                        let code = i32::from(plan.code(lines, (step, row, lane))) - i32::from(plan.centre());
                        for (t, whole) in whole.iter_mut().take(sums.len()).enumerate() {
                            let x =
                                i32::from(inputs.windows(first + t)[at / LINE].0[at % LINE].cast_signed());
                            whole[row].0 += code * x;
                            whole[row].1 += x;
                        }
                    }
                }
            }
            for (t, (sums, whole)) in sums.iter_mut().zip(&whole).enumerate() {
                let scale = inputs.scales(first + t)[group];
                for (row, (sum, (dot, plain))) in sums.iter_mut().zip(whole).enumerate() {
                    // Both are below 2²⁴.
                    let mut value = *dot as f32;
                    if plan.zeros {
                        value += zeros[row] * *plain as f32;
                    }
                    *sum += value * (scales[row] * scale);
                }
            }
        }
    }
}

/// Scales of a group, and what the centre of its codes exceeds its zero points by.
pub(super) fn head(plan: &Plan, tile: &[Line], group: usize) -> ([f32; ROWS], [f32; ROWS]) {
    let first = group / 2 * (plan.head_lines() + 2 * plan.blocks * plan.block_lines());
    let head = &tile[first..first + plan.head_lines()];
    let odd = group % 2;
    let float = |line: &Line, row: usize| {
        let b = &line.0[4 * row..4 * row + 4];
        f32::from_le_bytes([b[0], b[1], b[2], b[3]])
    };
    let scales = core::array::from_fn(|row| {
        if plan.full_scales {
            return float(&head[odd], row);
        }
        let at = 32 * odd + 2 * row;
        half::f16::from_le_bytes([head[0].0[at], head[0].0[at + 1]]).to_f32()
    });
    let zeros =
        core::array::from_fn(
            |row| {
                if plan.zeros { float(&head[plan.head_lines() - 2 + odd], row) } else { 0.0 }
            },
        );
    (scales, zeros)
}
