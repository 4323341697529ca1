//! The loops of AVX2: extremes, scales, codes.
//!
//! Every step is the correctly rounded operation of the portable code on eight lanes, or a whole-number operation with
//! the same result, so the bits are the same. Groups are runs of `size` entries, the last of which may be shorter.

use super::avx2::{Avx2, load, load_bytes, store_bytes};
use crate::MiniFloat;
use core::arch::x86_64::{
    __m128, __m128i, __m256, __m256d, __m256i, _CMP_GT_OQ, _CMP_LE_OQ, _CMP_LT_OQ, _MM_FROUND_TO_NEAREST_INT,
    _mm_add_epi32, _mm_and_si128, _mm_castps_si128, _mm_castsi128_ps, _mm_cmpeq_epi32, _mm_cvtph_ps,
    _mm_cvtps_ph, _mm_cvtsi32_si128, _mm_cvtsi128_si32, _mm_loadu_ps, _mm_max_epu32, _mm_max_ps, _mm_min_ps,
    _mm_packs_epi32, _mm_packus_epi16, _mm_set1_epi32, _mm_setzero_si128, _mm_shuffle_epi32, _mm_shuffle_ps,
    _mm_storel_epi64, _mm_storeu_ps, _mm_sub_epi32, _mm256_add_epi32, _mm256_and_si256, _mm256_andnot_pd,
    _mm256_castpd_ps, _mm256_castps_si256, _mm256_castps256_ps128, _mm256_castsi256_ps,
    _mm256_castsi256_si128, _mm256_cmp_pd, _mm256_cmp_ps, _mm256_cvtpd_ps, _mm256_cvtps_epi32,
    _mm256_cvtps_pd, _mm256_div_pd, _mm256_div_ps, _mm256_extractf128_ps, _mm256_extracti128_si256,
    _mm256_maddubs_epi16, _mm256_max_epi32, _mm256_max_epu32, _mm256_max_ps, _mm256_min_pd, _mm256_min_ps,
    _mm256_movemask_pd, _mm256_mul_pd, _mm256_mul_ps, _mm256_or_si256, _mm256_packs_epi32,
    _mm256_packus_epi16, _mm256_permute4x64_epi64, _mm256_permutevar8x32_epi32, _mm256_permutevar8x32_ps,
    _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_pd, _mm256_set1_ps, _mm256_setr_epi32,
    _mm256_setzero_ps, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_sll_epi32, _mm256_slli_epi32,
    _mm256_srl_epi32, _mm256_srli_epi32, _mm256_sub_epi32, _mm256_sub_pd,
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
    for (top, values) in tops.iter_mut().zip(values.chunks(size)) {
        // As whole numbers the magnitudes have the order of the floats, with infinities and NaN above all.
        let mut largest = [_mm256_setzero_si256(); 4];
        let (fours, rest) = values.as_chunks::<32>();
        for four in fours {
            let (eights, _) = four.as_chunks::<8>();
            for (largest, eight) in largest.iter_mut().zip(eights) {
                *largest =
                    _mm256_max_epu32(*largest, _mm256_and_si256(_mm256_castps_si256(load(eight)), magnitude));
            }
        }
        let (eights, rest) = rest.as_chunks::<8>();
        for eight in eights {
            largest[0] =
                _mm256_max_epu32(largest[0], _mm256_and_si256(_mm256_castps_si256(load(eight)), magnitude));
        }
        let pairs = (_mm256_max_epu32(largest[0], largest[1]), _mm256_max_epu32(largest[2], largest[3]));
        let eight = _mm256_max_epu32(pairs.0, pairs.1);
        let four = _mm_max_epu32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256::<1>(eight));
        let two = _mm_max_epu32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
        let one = _mm_max_epu32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two));
        let mut bits = _mm_cvtsi128_si32(one).cast_unsigned();
        for value in rest {
            bits = bits.max(value.abs().to_bits());
        }
        finite &= bits < INFINITE;
        *top = f32::from_bits(bits);
    }
    finite
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
    let groups = values.chunks(size).zip(codes.chunks_mut(size)).zip(divisors).zip(zeros);
    for (((values, codes), &divisor), &zero) in groups {
        let divisor = _mm256_set1_ps(divisor);
        let (low, high) = (_mm256_set1_ps(whole.floor - zero), _mm256_set1_ps(whole.top - zero));
        // At most 255, exactly.
        let zero = _mm256_cvtps_epi32(_mm256_set1_ps(zero));
        each(values, codes, |x| {
            let scaled = _mm256_div_ps(x, divisor);
            let scaled = if PLAIN { scaled } else { _mm256_mul_ps(scaled, unit) };
            let clamped = _mm256_min_ps(_mm256_max_ps(scaled, low), high);
            let code = _mm256_add_epi32(_mm256_cvtps_epi32(clamped), zero);
            if PLAIN { code } else { xor(code, inverted) }
        });
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
    // A binary search: the rank found so far chooses the next middle.
    let m = middles;
    let first = _mm256_set1_ps(m[7]);
    let second = load(&[m[3], m[11], 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    let third = load(&[m[1], m[5], m[9], m[13], 0.0, 0.0, 0.0, 0.0]);
    let fourth = load(&[m[0], m[2], m[4], m[6], m[8], m[10], m[12], m[14]]);
    for ((values, codes), &factor) in values.chunks(size).zip(codes.chunks_mut(size)).zip(factors) {
        let factor = _mm256_set1_ps(factor);
        each(values, codes, |x| {
            let x = _mm256_mul_ps(x, factor);
            let above = |middle| _mm256_castps_si256(_mm256_cmp_ps::<_CMP_GT_OQ>(x, middle));
            let rank = _mm256_sub_epi32(_mm256_setzero_si256(), above(first));
            let mut rank = rank;
            for table in [second, third, fourth] {
                let mask = above(_mm256_permutevar8x32_ps(table, rank));
                rank = _mm256_sub_epi32(_mm256_add_epi32(rank, rank), mask);
            }
            rank
        });
    }
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
    for ((values, codes), &by) in values.chunks(size).zip(codes.chunks_mut(size)).zip(by) {
        let by = _mm256_set1_ps(by);
        each(values, codes, |x| {
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
        });
    }
}

/// `step` on eight entries at a time, whose results (0 ..= 255) become bytes.
#[inline]
#[target_feature(enable = "avx2")]
fn each(values: &[f32], codes: &mut [u8], step: impl Fn(__m256) -> __m256i) {
    let (blocks, rest) = values.as_chunks::<32>();
    let (out, out_rest) = codes.as_chunks_mut::<32>();
    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    for (values, out) in blocks.iter().zip(out) {
        let ([a, b, c, d], _) = values.as_chunks::<8>() else { continue };
        let (a, b, c, d) = (step(load(a)), step(load(b)), step(load(c)), step(load(d)));
        let bytes = _mm256_packus_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
        store_bytes(out, _mm256_permutevar8x32_epi32(bytes, order));
    }
    for (values, out) in rest.chunks(8).zip(out_rest.chunks_mut(8)) {
        let mut eight = [0.0; 8];
        eight[..values.len()].copy_from_slice(values);
        let found = step(load(&eight));
        let words = _mm_packs_epi32(_mm256_castsi256_si128(found), _mm256_extracti128_si256::<1>(found));
        let mut bytes = [0; 8];
        store_8(&mut bytes, _mm_packus_epi16(words, words));
        out.copy_from_slice(&bytes[..out.len()]);
    }
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
