//! Panels on AVX2: two vectors are a column of 16 rows.

use super::super::avx2::floats;
use super::super::layout::{Kind, Line, Plan, Shift};
use super::{Column, chain};
use core::arch::x86_64::{
    __m256i, _mm256_add_ps, _mm256_and_si256, _mm256_blendv_ps, _mm256_castsi256_ps, _mm256_cvtepi32_ps,
    _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_mul_ps, _mm256_permutevar8x32_ps,
    _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_ps, _mm256_slli_epi32, _mm256_srli_epi32,
    _mm256_storeu_ps, _mm256_sub_ps,
};

/// [`super::fill`]: lines `lines` of group `group` as columns.
///
/// # Safety
/// The processor has AVX2, F16C and FMA, `tile` has the plan's lines.
#[target_feature(enable = "avx2,f16c,fma")]
pub(super) unsafe fn fill(
    plan: &Plan,
    tile: &[Line],
    (group, lines): (usize, core::ops::Range<usize>),
    table: &[f32; 16],
    panel: &mut [Column],
) {
    let first = plan.group_line(group);
    let head = tile[plan.head_line(group)..].as_ptr();
    // SAFETY: a table has sixteen floats.
    let table = unsafe { [_mm256_loadu_ps(table.as_ptr()), _mm256_loadu_ps(table.as_ptr().add(8))] };
    let centre = _mm256_set1_ps(if plan.shift == Shift::None { plan.centre() } else { 0.0 });
    for part in 0..2 {
        // SAFETY: a head has the lines of scales, then those of shifts where there are any.
        let (scales, shifts) = unsafe {
            let shifts = match plan.shift {
                Shift::None => _mm256_setzero_ps(),
                Shift::Zero | Shift::Min => floats(plan.head, head.add(plan.scale_lines()), group % 2, part),
            };
            (floats(plan.head, head, group % 2, part), shifts)
        };
        let scales = _mm256_mul_ps(scales, _mm256_set1_ps(super::unit(plan)));
        let mut columns = panel.iter_mut();
        for line in &tile[first + lines.start..first + lines.end] {
            // SAFETY: a line is two times 32 bytes.
            let line = unsafe { _mm256_loadu_si256(line.0.as_ptr().cast::<__m256i>().add(part)) };
            macro_rules! store {
                ($number:expr) => {
                    if let Some(column) = columns.next() {
                        let number = $number;
                        let value = match plan.shift {
                            Shift::None => _mm256_mul_ps(number, scales),
                            Shift::Zero => _mm256_mul_ps(_mm256_sub_ps(number, shifts), scales),
                            Shift::Min => _mm256_fmadd_ps(number, scales, shifts),
                        };
                        // SAFETY: a column is two times eight floats.
                        unsafe { _mm256_storeu_ps(column.as_mut_ptr().add(8 * part), value) };
                    }
                };
            }
            // The low three bits choose in either half, the fourth the half.
            macro_rules! nibble {
                ($shift:literal) => {{
                    let at = _mm256_srli_epi32::<$shift>(line);
                    let halves =
                        [_mm256_permutevar8x32_ps(table[0], at), _mm256_permutevar8x32_ps(table[1], at)];
                    let upper = _mm256_castsi256_ps(_mm256_slli_epi32::<28>(at));
                    store!(_mm256_blendv_ps(halves[0], halves[1], upper))
                }};
            }
            macro_rules! byte {
                ($shift:literal) => {{
                    let code = _mm256_and_si256(_mm256_srli_epi32::<$shift>(line), _mm256_set1_epi32(255));
                    store!(_mm256_sub_ps(_mm256_cvtepi32_ps(code), centre))
                }};
            }
            match plan.kind {
                Kind::Nibbles | Kind::Table => {
                    nibble!(0);
                    nibble!(8);
                    nibble!(16);
                    nibble!(24);
                    nibble!(4);
                    nibble!(12);
                    nibble!(20);
                    nibble!(28);
                }
                Kind::Bytes => {
                    byte!(0);
                    byte!(8);
                    byte!(16);
                    byte!(24);
                }
            }
        }
    }
}

/// [`super::add`] for `T` tokens.
///
/// # Safety
/// The processor has AVX2 and FMA; there are `T` sums; `x` points to `panel.len()` runs of `T` floats, `stride` apart.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn add<const T: usize>(
    panel: &[Column],
    x: *const f32,
    stride: usize,
    sums: &mut [Column],
) {
    let mut acc = [[[_mm256_setzero_ps(); 2]; T]; 4];
    for (t, sums) in sums.iter().enumerate().take(T) {
        // SAFETY: two times eight floats.
        acc[0][t] = unsafe { [_mm256_loadu_ps(sums.as_ptr()), _mm256_loadu_ps(sums.as_ptr().add(8))] };
    }
    let mut x = x;
    let (fours, rest) = panel.as_chunks::<4>();
    macro_rules! column {
        ($column:expr, $chain:expr) => {{
            // SAFETY: a column is two times eight floats, and there are `T` inputs for it.
            unsafe {
                let weights = [_mm256_loadu_ps($column.as_ptr()), _mm256_loadu_ps($column.as_ptr().add(8))];
                for t in 0..T {
                    let inputs = _mm256_set1_ps(*x.add(t));
                    for r in 0..2 {
                        acc[$chain][t][r] = _mm256_fmadd_ps(weights[r], inputs, acc[$chain][t][r]);
                    }
                }
            }
            x = x.wrapping_add(stride);
        }};
    }
    for four in fours {
        column!(four[0], const { chain(T, 0) });
        column!(four[1], const { chain(T, 1) });
        column!(four[2], const { chain(T, 2) });
        column!(four[3], const { chain(T, 3) });
    }
    for column in rest {
        column!(column, 0);
    }
    for (t, sums) in sums.iter_mut().enumerate().take(T) {
        for (r, sums) in sums.as_chunks_mut::<8>().0.iter_mut().enumerate().take(2) {
            let a = _mm256_add_ps(acc[0][t][r], acc[1][t][r]);
            let b = _mm256_add_ps(acc[2][t][r], acc[3][t][r]);
            // SAFETY: eight floats.
            unsafe { _mm256_storeu_ps(sums.as_mut_ptr(), _mm256_add_ps(a, b)) };
        }
    }
}
