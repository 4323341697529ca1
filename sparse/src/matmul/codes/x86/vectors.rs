//! The operations of the kernels, by the same names for both widths. `part` is which vector of a line.

/// 256 bits: half of a line.
pub(super) mod v256 {
    use super::super::{Line, ROWS};
    use core::arch::x86_64::*;

    /// A line's lanes of one block: sums in 16 bits that may wrap.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Sums<const WIDE: bool> {
        low: __m256i,
        high: __m256i,
        plain: __m256i,
    }

    impl<const WIDE: bool> Sums<WIDE> {
        #[inline]
        #[target_feature(enable = "avx2")]
        pub(in super::super) fn zero() -> Self {
            let zero = _mm256_setzero_si256();
            Self { low: zero, high: zero, plain: zero }
        }

        #[inline]
        #[target_feature(enable = "avx2")]
        pub(in super::super) fn add(&mut self, codes: __m256i, xs: __m256i, plain: bool) {
            let low = if WIDE { and(codes, splat(0x0F)) } else { codes };
            self.low = _mm256_add_epi16(self.low, _mm256_maddubs_epi16(low, xs));
            if WIDE {
                let high = and(right::<4>(codes), splat(0x0F));
                self.high = _mm256_add_epi16(self.high, _mm256_maddubs_epi16(high, xs));
            }
            if plain {
                self.plain = _mm256_add_epi16(self.plain, _mm256_maddubs_epi16(splat(1), xs));
            }
        }

        /// `Σ x` of the even and the odd 16-bit lanes.
        #[inline]
        #[target_feature(enable = "avx2")]
        pub(in super::super) fn set_plain(&mut self, plain: [i16; 2]) {
            let [even, odd] = plain.map(i16::cast_unsigned).map(u32::from);
            self.plain = splat_u32(even | odd << 16);
        }

        /// `Σ (code − centre)·x` and `Σ x` of each lane.
        #[inline]
        #[target_feature(enable = "avx2")]
        pub(in super::super) fn finish(self) -> (__m256i, __m256i) {
            let ones = _mm256_set1_epi16(1);
            let eight = _mm256_slli_epi16::<3>(self.plain);
            let centred = |sum| _mm256_madd_epi16(_mm256_sub_epi16(sum, eight), ones);
            let (low, plain) = (centred(self.low), _mm256_madd_epi16(self.plain, ones));
            if !WIDE {
                return (low, plain);
            }
            // 16·(h − 8) + (l − 8) + 8 = 16·h + l − 128.
            let high = _mm256_slli_epi32::<4>(centred(self.high));
            let eight = _mm256_slli_epi32::<3>(plain);
            (_mm256_add_epi32(_mm256_add_epi32(high, low), eight), plain)
        }
    }

    /// # Safety
    /// The line can be read, and part is 0 or 1.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(in super::super) unsafe fn load(line: *const Line, part: usize) -> __m256i {
        // SAFETY: half of the line.
        unsafe { _mm256_load_si256(line.cast::<__m256i>().add(part)) }
    }

    /// # Safety
    /// 16 bytes can be read.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(in super::super) unsafe fn splat_window(window: *const u8) -> __m256i {
        // SAFETY: 16 bytes.
        _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(window.cast()) })
    }

    /// # Safety
    /// A line of 16 floats can be read, and part is 0 or 1.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(in super::super) unsafe fn load_floats(line: *const f32, part: usize) -> __m256 {
        // SAFETY: half of the line.
        unsafe { _mm256_loadu_ps(line.add(ROWS / 2 * part)) }
    }

    /// # Safety
    /// 16 halves can be read, and part is 0 or 1.
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    pub(in super::super) unsafe fn load_halves(halves: *const u16, part: usize) -> __m256 {
        // SAFETY: eight of them.
        _mm256_cvtph_ps(unsafe { _mm_loadu_si128(halves.add(ROWS / 2 * part).cast()) })
    }

    /// # Safety
    /// 16 floats can be written, and part is 0 or 1.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(in super::super) unsafe fn store_floats(to: *mut f32, part: usize, values: __m256) {
        // SAFETY: eight of them.
        unsafe { _mm256_storeu_ps(to.add(ROWS / 2 * part), values) }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    pub(in super::super) fn shuffle(bytes: __m256i, places: __m256i) -> __m256i {
        _mm256_shuffle_epi8(bytes, places)
    }

    /// `low` in the lower two bytes of each lane, the shuffled `bytes` in the upper two.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(in super::super) fn upper_half(low: __m256i, bytes: __m256i, places: __m256i) -> __m256i {
        _mm256_blend_epi16::<0xAA>(low, _mm256_shuffle_epi8(bytes, places))
    }

    /// Byte b of each lane from window b.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(in super::super) fn four(windows: [__m256i; 4], places: __m256i) -> __m256i {
        let odd = _mm256_set1_epi16(0xFF00_u16.cast_signed());
        let [a, b, c, d] = windows.map(|window| _mm256_shuffle_epi8(window, places));
        let (low, high) = (_mm256_blendv_epi8(a, b, odd), _mm256_blendv_epi8(c, d, odd));
        _mm256_blend_epi16::<0xAA>(low, high)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    pub(in super::super) fn and(a: __m256i, b: __m256i) -> __m256i {
        _mm256_and_si256(a, b)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    pub(in super::super) fn or(a: __m256i, b: __m256i) -> __m256i {
        _mm256_or_si256(a, b)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    pub(in super::super) fn right<const N: i32>(a: __m256i) -> __m256i {
        _mm256_srli_epi16::<N>(a)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    pub(in super::super) fn left<const N: i32>(a: __m256i) -> __m256i {
        _mm256_slli_epi16::<N>(a)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    pub(in super::super) fn high_product(a: __m256i, b: __m256i) -> __m256i {
        _mm256_mulhi_epu16(a, b)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    pub(in super::super) fn splat(byte: i8) -> __m256i {
        _mm256_set1_epi8(byte)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    pub(in super::super) fn splat_u32(lane: u32) -> __m256i {
        _mm256_set1_epi32(lane.cast_signed())
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    pub(in super::super) fn floats(a: __m256i) -> __m256 {
        _mm256_cvtepi32_ps(a)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    pub(in super::super) fn zero_floats() -> __m256 {
        _mm256_setzero_ps()
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    pub(in super::super) fn splat_float(a: f32) -> __m256 {
        _mm256_set1_ps(a)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    pub(in super::super) fn sum(a: __m256, b: __m256) -> __m256 {
        _mm256_add_ps(a, b)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    pub(in super::super) fn product(a: __m256, b: __m256) -> __m256 {
        _mm256_mul_ps(a, b)
    }
}

/// 512 bits: a line, `part` is 0.
pub(super) mod v512 {
    use super::super::Line;
    use core::arch::x86_64::*;

    /// A line's lanes of one block: sums in 32 bits.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Sums<const WIDE: bool> {
        dot: __m512i,
        plain: __m512i,
    }

    impl<const WIDE: bool> Sums<WIDE> {
        #[inline]
        #[target_feature(enable = "avx512f")]
        pub(in super::super) fn zero() -> Self {
            Self { dot: _mm512_setzero_si512(), plain: _mm512_setzero_si512() }
        }

        #[inline]
        #[target_feature(enable = "avx512f,avx512vnni")]
        pub(in super::super) fn add(&mut self, codes: __m512i, xs: __m512i, plain: bool) {
            self.dot = _mm512_dpbusd_epi32(self.dot, codes, xs);
            if plain {
                self.plain = _mm512_dpbusd_epi32(self.plain, splat(1), xs);
            }
        }

        /// `Σ x` of the lower and the upper half of each lane.
        #[inline]
        #[target_feature(enable = "avx512f")]
        pub(in super::super) fn set_plain(&mut self, plain: [i16; 2]) {
            let [even, odd] = plain.map(i32::from);
            self.plain = _mm512_set1_epi32(even + odd);
        }

        /// `Σ (code − centre)·x` and `Σ x` of each lane.
        #[inline]
        #[target_feature(enable = "avx512f")]
        pub(in super::super) fn finish(self) -> (__m512i, __m512i) {
            let plain = self.plain;
            let offset = if WIDE { _mm512_slli_epi32::<7>(plain) } else { _mm512_slli_epi32::<3>(plain) };
            (_mm512_sub_epi32(self.dot, offset), plain)
        }
    }

    /// # Safety
    /// The line can be read.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(in super::super) unsafe fn load(line: *const Line, _: usize) -> __m512i {
        // SAFETY: the line.
        unsafe { _mm512_load_si512(line.cast()) }
    }

    /// # Safety
    /// 16 bytes can be read.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(in super::super) unsafe fn splat_window(window: *const u8) -> __m512i {
        // SAFETY: 16 bytes.
        _mm512_broadcast_i32x4(unsafe { _mm_loadu_si128(window.cast()) })
    }

    /// # Safety
    /// A line of 16 floats can be read.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(in super::super) unsafe fn load_floats(line: *const f32, _: usize) -> __m512 {
        // SAFETY: the line.
        unsafe { _mm512_loadu_ps(line) }
    }

    /// # Safety
    /// 16 halves can be read.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(in super::super) unsafe fn load_halves(halves: *const u16, _: usize) -> __m512 {
        // SAFETY: all of them.
        _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(halves.cast()) })
    }

    /// # Safety
    /// 16 floats can be written.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(in super::super) unsafe fn store_floats(to: *mut f32, _: usize, values: __m512) {
        // SAFETY: all of them.
        unsafe { _mm512_storeu_ps(to, values) }
    }

    #[inline]
    #[target_feature(enable = "avx512bw")]
    pub(in super::super) fn shuffle(bytes: __m512i, places: __m512i) -> __m512i {
        _mm512_shuffle_epi8(bytes, places)
    }

    /// `low` in the lower two bytes of each lane, the shuffled `bytes` in the upper two.
    #[inline]
    #[target_feature(enable = "avx512bw")]
    pub(in super::super) fn upper_half(low: __m512i, bytes: __m512i, places: __m512i) -> __m512i {
        _mm512_mask_shuffle_epi8(low, 0xCCCC_CCCC_CCCC_CCCC, bytes, places)
    }

    /// Byte b of each lane from window b.
    #[inline]
    #[target_feature(enable = "avx512bw")]
    pub(in super::super) fn four(windows: [__m512i; 4], places: __m512i) -> __m512i {
        let [a, b, c, d] = windows.map(|window| _mm512_shuffle_epi8(window, places));
        // 0xCA: the second where the first's bit is set, else the third.
        let choose = |mask: u32, x, y| _mm512_ternarylogic_epi32::<0xCA>(splat_u32(mask), x, y);
        choose(0xFFFF_0000, choose(0xFF00_FF00, d, c), choose(0xFF00_FF00, b, a))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(in super::super) fn and(a: __m512i, b: __m512i) -> __m512i {
        _mm512_and_si512(a, b)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(in super::super) fn or(a: __m512i, b: __m512i) -> __m512i {
        _mm512_or_si512(a, b)
    }

    #[inline]
    #[target_feature(enable = "avx512bw")]
    pub(in super::super) fn right<const N: u32>(a: __m512i) -> __m512i {
        _mm512_srli_epi16::<N>(a)
    }

    #[inline]
    #[target_feature(enable = "avx512bw")]
    pub(in super::super) fn left<const N: u32>(a: __m512i) -> __m512i {
        _mm512_slli_epi16::<N>(a)
    }

    #[inline]
    #[target_feature(enable = "avx512bw")]
    pub(in super::super) fn high_product(a: __m512i, b: __m512i) -> __m512i {
        _mm512_mulhi_epu16(a, b)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(in super::super) fn splat(byte: i8) -> __m512i {
        _mm512_set1_epi8(byte)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(in super::super) fn splat_u32(lane: u32) -> __m512i {
        _mm512_set1_epi32(lane.cast_signed())
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(in super::super) fn floats(a: __m512i) -> __m512 {
        _mm512_cvtepi32_ps(a)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(in super::super) fn zero_floats() -> __m512 {
        _mm512_setzero_ps()
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(in super::super) fn splat_float(a: f32) -> __m512 {
        _mm512_set1_ps(a)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(in super::super) fn sum(a: __m512, b: __m512) -> __m512 {
        _mm512_add_ps(a, b)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(in super::super) fn product(a: __m512, b: __m512) -> __m512 {
        _mm512_mul_ps(a, b)
    }
}
