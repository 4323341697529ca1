//! The blocks of 256: groups of 16 or 32 whose scales are themselves few bits, under one or two f16.
//!
//! ```text
//! Q2_K, Q4_K, Q5_K:  w = d·s_g·q - dmin·m_g     s_g, m_g of 4 or 6 bits, q ≥ 0
//! Q3_K, Q6_K:        w = d·s_g·q                s_g of 6 or 8 bits with a sign, q centred
//! ```
//! Encoding: (1) each group's scale (and minimum) by [`search`]; (2) these to few bits under the largest of them,
//! whose quotient is d (dmin) as f16; (3) codes once more, nearest under what is stored. A group whose stored scale
//! is 0 keeps the codes of step 1.

use super::search::{self, Affine};
use super::{float_at, nearest, store_half};

/// Entries of a block.
const LEN: usize = 256;

/// Step 1 and 2 of the formats with minima: scales, minima and codes.
struct Grouped<const GROUPS: usize> {
    scales: [f32; GROUPS],
    minima: [f32; GROUPS],
    codes: [u8; LEN],
}

impl<const GROUPS: usize> Grouped<GROUPS> {
    fn search(values: &[f32], rule: &Affine, weigh: impl Fn(&[f32], &mut [f32])) -> Self {
        let mut found = Self { scales: [0.0; GROUPS], minima: [0.0; GROUPS], codes: [0; LEN] };
        let size = LEN / GROUPS;
        let mut weights = [0.0; 32];
        let weights = &mut weights[..size];
        for (g, (group, codes)) in values.chunks(size).zip(found.codes.chunks_mut(size)).enumerate() {
            weigh(group, weights);
            (found.scales[g], found.minima[g]) = rule.search(group, weights, codes);
        }
        found
    }

    /// Step 3: codes under scale and minimum of each group as stored.
    fn recode(&mut self, values: &[f32], top: i8, stored: impl Fn(usize) -> (f32, f32)) {
        let size = LEN / GROUPS;
        for (g, (group, codes)) in values.chunks(size).zip(self.codes.chunks_mut(size)).enumerate() {
            let (d, minimum) = stored(g);
            if d == 0.0 {
                continue;
            }
            for (code, &x) in codes.iter_mut().zip(group) {
                *code = nearest((x + minimum) / d, 0, top).to_le_bytes()[0];
            }
        }
    }
}

/// The largest, 0 when none is positive.
fn largest(values: &[f32]) -> f32 {
    values.iter().copied().fold(0.0, f32::max)
}

/// The first one of the largest magnitude, with its sign.
fn extreme(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |top: f32, &v| if v.abs() > top.abs() { v } else { top })
}

/// Each of `values` as a whole number `0 ..= top` under the largest, and that unit.
fn whole<const N: usize>(values: &[f32; N], top: i8) -> ([u8; N], f32) {
    let max = largest(values);
    let inverse = if max > 0.0 { f32::from(top) / max } else { 0.0 };
    (values.map(|value| nearest(inverse * value, 0, top).to_le_bytes()[0]), max / f32::from(top))
}

/// Weights of Q4_K and Q5_K: root mean square plus magnitude.
fn by_rms(group: &[f32], weights: &mut [f32]) {
    let mut sum = 0.0;
    for &x in group {
        sum += x * x;
    }
    let rms = num_traits::Float::sqrt(sum / group.len() as f32);
    for (weight, &x) in weights.iter_mut().zip(group) {
        *weight = rms + x.abs();
    }
}

// Q2_K: 16 groups of 16. Byte g of the first 16: scale low, minimum high. Codes as in `crumbs`.

/// Two bits per entry: of each half of 128 entries, byte l holds entries l, l + 32, l + 64, l + 96 from its low bits.
fn store_crumb(qs: &mut [u8], j: usize, q: u8) {
    qs[j / 128 * 32 + j % 32] |= (q & 3) << (2 * (j % 128 / 32));
}

fn crumb(qs: &[u8], j: usize) -> u8 {
    qs[j / 128 * 32 + j % 32] >> (2 * (j % 128 / 32)) & 3
}

pub(super) fn encode_q2(values: &[f32], block: &mut [u8]) {
    let rule = Affine { top: 3, start: -0.5, step: 0.1, steps: 15, absolute: true };
    let mut groups = Grouped::<16>::search(values, &rule, |group, weights| {
        for (weight, &x) in weights.iter_mut().zip(group) {
            *weight = x.abs();
        }
    });
    let (scales, d) = whole(&groups.scales, 15);
    let (minima, dmin) = whole(&groups.minima, 15);
    let (d, dmin) = (store_half(block, 80, d), store_half(block, 82, dmin));
    for (byte, (s, m)) in block.iter_mut().zip(scales.into_iter().zip(minima)) {
        *byte = s | m << 4;
    }
    groups.recode(values, 3, |g| (d * f32::from(scales[g]), dmin * f32::from(minima[g])));
    store_q2(&groups.codes, block);
}

pub(super) fn store_q2(codes: &[u8], block: &mut [u8]) {
    block[16..80].fill(0);
    for (j, &q) in codes.iter().enumerate() {
        store_crumb(&mut block[16..80], j, q);
    }
}

/// Scale and minimum of a run, as [`decode_q2`] multiplies them.
pub(super) fn run_q2(block: &[u8], run: usize) -> (f32, f32) {
    let (d, dmin) = (float_at(block, 80), float_at(block, 82));
    let (s, m) = (block[run] & 15, block[run] >> 4);
    (d * f32::from(s), -(dmin * f32::from(m)))
}

pub(super) fn codes_q2(block: &[u8], codes: &mut [u8]) {
    codes.iter_mut().enumerate().for_each(|(j, code)| *code = crumb(&block[16..80], j));
}

pub(super) fn decode_q2(block: &[u8], out: &mut [f32]) {
    let (d, dmin) = (float_at(block, 80), float_at(block, 82));
    for (j, value) in out.iter_mut().enumerate() {
        let (s, m) = (block[j / 16] & 15, block[j / 16] >> 4);
        *value = d * f32::from(s) * f32::from(crumb(&block[16..80], j)) - dmin * f32::from(m);
    }
}

// Q3_K: 16 groups of 16. Bit j / 32 of byte j % 32 of `qh` is the code's third bit; scales as in `six_bits`.

/// Scale g of Q3_K, shifted by 32: four bits in a nibble of the first eight bytes, two in the last four.
fn six_bits(scales: &[u8], g: usize) -> u8 {
    (scales[g % 8] >> (4 * (g / 8)) & 15) | (scales[8 + g % 4] >> (2 * (g / 4)) & 3) << 4
}

pub(super) fn encode_q3(values: &[f32], block: &mut [u8]) {
    let mut codes = [0; LEN];
    let mut scales = [0.0; 16];
    for ((group, codes), scale) in values.chunks(16).zip(codes.chunks_mut(16)).zip(&mut scales) {
        *scale = search::coordinate_scale(group, 4, codes);
    }
    let top = extreme(&scales);
    let mut d = 0.0;
    let mut stored = [0_i8; 16];
    if top != 0.0 {
        let inverse = -32.0 / top;
        for (g, (stored, scale)) in stored.iter_mut().zip(scales).enumerate() {
            *stored = nearest(inverse * scale, -32, 31);
            let six = (*stored + 32).to_le_bytes()[0];
            block[96 + g % 8] |= (six & 15) << (4 * (g / 8));
            block[96 + 8 + g % 4] |= (six >> 4) << (2 * (g / 4));
        }
        d = store_half(block, 108, 1.0 / inverse);
    } else {
        stored = [-32; 16];
    }
    for ((group, codes), stored) in values.chunks(16).zip(codes.chunks_mut(16)).zip(stored) {
        recode_centred(group, d * f32::from(stored), 4, codes);
    }
    store_q3(&codes, block);
}

pub(super) fn store_q3(codes: &[u8], block: &mut [u8]) {
    block[..96].fill(0);
    for (j, &q) in codes.iter().enumerate() {
        block[j % 32] |= (q >> 2) << (j / 32);
        store_crumb(&mut block[32..96], j, q);
    }
}

pub(super) fn run_q3(block: &[u8], run: usize) -> (f32, f32) {
    (float_at(block, 108) * (f32::from(six_bits(&block[96..108], run)) - 32.0), 0.0)
}

/// Step 3 of the formats without minima: codes `-half ..= half - 1`, shifted by `half`.
fn recode_centred(group: &[f32], d: f32, half: i8, codes: &mut [u8]) {
    if d == 0.0 {
        return;
    }
    for (code, &x) in codes.iter_mut().zip(group) {
        *code = nearest(x / d, -half, half - 1).wrapping_add(half).to_le_bytes()[0];
    }
}

fn code_q3(block: &[u8], j: usize) -> u8 {
    crumb(&block[32..96], j) | (block[j % 32] >> (j / 32) & 1) << 2
}

pub(super) fn codes_q3(block: &[u8], codes: &mut [u8]) {
    codes.iter_mut().enumerate().for_each(|(j, code)| *code = code_q3(block, j));
}

pub(super) fn decode_q3(block: &[u8], out: &mut [f32]) {
    let d = float_at(block, 108);
    for (j, value) in out.iter_mut().enumerate() {
        let scale = f32::from(six_bits(&block[96..108], j / 16)) - 32.0;
        *value = d * scale * (f32::from(code_q3(block, j)) - 4.0);
    }
}

// Q4_K and Q5_K: 8 groups of 32. Groups 2p and 2p + 1 share 32 bytes, low and high halves.

/// Scale and minimum g of six bits each, from twelve bytes: four groups as they are with the high bits of four
/// others on top, whose low bits follow.
fn scale_and_minimum(packed: &[u8], g: usize) -> (u8, u8) {
    if g < 4 {
        (packed[g] & 63, packed[g + 4] & 63)
    } else {
        let low = packed[g + 4];
        (low & 15 | packed[g - 4] >> 6 << 4, low >> 4 | packed[g] >> 6 << 4)
    }
}

fn store_scale_and_minimum(packed: &mut [u8], g: usize, s: u8, m: u8) {
    if g < 4 {
        packed[g] |= s;
        packed[g + 4] |= m;
    } else {
        packed[g + 4] |= s & 15 | (m & 15) << 4;
        packed[g - 4] |= s >> 4 << 6;
        packed[g] |= m >> 4 << 6;
    }
}

/// Scales, minima and codes of Q4_K and Q5_K.
fn encode_eight(values: &[f32], rule: &Affine, block: &mut [u8]) -> [u8; LEN] {
    let mut groups = Grouped::<8>::search(values, rule, by_rms);
    let (scales, d) = whole(&groups.scales, 63);
    let (minima, dmin) = whole(&groups.minima, 63);
    let (d, dmin) = (store_half(block, 0, d), store_half(block, 2, dmin));
    for (g, (s, m)) in scales.into_iter().zip(minima).enumerate() {
        store_scale_and_minimum(&mut block[4..16], g, s, m);
    }
    groups.recode(values, rule.top, |g| (d * f32::from(scales[g]), dmin * f32::from(minima[g])));
    groups.codes
}

/// Scale and minimum of a run, as [`decode_eight`] multiplies them.
pub(super) fn run_eight(block: &[u8], run: usize) -> (f32, f32) {
    let (d, dmin) = (float_at(block, 0), float_at(block, 2));
    let (s, m) = scale_and_minimum(&block[4..16], run);
    (d * f32::from(s), -(dmin * f32::from(m)))
}

/// Stores the low four bits of entry `j`.
fn store_nibble(qs: &mut [u8], j: usize, q: u8) {
    qs[j / 64 * 32 + j % 32] |= (q & 15) << (4 * (j / 32 % 2));
}

fn decode_eight(block: &[u8], out: &mut [f32], code: impl Fn(usize) -> u8) {
    let (d, dmin) = (float_at(block, 0), float_at(block, 2));
    for (g, out) in out.chunks_mut(32).enumerate() {
        let (s, m) = scale_and_minimum(&block[4..16], g);
        let (d, m) = (d * f32::from(s), dmin * f32::from(m));
        for (l, value) in out.iter_mut().enumerate() {
            *value = d * f32::from(code(32 * g + l)) - m;
        }
    }
}

fn nibble(qs: &[u8], j: usize) -> u8 {
    qs[j / 64 * 32 + j % 32] >> (4 * (j / 32 % 2)) & 15
}

pub(super) fn encode_q4(values: &[f32], block: &mut [u8]) {
    let rule = Affine { top: 15, start: -1.0, step: 0.1, steps: 20, absolute: false };
    let codes = encode_eight(values, &rule, block);
    store_q4(&codes, block);
}

pub(super) fn store_q4(codes: &[u8], block: &mut [u8]) {
    block[16..].fill(0);
    for (j, &q) in codes.iter().enumerate() {
        store_nibble(&mut block[16..], j, q);
    }
}

pub(super) fn codes_q4(block: &[u8], codes: &mut [u8]) {
    codes.iter_mut().enumerate().for_each(|(j, code)| *code = nibble(&block[16..], j));
}

pub(super) fn decode_q4(block: &[u8], out: &mut [f32]) {
    decode_eight(block, out, |j| nibble(&block[16..], j));
}

pub(super) fn encode_q5(values: &[f32], block: &mut [u8]) {
    let rule = Affine { top: 31, start: -0.5, step: 0.1, steps: 15, absolute: false };
    let codes = encode_eight(values, &rule, block);
    store_q5(&codes, block);
}

pub(super) fn store_q5(codes: &[u8], block: &mut [u8]) {
    block[16..].fill(0);
    for (j, &q) in codes.iter().enumerate() {
        block[16 + j % 32] |= (q >> 4) << (j / 32);
        store_nibble(&mut block[48..], j, q);
    }
}

fn code_q5(block: &[u8], j: usize) -> u8 {
    nibble(&block[48..], j) | (block[16 + j % 32] >> (j / 32) & 1) << 4
}

pub(super) fn codes_q5(block: &[u8], codes: &mut [u8]) {
    codes.iter_mut().enumerate().for_each(|(j, code)| *code = code_q5(block, j));
}

pub(super) fn decode_q5(block: &[u8], out: &mut [f32]) {
    decode_eight(block, out, |j| code_q5(block, j));
}

// Q6_K: 16 groups of 16. Of each half of 128 entries: low four bits in 64 bytes (l and l + 64 share a byte), high
// two bits in 32 bytes as crumbs.

fn low_half(ql: &[u8], j: usize) -> u8 {
    ql[j / 128 * 64 + j % 64] >> (4 * (j % 128 / 64)) & 15
}

pub(super) fn encode_q6(values: &[f32], block: &mut [u8]) {
    let mut codes = [0; LEN];
    let mut scales = [0.0; 16];
    for ((group, codes), scale) in values.chunks(16).zip(codes.chunks_mut(16)).zip(&mut scales) {
        *scale = search::signed_scale(group, 32, codes);
    }
    let top = extreme(&scales);
    if top.abs() < search::TINY {
        // All bytes stay zero, as the format has it.
        return;
    }
    let inverse = -128.0 / top;
    let d = store_half(block, 208, 1.0 / inverse);
    for (g, ((group, codes), scale)) in values.chunks(16).zip(codes.chunks_mut(16)).zip(scales).enumerate() {
        let stored = nearest(inverse * scale, -128, 127);
        block[192 + g] = stored.to_le_bytes()[0];
        recode_centred(group, d * f32::from(stored), 32, codes);
    }
    store_q6(&codes, block);
}

pub(super) fn store_q6(codes: &[u8], block: &mut [u8]) {
    block[..192].fill(0);
    for (j, &q) in codes.iter().enumerate() {
        block[j / 128 * 64 + j % 64] |= (q & 15) << (4 * (j % 128 / 64));
        store_crumb(&mut block[128..192], j, q >> 4);
    }
}

pub(super) fn run_q6(block: &[u8], run: usize) -> (f32, f32) {
    (float_at(block, 208) * f32::from(i8::from_le_bytes([block[192 + run]])), 0.0)
}

fn code_q6(block: &[u8], j: usize) -> u8 {
    low_half(&block[..128], j) | crumb(&block[128..192], j) << 4
}

pub(super) fn codes_q6(block: &[u8], codes: &mut [u8]) {
    codes.iter_mut().enumerate().for_each(|(j, code)| *code = code_q6(block, j));
}

pub(super) fn decode_q6(block: &[u8], out: &mut [f32]) {
    let d = float_at(block, 208);
    for (j, value) in out.iter_mut().enumerate() {
        let scale = f32::from(i8::from_le_bytes([block[192 + j / 16]]));
        *value = d * scale * (f32::from(code_q6(block, j)) - 32.0);
    }
}
