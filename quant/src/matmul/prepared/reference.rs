//! The formula from the stored codes, one output at a time: what every path is held to, to the bit.

use super::layout::{Kind, Plan, Shift};
use super::{Prepared, ScaleOf};
use crate::{Code, Layout, Quantized, ZeroPoint, pack};
use alloc::{vec, vec::Vec};

/// A whole number.
#[expect(clippy::cast_possible_truncation, reason = "whole and small")]
fn whole(x: f32) -> i64 {
    x as i64
}

/// Whole numbers and scales of a token.
pub(super) fn inputs(plan: &Plan, x: &[f32], scale_of: ScaleOf) -> (Vec<i64>, Vec<f32>) {
    let top = |x: &[f32]| x.iter().fold(0.0_f32, |top, x| top.max(x.abs()));
    let (mut q, mut scales) = (Vec::new(), Vec::new());
    for group in x.chunks(plan.group) {
        let m = if scale_of == ScaleOf::Token { top(x) } else { top(group) };
        let (scale, inverse) = if m < 2.0_f32.powi(-100) { (0.0, 0.0) } else { (m / 127.0, 127.0 / m) };
        scales.push(scale);
        q.extend(group.iter().map(|x| whole((x * inverse).round_ties_even())));
    }
    (q, scales)
}

/// `Y`, row-major `[tokens, out]`, of `start` everywhere plus the products.
pub(super) fn product(
    weight: &Quantized,
    prepared: &Prepared,
    x: &[f32],
    scale_of: ScaleOf,
    start: f32,
) -> Vec<f32> {
    let plan = prepared.plan();
    let ((out, features), scheme) = (weight.shape(), weight.scheme());
    let mut y = Vec::new();
    for x in x.chunks_exact(features.max(1)) {
        let (q, scales) = inputs(plan, x, scale_of);
        for row in 0..out {
            let mut codes = vec![0; features];
            let mut main = 0.0_f32;
            match scheme.layout {
                Layout::Planar => pack::unpack(weight.row_codes(row), scheme.code.bits(), &mut codes),
                Layout::Block(block) => {
                    let len = weight.grouping().size;
                    for (bytes, codes) in
                        weight.row_codes(row).chunks(block.bytes()).zip(codes.chunks_mut(len))
                    {
                        block.codes(bytes, codes);
                    }
                }
            }
            let middle: i64 = if scheme.code.bits() > 4 { 128 } else { 8 };
            let number = |code: u8| match scheme.code {
                Code::Int { signed: true, .. } => whole(scheme.code.value(code)),
                Code::Int { .. } => i64::from(code) - middle,
                _ if plan.kind == Kind::Table => plan.values[usize::from(code)].into(),
                _ => whole(scheme.code.value(code) / plan.factor),
            };
            for (group, numbers) in q.chunks(plan.group).enumerate() {
                let first = group * plan.group;
                let terms = numbers.iter().zip(&codes[first..]).map(|(q, code)| q * number(*code));
                let dot: i64 = terms.sum();
                let (scale, zero) = match scheme.layout {
                    Layout::Planar => {
                        let group = first / weight.grouping().size;
                        (weight.scale(row, group), weight.zero_point(row, group))
                    }
                    Layout::Block(block) => {
                        let len = weight.grouping().size;
                        let bytes = &weight.row_codes(row)[first / len * block.bytes()..];
                        block.run(&bytes[..block.bytes()], first % len / block.run_len())
                    }
                };
                let by = scale * plan.factor;
                let by = if scale_of == ScaleOf::Token { by } else { by * scales[group] };
                main = (dot as f32).mul_add(by, main);
                let shifted = match scheme.zero {
                    ZeroPoint::None => continue,
                    ZeroPoint::Min => scale * middle as f32 + zero,
                    _ => scale * (middle as f32 - zero),
                };
                let sum = numbers.iter().sum::<i64>() as f32;
                let sum = if scale_of == ScaleOf::Token { sum } else { scales[group] * sum };
                main = shifted.mul_add(sum, main);
            }
            y.push(match scale_of {
                ScaleOf::Token if features > 0 => main.mul_add(scales[0], start),
                _ => start + main,
            });
        }
    }
    assert!(plan.shift != Shift::None || scheme.zero == ZeroPoint::None);
    y
}
