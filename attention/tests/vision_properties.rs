//! What each vision block is: gates, windows, references, rigid motions, divergences.

use proptest::prelude::*;
use rankbit_attention::vision::{
    Compatible, Correspondences, FactorizationOptions, LatentColumns, Normals, RectangleOptions, compatible,
    divergence, divergence_gradient,
};
use rankbit_attention::{Error, Tensor};

use crate::common::{check_gradients, gap, levels, random};
use crate::vision_blocks::{
    Block, FACTORS, WHOLE, WINDOWS, filled, good, list, pairs, run, tensor, vectors, views,
};
use crate::vision_shapes::operands;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

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

/// A peak of one pixel reaches its eight neighbors through the maximum, and a zero last layer is the identity.
#[test]
fn peaks_spread_by_one_pixel() {
    let block = Block::HighFrequency;
    let mut operands = operands(block, [1, 6, 4], 3);
    let [_, h, w, c] = operands[0].shape();
    let mut none = operands.clone();
    [5, 6].into_iter().for_each(|i| filled(&mut none[i], 0.0));
    assert_eq!(good(block, &none), none[0]);
    let before = good(block, &operands);
    operands[0].as_mut_slice()[(2 * w + 3) * c + c - 1] = 50.0;
    let after = good(block, &operands);
    for (i, (before, after)) in before.as_slice().chunks(c).zip(after.as_slice().chunks(c)).enumerate() {
        let near = (i / w).abs_diff(2) <= 1 && (i % w).abs_diff(3) <= 1;
        assert_eq!(before != after, near, "pixel {i} of {h}x{w}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    /// The order of references does not matter, and equal ones act as one.
    #[test]
    fn references_have_no_order(height in 3..6_usize, seed in 0..1000_u64) {
        let block = Block::References(3);
        let mut operands = operands(block, [2, height - 2, 4], seed);
        let before = good(block, &operands);
        let len = operands[1].as_slice().len() / 2;
        for images in operands[1].as_mut_slice().chunks_exact_mut(len) {
            images.rotate_left(len / 3);
        }
        prop_assert!(gap(good(block, &operands).as_slice(), before.as_slice()) <= 1e-12);
        // The first of each, three times over, and once.
        let mut one = vec![];
        for images in operands[1].as_mut_slice().chunks_exact_mut(len) {
            images.copy_within(..len / 3, len / 3);
            images.copy_within(..len / 3, 2 * len / 3);
            one.extend_from_slice(&images[..len / 3]);
        }
        let thrice = good(block, &operands);
        prop_assert!(gap(thrice.as_slice(), before.as_slice()) > 1e-6);
        operands[1] = Tensor::from_vec(one, [2, height, 3, 3]).expect("it fits");
        prop_assert!(gap(good(block, &operands).as_slice(), thrice.as_slice()) <= 1e-12);
    }

    /// Local groups see the mean window alone: a checkerboard of whole windows that keeps the mean changes no key. And outputs
    /// are convex combinations of values, so constant images give constant outputs where no kernel sees the border.
    #[test]
    fn local_groups_see_the_mean_window(seed in 0..1000_u64) {
        let block = Block::Factorization(WHOLE);
        let mut operands = operands(block, [1, 1, 8], seed);
        operands[0] = random([1, 4, 6, 8], seed);
        // No kernels that see neighbors, identity where they stood; no queries: weights are uniform.
        for i in [1, 2, 11] {
            filled(&mut operands[i], 0.0);
        }
        for channel in 0..7 {
            operands[11].as_mut_slice()[channel * 9 + 4] = 1.0;
        }
        let before = good(block, &operands);
        // One window gains what another loses.
        let mut moved = operands.clone();
        for (y, x) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let at = |y: usize, x: usize| (y * 6 + x) * 8;
            moved[0].as_mut_slice()[at(y, x) + 1..at(y, x) + 8].iter_mut().for_each(|x| *x += 0.5);
            moved[0].as_mut_slice()[at(y + 2, x + 4) + 1..at(y + 2, x + 4) + 8].iter_mut().for_each(|x| *x -= 0.5);
        }
        prop_assert!(gap(good(block, &moved).as_slice(), before.as_slice()) <= 1e-12);
        moved[0].as_mut_slice()[1] += 1.0;
        prop_assert!(gap(good(block, &moved).as_slice(), before.as_slice()) > 1e-6);
        // Without queries every pixel gets the same mean of the values.
        let pixels: Vec<&[f64]> = before.as_slice().chunks(8).collect();
        prop_assert!(pixels.iter().all(|pixel| gap(pixel, pixels[0]) <= 1e-12));
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    /// A rigid motion of either cloud changes nothing; where no distance agrees, every pair sees the mean of all.
    #[test]
    fn rigid_motions_change_nothing(angle in -3.0..3.0_f64, seed in 0..1000_u64) {
        let block = Block::Compatible;
        let mut operands = operands(block, [1, 1, 4], seed);
        let before = good(block, &operands);
        let (sin, cos) = angle.sin_cos();
        for point in operands[17].as_mut_slice().chunks_exact_mut(3) {
            let [x, y, z] = [point[0], point[1], point[2]];
            point.copy_from_slice(&[cos * x - sin * y + 2.0, z - 1.0, sin * x + cos * y + 0.5]);
        }
        prop_assert!(gap(good(block, &operands).as_slice(), before.as_slice()) <= 1e-10);
        // Only a pair with itself is at the same distance then.
        operands[17].as_mut_slice().iter_mut().for_each(|x| *x *= 1e6);
        filled(&mut operands[4], 0.0);
        filled(&mut operands[5], 0.0);
        let n = operands[0].shape()[2];
        let apart = good(block, &operands);
        let added = |i: usize| -> Vec<f64> {
            (0..4).map(|k| apart.as_slice()[i * 4 + k] - operands[0].as_slice()[i * 4 + k]).collect()
        };
        prop_assert!((1..n).all(|i| gap(&added(i), &added(0)) <= 1e-10));
    }

    /// The next belief lies between the last and 1 in modulus; a state without noise is the mean.
    #[test]
    fn beliefs_stay_bounded(training in any::<bool>(), seed in 0..1000_u64) {
        let block = Block::Variational(training);
        let mut operands = operands(block, [2, 1, 4], seed);
        filled(&mut operands[3], 0.0);
        let found = good(block, &operands);
        let at = LatentColumns::new(4, 3, 5);
        prop_assert_eq!(found.shape(), [2, 1, 5, at.end]);
        for (line, old) in found.as_slice().chunks(at.end).zip(operands[2].as_slice().chunks(5)) {
            for (new, old) in line[at.belief..at.prior_mean].iter().zip(old) {
                prop_assert!(new.abs() <= old.abs().max(1.0) + 1e-12);
            }
            let mean = if training { at.posterior_mean } else { at.prior_mean };
            prop_assert_eq!(&line[at.state..at.belief], &line[mean..][..3]);
            let deviations = [at.prior_deviation..at.posterior_mean, at.posterior_deviation..at.end];
            prop_assert!(deviations.into_iter().all(|range| line[range].iter().all(|x| *x >= 0.1)));
            prop_assert!(line[..at.state].iter().all(|x| *x >= 0.0));
        }
    }

    /// Never negative, 0 for equal distributions and there alone, its gradient zero there and that of differences elsewhere.
    #[test]
    fn divergences_are_not_negative(n in 1..6_usize, seed in 0..1000_u64) {
        let mut normals: [Tensor<f64>; 4] = core::array::from_fn(|i| random([2, 1, n, 3], seed + i as u64));
        for i in [1, 3] {
            normals[i].as_mut_slice().iter_mut().for_each(|x| *x = 0.5 + x.abs());
        }
        let of = |x: &[Tensor<f64>]| divergence(&Normals::from_array(views(x))).expect("good operands");
        let found = of(&normals);
        prop_assert!(found.as_slice().iter().all(|x| *x > 0.0));
        let up = random([2, 1, n, 3], seed + 9);
        let by = divergence_gradient(&Normals::from_array(views(&normals)), None, up.view()).expect("good operands");
        let by = by.into_array();
        check_gradients(&normals, &by.each_ref(), &up, of);
        let equal = [0, 1, 0, 1].map(|i: usize| normals[i].clone());
        prop_assert!(of(&equal).as_slice().iter().all(|x| *x == 0.0));
        let by = divergence_gradient(&Normals::from_array(views(&equal)), None, up.view()).expect("good operands");
        prop_assert!(by.into_array().iter().all(|by| by.as_slice().iter().all(|x| *x == 0.0)));
    }
}

/// PyTorch's balanced divergence, and bad input.
#[test]
fn divergences_are_pytorchs_and_refuse() {
    let json = vectors();
    let case = &json["divergence"][0];
    let (operands, gradients) = (list(&case["operands"]), list(&case["gradients"]));
    let found = divergence(&Normals::from_array(views(&operands))).expect("good operands");
    assert!(gap(found.as_slice(), tensor(&case["output"]).as_slice()) <= 1e-12);
    let up = tensor(&case["upstream"]);
    let normals = Normals::from_array(views(&operands));
    let by = divergence_gradient(&normals, Some(0.8), up.view()).expect("good operands");
    for (found, expected) in by.into_array().iter().zip(&gradients) {
        assert!(gap(found.as_slice(), expected.as_slice()) <= 1e-11);
    }
    for balance in [-0.1, 1.1, f64::NAN] {
        let found = divergence_gradient(&normals, Some(balance), up.view());
        assert!(matches!(found, Err(Error::InvalidOption { what: "balance", .. })));
    }
    for i in 0..4 {
        for (value, refused) in
            [(f64::NAN, true), (f64::INFINITY, true), (0.0, i % 2 == 1), (-1.0, i % 2 == 1)]
        {
            let mut bad = operands.clone();
            bad[i].as_mut_slice()[0] = value;
            assert_eq!(divergence(&Normals::from_array(views(&bad))).is_err(), refused);
        }
        let mut bad = operands.clone();
        bad[i] = random([1, 1, 3, 4], 1);
        let found = divergence(&Normals::from_array(views(&bad)));
        assert!(matches!(found, Err(Error::ShapeMismatch { .. })));
    }
    let mut far = operands.clone();
    far[0].as_mut_slice()[5] = 1e200;
    far[3].as_mut_slice()[5] = 1e-200;
    let found = divergence(&Normals::from_array(views(&far)));
    assert!(matches!(found, Err(Error::Overflow { batch: 0, head: 0, token: 1 })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    /// Gates lie in 0 … 1; those of the pixels in ½ … σ(1) where a softmax over all pixels is under them, near ½ in a large image.
    #[test]
    fn released_gates_only_weaken(size in 1..5_usize, seed in 0..1000_u64) {
        for (block, most) in [(Block::Parallel, 2.0), (Block::Sequential, 1.0)] {
            let operands = operands(block, [2, size, 8], seed);
            for found in levels(|| run(block, &operands)) {
                let found = found.expect("good operands");
                for (y, x) in found.as_slice().iter().zip(operands[0].as_slice()) {
                    prop_assert!(y * x >= 0.0 && y.abs() <= most * x.abs());
                }
            }
        }
        let mut parallel = operands(Block::Parallel, [1, size, 8], seed);
        // No gate of the channels: one half of the image from them.
        filled(&mut parallel[3], 0.0);
        let found = good(Block::Parallel, &parallel);
        let one = 1.0 / (1.0 + (-1.0_f64).exp());
        let mut sum = 0.0;
        for (y, x) in found.as_slice().chunks(8).zip(parallel[0].as_slice().chunks(8)) {
            let gate = y[0] / x[0] - 0.5;
            prop_assert!(gate > 0.5 - 1e-12 && gate < one + 1e-12);
            // The softmax under the gate.
            sum += (gate / (1.0 - gate)).ln();
        }
        prop_assert!((sum - 1.0).abs() <= 1e-9);
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
    let groups = operands(Block::Factorization(FACTORS), [1, 2, 8], 1);
    for (what, options) in [
        ("heads", FactorizationOptions { heads: 2, ..FACTORS }),
        ("heads", FactorizationOptions { heads: 0, ..FACTORS }),
        ("window", FactorizationOptions { window: 0, ..FACTORS }),
        ("window", FactorizationOptions { window: 7, ..FACTORS }),
        ("window", FactorizationOptions { window: usize::MAX, ..FACTORS }),
        ("reduction", FactorizationOptions { reduction: 0, ..FACTORS }),
        ("reduction", FactorizationOptions { reduction: 7, ..FACTORS }),
    ] {
        refused(Block::Factorization(options), &groups, what);
    }
    let mut odd = groups.clone();
    odd[0] = random([1, 5, 6, 24], 1);
    refused(Block::Factorization(FACTORS), &odd, "channels");
    let several = operands(Block::References(3), [1, 2, 4], 1);
    for (what, shape, which) in [
        ("height of the references", [1, 9, 3, 3], 1),
        ("height of the references", [1, 0, 3, 3], 1),
        ("reference channels", [1, 12, 3, 0], 1),
        ("side of the image", [1, 4, 2, 4], 0),
        ("side of the image", [1, 1, 3, 4], 0),
    ] {
        let mut bad = several.clone();
        bad[which] = random(shape, 1);
        refused(Block::References(3), &bad, what);
    }
    let peaks = operands(Block::HighFrequency, [1, 2, 3], 1);
    refused(Block::HighFrequency, &peaks, "halves");
    for i in [1, 2, 4, 11, 15] {
        let mut bad = operands(Block::Variational(true), [1, 1, 4], 1);
        let [a, b, c, d] = bad[i].shape();
        bad[i] = if i < 5 { random([a, b, c, 0], 1) } else { random([a, b, 0, d], 1) };
        assert!(
            matches!(run(Block::Variational(true), &bad), Err(Error::InvalidOption { .. })),
            "operand {i}"
        );
    }
    let several = operands(Block::Compatible, [1, 1, 4], 1);
    for sigma in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let pairs = Correspondences { sigma, ..pairs(&several) };
        let found = compatible(&Compatible::from_array(views(&several[..16])), &pairs);
        assert!(matches!(found, Err(Error::InvalidOption { what: "sigma", .. })));
    }
    let far = RectangleOptions { window: [usize::MAX, usize::MAX], ..WINDOWS };
    assert!(matches!(run(Block::Rectangle(far), &good), Err(Error::TooLarge { .. })));
    refused(Block::Offset([0, 2]), &operands(Block::Offset([1, 1]), [1, 1, 8], 1), "window");
    refused(Block::Offset([1, 1]), &operands(Block::Offset([1, 1]), [1, 1, 0], 1), "inner channels");
}
