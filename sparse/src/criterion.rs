//! How much an entry matters: scores that [`select`](crate::select()) turns into masks.
//!
//! | function | score of `W_ij` | needs |
//! |---|---|---|
//! | [`magnitude`] | `\|W_ij\|` | |
//! | [`wanda`] | `\|W_ij\|·‖X_j‖` | second moments |
//! | [`ria`] | `(\|W_ij\|/Σ_k\|W_ik\| + \|W_ij\|/Σ_k\|W_kj\|)·‖X_j‖^a` | second moments |
//! | [`adapter_gradient`] | `\|G_ij·(W + c·B·A)_ij\|`, `G` from an adapter's gradients | gradients of A and B |
//! | [`dimap`] | `W²` over the module's mass of entries at least as large | |
//!
//! Scores are f64: the product of two f32 is exact there, so that no two magnitudes become equal on the way.

use crate::{Error, dense::wide};
use alloc::{vec, vec::Vec};
use num_traits::Float;
use rankbit_linalg::faer::{Mat, MatRef};

/// `|W_ij|`.
///
/// # Errors
/// [`Error::NonFinite`] naming a NaN or infinite weight.
pub fn magnitude(weight: MatRef<'_, f32>) -> Result<Mat<f64>, Error> {
    check_finite(weight, "weight")?;
    Ok(Mat::from_fn(weight.nrows(), weight.ncols(), |i, j| f64::from(weight[(i, j)]).abs()))
}

/// Wanda: `|W_ij|·√h_j` with `h_j` the second moment of input j (any common factor is irrelevant).
///
/// The exact loss of removing one weight when inputs are uncorrelated.
///
/// Source: Sun, Liu, Bair, Kolter 2023, arXiv 2306.11695, equation 1.
///
/// # Errors
/// [`Error::ShapeMismatch`] for another number of inputs; [`Error::NonFinite`]; [`Error::InvalidOption`] for a
/// negative second moment.
pub fn wanda(weight: MatRef<'_, f32>, second_moment: &[f64]) -> Result<Mat<f64>, Error> {
    weighted(magnitude(weight)?, second_moment, 0.5)
}

/// RIA, relative importance and activations: Wanda on weights measured against their row and their column, with
/// activations to the power `power` (0.5 in the paper). No input or output can lose all its weights as easily.
///
/// Source: Zhang et al., Plug-and-Play, ICLR 2024, equations 3 and 4.
///
/// # Errors
/// As [`wanda`]; [`Error::InvalidOption`] for a power that is negative or not finite.
pub fn ria(weight: MatRef<'_, f32>, second_moment: &[f64], power: f64) -> Result<Mat<f64>, Error> {
    if !(power.is_finite() && power >= 0.0) {
        return Err(Error::InvalidOption {
            what: "power",
            requirement: "finite and not negative",
            found: power,
        });
    }
    let mut scores = magnitude(weight)?;
    let (rows, cols) = scores.shape();
    let (mut row_sums, mut col_sums) = (vec![0.0; rows], vec![0.0; cols]);
    for j in 0..cols {
        for i in 0..rows {
            row_sums[i] += scores[(i, j)];
            col_sums[j] += scores[(i, j)];
        }
    }
    let share = |value: f64, sum: f64| if sum > 0.0 { value / sum } else { 0.0 };
    for j in 0..cols {
        for i in 0..rows {
            let value = scores[(i, j)];
            scores[(i, j)] = share(value, row_sums[i]) + share(value, col_sums[j]);
        }
    }
    weighted(scores, second_moment, power / 2.0)
}

/// `scores_ij · h_j^exponent`.
fn weighted(mut scores: Mat<f64>, second_moment: &[f64], exponent: f64) -> Result<Mat<f64>, Error> {
    if second_moment.len() != scores.ncols() {
        let (expected, found) = ((1, scores.ncols()), (1, second_moment.len()));
        return Err(Error::ShapeMismatch { what: "second moments", expected, found });
    }
    for (col, &h) in second_moment.iter().enumerate() {
        if !h.is_finite() {
            return Err(Error::NonFinite { what: "second moments", row: 0, col });
        }
        if h < 0.0 {
            return Err(Error::InvalidOption {
                what: "second moment",
                requirement: "not negative",
                found: h,
            });
        }
        let factor = if exponent == 0.5 { Float::sqrt(h) } else { Float::powf(h, exponent) };
        scores.col_as_slice_mut(col).iter_mut().for_each(|score| *score *= factor);
    }
    Ok(scores)
}

/// An adapter `W + scale·B·A` with the gradients of its factors.
#[derive(Clone, Copy, Debug)]
pub struct Adapter<'a> {
    /// `B: [out, r]`.
    pub left: MatRef<'a, f32>,
    /// `A: [r, in]`.
    pub right: MatRef<'a, f32>,
    /// Gradient of B.
    pub left_gradient: MatRef<'a, f32>,
    /// Gradient of A.
    pub right_gradient: MatRef<'a, f32>,
    /// Factor of the product.
    pub scale: f32,
}

/// LoRAPrune: the first-order importance of the merged weight, its gradient rebuilt from the adapter's gradients
/// alone, so that the frozen weight needs none.
///
/// ```text
/// G = dB·A + B·dA − dB·dA,   score = |G ∘ (W + scale·B·A)|
/// ```
/// `(B − dB)(A − dA) = B·A − G`: the change of the product by one gradient step of unit rate. To prune whole heads or
/// channels sum the scores over them. The paper's formula squares this, its code takes the magnitude: the same masks.
///
/// Source: Zhang et al., ACL Findings 2024, arXiv 2305.18403, equations 5 to 8.
///
/// # Errors
/// [`Error::ShapeMismatch`]; [`Error::NonFinite`].
pub fn adapter_gradient(weight: MatRef<'_, f32>, adapter: &Adapter<'_>) -> Result<Mat<f64>, Error> {
    let (rows, cols) = weight.shape();
    let rank = adapter.left.ncols();
    for (what, matrix, expected) in [
        ("left factor", adapter.left, (rows, rank)),
        ("left gradient", adapter.left_gradient, (rows, rank)),
        ("right factor", adapter.right, (rank, cols)),
        ("right gradient", adapter.right_gradient, (rank, cols)),
    ] {
        if matrix.shape() != expected {
            return Err(Error::ShapeMismatch { what, expected, found: matrix.shape() });
        }
        check_finite(matrix, what)?;
    }
    check_finite(weight, "weight")?;
    let (b, a) = (wide(adapter.left), wide(adapter.right));
    let (db, da) = (wide(adapter.left_gradient), wide(adapter.right_gradient));
    // dB·A + (B − dB)·dA
    let gradient = crate::dense::product(db.as_ref(), a.as_ref())
        + crate::dense::product((&b - &db).as_ref(), da.as_ref());
    let product = crate::dense::product(b.as_ref(), a.as_ref());
    let scale = f64::from(adapter.scale);
    let scores = Mat::from_fn(rows, cols, |i, j| {
        (gradient[(i, j)] * (f64::from(weight[(i, j)]) + scale * product[(i, j)])).abs()
    });
    crate::select::check(scores.as_ref())?;
    Ok(scores)
}

/// DIMAP: the importance of every weight of a module (the flattened weights of, say, one block's QKV), comparable
/// across modules and without data.
///
/// ```text
/// Imp(w_p) = w_p² / Σ_{q: |w_q| ≥ |w_p|} w_q²
/// ```
/// Largest weight 1; a common factor changes nothing; monotone in |w|. Pruning the lowest over all modules bounds each
/// module's relative distortion. Entries of equal magnitude share one value. A module of zeros scores 0 throughout.
///
/// Source: He and Zhou, ICLR 2024, arXiv 2404.13648, equation 9.
///
/// # Errors
/// [`Error::NonFinite`] (position as column).
pub fn dimap(module: &[f32]) -> Result<Vec<f64>, Error> {
    if let Some(col) = module.iter().position(|w| !w.is_finite()) {
        return Err(Error::NonFinite { what: "weight", row: 0, col });
    }
    let mut order: Vec<usize> = (0..module.len()).collect();
    order.sort_by(|&a, &b| module[b].abs().total_cmp(&module[a].abs()));
    let mut scores = vec![0.0; module.len()];
    let (mut mass, mut start) = (0.0, 0);
    while let Some(&first) = order.get(start) {
        let square = f64::from(module[first]) * f64::from(module[first]);
        let len = order[start..].iter().take_while(|&&at| module[at].abs() == module[first].abs()).count();
        mass += square * len as f64;
        for &at in &order[start..start + len] {
            scores[at] = if mass > 0.0 { square / mass } else { 0.0 };
        }
        start += len;
    }
    Ok(scores)
}

/// Keeps the ⌈density · all⌉ entries of largest score over several modules; of equal scores the earlier module and
/// lower index. Returns for each module which entries are kept.
///
/// # Errors
/// [`Error::InvalidOption`] for a density that is not between 0 and 1; [`Error::NonFinite`] for a score that is not a
/// number (module as row).
pub fn select_across(modules: &[Vec<f64>], density: f64) -> Result<Vec<Vec<bool>>, Error> {
    if !(0.0..=1.0).contains(&density) {
        return Err(Error::InvalidOption { what: "density", requirement: "between 0 and 1", found: density });
    }
    for (row, scores) in modules.iter().enumerate() {
        if let Some(col) = scores.iter().position(|s| !s.is_finite()) {
            return Err(Error::NonFinite { what: "score", row, col });
        }
    }
    let flat: Vec<f64> = modules.iter().flatten().copied().collect();
    let mut kept = vec![false; flat.len()];
    for at in crate::select::largest(&flat, crate::pattern::kept_of(density, flat.len())) {
        kept[at] = true;
    }
    let mut rest = kept.as_slice();
    Ok(modules
        .iter()
        .map(|scores| {
            let (module, after) = rest.split_at(scores.len());
            rest = after;
            module.to_vec()
        })
        .collect())
}

/// Names the first NaN or infinite entry.
pub(crate) fn check_finite(matrix: MatRef<'_, f32>, what: &'static str) -> Result<(), Error> {
    for (row, entries) in matrix.row_iter().enumerate() {
        if let Some(col) = entries.iter().position(|value| !value.is_finite()) {
            return Err(Error::NonFinite { what, row, col });
        }
    }
    Ok(())
}
