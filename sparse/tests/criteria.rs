//! Scores.

use crate::common::{normal, view, whole};
use proptest::prelude::*;
use rankbit_kit::strategy::{even_matrix, matrix};
use rankbit_linalg::faer::Mat;
use rankbit_sparse::criterion::{self, Adapter};
use rankbit_sparse::{Error, NmPattern, Pattern, Scope, select};

const TWO: Pattern = Pattern::Nm(NmPattern::TWO_OF_FOUR);

proptest! {
    #[test]
    fn wanda_with_equal_inputs_is_magnitude_and_does_not_see_row_scales(
        weight in matrix(1..=6, 1..=40),
        moment in 1e-3_f64..1e3,
    ) {
        let weight = view(&weight);
        let equal = vec![moment; weight.ncols()];
        let by_magnitude = select(criterion::magnitude(weight).unwrap().as_ref(), &TWO).unwrap();
        let by_wanda = select(criterion::wanda(weight, &equal).unwrap().as_ref(), &TWO).unwrap();
        prop_assert_eq!(&by_magnitude, &by_wanda);
        // Powers of two change no comparison.
        let scaled = Mat::from_fn(weight.nrows(), weight.ncols(), |i, j| weight[(i, j)] * (i as f32 - 2.0).exp2());
        let by_wanda = select(criterion::wanda(scaled.as_ref(), &equal).unwrap().as_ref(), &TWO).unwrap();
        prop_assert_eq!(by_magnitude, by_wanda);
    }

    /// With uncorrelated inputs Wanda's score is the root of what removing the entry costs.
    #[test]
    fn wanda_is_the_loss_of_one_weight(weight in even_matrix(1..=4, 2..=9), moment in 0.1_f64..9.0) {
        let weight = view(&weight);
        let moments: Vec<f64> = (0..weight.ncols()).map(|j| moment * (j + 1) as f64).collect();
        let scores = criterion::wanda(weight, &moments).unwrap();
        let gram = Mat::from_fn(weight.ncols(), weight.ncols(), |i, j| if i == j { moments[i] } else { 0.0 });
        for i in 0..weight.nrows() {
            for j in 0..weight.ncols() {
                let mut removed = weight.to_owned();
                removed[(i, j)] = 0.0;
                let loss = crate::common::loss(weight, removed.as_ref(), gram.as_ref());
                prop_assert!((loss - scores[(i, j)].powi(2)).abs() <= 1e-12 * (1.0 + loss));
            }
        }
    }

    /// DIMAP does not see a module's scale, empties no module, and is magnitude within one.
    #[test]
    fn dimap_compares_modules_by_their_own_mass(
        a in prop::collection::vec(-1.0_f32..1.0, 1..40),
        b in prop::collection::vec(-1.0_f32..1.0, 1..40),
        density in 0.3_f64..1.0,
    ) {
        prop_assume!(a.iter().any(|x| *x != 0.0) && b.iter().any(|x| *x != 0.0));
        let scores = [criterion::dimap(&a).unwrap(), criterion::dimap(&b).unwrap()];
        let scaled: Vec<f32> = b.iter().map(|x| x * 1024.0).collect();
        prop_assert_eq!(&criterion::dimap(&scaled).unwrap(), &scores[1]);
        for (module, scores) in [&a, &b].into_iter().zip(&scores) {
            prop_assert!(scores.iter().any(|s| *s == 1.0 / module.iter().filter(|x| x.abs()
                == module.iter().fold(0.0_f32, |m, x| m.max(x.abs()))).count() as f64));
            for (i, x) in module.iter().enumerate() {
                for (j, y) in module.iter().enumerate() {
                    prop_assert!(x.abs() < y.abs() || scores[i] >= scores[j]);
                }
            }
            let alone = criterion::select_across(std::slice::from_ref(scores), density).unwrap();
            let magnitudes = Mat::from_fn(1, module.len(), |_, j| f64::from(module[j]).abs());
            let pattern = Pattern::Unstructured { density, scope: Scope::Row };
            // Squares that underflow or mass that swallows them can tie; nothing else may differ.
            let mask = select(magnitudes.as_ref(), &pattern).unwrap();
            let kept = |j: usize| scores[j];
            let least = (0..module.len()).filter(|&j| alone[0][j]).map(kept).fold(f64::INFINITY, f64::min);
            for j in 0..module.len() {
                prop_assert!(mask.contains(0, j) == alone[0][j] || scores[j] == least);
            }
        }
        let kept = criterion::select_across(&scores, density).unwrap();
        let count = kept.iter().flatten().filter(|k| **k).count();
        prop_assert_eq!(count, whole((density * (a.len() + b.len()) as f64 - 1e-9).ceil()));
        prop_assert_eq!((kept[0].len(), kept[1].len()), (a.len(), b.len()));
    }

    /// One gradient step on both factors changes their product by −G.
    #[test]
    fn the_adapters_gradient_is_the_change_of_its_product(seed in 0_u32..50) {
        let (rows, cols, rank) = (5, 7, 3);
        let part = |name: &str, r, c| normal(r, c, &format!("{name}{seed}"));
        let (b, a) = (part("b", rows, rank), part("a", rank, cols));
        let (db, da) = (part("db", rows, rank), part("da", rank, cols));
        let adapter = Adapter {
            left: b.as_ref(),
            right: a.as_ref(),
            left_gradient: db.as_ref(),
            right_gradient: da.as_ref(),
            scale: 0.5,
        };
        let weight = part("w", rows, cols);
        let scores = criterion::adapter_gradient(weight.as_ref(), &adapter).unwrap();
        let change = &b * &a - (&b - &db) * (&a - &da);
        let merged = &weight + (&b * &a) * rankbit_linalg::faer::Scale(0.5_f32);
        for i in 0..rows {
            for j in 0..cols {
                let expected = f64::from(change[(i, j)] * merged[(i, j)]).abs();
                prop_assert!((scores[(i, j)] - expected).abs() <= 1e-3 * (1.0 + expected));
            }
        }
    }
}

/// A row whose weights are all small keeps its best under RIA, where magnitude over the matrix empties it.
#[test]
fn relative_importance_empties_no_row() {
    let weight =
        Mat::from_fn(8, 8, |i, j| if i == 3 { 0.01 } else { 1.0 } * (1.0 + ((i * 5 + j * 3) % 7) as f32));
    let pattern = Pattern::Unstructured { density: 0.75, scope: Scope::Matrix };
    let plain = select(criterion::magnitude(weight.as_ref()).unwrap().as_ref(), &pattern).unwrap();
    let relative =
        select(criterion::ria(weight.as_ref(), &[1.0; 8], 0.5).unwrap().as_ref(), &pattern).unwrap();
    assert_eq!(plain.row(3).count(), 0);
    assert!(relative.row(3).count() > 0);
}

#[test]
fn scores_refuse_what_they_cannot_weigh() {
    let weight = normal(3, 4, "w");
    let w = weight.as_ref();
    for moments in [vec![1.0; 3], vec![1.0; 5], vec![]] {
        assert!(matches!(criterion::wanda(w, &moments), Err(Error::ShapeMismatch { .. })));
    }
    assert!(matches!(criterion::wanda(w, &[1.0, f64::NAN, 1.0, 1.0]), Err(Error::NonFinite { col: 1, .. })));
    assert!(matches!(criterion::wanda(w, &[1.0, -1.0, 1.0, 1.0]), Err(Error::InvalidOption { .. })));
    assert!(matches!(criterion::ria(w, &[1.0; 4], f64::NAN), Err(Error::InvalidOption { .. })));
    let spoiled = Mat::from_fn(3, 4, |i, j| if (i, j) == (1, 2) { f32::NAN } else { 1.0 });
    let named = Error::NonFinite { what: "weight", row: 1, col: 2 };
    assert_eq!(criterion::magnitude(spoiled.as_ref()).err(), Some(named));
    assert!(criterion::dimap(&[0.0, f32::INFINITY]).is_err());
    assert_eq!(criterion::dimap(&[0.0, 0.0]).unwrap(), [0.0, 0.0]);
    assert_eq!(criterion::dimap(&[]).unwrap(), [] as [f64; 0]);
    assert!(criterion::select_across(&[vec![f64::NAN]], 0.5).is_err());
    assert!(criterion::select_across(&[vec![1.0]], 1.5).is_err());
    let zeros = criterion::ria(Mat::<f32>::zeros(2, 4).as_ref(), &[0.0; 4], 0.5).unwrap();
    assert!((0..2).all(|i| (0..4).all(|j| zeros[(i, j)] == 0.0)));
    let adapter = Adapter { left: w, right: w, left_gradient: w, right_gradient: w, scale: 1.0 };
    assert!(matches!(criterion::adapter_gradient(w, &adapter), Err(Error::ShapeMismatch { .. })));
}
