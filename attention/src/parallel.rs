//! Tasks in waves: many at once with `std`, results always in order.

use alloc::vec::Vec;

/// Tasks of one wave: bounds what results are held at once.
const WAVE: usize = 64;

/// `task(0..count)` on rayon's current pool, and `collect(index, result)` in order on the calling thread.
///
/// What a task computes may not depend on the thread, so the results do not either.
pub(crate) fn waves<R: Send>(
    count: usize,
    task: impl Fn(usize) -> R + Sync + Send,
    collect: impl FnMut(usize, R),
) {
    waves_of(WAVE, count, task, collect);
}

/// The same for large results: two of them for each thread are held at once, one on a single thread.
pub(crate) fn few<R: Send>(
    count: usize,
    task: impl Fn(usize) -> R + Sync + Send,
    collect: impl FnMut(usize, R),
) {
    waves_of(if threads() == 1 { 1 } else { 2 * threads() }, count, task, collect);
}

fn waves_of<R: Send>(
    wave: usize,
    count: usize,
    task: impl Fn(usize) -> R + Sync + Send,
    mut collect: impl FnMut(usize, R),
) {
    let mut first = 0;
    while first < count {
        let last = count.min(first + wave);
        // A wave of one needs no list.
        if wave == 1 {
            collect(first, task(first));
        } else {
            for (i, result) in map(first..last, &task).into_iter().enumerate() {
                collect(first + i, result);
            }
        }
        first = last;
    }
}

#[cfg(feature = "std")]
fn threads() -> usize {
    rayon::current_num_threads()
}

#[cfg(not(feature = "std"))]
fn threads() -> usize {
    1
}

#[cfg(feature = "std")]
fn map<R: Send>(range: core::ops::Range<usize>, task: &(impl Fn(usize) -> R + Sync + Send)) -> Vec<R> {
    use rayon::prelude::*;
    if rayon::current_num_threads() == 1 {
        return range.map(task).collect();
    }
    range.into_par_iter().map(task).collect()
}

#[cfg(not(feature = "std"))]
fn map<R>(range: core::ops::Range<usize>, task: &impl Fn(usize) -> R) -> Vec<R> {
    range.map(task).collect()
}

/// `task(i, part)` on consecutive parts of `len` values each, which the tasks fill, and `collect(index, result)` in order.
pub(crate) fn slices<T: Send, R: Send>(
    values: &mut [T],
    len: usize,
    task: impl Fn(usize, &mut [T]) -> R + Sync + Send,
    mut collect: impl FnMut(usize, R),
) {
    let parts: Vec<(usize, &mut [T])> = values.chunks_exact_mut(len.max(1)).enumerate().collect();
    for (i, result) in fill(parts, &task).into_iter().enumerate() {
        collect(i, result);
    }
}

#[cfg(feature = "std")]
fn fill<T: Send, R: Send>(
    parts: Vec<(usize, &mut [T])>,
    task: &(impl Fn(usize, &mut [T]) -> R + Sync + Send),
) -> Vec<R> {
    use rayon::prelude::*;
    if rayon::current_num_threads() == 1 {
        return parts.into_iter().map(|(i, part)| task(i, part)).collect();
    }
    parts.into_par_iter().map(|(i, part)| task(i, part)).collect()
}

#[cfg(not(feature = "std"))]
fn fill<T, R>(parts: Vec<(usize, &mut [T])>, task: &impl Fn(usize, &mut [T]) -> R) -> Vec<R> {
    parts.into_iter().map(|(i, part)| task(i, part)).collect()
}
