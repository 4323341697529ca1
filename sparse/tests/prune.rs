//! Pruning under the inputs' metric.

use crate::common::{damped, gram, loss, normal, patterns};
use proptest::prelude::*;
use rankbit_linalg::faer::Mat;
use rankbit_sparse::prune::{AdmmOptions, Pruned, RefitOptions, SparseGptOptions, admm, refit, sparse_gpt};
use rankbit_sparse::{Error, Mask, NmPattern, Pattern, Scope, criterion, select};

const TWO: Pattern = Pattern::Nm(NmPattern::TWO_OF_FOUR);

fn moments(gram: &Mat<f64>) -> Vec<f64> {
    (0..gram.nrows()).map(|j| gram[(j, j)]).collect()
}

fn wanda_mask(weight: &Mat<f32>, gram: &Mat<f64>, pattern: &Pattern) -> Mask {
    select(criterion::wanda(weight.as_ref(), &moments(gram)).unwrap().as_ref(), pattern).unwrap()
}

fn zero_outside(pruned: &Pruned) -> bool {
    let (rows, cols) = pruned.weight.shape();
    (0..rows).all(|i| (0..cols).all(|j| pruned.mask.contains(i, j) || pruned.weight[(i, j)].to_bits() == 0))
}

#[test]
fn each_method_beats_the_one_before_on_correlated_inputs() {
    for pattern in
        [TWO, Pattern::Nm(NmPattern::new(1, 4).unwrap()), Pattern::Nm(NmPattern::new(4, 8).unwrap())]
    {
        let (weight, gram) = (normal(48, 64, "w"), gram(64, "x"));
        let w = weight.as_ref();
        let magnitude = select(criterion::magnitude(w).unwrap().as_ref(), &pattern).unwrap();
        let magnitude = loss(w, magnitude.apply(w).unwrap().as_ref(), gram.as_ref());
        let mask = wanda_mask(&weight, &gram, &pattern);
        let wanda = loss(w, mask.apply(w).unwrap().as_ref(), gram.as_ref());
        let gpt = sparse_gpt(w, gram.as_ref(), &pattern, &SparseGptOptions::default()).unwrap();
        let gpt = loss(w, gpt.weight.as_ref(), gram.as_ref());
        let best = admm(w, gram.as_ref(), &pattern, &AdmmOptions::default()).unwrap();
        let best = loss(w, best.weight.as_ref(), gram.as_ref());
        assert!(
            wanda < magnitude && gpt < 0.9 * wanda && best < 0.95 * gpt,
            "{magnitude} {wanda} {gpt} {best}"
        );
    }
}

/// The sweep's own sum of squares is the quadratic form, so feeding back in any other way would show.
#[test]
fn the_reported_error_is_the_damped_loss() {
    let (weight, gram) = (normal(20, 36, "w"), gram(36, "x"));
    let form = damped(&gram, 0.02);
    let options = SparseGptOptions { damping: 0.02, block: 16 };
    let refit_options = RefitOptions { damping: 0.02, ..RefitOptions::default() };
    let admm_options = AdmmOptions { damping: 0.02, ..AdmmOptions::default() };
    let mask = wanda_mask(&weight, &gram, &TWO);
    for pruned in [
        sparse_gpt(weight.as_ref(), gram.as_ref(), &TWO, &options).unwrap(),
        refit(weight.as_ref(), &mask, gram.as_ref(), &refit_options).unwrap(),
        admm(weight.as_ref(), gram.as_ref(), &TWO, &admm_options).unwrap(),
    ] {
        let expected = loss(weight.as_ref(), pruned.weight.as_ref(), form.as_ref());
        assert!((pruned.error - expected).abs() <= 1e-9 * expected, "{} {expected}", pruned.error);
        assert!(zero_outside(&pruned));
    }
}

/// SparseGPT on uncorrelated inputs is Wanda, with no compensation at all.
#[test]
fn without_correlation_nothing_is_fed_back() {
    let weight = normal(12, 40, "w");
    let gram = Mat::from_fn(40, 40, |i, j| if i == j { 1.0 + (i * 13 % 7) as f64 } else { 0.0 });
    let options = SparseGptOptions { damping: 0.0, ..SparseGptOptions::default() };
    let pruned = sparse_gpt(weight.as_ref(), gram.as_ref(), &TWO, &options).unwrap();
    let mask = wanda_mask(&weight, &gram, &TWO);
    assert_eq!(pruned.mask, mask);
    assert_eq!(pruned.weight, mask.apply(weight.as_ref()).unwrap());
    // And so are the alternation and the refit.
    let refit_options = RefitOptions { damping: 0.0, ..RefitOptions::default() };
    let admm_options = AdmmOptions { damping: 0.0, ..AdmmOptions::default() };
    assert_eq!(refit(weight.as_ref(), &mask, gram.as_ref(), &refit_options).unwrap().weight, pruned.weight);
    let alternated = admm(weight.as_ref(), gram.as_ref(), &TWO, &admm_options).unwrap();
    assert_eq!(alternated.mask, mask);
}

/// The stationarity of the refit: no kept value can move and gain.
#[test]
fn the_refit_solves_the_normal_equations_of_the_mask() {
    let (weight, gram) = (normal(6, 32, "w"), gram(32, "x"));
    let mask = wanda_mask(&weight, &gram, &TWO);
    let options = RefitOptions { damping: 0.01, iterations: 200, tolerance: 1e-9 };
    let pruned = refit(weight.as_ref(), &mask, gram.as_ref(), &options).unwrap();
    let form = damped(&gram, 0.01);
    let residual = Mat::from_fn(6, 32, |i, j| f64::from(weight[(i, j)]) - f64::from(pruned.weight[(i, j)]));
    let gradient = &residual * &form;
    let scale = (0..32).map(|j| form[(j, j)]).fold(0.0, f64::max);
    for i in 0..6 {
        for j in mask.row(i) {
            // f32 values: each rounding moves the gradient by up to 2⁻²⁴·|b|·Σ|h|.
            assert!(gradient[(i, j)].abs() <= 1e-5 * scale, "{} {scale}", gradient[(i, j)]);
        }
    }
    assert_eq!(pruned.mask, mask);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_pattern_is_followed_and_the_refit_never_loses(
        (rows, cols) in (1_usize..20, 1_usize..24),
        pattern in patterns(),
        seed in 0_u32..100,
    ) {
        let (weight, gram) = (normal(rows, cols, &format!("w{seed}")), gram(cols, &format!("x{seed}")));
        let w = weight.as_ref();
        let options = SparseGptOptions { damping: 0.01, block: 8 };
        let gpt = sparse_gpt(w, gram.as_ref(), &pattern, &options).unwrap();
        prop_assert!(zero_outside(&gpt));
        let best = admm(w, gram.as_ref(), &pattern, &AdmmOptions::default()).unwrap();
        prop_assert!(zero_outside(&best));
        let count = select(criterion::magnitude(w).unwrap().as_ref(), &pattern).unwrap().count();
        // Blocks at the edge are short, so that the same number of blocks is not the same number of entries.
        let by_blocks = matches!(pattern, Pattern::Block { .. });
        prop_assert!(best.mask.count() == count || by_blocks);
        if let Pattern::Nm(nm) | Pattern::Transposable(nm) = pattern {
            for mask in [&gpt.mask, &best.mask] {
                mask.check(nm).unwrap();
                prop_assert_eq!(mask.count(), count);
            }
        }
        let mask = wanda_mask(&weight, &gram, &pattern);
        let form = damped(&gram, 0.01);
        let plain = loss(w, mask.apply(w).unwrap().as_ref(), form.as_ref());
        let refitted = refit(w, &mask, gram.as_ref(), &RefitOptions::default()).unwrap();
        prop_assert!(refitted.error <= plain * (1.0 + 1e-6) + 1e-9);
        prop_assert!(best.error <= refitted.error * (1.0 + 1e-6) + 1e-9);
        let again = refit(w, &gpt.mask, gram.as_ref(), &RefitOptions { iterations: 200, ..RefitOptions::default() }).unwrap();
        prop_assert!(again.error <= gpt.error * (1.0 + 1e-6) + 1e-9);
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let (weight, gram) = (normal(300, 40, "w"), gram(40, "x"));
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let gpt = sparse_gpt(weight.as_ref(), gram.as_ref(), &TWO, &SparseGptOptions::default()).unwrap();
            (gpt, admm(weight.as_ref(), gram.as_ref(), &TWO, &AdmmOptions::default()).unwrap())
        })
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn what_cannot_be_pruned_is_refused_or_left_alone() {
    let (weight, gram) = (normal(4, 8, "w"), gram(8, "x"));
    let (w, g) = (weight.as_ref(), gram.as_ref());
    let gpt = SparseGptOptions::default();
    let wrong = gram.as_ref().submatrix(0, 0, 7, 7);
    assert!(matches!(sparse_gpt(w, wrong, &TWO, &gpt), Err(Error::ShapeMismatch { .. })));
    assert!(matches!(admm(w, wrong, &TWO, &AdmmOptions::default()), Err(Error::ShapeMismatch { .. })));
    let nan = Mat::from_fn(4, 8, |i, j| if (i, j) == (2, 5) { f32::NAN } else { 1.0 });
    let named = Error::NonFinite { what: "weight", row: 2, col: 5 };
    assert_eq!(sparse_gpt(nan.as_ref(), g, &TWO, &gpt).err(), Some(named.clone()));
    assert_eq!(admm(nan.as_ref(), g, &TWO, &AdmmOptions::default()).err(), Some(named.clone()));
    let mask = wanda_mask(&weight, &gram, &TWO);
    assert_eq!(refit(nan.as_ref(), &mask, g, &RefitOptions::default()).err(), Some(named));
    for damping in [-1.0, f64::NAN, f64::INFINITY] {
        let options = SparseGptOptions { damping, ..gpt };
        assert!(matches!(sparse_gpt(w, g, &TWO, &options), Err(Error::InvalidOption { .. })));
        assert!(admm(w, g, &TWO, &AdmmOptions { damping, ..AdmmOptions::default() }).is_err());
    }
    assert!(sparse_gpt(w, g, &TWO, &SparseGptOptions { block: 0, ..gpt }).is_err());
    assert!(admm(w, g, &TWO, &AdmmOptions { penalty: 0.0, ..AdmmOptions::default() }).is_err());
    let tolerance = RefitOptions { tolerance: f64::NAN, ..RefitOptions::default() };
    assert!(refit(w, &mask, g, &tolerance).is_err());
    assert!(refit(w, &Mask::empty((4, 7)), g, &RefitOptions::default()).is_err());
    let asymmetric = Mat::from_fn(8, 8, |i, j| {
        if i == j {
            1.0
        } else if i < j {
            0.5
        } else {
            0.0
        }
    });
    assert!(matches!(sparse_gpt(w, asymmetric.as_ref(), &TWO, &gpt), Err(Error::Linalg(_))));
    // Nothing known: no damping to take, and no input fires. Magnitude decides nothing, ties by index.
    let silent = Mat::<f64>::zeros(8, 8);
    let pruned = sparse_gpt(w, silent.as_ref(), &TWO, &gpt).unwrap();
    assert_eq!((pruned.mask.count(), pruned.error), (16, 0.0));
    assert_eq!(admm(w, silent.as_ref(), &TWO, &AdmmOptions::default()).unwrap().mask.count(), 16);
    // Empty and tiny shapes, zero weights, everything kept, nothing kept.
    let none = Pattern::Unstructured { density: 0.0, scope: Scope::Row };
    let all = Pattern::Nm(NmPattern::new(4, 4).unwrap());
    for (rows, cols) in [(0, 8), (1, 1), (3, 2)] {
        let (w, g) = (normal(rows, cols, "w"), crate::common::gram(cols, "x"));
        sparse_gpt(w.as_ref(), g.as_ref(), &TWO, &gpt).unwrap();
        admm(w.as_ref(), g.as_ref(), &TWO, &AdmmOptions::default()).unwrap();
    }
    let zeros = Mat::<f32>::zeros(4, 8);
    assert_eq!(sparse_gpt(zeros.as_ref(), g, &TWO, &gpt).unwrap().error, 0.0);
    assert_eq!(admm(zeros.as_ref(), g, &TWO, &AdmmOptions::default()).unwrap().error, 0.0);
    assert_eq!(sparse_gpt(w, g, &all, &gpt).unwrap().weight, weight);
    assert_eq!(admm(w, g, &none, &AdmmOptions::default()).unwrap().mask.count(), 0);
    assert_eq!(sparse_gpt(w, g, &none, &gpt).unwrap().weight, zeros);
}
