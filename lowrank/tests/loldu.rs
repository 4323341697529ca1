//! LoLDU's start: triangular factors, what they leave, and what of that few bits lose.

use crate::common::{gaussian, norm_squared, plain, singular_values, tail, weight};
use proptest::prelude::*;
use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_lowrank::{
    Error, Factor, Fit, Input, MetricRule, Rounds, Space, Step, TransformRule, fit, preset,
};
use rankbit_quant::{FloatFormat, Rounder, quantize, scheme};

const F32: FloatFormat = FloatFormat::F32;

fn dense(factor: &Factor) -> Mat<f32> {
    let (rows, cols) = factor.shape();
    MatRef::from_row_major_slice(&factor.to_f32(), rows, cols).to_owned()
}

fn factors(fit: &Fit) -> (Mat<f32>, Mat<f32>) {
    let low_rank = fit.split.low_rank().expect("factors");
    (dense(low_rank.left()), dense(low_rank.right()))
}

/// ‖W - Pᵀ·L₁…ᵣ·U₁…ᵣ‖ by nalgebra's elimination.
fn left_over(w: &Mat<f32>, rank: usize) -> f64 {
    let dense = nalgebra::DMatrix::from_fn(w.nrows(), w.ncols(), |i, j| f64::from(w[(i, j)]));
    let (p, l, u) = dense.clone().lu().unpack();
    let mut product = l.columns(0, rank) * u.rows(0, rank);
    p.inv_permute_rows(&mut product);
    (dense - product).norm()
}

#[test]
fn the_recipe_is_a_plain_value() {
    let recipe = preset::loldu(Some(scheme::INT4), 8, FloatFormat::Bf16);
    let steps = [
        Step::Ldu { rank: 8, factors: FloatFormat::Bf16 },
        Step::Quantize { scheme: scheme::INT4, rounder: Rounder::Nearest },
    ];
    assert_eq!((recipe.round.as_slice(), recipe.rounds), (&steps[..], Rounds::ONCE));
    assert_eq!(recipe.transform, TransformRule::Identity);
    assert_eq!(recipe.metric, MetricRule { project: Space::Identity, accept: Space::Identity });
    assert_eq!(preset::loldu(None, 8, F32).round.len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// The error is the truncated factorization's, by another library, never below Eckart and Young's; L is unit triangular
    /// under one order of rows with no entry above 1, U under the order of the same steps.
    #[test]
    fn the_error_is_what_the_pivots_leave(rows in 2..50_usize, cols in 2..50_usize, share in 0.0..1.0_f64, seed in 0..1000_u64) {
        let w = weight(rows, cols, seed);
        let side = rows.min(cols);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a small count")]
        let rank = 1 + (share * (side - 1) as f64) as usize;
        let found = plain(w.as_ref(), &preset::loldu(None, rank, F32));
        let norm = norm_squared(w.as_ref()).sqrt();
        let error = found.info.relative_error * norm;
        prop_assert!((error - left_over(&w, rank)).abs() <= 1e-4 * norm, "{} {}", error, left_over(&w, rank));
        prop_assert!(error >= tail(&singular_values(w.as_ref()), rank) - 1e-5 * norm);
        let (left, right) = factors(&found);
        let mut taken = vec![false; rows];
        for k in 0..rank {
            let pivot = (0..rows).find(|&i| !taken[i] && left[(i, k)] == 1.0);
            prop_assert!(pivot.is_some(), "column {} has no 1", k);
            prop_assert!((0..rows).all(|i| left[(i, k)].abs() <= 1.0 && (!taken[i] || left[(i, k)] == 0.0)));
            prop_assert!((0..k).all(|j| right[(k, j)] == 0.0) || k >= cols);
            taken[pivot.unwrap()] = true;
        }
        // All pivots: nothing is left.
        let whole = plain(w.as_ref(), &preset::loldu(None, side, F32));
        prop_assert!(whole.info.relative_error <= 1e-5);
    }

    /// Nothing changes at the start but the residual's rounding: the total error is the scheme's on the residual.
    #[test]
    fn only_the_residual_is_rounded(rows in 4..40_usize, cols in 4..40_usize, rank in 1..4_usize, seed in 0..1000_u64) {
        let w = weight(rows, cols, seed);
        let found = plain(w.as_ref(), &preset::loldu(Some(scheme::UINT4), rank, F32));
        let (left, right) = factors(&found);
        let residual = &w - &left * &right;
        let rounded = quantize(residual.as_ref(), &scheme::UINT4, Rounder::Nearest).unwrap().quantized;
        let expected = norm_squared((&residual - rounded.dequantize()).as_ref()).sqrt();
        let norm = norm_squared(w.as_ref()).sqrt();
        prop_assert!((found.info.relative_error * norm - expected).abs() <= 1e-3 * expected + 1e-6 * norm);
    }
}

/// A matrix of a lower rank than asked for: the rest of the factors is zero, and nothing is left. 1×1 and zeros.
#[test]
fn fewer_pivots_than_asked_for() {
    let low = Mat::from_fn(12, 9, |i, j| ((i % 3) as f32 - 1.0) * (j as f32 + 1.0));
    let found = plain(low.as_ref(), &preset::loldu(None, 5, F32));
    assert!(found.info.relative_error <= 1e-6);
    let (left, right) = factors(&found);
    assert_eq!((left.shape(), right.shape()), ((12, 5), (5, 9)));
    assert!((0..12).all(|i| left[(i, 4)] == 0.0) && (0..9).all(|j| right[(4, j)] == 0.0));
    let one = plain(Mat::from_fn(1, 1, |_, _| -3.0_f32).as_ref(), &preset::loldu(None, 1, F32));
    assert_eq!(one.info.relative_error, 0.0);
    let zero =
        plain(Mat::<f32>::zeros(4, 4).as_ref(), &preset::loldu(Some(scheme::INT4), 2, FloatFormat::F16));
    assert_eq!(zero.info.relative_error, 0.0);
}

#[test]
fn bad_input_is_refused() {
    let w = gaussian(6, 4, 1);
    let input = Input { name: "bad", moments: None };
    for rank in [0, 5] {
        let error = fit(w.as_ref(), &preset::loldu(None, rank, F32), &input).unwrap_err();
        assert!(matches!(error, Error::RankOutOfRange { max: 4, .. }), "{error}");
    }
    for bad in [f32::NAN, f32::INFINITY] {
        let mut w = w.clone();
        w[(3, 2)] = bad;
        let error = fit(w.as_ref(), &preset::loldu(Some(scheme::INT4), 2, F32), &input).unwrap_err();
        assert!(error.to_string().contains("weight[3, 2]"), "{error}");
    }
    for (rows, cols) in [(0, 0), (0, 3), (3, 0)] {
        let error = fit(Mat::<f32>::zeros(rows, cols).as_ref(), &preset::loldu(None, 1, F32), &input);
        assert!(matches!(error, Err(Error::ShapeMismatch { .. })));
    }
    // Rows at both ends of the range: scaled, or refused, never a panic or an infinity.
    for scale in [1e-38_f32, 1e38] {
        let wild = Mat::from_fn(6, 4, |i, j| w[(i, j)] * scale);
        if let Ok(found) = fit(wild.as_ref(), &preset::loldu(None, 3, FloatFormat::F16), &input) {
            assert!(found.info.relative_error.is_finite());
        }
    }
}
