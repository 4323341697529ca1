//! Products: every path against the formula, and the fused paths against each other, bit for bit.

use crate::common::{common_nm, normal, single};
use proptest::prelude::*;
use rankbit_kit::guarded::Guarded;
use rankbit_linalg::faer::{Mat, MatMut, MatRef};
use rankbit_quant::simd::Level;
use rankbit_quant::{FloatFormat, Group, Rounder, scheme};
use rankbit_sparse::matmul::{Prepared, apply_block, reference};
use rankbit_sparse::{
    BlockMatrix, Error, Mask, NmMatrix, NmPattern, Pattern, ValueFormat, criterion, select,
};

fn stored(rows: usize, cols: usize, pattern: NmPattern) -> NmMatrix {
    let weight = normal(rows, cols, "w");
    let mask =
        select(criterion::magnitude(weight.as_ref()).unwrap().as_ref(), &Pattern::Nm(pattern)).unwrap();
    NmMatrix::new(weight.as_ref(), &mask, pattern, &ValueFormat::Float(FloatFormat::F32)).unwrap().0
}

fn available() -> Vec<Level> {
    Level::ALL.into_iter().filter(|level| level.is_available()).collect()
}

/// |Δ| ≤ γ·|X|·|S|ᵀ, entry by entry, in f64.
fn check_bound(
    y: MatRef<'_, f32>,
    expected: MatRef<'_, f32>,
    x: MatRef<'_, f32>,
    s: MatRef<'_, f32>,
    kept: usize,
) {
    let terms = (kept + 2) as f64 * 2.0_f64.powi(-24);
    let gamma = terms / (1.0 - terms);
    for t in 0..y.nrows() {
        for o in 0..y.ncols() {
            let size: f64 =
                (0..s.ncols()).map(|k| f64::from(x[(t, k)].abs()) * f64::from(s[(o, k)].abs())).sum();
            let difference = (f64::from(y[(t, o)]) - f64::from(expected[(t, o)])).abs();
            assert!(difference <= gamma * size + 1e-37, "{t} {o}: {difference} {size}");
        }
    }
}

/// One fused multiply-add per kept entry, in column order: what AVX2 and AVX-512 must give to the bit.
fn fused(s: &NmMatrix, x: MatRef<'_, f32>) -> Mat<f32> {
    let (dense, mask) = (s.reconstruct(), s.mask());
    Mat::from_fn(x.nrows(), dense.nrows(), |t, o| {
        mask.row(o).fold(0.0_f32, |sum, k| dense[(o, k)].mul_add(x[(t, k)], sum))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_path_is_the_formula(
        (rows, cols) in (1_usize..40, 1_usize..80),
        tokens in prop_oneof![1_usize..6, 7_usize..70, Just(16), Just(64), Just(128)],
        pattern in common_nm(),
    ) {
        let s = stored(rows, cols, pattern);
        let x = normal(tokens, cols, "x");
        let expected = reference::apply(&s, x.as_ref()).unwrap();
        let dense = s.reconstruct();
        let prepared = Prepared::new(&s).unwrap();
        for level in available() {
            let mut y = Mat::from_fn(tokens, rows, |_, _| f32::NAN);
            level.run(|| prepared.apply_into(x.as_ref(), y.as_mut())).unwrap().unwrap();
            check_bound(y.as_ref(), expected.as_ref(), x.as_ref(), dense.as_ref(), s.kept_per_row());
            if level != Level::Portable {
                prop_assert_eq!(y, fused(&s, x.as_ref()), "{:?}", level);
            }
        }
    }
}

/// Enough rows for several tasks, enough columns for several panels, in every width.
#[test]
fn large_shapes_and_all_patterns() {
    for (keep, of) in [(1, 2), (2, 4), (1, 4), (3, 8), (4, 8), (1, 16), (7, 16), (16, 32), (1, 32), (2, 3)] {
        let pattern = NmPattern::new(keep, of).unwrap();
        let s = stored(275, 1230, pattern);
        for tokens in [1, 4, 5, 33, 70] {
            let x = normal(tokens, 1230, "x");
            let expected = fused(&s, x.as_ref());
            let prepared = Prepared::new(&s).unwrap();
            for level in available() {
                let mut y = Mat::zeros(tokens, 275);
                level.run(|| prepared.apply_into(x.as_ref(), y.as_mut())).unwrap().unwrap();
                if level == Level::Portable {
                    let difference = (&y - &expected).norm_l2() / expected.norm_l2();
                    assert!(difference < 1e-6, "{pattern} {tokens}: {difference}");
                } else {
                    assert_eq!(y, expected, "{pattern} {tokens} {level:?}");
                }
            }
        }
    }
}

/// Any strides in, any strides out, nothing written beside, and the same bits for any number of threads.
#[test]
fn strides_guards_and_threads() {
    let s = stored(600, 100, NmPattern::TWO_OF_FOUR);
    let prepared = Prepared::new(&s).unwrap();
    for tokens in [3, 40] {
        let x = normal(tokens, 100, "x");
        let rows: Vec<f32> =
            (0..tokens).flat_map(|t| (0..100).map(move |k| (t, k))).map(|at| x[at]).collect();
        let row_major = MatRef::from_row_major_slice(&rows, tokens, 100);
        for level in available() {
            let run = |threads, x: MatRef<'_, f32>| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let mut y = Mat::zeros(tokens, 600);
                let product = || level.run(|| prepared.apply_into(x, y.as_mut())).unwrap();
                pool.install(product).unwrap();
                y
            };
            let expected = run(1, x.as_ref());
            assert_eq!(run(3, row_major), expected);
            let mut out = Guarded::new(tokens * 600, 64, 0.0_f32, 1e30);
            let view = MatMut::from_row_major_slice_mut(out.logical(), tokens, 600);
            level.run(|| prepared.apply_into(row_major, view)).unwrap().unwrap();
            assert_eq!(MatRef::from_row_major_slice(out.check(), tokens, 600), expected.as_ref());
        }
    }
}

#[test]
fn infinities_meet_stored_entries_only() {
    let s = stored(20, 12, NmPattern::TWO_OF_FOUR);
    let dense = s.reconstruct();
    let mask = s.mask();
    for tokens in [1, 6] {
        let x = Mat::from_fn(tokens, 12, |_, k| if k == 5 { f32::INFINITY } else { 1.0 });
        for level in available() {
            let mut y = Mat::zeros(tokens, 20);
            let prepared = Prepared::new(&s).unwrap();
            level.run(|| prepared.apply_into(x.as_ref(), y.as_mut())).unwrap().unwrap();
            for o in 0..20 {
                let kept = mask.contains(o, 5) && dense[(o, 5)] != 0.0;
                assert_eq!(y[(0, o)].is_infinite(), kept, "{o} {}", y[(0, o)]);
            }
        }
    }
}

#[test]
fn few_bits_are_multiplied_as_decoded() {
    let weight = normal(40, 256, "w");
    let two = NmPattern::TWO_OF_FOUR;
    let mask = select(criterion::magnitude(weight.as_ref()).unwrap().as_ref(), &Pattern::Nm(two)).unwrap();
    for scheme in [scheme::INT4, scheme::INT8, scheme::NF4, scheme::Q4_0] {
        let format = ValueFormat::Scheme(
            if scheme.block_len().is_some() { scheme } else { scheme.with_group(Group::Size(64)) },
            Rounder::Nearest,
        );
        let (s, _) = NmMatrix::new(weight.as_ref(), &mask, two, &format).unwrap();
        let x = normal(9, 256, "x");
        let y = Prepared::new(&s).unwrap().apply(x.as_ref()).unwrap();
        let expected = reference::apply(&s, x.as_ref()).unwrap();
        check_bound(y.as_ref(), expected.as_ref(), x.as_ref(), s.reconstruct().as_ref(), 128);
    }
}

#[test]
fn wrong_shapes_are_refused_and_empty_ones_are_not() {
    let s = stored(8, 12, NmPattern::TWO_OF_FOUR);
    let prepared = Prepared::new(&s).unwrap();
    assert_eq!(prepared.shape(), (8, 12));
    assert!(matches!(prepared.apply(normal(2, 11, "x").as_ref()), Err(Error::ShapeMismatch { .. })));
    assert!(reference::apply(&s, normal(2, 11, "x").as_ref()).is_err());
    let mut y = Mat::zeros(2, 9);
    let wrong = prepared.apply_into(normal(2, 12, "x").as_ref(), y.as_mut());
    assert!(matches!(wrong, Err(Error::ShapeMismatch { what: "output", .. })));
    for (rows, cols, tokens) in [(0, 4, 2), (4, 0, 2), (4, 4, 0), (0, 0, 0), (1, 1, 1), (4, 0, 9)] {
        let s = stored(rows, cols, NmPattern::TWO_OF_FOUR);
        for level in available() {
            let mut y = Mat::zeros(tokens, rows);
            let (prepared, x) = (Prepared::new(&s).unwrap(), normal(tokens, cols, "x"));
            level.run(|| prepared.apply_into(x.as_ref(), y.as_mut())).unwrap().unwrap();
        }
    }
}

proptest! {
    #[test]
    fn blocks_multiply_as_their_dense_form(
        (rows, cols, tokens) in (1_usize..30, 1_usize..30, 0_usize..40),
        block in (1_usize..6, 1_usize..6),
    ) {
        let weight = normal(rows, cols, "w");
        let mask = Mask::from_fn((rows, cols), |i, j| (i * 3 + j * 5) % 7 < 2);
        let (s, _) = BlockMatrix::new(weight.as_ref(), &mask, block, FloatFormat::F32).unwrap();
        let x = normal(tokens, cols, "x");
        let y = apply_block(&s, x.as_ref()).unwrap();
        let dense = s.reconstruct();
        let exact = Mat::from_fn(tokens, rows, |t, o| {
            single((0..cols).map(|k| f64::from(x[(t, k)]) * f64::from(dense[(o, k)])).sum())
        });
        check_bound(y.as_ref(), exact.as_ref(), x.as_ref(), dense.as_ref(), cols + 8);
        prop_assert!(apply_block(&s, normal(2, cols + 1, "x").as_ref()).is_err());
    }
}
