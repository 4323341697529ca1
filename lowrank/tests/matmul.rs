//! The product against the formula in f64, on one case table.

use crate::common::{gaussian, moments, plain, sparse_recipes, weight};
use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_lowrank::{Error, Input, Split, fit, preset, split::matmul};
use rankbit_quant::{FloatFormat, Group, scheme};

/// `γ·|X|·(|Q̃·Tᵀ| + |L|·|R|)ᵀ` elementwise, with the documented constant.
pub(crate) fn bound(split: &Split, x: MatRef<'_, f32>) -> Mat<f64> {
    let (out, features) = split.shape();
    let mut magnitude = Mat::<f64>::zeros(out, features);
    if let Some(base) = split.base() {
        let dense = base.dequantize();
        // |T|: the forward transform of each unit row, without signs.
        let mut t: Vec<f64> =
            (0..features * features).map(|at| f64::from(u8::from(at / features == at % features))).collect();
        if let Some(transform) = split.transform() {
            transform.forward(&mut t).unwrap();
        }
        magnitude = Mat::from_fn(out, features, |i, j| {
            let row = &t[j * features..(j + 1) * features];
            row.iter().enumerate().map(|(k, t)| t.abs() * f64::from(dense[(i, k)].abs())).sum()
        });
    }
    if let Some(lr) = split.low_rank() {
        let (l, r, rank) = (lr.left().to_f32(), lr.right().to_f32(), lr.rank());
        for i in 0..out {
            for j in 0..features {
                magnitude[(i, j)] +=
                    (0..rank).map(|k| f64::from((l[i * rank + k] * r[k * features + j]).abs())).sum::<f64>();
            }
        }
    }
    if let Some(sparse) = split.sparse() {
        let dense = sparse.reconstruct();
        magnitude += Mat::from_fn(out, features, |i, j| f64::from(dense[(i, j)].abs()));
    }
    // log₂(2^k) + m + 3 of a rotation, generously.
    let rotated =
        split.transform().and_then(rankbit_quant::Transform::rotation).map_or(0, |r| r.block().min(64));
    let k = (features + split.rank() + 5 + rotated) as f64 * 2.0_f64.powi(-24);
    let gamma = k / (1.0 - k);
    Mat::from_fn(x.nrows(), out, |t, o| {
        gamma * (0..features).map(|j| f64::from(x[(t, j)].abs()) * magnitude[(o, j)]).sum::<f64>()
    })
}

fn check(split: &Split, x: MatRef<'_, f32>) {
    let (fast, exact) = (split.apply(x).unwrap(), matmul::reference::apply(split, x).unwrap());
    let bound = bound(split, x);
    for t in 0..x.nrows() {
        for o in 0..split.shape().0 {
            let error = (f64::from(fast[(t, o)]) - f64::from(exact[(t, o)])).abs();
            let allowed = bound[(t, o)] + f64::from(exact[(t, o)].abs()) * 2.0_f64.powi(-24);
            assert!(error <= allowed, "[{t}, {o}]: {} for {}", fast[(t, o)], exact[(t, o)]);
        }
    }
}

/// Every combination of terms, sizes around the tile, ragged groups, one to many tokens.
#[test]
fn case_table() {
    for (out, features) in [(1, 1), (2, 3), (15, 63), (16, 64), (17, 65), (31, 127), (70, 97), (5, 256)] {
        let (w, moments) = (weight(out, features, 11), moments(features, 2 * features, 11));
        let rank = 3.min(out).min(features);
        let smooth = |scheme| {
            preset::svdquant(preset::SvdQuant {
                scheme,
                rounder: rankbit_quant::Rounder::Nearest,
                rank,
                factors: FloatFormat::F16.into(),
                smooth: preset::Smoothing::Fixed(0.5),
                rounds: 1,
            })
        };
        let mut recipes = vec![preset::low_rank(rank, FloatFormat::Bf16), smooth(scheme::UINT4)];
        for (_, scheme) in scheme::NAMED {
            if !scheme.owns_scales() {
                recipes.push(preset::rtn(scheme.with_group(Group::Size(24))));
            }
            if scheme.grouping((out, features)).is_ok() {
                recipes.push(preset::lorc(scheme, rank, FloatFormat::F16));
            }
        }
        if out > 1 && features >= 64 && features.is_multiple_of(2) {
            recipes.extend(sparse_recipes());
        }
        for recipe in recipes {
            let split =
                fit(w.as_ref(), &recipe, &Input { name: "w", moments: Some(&moments) }).unwrap().split;
            for tokens in [1, 2, 5, 17] {
                let x = gaussian(tokens, features, 13);
                check(&split, x.as_ref());
                // The same through a row-major view.
                let values: Vec<f32> =
                    (0..tokens).flat_map(|t| x.row(t).iter().copied().collect::<Vec<_>>()).collect();
                let view = MatRef::from_row_major_slice(&values, tokens, features);
                assert_eq!(split.apply(view).unwrap(), split.apply(x.as_ref()).unwrap());
            }
        }
    }
}

/// The product is that of the reconstruction.
#[test]
fn equals_the_dense_product() {
    let w = weight(50, 80, 12);
    let split = plain(w.as_ref(), &preset::lorc(scheme::NF4, 5, FloatFormat::F16)).split;
    let x = gaussian(4, 80, 14);
    let dense = &x * split.reconstruct().transpose();
    let y = split.apply(x.as_ref()).unwrap();
    assert!((&y - &dense).norm_l2() <= 1e-5 * dense.norm_l2());
}

#[test]
fn wrong_shapes_are_errors() {
    let w = weight(5, 8, 1);
    let split = plain(w.as_ref(), &preset::lorc(scheme::INT4, 2, FloatFormat::F16)).split;
    let x = Mat::<f32>::zeros(2, 7);
    assert!(matches!(split.apply(x.as_ref()), Err(Error::ShapeMismatch { what: "activations", .. })));
    assert!(matches!(matmul::reference::apply(&split, x.as_ref()), Err(Error::ShapeMismatch { .. })));
    let (x, mut y) = (Mat::<f32>::zeros(2, 8), Mat::<f32>::zeros(3, 5));
    assert!(matches!(
        split.apply_into(x.as_ref(), y.as_mut()),
        Err(Error::ShapeMismatch { what: "output", .. })
    ));
    assert_eq!(split.apply(Mat::<f32>::zeros(0, 8).as_ref()).unwrap().nrows(), 0);
}
