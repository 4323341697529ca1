//! Layers in the kernels' order: against the formula, and what they do with memory.

use crate::common::{gaussian, moments, plain, sparse_recipes, weight};
use crate::heap::{allocations, guarded};
use crate::matmul::bound;
use half::{bf16, f16};
use rankbit_linalg::faer::MatRef;
use rankbit_lowrank::split::matmul::reference;
use rankbit_lowrank::split::prepared::{Function, Inputs, PreparedLinear, Scratch};
use rankbit_lowrank::{Error, Input, Recipe, Split, TransformRule, fit, preset};
use rankbit_quant::matmul::prepared::{Output, Plain, Prepared, PreparedActivations, ScaleOf};
use rankbit_quant::simd::Level;
use rankbit_quant::{FloatFormat, Scheme, scheme};

const INPUTS: [Inputs; 5] = [
    Inputs::Float,
    Inputs::Int8(ScaleOf::Group),
    Inputs::Int8(ScaleOf::Token),
    Inputs::Int8Branch(ScaleOf::Group),
    Inputs::Int8Branch(ScaleOf::Token),
];

fn levels() -> impl Iterator<Item = Level> {
    Level::ALL.into_iter().filter(|level| level.is_available())
}

fn rows(x: MatRef<'_, f32>) -> Vec<f32> {
    (0..x.nrows()).flat_map(|t| x.row(t).iter().copied().collect::<Vec<_>>()).collect()
}

fn product(linear: &PreparedLinear, x: &[f32], tokens: usize) -> Vec<f32> {
    let mut scratch = Scratch::new();
    scratch.reserve(linear, tokens);
    let mut y = vec![f32::NAN; tokens * linear.shape().0];
    linear.apply_into(x, tokens, &mut y, &mut scratch).unwrap();
    y
}

fn smooth(scheme: Scheme, rank: usize) -> Recipe {
    preset::svdquant(preset::SvdQuant {
        scheme,
        rounder: rankbit_quant::Rounder::Nearest,
        rank,
        factors: FloatFormat::F16.into(),
        smooth: preset::Smoothing::Fixed(0.5),
        rounds: 1,
    })
}

/// Splits of every combination of terms.
fn splits(out: usize, features: usize) -> Vec<Split> {
    let (w, moments) = (weight(out, features, 11), moments(features, 2 * features, 11));
    let rank = 3.min(out).min(features);
    let mut recipes = vec![
        preset::low_rank(rank, FloatFormat::Bf16),
        smooth(scheme::UINT4, rank),
        smooth(scheme::INT8, rank),
        preset::lorc(scheme::NF4, rank, FloatFormat::F16),
        preset::rtn(scheme::INT4),
        Recipe {
            transform: TransformRule::Compose(vec![
                TransformRule::Permute,
                TransformRule::Rotate { seed: 4 },
            ]),
            ..preset::lorc(scheme::INT4, rank, FloatFormat::F16)
        },
    ];
    if out > 1 && features.is_multiple_of(64) {
        recipes.extend(sparse_recipes());
    }
    let fitted = |recipe: &Recipe| {
        let input = Input { name: "w", moments: Some(&moments) };
        fit(w.as_ref(), recipe, &input).unwrap().split
    };
    let mut splits: Vec<Split> = recipes.iter().map(fitted).collect();
    let bias = (0..out).map(|i| i as f32 / 7.0 - 1.0).collect();
    splits.push(splits[1].clone().with_bias(bias).unwrap());
    splits
}

#[test]
fn floats_are_within_the_bound_and_whole_numbers_near() {
    for (out, features) in [(1, 1), (2, 3), (15, 63), (16, 64), (17, 65), (31, 127), (70, 128)] {
        for split in splits(out, features) {
            for tokens in [1, 2, 5, 17, 33] {
                let x = gaussian(tokens, features, 13);
                let exact = reference::apply(&split, x.as_ref()).unwrap();
                let (bound, x) = (bound(&split, x.as_ref()), rows(x.as_ref()));
                for inputs in INPUTS {
                    let linear = PreparedLinear::new(&split, inputs).unwrap();
                    let mut before: Option<Vec<f32>> = None;
                    for level in levels() {
                        let y = level.run(|| product(&linear, &x, tokens)).unwrap();
                        let at = |t: usize, o: usize| f64::from(y[t * out + o]);
                        if inputs == Inputs::Float {
                            for t in 0..tokens {
                                for o in 0..out {
                                    let (y, exact) = (at(t, o), f64::from(exact[(t, o)]));
                                    // K has grown from in + r + 5 to in + r + 10.
                                    let allowed = 2.0 * bound[(t, o)] + exact.abs() * 2.0_f64.powi(-22);
                                    assert!(
                                        (y - exact).abs() <= allowed,
                                        "{level:?} [{t}, {o}]: {y} {exact}"
                                    );
                                }
                            }
                            continue;
                        }
                        let (mut error, mut size) = (0.0, 0.0);
                        for t in 0..tokens {
                            for o in 0..out {
                                error += (at(t, o) - f64::from(exact[(t, o)])).powi(2);
                                // Next to what the sum is of, not to what is left of it.
                                size += (bound[(t, o)] * 2.0_f64.powi(24)
                                    / (features + split.rank() + 5) as f64)
                                    .powi(2);
                            }
                        }
                        assert!(error.sqrt() <= 0.01 * size.sqrt(), "{inputs:?} {level:?}: {error} {size}");
                        // Without float factors and sums of the sparse term every path has the same bits.
                        let whole = split.sparse().is_none() && split.rank() == 0;
                        if let Some(before) = before.replace(y.clone()).filter(|_| whole) {
                            assert_eq!(y, before, "{inputs:?} {level:?}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn the_quantized_term_alone_is_the_prepared_product() {
    let split = plain(weight(50, 200, 3).as_ref(), &preset::rtn(scheme::UINT4)).split;
    let x = rows(gaussian(9, 200, 4).as_ref());
    let prepared = Prepared::new(split.base().unwrap()).unwrap();
    for scale_of in [ScaleOf::Group, ScaleOf::Token] {
        let mut inputs = PreparedActivations::new();
        inputs.quantize(&prepared, &x, 9, scale_of).unwrap();
        let mut expected = vec![0.0; 9 * 50];
        let mut y = Output::new(&mut expected, 9, 50).unwrap();
        prepared.multiply(0..prepared.tiles(), &inputs, &mut y, &Plain).unwrap();
        let linear = PreparedLinear::new(&split, Inputs::Int8(scale_of)).unwrap();
        assert_eq!(product(&linear, &x, 9), expected);
    }
}

#[test]
fn bias_and_function_come_last() {
    let split = plain(weight(21, 64, 5).as_ref(), &preset::lorc(scheme::INT4, 2, FloatFormat::F16)).split;
    let bias: Vec<f32> = (0..21).map(|i| i as f32 * 0.1 - 1.0).collect();
    let x = rows(gaussian(11, 64, 6).as_ref());
    for inputs in INPUTS {
        let linear = PreparedLinear::new(&split, inputs).unwrap();
        let before = product(&linear, &x, 11);
        let linear = linear.with_bias(&bias).unwrap();
        for function in [Function::Relu, Function::Gelu, Function::GeluTanh, Function::Silu] {
            let y = product(&linear.clone().with_function(function), &x, 11);
            for (at, (y, before)) in y.iter().zip(&before).enumerate() {
                assert_eq!(*y, function.apply(before + bias[at % 21]));
            }
        }
    }
    let linear = PreparedLinear::new(&split, Inputs::Float).unwrap();
    assert!(matches!(linear.with_bias(&bias[1..]), Err(Error::ShapeMismatch { what: "bias", .. })));
}

#[test]
fn threads_do_not_change_bits() {
    for split in splits(96, 128).into_iter().take(9) {
        for inputs in INPUTS {
            let linear = PreparedLinear::new(&split, inputs).unwrap();
            let x = rows(gaussian(40, 128, 8).as_ref());
            let run = |threads: usize, level: Level| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| level.run(|| product(&linear, &x, 40)).unwrap())
            };
            for level in levels() {
                let one = run(1, level);
                for threads in [2, 3, 7] {
                    assert_eq!(run(threads, level), one, "{inputs:?} {level:?} {threads}");
                }
            }
        }
    }
}

#[test]
fn products_allocate_nothing() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    for split in splits(70, 128) {
        for inputs in INPUTS {
            let linear = PreparedLinear::new(&split, inputs).unwrap();
            let (x, mut y, mut scratch) = (vec![0.5_f32; 17 * 128], vec![0.0; 17 * 70], Scratch::new());
            let halves: Vec<bf16> = x.iter().map(|&x| bf16::from_f32(x)).collect();
            scratch.reserve(&linear, 17);
            let count = pool.install(|| {
                allocations(|| {
                    for tokens in [1, 8, 17] {
                        let (x, y) = (&x[..tokens * 128], &mut y[..tokens * 70]);
                        linear.apply_into(x, tokens, y, &mut scratch).unwrap();
                        linear.apply_into(&halves[..tokens * 128], tokens, y, &mut scratch).unwrap();
                    }
                })
            });
            assert_eq!(count, 0, "{inputs:?}");
        }
    }
}

/// Everything allocated ends where memory does.
#[test]
fn nothing_is_read_past_its_end() {
    for (out, features) in [(1, 1), (15, 63), (17, 65), (33, 100), (20, 256)] {
        let mut all = splits(out, features);
        for name in ["int4", "q4_0", "q4_k", "nvfp4", "q6_k", "fp8-e4m3"] {
            let scheme = Scheme::named(name).unwrap();
            if scheme.grouping((out, features)).is_ok() {
                all.push(plain(weight(out, features, 2).as_ref(), &preset::rtn(scheme)).split);
            }
        }
        for split in all {
            for inputs in INPUTS {
                let Ok(linear) = guarded(|| PreparedLinear::new(&split, inputs)) else {
                    let name = split.base().map(|base| *base.scheme());
                    assert_eq!((inputs, name), (Inputs::Float, Scheme::named("fp8-e4m3")));
                    continue;
                };
                for level in levels() {
                    for tokens in [1, 3, 8, 9] {
                        guarded(|| {
                            let x = vec![0.5_f32; tokens * features];
                            let y = level.run(|| product(&linear, &x, tokens)).unwrap();
                            assert!(y.iter().all(|y| y.is_finite()));
                        });
                    }
                }
            }
        }
    }
}

#[test]
fn halves_and_unaligned_inputs() {
    let split = plain(weight(21, 64, 5).as_ref(), &preset::lorc(scheme::INT4, 2, FloatFormat::F16)).split;
    for inputs in INPUTS {
        let linear = PreparedLinear::new(&split, inputs).unwrap();
        let x = rows(gaussian(5, 64, 6).as_ref());
        let mut scratch = Scratch::new();
        scratch.reserve(&linear, 5);
        let mut room = vec![0.0; 5 * 21 + 1];
        let short: Vec<f16> = x.iter().map(|&x| f16::from_f32(x)).collect();
        linear.apply_into(&short, 5, &mut room[1..], &mut scratch).unwrap();
        let widened: Vec<f32> = short.iter().map(|x| x.to_f32()).collect();
        assert_eq!(room[1..], product(&linear, &widened, 5));
        let mut shifted = vec![0.0];
        shifted.extend_from_slice(&x);
        linear.apply_into(&shifted[1..], 5, &mut room[1..], &mut scratch).unwrap();
        assert_eq!(room[1..], product(&linear, &x, 5));
    }
}

#[test]
fn bad_input_is_refused_or_passed_on() {
    let split = plain(weight(20, 64, 5).as_ref(), &preset::lorc(scheme::INT4, 2, FloatFormat::F16)).split;
    for inputs in INPUTS {
        let linear = PreparedLinear::new(&split, inputs).unwrap();
        let mut scratch = Scratch::new();
        let mut y = vec![0.0; 60];
        let found = linear.apply_into(&[0.0_f32; 192], 3, &mut y, &mut scratch);
        assert!(matches!(found, Err(Error::ShapeMismatch { what: "scratch", .. })));
        scratch.reserve(&linear, 3);
        assert!(Scratch::bytes(&linear, 3) > 0);
        assert!(linear.apply_into(&[0.0_f32; 191], 3, &mut y, &mut scratch).is_err());
        assert!(linear.apply_into(&[0.0_f32; 192], 3, &mut y[1..], &mut scratch).is_err());
        assert!(linear.apply_into(&[0.0_f32; 256], 4, &mut [0.0; 80], &mut scratch).is_err());
        linear.apply_into::<f32>(&[], 0, &mut [], &mut scratch).unwrap();
        let clean = product(&linear, &[1.0; 192], 3);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = vec![1.0; 192];
            x[64 + 5] = bad;
            let found = linear.apply_into(&x, 3, &mut y, &mut scratch);
            if inputs == Inputs::Float {
                found.unwrap();
                assert!(y[20..40].iter().all(|y| !y.is_finite()));
                assert_eq!((&y[..20], &y[40..]), (&clean[..20], &clean[40..]));
            } else {
                let expected = rankbit_quant::Error::ActivationNonFinite { token: 1, feature: 5 };
                assert_eq!(found, Err(expected.into()));
            }
        }
    }
    // No rows, no columns.
    for shape in [(0, 5), (5, 0)] {
        let base = rankbit_quant::nearest::quantize_rows(&[], shape, &scheme::INT4).unwrap().quantized;
        let split = Split::new(shape, None, Some(base), None).unwrap();
        for inputs in INPUTS {
            let linear = PreparedLinear::new(&split, inputs).unwrap();
            assert!(product(&linear, &vec![1.0; 3 * shape.1], 3).iter().all(|&y| y == 0.0));
        }
    }
}

/// What an engine shares between threads.
#[test]
fn layers_may_be_shared() {
    fn shared<T: Send + Sync>() {}
    shared::<PreparedLinear>();
}
