//! Relevance: conserved by every rule, equal to its formula, and low where nothing flows.

use crate::common::gaussian;
use proptest::prelude::*;
use rankbit_linalg::Error as LinalgError;
use rankbit_linalg::faer::Mat;
use rankbit_lowrank::Error;
use rankbit_lowrank::plan::relevance::{Layer, Rule, contributions, linear, product, residual};

fn double(m: &Mat<f32>) -> Mat<f64> {
    Mat::from_fn(m.nrows(), m.ncols(), |i, j| f64::from(m[(i, j)]))
}

fn total(m: &Mat<f64>) -> f64 {
    m.col_iter().flat_map(|c| c.iter()).sum()
}

fn magnitude(m: &Mat<f64>) -> f64 {
    m.col_iter().flat_map(|c| c.iter()).map(|v| v.abs()).sum()
}

proptest! {
    /// Σ R of the inputs is Σ R of the outputs, to 10⁻⁴ of the magnitudes that flow.
    #[test]
    fn every_rule_conserves(
        (tokens, out, inputs) in (1_usize..6, 1_usize..12, 1_usize..12),
        rule in prop_oneof![Just(Rule::Positive), Just(Rule::Epsilon(0.0)), Just(Rule::Epsilon(0.01)), Just(Rule::Epsilon(1.0))],
        seed: u64,
    ) {
        let x = double(&gaussian(tokens, inputs, seed));
        let w = gaussian(out, inputs, seed ^ 1);
        let r = double(&gaussian(tokens, out, seed ^ 2));
        let found = linear(x.as_ref(), w.as_ref(), r.as_ref(), rule).expect("relevance");
        let flow = magnitude(&found) + magnitude(&r);
        prop_assert!((total(&found) - total(&r)).abs() <= 1e-9 * flow.max(1e-3), "{} for {}", total(&found), total(&r));
        let wide = double(&w);
        let (a, b) = product(x.as_ref(), wide.transpose(), r.as_ref(), rule).expect("relevance");
        let flow = magnitude(&a) + magnitude(&b) + magnitude(&r);
        prop_assert!((total(&a) + total(&b) - total(&r)).abs() <= 1e-9 * flow.max(1e-3));
        let other = double(&gaussian(tokens, out, seed ^ 3));
        let (a, b) = residual(other.as_ref(), r.as_ref(), r.as_ref()).expect("relevance");
        for t in 0..tokens {
            for k in 0..out {
                prop_assert!((a[(t, k)] + b[(t, k)] - r[(t, k)]).abs() <= 1e-15 * r[(t, k)].abs());
                prop_assert!(a[(t, k)].abs() <= r[(t, k)].abs() && b[(t, k)].abs() <= r[(t, k)].abs());
            }
        }
    }
}

/// The formula, term by term.
#[test]
fn rules_are_their_formulas() {
    let (x, w, r) = (double(&gaussian(3, 5, 1)), gaussian(4, 5, 2), double(&gaussian(3, 4, 3)));
    let z = |t: usize, k: usize, j: usize| x[(t, j)] * f64::from(w[(k, j)]);
    let plain = linear(x.as_ref(), w.as_ref(), r.as_ref(), Rule::Epsilon(0.0)).expect("relevance");
    let positive = linear(x.as_ref(), w.as_ref(), r.as_ref(), Rule::Positive).expect("relevance");
    for t in 0..3 {
        for j in 0..5 {
            let (mut all, mut plus) = (0.0, 0.0);
            for k in 0..4 {
                let sum: f64 = (0..5).map(|i| z(t, k, i)).sum();
                let above: f64 = (0..5).map(|i| z(t, k, i).max(0.0)).sum();
                all += z(t, k, j) / sum * r[(t, k)];
                plus += z(t, k, j).max(0.0) / above * r[(t, k)];
            }
            assert!((plain[(t, j)] - all).abs() <= 1e-9 * (1.0 + all.abs()));
            assert!((positive[(t, j)] - plus).abs() <= 1e-9 * (1.0 + plus.abs()));
        }
    }
    // An output that nothing contributes to spreads evenly.
    let zero = Mat::<f64>::zeros(1, 4);
    let one = Mat::from_fn(1, 3, |_, _| 1.0);
    let found =
        linear(zero.as_ref(), gaussian(3, 4, 5).as_ref(), one.as_ref(), Rule::Positive).expect("relevance");
    assert!((0..4).all(|j| found[(0, j)] == 0.75));
}

#[test]
fn a_branch_that_adds_nothing_has_no_score() {
    let x = double(&gaussian(7, 12, 1));
    let mix = gaussian(12, 12, 2);
    let head = gaussian(5, 12, 3);
    let faint = Mat::from_fn(12, 12, |i, j| mix[(i, j)] * 1e-4);
    let relu: fn(f64) -> f64 = |x| x.max(0.0);
    let layers = |branch: &'static str| {
        let inner = if branch == "faint" { &faint } else { &mix };
        vec![
            Layer::Linear { weight: mix.as_ref(), bias: &[] },
            Layer::Elementwise(relu),
            Layer::Residual(vec![
                Layer::Linear { weight: inner.as_ref(), bias: &[] },
                Layer::Elementwise(relu),
            ]),
            Layer::Linear { weight: head.as_ref(), bias: &[0.5, 0.0, -0.5, 0.0, 0.0] },
        ]
    };
    for rule in [Rule::Positive, Rule::Epsilon(0.01)] {
        let score = |branch| contributions(&layers(branch), x.as_ref(), 2, rule).expect("scores");
        let (faint, full) = (score("faint"), score("full"));
        assert_eq!((faint.len(), full.len()), (3, 3));
        assert!((faint.iter().sum::<f64>() - 3.0).abs() < 1e-9);
        assert!(faint[1] < 0.01 && full[1] > 0.05, "{faint:?} and {full:?}");
    }
}

#[test]
fn bad_input() {
    let x = double(&gaussian(2, 4, 1));
    let (w, r) = (gaussian(3, 4, 2), double(&gaussian(2, 3, 3)));
    let run = |x: &Mat<f64>, r: &Mat<f64>, rule| linear(x.as_ref(), w.as_ref(), r.as_ref(), rule).map(|_| ());
    assert!(matches!(run(&x, &x, Rule::Positive), Err(Error::ShapeMismatch { .. })));
    assert!(matches!(run(&r, &r, Rule::Positive), Err(Error::ShapeMismatch { .. })));
    for epsilon in [-0.1, 1.1, f64::NAN] {
        let found = run(&x, &r, Rule::Epsilon(epsilon));
        assert!(matches!(found, Err(Error::Linalg(LinalgError::InvalidOption { .. }))));
    }
    let nan = Mat::from_fn(2, 3, |_, _| f64::NAN);
    assert!(matches!(run(&x, &nan, Rule::Positive), Err(Error::Linalg(LinalgError::NonFinite { .. }))));
    assert!(matches!(residual(x.as_ref(), r.as_ref(), r.as_ref()), Err(Error::ShapeMismatch { .. })));
    assert!(matches!(
        product(x.as_ref(), r.as_ref(), r.as_ref(), Rule::Positive),
        Err(Error::ShapeMismatch { .. })
    ));
    let layers = [Layer::Linear { weight: w.as_ref(), bias: &[1.0] }];
    assert!(matches!(
        contributions(&layers, x.as_ref(), 0, Rule::Positive),
        Err(Error::ShapeMismatch { .. })
    ));
    let layers = [Layer::Linear { weight: w.as_ref(), bias: &[] }];
    assert!(matches!(
        contributions(&layers, x.as_ref(), 3, Rule::Positive),
        Err(Error::ShapeMismatch { .. })
    ));
    assert!(matches!(
        contributions(&layers, r.as_ref(), 0, Rule::Positive),
        Err(Error::ShapeMismatch { .. })
    ));
    let layers = [Layer::Residual(vec![Layer::Linear { weight: w.as_ref(), bias: &[] }])];
    assert!(matches!(
        contributions(&layers, x.as_ref(), 0, Rule::Positive),
        Err(Error::ShapeMismatch { .. })
    ));
    assert_eq!(contributions(&[], x.as_ref(), 0, Rule::Positive), Ok(Vec::new()));
}
