//! The loops of AVX2: extremes, scales, codes.
//!
//! Every step is the correctly rounded operation of the portable code on eight lanes, or a whole-number operation with
//! the same result, so the bits are the same. Groups are runs of `size` entries, the last of which may be shorter.

use super::avx2::{Avx2, load, load_bytes, store_bytes};
use crate::MiniFloat;
use core::arch::x86_64::{
    __m128, __m128i, __m256, __m256d, __m256i, _CMP_GT_OQ, _CMP_LE_OQ, _CMP_LT_OQ, _MM_FROUND_TO_NEAREST_INT,
    _MM_HINT_T0, _mm_add_epi32, _mm_and_si128, _mm_castps_si128, _mm_castsi128_ps, _mm_cmpeq_epi32,
    _mm_cvtph_ps, _mm_cvtps_ph, _mm_cvtsi32_si128, _mm_cvtsi128_si32, _mm_loadu_ps, _mm_max_epu32,
    _mm_max_ps, _mm_min_ps, _mm_packs_epi32, _mm_packus_epi16, _mm_prefetch, _mm_set1_epi32,
    _mm_setzero_si128, _mm_shuffle_epi32, _mm_shuffle_ps, _mm_storel_epi64, _mm_storeu_ps, _mm_sub_epi32,
    _mm256_add_epi16, _mm256_add_epi32, _mm256_and_ps, _mm256_and_si256, _mm256_andnot_pd, _mm256_andnot_ps,
    _mm256_castpd_ps, _mm256_castps_si256, _mm256_castps256_ps128, _mm256_castsi256_ps,
    _mm256_castsi256_si128, _mm256_cmp_pd, _mm256_cmp_ps, _mm256_cvtepi32_ps, _mm256_cvtpd_ps,
    _mm256_cvtps_epi32, _mm256_cvtps_pd, _mm256_div_pd, _mm256_div_ps, _mm256_extractf128_ps,
    _mm256_extracti128_si256, _mm256_maddubs_epi16, _mm256_max_epi32, _mm256_max_epu32, _mm256_max_ps,
    _mm256_min_pd, _mm256_min_ps, _mm256_movemask_pd, _mm256_movemask_ps, _mm256_mul_pd, _mm256_mul_ps,
    _mm256_or_si256, _mm256_packs_epi16, _mm256_packs_epi32, _mm256_packus_epi16, _mm256_permute4x64_epi64,
    _mm256_permutevar_ps, _mm256_permutevar8x32_epi32, _mm256_permutevar8x32_ps, _mm256_set1_epi16,
    _mm256_set1_epi32, _mm256_set1_pd, _mm256_set1_ps, _mm256_setr_epi32, _mm256_setr_ps, _mm256_setzero_ps,
    _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_sll_epi32, _mm256_slli_epi32, _mm256_srai_epi32,
    _mm256_srl_epi32, _mm256_srli_epi32, _mm256_sub_epi8, _mm256_sub_epi32, _mm256_sub_pd, _mm256_sub_ps,
};

/// The smallest bit pattern of a magnitude that is no finite number.
const INFINITE: u32 = 0x7F80_0000;

/// What decides the codes of whole numbers besides each group's divisor and zero point:
/// `clamp(rne(w / divisor · unit), floor − zero, top − zero) + zero`.
#[derive(Clone, Copy)]
pub(super) struct Whole {
    pub(super) unit: f32,
    pub(super) floor: f32,
    pub(super) top: f32,
    /// Whether codes are two's complement, whose highest bit the sum above has inverted.
    pub(super) complement: bool,
}

impl Avx2 {
    /// The largest magnitude of each group; `false` when an entry is not finite.
    pub(super) fn absmax(self, values: &[f32], size: usize, tops: &mut [f32]) -> bool {
        // SAFETY: `self` exists only where the processor has AVX2.
        unsafe { absmax(values, size, tops) }
    }

    /// `min(0, min w)` and `max(0, max w)` of each group; `false` when an entry is not finite.
    pub(super) fn extremes(self, values: &[f32], size: usize, lows: &mut [f32], highs: &mut [f32]) -> bool {
        // SAFETY: `self` exists only where the processor has AVX2.
        unsafe { extremes(values, size, lows, highs) }
    }

    /// `min((high − low) / steps, largest)` in f64, as f32. Lengths in whole fours.
    pub(super) fn scales(self, lows: &[f32], highs: &[f32], steps: f64, largest: f64, scales: &mut [f32]) {
        // SAFETY: `self` exists only where the processor has AVX2 and F16C.
        unsafe { scales_f32(lows, highs, steps, largest, scales) }
    }

    /// The same rounded once to f16: the bits in `halves`, the values in `scales`; `false` when f16 moves one of them
    /// by more than 2⁻⁸ of itself. Lengths in whole fours.
    pub(super) fn scales_f16(
        self,
        (lows, highs): (&[f32], &[f32]),
        (steps, largest): (f64, f64),
        halves: &mut [u16],
        scales: &mut [f32],
    ) -> bool {
        // SAFETY: `self` exists only where the processor has AVX2 and F16C.
        unsafe { scales_f16(lows, highs, steps, largest, halves, scales) }
    }

    /// Codes of whole numbers.
    pub(super) fn encode_whole(
        self,
        (values, size): (&[f32], usize),
        divisors: &[f32],
        zeros: &[f32],
        whole: Whole,
        codes: &mut [u8],
    ) {
        // SAFETY: `self` exists only where the processor has AVX2.
        unsafe {
            if whole.unit == 1.0 {
                encode_whole::<true>(values, size, divisors, zeros, whole, codes);
            } else {
                encode_whole::<false>(values, size, divisors, zeros, whole, codes);
            }
        }
    }

    /// The same for a unit of 1 and divisors that are normal numbers, with their reciprocals.
    pub(super) fn encode_whole_fast(
        self,
        (values, size): (&[f32], usize),
        by: (&[f32], &[f32]),
        zeros: &[f32],
        whole: Whole,
        codes: &mut [u8],
    ) {
        // SAFETY: `self` exists only where the processor has AVX2.
        unsafe { encode_whole_fast(values, size, by, zeros, whole, codes) }
    }

    /// [`Avx2::encode_floats`] for E2M1.
    pub(super) fn encode_e2m1(
        self,
        (values, size): (&[f32], usize),
        (multiply, by): (bool, &[f32]),
        codes: &mut [u8],
    ) {
        // SAFETY: `self` exists only where the processor has AVX2.
        unsafe {
            if multiply {
                encode_e2m1::<true>(values, size, by, codes);
            } else {
                encode_e2m1::<false>(values, size, by, codes);
            }
        }
    }

    /// The number of `middles` (increasing) that `w · factor` exceeds, of each entry.
    pub(super) fn encode_ranks(
        self,
        (values, size): (&[f32], usize),
        factors: &[f32],
        middles: &[f32; 15],
        codes: &mut [u8],
    ) {
        // SAFETY: `self` exists only where the processor has AVX2.
        unsafe { encode_ranks(values, size, factors, middles, codes) }
    }

    /// Codes of small floats: of `w · by` for powers of two, else of `w / by`.
    pub(super) fn encode_floats(
        self,
        (values, size): (&[f32], usize),
        (multiply, by): (bool, &[f32]),
        format: MiniFloat,
        codes: &mut [u8],
    ) {
        // SAFETY: `self` exists only where the processor has AVX2.
        unsafe {
            if multiply {
                encode_floats::<true>(values, size, by, format, codes);
            } else {
                encode_floats::<false>(values, size, by, format, codes);
            }
        }
    }

    /// Replaces each code, below 16, by its entry of `table`.
    pub(super) fn translate(self, codes: &mut [u8], table: &[u8; 16]) {
        // SAFETY: `self` exists only where the processor has AVX2.
        unsafe { translate(codes, table) }
    }

    /// Packs codes of 4 bits; `packed` holds exactly them.
    pub(super) fn pack_nibbles(self, codes: &[u8], packed: &mut [u8]) {
        // SAFETY: `self` exists only where the processor has AVX2.
        unsafe { pack_nibbles(codes, packed) }
    }
}

#[target_feature(enable = "avx2")]
fn absmax(values: &[f32], size: usize, tops: &mut [f32]) -> bool {
    let magnitude = _mm256_set1_epi32(i32::MAX);
    let mut finite = true;
    // As whole numbers the magnitudes have the order of the floats, with infinities and NaN above all.
    let bits = |eight: &[f32; 8]| _mm256_and_si256(_mm256_castps_si256(load(eight)), magnitude);
    let largest_of_32 = |block: &[f32; 32]| match block.as_chunks::<8>().0 {
        [a, b, c, d] => {
            let pairs = (_mm256_max_epu32(bits(a), bits(b)), _mm256_max_epu32(bits(c), bits(d)));
            _mm256_max_epu32(pairs.0, pairs.1)
        }
        _ => _mm256_setzero_si256(),
    };
    let mut done = 0;
    if size.is_multiple_of(32) {
        let blocks = values.as_chunks::<32>().0.chunks_exact(size / 32);
        for (top, blocks) in tops.iter_mut().zip(blocks) {
            let mut largest = _mm256_setzero_si256();
            for block in blocks {
                largest = _mm256_max_epu32(largest, largest_of_32(block));
            }
            let bits = largest_lane(largest);
            finite &= bits < INFINITE;
            *top = f32::from_bits(bits);
            done += 1;
        }
    }
    for (top, values) in tops[done..].iter_mut().zip(values[done * size..].chunks(size)) {
        let mut largest = _mm256_setzero_si256();
        let (eights, rest) = values.as_chunks::<8>();
        for eight in eights {
            largest = _mm256_max_epu32(largest, bits(eight));
        }
        let mut bits = largest_lane(largest);
        for value in rest {
            bits = bits.max(value.abs().to_bits());
        }
        finite &= bits < INFINITE;
        *top = f32::from_bits(bits);
    }
    finite
}

/// The largest of eight whole numbers.
#[inline]
#[target_feature(enable = "avx2")]
fn largest_lane(eight: __m256i) -> u32 {
    let four = _mm_max_epu32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256::<1>(eight));
    let two = _mm_max_epu32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
    let one = _mm_max_epu32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two));
    _mm_cvtsi128_si32(one).cast_unsigned()
}

#[target_feature(enable = "avx2")]
fn extremes(values: &[f32], size: usize, lows: &mut [f32], highs: &mut [f32]) -> bool {
    let mut all_finite = true;
    for ((low, high), values) in lows.iter_mut().zip(highs).zip(values.chunks(size)) {
        let (eights, rest) = values.as_chunks::<8>();
        let (mut least, mut most) = (_mm256_setzero_ps(), _mm256_setzero_ps());
        let mut bits = _mm256_setzero_si256();
        for eight in eights {
            let eight = load(eight);
            // A NaN leaves these as they are; `bits` finds it.
            least = _mm256_min_ps(eight, least);
            most = _mm256_max_ps(eight, most);
            bits = _mm256_max_epu32(
                bits,
                _mm256_and_si256(_mm256_castps_si256(eight), _mm256_set1_epi32(i32::MAX)),
            );
        }
        let least = _mm_min_ps(_mm256_castps256_ps128(least), _mm256_extractf128_ps::<1>(least));
        let most = _mm_max_ps(_mm256_castps256_ps128(most), _mm256_extractf128_ps::<1>(most));
        let (mut four_low, mut four_high, mut eight_bits) = ([0.0; 4], [0.0; 4], [0; 32]);
        store_4(&mut four_low, least);
        store_4(&mut four_high, most);
        store_bytes(&mut eight_bits, bits);
        (*low, *high) = (0.0, 0.0);
        for (a, b) in four_low.into_iter().zip(four_high) {
            (*low, *high) = (low.min(a), high.max(b));
        }
        let (words, _) = eight_bits.as_chunks::<4>();
        let mut finite = words.iter().all(|word| u32::from_le_bytes(*word) < INFINITE);
        for &value in rest {
            (*low, *high) = (low.min(value), high.max(value));
            finite &= value.is_finite();
        }
        all_finite &= finite;
    }
    all_finite
}

/// Four exact scales.
#[inline]
#[target_feature(enable = "avx2")]
fn exact_scale(low: &[f32; 4], high: &[f32; 4], steps: __m256d, largest: __m256d) -> __m256d {
    let width = _mm256_sub_pd(_mm256_cvtps_pd(load_4(high)), _mm256_cvtps_pd(load_4(low)));
    _mm256_min_pd(_mm256_div_pd(width, steps), largest)
}

#[target_feature(enable = "avx2,f16c")]
fn scales_f32(lows: &[f32], highs: &[f32], steps: f64, largest: f64, scales: &mut [f32]) {
    let (steps, largest) = (_mm256_set1_pd(steps), _mm256_set1_pd(largest));
    let (scales, _) = scales.as_chunks_mut::<4>();
    for ((low, high), scale) in lows.as_chunks::<4>().0.iter().zip(highs.as_chunks::<4>().0).zip(scales) {
        store_4(scale, _mm256_cvtpd_ps(exact_scale(low, high, steps, largest)));
    }
}

#[target_feature(enable = "avx2,f16c")]
fn scales_f16(
    lows: &[f32],
    highs: &[f32],
    steps: f64,
    largest: f64,
    halves: &mut [u16],
    scales: &mut [f32],
) -> bool {
    let (steps, largest) = (_mm256_set1_pd(steps), _mm256_set1_pd(largest));
    let (lows, highs) = (lows.as_chunks::<4>().0, highs.as_chunks::<4>().0);
    let out = halves.as_chunks_mut::<4>().0.iter_mut().zip(scales.as_chunks_mut::<4>().0);
    let mut kept = 0b1111;
    for ((low, high), (half, scale)) in lows.iter().zip(highs).zip(out) {
        let exact = exact_scale(low, high, steps, largest);
        let rounded = _mm_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(to_odd(exact));
        let value = _mm_cvtph_ps(rounded);
        store_halves(half, rounded);
        store_4(scale, value);
        let error = _mm256_andnot_pd(_mm256_set1_pd(-0.0), _mm256_sub_pd(_mm256_cvtps_pd(value), exact));
        let allowed = _mm256_mul_pd(exact, _mm256_set1_pd(1.0 / 256.0));
        // An infinite error is above all.
        kept &= _mm256_movemask_pd(_mm256_cmp_pd::<_CMP_LE_OQ>(error, allowed));
    }
    kept == 0b1111
}

/// f64 → f32 of positive finite numbers, to the neighbour with an odd last bit unless exact: rounding that once more
/// to f16 is rounding once.
#[inline]
#[target_feature(enable = "avx2")]
fn to_odd(exact: __m256d) -> __m128 {
    let near = _mm256_cvtpd_ps(exact);
    let back = _mm256_cvtps_pd(near);
    let beyond = low_words(_mm256_cmp_pd::<_CMP_GT_OQ>(exact, back));
    let short = low_words(_mm256_cmp_pd::<_CMP_LT_OQ>(exact, back));
    let bits = _mm_castps_si128(near);
    let even = _mm_cmpeq_epi32(_mm_and_si128(bits, _mm_set1_epi32(1)), _mm_setzero_si128());
    // Masks are -1: one up where the number lies beyond, one down where it falls short.
    let step = _mm_and_si128(_mm_sub_epi32(short, beyond), even);
    _mm_castsi128_ps(_mm_add_epi32(bits, step))
}

/// The lower halves of four masks of 64 bits.
#[inline]
#[target_feature(enable = "avx2")]
fn low_words(mask: __m256d) -> __m128i {
    let words = _mm256_castpd_ps(mask);
    let (low, high) = (_mm256_castps256_ps128(words), _mm256_extractf128_ps::<1>(words));
    _mm_castps_si128(_mm_shuffle_ps::<0b10_00_10_00>(low, high))
}

#[target_feature(enable = "avx2")]
fn encode_whole<const PLAIN: bool>(
    values: &[f32],
    size: usize,
    divisors: &[f32],
    zeros: &[f32],
    whole: Whole,
    codes: &mut [u8],
) {
    let unit = _mm256_set1_ps(whole.unit);
    let inverted = _mm256_set1_epi32(if whole.complement { 128 } else { 0 });
    let of = |group: usize| {
        let zero = _mm256_set1_ps(zeros[group]);
        let (low, high) = (
            _mm256_sub_ps(_mm256_set1_ps(whole.floor), zero),
            _mm256_sub_ps(_mm256_set1_ps(whole.top), zero),
        );
        // At most 255, exactly.
        (_mm256_set1_ps(divisors[group]), low, high, _mm256_cvtps_epi32(zero))
    };
    each::<false, _>((values, size), codes, of, |&(divisor, low, high, zero), x| {
        let scaled = _mm256_div_ps(x, divisor);
        let scaled = if PLAIN { scaled } else { _mm256_mul_ps(scaled, unit) };
        let clamped = _mm256_min_ps(_mm256_max_ps(scaled, low), high);
        let code = _mm256_add_epi32(_mm256_cvtps_epi32(clamped), zero);
        if PLAIN { code } else { xor(code, inverted) }
    });
}

/// [`encode_whole`] without dividing, where that cannot be seen.
///
/// ```text
/// y = fl(w · fl(1/d)),  q = w/d exactly:  |y − q| < 2.01·2⁻²⁴·|q| plus what underflows, and |fl(q) − q| ≤ 2⁻²⁴·|q|
/// ```
/// After clamping to magnitudes of at most top the two differ by less than top·2⁻²², so they round to the same whole
/// number unless y is that close to the middle of two. A group that holds such an entry is divided after all.
#[target_feature(enable = "avx2")]
fn encode_whole_fast(
    values: &[f32],
    size: usize,
    (divisors, reciprocals): (&[f32], &[f32]),
    zeros: &[f32],
    whole: Whole,
    codes: &mut [u8],
) {
    let magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(i32::MAX));
    let near_middle = _mm256_set1_ps(0.5 - (whole.top + 1.0) / 4_194_304.0);
    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    let (floor, top) = (_mm256_set1_ps(whole.floor), _mm256_set1_ps(whole.top));
    if !size.is_multiple_of(32) {
        return encode_whole::<true>(values, size, divisors, zeros, whole, codes);
    }
    let (blocks, out) = (values.as_chunks::<32>().0, codes.as_chunks_mut::<32>().0);
    let mut done = 0;
    let groups = blocks.chunks_exact(size / 32).zip(out.chunks_exact_mut(size / 32)).zip(divisors);
    for (((blocks, out), divisor), (reciprocal, zero)) in groups.zip(reciprocals.iter().zip(zeros)) {
        let reciprocal = _mm256_set1_ps(*reciprocal);
        let all_zero = _mm256_set1_ps(*zero);
        let (low, high) = (_mm256_sub_ps(floor, all_zero), _mm256_sub_ps(top, all_zero));
        let shift = _mm256_cvtps_epi32(all_zero);
        let shift = _mm256_packs_epi32(shift, shift);
        let mut unsure = _mm256_setzero_ps();
        for (block, out) in blocks.iter().zip(out.iter_mut()) {
            prefetch(block);
            let ([a, b, c, d], _) = block.as_chunks::<8>() else { continue };
            let round = |x: &[f32; 8]| {
                let y = _mm256_min_ps(_mm256_max_ps(_mm256_mul_ps(load(x), reciprocal), low), high);
                let near = _mm256_cvtps_epi32(y);
                (near, _mm256_and_ps(_mm256_sub_ps(y, _mm256_cvtepi32_ps(near)), magnitude))
            };
            let ((a, away_a), (b, away_b), (c, away_c), (d, away_d)) =
                (round(a), round(b), round(c), round(d));
            let away = _mm256_max_ps(_mm256_max_ps(away_a, away_b), _mm256_max_ps(away_c, away_d));
            unsure = _mm256_max_ps(unsure, away);
            let (ab, cd) = (_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
            let bytes = _mm256_packus_epi16(_mm256_add_epi16(ab, shift), _mm256_add_epi16(cd, shift));
            store_bytes(out, _mm256_permutevar8x32_epi32(bytes, order));
        }
        if _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(unsure, near_middle)) != 0 {
            let (values, codes) = (blocks.as_flattened(), out.as_flattened_mut());
            encode_whole::<true>(values, size, &[*divisor], &[*zero], whole, codes);
        }
        done += 1;
    }
    let at = done * size;
    if at < values.len() {
        encode_whole::<true>(&values[at..], size, &divisors[done..], &zeros[done..], whole, &mut codes[at..]);
    }
}

/// Bitwise exclusive or.
#[inline]
#[target_feature(enable = "avx2")]
fn xor(a: __m256i, b: __m256i) -> __m256i {
    core::arch::x86_64::_mm256_xor_si256(a, b)
}

#[target_feature(enable = "avx2")]
fn encode_ranks(values: &[f32], size: usize, factors: &[f32], middles: &[f32; 15], codes: &mut [u8]) {
    // Which quarter of the table by three comparisons, then a binary search in it. Masks are -1, so their sums are
    // negated ranks; a permutation reads their lowest bits, in which rank r is -r.
    let m = middles;
    let quarters = [m[3], m[7], m[11]].map(|middle| _mm256_set1_ps(middle));
    let halves = lanes(m[1], m[13], m[9], m[5]);
    let last = load(&[m[0], m[14], m[12], m[10], m[8], m[6], m[4], m[2]]);
    each::<true, _>(
        (values, size),
        codes,
        |group| _mm256_set1_ps(factors[group]),
        |&factor, x| {
            let x = _mm256_mul_ps(x, factor);
            let above = |middle| _mm256_castps_si256(_mm256_cmp_ps::<_CMP_GT_OQ>(x, middle));
            let append = |rank, mask| _mm256_add_epi32(_mm256_add_epi32(rank, rank), mask);
            let [a, b, c] = quarters.map(above);
            let rank = _mm256_add_epi32(_mm256_add_epi32(a, b), c);
            let rank = append(rank, above(_mm256_permutevar_ps(halves, rank)));
            append(rank, above(_mm256_permutevar8x32_ps(last, rank)))
        },
    );
}

/// Four values in either half.
#[inline]
#[target_feature(enable = "avx2")]
fn lanes(a: f32, b: f32, c: f32, d: f32) -> __m256 {
    _mm256_setr_ps(a, b, c, d, a, b, c, d)
}

#[target_feature(enable = "avx2")]
fn encode_floats<const MULTIPLY: bool>(
    values: &[f32],
    size: usize,
    by: &[f32],
    format: MiniFloat,
    codes: &mut [u8],
) {
    let (mantissa, bias) = (i32::from(format.mantissa_bits()), i32::from(format.bias()));
    let sign_bit = _mm256_set1_epi32(i32::MIN);
    let max = _mm256_set1_ps(format.max());
    // Exponents as f32 has them, 127 above the real ones.
    let least = _mm256_set1_epi32(128 - bias);
    let unit = _mm256_set1_epi32(254 + mantissa);
    let to_code = _mm256_set1_epi32(128 - bias);
    let left = _mm_cvtsi32_si128(mantissa);
    let sign_right = _mm_cvtsi32_si128(31 - mantissa - i32::from(format.exponent_bits()));
    each::<false, _>(
        (values, size),
        codes,
        |group| _mm256_set1_ps(by[group]),
        |&by, x| {
            let x = if MULTIPLY { _mm256_mul_ps(x, by) } else { _mm256_div_ps(x, by) };
            let bits = _mm256_castps_si256(x);
            let sign = _mm256_and_si256(bits, sign_bit);
            let magnitude = _mm256_min_ps(_mm256_castsi256_ps(xor(bits, sign)), max);
            let exponent = _mm256_srli_epi32::<23>(_mm256_castps_si256(magnitude));
            let exponent = _mm256_max_epi32(exponent, least);
            let power = _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_sub_epi32(unit, exponent)));
            let whole = _mm256_cvtps_epi32(_mm256_mul_ps(magnitude, power));
            let code = _mm256_add_epi32(_mm256_sll_epi32(_mm256_sub_epi32(exponent, to_code), left), whole);
            _mm256_or_si256(code, _mm256_srl_epi32(sign, sign_right))
        },
    );
}

/// Codes of E2M1: as in [`encode_ranks`], of magnitudes. Its values are 0, ½, 1, 1½, 2, 3, 4, 6; a tie goes to the
/// even code, so the middles below odd codes must be passed and those below even codes only be reached.
#[target_feature(enable = "avx2")]
fn encode_e2m1<const MULTIPLY: bool>(values: &[f32], size: usize, by: &[f32], codes: &mut [u8]) {
    let reached = f32::next_down;
    // A binary search; as in `encode_ranks` the sums of masks are negated, and so is the sign's mask in front of them.
    let first = _mm256_set1_ps(reached(1.75));
    let second = lanes(reached(0.75), reached(3.5), reached(0.75), reached(3.5));
    let third = lanes(0.25, 5.0, 2.5, 1.25);
    let sign_bit = _mm256_set1_ps(-0.0);
    each::<true, _>(
        (values, size),
        codes,
        |group| _mm256_set1_ps(by[group]),
        |&by, x| {
            let x = if MULTIPLY { _mm256_mul_ps(x, by) } else { _mm256_div_ps(x, by) };
            let magnitude = _mm256_andnot_ps(sign_bit, x);
            let above = |middle| _mm256_castps_si256(_mm256_cmp_ps::<_CMP_GT_OQ>(magnitude, middle));
            let append = |code, mask| _mm256_add_epi32(_mm256_add_epi32(code, code), mask);
            let code = append(_mm256_srai_epi32::<31>(_mm256_castps_si256(x)), above(first));
            let code = append(code, above(_mm256_permutevar_ps(second, code)));
            append(code, above(_mm256_permutevar_ps(third, code)))
        },
    );
}

/// `step` on eight entries of a group at a time, with what `of` makes of the group's index; its results, 0 ..= 255,
/// become bytes. With `NEGATED` they are -15 ..= 0.
#[inline]
#[target_feature(enable = "avx2")]
fn each<const NEGATED: bool, P>(
    (values, size): (&[f32], usize),
    codes: &mut [u8],
    of: impl Fn(usize) -> P,
    step: impl Fn(&P, __m256) -> __m256i,
) {
    let mut group = 0;
    if size.is_multiple_of(32) {
        let (blocks, out) = (values.as_chunks::<32>().0, codes.as_chunks_mut::<32>().0);
        for (blocks, out) in blocks.chunks_exact(size / 32).zip(out.chunks_exact_mut(size / 32)) {
            let own = of(group);
            for (block, out) in blocks.iter().zip(out) {
                each_32::<NEGATED>(block, out, |x| step(&own, x));
            }
            group += 1;
        }
    }
    let done = group * size;
    for (values, codes) in values[done..].chunks(size).zip(codes[done..].chunks_mut(size)) {
        let own = of(group);
        let (blocks, rest) = values.as_chunks::<32>();
        let (out, out_rest) = codes.as_chunks_mut::<32>();
        for (block, out) in blocks.iter().zip(out) {
            each_32::<NEGATED>(block, out, |x| step(&own, x));
        }
        for (values, out) in rest.chunks(8).zip(out_rest.chunks_mut(8)) {
            let mut eight = [0.0; 8];
            eight[..values.len()].copy_from_slice(values);
            let found = step(&own, load(&eight));
            let found = if NEGATED { _mm256_sub_epi32(_mm256_setzero_si256(), found) } else { found };
            let words = _mm_packs_epi32(_mm256_castsi256_si128(found), _mm256_extracti128_si256::<1>(found));
            let mut bytes = [0; 8];
            store_8(&mut bytes, _mm_packus_epi16(words, words));
            out.copy_from_slice(&bytes[..out.len()]);
        }
        group += 1;
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn each_32<const NEGATED: bool>(values: &[f32; 32], out: &mut [u8; 32], step: impl Fn(__m256) -> __m256i) {
    prefetch(values);
    let ([a, b, c, d], _) = values.as_chunks::<8>() else { return };
    let (a, b, c, d) = (step(load(a)), step(load(b)), step(load(c)), step(load(d)));
    let (ab, cd) = (_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
    let bytes = if NEGATED {
        _mm256_sub_epi8(_mm256_setzero_si256(), _mm256_packs_epi16(ab, cd))
    } else {
        _mm256_packus_epi16(ab, cd)
    };
    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    store_bytes(out, _mm256_permutevar8x32_epi32(bytes, order));
}

#[target_feature(enable = "avx2")]
fn translate(codes: &mut [u8], table: &[u8; 16]) {
    let mut twice = [0; 32];
    twice[..16].copy_from_slice(table);
    twice[16..].copy_from_slice(table);
    let entries = load_bytes(&twice);
    let (blocks, rest) = codes.as_chunks_mut::<32>();
    for block in blocks {
        let found = _mm256_shuffle_epi8(entries, load_bytes(block));
        store_bytes(block, found);
    }
    for code in rest {
        *code = table[usize::from(*code & 15)];
    }
}

#[target_feature(enable = "avx2")]
fn pack_nibbles(codes: &[u8], packed: &mut [u8]) {
    // Pairs of bytes a, b become a + 16·b.
    let weights = _mm256_set1_epi16(0x1001);
    let (blocks, rest) = codes.as_chunks::<64>();
    let (out, out_rest) = packed.as_chunks_mut::<32>();
    let done = blocks.len().min(out.len());
    for (codes, out) in blocks.iter().zip(out) {
        let ([a, b], _) = codes.as_chunks::<32>() else { continue };
        let pair = |codes| _mm256_maddubs_epi16(load_bytes(codes), weights);
        let bytes = _mm256_packus_epi16(pair(a), pair(b));
        store_bytes(out, _mm256_permute4x64_epi64::<0b11_01_10_00>(bytes));
    }
    let _ = (done, rest, out_rest);
    crate::pack::pack(&codes[64 * done..], 4, &mut packed[32 * done..]);
}

/// Asks for the entries that the next piece has in this place, so that memory works while codes are computed.
#[inline]
#[target_feature(enable = "avx2")]
fn prefetch(values: &[f32; 32]) {
    let ahead = values.as_ptr().wrapping_add(super::encode::PIECE);
    #[expect(unused_unsafe, reason = "the oldest compilers that this crate supports ask for it")]
    // SAFETY: a hint to the caches, which may name any address.
    unsafe {
        _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
        _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(16).cast());
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_4(values: &[f32; 4]) -> __m128 {
    // SAFETY: the reference is to 16 readable bytes; any alignment is allowed.
    unsafe { _mm_loadu_ps(values.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store_4(out: &mut [f32; 4], values: __m128) {
    // SAFETY: the reference is to 16 writable bytes; any alignment is allowed.
    unsafe { _mm_storeu_ps(out.as_mut_ptr(), values) }
}

/// The lower half.
#[inline]
#[target_feature(enable = "avx2")]
fn store_halves(out: &mut [u16; 4], values: __m128i) {
    // SAFETY: the reference is to 8 writable bytes; any alignment is allowed.
    unsafe { _mm_storel_epi64(out.as_mut_ptr().cast(), values) }
}

/// The lower half.
#[inline]
#[target_feature(enable = "avx2")]
fn store_8(out: &mut [u8; 8], bytes: __m128i) {
    // SAFETY: the reference is to 8 writable bytes; any alignment is allowed.
    unsafe { _mm_storel_epi64(out.as_mut_ptr().cast(), bytes) }
}
