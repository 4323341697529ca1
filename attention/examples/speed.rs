//! Times of the operators on one thread: thread CPU time, least of some means over a tenth of a second or one run, 8 heads of 64.
//!
//! `cargo run --release -p rankbit-attention --example speed [-- TOKENS [NAME]]`; `scripts/attention-peers.py` runs it beside
//! PyTorch.

use std::time::Instant;

use rankbit_attention::matryoshka::{Cache, Calibration};
use rankbit_attention::{
    Axis, ClusterOptions, ExactOptions, FeatureMap, NearestOptions, NeighborhoodOptions,
    RandomFeatureOptions, RandomFeatures, RankAugmented, RankAugmentedOptions, RelativeOptions,
    ScatterbrainOptions, Support, Tensor, View, exact, exact_gradient, linear, linear_gradient, neighborhood,
    neighborhood_gradient, rank_augmented, relative, scatterbrain, toeplitz,
};
use rankbit_linalg::Stream;
use rankbit_quant::scheme;

const HEADS: usize = 8;
const DIM: usize = 64;

fn random(tokens: usize, name: &str) -> Tensor<f32> {
    let mut data = vec![0.0; HEADS * tokens * DIM];
    Stream::new(1, name).fill_normal(&mut data);
    Tensor::from_vec(data, [1, HEADS, tokens, DIM]).expect("the length fits")
}

/// CPU time of this thread in seconds, from Linux; elsewhere the wall clock.
fn now(start: Instant) -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let cpu = stat.split(' ').next().and_then(|nanoseconds| nanoseconds.parse::<f64>().ok());
    cpu.map_or_else(|| start.elapsed().as_secs_f64(), |nanoseconds| nanoseconds * 1e-9)
}

/// Times `work` unless the second argument names something else.
fn time(name: &str, runs: usize, mut work: impl FnMut()) {
    if std::env::args().nth(2).is_some_and(|only| !name.contains(&only)) {
        return;
    }
    let start = Instant::now();
    let mut least = f64::INFINITY;
    // Linux counts the time of a thread in ticks of some milliseconds: each time is the mean of as many runs as make them small.
    for _ in 0..runs.min(4) {
        let (before, mut count) = (now(start), 0);
        while now(start) - before < 0.1 {
            work();
            count += 1;
        }
        least = least.min((now(start) - before) / f64::from(count));
    }
    println!("{name:32} {:9.2} ms", least * 1e3);
}

fn main() {
    let tokens = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(4096);
    let pool =
        rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build().expect("one thread");
    pool.install(|| run(tokens));
}

fn run(tokens: usize) {
    let (q, k, v, up) = (random(tokens, "q"), random(tokens, "k"), random(tokens, "v"), random(tokens, "up"));
    let (q, k, v) = (q.view(), k.view(), v.view());
    for causal in [false, true] {
        let options = ExactOptions { causal, ..Default::default() };
        let name = if causal { "exact causal" } else { "exact" };
        time(name, 4, || drop(exact(q, k, v, &options)));
        let found = exact(q, k, v, &options).expect("good operands");
        time(&format!("{name} gradient"), 2, || drop(exact_gradient(q, k, v, &options, &found, up.view())));
    }

    let options = RandomFeatureOptions { draws: Some(256), ..Default::default() };
    let features = RandomFeatures::new(DIM, &options).expect("a size");
    let random_map = FeatureMap::Random { features: &features, scale: None };
    for (name, map) in [("linear, elu", FeatureMap::Elu), ("FAVOR+, 256 features", random_map)] {
        time(name, 10, || drop(linear(q, k, v, map, false)));
        time(&format!("{name}, causal"), 10, || drop(linear(q, k, v, map, true)));
        time(&format!("{name}, gradient"), 3, || drop(linear_gradient(q, k, v, map, false, up.view())));
    }
    time("clusters, 2 x 32", 2, || drop(Support::clusters(q, k, &ClusterOptions::default())));
    let support = Support::clusters(q, k, &ClusterOptions::default()).expect("good operands");
    let options = ScatterbrainOptions::default();
    time("nearest, 64", 2, || drop(Support::nearest(q, k, &NearestOptions::default())));
    time("Scatterbrain, 256 + 64", 2, || drop(scatterbrain(q, k, v, random_map, &support, &options)));

    let distance = |t: usize| (t as f32 - (tokens - 1) as f32).abs();
    let bias: Vec<f32> = (0..2 * tokens - 1).map(|t| -0.01 * distance(t)).collect();
    let weight: Vec<f32> = bias.iter().map(|b| b.exp()).collect();
    let shape = [1, HEADS, 1, 2 * tokens - 1];
    let of_distances = |x| View::new(x, shape, [0, 0, 0, 1]).expect("it fits");
    time("Toeplitz by FFT", 10, || drop(toeplitz(of_distances(&weight), v)));
    let options = RelativeOptions { normalized: true, causal: false };
    time("relative, elu", 1, || drop(relative(q, k, v, of_distances(&bias), FeatureMap::Elu, &options)));

    let operands = RankAugmented { query: q, key: k, value: v, local: None, gate: None };
    let options = RankAugmentedOptions::default();
    time("rank augmented", 10, || drop(rank_augmented(&operands, &options)));
    let mut calibration = Calibration::new(HEADS, DIM, DIM).expect("sizes");
    calibration.update(k, v).expect("good operands");
    let bases = calibration.bases().expect("a decomposition");
    let ranks = bases.ranks(0.25).expect("a fraction");
    let mut cache = Cache::new(bases, ranks, 1, Some(scheme::INT8)).expect("a scheme for rows of 16");
    cache.append(k, v).expect("good operands");
    let last = random(32, "q");
    let options = ExactOptions::default();
    time("Matryoshka, 32 queries", 10, || drop(cache.attend(last.view(), &options)));
    println!("# its cache, a quarter of the coordinates in int8: {} bytes", cache.stored_bits() / 8);

    let side = 56;
    let [q, k, v, up] = ["q", "k", "v", "up"].map(|name| random(side * side, name));
    let (q, k, v, axes) = (q.view(), k.view(), v.view(), [Axis::new(side, 7); 2]);
    let options = NeighborhoodOptions::default();
    time("neighborhood 56x56, window 7", 100, || drop(neighborhood(q, k, v, &axes, &options)));
    let found = neighborhood(q, k, v, &axes, &options).expect("good operands");
    time("neighborhood gradient", 5, || {
        drop(neighborhood_gradient(q, k, v, &axes, &options, &found, up.view()));
    });
}
