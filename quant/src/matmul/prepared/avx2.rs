//! The product of a tile on AVX2: two vectors of 8 rows.
//!
//! ```text
//! chain:      acc_t = (e, o) modulo 2¹⁶        −offset times the sums of the inputs that meet even and odd 16-bit lanes
//!   line:     acc_t += vpmaddubsw(unsigned codes, lane_t)         wrapping additions
//! chain end:  total_t += vpmaddwd(acc_t, 1)                       exact again
//! group end:  main_t = fma(float(total_t), scales·s_gt, main_t)
//! ```
//! **Bounds.** `vpmaddubsw` saturates: two products of codes up to 129 and inputs up to 127 stay below. Additions wrap, so
//! only the centred sum must fit: `n·2·127·c ≤ 32767` for n pairs and values up to c: 16 pairs, a chain of 64 columns, for
//! codes around 8. Values of 8 bits do not fit: the sign goes to the other factor (`vpsignb`), `2·127·128 ≤ 32767`, and
//! every sum of two products goes to 32 bits at once.

use super::activations::Tokens;
use super::layout::{Kind, LINE, Line, Plan, ROWS, STREAMS, Shift};
use crate::FloatFormat;
use core::arch::x86_64::{
    __m256, __m256i, _MM_HINT_T0, _mm_loadu_si128, _mm_prefetch, _mm256_abs_epi8, _mm256_add_epi16,
    _mm256_add_epi32, _mm256_add_ps, _mm256_and_si256, _mm256_broadcastsi128_si256, _mm256_castsi256_ps,
    _mm256_cvtepi32_ps, _mm256_cvtepu16_epi32, _mm256_cvtph_ps, _mm256_fmadd_ps, _mm256_loadu_ps,
    _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_mul_ps, _mm256_set1_epi8,
    _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_ps, _mm256_setzero_si256,
    _mm256_shuffle_epi8, _mm256_sign_epi8, _mm256_slli_epi32, _mm256_srli_epi16, _mm256_storeu_ps,
    _mm256_sub_ps, _mm256_xor_si256,
};

/// Lines that are asked for ahead.
const AHEAD: usize = 4096 / LINE;
/// Tokens done at a time at most: their chains of both vectors fill half of the registers.
const MOST: usize = 4;

/// Codes as they are.
const PLAIN: u8 = 0;
/// A table of small numbers.
const NARROW: u8 = 1;
/// A table of numbers of 8 bits.
const WIDE: u8 = 2;
/// Bytes.
const BYTES: u8 = 3;

/// Proof that the processor has AVX2, F16C and FMA.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Avx2(());

impl Avx2 {
    #[cfg(feature = "std")]
    pub(super) fn detect() -> Option<Self> {
        let found = std::is_x86_feature_detected!("avx2")
            && std::is_x86_feature_detected!("f16c")
            && std::is_x86_feature_detected!("fma");
        found.then_some(Self(()))
    }

    #[cfg(not(feature = "std"))]
    pub(super) fn detect() -> Option<Self> {
        cfg!(all(target_feature = "avx2", target_feature = "f16c", target_feature = "fma"))
            .then_some(Self(()))
    }

    /// [`portable::tile`](super::portable::tile). The tile and the inputs are those of the plan, as
    /// [`Isa::tile`](super::Isa::tile) checks.
    pub(super) fn tile(self, plan: &Plan, tile: &[Line], x: &Tokens<'_>, sums: &mut [[f32; ROWS]]) {
        let mut at = 0;
        while at < sums.len() {
            let (x, sums) = (x.skip(at), &mut sums[at..]);
            // SAFETY: `self` exists only where the processor has the instructions; the lengths were checked before, and
            // each arm has as many tokens as it says.
            at += unsafe {
                match sums.len() {
                    MOST.. => kind::<MOST, 1>(plan, [tile], &x, sums),
                    2.. => kind::<2, 1>(plan, [tile], &x, sums),
                    _ => kind::<1, 1>(plan, [tile], &x, sums),
                }
            };
        }
    }

    /// The same of several tiles with the first token of `x`: one of `sums` for each tile.
    pub(super) fn vector(
        self,
        plan: &Plan,
        tiles: [&[Line]; STREAMS],
        x: &Tokens<'_>,
        sums: &mut [[f32; ROWS]; STREAMS],
    ) {
        // SAFETY: as above, with one token.
        unsafe { kind::<1, STREAMS>(plan, tiles, x, sums) };
    }
}

/// # Safety
/// As [`tokens`].
#[target_feature(enable = "avx2,f16c,fma")]
unsafe fn kind<const T: usize, const R: usize>(
    plan: &Plan,
    tiles: [&[Line]; R],
    x: &Tokens<'_>,
    sums: &mut [[f32; ROWS]],
) -> usize {
    // SAFETY: the caller's promise; only plans of nibbles and of tables of small numbers have chains.
    unsafe {
        match (plan.kind, plan.chain) {
            (Kind::Nibbles, _) => scales::<T, R, PLAIN>(plan, tiles, x, sums),
            (Kind::Table, 0) => scales::<T, R, WIDE>(plan, tiles, x, sums),
            (Kind::Table, _) => scales::<T, R, NARROW>(plan, tiles, x, sums),
            (Kind::Bytes, _) => scales::<T, R, BYTES>(plan, tiles, x, sums),
        }
    }
    T
}

/// # Safety
/// As [`tokens`].
#[target_feature(enable = "avx2,f16c,fma")]
unsafe fn scales<const T: usize, const R: usize, const K: u8>(
    plan: &Plan,
    tiles: [&[Line]; R],
    x: &Tokens<'_>,
    sums: &mut [[f32; ROWS]],
) {
    // SAFETY: the caller's promise.
    unsafe {
        match (x.uniform, plan.single_chains()) {
            (false, false) => tokens::<T, R, K, false, false>(plan, tiles, x, sums),
            (false, true) => tokens::<T, R, K, false, true>(plan, tiles, x, sums),
            (true, false) => tokens::<T, R, K, true, false>(plan, tiles, x, sums),
            (true, true) => tokens::<T, R, K, true, true>(plan, tiles, x, sums),
        }
    }
}

/// # Safety
/// `tiles` have the plan's lines, `x` holds `T` tokens for the plan; `K`, `UNIFORM` and `SINGLE` (no group has more than
/// one chain) are theirs; there are `R·T` sums, those of a tile together.
#[target_feature(enable = "avx2,f16c,fma")]
unsafe fn tokens<const T: usize, const R: usize, const K: u8, const UNIFORM: bool, const SINGLE: bool>(
    plan: &Plan,
    tiles: [&[Line]; R],
    x: &Tokens<'_>,
    sums: &mut [[f32; ROWS]],
) {
    // No `array::map`: see `avx512`.
    let mut mains = [[[_mm256_setzero_ps(); T]; 2]; R];
    let (mut scaled, mut added) = ([[0.0_f32; 8]; 2], [[0.0_f32; 8]; 2]);
    let (low, ones, sign) = (_mm256_set1_epi8(15), _mm256_set1_epi16(1), _mm256_set1_epi8(-128));
    let factor = _mm256_set1_ps(plan.factor);
    let table = match K {
        WIDE => broadcast(&plan.values.map(|v| v.to_le_bytes()[0])),
        _ => broadcast(&plan.unsigned()),
    };
    let mut places = [tiles[0].as_ptr(); R];
    for (place, tile) in places.iter_mut().zip(tiles) {
        *place = tile.as_ptr();
    }
    let mut heads = places;
    let mut lanes = x.lanes.as_ptr().cast::<i32>();
    let mut pairs = x.pairs.as_ptr().cast::<i32>();
    let (mut scale, mut sum) = (x.scales.as_ptr(), x.sums.as_ptr());
    for group in 0..plan.groups {
        let (mut lane, mut pair) = (lanes, pairs);
        for ((main, place), head) in mains.iter_mut().zip(&mut places).zip(&mut heads) {
            (lane, pair) = (lanes, pairs);
            if group % 2 == 0 {
                *head = *place;
                // SAFETY: before every two groups of a tile there are the lines of their head.
                *place = unsafe { place.add(plan.head_lines()) };
            }
            let (head, mut at) = (*head, *place);
            // To memory before the loop that needs all registers.
            for r in 0..2 {
                // SAFETY: the head has the lines of scales, and of shifts where there are any; eight floats are stored.
                unsafe {
                    let scales = floats(plan.head, head, group % 2, r);
                    _mm256_storeu_ps(scaled[r].as_mut_ptr(), _mm256_mul_ps(scales, factor));
                    if plan.shift != Shift::None {
                        let shifts = floats(plan.head, head.add(plan.scale_lines()), group % 2, r);
                        let centre = _mm256_set1_ps(plan.centre());
                        let both = match plan.shift {
                            Shift::Min => _mm256_add_ps(_mm256_mul_ps(scales, centre), shifts),
                            _ => _mm256_mul_ps(scales, _mm256_sub_ps(centre, shifts)),
                        };
                        _mm256_storeu_ps(added[r].as_mut_ptr(), both);
                    }
                }
            }
            let lines = plan.lines(group);
            let mut totals = [[_mm256_setzero_si256(); T]; 2];
            // Codes of a line: both vectors of its low halves, then of its high halves.
            macro_rules! line {
                () => {{
                    if T >= MOST {
                        _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD).cast());
                    }
                    let vectors =
                        [_mm256_loadu_si256(at.cast()), _mm256_loadu_si256(at.cast::<__m256i>().add(1))];
                    at = at.add(1);
                    vectors
                }};
            }
            if K == PLAIN || K == NARROW {
                let mut left = lines;
                macro_rules! chain {
                    () => {{
                        let mut acc = [[_mm256_setzero_si256(); T]; 2];
                        for t in 0..T {
                            let start = _mm256_set1_epi32(*pair.add(t));
                            (acc[0][t], acc[1][t]) = (start, start);
                        }
                        pair = pair.wrapping_add(x.stride);
                        let now = if SINGLE { left } else { left.min(plan.chain / 8) };
                        left -= now;
                        for _ in 0..now {
                            let line = line!();
                            for half in 0..2 {
                                let mut codes = line;
                                for codes in &mut codes {
                                    let shifted =
                                        if half == 0 { *codes } else { _mm256_srli_epi16::<4>(*codes) };
                                    *codes = _mm256_and_si256(shifted, low);
                                    if K == NARROW {
                                        *codes = _mm256_shuffle_epi8(table, *codes);
                                    }
                                }
                                for t in 0..T {
                                    let inputs = _mm256_set1_epi32(*lane.add(t));
                                    for r in 0..2 {
                                        let products = _mm256_maddubs_epi16(codes[r], inputs);
                                        acc[r][t] = _mm256_add_epi16(acc[r][t], products);
                                    }
                                }
                                lane = lane.add(x.stride);
                            }
                        }
                        for r in 0..2 {
                            for t in 0..T {
                                acc[r][t] = _mm256_madd_epi16(acc[r][t], ones);
                            }
                        }
                        acc
                    }};
                }
                // SAFETY: the group has this many lines, each as many lanes of inputs, and pairs for each chain.
                unsafe {
                    totals = chain!();
                    while !SINGLE && left > 0 {
                        let more = chain!();
                        for r in 0..2 {
                            for t in 0..T {
                                totals[r][t] = _mm256_add_epi32(totals[r][t], more[r][t]);
                            }
                        }
                    }
                }
            } else {
                // Numbers with a sign.
                macro_rules! add {
                    ($first:expr, $second:expr) => {{
                        let values = [$first, $second];
                        let sizes = [_mm256_abs_epi8(values[0]), _mm256_abs_epi8(values[1])];
                        for t in 0..T {
                            let inputs = _mm256_set1_epi32(*lane.add(t));
                            for r in 0..2 {
                                // Signs go where it costs less: to the values, or to the inputs where those are many.
                                let products = if K == WIDE && T == 1 {
                                    let values = _mm256_sign_epi8(values[r], inputs);
                                    _mm256_maddubs_epi16(_mm256_abs_epi8(inputs), values)
                                } else {
                                    _mm256_maddubs_epi16(sizes[r], _mm256_sign_epi8(inputs, values[r]))
                                };
                                totals[r][t] = _mm256_add_epi32(totals[r][t], _mm256_madd_epi16(products, ones));
                            }
                        }
                        lane = lane.add(x.stride);
                    }};
                }
                for _ in 0..lines {
                    // SAFETY: the group has this many lines, and each as many lanes of inputs.
                    unsafe {
                        let line = line!();
                        if K == BYTES {
                            add!(_mm256_xor_si256(line[0], sign), _mm256_xor_si256(line[1], sign));
                        } else {
                            add!(looked_up(table, line[0]), looked_up(table, line[1]));
                            add!(
                                looked_up(table, _mm256_srli_epi16::<4>(line[0])),
                                looked_up(table, _mm256_srli_epi16::<4>(line[1]))
                            );
                        }
                    }
                }
            }
            for r in 0..2 {
                // SAFETY: eight floats each; scales and sums are there for each group and token.
                unsafe {
                    let scaled = _mm256_loadu_ps(scaled[r].as_ptr());
                    for t in 0..T {
                        let by = if UNIFORM {
                            scaled
                        } else {
                            _mm256_mul_ps(scaled, _mm256_set1_ps(*scale.add(t)))
                        };
                        main[r][t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(totals[r][t]), by, main[r][t]);
                    }
                    if plan.shift != Shift::None {
                        let added = _mm256_loadu_ps(added[r].as_ptr());
                        for (t, main) in main[r].iter_mut().enumerate() {
                            *main = _mm256_fmadd_ps(added, _mm256_set1_ps(*sum.add(t)), *main);
                        }
                    }
                }
            }
            *place = at;
        }
        (lanes, pairs) = (lane, pair);
        scale = scale.wrapping_add(x.stride);
        sum = sum.wrapping_add(x.stride);
    }
    for (sums, main) in sums.chunks_exact_mut(T).zip(mains) {
        for (t, sums) in sums.iter_mut().enumerate() {
            for (r, sums) in sums.as_chunks_mut::<8>().0.iter_mut().enumerate().take(2) {
                // SAFETY: eight floats.
                let before = unsafe { _mm256_loadu_ps(sums.as_ptr()) };
                let after = match x.scales.get(t) {
                    Some(&scale) if UNIFORM => _mm256_fmadd_ps(main[r][t], _mm256_set1_ps(scale), before),
                    _ => _mm256_add_ps(before, main[r][t]),
                };
                // SAFETY: eight floats.
                unsafe { _mm256_storeu_ps(sums.as_mut_ptr(), after) };
            }
        }
    }
}

/// The numbers of the low halves of bytes.
#[inline]
#[target_feature(enable = "avx2")]
fn looked_up(table: __m256i, codes: __m256i) -> __m256i {
    _mm256_shuffle_epi8(table, _mm256_and_si256(codes, _mm256_set1_epi8(15)))
}

/// Sixteen bytes, twice.
#[target_feature(enable = "avx2")]
fn broadcast(bytes: &[u8; 16]) -> __m256i {
    // SAFETY: sixteen bytes.
    _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
}

/// Eight floats of a head: rows 0 to 7 or 8 to 15 of its first or second group.
///
/// # Safety
/// `head` points to a line, or to two where the format is f32.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) unsafe fn floats(format: FloatFormat, head: *const Line, second: usize, part: usize) -> __m256 {
    // SAFETY: a line is 32 + 32 bytes, one for each group, or 64 for the first and the next for the second.
    unsafe {
        let half = head.cast::<u8>().add(32 * second + 16 * part).cast();
        match format {
            FloatFormat::F32 => _mm256_loadu_ps(head.add(second).cast::<f32>().add(8 * part)),
            FloatFormat::Bf16 => {
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(half))))
            }
            _ => _mm256_cvtph_ps(_mm_loadu_si128(half)),
        }
    }
}
