//! Patterns and the masks that follow them.

use crate::common::{nm, patterns, view, whole};
use proptest::prelude::*;
use rankbit_kit::strategy::matrix;
use rankbit_linalg::faer::Mat;
use rankbit_sparse::{Error, Mask, NmPattern, Pattern, Scope, criterion, select};

#[test]
fn only_sensible_patterns_exist() {
    for (keep, of) in [(0, 4), (5, 4), (1, 33), (0, 0), (1, 1), (1, u32::MAX), (300, 400), (257, 258)] {
        assert_eq!(NmPattern::new(keep, of), Err(Error::InvalidPattern { keep, of }));
    }
    for text in ["", "2", "2:", ":4", "4:2", "-1:4", "2:4:8", "a:b", "2:99999999999"] {
        assert!(text.parse::<NmPattern>().is_err(), "{text}");
    }
    assert_eq!("2:4".parse(), Ok(NmPattern::TWO_OF_FOUR));
    assert_eq!(NmPattern::TWO_OF_FOUR.to_string(), "2:4");
    let bits = |keep, of| NmPattern::new(keep, of).unwrap().index_bits();
    assert_eq!(
        [bits(1, 2), bits(2, 4), bits(3, 5), bits(4, 8), bits(1, 16), bits(1, 32)],
        [1, 2, 3, 3, 4, 5]
    );
}

#[cfg(feature = "serde")]
#[test]
fn a_stored_pattern_is_checked_when_read() {
    let pattern = Pattern::Nm(NmPattern::TWO_OF_FOUR);
    let text = serde_json::to_string(&pattern).unwrap();
    assert_eq!(text, r#"{"nm":{"keep":2,"of":4}}"#);
    assert_eq!(serde_json::from_str::<Pattern>(&text).unwrap(), pattern);
    for bad in [r#"{"nm":{"keep":5,"of":4}}"#, r#"{"nm":{"keep":0,"of":4}}"#, r#"{"nm":{"keep":1}}"#] {
        assert!(serde_json::from_str::<Pattern>(bad).is_err(), "{bad}");
    }
}

#[test]
fn patterns_and_scores_that_mean_nothing_are_refused() {
    let scores = Mat::from_fn(4, 4, |i, j| (i + j) as f64);
    for pattern in [
        Pattern::Unstructured { density: f64::NAN, scope: Scope::Row },
        Pattern::Unstructured { density: -0.1, scope: Scope::Matrix },
        Pattern::Unstructured { density: 1.5, scope: Scope::Matrix },
        Pattern::Block { rows: 0, cols: 2, density: 0.5 },
        Pattern::Block { rows: 2, cols: 0, density: 0.5 },
    ] {
        assert!(matches!(select(scores.as_ref(), &pattern), Err(Error::InvalidOption { .. })), "{pattern:?}");
    }
    let two = Pattern::Nm(NmPattern::TWO_OF_FOUR);
    for bad in [f64::NAN, f64::INFINITY] {
        let spoiled = Mat::from_fn(4, 4, |i, j| if (i, j) == (2, 3) { bad } else { 1.0 });
        let error = Error::NonFinite { what: "score", row: 2, col: 3 };
        assert_eq!(select(spoiled.as_ref(), &two), Err(error));
    }
    let negative = Mat::from_fn(1, 4, |_, j| -(j as f64));
    assert!(matches!(select(negative.as_ref(), &two), Err(Error::InvalidOption { .. })));
    for shape in [(0, 0), (0, 4), (4, 0), (1, 1)] {
        assert_eq!(select(Mat::zeros(shape.0, shape.1).as_ref(), &two).unwrap().shape(), shape);
    }
}

/// Kept entries per group of every row.
fn groups(mask: &Mask, of: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
    let (rows, cols) = mask.shape();
    (0..rows).flat_map(move |i| {
        (0..cols).step_by(of).map(move |start| {
            let end = (start + of).min(cols);
            (end - start, (start..end).filter(|&j| mask.contains(i, j)).count())
        })
    })
}

proptest! {
    #[test]
    fn exactly_keep_of_every_group_are_kept_and_none_is_better(
        weight in matrix(1..=6, 1..=70),
        pattern in nm(),
    ) {
        let scores = criterion::magnitude(view(&weight)).unwrap();
        let mask = select(scores.as_ref(), &Pattern::Nm(pattern)).unwrap();
        for (len, kept) in groups(&mask, pattern.of()) {
            prop_assert_eq!(kept, len.min(pattern.keep()));
        }
        mask.check(pattern).unwrap();
        let per_row = pattern.kept_per_row(weight.cols);
        prop_assert!((0..weight.rows).all(|i| mask.row(i).count() == per_row));
        for i in 0..weight.rows {
            for dropped in (0..weight.cols).filter(|&j| !mask.contains(i, j)) {
                let start = dropped / pattern.of() * pattern.of();
                for kept in (start..(start + pattern.of()).min(weight.cols)).filter(|&j| mask.contains(i, j)) {
                    let (d, k) = (scores[(i, dropped)], scores[(i, kept)]);
                    prop_assert!(k > d || (k == d && kept < dropped), "kept {k} at {kept}, dropped {d} at {dropped}");
                }
            }
        }
    }

    #[test]
    fn counts_are_those_of_the_pattern(weight in matrix(1..=13, 1..=40), pattern in patterns()) {
        let (rows, cols) = (weight.rows, weight.cols);
        let scores = criterion::magnitude(view(&weight)).unwrap();
        let mask = select(scores.as_ref(), &pattern).unwrap();
        let ceil = |density: f64, len: usize| whole((density * len as f64 - 1e-9).ceil().max(0.0)).min(len);
        match pattern {
            Pattern::Nm(nm) => prop_assert_eq!(mask.count(), rows * nm.kept_per_row(cols)),
            Pattern::Transposable(nm) => {
                mask.check(nm).unwrap();
                mask.transpose().check(nm).unwrap();
                for top in (0..rows).step_by(nm.of()) {
                    for left in (0..cols).step_by(nm.of()) {
                        let (h, w) = (nm.of().min(rows - top), nm.of().min(cols - left));
                        let count = (top..top + h).flat_map(|i| (left..left + w).map(move |j| (i, j)))
                            .filter(|&(i, j)| mask.contains(i, j)).count();
                        prop_assert_eq!(count, (h * nm.keep().min(w)).min(w * nm.keep().min(h)));
                    }
                }
            }
            Pattern::Block { rows: h, cols: w, density } => {
                let (down, across) = (rows.div_ceil(h), cols.div_ceil(w));
                let mut whole = 0;
                for i in 0..down {
                    for j in 0..across {
                        let states: Vec<bool> = (i * h..((i + 1) * h).min(rows))
                            .flat_map(|r| (j * w..((j + 1) * w).min(cols)).map(move |c| (r, c)))
                            .map(|(r, c)| mask.contains(r, c)).collect();
                        prop_assert!(states.iter().all(|s| *s == states[0]));
                        whole += usize::from(states[0]);
                    }
                }
                prop_assert_eq!(whole, ceil(density, down * across));
            }
            Pattern::Unstructured { density, scope: Scope::Row } => {
                prop_assert!((0..rows).all(|i| mask.row(i).count() == ceil(density, cols)));
            }
            Pattern::Unstructured { density, scope: Scope::Matrix } => {
                prop_assert_eq!(mask.count(), ceil(density, rows * cols));
            }
        }
    }

    #[test]
    fn a_mask_keeps_its_entries_and_no_others(weight in matrix(1..=5, 1..=150)) {
        let mask = Mask::of_nonzeros(view(&weight));
        let kept = mask.apply(view(&weight)).unwrap();
        for i in 0..weight.rows {
            let row: Vec<usize> = (0..weight.cols).filter(|&j| mask.contains(i, j)).collect();
            prop_assert_eq!(mask.row(i).collect::<Vec<_>>(), row);
            for j in 0..weight.cols {
                prop_assert_eq!(kept[(i, j)], view(&weight)[(i, j)]);
            }
        }
        prop_assert_eq!(mask.transpose().transpose(), mask.clone());
        prop_assert_eq!(mask.distance(&Mask::empty(mask.shape())).unwrap(), mask.count());
        prop_assert!(mask.distance(&Mask::empty((1, 1 + weight.cols))).is_err());
        prop_assert!(mask.apply(Mat::<f32>::zeros(7, 1).as_ref()).is_err() || mask.shape() == (7, 1));
    }
}

#[test]
fn a_crowded_group_is_named() {
    let mask = Mask::from_fn((2, 10), |i, j| i == 1 && (4..8).contains(&j));
    let error = Error::TooManyKept { row: 1, col: 4, keep: 2, found: 4 };
    assert_eq!(mask.check(NmPattern::TWO_OF_FOUR), Err(error));
}
