//! The registers of AVX2 and AVX-512, and the rotation compiled for them.
//!
//! Butterflies inside a register are a shuffle and a fused product with ±1 each, exact:
//! ```text
//! for d = 1, 2, 4, …:   y_i = x_(i xor d) ± x_i,   minus where i has the bit d
//! ```
//! The portable twin is `register::Plain`; the bits are the same.

use core::arch::x86_64::*;

use super::kernel::{Rows, rows};
use super::register::Register;

/// 1 where a lane's number has not this bit, else -1.
const fn signs<const WIDTH: usize>(bit: usize) -> [f64; WIDTH] {
    let mut signs = [1.0; WIDTH];
    let mut lane = 0;
    while lane < WIDTH {
        if lane & bit != 0 {
            signs[lane] = -1.0;
        }
        lane += 1;
    }
    signs
}

/// [`signs`] in single precision.
const fn single<const WIDTH: usize>(bit: usize) -> [f32; WIDTH] {
    let mut signs = [1.0; WIDTH];
    let mut lane = 0;
    while lane < WIDTH {
        if lane & bit != 0 {
            signs[lane] = -1.0;
        }
        lane += 1;
    }
    signs
}

/// Rows to columns; the portable twin is [`Register::transposed`]'s own.
#[inline(always)]
fn transposed_single(x: [[f32; 4]; 4]) -> [[f32; 4]; 4] {
    // SAFETY: SSE is part of this architecture; every array is one register.
    unsafe {
        let [a, b, c, d] = x.map(|x| _mm_loadu_ps(x.as_ptr()));
        let (e, f) = (_mm_unpacklo_ps(a, b), _mm_unpackhi_ps(a, b));
        let (g, h) = (_mm_unpacklo_ps(c, d), _mm_unpackhi_ps(c, d));
        let rows = [_mm_movelh_ps(e, g), _mm_movehl_ps(g, e), _mm_movelh_ps(f, h), _mm_movehl_ps(h, f)];
        core::mem::transmute::<[__m128; 4], [[f32; 4]; 4]>(rows)
    }
}

/// [`transposed_single`] in double precision.
#[inline(always)]
fn transposed_double(x: [[f64; 4]; 4]) -> [[f64; 4]; 4] {
    let [a, b, c, d] = x;
    [[a[0], b[0], c[0], d[0]], [a[1], b[1], c[1], d[1]], [a[2], b[2], c[2], d[2]], [a[3], b[3], c[3], d[3]]]
}

/// A [`Register`] of one instruction set: for each distance the shuffle that exchanges lanes so far apart.
macro_rules! register {
    ($name:ident, $register:ty, $element:ty, $width:literal, $radix:literal, $feature:literal, $signs:ident,
     $splat:ident, $load:ident, $store:ident, $add:ident, $sub:ident, $mul:ident, $fma:ident, $transposed:expr, $($distance:literal => |$x:ident| $shuffle:expr),*) => {
        #[doc = concat!("Of ", $feature, ". Only made inside functions compiled for it.")]
        #[derive(Clone, Copy)]
        pub(super) struct $name($register);

        impl Register for $name {
            type Element = $element;
            type Block = [$element; $width];
            const WIDTH: usize = $width;
            const RADIX: u32 = $radix;

            #[inline(always)]
            fn blocks(entries: &[$element]) -> &[[$element; $width]] {
                entries.as_chunks().0
            }

            #[inline(always)]
            fn blocks_mut(entries: &mut [$element]) -> &mut [[$element; $width]] {
                entries.as_chunks_mut().0
            }

            #[inline(always)]
            fn splat(value: $element) -> Self {
                // SAFETY: the instructions were detected before this type is used.
                Self(unsafe { $splat(value) })
            }

            #[inline(always)]
            fn load(block: &[$element; $width]) -> Self {
                // SAFETY: the array is one register, and the instructions were detected before this type is used.
                Self(unsafe { $load(block.as_ptr()) })
            }

            #[inline(always)]
            fn store(self, block: &mut [$element; $width]) {
                // SAFETY: the array is one register, and the instructions were detected before this type is used.
                unsafe { $store(block.as_mut_ptr(), self.0) }
            }

            #[inline(always)]
            fn add(self, other: Self) -> Self {
                // SAFETY: the instructions were detected before this type is used.
                Self(unsafe { $add(self.0, other.0) })
            }

            #[inline(always)]
            fn sub(self, other: Self) -> Self {
                // SAFETY: the instructions were detected before this type is used.
                Self(unsafe { $sub(self.0, other.0) })
            }

            #[inline(always)]
            fn mul(self, other: Self) -> Self {
                // SAFETY: the instructions were detected before this type is used.
                Self(unsafe { $mul(self.0, other.0) })
            }

            #[inline(always)]
            fn product_sum(self, b: Self, c: Self) -> Self {
                // SAFETY: the instructions were detected before this type is used.
                Self(unsafe { $fma(self.0, b.0, c.0) })
            }

            #[inline(always)]
            fn negated(self) -> Self {
                self.mul(Self::splat(-1.0))
            }

            #[inline(always)]
            fn transposed(x: [[$element; 4]; 4]) -> [[$element; 4]; 4] {
                $transposed(x)
            }

            #[inline(always)]
            fn inside(self) -> Self {
                let x = self.0;
                $(
                    let signs = Self::load(&const { $signs::<$width>($distance) });
                    let $x = x;
                    // SAFETY: the instructions were detected before this type is used.
                    let x = unsafe { $fma($x, signs.0, $shuffle) };
                )*
                Self(x)
            }
        }
    };
}

register!(
    Single8, __m256, f32, 8, 3, "AVX2", single, _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_add_ps, _mm256_sub_ps,
    _mm256_mul_ps, _mm256_fmadd_ps, transposed_single,
    1 => |x| _mm256_permute_ps::<0b10_11_00_01>(x),
    2 => |x| _mm256_permute_ps::<0b01_00_11_10>(x),
    4 => |x| _mm256_permute2f128_ps::<1>(x, x)
);
register!(
    Double4, __m256d, f64, 4, 3, "AVX2", signs, _mm256_set1_pd, _mm256_loadu_pd, _mm256_storeu_pd, _mm256_add_pd, _mm256_sub_pd,
    _mm256_mul_pd, _mm256_fmadd_pd, transposed_double,
    1 => |x| _mm256_permute_pd::<0b0101>(x),
    2 => |x| _mm256_permute2f128_pd::<1>(x, x)
);
register!(
    Single16, __m512, f32, 16, 4, "AVX-512", single, _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_add_ps,
    _mm512_sub_ps, _mm512_mul_ps, _mm512_fmadd_ps, transposed_single,
    1 => |x| _mm512_permute_ps::<0b10_11_00_01>(x),
    2 => |x| _mm512_permute_ps::<0b01_00_11_10>(x),
    4 => |x| _mm512_shuffle_f32x4::<0b10_11_00_01>(x, x),
    8 => |x| _mm512_shuffle_f32x4::<0b01_00_11_10>(x, x)
);
register!(
    Double8, __m512d, f64, 8, 4, "AVX-512", signs, _mm512_set1_pd, _mm512_loadu_pd, _mm512_storeu_pd, _mm512_add_pd,
    _mm512_sub_pd, _mm512_mul_pd, _mm512_fmadd_pd, transposed_double,
    1 => |x| _mm512_permute_pd::<0b0101_0101>(x),
    2 => |x| _mm512_shuffle_f64x2::<0b10_11_00_01>(x, x),
    4 => |x| _mm512_shuffle_f64x2::<0b01_00_11_10>(x, x)
);

/// [`rows`] of one register.
macro_rules! compiled {
    ($name:ident, $element:ty, $register:ty, $features:literal) => {
        #[target_feature(enable = $features)]
        pub(super) fn $name(job: Rows<'_, $element>) {
            rows::<$element, $register>(job);
        }
    };
}
compiled!(single_avx2, f32, Single8, "avx2,fma");
compiled!(double_avx2, f64, Double4, "avx2,fma");
compiled!(single_avx512, f32, Single16, "avx512f,avx2,fma");
compiled!(double_avx512, f64, Double8, "avx512f,avx2,fma");
