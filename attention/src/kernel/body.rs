//! The kernels, generic over the instruction set.

use super::simd::{Simd, Work};
use super::{Element, Init, Operand, State};

/// [`super::product`].
pub(super) struct Product<'a, T, A, const W: usize> {
    pub(super) a: A,
    pub(super) b: &'a [[T; W]],
    pub(super) out: &'a mut [[T; W]],
    pub(super) init: Init<'a, T, W>,
}

impl<T: Element, A: Operand<T>, const W: usize> Work<T> for Product<'_, T, A, W> {
    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Self { a, b, out, init } = self;
        let last_row = (0..out.len()).fold(0, |last, r| a.row(r).max(last));
        let last_column = (0..b.len()).fold(0, |last, k| a.column(k).max(last));
        assert!(
            out.is_empty() || b.is_empty() || last_row + last_column < a.data().len(),
            "the operand holds the product's rows and columns"
        );
        let vectors = W / S::LANES;
        let mut part = 0;
        while part < vectors {
            // SAFETY: `part` and the one or two vectors after it lie in a row, and the assertion above bounds every index.
            unsafe {
                if vectors - part >= 2 {
                    rows::<T, S, A, W, 2>(simd, a, b, out, init, part);
                    part += 2;
                } else {
                    rows::<T, S, A, W, 1>(simd, a, b, out, init, part);
                    part += 1;
                }
            }
        }
    }
}

/// All rows of a product, P vectors from `part` on.
///
/// # Safety
/// `a.row(r) + a.column(k) < a.data().len()` for all rows of `out` and `b`.
#[inline(always)]
unsafe fn rows<T: Element, S: Simd<T>, A: Operand<T>, const W: usize, const P: usize>(
    simd: S,
    a: A,
    b: &[[T; W]],
    out: &mut [[T; W]],
    init: Init<'_, T, W>,
    part: usize,
) {
    let mut first = 0;
    while first < out.len() {
        let left = out.len() - first;
        // SAFETY: `first` and the rows of each block after it are rows of `out`.
        first += unsafe {
            if left >= S::ROWS && S::ROWS == 8 {
                block::<T, S, A, W, P, 8>(simd, a, b, out, init, part, first)
            } else if left >= S::ROWS && S::ROWS == 6 {
                block::<T, S, A, W, P, 6>(simd, a, b, out, init, part, first)
            } else if left >= 4 {
                block::<T, S, A, W, P, 4>(simd, a, b, out, init, part, first)
            } else if left >= 2 {
                block::<T, S, A, W, P, 2>(simd, a, b, out, init, part, first)
            } else {
                block::<T, S, A, W, P, 1>(simd, a, b, out, init, part, first)
            }
        };
    }
}

/// R rows of a product from `first` on, P vectors of each in registers; hands back R.
///
/// # Safety
/// `a.row(first + r) + a.column(k) < a.data().len()` for r < R and all rows k of `b`.
#[inline(always)]
unsafe fn block<T: Element, S: Simd<T>, A: Operand<T>, const W: usize, const P: usize, const R: usize>(
    simd: S,
    a: A,
    b: &[[T; W]],
    out: &mut [[T; W]],
    init: Init<'_, T, W>,
    part: usize,
    first: usize,
) -> usize {
    let out = &mut out[first..first + R];
    let mut starts = [0; R];
    for (r, start) in starts.iter_mut().enumerate() {
        *start = a.row(first + r);
    }
    let mut sums = [[simd.splat(T::from_f64(0.0)); P]; R];
    match init {
        Init::Zero => {}
        Init::Add => {
            for (sums, row) in sums.iter_mut().zip(&*out) {
                for (p, sum) in sums.iter_mut().enumerate() {
                    *sum = simd.load(row, part + p);
                }
            }
        }
        Init::Scale(factor) => {
            for (sums, row) in sums.iter_mut().zip(&*out) {
                for (p, sum) in sums.iter_mut().enumerate() {
                    *sum = simd.mul(simd.load(row, part + p), simd.load(factor, part + p));
                }
            }
        }
    }
    let data = a.data();
    for (k, line) in b.iter().enumerate() {
        let mut lanes = [simd.splat(T::from_f64(0.0)); P];
        for (p, lane) in lanes.iter_mut().enumerate() {
            *lane = simd.load(line, part + p);
        }
        let column = a.column(k);
        for (sums, start) in sums.iter_mut().zip(starts) {
            // SAFETY: the caller bounds row + column.
            let x = simd.splat(unsafe { *data.get_unchecked(start + column) });
            for (sum, &lane) in sums.iter_mut().zip(&lanes) {
                *sum = simd.mul_add(x, lane, *sum);
            }
        }
    }
    for (sums, row) in sums.iter().zip(out) {
        for (p, &sum) in sums.iter().enumerate() {
            simd.store(sum, row, part + p);
        }
    }
    R
}

/// [`super::softmax`].
pub(super) struct Softmax<'a, T, const W: usize> {
    pub(super) scores: &'a mut [[T; W]],
    pub(super) state: &'a mut State<T, W>,
    pub(super) decay: &'a mut [T; W],
}

impl<T: Element, const W: usize> Work<T> for Softmax<'_, T, W> {
    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Self { scores, state, decay } = self;
        for part in 0..W / S::LANES {
            let before = simd.load(&state.max, part);
            let mut max = before;
            for row in &*scores {
                max = simd.max(simd.load(row, part), max);
            }
            let factor = simd.exp2(simd.sub(before, max));
            let mut sum = simd.mul(simd.load(&state.sum, part), factor);
            for row in &mut *scores {
                let weight = simd.exp2(simd.sub(simd.load(row, part), max));
                sum = simd.add(sum, weight);
                simd.store(weight, row, part);
            }
            simd.store(max, &mut state.max, part);
            simd.store(sum, &mut state.sum, part);
            simd.store(factor, decay, part);
        }
    }
}

/// [`super::softmax_gradient`].
pub(super) struct SoftmaxGradient<'a, T, const W: usize> {
    pub(super) scores: &'a mut [[T; W]],
    pub(super) upstream: &'a mut [[T; W]],
    pub(super) lse: &'a [T; W],
    pub(super) delta: &'a [T; W],
}

impl<T: Element, const W: usize> Work<T> for SoftmaxGradient<'_, T, W> {
    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        for part in 0..W / S::LANES {
            let (lse, delta) = (simd.load(self.lse, part), simd.load(self.delta, part));
            for (score, upstream) in self.scores.iter_mut().zip(&mut *self.upstream) {
                let weight = simd.exp2(simd.sub(simd.load(score, part), lse));
                let slope = simd.mul(weight, simd.sub(simd.load(upstream, part), delta));
                simd.store(weight, score, part);
                simd.store(slope, upstream, part);
            }
        }
    }
}

/// [`super::keep`].
pub(super) struct Keep<'a, T, const W: usize> {
    pub(super) scores: &'a mut [[T; W]],
    pub(super) bits: &'a [u32],
}

impl<T: Element, const W: usize> Work<T> for Keep<'_, T, W> {
    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        for part in 0..W / S::LANES {
            for (row, bits) in self.scores.iter_mut().zip(self.bits) {
                let kept = simd.keep(simd.load(row, part), bits >> (part * S::LANES));
                simd.store(kept, row, part);
            }
        }
    }
}
