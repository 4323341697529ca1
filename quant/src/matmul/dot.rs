//! The inner loop of the product: one row against many.
//!
//! Each sum has one fixed order, 16 partial sums and then a fixed tree, whatever the instructions and however many rows
//! are done at a time: the bits are always those of [`dot`].

use crate::simd::Kernels;

/// Partial sums kept side by side: enough for two vectors of eight.
const LANES: usize = 16;

/// `Σ a_k·b_k` over the shorter length, in a fixed order: 16 partial sums, then a fixed tree.
// Kept as a function of its own: inlined into some loops, the compiler no longer sees that these are vectors.
#[inline(never)]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let len = a.len().min(b.len());
    let ((a, a_rest), (b, b_rest)) = (a[..len].as_chunks::<LANES>(), b[..len].as_chunks::<LANES>());
    let mut sums = [0.0_f32; LANES];
    for (x, y) in a.iter().zip(b) {
        for ((sum, x), y) in sums.iter_mut().zip(x).zip(y) {
            *sum += x * y;
        }
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
        width /= 2;
    }
    sums[0] + rest(a_rest, b_rest)
}

/// The products past the last whole 16.
fn rest(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// `out_i = Σ_k a_k·b_ik` for the row-major `rows`, each as long as `a`: [`dot`] of many, to the bit. Rows past
/// the last whole one, and entries of `out` past the last row, are left alone.
pub fn dots_into(a: &[f32], rows: &[f32], out: &mut [f32]) {
    dots(Kernels::current(), a, rows, out);
}

/// [`dots_into`] by these kernels.
pub(super) fn dots(kernels: Kernels, a: &[f32], rows: &[f32], out: &mut [f32]) {
    if a.is_empty() {
        // Then there may be any number of rows: all sums are empty.
        return out.fill(0.0);
    }
    match kernels {
        #[cfg(target_arch = "x86_64")]
        Kernels::Avx2(proof) => {
            // SAFETY: the proof exists only where the processor has AVX2.
            unsafe { avx2::dots(proof, a, rows, out) }
        }
        Kernels::Portable => {
            for (out, row) in out.iter_mut().zip(rows.chunks_exact(a.len())) {
                *out = dot(a, row);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::{LANES, rest};
    use crate::codec::avx2::{Avx2, load};
    use core::arch::x86_64::{
        __m256, _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_movehl_ps, _mm_shuffle_ps, _mm256_add_ps,
        _mm256_castps256_ps128, _mm256_extractf128_ps, _mm256_mul_ps, _mm256_setzero_ps,
    };

    /// Rows done at a time: their sums and `a` fill the registers.
    const ROWS: usize = 4;

    #[target_feature(enable = "avx2")]
    pub(super) fn dots(_: Avx2, a: &[f32], rows: &[f32], out: &mut [f32]) {
        let (fours, out_rest) = out.as_chunks_mut::<ROWS>();
        let mut groups = rows.chunks_exact(ROWS * a.len());
        let mut done = 0;
        for (out, rows) in fours.iter_mut().zip(&mut groups) {
            let mut each = rows.chunks_exact(a.len());
            let rows = [(); ROWS].map(|()| each.next().unwrap_or(&[]));
            *out = together(a, rows);
            done += 1;
        }
        let left = fours[done..].as_flattened_mut().iter_mut().chain(out_rest);
        for (out, row) in left.zip(rows[done * ROWS * a.len()..].chunks_exact(a.len())) {
            [*out] = together(a, [row]);
        }
    }

    /// `a` with each of `rows`, which are as long.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn together<const N: usize>(a: &[f32], rows: [&[f32]; N]) -> [f32; N] {
        let (whole, a_rest) = a.as_chunks::<LANES>();
        let rows = rows.map(|row| row.as_chunks::<LANES>());
        let mut sums = [(_mm256_setzero_ps(), _mm256_setzero_ps()); N];
        for (k, x) in whole.iter().enumerate() {
            let (x_low, x_high) = halves(x);
            for ((low, high), (row, _)) in sums.iter_mut().zip(&rows) {
                // There are as many pieces in each; the check costs less than the loop gains by being simple.
                let Some(y) = row.get(k) else { continue };
                let (y_low, y_high) = halves(y);
                *low = _mm256_add_ps(*low, _mm256_mul_ps(x_low, y_low));
                *high = _mm256_add_ps(*high, _mm256_mul_ps(x_high, y_high));
            }
        }
        let mut out = [0.0; N];
        for ((out, (low, high)), (_, row_rest)) in out.iter_mut().zip(sums).zip(&rows) {
            let eight = _mm256_add_ps(low, high);
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            let one = _mm_add_ss(two, _mm_shuffle_ps::<1>(two, two));
            *out = _mm_cvtss_f32(one) + rest(a_rest, row_rest);
        }
        out
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn halves(sixteen: &[f32; LANES]) -> (__m256, __m256) {
        match sixteen.as_chunks::<8>().0 {
            [low, high] => (load(low), load(high)),
            _ => (_mm256_setzero_ps(), _mm256_setzero_ps()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{dot, dots_into};
    use alloc::{vec, vec::Vec};

    #[test]
    fn entries_past_the_shorter_length_do_not_count() {
        let long: [f32; 40] = core::array::from_fn(|i| if i < 17 { 1.0 } else { 1000.0 });
        assert_eq!(dot(&long, &[1.0; 17]), 17.0);
        assert_eq!(dot(&[1.0; 33], &long[..17]), 17.0);
        assert_eq!(dot(&long, &[]), 0.0);
    }

    /// Any length, any number of rows, any level of instructions: the bits of `dot`.
    #[cfg(feature = "std")]
    #[test]
    fn many_are_as_one() {
        let value = |k: usize| ((k * 7919 + 13) % 1009) as f32 / 504.0 - 1.0;
        for level in crate::simd::Level::ALL {
            for len in (0..=70).chain([255, 256, 257, 1000]) {
                let a: Vec<f32> = (0..len).map(|k| value(3 * k + 1)).collect();
                for count in 0..=9 {
                    let rows: Vec<f32> = (0..count * len).map(value).collect();
                    let mut out = vec![f32::NAN; count];
                    level.run(|| dots_into(&a, &rows, &mut out)).unwrap_or_else(|| out.fill(0.0));
                    for (i, found) in out.iter().enumerate().filter(|_| level.is_available()) {
                        let expected = dot(&a, &rows[i * len..(i + 1) * len]);
                        assert_eq!(found.to_bits(), expected.to_bits(), "{level:?} {len} {count}");
                    }
                }
            }
        }
    }
}
