//! Panels on AVX-512: one vector is a column of 16 rows.

use super::super::avx512::floats;
use super::super::layout::{Kind, Line, Plan, Shift};
use super::{Column, chain};
use core::arch::x86_64::{
    __m512i, _mm512_add_ps, _mm512_and_si512, _mm512_cvtepi32_ps, _mm512_fmadd_ps, _mm512_loadu_ps,
    _mm512_loadu_si512, _mm512_mul_ps, _mm512_permutexvar_ps, _mm512_set1_epi32, _mm512_set1_ps,
    _mm512_setzero_ps, _mm512_srli_epi32, _mm512_storeu_ps, _mm512_sub_ps,
};

/// [`super::fill`]: lines `lines` of group `group` as columns.
///
/// # Safety
/// The processor has AVX-512 F, `tile` has the plan's lines, `panel` has room for the columns of all lines.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn fill(
    plan: &Plan,
    tile: &[Line],
    (group, lines): (usize, core::ops::Range<usize>),
    table: &[f32; 16],
    panel: &mut [Column],
) {
    let first = plan.group_line(group);
    let head = tile[plan.head_line(group)..].as_ptr();
    // SAFETY: a head has the lines of scales, then those of shifts where there are any; a table has sixteen floats.
    let (scales, shifts, table) = unsafe {
        let shifts = match plan.shift {
            Shift::None => _mm512_setzero_ps(),
            Shift::Zero | Shift::Min => floats(plan.head, head.add(plan.scale_lines()), group % 2),
        };
        (floats(plan.head, head, group % 2), shifts, _mm512_loadu_ps(table.as_ptr()))
    };
    let scales = _mm512_mul_ps(scales, _mm512_set1_ps(super::unit(plan)));
    let centre = _mm512_set1_ps(if plan.shift == Shift::None { plan.centre() } else { 0.0 });
    let mut columns = panel.iter_mut();
    for line in &tile[first + lines.start..first + lines.end] {
        // SAFETY: a line is 64 bytes.
        let line = unsafe { _mm512_loadu_si512(line.0.as_ptr().cast()) };
        macro_rules! store {
            ($number:expr) => {
                if let Some(column) = columns.next() {
                    let number = $number;
                    let value = match plan.shift {
                        Shift::None => _mm512_mul_ps(number, scales),
                        Shift::Zero => _mm512_mul_ps(_mm512_sub_ps(number, shifts), scales),
                        Shift::Min => _mm512_fmadd_ps(number, scales, shifts),
                    };
                    // SAFETY: a column is sixteen floats.
                    unsafe { _mm512_storeu_ps(column.as_mut_ptr(), value) };
                }
            };
        }
        // The low four bits choose.
        macro_rules! nibble {
            ($shift:literal) => {
                store!(_mm512_permutexvar_ps(_mm512_srli_epi32::<$shift>(line), table))
            };
        }
        macro_rules! byte {
            ($shift:literal) => {
                store!(_mm512_sub_ps(_mm512_cvtepi32_ps(low(_mm512_srli_epi32::<$shift>(line))), centre))
            };
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

#[target_feature(enable = "avx512f")]
fn low(x: __m512i) -> __m512i {
    _mm512_and_si512(x, _mm512_set1_epi32(255))
}

/// [`super::add`] for `T` tokens.
///
/// # Safety
/// The processor has AVX-512 F; there are `T` sums; `x` points to `panel.len()` runs of `T` floats, `stride` apart.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn add<const T: usize>(
    panel: &[Column],
    x: *const f32,
    stride: usize,
    sums: &mut [Column],
) {
    let mut acc = [[_mm512_setzero_ps(); T]; 4];
    for (t, sums) in sums.iter().enumerate().take(T) {
        // SAFETY: sixteen floats.
        acc[0][t] = unsafe { _mm512_loadu_ps(sums.as_ptr()) };
    }
    let mut x = x;
    let (fours, rest) = panel.as_chunks::<4>();
    macro_rules! column {
        ($column:expr, $chain:expr) => {{
            // SAFETY: a column is sixteen floats, and there are `T` inputs for it.
            unsafe {
                let weights = _mm512_loadu_ps($column.as_ptr());
                for t in 0..T {
                    let inputs = _mm512_set1_ps(*x.add(t));
                    acc[$chain][t] = _mm512_fmadd_ps(weights, inputs, acc[$chain][t]);
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
        let (a, b) = (_mm512_add_ps(acc[0][t], acc[1][t]), _mm512_add_ps(acc[2][t], acc[3][t]));
        // SAFETY: sixteen floats.
        unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), _mm512_add_ps(a, b)) };
    }
}
