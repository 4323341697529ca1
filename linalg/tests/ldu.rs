//! P·A·Q = L·D·U: the theorem's bound, the pivots, other people's decompositions, truncation, bad input.

use crate::support::{Layouts, at_most, close, double, gaussian, matrix_and_rank, norm, oracle, single};
use nalgebra::DMatrix;
use proptest::prelude::*;
use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_linalg::{Error, Ldu, LduOptions, Pivoting, Scalar, ldu};

const ALL: [Pivoting; 3] = [Pivoting::Partial, Pivoting::Rook, Pivoting::Complete];

fn whole(pivoting: Pivoting) -> LduOptions {
    LduOptions { pivoting, rank: None }
}

fn wide<T: Scalar>(a: MatRef<'_, T>) -> DMatrix<f64> {
    DMatrix::from_fn(a.nrows(), a.ncols(), |i, j| a[(i, j)].to_f64())
}

/// Permutations, triangles and the pivots' promises hold; returns the worst |PAQ − LDU| where nothing may be left, in
/// units of γ·|L||D||U|.
fn check<T: Scalar>(a: MatRef<'_, T>, found: &Ldu<T>, pivoting: Pivoting) -> f64 {
    let (m, n) = a.shape();
    let r = found.rank();
    for (order, size) in [(found.row_order(), m), (found.column_order(), n)] {
        let mut sorted = order.to_vec();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..size).collect::<Vec<_>>());
    }
    let (lower, upper) = (wide(found.lower().as_ref()), wide(found.upper().as_ref()));
    assert_eq!((lower.shape(), upper.shape()), ((m, r), (r, n)));
    for i in 0..m {
        for j in 0..r {
            let entry = lower[(i, j)];
            assert!(if i < j { entry == 0.0 } else { i != j || entry == 1.0 }, "L[{i}, {j}] = {entry}");
            at_most(entry.abs(), 1.0, 0.0);
        }
    }
    for i in 0..r {
        for j in 0..n {
            let entry = upper[(i, j)];
            assert!(if i > j { entry == 0.0 } else { i != j || entry == 1.0 }, "U[{i}, {j}] = {entry}");
            assert!(entry.is_finite());
            if pivoting != Pivoting::Partial {
                at_most(entry.abs(), 1.0, 0.0);
            }
        }
    }
    let diagonal = DMatrix::from_diagonal(&nalgebra::DVector::from_iterator(
        r,
        found.diagonal().iter().map(|&pivot| pivot.to_f64()),
    ));
    assert!(diagonal.iter().take(r).all(|pivot| pivot.is_finite()));
    let product = &lower * &diagonal * &upper;
    let reach = lower.abs() * diagonal.abs() * upper.abs();
    let unit = T::epsilon().to_f64() / 2.0 * (r as f64 + 2.0);
    let gamma = unit / (1.0 - unit);
    let mut worst: f64 = 0.0;
    for i in 0..m {
        for j in 0..n {
            if i >= r && j >= r {
                continue;
            }
            let exact = a[(found.row_order()[i], found.column_order()[j])].to_f64();
            let error = (exact - product[(i, j)]).abs();
            // The product in f64 errs too.
            let allowed = gamma * reach[(i, j)] + 1e-15 * (r as f64) * reach[(i, j)] + f64::MIN_POSITIVE;
            assert!(error <= allowed, "{pivoting:?}: {i} {j} of {m}x{n}: {error} > {allowed}");
            if reach[(i, j)] > 0.0 {
                worst = worst.max(error / (gamma * reach[(i, j)]));
            }
        }
    }
    worst
}

proptest! {
    #[test]
    fn factors_multiply_to_the_matrix((a, _) in matrix_and_rank(), layout in 0usize..4) {
        let layouts = Layouts::new(a.as_ref());
        let view = layouts.views()[layout];
        let a32 = single(a.as_ref());
        for pivoting in ALL {
            let found = ldu(view, &whole(pivoting)).unwrap();
            check(view, &found, pivoting);
            let difference = oracle(found.reconstruct().as_ref()) - oracle(a.as_ref());
            at_most(difference.amax(), 0.0, 1e-13 * (1.0 + found.info.growth) * oracle(a.as_ref()).amax());
            at_most(found.info.residual, 0.0, 1e-13 * norm(a.as_ref()));
            let found = ldu(a32.as_ref(), &whole(pivoting)).unwrap();
            check(a32.as_ref(), &found, pivoting);
        }
    }

    /// The factors of rank r are those of the first r steps, and the residual is what they leave.
    #[test]
    fn truncation((a, rank) in matrix_and_rank()) {
        for pivoting in ALL {
            let found = ldu(a.as_ref(), &LduOptions { pivoting, rank: Some(rank) }).unwrap();
            prop_assert!(found.rank() <= rank);
            check(a.as_ref(), &found, pivoting);
            let left = oracle(a.as_ref()) - oracle(found.reconstruct().as_ref());
            close(found.info.residual, left.norm(), 1e-12 * norm(a.as_ref()) * (1.0 + found.info.growth));
            let factors = found.factors();
            let diagonal = DMatrix::from_diagonal(&nalgebra::DVector::from_row_slice(found.diagonal()));
            let product = oracle(factors.left.as_ref()) * diagonal * oracle(factors.right.as_ref());
            close((product - oracle(found.reconstruct().as_ref())).norm(), 0.0, 1e-13 * norm(a.as_ref()) * (1.0 + found.info.growth));
            let full = ldu(a.as_ref(), &whole(pivoting)).unwrap();
            if full.rank() >= found.rank() {
                let largest = oracle(a.as_ref()).amax();
                for (one, other) in found.diagonal().iter().zip(full.diagonal()) {
                    // Pivots near rounding may differ.
                    if one.abs() > 1e-6 * largest {
                        close(*one, *other, 1e-8 * largest);
                    } else {
                        break;
                    }
                }
            }
        }
    }

    /// Every shape and rank, no panic; what is wrong is said.
    #[test]
    fn ranks_beyond_the_smaller_side(m in 0usize..6, n in 0usize..6, rank in 0usize..9) {
        let a = gaussian(m, n, 1);
        for pivoting in ALL {
            let found = ldu(a.as_ref(), &LduOptions { pivoting, rank: Some(rank) });
            if rank > m.min(n) {
                prop_assert_eq!(found.err(), Some(Error::RankOutOfRange { rank, max: m.min(n) }));
            } else {
                prop_assert_eq!(found.unwrap().rank(), rank);
            }
        }
    }

    #[test]
    fn entries_that_are_not_finite(m in 1usize..9, n in 1usize..9, at in any::<proptest::sample::Index>(), nan in any::<bool>()) {
        let mut a = gaussian(m, n, 2);
        let at = at.index(m * n);
        let (row, col) = (at % m, at / m);
        a[(row, col)] = if nan { f64::NAN } else { f64::NEG_INFINITY };
        // A later one, in the order of columns, is not the first.
        a[(m - 1, n - 1)] = if (row, col) == (m - 1, n - 1) { a[(row, col)] } else { f64::NAN };
        for pivoting in ALL {
            prop_assert_eq!(ldu(a.as_ref(), &whole(pivoting)).err(), Some(Error::NonFinite { what: "matrix", row, col }));
        }
    }
}

/// nalgebra's pivots: partial and complete, rectangular too, past the size of a panel.
#[test]
fn as_nalgebra() {
    for (m, n) in [(1, 1), (5, 5), (40, 40), (33, 70), (70, 33), (129, 129)] {
        let a = gaussian(m, n, (m + n) as u64);
        let found = ldu(a.as_ref(), &whole(Pivoting::Partial)).unwrap();
        let (p, l, u) = oracle(a.as_ref()).lu().unpack();
        let mut rows = DMatrix::from_fn(m, 1, |i, _| i as f64);
        p.permute_rows(&mut rows);
        for (i, &row) in found.row_order().iter().enumerate() {
            assert_eq!(rows[(i, 0)], row as f64, "{m}x{n}");
        }
        let r = m.min(n);
        let (lower, upper) = (oracle(found.lower().as_ref()), oracle(found.upper().as_ref()));
        close((&lower - &l).amax(), 0.0, 1e-11);
        for i in 0..r {
            close(found.diagonal()[i], u[(i, i)], 1e-11 * u[(i, i)].abs().max(1.0));
            for j in i..n {
                let theirs = u[(i, j)] / u[(i, i)];
                close(upper[(i, j)], theirs, 1e-9 * theirs.abs().max(1.0));
            }
        }
        assert!(!found.info.columns_exchanged);

        let found = ldu(a.as_ref(), &whole(Pivoting::Complete)).unwrap();
        let (_, _, u, _) = oracle(a.as_ref()).full_piv_lu().unpack();
        for i in 0..r {
            close(found.diagonal()[i].abs(), u[(i, i)].abs(), 1e-10 * u[(i, i)].abs().max(1e-3));
        }
        // Growth of complete pivoting on random matrices is small, and its pivots do not rise much.
        assert!(found.info.growth < 10.0);
    }
}

/// The product of pivots is the determinant, up to the sign of the permutations.
#[test]
fn determinant() {
    fn sign(order: &[usize]) -> f64 {
        let mut order = order.to_vec();
        let mut sign = 1.0;
        for i in 0..order.len() {
            while order[i] != i {
                let other = order[i];
                order.swap(i, other);
                sign = -sign;
            }
        }
        sign
    }
    let a = gaussian(17, 17, 4);
    let expected = oracle(a.as_ref()).determinant();
    for pivoting in ALL {
        let found = ldu(a.as_ref(), &whole(pivoting)).unwrap();
        let product: f64 = found.diagonal().iter().product();
        close(
            product * sign(found.row_order()) * sign(found.column_order()),
            expected,
            1e-11 * expected.abs(),
        );
    }
}

#[test]
fn sizes_around_panels_in_both_types() {
    for (m, n) in
        [(15, 17), (16, 16), (17, 15), (31, 33), (64, 64), (65, 63), (200, 40), (40, 200), (150, 150)]
    {
        let a = gaussian(m, n, m as u64);
        let a32 = single(a.as_ref());
        for pivoting in ALL {
            let worst = check(a.as_ref(), &ldu(a.as_ref(), &whole(pivoting)).unwrap(), pivoting);
            let worst32 = check(a32.as_ref(), &ldu(a32.as_ref(), &whole(pivoting)).unwrap(), pivoting);
            assert!(worst <= 1.0 && worst32 <= 1.0);
        }
    }
}

/// Rank deficient in exact arithmetic: zero columns, repeated rows, a staircase.
#[test]
fn singular() {
    let zero_columns =
        Mat::from_fn(
            20,
            20,
            |i, j| {
                if j % 3 == 0 { 0.0 } else { ((i * 7 + j * 5 + i * j) % 11) as f64 - 5.0 }
            },
        );
    let staircase = Mat::from_fn(40, 50, |i, j| if j > i + 3 { (1 + (i + j) % 3) as f64 } else { 0.0 });
    let nilpotent = Mat::from_fn(2, 2, |i, j| f64::from(u8::from(i == 0 && j == 1)));
    let one_row = Mat::from_fn(30, 35, |i, j| if i == 17 { j as f64 } else { 0.0 });
    let repeated = Mat::from_fn(24, 24, |i, j| ((i / 2 * 5 + j * 3) % 7) as f64);
    for (a, rank) in [
        (&zero_columns, None),
        (&staircase, Some(40)),
        (&nilpotent, Some(1)),
        (&one_row, Some(1)),
        (&repeated, None),
    ] {
        let a32 = single(a.as_ref());
        for pivoting in ALL {
            let found = ldu(a.as_ref(), &whole(pivoting)).unwrap();
            check(a.as_ref(), &found, pivoting);
            let difference = oracle(found.reconstruct().as_ref()) - oracle(a.as_ref());
            close(difference.amax(), 0.0, 1e-12 * oracle(a.as_ref()).amax());
            if let Some(rank) = rank {
                assert_eq!(found.rank(), rank, "{pivoting:?}");
            }
            let found = ldu(a32.as_ref(), &whole(pivoting)).unwrap();
            check(a32.as_ref(), &found, pivoting);
            let difference = oracle(double(found.reconstruct().as_ref()).as_ref()) - oracle(a.as_ref());
            close(difference.amax(), 0.0, 1e-4 * oracle(a.as_ref()).amax());
        }
    }
    let found = ldu(nilpotent.as_ref(), &LduOptions::default()).unwrap();
    assert_eq!((found.column_order(), found.info.columns_exchanged), (&[1, 0][..], true));
}

/// A pivot so small that U would overflow is not taken.
#[test]
fn tiny_pivots() {
    let a =
        Mat::from_fn(3, 3, |i, j| if j == 0 { 1e-310 * (i + 1) as f64 } else { (i * 3 + j * j + 1) as f64 });
    for pivoting in ALL {
        let found = ldu(a.as_ref(), &whole(pivoting)).unwrap();
        check(a.as_ref(), &found, pivoting);
    }
}

#[test]
fn empty_single_and_zero() {
    for pivoting in ALL {
        for (m, n) in [(0, 0), (0, 5), (5, 0)] {
            let found = ldu(Mat::<f64>::zeros(m, n).as_ref(), &whole(pivoting)).unwrap();
            assert_eq!((found.rank(), found.reconstruct().shape()), (0, (m, n)));
            assert_eq!((found.info.residual, found.info.growth), (0.0, 1.0));
        }
        let found = ldu(Mat::<f64>::zeros(7, 4).as_ref(), &whole(pivoting)).unwrap();
        assert_eq!((found.rank(), found.info.residual), (0, 0.0));
        assert_eq!(found.reconstruct(), Mat::<f64>::zeros(7, 4));
        let found = ldu(Mat::from_fn(1, 1, |_, _| -3.0f32).as_ref(), &whole(pivoting)).unwrap();
        assert_eq!((found.diagonal(), found.rank()), (&[-3.0f32][..], 1));
        let a = gaussian(6, 9, 3);
        let found = ldu(a.as_ref(), &LduOptions { pivoting, rank: Some(0) }).unwrap();
        assert_eq!((found.lower().shape(), found.upper().shape()), ((6, 0), (0, 9)));
        close(found.info.residual, norm(a.as_ref()), 1e-14 * norm(a.as_ref()));
    }
}

/// Scaling by a power of two changes D alone, to the ends of the range.
#[test]
fn wildly_scaled() {
    let a = gaussian(30, 20, 8);
    for exponent in [-990, -500, 300, 500, 990] {
        let factor = 2f64.powi(exponent);
        let scaled = Mat::from_fn(30, 20, |i, j| a[(i, j)] * factor);
        for pivoting in ALL {
            for rank in [None, Some(7)] {
                let options = LduOptions { pivoting, rank };
                let (plain, found) =
                    (ldu(a.as_ref(), &options).unwrap(), ldu(scaled.as_ref(), &options).unwrap());
                assert_eq!(plain.lower(), found.lower());
                assert_eq!(plain.upper(), found.upper());
                for (one, other) in plain.diagonal().iter().zip(found.diagonal()) {
                    assert_eq!(one * factor, *other);
                }
                close(found.info.residual / factor, plain.info.residual, 1e-12);
            }
        }
    }
    let scaled = Mat::from_fn(9, 9, |i, j| a[(i, j)] * 1e150);
    let found = ldu(scaled.as_ref(), &LduOptions { pivoting: Pivoting::Rook, rank: Some(3) }).unwrap();
    assert!(found.info.residual > 1e149 && found.info.residual < 1e152);
    let largest = Mat::from_fn(2, 2, |i, j| if i + j == 2 { -f64::MAX } else { f64::MAX });
    for pivoting in ALL {
        let found = ldu(largest.as_ref(), &whole(pivoting)).err();
        assert!(matches!(found, Some(Error::NonFinite { what: "diagonal", .. })), "{found:?}");
    }
}

/// The classical worst case of partial pivoting: growth 2ⁿ⁻¹, reported; the others have none.
#[test]
fn growth() {
    let n = 24;
    let a = Mat::from_fn(n, n, |i, j| {
        if i == j || j == n - 1 {
            1.0
        } else if i > j {
            -1.0
        } else {
            0.0
        }
    });
    let growth = |pivoting| ldu(a.as_ref(), &whole(pivoting)).unwrap().info.growth;
    assert_eq!(growth(Pivoting::Partial), 2f64.powi(23));
    assert!(growth(Pivoting::Rook) <= 4.0 && growth(Pivoting::Complete) <= 2.0);
}

/// Complete pivoting never takes a smaller pivot than is left: the first is the largest of all.
#[test]
fn complete_takes_the_largest() {
    let a = gaussian(25, 31, 77);
    let found = ldu(a.as_ref(), &whole(Pivoting::Complete)).unwrap();
    assert_eq!(found.diagonal()[0].abs(), oracle(a.as_ref()).amax());
    for rank in 1..20 {
        let cut = ldu(a.as_ref(), &LduOptions { pivoting: Pivoting::Complete, rank: Some(rank) }).unwrap();
        let left = oracle(a.as_ref()) - oracle(cut.reconstruct().as_ref());
        close(found.diagonal()[rank].abs(), left.amax(), 1e-13);
    }
}
