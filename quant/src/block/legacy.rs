//! The blocks of 32: plain scales, and the table of IQ4_NL.
//!
//! ```text
//! Q4_0, Q5_0:  v = the entry of the largest magnitude, with its sign;  d = v / -2^(b-1)
//!              q = min(2^b - 1, ⌊w/d + 2^(b-1) + ½⌋): the extreme entry always becomes code 0
//! Q4_1, Q5_1:  d = (max - min) / (2^b - 1),  m = min,  q = ⌊(w - m)/d + ½⌋
//! Q8_0:        d = absmax / 127,  q = round(w/d), halves away from zero
//! IQ4_NL:      d by search for the least Σ w²·(w - d·table[q])², q = nearest table entry of w/d
//! ```
//! Divisions are products with the reciprocal of the unrounded d. 4-bit codes: byte j holds entry j (low half) and
//! entry j + 16 (high half); the fifth bits are bit j of `qh`.

use super::{float_at, inverse, search, store_half};
use crate::code::table::IQ4_NL;

/// Codes of the two halves of the block from its nibbles.
fn nibbles(qs: &[u8]) -> impl Iterator<Item = u8> + '_ {
    qs.iter().map(|byte| byte & 15).chain(qs.iter().map(|byte| byte >> 4))
}

/// Stores code `q` (its lowest four bits) of entry `j`.
fn store_nibble(qs: &mut [u8], j: usize, q: u8) {
    qs[j % 16] |= (q & 15) << (4 * (j / 16));
}

/// The fifth bits, by entry.
fn fifth(qh: &[u8]) -> impl Iterator<Item = u8> + '_ {
    (0..32).map(|j| (qh[j / 8] >> (j % 8) & 1) << 4)
}

/// The first entry of the largest magnitude.
fn extreme(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |top: f32, &v| if v.abs() > top.abs() { v } else { top })
}

/// `x` without its fraction, as a code. Callers stay within 0 ..= 255 or beyond on purpose.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "truncation is the rule of these formats; the cast saturates"
)]
fn truncate(x: f32) -> u8 {
    x as u8
}

/// Codes around a middle: the shared rule of Q4_0 and Q5_0.
fn encode_centred(
    values: &[f32],
    middle: f32,
    block: &mut [u8],
    mut store: impl FnMut(&mut [u8], usize, u8),
) {
    let d = extreme(values) / -middle;
    store_half(block, 0, d);
    let reciprocal = inverse(d);
    let top = truncate(2.0 * middle - 1.0);
    for (j, &value) in values.iter().enumerate() {
        store(block, j, truncate(value * reciprocal + (middle + 0.5)).min(top));
    }
}

/// Codes above a minimum: the shared rule of Q4_1 and Q5_1.
fn encode_above(values: &[f32], top: u8, block: &mut [u8], mut store: impl FnMut(&mut [u8], usize, u8)) {
    let min = values.iter().copied().fold(f32::MAX, f32::min);
    let max = values.iter().copied().fold(f32::MIN, f32::max);
    let d = (max - min) / f32::from(top);
    store_half(block, 0, d);
    store_half(block, 2, min);
    let reciprocal = inverse(d);
    for (j, &value) in values.iter().enumerate() {
        store(block, j, truncate((value - min) * reciprocal + 0.5).min(top));
    }
}

/// Stores a 5-bit code: high bits at `qh`, the rest at `qh + 4`.
fn store_five(block: &mut [u8], qh: usize, j: usize, q: u8) {
    store_nibble(&mut block[qh + 4..], j, q);
    block[qh + j / 8] |= (q >> 4 & 1) << (j % 8);
}

/// Stores all codes of a block: four bits each from byte `qs`, the fifth bits from byte `qh` when there are any.
#[cfg(feature = "solve")]
pub(super) fn store_codes(codes: &[u8], qh: Option<usize>, qs: usize, block: &mut [u8]) {
    block[qh.unwrap_or(qs)..].fill(0);
    for (j, &q) in codes.iter().enumerate() {
        match qh {
            Some(qh) => store_five(block, qh, j, q),
            None => store_nibble(&mut block[qs..], j, q),
        }
    }
}

/// The codes of a block, one a byte: four bits each from byte `qs`, the fifth bits from byte `qh` when there are any.
pub(super) fn codes(qh: Option<usize>, qs: usize, block: &[u8], codes: &mut [u8]) {
    for (code, q) in codes.iter_mut().zip(nibbles(&block[qs..])) {
        *code = q;
    }
    if let Some(qh) = qh {
        for (code, high) in codes.iter_mut().zip(fifth(&block[qh..])) {
            *code |= high;
        }
    }
}

pub(super) fn encode_q4_0(values: &[f32], block: &mut [u8]) {
    encode_centred(values, 8.0, block, |block, j, q| store_nibble(&mut block[2..], j, q));
}

pub(super) fn decode_q4_0(block: &[u8], out: &mut [f32]) {
    let d = float_at(block, 0);
    for (value, q) in out.iter_mut().zip(nibbles(&block[2..])) {
        *value = (f32::from(q) - 8.0) * d;
    }
}

pub(super) fn encode_q4_1(values: &[f32], block: &mut [u8]) {
    encode_above(values, 15, block, |block, j, q| store_nibble(&mut block[4..], j, q));
}

pub(super) fn decode_q4_1(block: &[u8], out: &mut [f32]) {
    let (d, m) = (float_at(block, 0), float_at(block, 2));
    for (value, q) in out.iter_mut().zip(nibbles(&block[4..])) {
        *value = f32::from(q) * d + m;
    }
}

pub(super) fn encode_q5_0(values: &[f32], block: &mut [u8]) {
    encode_centred(values, 16.0, block, |block, j, q| store_five(block, 2, j, q));
}

pub(super) fn decode_q5_0(block: &[u8], out: &mut [f32]) {
    let d = float_at(block, 0);
    for ((value, q), high) in out.iter_mut().zip(nibbles(&block[6..])).zip(fifth(&block[2..6])) {
        *value = (f32::from(q | high) - 16.0) * d;
    }
}

pub(super) fn encode_q5_1(values: &[f32], block: &mut [u8]) {
    encode_above(values, 31, block, |block, j, q| store_five(block, 4, j, q));
}

pub(super) fn decode_q5_1(block: &[u8], out: &mut [f32]) {
    let (d, m) = (float_at(block, 0), float_at(block, 2));
    for ((value, q), high) in out.iter_mut().zip(nibbles(&block[8..])).zip(fifth(&block[4..8])) {
        *value = f32::from(q | high) * d + m;
    }
}

#[expect(clippy::cast_possible_truncation, reason = "whole and within -127 ..= 127; the cast saturates")]
pub(super) fn encode_q8_0(values: &[f32], block: &mut [u8]) {
    let d = extreme(values).abs() / 127.0;
    store_half(block, 0, d);
    let reciprocal = inverse(d);
    for (byte, &value) in block[2..].iter_mut().zip(values) {
        let whole = num_traits::Float::round(value * reciprocal) as i8;
        *byte = whole.to_le_bytes()[0];
    }
}

pub(super) fn decode_q8_0(block: &[u8], out: &mut [f32]) {
    let d = float_at(block, 0);
    for (value, &q) in out.iter_mut().zip(&block[2..]) {
        *value = f32::from(i8::from_le_bytes([q])) * d;
    }
}

pub(super) fn encode_iq4_nl(values: &[f32], block: &mut [u8]) {
    let d = search::table_scale(values);
    store_half(block, 0, d);
    let reciprocal = inverse(d);
    for (j, &value) in values.iter().enumerate() {
        store_nibble(&mut block[2..], j, search::table_index(reciprocal * value));
    }
}

pub(super) fn decode_iq4_nl(block: &[u8], out: &mut [f32]) {
    let d = float_at(block, 0);
    for (value, q) in out.iter_mut().zip(nibbles(&block[2..])) {
        *value = d * IQ4_NL[usize::from(q)];
    }
}
