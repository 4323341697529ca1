//! Several f64 at once: what the kernels need of a vector register, for one value, AVX2 + FMA and AVX-512.
//!
//! Every operation is one rounding of IEEE 754, fused multiply-add included, so that all three give the same bits.

use core::ops::{Add, Div, Mul, Neg, Sub};

/// A group of f64, computed with in step.
pub(super) trait Lanes:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self> + Neg<Output = Self>
{
    /// How many.
    const WIDTH: usize;

    /// The same value everywhere.
    fn splat(value: f64) -> Self;

    /// The first `WIDTH` values of a slice; lanes beyond its end hold 1.
    fn load(from: &[f64]) -> Self;

    /// Stores to the first `WIDTH` places, as far as they exist.
    fn store(self, to: &mut [f64]);

    /// self·b + c with one rounding.
    fn fma(self, b: Self, c: Self) -> Self;

    /// √self.
    fn sqrt(self) -> Self;

    /// `yes` where self < bound, else `no`.
    fn below(self, bound: Self, yes: Self, no: Self) -> Self;

    /// m in [1, 2) and e with self = m·2ᵉ, for normal positive numbers.
    fn split(self) -> (Self, Self);

    /// 2ⁿ of an integer n in −1022 … 1023.
    fn power_of_two(self) -> Self;

    /// Nearest integer, ties to even, of what is below 2⁵¹.
    #[inline(always)]
    fn round(self) -> Self {
        let shift = Self::splat(6_755_399_441_055_744.0);
        (self + shift) - shift
    }
}

/// 1.5·2⁵² + 1023: adding it leaves the biased exponent in the low bits.
const BIASED: f64 = 6_755_399_441_056_767.0;
const MANTISSA: u64 = 0x000f_ffff_ffff_ffff;
const ONE: u64 = 0x3ff0_0000_0000_0000;
const EXPONENT: u64 = 0x4330_0000_0000_0000;
const EXPONENT_BIAS: f64 = 4_503_599_627_371_519.0;

impl Lanes for f64 {
    const WIDTH: usize = 1;

    #[inline(always)]
    fn splat(value: f64) -> Self {
        value
    }

    #[inline(always)]
    fn load(from: &[f64]) -> Self {
        from.first().copied().unwrap_or(1.0)
    }

    #[inline(always)]
    fn store(self, to: &mut [f64]) {
        if let Some(first) = to.first_mut() {
            *first = self;
        }
    }

    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        #[cfg(feature = "std")]
        return f64::mul_add(self, b, c);
        #[cfg(not(feature = "std"))]
        return libm::fma(self, b, c);
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        libm::sqrt(self)
    }

    #[inline(always)]
    fn below(self, bound: Self, yes: Self, no: Self) -> Self {
        if self < bound { yes } else { no }
    }

    #[inline(always)]
    fn split(self) -> (Self, Self) {
        let bits = self.to_bits();
        (Self::from_bits(bits & MANTISSA | ONE), Self::from_bits(bits >> 52 | EXPONENT) - EXPONENT_BIAS)
    }

    #[inline(always)]
    fn power_of_two(self) -> Self {
        Self::from_bits((self + BIASED).to_bits() << 52)
    }
}

#[cfg(all(feature = "std", target_arch = "x86_64"))]
pub(super) mod x86 {
    use super::{Add, BIASED, Div, EXPONENT, EXPONENT_BIAS, Lanes, MANTISSA, Mul, Neg, ONE, Sub};
    use core::arch::x86_64::*;

    macro_rules! lanes {
        ($name:ident, $register:ty, $width:literal, $feature:literal, $load:ident, $store:ident, $splat:ident,
         $add:ident, $sub:ident, $mul:ident, $div:ident, $fma:ident, $sqrt:ident, $select:expr, $split:expr, $power:expr) => {
            #[doc = concat!("Of ", $feature, ". Only made and used inside functions compiled for it.")]
            #[derive(Clone, Copy)]
            pub(in super::super) struct $name($register);

            lanes!(@operator $name, Add, add, $add, $feature);
            lanes!(@operator $name, Sub, sub, $sub, $feature);
            lanes!(@operator $name, Mul, mul, $mul, $feature);
            lanes!(@operator $name, Div, div, $div, $feature);

            impl Neg for $name {
                type Output = Self;

                #[inline(always)]
                fn neg(self) -> Self {
                    Self::splat(-0.0) - self
                }
            }

            impl Lanes for $name {
                const WIDTH: usize = $width;

                #[inline(always)]
                fn splat(value: f64) -> Self {
                    // SAFETY: values of this type exist only where the caller detected the instructions.
                    Self(unsafe { $splat(value) })
                }

                #[inline(always)]
                fn load(from: &[f64]) -> Self {
                    if from.len() >= $width {
                        // SAFETY: the slice holds a whole register, and the instructions were detected.
                        return Self(unsafe { $load(from.as_ptr()) });
                    }
                    let mut whole = [1.0; $width];
                    for (to, &from) in whole.iter_mut().zip(from) {
                        *to = from;
                    }
                    // SAFETY: the array is one register, and the instructions were detected.
                    Self(unsafe { $load(whole.as_ptr()) })
                }

                #[inline(always)]
                fn store(self, to: &mut [f64]) {
                    if to.len() >= $width {
                        // SAFETY: the slice has room for a whole register, and the instructions were detected.
                        return unsafe { $store(to.as_mut_ptr(), self.0) };
                    }
                    let mut whole = [0.0; $width];
                    // SAFETY: the array is one register, and the instructions were detected.
                    unsafe { $store(whole.as_mut_ptr(), self.0) };
                    for (to, from) in to.iter_mut().zip(whole) {
                        *to = from;
                    }
                }

                #[inline(always)]
                fn fma(self, b: Self, c: Self) -> Self {
                    // SAFETY: values of this type exist only where the caller detected the instructions.
                    Self(unsafe { $fma(self.0, b.0, c.0) })
                }

                #[inline(always)]
                fn sqrt(self) -> Self {
                    // SAFETY: values of this type exist only where the caller detected the instructions.
                    Self(unsafe { $sqrt(self.0) })
                }

                #[inline(always)]
                fn below(self, bound: Self, yes: Self, no: Self) -> Self {
                    // SAFETY: values of this type exist only where the caller detected the instructions.
                    Self(unsafe { $select(self.0, bound.0, yes.0, no.0) })
                }

                #[inline(always)]
                fn split(self) -> (Self, Self) {
                    // SAFETY: values of this type exist only where the caller detected the instructions.
                    let (mantissa, exponent) = unsafe { $split(self.0) };
                    (Self(mantissa), Self(exponent) - Self::splat(EXPONENT_BIAS))
                }

                #[inline(always)]
                fn power_of_two(self) -> Self {
                    // SAFETY: values of this type exist only where the caller detected the instructions.
                    Self(unsafe { $power((self + Self::splat(BIASED)).0) })
                }
            }
        };
        (@operator $name:ident, $trait:ident, $method:ident, $intrinsic:ident, $feature:literal) => {
            impl $trait for $name {
                type Output = Self;

                #[inline(always)]
                fn $method(self, other: Self) -> Self {
                    // SAFETY: values of this type exist only where the caller detected the instructions.
                    Self(unsafe { $intrinsic(self.0, other.0) })
                }
            }
        };
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn select4(a: __m256d, b: __m256d, yes: __m256d, no: __m256d) -> __m256d {
        _mm256_blendv_pd(no, yes, _mm256_cmp_pd::<_CMP_LT_OQ>(a, b))
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn split4(a: __m256d) -> (__m256d, __m256d) {
        let bits = _mm256_castpd_si256(a);
        let mantissa = _mm256_and_si256(bits, _mm256_set1_epi64x(MANTISSA.cast_signed()));
        let exponent = _mm256_srli_epi64::<52>(bits);
        (
            _mm256_castsi256_pd(_mm256_or_si256(mantissa, _mm256_set1_epi64x(ONE.cast_signed()))),
            _mm256_castsi256_pd(_mm256_or_si256(exponent, _mm256_set1_epi64x(EXPONENT.cast_signed()))),
        )
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn power4(a: __m256d) -> __m256d {
        _mm256_castsi256_pd(_mm256_slli_epi64::<52>(_mm256_castpd_si256(a)))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn select8(a: __m512d, b: __m512d, yes: __m512d, no: __m512d) -> __m512d {
        _mm512_mask_blend_pd(_mm512_cmp_pd_mask::<_CMP_LT_OQ>(a, b), no, yes)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn split8(a: __m512d) -> (__m512d, __m512d) {
        let bits = _mm512_castpd_si512(a);
        let mantissa = _mm512_and_si512(bits, _mm512_set1_epi64(MANTISSA.cast_signed()));
        let exponent = _mm512_srli_epi64::<52>(bits);
        (
            _mm512_castsi512_pd(_mm512_or_si512(mantissa, _mm512_set1_epi64(ONE.cast_signed()))),
            _mm512_castsi512_pd(_mm512_or_si512(exponent, _mm512_set1_epi64(EXPONENT.cast_signed()))),
        )
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn power8(a: __m512d) -> __m512d {
        _mm512_castsi512_pd(_mm512_slli_epi64::<52>(_mm512_castpd_si512(a)))
    }

    lanes!(
        X4,
        __m256d,
        4,
        "AVX2 and FMA",
        _mm256_loadu_pd,
        _mm256_storeu_pd,
        _mm256_set1_pd,
        _mm256_add_pd,
        _mm256_sub_pd,
        _mm256_mul_pd,
        _mm256_div_pd,
        _mm256_fmadd_pd,
        _mm256_sqrt_pd,
        select4,
        split4,
        power4
    );
    lanes!(
        X8,
        __m512d,
        8,
        "AVX-512F",
        _mm512_loadu_pd,
        _mm512_storeu_pd,
        _mm512_set1_pd,
        _mm512_add_pd,
        _mm512_sub_pd,
        _mm512_mul_pd,
        _mm512_div_pd,
        _mm512_fmadd_pd,
        _mm512_sqrt_pd,
        select8,
        split8,
        power8
    );
}
