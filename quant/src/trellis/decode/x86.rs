//! Eight rows at a time on AVX2.

use super::BEFORE;
use core::arch::x86_64::*;

/// [`super::portable`], the same bits.
///
/// # Safety
/// The CPU has AVX2. `out` is a multiple of 8 long, `flat` has 4 + `rate`·out.len()/8 + 8 bytes, `rate` is 1 to 8,
/// `window` 1 to 16 and `table` has 2^`window` entries.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn values(flat: &[u8], rate: u8, window: u8, table: &[f32], out: &mut [f32]) {
    let bits = usize::from(rate);
    debug_assert!(flat.len() >= BEFORE + bits * out.len() / 8 + 8 && table.len() == 1 << window);
    let first = 8 * BEFORE + bits - usize::from(window);
    let mask = _mm256_set1_epi32((1_i32 << window) - 1);
    let apart = |from: usize| {
        let shift = |row: usize| (from % 8 + row * bits) as i64;
        (from / 8, _mm256_setr_epi64x(shift(0), shift(1), shift(2), shift(3)))
    };
    let ((low, low_shifts), (high, high_shifts)) = (apart(first), apart(first + 4 * bits));
    for (block, out) in out.chunks_exact_mut(8).enumerate() {
        let at = block * bits;
        // SAFETY: the window of row 8·block + 7 ends before bit 32 + 8·bits·(block + 1); so both loads start before
        // byte 4 + bits·(block + 1), and eight bytes more are there.
        let (low, high) = unsafe {
            let word = |at: usize| flat.as_ptr().add(at).cast::<i64>().read_unaligned();
            (word(low + at), word(high + at))
        };
        let low = _mm256_srlv_epi64(_mm256_set1_epi64x(low), low_shifts);
        let high = _mm256_srlv_epi64(_mm256_set1_epi64x(high), high_shifts);
        // The low words: rows 0 1 4 5 2 3 6 7; then in order.
        let mixed = _mm256_shuffle_ps::<0b10_00_10_00>(_mm256_castsi256_ps(low), _mm256_castsi256_ps(high));
        let rows = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_castps_si256(mixed));
        // SAFETY: masked indices are below 2^window, the entries of the table; `out` has eight.
        unsafe {
            let values = _mm256_i32gather_ps::<4>(table.as_ptr(), _mm256_and_si256(rows, mask));
            _mm256_storeu_ps(out.as_mut_ptr(), values);
        }
    }
}

/// [`super::add`] with AVX2.
///
/// # Safety
/// The CPU has AVX2.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn add(factor: f32, values: &[f32], sums: &mut [f32]) {
    super::add(factor, values, sums);
}
