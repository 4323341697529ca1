//! Every decomposition on the same bad inputs: empty, of one row or entry, zero, of low rank, with repeated singular values,
//! NaN and infinities, entries of 1e±150, ranks up to two above the smaller side. What comes out is right or a typed error
//! that names the first bad entry; and the same bits on any number of threads.

use proptest::prelude::*;
use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_linalg::grassmann::{GrassmannClasses, orthonormalize, principal_angles};
use rankbit_linalg::lasso::{LassoOptions, lambda_max, lasso, relevance};
use rankbit_linalg::special::VonMisesFisher;
use rankbit_linalg::tucker::{Tensor, TuckerGoal, TuckerOptions, TuckerStart, decompose};
use rankbit_linalg::{
    Error, KrylovOptions, LduOptions, Method, Metric, MomentKinds, Moments, Pivoting, RandomizedOptions,
    RobustOptions, Shrinkage, Sketch, StreamingSvd, krylov, ldu, randomized, robust_pca, to_tolerance,
    truncated, weighted, weighted_both,
};

use crate::support::{distance, gaussian, norm, oracle_values, orthonormality, single, tail, with_spectrum};

/// A matrix, what it was multiplied by, its first entry that is not finite, and a rank.
#[derive(Debug, Clone)]
struct Hostile {
    a: Mat<f64>,
    scale: f64,
    bad: Option<(usize, usize)>,
    rank: usize,
}

impl Hostile {
    fn side(&self) -> usize {
        self.a.nrows().min(self.a.ncols())
    }

    /// Over the scale.
    fn plain(&self, a: MatRef<'_, f64>) -> Mat<f64> {
        Mat::from_fn(a.nrows(), a.ncols(), |i, j| a[(i, j)] / self.scale)
    }
}

fn hostile() -> impl Strategy<Value = Hostile> {
    let side = || prop_oneof![1 => Just(0usize), 1 => Just(1usize), 4 => 2usize..12];
    let scale = prop_oneof![2 => Just(1.0), 1 => Just(1e150), 1 => Just(1e-150)];
    let bad = prop_oneof![2 => Just(None), 1 => (any::<[usize; 4]>(), 0..3usize).prop_map(Some)];
    (side(), side(), 0..5usize, scale, bad, any::<(u64, usize)>()).prop_map(
        |(m, n, kind, scale, bad, (seed, pick))| {
            let side = m.min(n);
            let values: Vec<f64> = match kind {
                0 => Vec::new(),
                1 => (0..side.div_ceil(2)).map(|i| 0.5f64.powi(i32::try_from(i).unwrap())).collect(),
                2 => vec![1.0; side],
                3 => (0..side).map(|i| 1.0 / (1 + i / 3) as f64).collect(),
                _ => (0..side).map(|i| 1.0 / (1 + i) as f64).collect(),
            };
            let plain = if values.is_empty() { Mat::zeros(m, n) } else { with_spectrum(m, n, &values, seed) };
            let mut a = Mat::from_fn(m, n, |i, j| plain[(i, j)] * scale);
            let mut first = None;
            if let (Some((at, which)), true) = (bad, side > 0) {
                let (row, col) = (at[0] % m, at[1] % n);
                // Another one, later by rows and by columns.
                a[(row + at[2] % (m - row), col + at[3] % (n - col))] = f64::NAN;
                a[(row, col)] = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY][which];
                first = Some((row, col));
            }
            Hostile { a, scale, bad: first, rank: pick % (side + 3) }
        },
    )
}

type Decomposition = fn(MatRef<'_, f64>, usize) -> Result<Mat<f64>, Error>;

fn sketched(sketch: Sketch, a: MatRef<'_, f64>, rank: usize) -> Result<Mat<f64>, Error> {
    Ok(randomized(a, rank, &RandomizedOptions { sketch, ..Default::default() })?.reconstruct())
}

fn in_a_space(sketch: Sketch, a: MatRef<'_, f64>, rank: usize) -> Result<Mat<f64>, Error> {
    Ok(krylov(a, rank, &KrylovOptions { sketch, ..Default::default() })?.reconstruct())
}

fn root(metric: &Metric) -> Result<rankbit_linalg::MetricRoot, Error> {
    metric.root(0.0)
}

/// A as blocks of rows, then projected.
fn streamed(a: MatRef<'_, f64>, rank: usize) -> Result<Mat<f64>, Error> {
    let mut stream = StreamingSvd::new(a.ncols(), a.ncols().max(1))?;
    stream.push(a)?;
    let v = stream.finish::<f64>(rank)?.v;
    let seen = Mat::from_fn(a.nrows(), a.ncols(), |i, j| a[(i, j)]);
    Ok(crate::support::mat(
        &(crate::support::oracle(seen.as_ref())
            * crate::support::oracle(v.as_ref())
            * crate::support::oracle(v.as_ref()).transpose()),
    ))
}

/// The last row appended to the decomposition of those before.
fn updated(a: MatRef<'_, f64>, rank: usize) -> Result<Mat<f64>, Error> {
    let first = a.nrows() / 2;
    let start = truncated(a.subrows(0, first), first.min(a.ncols()))?;
    Ok(start.append_rows(a.subrows(first, a.nrows() - first), rank)?.reconstruct())
}

/// Those that are the best of their rank where they see everything.
const BEST: [(&str, Decomposition); 11] = [
    ("truncated", |a, rank| Ok(truncated(a, rank)?.reconstruct())),
    ("randomized, Gaussian", |a, rank| sketched(Sketch::Gaussian, a, rank)),
    ("randomized, sparse signs", |a, rank| sketched(Sketch::SparseSign, a, rank)),
    ("randomized, Hadamard", |a, rank| sketched(Sketch::Hadamard, a, rank)),
    ("krylov, Gaussian", |a, rank| in_a_space(Sketch::Gaussian, a, rank)),
    ("krylov, sparse signs", |a, rank| in_a_space(Sketch::SparseSign, a, rank)),
    ("krylov, Hadamard", |a, rank| in_a_space(Sketch::Hadamard, a, rank)),
    ("weighted", |a, rank| {
        let metric = Metric::diagonal(vec![0.25; a.ncols()])?;
        Ok(weighted(a, rank, &root(&metric)?, &Method::default())?.product())
    }),
    ("weighted_both", |a, rank| {
        let (left, right) = (Metric::diagonal(vec![4.0; a.nrows()])?, Metric::identity());
        Ok(weighted_both(a, rank, &root(&left)?, &root(&right)?, &Method::default())?.product())
    }),
    ("streamed", streamed),
    ("updated", updated),
];

const ELIMINATED: [(&str, Decomposition); 3] = [
    ("ldu, partial", |a, rank| eliminated(Pivoting::Partial, a, rank)),
    ("ldu, rook", |a, rank| eliminated(Pivoting::Rook, a, rank)),
    ("ldu, complete", |a, rank| eliminated(Pivoting::Complete, a, rank)),
];

fn eliminated(pivoting: Pivoting, a: MatRef<'_, f64>, rank: usize) -> Result<Mat<f64>, Error> {
    Ok(ldu(a, &LduOptions { pivoting, rank: Some(rank) })?.reconstruct())
}

/// The error names the entry.
fn names(error: &Error, (row, col): (usize, usize)) -> bool {
    matches!(error, Error::NonFinite { row: r, col: c, .. } if (*r, *c) == (row, col))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// The error of each is the tail of the spectrum, or what was wrong is said.
    #[test]
    fn decompositions(input in hostile()) {
        let (a, side) = (input.a.as_ref(), input.side());
        for (name, run) in BEST.iter().chain(&ELIMINATED) {
            let found = run(a, input.rank);
            match (input.bad, input.rank > side) {
                // An update looks at its two parts in turn, each by its own rows.
                (Some(_), false) if *name == "updated" => {
                    prop_assert!(matches!(found, Err(Error::NonFinite { .. })), "{}", name);
                }
                (Some(bad), false) => {
                    let error = found.expect_err(name);
                    prop_assert!(names(&error, bad), "{}: {} for {:?}", name, error, bad);
                }
                (Some(_), true) => prop_assert!(found.is_err(), "{}", name),
                (None, true) => {
                    let expected = Error::RankOutOfRange { rank: input.rank, max: side };
                    prop_assert_eq!(found.expect_err(name), expected, "{}", name);
                }
                (None, false) => {
                    let plain = input.plain(a);
                    let least = tail(&oracle_values(plain.as_ref()), input.rank);
                    let left = distance(plain.as_ref(), input.plain(found.expect(name).as_ref()).as_ref());
                    if name.starts_with("ldu") {
                        prop_assert!(left >= least - 1e-9 && left <= 100.0 * (1.0 + norm(plain.as_ref())), "{}", name);
                        prop_assert!(input.rank < side || left <= 1e-9, "{}: {}", name, left);
                    } else {
                        prop_assert!((left - least).abs() <= 1e-9, "{}: {} for {}", name, left, least);
                    }
                }
            }
        }
    }

    /// To a tolerance, and Tucker over both modes by either start.
    #[test]
    fn tolerances_and_modes(input in hostile(), tolerance in prop_oneof![Just(0.0), 1e-9..1.0f64]) {
        let a = input.a.as_ref();
        let (m, n) = a.shape();
        let size = norm(input.plain(a).as_ref());
        let found = to_tolerance(a, tolerance, &KrylovOptions::default());
        match input.bad {
            Some(bad) => prop_assert!(names(&found.expect_err("not finite"), bad)),
            None => {
                let again = input.plain(found.expect("a decomposition").reconstruct().as_ref());
                prop_assert!(distance(again.as_ref(), input.plain(a).as_ref()) <= tolerance * size + 1e-9);
            }
        }
        let rows: Vec<f64> = (0..m * n).map(|at| a[(at / n, at % n)]).collect();
        let tensor = Tensor::new(&[m, n], &rows);
        if input.bad.is_some() {
            prop_assert!(matches!(tensor, Err(Error::NonFinite { .. })), "accepted");
            return Ok(());
        }
        let tensor = tensor.expect("a tensor");
        for start in [TuckerStart::SequentiallyTruncated, TuckerStart::Hosvd] {
            let options = TuckerOptions { start, ..Default::default() };
            let goal = TuckerGoal::Tolerance { tolerance, modes: &[0, 1] };
            let found = decompose(&tensor, goal, &options).expect("a decomposition");
            prop_assert!(found.relative_error <= tolerance + 1e-7);
            let ranks = [Some(input.rank); 2];
            let found = decompose(&tensor, TuckerGoal::Ranks(&ranks), &options);
            if input.rank > input.side() || (input.rank == 0 && m * n > 0) {
                prop_assert!(found.is_err());
            } else if m * n > 0 {
                let left = found.expect("a decomposition").relative_error * size;
                let least = tail(&oracle_values(input.plain(a).as_ref()), input.rank);
                prop_assert!((left - least).abs() <= 1e-6, "{} for {}", left, least);
            }
        }
    }

    /// The Lasso in all its variants and relevance on top: finite, with a gap that is a gap.
    #[test]
    fn sparse_solutions(input in hostile(), non_negative: bool, weighted: bool) {
        let x = input.a.as_ref();
        let y: Vec<f64> = (0..x.nrows()).map(|i| 1.0 + (i % 3) as f64).collect();
        let weights = weighted.then(|| (0..x.ncols()).map(|j| 0.5 + (j % 4) as f64).collect());
        let options = LassoOptions { non_negative, weights, ..LassoOptions::default() };
        let largest = lambda_max(x, &y, &options);
        if let Some(bad) = input.bad {
            prop_assert!(names(&largest.expect_err("not finite"), bad));
            prop_assert!(names(&lasso(x, &y, 1.0, &options).expect_err("not finite"), bad));
            prop_assert!(names(&relevance(x, &y, 0.1, &options).expect_err("not finite"), bad));
            return Ok(());
        }
        let largest = largest.expect("a number");
        let lambda = if largest > 0.0 { 0.1 * largest } else { 1.0 };
        let solution = lasso(x, &y, lambda, &options).expect("a solution");
        prop_assert!(solution.coefficients.iter().all(|b| b.is_finite() && !(non_negative && *b < 0.0)));
        prop_assert!(solution.gap >= 0.0 && solution.converged);
        prop_assert!(largest > 0.0 || solution.coefficients.iter().all(|b| *b == 0.0));
        let found = relevance(x, &y, 0.1, &options).expect("weights");
        prop_assert!(found.norm.is_finite() && found.weights.len() == x.ncols());
    }

    /// Subspaces, classes, directions: a basis of anything is orthonormal, logits and fits are finite.
    #[test]
    fn subspaces(input in hostile()) {
        let a = input.a.as_ref();
        let (m, n) = a.shape();
        let basis = orthonormalize(a);
        let classes = GrassmannClasses::<f64>::new(3, n.max(1), 1, 25.0, 1).expect("classes");
        let fitted = VonMisesFisher::fit(a);
        if let Some(bad) = input.bad {
            if m >= n {
                prop_assert!(names(&basis.expect_err("not finite"), bad));
            }
            prop_assert!(names(&classes.logits(a).expect_err("not finite"), bad));
            prop_assert!(n < 2 || names(&fitted.expect_err("not finite"), bad));
            return Ok(());
        }
        if m < n {
            prop_assert_eq!(basis.expect_err("too wide"), Error::RankOutOfRange { rank: n, max: m });
        } else {
            let basis = basis.expect("a basis");
            prop_assert!(n == 0 || orthonormality(basis.as_ref()) <= 1e-12);
            let angles = principal_angles(basis.as_ref(), basis.as_ref()).expect("angles");
            prop_assert!(angles.iter().all(|angle| *angle <= 1e-7));
        }
        if n > 0 {
            let logits = classes.logits(a).expect("logits");
            prop_assert!((0..m).all(|i| (0..3).all(|c| logits[(i, c)].is_finite())));
        }
        prop_assert!(fitted.map_or(true, |fitted| fitted.concentration().is_finite()));
    }

    /// Moments of such activations, their shrinkage and roots; robust principal components.
    #[test]
    fn statistics(input in hostile()) {
        let a = input.a.as_ref();
        let (m, n) = a.shape();
        let robust = robust_pca(a, &RobustOptions::default());
        match input.bad {
            Some(bad) => prop_assert!(names(&robust.expect_err("not finite"), bad)),
            None => match robust {
                Ok(found) => prop_assert!(found.residual <= 1e-6),
                Err(error) => prop_assert!(matches!(error, Error::NoConvergence { .. }), "{}", error),
            },
        }
        // In f32 the same at 1e±15.
        let factor = if input.scale > 1.0 { 1e15 } else if input.scale < 1.0 { 1e-15 } else { 1.0 };
        let x = single(Mat::from_fn(m, n, |i, j| a[(i, j)] / input.scale * factor).as_ref());
        let mut moments = Moments::new(n, MomentKinds { gram: true, sample: 2 }).compensated();
        let updated = moments.update(x.as_ref());
        if let Some(bad) = input.bad {
            prop_assert!(names(&updated.expect_err("not finite"), bad));
            return Ok(());
        }
        updated.expect("finite activations");
        for shrinkage in [Shrinkage::None, Shrinkage::LedoitWolf, Shrinkage::OracleApproximating] {
            if let Ok(shrunk) = moments.shrunk(shrinkage) {
                prop_assert!((0.0..=1.0).contains(&shrunk.weight), "{}", shrunk.weight);
                let root = Metric::gram(shrunk.gram).expect("a form").root(0.0).expect("a root");
                let e = root.apply(Mat::<f64>::identity(n, n).as_ref()).expect("finite");
                prop_assert!(e.shape() == (n, n));
            } else {
                prop_assert!(m == 0 || n == 0);
            }
        }
    }
}

/// 1, 2 and 7 threads at once, all decompositions.
#[test]
fn the_same_bits_on_any_number_of_threads() {
    let a = gaussian(90, 110, 3);
    for (name, run) in BEST.iter().chain(&ELIMINATED) {
        let expected = run(a.as_ref(), 9).expect(name);
        for threads in [1, 2, 7] {
            std::thread::scope(|scope| {
                let running: Vec<_> = (0..threads).map(|_| scope.spawn(|| run(a.as_ref(), 9))).collect();
                for thread in running {
                    assert_eq!(thread.join().expect("it runs").expect(name), expected, "{name}");
                }
            });
        }
    }
}
