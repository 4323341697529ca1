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
    mut collect: impl FnMut(usize, R),
) {
    let mut first = 0;
    while first < count {
        let last = count.min(first + WAVE);
        for (i, result) in map(first..last, &task).into_iter().enumerate() {
            collect(first + i, result);
        }
        first = last;
    }
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
