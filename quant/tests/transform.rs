//! Transforms: undone, equal to their dense matrices, folded, refused.

use nalgebra::DMatrix;
use proptest::prelude::*;
use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_linalg::{Hadamard, Stream};
use rankbit_quant::transform::{Permutation, Smooth, Transform, fold};
use rankbit_quant::{Error, FloatFormat, Floats};

fn normal(len: usize, seed: u64) -> Vec<f32> {
    let mut values = vec![0.0; len];
    Stream::new(seed, "transform").fill_normal(&mut values);
    values
}

fn matrix(rows: usize, cols: usize, seed: u64) -> Mat<f32> {
    MatRef::from_row_major_slice(&normal(rows * cols, seed), rows, cols).to_owned()
}

/// Factors: powers of two, or any.
fn smooth(features: usize, seed: u64, powers: bool) -> Smooth {
    let factors: Vec<f32> = normal(features, seed)
        .into_iter()
        .map(|x| if powers { (3.0 * x).round().exp2() } else { x.exp() })
        .collect();
    Smooth::new(Floats::encode(&factors, FloatFormat::F32)).unwrap()
}

fn permutation(features: usize, seed: u64) -> Permutation {
    let weights: Vec<f64> = normal(features, seed).into_iter().map(f64::from).collect();
    Permutation::falling(&weights).unwrap()
}

/// Every combination of parts.
fn transform(features: usize, seed: u64, parts: u8, powers: bool) -> Transform {
    Transform::new(
        features,
        (parts & 1 != 0).then(|| smooth(features, seed, powers)),
        (parts & 2 != 0).then(|| permutation(features, seed + 1)),
        (parts & 4 != 0).then(|| Hadamard::new(features).with_signs(seed)),
    )
    .unwrap()
}

/// T by its definition, from the parts alone.
fn dense(transform: &Transform) -> DMatrix<f64> {
    let n = transform.features();
    let mut t = DMatrix::identity(n, n);
    if let Some(smooth) = transform.smooth() {
        let inverse = smooth.inverse();
        t *= DMatrix::from_fn(n, n, |i, j| if i == j { f64::from(inverse[i]) } else { 0.0 });
    }
    if let Some(permutation) = transform.permutation() {
        t *= DMatrix::from_fn(n, n, |i, p| f64::from(u8::from(permutation.order()[p] as usize == i)));
    }
    if let Some(rotation) = transform.rotation() {
        let scale = (rotation.block() as f64).sqrt();
        t *= DMatrix::from_fn(n, n, |i, j| f64::from(rotation.sign(i) * rotation.entry(i, j)) / scale);
    }
    t
}

fn norm(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().map(|x| x * x).sum::<f64>().sqrt()
}

proptest! {
    #[test]
    fn is_undone(features in 1_usize..200, seed in 0_u64..1000, parts in 0_u8..8, powers in any::<bool>()) {
        let transform = transform(features, seed, parts, powers);
        let original = normal(3 * features, seed + 9);
        let mut inputs = original.clone();
        transform.forward(&mut inputs).unwrap();
        transform.inverse(&mut inputs).unwrap();
        let mut weights = original.clone();
        transform.inverse_transpose(&mut weights).unwrap();
        transform.transpose(&mut weights).unwrap();
        for found in [inputs, weights] {
            if parts & 4 == 0 && (powers || parts & 1 == 0) {
                prop_assert_eq!(&found, &original);
                continue;
            }
            // One rounding of 1/λ, one of each product; of a rotation γ twice, in the norm of the smoothed row.
            let spread = transform.smooth().map_or(1.0, |smooth| {
                let factors = smooth.forward();
                let top = factors.iter().copied().fold(0.0_f32, f32::max);
                f64::from(top / factors.iter().copied().fold(f32::INFINITY, f32::min))
            });
            let unit = f64::from(f32::EPSILON) / 2.0;
            for (found, original) in found.chunks(features).zip(original.chunks(features)) {
                let error = norm(found.iter().zip(original).map(|(a, b)| f64::from(a - b)));
                let size = norm(original.iter().map(|x| f64::from(*x)));
                let allowed = if parts & 4 == 0 { 3.5 * unit } else { 300.0 * unit * spread };
                prop_assert!(error <= allowed * size, "{error} of {size}");
            }
        }
    }

    #[test]
    fn equals_its_matrix(features in 1_usize..60, seed in 0_u64..1000, parts in 0_u8..8) {
        let transform = transform(features, seed, parts, true);
        let t = dense(&transform);
        let inverse = t.clone().try_inverse().expect("an invertible transform");
        let x: Vec<f64> = normal(2 * features, seed + 3).into_iter().map(f64::from).collect();
        let original = DMatrix::from_row_slice(2, features, &x);
        type Run = fn(&Transform, &mut [f64]) -> Result<(), Error>;
        let runs: [(Run, DMatrix<f64>); 4] = [
            (Transform::forward, t.clone()),
            (Transform::inverse, inverse.clone()),
            (Transform::transpose, t.transpose()),
            (Transform::inverse_transpose, inverse.transpose()),
        ];
        for (run, by) in runs {
            let mut found = x.clone();
            run(&transform, &mut found).unwrap();
            let expected = &original * by;
            let error = (DMatrix::from_row_slice(2, features, &found) - &expected).norm();
            prop_assert!(error <= 1e-11 * expected.norm() + 1e-11 * original.norm(), "{error}");
        }
        // TᵀHT, and products that do not change.
        let root = matrix(features + 2, features, seed + 4);
        let h = DMatrix::from_fn(features, features, |i, j| {
            (0..features + 2).map(|k| f64::from(root[(k, i)]) * f64::from(root[(k, j)])).sum::<f64>()
        });
        let gram = Mat::from_fn(features, features, |i, j| h[(i, j)]);
        let found = transform.gram(gram.as_ref()).unwrap();
        let expected = t.transpose() * h * &t;
        for i in 0..features {
            for j in 0..features {
                prop_assert_eq!(found[(i, j)], found[(j, i)]);
                prop_assert!((found[(i, j)] - expected[(i, j)]).abs() <= 1e-11 * expected.norm());
            }
        }
    }

    /// X = Z·Vᵀ + b, Y = X·Wᵀ: the same Y with T folded into both sides.
    #[test]
    fn folds_into_both_sides(features in 1_usize..50, seed in 0_u64..500, parts in 0_u8..8) {
        let transform = transform(features, seed, parts, false);
        let (mut w, mut v) = (matrix(7, features, seed), matrix(features, 5, seed + 1));
        let (mut bias, z) = (normal(features, seed + 2), matrix(3, 5, seed + 3));
        let network = |v: &Mat<f32>, bias: &[f32], w: &Mat<f32>| {
            let wide = |m: &Mat<f32>| DMatrix::from_fn(m.nrows(), m.ncols(), |i, j| f64::from(m[(i, j)]));
            let mut x = wide(&z) * wide(v).transpose();
            for i in 0..3 {
                for j in 0..features {
                    x[(i, j)] += f64::from(bias[j]);
                }
            }
            x * wide(w).transpose()
        };
        let before = network(&v, &bias, &w);
        fold::into_inputs(&transform, w.as_mut()).unwrap();
        fold::into_outputs(&transform, v.as_mut(), Some(&mut bias)).unwrap();
        let after = network(&v, &bias, &w);
        let spread = transform.smooth().map_or(1.0, |s| {
            let f = s.forward();
            f64::from(f.iter().copied().fold(0.0_f32, f32::max) / f.iter().copied().fold(f32::INFINITY, f32::min))
        });
        prop_assert!((&after - &before).norm() <= 1e-4 * spread * (1.0 + before.norm()), "{after} {before}");
        // The folded sides are the dense products.
        let t = dense(&transform);
        let original = matrix(7, features, seed);
        let expected = DMatrix::from_fn(7, features, |i, j| f64::from(original[(i, j)]))
            * t.try_inverse().unwrap().transpose();
        let found = DMatrix::from_fn(7, features, |i, j| f64::from(w[(i, j)]));
        prop_assert!((found - &expected).norm() <= 1e-5 * spread * expected.norm());
    }

    #[test]
    fn folds_smoothing_into_a_norm(features in 1_usize..40, seed in 0_u64..500) {
        let transform = transform(features, seed, 1, false);
        let (gamma, beta) = (normal(features, seed), normal(features, seed + 1));
        let (mut new_gamma, mut new_beta) = (gamma.clone(), beta.clone());
        fold::into_norm(&transform, &mut new_gamma, Some(&mut new_beta)).unwrap();
        let lambda = transform.smooth().unwrap().forward();
        for j in 0..features {
            prop_assert!((new_gamma[j] * lambda[j] - gamma[j]).abs() <= 3e-7 * gamma[j].abs());
            prop_assert!((new_beta[j] * lambda[j] - beta[j]).abs() <= 3e-7 * beta[j].abs());
        }
    }

    #[test]
    fn permutations_come_back_from_bytes(features in prop_oneof![0_usize..600, Just(65_537)], seed in 0_u64..100) {
        let order = permutation(features, seed);
        let bytes = order.to_bytes();
        prop_assert_eq!(order.stored_bits(), 8 * bytes.len() as u64);
        prop_assert_eq!(Permutation::from_bytes(&bytes, features).unwrap(), order);
    }

    /// Whatever the bytes, an order or a typed error.
    #[test]
    fn hostile_permutations_are_errors(bytes in prop::collection::vec(any::<u8>(), 0..40), features in 0_usize..40) {
        match Permutation::from_bytes(&bytes, features) {
            Ok(order) => {
                let mut sorted = order.order().to_vec();
                sorted.sort_unstable();
                prop_assert!(sorted.iter().copied().eq(0..u32::try_from(features).unwrap()));
            }
            Err(Error::PartLength { .. }) => prop_assert_ne!(bytes.len(), features),
            Err(Error::NotAPermutation { index }) => prop_assert!(index < features),
            Err(other) => prop_assert!(false, "{other}"),
        }
    }
}

#[test]
fn order_is_by_falling_weight_and_stable() {
    let order = |weights: &[f64]| Permutation::falling(weights).unwrap().order().to_vec();
    assert_eq!(order(&[1.0, 3.0, 2.0, 3.0]), [1, 3, 2, 0]);
    assert_eq!(order(&[0.0, f64::NAN, -1.0, f64::INFINITY]), [3, 0, 2, 1]);
    assert_eq!(order(&[]), [0_u32; 0]);
}

#[test]
fn wrong_shapes_are_errors() {
    let transform = transform(12, 1, 7, true);
    for len in [1, 11, 13, 25] {
        let mut rows = vec![0.0_f32; len];
        assert!(matches!(transform.forward(&mut rows), Err(Error::ShapeMismatch { .. })), "{len}");
        assert!(matches!(transform.transpose(&mut rows), Err(Error::ShapeMismatch { .. })), "{len}");
    }
    transform.forward::<f32>(&mut []).unwrap();
    let parts = Transform::new(11, None, None, Some(Hadamard::new(12)));
    assert!(matches!(parts, Err(Error::ShapeMismatch { what: "rotation", .. })));
    let parts = Transform::new(11, Some(smooth(12, 1, true)), None, None);
    assert!(matches!(parts, Err(Error::ShapeMismatch { .. })));
    let square = Mat::<f64>::zeros(12, 11);
    assert!(matches!(transform.gram(square.as_ref()), Err(Error::ShapeMismatch { .. })));
    let mut w = Mat::<f32>::zeros(12, 12);
    let mut short = [0.0; 11];
    assert!(fold::into_outputs(&transform, w.as_mut(), Some(&mut short)).is_err());
    assert!(fold::into_inputs(&transform, Mat::<f32>::zeros(3, 11).as_mut()).is_err());
    let mut gamma = [1.0; 12];
    assert_eq!(fold::into_norm(&transform, &mut gamma, None), Err(Error::NotElementwise));
    let smoothing = Transform::from(smooth(12, 1, true));
    assert!(matches!(fold::into_norm(&smoothing, &mut short, None), Err(Error::ShapeMismatch { .. })));
    assert!(matches!(
        fold::into_norm(&smoothing, &mut gamma, Some(&mut short)),
        Err(Error::ShapeMismatch { .. })
    ));
    // Nothing to do is nothing done.
    let identity = Transform::identity(0);
    assert!(identity.is_identity() && identity.forward::<f64>(&mut []).is_ok());
}
