//! The two inner loops: products of columns with the residual, and one sweep of coordinate descent. The same bits on
//! every instruction set: 32 partial sums in a fixed order, no fused operations.

use faer::MatRef;

use crate::instructions::Instructions;

/// One problem, as the sweeps see it.
pub(super) struct Problem<'a> {
    /// X, its columns contiguous.
    pub(super) x: MatRef<'a, f64>,
    /// ‖xⱼ‖².
    pub(super) squares: &'a [f64],
    /// λ·wⱼ.
    pub(super) thresholds: &'a [f64],
    /// b ≥ 0.
    pub(super) non_negative: bool,
}

impl Problem<'_> {
    /// Column j; empty where there is none.
    #[inline(always)]
    pub(super) fn column(&self, j: usize) -> &'_ [f64] {
        if j >= self.x.ncols() {
            return &[];
        }
        self.x.col(j).try_as_col_major().map_or(&[], |column| column.as_slice())
    }
}

/// Σ aᵢ·bᵢ.
#[inline(always)]
fn dot(a: &[f64], b: &[f64]) -> f64 {
    const LANES: usize = 32;
    let mut sums = [0.0; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let mut tail = 0.0;
    for (a, b) in a_chunks.remainder().iter().zip(b_chunks.remainder()) {
        tail += a * b;
    }
    for (a, b) in a_chunks.zip(b_chunks) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let mut width = LANES / 2;
    while width > 0 {
        let (low, high) = sums.split_at_mut(width);
        for (low, high) in low.iter_mut().zip(high) {
            *low += *high;
        }
        width /= 2;
    }
    sums.first().copied().unwrap_or(0.0) + tail
}

/// The minimizer of ½s(b − ρ/s)² + t·|b|, or of its part b ≥ 0.
#[inline(always)]
fn shrink(rho: f64, threshold: f64, square: f64, non_negative: bool) -> f64 {
    if rho > threshold {
        (rho - threshold) / square
    } else if rho < -threshold && !non_negative {
        (rho + threshold) / square
    } else {
        0.0
    }
}

#[inline(always)]
fn sweep_with(problem: &Problem<'_>, set: &[usize], b: &mut [f64], residual: &mut [f64]) {
    for &j in set {
        let (Some(&square), Some(&threshold), Some(b)) =
            (problem.squares.get(j), problem.thresholds.get(j), b.get_mut(j))
        else {
            continue;
        };
        if square == 0.0 {
            continue;
        }
        let column = problem.column(j);
        let rho = dot(column, residual) + square * *b;
        let new = shrink(rho, threshold, square, problem.non_negative);
        let change = new - *b;
        if change != 0.0 {
            for (r, x) in residual.iter_mut().zip(column) {
                *r -= change * x;
            }
            *b = new;
        }
    }
}

#[inline(always)]
fn products_with(problem: &Problem<'_>, set: &[usize], residual: &[f64], out: &mut [f64]) {
    for (&j, out) in set.iter().zip(out) {
        *out = dot(problem.column(j), residual);
    }
}

/// The loops, compiled for each instruction set.
impl Instructions {
    /// One sweep of coordinate descent over the columns of `set`, residual = y − X·b kept.
    pub(super) fn sweep(self, problem: &Problem<'_>, set: &[usize], b: &mut [f64], residual: &mut [f64]) {
        match self {
            Self::Portable => sweep_with(problem, set, b, residual),
            // SAFETY: `available` alone makes these values, where the instructions were detected.
            #[cfg(all(feature = "std", target_arch = "x86_64"))]
            Self::Avx2 => unsafe { x86::sweep_avx2(problem, set, b, residual) },
            // SAFETY: as above.
            #[cfg(all(feature = "std", target_arch = "x86_64"))]
            Self::Avx512 => unsafe { x86::sweep_avx512(problem, set, b, residual) },
        }
    }

    /// `out[i]` = the product of column `set[i]` with the residual.
    pub(super) fn products(self, problem: &Problem<'_>, set: &[usize], residual: &[f64], out: &mut [f64]) {
        match self {
            Self::Portable => products_with(problem, set, residual, out),
            // SAFETY: `available` alone makes these values, where the instructions were detected.
            #[cfg(all(feature = "std", target_arch = "x86_64"))]
            Self::Avx2 => unsafe { x86::products_avx2(problem, set, residual, out) },
            // SAFETY: as above.
            #[cfg(all(feature = "std", target_arch = "x86_64"))]
            Self::Avx512 => unsafe { x86::products_avx512(problem, set, residual, out) },
        }
    }
}

#[cfg(all(feature = "std", target_arch = "x86_64"))]
mod x86 {
    use super::{Problem, products_with, sweep_with};

    #[target_feature(enable = "avx2")]
    pub(super) fn sweep_avx2(problem: &Problem<'_>, set: &[usize], b: &mut [f64], residual: &mut [f64]) {
        sweep_with(problem, set, b, residual);
    }

    #[target_feature(enable = "avx512f,avx2")]
    pub(super) fn sweep_avx512(problem: &Problem<'_>, set: &[usize], b: &mut [f64], residual: &mut [f64]) {
        sweep_with(problem, set, b, residual);
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn products_avx2(problem: &Problem<'_>, set: &[usize], residual: &[f64], out: &mut [f64]) {
        products_with(problem, set, residual, out);
    }

    #[target_feature(enable = "avx512f,avx2")]
    pub(super) fn products_avx512(problem: &Problem<'_>, set: &[usize], residual: &[f64], out: &mut [f64]) {
        products_with(problem, set, residual, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Stream;
    use alloc::vec;

    #[test]
    fn instruction_sets_agree() {
        for rows in [0, 1, 31, 32, 33, 100] {
            let columns = 12;
            let mut stream = Stream::new(3, "lasso");
            let mut x = vec![0.0; rows * columns];
            let mut y = vec![0.0; rows];
            stream.fill_normal(&mut x);
            stream.fill_normal(&mut y);
            let squares: vec::Vec<f64> =
                (0..columns).map(|j| x[j * rows..(j + 1) * rows].iter().map(|x| x * x).sum()).collect();
            let thresholds = vec![0.3; columns];
            let set: vec::Vec<usize> = (0..columns).collect();
            for non_negative in [false, true] {
                let problem = Problem {
                    x: MatRef::from_column_major_slice(&x, rows, columns),
                    squares: &squares,
                    thresholds: &thresholds,
                    non_negative,
                };
                let run = |instructions: Instructions| {
                    let (mut b, mut r, mut out) = (vec![0.0; columns], y.clone(), vec![0.0; columns]);
                    instructions.sweep(&problem, &set, &mut b, &mut r);
                    instructions.products(&problem, &set, &r, &mut out);
                    [b, r, out].concat().iter().map(|x| x.to_bits()).collect::<vec::Vec<_>>()
                };
                let portable = run(Instructions::Portable);
                for instructions in Instructions::available() {
                    assert_eq!(run(instructions), portable, "{instructions:?}");
                }
            }
        }
    }
}
