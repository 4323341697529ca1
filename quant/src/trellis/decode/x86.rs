//! Eight rows at a time on AVX2.
//!
//! The table stays in the first cache, where eight loads and seven insertions take 6 cycles; a gather of the same eight
//! takes 10 or more, and twice that on processors that were patched against its side channel. Windows are cut from a
//! 64-bit word by shifts, which a rate known to the compiler makes immediate.

use super::BEFORE;
use core::arch::x86_64::*;

/// [`super::portable`], the same bits: values to `out`, or `factor` times the values added to it.
///
/// # Safety
/// The CPU has AVX2. `out` is a multiple of 8 long, `flat` has 4 + `rate`·out.len()/8 + 8 bytes, `window` is 1 to 16 and
/// `table` has 2^`window` entries.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn values(
    flat: &[u8],
    (rate, window): (u8, u8),
    table: &[f32],
    factor: Option<f32>,
    out: &mut [f32],
) {
    macro_rules! with_rate {
        ($($rate:literal)*) => {
            match (rate, factor) {
                // SAFETY: what this function asks for.
                $(($rate, None) => unsafe { run::<$rate, false>(flat, window, table, 0.0, out) },
                // SAFETY: as above.
                ($rate, Some(factor)) => unsafe { run::<$rate, true>(flat, window, table, factor, out) },)*
                // Rates are 1 to 8.
                _ => {}
            }
        };
    }
    with_rate!(1 2 3 4 5 6 7 8);
}

/// As [`values`], for K bits a weight.
///
/// # Safety
/// As [`values`], with K for the rate.
#[target_feature(enable = "avx2")]
unsafe fn run<const K: usize, const ADD: bool>(
    flat: &[u8],
    window: u8,
    table: &[f32],
    factor: f32,
    out: &mut [f32],
) {
    debug_assert!(flat.len() >= BEFORE + K * out.len() / 8 + 8 && table.len() == 1 << window);
    let first = 8 * BEFORE + K - usize::from(window);
    let mask = (1_u64 << window) - 1;
    let (from, shift) = (first / 8, first % 8);
    // One word holds eight windows while 7 + 7·K + 16 ≤ 64; else a second one the last four.
    let (far, far_shift) = ((first + 4 * K) / 8, (first + 4 * K) % 8);
    let factor = _mm256_set1_ps(factor);
    for (block, out) in out.chunks_exact_mut(8).enumerate() {
        // SAFETY: the window of row 8·block + 7 ends before bit 32 + 8·K·(block + 1); so both loads start before byte
        // 4 + K·(block + 1), and eight bytes more are there.
        let word = |at: usize| unsafe { flat.as_ptr().add(at + block * K).cast::<u64>().read_unaligned() };
        let low = word(from) >> shift;
        let high = if K <= 5 { low >> (4 * K) } else { word(far) >> far_shift };
        // SAFETY: masked, below 2^window, the entries of the table.
        let value = |word: u64, row: usize| unsafe {
            #[expect(clippy::cast_possible_truncation, reason = "masked to 16 bits")]
            let state = (word >> (row * K) & mask) as usize;
            *table.as_ptr().add(state)
        };
        let [a, b, c, d] = [0, 1, 2, 3].map(|row| value(low, row));
        let [e, f, g, h] = [0, 1, 2, 3].map(|row| value(high, row));
        let values = _mm256_setr_ps(a, b, c, d, e, f, g, h);
        // SAFETY: `out` has eight entries.
        unsafe {
            let sum = if ADD {
                _mm256_add_ps(_mm256_loadu_ps(out.as_ptr()), _mm256_mul_ps(factor, values))
            } else {
                values
            };
            _mm256_storeu_ps(out.as_mut_ptr(), sum);
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
