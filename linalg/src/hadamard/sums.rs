//! Runs of a row times the small core `H_m`, by additions only.
//!
//! Four entries of a run have 16 sums with signs, of which every column of the core takes one:
//! ```text
//! y_r = Σ_g t_g[s_(g,r)],    t_g[s] = (±x_(4g) ± x_(4g+1)) + (±x_(4g+2) ± x_(4g+3)),    s_(g,r): four signs of column r
//! ```
//! m·m/4 + 6·m additions instead of m² (V. L. Arlazarov et al., *On economical construction of the transitive closure of
//! an oriented graph*, 1970: the method of four Russians). A register holds the same entry of as many runs as it has
//! lanes, so that its butterflies at distances inside of it are those of the first distances between runs. The order of
//! the sums is the same for every register.

use alloc::vec::Vec;

use super::register::Register;
use crate::Scalar;

/// Groups of four entries whose sums are kept at a time.
const GROUPS: usize = 8;

/// Lanes of the widest register.
const WIDEST: usize = 16;

/// A core of order m, a multiple of four (or 1).
#[derive(Clone, Debug)]
pub(super) struct Sums {
    order: usize,
    /// The signs of four entries, bit i for entry i: for up to [`GROUPS`] groups at a time all columns, for each of them
    /// these groups.
    signs: Vec<u8>,
}

impl Sums {
    /// From the ±1 entries, row-major, or their transpose.
    pub(super) fn new(order: usize, entries: &[i8], transposed: bool) -> Self {
        let groups: Vec<usize> = (0..order / 4).collect();
        let mut signs = Vec::with_capacity(order * groups.len());
        for groups in groups.chunks(GROUPS) {
            for column in 0..order {
                for group in groups {
                    signs.push((0..4).fold(0, |bits, i| {
                        let row = 4 * group + i;
                        let at = if transposed { column * order + row } else { row * order + column };
                        bits | u8::from(entries.get(at).is_some_and(|entry| *entry < 0)) << i
                    }));
                }
            }
        }
        Self { order, signs }
    }

    /// Entry `at` of row times column, of one group.
    #[cfg(test)]
    pub(super) fn times<T: Scalar>(&self, run: &[T], column: usize) -> T {
        let mut sum = None;
        for (chunk, signs) in self.signs.chunks(GROUPS * self.order).enumerate() {
            let groups = signs.len() / self.order;
            for (g, bits) in signs[column * groups..][..groups].iter().enumerate() {
                let x = &run[4 * (chunk * GROUPS + g)..][..4];
                let signed = |i: usize| if bits >> i & 1 == 1 { -x[i] } else { x[i] };
                let term = (signed(0) + signed(1)) + (signed(2) + signed(3));
                sum = Some(sum.map_or(term, |sum: T| sum + term));
            }
        }
        sum.unwrap_or_default()
    }
}

/// Registers on whole cache lines.
#[repr(align(64))]
struct Aligned<T, const N: usize>([[T; WIDEST]; N]);

/// Each run of m entries of `row` times the core, `lanes` runs at a time (1, 2 or all of the register), the latter with
/// the butterflies between these runs. `N ≥ m`.
#[inline(always)]
pub(super) fn product<T: Scalar, R: Register<Element = T>, const N: usize>(
    row: &mut [T],
    core: &Sums,
    lanes: usize,
) {
    let order = core.order;
    let mut entries = Aligned([[T::default(); WIDEST]; N]);
    let mut sums = Aligned([[T::default(); WIDEST]; N]);
    let mut terms = Aligned([[T::default(); WIDEST]; 16 * GROUPS]);
    let (Aligned(entries), Aligned(sums), Aligned(terms)) = (&mut entries, &mut sums, &mut terms);
    for tile in row.chunks_exact_mut(lanes * order) {
        gather::<T, R>(tile, entries.as_flattened_mut(), order, lanes);
        for (chunk, signs) in core.signs.chunks(GROUPS * order).enumerate() {
            let groups = (signs.len() / order).min(GROUPS);
            let x = R::blocks(entries.as_flattened());
            for g in 0..groups {
                let at = 4 * (chunk * GROUPS + g);
                let terms = &mut R::blocks_mut(terms.as_flattened_mut())[16 * g..16 * g + 16];
                combine::<R>(&x[at..at + 4], terms);
            }
            let terms = &R::blocks(terms.as_flattened())[..16 * GROUPS];
            let sums = &mut R::blocks_mut(sums.as_flattened_mut())[..order];
            for (sum, bits) in sums.iter_mut().zip(signs.chunks_exact(groups)) {
                let mut total = R::load(&terms[usize::from(bits[0] & 15)]);
                if chunk > 0 {
                    total = R::load(sum).add(total);
                }
                for g in 1..groups {
                    total = total.add(R::load(&terms[16 * g + usize::from(bits[g] & 15)]));
                }
                total.store(sum);
            }
        }
        if lanes == R::WIDTH {
            for sum in &mut R::blocks_mut(sums.as_flattened_mut())[..order] {
                R::load(sum).inside().store(sum);
            }
        }
        scatter::<T, R>(tile, sums.as_flattened(), order, lanes);
    }
}

/// The 16 signed sums of four entries, in the order of their sign bits.
#[inline(always)]
fn combine<R: Register>(x: &[R::Block], terms: &mut [R::Block]) {
    let (a, b, c, d) = (R::load(&x[0]), R::load(&x[1]), R::load(&x[2]), R::load(&x[3]));
    let (first, second) = (signed(a, b), signed(c, d));
    for i in 0..16 {
        first[i & 3].add(second[i >> 2]).store(&mut terms[i]);
    }
}

/// a + b, b - a, a - b and their negative sum.
#[inline(always)]
fn signed<R: Register>(a: R, b: R) -> [R; 4] {
    let sum = a.add(b);
    [sum, b.sub(a), a.sub(b), sum.negated()]
}

/// Entry j of run i to lane i of register j.
#[inline(always)]
fn gather<T: Scalar, R: Register<Element = T>>(tile: &[T], entries: &mut [T], order: usize, lanes: usize) {
    if lanes < 4 {
        for (lane, run) in tile.chunks_exact(order).enumerate() {
            for (to, from) in entries.iter_mut().skip(lane).step_by(R::WIDTH).zip(run) {
                *to = *from;
            }
        }
        return;
    }
    let (tile, entries) = (tile.as_chunks::<4>().0, entries.as_chunks_mut::<4>().0);
    let (run, register) = (order / 4, R::WIDTH / 4);
    for lane in 0..lanes / 4 {
        for j in 0..run {
            let x: [[T; 4]; 4] = core::array::from_fn(|i| tile[(4 * lane + i) * run + j]);
            for (i, y) in R::transposed(x).into_iter().enumerate() {
                entries[(4 * j + i) * register + lane] = y;
            }
        }
    }
}

/// [`gather`] the other way.
#[inline(always)]
fn scatter<T: Scalar, R: Register<Element = T>>(tile: &mut [T], sums: &[T], order: usize, lanes: usize) {
    if lanes < 4 {
        for (lane, run) in tile.chunks_exact_mut(order).enumerate() {
            for (to, from) in run.iter_mut().zip(sums.iter().skip(lane).step_by(R::WIDTH)) {
                *to = *from;
            }
        }
        return;
    }
    let (tile, sums) = (tile.as_chunks_mut::<4>().0, sums.as_chunks::<4>().0);
    let (run, register) = (order / 4, R::WIDTH / 4);
    for lane in 0..lanes / 4 {
        for j in 0..run {
            let x: [[T; 4]; 4] = core::array::from_fn(|i| sums[(4 * j + i) * register + lane]);
            for (i, y) in R::transposed(x).into_iter().enumerate() {
                tile[(4 * lane + i) * run + j] = y;
            }
        }
    }
}
