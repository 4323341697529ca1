//! Masks in both directions.

use crate::common::normal;
use proptest::prelude::*;
use rankbit_linalg::faer::Mat;
use rankbit_sparse::{Mask, NmPattern, Pattern, criterion, select, transposable};

fn total(mask: &Mask, scores: &Mat<f64>) -> f64 {
    (0..scores.nrows()).flat_map(|i| mask.row(i).map(move |j| (i, j))).map(|at| scores[at]).sum()
}

/// Every 4×4 mask with two in each row and column: 90 of them.
fn all_two_of_four() -> Vec<u16> {
    (0..=u16::MAX)
        .filter(|mask| {
            (0..4).all(|k| {
                let row = (mask >> (4 * k)) & 15;
                let col = (0..4).filter(|i| mask >> (4 * i + k) & 1 == 1).count();
                row.count_ones() == 2 && col == 2
            })
        })
        .collect()
}

#[test]
fn there_are_ninety() {
    assert_eq!(all_two_of_four().len(), 90);
}

proptest! {
    #[test]
    fn the_flow_finds_the_best_of_all_ninety(scores in prop::collection::vec(
        prop_oneof![3 => 0.0_f64..1.0, 1 => Just(0.0), 1 => Just(0.5), 1 => 0.0_f64..1e6], 16))
    {
        let matrix = Mat::from_fn(4, 4, |i, j| scores[4 * i + j]);
        let mask = select(matrix.as_ref(), &Pattern::Transposable(NmPattern::TWO_OF_FOUR)).unwrap();
        let value = |mask: u16| (0..16).filter(|k| mask >> k & 1 == 1).map(|k| scores[k]).sum::<f64>();
        let best = all_two_of_four().into_iter().map(value).fold(0.0, f64::max);
        let largest = scores.iter().copied().fold(0.0, f64::max);
        // Scores are rounded to 2⁻⁴⁰ of the largest.
        prop_assert!((total(&mask, &matrix) - best).abs() <= 16.0 * largest * 2.0_f64.powi(-40));
        prop_assert_eq!(mask.count(), 8);
    }

    #[test]
    fn the_fast_mask_is_valid_and_near_the_optimum(
        seed in 0_u32..1000,
        (rows, cols) in (1_usize..20, 1_usize..20),
        (keep, of) in prop_oneof![Just((2, 4)), Just((4, 8)), Just((1, 4)), Just((3, 8))],
    ) {
        let nm = NmPattern::new(keep, of).unwrap();
        let scores = criterion::magnitude(normal(rows, cols, &format!("s{seed}")).as_ref()).unwrap();
        let exact = select(scores.as_ref(), &Pattern::Transposable(nm)).unwrap();
        let fast = transposable::fast_mask(scores.as_ref(), nm).unwrap();
        fast.check(nm).unwrap();
        fast.transpose().check(nm).unwrap();
        prop_assert_eq!(fast.count(), exact.count());
        let (fast, exact) = (total(&fast, &scores), total(&exact, &scores));
        prop_assert!(fast <= exact * (1.0 + 1e-9) && fast >= 0.5 * exact, "{fast} {exact}");
    }
}

/// The gap that the documentation states.
#[test]
fn on_normal_weights_the_fast_mask_loses_less_than_stated() {
    for (keep, of) in [(2, 4), (4, 8), (1, 4), (8, 16)] {
        let nm = NmPattern::new(keep, of).unwrap();
        let scores = criterion::magnitude(normal(128, 128, "gap").as_ref()).unwrap();
        let exact = select(scores.as_ref(), &Pattern::Transposable(nm)).unwrap();
        let fast = transposable::fast_mask(scores.as_ref(), nm).unwrap();
        let ratio = total(&fast, &scores) / total(&exact, &scores);
        assert!((0.995..=1.0 + 1e-12).contains(&ratio), "{nm}: {ratio}");
    }
}

#[test]
fn odd_blocks_do_not_trip_it() {
    for scores in [
        Mat::<f64>::zeros(9, 5),
        Mat::from_fn(7, 7, |_, _| f64::MIN_POSITIVE / 4.0),
        Mat::from_fn(5, 9, |_, _| 1e300),
    ] {
        for (keep, of) in [(1, 4), (4, 4), (32, 32)] {
            let nm = NmPattern::new(keep, of).unwrap();
            let exact = select(scores.as_ref(), &Pattern::Transposable(nm)).unwrap();
            let fast = transposable::fast_mask(scores.as_ref(), nm).unwrap();
            assert_eq!(exact.count(), fast.count());
        }
    }
    assert!(
        transposable::fast_mask(Mat::from_fn(2, 2, |_, _| f64::NAN).as_ref(), NmPattern::TWO_OF_FOUR)
            .is_err()
    );
}
