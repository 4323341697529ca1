//! The kernels, generic over the instruction set.

use super::simd::{Simd, Work};
use super::{Element, Init, State, Strided};

/// [`super::product`].
pub(super) struct Product<'a, T, const W: usize> {
    pub(super) a: Strided<'a, T>,
    pub(super) b: &'a [[T; W]],
    pub(super) out: &'a mut [[T; W]],
    pub(super) init: Init<'a, T, W>,
}

impl<T: Element, const W: usize> Work<T> for Product<'_, T, W> {
    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Self { a, b, out, init } = self;
        if out.is_empty() {
            return;
        }
        let last = (out.len() - 1) * a.row + b.len().saturating_sub(1) * a.column;
        let holds = b.is_empty() || last < a.data.len();
        debug_assert!(holds, "the strided operand is as large as the product");
        if !holds {
            return;
        }
        let vectors = W / S::LANES;
        let mut part = 0;
        while part < vectors {
            if vectors - part >= 2 {
                rows::<T, S, W, 2>(simd, a, b, out, init, part);
                part += 2;
            } else {
                rows::<T, S, W, 1>(simd, a, b, out, init, part);
                part += 1;
            }
        }
    }
}

/// All rows of a product, P vectors from `part` on.
#[inline(always)]
fn rows<T: Element, S: Simd<T>, const W: usize, const P: usize>(
    simd: S,
    a: Strided<'_, T>,
    b: &[[T; W]],
    out: &mut [[T; W]],
    init: Init<'_, T, W>,
    part: usize,
) {
    let mut first = 0;
    while first < out.len() {
        let a = Strided { data: a.data.get(first * a.row..).unwrap_or(&[]), ..a };
        let left = out.len() - first;
        let out = &mut out[first..];
        first += if left >= S::ROWS && S::ROWS == 8 {
            block::<T, S, W, P, 8>(simd, a, b, out, init, part)
        } else if left >= S::ROWS && S::ROWS == 6 {
            block::<T, S, W, P, 6>(simd, a, b, out, init, part)
        } else if left >= 4 {
            block::<T, S, W, P, 4>(simd, a, b, out, init, part)
        } else if left >= 2 {
            block::<T, S, W, P, 2>(simd, a, b, out, init, part)
        } else {
            block::<T, S, W, P, 1>(simd, a, b, out, init, part)
        };
    }
}

/// R rows of a product, P vectors of each in registers; hands back R. `out` has at least R rows, and `a` holds them.
#[inline(always)]
fn block<T: Element, S: Simd<T>, const W: usize, const P: usize, const R: usize>(
    simd: S,
    a: Strided<'_, T>,
    b: &[[T; W]],
    out: &mut [[T; W]],
    init: Init<'_, T, W>,
    part: usize,
) -> usize {
    let out = &mut out[..R];
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
    let reach = (R - 1) * a.row + b.len().saturating_sub(1) * a.column;
    assert!(b.is_empty() || reach < a.data.len());
    for (k, line) in b.iter().enumerate() {
        let mut lanes = [simd.splat(T::from_f64(0.0)); P];
        for (p, lane) in lanes.iter_mut().enumerate() {
            *lane = simd.load(line, part + p);
        }
        for (r, sums) in sums.iter_mut().enumerate() {
            // SAFETY: r < R and k < b.len(), so the index is at most `reach`, which the assertion above bounds.
            let x = simd.splat(unsafe { *a.data.get_unchecked(r * a.row + k * a.column) });
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
