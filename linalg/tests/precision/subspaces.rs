//! The rows of decompositions other than the plain ones: Krylov, streams, updates, metrics; and of the sweep.

use nalgebra::{DMatrix, DVector};
use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_linalg::{
    Error, ErrorFeedback, KrylovOptions, Method, Metric, RootMethod, Scalar, StreamingSvd, SweepOptions,
    krylov, to_tolerance, truncated, weighted, weighted_both,
};

use super::{Row, add_product, gamma, gaussian, wide, worse};

/// A matrix whose singular values are i^-½ up to its rounding to T, and those values, by nalgebra.
fn slow<T: Scalar>(m: usize, n: usize) -> (Mat<T>, Vec<f64>) {
    let basis = |rows: usize, name| wide(gaussian::<f64>(rows, m.min(n), name).as_ref()).qr().q();
    let sigma = DVector::from_fn(m.min(n), |i, _| ((i + 1) as f64).powf(-0.5));
    let a = basis(m, "left") * DMatrix::from_diagonal(&sigma) * basis(n, "right").transpose();
    let a = Mat::from_fn(m, n, |i, j| T::from_f64(a[(i, j)]));
    let values = spectrum(wide(a.as_ref()));
    (a, values)
}

fn spectrum(a: DMatrix<f64>) -> Vec<f64> {
    let mut values: Vec<f64> = a.singular_values().iter().copied().collect();
    values.sort_by(|x, y| y.total_cmp(x));
    values
}

fn tail(values: &[f64], rank: usize) -> f64 {
    values.iter().skip(rank).map(|value| value * value).sum::<f64>().sqrt()
}

/// Largest |UᵀU − I| over γ.
fn orthonormality<T: Scalar>(u: MatRef<'_, T>, operations: usize) -> f64 {
    let u = wide(u);
    let error = (u.transpose() * &u - DMatrix::identity(u.ncols(), u.ncols())).amax();
    worse(0.0, error / gamma::<T>(operations))
}

/// Krylov by its defaults: the error over 1.003 times the least, orthonormality, the stated residual off the measured one
/// over γ·‖A‖; then the error over a tolerance.
fn of_krylov<T: Scalar>() -> Result<[f64; 4], Error> {
    let mut worst = [0.0; 4];
    for (m, n, rank) in [(300, 260, 20), (200, 320, 16), (150, 150, 8)] {
        let (a, values) = slow::<T>(m, n);
        let found = krylov(a.as_ref(), rank, &KrylovOptions::default())?;
        let error = (wide(a.as_ref()) - wide(found.reconstruct().as_ref())).norm();
        worst[0] = worse(worst[0], error / (1.003 * tail(&values, rank)));
        worst[1] = worse(worst[1], orthonormality(found.u.as_ref(), m + n));
        worst[1] = worse(worst[1], orthonormality(found.v.as_ref(), m + n));
        let off = (found.info.residual - error).abs() / (gamma::<T>(m + n) * tail(&values, 0));
        worst[2] = worse(worst[2], off);
        for tolerance in [0.9, 0.6, 0.3] {
            let found = to_tolerance(a.as_ref(), tolerance, &KrylovOptions::default())?;
            let error = (wide(a.as_ref()) - wide(found.reconstruct().as_ref())).norm();
            worst[3] = worse(worst[3], error / (tolerance * tail(&values, 0)));
        }
    }
    Ok(worst)
}

/// Streams: singular values of an exact one over γ·σ₁; the error over the bound returned, and √Δ over the theorem's, of one
/// that shrinks.
fn of_stream<T: Scalar>() -> Result<[f64; 3], Error> {
    let run = |a: &Mat<T>, width: usize, rank: usize| {
        let mut stream = StreamingSvd::new(a.ncols(), width)?;
        for start in (0..a.nrows()).step_by(70) {
            stream.push(a.as_ref().subrows(start, 70.min(a.nrows() - start)))?;
        }
        stream.finish::<T>(rank)
    };
    let mut worst = [0.0; 3];
    let (a, values) = slow::<T>(500, 40);
    for (found, exact) in run(&a, 8, 40)?.singular_values.iter().zip(&values) {
        worst[0] = worse(worst[0], (Scalar::to_f64(*found) - exact).abs() / (gamma::<T>(540) * values[0]));
    }
    let (a, values) = slow::<T>(700, 520);
    let (width, rank) = (64, 12);
    let found = run(&a, width, rank)?;
    let v = wide(found.v.as_ref());
    let a = wide(a.as_ref());
    worst[1] = (&a - &a * &v * v.transpose()).norm() / found.residual_bound;
    for k in 0..=width / 2 {
        let bound = tail(&values, k) / ((width / 2 + 1 - k) as f64).sqrt();
        worst[2] = worse(worst[2], found.sketch_bound / bound);
    }
    Ok(worst)
}

/// Rows appended to a whole decomposition: singular values over γ·σ₁, K = 4·(m + n), and orthonormality.
fn of_update<T: Scalar>() -> Result<[f64; 2], Error> {
    let mut worst = [0.0; 2];
    for (m, n, first) in [(90, 50, 40), (60, 80, 20), (75, 75, 74)] {
        let (a, values) = slow::<T>(m, n);
        let start = truncated(a.as_ref().subrows(0, first), first.min(n))?;
        let found = start.append_rows(a.as_ref().subrows(first, m - first), m.min(n))?;
        for (found, exact) in found.singular_values.iter().zip(&values) {
            let error = (Scalar::to_f64(*found) - exact).abs();
            worst[0] = worse(worst[0], error / (gamma::<T>(4 * (m + n)) * values[0]));
        }
        worst[1] = worse(worst[1], orthonormality(found.u.as_ref(), 4 * (m + n)));
        worst[1] = worse(worst[1], orthonormality(found.v.as_ref(), 4 * (m + n)));
    }
    Ok(worst)
}

/// XᵀX/tokens of unequal columns, exactly symmetric.
fn gram(n: usize) -> Result<Metric, Error> {
    let x = wide(gaussian::<f64>(2 * n, n, "inputs").as_ref());
    let x = DMatrix::from_fn(2 * n, n, |i, j| x[(i, j)] * (1.0 + (j % 5) as f64));
    let h = x.transpose() * &x / (2 * n) as f64;
    Metric::gram(Mat::from_fn(n, n, |i, j| h[(i, j)]))
}

/// The root that nalgebra finds of a form.
fn root_of(metric: &Metric) -> DMatrix<f64> {
    let rankbit_linalg::ColumnMetric::Gram(h) = &metric.columns else { return DMatrix::zeros(0, 0) };
    nalgebra::Cholesky::new(wide(h.as_ref())).map_or_else(|| DMatrix::zeros(0, 0), |root| root.l())
}

/// Weighted approximations: what the error exceeds the least by, over γ·‖A‖_M, K = 4·(m + n): under one form, under two.
fn of_weighted<T: Scalar>() -> Result<[f64; 2], Error> {
    let mut worst = [0.0; 2];
    for (m, n, rank) in [(40, 60, 8), (60, 40, 12), (50, 50, 1)] {
        let a = gaussian::<T>(m, n, "weighted");
        let (left, right) = (gram(m)?, gram(n)?);
        let (sl, sr) = (root_of(&left), root_of(&right));
        let both = weighted_both(a.as_ref(), rank, &left.root(0.0)?, &right.root(0.0)?, &Method::Truncated)?;
        let one = weighted(a.as_ref(), rank, &right.root(0.0)?, &Method::Truncated)?;
        for (at, factors, sl) in [(0, one, DMatrix::identity(m, m)), (1, both, sl)] {
            let seen = |a: DMatrix<f64>| sl.transpose() * a * &sr;
            let values = spectrum(seen(wide(a.as_ref())));
            let product = wide(factors.left.as_ref()) * wide(factors.right.as_ref());
            let error = seen(wide(a.as_ref()) - product).norm();
            let excess = (error - tail(&values, rank)) / (gamma::<T>(4 * (m + n)) * tail(&values, 0));
            worst[at] = worse(worst[at], excess.abs());
        }
    }
    Ok(worst)
}

/// Roots of a form: |S·Sᵀ − H| over γ·|S||S|ᵀ + n·ε·max(diag H), K = n + 3; and what S⁻¹ leaves of S, over γ·|X·S⁻¹||S|.
/// By eigen, which mixes all columns, ‖H‖ and the norms
/// of X·S⁻¹'s rows and of S stand for the entries.
fn of_root<T: Scalar>(method: RootMethod) -> Result<[f64; 2], Error> {
    let mut worst = [0.0; 2];
    for n in [5, 24, 60] {
        let metric = gram(n)?;
        let rankbit_linalg::ColumnMetric::Gram(h) = &metric.columns else { continue };
        let root = metric.root_by(0.0, method)?;
        let identity = Mat::<T>::from_fn(n, n, |i, j| T::from_f64(f64::from(u8::from(i == j))));
        let s = wide(root.apply(identity.as_ref())?.as_ref());
        let x = gaussian::<T>(7, n, "factor");
        let back = wide(root.unapply_right(x.as_ref())?.as_ref());
        let floor = n as f64 * f64::EPSILON * (0..n).map(|i| h[(i, i)]).fold(0.0, f64::max);
        let image = &back * &s;
        let rows = |a: &DMatrix<f64>| DMatrix::from_fn(a.nrows(), 1, |i, _| a.row(i).norm());
        let (reach, size) = if method == RootMethod::Eigen {
            (
                DMatrix::from_element(n, n, spectrum(s.clone())[0].powi(2)),
                rows(&back) * DMatrix::from_element(1, n, s.norm()),
            )
        } else {
            (s.abs() * s.abs().transpose(), back.abs() * s.abs())
        };
        let gamma = gamma::<T>(n + 3);
        for i in 0..n {
            for j in 0..n {
                let mut sum = (-h[(i, j)], 0.0);
                for k in 0..n {
                    sum = add_product(sum, s[(i, k)], s[(j, k)]);
                }
                worst[0] = worse(worst[0], (sum.0 + sum.1).abs() / (gamma * reach[(i, j)] + floor));
            }
            for k in 0..7 {
                let error = (image[(k, i)] - x[(k, i)].to_f64()).abs();
                worst[1] = worse(worst[1], error / (gamma * size[(k, i)]));
            }
        }
    }
    Ok(worst)
}

/// A sweep onto whole numbers: the error it states, and its sum over columns, off tr(E·H·Eᵀ) over γ·tr(|E|·|H|·|E|ᵀ),
/// K = 4n.
fn of_sweep<T: Scalar>() -> Result<[f64; 2], Error> {
    let mut worst = [0.0; 2];
    for (m, n) in [(8, 5), (12, 40), (5, 100)] {
        let rankbit_linalg::ColumnMetric::Gram(h) = gram(n)?.columns else { continue };
        let options = SweepOptions { damping: 0.0, ..SweepOptions::default() };
        let feedback = ErrorFeedback::new(h.as_ref(), &options)?;
        let w = gaussian::<T>(m, n, "sweep");
        let mut by_columns = 0.0;
        let mut onto = |column: usize, target: &[f64], projected: &mut [f64]| {
            for (q, v) in projected.iter_mut().zip(target) {
                *q = v.round();
                by_columns += (v - *q) * (v - *q) * feedback.sensitivity(column);
            }
        };
        let swept = feedback.sweep(w.as_ref(), &mut onto)?;
        let e = wide(w.as_ref()) - wide(swept.projected.as_ref());
        let (mut exact, mut reach) = ((0.0, 0.0), 0.0);
        for i in 0..m {
            for j in 0..n {
                for k in 0..n {
                    // Exact but for the product of two errors, whose rounding is taken along.
                    let (a, b) = (e[(i, j)], e[(i, k)]);
                    exact = add_product(exact, a * b, h[(j, k)]);
                    exact = add_product(exact, a.mul_add(b, -(a * b)), h[(j, k)]);
                    reach += (a * b * h[(j, k)]).abs();
                }
            }
        }
        // Everything is done in f64, whatever W is.
        let allowed = gamma::<f64>(4 * n) * reach;
        worst[0] = worse(worst[0], ((swept.error - exact.0) - exact.1).abs() / allowed);
        worst[1] = worse(worst[1], ((by_columns - exact.0) - exact.1).abs() / allowed);
    }
    Ok(worst)
}

/// Rows that exist in both types.
pub(super) fn rows<T: Scalar>(element: &'static str) -> Result<Vec<Row>, Error> {
    let row = |routine, cases, bound, worst| Row { routine, element, cases, bound, worst };
    let [error, across, stated, tolerance] = of_krylov::<T>()?;
    let [exact, returned, theorem] = of_stream::<T>()?;
    let [values, kept] = of_update::<T>()?;
    let [one, both] = of_weighted::<T>()?;
    let [cholesky, undone] = of_root::<T>(RootMethod::Cholesky)?;
    let [eigen, turned] = of_root::<T>(RootMethod::Eigen)?;
    let [swept, columns] = of_sweep::<T>()?;
    let spectra = "σ ∝ i^-0.5, three shapes";
    let forms = "Gaussian, three shapes, XᵀX";
    let floor = "γ·\\|S\\|\\|S\\|ᵀ + n·ε·max hᵢᵢ, K = n + 3";
    Ok(vec![
        row("`krylov`, error", spectra, "1.003·√Σσⱼ², the least error", error),
        row("`krylov`, UᵀU and VᵀV", spectra, "γ off I, K = m + n", across),
        row("`krylov`, stated residual", spectra, "γ·‖A‖, K = m + n", stated),
        row("`to_tolerance`, error", spectra, "τ·‖A‖, τ = 0.9, 0.6, 0.3", tolerance),
        row("`StreamingSvd`, exact, values", "500×40", "γ·σ₁, K = m + n", exact),
        row("`StreamingSvd`, ‖A − AVVᵀ‖", "700×520, ℓ = 64", "the bound returned", returned),
        row("`StreamingSvd`, √Δ", "700×520, ℓ = 64", "√(Σσⱼ²/(⌊ℓ/2⌋ + 1 − k)), every k", theorem),
        row("`append_rows`, values", spectra, "γ·σ₁, K = 4·(m + n)", values),
        row("`append_rows`, UᵀU and VᵀV", spectra, "γ off I, K = 4·(m + n)", kept),
        row("`weighted`, above the least", forms, "γ·‖A‖_M, K = 4·(m + n)", one),
        row("`weighted_both`, above the least", forms, "γ·‖A‖_M, K = 4·(m + n)", both),
        row("`MetricRoot`, Cholesky, S·Sᵀ", "XᵀX, 5² to 60²", floor, cholesky),
        row("`MetricRoot`, Cholesky, X·S⁻¹·S", "XᵀX, 5² to 60²", "γ·\\|X·S⁻¹\\|\\|S\\|, K = n + 3", undone),
        row("`MetricRoot`, eigen, S·Sᵀ", "XᵀX, 5² to 60²", "γ·‖H‖ + n·ε·max hᵢᵢ, K = n + 3", eigen),
        row("`MetricRoot`, eigen, X·S⁻¹·S", "XᵀX, 5² to 60²", "γ·‖xS⁻¹‖‖S‖, K = n + 3", turned),
        row(
            "`ErrorFeedback`, stated error",
            "onto ℤ, three shapes",
            "γ·tr(\\|E\\|\\|H\\|\\|E\\|ᵀ), K = 4n",
            swept,
        ),
        row(
            "`ErrorFeedback`, sum of columns",
            "onto ℤ, three shapes",
            "γ·tr(\\|E\\|\\|H\\|\\|E\\|ᵀ), K = 4n",
            columns,
        ),
    ])
}
