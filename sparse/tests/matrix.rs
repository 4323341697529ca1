//! Patterns and pruning methods as values: storage of any pattern, its size from shapes alone, the methods by name.

use crate::common::{gram, normal, patterns};
use proptest::prelude::*;
use rankbit_linalg::faer::Mat;
use rankbit_quant::{FloatFormat, Group, Rounder, scheme};
use rankbit_sparse::prune::{
    AdmmOptions, Context, RefitOptions, SparseGptOptions, admm, prune, refit, sparse_gpt,
};
use rankbit_sparse::storage::stored_bits;
use rankbit_sparse::{
    Error, NmPattern, Pattern, Pruner, Scope, SparseMatrix, ValueFormat, criterion, select,
};

const TWO: Pattern = Pattern::Nm(NmPattern::TWO_OF_FOUR);
const F16: ValueFormat = ValueFormat::Float(FloatFormat::F16);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_pattern_is_stored_as_large_as_said(
        (rows, cols) in (1_usize..20, 1_usize..40),
        pattern in patterns(),
        few in any::<bool>(),
        seed in 0_u32..100,
    ) {
        let weight = normal(rows, cols, &format!("m{seed}"));
        let blocks = matches!(pattern, Pattern::Block { .. } | Pattern::Unstructured { .. });
        let format = match few && !blocks {
            true => ValueFormat::Scheme(scheme::UINT4.with_group(Group::Size(8)), Rounder::Nearest),
            false => ValueFormat::Float(FloatFormat::F32),
        };
        let mask = select(criterion::magnitude(weight.as_ref()).unwrap().as_ref(), &pattern).unwrap();
        let (stored, widened) = SparseMatrix::new(weight.as_ref(), &mask, &pattern, &format).unwrap();
        prop_assert_eq!(widened, None);
        let said = stored_bits((rows, cols), &pattern, &format).unwrap();
        prop_assert_eq!(stored.stored_bits(), said);
        let dense = stored.reconstruct();
        if !matches!(format, ValueFormat::Scheme(..)) {
            prop_assert_eq!(&dense, &mask.apply(weight.as_ref()).unwrap());
        }
        prop_assert!(stored.density() >= mask.density());
        let mut row = vec![f32::NAN; cols];
        stored.row_into(0, &mut row).unwrap();
        prop_assert!((0..cols).all(|j| row[j].to_bits() == dense[(0, j)].to_bits()));
        let x = normal(3, cols, "x");
        let (y, expected) = (stored.apply(x.as_ref()).unwrap(), &x * dense.transpose());
        prop_assert!((&y - &expected).norm_l2() <= 1e-5 * (1.0 + expected.norm_l2()));
    }
}

#[test]
fn formats_that_a_pattern_cannot_hold_are_refused_beforehand() {
    let half = Pattern::Unstructured { density: 0.5, scope: Scope::Row };
    let int4 = ValueFormat::Scheme(scheme::INT4, Rounder::Nearest);
    let vector = ValueFormat::Scheme(scheme::NAMED_VECTOR[0].1, Rounder::Nearest);
    let narrow = ValueFormat::Float(FloatFormat::E4m3);
    for (pattern, format) in [(half, int4), (TWO, vector), (TWO, narrow), (half, narrow)] {
        assert!(
            matches!(SparseMatrix::check(&pattern, &format), Err(Error::Unsupported { .. })),
            "{format:?}"
        );
        assert!(stored_bits((4, 8), &pattern, &format).is_err());
    }
    assert!(stored_bits((usize::MAX, usize::MAX), &TWO, &F16).is_err());
    assert!(stored_bits((usize::MAX, usize::MAX), &half, &F16).is_err());
    let blocks = Pattern::Block { rows: usize::MAX, cols: usize::MAX, density: 1.0 };
    assert!(matches!(stored_bits((4, 8), &blocks, &F16), Err(Error::TooLarge { .. })));
}

#[test]
fn a_pruner_is_its_function() {
    let (weight, gram) = (normal(12, 32, "w"), gram(32, "x"));
    let (w, g) = (weight.as_ref(), gram.as_ref());
    let context = Context { second_moment: None, gram: Some(g) };
    let run = |pruner: Pruner, refitted| prune(w, &TWO, &pruner, refitted, &context).unwrap();
    let moments: Vec<f64> = (0..32).map(|j| gram[(j, j)]).collect();
    let masked = |scores: Mat<f64>| {
        let mask = select(scores.as_ref(), &TWO).unwrap();
        (mask.apply(w).unwrap(), mask)
    };
    assert_eq!(run(Pruner::Magnitude, false), masked(criterion::magnitude(w).unwrap()));
    assert_eq!(run(Pruner::Wanda, false), masked(criterion::wanda(w, &moments).unwrap()));
    assert_eq!(run(Pruner::RIA, false), masked(criterion::ria(w, &moments, 0.5).unwrap()));
    let gpt = sparse_gpt(w, g, &TWO, &SparseGptOptions::default()).unwrap();
    assert_eq!(run(Pruner::SPARSE_GPT, false), (gpt.weight, gpt.mask.clone()));
    let best = refit(w, &gpt.mask, g, &RefitOptions::default()).unwrap();
    assert_eq!(run(Pruner::SPARSE_GPT, true), (best.weight, best.mask));
    let best = admm(w, g, &TWO, &AdmmOptions::default()).unwrap();
    assert_eq!(run(Pruner::ADMM, false), (best.weight, best.mask));
    // What is missing is named.
    let nothing = Context::default();
    for (pruner, refitted, names) in [
        (Pruner::Wanda, false, ["wanda", "second moments"]),
        (Pruner::RIA, false, ["ria", "second moments"]),
        (Pruner::SPARSE_GPT, false, ["sparsegpt", "Gram"]),
        (Pruner::ADMM, false, ["admm", "Gram"]),
        (Pruner::Magnitude, true, ["refit", "Gram"]),
    ] {
        let error = prune(w, &TWO, &pruner, refitted, &nothing).unwrap_err();
        assert!(matches!(error, Error::MissingMoments { .. }));
        assert!(names.iter().all(|name| error.to_string().contains(name)), "{error}");
    }
    assert!(prune(w, &TWO, &Pruner::Magnitude, false, &nothing).is_ok());
}
