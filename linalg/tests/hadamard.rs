//! The Hadamard rotation: exact orthogonality, isometry, flatness, the dense product, bad input.

use crate::support::{close, gaussian, oracle, single};
use nalgebra::DMatrix;
use proptest::prelude::*;
use rankbit_linalg::faer::{Mat, MatMut, MatRef};
use rankbit_linalg::{Error, Hadamard, Scalar, Stream};

/// All built-in cores.
const CORES: [usize; 13] = [1, 12, 20, 28, 36, 44, 60, 76, 84, 108, 140, 148, 172];

/// T as a dense matrix, from the documented formula alone.
fn dense(rotation: &Hadamard) -> DMatrix<f64> {
    let (n, scale) = (rotation.size(), (rotation.block() as f64).sqrt());
    DMatrix::from_fn(n, n, |i, j| f64::from(rotation.sign(i)) * f64::from(rotation.entry(i, j)) / scale)
}

#[test]
fn rows_are_orthogonal_in_integers() {
    for core in CORES {
        for order in [core, 2 * core, 8 * core] {
            let rotation = Hadamard::with_block(order, order).unwrap();
            assert!(rotation.is_whole());
            let h: Vec<Vec<i32>> =
                (0..order).map(|i| (0..order).map(|j| i32::from(rotation.entry(i, j))).collect()).collect();
            assert!(h.iter().flatten().all(|x| x.abs() == 1), "{order}");
            for (i, a) in h.iter().enumerate() {
                for (j, b) in h.iter().enumerate() {
                    let dot: i32 = a.iter().zip(b).map(|(x, y)| x * y).sum();
                    let expected = if i == j { i32::try_from(order).unwrap() } else { 0 };
                    assert_eq!(dot, expected, "order {order}, rows {i} and {j}");
                }
            }
        }
    }
}

/// The classical definitions, written out independently: Sylvester's recursion, and Paley's by counting squares.
#[test]
fn equals_the_classical_constructions() {
    let sylvester = Hadamard::new(16);
    let mut h = DMatrix::from_element(1, 1, 1.0);
    for _ in 0..4 {
        h = h.kronecker(&DMatrix::from_row_slice(2, 2, &[1.0, 1.0, 1.0, -1.0]));
    }
    assert_eq!(DMatrix::from_fn(16, 16, |i, j| f64::from(sylvester.entry(i, j))), h);
    let paley = Hadamard::new(12);
    for i in 1..12_usize {
        for j in 1..12_usize {
            let square = (1..11).any(|x| x * x % 11 == (11 + i - j) % 11);
            let expected = if i == j || square { 1 } else { -1 };
            assert_eq!(paley.entry(i, j), expected, "{i} {j}");
        }
        assert_eq!((paley.entry(0, i), paley.entry(i, 0)), (1, -1));
    }
    // Kronecker order: powers of two outside, the core inside.
    let (both, core) = (Hadamard::new(48), Hadamard::new(12));
    for (i, j) in [(0_usize, 0_usize), (13, 5), (47, 46), (25, 30), (11, 36)] {
        let outer = if ((i / 12) & (j / 12)).count_ones() % 2 == 0 { 1 } else { -1 };
        assert_eq!(both.entry(i, j), outer * core.entry(i % 12, j % 12));
    }
}

/// Which widths are whole, from the widths of published models, and which block the others take.
#[test]
fn widths_take_their_order() {
    for width in [384, 768, 1536, 2560, 3584, 4096, 5120, 9728, 11008, 13824, 14336, 18944, 28672] {
        assert!(Hadamard::new(width).is_whole(), "{width}");
    }
    for (width, block) in
        [(0, 1), (1, 1), (7, 1), (6, 2), (52, 4), (100, 4), (300, 4), (96, 96), (2304, 2304)]
    {
        let rotation = Hadamard::new(width);
        assert_eq!((rotation.size(), rotation.block()), (width, block));
        assert_eq!(rotation.is_whole(), width <= block, "{width}");
        assert_eq!(Hadamard::with_block(width, block).as_ref(), Ok(&rotation));
    }
}

#[test]
fn a_one_hot_row_becomes_flat() {
    for n in [1, 2, 12, 24, 172, 344, 4096, 11008] {
        let rotation = Hadamard::new(n).with_signs(3);
        for at in [0, n / 3, n - 1] {
            for inverse in [false, true] {
                let mut row = vec![0_f64; n];
                row[at] = -5.0;
                if inverse { rotation.inverse_slice(&mut row) } else { rotation.forward_slice(&mut row) }
                    .unwrap();
                for y in row {
                    close(y.abs(), 5.0 / (n as f64).sqrt(), 1e-14);
                }
            }
        }
    }
}

/// Integers of moderate size, times a power of four: every sum is exact.
#[test]
fn is_exact_where_sums_are() {
    for n in [16, 64, 1024, 4096] {
        let rotation = Hadamard::new(n).with_signs(9);
        let mut stream = Stream::new(n as u64, "integers");
        let original: Vec<f32> =
            (0..3 * n).map(|_| f32::from(u8::try_from(stream.next_below(200)).unwrap()) - 100.0).collect();
        let mut rows = original.clone();
        rotation.forward_slice(&mut rows).unwrap();
        rotation.inverse_slice(&mut rows).unwrap();
        assert_eq!(rows, original, "{n}");
    }
}

proptest! {
    #[test]
    fn equals_the_dense_product(
        n in prop_oneof![0_usize..40, proptest::sample::select(vec![48, 60, 76, 84, 100, 108, 140, 148, 172, 256, 344, 384])],
        rows in 0_usize..7,
        seed in any::<u64>(),
        signed in any::<bool>(),
        layout in 0..3,
    ) {
        let rotation = Hadamard::new(n);
        let rotation = if signed { rotation.with_signs(seed) } else { rotation };
        let x = gaussian(rows, n, seed);
        let (t, oracle_x) = (dense(&rotation), oracle(x.as_ref()));
        for inverse in [false, true] {
            let expected = &oracle_x * if inverse { t.transpose() } else { t.clone() };
            let run = |a: MatMut<'_, f64>| if inverse { rotation.inverse(a) } else { rotation.forward(a) };
            let found = match layout {
                0 => {
                    let mut a = x.clone();
                    run(a.as_mut()).unwrap();
                    a
                }
                1 => {
                    // Rows of a row-major matrix: contiguous.
                    let mut a = x.transpose().to_owned();
                    run(a.as_mut().transpose_mut()).unwrap();
                    a.transpose().to_owned()
                }
                _ => {
                    // Reversed columns: no unit stride. Reversing undoes itself.
                    let mut a = x.as_ref().reverse_cols().to_owned();
                    run(a.as_mut().reverse_cols_mut()).unwrap();
                    a.as_ref().reverse_cols().to_owned()
                }
            };
            let bound = 4e-16 * (n as f64 + 200.0);
            for i in 0..rows {
                let reach: f64 = (0..n).map(|j| x[(i, j)].abs()).sum::<f64>() / (rotation.block() as f64).sqrt();
                for j in 0..n {
                    close(found[(i, j)], expected[(i, j)], bound * reach);
                }
            }
        }
    }

    #[test]
    fn keeps_norms_and_is_undone(n in 1_usize..600, seed in any::<u64>()) {
        let rotation = Hadamard::new(n).with_signs(seed);
        let x = single(gaussian(2, n, seed).as_ref());
        let norm = |a: MatRef<'_, f32>| oracle(Mat::from_fn(a.nrows(), a.ncols(), |i, j| f64::from(a[(i, j)])).as_ref()).norm();
        let mut y = x.clone();
        rotation.forward(y.as_mut()).unwrap();
        // γ of the module's bound, in the norm of a row.
        let unit = f64::from(f32::EPSILON) * 0.5 * 200.0;
        close(norm(y.as_ref()), norm(x.as_ref()), unit * norm(x.as_ref()));
        rotation.inverse(y.as_mut()).unwrap();
        let mut difference = y;
        difference -= &x;
        prop_assert!(norm(difference.as_ref()) <= 2.0 * unit * norm(x.as_ref()));
    }

    #[test]
    fn wrong_shapes_are_errors(n in 0_usize..50, found in 0_usize..50) {
        let rotation = Hadamard::new(n);
        let mut a = Mat::<f32>::zeros(3, found);
        prop_assert_eq!(rotation.forward(a.as_mut()).is_ok(), n == found);
        prop_assert_eq!(rotation.inverse(a.as_mut()).is_ok(), n == found);
        let mut slice = vec![0_f64; found];
        let fits = if n == 0 { found == 0 } else { found % n == 0 };
        prop_assert_eq!(rotation.forward_slice(&mut slice).is_ok(), fits);
        prop_assert_eq!(rotation.inverse_slice(&mut slice).is_ok(), fits);
    }
}

#[test]
fn refuses_blocks_that_are_no_order() {
    for (size, block) in [(8, 0), (8, 3), (8, 16), (12, 6), (104, 52), (usize::MAX, 2), (0, 0), (36, 18)] {
        let found = Hadamard::with_block(size, block);
        assert!(
            matches!(found, Err(Error::InvalidOption { what: "block", .. })),
            "{size} {block}: {found:?}"
        );
    }
    // Any order that divides will do, not only the one of `new`.
    let rotation = Hadamard::with_block(48, 12).unwrap();
    assert!(!rotation.is_whole());
    assert_eq!((rotation.entry(0, 11), rotation.entry(0, 12), rotation.entry(99, 0)), (1, 0, 0));
}

#[test]
fn signs_follow_the_seed_and_are_balanced() {
    let signs = |seed, n| {
        let rotation = Hadamard::new(n).with_signs(seed);
        (0..n).map(|i| rotation.sign(i)).collect::<Vec<i8>>()
    };
    assert_eq!(signs(5, 4096), signs(5, 4096));
    assert_ne!(signs(5, 4096), signs(6, 4096));
    // A longer row starts with the signs of a shorter one.
    assert_eq!(signs(5, 4096)[..100], signs(5, 100));
    let sum: i32 = signs(5, 4096).into_iter().map(i32::from).sum();
    assert!(sum.abs() < 4 * 64, "{sum}");
    // Pinned: files depend on them.
    assert_eq!(signs(0, 8), PINNED);
}

const PINNED: [i8; 8] = [1, -1, 1, 1, -1, -1, -1, -1];

#[test]
fn columns_are_the_rows_of_the_transpose() {
    let rotation = Hadamard::new(24).with_signs(2);
    let a = gaussian(24, 5, 1);
    let t = dense(&rotation);
    for (inverse, expected) in [(false, t.transpose() * oracle(a.as_ref())), (true, &t * oracle(a.as_ref()))]
    {
        let mut found = a.clone();
        let columns = found.as_mut().transpose_mut();
        if inverse { rotation.inverse(columns) } else { rotation.forward(columns) }.unwrap();
        close((oracle(found.as_ref()) - expected).norm(), 0.0, 1e-13);
    }
}

/// Rows that do not lie side by side give the bits of rows that do, whole tiles of them and parts.
#[test]
fn layouts_give_the_same_bits() {
    for n in [1, 2, 4, 24, 64, 100, 172, 256] {
        for count in [1, 15, 16, 17, 40] {
            let rotation = Hadamard::new(n).with_signs(4);
            let x = single(gaussian(count, n, n as u64).as_ref());
            for inverse in [false, true] {
                let mut rows: Vec<f32> = (0..count * n).map(|at| x[(at / n, at % n)]).collect();
                let mut columns = x.clone();
                if inverse {
                    rotation.inverse_slice(&mut rows).unwrap();
                    rotation.inverse(columns.as_mut()).unwrap();
                } else {
                    rotation.forward_slice(&mut rows).unwrap();
                    rotation.forward(columns.as_mut()).unwrap();
                }
                let rows = Mat::from_fn(count, n, |i, j| rows[i * n + j]);
                assert_eq!(rows, columns, "{count} rows of {n}");
            }
        }
    }
}

/// Values near the end of the range survive, NaN spreads over its row and no further.
#[test]
fn extreme_values() {
    let rotation = Hadamard::new(64).with_signs(1);
    let mut rows = vec![f32::MAX / 16.0; 128];
    rows[3] = f32::NAN;
    rotation.forward_slice(&mut rows).unwrap();
    assert!(rows[..64].iter().all(|x| x.is_nan()));
    assert!(rows[64..].iter().all(|x| x.is_finite()));
    let mut tiny = vec![<f32 as Scalar>::from_f64(1e-45); 64];
    rotation.forward_slice(&mut tiny).unwrap();
    assert!(tiny.iter().all(|x| x.is_finite()));
}
