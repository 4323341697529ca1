//! The error-feedback sweep and its coordinate descent.

use nalgebra::DMatrix;
use proptest::prelude::*;
use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_linalg::{Error, ErrorFeedback, Order, Projector, SweepOptions};

use crate::support::{Layouts, at_most, close, distance, gaussian, norm, oracle, single};

const UNDAMPED: SweepOptions<'static> =
    SweepOptions { damping: 0.0, block: 32, segment: usize::MAX, order: Order::Natural };

/// Whole multiples of 0.7.
fn grid(x: f64) -> f64 {
    (x / 0.7).round() * 0.7
}

fn onto_grid(_: usize, target: &[f64], projected: &mut [f64]) {
    for (q, v) in projected.iter_mut().zip(target) {
        *q = grid(*v);
    }
}

/// A well conditioned Gram matrix of correlated columns.
fn gram(n: usize, seed: u64) -> Mat<f64> {
    let x = gaussian(2 * n + 3, n, seed);
    let shared = gaussian(2 * n + 3, 1, seed ^ 7);
    let x = Mat::from_fn(x.nrows(), n, |t, j| (x[(t, j)] + shared[(t, 0)]) * (1.0 + (j % 3) as f64));
    x.transpose() * &x
}

/// tr(E·H·Eᵀ) by nalgebra.
fn cost(e: &Mat<f64>, h: MatRef<'_, f64>) -> f64 {
    let e = oracle(e.as_ref());
    (&e * oracle(h) * e.transpose()).trace()
}

/// Optimal brain quantization in a fixed order, from its definition: after each column is fixed, the free columns
/// move to where the error is least, by solving the normal equations anew.
fn textbook(w: &Mat<f64>, h: &Mat<f64>, order: &[usize]) -> Mat<f64> {
    let h = oracle(h.as_ref());
    let (m, n) = w.shape();
    let mut out = Mat::zeros(m, n);
    for i in 0..m {
        let mut current: Vec<f64> = (0..n).map(|j| w[(i, j)]).collect();
        for (position, &j) in order.iter().enumerate() {
            out[(i, j)] = grid(current[j]);
            let (fixed, free) = order.split_at(position + 1);
            if free.is_empty() {
                break;
            }
            // minimize (w − q)H(w − q)ᵀ over the free entries: H_ff·(w_f − q_f) = −H_fd·(w_d − q_d)
            let hff = DMatrix::from_fn(free.len(), free.len(), |a, b| h[(free[a], free[b])]);
            let right = DMatrix::from_fn(free.len(), 1, |a, _| {
                -fixed.iter().map(|&d| h[(free[a], d)] * (w[(i, d)] - out[(i, d)])).sum::<f64>()
            });
            let solution = hff.lu().solve(&right).expect("a positive definite block");
            for (a, &column) in free.iter().enumerate() {
                current[column] = w[(i, column)] - solution[(a, 0)];
            }
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn equals_the_textbook_and_reports_its_error(m in 1usize..6, n in 1usize..14, seed: u64, by_diagonal: bool) {
        let (w, h) = (gaussian(m, n, seed), gram(n, seed));
        let order = if by_diagonal { Order::ByDiagonal } else { Order::Natural };
        let feedback = ErrorFeedback::new(h.as_ref(), &SweepOptions { order, block: 3, ..UNDAMPED }).unwrap();
        let swept = feedback.sweep(w.as_ref(), &mut onto_grid).unwrap();
        let expected = textbook(&w, &h, feedback.order());
        close(distance(swept.projected.as_ref(), expected.as_ref()), 0.0, 1e-9);
        let exact = cost(&(&w - &swept.projected), h.as_ref());
        close(swept.error, exact, 1e-9 * (1.0 + exact));
        close(feedback.error((&w - &swept.projected).as_ref()).unwrap(), exact, 1e-9 * (1.0 + exact));
    }

    #[test]
    fn block_and_segment_change_rounding_only(
        m in 1usize..5, n in 1usize..70, block in 1usize..40, segment in 1usize..80, seed: u64,
    ) {
        let (w, h) = (gaussian(m, n, seed), gram(n, seed));
        let options = SweepOptions { order: Order::ByDiagonal, damping: 0.01, ..UNDAMPED };
        let at = |block, segment| {
            let feedback = ErrorFeedback::new(h.as_ref(), &SweepOptions { block, segment, ..options }).unwrap();
            let swept = feedback.sweep(w.as_ref(), &mut onto_grid).unwrap();
            let refined = feedback.refine(w.as_ref(), swept.projected.as_ref(), &mut onto_grid).unwrap();
            (swept.projected, refined.projected)
        };
        let (plain, other) = (at(usize::MAX, usize::MAX), at(block, segment));
        close(distance(plain.0.as_ref(), other.0.as_ref()), 0.0, 1e-9);
        close(distance(plain.1.as_ref(), other.1.as_ref()), 0.0, 1e-9);
    }

    #[test]
    fn segments_see_the_feedback_of_all_before(m in 1usize..4, n in 1usize..40, segment in 1usize..17, seed: u64) {
        struct Check { segment: usize, ahead: Vec<(usize, Vec<f64>)>, seen: Vec<usize> }
        impl Projector for Check {
            fn segment(&mut self, columns: &[usize], targets: MatRef<'_, f64>) {
                assert_eq!(columns.len(), targets.ncols());
                assert!(columns.len() <= self.segment && self.seen.len().is_multiple_of(self.segment));
                self.ahead.push((columns[0], targets.col(0).iter().copied().collect()));
            }
            fn column(&mut self, column: usize, target: &[f64], projected: &mut [f64]) {
                // A segment's first column is announced exactly as it then comes.
                if self.seen.len().is_multiple_of(self.segment) {
                    let (announced, values) = self.ahead.last().unwrap();
                    assert_eq!((*announced, values.as_slice()), (column, target));
                }
                self.seen.push(column);
                onto_grid(column, target, projected);
            }
        }
        let (w, h) = (gaussian(m, n, seed), gram(n, seed));
        let options = SweepOptions { segment, block: 4, order: Order::ByDiagonal, ..UNDAMPED };
        let feedback = ErrorFeedback::new(h.as_ref(), &options).unwrap();
        let mut check = Check { segment, ahead: Vec::new(), seen: Vec::new() };
        feedback.sweep(w.as_ref(), &mut check).unwrap();
        prop_assert_eq!(check.seen, feedback.order());
        prop_assert_eq!(check.ahead.len(), n.div_ceil(segment));
    }

    #[test]
    fn a_diagonal_form_is_plain_projection(m in 1usize..5, n in 1usize..30, seed: u64) {
        let w = gaussian(m, n, seed);
        let h = Mat::from_fn(n, n, |i, j| if i == j { 1.0 + (i % 5) as f64 } else { 0.0 });
        let feedback = ErrorFeedback::new(h.as_ref(), &UNDAMPED).unwrap();
        let swept = feedback.sweep(w.as_ref(), &mut onto_grid).unwrap();
        let plain = Mat::from_fn(m, n, |i, j| grid(w[(i, j)]));
        prop_assert_eq!(&swept.projected, &plain);
        let refined = feedback.refine(w.as_ref(), plain.as_ref(), &mut onto_grid).unwrap();
        prop_assert_eq!(refined.projected, plain);
    }

    #[test]
    fn the_first_column_visited_is_plain(m in 1usize..5, n in 1usize..20, seed: u64) {
        let (w, h) = (gaussian(m, n, seed), gram(n, seed));
        let feedback =
            ErrorFeedback::new(h.as_ref(), &SweepOptions { order: Order::ByDiagonal, ..UNDAMPED }).unwrap();
        let first = feedback.order()[0];
        let swept = feedback.sweep(w.as_ref(), &mut onto_grid).unwrap();
        for i in 0..m {
            prop_assert_eq!(swept.projected[(i, first)], grid(w[(i, first)]));
        }
        // By the definition of the order.
        prop_assert!(feedback.order().windows(2).all(|p| h[(p[0], p[0])] >= h[(p[1], p[1])]));
    }

    #[test]
    fn permuting_the_columns_permutes_the_result(m in 1usize..5, n in 1usize..25, seed: u64) {
        let (w, h) = (gaussian(m, n, seed), gram(n, seed));
        let keys = gaussian(n, 1, seed ^ 99);
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|&a, &b| keys[(a, 0)].total_cmp(&keys[(b, 0)]));
        let given = SweepOptions { order: Order::Given(&order), ..UNDAMPED };
        let direct = ErrorFeedback::new(h.as_ref(), &given).unwrap();
        let direct = direct.sweep(w.as_ref(), &mut onto_grid).unwrap().projected;
        let moved_w = Mat::from_fn(m, n, |i, j| w[(i, order[j])]);
        let moved_h = Mat::from_fn(n, n, |i, j| h[(order[i], order[j])]);
        let moved = ErrorFeedback::new(moved_h.as_ref(), &UNDAMPED).unwrap();
        let moved = moved.sweep(moved_w.as_ref(), &mut onto_grid).unwrap().projected;
        let back = Mat::from_fn(m, n, |i, j| moved[(i, order.iter().position(|&o| o == j).unwrap())]);
        close(distance(direct.as_ref(), back.as_ref()), 0.0, 1e-9);
    }

    #[test]
    fn refining_never_raises_the_error(m in 1usize..5, n in 1usize..40, damping in 0.0f64..0.1, seed: u64) {
        let (w, h) = (gaussian(m, n, seed), gram(n, seed));
        let options = SweepOptions { damping, block: 5, ..UNDAMPED };
        let feedback = ErrorFeedback::new(h.as_ref(), &options).unwrap();
        let damped = Mat::from_fn(n, n, |i, j| h[(i, j)] + if i == j { feedback.added() } else { 0.0 });
        let mut current = Mat::from_fn(m, n, |i, j| grid(w[(i, j)]));
        for _ in 0..3 {
            let refined = feedback.refine(w.as_ref(), current.as_ref(), &mut onto_grid).unwrap();
            let before = cost(&(&w - &current), damped.as_ref());
            let after = cost(&(&w - &refined.projected), damped.as_ref());
            close(refined.before, before, 1e-9 * (1.0 + before));
            close(refined.after, after, 1e-9 * (1.0 + before));
            at_most(after, before, 1e-9 * before);
            current = refined.projected;
        }
        // No single column can be improved once nothing moves.
        let last = feedback.refine(w.as_ref(), current.as_ref(), &mut onto_grid).unwrap();
        if distance(last.projected.as_ref(), current.as_ref()) == 0.0 {
            let gradient = (&w - &current) * &damped;
            for j in 0..n {
                for i in 0..m {
                    prop_assert!((gradient[(i, j)] / damped[(j, j)]).abs() <= 0.35 + 1e-9);
                }
            }
        }
    }

    #[test]
    fn scaling_the_form_changes_no_projection(m in 1usize..4, n in 1usize..20, exponent in -300i32..300, seed: u64) {
        let (w, h) = (gaussian(m, n, seed), gram(n, seed));
        let factor = 10f64.powi(exponent);
        let scaled = Mat::from_fn(n, n, |i, j| h[(i, j)] * factor);
        let at = |h: &Mat<f64>| {
            let feedback = ErrorFeedback::new(h.as_ref(), &SweepOptions::default()).unwrap();
            feedback.sweep(w.as_ref(), &mut onto_grid).unwrap()
        };
        let (plain, other) = (at(&h), at(&scaled));
        close(distance(plain.projected.as_ref(), other.projected.as_ref()), 0.0, 1e-9);
        close(other.error / factor, plain.error, 1e-9 * plain.error);
    }
}

#[test]
fn layouts_and_precisions_agree() {
    let (w, h) = (gaussian(7, 50, 1), gram(50, 2));
    let feedback = ErrorFeedback::new(h.as_ref(), &SweepOptions::default()).unwrap();
    let expected = feedback.sweep(w.as_ref(), &mut onto_grid).unwrap();
    for view in Layouts::new(w.as_ref()).views() {
        assert_eq!(feedback.sweep(view, &mut onto_grid).unwrap(), expected);
    }
    let narrow = single(w.as_ref());
    let found = feedback.sweep(narrow.as_ref(), &mut onto_grid).unwrap();
    assert!(norm((&found.projected - &expected.projected).as_ref()) < 1.0);
}

#[test]
fn feedback_beats_plain_projection_on_correlated_inputs() {
    let mut wins = 0;
    for seed in 0..20 {
        let (w, h) = (gaussian(8, 48, seed), gram(48, seed ^ 5));
        let feedback = ErrorFeedback::new(h.as_ref(), &SweepOptions::default()).unwrap();
        let swept = feedback.sweep(w.as_ref(), &mut onto_grid).unwrap();
        let plain = Mat::from_fn(8, 48, |i, j| grid(w[(i, j)]));
        wins += usize::from(swept.error < 0.9 * feedback.error((&w - &plain).as_ref()).unwrap());
    }
    assert_eq!(wins, 20);
}

#[test]
fn dead_inputs_are_projected_plainly() {
    let (w, mut h) = (gaussian(4, 12, 3), gram(12, 4));
    for j in 0..12 {
        h[(5, j)] = 0.0;
        h[(j, 5)] = 0.0;
    }
    let feedback = ErrorFeedback::new(h.as_ref(), &UNDAMPED).unwrap();
    assert_eq!(feedback.dead(), 1);
    let swept = feedback.sweep(w.as_ref(), &mut onto_grid).unwrap();
    for i in 0..4 {
        assert_eq!(swept.projected[(i, 5)], grid(w[(i, 5)]));
    }
    // All of them, and no columns or rows at all.
    let zero = Mat::zeros(12, 12);
    let feedback = ErrorFeedback::new(zero.as_ref(), &UNDAMPED).unwrap();
    let swept = feedback.sweep(w.as_ref(), &mut onto_grid).unwrap();
    assert_eq!((feedback.dead(), swept.projected), (12, Mat::from_fn(4, 12, |i, j| grid(w[(i, j)]))));
    let empty = ErrorFeedback::new(Mat::<f64>::zeros(0, 0).as_ref(), &UNDAMPED).unwrap();
    assert_eq!(empty.sweep(Mat::<f64>::zeros(3, 0).as_ref(), &mut onto_grid).unwrap().error, 0.0);
    let swept = feedback.sweep(Mat::<f64>::zeros(0, 12).as_ref(), &mut onto_grid).unwrap();
    assert_eq!(swept.projected.shape(), (0, 12));
}

#[test]
fn a_singular_form_names_its_pivot_and_damping_helps() {
    // Column 3 repeats column 1; in natural order the later one's pivot, seen from the end, is the earlier's.
    let x = gaussian(20, 6, 8);
    let x = Mat::from_fn(20, 6, |t, j| x[(t, if j == 3 { 1 } else { j })]);
    let h = x.transpose() * &x;
    match ErrorFeedback::new(h.as_ref(), &UNDAMPED) {
        Err(Error::NotPositiveDefinite { pivot, .. }) => assert!(pivot == 1 || pivot == 3, "{pivot}"),
        other => panic!("{other:?}"),
    }
    let damped = ErrorFeedback::new(h.as_ref(), &SweepOptions { damping: 0.01, ..UNDAMPED }).unwrap();
    let mean = (0..6).map(|j| h[(j, j)]).sum::<f64>() / 6.0;
    close(damped.added(), 0.01 * mean, 1e-12 * mean);
    let indefinite = Mat::from_fn(3, 3, |i, j| if i == j { 1.0 } else { -0.9 });
    assert!(matches!(
        ErrorFeedback::new(indefinite.as_ref(), &UNDAMPED),
        Err(Error::NotPositiveDefinite { .. })
    ));
}

#[test]
fn bad_input() {
    let h = gram(4, 1);
    let new = |options: &SweepOptions<'_>| ErrorFeedback::new(h.as_ref(), options).map(|_| ());
    for damping in [-0.1, f64::NAN, f64::INFINITY] {
        let found = new(&SweepOptions { damping, ..UNDAMPED });
        assert!(matches!(found, Err(Error::InvalidOption { what: "damping", .. })), "{found:?}");
    }
    assert!(new(&SweepOptions { block: 0, ..UNDAMPED }).is_err());
    assert!(new(&SweepOptions { segment: 0, ..UNDAMPED }).is_err());
    for order in [&[0, 1, 2][..], &[0, 1, 2, 2], &[0, 1, 2, 4], &[0, 1, 2, 3, 0]] {
        let found = new(&SweepOptions { order: Order::Given(order), ..UNDAMPED });
        assert!(matches!(found, Err(Error::InvalidOption { what: "order", .. })), "{found:?}");
    }
    assert!(ErrorFeedback::new(Mat::<f64>::zeros(2, 3).as_ref(), &UNDAMPED).is_err());
    let mut bad = h.clone();
    bad[(1, 2)] = f64::NAN;
    assert!(matches!(ErrorFeedback::new(bad.as_ref(), &UNDAMPED), Err(Error::NonFinite { .. })));
    bad[(1, 2)] = h[(2, 1)] + 1e3;
    assert!(matches!(ErrorFeedback::new(bad.as_ref(), &UNDAMPED), Err(Error::InvalidMetric { .. })));

    let feedback = ErrorFeedback::new(h.as_ref(), &UNDAMPED).unwrap();
    let wide = gaussian(2, 5, 1);
    assert!(matches!(feedback.sweep(wide.as_ref(), &mut onto_grid), Err(Error::ShapeMismatch { .. })));
    let mut w = gaussian(2, 4, 1);
    let other = gaussian(3, 4, 1);
    let found = feedback.refine(w.as_ref(), other.as_ref(), &mut onto_grid);
    assert!(matches!(found, Err(Error::ShapeMismatch { .. })));
    let mut spoil = |_: usize, _: &[f64], q: &mut [f64]| q.fill(f64::NAN);
    let found = feedback.sweep(w.as_ref(), &mut spoil);
    assert!(matches!(found, Err(Error::NonFinite { what: "projection", .. })), "{found:?}");
    w[(1, 2)] = f64::INFINITY;
    let found = feedback.sweep(w.as_ref(), &mut onto_grid);
    assert!(matches!(found, Err(Error::NonFinite { row: 1, col: 2, .. })), "{found:?}");
}
