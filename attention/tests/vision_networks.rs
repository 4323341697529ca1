//! What RAVLT's block and CRAFT's hybrid fusion are: residuals, attention between channels, refused options.

use proptest::prelude::*;
use rankbit_attention::Error;
use rankbit_attention::vision::RankBlockOptions;

use crate::common::{gap, random};
use crate::vision_blocks::{Block, LINEAR, filled, good, run};
use crate::vision_shapes::operands;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    /// With the last layers of both parts zero a block is its first convolution; with that zero too, the identity.
    #[test]
    fn blocks_are_residuals(softmax: bool, seed in 0..1000_u64) {
        let block = Block::Ranks(RankBlockOptions { softmax, ..LINEAR });
        let mut x = operands(block, [2, 2, 8], seed);
        [9, 10, 17, 18].into_iter().for_each(|i| filled(&mut x[i], 0.0));
        let placed = good(block, &x);
        prop_assert!(gap(placed.as_slice(), x[0].as_slice()) > 1e-3);
        [1, 2].into_iter().for_each(|i| filled(&mut x[i], 0.0));
        prop_assert_eq!(&good(block, &x), &x[0]);
        let mut x = operands(Block::Fusion(2), [2, 3, 8], seed);
        [9, 14].into_iter().for_each(|i| filled(&mut x[i], 0.0));
        prop_assert_eq!(&good(Block::Fusion(2), &x), &x[0]);
    }

    /// The gate of zero leaves the perceptron alone: what attention sees does not matter.
    #[test]
    fn the_gate_closes(softmax: bool, seed in 0..1000_u64) {
        let block = Block::Ranks(RankBlockOptions { softmax, ..LINEAR });
        let mut x = operands(block, [1, 3, 8], seed);
        let c = 8;
        x[5].as_mut_slice()[3 * c * c..].fill(0.0);
        x[6].as_mut_slice()[3 * c..].fill(0.0);
        let before = good(block, &x);
        x[7] = random(x[7].shape(), seed + 50);
        x[5].as_mut_slice()[..3 * c * c].iter_mut().for_each(|x| *x += 0.5);
        prop_assert!(gap(good(block, &x).as_slice(), before.as_slice()) <= 1e-12);
    }

    /// The length of a channel of the high image does not matter to what it asks for: lengths are divided out.
    #[test]
    fn fusion_asks_by_direction(factor in 0.1..10.0_f64, seed in 0..1000_u64) {
        let block = Block::Fusion(2);
        let mut x = operands(block, [1, 3, 8], seed);
        let before = good(block, &x);
        x[1].as_mut_slice().iter_mut().for_each(|x| *x *= factor);
        prop_assert!(gap(good(block, &x).as_slice(), before.as_slice()) <= 1e-11);
    }
}

/// A black high image asks for nothing: every channel of a head becomes the mean of its channels.
#[test]
fn a_black_image_asks_for_all_alike() {
    let block = Block::Fusion(1);
    let mut x = operands(block, [1, 3, 4], 1);
    filled(&mut x[1], 0.0);
    // Without the perceptron and the mixing of heads: L + mean.
    filled(&mut x[14], 0.0);
    filled(&mut x[9], 0.0);
    (0..4).for_each(|i| x[9].as_mut_slice()[i * 5] = 1.0);
    let found = good(block, &x);
    for (found, low) in found.as_slice().chunks_exact(4).zip(x[0].as_slice().chunks_exact(4)) {
        let added: Vec<f64> = found.iter().zip(low).map(|(y, x)| y - x).collect();
        assert!(gap(&added, &[added[0]; 4]) <= 1e-12);
    }
}

#[test]
fn options_outside_their_range_are_refused() {
    let x = operands(Block::Ranks(LINEAR), [1, 2, 8], 1);
    for (heads, named) in [(0, "heads"), (3, "heads"), (2, "head_dim")] {
        let found = run(Block::Ranks(RankBlockOptions { heads, ..LINEAR }), &x);
        assert!(
            matches!(found, Err(Error::InvalidOption { what, .. }) if what == named),
            "{heads}: {found:?}"
        );
    }
    let mut x = operands(Block::Fusion(2), [1, 2, 8], 1);
    for heads in [0, 3] {
        x[8] = random([1, 1, 1, heads], 1);
        let found = run(Block::Fusion(heads), &x);
        assert!(matches!(found, Err(Error::InvalidOption { what: "heads", .. })), "{heads}: {found:?}");
    }
}
