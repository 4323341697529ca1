//! The kernels against the CPU reference.

use rankbit_gpu::{Gpu, Limits, Nonlinearity, Selection, self_test};
use rankbit_linalg::faer::Mat;
use rankbit_lowrank::{Input, Split, fit, preset};
use rankbit_quant::{Activation, FloatFormat, Group, Quantized, Rounder, Scheme, quantize, scheme};
use rankbit_sparse::{NmPattern, Pattern, SparseMatrix, ValueFormat, criterion, select};

fn gpu() -> Gpu {
    Gpu::new().expect("these tests need a GPU adapter; Mesa's lavapipe (mesa-vulkan-drivers) will do")
}

fn weight(out: usize, features: usize) -> Mat<f32> {
    Mat::from_fn(out, features, |i, j| ((i * 131 + j * 37) as f32 * 0.7).sin() + 0.01 * (j as f32).cos())
}

fn activations(tokens: usize, features: usize) -> Mat<f32> {
    Mat::from_fn(tokens, features, |t, j| ((t * 17 + j * 5) as f32 * 0.3).cos())
}

fn quantized(out: usize, features: usize, scheme: &Scheme) -> Quantized {
    quantize(weight(out, features).as_ref(), scheme, Rounder::Nearest).unwrap().quantized
}

fn only(base: Quantized) -> Split {
    Split::new(base.shape(), None, Some(base), None).unwrap()
}

/// The whole table: every entry within its bound, every guard word untouched.
#[test]
fn every_case_is_within_its_bound() {
    let report = self_test(&gpu()).unwrap();
    let failures: Vec<_> = report.failures().collect();
    assert!(failures.is_empty(), "{} of {}: {failures:#?}", failures.len(), report.cases.len());
    assert!(report.passed());
    assert!(report.cases.len() > 600);
    // Bounds that nothing comes near would not see a lost digit.
    assert!(report.worst() > 1e-3, "{}", report.worst());
}

/// Against unit vectors a product is a decoding: exact, for every code of every format.
#[test]
fn decoding_is_exact() {
    let gpu = gpu();
    for scheme in [scheme::INT4, scheme::UINT4, scheme::NF4] {
        for group in [Group::Size(16), Group::Size(5), Group::Row] {
            let base = quantized(37, 67, &scheme.with_group(group));
            let expected = base.dequantize();
            let linear = gpu.upload(&only(base)).unwrap();
            let identity = Mat::<f32>::identity(67, 67);
            for tokens in [1, 2, 4, 67] {
                // 67 tokens take the matrix kernel, the others the vector kernel.
                for first in [0, 67 - tokens] {
                    let y = linear.apply(identity.as_ref().subrows(first, tokens)).unwrap();
                    for t in 0..tokens {
                        for o in 0..37 {
                            let (found, wanted) = (y[(t, o)], expected[(o, first + t)]);
                            assert!(
                                found == wanted,
                                "{scheme:?} {group:?} [{o}, {}]: {found} {wanted}",
                                first + t
                            );
                        }
                    }
                }
            }
        }
    }
}

/// The same for vector codes of a real encoder, in every permutation of tokens.
#[test]
fn decoding_vector_codes_is_exact() {
    let gpu = gpu();
    for scheme in
        [scheme::TRELLIS2, scheme::TRELLIS5, scheme::TRELLIS, scheme::E8P, scheme::E8P3, scheme::E8P4]
    {
        let base = quantized(37, 67, &scheme);
        let expected = base.dequantize();
        let outliers = base.columns().map_or(0, |columns| columns.outliers().positions().len());
        assert_eq!(outliers, 0, "{scheme:?}");
        let linear = gpu.upload(&only(base)).unwrap();
        let identity = Mat::<f32>::identity(67, 67);
        for (first, tokens) in [(0, 67), (5, 1), (66, 1), (11, 3)] {
            let y = linear.apply(identity.as_ref().subrows(first, tokens)).unwrap();
            for t in 0..tokens {
                for o in 0..37 {
                    let (found, wanted) = (y[(t, o)], expected[(o, first + t)]);
                    assert!(found == wanted, "{scheme:?} [{o}, {}]: {found} {wanted}", first + t);
                }
            }
        }
    }
}

/// More workgroups than one dimension holds: the same bits as with one dimension.
#[test]
fn a_folded_grid_makes_the_same_bits() {
    let few = Limits { binding_bytes: 1 << 27, buffer_bytes: 1 << 27, groups_per_dimension: 9 };
    let folded = Gpu::with(&Selection { limits: Some(few), ..Selection::default() }).unwrap();
    let recipe = preset::lorc(scheme::UINT4, 5, FloatFormat::F16);
    let split = fit(weight(500, 70).as_ref(), &recipe, &Input { name: "w", moments: None }).unwrap().split;
    let (one, two) = (gpu().upload(&split).unwrap(), folded.upload(&split).unwrap());
    for tokens in [1, 6, 33] {
        let x = activations(tokens, 70);
        let (one, two) = (one.apply(x.as_ref()).unwrap(), two.apply(x.as_ref()).unwrap());
        assert!(one == two, "{tokens} tokens");
        assert!(one.norm_l2() > 1.0);
    }
}

/// Activations of any strides, and a workspace used again with other activations.
#[test]
fn views_and_reuse() {
    let linear = gpu().upload(&only(quantized(20, 30, &scheme::INT4))).unwrap();
    let x = activations(11, 30);
    let expected = linear.apply(x.as_ref()).unwrap();
    let reversed = linear.apply(x.as_ref().reverse_rows()).unwrap();
    let transposed = x.transpose().to_owned();
    assert!(linear.apply(transposed.transpose()).unwrap() == expected);
    assert!(reversed.as_ref().reverse_rows() == expected);
    let workspace = linear.workspace(11).unwrap();
    assert!(workspace.apply(x.as_ref().reverse_rows()).unwrap() == reversed);
    assert!(workspace.apply(x.as_ref()).unwrap() == expected);
    let (timed, timing) = linear.apply_timed(x.as_ref(), 3).unwrap();
    assert!(timed == expected && timing.runs == 3 && timing.best > 0.0 && timing.best <= timing.median);
}

/// NaN and infinities of one token stay with that token, for any layout of groups.
#[test]
fn non_finite_activations_do_not_spread_or_panic() {
    for group in [Group::Size(5), Group::Size(16)] {
        let linear = gpu().upload(&only(quantized(20, 31, &scheme::NF4.with_group(group)))).unwrap();
        for tokens in [3, 12] {
            let mut x = activations(tokens, 31);
            let clean = linear.apply(x.as_ref()).unwrap();
            (x[(1, 0)], x[(1, 30)]) = (f32::NAN, f32::INFINITY);
            let y = linear.apply(x.as_ref()).unwrap();
            for t in (0..tokens).filter(|&t| t != 1) {
                assert!(y.row(t) == clean.row(t), "token {t}");
            }
        }
    }
}

/// In the last dispatch, whichever it is: the function of what the product gives without it.
#[test]
fn nonlinearities_apply_to_the_result() {
    let gpu = gpu();
    let pattern = Pattern::Nm(NmPattern::new(2, 4).unwrap());
    let mask = select(criterion::magnitude(weight(37, 64).as_ref()).unwrap().as_ref(), &pattern).unwrap();
    let kept = ValueFormat::Float(FloatFormat::F32);
    let sparse = SparseMatrix::new(weight(37, 64).as_ref(), &mask, &pattern, &kept).unwrap().0;
    let dense = only(quantized(37, 64, &scheme::INT4)).with_bias(vec![-0.5; 37]).unwrap();
    let integer = dense.clone().with_activation(Activation::INT8).unwrap();
    let coded = only(quantized(37, 64, &scheme::E8P));
    let with_sparse = dense.clone().with_sparse(Some(sparse)).unwrap();
    for split in [dense, integer, coded, with_sparse] {
        let linear = gpu.upload(&split).unwrap();
        for tokens in [1, 13] {
            let x = activations(tokens, 64);
            let plain = linear.apply(x.as_ref()).unwrap();
            assert!(plain.norm_max() > 1.0);
            for f in Nonlinearity::ALL {
                let y = linear.clone().with_nonlinearity(f).apply(x.as_ref()).unwrap();
                for t in 0..tokens {
                    for o in 0..37 {
                        let (x, found) = (f64::from(plain[(t, o)]), f64::from(y[(t, o)]));
                        let wanted = f.apply(x);
                        let bound = match f {
                            Nonlinearity::None | Nonlinearity::Relu => 0.0,
                            Nonlinearity::Silu => (2.0 * x.abs() + 8.0) * 2.0_f64.powi(-23) * wanted.abs(),
                            Nonlinearity::GeluTanh => 2.0_f64.powi(-16) * x.abs(),
                        };
                        assert!((found - wanted).abs() <= bound, "{f:?}({x}): {found} {wanted}");
                    }
                }
            }
        }
    }
}
