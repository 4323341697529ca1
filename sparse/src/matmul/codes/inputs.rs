//! The inputs of a product with codes: 8-bit numbers in the order in which the kernels shuffle them.

use super::layout::{BLOCK, Coding, LANES, LINE, Line, Plan, STEPS, WINDOW};
use crate::Error;
use alloc::{vec, vec::Vec};
use rankbit_linalg::faer::MatRef;

/// Quantized inputs of some tokens.
pub(super) struct Inputs {
    windows: Vec<Line>,
    /// Lines of a token's windows.
    stride: usize,
    scales: Vec<f32>,
    groups: usize,
    /// Where every entry is kept: for every token and block the sums of its inputs in columns 0 and 1, and 2 and 3, of 4.
    plains: Vec<[i16; 2]>,
    blocks: usize,
}

impl Inputs {
    /// Quantizes `x`, `[tokens, in]`; `order` is [`order`] of the plan.
    pub(super) fn new(plan: &Plan, order: &[u32], x: MatRef<'_, f32>) -> Result<Self, Error> {
        let tokens = x.nrows();
        let stride = plan.groups * plan.blocks * plan.block_window() / LINE;
        let what = Error::TooLarge { what: "inputs" };
        let lines = tokens.checked_mul(stride).ok_or(what.clone())?;
        let scales = tokens.checked_mul(plan.groups).ok_or(what)?;
        let mut inputs = Self {
            windows: vec![Line([0; 64]); lines],
            stride,
            scales: vec![0.0; scales],
            groups: plan.groups,
            plains: Vec::new(),
            blocks: if plan.coding == Coding::All { plan.groups * plan.blocks } else { 0 },
        };
        inputs.plains.reserve_exact(tokens * inputs.blocks);
        let (mut buffer, mut codes) = (Vec::new(), vec![0; plan.cols]);
        for t in 0..tokens {
            let row = rankbit_quant::rows::row(x, t, &mut buffer);
            if let Some(col) = row.iter().position(|x| !x.is_finite()) {
                return Err(Error::NonFinite { what: "activations", row: t, col });
            }
            let token = &mut inputs.windows[t * stride..(t + 1) * stride];
            let blocks = order.chunks_exact(plan.blocks * plan.block_window());
            for (group, (order, windows)) in
                blocks.zip(token.chunks_mut(plan.blocks * plan.block_window() / LINE)).enumerate()
            {
                let columns = columns(plan, group);
                let scale = quantize(&row[columns.clone()], &mut codes[columns]);
                inputs.scales[t * plan.groups + group] = scale;
                for (to, from) in windows.iter_mut().zip(order.chunks_exact(LINE)) {
                    for (to, from) in to.0.iter_mut().zip(from) {
                        *to = codes.get(*from as usize).copied().unwrap_or(0);
                    }
                }
            }
            if plan.coding == Coding::All {
                for block in 0..inputs.blocks {
                    let first = (block * BLOCK).min(plan.cols);
                    let last = (first + BLOCK).min(plan.cols);
                    inputs.plains.push(plain(&codes[first..last]));
                }
            }
        }
        Ok(inputs)
    }

    /// The windows of a token, one after another.
    pub(super) fn windows(&self, token: usize) -> &[Line] {
        &self.windows[token * self.stride..(token + 1) * self.stride]
    }

    /// The sums of a token's inputs, for each block; empty where not every entry is kept.
    pub(super) fn plains(&self, token: usize) -> &[[i16; 2]] {
        &self.plains[token * self.blocks..(token + 1) * self.blocks]
    }

    /// The scales of a token, one for each scale group of the weight.
    pub(super) fn scales(&self, token: usize) -> &[f32] {
        &self.scales[token * self.groups..(token + 1) * self.groups]
    }
}

/// The sums of columns 0 and 1, and of 2 and 3, of every four; at most 64 of them.
fn plain(codes: &[u8]) -> [i16; 2] {
    let mut sums = [0; 2];
    for (column, code) in codes.iter().enumerate() {
        sums[column / 2 % 2] += i16::from(code.cast_signed());
    }
    sums
}

/// The columns that a scale group meets.
fn columns(plan: &Plan, group: usize) -> core::ops::Range<usize> {
    let slots = plan.blocks * BLOCK;
    let (first, last) = (group * slots, ((group + 1) * slots).min(plan.slots));
    if plan.coding == Coding::All {
        return first..last;
    }
    let (keep, of) = (plan.pattern.keep(), plan.pattern.of());
    (first / keep * of).min(plan.cols)..(last.div_ceil(keep) * of).min(plan.cols)
}

/// The column of every byte of the windows; past the last column where it stays 0.
pub(super) fn order(plan: &Plan) -> Vec<u32> {
    let mut order = Vec::with_capacity(plan.groups * plan.blocks * plan.block_window());
    for step in 0..plan.groups * plan.blocks * STEPS {
        for at in 0..plan.windows * WINDOW {
            let column = plan.column(LANES * step, at).and_then(|column| u32::try_from(column).ok());
            order.push(column.unwrap_or(u32::MAX));
        }
    }
    order
}

/// `x ≈ s·code` with codes of −127 to 127 as two's complement; the scale.
fn quantize(x: &[f32], codes: &mut [u8]) -> f32 {
    let largest = x.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
    let scale = largest / 127.0;
    // Below this the reciprocal of the scale is no number.
    if scale < 1e-37 {
        codes.fill(0);
        return 0.0;
    }
    let factor = 127.0 / largest;
    for (code, x) in codes.iter_mut().zip(x) {
        // 1.5·2²³ moves the whole number to the lowest bits of the significand, rounded to nearest even.
        let [low, ..] = (x * factor + 12_582_912.0).to_bits().to_le_bytes();
        *code = low;
    }
    scale
}
