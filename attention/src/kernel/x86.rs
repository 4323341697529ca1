//! AVX2 and AVX-512 vectors.
//!
//! Every intrinsic here is called in a method of a token whose only constructor asks the processor; the methods are
//! inlined into [`avx2`] or [`avx512`], which have the instruction set.

use core::arch::x86_64::*;

use super::simd::{EXP2_DOUBLE, EXP2_SINGLE, Kernel, MAGIC_DOUBLE, MAGIC_SINGLE, Simd, Work};

/// Proof of AVX2 and FMA.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Avx2(());

/// Proof of AVX-512 F beside those.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Avx512(());

impl Avx2 {
    pub(super) fn detect() -> Option<Self> {
        #[cfg(feature = "std")]
        let found = std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma");
        #[cfg(not(feature = "std"))]
        let found = cfg!(all(target_feature = "avx2", target_feature = "fma"));
        found.then_some(Self(()))
    }
}

impl Avx512 {
    pub(super) fn detect() -> Option<Self> {
        #[cfg(feature = "std")]
        let found = std::is_x86_feature_detected!("avx512f");
        #[cfg(not(feature = "std"))]
        let found = cfg!(target_feature = "avx512f");
        (found && Avx2::detect().is_some()).then_some(Self(()))
    }
}

/// Runs `work` with AVX2 and FMA.
#[inline]
pub(super) fn avx2<T, K: Work<T>>(token: Avx2, work: K)
where
    Avx2: Simd<T>,
{
    #[target_feature(enable = "avx2,fma")]
    fn inner<T, K: Work<T>>(token: Avx2, work: K)
    where
        Avx2: Simd<T>,
    {
        work.run(token);
    }
    // SAFETY: the token was made by `detect`, which found AVX2 and FMA.
    unsafe { inner(token, work) }
}

/// Runs `work` with AVX-512 F, AVX2 and FMA.
#[inline]
pub(super) fn avx512<T, K: Work<T>>(token: Avx512, work: K)
where
    Avx512: Simd<T>,
{
    #[target_feature(enable = "avx512f,avx2,fma")]
    fn inner<T, K: Work<T>>(token: Avx512, work: K)
    where
        Avx512: Simd<T>,
    {
        work.run(token);
    }
    // SAFETY: the token was made by `detect`, which found AVX-512 F, AVX2 and FMA.
    unsafe { inner(token, work) }
}

macro_rules! vectors {
    (
        $token:ty, $type:ty, $vector:ty, $lanes:literal, $rows:literal,
        $splat:ident, $load:ident, $store:ident, $fma:ident, $add:ident, $sub:ident, $mul:ident, $max:ident,
        $scale:expr, $floor:expr, $keep:expr, $polynomial:ident, $magic:ident
    ) => {
        impl Simd<$type> for $token {
            type Vector = $vector;
            const LANES: usize = $lanes;
            const ROWS: usize = $rows;

            #[inline(always)]
            fn splat(self, x: $type) -> $vector {
                // SAFETY: the token proves the instruction set.
                unsafe { $splat(x) }
            }
            #[inline(always)]
            fn load<const W: usize>(self, row: &[$type; W], part: usize) -> $vector {
                let lanes = &row[part * $lanes..(part + 1) * $lanes];
                // SAFETY: the token proves the instruction set; the slice has as many elements as are read.
                unsafe { $load(lanes.as_ptr()) }
            }
            #[inline(always)]
            fn store<const W: usize>(self, x: $vector, row: &mut [$type; W], part: usize) {
                let lanes = &mut row[part * $lanes..(part + 1) * $lanes];
                // SAFETY: the token proves the instruction set; the slice has as many elements as are written.
                unsafe { $store(lanes.as_mut_ptr(), x) }
            }
            #[inline(always)]
            fn mul_add(self, a: $vector, b: $vector, c: $vector) -> $vector {
                // SAFETY: the token proves the instruction set.
                unsafe { $fma(a, b, c) }
            }
            #[inline(always)]
            fn add(self, a: $vector, b: $vector) -> $vector {
                // SAFETY: the token proves the instruction set.
                unsafe { $add(a, b) }
            }
            #[inline(always)]
            fn sub(self, a: $vector, b: $vector) -> $vector {
                // SAFETY: the token proves the instruction set.
                unsafe { $sub(a, b) }
            }
            #[inline(always)]
            fn mul(self, a: $vector, b: $vector) -> $vector {
                // SAFETY: the token proves the instruction set.
                unsafe { $mul(a, b) }
            }
            #[inline(always)]
            fn max(self, a: $vector, b: $vector) -> $vector {
                // SAFETY: the token proves the instruction set.
                unsafe { $max(a, b) }
            }
            #[inline(always)]
            fn exp2(self, x: $vector) -> $vector {
                let (last, rest) =
                    ($polynomial[$polynomial.len() - 1], &$polynomial[..$polynomial.len() - 1]);
                // SAFETY: the token proves the instruction set.
                unsafe {
                    let (magic, least) = ($splat($magic), $splat(<$type as Kernel>::LEAST_EXPONENT));
                    // A NaN in the second operand is what max hands back.
                    let bounded = $max(least, x);
                    let shifted = $add(bounded, magic);
                    let f = $sub(bounded, $sub(shifted, magic));
                    let mut power = $splat(last);
                    for &c in rest.iter().rev() {
                        power = $fma(power, f, $splat(c));
                    }
                    $floor(x, least, $scale(power, shifted))
                }
            }
            #[inline(always)]
            fn keep(self, x: $vector, bits: u32) -> $vector {
                // SAFETY: the token proves the instruction set.
                unsafe { $keep(x, bits, $splat(<$type>::NEG_INFINITY)) }
            }
        }
    };
}

/// `power·2ⁿ`, n in the low bits of `shifted`: added to the exponent field.
#[inline]
#[target_feature(enable = "avx512f")]
fn scale_ps_512(power: __m512, shifted: __m512) -> __m512 {
    let n = _mm512_slli_epi32::<23>(_mm512_castps_si512(shifted));
    _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(power), n))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn scale_pd_512(power: __m512d, shifted: __m512d) -> __m512d {
    let n = _mm512_slli_epi64::<52>(_mm512_castpd_si512(shifted));
    _mm512_castsi512_pd(_mm512_add_epi64(_mm512_castpd_si512(power), n))
}

#[inline]
#[target_feature(enable = "avx2")]
fn scale_ps_256(power: __m256, shifted: __m256) -> __m256 {
    let n = _mm256_slli_epi32::<23>(_mm256_castps_si256(shifted));
    _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(power), n))
}

#[inline]
#[target_feature(enable = "avx2")]
fn scale_pd_256(power: __m256d, shifted: __m256d) -> __m256d {
    let n = _mm256_slli_epi64::<52>(_mm256_castpd_si256(shifted));
    _mm256_castsi256_pd(_mm256_add_epi64(_mm256_castpd_si256(power), n))
}

/// `value` where `x ≥ least`, `x` itself where it is NaN, else 0.
#[inline]
#[target_feature(enable = "avx512f")]
fn floor_ps_512(x: __m512, least: __m512, value: __m512) -> __m512 {
    let value = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_NLT_UQ>(x, least), value);
    _mm512_mask_mov_ps(value, _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x), x)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn floor_pd_512(x: __m512d, least: __m512d, value: __m512d) -> __m512d {
    let value = _mm512_maskz_mov_pd(_mm512_cmp_pd_mask::<_CMP_NLT_UQ>(x, least), value);
    _mm512_mask_mov_pd(value, _mm512_cmp_pd_mask::<_CMP_UNORD_Q>(x, x), x)
}

#[inline]
#[target_feature(enable = "avx2")]
fn floor_ps_256(x: __m256, least: __m256, value: __m256) -> __m256 {
    let value = _mm256_and_ps(_mm256_cmp_ps::<_CMP_NLT_UQ>(x, least), value);
    _mm256_blendv_ps(value, x, _mm256_cmp_ps::<_CMP_UNORD_Q>(x, x))
}

#[inline]
#[target_feature(enable = "avx2")]
fn floor_pd_256(x: __m256d, least: __m256d, value: __m256d) -> __m256d {
    let value = _mm256_and_pd(_mm256_cmp_pd::<_CMP_NLT_UQ>(x, least), value);
    _mm256_blendv_pd(value, x, _mm256_cmp_pd::<_CMP_UNORD_Q>(x, x))
}

#[inline]
#[target_feature(enable = "avx512f")]
#[expect(clippy::cast_possible_truncation, reason = "a register has 16 lanes")]
fn keep_ps_512(x: __m512, bits: u32, other: __m512) -> __m512 {
    _mm512_mask_mov_ps(other, bits as u16, x)
}

#[inline]
#[target_feature(enable = "avx512f")]
#[expect(clippy::cast_possible_truncation, reason = "a register has 8 lanes")]
fn keep_pd_512(x: __m512d, bits: u32, other: __m512d) -> __m512d {
    _mm512_mask_mov_pd(other, bits as u8, x)
}

#[inline]
#[target_feature(enable = "avx2")]
fn keep_ps_256(x: __m256, bits: u32, other: __m256) -> __m256 {
    let lanes = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    let set = _mm256_and_si256(_mm256_set1_epi32(bits.cast_signed()), lanes);
    _mm256_blendv_ps(other, x, _mm256_castsi256_ps(_mm256_cmpeq_epi32(set, lanes)))
}

#[inline]
#[target_feature(enable = "avx2")]
fn keep_pd_256(x: __m256d, bits: u32, other: __m256d) -> __m256d {
    let lanes = _mm256_setr_epi64x(1, 2, 4, 8);
    let set = _mm256_and_si256(_mm256_set1_epi64x(i64::from(bits)), lanes);
    _mm256_blendv_pd(other, x, _mm256_castsi256_pd(_mm256_cmpeq_epi64(set, lanes)))
}

vectors!(
    Avx512,
    f32,
    __m512,
    16,
    8,
    _mm512_set1_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_fmadd_ps,
    _mm512_add_ps,
    _mm512_sub_ps,
    _mm512_mul_ps,
    _mm512_max_ps,
    scale_ps_512,
    floor_ps_512,
    keep_ps_512,
    EXP2_SINGLE,
    MAGIC_SINGLE
);
vectors!(
    Avx512,
    f64,
    __m512d,
    8,
    8,
    _mm512_set1_pd,
    _mm512_loadu_pd,
    _mm512_storeu_pd,
    _mm512_fmadd_pd,
    _mm512_add_pd,
    _mm512_sub_pd,
    _mm512_mul_pd,
    _mm512_max_pd,
    scale_pd_512,
    floor_pd_512,
    keep_pd_512,
    EXP2_DOUBLE,
    MAGIC_DOUBLE
);
vectors!(
    Avx2,
    f32,
    __m256,
    8,
    6,
    _mm256_set1_ps,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_fmadd_ps,
    _mm256_add_ps,
    _mm256_sub_ps,
    _mm256_mul_ps,
    _mm256_max_ps,
    scale_ps_256,
    floor_ps_256,
    keep_ps_256,
    EXP2_SINGLE,
    MAGIC_SINGLE
);
vectors!(
    Avx2,
    f64,
    __m256d,
    4,
    6,
    _mm256_set1_pd,
    _mm256_loadu_pd,
    _mm256_storeu_pd,
    _mm256_fmadd_pd,
    _mm256_add_pd,
    _mm256_sub_pd,
    _mm256_mul_pd,
    _mm256_max_pd,
    scale_pd_256,
    floor_pd_256,
    keep_pd_256,
    EXP2_DOUBLE,
    MAGIC_DOUBLE
);
