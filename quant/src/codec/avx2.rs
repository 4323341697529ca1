//! The loops of AVX2: decoding. (Encoding is in `avx2_encode`.)
//!
//! Every step is the correctly rounded operation of the portable loop on eight lanes, so the bits are the same.

use super::portable;
use crate::pack;
use core::arch::x86_64::{
    __m128i, __m256, __m256i, _mm_loadl_epi64, _mm_loadu_si128, _mm256_and_si256, _mm256_blendv_ps,
    _mm256_castsi256_ps, _mm256_cvtepi32_ps, _mm256_cvtepu8_epi16, _mm256_cvtepu8_epi32, _mm256_loadu_ps,
    _mm256_loadu_si256, _mm256_mul_ps, _mm256_or_si256, _mm256_permutevar8x32_ps, _mm256_set1_epi16,
    _mm256_set1_ps, _mm256_slli_epi16, _mm256_slli_epi32, _mm256_storeu_ps, _mm256_storeu_si256,
    _mm256_sub_ps,
};

/// Proof that the processor has AVX2 and F16C. Its methods are the kernels.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// The proof, where it holds.
    #[cfg(feature = "std")]
    pub(crate) fn detect() -> Option<Self> {
        let found = std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("f16c");
        found.then_some(Self(()))
    }

    /// The proof, where the crate is compiled for such processors only.
    #[cfg(not(feature = "std"))]
    pub(crate) fn detect() -> Option<Self> {
        cfg!(all(target_feature = "avx2", target_feature = "f16c")).then_some(Self(()))
    }

    /// [`portable::decode_whole`].
    pub(super) fn decode_whole(
        self,
        codes: &[u8],
        size: usize,
        scales: &[f32],
        zeros: &[f32],
        out: &mut [f32],
    ) {
        // SAFETY: `self` exists only where the processor has AVX2.
        unsafe { decode_whole(codes, size, scales, zeros, out) }
    }

    /// [`portable::decode_table`] for codes below 16.
    pub(super) fn decode_table(
        self,
        codes: &[u8],
        size: usize,
        table: &[f32; 256],
        scales: &[f32],
        out: &mut [f32],
    ) {
        // SAFETY: `self` exists only where the processor has AVX2.
        unsafe { decode_table(codes, size, table, scales, out) }
    }

    /// [`portable::unpack`] of 4 bits.
    pub(super) fn unpack_nibbles(self, packed: &[u8], codes: &mut [u8]) {
        // SAFETY: `self` exists only where the processor has AVX2.
        unsafe { unpack_nibbles(packed, codes) }
    }
}

#[target_feature(enable = "avx2")]
fn decode_whole(codes: &[u8], size: usize, scales: &[f32], zeros: &[f32], out: &mut [f32]) {
    for (((codes, out), scale), zero) in codes.chunks(size).zip(out.chunks_mut(size)).zip(scales).zip(zeros) {
        let (all_scale, all_zero) = (_mm256_set1_ps(*scale), _mm256_set1_ps(*zero));
        let (blocks, rest) = codes.as_chunks::<8>();
        let (out_blocks, out_rest) = out.as_chunks_mut::<8>();
        for (out, codes) in out_blocks.iter_mut().zip(blocks) {
            let whole = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(load_8(codes)));
            store(out, _mm256_mul_ps(_mm256_sub_ps(whole, all_zero), all_scale));
        }
        if !rest.is_empty() {
            portable::decode_whole(rest, rest.len(), &[*scale], &[*zero], out_rest);
        }
    }
}

#[target_feature(enable = "avx2")]
fn decode_table(codes: &[u8], size: usize, table: &[f32; 256], scales: &[f32], out: &mut [f32]) {
    let ([low, high, ..], _) = table.as_chunks::<8>() else { return };
    let (low, high) = (load(low), load(high));
    for ((codes, out), scale) in codes.chunks(size).zip(out.chunks_mut(size)).zip(scales) {
        let all_scale = _mm256_set1_ps(*scale);
        let (blocks, rest) = codes.as_chunks::<8>();
        let (out_blocks, out_rest) = out.as_chunks_mut::<8>();
        for (out, codes) in out_blocks.iter_mut().zip(blocks) {
            let codes = _mm256_cvtepu8_epi32(load_8(codes));
            // The lowest three bits choose within a half of the table, the fourth, as a sign, between the halves.
            let upper = _mm256_castsi256_ps(_mm256_slli_epi32::<28>(codes));
            let in_low = _mm256_permutevar8x32_ps(low, codes);
            let in_high = _mm256_permutevar8x32_ps(high, codes);
            store(out, _mm256_mul_ps(_mm256_blendv_ps(in_low, in_high, upper), all_scale));
        }
        if !rest.is_empty() {
            portable::decode_table(rest, rest.len(), table, &[*scale], out_rest);
        }
    }
}

#[target_feature(enable = "avx2")]
fn unpack_nibbles(packed: &[u8], codes: &mut [u8]) {
    let nibble = _mm256_set1_epi16(0x0F0F);
    let (blocks, rest) = codes.as_chunks_mut::<32>();
    let (bytes, _) = packed.as_chunks::<16>();
    let done = blocks.len().min(bytes.len());
    for (codes, bytes) in blocks.iter_mut().zip(bytes) {
        // One byte in each lane of 16 bits: its low half stays, its high half moves up to the lane's second byte.
        let lanes = _mm256_cvtepu8_epi16(load_16(bytes));
        store_bytes(codes, _mm256_and_si256(_mm256_or_si256(lanes, _mm256_slli_epi16::<4>(lanes)), nibble));
    }
    pack::unpack(&packed[16 * done..], 4, rest);
}

/// Eight floats.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn load(values: &[f32; 8]) -> __m256 {
    // SAFETY: the reference is to 32 readable bytes; any alignment is allowed.
    unsafe { _mm256_loadu_ps(values.as_ptr()) }
}

/// Eight floats.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn store(out: &mut [f32; 8], values: __m256) {
    // SAFETY: the reference is to 32 writable bytes; any alignment is allowed.
    unsafe { _mm256_storeu_ps(out.as_mut_ptr(), values) }
}

/// Eight bytes, in the lower half.
#[inline]
#[target_feature(enable = "avx2")]
fn load_8(bytes: &[u8; 8]) -> __m128i {
    // SAFETY: the reference is to 8 readable bytes, which is what this reads; any alignment is allowed.
    unsafe { _mm_loadl_epi64(bytes.as_ptr().cast()) }
}

/// Sixteen bytes.
#[inline]
#[target_feature(enable = "avx2")]
fn load_16(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: the reference is to 16 readable bytes; any alignment is allowed.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

/// 32 bytes.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load_bytes(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: the reference is to 32 readable bytes; any alignment is allowed.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// 32 bytes.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn store_bytes(out: &mut [u8; 32], bytes: __m256i) {
    // SAFETY: the reference is to 32 writable bytes; any alignment is allowed.
    unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), bytes) }
}
