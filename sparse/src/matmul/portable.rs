//! The kernels for any machine: plain loops over arrays of 16, which compilers turn into vectors.

use super::prepared::{Line, Plan, ROWS, Sums};
use core::ops::Range;

/// Sixteen rows, few tokens: `sums[t][row]`.
pub(super) fn few(plan: &Plan, tile: &[Line], x: &[f32], stride: usize, sums: &mut [[f32; ROWS]]) {
    sums.iter_mut().for_each(|sums| sums.fill(0.0));
    let mut slot = 0;
    for chunk in tile.chunks(plan.chunk + 1) {
        let Some((indices, values)) = chunk.split_first() else { continue };
        let mut indices = indices.0;
        for values in values {
            let base = plan.bases.get(slot).map_or(0, |base| *base as usize);
            for (sums, x) in sums.iter_mut().zip(x.chunks_exact(stride)) {
                for ((sum, index), value) in sums.iter_mut().zip(&indices).zip(&values.0) {
                    *sum += f32::from_bits(*value) * x[base + (index & plan.mask()) as usize];
                }
            }
            indices.iter_mut().for_each(|index| *index >>= plan.bits);
            slot += 1;
        }
    }
}

/// Sixteen rows, `width` tokens (a multiple of 16), some chunks.
pub(super) fn panel(plan: &Plan, tile: &[Line], chunks: Range<usize>, width: usize, work: Sums<'_>) {
    let Sums { panel, sums } = work;
    for (row, sums) in sums.chunks_exact_mut(width).enumerate() {
        for (part, sums) in sums.chunks_exact_mut(16).enumerate() {
            let mut total: [f32; 16] = core::array::from_fn(|i| sums[i]);
            for chunk in chunks.clone() {
                let first = chunk * (plan.chunk + 1);
                let last = (first + plan.chunk + 1).min(tile.len());
                let mut indices = tile[first].0[row];
                let slots = chunk * plan.chunk..;
                for (line, slot) in tile[first + 1..last].iter().zip(slots) {
                    let column = plan.bases[slot] as usize + (indices & plan.mask()) as usize;
                    indices >>= plan.bits;
                    let value = f32::from_bits(line.0[row]);
                    let x = &panel[column * width + part * 16..][..16];
                    for (total, x) in total.iter_mut().zip(x) {
                        *total += value * x;
                    }
                }
            }
            sums.copy_from_slice(&total);
        }
    }
}
