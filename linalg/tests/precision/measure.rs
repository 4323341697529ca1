//! The worst errors of the routines on fixed matrices, in units of their bounds, as the tables of `tests/precision.md`.
//!
//! Shared by the generator, `examples/precision.rs`, and the test that keeps the file current.

#[path = "subspaces.rs"]
mod subspaces;

use std::fmt::Write;

use nalgebra::DMatrix;
use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_linalg::special::{log_bessel_i, log_bessel_k};
use rankbit_linalg::tucker::{Tensor, tucker};
use rankbit_linalg::{
    Error, Hadamard, LduOptions, MomentKinds, Moments, Pivoting, RandomizedOptions, Scalar, Stream, ldu,
    randomized, solve_spd, truncated,
};

/// One line of the table.
pub(crate) struct Row {
    pub(crate) routine: &'static str,
    pub(crate) element: &'static str,
    /// On what.
    pub(crate) cases: &'static str,
    /// What the error is divided by.
    pub(crate) bound: &'static str,
    /// Largest ratio.
    pub(crate) worst: f64,
}

/// Worst of the log-Bessel functions in one region.
pub(crate) struct Region {
    pub(crate) function: &'static str,
    pub(crate) region: &'static str,
    pub(crate) points: usize,
    /// In units in the last place where |ln| ≥ 1.
    pub(crate) large: f64,
    /// The same where 1e-3 ≤ |ln| < 1.
    pub(crate) small: f64,
    /// Absolute where |ln| < 1, over 4e-16.
    pub(crate) absolute: f64,
}

/// u/(1 − u) with u = K times half the distance from 1 to the next number.
fn gamma<T: Scalar>(operations: usize) -> f64 {
    let unit = T::epsilon().to_f64() / 2.0 * operations as f64;
    unit / (1.0 - unit)
}

/// The larger, NaN being the largest.
fn worse(one: f64, other: f64) -> f64 {
    if other.is_nan() { f64::INFINITY } else { one.max(other) }
}

fn gaussian<T: Scalar>(rows: usize, columns: usize, name: &str) -> Mat<T> {
    let mut stream = Stream::new((rows * 1000 + columns) as u64, name);
    Mat::from_fn(rows, columns, |_, _| T::from_f64(stream.next_normal()))
}

fn wide<T: Scalar>(a: MatRef<'_, T>) -> DMatrix<f64> {
    DMatrix::from_fn(a.nrows(), a.ncols(), |i, j| a[(i, j)].to_f64())
}

/// A number in two parts, the second below rounding of the first.
type Two = (f64, f64);

/// sum + a·b.
fn add_product(sum: Two, a: f64, b: f64) -> Two {
    let product = a * b;
    let low = a.mul_add(b, -product);
    let total = sum.0 + product;
    let part = total - sum.0;
    (total, sum.1 + low + ((sum.0 - (total - part)) + (product - part)))
}

/// |P·A·Q − L·D·U| over γ·|L||D||U|, both in twice the precision.
fn of_ldu<T: Scalar>(pivoting: Pivoting) -> Result<f64, Error> {
    let mut worst = 0.0;
    for (m, n) in [(8, 8), (60, 60), (150, 150), (120, 45), (45, 120)] {
        let a = gaussian::<T>(m, n, "ldu");
        let found = ldu(a.as_ref(), &LduOptions { pivoting, rank: None })?;
        let (lower, upper) = (wide(found.lower().as_ref()), wide(found.upper().as_ref()));
        let gamma = gamma::<T>(found.rank() + 2);
        for i in 0..m {
            for j in 0..n {
                let mut sum = (-a[(found.row_order()[i], found.column_order()[j])].to_f64(), 0.0);
                let mut reach = 0.0;
                for (k, &pivot) in found.diagonal().iter().enumerate().take(i.min(j) + 1) {
                    // Exact in f32; in f64 the product's own rounding is taken along.
                    let (l, d, u) = (lower[(i, k)], pivot.to_f64(), upper[(k, j)]);
                    let product = l * d;
                    sum = add_product(sum, product, u);
                    sum = add_product(sum, l.mul_add(d, -product), u);
                    reach += (product * u).abs();
                }
                worst = worse(worst, (sum.0 + sum.1).abs() / (gamma * reach).max(f64::MIN_POSITIVE));
            }
        }
    }
    Ok(worst)
}

/// |Δ| over γ·Σ|x|/√b, against sums of whole numbers over √b in two parts.
fn of_hadamard<T: Scalar>(core: usize, powers: [usize; 4]) -> Result<f64, Error> {
    let mut worst = 0.0;
    for power in powers {
        let n = core << power;
        let rotation = Hadamard::new(n).with_signs(7);
        let mut stream = Stream::new(n as u64, "hadamard");
        let whole: Vec<f64> = (0..n).map(|_| stream.next_below(1 << 12) as f64 - 2048.0).collect();
        let mut row: Vec<T> = whole.iter().map(|&x| T::from_f64(x)).collect();
        rotation.forward_slice(&mut row)?;
        let root = (n as f64).sqrt();
        let root_low = -root.mul_add(root, -(n as f64)) / (2.0 * root);
        let reach = whole.iter().map(|x| x.abs()).sum::<f64>() / root;
        let gamma = gamma::<T>(power + core + 3);
        for (j, found) in row.iter().enumerate() {
            let sum: f64 = whole
                .iter()
                .enumerate()
                .map(|(i, x)| x * f64::from(rotation.sign(i)) * f64::from(rotation.entry(i, j)))
                .sum();
            let high = sum / root;
            let low = ((-high).mul_add(root, sum) - high * root_low) / root;
            worst = worse(worst, ((Scalar::to_f64(*found) - high) - low).abs() / (gamma * reach));
        }
    }
    Ok(worst)
}

/// |σ̂ᵢ − σᵢ| over γ·σ₁ with K = 4·(m + n), on matrices whose singular values are known exactly.
fn of_truncated<T: Scalar>() -> Result<f64, Error> {
    let mut worst = 0.0;
    for n in [16, 64] {
        // Left and right vectors are Sylvester's of order 4ᵏ: all products are exact.
        let basis = Hadamard::new(n);
        let entry = |i, j| f64::from(basis.entry(i, j)) / (n as f64).sqrt();
        let value = |k: usize| (2 * (n - k)) as f64;
        let a = Mat::from_fn(n, n, |i, j| {
            T::from_f64((0..n).map(|k| entry(i, k) * value(k) * entry(k, (j * 5 + 3) % n)).sum())
        });
        let found = truncated(a.as_ref(), n)?;
        for (k, sigma) in found.singular_values.iter().enumerate() {
            worst = worse(worst, (Scalar::to_f64(*sigma) - value(k)).abs() / (gamma::<T>(8 * n) * value(0)));
        }
    }
    Ok(worst)
}

/// ‖A − U·Σ·Vᵀ‖ over the root of (2 + k/(p − 1))·Σσⱼ², and over the least error.
fn of_randomized<T: Scalar>(power_iterations: usize) -> Result<(f64, f64), Error> {
    let (mut bound, mut least): (f64, f64) = (0.0, 0.0);
    for (m, n, rank) in [(120, 80, 10), (80, 120, 20), (90, 90, 5)] {
        let noise = wide(gaussian::<f64>(m, n, "randomized").as_ref());
        let parts = noise.svd(true, true);
        let (Some(u), Some(v)) = (parts.u, parts.v_t) else { return Ok((f64::NAN, f64::NAN)) };
        let sigma =
            DMatrix::from_fn(
                u.ncols(),
                u.ncols(),
                |i, j| {
                    if i == j { ((i + 1) as f64).powf(-0.5) } else { 0.0 }
                },
            );
        let a = &u * &sigma * &v;
        let a = Mat::from_fn(m, n, |i, j| T::from_f64(a[(i, j)]));
        let options = RandomizedOptions { oversampling: 10, power_iterations, ..Default::default() };
        let found = randomized(a.as_ref(), rank, &options)?;
        let error = (wide(a.as_ref()) - wide(found.reconstruct().as_ref())).norm();
        let tail = (rank..u.ncols()).map(|i| 1.0 / (i + 1) as f64).sum::<f64>().sqrt();
        bound = worse(bound, error / (tail * (2.0 + rank as f64 / 9.0).sqrt()));
        least = worse(least, error / tail);
    }
    Ok((bound, least))
}

/// ‖B − A·X‖ over γ·n·‖A‖·‖X‖ with K = 3n + 1, largest moduli of columns.
fn of_solve() -> Result<f64, Error> {
    let mut worst = 0.0;
    for n in [5, 40, 120] {
        let x = gaussian::<f64>(n + 5, n, "solve");
        let gram = wide(x.as_ref()).transpose() * wide(x.as_ref());
        let a = Mat::from_fn(n, n, |i, j| gram[(i.max(j), i.min(j))]);
        let b = gaussian::<f64>(n, 3, "right-hand side");
        let Some(found) = solve_spd(a.as_ref(), b.as_ref(), 0.0)? else { return Ok(f64::NAN) };
        let norm = wide(a.as_ref()).symmetric_eigenvalues().amax();
        for c in 0..3 {
            let mut residual = 0.0f64;
            let mut size = 0.0;
            for i in 0..n {
                let mut sum = (b[(i, c)], 0.0);
                for k in 0..n {
                    sum = add_product(sum, -a[(i, k)], found[(k, c)]);
                }
                residual = residual.hypot(sum.0 + sum.1);
                size = f64::hypot(size, found[(i, c)]);
            }
            worst = worse(worst, residual / (gamma::<f64>(3 * n + 1) * n as f64 * norm * size));
        }
    }
    Ok(worst)
}

/// |Δ| of the Gram matrix over γ·|X|ᵀ|X|/tokens with K = tokens + 1, against whole numbers.
#[expect(clippy::cast_possible_truncation, reason = "whole numbers below 2¹²⁷, or made so")]
fn of_gram() -> Result<f64, Error> {
    let (tokens, width) = (700, 12);
    let x = gaussian::<f32>(tokens, width, "moments");
    // Multiples of 2⁻²⁰: products and their sums fit 128 bits.
    let whole = |i: usize, j: usize| (f64::from(x[(i, j)]) * 1_048_576.0).round();
    let x = Mat::from_fn(tokens, width, |i, j| <f32 as Scalar>::from_f64(whole(i, j) / 1_048_576.0));
    let whole = |i: usize, j: usize| (f64::from(x[(i, j)]) * 1_048_576.0) as i128;
    let mut moments = Moments::new(width, MomentKinds { gram: true, sample: 0 });
    moments.update(x.as_ref())?;
    let gram = moments.gram()?;
    let mut worst = 0.0;
    for a in 0..width {
        for b in 0..width {
            let sum: i128 = (0..tokens).map(|i| whole(i, a) * whole(i, b)).sum();
            let reach: i128 = (0..tokens).map(|i| (whole(i, a) * whole(i, b)).abs()).sum();
            // The moment is a mean; times 2¹⁰⁰ it is a whole number, up to what is far below its rounding.
            let found = (gram[(a, b)] * 2f64.powi(100)) as i128 * tokens as i128;
            let error = (found - (sum << 60)).abs() as f64 / 2f64.powi(60);
            worst = worse(worst, error / (gamma::<f64>(tokens + 1) * reach as f64));
        }
    }
    Ok(worst)
}

/// |‖X − X̂‖² − (‖X‖² − ‖core‖²)| over γ·‖X‖² with K the sum of the sides; and the error over its mode tails.
fn of_tucker() -> Result<(f64, f64), Error> {
    let shape = [14, 9, 11];
    let mut stream = Stream::new(3, "tucker");
    let values: Vec<f64> =
        (0..14 * 9 * 11).map(|at| stream.next_normal() / (1.0 + (at % 13) as f64)).collect();
    let tensor = Tensor::new(&shape, &values)?;
    let ranks = [5, 4, 6];
    let found = tucker(&tensor, &ranks.map(Some), 0)?;
    let product = found.reconstruct()?;
    let error: f64 = tensor.values().iter().zip(product.values()).map(|(x, y)| (x - y) * (x - y)).sum();
    let identity = (tensor.norm_squared() - found.core.norm_squared() - error).abs();
    let mut tails = 0.0;
    for (mode, rank) in ranks.into_iter().enumerate() {
        let mut sigma: Vec<f64> =
            wide(tensor.unfold(mode)?.as_ref()).singular_values().iter().copied().collect();
        sigma.sort_by(|x, y| y.total_cmp(x));
        tails += sigma.iter().skip(rank).map(|s| s * s).sum::<f64>();
    }
    let sides = shape.iter().sum::<usize>();
    Ok((identity / (gamma::<f64>(sides) * tensor.norm_squared()), (error / tails).sqrt()))
}

/// Rows that exist in both types.
fn generic<T: Scalar>(element: &'static str) -> Result<Vec<Row>, Error> {
    let row = |routine, cases, bound, worst| Row { routine, element, cases, bound, worst };
    let shapes = "Gaussian, five shapes to 150²";
    let reach = "γ·\\|L\\|\\|D\\|\\|U\\|, K = r + 2";
    let sums = "γ·Σ\\|x\\|/√b, K = k + m + 3";
    let (bound, least) = of_randomized::<T>(2)?;
    Ok(vec![
        row("`ldu`, partial", shapes, reach, of_ldu::<T>(Pivoting::Partial)?),
        row("`ldu`, rook", shapes, reach, of_ldu::<T>(Pivoting::Rook)?),
        row("`ldu`, complete", shapes, reach, of_ldu::<T>(Pivoting::Complete)?),
        row("`Hadamard`, 2^k", "widths 32 to 1024", sums, of_hadamard::<T>(1, [5, 6, 9, 10])?),
        row("`Hadamard`, 2^k·12", "widths 12 to 384", sums, of_hadamard::<T>(12, [0, 1, 3, 5])?),
        row("`Hadamard`, 2^k·172", "widths 172 to 5504", sums, of_hadamard::<T>(172, [0, 1, 3, 5])?),
        row("`truncated`, values", "known, 16² and 64²", "γ·σ₁, K = 4·(m + n)", of_truncated::<T>()?),
        row("`randomized`, q = 0", "σ ∝ i^-0.5", "√((2 + k/(p − 1))·Σσⱼ²)", of_randomized::<T>(0)?.0),
        row("`randomized`, q = 2", "σ ∝ i^-0.5", "√((2 + k/(p − 1))·Σσⱼ²)", bound),
        row("`randomized`, q = 2", "σ ∝ i^-0.5", "1.01·√Σσⱼ², the least error", least / 1.01),
    ])
}

/// All routines but the special functions.
pub(crate) fn rows() -> Result<Vec<Row>, Error> {
    let row = |routine, cases, bound, worst| Row { routine, element: "f64", cases, bound, worst };
    let mut rows = generic::<f32>("f32")?;
    rows.extend(subspaces::rows::<f32>("f32")?);
    rows.extend(generic::<f64>("f64")?);
    rows.extend(subspaces::rows::<f64>("f64")?);
    let (identity, tails) = of_tucker()?;
    rows.extend([
        row("`solve_spd`, Cholesky", "XᵀX, 5² to 120²", "γ·n·‖A‖·‖x‖, K = 3n + 1", of_solve()?),
        row("`Moments`, Gram", "700 tokens of 12", "γ·\\|X\\|ᵀ\\|X\\|/tokens, K = tokens + 1", of_gram()?),
        row("`tucker`, ‖X − X̂‖²", "14×9×11 to 5×4×6", "γ·‖X‖² off ‖X‖² − ‖core‖², K = Σ sides", identity),
        row("`tucker`, error", "14×9×11 to 5×4×6", "root of the mode tails' sum", tails),
    ]);
    Ok(rows)
}

/// The log-Bessel functions against more than 30 digits.
pub(crate) fn regions() -> Vec<Region> {
    let names = ["hypot(v, x) ≥ 256", "hypot(v, x) ≥ 32", "x > 8", "x ≤ 8", "x ≤ 4 (I), x ≤ 1 (K)"];
    let mut regions = Vec::new();
    for first in [true, false] {
        let function = if first { "ln I" } else { "ln K" };
        let start = regions.len();
        regions.extend(names.map(|region| Region {
            function,
            region,
            points: 0,
            large: 0.0,
            small: 0.0,
            absolute: 0.0,
        }));
        let vectors = include_str!("../../../tests/vectors/log_bessel.csv");
        for line in vectors.lines().filter(|line| !line.starts_with('#')) {
            let numbers: Vec<f64> = line.split(',').filter_map(|number| number.parse().ok()).collect();
            let &[v, x, i, i_low, k, k_low] = numbers.as_slice() else { continue };
            let (found, high, low) =
                if first { (log_bessel_i(v, x), i, i_low) } else { (log_bessel_k(v, x), k, k_low) };
            let error = ((found - high) - low).abs();
            let square = v * v + x * x;
            let at = if square >= 65536.0 {
                0
            } else if square >= 1024.0 {
                1
            } else if x > 8.0 {
                2
            } else {
                3 + usize::from(x <= if first { 4.0 } else { 1.0 })
            };
            let Some(region) = regions.get_mut(start + at) else { continue };
            region.points += 1;
            let size = high.abs();
            let units = error / (f64::from_bits(size.to_bits() + 1) - size);
            if size >= 1.0 {
                region.large = worse(region.large, units);
            } else {
                region.absolute = worse(region.absolute, error / 4e-16);
                if size >= 1e-3 {
                    region.small = worse(region.small, units);
                }
            }
        }
    }
    regions
}

/// The whole file.
pub(crate) fn document() -> Result<String, Error> {
    let mut text = String::from(
        "# How exact the routines of rankbit-linalg are\n\n\
         Generated: `cargo run --release -p rankbit-linalg --example precision > tests/precision.md`. A test measures anew, and \
         fails when a bound is broken or a line is missing here; the figures are those of one machine.\n\n\
         γ = K·u/(1 − K·u), u half the distance from 1 to the next number of the type. Worst: the largest error measured, in \
         units of the bound. References are sums in twice the precision, whole numbers, matrices whose factors are known \
         exactly, or nalgebra's decompositions.\n\n\
         | routine | type | on | bound | worst |\n|---|---|---|---|---|\n",
    );
    for Row { routine, element, cases, bound, worst } in rows()? {
        let _ = writeln!(text, "| {routine} | {element} | {cases} | {bound} | {worst:.3} |");
    }
    text.push_str(
        "\n## Logarithms of modified Bessel functions\n\n\
         Against the mpmath values in `tests/vectors/log_bessel.csv`, kept in two parts. Bounds: 8 ULP where \
         |ln| ≥ 1e-3, 4e-16 absolute where |ln| < 1, zeros included.\n\n\
         | function | region | points | ULP, \\|ln\\| ≥ 1 | ULP, 1e-3 … 1 | absolute over 4e-16, \\|ln\\| < 1 |\n|---|---|---|---|---|---|\n",
    );
    for Region { function, region, points, large, small, absolute } in regions() {
        let _ =
            writeln!(text, "| {function} | {region} | {points} | {large:.2} | {small:.2} | {absolute:.2} |");
    }
    Ok(text)
}
