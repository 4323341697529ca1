//! The decoding loops in plain Rust.
//!
//! Each takes a run of groups of `size` codes, the last of which may be shorter, one byte a code, and a scale (and
//! zero point) for each of them.

use crate::pack;

/// `(code − zero) · scale`.
pub(super) fn decode_whole(codes: &[u8], size: usize, scales: &[f32], zeros: &[f32], out: &mut [f32]) {
    for (((codes, out), &scale), &zero) in codes.chunks(size).zip(out.chunks_mut(size)).zip(scales).zip(zeros)
    {
        for (value, &code) in out.iter_mut().zip(codes) {
            *value = (f32::from(code) - zero) * scale;
        }
    }
}

/// `table[code] · scale`.
pub(super) fn decode_table(codes: &[u8], size: usize, table: &[f32; 256], scales: &[f32], out: &mut [f32]) {
    for ((codes, out), &scale) in codes.chunks(size).zip(out.chunks_mut(size)).zip(scales) {
        for (value, &code) in out.iter_mut().zip(codes) {
            *value = table[usize::from(code)] * scale;
        }
    }
}

/// Numbers of `bits` bits, one byte each.
pub(super) fn unpack(packed: &[u8], bits: usize, codes: &mut [u8]) {
    pack::unpack(packed, bits, codes);
}
