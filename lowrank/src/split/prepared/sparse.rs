//! The sparse term, tile by tile.

use crate::Error;
use alloc::{vec, vec::Vec};
use rankbit_quant::matmul::prepared::TILE;
use rankbit_sparse::SparseMatrix;

/// One kept entry of a tile.
#[derive(Clone, Copy, Debug)]
struct Entry {
    column: u32,
    row: u32,
    value: f32,
}

/// Kept entries of 16 rows each, column after column.
#[derive(Clone, Debug)]
pub(super) struct Tiles {
    starts: Vec<usize>,
    entries: Vec<Entry>,
}

impl Tiles {
    /// Zeros that are kept in the storage are left out.
    pub(super) fn new(matrix: &SparseMatrix) -> Result<Self, Error> {
        let (out, features) = matrix.shape();
        let (mut starts, mut entries) = (vec![0], Vec::new());
        let mut row = vec![0.0; features];
        for first in (0..out).step_by(TILE) {
            let from = entries.len();
            for at in first..out.min(first + TILE) {
                matrix.row_into(at, &mut row)?;
                for (column, &value) in row.iter().enumerate().filter(|(_, v)| **v != 0.0) {
                    let too_large = |_| rankbit_quant::Error::TooLarge { what: "sparse term" };
                    let column = u32::try_from(column).map_err(too_large)?;
                    let row = u32::try_from(at - first).map_err(too_large)?;
                    entries.push(Entry { column, row, value });
                }
            }
            entries[from..].sort_by_key(|entry: &Entry| entry.column);
            starts.push(entries.len());
        }
        Ok(Self { starts, entries })
    }

    pub(super) const fn bytes(&self) -> usize {
        self.entries.len() * size_of::<Entry>()
    }

    /// Adds the products of a tile with rows of `features` inputs, as many as `sums`.
    pub(super) fn add(&self, tile: usize, x: &[f32], features: usize, sums: &mut [[f32; TILE]]) {
        let (Some(&from), Some(&to)) = (self.starts.get(tile), self.starts.get(tile + 1)) else { return };
        for (x, sums) in x.chunks_exact(features.max(1)).zip(sums) {
            for entry in &self.entries[from..to] {
                // Columns are below the number of features, rows below that of a tile.
                sums[entry.row as usize] += entry.value * x[entry.column as usize];
            }
        }
    }
}
