//! The sparse term as parts.

use super::quantized::{self, SPARSE};
use super::{Part, PartType, PartView, floats, part};
use crate::Error;
use alloc::{borrow::ToOwned, vec, vec::Vec};
use rankbit_quant::{FloatFormat, Scheme};
use rankbit_sparse::storage::{BlockIndices, NmLengths};
use rankbit_sparse::{BlockMatrix, NmMatrix, NmPattern, SparseMatrix, Values};
use serde::{Deserialize, Serialize};

/// How the sparse term is stored.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SparseHeader {
    /// Where kept entries lie.
    pub layout: SparseLayout,
    /// How they are stored.
    pub values: KeptValues,
}

/// Where the entries of a stored sparse term lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum SparseLayout {
    /// N of every M along `in`.
    Nm(NmPattern),
    /// Whole blocks; of one entry for an unstructured matrix.
    Block {
        /// Rows of a block.
        rows: usize,
        /// Columns of a block.
        cols: usize,
        /// Number of blocks.
        count: usize,
    },
}

/// How kept values are stored.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeptValues {
    /// Floats: f32, f16 or bf16.
    Float(FloatFormat),
    /// Few bits.
    Scheme(Scheme),
}

impl KeptValues {
    const fn scheme(&self) -> Option<&Scheme> {
        match self {
            Self::Scheme(scheme) => Some(scheme),
            Self::Float(_) => None,
        }
    }
}

/// Whether a sparse term of this header has the part `name`; `None` for a name that is not one of its.
pub(super) fn describes(name: &str, header: Option<&SparseHeader>) -> Option<bool> {
    match name {
        "sparse_values" | "sparse_indices" => Some(header.is_some()),
        "sparse_starts" => {
            Some(header.is_some_and(|header| matches!(header.layout, SparseLayout::Block { .. })))
        }
        _ => SPARSE.describes(name, header.and_then(|header| header.values.scheme())),
    }
}

/// Appends the parts of `matrix`.
pub(super) fn write(matrix: &SparseMatrix, parts: &mut Vec<Part>) -> SparseHeader {
    match matrix {
        SparseMatrix::Nm(matrix) => {
            let rows = matrix.shape().0;
            let values = match matrix.values() {
                Values::Floats(floats) => {
                    parts.push(Part::floats(SPARSE_VALUES, vec![rows, matrix.kept_per_row()], floats));
                    KeptValues::Float(floats.format())
                }
                Values::Quantized(values) => {
                    quantized::write(values, &SPARSE, parts);
                    KeptValues::Scheme(*values.scheme())
                }
            };
            let indices = matrix.indices();
            let shape = vec![rows, indices.len().checked_div(rows).unwrap_or(0)];
            parts.push(Part::bytes("sparse_indices", shape, indices));
            SparseHeader { layout: SparseLayout::Nm(matrix.pattern()), values }
        }
        SparseMatrix::Block(matrix) => {
            let ((rows, cols), count) = (matrix.block(), matrix.columns().len());
            // The values fill every block, so that this product is their number.
            let shape = vec![count, rows.saturating_mul(cols)];
            parts.push(Part::floats(SPARSE_VALUES, shape, matrix.values()));
            let starts: Vec<u8> = matrix.starts().iter().flat_map(|start| start.to_le_bytes()).collect();
            parts.push(Part::bytes("sparse_starts", vec![matrix.starts().len(), 4], &starts));
            let (width, columns): (usize, Vec<u8>) = match matrix.columns() {
                BlockIndices::U16(columns) => (2, columns.iter().flat_map(|c| c.to_le_bytes()).collect()),
                BlockIndices::U32(columns) => (4, columns.iter().flat_map(|c| c.to_le_bytes()).collect()),
            };
            parts.push(Part::bytes("sparse_indices", vec![count, width], &columns));
            let values = KeptValues::Float(matrix.values().format());
            SparseHeader { layout: SparseLayout::Block { rows, cols, count }, values }
        }
    }
}

const SPARSE_VALUES: &str = "sparse_values";

/// The sparse term `[rows, cols]` that `header` describes.
pub(super) fn read<'a>(
    shape: (usize, usize),
    header: &SparseHeader,
    find: &impl Fn(&str) -> Option<PartView<'a>>,
) -> Result<SparseMatrix, Error> {
    let bytes = |name: &'static str, shape: [usize; 2]| {
        let bytes = part(find, name, PartType::U8, &shape)?;
        match shape[0].checked_mul(shape[1]) {
            Some(expected) if bytes.len() == expected => Ok(bytes),
            expected => {
                let (expected, found) = (expected.unwrap_or(usize::MAX), bytes.len());
                Err(Error::from(rankbit_sparse::Error::PartLength { part: name, expected, found }))
            }
        }
    };
    match (header.layout, header.values) {
        (SparseLayout::Nm(pattern), values) => {
            let lengths = NmLengths::new(shape, pattern)?;
            let values = match values {
                KeptValues::Float(format) => {
                    Values::Floats(floats(find, SPARSE_VALUES, format, &[shape.0, lengths.kept])?)
                }
                KeptValues::Scheme(scheme) if scheme.code.is_vector() => return Err(no_values(&scheme)),
                KeptValues::Scheme(scheme) => {
                    let kept = (shape.0, lengths.kept);
                    Values::Quantized(quantized::read(kept, &scheme, &SPARSE, find)?)
                }
            };
            let indices = bytes("sparse_indices", [shape.0, lengths.index_bytes])?.to_owned();
            Ok(SparseMatrix::Nm(NmMatrix::from_parts(shape, pattern, values, indices)?))
        }
        (SparseLayout::Block { .. }, KeptValues::Scheme(scheme)) => Err(no_values(&scheme)),
        (SparseLayout::Block { rows, cols, count }, KeptValues::Float(format)) => {
            let too_large = |what| rankbit_sparse::Error::TooLarge { what };
            let size = rows.checked_mul(cols).ok_or(too_large("block"))?;
            let values = floats(find, SPARSE_VALUES, format, &[count, size])?;
            // A block without rows or columns is refused with the rest below.
            let down = shape.0.div_ceil(rows.max(1));
            let starts = down.checked_add(1).ok_or(too_large("row starts"))?;
            let starts = bytes("sparse_starts", [starts, 4])?;
            let starts = words(starts).map(u32::from_le_bytes).collect();
            let columns = match shape.1.div_ceil(cols.max(1)) <= 1 << 16 {
                true => BlockIndices::U16(
                    words(bytes("sparse_indices", [count, 2])?).map(u16::from_le_bytes).collect(),
                ),
                false => BlockIndices::U32(
                    words(bytes("sparse_indices", [count, 4])?).map(u32::from_le_bytes).collect(),
                ),
            };
            let matrix = BlockMatrix::from_parts(shape, (rows, cols), starts, columns, values)?;
            Ok(SparseMatrix::Block(matrix))
        }
    }
}

/// Little-endian words of `N` bytes.
fn words<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    bytes.chunks_exact(N).filter_map(|word| word.try_into().ok())
}

fn no_values(scheme: &Scheme) -> Error {
    let (format, reason) = (scheme.name().unwrap_or("this scheme"), "it cannot hold kept values");
    rankbit_sparse::Error::Unsupported { format, reason }.into()
}
