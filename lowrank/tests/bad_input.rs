//! Refusals of fits and of splits: one typed error each, no panic.

use crate::common::{moments, weight};
use proptest::prelude::*;
use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_linalg::{MomentParts, Moments};
use rankbit_lowrank::{Error, Factor, Input, LowRank, Recipe, Rounds, Split, TransformRule, fit, preset};
use rankbit_quant::{FloatFormat, Floats, Group, scheme};

const F16: FloatFormat = FloatFormat::F16;

fn try_fit(w: MatRef<'_, f32>, recipe: &Recipe) -> Result<(), Error> {
    fit(w, recipe, &Input { name: "w", moments: None }).map(|_| ())
}

fn all() -> Vec<Recipe> {
    vec![
        preset::rtn(scheme::UINT4),
        preset::lorc(scheme::INT4, 2, F16),
        preset::lq_lora(scheme::NF4, 2, F16, 3),
        preset::low_rank(2, F16),
    ]
}

#[test]
fn non_finite_weights_are_named() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut w = weight(6, 9, 1);
        w[(4, 7)] = bad;
        for recipe in all() {
            let error = try_fit(w.as_ref(), &recipe).unwrap_err();
            assert_eq!(error, Error::Quant(rankbit_quant::Error::NonFinite { row: 4, col: 7 }));
        }
    }
}

/// A finite matrix at the end of f32's range is not called non-finite.
#[test]
fn entries_without_room_for_a_residual() {
    let noise = weight(16, 20, 5);
    let w = Mat::from_fn(16, 20, |i, j| f32::MAX.copysign(noise[(i, j)]));
    assert_eq!(try_fit(w.as_ref(), &preset::rtn(scheme::INT4)), Ok(()));
    for recipe in [preset::low_rank(2, F16), preset::lq_lora(scheme::NF4, 2, F16, 3)] {
        assert!(matches!(try_fit(w.as_ref(), &recipe), Err(Error::Overflow { .. })), "{recipe:?}");
    }
}

#[test]
fn ranks_out_of_range() {
    let w = weight(4, 7, 1);
    for rank in [0, 5, usize::MAX] {
        for recipe in [preset::low_rank(rank, F16), preset::lorc(scheme::INT4, rank, F16)] {
            assert_eq!(try_fit(w.as_ref(), &recipe), Err(Error::RankOutOfRange { rank, max: 4 }));
        }
    }
    assert!(try_fit(w.as_ref(), &preset::low_rank(4, F16)).is_ok());
}

#[test]
fn recipes_that_cannot_run() {
    let w = weight(4, 7, 1);
    let mut empty = preset::rtn(scheme::INT4);
    empty.round.clear();
    let mut never = preset::rtn(scheme::INT4);
    never.rounds = Rounds { max: 0, ..never.rounds };
    let mut smooth = preset::low_rank(2, F16);
    smooth.transform = TransformRule::Smooth { alpha: 0.5, beta: 0.5, format: F16 };
    let nan = preset::svdquant(preset::SvdQuant {
        scheme: scheme::INT4,
        rounder: rankbit_quant::Rounder::Nearest,
        rank: 2,
        factors: F16.into(),
        smooth: preset::Smoothing::Fixed(f64::NAN),
        rounds: 1,
    });
    for recipe in [empty, never, smooth, nan] {
        assert!(matches!(try_fit(w.as_ref(), &recipe), Err(Error::InvalidRecipe { .. })), "{recipe:?}");
    }
    let zero = preset::rtn(scheme::INT4.with_group(Group::Size(0)));
    assert!(matches!(
        try_fit(w.as_ref(), &zero),
        Err(Error::Quant(rankbit_quant::Error::GroupSize { group_size: 0, .. }))
    ));
    for (rows, cols) in [(0, 0), (0, 3), (3, 0)] {
        let empty = Mat::<f32>::zeros(rows, cols);
        assert!(matches!(
            try_fit(empty.as_ref(), &preset::rtn(scheme::INT4)),
            Err(Error::ShapeMismatch { .. })
        ));
    }
}

#[test]
fn calibration_that_does_not_fit() {
    let w = weight(4, 7, 1);
    let svdquant = preset::svdquant(preset::SvdQuant {
        scheme: scheme::INT4,
        rounder: rankbit_quant::Rounder::Nearest,
        rank: 2,
        factors: F16.into(),
        smooth: preset::Smoothing::Fixed(0.5),
        rounds: 3,
    });
    assert!(matches!(try_fit(w.as_ref(), &svdquant), Err(Error::MissingCalibration { .. })));
    let wrong = moments(8, 20, 1);
    let found = fit(w.as_ref(), &svdquant, &Input { name: "w", moments: Some(&wrong) });
    assert!(matches!(found, Err(Error::ShapeMismatch { what: "calibration", .. })));
    let absmax_only =
        Moments::from_parts(7, MomentParts { absmax: Some(vec![1.0; 7]), ..MomentParts::default() }).unwrap();
    let found = fit(w.as_ref(), &svdquant, &Input { name: "w", moments: Some(&absmax_only) });
    assert!(matches!(found, Err(Error::Linalg(rankbit_linalg::Error::MissingMoment { .. }))));
    // What a method does not need may be missing.
    let input = Input { name: "w", moments: Some(&absmax_only) };
    assert_eq!(fit(w.as_ref(), &preset::rtn(scheme::INT4), &input).unwrap().info.metric_error, None);
}

#[test]
fn one_by_one() {
    let w = Mat::<f32>::full(1, 1, -0.7);
    for recipe in [preset::rtn(scheme::UINT4), preset::low_rank(1, F16), preset::lorc(scheme::INT2, 1, F16)] {
        let found = fit(w.as_ref(), &recipe, &Input { name: "w", moments: None }).unwrap();
        assert!(found.info.relative_error < 1e-3, "{recipe:?}: {}", found.info.relative_error);
    }
}

#[test]
fn terms_that_do_not_fit() {
    let factor = |r, c| Factor::new((r, c), Floats::encode(&vec![1.0; r * c], F16)).unwrap();
    assert!(Factor::new((2, 3), Floats::encode(&[1.0; 5], F16)).is_err());
    for bad in [f32::NAN, 1e6] {
        let error = Factor::new((1, 2), Floats::encode(&[1.0, bad], F16)).unwrap_err();
        assert_eq!(error, Error::Quant(rankbit_quant::Error::StoredNonFinite { what: "factor", index: 1 }));
    }
    assert!(matches!(LowRank::new(factor(4, 2), factor(3, 5)), Err(Error::ShapeMismatch { .. })));
    assert!(matches!(LowRank::new(factor(4, 0), factor(0, 5)), Err(Error::RankOutOfRange { .. })));
    assert!(matches!(LowRank::new(factor(2, 3), factor(3, 5)), Err(Error::RankOutOfRange { .. })));
    let low_rank = LowRank::new(factor(4, 2), factor(2, 5)).unwrap();
    assert!(Split::new((4, 5), None, None, Some(low_rank.clone())).is_ok());
    assert!(matches!(Split::new((5, 4), None, None, Some(low_rank)), Err(Error::ShapeMismatch { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Any bit pattern as a weight: a finite split or an error, never a panic.
    #[test]
    fn any_bits(bits in prop::collection::vec(any::<u32>(), 40), which in 0..4_usize, finite: bool) {
        let w: Vec<f32> = bits.into_iter().map(f32::from_bits).map(|v| if finite && !v.is_finite() { 1.0 } else { v }).collect();
        let w = MatRef::from_row_major_slice(&w, 5, 8);
        if let Ok(found) = fit(w, &all()[which], &Input { name: "w", moments: None }) {
            prop_assert!(found.split.reconstruct().col_iter().all(|c| c.iter().all(|v| v.is_finite())));
            prop_assert!(!found.info.relative_error.is_nan());
        }
    }
}
