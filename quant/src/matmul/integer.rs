//! The inner loop of products of whole numbers.

use crate::simd::Kernels;

/// Terms that 32 bits hold: `128 · 255 · 2¹⁵ < 2³¹`.
const TERMS: usize = 1 << 15;

/// `Σ a_k·b_k` over the shorter length, exactly, for `|a| ≤ 128` and `|b| ≤ 255` (32 bits hold a run of 2¹⁵ terms,
/// 64 bits any number of runs).
pub(super) fn integer_dot(kernels: Kernels, a: &[i16], b: &[i16]) -> i64 {
    let run = |(a, b): (&[i16], &[i16])| {
        i64::from(match kernels {
            Kernels::Portable => sum(a, b),
            #[cfg(target_arch = "x86_64")]
            Kernels::Avx2(avx2) => avx2.integer_sum(a, b),
        })
    };
    a.chunks(TERMS).zip(b.chunks(TERMS)).map(run).sum()
}

/// One run. Sums do not wrap: [`integer_dot`] cuts runs short enough.
#[inline(always)]
#[expect(clippy::inline_always, reason = "compiled anew for each instruction set that calls it")]
pub(super) fn sum(a: &[i16], b: &[i16]) -> i32 {
    a.iter().zip(b).fold(0, |sum, (&a, &b)| sum.wrapping_add(i32::from(a) * i32::from(b)))
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::integer_dot;
    use crate::simd::{Kernels, Level};
    use alloc::{vec, vec::Vec};

    #[test]
    fn the_largest_sums_are_exact() {
        for level in Level::ALL.into_iter().filter(|level| level.is_available()) {
            let kernels = level.run(Kernels::current).unwrap();
            for len in [0, 1, 2, 15, 16, 17, 33, 32_767, 32_768, 32_769, 200_000] {
                let (a, b) = (vec![-128; len], vec![255; len]);
                assert_eq!(integer_dot(kernels, &a, &b), -128 * 255 * i64::try_from(len).unwrap());
                let mixed: Vec<i16> = (0..len).map(|i| i16::try_from(i * 37 % 511).unwrap() - 255).collect();
                let exact: i64 = mixed.iter().map(|&b| i64::from(b) * -128).sum();
                assert_eq!(integer_dot(kernels, &a, &mixed), exact, "{level:?}");
            }
        }
    }
}
