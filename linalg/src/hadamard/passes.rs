//! The butterflies of a row, several distances to a pass over it.
//!
//! ```text
//! for h = half, 2·half, … < block:   (x_i, x_(i+h)) ← (x_i + x_(i+h), x_i - x_(i+h))
//! ```
//! A pass holds 2, 4, 8 or 16 registers at a time and goes through 1 to 4 distances with them. Additions only, in one
//! order: every instruction set gives the same bits.

use super::register::Register;

/// Distances 1, 2, … N/2 among N registers.
#[inline(always)]
pub(super) fn between<R: Register, const N: usize>(x: &mut [R; N]) {
    let mut half = 1;
    while half < N {
        let mut at = 0;
        while at < N {
            if at & half == 0 {
                let (a, b) = (x[at], x[at + half]);
                (x[at], x[at + half]) = (a.add(b), a.sub(b));
            }
            at += 1;
        }
        half *= 2;
    }
}

/// Factors of a row's entries.
#[derive(Clone, Copy)]
pub(super) enum Factors<'a, T> {
    /// The same for all.
    Same(T),
    /// One for each.
    Each(&'a [T]),
}

/// All butterflies of each `block` entries of `row` times `before`, then times `after` where there is any; `block` is a
/// power of two, at least one register.
#[inline(always)]
pub(super) fn whole<R: Register>(
    row: &mut [R::Element],
    before: Factors<'_, R::Element>,
    after: &[R::Element],
    block: usize,
) {
    let rest = (block / R::WIDTH).max(1).ilog2();
    let passes = rest.div_ceil(R::RADIX).max(1);
    // Later passes do less, since their distances share sets of the cache.
    let first = rest.div_ceil(passes);
    match first {
        0 => begin::<R, 1>(row, before),
        1 => begin::<R, 2>(row, before),
        2 => begin::<R, 4>(row, before),
        3 => begin::<R, 8>(row, before),
        _ => begin::<R, 16>(row, before),
    }
    from::<R>(row, after, block, R::WIDTH << first);
}

/// Scales, and does the distances inside of registers and among N in a row.
#[inline(always)]
fn begin<R: Register, const N: usize>(row: &mut [R::Element], before: Factors<'_, R::Element>) {
    let row = R::blocks_mut(row).chunks_exact_mut(N);
    // Loops instead of closures, which would be functions of their own, without the caller's instruction set.
    match before {
        Factors::Same(factor) => {
            let factor = R::splat(factor);
            for row in row {
                let mut x = [factor; N];
                for at in 0..N {
                    x[at] = R::load(&row[at]).mul(factor).inside();
                }
                between(&mut x);
                for at in 0..N {
                    x[at].store(&mut row[at]);
                }
            }
        }
        Factors::Each(before) => {
            for (row, before) in row.zip(R::blocks(before).chunks_exact(N)) {
                let mut x = [R::load(&row[0]); N];
                for at in 0..N {
                    x[at] = R::load(&row[at]).mul(R::load(&before[at])).inside();
                }
                between(&mut x);
                for at in 0..N {
                    x[at].store(&mut row[at]);
                }
            }
        }
    }
}

/// The butterflies at `half` and beyond of each `block` entries of `row`, then times `after` where there is any; `half`
/// is a multiple of a register.
#[inline(always)]
pub(super) fn from<R: Register>(row: &mut [R::Element], after: &[R::Element], block: usize, mut half: usize) {
    if half >= block {
        for (entry, factor) in R::blocks_mut(row).iter_mut().zip(R::blocks(after)) {
            R::load(entry).mul(R::load(factor)).store(entry);
        }
        return;
    }
    while half < block {
        let left = (block / half).ilog2();
        let now = left.div_ceil(left.div_ceil(R::RADIX));
        let after = if now == left { after } else { &[] };
        match now {
            1 => pass::<R, 2>(row, after, half),
            2 => pass::<R, 4>(row, after, half),
            3 => pass::<R, 8>(row, after, half),
            _ => pass::<R, 16>(row, after, half),
        }
        half <<= now;
    }
}

/// Distances `half`, … N·`half`/2.
#[inline(always)]
fn pass<R: Register, const N: usize>(row: &mut [R::Element], after: &[R::Element], half: usize) {
    let count = half / R::WIDTH;
    let (row, after) = (R::blocks_mut(row), R::blocks(after));
    let factors = after.len() >= row.len();
    let mut first = 0;
    while count > 0 && first + N * count <= row.len() {
        for at in first..first + count {
            // SAFETY: at + (N - 1)·count < first + N·count, which is within the row, and within the factors where
            // they are as many.
            unsafe {
                let entry = row.as_mut_ptr().add(at);
                let mut x = [R::load(&*entry); N];
                for (part, x) in x.iter_mut().enumerate() {
                    *x = R::load(&*entry.add(part * count));
                }
                between(&mut x);
                if factors {
                    let factor = after.as_ptr().add(at);
                    for (part, x) in x.iter_mut().enumerate() {
                        *x = x.mul(R::load(&*factor.add(part * count)));
                    }
                }
                for (part, x) in x.into_iter().enumerate() {
                    x.store(&mut *entry.add(part * count));
                }
            }
        }
        first += N * count;
    }
}
