//! The few weights that no scale fits, kept by value.
//!
//! ```text
//! M = ∅;  three times:  V = W without M,  s_i = rms of row i of V outside M,  t_j = rms of V_ij / s_i over column j,
//!                       M = { [i, j] : |W_ij / s_i| > τ·t_j }
//! ```
//! τ = 4.5 takes some 0.02 % of a trained matrix's weights (a normal distribution has 0.0007 % there), 48 bits each:
//! 0.01 bits a weight. Without it, one weight of 79 standard deviations ruins the scale of its row and column.
//!
//! What is stored is the *difference* of the weight and what the code says there, in the format of the row scales:
//! so an outlier is right to 2⁻¹¹ of itself whatever its code, and the encoder may count its error as nothing.

use crate::{Error, FloatFormat, Floats};
use alloc::{vec, vec::Vec};
use num_traits::Float;

/// Standard deviations beyond which a weight is kept by value.
pub const THRESHOLD: f64 = 4.5;
/// Rounds in which the mask and the scales settle.
const ROUNDS: usize = 3;

/// Weights by value, down the columns.
#[derive(Clone, PartialEq, Debug)]
pub struct Outliers {
    positions: Vec<u32>,
    values: Floats,
}

impl Outliers {
    /// Outliers at `positions` (`column · out + row`, increasing), each the value to add to what the codes say.
    ///
    /// # Errors
    /// [`Error::PartLength`] when there are not as many values as positions; [`Error::InvalidOutlier`] when a position
    /// is not above the one before it; [`Error::StoredNonFinite`].
    pub fn new(positions: Vec<u32>, values: Floats) -> Result<Self, Error> {
        if positions.len() != values.len() {
            let (expected, found) = (positions.len(), values.len());
            return Err(Error::PartLength { part: "outlier_values", expected, found });
        }
        if let Some(index) = positions.windows(2).position(|pair| pair[0] >= pair[1]) {
            return Err(Error::InvalidOutlier { index: index + 1 });
        }
        match (0..values.len()).find(|&i| !values.get(i).is_finite()) {
            Some(index) => Err(Error::StoredNonFinite { what: "outlier_values", index }),
            None => Ok(Self { positions, values }),
        }
    }

    /// None at all, their values in `format`.
    pub fn none(format: FloatFormat) -> Self {
        Self { positions: Vec::new(), values: Floats::with_capacity(format, 0) }
    }

    /// Whether all lie inside a matrix of this shape.
    pub(crate) fn check(&self, (rows, cols): (usize, usize)) -> Result<(), Error> {
        let entries = rows as u64 * cols as u64;
        match self.positions.last() {
            Some(&last) if u64::from(last) >= entries => {
                Err(Error::InvalidOutlier { index: self.positions.len() - 1 })
            }
            _ => Ok(()),
        }
    }

    /// Their positions, `column · out + row`, increasing.
    pub fn positions(&self) -> &[u32] {
        &self.positions
    }

    /// Their values.
    pub const fn values(&self) -> &Floats {
        &self.values
    }

    /// Every stored bit.
    pub fn stored_bits(&self) -> u64 {
        self.positions.len() as u64 * (32 + self.values.format().bits() as u64)
    }

    /// Row, column and value of each, for a matrix of `rows` rows.
    pub(crate) fn entries(&self, rows: usize) -> impl Iterator<Item = (usize, usize, f32)> {
        let places =
            self.positions.iter().map(move |&at| (at as usize % rows.max(1), at as usize / rows.max(1)));
        places.enumerate().map(|(index, (row, col))| (row, col, self.values.get(index)))
    }
}

/// A matrix with its outliers found: root mean squares of its rows without them, and their positions
/// (`column · out + row`, increasing).
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Found {
    /// rms of each row over all columns, outliers counted as 0.
    pub(crate) row_rms: Vec<f64>,
    pub(crate) positions: Vec<u32>,
}

/// The outliers of the row-major `weight` of `n` columns beyond `threshold`; none for a matrix of 2³² entries or more.
/// Cost O(out · in).
///
/// # Errors
/// [`Error::NonFinite`] naming the first NaN or infinite entry in row order.
pub(crate) fn find(weight: &[f32], (m, n): (usize, usize), threshold: f64) -> Result<Found, Error> {
    if let Some(at) = weight.iter().position(|w| !w.is_finite()) {
        return Err(Error::NonFinite { row: at / n.max(1), col: at % n.max(1) });
    }
    let rows = || weight.chunks_exact(n.max(1));
    // Of each row, the columns masked; none at first.
    let mut mask: Vec<Vec<usize>> = vec![Vec::new(); m];
    let addressable = u32::try_from(m as u64 * n as u64).is_ok();
    let mut limits = vec![0.0; n];
    for _ in 0..if addressable { ROUNDS } else { 0 } {
        limits.fill(0.0);
        let mut rms = vec![0.0; m];
        for ((row, rms), masked) in rows().zip(&mut rms).zip(&mask) {
            *rms = Float::sqrt(norm_squared(row, masked) / (n - masked.len()).max(1) as f64);
            let inverse = if *rms > 0.0 { rms.recip() } else { 0.0 };
            let square = |w: f32| (f64::from(w) * inverse) * (f64::from(w) * inverse);
            for (limit, &w) in limits.iter_mut().zip(row) {
                *limit += square(w);
            }
            for &col in masked {
                limits[col] -= square(row[col]);
            }
        }
        for limit in &mut limits {
            *limit = threshold * Float::sqrt(limit.max(0.0) / m as f64);
        }
        for ((row, rms), masked) in rows().zip(&rms).zip(&mut mask) {
            masked.clear();
            let entries = row.iter().zip(&limits).enumerate();
            masked
                .extend(entries.filter(|(_, (w, limit))| f64::from(w.abs()) > **limit * rms).map(|(j, _)| j));
        }
    }
    let row_rms = rows().zip(&mask).map(|(row, masked)| Float::sqrt(norm_squared(row, masked) / n as f64));
    let row_rms = row_rms.chain(core::iter::repeat(0.0)).take(m).collect();
    let places = mask.iter().enumerate().flat_map(|(i, masked)| masked.iter().map(move |col| col * m + i));
    // All positions of an addressable matrix fit.
    let mut positions: Vec<u32> = places.filter_map(|place| u32::try_from(place).ok()).collect();
    positions.sort_unstable();
    Ok(Found { row_rms, positions })
}

/// Sum of squares of a row without its masked entries; squares in f64 hold every finite f32.
fn norm_squared(row: &[f32], masked: &[usize]) -> f64 {
    let square = |w: f32| f64::from(w) * f64::from(w);
    if masked.is_empty() {
        return row.iter().map(|&w| square(w)).sum();
    }
    row.iter().enumerate().filter(|(j, _)| masked.binary_search(j).is_err()).map(|(_, &w)| square(w)).sum()
}

#[cfg(all(test, feature = "solve"))]
mod tests {
    use super::*;
    use rankbit_linalg::Stream;

    #[test]
    fn the_planted_ones_are_found_and_no_scale_knows_them() {
        let mut normal = vec![0.0_f32; 64 * 96];
        Stream::new(0, "outliers").fill_normal(&mut normal);
        let scale = |at: usize| 0.01 * (1.0 + (at / 96) as f32) * (1.0 + (at % 96) as f32 / 96.0);
        let mut w: Vec<f32> =
            normal.iter().enumerate().map(|(at, x)| x.clamp(-4.0, 4.0) * scale(at)).collect();
        let clean = find(&w, (64, 96), THRESHOLD).unwrap();
        assert!(clean.positions.is_empty());
        let planted: [(usize, usize); 4] = [(3, 5), (60, 5), (63, 95), (0, 0)];
        for (i, j) in planted {
            w[i * 96 + j] = 100.0 * (1.0 + i as f32);
        }
        let found = find(&w, (64, 96), THRESHOLD).unwrap();
        let mut expected: Vec<u32> =
            planted.iter().map(|&(i, j)| u32::try_from(j * 64 + i).unwrap()).collect();
        expected.sort_unstable();
        assert_eq!(found.positions, expected);
        for (rms, clean) in found.row_rms.iter().zip(&clean.row_rms) {
            assert!((rms / clean - 1.0).abs() < 0.1, "{rms} {clean}");
        }
    }

    #[test]
    fn edges() {
        for (m, n) in [(1, 1), (1, 7), (7, 1), (0, 3), (3, 0)] {
            for value in [0.0, 1.0, f32::MAX] {
                let found = find(&vec![value; m * n], (m, n), THRESHOLD).unwrap();
                assert!(found.positions.is_empty(), "{m}x{n} {value}");
                assert!(found.row_rms.len() == m && found.row_rms.iter().all(|rms| rms.is_finite()));
            }
        }
        let w = [1.0, 1.0, 1.0, 1.0, 1.0, f32::NAN];
        assert_eq!(find(&w, (2, 3), THRESHOLD), Err(Error::NonFinite { row: 1, col: 2 }));
    }
}
