//! Vision blocks: PyTorch's vectors, gates and identities, gradients, layouts, bad input.

use proptest::prelude::*;
use rankbit_attention::vision::{
    Arrangement, HighFrequency, Polarized, Position, high_frequency, polarized, polarized_gradient, position,
    position_gradient,
};
use rankbit_attention::{Element, Error, Tensor, View};

use crate::common::{check_gradients, gap, levels, random, rounded};

/// Operands of a block in the order of its fields.
type Operands<T> = [Tensor<T>; 8];

fn polarized_of<T: Element>(operands: &[Tensor<T>]) -> Polarized<View<'_, T>> {
    let x = |i: usize| operands[i].view();
    Polarized {
        image: x(0),
        channel_query: x(1),
        channel_value: x(2),
        channel_output: x(3),
        norm_scale: x(4),
        norm_shift: x(5),
        pixel_query: x(6),
        pixel_value: x(7),
    }
}

fn position_of<T: Element>(operands: &[Tensor<T>]) -> Position<View<'_, T>> {
    let x = |i: usize| operands[i].view();
    Position {
        image: x(0),
        query: x(1),
        query_bias: x(2),
        key: x(3),
        key_bias: x(4),
        value: x(5),
        value_bias: x(6),
        strength: x(7),
    }
}

/// Every block by one name: both arrangements of the gates, and position attention.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Block {
    Polarized(Arrangement),
    Position,
}

const BLOCKS: [Block; 3] =
    [Block::Polarized(Arrangement::Parallel), Block::Polarized(Arrangement::Sequential), Block::Position];

fn run<T: Element>(block: Block, operands: &[Tensor<T>]) -> Result<Tensor<T>, Error> {
    match block {
        Block::Polarized(arrangement) => polarized(&polarized_of(operands), arrangement),
        Block::Position => position(&position_of(operands)),
    }
}

fn gradient<T: Element>(
    block: Block,
    operands: &[Tensor<T>],
    upstream: &Tensor<T>,
) -> Result<Operands<T>, Error> {
    Ok(match block {
        Block::Polarized(arrangement) => {
            let by = polarized_gradient(&polarized_of(operands), arrangement, upstream.view())?;
            let (image, query, value) = (by.image, by.channel_query, by.channel_value);
            let (scale, shift) = (by.norm_scale, by.norm_shift);
            [image, query, value, by.channel_output, scale, shift, by.pixel_query, by.pixel_value]
        }
        Block::Position => {
            let by = position_gradient(&position_of(operands), upstream.view())?;
            let (query, key, value) = (by.query, by.key, by.value);
            [by.image, query, by.query_bias, key, by.key_bias, value, by.value_bias, by.strength]
        }
    })
}

fn operands(block: Block, image: [usize; 4], m: usize, seed: u64) -> Operands<f64> {
    let c = image[3];
    let (row, down, up) = ([1, 1, 1, c], [1, 1, m, c], [1, 1, c, m]);
    let shapes = match block {
        Block::Polarized(_) => [image, row, down, up, row, row, down, down],
        Block::Position => [image, down, [1, 1, 1, m], down, [1, 1, 1, m], [1, 1, c, c], row, [1; 4]],
    };
    core::array::from_fn(|i| random(shapes[i], seed + i as u64))
}

fn zeros<T: Element>(x: &mut Tensor<T>) {
    x.as_mut_slice().fill(T::from_f64(0.0));
}

/// Vectors of PyTorch 2.15 (scripts/oracle/vision.py).
#[test]
fn pytorch_agrees() {
    let text = include_str!("../../tests/vectors/vision.json");
    let json: serde_json::Value = serde_json::from_str(text).expect("JSON");
    let tensor = |value: &serde_json::Value| {
        let shape: Vec<usize> = serde_json::from_value(value["shape"].clone()).expect("a shape");
        let data: Vec<f64> = serde_json::from_value(value["data"].clone()).expect("numbers");
        Tensor::from_vec(data, shape.try_into().expect("four sizes")).expect("it fits")
    };
    let list = |value: &serde_json::Value| -> Vec<Tensor<f64>> {
        value.as_array().expect("a list").iter().map(tensor).collect()
    };
    let cases = [&json["polarized"][0], &json["polarized"][1], &json["position"][0]];
    for (block, case) in BLOCKS.into_iter().zip(cases) {
        let (operands, gradients) = (list(&case["operands"]), list(&case["gradients"]));
        assert_eq!((operands.len(), gradients.len()), (8, 8));
        let found = run(block, &operands).expect("good operands");
        assert!(gap(found.as_slice(), tensor(&case["output"]).as_slice()) <= 1e-12, "{block:?}");
        let by = gradient(block, &operands, &tensor(&case["upstream"])).expect("good operands");
        for (i, (found, expected)) in by.iter().zip(&gradients).enumerate() {
            assert_eq!(found.shape(), expected.shape());
            assert!(gap(found.as_slice(), expected.as_slice()) <= 1e-11, "{block:?}, operand {i}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// At every level, any threads; f32 near f64.
    #[test]
    fn gradients_are_those_of_differences(
        (b, h, w) in (1..3_usize, 1..6_usize, 1..6_usize), (c, m) in (1..20_usize, 1..6_usize), seed in 0..1000_u64,
    ) {
        for block in BLOCKS {
            let operands = operands(block, [b, h, w, c], m, seed);
            // The variance of one or two channels is all but flat in the weights: differences see it too coarsely.
            if c < 3 && block != Block::Position {
                continue;
            }
            let upstream = random([b, h, w, c], seed + 20);
            for found in levels(|| gradient(block, &operands, &upstream)) {
                let found = found.expect("good operands");
                let outputs = |t: &[Tensor<f64>]| run(block, t).expect("good operands");
                check_gradients(&operands, &found.each_ref(), &upstream, outputs);
            }
        }
    }

    /// Each gate lies in 0 … 1; all weights 0 make every gate one half.
    #[test]
    fn gates_only_weaken(
        (h, w) in (1..6_usize, 1..6_usize), (c, m) in (1..20_usize, 1..6_usize), seed in 0..1000_u64,
    ) {
        for (arrangement, most) in [(Arrangement::Parallel, 2.0), (Arrangement::Sequential, 1.0)] {
            let block = Block::Polarized(arrangement);
            let mut operands = operands(block, [2, h, w, c], m, seed);
            let x = operands[0].clone();
            for found in levels(|| run(block, &operands)) {
                let found = found.expect("good operands");
                for (y, x) in found.as_slice().iter().zip(x.as_slice()) {
                    // Not NaN, of the same sign, no larger than the gates allow.
                    prop_assert!(y * x >= 0.0 && y.abs() <= most * x.abs());
                }
            }
            operands[1..].iter_mut().for_each(zeros);
            let half: Vec<f64> = x.as_slice().iter().map(|x| x * if most == 2.0 { 1.0 } else { 0.25 }).collect();
            prop_assert!(gap(run(block, &operands).expect("good operands").as_slice(), &half) <= 1e-15);
        }
    }

    /// Reordering the pixels reorders the output; no block knows where a pixel lies.
    #[test]
    fn pixels_have_no_place(n in 2..40_usize, (c, m) in (1..8_usize, 1..4_usize), seed in 0..1000_u64) {
        for block in BLOCKS {
            let mut operands = operands(block, [1, 1, n, c], m, seed);
            let before = run(block, &operands).expect("good operands");
            operands[0].as_mut_slice().rotate_left(c);
            let after = run(block, &operands).expect("good operands");
            let mut expected = before.into_vec();
            expected.rotate_left(c);
            let largest = expected.iter().fold(1.0, |max: f64, x| max.max(x.abs()));
            prop_assert!(gap(after.as_slice(), &expected) <= 1e-12 * largest);
        }
    }

    /// Strength 0 is the identity, to the bit.
    #[test]
    fn position_begins_as_the_identity((h, w) in (1..6_usize, 1..6_usize), c in 1..9_usize, seed in 0..1000_u64) {
        let mut operands = operands(Block::Position, [2, h, w, c], 2, seed);
        zeros(&mut operands[7]);
        prop_assert_eq!(&run(Block::Position, &operands).expect("good operands"), &operands[0]);
    }
}

/// Single precision, and more pixels than one task takes.
#[test]
fn single_precision_and_many_pixels() {
    for block in BLOCKS {
        let operands = operands(block, [1, 20, 30, 8], 4, 3);
        let expected = run(block, &operands).expect("good operands");
        let single = operands.each_ref().map(rounded);
        let largest = expected.as_slice().iter().fold(1.0, |max: f64, x| max.max(x.abs()));
        for found in levels(|| run(block, &single)) {
            let found = found.expect("good operands");
            assert!(gap(found.as_slice(), expected.as_slice()) <= 1e-4 * largest, "{block:?}");
        }
    }
}

/// Channels stored first give the same bits.
#[test]
fn strides_change_nothing() {
    let (h, w, c) = (4, 5, 6);
    for block in BLOCKS {
        let operands = operands(block, [2, h, w, c], 3, 5);
        let mut first = vec![0.0; 2 * h * w * c];
        for (i, x) in first.iter_mut().enumerate() {
            let at = [i / (h * w * c), i / w % h, i % w, i / (h * w) % c];
            *x = operands[0].view().get(at).expect("inside");
        }
        let image = View::new(&first, [2, h, w, c], [h * w * c, w, 1, h * w]).expect("it fits");
        let found = match block {
            Block::Polarized(arrangement) => {
                polarized(&Polarized { image, ..polarized_of(&operands) }, arrangement)
            }
            Block::Position => position(&Position { image, ..position_of(&operands) }),
        };
        assert_eq!(found, run(block, &operands));
    }
}

/// A kernel stored as PyTorch does, `[out, in, height, width]`, read through strides, gives the same bits.
#[test]
fn kernels_of_pytorch_fit() {
    let shapes =
        [[1, 4, 5, 4], [2, 3, 3, 2], [1, 1, 1, 2], [1, 1, 2, 2], [1, 1, 1, 2], [1, 1, 4, 4], [1, 1, 1, 4]];
    let operands = shapes.map(|shape| random::<f64>(shape, 7));
    let fields = operands.each_ref().map(Tensor::view);
    let expected = high_frequency(&HighFrequency::from_array(fields)).expect("good operands");
    let stored: Vec<f64> =
        (0..36).map(|i| fields[1].get([i / 18, i / 3 % 3, i % 3, i / 9 % 2]).expect("inside")).collect();
    let mut fields = fields;
    fields[1] = View::new(&stored, [2, 3, 3, 2], [18, 3, 1, 9]).expect("it fits");
    assert_eq!(high_frequency(&HighFrequency::from_array(fields)), Ok(expected));
}

#[test]
fn bad_input_is_refused() {
    for block in BLOCKS {
        // No images, no pixels, no channels.
        for shape in [[0, 3, 3, 4], [2, 0, 3, 4], [2, 3, 0, 4], [2, 3, 3, 0]] {
            let operands = operands(block, shape, 2, 1);
            assert_eq!(run(block, &operands).as_ref(), Ok(&operands[0]));
            let by = gradient(block, &operands, &operands[0]).expect("nothing to do");
            assert!(by.iter().all(|by| by.as_slice().iter().all(|x| *x == 0.0)));
        }
        assert!(matches!(
            run(block, &operands(block, [1, 2, 2, 4], 0, 1)),
            Err(Error::InvalidOption { found: 0.0, .. })
        ));
        let good = operands(block, [1, 2, 3, 4], 2, 1);
        for i in 0..8 {
            let mut bad = good.clone();
            let shape = bad[i].shape();
            bad[i] = random([shape[0], shape[1], shape[2], shape[3] + 1], 1);
            assert!(matches!(run(block, &bad), Err(Error::ShapeMismatch { .. })), "{block:?}, operand {i}");
            for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                let mut bad = good.clone();
                *bad[i].as_mut_slice().last_mut().expect("not empty") = value;
                let last = shape.map(|size| size - 1);
                assert!(matches!(run(block, &bad), Err(Error::NonFinite { index, .. }) if index == last));
                assert!(matches!(gradient(block, &bad, &good[0]), Err(Error::NonFinite { .. })));
            }
        }
        let short = random([1, 2, 2, 4], 1);
        assert!(matches!(
            gradient(block, &good, &short),
            Err(Error::ShapeMismatch { what: "output gradient", .. })
        ));
        // Finite operands that leave the range on the way, and those of hard maxima that do not.
        let mut huge = good.clone();
        huge[0].as_mut_slice().iter_mut().for_each(|x| *x *= 1e200);
        huge[1..].iter_mut().for_each(|x| x.as_mut_slice().iter_mut().for_each(|x| *x *= 1e200));
        assert!(matches!(run(block, &huge), Err(Error::Overflow { batch: 0, .. })), "{block:?}");
        let mut large = good.clone();
        large[0].as_mut_slice().iter_mut().for_each(|x| *x *= 1e30);
        assert!(run(block, &large).is_ok(), "{block:?}");
    }
}
