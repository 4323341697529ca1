//! A row through `H_{2^k} ⊗ H_m`: the dense product with the small core, then butterflies.
//!
//! Written once in fixed-size arrays that compilers turn into vector instructions, and compiled for each instruction
//! set that `pulp` detects. Every product is with ±1, hence exact, and sums have one order: all of them give the same
//! bits.

use crate::Scalar;
use alloc::vec::Vec;
use pulp::NullaryFnOnce;

/// Columns of a core that are handled together.
const WIDTH: usize = 16;
/// Runs that are multiplied by the core together.
const RUNS: usize = 4;
/// Largest core, rounded up to [`WIDTH`].
const WIDEST: usize = 176;

/// A core of order m as the kernel reads it.
#[derive(Clone, Debug)]
pub(super) struct Core<T> {
    order: usize,
    /// Columns, [`WIDTH`] at a time: group p holds m rows of its lanes; missing columns are 0.
    groups: Vec<[T; WIDTH]>,
}

impl<T: Scalar> Core<T> {
    /// From the ±1 entries, row-major, or their transpose.
    pub(super) fn new(order: usize, signs: &[i8], transposed: bool) -> Self {
        let mut groups = Vec::with_capacity(order.div_ceil(WIDTH) * order);
        for first in (0..order).step_by(WIDTH) {
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

/// Each run of `block` entries of `row`, times `factors`, times `H_{2^k} ⊗ H_m`; `core` is `H_m`, `block = 2^k·m`.
pub(super) fn transform<T: Scalar>(row: &mut [T], factors: &[T], block: usize, core: &Core<T>) {
    let mut half = core.order;
    match T::butterflies_in_registers(block) {
        Some((done, run)) if core.order == 1 && run(row, factors) => half = done,
        _ => {
            let arch = pulp::Arch::new();
            // num-traits computes a fused product in software without `std`.
            let fused = cfg!(all(feature = "std", target_arch = "x86_64"));
            let product = Product { row, factors, core };
            if fused && !matches!(arch, pulp::Arch::Scalar) {
                arch.dispatch(Fused(product));
            } else {
                arch.dispatch(product);
            }
        }
    }
    T::butterflies(row, block, half);
}

/// The factors, then the core.
struct Product<'a, T> {
    row: &'a mut [T],
    factors: &'a [T],
    core: &'a Core<T>,
}

/// The same with fused products.
struct Fused<'a, T>(Product<'a, T>);

// Types instead of closures, which are not always inlined where the instruction set is known.
impl<T: Scalar> NullaryFnOnce for Product<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.run::<false>();
    }
}

impl<T: Scalar> NullaryFnOnce for Fused<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.0.run::<true>();
    }
}

impl<T: Scalar> Product<'_, T> {
    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        for (value, &factor) in self.row.iter_mut().zip(self.factors) {
            *value *= factor;
        }
        if self.core.order > 1 {
            multiply::<T, FUSED>(self.row, self.core);
        }
    }
}

/// x·sign + sum; the product is exact, so both ways give the same bits.
#[inline(always)]
fn product_sum<T: Scalar, const FUSED: bool>(x: T, sign: T, sum: T) -> T {
    if FUSED { num_traits::Float::mul_add(x, sign, sum) } else { x * sign + sum }
}

/// Each run of m entries of `x` times the core.
#[inline(always)]
fn multiply<T: Scalar, const FUSED: bool>(x: &mut [T], core: &Core<T>) {
    let mut results = [[T::default(); WIDEST]; RUNS];
    let mut tiles = x.chunks_exact_mut(RUNS * core.order);
    for tile in &mut tiles {
        runs::<T, FUSED, RUNS>(tile, core, &mut results);
    }
    for run in tiles.into_remainder().chunks_exact_mut(core.order) {
        runs::<T, FUSED, 1>(run, core, &mut results);
    }
}

/// `N` runs times the core: y_r = Σ_j x_rj · (row j of the core), one group of columns at a time.
#[inline(always)]
fn runs<T: Scalar, const FUSED: bool, const N: usize>(
    tile: &mut [T],
    core: &Core<T>,
    results: &mut [[T; WIDEST]; RUNS],
) {
    let order = core.order;
    let mut runs: [&[T]; N] = [&[]; N];
    for (slot, run) in runs.iter_mut().zip(tile.chunks_exact(order)) {
        *slot = run;
    }
    for (group, rows) in core.groups.chunks_exact(order).enumerate() {
        let mut sums = [[T::default(); WIDTH]; N];
        for (j, signs) in rows.iter().enumerate() {
            for (run, sums) in runs.iter().zip(&mut sums) {
                let x = run[j];
                for (sum, &sign) in sums.iter_mut().zip(signs) {
                    *sum = product_sum::<T, FUSED>(x, sign, *sum);
                }
            }
        }
        for (result, sums) in results.iter_mut().zip(&sums) {
            result[group * WIDTH..(group + 1) * WIDTH].copy_from_slice(sums);
        }
    }
    for (run, result) in tile.chunks_exact_mut(order).zip(results.iter()) {
        run.copy_from_slice(&result[..order]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{butterfly::Butterflies, matrix};
    use super::*;
    use crate::Stream;
    use pulp::WithSimd;

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        for order in [1, 12, 36, 172] {
            for block in [order, 2 * order, 8 * order, 64 * order] {
                let core = Core::new(order, &matrix::signs(order), false);
                let mut row = alloc::vec![0_f32; 3 * block];
                Stream::new(1, "kernel").fill_normal(&mut row);
                let mut factors = row.clone();
                Stream::new(2, "kernel").fill_normal(&mut factors);
                let (mut plain, mut fused) = (row.clone(), row.clone());
                transform(&mut row, &factors, block, &core);
                let (factors, core) = (&factors, &core);
                Product { row: &mut plain, factors, core }.run::<false>();
                Product { row: &mut fused, factors, core }.run::<true>();
                for other in [&mut plain, &mut fused] {
                    Butterflies { row: other, block, half: order }.with_simd(pulp::Scalar);
                    assert_eq!(&row, other, "{order} {block}");
                }
            }
        }
    }
}
