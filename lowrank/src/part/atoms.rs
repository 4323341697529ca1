//! A dense left factor times a right factor with few entries in every column.
//!
//! ```text
//! minimize ‖E - L·R‖_M   over L: [out, r], R: [r, in] with s non-zeros in every column
//!
//! 1.  L begins as the left factor of [E]_r under the metric
//! 2.  each column of R by orthogonal matching pursuit: again and again the column of L that correlates most with what is
//!     left, then all chosen coefficients anew by least squares
//! 3.  L = E·H·Rᵀ·(R·H·Rᵀ)⁻¹; from 2 again while the error falls; the best pair is kept
//! ```
//! Source: DSFormer, arXiv 2312.13211 (the factorization that its training starts from). Step 2 leaves correlations between
//! inputs aside, step 3 and the choice of the best do not.

use super::factors::{best_left, decoded, multiply, narrow, residual, wide};
use crate::low_rank::Atoms;
use crate::{Error, Factor, LowRank};
use alloc::{vec, vec::Vec};
use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_linalg::{Factors, Metric, solve_spd};
use rankbit_quant::{FloatFormat, Floats};

/// Alternations at most.
const ROUNDS: usize = 8;
/// Share of the error below which another one is not worth its time.
const GAIN: f64 = 1e-3;
/// Added to the diagonal of the small systems, as a fraction of its mean.
const DAMPING: f64 = 1e-10;

/// Both factors, and whether f32 had to be taken because f16's range was too small.
pub(super) fn encode(
    target: MatRef<'_, f32>,
    factors: &Factors<f32>,
    per_column: u32,
    metric: &Metric,
) -> Result<(LowRank, bool), Error> {
    let (rank, inputs) = (factors.left.ncols(), target.ncols());
    let count = usize::try_from(per_column).unwrap_or(usize::MAX);
    if count == 0 || count > rank {
        return Err(Error::RankOutOfRange { rank: count, max: rank });
    }
    let wide_target = wide(target);
    let mut dense = wide(factors.left.as_ref());
    let mut best: Option<(f64, LowRank, bool)> = None;
    for _ in 0..ROUNDS {
        let (rows, values) = pursue(&wide_target, &dense, count)?;
        let sparse = scatter(&rows, &values, (rank, inputs), count);
        if let (_, Some(solved)) = best_left(&wide_target, &sparse, metric, DAMPING)? {
            dense = solved;
        }
        let (left, left_widened) = Factor::encode(narrow(dense.as_ref()).as_ref(), FloatFormat::F16);
        let values: Vec<f32> = values.iter().map(|&value| FloatFormat::F32.round(value)).collect();
        let (values, widened) = Floats::encode_or_widen(&values, FloatFormat::F16);
        let right = Factor::sparse(Atoms::new(rank, per_column, rows, values)?);
        let residual = residual(wide_target.clone(), &decoded(&left), &decoded(&right));
        let error = metric.norm_squared(residual.as_ref())?;
        let last = best.as_ref().map_or(f64::INFINITY, |(error, ..)| *error);
        if error < last {
            best = Some((error, LowRank::new(left, right)?, left_widened || widened));
        }
        if error > last * (1.0 - GAIN) {
            break;
        }
    }
    match best {
        Some((_, low_rank, widened)) => Ok((low_rank, widened)),
        None => Err(Error::Overflow { row: 0, col: 0 }),
    }
}

/// S as a matrix.
fn scatter(atoms: &[u32], values: &[f64], (rank, inputs): (usize, usize), per_column: usize) -> Mat<f64> {
    let mut sparse = Mat::zeros(rank, inputs);
    for (at, (&atom, &value)) in atoms.iter().zip(values).enumerate() {
        sparse[(atom as usize, at / per_column)] = value;
    }
    sparse
}

/// Step 2 for every column, through the atoms' Gram matrix.
fn pursue(target: &Mat<f64>, dense: &Mat<f64>, per_column: usize) -> Result<(Vec<u32>, Vec<f64>), Error> {
    let gram = multiply(dense.transpose(), dense.as_ref());
    let correlations = multiply(dense.transpose(), target.as_ref());
    let rank = gram.nrows();
    let (mut atoms, mut values) = (Vec::new(), Vec::new());
    for j in 0..target.ncols() {
        let mut chosen: Vec<usize> = Vec::with_capacity(per_column);
        let mut coefficients = vec![0.0_f64; 0];
        while chosen.len() < per_column {
            // What is left of the correlations, per unit of each atom; of equal ones the first.
            let mut next = (f64::NEG_INFINITY, usize::MAX);
            for atom in (0..rank).filter(|atom| !chosen.contains(atom)) {
                let taken: f64 = chosen.iter().zip(&coefficients).map(|(&k, c)| gram[(atom, k)] * c).sum();
                let norm = gram[(atom, atom)];
                let left = correlations[(atom, j)] - taken;
                let score = if norm > 0.0 { left * left / norm } else { -1.0 };
                if score > next.0 {
                    next = (score, atom);
                }
            }
            chosen.push(next.1);
            chosen.sort_unstable();
            let system = Mat::from_fn(chosen.len(), chosen.len(), |a, b| gram[(chosen[a], chosen[b])]);
            let sides = Mat::from_fn(chosen.len(), 1, |a, _| correlations[(chosen[a], j)]);
            coefficients = match solve_spd(system.as_ref(), sides.as_ref(), DAMPING)? {
                Some(solved) => solved.col(0).iter().copied().collect(),
                None => vec![0.0; chosen.len()],
            };
        }
        for atom in chosen {
            atoms.push(u32::try_from(atom).map_err(|_| rankbit_quant::Error::TooLarge { what: "atoms" })?);
        }
        values.extend(coefficients);
    }
    Ok((atoms, values))
}
