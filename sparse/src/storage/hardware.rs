//! The 2:4 metadata of sparse tensor cores: an export with its inverse.
//!
//! ```text
//! nibble of a group = i₀ | i₁ << 2,  i₀ < i₁ the kept places      {0,1} 4  {0,2} 8  {1,2} 9  {0,3} c  {1,3} d  {2,3} e
//! ```
//! Nibbles are packed little-endian into words: four of them, 16 columns, in a 16-bit word for 16-bit values; eight of
//! them, 32 columns, in a 32-bit word for 8-bit values. The words form a matrix `[out, in/16]` or `[out, in/32]`, which
//! the hardware reads in an order of its own, with word (r, c) of a matrix of m rows at
//!
//! ```text
//! r' = ⌊r/g⌋·g + (r mod 8)·w + ⌊(r mod g)/8⌋        g = 32, w = 4 (16-bit words);  g = 16, w = 2 (32-bit words)
//! swap inside 2×2 blocks: (r' even, c odd) → (r' + 1, c − 1);  (r' odd, c even) → (r' − 1, c + 1)
//! place = ⌊c/2⌋·2m + 2·r' + c mod 2
//! ```
//! CUTLASS's reordering, as PyTorch's `sparse_semi_structured_from_dense_cutlass` has it. (Other releases have another
//! row map, which is why [`NmMatrix`] keeps indices in plain order.) cuSPARSELt's compressed buffer is
//! opaque and made by its library from such values.

use super::{NmMatrix, Values};
use crate::{Error, NmPattern};
use alloc::{vec, vec::Vec};

/// Width of the values, which decides the width of metadata words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Word {
    /// 16-bit words, for 16-bit values.
    Bits16,
    /// 32-bit words, for 8-bit values.
    Bits32,
}

impl Word {
    const fn columns(self) -> usize {
        match self {
            Self::Bits16 => 16,
            Self::Bits32 => 32,
        }
    }

    /// g and w of the row maps.
    const fn rows(self) -> (usize, usize) {
        match self {
            Self::Bits16 => (32, 4),
            Self::Bits32 => (16, 2),
        }
    }
}

/// The metadata of a 2:4 matrix in the hardware's order, little-endian words: `out·in/8` bytes.
///
/// # Errors
/// [`Error::Unsupported`] for another pattern, and for shapes that the order does not hold: `out` a multiple of 32
/// (16 for 32-bit words), `in` of two words (32 or 64 columns).
pub fn metadata(matrix: &NmMatrix, word: Word) -> Result<Vec<u8>, Error> {
    if matrix.pattern() != NmPattern::TWO_OF_FOUR {
        return Err(Error::Unsupported { format: FORMAT, reason: "the pattern is not 2:4" });
    }
    let layout = Layout::new(matrix.shape(), word)?;
    let mut out = vec![0; matrix.indices().len()];
    // Indices of two groups a byte, lowest first: the nibbles already.
    for (at, bytes) in matrix.indices().chunks_exact(layout.word_bytes).enumerate() {
        let place = layout.place(at) * layout.word_bytes;
        out[place..place + layout.word_bytes].copy_from_slice(bytes);
    }
    Ok(out)
}

/// The matrix of these values whose metadata is in the hardware's order: the inverse of [`metadata`].
///
/// # Errors
/// As [`metadata`] and [`NmMatrix::from_parts`]: nibbles with equal or falling places are refused.
pub fn from_metadata(
    shape: (usize, usize),
    values: Values,
    metadata: &[u8],
    word: Word,
) -> Result<NmMatrix, Error> {
    let layout = Layout::new(shape, word)?;
    let expected = layout.rows.checked_mul(layout.words).and_then(|w| w.checked_mul(layout.word_bytes));
    let expected = expected.ok_or(Error::TooLarge { what: "metadata" })?;
    if metadata.len() != expected {
        return Err(Error::PartLength { part: "metadata", expected, found: metadata.len() });
    }
    let mut indices = vec![0; expected];
    for (at, bytes) in indices.chunks_exact_mut(layout.word_bytes).enumerate() {
        let place = layout.place(at) * layout.word_bytes;
        bytes.copy_from_slice(&metadata[place..place + layout.word_bytes]);
    }
    NmMatrix::from_parts(shape, NmPattern::TWO_OF_FOUR, values, indices)
}

const FORMAT: &str = "2:4 tensor core metadata";

/// A matrix of words.
struct Layout {
    rows: usize,
    words: usize,
    word_bytes: usize,
    group: (usize, usize),
}

impl Layout {
    fn new((rows, cols): (usize, usize), word: Word) -> Result<Self, Error> {
        let group = word.rows();
        if !rows.is_multiple_of(group.0) {
            let reason = "the rows are no multiple of 32 (or 16)";
            return Err(Error::Unsupported { format: FORMAT, reason });
        }
        if !cols.is_multiple_of(2 * word.columns()) {
            let reason = "the columns are no multiple of 32 (or 64)";
            return Err(Error::Unsupported { format: FORMAT, reason });
        }
        Ok(Self { rows, words: cols / word.columns(), word_bytes: word.columns() / 8, group })
    }

    /// Where the word at row-major position `at` goes.
    fn place(&self, at: usize) -> usize {
        let (row, col) = (at / self.words, at % self.words);
        let (g, w) = self.group;
        let row = row / g * g + row % 8 * w + row % g / 8;
        let (row, col) = match (row % 2, col % 2) {
            (0, 1) => (row + 1, col - 1),
            (1, 0) => (row - 1, col + 1),
            _ => (row, col),
        };
        col / 2 * 2 * self.rows + 2 * row + col % 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_has_one_place() {
        for (shape, word) in [((32, 32), Word::Bits16), ((96, 128), Word::Bits16), ((48, 192), Word::Bits32)]
        {
            let layout = Layout::new(shape, word).unwrap();
            let mut places: Vec<usize> = (0..layout.rows * layout.words).map(|at| layout.place(at)).collect();
            places.sort_unstable();
            assert!(places.iter().copied().eq(0..layout.rows * layout.words));
        }
    }

    /// By hand: row 1, word 0 of a 32×32 matrix goes to row 4; row 8 to row 1, whose even column is swapped to (0, 1).
    #[test]
    fn places_are_as_documented() {
        let layout = Layout::new((32, 32), Word::Bits16).unwrap();
        assert_eq!(layout.place(0), 0);
        assert_eq!(layout.place(2), 8);
        assert_eq!(layout.place(16), 1);
        assert_eq!(layout.place(1), 2);
    }
}
