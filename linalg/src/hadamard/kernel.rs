//! The loops: butterflies over powers of two, and the dense product with a small core.
//!
//! Written once in fixed-size arrays that compilers turn into vector instructions, and compiled for each instruction
//! set that `pulp` detects. Every product is with ±1, hence exact, and sums have one order: all of them give the same
//! bits.

use crate::Scalar;
use alloc::vec::Vec;

/// Entries that are handled together.
const LANES: usize = 16;
/// Runs that are multiplied by the core together.
const RUNS: usize = 4;
/// Largest core, rounded up to [`LANES`].
const WIDEST: usize = 176;

/// A core of order m as the kernel reads it.
pub(super) struct Core<T> {
    order: usize,
    /// Columns, [`LANES`] at a time: group p holds m rows of its lanes; missing columns are 0.
    groups: Vec<[T; LANES]>,
}

impl<T: Scalar> Core<T> {
    /// From the ±1 entries, row-major, or their transpose.
    pub(super) fn new(order: usize, signs: &[i8], transposed: bool) -> Self {
        let mut groups = Vec::with_capacity(order.div_ceil(LANES) * order);
        for first in (0..order).step_by(LANES) {
            groups.extend((0..order).map(|row| {
                core::array::from_fn(|lane| {
                    let column = first + lane;
                    let at = if transposed { column * order + row } else { row * order + column };
                    if column < order { T::from_f64(f64::from(signs[at])) } else { T::default() }
                })
            }));
        }
        Self { order, groups }
    }
}

/// Each run of `block` entries of `rows` times `H_{2^k} ⊗ H_m`, without scaling; `core` is `H_m`, `block = 2^k·m`.
pub(super) fn transform<T: Scalar>(rows: &mut [T], block: usize, core: &Core<T>) {
    let arch = pulp::Arch::new();
    // num-traits computes a fused product in software without `std`.
    let fused = cfg!(all(feature = "std", target_arch = "x86_64")) && !matches!(arch, pulp::Arch::Scalar);
    if fused {
        arch.dispatch(|| blocks::<T, true>(rows, block, core));
    } else {
        arch.dispatch(|| blocks::<T, false>(rows, block, core));
    }
}

#[inline(always)]
fn blocks<T: Scalar, const FUSED: bool>(rows: &mut [T], block: usize, core: &Core<T>) {
    for x in rows.chunks_exact_mut(block.max(1)) {
        let order = core.order;
        let mut half = if order == 1 {
            within(x)
        } else {
            multiply::<T, FUSED>(x, core);
            order
        };
        while half * 2 < block {
            four(x, half);
            half *= 4;
        }
        if half < block {
            two(x, half);
        }
    }
}

/// The butterflies at distances 1, 2, 4 and 8, where they fit. Returns the distance of the next.
#[inline(always)]
fn within<T: Scalar>(x: &mut [T]) -> usize {
    if x.len() < LANES {
        return 1;
    }
    let (chunks, _) = x.as_chunks_mut::<LANES>();
    for chunk in chunks {
        *chunk = level::<T, 8>(level::<T, 4>(level::<T, 2>(level::<T, 1>(*chunk))));
    }
    LANES
}

#[inline(always)]
fn level<T: Scalar, const DISTANCE: usize>(x: [T; LANES]) -> [T; LANES] {
    core::array::from_fn(|i| {
        let (own, other) = (x[i], x[i ^ DISTANCE]);
        if i & DISTANCE == 0 { own + other } else { other - own }
    })
}

/// The butterflies at distance `half`.
#[inline(always)]
fn two<T: Scalar>(x: &mut [T], half: usize) {
    for block in x.chunks_exact_mut(2 * half) {
        let (a, b) = block.split_at_mut(half);
        let ((a, a_rest), (b, b_rest)) = (a.as_chunks_mut::<LANES>(), b.as_chunks_mut::<LANES>());
        for (a, b) in a.iter_mut().zip(b) {
            (*a, *b) = (add(a, b), subtract(a, b));
        }
        for (a, b) in a_rest.iter_mut().zip(b_rest) {
            (*a, *b) = (*a + *b, *a - *b);
        }
    }
}

/// The butterflies at distances `half` and `2·half`.
#[inline(always)]
fn four<T: Scalar>(x: &mut [T], half: usize) {
    for block in x.chunks_exact_mut(4 * half) {
        let (low, high) = block.split_at_mut(2 * half);
        let ((a, b), (c, d)) = (low.split_at_mut(half), high.split_at_mut(half));
        quads::<T, LANES>(a, b, c, d);
        // A core's order is a multiple of 4: what is left is 4, 8 or 12 entries, or fewer than 4 without a core.
        let done = half - half % LANES;
        let (a, b, c, d) = (&mut a[done..], &mut b[done..], &mut c[done..], &mut d[done..]);
        quads::<T, 4>(a, b, c, d);
        let done = a.len() - a.len() % 4;
        quads::<T, 1>(&mut a[done..], &mut b[done..], &mut c[done..], &mut d[done..]);
    }
}

/// [`four`] on as many entries as are multiples of `N`.
#[inline(always)]
fn quads<T: Scalar, const N: usize>(a: &mut [T], b: &mut [T], c: &mut [T], d: &mut [T]) {
    let ((a, _), (b, _)) = (a.as_chunks_mut::<N>(), b.as_chunks_mut::<N>());
    let ((c, _), (d, _)) = (c.as_chunks_mut::<N>(), d.as_chunks_mut::<N>());
    for (((a, b), c), d) in a.iter_mut().zip(b).zip(c).zip(d) {
        let (ab, a_b, cd, c_d) = (add(a, b), subtract(a, b), add(c, d), subtract(c, d));
        (*a, *b, *c, *d) = (add(&ab, &cd), add(&a_b, &c_d), subtract(&ab, &cd), subtract(&a_b, &c_d));
    }
}

#[inline(always)]
fn add<T: Scalar, const N: usize>(a: &[T; N], b: &[T; N]) -> [T; N] {
    core::array::from_fn(|i| a[i] + b[i])
}

#[inline(always)]
fn subtract<T: Scalar, const N: usize>(a: &[T; N], b: &[T; N]) -> [T; N] {
    core::array::from_fn(|i| a[i] - b[i])
}

/// Each run of m entries of `x` times the core.
#[inline(always)]
fn multiply<T: Scalar, const FUSED: bool>(x: &mut [T], core: &Core<T>) {
    let order = core.order;
    let mut tiles = x.chunks_exact_mut(RUNS * order);
    for tile in &mut tiles {
        runs::<T, FUSED, RUNS>(tile, core);
    }
    for run in tiles.into_remainder().chunks_exact_mut(order) {
        runs::<T, FUSED, 1>(run, core);
    }
}

/// `N` runs times the core: y_r = Σ_j x_rj · (row j of the core), one group of columns at a time.
#[inline(always)]
fn runs<T: Scalar, const FUSED: bool, const N: usize>(tile: &mut [T], core: &Core<T>) {
    let order = core.order;
    let mut results = [[T::default(); WIDEST]; N];
    for (group, rows) in core.groups.chunks_exact(order).enumerate() {
        let mut sums = [[T::default(); LANES]; N];
        for (j, signs) in rows.iter().enumerate() {
            for (r, sums) in sums.iter_mut().enumerate() {
                let x = tile[r * order + j];
                *sums = core::array::from_fn(|lane| {
                    if FUSED {
                        num_traits::Float::mul_add(x, signs[lane], sums[lane])
                    } else {
                        sums[lane] + x * signs[lane]
                    }
                });
            }
        }
        for (result, sums) in results.iter_mut().zip(&sums) {
            result[group * LANES..(group + 1) * LANES].copy_from_slice(sums);
        }
    }
    for (run, result) in tile.chunks_exact_mut(order).zip(&results) {
        run.copy_from_slice(&result[..order]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Stream;

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        for order in [1, 12, 36, 172] {
            for block in [order, 2 * order, 8 * order, 64 * order] {
                let core = Core::new(order, &super::super::matrix::signs(order), false);
                let mut rows = alloc::vec![0_f32; 3 * block];
                Stream::new(1, "kernel").fill_normal(&mut rows);
                let mut plain = rows.clone();
                let mut fused = rows.clone();
                transform(&mut rows, block, &core);
                blocks::<_, false>(&mut plain, block, &core);
                blocks::<_, true>(&mut fused, block, &core);
                assert_eq!(rows, plain, "{order} {block}");
                assert_eq!(rows, fused, "{order} {block}");
            }
        }
    }
}
