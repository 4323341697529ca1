//! Hutchinson's estimate.

use crate::support::gaussian;
use proptest::prelude::*;
use rankbit_linalg::Error;
use rankbit_linalg::faer::Mat;
use rankbit_linalg::trace::{TraceEstimate, TraceOptions, trace, trace_blocks};

/// A symmetric matrix, its trace, and the variance of one probe: 2·(‖H‖² − Σ Hᵢᵢ²).
fn symmetric(n: usize, seed: u64) -> (Mat<f64>, f64, f64) {
    let a = gaussian(n, n, seed);
    let h = Mat::from_fn(n, n, |i, j| a[(i, j)] + a[(j, i)]);
    let off: f64 = (0..n)
        .flat_map(|i| (0..n).filter(move |&j| j != i).map(move |j| (i, j)))
        .map(|at| h[at] * h[at])
        .sum();
    let trace = (0..n).map(|i| h[(i, i)]).sum();
    (h, trace, 2.0 * off)
}

fn times(h: &Mat<f64>) -> impl FnMut(&[f64], &mut [f64]) -> Result<(), Error> {
    |z, out| {
        for (i, out) in out.iter_mut().enumerate() {
            *out = (0..z.len()).map(|j| h[(i, j)] * z[j]).sum();
        }
        Ok(())
    }
}

/// Exactly this many probes.
fn probes(max_probes: u32, seed: u64) -> TraceOptions {
    TraceOptions { max_probes, tolerance: 0.0, seed }
}

proptest! {
    /// The variance of a probe has no diagonal part.
    #[test]
    fn diagonal_is_exact(diagonal in prop::collection::vec(-8_i8..8, 0..150), seed: u64) {
        let exact: f64 = diagonal.iter().copied().map(f64::from).sum();
        let options = TraceOptions { seed, ..TraceOptions::default() };
        let found = trace(diagonal.len(), &options, |z, out| {
            assert!(z.iter().all(|z| z.abs() == 1.0));
            for ((out, z), &d) in out.iter_mut().zip(z).zip(&diagonal) {
                *out = f64::from(d) * z;
            }
            Ok::<(), Error>(())
        });
        let expected = TraceEstimate { trace: exact, standard_error: 0.0, probes: 2, converged: true };
        prop_assert_eq!(found, Ok(expected));
    }

    /// A block-diagonal operator's blocks are those of each block alone, up to the probes' values.
    #[test]
    fn blocks_of_diagonals_are_exact(lengths in prop::collection::vec(0_usize..40, 1..6), seed: u64) {
        let weight = |block: usize| 1.0 + block as f64;
        let owner: Vec<usize> = lengths.iter().enumerate().flat_map(|(b, &len)| std::iter::repeat_n(b, len)).collect();
        let found = trace_blocks(&lengths, &TraceOptions { seed, ..TraceOptions::default() }, |z, out| {
            for ((out, z), &b) in out.iter_mut().zip(z).zip(&owner) {
                *out = weight(b) * z;
            }
            Ok::<(), Error>(())
        }).expect("an estimate");
        for (b, (found, &len)) in found.iter().zip(&lengths).enumerate() {
            prop_assert_eq!(found.trace, weight(b) * len as f64);
        }
    }
}

/// Over many seeds the mean is the trace, and the spread is what theory and the estimate's own error say.
#[test]
fn unbiased_with_the_variance_of_the_theory() {
    let (h, exact, variance) = symmetric(24, 1);
    let (seeds, k) = (600, 8);
    let found: Vec<TraceEstimate> =
        (0..seeds).map(|seed| trace(24, &probes(k, seed), times(&h)).expect("an estimate")).collect();
    let of_mean = variance / f64::from(k);
    let mean = found.iter().map(|e| e.trace).sum::<f64>() / seeds as f64;
    assert!((mean - exact).abs() <= 4.0 * (of_mean / seeds as f64).sqrt(), "{mean} for {exact}");
    let spread = found.iter().map(|e| (e.trace - exact).powi(2)).sum::<f64>() / seeds as f64;
    assert!((spread / of_mean - 1.0).abs() < 0.25, "{spread} for {of_mean}");
    let stated = found.iter().map(|e| e.standard_error.powi(2)).sum::<f64>() / seeds as f64;
    assert!((stated / of_mean - 1.0).abs() < 0.15, "{stated} for {of_mean}");
}

#[test]
fn within_its_own_standard_error() {
    let (h, exact, _) = symmetric(40, 2);
    let inside = (0..300)
        .filter(|&seed| {
            let found = trace(40, &probes(60, seed), times(&h)).expect("an estimate");
            (found.trace - exact).abs() <= 2.0 * found.standard_error
        })
        .count();
    // 95 % by theory; three standard deviations of 300 trials.
    assert!((273..=297).contains(&inside), "{inside} of 300");
}

#[test]
fn stops_when_precise_enough_and_says_so() {
    // A strong diagonal: few probes do.
    let (h, _, _) = symmetric(30, 3);
    let strong = Mat::from_fn(30, 30, |i, j| h[(i, j)] * 0.05 + if i == j { 4.0 } else { 0.0 });
    let exact: f64 = (0..30).map(|i| strong[(i, i)]).sum();
    let options = TraceOptions { max_probes: 500, tolerance: 0.002, seed: 0 };
    let found = trace(30, &options, times(&strong)).expect("an estimate");
    assert!(found.converged && found.probes < 500, "{found:?}");
    assert!(found.standard_error <= 0.002 * found.trace.abs());
    assert!((found.trace / exact - 1.0).abs() < 0.02, "{found:?} for {exact}");
    // The same again: the probes depend on the seed alone.
    assert_eq!(trace(30, &options, times(&strong)), Ok(found));
    assert_ne!(trace(30, &TraceOptions { seed: 1, ..options }, times(&strong)), Ok(found));
    let short =
        trace(30, &TraceOptions { max_probes: 2, tolerance: 1e-9, seed: 0 }, times(&h)).expect("an estimate");
    assert!(!short.converged && short.probes == 2);
}

#[test]
fn bad_input() {
    let (h, _, _) = symmetric(3, 4);
    let with = |options: TraceOptions| trace(3, &options, times(&h));
    let options = TraceOptions::default();
    for bad in [TraceOptions { max_probes: 1, ..options }, TraceOptions { tolerance: -1.0, ..options }] {
        assert!(matches!(with(bad), Err(Error::InvalidOption { .. })));
    }
    assert!(matches!(
        with(TraceOptions { tolerance: f64::NAN, ..options }),
        Err(Error::InvalidOption { .. })
    ));
    let nan = trace_blocks(&[2, 1], &options, |_, out| {
        out[2] = f64::NAN;
        Ok::<(), Error>(())
    });
    assert!(matches!(nan, Err(Error::NonFinite { row: 1, col: 0, .. })), "{nan:?}");
    let own = trace(3, &options, |_, _| Err(Error::NoConvergence { what: "backward pass" }));
    assert_eq!(own, Err(Error::NoConvergence { what: "backward pass" }));
    let long = trace_blocks(&[usize::MAX, 2], &options, |_, _| Ok::<(), Error>(()));
    assert_eq!(long, Err(Error::TooLarge { what: "length of the operator" }));
    assert_eq!(trace_blocks(&[], &options, |_, _| Ok::<(), Error>(())), Ok(Vec::new()));
}
