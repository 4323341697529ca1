//! What a pattern will take, from shapes alone.

use super::{NmLengths, ValueFormat};
use crate::pattern::kept_of;
use crate::{Error, Pattern, Scope};
use rankbit_quant::part_lengths;

/// Every bit that [`SparseMatrix::new`](super::SparseMatrix::new) stores for a mask of [`select`](crate::select()) on a
/// matrix `[out, in]`, should every format's range suffice.
///
/// # Errors
/// What [`SparseMatrix::check`](super::SparseMatrix::check) refuses; [`Error::TooLarge`] when a size overflows; few-bit
/// values whose blocks do not divide the kept values of a row.
pub fn stored_bits(shape: (usize, usize), pattern: &Pattern, format: &ValueFormat) -> Result<u64, Error> {
    super::SparseMatrix::check(pattern, format)?;
    let too_large = || Error::TooLarge { what: "sparse matrix" };
    let value_bytes = |len: usize| match format {
        ValueFormat::Float(format) => len.checked_mul(format.bytes()),
        ValueFormat::Scheme(..) => None,
    };
    let ((out, features), block) = (shape, block(pattern));
    let bytes = match *pattern {
        Pattern::Nm(nm) | Pattern::Transposable(nm) => {
            let lengths = NmLengths::new(shape, nm)?;
            let values = match format {
                ValueFormat::Scheme(scheme, _) => Some(part_lengths((out, lengths.kept), scheme)?.bytes),
                ValueFormat::Float(_) => out.checked_mul(lengths.kept).and_then(value_bytes),
            };
            values.and_then(|values| values.checked_add(lengths.indices))
        }
        Pattern::Block { density, .. } | Pattern::Unstructured { density, scope: Scope::Matrix } => {
            let (down, across) = (out.div_ceil(block.0), features.div_ceil(block.1));
            let count = down.checked_mul(across).map(|all| kept_of(density, all));
            count.and_then(|count| blocks(count, (down, across), block, value_bytes))
        }
        Pattern::Unstructured { density, scope: Scope::Row } => {
            let count = out.checked_mul(kept_of(density, features));
            count.and_then(|count| blocks(count, shape, block, value_bytes))
        }
    };
    bytes.and_then(|bytes| u64::try_from(bytes).ok()?.checked_mul(8)).ok_or_else(too_large)
}

/// Rows and columns of the blocks in which a pattern is stored.
pub(super) const fn block(pattern: &Pattern) -> (usize, usize) {
    match *pattern {
        Pattern::Block { rows, cols, .. } => (rows, cols),
        _ => (1, 1),
    }
}

/// Bytes of `count` blocks among `down` rows and `across` columns of them.
fn blocks(
    count: usize,
    (down, across): (usize, usize),
    (height, width): (usize, usize),
    value_bytes: impl Fn(usize) -> Option<usize>,
) -> Option<usize> {
    let column = if across <= 1 << 16 { 2 } else { 4 };
    let starts = down.checked_add(1)?.checked_mul(4)?;
    let values = value_bytes(count.checked_mul(height)?.checked_mul(width)?)?;
    starts.checked_add(count.checked_mul(column)?)?.checked_add(values)
}
