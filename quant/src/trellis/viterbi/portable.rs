//! A step as its formula; the twin of the vectorized ones.

use super::Sample;

/// One step: `next` and `back` from `costs`; see [`super`].
pub(super) fn step(
    table: &[f32],
    rate: u32,
    sample: Sample,
    costs: &[f32],
    next: &mut [f32],
    back: &mut [u8],
) {
    let groups = back.len();
    for (group, (next, back)) in next.iter_mut().zip(back).enumerate() {
        let (mut best, mut arg) = (f32::INFINITY, 0);
        for (j, state) in (0..=u8::MAX).zip((group..table.len()).step_by(groups)) {
            let error = sample.value - table[state];
            let cost = costs[state >> rate] + error * error * sample.weight;
            if cost < best {
                (best, arg) = (cost, j);
            }
        }
        (*next, *back) = (best, arg);
    }
}
