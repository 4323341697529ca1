//! The block Krylov decomposition, to a rank and to a tolerance, and the sketches.

use crate::support::*;
use proptest::prelude::*;
use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_linalg::{
    Error, KrylovOptions, RandomizedOptions, Sketch, SvdMethod, krylov, randomized, to_tolerance,
};

fn sketches() -> impl Strategy<Value = Sketch> {
    prop_oneof![Just(Sketch::Gaussian), Just(Sketch::SparseSign), Just(Sketch::Hadamard)]
}

fn slow(count: usize) -> Vec<f64> {
    (1..=count).map(|i| 1.0 / (i as f64).sqrt()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Orthonormal factors whatever the block; never better than the optimum; the stated residual is the real one.
    #[test]
    fn optimal_at_best_and_honest(
        (a, rank) in matrix_and_rank(), block in 1usize..9, basis in 0usize..30, sketch in sketches(), seed in any::<u64>(),
    ) {
        let options = KrylovOptions { block: Some(block), basis: Some(basis), sketch, seed };
        let svd = krylov(a.as_ref(), rank, &options).unwrap();
        let exact = oracle_values(a.as_ref());
        prop_assert_eq!(svd.rank(), rank);
        prop_assert!(orthonormality(svd.u.as_ref()) <= 1e-12);
        prop_assert!(orthonormality(svd.v.as_ref()) <= 1e-12);
        let measured = distance(a.as_ref(), svd.reconstruct().as_ref());
        at_most(tail(&exact, rank), measured, 1e-12);
        close(svd.info.residual, measured, 1e-11);
        close(svd.info.norm, norm(a.as_ref()), 1e-12);
        for (found, exact) in svd.singular_values.iter().zip(&exact) {
            at_most(*found, *exact, 1e-12);
        }
    }

    /// Where the basis spans everything the result is the exact one, also for repeated values and low ranks.
    #[test]
    fn exact_where_the_basis_is_whole(
        m in 1usize..24, n in 1usize..24, copies in 1usize..6, block in 1usize..7, sketch in sketches(), seed in any::<u64>(),
    ) {
        let side = m.min(n);
        let values: Vec<f64> = (0..side.div_ceil(2)).map(|i| 1.0 / (1 + i / copies) as f64).collect();
        let a = with_spectrum(m, n, &values, seed);
        let rank = side.div_ceil(3);
        let options = KrylovOptions { block: Some(block), basis: Some(usize::MAX), sketch, seed };
        let svd = krylov(a.as_ref(), rank, &options).unwrap();
        close(svd.info.residual, tail(&values, rank), 1e-9);
        for (found, exact) in svd.singular_values.iter().zip(&values) {
            close(*found, *exact, 1e-10);
        }
        prop_assert!(orthonormality(svd.u.as_ref()) <= 1e-12 && orthonormality(svd.v.as_ref()) <= 1e-12);
    }

    /// The error is within the tolerance, the rank never below the least that is.
    #[test]
    fn the_tolerance_is_kept(
        (a, _) in matrix_and_rank(), tolerance in prop_oneof![0.0..1.0, Just(1e-3), Just(1e-9)], sketch in sketches(), seed in any::<u64>(),
    ) {
        let options = KrylovOptions { sketch, seed, ..Default::default() };
        let svd = to_tolerance(a.as_ref(), tolerance, &options).unwrap();
        let size = norm(a.as_ref());
        let measured = distance(a.as_ref(), svd.reconstruct().as_ref());
        at_most(measured, tolerance * size, 1e-12);
        close(svd.info.residual, measured, 1e-11);
        let exact = oracle_values(a.as_ref());
        let least = (0..=exact.len()).find(|&rank| tail(&exact, rank) <= tolerance * size + 1e-12).unwrap();
        prop_assert!(svd.rank() >= least, "{} below {least}", svd.rank());
        // The basis is whole at these sizes.
        prop_assert!(svd.rank() <= least + 1, "{} above {least}", svd.rank());
    }

    /// Every sketch keeps the properties of the randomized decomposition.
    #[test]
    fn other_sketches_are_honest((a, rank) in matrix_and_rank(), sketch in sketches(), seed in any::<u64>()) {
        let svd = randomized(a.as_ref(), rank, &RandomizedOptions { sketch, seed, ..Default::default() }).unwrap();
        let exact = oracle_values(a.as_ref());
        let measured = distance(a.as_ref(), svd.reconstruct().as_ref());
        close(svd.info.residual, measured, 1e-11);
        at_most(tail(&exact, rank), measured, 1e-12);
        prop_assert!(orthonormality(svd.u.as_ref()) <= 1e-12 && orthonormality(svd.v.as_ref()) <= 1e-12);
    }
}

/// On a slowly decaying spectrum the default is within 0.3 % of the least error in single precision, where two power
/// iterations are not, and a tolerance finds about the rank it needs.
#[test]
fn near_the_least_error() {
    let values = slow(300);
    let a = single(with_spectrum(300, 340, &values, 1).as_ref());
    for sketch in [Sketch::Gaussian, Sketch::SparseSign, Sketch::Hadamard] {
        let options = KrylovOptions { sketch, ..Default::default() };
        let svd = krylov(a.as_ref(), 20, &options).unwrap();
        let error = distance(double(svd.reconstruct().as_ref()).as_ref(), double(a.as_ref()).as_ref());
        at_most(error, 1.003 * tail(&values, 20), 0.0);
        close(svd.info.residual, error, 1e-5);
        let tolerance = tail(&values, 20) / tail(&values, 0);
        let found = to_tolerance(a.as_ref(), tolerance, &options).unwrap();
        assert!((20..=22).contains(&found.rank()), "{}", found.rank());
        at_most(found.info.residual, tolerance * found.info.norm, 0.0);
        assert_eq!(found.info.method, SvdMethod::Krylov);
        // Below the rounding of a difference of squares the residual is formed entry by entry.
        let found = to_tolerance(a.as_ref(), 1e-5, &options).unwrap();
        let error = distance(double(found.reconstruct().as_ref()).as_ref(), double(a.as_ref()).as_ref());
        at_most(error, 1e-5 * norm(double(a.as_ref()).as_ref()), 1e-6);
    }
}

/// Halko, Martinsson and Tropp, theorem 10.5: the mean over seeds for each sketch (the theorem is for the Gaussian one).
#[test]
fn sketches_keep_the_expectation_bound() {
    const SEEDS: u64 = 40;
    let (m, n, k, p) = (60, 44, 6, 6);
    let values = slow(44);
    let a = with_spectrum(m, n, &values, 17);
    let bound = (2.0 + k as f64 / (p as f64 - 1.0)) * tail(&values, k).powi(2);
    for sketch in [Sketch::Gaussian, Sketch::SparseSign, Sketch::Hadamard] {
        let squares = (0..SEEDS).map(|seed| {
            let options = RandomizedOptions { oversampling: p, power_iterations: 0, sketch, seed };
            randomized(a.as_ref(), k, &options).unwrap().info.residual.powi(2)
        });
        at_most(squares.sum::<f64>() / SEEDS as f64, bound, 0.0);
    }
}

/// A value repeated more often than a block is wide is found with the block that the documentation asks for.
#[test]
fn repeated_values_need_their_block() {
    let mut values = vec![1.0; 12];
    values.extend(vec![1e-3; 60]);
    let a = with_spectrum(90, 80, &values, 2);
    let options = KrylovOptions { block: Some(12), basis: Some(36), ..Default::default() };
    close(krylov(a.as_ref(), 12, &options).unwrap().info.residual, tail(&values, 12), 1e-6);
}

#[test]
fn same_bits_on_any_number_of_threads() {
    let a = single(gaussian(70, 130, 9).as_ref());
    for sketch in [Sketch::Gaussian, Sketch::SparseSign, Sketch::Hadamard] {
        let run = |seed| {
            let options = KrylovOptions { sketch, seed, ..Default::default() };
            let (fixed, found) =
                (krylov(a.as_ref(), 7, &options).unwrap(), to_tolerance(a.as_ref(), 0.8, &options).unwrap());
            (fixed.u, fixed.singular_values, fixed.v, found.u, found.singular_values, found.v)
        };
        let expected = run(1);
        for threads in [1, 2, 7] {
            std::thread::scope(|scope| {
                let running: Vec<_> = (0..threads).map(|_| scope.spawn(|| run(1))).collect();
                for thread in running {
                    assert!(thread.join().unwrap() == expected);
                }
            });
        }
        assert!(run(2) != expected);
    }
}

#[test]
fn strides_scales_and_signs() {
    let a = gaussian(14, 9, 5);
    let options = KrylovOptions { block: Some(2), ..Default::default() };
    let expected = krylov(a.as_ref(), 4, &options).unwrap();
    for view in Layouts::new(a.as_ref()).views() {
        let found = krylov(view, 4, &options).unwrap();
        assert!(distance(found.reconstruct().as_ref(), expected.reconstruct().as_ref()) <= 1e-10);
    }
    for column in expected.u.col_iter() {
        assert!(column.iter().copied().max_by(|x, y| x.abs().total_cmp(&y.abs())).unwrap() > 0.0);
    }
    for scale in [1e-300, 1e-150, 1e150, 1e300] {
        let b = Mat::from_fn(14, 9, |i, j| a[(i, j)] * scale);
        let found = krylov(b.as_ref(), 4, &options).unwrap();
        for (x, y) in found.singular_values.iter().zip(&expected.singular_values) {
            close(x / scale, *y, 1e-10);
        }
        close(found.info.residual / scale, expected.info.residual, 1e-10);
        let found = to_tolerance(b.as_ref(), 0.5, &options).unwrap();
        at_most(found.info.residual / scale, 0.5 * found.info.norm / scale, 1e-12);
    }
}

#[test]
fn degenerate_and_bad_input() {
    let options = KrylovOptions::default();
    for (m, n) in [(0, 0), (0, 5), (5, 0), (1, 1), (4, 6)] {
        let zero = Mat::<f32>::zeros(m, n);
        let svd = krylov(zero.as_ref(), m.min(n), &options).unwrap();
        assert!(svd.singular_values.iter().all(|&value| value == 0.0));
        assert!(orthonormality(double(svd.u.as_ref()).as_ref()) < 1e-5 || svd.rank() == 0);
        assert_eq!(to_tolerance(zero.as_ref(), 0.1, &options).unwrap().rank(), 0);
        let max = m.min(n);
        let error = krylov(zero.as_ref(), max + 1, &options).unwrap_err();
        assert_eq!(error, Error::RankOutOfRange { rank: max + 1, max });
    }
    let one = [-3.0f32];
    let svd = krylov(MatRef::from_row_major_slice(&one, 1, 1), 1, &options).unwrap();
    assert_eq!((svd.u[(0, 0)], svd.singular_values[0], svd.v[(0, 0)]), (1.0, 3.0, -1.0));
    let mut a = Mat::<f64>::from_fn(6, 40, |i, j| 1.0 + i as f64 - j as f64);
    for tolerance in [-0.1, f64::NAN, f64::NEG_INFINITY] {
        assert!(matches!(to_tolerance(a.as_ref(), tolerance, &options), Err(Error::InvalidOption { .. })));
    }
    assert_eq!(to_tolerance(a.as_ref(), f64::INFINITY, &options).unwrap().rank(), 0);
    assert_eq!(to_tolerance(a.as_ref(), 1e-10, &options).unwrap().rank(), 2);
    assert_eq!(
        to_tolerance(a.as_ref(), 0.0, &KrylovOptions { basis: Some(1), ..options }).unwrap().rank(),
        1
    );
    for bad in [f64::NAN, f64::INFINITY] {
        a[(2, 33)] = bad;
        let expected = Error::NonFinite { what: "matrix", row: 2, col: 33 };
        assert_eq!(krylov(a.as_ref(), 2, &options).unwrap_err(), expected);
        assert_eq!(to_tolerance(a.as_ref(), 0.1, &options).unwrap_err(), expected);
    }
}
