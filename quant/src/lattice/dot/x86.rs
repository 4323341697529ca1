//! Chunks of 32 blocks on AVX2 and AVX-512, in two passes over a few chunks at a time.
//!
//! 1. The sign byte of every block, its top bit (which is the shift) replaced by the parity of the others, to a small
//!    buffer; the shifts times the sums of their blocks.
//! 2. Points by loads of eight bytes, four to a vector of 32; signs spread from bits to bytes (a mask, with AVX-512);
//!    one multiplication for each plane.

use super::{CHUNK, Line, Sums, TABLE};
use core::arch::x86_64::*;

/// Chunks between the two passes of AVX2: as many as its products add up in 16 bits, 2·8·1524 < 2¹⁵.
const CHUNKS_256: usize = 2;
/// Chunks between the two passes of AVX-512.
const CHUNKS_512: usize = 8;

/// Whether the processor has what [`chunks_512`] needs beyond AVX-512 F.
#[cfg(feature = "std")]
pub(super) fn has_512() -> bool {
    std::is_x86_feature_detected!("avx512f")
        && std::is_x86_feature_detected!("avx512bw")
        && std::is_x86_feature_detected!("avx512vnni")
}

/// Whether the processor has what [`chunks_512`] needs beyond AVX-512 F.
#[cfg(not(feature = "std"))]
pub(super) fn has_512() -> bool {
    cfg!(all(target_feature = "avx512f", target_feature = "avx512bw", target_feature = "avx512vnni"))
}

/// Parities of the numbers 0 … 15, in the top bit.
const PARITY: [i8; 16] = {
    let mut table = [0; 16];
    let mut at = 0;
    while at < 16_usize {
        table[at] = if at.count_ones() % 2 == 1 { i8::MIN } else { 0 };
        at += 1;
    }
    table
};

/// The points of four blocks whose codes start at `codes`, plus but for their patterns' parity.
///
/// # Safety
/// The CPU has AVX2; eight bytes are at `codes`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn four(codes: *const u8) -> __m256i {
    // SAFETY: eight bytes are there.
    let (a, b) =
        unsafe { (codes.cast::<u32>().read_unaligned(), codes.add(4).cast::<u32>().read_unaligned()) };
    // SAFETY: a byte is below 256, the entries of the table.
    let two = |first: u32, second: u32| unsafe {
        let entry = |pattern: u32| TABLE.as_ptr().add(pattern as usize).cast::<f64>();
        _mm_castpd_si128(_mm_loadh_pd(_mm_load_sd(entry(first)), entry(second)))
    };
    let (low, high) = (two(a >> 8 & 255, a >> 24), two(b >> 8 & 255, b >> 24));
    _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(low), high)
}

/// [`super::portable`], the same sums.
///
/// # Safety
/// The CPU has AVX2. Every plane has at least four lines and one [`Sums`] a chunk.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn chunks_256<const P: usize>(
    row: &[[u8; CHUNK]],
    planes: [(&[Line], &[Sums]); P],
) -> [i32; P] {
    let one = _mm256_set1_epi16(1);
    let (low7, top) = (_mm256_set1_epi16(0x7F), _mm256_set1_epi16(0x80));
    // SAFETY: sixteen bytes.
    let parity = _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(PARITY.as_ptr().cast()) });
    let spread = _mm256_setr_epi64x(0, 0x0202_0202_0202_0202, 0x0404_0404_0404_0404, 0x0606_0606_0606_0606);
    let bits = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64.cast_signed());
    let seven = _mm256_set1_epi8(7);
    let mut products = [_mm256_setzero_si256(); P];
    let mut shifts = [_mm256_setzero_si256(); P];
    // Of each block a word with its signs.
    let mut signs = [[0_u64; CHUNK / 8]; CHUNKS_256];
    for (part, codes) in row.chunks(CHUNKS_256).enumerate() {
        let first = part * CHUNKS_256;
        for (at, (codes, signs)) in codes.iter().zip(&mut signs).enumerate() {
            for half in 0..2 {
                // SAFETY: both halves of the 64 bytes, of the 64 bytes of signs, and of the chunk's Sums.
                unsafe {
                    let code = _mm256_loadu_si256(codes.as_ptr().add(32 * half).cast());
                    let low = _mm256_and_si256(code, low7);
                    // Bits 0 to 3, then 4 to 6; the upper byte is zero and even.
                    let odd = _mm256_xor_si256(
                        _mm256_shuffle_epi8(parity, low),
                        _mm256_shuffle_epi8(parity, _mm256_srli_epi16::<4>(low)),
                    );
                    let to = signs.as_mut_ptr().add(4 * half).cast();
                    _mm256_storeu_si256(to, _mm256_or_si256(low, odd));
                    let shift = _mm256_and_si256(code, top);
                    for (shifts, (_, blocks)) in shifts.iter_mut().zip(planes) {
                        let sums = blocks.as_ptr().add(first + at).cast::<i16>().add(16 * half);
                        let sums = _mm256_loadu_si256(sums.cast());
                        *shifts = _mm256_add_epi32(*shifts, _mm256_madd_epi16(shift, sums));
                    }
                }
            }
        }
        let mut sums = [_mm256_setzero_si256(); P];
        for (at, (codes, signs)) in codes.iter().zip(&signs).enumerate() {
            for (step, &signs) in signs.iter().enumerate() {
                // SAFETY: eight of the 64 bytes.
                let points = unsafe { four(codes.as_ptr().add(8 * step)) };
                let signs = _mm256_shuffle_epi8(_mm256_set1_epi64x(signs.cast_signed()), spread);
                let minus = _mm256_cmpeq_epi8(_mm256_and_si256(signs, bits), bits);
                let points = _mm256_xor_si256(points, _mm256_and_si256(minus, seven));
                for (sums, (lines, _)) in sums.iter_mut().zip(planes) {
                    // SAFETY: a chunk has 256 bytes of four lines, a step 32.
                    let x = unsafe {
                        let line = lines.as_ptr().add(4 * (first + at)).cast::<u8>();
                        _mm256_loadu_si256(line.add(32 * step).cast())
                    };
                    *sums = _mm256_add_epi16(*sums, _mm256_maddubs_epi16(points, x));
                }
            }
        }
        for (products, sums) in products.iter_mut().zip(sums) {
            *products = _mm256_add_epi32(*products, _mm256_madd_epi16(sums, one));
        }
    }
    let mut sums = [0; P];
    for (sum, (products, shifts)) in sums.iter_mut().zip(products.into_iter().zip(shifts)) {
        // Shifts are whole multiples of 128.
        let all = _mm256_sub_epi32(_mm256_add_epi32(products, products), _mm256_srai_epi32::<7>(shifts));
        let all = _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256::<1>(all));
        let all = _mm_add_epi32(all, _mm_shuffle_epi32::<0b11_10_11_10>(all));
        *sum = 2 * _mm_cvtsi128_si32(_mm_add_epi32(all, _mm_shuffle_epi32::<0b01_01_01_01>(all)));
    }
    sums
}

/// [`super::portable`], the same sums.
///
/// # Safety
/// The CPU has AVX2 and what [`has_512`] asks for. Every plane has at least four lines and one [`Sums`] a chunk.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vnni")]
pub(super) unsafe fn chunks_512<const P: usize>(
    row: &[[u8; CHUNK]],
    planes: [(&[Line], &[Sums]); P],
) -> [i32; P] {
    let (low7, top) = (_mm512_set1_epi16(0x7F), _mm512_set1_epi16(0x80));
    // SAFETY: sixteen bytes.
    let parity = _mm512_broadcast_i32x4(unsafe { _mm_loadu_si128(PARITY.as_ptr().cast()) });
    let seven = _mm512_set1_epi8(7);
    let mut products = [_mm512_setzero_si512(); P];
    let mut shifts = [_mm512_setzero_si512(); P];
    // Of each block a byte with its signs, of eight blocks a mask.
    let mut signs = [[0_u64; 4]; CHUNKS_512];
    for (part, codes) in row.chunks(CHUNKS_512).enumerate() {
        let first = part * CHUNKS_512;
        for (at, (codes, signs)) in codes.iter().zip(&mut signs).enumerate() {
            // SAFETY: the 64 bytes, the 32 bytes of signs, and the 64 bytes of the chunk's Sums.
            unsafe {
                let code = _mm512_loadu_si512(codes.as_ptr().cast());
                let low = _mm512_and_si512(code, low7);
                let odd = _mm512_xor_si512(
                    _mm512_shuffle_epi8(parity, low),
                    _mm512_shuffle_epi8(parity, _mm512_srli_epi16::<4>(low)),
                );
                let bytes = _mm512_cvtepi16_epi8(_mm512_or_si512(low, odd));
                _mm256_storeu_si256(signs.as_mut_ptr().cast(), bytes);
                let shift = _mm512_and_si512(code, top);
                for (shifts, (_, blocks)) in shifts.iter_mut().zip(planes) {
                    let sums = _mm512_loadu_si512(blocks.as_ptr().add(first + at).cast());
                    *shifts = _mm512_dpwssd_epi32(*shifts, shift, sums);
                }
            }
        }
        for (at, (codes, signs)) in codes.iter().zip(&signs).enumerate() {
            for (step, &minus) in signs.iter().enumerate() {
                // SAFETY: sixteen of the 64 bytes.
                let (low, high) = unsafe {
                    let codes = codes.as_ptr().add(16 * step);
                    (four(codes), four(codes.add(8)))
                };
                let points = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high);
                // The 3-bit complement of 1 … 6.
                let points = _mm512_mask_sub_epi8(points, minus, seven, points);
                for (products, (lines, _)) in products.iter_mut().zip(planes) {
                    // SAFETY: a chunk has four lines.
                    let x = unsafe { _mm512_loadu_si512(lines.as_ptr().add(4 * (first + at) + step).cast()) };
                    *products = _mm512_dpbusd_epi32(*products, points, x);
                }
            }
        }
    }
    let mut sums = [0; P];
    for (sum, (products, shifts)) in sums.iter_mut().zip(products.into_iter().zip(shifts)) {
        // Shifts are whole multiples of 128.
        let all = _mm512_sub_epi32(_mm512_add_epi32(products, products), _mm512_srai_epi32::<7>(shifts));
        *sum = 2 * _mm512_reduce_add_epi32(all);
    }
    sums
}
