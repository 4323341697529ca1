//! A semi-structured sparse right factor: the same number of non-zeros in every column.

use crate::Error;
use alloc::{vec, vec::Vec};
use rankbit_quant::Floats;

/// `R: [r, in]` with exactly s entries in every column: which rows (atoms) they are in, and their values.
///
/// `in·s·(bits of a value + 8, 16 or 32 bits of an atom's number)` stored bits.
#[derive(Clone, PartialEq, Debug)]
pub struct Atoms {
    rank: usize,
    per_column: u32,
    rows: Vec<u32>,
    values: Floats,
}

impl Atoms {
    /// A factor of `rank` rows from its entries, column by column, `rows` increasing within a column.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for lengths that are no multiple of `per_column` or differ, rows that are out of range or
    /// not increasing; [`Error::RankOutOfRange`] for a count of 0 or above the rank;
    /// [`rankbit_quant::Error::StoredNonFinite`].
    pub fn new(rank: usize, per_column: u32, rows: Vec<u32>, values: Floats) -> Result<Self, Error> {
        let count = usize::try_from(per_column).unwrap_or(usize::MAX);
        if count == 0 || count > rank {
            return Err(Error::RankOutOfRange { rank: count, max: rank });
        }
        if rows.len() != values.len() || rows.is_empty() || !rows.len().is_multiple_of(count) {
            let (expected, found) = ((rows.len().div_ceil(count), count), (1, values.len()));
            return Err(Error::ShapeMismatch { what: "entries of a sparse factor", expected, found });
        }
        for column in rows.chunks_exact(count) {
            if !column.is_sorted_by(|a, b| a < b) || column.last().is_none_or(|&row| row as usize >= rank) {
                let last = column.last().map_or(0, |&row| row as usize);
                return Err(Error::ShapeMismatch {
                    what: "rows of a column's entries",
                    expected: (1, rank),
                    found: (1, last),
                });
            }
        }
        match (0..values.len()).find(|&i| !values.get(i).is_finite()) {
            Some(index) => Err(rankbit_quant::Error::StoredNonFinite { what: "factor", index }.into()),
            None => Ok(Self { rank, per_column, rows, values }),
        }
    }

    /// Bytes of a stored row number for a rank.
    pub const fn row_bytes(rank: usize) -> usize {
        match rank {
            0..=0x100 => 1,
            0x101..=0x1_0000 => 2,
            _ => 4,
        }
    }

    /// `(r, in)`.
    pub fn shape(&self) -> (usize, usize) {
        (self.rank, self.rows.len().checked_div(self.per_column as usize).unwrap_or(0))
    }

    /// Entries of a column.
    pub const fn per_column(&self) -> u32 {
        self.per_column
    }

    /// The rows of the entries, column by column.
    pub fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// The values of the entries, column by column.
    pub const fn values(&self) -> &Floats {
        &self.values
    }

    /// All of it, row-major.
    pub fn to_f32(&self) -> Vec<f32> {
        let (rank, inputs) = self.shape();
        let mut dense = vec![0.0; rank * inputs];
        for (at, &row) in self.rows.iter().enumerate() {
            dense[row as usize * inputs + at / self.per_column as usize] = self.values.get(at);
        }
        dense
    }

    /// Every stored bit.
    pub fn stored_bits(&self) -> u64 {
        let entry = self.values.format().bits() + 8 * Self::row_bytes(self.rank);
        self.rows.len() as u64 * entry as u64
    }
}
