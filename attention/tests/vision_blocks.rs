//! Vision blocks with convolutions and windows: PyTorch's vectors, gradients, bad input.

use rankbit_attention::vision::{
    Compatible, Correspondences, Ela, Factorization, FactorizationOptions, HighFrequency, HybridFusion,
    OffsetBias, RankBlock, RankBlockOptions, RectangleOptions, RectangleWindows, References,
    ReleasedParallel, ReleasedSequential, Variational, compatible, compatible_gradient, ela, ela_gradient,
    factorization, factorization_gradient, high_frequency, high_frequency_gradient, hybrid_fusion,
    hybrid_fusion_gradient, offset_bias, offset_bias_gradient, rank_block, rank_block_gradient,
    rectangle_windows, rectangle_windows_gradient, references, references_gradient, released_parallel,
    released_parallel_gradient, released_sequential, released_sequential_gradient, variational,
    variational_gradient,
};
use rankbit_attention::{Element, Error, Tensor, View};

use crate::common::{check_gradients, gap, levels, random, rounded};
use crate::vision_shapes::{operands, shapes};

/// Every block by one name, with its options.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Block {
    /// Groups of the normalization.
    Ela(usize),
    Rectangle(RectangleOptions),
    Offset([usize; 2]),
    HighFrequency,
    /// How many heads.
    Fusion(usize),
    Ranks(RankBlockOptions),
    Factorization(FactorizationOptions),
    /// How many.
    References(usize),
    /// Whether training.
    Variational(bool),
    Parallel,
    Sequential,
    /// The last two operands are the points, without a gradient.
    Compatible,
}

pub(crate) const WINDOWS: RectangleOptions =
    RectangleOptions { heads: 4, window: [2, 4], shift: false, mask: false };
const SHIFTED: RectangleOptions = RectangleOptions { shift: true, ..WINDOWS };
const MASKED: RectangleOptions = RectangleOptions { mask: true, ..SHIFTED };

pub(crate) const FACTORS: FactorizationOptions = FactorizationOptions { heads: 7, window: 3, reduction: 2 };
pub(crate) const WHOLE: FactorizationOptions = FactorizationOptions { heads: 1, window: 2, reduction: 1 };

pub(crate) const LINEAR: RankBlockOptions = RankBlockOptions { heads: 1, softmax: false };
const PARTED: RankBlockOptions = RankBlockOptions { heads: 2, softmax: false };
const SOFTMAX: RankBlockOptions = RankBlockOptions { heads: 2, softmax: true };

/// The blocks of the kept vectors, and where these are.
const BLOCKS: [(Block, &str, usize); 21] = [
    (Block::Ela(2), "ela", 0),
    (Block::Ela(4), "ela", 1),
    (Block::Rectangle(WINDOWS), "rectangle", 0),
    (Block::Rectangle(SHIFTED), "rectangle", 1),
    (Block::Rectangle(MASKED), "rectangle", 2),
    (Block::Offset([2, 4]), "offset", 0),
    (Block::HighFrequency, "high-frequency", 0),
    (Block::Fusion(2), "hybrid-fusion", 0),
    (Block::Fusion(1), "hybrid-fusion", 1),
    (Block::Ranks(LINEAR), "rank-block", 0),
    (Block::Ranks(PARTED), "rank-block", 1),
    (Block::Ranks(SOFTMAX), "rank-block", 2),
    (Block::Factorization(FACTORS), "factorization", 0),
    (Block::Factorization(WHOLE), "factorization", 1),
    (Block::References(3), "references", 0),
    (Block::References(1), "references", 1),
    (Block::Variational(false), "variational", 0),
    (Block::Variational(true), "variational", 1),
    (Block::Compatible, "compatible", 0),
    (Block::Parallel, "released-parallel", 0),
    (Block::Sequential, "released-sequential", 0),
];

pub(crate) fn views<T: Element, const N: usize>(operands: &[Tensor<T>]) -> [View<'_, T>; N] {
    assert_eq!(operands.len(), N);
    core::array::from_fn(|i| operands[i].view())
}

pub(crate) fn pairs<T: Element>(x: &[Tensor<T>]) -> Correspondences<'_, T> {
    Correspondences { source: x[16].view(), target: x[17].view(), sigma: 1.5 }
}

pub(crate) fn run<T: Element>(block: Block, x: &[Tensor<T>]) -> Result<Tensor<T>, Error> {
    match block {
        Block::Ela(groups) => ela(&Ela::from_array(views(x)), groups),
        Block::Rectangle(options) => rectangle_windows(&RectangleWindows::from_array(views(x)), &options),
        Block::Offset(window) => offset_bias(&OffsetBias::from_array(views(x)), window),
        Block::HighFrequency => high_frequency(&HighFrequency::from_array(views(x))),
        Block::Fusion(_) => hybrid_fusion(&HybridFusion::from_array(views(x))),
        Block::Ranks(options) => rank_block(&RankBlock::from_array(views(x)), &options),
        Block::Factorization(options) => factorization(&Factorization::from_array(views(x)), &options),
        Block::References(_) => references(&References::from_array(views(x))),
        Block::Parallel => released_parallel(&ReleasedParallel::from_array(views(x))),
        Block::Sequential => released_sequential(&ReleasedSequential::from_array(views(x))),
        Block::Variational(training) => variational(&Variational::from_array(views(x)), training),
        Block::Compatible => compatible(&Compatible::from_array(views(&x[..16])), &pairs(x)),
    }
}

fn gradient<T: Element>(block: Block, x: &[Tensor<T>], up: &Tensor<T>) -> Result<Vec<Tensor<T>>, Error> {
    let up = up.view();
    Ok(match block {
        Block::Ela(groups) => ela_gradient(&Ela::from_array(views(x)), groups, up)?.into_array().into(),
        Block::Rectangle(options) => {
            let operands = RectangleWindows::from_array(views(x));
            rectangle_windows_gradient(&operands, &options, up)?.into_array().into()
        }
        Block::HighFrequency => {
            high_frequency_gradient(&HighFrequency::from_array(views(x)), up)?.into_array().into()
        }
        Block::Fusion(_) => {
            hybrid_fusion_gradient(&HybridFusion::from_array(views(x)), up)?.into_array().into()
        }
        Block::Ranks(options) => {
            rank_block_gradient(&RankBlock::from_array(views(x)), &options, up)?.into_array().into()
        }
        Block::Factorization(options) => {
            factorization_gradient(&Factorization::from_array(views(x)), &options, up)?.into_array().into()
        }
        Block::Parallel => {
            released_parallel_gradient(&ReleasedParallel::from_array(views(x)), up)?.into_array().into()
        }
        Block::Sequential => {
            released_sequential_gradient(&ReleasedSequential::from_array(views(x)), up)?.into_array().into()
        }
        Block::Variational(training) => {
            variational_gradient(&Variational::from_array(views(x)), training, up)?.into_array().into()
        }
        Block::Compatible => {
            let operands = Compatible::from_array(views(&x[..16]));
            compatible_gradient(&operands, &pairs(x), up)?.into_array().into()
        }
        Block::References(_) => {
            references_gradient(&References::from_array(views(x)), up)?.into_array().into()
        }
        Block::Offset(window) => {
            offset_bias_gradient(&OffsetBias::from_array(views(x)), window, up)?.into_array().into()
        }
    })
}

pub(crate) fn good(block: Block, x: &[Tensor<f64>]) -> Tensor<f64> {
    run(block, x).expect("good operands")
}

pub(crate) fn filled(x: &mut Tensor<f64>, value: f64) {
    x.as_mut_slice().fill(value);
}

pub(crate) fn vectors() -> serde_json::Value {
    let mut all = serde_json::Map::new();
    for text in [
        include_str!("../../tests/vectors/vision-blocks.json"),
        include_str!("../../tests/vectors/vision-networks.json"),
    ] {
        all.extend(serde_json::from_str::<serde_json::Map<_, _>>(text).expect("JSON"));
    }
    all.into()
}

pub(crate) fn tensor(value: &serde_json::Value) -> Tensor<f64> {
    let shape: Vec<usize> = serde_json::from_value(value["shape"].clone()).expect("a shape");
    let data: Vec<f64> = serde_json::from_value(value["data"].clone()).expect("numbers");
    Tensor::from_vec(data, shape.try_into().expect("four sizes")).expect("it fits")
}

pub(crate) fn list(value: &serde_json::Value) -> Vec<Tensor<f64>> {
    value.as_array().expect("a list").iter().map(tensor).collect()
}

/// Vectors of PyTorch 2.15 (scripts/oracle/vision_blocks.py and vision_networks.py).
#[test]
fn pytorch_agrees() {
    let json = vectors();
    for (block, name, index) in BLOCKS {
        let case = &json[name][index];
        let (operands, gradients) = (list(&case["operands"]), list(&case["gradients"]));
        let output = tensor(&case["output"]);
        let found = good(block, &operands);
        assert_eq!(found.shape(), output.shape());
        assert!(gap(found.as_slice(), output.as_slice()) <= 1e-12, "{block:?}");
        let by = gradient(block, &operands, &tensor(&case["upstream"])).expect("good operands");
        // PyTorch's of the points are zero: they are detached.
        assert!(gradients[by.len()..].iter().all(|x| x.as_slice().iter().all(|x| *x == 0.0)));
        for (i, (found, expected)) in by.iter().zip(&gradients).enumerate() {
            assert_eq!(found.shape(), expected.shape());
            let gap = gap(found.as_slice(), expected.as_slice());
            assert!(gap <= 1e-11, "{block:?}, operand {i}: {gap:e}");
        }
    }
}

/// At every level, any threads. Fixed seeds: a difference across the kink of a rectifier is no derivative.
#[test]
fn gradients_are_those_of_differences() {
    for (block, ..) in BLOCKS {
        for (batch, size, seed) in [(1, 1, 3), (2, 2, 5)] {
            // A normalization of few numbers is all but flat in the weights: differences see it too coarsely.
            let (size, c) = match block {
                Block::Ela(_) => (size + 3, 8),
                Block::Factorization(WHOLE) => (size, 32),
                Block::Factorization(_) | Block::Ranks(_) => (size, 16),
                _ => (size, 8),
            };
            let operands = operands(block, [batch, size, c], seed);
            let upstream = random(good(block, &operands).shape(), seed + 40);
            let mut first: Option<Vec<Tensor<f64>>> = None;
            for found in levels(|| gradient(block, &operands, &upstream)) {
                let found = found.expect("good operands");
                let Some(first) = &first else {
                    let (moving, points) = operands.split_at(found.len());
                    let outputs = |t: &[Tensor<f64>]| good(block, &[t, points].concat());
                    check_gradients(moving, &found.iter().collect::<Vec<_>>(), &upstream, outputs);
                    first = Some(found);
                    continue;
                };
                for (found, first) in found.iter().zip(first) {
                    let largest = first.as_slice().iter().fold(1.0, |max: f64, x| max.max(x.abs()));
                    assert!(gap(found.as_slice(), first.as_slice()) <= 1e-11 * largest, "{block:?}");
                }
            }
        }
    }
}

/// Empty lists of pairs.
#[test]
fn no_pairs_have_no_features() {
    for block in [Block::Variational(true), Block::Compatible] {
        for (axis, size) in [(0, 0), (2, 0)] {
            let images = if block == Block::Compatible { vec![0, 1, 2, 3, 16, 17] } else { (0..5).collect() };
            let mut shapes = shapes(block, [1, 1, 4]);
            images.into_iter().for_each(|i| shapes[i][axis] = size);
            let operands: Vec<Tensor<f64>> = shapes.into_iter().map(|shape| random(shape, 1)).collect();
            let found = good(block, &operands);
            assert!(found.as_slice().is_empty());
            let by = gradient(block, &operands, &found).expect("nothing to do");
            assert!(by.iter().all(|by| by.as_slice().iter().all(|x| *x == 0.0)));
        }
    }
}

/// Single precision.
#[test]
fn single_precision_is_near() {
    for (block, ..) in BLOCKS {
        let c = if matches!(block, Block::Ranks(_)) { 16 } else { 8 };
        let operands = operands(block, [1, 4, c], 3);
        let expected = good(block, &operands);
        let single: Vec<Tensor<f32>> = operands.iter().map(rounded).collect();
        let largest = expected.as_slice().iter().fold(1.0, |max: f64, x| max.max(x.abs()));
        for found in levels(|| run(block, &single)) {
            let gap = gap(found.expect("good operands").as_slice(), expected.as_slice());
            assert!(gap <= 1e-4 * largest, "{block:?}: {gap:e}");
        }
    }
}

#[test]
fn bad_input_is_refused() {
    for (block, ..) in BLOCKS {
        let c = if matches!(block, Block::Ranks(_)) { 16 } else { 8 };
        let good = operands(block, [1, 2, c], 1);
        let output = run(block, &good).expect("good operands");
        for i in 0..good.len() {
            let mut bad = good.clone();
            let [a, b, c, d] = bad[i].shape();
            // One number more for each head is one head more.
            let heads = matches!(block, Block::Fusion(_)) && i == 8;
            bad[i] = random(if heads { [a, b, c + 1, d] } else { [a, b, c, d + 1] }, 1);
            // A kernel's or an image's last size is a size of the block too: refused as such.
            let found = run(block, &bad);
            let refused = matches!(found, Err(Error::ShapeMismatch { .. } | Error::InvalidOption { .. }));
            assert!(refused, "{block:?}, operand {i}: {found:?}");
            for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                let mut bad = good.clone();
                // The weights of a group without channels are empty.
                let Some(entry) = bad[i].as_mut_slice().last_mut() else { continue };
                *entry = value;
                let last = [a, b, c, d].map(|size| size - 1);
                assert!(matches!(run(block, &bad), Err(Error::NonFinite { index, .. }) if index == last));
                assert!(matches!(gradient(block, &bad, &output), Err(Error::NonFinite { .. })));
            }
        }
        let [a, b, c, d] = output.shape();
        let long = random([a, b, c, d + 1], 1);
        let found = gradient(block, &good, &long);
        assert!(matches!(found, Err(Error::ShapeMismatch { what: "output gradient", .. })));
        let huge = good.iter().map(|x| {
            let data = x.as_slice().iter().map(|x| x * 1e200).collect();
            Tensor::from_vec(data, x.shape()).expect("the same shape")
        });
        let found = run(block, &huge.collect::<Vec<_>>());
        assert!(matches!(found, Err(Error::Overflow { batch: 0, .. })), "{block:?}: {found:?}");
    }
}

/// No images, no pixels, no channels: nothing, and gradients of zero.
#[test]
fn empty_images_give_empty_results() {
    for (block, ..) in BLOCKS {
        if matches!(block, Block::Offset(_) | Block::Variational(_) | Block::Compatible) {
            continue;
        }
        let sizes = [1, 2, if matches!(block, Block::Ranks(_)) { 16 } else { 8 }];
        let mut cases = vec![operands(block, [0, 2, sizes[2]], 1), operands(block, [1, 2, 0], 1)];
        for axis in [1, 2] {
            let mut shapes = shapes(block, sizes);
            shapes[0][axis] = 0;
            if matches!(block, Block::References(_)) {
                shapes[1][axis] = 0;
            }
            cases.push(shapes.into_iter().map(|shape| random(shape, 1)).collect());
        }
        for operands in cases {
            let mut operands = operands;
            // The second image of a fusion is as empty as the first.
            if matches!(block, Block::Fusion(_)) {
                operands[1] = operands[0].clone();
            }
            assert_eq!(run(block, &operands).as_ref(), Ok(&operands[0]), "{block:?}");
            let by = gradient(block, &operands, &operands[0]).expect("nothing to do");
            assert!(by.iter().all(|by| by.as_slice().iter().all(|x| *x == 0.0)));
        }
    }
}
