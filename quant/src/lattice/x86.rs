//! Eight coordinates at a time on AVX2.

use super::{BLOCK, ODD};
use core::arch::x86_64::*;

/// `factor` times the points of the codes in `bytes`.
///
/// # Safety
/// The CPU has AVX2. `bytes` has a code of two bytes for every eight values of `out`, whose length is a multiple of 8.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn values(patterns: &[u64; 256], bytes: &[u8], factor: f32, out: &mut [f32]) {
    debug_assert!(bytes.len() / 2 * BLOCK == out.len());
    // To quarters and times the factor in one rounding, as the portable path has it: the division is exact.
    let quarter = _mm256_set1_ps(0.25);
    let factor = _mm256_set1_ps(factor);
    let bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    for (code, out) in bytes.chunks_exact(2).zip(out.chunks_exact_mut(BLOCK)) {
        let (low, entry) = (u32::from(code[0]), patterns[usize::from(code[1])]);
        let minuses = low & 127;
        let odd = u32::from(entry & ODD != 0);
        let minuses = minuses | (minuses.count_ones() & 1 ^ odd) << 7;
        let shift = 1 - (low >> 7 << 1).cast_signed();
        let magnitudes = _mm256_cvtepi8_epi32(_mm_cvtsi64_si128((entry & !ODD).cast_signed()));
        let is_minus =
            _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(minuses.cast_signed()), bits), bits);
        let signed = _mm256_sub_epi32(_mm256_xor_si256(magnitudes, is_minus), is_minus);
        let quarters = _mm256_cvtepi32_ps(_mm256_add_epi32(signed, _mm256_set1_epi32(shift)));
        let values = _mm256_mul_ps(factor, _mm256_mul_ps(quarters, quarter));
        // SAFETY: `out` has eight entries.
        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), values) };
    }
}
