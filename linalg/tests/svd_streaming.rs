//! The decomposition of rows that arrive: a stream of blocks, and rows appended to factors.

use crate::support::*;
use proptest::prelude::*;
use rankbit_linalg::faer::Mat;
use rankbit_linalg::{Error, KrylovOptions, StreamingSvd, krylov, truncated};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Up to 512 columns a stream is exact, and the blocks do not matter to the last bit.
    #[test]
    fn narrow_streams_are_exact((a, rank) in matrix_and_rank(), width in 1usize..9, block in 1usize..12) {
        let run = |block: usize| {
            let mut stream = StreamingSvd::new(a.ncols(), width).unwrap();
            for start in (0..a.nrows()).step_by(block) {
                stream.push(a.subrows(start, block.min(a.nrows() - start))).unwrap();
            }
            stream.finish::<f64>(rank).unwrap()
        };
        let found = run(block);
        let exact = oracle_values(a.as_ref());
        close(found.residual_bound, tail(&exact, rank), 1e-11);
        close(found.norm, norm(a.as_ref()), 1e-12);
        prop_assert_eq!(found.sketch_bound, 0.0);
        for (found, exact) in found.singular_values.iter().zip(&exact) {
            close(*found, *exact, 1e-11);
        }
        prop_assert!(orthonormality(found.v.as_ref()) <= 1e-12);
        let whole = run(usize::MAX);
        prop_assert!(whole.v == found.v && whole.singular_values == found.singular_values);
    }

    /// Appending rows to an exact decomposition is exact for the whole, and its error that of the cut.
    #[test]
    fn appended_rows_are_exact(
        m in 0usize..16, b in 0usize..16, n in 1usize..16, seed in any::<u64>(), low in any::<bool>(), keep in 0.0..1.0f64,
    ) {
        let side = if low { (m + b).min(n).div_ceil(2) } else { (m + b).min(n) };
        let values: Vec<f64> = (0..side).map(|i| 2.0 / (1.0 + i as f64)).collect();
        let a = with_spectrum(m + b, n, &values, seed);
        let first = truncated(a.subrows(0, m), m.min(n)).unwrap();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a small count")]
        let rank = (keep * ((m.min(n) + b).min(n) as f64)) as usize;
        let found = first.append_rows(a.subrows(m, b), rank).unwrap();
        let measured = distance(a.as_ref(), found.reconstruct().as_ref());
        close(measured, tail(&values, rank), 1e-10);
        close(found.info.residual, measured, 1e-10);
        close(found.info.norm, norm(a.as_ref()), 1e-11);
        for (found, exact) in found.singular_values.iter().zip(&values) {
            close(*found, *exact, 1e-11);
        }
        if rank > 0 {
            prop_assert!(orthonormality(found.u.as_ref()) <= 1e-11, "U {}", orthonormality(found.u.as_ref()));
            prop_assert!(orthonormality(found.v.as_ref()) <= 1e-11, "V {}", orthonormality(found.v.as_ref()));
        }
    }
}

/// Frequent directions: 0 ⪯ AᵀA − BᵀB ⪯ Δ with Δ ≤ ‖A − [A]ₖ‖²/(⌊ℓ/2⌋ + 1 − k), seen through what `finish` returns.
#[test]
fn wide_streams_keep_their_bounds() {
    let (m, n, width) = (900, 600, 48);
    let values: Vec<f64> = (1..=80).map(|i| 1.0 / f64::from(i)).collect();
    let a = with_spectrum(m, n, &values, 4);
    let mut stream = StreamingSvd::new(n, width).unwrap();
    for start in (0..m).step_by(37) {
        stream.push(a.subrows(start, 37.min(m - start))).unwrap();
    }
    assert_eq!(stream.rows(), 900);
    let rank = 10;
    let found = stream.finish::<f64>(rank).unwrap();
    let projected = oracle(a.as_ref()) * oracle(found.v.as_ref()) * oracle(found.v.as_ref()).transpose();
    let left = (oracle(a.as_ref()) - projected).norm();
    at_most(left, found.residual_bound, 1e-12);
    at_most(tail(&values, rank), left, 1e-12);
    // Near the least here, because the leading half is not shrunk.
    at_most(left, 1.05 * tail(&values, rank), 0.0);
    at_most(found.residual_bound, 1.2 * tail(&values, rank), 0.0);
    assert!(found.sketch_bound > 0.0);
    for k in 0..=width / 2 {
        let bound = tail(&values, k).powi(2) / (width / 2 + 1 - k) as f64;
        at_most(found.sketch_bound.powi(2), bound, 1e-12);
    }
    for (value, exact) in found.singular_values.iter().zip(&values) {
        at_most(*value, *exact, 1e-12);
        at_most(exact.powi(2), value.powi(2) + found.sketch_bound.powi(2), 1e-12);
    }
    // A matrix whose rank the sketch holds loses nothing.
    let low = with_spectrum(300, n, &values[..20], 5);
    let mut stream = StreamingSvd::new(n, width).unwrap();
    stream.push(low.as_ref()).unwrap();
    let found = stream.finish::<f64>(20).unwrap();
    at_most(found.residual_bound, 1e-6, 0.0);
    at_most(found.sketch_bound, 1e-12, 0.0);
}

/// Many rows, wildly different scales from block to block, and columns that are zero: no overflow, nothing lost.
#[test]
fn scales_that_change_on_the_way() {
    let base = gaussian(300, 6, 3);
    for (early, late) in [(1e-150, 1e150), (1e150, 1e-150), (1e300, 1e300), (1e-300, 1e-300)] {
        let mut stream = StreamingSvd::new(6, 3).unwrap();
        stream.push(Mat::<f64>::zeros(4, 6).as_ref()).unwrap();
        stream.push(Mat::from_fn(300, 6, |i, j| base[(i, j)] * early).as_ref()).unwrap();
        stream.push(Mat::from_fn(300, 6, |i, j| base[(i, j)] * late).as_ref()).unwrap();
        let found = stream.finish::<f64>(2).unwrap();
        let (scale, copies) = (f64::max(early, late), if early == late { 2f64.sqrt() } else { 1.0 });
        let exact = oracle_values(base.as_ref());
        for (value, exact) in found.singular_values.iter().zip(&exact) {
            close(value / scale, exact * copies, 1e-10);
        }
        close(found.norm / scale, norm(base.as_ref()) * copies, 1e-10);
        close(found.residual_bound / scale, tail(&exact, 2) * copies, 1e-10);
    }
    for scale in [1e-300, 1e300] {
        let scaled = Mat::from_fn(300, 6, |i, j| base[(i, j)] * scale);
        let first = truncated(scaled.subrows(0, 100), 6).unwrap();
        let found = first.append_rows(scaled.subrows(100, 200), 4).unwrap();
        close(found.info.residual / scale, tail(&oracle_values(base.as_ref()), 4), 1e-10);
    }
}

/// A decomposition in single precision that follows its matrix in steps stays orthonormal and near the least error.
#[test]
fn many_updates_do_not_drift() {
    let values: Vec<f64> = (1..=60).map(|i| 1.0 / f64::from(i)).collect();
    let a = single(with_spectrum(400, 60, &values, 8).as_ref());
    let mut svd = krylov(a.subrows(0, 40), 16, &KrylovOptions::default()).unwrap();
    for start in (40..400).step_by(40) {
        svd = svd.append_rows(a.subrows(start, 40), 16).unwrap();
    }
    assert!(orthonormality(double(svd.u.as_ref()).as_ref()) < 1e-5);
    assert!(orthonormality(double(svd.v.as_ref()).as_ref()) < 1e-5);
    let measured = distance(double(a.as_ref()).as_ref(), double(svd.reconstruct().as_ref()).as_ref());
    at_most(measured, 1.1 * tail(&values, 16), 0.0);
    at_most(measured, 2f64.sqrt() * svd.info.residual, 0.0);
}

/// Many rows of 256 columns through a buffer of a fixed size, never all in memory: the values are those of the Gram matrix.
#[test]
fn many_rows_pass_through() {
    let (rows, columns, block) = (30_000, 256, 500);
    let directions = gaussian(16, columns, 1);
    let mut stream = StreamingSvd::new(columns, 32).unwrap();
    let mut gram = nalgebra::DMatrix::<f64>::zeros(16, 16);
    for first in (0..rows).step_by(block) {
        let weights = gaussian(block, 16, 2 + first as u64);
        let weights = Mat::from_fn(block, 16, |i, j| weights[(i, j)] / (1.0 + j as f64));
        let narrow = oracle(weights.as_ref());
        gram += narrow.transpose() * &narrow;
        stream.push(mat(&(narrow * oracle(directions.as_ref()))).as_ref()).unwrap();
    }
    // A = W·D has the spectrum of (WᵀW)^½·D.
    let root = nalgebra::Cholesky::new(gram).unwrap().l().transpose();
    let exact = oracle_values(mat(&(root * oracle(directions.as_ref()))).as_ref());
    let found = stream.finish::<f64>(8).unwrap();
    assert_eq!(found.rows, 30_000);
    for (value, exact) in found.singular_values.iter().zip(&exact) {
        close(value / exact, 1.0, 1e-9);
    }
    close(found.residual_bound / tail(&exact, 8), 1.0, 1e-9);
}

#[test]
fn bad_input_is_named() {
    assert!(matches!(StreamingSvd::new(3, 0), Err(Error::InvalidOption { .. })));
    assert!(matches!(StreamingSvd::new(usize::MAX / 8, usize::MAX), Err(Error::TooLarge { .. })));
    let mut stream = StreamingSvd::new(3, 2).unwrap();
    assert_eq!(stream.finish::<f32>(1).unwrap_err(), Error::RankOutOfRange { rank: 1, max: 0 });
    assert_eq!(stream.finish::<f32>(0).unwrap().norm, 0.0);
    assert!(matches!(stream.push(Mat::<f32>::zeros(2, 4).as_ref()), Err(Error::ShapeMismatch { .. })));
    let bad = Mat::from_fn(2, 3, |i, j| if (i, j) == (1, 2) { f32::NAN } else { 1.0 });
    assert_eq!(stream.push(bad.as_ref()).unwrap_err(), Error::NonFinite { what: "rows", row: 1, col: 2 });
    assert_eq!(stream.rows(), 0);
    stream.push(Mat::<f64>::from_fn(2, 3, |_, _| 1e300).as_ref()).unwrap();
    assert!(matches!(stream.finish::<f32>(1), Err(Error::NonFinite { .. })));
    let mut empty = StreamingSvd::new(0, 5).unwrap();
    empty.push(Mat::<f64>::zeros(3, 0).as_ref()).unwrap();
    assert_eq!(empty.finish::<f64>(0).unwrap().rows, 3);

    let svd = truncated(gaussian(5, 4, 1).as_ref(), 2).unwrap();
    let rows = gaussian(3, 4, 2);
    assert!(matches!(svd.append_rows(gaussian(3, 5, 2).as_ref(), 2), Err(Error::ShapeMismatch { .. })));
    assert_eq!(svd.append_rows(rows.as_ref(), 5).unwrap_err(), Error::RankOutOfRange { rank: 5, max: 4 });
    let mut broken = svd.clone();
    broken.u[(0, 0)] = f64::NAN;
    assert!(matches!(broken.append_rows(rows.as_ref(), 2), Err(Error::NonFinite { what: "U", .. })));
    let mut broken = svd.clone();
    broken.singular_values.push(1.0);
    assert!(matches!(broken.append_rows(rows.as_ref(), 2), Err(Error::ShapeMismatch { .. })));
}
