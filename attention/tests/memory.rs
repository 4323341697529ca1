//! Memory beside the operands and results, counted by the allocator on the thread that works.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use rankbit_attention::vision::{
    Compatible, Correspondences, Position, compatible, compatible_gradient, position, position_gradient,
};
use rankbit_attention::{
    Attention, Axis, ClusterOptions, Error, ExactOptions, FeatureMap, Gradients, NearestOptions,
    NeighborhoodOptions, RandomFeatureOptions, RandomFeatures, RankAugmented, RankAugmentedOptions,
    RelativeGradients, RelativeOptions, ScatterbrainOptions, Support, Tensor, View, exact, exact_gradient,
    exact_gradient_with_bias, linear, linear_gradient, neighborhood, neighborhood_gradient, rank_augmented,
    rank_augmented_gradient, relative, relative_gradient, scatterbrain, scatterbrain_gradient, sparse,
    sparse_gradient, toeplitz,
};
use rankbit_linalg::Scalar;

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
fn extra<R>(work: impl FnOnce() -> R, bytes: impl FnOnce(&R) -> usize) -> (R, isize) {
    let before = HELD.get();
    MOST.set(before);
    let result = work();
    let found = MOST.get() - before - bytes(&result).cast_signed();
    (result, found)
}

/// 16 MiB, what exact attention of 4096 tokens may take; an n×n matrix of f32 would take four times that.
const MOST_BYTES: isize = 16 << 20;
const TOKENS: usize = 4096;

/// Runs `work`, which has to succeed within `most` bytes beside its result.
fn within<R>(
    what: &str,
    most: isize,
    bytes: impl FnOnce(&R) -> usize,
    work: impl FnOnce() -> Result<R, Error>,
) -> R {
    let (result, found) = extra(|| work().expect("good operands"), bytes);
    assert!((0..=most).contains(&found), "{what}: {found} bytes");
    result
}

/// The work on one thread, this one.
fn alone(work: impl FnOnce() + Send) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build();
    pool.expect("one thread").install(work);
}

fn bytes<T: Scalar>(tensors: &[&Tensor<T>]) -> usize {
    tensors.iter().map(|x| size_of_val(x.as_slice())).sum()
}

fn of_attention(x: &Attention<f32>) -> usize {
    bytes(&[&x.output, &x.lse])
}

fn of_gradients(x: &Gradients<f32>) -> usize {
    bytes(&[&x.query, &x.key, &x.value])
}

/// 8 heads of 64, one thread: exact attention and its gradient within 16 MiB, causal or not; neighborhoods too.
#[test]
fn softmax_attention_is_within_its_bound() {
    let [q, k, v, up] = [1, 2, 3, 4].map(|seed| random::<f32>([1, 8, TOKENS, 64], seed));
    let [q, k, v, up] = [&q, &k, &v, &up].map(Tensor::view);
    alone(|| {
        for causal in [false, true] {
            let options = ExactOptions { causal, ..Default::default() };
            let found = within("exact", MOST_BYTES, of_attention, || exact(q, k, v, &options));
            let run = || exact_gradient(q, k, v, &options, &found, up);
            within("exact, gradient", MOST_BYTES, of_gradients, run);
        }
        let axes = [Axis::new(64, 7), Axis::new(64, 7)];
        let options = NeighborhoodOptions::default();
        let found =
            within("neighborhood", MOST_BYTES, of_attention, || neighborhood(q, k, v, &axes, &options));
        let run = || neighborhood_gradient(q, k, v, &axes, &options, &found, up);
        within("neighborhood, gradient", MOST_BYTES, |x| of_gradients(&x.0), run);
    });
}

/// A bias that queries share gets its gradient without a matrix; one for every pair costs no second one.
#[test]
fn gradients_by_a_bias_are_within_their_bound() {
    let [q, k, v, up] = [1, 2, 3, 4].map(|seed| random::<f32>([1, 2, TOKENS, 16], seed));
    let [q, k, v, up] = [&q, &k, &v, &up].map(Tensor::view);
    let shared = random::<f32>([1, 2, 1, TOKENS], 5);
    let full = random::<f32>([1, 1, TOKENS, TOKENS], 6);
    let shape = [1, 2, TOKENS, TOKENS];
    alone(|| {
        for (data, strides) in [(&shared, [0, TOKENS, 0, 1]), (&full, [0, 0, TOKENS, 1])] {
            let bias = View::new(data.as_slice(), shape, strides).expect("it fits");
            let options = ExactOptions { bias: Some(bias), ..Default::default() };
            let found = within("exact", MOST_BYTES, of_attention, || exact(q, k, v, &options));
            let size = |(by, bias): &(Gradients<f32>, Option<Tensor<f32>>)| {
                of_gradients(by) + bias.as_ref().map_or(0, |bias| bytes(&[bias]))
            };
            let run = || exact_gradient_with_bias(q, k, v, &options, &found, up);
            let (_, by) = within("by the bias", MOST_BYTES, size, run);
            assert_eq!(by.map(|by| by.as_slice().len()), Some(data.as_slice().len()));
        }
    });
}

/// Linear attention within 1 MiB; and no other path holds anything like an n×n matrix, forward or gradient.
#[test]
fn nothing_grows_with_the_square_of_the_tokens() {
    let [q, k, v, up] = [1, 2, 3, 4].map(|seed| random::<f32>([1, 1, TOKENS, 16], seed));
    let [q, k, v, up] = [&q, &k, &v, &up].map(Tensor::view);
    let one = |x: &Tensor<f32>| bytes(&[x]);
    let random_features = RandomFeatureOptions { draws: Some(64), ..Default::default() };
    let features = RandomFeatures::new(16, &random_features).expect("a size");
    let map = FeatureMap::Random { features: &features, scale: None };
    let support = Support::clusters(q, k, &ClusterOptions::default()).expect("good operands");
    let distances = random::<f32>([1, 1, 1, 2 * TOKENS - 1], 5);
    let distances = distances.view();
    alone(|| {
        for causal in [false, true] {
            within("linear", 1 << 20, one, || linear(q, k, v, FeatureMap::Elu, causal));
            let run = || linear_gradient(q, k, v, map, causal, up);
            within("linear, gradient", MOST_BYTES, of_gradients, run);
            let options = ScatterbrainOptions { causal, ..Default::default() };
            within("scatterbrain", MOST_BYTES, one, || scatterbrain(q, k, v, map, &support, &options));
            let run = || scatterbrain_gradient(q, k, v, map, &support, &options, up);
            within("scatterbrain, gradient", MOST_BYTES, of_gradients, run);
            within("sparse", MOST_BYTES, one, || sparse(q, k, v, &support, &options));
            let run = || sparse_gradient(q, k, v, &support, &options, up);
            within("sparse, gradient", MOST_BYTES, of_gradients, run);
            let options = RelativeOptions { causal, normalized: true };
            let map = FeatureMap::Elu;
            within("relative", MOST_BYTES, one, || relative(q, k, v, distances, map, &options));
            let size = |x: &RelativeGradients<f32>| bytes(&[&x.query, &x.key, &x.value, &x.bias]);
            let run = || relative_gradient(q, k, v, distances, map, &options, up);
            within("relative, gradient", MOST_BYTES, size, run);
        }
        within("toeplitz", MOST_BYTES, one, || toeplitz(distances, v));
        let operands = RankAugmented { query: q, key: k, value: v, local: None, gate: Some(up) };
        let options = RankAugmentedOptions { rotary: Some([64, 64]), ..Default::default() };
        within("rank-augmented", MOST_BYTES, one, || rank_augmented(&operands, &options));
        let run = || rank_augmented_gradient(&operands, &options, up);
        let size = |x: &RankAugmented<Tensor<f32>>| {
            bytes(&[&x.query, &x.key, &x.value]) + x.gate.as_ref().map_or(0, one)
        };
        within("rank-augmented, gradient", MOST_BYTES, size, run);
        within(
            "clusters",
            MOST_BYTES,
            |x: &Support| 4 * x.len(),
            || Support::clusters(q, k, &ClusterOptions::default()),
        );
    });
}

/// The vision blocks that let every pixel or pair of points see every other.
#[test]
fn dense_vision_blocks_hold_no_matrix() {
    let [image, c] = [random::<f32>([1, 64, 64, 8], 1), random([1, 1, 8, 8], 2)];
    let (row, one) = (random::<f32>([1, 1, 1, 8], 3), random::<f32>([1, 1, 1, 1], 4));
    let operands = Position {
        image: image.view(),
        query: c.view(),
        query_bias: row.view(),
        key: c.view(),
        key_bias: row.view(),
        value: c.view(),
        value_bias: row.view(),
        strength: one.view(),
    };
    let size = |x: &Tensor<f32>| bytes(&[x]);
    let all = |x: &Position<Tensor<f32>>| bytes(&x.clone().into_array().each_ref());
    let list = View::contiguous(image.as_slice(), [1, 1, TOKENS, 8]).expect("it fits");
    let points = random::<f32>([1, 1, TOKENS, 3], 5);
    let pairs = Correspondences { source: points.view(), target: points.view(), sigma: 1.0 };
    let mut fields = [c.view(); 16];
    fields[..4].fill(list);
    (4..16).filter(|i| i % 2 == 1).for_each(|i| fields[i] = row.view());
    let block = Compatible::from_array(fields);
    alone(|| {
        within("position", MOST_BYTES, size, || position(&operands));
        within("position, gradient", MOST_BYTES, all, || position_gradient(&operands, image.view()));
        within("compatible", MOST_BYTES, size, || compatible(&block, &pairs));
        let all = |x: &Compatible<Tensor<f32>>| bytes(&x.clone().into_array().each_ref());
        within("compatible, gradient", MOST_BYTES, all, || compatible_gradient(&block, &pairs, list));
    });
}

/// Most bytes that `work` holds, its result included.
fn grown<R>(work: impl FnOnce() -> R) -> isize {
    extra(work, |_| 0).1
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
            ("elu", grown(|| linear(q, k, v, FeatureMap::Elu, false))),
            ("random features", grown(|| linear(q, k, v, map, true))),
            (
                "clusters",
                grown(|| {
                    let options = ClusterOptions::default();
                    scattered(Support::clusters(q, k, &options).expect("good operands"))
                }),
            ),
            (
                "nearest",
                grown(|| {
                    let options = NearestOptions { keys: 32, heavy: 8 };
                    scattered(Support::nearest(q, k, &options).expect("good operands"))
                }),
            ),
            (
                "neighborhood",
                grown(|| neighborhood(q, k, v, &[Axis::new(n, 63)], &NeighborhoodOptions::default())),
            ),
            ("Toeplitz", grown(|| toeplitz(weights, v))),
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
