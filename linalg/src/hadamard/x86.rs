//! The butterflies inside a vector register, which portable loops do badly: AVX2, through `pulp`'s safe wrappers.
//!
//! ```text
//! x ← x·f;   for d = 1, 2, 4:   y_i = x_(i xor d) ± x_i,   minus where i has the bit d
//! ```
//! A shuffle and a fused product with ±1 each. The portable twin is the loop of `kernel`; the bits are the same.

use pulp::x86::V3;
use pulp::{NullaryFnOnce, Simd, cast, f32x8, f64x4};

/// Distances 1, 2 and 4 of every 8 entries of `x` times `factors`. Returns whether it ran.
pub(crate) fn single(x: &mut [f32], factors: &[f32]) -> bool {
    struct Op<'a>(V3, &'a mut [f32], &'a [f32]);
    impl NullaryFnOnce for Op<'_> {
        type Output = ();
        #[inline(always)]
        fn call(self) {
            let Self(simd, x, factors) = self;
            let signs = [
                f32x8(1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0),
                f32x8(1.0, 1.0, -1.0, -1.0, 1.0, 1.0, -1.0, -1.0),
                f32x8(1.0, 1.0, 1.0, 1.0, -1.0, -1.0, -1.0, -1.0),
            ];
            let (avx, fma) = (simd.avx, simd.fma);
            let [one, two, four] = [cast(signs[0]), cast(signs[1]), cast(signs[2])];
            for (x, factor) in V3::as_mut_simd_f32s(x).0.iter_mut().zip(V3::as_simd_f32s(factors).0) {
                let y = avx._mm256_mul_ps(cast(*x), cast(*factor));
                let y = fma._mm256_fmadd_ps(y, one, avx._mm256_permute_ps::<0b10_11_00_01>(y));
                let y = fma._mm256_fmadd_ps(y, two, avx._mm256_permute_ps::<0b01_00_11_10>(y));
                let y = fma._mm256_fmadd_ps(y, four, avx._mm256_permute2f128_ps::<1>(y, y));
                *x = cast(y);
            }
        }
    }
    match V3::try_new() {
        Some(simd) if x.len().is_multiple_of(8) => {
            Simd::vectorize(simd, Op(simd, x, factors));
            true
        }
        _ => false,
    }
}

/// Distances 1 and 2 of every 4 entries of `x` times `factors`. Returns whether it ran.
pub(crate) fn double(x: &mut [f64], factors: &[f64]) -> bool {
    struct Op<'a>(V3, &'a mut [f64], &'a [f64]);
    impl NullaryFnOnce for Op<'_> {
        type Output = ();
        #[inline(always)]
        fn call(self) {
            let Self(simd, x, factors) = self;
            let signs = [f64x4(1.0, -1.0, 1.0, -1.0), f64x4(1.0, 1.0, -1.0, -1.0)];
            let (avx, fma) = (simd.avx, simd.fma);
            let [one, two] = [cast(signs[0]), cast(signs[1])];
            for (x, factor) in V3::as_mut_simd_f64s(x).0.iter_mut().zip(V3::as_simd_f64s(factors).0) {
                let y = avx._mm256_mul_pd(cast(*x), cast(*factor));
                let y = fma._mm256_fmadd_pd(y, one, avx._mm256_permute_pd::<0b0101>(y));
                let y = fma._mm256_fmadd_pd(y, two, avx._mm256_permute2f128_pd::<1>(y, y));
                *x = cast(y);
            }
        }
    }
    match V3::try_new() {
        Some(simd) if x.len().is_multiple_of(4) => {
            Simd::vectorize(simd, Op(simd, x, factors));
            true
        }
        _ => false,
    }
}
