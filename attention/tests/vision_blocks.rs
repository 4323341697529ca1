//! Vision blocks with convolutions and windows: PyTorch's vectors, gradients, what each block is, bad input.

use proptest::prelude::*;
use rankbit_attention::vision::{
    Ela, OffsetBias, RectangleOptions, RectangleWindows, ela, ela_gradient, offset_bias,
    offset_bias_gradient, rectangle_windows, rectangle_windows_gradient,
};
use rankbit_attention::{Element, Error, Tensor, View};

use crate::common::{check_gradients, gap, levels, random, rounded};

/// Every block by one name, with its options.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Block {
    /// Groups of the normalization.
    Ela(usize),
    Rectangle(RectangleOptions),
    Offset([usize; 2]),
}

const WINDOWS: RectangleOptions = RectangleOptions { heads: 4, window: [2, 4], shift: false, mask: false };
const SHIFTED: RectangleOptions = RectangleOptions { shift: true, ..WINDOWS };
const MASKED: RectangleOptions = RectangleOptions { mask: true, ..SHIFTED };

/// The blocks of the kept vectors, and where these are.
const BLOCKS: [(Block, &str, usize); 6] = [
    (Block::Ela(2), "ela", 0),
    (Block::Ela(4), "ela", 1),
    (Block::Rectangle(WINDOWS), "rectangle", 0),
    (Block::Rectangle(SHIFTED), "rectangle", 1),
    (Block::Rectangle(MASKED), "rectangle", 2),
    (Block::Offset([2, 4]), "offset", 0),
];

fn views<T: Element, const N: usize>(operands: &[Tensor<T>]) -> [View<'_, T>; N] {
    assert_eq!(operands.len(), N);
    core::array::from_fn(|i| operands[i].view())
}

fn run<T: Element>(block: Block, x: &[Tensor<T>]) -> Result<Tensor<T>, Error> {
    match block {
        Block::Ela(groups) => ela(&Ela::from_array(views(x)), groups),
        Block::Rectangle(options) => rectangle_windows(&RectangleWindows::from_array(views(x)), &options),
        Block::Offset(window) => offset_bias(&OffsetBias::from_array(views(x)), window),
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
        Block::Offset(window) => {
            offset_bias_gradient(&OffsetBias::from_array(views(x)), window, up)?.into_array().into()
        }
    })
}

/// Shapes of an image and weights that fit the block; `size` makes images larger.
fn shapes(block: Block, [batch, size, c]: [usize; 3]) -> Vec<[usize; 4]> {
    let (row, square) = ([1, 1, 1, c], [1, 1, c, c]);
    match block {
        Block::Ela(groups) => vec![[batch, size, size + 1, c], [c, 1, 3, c / groups], row, row],
        Block::Rectangle(RectangleOptions { heads, window: [h, w], .. }) => {
            let (side, table) = (h * w * size, [1, 1, heads / 2, (2 * h - 1) * (2 * w - 1)]);
            let (three, bias) = ([1, 1, 3 * c, c], [1, 1, 1, 3 * c]);
            vec![[batch, side, h * w, c], three, bias, table, table, [c, 3, 3, 1], row, square, row]
        }
        Block::Offset(_) => {
            let (up, down) = ([1, 1, 3, c], [1, 1, 1, 3]);
            let first = [1, 1, c, 2];
            vec![first, row, row, row, square, row, row, row, square, row, row, row, up, down]
        }
    }
}

fn operands(block: Block, sizes: [usize; 3], seed: u64) -> Vec<Tensor<f64>> {
    let shapes = shapes(block, sizes);
    let draw = |(shape, seed)| random::<f64>(shape, seed);
    let mut found: Vec<Tensor<f64>> = shapes.into_iter().zip(seed..).map(draw).collect();
    // Scores of order 1.
    found[1..].iter_mut().flat_map(Tensor::as_mut_slice).for_each(|x| *x *= 0.5);
    found
}

fn good(block: Block, x: &[Tensor<f64>]) -> Tensor<f64> {
    run(block, x).expect("good operands")
}

fn filled(x: &mut Tensor<f64>, value: f64) {
    x.as_mut_slice().fill(value);
}

/// Vectors of PyTorch 2.15 (scripts/oracle/vision_blocks.py).
#[test]
fn pytorch_agrees() {
    let text = include_str!("../../tests/vectors/vision-blocks.json");
    let json: serde_json::Value = serde_json::from_str(text).expect("JSON");
    let tensor = |value: &serde_json::Value| {
        let shape: Vec<usize> = serde_json::from_value(value["shape"].clone()).expect("a shape");
        let data: Vec<f64> = serde_json::from_value(value["data"].clone()).expect("numbers");
        Tensor::from_vec(data, shape.try_into().expect("four sizes")).expect("it fits")
    };
    let list = |value: &serde_json::Value| -> Vec<Tensor<f64>> {
        value.as_array().expect("a list").iter().map(tensor).collect()
    };
    for (block, name, index) in BLOCKS {
        let case = &json[name][index];
        let (operands, gradients) = (list(&case["operands"]), list(&case["gradients"]));
        let output = tensor(&case["output"]);
        let found = good(block, &operands);
        assert_eq!(found.shape(), output.shape());
        assert!(gap(found.as_slice(), output.as_slice()) <= 1e-12, "{block:?}");
        let by = gradient(block, &operands, &tensor(&case["upstream"])).expect("good operands");
        assert_eq!(by.len(), gradients.len());
        for (i, (found, expected)) in by.iter().zip(&gradients).enumerate() {
            assert_eq!(found.shape(), expected.shape());
            let gap = gap(found.as_slice(), expected.as_slice());
            assert!(gap <= 1e-11, "{block:?}, operand {i}: {gap:e}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    /// At every level, any threads.
    #[test]
    fn gradients_are_those_of_differences((batch, size) in (1..3_usize, 1..3_usize), seed in 0..1000_u64) {
        for (block, ..) in BLOCKS {
            // A normalization of few numbers is all but flat in the weights: differences see it too coarsely.
            let size = if matches!(block, Block::Ela(_)) { size + 3 } else { size };
            let operands = operands(block, [batch, size, 8], seed);
            let upstream = random(good(block, &operands).shape(), seed + 40);
            for found in levels(|| gradient(block, &operands, &upstream)) {
                let found = found.expect("good operands");
                let outputs = |t: &[Tensor<f64>]| good(block, t);
                check_gradients(&operands, &found.iter().collect::<Vec<_>>(), &upstream, outputs);
            }
        }
    }

    /// ELA's gates lie in 0 … 1, and transposing the image transposes the result.
    #[test]
    fn strips_only_weaken_and_transpose((h, w, c) in (1..7_usize, 1..7_usize, 1..4_usize), seed in 0..1000_u64) {
        let c = 4 * c;
        let mut operands = operands(Block::Ela(4), [1, 1, c], seed);
        operands[0] = random([2, h, w, c], seed);
        for found in levels(|| run(Block::Ela(4), &operands)) {
            let found = found.expect("good operands");
            for (y, x) in found.as_slice().iter().zip(operands[0].as_slice()) {
                prop_assert!(y * x >= 0.0 && y.abs() <= x.abs());
            }
            let transposed = |x: &Tensor<f64>| {
                let [b, h, w, c] = x.shape();
                let at = |i: usize| [i / (h * w * c), i / c % h, i / (h * c) % w, i % c];
                let data = (0..b * h * w * c).map(|i| x.view().get(at(i)).expect("inside")).collect();
                Tensor::from_vec(data, [b, w, h, c]).expect("it fits")
            };
            let mut turned = operands.clone();
            turned[0] = transposed(&operands[0]);
            prop_assert!(gap(good(Block::Ela(4), &turned).as_slice(), transposed(&found).as_slice()) <= 1e-12);
        }
    }

    /// A pixel moves what lies in its windows, and what the 3×3 kernel reaches, and nothing else; masked windows do not wrap.
    #[test]
    fn windows_end_where_they_end((y, x) in (0..8_usize, 0..8_usize), shift in any::<bool>(), mask in any::<bool>(), seed in 0..1000_u64) {
        let options = RectangleOptions { shift, mask, ..WINDOWS };
        let block = Block::Rectangle(options);
        let c = 8;
        let mut operands = operands(block, [1, 1, c], seed);
        // No mixing of the halves after the attention, no kernel.
        filled(&mut operands[5], 0.0);
        filled(&mut operands[7], 0.0);
        (0..c).for_each(|i| operands[7].as_mut_slice()[i * c + i] = 1.0);
        let before = good(block, &operands);
        let (pixel, mut moved) = ((y * 8 + x) * c, operands.clone());
        moved[0].as_mut_slice()[pixel..][..c].iter_mut().for_each(|x| *x += 1.0);
        let after = good(block, &moved);
        let [h, w] = options.window;
        for (half, [down, across]) in [[h, w], [w, h]].into_iter().enumerate() {
            let by = |side: usize| if shift { side / 2 } else { 0 };
            let window = |i: usize, side: usize| (i + 8 - by(side)) % 8 / side;
            let wrapped = |i: usize, side: usize| i < by(side);
            for (i, j) in (0..8).flat_map(|i| (0..8).map(move |j| (i, j))) {
                let same = window(i, down) == window(y, down) && window(j, across) == window(x, across);
                let apart = wrapped(i, down) != wrapped(y, down) || wrapped(j, across) != wrapped(x, across);
                let seen = same && !(mask && apart);
                let entries = |t: &Tensor<f64>| t.as_slice()[(i * 8 + j) * c + half * c / 2..][..c / 2].to_vec();
                prop_assert_eq!(entries(&before) != entries(&after), seen, "{:?} half {}", (i, j), half);
            }
        }
    }

    /// One window over the whole image, no biases, no kernel: full attention of each half.
    #[test]
    fn one_window_is_full_attention(seed in 0..1000_u64) {
        let options = RectangleOptions { heads: 2, window: [4, 4], shift: false, mask: false };
        let block = Block::Rectangle(options);
        let c = 6;
        let mut operands = operands(block, [1, 1, c], seed);
        operands[0] = random([1, 4, 4, c], seed);
        [2, 3, 4, 5, 6, 7, 8].into_iter().for_each(|i| filled(&mut operands[i], 0.0));
        (0..c).for_each(|i| operands[7].as_mut_slice()[i * c + i] = 1.0);
        let found = good(block, &operands);
        let (x, weight) = (operands[0].as_slice(), operands[1].as_slice());
        for half in 0..2 {
            let part = |part: usize| {
                let row = |i: usize| (0..3).map(move |k| (i, part * c + half * 3 + k));
                let dot = |(i, o): (usize, usize)| (0..c).map(|k| x[i * c + k] * weight[o * c + k]).sum::<f64>();
                let data = (0..16).flat_map(row).map(dot).collect();
                Tensor::from_vec(data, [1, 1, 16, 3]).expect("it fits")
            };
            let [q, k, v] = [0, 1, 2].map(part);
            let full = rankbit_attention::exact(q.view(), k.view(), v.view(), &Default::default()).expect("good operands");
            for (i, line) in full.output.as_slice().chunks_exact(3).enumerate() {
                prop_assert!(gap(line, &found.as_slice()[i * c + half * 3..][..3]) <= 1e-12);
            }
        }
    }
}

/// The perceptron's table is what [`rectangle_windows`] takes: pixels one step apart share an entry wherever they lie.
#[test]
fn tables_depend_on_the_offset_alone() {
    let block = Block::Offset([2, 3]);
    let operands = operands(block, [1, 1, 8], 3);
    let table = good(block, &operands);
    assert_eq!(table.shape(), [1, 1, 3, 15]);
    // A larger window holds the smaller one's offsets in its middle.
    let larger = good(Block::Offset([3, 4]), &operands);
    for head in 0..3 {
        for (y, x) in (0..3).flat_map(|y| (0..5).map(move |x| (y, x))) {
            let small = table.as_slice()[head * 15 + y * 5 + x];
            let large = larger.as_slice()[head * 35 + (y + 1) * 7 + x + 1];
            assert!((small - large).abs() <= 1e-12);
        }
    }
}

/// Single precision.
#[test]
fn single_precision_is_near() {
    for (block, ..) in BLOCKS {
        let operands = operands(block, [1, 4, 8], 3);
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
        let good = operands(block, [1, 2, 8], 1);
        let output = run(block, &good).expect("good operands");
        for i in 0..good.len() {
            let mut bad = good.clone();
            let [a, b, c, d] = bad[i].shape();
            bad[i] = random([a, b, c, d + 1], 1);
            // A kernel's or an image's last size is a size of the block too: refused as such.
            let found = run(block, &bad);
            let refused = matches!(found, Err(Error::ShapeMismatch { .. } | Error::InvalidOption { .. }));
            assert!(refused, "{block:?}, operand {i}: {found:?}");
            for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                let mut bad = good.clone();
                *bad[i].as_mut_slice().last_mut().expect("not empty") = value;
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
        if matches!(block, Block::Offset(_)) {
            continue;
        }
        let sizes = [1, 2, 8];
        let mut cases = vec![operands(block, [0, 2, 8], 1), operands(block, [1, 2, 0], 1)];
        for axis in [1, 2] {
            let mut shapes = shapes(block, sizes);
            shapes[0][axis] = 0;
            cases.push(shapes.into_iter().map(|shape| random(shape, 1)).collect());
        }
        for operands in cases {
            assert_eq!(run(block, &operands).as_ref(), Ok(&operands[0]), "{block:?}");
            let by = gradient(block, &operands, &operands[0]).expect("nothing to do");
            assert!(by.iter().all(|by| by.as_slice().iter().all(|x| *x == 0.0)));
        }
    }
}

#[test]
fn options_outside_their_range_are_refused() {
    let refused = |block: Block, good: &[Tensor<f64>], what: &str| {
        let found = run(block, good);
        assert!(
            matches!(&found, Err(Error::InvalidOption { what: found, .. }) if *found == what),
            "{found:?}"
        );
    };
    let strips = operands(Block::Ela(2), [1, 2, 8], 1);
    refused(Block::Ela(3), &strips, "norm_groups");
    refused(Block::Ela(0), &strips, "norm_groups");
    for taps in [0, 4] {
        let mut even = strips.clone();
        even[1] = random([8, 1, taps, 4], 1);
        refused(Block::Ela(2), &even, "taps");
    }
    let good = operands(Block::Rectangle(WINDOWS), [1, 1, 8], 1);
    for heads in [0, 3, 6] {
        refused(Block::Rectangle(RectangleOptions { heads, ..WINDOWS }), &good, "heads");
    }
    for window in [[0, 4], [2, 0], [3, 4], [2, 16]] {
        refused(Block::Rectangle(RectangleOptions { window, ..WINDOWS }), &good, "window");
    }
    let far = RectangleOptions { window: [usize::MAX, usize::MAX], ..WINDOWS };
    assert!(matches!(run(Block::Rectangle(far), &good), Err(Error::TooLarge { .. })));
    refused(Block::Offset([0, 2]), &operands(Block::Offset([1, 1]), [1, 1, 8], 1), "window");
    refused(Block::Offset([1, 1]), &operands(Block::Offset([1, 1]), [1, 1, 0], 1), "inner channels");
}
