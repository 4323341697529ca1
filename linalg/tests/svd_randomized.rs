//! The randomized decomposition.

use crate::support::*;
use proptest::prelude::*;
use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_linalg::{Error, KrylovOptions, RandomizedOptions, Sketch, Svd, SvdMethod, krylov, randomized};

fn options(oversampling: usize, power_iterations: usize, seed: u64) -> RandomizedOptions {
    RandomizedOptions { oversampling, power_iterations, seed, ..Default::default() }
}

/// A slowly decaying spectrum, the hard case: 1, 1/√2, 1/√3, …
fn slow(count: usize) -> Vec<f64> {
    (1..=count).map(|i| 1.0 / (i as f64).sqrt()).collect()
}

fn same_bits<T: PartialEq>(a: &Svd<T>, b: &Svd<T>) -> bool {
    a.u == b.u && a.singular_values == b.singular_values && a.v == b.v && a.info == b.info
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Orthonormal factors; never better than Eckart and Young's optimum; singular values never above the true
    /// ones; the stated residual is the real one.
    #[test]
    fn optimal_at_best_and_honest(
        (a, rank) in matrix_and_rank(), p in 0usize..6, q in 0usize..3, seed in any::<u64>(),
    ) {
        let svd = randomized(a.as_ref(), rank, &options(p, q, seed)).unwrap();
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
        prop_assert!(svd.singular_values.windows(2).all(|pair| pair[0] >= pair[1]));
    }

    /// A matrix whose rank the sketch covers is recovered to rounding.
    #[test]
    fn exact_when_the_sketch_covers_the_rank(
        m in 1usize..40, n in 1usize..40, k in 0usize..6, p in 0usize..5, q in 0usize..3, seed in any::<u64>(),
    ) {
        let covered = (k + p).min(m).min(n);
        let values: Vec<f64> = (0..covered).map(|i| 2.0 / (1.0 + i as f64)).collect();
        let a = with_spectrum(m, n, &values, seed);
        let rank = k.min(m).min(n);
        let svd = randomized(a.as_ref(), rank, &options(p, q, seed ^ 1)).unwrap();
        close(svd.info.residual, tail(&values, rank), 1e-10);
        close(distance(a.as_ref(), svd.reconstruct().as_ref()), tail(&values, rank), 1e-10);
    }

    /// Strides do not matter, and Aᵀ is decomposed as A is.
    #[test]
    fn strides_and_transposition(m in 1usize..20, n in 1usize..20, seed in any::<u64>()) {
        let a = gaussian(m, n, seed);
        let rank = m.min(n).div_ceil(3);
        let options = options(3, 1, seed);
        let expected = randomized(a.as_ref(), rank, &options).unwrap();
        let layouts = Layouts::new(a.as_ref());
        for view in layouts.views() {
            let found = randomized(view, rank, &options).unwrap();
            prop_assert!(distance(found.reconstruct().as_ref(), expected.reconstruct().as_ref()) <= 1e-10);
            if m != n {
                let turned = randomized(view.transpose(), rank, &options).unwrap();
                prop_assert!(distance(turned.reconstruct().transpose(), expected.reconstruct().as_ref()) <= 1e-10);
            }
        }
    }
}

/// Halko, Martinsson and Tropp, theorem 10.5, with the truncation to rank k: the mean over sketches stays below
/// (2 + k/(p − 1))·Σⱼ₌ₖ₊₁ σⱼ², and power iterations improve it.
#[test]
fn expectation_bound_and_power_iterations() {
    const SEEDS: u64 = 40;
    for (m, n, k, p) in [(60, 40, 5, 3), (40, 60, 8, 2), (50, 50, 2, 6)] {
        let values = slow(m.min(n));
        let a = with_spectrum(m, n, &values, 17);
        let optimum = tail(&values, k).powi(2);
        let bound = (2.0 + k as f64 / (p as f64 - 1.0)) * optimum;
        let mean = |q: usize| {
            let squares = (0..SEEDS).map(|seed| {
                let svd = randomized(a.as_ref(), k, &options(p, q, seed)).unwrap();
                distance(a.as_ref(), svd.reconstruct().as_ref()).powi(2)
            });
            squares.sum::<f64>() / SEEDS as f64
        };
        let (none, one, two) = (mean(0), mean(1), mean(2));
        at_most(none, bound, 0.0);
        assert!(one < none && two < one, "power iterations must help: {none} {one} {two}");
        // Each power iteration separates the spectrum: with two the excess is small.
        at_most(two, 1.05 * optimum, 0.0);
        at_most(optimum, two, 1e-12);
    }
}

/// The sketch is what brings the error near the optimum: with a gap in the spectrum it must be found.
#[test]
fn finds_a_dominant_subspace_in_single_precision() {
    let mut values = vec![1.0; 8];
    values.extend(vec![1e-2; 92]);
    let a = single(with_spectrum(100, 300, &values, 3).as_ref());
    let exact = double(a.as_ref());
    let svd = randomized(a.as_ref(), 8, &RandomizedOptions::default()).unwrap();
    close(distance(double(svd.reconstruct().as_ref()).as_ref(), exact.as_ref()), tail(&values, 8), 1e-6);
    close(svd.info.residual, tail(&values, 8), 1e-5);
    assert!(orthonormality(double(svd.u.as_ref()).as_ref()) < 1e-5);
    assert!(orthonormality(double(svd.v.as_ref()).as_ref()) < 1e-5);
    assert_eq!(svd.info.method, SvdMethod::Randomized);
    assert_eq!((svd.info.oversampling, svd.info.power_iterations), (10, 2));
}

/// A spectrum that spans the whole range of f32: the basis of the sketch is then numerically dependent.
#[test]
fn steep_spectrum_keeps_orthonormal_factors() {
    let values: Vec<f64> = (0..30).map(|i| 0.1f64.powi(i)).collect();
    let a = single(with_spectrum(64, 48, &values, 5).as_ref());
    let svd = randomized(a.as_ref(), 20, &RandomizedOptions::default()).unwrap();
    assert!(orthonormality(double(svd.u.as_ref()).as_ref()) < 1e-5);
    assert!(orthonormality(double(svd.v.as_ref()).as_ref()) < 1e-5);
    for (found, exact) in svd.singular_values.iter().zip(&values) {
        close(f64::from(*found), *exact, 1e-6);
    }
    at_most(svd.info.residual, 0.0, 1e-6);
}

/// Same seed, same bits, on whatever thread; another seed, other bits.
#[test]
fn deterministic_on_any_thread() {
    let a = single(gaussian(70, 130, 9).as_ref());
    let run = |seed| randomized(a.as_ref(), 7, &options(5, 2, seed)).unwrap();
    let expected = run(1);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(|| run(1))).collect();
        for thread in threads {
            assert!(same_bits(&thread.join().unwrap(), &expected));
        }
    });
    assert!(!same_bits(&run(2), &expected));
}

/// The largest entry of each left vector is positive.
#[test]
fn sign_convention() {
    for (m, n) in [(30, 20), (20, 30)] {
        let svd = randomized(gaussian(m, n, 4).as_ref(), 6, &RandomizedOptions::default()).unwrap();
        for column in svd.u.col_iter() {
            let largest = column.iter().copied().max_by(|x, y| x.abs().total_cmp(&y.abs())).unwrap();
            assert!(largest > 0.0);
        }
    }
}

/// Scales near the ends of f32's range change nothing but the scale.
#[test]
fn extreme_scales() {
    let base = gaussian(24, 36, 8);
    let options = RandomizedOptions::default();
    let reference = randomized(single(base.as_ref()).as_ref(), 4, &options).unwrap();
    for scale in [1e-38, 1e-30, 1e30, 3e36] {
        let a = single(Mat::from_fn(24, 36, |i, j| base[(i, j)] * scale).as_ref());
        let svd = randomized(a.as_ref(), 4, &options).unwrap();
        for (found, expected) in svd.singular_values.iter().zip(&reference.singular_values) {
            close(f64::from(*found) / scale, f64::from(*expected), 1e-4);
        }
        close(svd.info.residual / scale, reference.info.residual, 1e-4);
        let product = double(svd.balanced().product().as_ref());
        let expected = double(reference.reconstruct().as_ref());
        let rescaled = Mat::from_fn(24, 36, |i, j| product[(i, j)] / scale);
        assert!(distance(rescaled.as_ref(), expected.as_ref()) < 1e-4);
    }
    let a = Mat::from_fn(9, 7, |i, j| base[(i, j)] * 1e300);
    let svd = randomized(a.as_ref(), 3, &options).unwrap();
    close(svd.info.residual / 1e300, tail(&oracle_values(base.as_ref().submatrix(0, 0, 9, 7)), 3), 1e-10);
    // Its singular values do not fit f32: an error, not an infinity.
    let full = Mat::<f32>::from_fn(40, 40, |_, _| f32::MAX);
    assert_eq!(
        randomized(full.as_ref(), 2, &options).unwrap_err(),
        Error::NonFinite { what: "singular values", row: 0, col: 0 }
    );
}

#[test]
fn degenerate_shapes() {
    let options = RandomizedOptions::default();
    for (m, n) in [(0, 0), (0, 5), (5, 0)] {
        let svd = randomized(Mat::<f32>::zeros(m, n).as_ref(), 0, &options).unwrap();
        assert_eq!((svd.u.shape(), svd.v.shape(), svd.info.residual), ((m, 0), (n, 0), 0.0));
        assert_eq!(svd.reconstruct().shape(), (m, n));
        let error = randomized(Mat::<f32>::zeros(m, n).as_ref(), 1, &options).unwrap_err();
        assert_eq!(error, Error::RankOutOfRange { rank: 1, max: 0 });
    }
    let svd = randomized(MatRef::from_row_major_slice(&[-3.0f32], 1, 1), 1, &options).unwrap();
    assert_eq!((svd.u[(0, 0)], svd.singular_values[0], svd.v[(0, 0)]), (1.0, 3.0, -1.0));
    let svd = randomized(MatRef::from_row_major_slice(&[3.0f64, 4.0], 1, 2), 0, &options).unwrap();
    assert_eq!((svd.rank(), svd.info.residual), (0, 5.0));
    let svd = randomized(Mat::<f64>::zeros(6, 4).as_ref(), 3, &options).unwrap();
    assert_eq!(svd.singular_values, [0.0; 3]);
    assert!(orthonormality(svd.u.as_ref()) < 1e-12 && orthonormality(svd.v.as_ref()) < 1e-12);
    let a = gaussian(5, 4, 1);
    let svd = randomized(a.as_ref(), 4, &RandomizedOptions { oversampling: usize::MAX, ..options }).unwrap();
    assert!(distance(a.as_ref(), svd.reconstruct().as_ref()) < 1e-12);
    let same = vec![2.5f64; 12];
    let svd = randomized(MatRef::from_row_major_slice(&same, 3, 4), 3, &options).unwrap();
    close(svd.singular_values[0], 2.5 * 12f64.sqrt(), 1e-12);
}

#[test]
fn bad_input_is_named() {
    let options = RandomizedOptions::default();
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for (row, col) in [(0, 0), (2, 33), (5, 39), (4, 16)] {
            let mut a = Mat::<f32>::from_fn(6, 40, |i, j| 1.0 + i as f32 - j as f32);
            a[(row, col)] = bad;
            let expected = Error::NonFinite { what: "matrix", row, col };
            let by_rows: Vec<f32> = (0..240).map(|at| a[(at / 40, at % 40)]).collect();
            assert_eq!(randomized(a.as_ref(), 2, &options).unwrap_err(), expected);
            let view = MatRef::from_row_major_slice(&by_rows, 6, 40);
            assert_eq!(randomized(view, 2, &options).unwrap_err(), expected);
            let view = a.as_ref().reverse_rows_and_cols();
            let expected = Error::NonFinite { what: "matrix", row: 5 - row, col: 39 - col };
            assert_eq!(randomized(view, 2, &options).unwrap_err(), expected);
        }
    }
    let a = gaussian(6, 4, 1);
    let error = randomized(a.as_ref(), 5, &options).unwrap_err();
    assert_eq!(error, Error::RankOutOfRange { rank: 5, max: 4 });
    assert_eq!(error.to_string(), "rank 5 exceeds the smaller side of the matrix, 4");
}

/// A matrix of half-precision numbers in a safetensors file.
fn stored(bytes: &[u8], name: &str) -> Mat<f32> {
    let (length, rest) = bytes.split_first_chunk::<8>().unwrap();
    let (header, data) = rest.split_at(usize::try_from(u64::from_le_bytes(*length)).unwrap());
    let header: serde_json::Value = serde_json::from_slice(header).unwrap();
    let entry = &header[name];
    let number = |value: &serde_json::Value| usize::try_from(value.as_u64().unwrap()).unwrap();
    let (m, n) = (number(&entry["shape"][0]), number(&entry["shape"][1]));
    let start = number(&entry["data_offsets"][0]);
    let half = |at: usize| {
        let bits = u16::from_le_bytes([data[start + 2 * at], data[start + 2 * at + 1]]);
        let (sign, exponent) = (if bits >> 15 == 1 { -1.0 } else { 1.0 }, i32::from(bits >> 10 & 31));
        let fraction = f32::from(bits & 1023) / 1024.0;
        let (whole, power) = if exponent == 0 { (0.0, -14) } else { (1.0, exponent - 15) };
        sign * (whole + fraction) * 2f32.powi(power)
    };
    Mat::from_fn(m, n, |i, j| half(i * n + j))
}

/// Within 1 % of the least error on trained weights, at two power iterations and a sketch of twice the rank, for every
/// sketch and rank; a block Krylov space by its default options within 0.3 %.
#[test]
fn near_the_least_error_on_real_weights() {
    let bytes = include_bytes!("../../cli/assets/demo.safetensors");
    for name in ["encoder.layer.0.attention.self.query.weight", "encoder.layer.2.intermediate.dense.weight"] {
        let a = stored(bytes, name);
        let values = rankbit_linalg::singular_values(a.as_ref()).unwrap();
        let values: Vec<f64> = values.into_iter().map(f64::from).collect();
        for rank in [8, 32, 64] {
            let least = tail(&values, rank);
            for sketch in [Sketch::Gaussian, Sketch::SparseSign, Sketch::Hadamard] {
                let options = RandomizedOptions { oversampling: rank, power_iterations: 2, sketch, seed: 0 };
                let svd = randomized(a.as_ref(), rank, &options).unwrap();
                at_most(svd.info.residual, 1.01 * least, 0.0);
                at_most(least, svd.info.residual, 1e-4 * least);
                let svd = krylov(a.as_ref(), rank, &KrylovOptions { sketch, ..Default::default() }).unwrap();
                at_most(svd.info.residual, 1.003 * least, 0.0);
            }
        }
    }
}
