//! The product of a tile on AVX-512 with VNNI: one vector is one line, 16 rows.
//!
//! ```text
//! group:      acc_t = correction_gt = −offset·Σq          takes off what unsigned codes exceed their values by
//!   line:     acc_t += unsigned codes · lane_t             (`vpdpbusd`, low halves, then high halves)
//! group end:  main_t = fma(float(acc_t), scales·s_gt, main_t)
//! ```
//! Eight tokens share each line that was unpacked. From four tokens on computing takes longer than reading, and lines are
//! asked for 4 KiB ahead; below that the processor's own prefetching is the faster. A single token takes four tiles from
//! four far places at a time: four streams keep more of the memory busy than one does.
//!
//! Loops over vectors are written out: `array::map` and the like are compiled without these instructions, and a closure
//! in them becomes a call.

use super::activations::{TOKENS, Tokens};
use super::layout::{Kind, LINE, Line, Plan, ROWS, STREAMS, Shift};
use crate::FloatFormat;
use core::arch::x86_64::{
    __m512, __m512i, _MM_HINT_T0, _mm_loadu_si128, _mm_prefetch, _mm256_loadu_si256, _mm512_add_epi32,
    _mm512_add_ps, _mm512_and_si512, _mm512_broadcast_i32x4, _mm512_castsi512_ps, _mm512_cvtepi32_ps,
    _mm512_cvtepu16_epi32, _mm512_cvtph_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_loadu_ps,
    _mm512_loadu_si512, _mm512_mul_ps, _mm512_set1_epi8, _mm512_set1_epi32, _mm512_set1_ps,
    _mm512_setzero_ps, _mm512_setzero_si512, _mm512_shuffle_epi8, _mm512_slli_epi32, _mm512_srli_epi16,
    _mm512_storeu_ps, _mm512_sub_ps,
};

/// Lines that are asked for ahead.
const AHEAD: usize = 4096 / LINE;

/// Proof that the processor has AVX-512 F, BW and VNNI.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Avx512(());

impl Avx512 {
    #[cfg(feature = "std")]
    pub(super) fn detect() -> Option<Self> {
        let found = std::is_x86_feature_detected!("avx512f")
            && std::is_x86_feature_detected!("avx512bw")
            && std::is_x86_feature_detected!("avx512vnni");
        found.then_some(Self(()))
    }

    #[cfg(not(feature = "std"))]
    pub(super) fn detect() -> Option<Self> {
        cfg!(all(target_feature = "avx512f", target_feature = "avx512bw", target_feature = "avx512vnni"))
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
                    TOKENS.. => kind::<TOKENS, 1>(plan, [tile], &x, sums),
                    4.. => kind::<4, 1>(plan, [tile], &x, sums),
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
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn kind<const T: usize, const R: usize>(
    plan: &Plan,
    tiles: [&[Line]; R],
    x: &Tokens<'_>,
    sums: &mut [[f32; ROWS]],
) -> usize {
    // SAFETY: the caller's promise.
    unsafe {
        match (plan.kind, x.uniform) {
            (Kind::Nibbles, false) => tokens::<T, R, { Kind::NIBBLES }, false>(plan, tiles, x, sums),
            (Kind::Nibbles, true) => tokens::<T, R, { Kind::NIBBLES }, true>(plan, tiles, x, sums),
            (Kind::Table, false) => tokens::<T, R, { Kind::TABLE }, false>(plan, tiles, x, sums),
            (Kind::Table, true) => tokens::<T, R, { Kind::TABLE }, true>(plan, tiles, x, sums),
            (Kind::Bytes, false) => tokens::<T, R, { Kind::BYTES }, false>(plan, tiles, x, sums),
            (Kind::Bytes, true) => tokens::<T, R, { Kind::BYTES }, true>(plan, tiles, x, sums),
        }
    }
    T
}

/// # Safety
/// `tiles` have the plan's lines, `x` holds `T` tokens for the plan, `K` and `UNIFORM` are theirs; there are `R·T` sums,
/// those of a tile together.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn tokens<const T: usize, const R: usize, const K: u8, const UNIFORM: bool>(
    plan: &Plan,
    tiles: [&[Line]; R],
    x: &Tokens<'_>,
    sums: &mut [[f32; ROWS]],
) {
    let mut mains = [[_mm512_setzero_ps(); T]; R];
    let (low, factor) = (_mm512_set1_epi8(15), _mm512_set1_ps(plan.factor));
    let table = unsigned(plan);
    let mut places = [tiles[0].as_ptr(); R];
    for (place, tile) in places.iter_mut().zip(tiles) {
        *place = tile.as_ptr();
    }
    let mut heads = places;
    let mut lanes = x.lanes.as_ptr().cast::<i32>();
    let (mut correction, mut scale, mut sum) = (x.corrections.as_ptr(), x.scales.as_ptr(), x.sums.as_ptr());
    for group in 0..plan.groups {
        let lines = plan.lines(group);
        let mut lane = lanes;
        for ((main, at), head) in mains.iter_mut().zip(&mut places).zip(&mut heads) {
            lane = lanes;
            if group % 2 == 0 {
                *head = *at;
                // SAFETY: before every two groups of a tile there are the lines of their head.
                *at = unsafe { at.add(plan.head_lines()) };
            }
            let head = *head;
            let mut acc = [_mm512_setzero_si512(); T];
            for (t, acc) in acc.iter_mut().enumerate() {
                // SAFETY: there is a correction for each group and token.
                *acc = _mm512_set1_epi32(unsafe { *correction.add(t) });
            }
            // First, so that lines are read in their order. SAFETY: the head has the lines of scales.
            let scales = unsafe { floats(plan.head, head, group % 2) };
            // Two chains of additions where there is one token to hide their latency behind.
            let mut second = _mm512_setzero_si512();
            for _ in 0..lines {
                if T >= 4 {
                    _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD).cast());
                }
                // SAFETY: the group has this many lines, and each as many lanes of inputs.
                unsafe {
                    let line = _mm512_loadu_si512(at.cast());
                    *at = at.add(1);
                    if K == Kind::BYTES {
                        for (t, acc) in acc.iter_mut().enumerate() {
                            *acc = _mm512_dpbusd_epi32(*acc, line, _mm512_set1_epi32(*lane.add(t)));
                        }
                        lane = lane.add(x.stride);
                    } else {
                        let mut halves = [line, _mm512_srli_epi16::<4>(line)];
                        for half in &mut halves {
                            *half = _mm512_and_si512(*half, low);
                            if K == Kind::TABLE {
                                *half = _mm512_shuffle_epi8(table, *half);
                            }
                        }
                        for (t, acc) in acc.iter_mut().enumerate() {
                            *acc = _mm512_dpbusd_epi32(*acc, halves[0], _mm512_set1_epi32(*lane.add(t)));
                        }
                        lane = lane.add(x.stride);
                        if T == 1 {
                            second = _mm512_dpbusd_epi32(second, halves[1], _mm512_set1_epi32(*lane));
                        } else {
                            for (t, acc) in acc.iter_mut().enumerate() {
                                *acc = _mm512_dpbusd_epi32(*acc, halves[1], _mm512_set1_epi32(*lane.add(t)));
                            }
                        }
                        lane = lane.add(x.stride);
                    }
                }
            }
            if T == 1 && K != Kind::BYTES {
                acc[0] = _mm512_add_epi32(acc[0], second);
            }
            // SAFETY: the head has the lines of scales, and of shifts where there are any; scales and sums are there for
            // each group and token.
            unsafe {
                let scaled = _mm512_mul_ps(scales, factor);
                for (t, (main, acc)) in main.iter_mut().zip(acc).enumerate() {
                    let by =
                        if UNIFORM { scaled } else { _mm512_mul_ps(scaled, _mm512_set1_ps(*scale.add(t))) };
                    *main = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc), by, *main);
                }
                if plan.shift != Shift::None {
                    let shifts = floats(plan.head, head.add(plan.scale_lines()), group % 2);
                    let centre = _mm512_set1_ps(plan.centre());
                    let added = match plan.shift {
                        Shift::Min => _mm512_add_ps(_mm512_mul_ps(scales, centre), shifts),
                        _ => _mm512_mul_ps(scales, _mm512_sub_ps(centre, shifts)),
                    };
                    for (t, main) in main.iter_mut().enumerate() {
                        *main = _mm512_fmadd_ps(added, _mm512_set1_ps(*sum.add(t)), *main);
                    }
                }
            }
        }
        lanes = lane;
        correction = correction.wrapping_add(x.stride);
        scale = scale.wrapping_add(x.stride);
        sum = sum.wrapping_add(x.stride);
    }
    for (sums, main) in sums.chunks_exact_mut(T).zip(mains) {
        for (t, (sums, main)) in sums.iter_mut().zip(main).enumerate() {
            // SAFETY: sixteen floats.
            let before = unsafe { _mm512_loadu_ps(sums.as_ptr()) };
            let after = match x.scales.get(t) {
                Some(&scale) if UNIFORM => _mm512_fmadd_ps(main, _mm512_set1_ps(scale), before),
                _ => _mm512_add_ps(before, main),
            };
            // SAFETY: sixteen floats.
            unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), after) };
        }
    }
}

/// The table of codes as bytes without a sign, four times.
#[target_feature(enable = "avx512f")]
fn unsigned(plan: &Plan) -> __m512i {
    let table = plan.unsigned();
    // SAFETY: sixteen bytes.
    _mm512_broadcast_i32x4(unsafe { _mm_loadu_si128(table.as_ptr().cast()) })
}

/// Sixteen floats of a head, of its first or second group.
///
/// # Safety
/// `head` points to a line, or to two where the format is f32.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn floats(format: FloatFormat, head: *const Line, second: usize) -> __m512 {
    // SAFETY: a line is 32 + 32 bytes, one for each group, or 64 for the first and the next for the second.
    unsafe {
        let half = head.cast::<u8>().add(32 * second).cast();
        match format {
            FloatFormat::F32 => _mm512_loadu_ps(head.add(second).cast()),
            FloatFormat::Bf16 => {
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(half))))
            }
            _ => _mm512_cvtph_ps(_mm256_loadu_si256(half)),
        }
    }
}
