//! Subspaces: geodesics, angles, transport; classes on them.

use proptest::prelude::*;
use rankbit_linalg::Error;
use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_linalg::grassmann::{
    GrassmannClasses, Retraction, SgdOptions, distance, exp, log, orthonormalize, principal_angles, retract,
    tangent, transport,
};

use crate::support::{Layouts, close, gaussian, mat, norm, oracle, orthonormality};

fn point(rows: usize, columns: usize, seed: u64) -> Mat<f64> {
    orthonormalize(gaussian(rows, columns, seed).as_ref()).unwrap()
}

/// A tangent vector of this length.
fn velocity(s: MatRef<'_, f64>, length: f64, seed: u64) -> Mat<f64> {
    let h = tangent(s, gaussian(s.nrows(), s.ncols(), seed).as_ref()).unwrap();
    // The whole space has no directions.
    let scale = if s.ncols() < s.nrows() { length / norm(h.as_ref()) } else { 0.0 };
    Mat::from_fn(s.nrows(), s.ncols(), |i, j| h[(i, j)] * scale)
}

/// ‖AAᵀ − BBᵀ‖.
fn projector_distance(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> f64 {
    let (a, b) = (oracle(a), oracle(b));
    (&a * a.transpose() - &b * b.transpose()).norm()
}

/// `scripts/oracle/functions.py`: SciPy's angles.
#[test]
fn angles_as_scipy() {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../../tests/vectors/functions.json")).expect("kept vectors");
    let cases = vectors["angles"].as_array().expect("cases");
    assert_eq!(cases.len(), 4);
    for case in cases {
        let numbers = |name: &str| -> Vec<f64> {
            case[name].as_array().expect("an array").iter().map(|x| x.as_f64().expect("a number")).collect()
        };
        let size = |name: &str| usize::try_from(case[name].as_u64().expect("a size")).expect("small");
        let (rows, k, l) = (size("rows"), size("k"), size("l"));
        let (a, b) = (numbers("a"), numbers("b"));
        let a = MatRef::from_row_major_slice(&a, rows, k);
        let b = MatRef::from_row_major_slice(&b, rows, l);
        for (one, two) in [(a, b), (b, a)] {
            let found = principal_angles(one, two).unwrap();
            assert_eq!(found.len(), k.min(l));
            for (found, expected) in found.iter().zip(numbers("angles")) {
                // Spaces that must meet have angles of 0, up to rounding.
                close(*found, expected, 1e-14);
            }
        }
    }
}

#[test]
fn by_hand() {
    // The plane: from the x axis by π/3.
    let x = Mat::from_fn(2, 1, |i, _| if i == 0 { 1.0 } else { 0.0 });
    let h = Mat::from_fn(2, 1, |i, _| if i == 0 { 0.0 } else { std::f64::consts::FRAC_PI_3 });
    let y = exp(x.as_ref(), h.as_ref(), 1.0).unwrap();
    close(y[(0, 0)], 0.5, 1e-15);
    close(y[(1, 0)], 0.75f64.sqrt(), 1e-15);
    close(distance(x.as_ref(), y.as_ref()).unwrap(), std::f64::consts::FRAC_PI_3, 1e-15);
    // Tiny angles, which cosines do not see; a right angle.
    let near = Mat::from_fn(2, 1, |i, _| if i == 0 { 1.0 } else { 1e-11 });
    close(principal_angles(x.as_ref(), near.as_ref()).unwrap()[0], 1e-11, 1e-25);
    let across = Mat::from_fn(2, 1, |i, _| if i == 0 { 0.0 } else { -1.0 });
    close(distance(x.as_ref(), across.as_ref()).unwrap(), std::f64::consts::FRAC_PI_2, 1e-15);
    // Columns keep their place and sign.
    let q = orthonormalize(Mat::from_fn(3, 2, |i, j| if i == j { 2.0 } else { 0.0 }).as_ref()).unwrap();
    assert!((0..3).all(|i| (0..2).all(|j| q[(i, j)] == if i == j { 1.0 } else { 0.0 })));
}

#[test]
fn bad_input() {
    let s = point(5, 2, 1);
    let wide = gaussian(2, 5, 1);
    assert!(matches!(orthonormalize(wide.as_ref()), Err(Error::RankOutOfRange { rank: 5, max: 2 })));
    let skew = gaussian(5, 2, 2);
    assert!(matches!(tangent(skew.as_ref(), s.as_ref()), Err(Error::InvalidOption { .. })));
    assert!(matches!(
        exp(s.as_ref(), wide.as_ref(), 1.0),
        Err(Error::ShapeMismatch { what: "velocity", expected: (5, 2), found: (2, 5) })
    ));
    assert!(matches!(exp(s.as_ref(), s.as_ref(), f64::NAN), Err(Error::InvalidOption { what: "t", .. })));
    let mut broken = s.clone();
    broken[(4, 1)] = f64::NAN;
    assert!(matches!(log(s.as_ref(), broken.as_ref()), Err(Error::NonFinite { row: 4, col: 1, .. })));
    assert!(matches!(distance(s.as_ref(), point(5, 3, 1).as_ref()), Err(Error::ShapeMismatch { .. })));
    assert!(matches!(
        principal_angles(s.as_ref(), point(6, 2, 1).as_ref()),
        Err(Error::ShapeMismatch { .. })
    ));
    // Nothing, the whole space, dependent columns, wild scales.
    let none = Mat::<f64>::zeros(4, 0);
    assert_eq!(exp(none.as_ref(), none.as_ref(), 1.0).unwrap().shape(), (4, 0));
    assert_eq!(distance(none.as_ref(), none.as_ref()).unwrap(), 0.0);
    assert_eq!(orthonormalize(Mat::<f64>::zeros(0, 0).as_ref()).unwrap().shape(), (0, 0));
    let whole = Mat::<f64>::identity(3, 3);
    close(norm(log(whole.as_ref(), point(3, 3, 5).as_ref()).unwrap().as_ref()), 0.0, 1e-14);
    for scale in [0.0, 1e150, 1e-150] {
        let q = orthonormalize(Mat::from_fn(6, 3, |i, _| scale * i as f64).as_ref()).unwrap();
        close(orthonormality(q.as_ref()), 0.0, 1e-14);
        let huge = Mat::from_fn(5, 2, |i, j| scale * (i + j) as f64);
        close(orthonormality(retract(s.as_ref(), huge.as_ref()).unwrap().as_ref()), 0.0, 1e-14);
    }
}

#[test]
fn bad_classes() {
    let new = |classes, features, dimension, scale| {
        GrassmannClasses::<f32>::new(classes, features, dimension, scale, 0).map(|_| ())
    };
    assert!(matches!(new(2, 4, 0, 1.0), Err(Error::InvalidOption { what: "dimension", .. })));
    assert!(matches!(new(2, 4, 5, 1.0), Err(Error::RankOutOfRange { rank: 5, max: 4 })));
    assert!(matches!(new(2, 4, 2, f64::NAN), Err(Error::InvalidOption { what: "scale", .. })));
    assert!(matches!(new(usize::MAX, 4, 2, 1.0), Err(Error::TooLarge { .. })));
    assert!(new(0, 4, 2, 1.0).is_ok());
    let odd = point(5, 3, 1);
    assert!(matches!(
        GrassmannClasses::from_bases(odd.as_ref(), 2, 1.0),
        Err(Error::ShapeMismatch { what: "bases", .. })
    ));
    let mut classes = GrassmannClasses::<f64>::new(3, 6, 2, 25.0, 0).unwrap();
    let x = gaussian(4, 6, 3);
    assert!(matches!(classes.logits(gaussian(4, 5, 3).as_ref()), Err(Error::ShapeMismatch { .. })));
    assert!(matches!(classes.gradients(x.as_ref(), x.as_ref()), Err(Error::ShapeMismatch { .. })));
    assert!(matches!(
        classes.step(x.as_ref(), &SgdOptions::default()),
        Err(Error::ShapeMismatch { what: "gradient", .. })
    ));
    let before = classes.clone();
    let mut gradient = Mat::<f64>::zeros(6, 6);
    for options in [
        SgdOptions { rate: f64::NAN, ..SgdOptions::default() },
        SgdOptions { momentum: 1.5, ..SgdOptions::default() },
    ] {
        assert!(matches!(classes.step(gradient.as_ref(), &options), Err(Error::InvalidOption { .. })));
    }
    gradient[(1, 2)] = f64::INFINITY;
    assert!(matches!(
        classes.step(gradient.as_ref(), &SgdOptions::default()),
        Err(Error::NonFinite { what: "gradient", row: 1, col: 2 })
    ));
    assert_eq!(classes, before);
    // Features of zeros, huge and tiny ones; no features.
    let zeros = Mat::<f64>::zeros(2, 6);
    assert!(classes.logits(zeros.as_ref()).unwrap().norm_max() == 0.0);
    let slopes = Mat::from_fn(2, 3, |_, _| 1.0);
    let gradients = classes.gradients(zeros.as_ref(), slopes.as_ref()).unwrap();
    assert!(gradients.features.norm_max() == 0.0 && gradients.bases.norm_max() == 0.0);
    let plain = classes.logits(x.as_ref()).unwrap();
    for scale in [1e300, 1e-300] {
        let scaled = Mat::from_fn(4, 6, |i, j| x[(i, j)] * scale / 10.0);
        let logits = classes.logits(scaled.as_ref()).unwrap();
        assert!((&logits - &plain).norm_max() <= 1e-13);
    }
    assert_eq!(classes.logits(Mat::<f64>::zeros(0, 6).as_ref()).unwrap().shape(), (0, 3));
}

/// Softmax cross-entropy of example i in class i mod classes, and its slopes.
fn loss(logits: MatRef<'_, f64>) -> (f64, Mat<f64>) {
    let (batch, classes) = logits.shape();
    let mut total = 0.0;
    let slopes = Mat::from_fn(batch, classes, |i, c| {
        let sum: f64 = (0..classes).map(|d| (logits[(i, d)] - logits[(i, c)]).exp()).sum();
        1.0 / sum - if i % classes == c { 1.0 } else { 0.0 }
    });
    for i in 0..batch {
        let sum: f64 = (0..classes).map(|d| (logits[(i, d)] - logits[(i, i % classes)]).exp()).sum();
        total += sum.ln();
    }
    (total, slopes)
}

/// The source's check: bases stay orthonormal over a thousand steps, and the loss falls.
#[test]
fn a_thousand_steps() {
    for retraction in [Retraction::Geodesic, Retraction::Qr] {
        let mut classes = GrassmannClasses::<f32>::new(4, 12, 3, 5.0, 1).unwrap();
        let x = crate::support::single(gaussian(8, 12, 2).as_ref());
        let options = SgdOptions { rate: 0.01, retraction, ..SgdOptions::default() };
        let mut losses = Vec::new();
        for _ in 0..1000 {
            let logits = crate::support::double(classes.logits(x.as_ref()).unwrap().as_ref());
            let (value, slopes) = loss(logits.as_ref());
            losses.push(value);
            let slopes = crate::support::single(slopes.as_ref());
            let gradients = classes.gradients(x.as_ref(), slopes.as_ref()).unwrap();
            classes.step(gradients.bases.as_ref(), &options).unwrap();
        }
        for c in 0..4 {
            let s = crate::support::double(classes.bases().subcols(3 * c, 3));
            close(orthonormality(s.as_ref()), 0.0, 1e-6);
        }
        assert!(losses[999] < 0.5 * losses[0], "{} {}", losses[0], losses[999]);
    }
}

proptest! {
    /// Orthonormal, travelled as far as said, back by the logarithm.
    #[test]
    fn geodesics(rows in 1usize..12, columns in 1usize..5, seed: u64, length in 0.0f64..1.4) {
        prop_assume!(columns <= rows);
        let s = point(rows, columns, seed);
        let h = velocity(s.as_ref(), length, seed ^ 1);
        let travelled = norm(h.as_ref());
        let y = exp(s.as_ref(), h.as_ref(), 1.0).unwrap();
        prop_assert!(orthonormality(y.as_ref()) <= 1e-13);
        prop_assert!((distance(s.as_ref(), y.as_ref()).unwrap() - travelled).abs() <= 1e-12);
        let back = log(s.as_ref(), y.as_ref()).unwrap();
        prop_assert!(norm((&back - &h).as_ref()) <= 1e-11, "{}", norm((&back - &h).as_ref()));
        prop_assert!((oracle(s.as_ref()).transpose() * oracle(back.as_ref())).amax() <= 1e-14);
        // Two halves are a whole; backwards returns.
        let half = exp(s.as_ref(), h.as_ref(), 0.5).unwrap();
        let rest = log(half.as_ref(), y.as_ref()).unwrap();
        prop_assert!((norm(rest.as_ref()) - travelled / 2.0).abs() <= 1e-12);
        // Another basis of the target, another logarithm basis: the same subspaces.
        let turned = mat(&(oracle(y.as_ref()) * oracle(point(columns, columns, seed ^ 2).as_ref())));
        let again = exp(s.as_ref(), log(s.as_ref(), turned.as_ref()).unwrap().as_ref(), 1.0).unwrap();
        prop_assert!(projector_distance(again.as_ref(), y.as_ref()) <= 1e-12);
    }

    /// Transport keeps lengths and tangency, and carries the geodesic's own velocity along.
    #[test]
    fn transports(rows in 2usize..12, columns in 1usize..5, seed: u64, t in -2.0f64..2.0) {
        prop_assume!(columns <= rows);
        let s = point(rows, columns, seed);
        let h = velocity(s.as_ref(), 1.0, seed ^ 1);
        let x = velocity(s.as_ref(), 2.0, seed ^ 2);
        let y = exp(s.as_ref(), h.as_ref(), t).unwrap();
        let carried = transport(s.as_ref(), h.as_ref(), t, x.as_ref()).unwrap();
        prop_assert!((norm(carried.as_ref()) - norm(x.as_ref())).abs() <= 1e-13);
        prop_assert!((oracle(y.as_ref()).transpose() * oracle(carried.as_ref())).amax() <= 1e-13);
        let own = transport(s.as_ref(), h.as_ref(), t, h.as_ref()).unwrap();
        let onward = exp(y.as_ref(), own.as_ref(), 0.3).unwrap();
        let direct = exp(s.as_ref(), h.as_ref(), t + 0.3).unwrap();
        prop_assert!(projector_distance(onward.as_ref(), direct.as_ref()) <= 1e-12);
        // The retraction agrees to first order, with an error of third.
        let step = 1e-3;
        let small = Mat::from_fn(rows, columns, |i, j| h[(i, j)] * step);
        let near = retract(s.as_ref(), small.as_ref()).unwrap();
        let exact = exp(s.as_ref(), h.as_ref(), step).unwrap();
        prop_assert!(projector_distance(near.as_ref(), exact.as_ref()) <= 2.0 * step * step * step);
    }

    /// Gradients against differences, of features and of bases; logits know the subspace only.
    #[test]
    fn gradients(seed: u64, classes in 1usize..4, k in 1usize..4, batch in 1usize..4) {
        let features = 7;
        let layer = GrassmannClasses::<f64>::new(classes, features, k, 3.0, seed).unwrap();
        let x = gaussian(batch, features, seed ^ 1);
        let value = |layer: &GrassmannClasses<f64>, x: MatRef<'_, f64>| loss(layer.logits(x).unwrap().as_ref()).0;
        let (_, slopes) = loss(layer.logits(x.as_ref()).unwrap().as_ref());
        let found = layer.gradients(x.as_ref(), slopes.as_ref()).unwrap();
        let step = 1e-6;
        for (i, j) in [(0, 0), (batch - 1, features - 1), (0, 3)] {
            let moved = |by: f64| {
                let mut x = x.clone();
                x[(i, j)] += by;
                value(&layer, x.as_ref())
            };
            let difference = (moved(step) - moved(-step)) / (2.0 * step);
            prop_assert!((difference - found.features[(i, j)]).abs() <= 1e-7 * (1.0 + norm(found.features.as_ref())));
        }
        for (i, j) in [(0, 0), (features - 1, classes * k - 1)] {
            let moved = |by: f64| {
                let mut bases = layer.bases().to_owned();
                bases[(i, j)] += by;
                value(&GrassmannClasses::from_bases(bases.as_ref(), k, 3.0).unwrap(), x.as_ref())
            };
            let difference = (moved(step) - moved(-step)) / (2.0 * step);
            prop_assert!((difference - found.bases[(i, j)]).abs() <= 1e-7 * (1.0 + norm(found.bases.as_ref())));
        }
        let turn = oracle(point(k, k, seed ^ 3).as_ref());
        let mut turned = layer.bases().to_owned();
        let part = mat(&(oracle(layer.bases().subcols(0, k)) * turn));
        turned.as_mut().subcols_mut(0, k).copy_from(&part);
        let turned = GrassmannClasses::from_bases(turned.as_ref(), k, 3.0).unwrap();
        let (one, two) = (layer.logits(x.as_ref()).unwrap(), turned.logits(x.as_ref()).unwrap());
        prop_assert!((&one - &two).norm_max() <= 1e-13);
        // A step without momentum goes down, as far as the rate says.
        let mut down = layer.clone();
        let options = SgdOptions { rate: 1e-4, momentum: 0.0, ..SgdOptions::default() };
        down.step(found.bases.as_ref(), &options).unwrap();
        let (before, after) = (value(&layer, x.as_ref()), value(&down, x.as_ref()));
        let slope: f64 = (0..classes)
            .map(|c| {
                let s = layer.bases().subcols(c * k, k);
                norm(tangent(s, found.bases.as_ref().subcols(c * k, k)).unwrap().as_ref()).powi(2)
            })
            .sum();
        prop_assert!((after - before + 1e-4 * slope).abs() <= 0.05 * 1e-4 * slope + 1e-12, "{before} {after} {slope}");
    }

    #[test]
    fn layouts(seed: u64) {
        let (s, h) = (point(6, 2, seed), gaussian(6, 2, seed ^ 1));
        let layouts = (Layouts::new(s.as_ref()), Layouts::new(h.as_ref()));
        let expected = exp(s.as_ref(), h.as_ref(), 0.3).unwrap();
        for (s, h) in layouts.0.views().into_iter().zip(layouts.1.views()) {
            let found = exp(s, h, 0.3).unwrap();
            prop_assert!(projector_distance(found.as_ref(), expected.as_ref()) <= 1e-13);
        }
    }
}
