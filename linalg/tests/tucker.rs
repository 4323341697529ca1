//! Tucker's decomposition: its identities and bounds, with nalgebra's spectra as oracle.

use proptest::prelude::*;
use rankbit_linalg::tucker::{Tensor, TuckerGoal, TuckerOptions, TuckerStart, decompose, tucker};
use rankbit_linalg::{Error, Stream};

fn tensor(shape: &[usize], seed: u64) -> Tensor {
    let mut stream = Stream::new(seed, "tucker");
    let values: Vec<f64> = (0..shape.iter().product())
        .map(|i: usize| stream.next_normal() + (i as f64 * 0.1).sin() * 3.0)
        .collect();
    Tensor::new(shape, &values).expect("a tensor")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// ‖T - T̂‖² = ‖T‖² - ‖G‖²; at most the sum of the modes' tails, at least the largest of them; sweeps never hurt; full
    /// ranks are exact.
    #[test]
    fn errors_are_within_their_bounds(a in 2..6_usize, b in 2..6_usize, c in 1..4_usize, d in 1..4_usize, seed in 0..1000_u64) {
        let shape = [a, b, c, d];
        let t = tensor(&shape, seed);
        let ranks = [Some(1 + a / 2), Some(1 + b / 2), None, if d > 1 { Some(d - 1) } else { None }];
        let squared = |sweeps| {
            let found = tucker(&t, &ranks, sweeps).expect("it decomposes");
            // Entry by entry; nothing of the identity.
            let again = found.reconstruct().expect("it fits");
            let error: f64 = t.values().iter().zip(again.values()).map(|(a, b)| (a - b).powi(2)).sum();
            assert!((found.relative_error - (error / t.norm_squared()).sqrt()).abs() <= 1e-7);
            let identity = t.norm_squared() - found.core.norm_squared();
            assert!((error - identity).abs() <= 1e-9 * t.norm_squared(), "{error} for {identity}");
            error
        };
        let (hosvd, hooi) = (squared(0), squared(20));
        let tails: Vec<f64> = ranks.iter().enumerate().map(|(mode, rank)| {
            let unfolded = t.unfold(mode).expect("a mode");
            let dense = nalgebra::DMatrix::from_fn(unfolded.nrows(), unfolded.ncols(), |i, j| unfolded[(i, j)]);
            let mut sigma: Vec<f64> = dense.singular_values().iter().copied().collect();
            sigma.sort_by(|a, b| b.total_cmp(a));
            sigma.iter().skip(rank.unwrap_or(usize::MAX)).map(|s| s * s).sum()
        }).collect();
        let rounding = 1e-9 * t.norm_squared();
        let (sum, largest) = (tails.iter().sum::<f64>(), tails.iter().copied().fold(0.0, f64::max));
        prop_assert!(hosvd <= sum + rounding && hosvd >= largest - rounding, "{hosvd} between {largest} and {sum}");
        prop_assert!(hooi <= hosvd + rounding && hooi >= largest - rounding);
        let exact = tucker(&t, &[Some(a), Some(b), Some(c), Some(d)], 1).expect("full ranks");
        prop_assert!(exact.relative_error <= 1e-10);
    }
}

#[test]
fn two_modes_are_the_truncated_svd() {
    let t = tensor(&[7, 5], 3);
    let found = tucker(&t, &[Some(2), Some(2)], 5).expect("it decomposes");
    let dense = nalgebra::DMatrix::from_row_slice(7, 5, t.values());
    let mut sigma: Vec<f64> = dense.singular_values().iter().copied().collect();
    sigma.sort_by(|a, b| b.total_cmp(a));
    let tail: f64 = sigma.iter().skip(2).map(|s| s * s).sum();
    assert!((found.relative_error - (tail / t.norm_squared()).sqrt()).abs() <= 1e-9);
}

#[test]
fn bad_input_is_refused() {
    assert!(matches!(Tensor::new(&[2, 3], &[0.0_f32; 5]), Err(Error::ShapeMismatch { .. })));
    assert!(matches!(Tensor::new(&[usize::MAX, 3], &[0.0_f32; 5]), Err(Error::ShapeMismatch { .. })));
    assert!(matches!(Tensor::new(&[1, 2], &[0.0, f64::NAN]), Err(Error::NonFinite { .. })));
    let t = tensor(&[2, 3], 1);
    assert!(t.unfold(2).is_err() && t.times(5, rankbit_linalg::faer::Mat::zeros(1, 1).as_ref()).is_err());
    assert!(t.times(0, rankbit_linalg::faer::Mat::zeros(1, 3).as_ref()).is_err());
    for ranks in [vec![Some(1)], vec![Some(0), None], vec![None, Some(4)]] {
        assert!(tucker(&t, &ranks, 3).is_err(), "{ranks:?}");
    }
    let zero = Tensor::new(&[2, 2, 2], &[0.0_f32; 8]).expect("a tensor");
    assert_eq!(tucker(&zero, &[Some(1), None, Some(1)], 3).expect("zeros").relative_error, 0.0);
}

/// The sides of a tensor of any order, with ranks for some of them.
fn sides() -> impl Strategy<Value = (Vec<usize>, Vec<Option<usize>>)> {
    prop::collection::vec((1usize..6, 0.0..1.0f64, any::<bool>()), 1..6).prop_map(|modes| {
        let sides = modes.iter().map(|&(side, ..)| side).collect();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a small count"
        )]
        let rank = |&(side, share, kept): &(usize, f64, bool)| {
            (!kept).then_some(1 + ((side - 1) as f64 * share).round() as usize)
        };
        (sides, modes.iter().map(rank).collect())
    })
}

fn error(t: &Tensor, found: &rankbit_linalg::tucker::Tucker) -> f64 {
    let again = found.reconstruct().expect("it fits");
    t.values().iter().zip(again.values()).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Sequential truncation on any number of modes: the identity, orthonormal factors, and the tails' bound; sweeps never
    /// hurt.
    #[test]
    fn sequential_truncation_is_within_its_bound((shape, ranks) in sides(), seed in 0..1000_u64) {
        let t = tensor(&shape, seed);
        let norm = t.norm_squared();
        let run = |start, sweeps| {
            decompose(&t, TuckerGoal::Ranks(&ranks), &TuckerOptions { start, sweeps, gain: 0.0 }).expect("it decomposes")
        };
        let (sequential, hosvd) = (run(TuckerStart::SequentiallyTruncated, 0), run(TuckerStart::Hosvd, 0));
        let mut bound = 0.0;
        for (mode, rank) in ranks.iter().enumerate() {
            let unfolded = t.unfold(mode).expect("a mode");
            let values = crate::support::oracle_values(unfolded.as_ref());
            bound += crate::support::tail(&values, rank.unwrap_or(usize::MAX)).powi(2);
        }
        for found in [&sequential, &hosvd] {
            let squared = error(&t, found).powi(2);
            prop_assert!((squared - (norm - found.core.norm_squared())).abs() <= 1e-9 * norm);
            prop_assert!(squared <= bound + 1e-9 * norm, "{squared} above {bound}");
            for (factor, rank) in found.factors.iter().zip(&ranks) {
                prop_assert_eq!(factor.as_ref().map(|factor| factor.ncols()), *rank);
                if let Some(factor) = factor {
                    prop_assert!(crate::support::orthonormality(factor.as_ref()) <= 1e-12);
                }
            }
            let swept = run(TuckerStart::SequentiallyTruncated, 6);
            prop_assert!(error(&t, &swept) <= error(&t, &sequential) + 1e-7 * norm.sqrt());
        }
    }

    /// A tolerance is kept by both starts, also below what Gram matrices resolve, and a tensor of low ranks gets them.
    #[test]
    fn tolerances_are_kept((shape, ranks) in sides(), tolerance in prop_oneof![0.0..1.0f64, Just(1e-9), Just(0.0)], seed in 0..1000_u64) {
        let ranks: Vec<Option<usize>> = ranks.iter().zip(&shape).map(|(rank, side)| Some(rank.unwrap_or(*side))).collect();
        let low = tucker(&tensor(&shape, seed), &ranks, 0).expect("it decomposes").reconstruct().expect("it fits");
        let modes: Vec<usize> = (0..shape.len()).collect();
        for start in [TuckerStart::SequentiallyTruncated, TuckerStart::Hosvd] {
            let options = TuckerOptions { start, ..Default::default() };
            let goal = TuckerGoal::Tolerance { tolerance, modes: &modes };
            let found = decompose(&low, goal, &options).expect("it decomposes");
            let norm = low.norm_squared().sqrt();
            prop_assert!(error(&low, &found) <= tolerance * norm + 1e-12 * norm);
            if tolerance == 1e-9 {
                for (factor, rank) in found.factors.iter().zip(&ranks) {
                    prop_assert!(factor.as_ref().map(|factor| factor.ncols()) <= *rank);
                }
            }
        }
    }

    /// Any strides: permuted, reversed, spread and repeated modes give the tensor entry by entry.
    #[test]
    fn strides_are_any(a in 1usize..5, b in 1usize..5, c in 1usize..5) {
        let values: Vec<f64> = (0..a * b * c * 2).map(|at| at as f64).collect();
        let signed = |value: usize| isize::try_from(value).expect("small");
        // [c, a reversed, repeated twice, b] of a row-major [a, b, c, 2].
        let (one, two, three) = (signed(2 * b * c), signed(2 * c), 2);
        let offset = 2 * b * c * (a - 1) + 1;
        let t = Tensor::strided(&[c, a, 2, b], &[three, -one, 0, two], offset, &values).expect("inside");
        let mut expected = Vec::new();
        for k in 0..c {
            for i in 0..a {
                for _ in 0..2 {
                    for j in 0..b {
                        expected.push(values[((a - 1 - i) * b + j) * c * 2 + k * 2 + 1]);
                    }
                }
            }
        }
        prop_assert_eq!(t.values(), &expected[..]);
        prop_assert!(Tensor::strided(&[c, a, 2, b], &[three, one, 0, two], offset + 1, &values).is_err());
        prop_assert!(a == 1 || Tensor::strided(&[a], &[-one], 0, &values).is_err());
    }
}

/// Long and short blocks of every mode against the definition: products and Gram matrices must not depend on how entries
/// are gathered.
#[test]
fn every_mode_of_every_shape_multiplies() {
    for shape in [[3, 4, 70], [70, 3, 4], [3, 70, 4], [600, 9, 3]] {
        let t = tensor(&shape, 8);
        for (mode, &side) in shape.iter().enumerate() {
            let a = crate::support::gaussian(5, side, 3);
            let found = t.times(mode, a.as_ref()).expect("it fits").unfold(mode).expect("a mode");
            let unfolded = crate::support::oracle(t.unfold(mode).expect("a mode").as_ref());
            let expected = crate::support::oracle(a.as_ref()) * unfolded;
            assert!((crate::support::oracle(found.as_ref()) - expected).amax() <= 1e-10);
            // What a rank of the whole side leaves: nothing.
            let mut ranks = [None; 3];
            ranks[mode] = Some(side.min(20));
            let found = tucker(&t, &ranks, 0).expect("it decomposes");
            let values = crate::support::oracle_values(t.unfold(mode).expect("a mode").as_ref());
            let tail = crate::support::tail(&values, side.min(20));
            assert!((error(&t, &found) - tail).abs() <= 1e-7 * t.norm_squared().sqrt());
        }
    }
}

/// HOOI finds what HOSVD misses on noise, the same bits on any number of threads, at any scale.
#[test]
fn scales_and_threads() {
    let t = tensor(&[9, 8, 3, 3], 4);
    let ranks = [Some(3), Some(3), None, None];
    let run = || decompose(&t, TuckerGoal::Ranks(&ranks), &TuckerOptions::default()).expect("it decomposes");
    let expected = run();
    assert!(expected.sweeps > 0);
    for threads in [1, 2, 7] {
        std::thread::scope(|scope| {
            let running: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
            for thread in running {
                let found = thread.join().expect("it runs");
                assert!(found.core == expected.core && found.factors == expected.factors);
            }
        });
    }
    for scale in [1e-300, 1e-150, 1e150, 1e300] {
        let values: Vec<f64> = t.values().iter().map(|value| value * scale).collect();
        let scaled = Tensor::new(t.shape(), &values).expect("a tensor");
        let found =
            decompose(&scaled, TuckerGoal::Ranks(&ranks), &TuckerOptions::default()).expect("it decomposes");
        assert!((found.relative_error - expected.relative_error).abs() <= 1e-9);
        assert!((found.core.values()[0].abs() / scale - expected.core.values()[0].abs()).abs() <= 1e-7);
    }
}

#[test]
fn bad_goals_are_refused() {
    let t = tensor(&[2, 3], 1);
    let run = |tolerance, modes: &[usize], gain| {
        let options = TuckerOptions { gain, ..Default::default() };
        decompose(&t, TuckerGoal::Tolerance { tolerance, modes }, &options)
    };
    assert!(matches!(run(0.1, &[2], 0.0), Err(Error::ShapeMismatch { .. })));
    for bad in [-1.0, f64::NAN] {
        assert!(matches!(run(bad, &[0], 0.0), Err(Error::InvalidOption { .. })));
        assert!(matches!(run(0.1, &[0], bad), Err(Error::InvalidOption { .. })));
    }
    let found = run(f64::INFINITY, &[0, 1], 0.0).expect("it decomposes");
    assert_eq!(found.core.shape(), [1, 1]);
    assert_eq!(run(0.0, &[], 0.0).expect("nothing to do").relative_error, 0.0);
    for shape in [vec![], vec![0], vec![3, 0, 2]] {
        let len = shape.iter().product();
        let empty = Tensor::new(&shape, &vec![1.0_f32; len]).expect("a tensor");
        let modes: Vec<usize> = (0..shape.len()).collect();
        let goal = TuckerGoal::Tolerance { tolerance: 0.1, modes: &modes };
        assert_eq!(decompose(&empty, goal, &TuckerOptions::default()).expect("nothing").relative_error, 0.0);
    }
    assert!(matches!(Tensor::strided(&[2], &[1, 1], 0, &[0.0; 3]), Err(Error::ShapeMismatch { .. })));
    assert!(matches!(Tensor::strided(&[usize::MAX, 2], &[0, 0], 0, &[0.0; 3]), Err(Error::TooLarge { .. })));
    let bad = Error::NonFinite { what: "tensor", row: 0, col: 1 };
    assert_eq!(Tensor::strided(&[2], &[-1], 1, &[f64::NAN, 1.0]).unwrap_err(), bad);
}

/// A tensor whose values fall off along both first modes like `i^-decay`, in single or double precision.
fn falling<T: rankbit_linalg::Scalar>(shape: &[usize], decay: f64, seed: u64) -> Tensor {
    let mut stream = Stream::new(seed, "tucker");
    let [rows, columns, rest] = [shape[0], shape[1], shape.iter().skip(2).product::<usize>()];
    let weight = |i: usize| (i as f64 + 1.0).powf(-decay);
    let mut values = Vec::new();
    for i in 0..rows {
        for j in 0..columns {
            for _ in 0..rest {
                values.push(T::from_f64(stream.next_normal() * weight(i) * weight(j)));
            }
        }
    }
    Tensor::new(shape, &values).expect("a tensor")
}

/// The relative error after plain sweeps with exact singular vectors, by nalgebra.
fn by_oracle(t: &Tensor, ranks: &[Option<usize>], sweeps: usize) -> f64 {
    let mut factors: Vec<Option<nalgebra::DMatrix<f64>>> = vec![None; ranks.len()];
    let mut core = t.clone();
    for sweep in 0..=sweeps {
        for (mode, rank) in ranks.iter().enumerate() {
            let Some(rank) = rank else { continue };
            core = t.clone();
            for (other, factor) in factors.iter().enumerate().filter(|(other, _)| *other != mode) {
                // The first sweep truncates one mode after another.
                if let Some(u) = factor.as_ref().filter(|_| sweep > 0 || other < mode) {
                    let u = rankbit_linalg::faer::Mat::from_fn(u.ncols(), u.nrows(), |i, j| u[(j, i)]);
                    core = core.times(other, u.as_ref()).expect("it fits");
                }
            }
            let unfolded = crate::support::oracle(core.unfold(mode).expect("a mode").as_ref());
            let eigen = (&unfolded * unfolded.transpose()).symmetric_eigen();
            let mut order: Vec<usize> = (0..eigen.eigenvalues.len()).collect();
            order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
            let u = eigen.eigenvectors.select_columns(&order[..*rank]);
            let turned = rankbit_linalg::faer::Mat::from_fn(*rank, u.nrows(), |i, j| u[(j, i)]);
            core = core.times(mode, turned.as_ref()).expect("it fits");
            factors[mode] = Some(u);
        }
    }
    ((t.norm_squared() - core.norm_squared()) / t.norm_squared()).max(0.0).sqrt()
}

/// Sides long enough for refined vectors, even and falling spectra, two and three factors, both precisions: the identity,
/// orthonormal factors, and no more error than plain sweeps of the same number with exact vectors.
#[test]
fn refined_sweeps_reach_the_error_of_exact_ones() {
    let cases: [(&[usize], &[Option<usize>]); 3] = [
        (&[96, 80, 2, 2], &[Some(16), Some(20), None, None]),
        (&[72, 70, 6], &[Some(20), Some(24), Some(3)]),
        (&[3, 90, 70], &[None, Some(30), Some(12)]),
    ];
    for (shape, ranks) in cases {
        for decay in [0.0, 0.3, 1.5] {
            for single in [false, true] {
                let t =
                    if single { falling::<f32>(shape, decay, 5) } else { falling::<f64>(shape, decay, 5) };
                let norm = t.norm_squared();
                let run = |start, sweeps| {
                    let options = TuckerOptions { start, sweeps, gain: 0.0 };
                    decompose(&t, TuckerGoal::Ranks(ranks), &options).expect("it decomposes")
                };
                let case = format!("{shape:?} {decay} {single}");
                let slack = if single { 1e-5 } else { 1e-9 };
                let mut errors = Vec::new();
                for (start, sweeps) in [
                    (TuckerStart::Hosvd, 0),
                    (TuckerStart::SequentiallyTruncated, 0),
                    (TuckerStart::SequentiallyTruncated, 8),
                    (TuckerStart::Hosvd, 8),
                ] {
                    let found = run(start, sweeps);
                    let squared = error(&t, &found).powi(2);
                    assert!((squared - (norm - found.core.norm_squared())).abs() <= 1e-9 * norm, "{case}");
                    assert!(
                        (squared.sqrt() - found.relative_error * norm.sqrt()).abs() <= 1e-9 * norm.sqrt()
                    );
                    for factor in found.factors.iter().flatten() {
                        assert!(crate::support::orthonormality(factor.as_ref()) <= 1e-12, "{case}");
                    }
                    errors.push(squared / norm);
                }
                // Sequential truncation is that of the oracle, and sweeps never hurt.
                let sequential = by_oracle(&t, ranks, 0).powi(2);
                assert!((errors[1] - sequential).abs() <= slack, "{case}: {} for {sequential}", errors[1]);
                assert!(errors[2] <= errors[1] + slack && errors[3] <= errors[0] + slack, "{case}");
                // Sweeps may end in another local optimum.
                let exact = by_oracle(&t, ranks, 8).powi(2);
                assert!(errors[2] <= 1.005 * exact + slack, "{case}: {} for {exact}", errors[2]);
                let bits = run(TuckerStart::SequentiallyTruncated, 3);
                let other = std::thread::scope(|scope| {
                    scope.spawn(|| run(TuckerStart::SequentiallyTruncated, 3)).join().expect("it runs")
                });
                assert!(bits.core == other.core && bits.factors == other.factors);
            }
        }
    }
}

/// Values near both ends of single precision.
#[test]
fn single_precision_of_any_scale() {
    let t = falling::<f64>(&[20, 20, 3], 0.2, 6);
    let ranks = [Some(5), Some(5), None];
    let options = TuckerOptions::default();
    let expected = decompose(&t, TuckerGoal::Ranks(&ranks), &options).expect("it decomposes").relative_error;
    for scale in [1e-36, 1e-20, 1.0, 1e20, 1e36] {
        #[expect(clippy::cast_possible_truncation, reason = "rounding is what is wanted")]
        let values: Vec<f32> = t.values().iter().map(|value| (value * scale) as f32).collect();
        let scaled = Tensor::new(t.shape(), &values).expect("a tensor");
        let found = decompose(&scaled, TuckerGoal::Ranks(&ranks), &options).expect("it decomposes");
        assert!((found.relative_error - expected).abs() <= 1e-4, "{scale:e}");
    }
}
