//! Streamed calibration statistics.

use crate::support::*;
use proptest::prelude::*;
use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_linalg::{ColumnMetric, Error, Metric, MomentKinds, MomentParts, Moments, RootMethod, Shrinkage};

const ALL: MomentKinds = MomentKinds { gram: true, sample: 5 };

fn collect(x: MatRef<'_, f32>, chunks: &[usize]) -> Moments {
    let mut moments = Moments::new(x.ncols(), ALL);
    let mut start = 0;
    for &rows in chunks.iter().chain([&usize::MAX]) {
        let rows = rows.min(x.nrows() - start);
        moments.update(x.subrows(start, rows)).unwrap();
        start += rows;
    }
    moments
}

fn assert_same(one: &Moments, two: &Moments, tolerance: f64) {
    assert_eq!(one.tokens(), two.tokens());
    assert_eq!(one.absmax().unwrap(), two.absmax().unwrap());
    assert!(distance(one.gram().unwrap(), two.gram().unwrap()) <= tolerance);
    let pairs = [
        (one.second_moment().unwrap(), two.second_moment().unwrap()),
        (one.mean_abs().unwrap().to_vec(), two.mean_abs().unwrap().to_vec()),
        (one.mean().unwrap().to_vec(), two.mean().unwrap().to_vec()),
    ];
    for (one, two) in pairs {
        for (x, y) in one.iter().zip(&two) {
            close(*x, *y, tolerance);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Every moment is its definition (by nalgebra), in any layout.
    #[test]
    fn definitions(tokens in 1usize..600, n in 1usize..12, seed in any::<u64>()) {
        let x = single(gaussian(tokens, n, seed).as_ref());
        let wide = oracle(double(x.as_ref()).as_ref());
        let by_rows: Vec<f32> = (0..tokens * n).map(|at| x[(at / n, at % n)]).collect();
        for view in [x.as_ref(), MatRef::from_row_major_slice(&by_rows, tokens, n)] {
            let moments = collect(view, &[]);
            let gram = wide.transpose() * &wide / tokens as f64;
            prop_assert!(distance(moments.gram().unwrap(), mat(&gram).as_ref()) <= 1e-12 * (1.0 + gram.norm()));
            prop_assert!(moments.gram().unwrap() == moments.gram().unwrap().transpose());
            for j in 0..n {
                let column = wide.column(j);
                close(moments.second_moment().unwrap()[j], gram[(j, j)], 1e-12 * (1.0 + gram[(j, j)]));
                close(moments.mean().unwrap()[j], column.mean(), 1e-12);
                close(moments.mean_abs().unwrap()[j], column.abs().mean(), 1e-12);
                close(f64::from(moments.absmax().unwrap()[j]), column.amax(), 0.0);
            }
        }
    }

    /// Chunks do not matter, empty ones included; merging equals seeing both; the sample is the same rows.
    #[test]
    fn chunks_and_merging(
        tokens in 1usize..300, n in 1usize..8, seed in any::<u64>(), cuts in proptest::collection::vec(0usize..90, 0..6),
    ) {
        let x = single(gaussian(tokens, n, seed).as_ref());
        let whole = collect(x.as_ref(), &[]);
        let chunked = collect(x.as_ref(), &cuts);
        assert_same(&whole, &chunked, 1e-12);
        prop_assert!(whole.sample().unwrap() == chunked.sample().unwrap());
        let cut = cuts.first().copied().unwrap_or(0).min(tokens);
        let mut merged = collect(x.as_ref().subrows(0, cut), &[]);
        merged.merge(&collect(x.as_ref().subrows(cut, tokens - cut), &[])).unwrap();
        assert_same(&whole, &merged, 1e-12);
        let sample = merged.sample().unwrap();
        prop_assert_eq!(sample.nrows(), tokens.min(5));
        let rows: Vec<usize> = sample.row_iter().map(|row| {
            x.row_iter().position(|candidate| candidate == row).expect("a row of X")
        }).collect();
        let mut distinct = rows.clone();
        distinct.sort_unstable();
        distinct.dedup();
        prop_assert_eq!(distinct.len(), rows.len());
    }
}

/// X = [[1, -2], [3, 0]] by hand.
#[test]
fn by_hand() {
    let mut moments = Moments::new(2, ALL);
    moments.update(MatRef::from_row_major_slice(&[1.0, -2.0, 3.0, 0.0], 2, 2)).unwrap();
    assert_eq!((moments.tokens(), moments.in_features()), (2, 2));
    assert_eq!(moments.gram().unwrap(), Mat::from_fn(2, 2, |i, j| [[5.0, -1.0], [-1.0, 2.0]][i][j]));
    assert_eq!(moments.second_moment().unwrap(), [5.0, 2.0]);
    assert_eq!(moments.absmax().unwrap(), [3.0, 2.0]);
    assert_eq!(moments.mean_abs().unwrap(), [2.0, 1.0]);
    assert_eq!(moments.mean().unwrap(), [2.0, -1.0]);
    assert_eq!(moments.sample().unwrap().nrows(), 2);
}

/// Each of 20 rows is kept with probability 1/4, streamed or merged.
#[test]
fn samples_are_uniform() {
    const RUNS: usize = 4000;
    let x = Mat::<f32>::from_fn(20, 1, |i, _| i as f32);
    let mut streamed = Moments::new(1, ALL);
    let mut counts = [[0usize; 20]; 2];
    // One long stream gives many independent reservoirs: its generator goes on.
    let mut merged = Moments::new(1, ALL);
    for _ in 0..RUNS {
        let fresh = |used: &Moments| {
            let mut fresh = used.clone();
            fresh.reset();
            fresh
        };
        streamed = fresh(&streamed);
        streamed.update(x.as_ref()).unwrap();
        merged = fresh(&merged);
        merged.update(x.as_ref().subrows(0, 13)).unwrap();
        let mut rest = fresh(&streamed);
        rest.update(x.as_ref().subrows(13, 7)).unwrap();
        merged.merge(&rest).unwrap();
        for (counts, moments) in counts.iter_mut().zip([&streamed, &merged]) {
            for row in moments.sample().unwrap().row_iter() {
                let at = (0..20).position(|i| i as f32 == row[0]).expect("a row of X");
                counts[at] += 1;
            }
        }
    }
    for count in counts.into_iter().flatten() {
        // Six standard deviations of a binomial count.
        close(count as f64, RUNS as f64 / 4.0, 6.0 * (RUNS as f64 * 0.25 * 0.75).sqrt());
    }
}

/// The Gram matrix defines the metric, else the second moments do.
#[test]
fn metric_of_what_is_known() {
    let x = single(gaussian(30, 4, 1).as_ref());
    let moments = collect(x.as_ref(), &[]);
    let gram = moments.gram().unwrap().to_owned();
    assert_eq!(moments.metric().unwrap().columns, ColumnMetric::Gram(gram.clone()));
    let e = gaussian(3, 4, 2);
    let outputs = oracle(e.as_ref()) * oracle(double(x.as_ref()).as_ref()).transpose();
    let expected = outputs.norm_squared() / 30.0;
    close(moments.metric().unwrap().norm_squared(e.as_ref()).unwrap(), expected, 1e-11 * expected);

    let mut diagonal = Moments::new(4, MomentKinds::default());
    diagonal.update(x.as_ref()).unwrap();
    let metric = diagonal.metric().unwrap();
    assert_eq!(metric.columns, ColumnMetric::Diagonal(diagonal.second_moment().unwrap()));

    let parts = MomentParts { gram: Some(gram), row_weight: Some(vec![1.0, 2.0, 3.0]), ..Default::default() };
    let given = Moments::from_parts(4, parts).unwrap();
    assert_eq!(given.metric().unwrap().rows, Some(vec![1.0, 2.0, 3.0]));
    assert_eq!(given.row_weight(), Some(&[1.0, 2.0, 3.0][..]));
    assert_eq!(given.tokens(), 0);
    for (found, expected) in given.second_moment().unwrap().iter().zip(moments.second_moment().unwrap()) {
        close(*found, expected, 1e-12);
    }
}

/// What is stored comes back, and goes on where it stopped.
#[test]
fn parts_round_trip() {
    let x = single(gaussian(50, 3, 1).as_ref());
    let half = collect(x.as_ref().subrows(0, 20), &[]);
    let mut restored = Moments::from_parts(3, half.parts().clone()).unwrap();
    assert_same(&half, &restored, 0.0);
    restored.update(x.as_ref().subrows(20, 30)).unwrap();
    assert_same(&collect(x.as_ref(), &[]), &restored, 1e-12);
}

#[test]
fn missing_moments_are_named() {
    let none = Moments::from_parts(3, MomentParts::default()).unwrap();
    let missing = |name| Error::MissingMoment { name };
    assert_eq!(none.gram().unwrap_err(), missing("gram"));
    assert_eq!(none.second_moment().unwrap_err(), missing("second_moment"));
    assert_eq!(none.absmax().unwrap_err(), missing("absmax"));
    assert_eq!(none.mean_abs().unwrap_err(), missing("mean_abs"));
    assert_eq!(none.mean().unwrap_err(), missing("mean"));
    assert_eq!(none.sample().unwrap_err(), missing("sample"));
    assert_eq!(none.metric().unwrap_err(), missing("second_moment"));
    assert_eq!(none.clone().update(Mat::zeros(1, 3).as_ref()).unwrap_err(), missing("tokens"));
    assert_eq!(none.clone().merge(&none).unwrap_err(), missing("tokens"));
    let mut some = Moments::new(3, ALL);
    assert_eq!(some.merge(&Moments::new(3, MomentKinds::default())).unwrap_err(), missing("gram"));
    assert_eq!(some.tokens(), 0);
    assert_eq!(missing("gram").to_string(), "calibration moment `gram` is needed but missing");
}

#[test]
fn bad_input_changes_nothing() {
    let mut moments = collect(single(gaussian(9, 3, 1).as_ref()).as_ref(), &[]);
    let before = moments.clone();
    let mut x = Mat::<f32>::zeros(7, 3);
    x[(6, 1)] = f32::NAN;
    let error = moments.update(x.as_ref()).unwrap_err();
    assert_eq!(error, Error::NonFinite { what: "activations", row: 6, col: 1 });
    let error = moments.update(Mat::zeros(7, 2).as_ref()).unwrap_err();
    assert_eq!(error, Error::ShapeMismatch { what: "activations", expected: (7, 3), found: (7, 2) });
    let error = moments.merge(&Moments::new(4, ALL)).unwrap_err();
    assert_eq!(error, Error::ShapeMismatch { what: "moments", expected: (1, 3), found: (1, 4) });
    assert_same(&before, &moments, 0.0);
    let mut large = Moments::new(1, ALL);
    large.update(MatRef::from_row_major_slice(&[f32::MAX, -f32::MAX], 2, 1)).unwrap();
    assert_eq!(large.absmax().unwrap(), [f32::MAX]);
    close(large.second_moment().unwrap()[0] / f64::from(f32::MAX).powi(2), 1.0, 1e-15);
    assert_eq!(Moments::new(0, ALL).gram().unwrap().shape(), (0, 0));
}

#[test]
fn bad_parts_are_named() {
    let from = |parts| Moments::from_parts(2, parts).unwrap_err();
    let base = MomentParts::default;
    let shape = |what, found| Error::ShapeMismatch { what, expected: (1, 2), found };
    let what = "gram";
    let error = from(MomentParts { gram: Some(Mat::zeros(3, 3)), ..base() });
    assert_eq!(error, Error::ShapeMismatch { what, expected: (2, 2), found: (3, 3) });
    let error = from(MomentParts { second_moment: Some(vec![1.0]), ..base() });
    assert_eq!(error, shape("second_moment", (1, 1)));
    let error = from(MomentParts { absmax: Some(vec![1.0; 3]), ..base() });
    assert_eq!(error, shape("absmax", (1, 3)));
    let error = from(MomentParts { mean_abs: Some(vec![]), ..base() });
    assert_eq!(error, shape("mean_abs", (1, 0)));
    let error = from(MomentParts { mean: Some(vec![]), ..base() });
    assert_eq!(error, shape("mean", (1, 0)));
    let error = from(MomentParts { absmax: Some(vec![1.0, -1.0]), ..base() });
    assert!(matches!(error, Error::InvalidMetric { col: 1, .. }));
    let error = from(MomentParts { mean: Some(vec![0.0, f64::NAN]), ..base() });
    assert_eq!(error, Error::NonFinite { what: "mean", row: 0, col: 1 });
    let error = from(MomentParts { row_weight: Some(vec![1.0, f64::NAN]), ..base() });
    assert_eq!(error, Error::NonFinite { what: "row_weight", row: 1, col: 0 });
    let error = from(MomentParts { sample: Some(Mat::from_fn(1, 2, |_, _| f32::NAN)), ..base() });
    assert_eq!(error, Error::NonFinite { what: "sample", row: 0, col: 0 });
    let error = from(MomentParts { gram: Some(Mat::from_fn(2, 2, |i, j| i as f64 - j as f64)), ..base() });
    assert_eq!(error, Error::InvalidMetric { what: "Gram matrix not symmetric", row: 1, col: 0 });
}

/// A file may claim any number of tokens: counts saturate, they never wrap.
#[test]
fn token_counts_at_the_end_of_their_range() {
    let parts = MomentParts {
        tokens: Some(u64::MAX),
        mean: Some(vec![1.0, 2.0]),
        sample: Some(Mat::zeros(1, 2)),
        ..MomentParts::default()
    };
    let mut moments = Moments::from_parts(2, parts).unwrap();
    moments.update(single(gaussian(3, 2, 1).as_ref()).as_ref()).unwrap();
    moments.merge(&moments.clone()).unwrap();
    assert_eq!(moments.tokens(), u64::MAX);
    assert!(moments.mean().unwrap().iter().all(|mean| mean.is_finite()));
}

/// Sums of one row at a time lose nothing with compensation: every mean is the exact one to about a rounding, where plain
/// means drift.
#[test]
fn compensated_means_do_not_drift() {
    let (tokens, n) = (20_000, 3);
    let base = single(gaussian(tokens, n, 5).as_ref());
    // Integers, so that the exact sums are known.
    let x = Mat::from_fn(tokens, n, |i, j| (base[(i, j)] * 1000.0).round() + 77_777.0);
    let exact = |j: usize, k: usize| {
        #[expect(clippy::cast_possible_truncation, reason = "these are integers")]
        let term = |i: usize| i128::from(x[(i, j)] as i64) * i128::from(x[(i, k)] as i64);
        (0..tokens).map(term).sum::<i128>() as f64 / tokens as f64
    };
    let run = |mut moments: Moments| {
        for i in 0..tokens {
            moments.update(x.as_ref().subrows(i, 1)).unwrap();
        }
        moments
    };
    let kinds = MomentKinds { gram: true, sample: 0 };
    let worst = |moments: &Moments| {
        let entries = (0..n).flat_map(|j| (0..n).map(move |k| (j, k)));
        let errors = entries.map(|(j, k)| (moments.gram().unwrap()[(j, k)] / exact(j, k) - 1.0).abs());
        errors.fold(0.0, f64::max)
    };
    let plain = run(Moments::new(n, kinds));
    let compensated = run(Moments::new(n, kinds).compensated());
    at_most(worst(&compensated), 2.0 * f64::EPSILON, 0.0);
    assert!(worst(&plain) > worst(&compensated), "{} and {}", worst(&plain), worst(&compensated));
    assert_same(&plain, &compensated, 1e-12 * 77_777.0 * 77_777.0);
    // Merged halves are as good, and so is what follows a reset.
    let half = |from: usize, mut moments: Moments| {
        for start in (from..from + tokens / 2).step_by(7) {
            moments.update(x.as_ref().subrows(start, 7.min(from + tokens / 2 - start))).unwrap();
        }
        moments
    };
    let mut merged = half(0, Moments::new(n, kinds).compensated());
    merged.merge(&half(tokens / 2, Moments::new(n, kinds).compensated())).unwrap();
    at_most(worst(&merged), 2.0 * f64::EPSILON, 0.0);
    merged.reset();
    at_most(worst(&run(merged)), 2.0 * f64::EPSILON, 0.0);
}

/// scikit-learn 1.9.1 (`scripts/oracle/shrinkage.py`), and what the estimate promises.
#[test]
fn shrinkage_is_that_of_the_public_library() {
    let entry = |i: usize, j: usize| {
        ((i * 7 + j * 13) % 11) as f32 / 4.0 - 1.25 + ((i * i * 3 + j * j * 5) % 7) as f32 / 8.0
    };
    let cases = [
        (7, 4, 1.0, 0.844_866_071_428_571_4, 0.0),
        (40, 4, 0.571_074_108_767_991_5, 0.902_556_610_858_166_7, 0.099_859_309_052_452),
        (3, 6, 1.0, 0.820_312_5, 0.0),
    ];
    for (tokens, n, weight, diagonal, next) in cases {
        let x = Mat::from_fn(tokens, n, entry);
        for chunk in [1, 3, tokens] {
            let mut moments = Moments::new(n, ALL);
            for start in (0..tokens).step_by(chunk) {
                moments.update(x.as_ref().subrows(start, chunk.min(tokens - start))).unwrap();
            }
            let found = moments.shrunk(Shrinkage::LedoitWolf).unwrap();
            close(found.weight, weight, 1e-12);
            close(found.gram[(0, 0)], diagonal, 1e-12);
            close(found.gram[(1, 0)], next, 1e-12);
            let trace = |gram: MatRef<'_, f64>| (0..n).map(|j| gram[(j, j)]).sum::<f64>();
            close(trace(found.gram.as_ref()), trace(moments.gram().unwrap()), 1e-12);
            close(found.mean_diagonal * n as f64, trace(found.gram.as_ref()), 1e-12);
            assert_eq!(moments.shrunk(Shrinkage::None).unwrap().gram, moments.gram().unwrap());
            let whole = moments.shrunk(Shrinkage::Fixed(1.0)).unwrap().gram;
            close(whole[(1, 1)], found.mean_diagonal, 1e-15);
            assert!(whole[(1, 0)] == 0.0 && moments.shrunk(Shrinkage::Fixed(1.5)).is_err());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// ρ within 0 … 1, an honest trace, a condition number that never grows; fewer tokens than inputs get full rank.
    #[test]
    fn shrinkage_conditions(tokens in 1usize..40, n in 1usize..12, seed in any::<u64>(), scale in -18i32..18) {
        let factor = 10f32.powi(scale);
        let x = Mat::from_fn(tokens, n, { let g = single(gaussian(tokens, n, seed).as_ref()); move |i, j| g[(i, j)] * factor });
        let mut moments = Moments::new(n, ALL);
        moments.update(x.as_ref()).unwrap();
        let eigenvalues = |gram: MatRef<'_, f64>| {
            let values = oracle(gram).symmetric_eigenvalues();
            (values.min(), values.max())
        };
        let (least, largest) = eigenvalues(moments.gram().unwrap());
        for shrinkage in [Shrinkage::LedoitWolf, Shrinkage::OracleApproximating] {
            let found = moments.shrunk(shrinkage).unwrap();
            prop_assert!((0.0..=1.0).contains(&found.weight), "{}", found.weight);
            let (low, high) = eigenvalues(found.gram.as_ref());
            prop_assert!(low >= least - 1e-12 * largest && high <= largest * (1.0 + 1e-12));
            prop_assert!(low >= found.weight * found.mean_diagonal * 0.999 - 1e-12 * largest);
        }
        let parts = Moments::from_parts(n, moments.parts().clone()).unwrap();
        let missing = Error::MissingMoment { name: "fourth_moment" };
        prop_assert_eq!(parts.shrunk(Shrinkage::LedoitWolf).unwrap_err(), missing);
        prop_assert!(parts.shrunk(Shrinkage::OracleApproximating).is_ok());
        prop_assert!(Moments::new(n, ALL).shrunk(Shrinkage::LedoitWolf).is_err());
    }

    /// Both roots square to the Gram matrix and see the same rank; a singular one is handled by both.
    #[test]
    fn roots_by_eigen_and_by_cholesky(tokens in 1usize..20, n in 1usize..12, seed in any::<u64>(), damping in prop_oneof![Just(0.0), 0.01..1.0f64]) {
        let x = oracle(gaussian(tokens, n, seed).as_ref());
        let gram = x.transpose() * &x / tokens as f64;
        let metric = Metric::gram(mat(&gram)).unwrap();
        let identity = Mat::<f64>::identity(n, n);
        let damped = &gram + nalgebra::DMatrix::identity(n, n) * (damping * gram.trace() / n as f64);
        for method in [RootMethod::Cholesky, RootMethod::Eigen, RootMethod::Auto] {
            let root = metric.root_by(damping, method).unwrap();
            let s = oracle(root.apply(identity.as_ref()).unwrap().as_ref());
            let again = &s * s.transpose();
            prop_assert!((&again - &damped).amax() <= 1e-12 * (1.0 + damped.amax()), "{:?}", method);
            let rank = if damping > 0.0 { n } else { n.min(tokens) };
            // An almost square Gaussian matrix may be nearly singular.
            prop_assert!(tokens.abs_diff(n) < 3 || n - root.floored() == rank, "{:?}", method);
        }
    }
}

/// What rounding made indefinite is refused where only Cholesky may be used.
#[test]
fn an_indefinite_matrix_needs_the_eigen_root() {
    let gram =
        Mat::from_fn(
            3,
            3,
            |i, j| if i == j { 1.0 } else { 1.0 - 1e-9 - if i + j == 3 { 4e-9 } else { 0.0 } },
        );
    let metric = Metric::gram(gram).unwrap();
    assert!(matches!(metric.root_by(0.0, RootMethod::Cholesky), Err(Error::NotPositiveDefinite { .. })));
    assert!(metric.root_by(0.0, RootMethod::Eigen).unwrap().floored() >= 1);
    assert!(metric.root_by(0.01, RootMethod::Cholesky).is_ok());
}
