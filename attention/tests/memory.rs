//! Memory beside the operands and results, counted by the allocator on the thread that works.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use rankbit_attention::{ExactOptions, FeatureMap, exact, linear};

use crate::common::random;

/// The system's allocator, and what each thread holds.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // A thread that ends has no cells any more, and needs none.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        let _ = MOST.try_with(|most| most.set(most.get().max(held.get())));
    });
}

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller's promise is the system's.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: the caller's promise is the system's.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Most bytes beyond those of the result.
fn extra<R>(work: impl FnOnce() -> R, bytes: impl FnOnce(&R) -> usize) -> isize {
    let before = HELD.get();
    MOST.set(before);
    let result = work();
    MOST.get() - before - bytes(&result).cast_signed()
}

/// 8 heads of 64, 2048 tokens, one thread: exact attention at most 16 MiB, linear attention at most 1 MiB.
#[test]
fn extra_memory_is_bounded() {
    let [q, k, v] = [1, 2, 3].map(|seed| random::<f32>([1, 8, 2048, 64], seed));
    let pool =
        rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build().expect("one thread");
    pool.install(|| {
        let work = || exact(q.view(), k.view(), v.view(), &ExactOptions::default()).expect("good operands");
        let found = extra(work, |x| 4 * (x.output.as_slice().len() + x.lse.as_slice().len()));
        assert!((0..=16 << 20).contains(&found), "exact: {found} bytes");
        let work = || linear(q.view(), k.view(), v.view(), FeatureMap::Elu, false).expect("good operands");
        let found = extra(work, |x| 4 * x.as_slice().len());
        assert!((0..=1 << 20).contains(&found), "linear: {found} bytes");
    });
}
