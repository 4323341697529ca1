//! The butterflies of a row, in the vector registers that `pulp` detects.
//!
//! ```text
//! for h = half, 2·half, … < block:   (x_i, x_(i+h)) ← (x_i + x_(i+h), x_i - x_(i+h))
//! ```
//! Two distances at a time, so that each pass over the row does twice the work. Additions only, in one order: every
//! instruction set gives the same bits.

use pulp::{Simd, WithSimd};

/// Vectors of an element type under an instruction set.
trait Lanes<S: Simd>: Copy + core::ops::Add<Output = Self> + core::ops::Sub<Output = Self> {
    type Vector: Copy;
    fn vectors(entries: &mut [Self]) -> (&mut [Self::Vector], &mut [Self]);
    /// (a + b, a - b).
    fn butterfly(simd: S, a: Self::Vector, b: Self::Vector) -> (Self::Vector, Self::Vector);
}

impl<S: Simd> Lanes<S> for f32 {
    type Vector = S::f32s;

    #[inline(always)]
    fn vectors(entries: &mut [Self]) -> (&mut [S::f32s], &mut [Self]) {
        S::as_mut_simd_f32s(entries)
    }

    #[inline(always)]
    fn butterfly(simd: S, a: S::f32s, b: S::f32s) -> (S::f32s, S::f32s) {
        (simd.add_f32s(a, b), simd.sub_f32s(a, b))
    }
}

impl<S: Simd> Lanes<S> for f64 {
    type Vector = S::f64s;

    #[inline(always)]
    fn vectors(entries: &mut [Self]) -> (&mut [S::f64s], &mut [Self]) {
        S::as_mut_simd_f64s(entries)
    }

    #[inline(always)]
    fn butterfly(simd: S, a: S::f64s, b: S::f64s) -> (S::f64s, S::f64s) {
        (simd.add_f64s(a, b), simd.sub_f64s(a, b))
    }
}

/// The butterflies at `half` and beyond of each `block` entries of `row`.
pub(super) struct Butterflies<'a, T> {
    pub(super) row: &'a mut [T],
    pub(super) block: usize,
    pub(super) half: usize,
}

impl WithSimd for Butterflies<'_, f32> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.run(simd);
    }
}

impl WithSimd for Butterflies<'_, f64> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.run(simd);
    }
}

impl<T> Butterflies<'_, T> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S)
    where
        T: Lanes<S>,
    {
        for x in self.row.chunks_exact_mut(self.block.max(1)) {
            let mut half = self.half;
            while half * 2 < self.block {
                four(simd, x, half);
                half *= 4;
            }
            if half < self.block {
                two(simd, x, half);
            }
        }
    }
}

/// The butterflies at distance `half`.
#[inline(always)]
fn two<S: Simd, T: Lanes<S>>(simd: S, x: &mut [T], half: usize) {
    for block in x.chunks_exact_mut(2 * half) {
        let (a, b) = block.split_at_mut(half);
        let ((a, a_rest), (b, b_rest)) = (T::vectors(a), T::vectors(b));
        for (a, b) in a.iter_mut().zip(b) {
            (*a, *b) = T::butterfly(simd, *a, *b);
        }
        for (a, b) in a_rest.iter_mut().zip(b_rest) {
            (*a, *b) = (*a + *b, *a - *b);
        }
    }
}

/// The butterflies at distances `half` and `2·half`.
#[inline(always)]
fn four<S: Simd, T: Lanes<S>>(simd: S, x: &mut [T], half: usize) {
    for block in x.chunks_exact_mut(4 * half) {
        let (low, high) = block.split_at_mut(2 * half);
        let ((a, b), (c, d)) = (low.split_at_mut(half), high.split_at_mut(half));
        let ((a, a_rest), (b, b_rest)) = (T::vectors(a), T::vectors(b));
        let ((c, c_rest), (d, d_rest)) = (T::vectors(c), T::vectors(d));
        for (((a, b), c), d) in a.iter_mut().zip(b).zip(c).zip(d) {
            let ((ab, a_b), (cd, c_d)) = (T::butterfly(simd, *a, *b), T::butterfly(simd, *c, *d));
            (*a, *c) = T::butterfly(simd, ab, cd);
            (*b, *d) = T::butterfly(simd, a_b, c_d);
        }
        for (((a, b), c), d) in a_rest.iter_mut().zip(b_rest).zip(c_rest).zip(d_rest) {
            let (ab, a_b, cd, c_d) = (*a + *b, *a - *b, *c + *d, *c - *d);
            (*a, *b, *c, *d) = (ab + cd, a_b + c_d, ab - cd, a_b - c_d);
        }
    }
}
