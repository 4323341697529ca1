//! A step on AVX2 and AVX-512: consecutive groups in the lanes.
//!
//! Lane g needs `M(s >> k)` of `s = g + j·2^(L−k)`: over the lanes of a vector that is a run of 16/2^k (8/2^k) costs,
//! each repeated 2^k times: one load and one permutation, or a broadcast once 2^k is the number of lanes.

use super::Sample;
use core::arch::x86_64::*;

/// Groups that AVX-512 takes at a time.
pub(super) const LANES_512: usize = 16;
/// Groups that AVX2 takes at a time.
pub(super) const LANES_256: usize = 8;

/// [`super::portable::step`], the same bits.
///
/// # Safety
/// The CPU has AVX-512 F. `back` has a power of two of at least 16 groups G; `table` has 2^`rate`·G entries, `next`
/// at least G, and `costs` at least G + 16.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn step_512(
    table: &[f32],
    rate: u32,
    sample: Sample,
    costs: &[f32],
    next: &mut [f32],
    back: &mut [u8],
) {
    let groups = back.len();
    debug_assert!(groups >= LANES_512 && table.len() == groups << rate);
    debug_assert!(costs.len() >= groups + LANES_512 && next.len() >= groups);
    let (value, weight) = (_mm512_set1_ps(sample.value), _mm512_set1_ps(sample.weight));
    let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    let spread = _mm512_srlv_epi32(lanes, _mm512_set1_epi32(rate.cast_signed()));
    let one = _mm512_set1_epi32(1);
    for group in (0..groups).step_by(LANES_512) {
        let mut best = _mm512_set1_ps(f32::INFINITY);
        let (mut arg, mut j) = (_mm512_setzero_si512(), _mm512_setzero_si512());
        for state in (group..table.len()).step_by(groups) {
            // SAFETY: state + 15 < table.len(), for both are multiples of 16; (state >> rate) + 15 < G + 16.
            let (entry, past) = unsafe {
                let from = costs.as_ptr().add(state >> rate);
                let past = if rate >= 4 { _mm512_set1_ps(*from) } else { _mm512_loadu_ps(from) };
                (_mm512_loadu_ps(table.as_ptr().add(state)), past)
            };
            let past = if rate >= 4 { past } else { _mm512_permutexvar_ps(spread, past) };
            let error = _mm512_sub_ps(value, entry);
            let cost = _mm512_add_ps(past, _mm512_mul_ps(_mm512_mul_ps(error, error), weight));
            let less = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(cost, best);
            best = _mm512_mask_mov_ps(best, less, cost);
            arg = _mm512_mask_mov_epi32(arg, less, j);
            j = _mm512_add_epi32(j, one);
        }
        // SAFETY: group + 15 < G, for both are multiples of 16.
        unsafe {
            _mm512_storeu_ps(next.as_mut_ptr().add(group), best);
            _mm_storeu_si128(back.as_mut_ptr().add(group).cast(), _mm512_cvtepi32_epi8(arg));
        }
    }
}

/// [`super::portable::step`], the same bits.
///
/// # Safety
/// The CPU has AVX2. `back` has a power of two of at least 8 groups G; `table` has 2^`rate`·G entries, `next` at
/// least G, and `costs` at least G + 8.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn step_256(
    table: &[f32],
    rate: u32,
    sample: Sample,
    costs: &[f32],
    next: &mut [f32],
    back: &mut [u8],
) {
    let groups = back.len();
    debug_assert!(groups >= LANES_256 && table.len() == groups << rate);
    debug_assert!(costs.len() >= groups + LANES_256 && next.len() >= groups);
    let (value, weight) = (_mm256_set1_ps(sample.value), _mm256_set1_ps(sample.weight));
    let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    let spread = _mm256_srlv_epi32(lanes, _mm256_set1_epi32(rate.cast_signed()));
    let one = _mm256_set1_epi32(1);
    for group in (0..groups).step_by(LANES_256) {
        let mut best = _mm256_set1_ps(f32::INFINITY);
        let (mut arg, mut j) = (_mm256_setzero_si256(), _mm256_setzero_si256());
        for state in (group..table.len()).step_by(groups) {
            // SAFETY: state + 7 < table.len(), for both are multiples of 8; (state >> rate) + 7 < G + 8.
            let (entry, past) = unsafe {
                let from = costs.as_ptr().add(state >> rate);
                let past = if rate >= 3 { _mm256_set1_ps(*from) } else { _mm256_loadu_ps(from) };
                (_mm256_loadu_ps(table.as_ptr().add(state)), past)
            };
            let past = if rate >= 3 { past } else { _mm256_permutevar8x32_ps(past, spread) };
            let error = _mm256_sub_ps(value, entry);
            let cost = _mm256_add_ps(past, _mm256_mul_ps(_mm256_mul_ps(error, error), weight));
            let less = _mm256_cmp_ps::<_CMP_LT_OQ>(cost, best);
            best = _mm256_blendv_ps(best, cost, less);
            arg = _mm256_blendv_epi8(arg, j, _mm256_castps_si256(less));
            j = _mm256_add_epi32(j, one);
        }
        let halves = _mm_packs_epi32(_mm256_castsi256_si128(arg), _mm256_extracti128_si256::<1>(arg));
        // SAFETY: group + 7 < G, for both are multiples of 8; the last store writes 8 bytes.
        unsafe {
            _mm256_storeu_ps(next.as_mut_ptr().add(group), best);
            _mm_storel_epi64(back.as_mut_ptr().add(group).cast(), _mm_packus_epi16(halves, halves));
        }
    }
}
