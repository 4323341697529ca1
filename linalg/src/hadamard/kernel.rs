//! A row through `H_{2^k} ⊗ H_m`: the dense product with the small core, then butterflies.
//!
//! Both on the registers of an instruction set, several runs of the core together with their butterflies. Every product is
//! with ±1, hence exact, and sums have one order: all of them give the same bits.

use alloc::vec::Vec;

use super::passes::{self, Factors};
use super::register::{Plain, Register};
use super::sums::{self, Sums};
use crate::Scalar;
use crate::instructions::Instructions;

/// Columns of a core that are handled together, and the largest order of a core that is multiplied by its entries: larger
/// ones are [`Sums`].
const WIDTH: usize = 16;

/// A core of order m as the kernel reads it.
#[derive(Clone, Debug)]
pub(super) struct Core<T> {
    order: usize,
    /// Columns, [`WIDTH`] at a time: group p holds m rows of its lanes; missing columns are 0.
    groups: Vec<[T; WIDTH]>,
    sums: Sums,
}

impl<T: Scalar> Core<T> {
    /// From the ±1 entries, row-major, or their transpose.
    pub(super) fn new(order: usize, signs: &[i8], transposed: bool) -> Self {
        let sums = Sums::new(order, signs, transposed);
        let mut groups = Vec::new();
        for first in (0..order).step_by(WIDTH).take_while(|_| order <= WIDTH) {
            groups.extend((0..order).map(|row| {
                core::array::from_fn(|lane| {
                    let column = first + lane;
                    let at = if transposed { column * order + row } else { row * order + column };
                    if column < order { T::from_f64(f64::from(signs[at])) } else { T::default() }
                })
            }));
        }
        Self { order, groups, sums }
    }
}

/// Rows to rotate, one after another.
pub(crate) struct Rows<'a, T> {
    pub(super) rows: &'a mut [T],
    /// Entries of a row.
    pub(super) size: usize,
    /// What entries are multiplied by before and after `H_{2^k} ⊗ H_m`; `after` is empty where that is 1.
    pub(super) before: Factors<'a, T>,
    pub(super) after: &'a [T],
    /// 2^k·m.
    pub(super) block: usize,
    /// 1, or the first distance of what `before` and the distances below have been done to.
    pub(super) half: usize,
    /// `H_m`.
    pub(super) core: &'a Core<T>,
    pub(super) instructions: Instructions,
}

/// [`Rows`] on the registers of their instruction set.
macro_rules! dispatch {
    ($name:ident, $element:ty, $avx2:ident, $avx512:ident) => {
        pub(crate) fn $name(job: Rows<'_, $element>) {
            match job.instructions {
                Instructions::Portable => rows::<$element, Plain<$element>>(job),
                // SAFETY: these values are only made where the instructions were detected.
                #[cfg(all(feature = "std", target_arch = "x86_64"))]
                Instructions::Avx2 => unsafe { super::x86::$avx2(job) },
                // SAFETY: these values are only made where the instructions were detected.
                #[cfg(all(feature = "std", target_arch = "x86_64"))]
                Instructions::Avx512 => unsafe { super::x86::$avx512(job) },
            }
        }
    };
}
dispatch!(single, f32, single_avx2, single_avx512);
dispatch!(double, f64, double_avx2, double_avx512);

/// Every row by the registers `R`.
#[inline(always)]
pub(super) fn rows<T: Scalar, R: Register<Element = T>>(job: Rows<'_, T>)
where
    Plain<T>: Register<Element = T>,
{
    let Rows { rows, size, before, after, block, half, core, .. } = job;
    for row in rows.chunks_exact_mut(size.max(1)) {
        if half > 1 {
            passes::from::<R>(row, after, block, half);
        } else if core.order > WIDTH {
            scale(row, before);
            let (sums, runs) = (&core.sums, block / core.order);
            // Orders are multiples of four, hence the distances of whole registers where four runs are done.
            if runs >= R::WIDTH {
                several::<T, R>(row, sums, core.order, R::WIDTH);
                passes::from::<R>(row, after, block, R::WIDTH * core.order);
            } else if runs >= 4 {
                several::<T, Plain<T>>(row, sums, core.order, 4);
                passes::from::<R>(row, after, block, 4 * core.order);
            } else {
                several::<T, Plain<T>>(row, sums, core.order, runs);
                passes::from::<Plain<T>>(row, after, block, core.order);
            }
        } else if core.order > 1 {
            scale(row, before);
            let runs = (block / core.order).min(4);
            match runs {
                4 => product::<T, R, 4>(row, core),
                2 => product::<T, R, 2>(row, core),
                _ => product::<T, R, 1>(row, core),
            }
            if runs < 4 {
                scale(row, Factors::Each(after));
            } else {
                // Orders are multiples of four, so this distance is one of whole registers.
                passes::from::<R>(row, after, block, 4 * core.order);
            }
        } else if block >= R::WIDTH {
            passes::whole::<R>(row, before, after, block);
        } else if block >= 4 {
            passes::whole::<Plain<T>>(row, before, after, block);
        } else {
            scale(row, before);
            if block == 2 {
                for [a, b] in row.as_chunks_mut().0 {
                    (*a, *b) = (*a + *b, *a - *b);
                }
            }
            scale(row, Factors::Each(after));
        }
    }
}

/// [`sums::product`] with room for the order.
#[inline(always)]
fn several<T: Scalar, R: Register<Element = T>>(row: &mut [T], core: &Sums, order: usize, lanes: usize) {
    if order <= 36 {
        sums::product::<T, R, 36>(row, core, lanes);
    } else {
        sums::product::<T, R, 172>(row, core, lanes);
    }
}

#[inline(always)]
fn scale<T: Scalar>(row: &mut [T], factors: Factors<'_, T>) {
    match factors {
        Factors::Same(factor) => {
            for value in row {
                *value *= factor;
            }
        }
        Factors::Each(factors) => {
            for (value, &factor) in row.iter_mut().zip(factors) {
                *value *= factor;
            }
        }
    }
}

/// Each run of m entries of `row` times the core, then the butterflies among `N` runs in a row.
#[inline(always)]
fn product<T: Scalar, R: Register<Element = T>, const N: usize>(row: &mut [T], core: &Core<T>) {
    let order = core.order;
    let mut results = [[T::default(); WIDTH]; N];
    for tile in row.chunks_exact_mut(N * order) {
        let registers = order.div_ceil(R::WIDTH);
        let mut first = 0;
        while first + 1 < registers {
            columns::<T, R, N, 2>(tile, core, first, &mut results);
            first += 2;
        }
        if first < registers {
            columns::<T, R, N, 1>(tile, core, first, &mut results);
        }
        for (run, result) in tile.chunks_exact_mut(order).zip(&results) {
            // Fours instead of one copy, which would be a call.
            for (to, from) in run.as_chunks_mut::<4>().0.iter_mut().zip(result.as_chunks::<4>().0) {
                *to = *from;
            }
        }
    }
}

/// `G` registers of columns of [`product`], from register `first` on: y_r = Σ_j x_rj · (row j of the core).
#[inline(always)]
fn columns<T: Scalar, R: Register<Element = T>, const N: usize, const G: usize>(
    tile: &[T],
    core: &Core<T>,
    first: usize,
    results: &mut [[T; WIDTH]; N],
) {
    let order = core.order;
    let mut groups = [&core.groups[..0]; G];
    let mut within = [0; G];
    for g in 0..G {
        let column = (first + g) * R::WIDTH;
        groups[g] = &core.groups[column / WIDTH * order..][..order];
        within[g] = column % WIDTH / R::WIDTH;
    }
    let mut runs = [tile; N];
    for (run, slot) in runs.iter_mut().enumerate() {
        *slot = &tile[run * order..][..order];
    }
    let mut sums = [[R::splat(T::default()); N]; G];
    for j in 0..order {
        for g in 0..G {
            let signs = R::load(&R::blocks(&groups[g][j])[within[g]]);
            for run in 0..N {
                sums[g][run] = R::splat(runs[run][j]).product_sum(signs, sums[g][run]);
            }
        }
    }
    for (g, sums) in sums.iter_mut().enumerate() {
        passes::between(sums);
        for run in 0..N {
            sums[run].store(&mut R::blocks_mut(&mut results[run])[first + g]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::matrix;
    use super::*;
    use crate::Stream;
    use alloc::vec;

    /// The definition, one distance after another.
    fn reference<T: Scalar>(
        row: &mut [T],
        before: Factors<'_, T>,
        after: &[T],
        block: usize,
        core: &Core<T>,
    ) {
        scale(row, before);
        if core.order > 1 {
            for run in row.chunks_exact_mut(core.order) {
                let x = run.to_vec();
                for (column, to) in run.iter_mut().enumerate() {
                    if core.order > WIDTH {
                        *to = core.sums.times(&x, column);
                        continue;
                    }
                    *to = T::default();
                    for (j, &x) in x.iter().enumerate() {
                        *to += x * core.groups[column / WIDTH * core.order + j][column % WIDTH];
                    }
                }
            }
        }
        for x in row.chunks_exact_mut(block) {
            let mut half = core.order;
            while half < block {
                for x in x.chunks_exact_mut(2 * half) {
                    let (a, b) = x.split_at_mut(half);
                    for (a, b) in a.iter_mut().zip(b) {
                        (*a, *b) = (*a + *b, *a - *b);
                    }
                }
                half *= 2;
            }
        }
        for (value, &factor) in row.iter_mut().zip(after) {
            *value *= factor;
        }
    }

    fn agrees<T: Scalar>(run: impl Fn(Rows<'_, T>)) {
        let draw = |length: usize, name| {
            let mut stream = Stream::new(length as u64, name);
            (0..length).map(|_| T::from_f64(stream.next_normal())).collect::<Vec<T>>()
        };
        for order in [1, 12, 20, 28, 36, 44, 172] {
            let core = Core::new(order, &matrix::signs(order), false);
            for power in 0..13 {
                let block = order << power;
                if block > 8192 {
                    continue;
                }
                for blocks in [1, 3] {
                    let length = blocks * block;
                    let (before, signs) = (draw(length, "before"), draw(length, "after"));
                    let each = (Factors::Each(&before), &signs[..]);
                    for (before, after) in [each, (each.0, &[]), (Factors::Same(before[0]), &[])] {
                        let rows = draw(2 * length, "rows");
                        let mut expected = rows.clone();
                        for row in expected.chunks_exact_mut(length) {
                            reference(row, before, after, block, &core);
                        }
                        for instructions in Instructions::available() {
                            let mut found = rows.clone();
                            let (rows, core) = (&mut found[..], &core);
                            run(Rows {
                                rows,
                                size: length,
                                before,
                                after,
                                block,
                                half: 1,
                                core,
                                instructions,
                            });
                            assert_eq!(found, expected, "{instructions:?} {order} {block}");
                        }
                    }
                }
            }
        }
        // Nothing to do.
        let core = Core::new(1, &matrix::signs(1), false);
        for instructions in Instructions::available() {
            let mut rows: Vec<T> = vec![];
            run(Rows {
                rows: &mut rows,
                size: 0,
                before: Factors::Each(&[]),
                after: &[],
                block: 1,
                half: 1,
                core: &core,
                instructions,
            });
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        agrees::<f32>(single);
        agrees::<f64>(double);
    }
}
