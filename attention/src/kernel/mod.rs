//! The loops that take the time: one product and one softmax, on tiles of W lanes.
//!
//! A *tile* is a list of rows `[T; W]`. In the scores of a tile, a row is a key and a lane a query, so the softmax over keys
//! runs down the rows without a single step across lanes, and the same product makes scores, outputs and all gradients:
//!
//! ```text
//! out[r] = init[r] + Σₖ a(r, k)·b[k]         a strided, out and b rows of W lanes
//! scores    a = K[key, k]        b = Qᵀ[k][query]        out[key][query]
//! output    a = V[key, e]ᵀ       b = P[key][query]       out[e][query]
//! ```
//! Register tile (AVX-512): 8 rows × 2 vectors; each step loads 2 vectors of b and broadcasts 8 entries of a for 16 fused
//! multiply-adds.

mod body;
#[cfg(feature = "std")]
pub(crate) mod fourier;
mod simd;
#[cfg(target_arch = "x86_64")]
mod x86;

use rankbit_quant::simd::Level;

pub use simd::Element;

/// Which kernels a call uses: each variant is proof that the processor has them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kernels {
    /// Plain loops.
    Portable,
    /// AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2(x86::Avx2),
    /// AVX-512 F.
    #[cfg(target_arch = "x86_64")]
    Avx512(x86::Avx512),
}

impl Kernels {
    /// Those of [`Level::current`] on the calling thread.
    pub(crate) fn current() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let level = Level::current();
            if level >= Level::Avx512
                && let Some(token) = x86::Avx512::detect()
            {
                return Self::Avx512(token);
            }
            if level >= Level::Avx2
                && let Some(token) = x86::Avx2::detect()
            {
                return Self::Avx2(token);
            }
        }
        let _ = Level::current;
        Self::Portable
    }
}

/// The scalar operand of a product: entry (r, k) is `data[row(r) + column(k)]`.
pub(crate) trait Operand<T>: Copy {
    fn data(&self) -> &[T];
    fn row(&self, r: usize) -> usize;
    fn column(&self, k: usize) -> usize;
}

/// Entry (r, k) at `data[r·row + k·column]`.
#[derive(Clone, Copy)]
pub(crate) struct Strided<'a, T> {
    pub(crate) data: &'a [T],
    pub(crate) row: usize,
    pub(crate) column: usize,
}

impl<T: Copy> Operand<T> for Strided<'_, T> {
    #[inline(always)]
    fn data(&self) -> &[T] {
        self.data
    }
    #[inline(always)]
    fn row(&self, r: usize) -> usize {
        r * self.row
    }
    #[inline(always)]
    fn column(&self, k: usize) -> usize {
        k * self.column
    }
}

/// Rows that begin anywhere: entry (r, k) at `data[offsets[r] + k]`.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a, T> {
    pub(crate) data: &'a [T],
    pub(crate) offsets: &'a [usize],
}

impl<T: Copy> Operand<T> for Rows<'_, T> {
    #[inline(always)]
    fn data(&self) -> &[T] {
        self.data
    }
    #[inline(always)]
    fn row(&self, r: usize) -> usize {
        self.offsets[r]
    }
    #[inline(always)]
    fn column(&self, k: usize) -> usize {
        k
    }
}

/// The transpose of [`Rows`]: entry (r, k) at `data[offsets[k] + r]`.
#[derive(Clone, Copy)]
pub(crate) struct Columns<'a, T> {
    pub(crate) data: &'a [T],
    pub(crate) offsets: &'a [usize],
}

impl<T: Copy> Operand<T> for Columns<'_, T> {
    #[inline(always)]
    fn data(&self) -> &[T] {
        self.data
    }
    #[inline(always)]
    fn row(&self, r: usize) -> usize {
        r
    }
    #[inline(always)]
    fn column(&self, k: usize) -> usize {
        self.offsets[k]
    }
}

/// What a product starts from.
#[derive(Clone, Copy)]
pub(crate) enum Init<'a, T, const W: usize> {
    /// Zero.
    Zero,
    /// What `out` holds.
    Add,
    /// What `out` holds, each lane times its factor.
    Scale(&'a [T; W]),
}

/// `out[r] = init + Σₖ a(r, k)·b[k]`, the sum in order of k.
///
/// `a` has to hold `out.len()` rows and `b.len()` columns.
pub(crate) fn product<T: Element, const W: usize>(
    kernels: Kernels,
    a: impl Operand<T>,
    b: &[[T; W]],
    out: &mut [[T; W]],
    init: Init<'_, T, W>,
) {
    T::dispatch(kernels, body::Product { a, b, out, init });
}

/// The online softmax: turns scores (base 2) into weights `2^(s - max)`, and moves each lane's maximum and sum on.
/// `decay` receives the factor by which what was accumulated so far has to be multiplied.
pub(crate) fn softmax<T: Element, const W: usize>(
    kernels: Kernels,
    scores: &mut [[T; W]],
    state: &mut State<T, W>,
    decay: &mut [T; W],
) {
    T::dispatch(kernels, body::Softmax { scores, state, decay });
}

/// Running maximum and sum of each lane.
#[derive(Clone)]
pub(crate) struct State<T, const W: usize> {
    pub(crate) max: [T; W],
    pub(crate) sum: [T; W],
}

impl<T: Element, const W: usize> State<T, W> {
    /// Of no keys. The maximum is finite, so that `-∞ - max` is not NaN.
    pub(crate) fn new() -> Self {
        Self { max: [T::LEAST; W], sum: [T::from_f64(0.0); W] }
    }
}

/// Of scores (base 2) makes weights `p = 2^(s - lse)`, and of `upstream` = dO·v makes `p·(upstream - delta)`.
pub(crate) fn softmax_gradient<T: Element, const W: usize>(
    kernels: Kernels,
    scores: &mut [[T; W]],
    upstream: &mut [[T; W]],
    lse: &[T; W],
    delta: &[T; W],
) {
    T::dispatch(kernels, body::SoftmaxGradient { scores, upstream, lse, delta });
}

/// Scores of lanes whose bit is not set in their row's word become -∞.
pub(crate) fn keep<T: Element, const W: usize>(kernels: Kernels, scores: &mut [[T; W]], bits: &[u32]) {
    T::dispatch(kernels, body::Keep { scores, bits });
}

/// Of each row makes `max(x, 0) + exp(min(x, 0))`, that is elu(x) + 1.
pub(crate) fn elu<T: Element, const W: usize>(kernels: Kernels, rows: &mut [[T; W]]) {
    T::dispatch(kernels, body::Elu { rows });
}

/// Of each row makes `2^(x - shift)`, its own shift.
pub(crate) fn exponentials<T: Element, const W: usize>(kernels: Kernels, rows: &mut [[T; W]], shifts: &[T]) {
    T::dispatch(kernels, body::Exponentials { rows, shifts });
}
