//! The product from packed codes against the formula in f64.

use crate::common::{nearest, schemes, view};
use proptest::prelude::*;
use rankbit_kit::strategy::{even_matrix, matrix};
use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_quant::{Error, Group, Quantized, matmul, scheme};

/// `γ·|X|·|Ŵ|ᵀ` elementwise, with the documented constant.
fn bound(weight: &Quantized, x: MatRef<'_, f32>) -> Mat<f64> {
    let w = weight.dequantize();
    let k = (weight.shape().1 + 2) as f64 * 2.0_f64.powi(-24);
    let gamma = k / (1.0 - k);
    Mat::from_fn(x.nrows(), w.nrows(), |t, o| {
        gamma * (0..w.ncols()).map(|j| f64::from(x[(t, j)].abs()) * f64::from(w[(o, j)].abs())).sum::<f64>()
            + f64::from(f32::MIN_POSITIVE)
    })
}

fn check(weight: &Quantized, x: MatRef<'_, f32>) {
    let (fast, exact) = (matmul::apply(weight, x).unwrap(), matmul::reference::apply(weight, x).unwrap());
    let bound = bound(weight, x);
    for t in 0..x.nrows() {
        for o in 0..weight.shape().0 {
            let error = (f64::from(fast[(t, o)]) - f64::from(exact[(t, o)])).abs();
            // The reference is itself rounded once to f32.
            let allowed = bound[(t, o)] + f64::from(exact[(t, o)].abs()) * 2.0_f64.powi(-24);
            assert!(error <= allowed, "[{t}, {o}]: {} for {}", fast[(t, o)], exact[(t, o)]);
        }
    }
}

proptest! {
    #[test]
    fn within_its_bound(w in even_matrix(1..=40, 1..=90), x in even_matrix(1..=5, 1..=90), scheme in schemes()) {
        let cols = w.cols.min(x.cols);
        let weight = view(&w).subcols(0, cols);
        check(&nearest(weight, &scheme).quantized, view(&x).subcols(0, cols));
    }

    #[test]
    fn linear_in_the_activations(w in even_matrix(1..=20, 1..=60), scheme in schemes(), at in any::<prop::sample::Index>()) {
        // A unit vector picks one column of the decoded matrix, exactly.
        let q = nearest(view(&w), &scheme).quantized;
        let at = at.index(w.cols);
        let x = Mat::from_fn(1, w.cols, |_, j| if j == at { 1.0 } else { 0.0 });
        let y = matmul::apply(&q, x.as_ref()).unwrap();
        let dense = q.dequantize();
        for o in 0..w.rows {
            prop_assert_eq!(y[(0, o)], dense[(o, at)]);
        }
    }
}

/// Sizes around the task and vector widths, ragged groups, column-major activations.
#[test]
fn case_table() {
    for out in [1, 15, 16, 17, 31] {
        for features in [1, 15, 16, 17, 63, 64, 65, 127] {
            let w = Mat::from_fn(out, features, |i, j| ((i * 13 + j * 7) % 23) as f32 / 11.0 - 1.0);
            for (_, scheme) in crate::common::free() {
                let q = nearest(w.as_ref(), &scheme.with_group(Group::Size(24))).quantized;
                for tokens in [1, 2, 7] {
                    let x = Mat::from_fn(tokens, features, |t, j| ((t * 5 + j * 3) % 17) as f32 / 8.0 - 1.0);
                    check(&q, x.as_ref());
                }
            }
        }
    }
}

/// The same bits for any number of threads.
#[test]
fn threads_do_not_matter() {
    let w = Mat::from_fn(133, 200, |i, j| ((i * 31 + j * 17) % 97) as f32 / 97.0 - 0.5);
    let x = Mat::from_fn(5, 200, |t, j| ((t + 3 * j) as f32).sin());
    let q = nearest(w.as_ref(), &scheme::NF4).quantized;
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| matmul::apply(&q, x.as_ref()).unwrap())
    };
    let one = run(1);
    for threads in [2, 7] {
        let many = run(threads);
        assert!(one.col_iter().zip(many.col_iter()).all(|(a, b)| a.iter().eq(b.iter())), "{threads} threads");
    }
}

proptest! {
    /// Slices give what matrices give, to the bit: quantizing, decoding and multiplying.
    #[test]
    fn slices_are_row_major_matrices(w in even_matrix(1..=20, 1..=90), x in even_matrix(1..=5, 1..=90), scheme in schemes()) {
        let cols = w.cols.min(x.cols);
        let flat = |m: MatRef<'_, f32>| -> Vec<f32> { m.row_iter().flat_map(|r| r.iter().copied().collect::<Vec<_>>()).collect() };
        let (weight, x) = (view(&w).subcols(0, cols), view(&x).subcols(0, cols));
        let shape = (weight.nrows(), cols);
        let rounded = rankbit_quant::nearest::quantize_rows(&flat(weight), shape, &scheme).unwrap();
        prop_assert_eq!(&rounded, &nearest(weight, &scheme));
        let q = rounded.quantized;
        let mut dense = vec![f32::NAN; shape.0 * shape.1];
        q.dequantize_into(&mut dense).unwrap();
        prop_assert_eq!(dense, flat(q.dequantize().as_ref()));
        let mut y = vec![f32::NAN; x.nrows() * shape.0];
        matmul::apply_rows_into(&q, &flat(x), x.nrows(), &mut y).unwrap();
        prop_assert_eq!(y, flat(matmul::apply(&q, x).unwrap().as_ref()));
    }
}

#[test]
fn slices_of_wrong_lengths_are_errors() {
    let wrong = |result: Result<(), Error>| matches!(result, Err(Error::ShapeMismatch { .. }));
    for len in [0, 1, 11, 13] {
        let quantized = rankbit_quant::nearest::quantize_rows(&vec![1.0; len], (3, 4), &scheme::INT4);
        assert!(wrong(quantized.map(drop)), "{len}");
    }
    let huge = rankbit_quant::nearest::quantize_rows(&[1.0], (usize::MAX, 2), &scheme::INT4);
    assert!(wrong(huge.map(drop)));
    let q = rankbit_quant::nearest::quantize_rows(&[1.0; 12], (3, 4), &scheme::INT4).unwrap().quantized;
    assert!(wrong(q.dequantize_into(&mut [0.0; 11])));
    assert!(wrong(matmul::apply_rows_into(&q, &[0.0; 8], 1, &mut [0.0; 3])));
    assert!(wrong(matmul::apply_rows_into(&q, &[0.0; 8], 2, &mut [0.0; 5])));
    assert!(wrong(matmul::apply_rows_into(&q, &[0.0; 7], 2, &mut [0.0; 6])));
}

#[test]
fn wrong_shapes_are_errors() {
    let q = nearest(Mat::<f32>::zeros(3, 4).as_ref(), &scheme::INT4).quantized;
    let x = Mat::<f32>::zeros(2, 5);
    assert!(matches!(matmul::apply(&q, x.as_ref()), Err(Error::ShapeMismatch { what: "activations", .. })));
    assert!(matches!(matmul::reference::apply(&q, x.as_ref()), Err(Error::ShapeMismatch { .. })));
    let (x, mut y) = (Mat::<f32>::zeros(2, 4), Mat::<f32>::zeros(2, 4));
    assert!(matches!(
        matmul::apply_into(&q, x.as_ref(), y.as_mut()),
        Err(Error::ShapeMismatch { what: "output", .. })
    ));
}

/// No tokens, no outputs, no inputs: fine, and nothing to do.
#[test]
fn empty_sides_work() {
    for (out, features, tokens) in [(0, 4, 2), (3, 0, 2), (3, 4, 0), (0, 0, 0)] {
        let q = nearest(Mat::<f32>::zeros(out, features).as_ref(), &scheme::UINT4).quantized;
        let y = matmul::apply(&q, Mat::<f32>::zeros(tokens, features).as_ref()).unwrap();
        assert_eq!((y.nrows(), y.ncols()), (tokens, out));
        assert!(y.col_iter().all(|c| c.iter().all(|v| *v == 0.0)));
    }
}

proptest! {
    /// Heavy tails and dead rows too: no NaN comes out of finite input.
    #[test]
    fn unkind_matrices_stay_finite(w in matrix(1..=8, 1..=70), scheme in schemes()) {
        prop_assume!(w.values.iter().all(|v| v.abs() < 1e30));
        let q = nearest(view(&w), &scheme).quantized;
        let x = Mat::from_fn(1, w.cols, |_, _| 1.0);
        let y = matmul::apply(&q, x.as_ref()).unwrap();
        prop_assert!(y.col(0).iter().all(|v| v.is_finite()));
    }
}
