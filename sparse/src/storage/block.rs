//! Block-sparse storage; blocks of one entry are the compressed sparse rows of an unstructured matrix.

use super::values::Values;
use crate::{Error, Mask};
use alloc::{vec, vec::Vec};
use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_quant::{FloatFormat, Floats};

/// A matrix `[out, in]` of which some blocks are kept.
///
/// ```text
/// row starts: u32, ⌈out/h⌉ + 1 of them; blocks of block row i are starts[i] … starts[i+1] − 1
/// columns:    block column of each block, rising within a block row; u16 when ⌈in/w⌉ ≤ 65536, else u32
/// values:     h·w per block, row by row; entries beyond the matrix (ragged edge) are stored as 0
/// ```
/// Bits: `32·(⌈out/h⌉ + 1) + blocks·(16 or 32 + h·w·value bits)`.
#[derive(Clone, PartialEq, Debug)]
pub struct BlockMatrix {
    shape: (usize, usize),
    block: (usize, usize),
    starts: Vec<u32>,
    columns: BlockIndices,
    values: Floats,
}

/// Block columns, as narrow as the matrix allows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BlockIndices {
    /// At most 65536 block columns.
    U16(Vec<u16>),
    /// More.
    U32(Vec<u32>),
}

impl BlockIndices {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Self::U16(columns) => columns.len(),
            Self::U32(columns) => columns.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The one at `index`.
    ///
    /// # Panics
    /// When there is none.
    pub fn get(&self, index: usize) -> usize {
        match self {
            Self::U16(columns) => columns[index].into(),
            Self::U32(columns) => usize::try_from(columns[index]).unwrap_or(usize::MAX),
        }
    }

    const fn bytes(&self) -> usize {
        match self {
            Self::U16(_) => 2,
            Self::U32(_) => 4,
        }
    }

    /// Whether a matrix with so many block columns takes the narrow form.
    const fn is_narrow(across: usize) -> bool {
        across <= 1 << 16
    }
}

impl BlockMatrix {
    /// Stores every block (`block` = rows and columns) with an entry that `mask` keeps; entries of a stored block that
    /// the mask does not keep are zero. Says which value format was too narrow and replaced by f32, if so.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for a mask of another shape; [`Error::InvalidOption`] for a block without entries;
    /// [`Error::NonFinite`] for a kept NaN or infinity; [`Error::Unsupported`] for 8-bit floats; [`Error::TooLarge`].
    pub fn new(
        weight: MatRef<'_, f32>,
        mask: &Mask,
        block: (usize, usize),
        format: FloatFormat,
    ) -> Result<(Self, Option<FloatFormat>), Error> {
        mask.check_shape(weight.shape())?;
        let shape = weight.shape();
        let (down, across) = grid(shape, block)?;
        let (h, w) = block;
        let (mut starts, mut wide, mut dense) = (vec![0_u32], Vec::<u32>::new(), Vec::new());
        for i in 0..down {
            let rows = i * h..((i + 1) * h).min(shape.0);
            let mut used: Vec<usize> =
                rows.clone().flat_map(|row| mask.row(row).map(|col| col / w)).collect();
            used.sort_unstable();
            used.dedup();
            for j in used {
                wide.push(u32::try_from(j).map_err(|_| Error::TooLarge { what: "block column" })?);
                let first = dense.len();
                dense.resize(first + h * w, 0.0);
                for row in rows.clone() {
                    for col in j * w..((j + 1) * w).min(shape.1) {
                        let value = weight[(row, col)];
                        if !mask.contains(row, col) {
                            continue;
                        }
                        if !value.is_finite() {
                            return Err(Error::NonFinite { what: "kept weight", row, col });
                        }
                        dense[first + (row - i * h) * w + col - j * w] = value;
                    }
                }
            }
            starts.push(u32::try_from(wide.len()).map_err(|_| Error::TooLarge { what: "number of blocks" })?);
        }
        let format = super::ValueFormat::Float(format);
        let (Values::Floats(values), widened) = Values::encode(&dense, (wide.len(), h * w), &format)? else {
            return Err(Error::Unsupported { format: "block storage", reason: "values are plain floats" });
        };
        let columns = if BlockIndices::is_narrow(across) {
            BlockIndices::U16(wide.into_iter().filter_map(|j| u16::try_from(j).ok()).collect())
        } else {
            BlockIndices::U32(wide)
        };
        Ok((Self { shape, block, starts, columns, values }, widened))
    }

    /// Assembles the storage from its parts.
    ///
    /// # Errors
    /// [`Error::PartLength`] for a part of another size; [`Error::InvalidIndex`] for row starts that fall or do not
    /// span the blocks, and for columns beyond the matrix, not rising, or wider than they need be;
    /// [`Error::InvalidOption`] for a block without entries; and for values that are not finite, the quantizer's error.
    pub fn from_parts(
        shape: (usize, usize),
        block: (usize, usize),
        starts: Vec<u32>,
        columns: BlockIndices,
        values: Floats,
    ) -> Result<Self, Error> {
        let (down, across) = grid(shape, block)?;
        let expected = down.checked_add(1).ok_or(Error::TooLarge { what: "row starts" })?;
        if starts.len() != expected {
            return Err(Error::PartLength { part: "row starts", expected, found: starts.len() });
        }
        let start = |i: usize| usize::try_from(starts[i]).unwrap_or(usize::MAX);
        let bad = |what, row, position, found, requirement| {
            Err(Error::InvalidIndex { what, row, position, found, requirement })
        };
        if matches!(columns, BlockIndices::U16(_)) != BlockIndices::is_narrow(across) {
            return bad(
                "block column width",
                0,
                0,
                columns.bytes(),
                "2 bytes up to 65536 block columns, then 4",
            );
        }
        if start(0) != 0 || start(down) != columns.len() {
            return bad("row start", down, down, start(down), "0 first and the number of blocks last");
        }
        for row in 0..down {
            let (first, end) = (start(row), start(row + 1));
            if end < first || end > columns.len() {
                return bad("row start", row, row + 1, end, "not below the one before it");
            }
            for at in first..end {
                let column = columns.get(at);
                if column >= across || (at > first && column <= columns.get(at - 1)) {
                    return bad(
                        "block column",
                        row,
                        at - first,
                        column,
                        "inside the matrix and rising in a row",
                    );
                }
            }
        }
        let per_block = block.0.checked_mul(block.1).ok_or(Error::TooLarge { what: "block" })?;
        let values = Values::Floats(values);
        values.check(columns.len(), per_block)?;
        let Values::Floats(values) = values else {
            return Err(Error::Unsupported { format: "block storage", reason: "values are plain floats" });
        };
        Ok(Self { shape, block, starts, columns, values })
    }

    /// Rows and columns, `(out, in)`.
    pub const fn shape(&self) -> (usize, usize) {
        self.shape
    }

    /// Rows and columns of a block.
    pub const fn block(&self) -> (usize, usize) {
        self.block
    }

    /// First block of each block row, and their number.
    pub fn starts(&self) -> &[u32] {
        &self.starts
    }

    /// Block columns.
    pub const fn columns(&self) -> &BlockIndices {
        &self.columns
    }

    /// Values, block by block.
    pub const fn values(&self) -> &Floats {
        &self.values
    }

    /// Every stored bit.
    pub fn stored_bits(&self) -> u64 {
        let indices = self.starts.len() * 4 + self.columns.len() * self.columns.bytes();
        (indices + self.values.len() * self.values.format().bytes()) as u64 * 8
    }

    /// The blocks of block row `i`.
    pub(crate) fn blocks(&self, i: usize) -> core::ops::Range<usize> {
        let at = |i: usize| usize::try_from(self.starts[i]).unwrap_or(usize::MAX);
        at(i)..at(i + 1)
    }

    /// Writes row `row`, decoded, to `out`.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when there is no such row or `out` is not `in` entries long.
    pub fn row_into(&self, row: usize, out: &mut [f32]) -> Result<(), Error> {
        if row >= self.shape.0 || out.len() != self.shape.1 {
            let found = (row.saturating_add(1), out.len());
            return Err(Error::ShapeMismatch { what: "row", expected: self.shape, found });
        }
        let (h, w) = self.block;
        out.fill(0.0);
        for at in self.blocks(row / h) {
            let left = self.columns.get(at) * w;
            let end = (left + w).min(self.shape.1);
            self.values.decode_into(at * h * w + row % h * w, &mut out[left..end]);
        }
        Ok(())
    }

    /// The whole matrix, dense.
    pub fn reconstruct(&self) -> Mat<f32> {
        let (rows, cols) = self.shape;
        let (mut values, mut out) = (vec![0.0; cols], Mat::zeros(rows, cols));
        for row in 0..rows {
            // The row exists and has this length.
            if self.row_into(row, &mut values).is_ok() {
                out.row_mut(row).iter_mut().zip(&values).for_each(|(entry, value)| *entry = *value);
            }
        }
        out
    }
}

/// Block rows and block columns of a matrix.
fn grid(shape: (usize, usize), (h, w): (usize, usize)) -> Result<(usize, usize), Error> {
    if h == 0 || w == 0 {
        return Err(Error::InvalidOption { what: "block side", requirement: "at least 1", found: 0.0 });
    }
    Ok((shape.0.div_ceil(h), shape.1.div_ceil(w)))
}
