//! Memory beside the operands and results, counted by the allocator on the thread that works.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use rankbit_attention::{
    Axis, ClusterOptions, ExactOptions, FeatureMap, NearestOptions, NeighborhoodOptions,
    RandomFeatureOptions, RandomFeatures, ScatterbrainOptions, Support, View, exact, linear, neighborhood,
    scatterbrain, toeplitz,
};

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

/// Four times the tokens: at most four times the memory, results and supports included, of everything that is not exact attention
/// over all keys; and never the n² numbers of a map.
#[test]
fn memory_grows_with_the_tokens() {
    let features = RandomFeatures::new(16, &RandomFeatureOptions { draws: Some(32), ..Default::default() });
    let features = features.expect("a size");
    let map = FeatureMap::Random { features: &features, scale: None };
    let pool =
        rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build().expect("one thread");
    let measure = |n: usize| -> Vec<(&str, isize)> {
        let [q, k, v] = [1, 2, 3].map(|seed| random::<f32>([1, 1, n, 16], seed));
        let (q, k, v) = (q.view(), k.view(), v.view());
        let weights = vec![1.0_f32; 2 * n - 1];
        let weights = View::contiguous(&weights, [1, 1, 1, 2 * n - 1]).expect("it fits");
        let options = ScatterbrainOptions::default();
        let scattered = |support: Support| scatterbrain(q, k, v, map, &support, &options).expect("good");
        vec![
            ("elu", extra(|| linear(q, k, v, FeatureMap::Elu, false), |_| 0)),
            ("random features", extra(|| linear(q, k, v, map, true), |_| 0)),
            (
                "clusters",
                extra(
                    || {
                        let options = ClusterOptions::default();
                        scattered(Support::clusters(q, k, &options).expect("good operands"))
                    },
                    |_| 0,
                ),
            ),
            (
                "nearest",
                extra(
                    || {
                        let options = NearestOptions { keys: 32, heavy: 8 };
                        scattered(Support::nearest(q, k, &options).expect("good operands"))
                    },
                    |_| 0,
                ),
            ),
            (
                "neighborhood",
                extra(|| neighborhood(q, k, v, &[Axis::new(n, 63)], &NeighborhoodOptions::default()), |_| 0),
            ),
            ("Toeplitz", extra(|| toeplitz(weights, v), |_| 0)),
        ]
    };
    pool.install(|| {
        let (small, large) = (measure(2048), measure(8192));
        for ((name, small), (_, large)) in small.into_iter().zip(large) {
            assert!(small > 0 && large <= 4 * small + (64 << 10), "{name}: {small} bytes, then {large}");
            assert!(large < 8192 * 8192 / 4, "{name}: {large} bytes");
        }
    });
}
