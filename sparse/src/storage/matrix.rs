//! Either storage, chosen by the pattern.

use super::{BlockMatrix, NmMatrix, ValueFormat};
use crate::{Error, Mask, Pattern, matmul};
use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_quant::FloatFormat;

/// A sparse matrix `[out, in]` as it is stored: what the pattern says.
#[expect(
    clippy::large_enum_variant,
    reason = "one for a whole matrix: its size is nothing beside what it points to"
)]
#[derive(Clone, PartialEq, Debug)]
pub enum SparseMatrix {
    /// N of every M, also of patterns that hold in both directions.
    Nm(NmMatrix),
    /// Whole blocks; blocks of one entry for unstructured patterns.
    Block(BlockMatrix),
}

impl SparseMatrix {
    /// Stores the entries of `weight` that `mask` keeps, in the storage of `pattern`. Says which value format was too
    /// narrow and replaced by f32, if so.
    ///
    /// # Errors
    /// As [`NmMatrix::new`] and [`BlockMatrix::new`]; [`Error::Unsupported`] for few-bit values of blocks and
    /// unstructured patterns, whose rows differ in length.
    pub fn new(
        weight: MatRef<'_, f32>,
        mask: &Mask,
        pattern: &Pattern,
        format: &ValueFormat,
    ) -> Result<(Self, Option<FloatFormat>), Error> {
        if let Pattern::Nm(nm) | Pattern::Transposable(nm) = *pattern {
            let (matrix, widened) = NmMatrix::new(weight, mask, nm, format)?;
            return Ok((Self::Nm(matrix), widened));
        }
        let ValueFormat::Float(format) = *format else { return Err(quantized_blocks()) };
        let (matrix, widened) = BlockMatrix::new(weight, mask, super::size::block(pattern), format)?;
        Ok((Self::Block(matrix), widened))
    }

    /// Whether values of this format can be stored with this pattern.
    ///
    /// # Errors
    /// What is wrong with the pattern's numbers; [`Error::Unsupported`] for few-bit values of blocks and unstructured
    /// patterns, for codes that are no single values (a lattice, a trellis), and for 8-bit floats.
    pub fn check(pattern: &Pattern, format: &ValueFormat) -> Result<(), Error> {
        pattern.check()?;
        match (pattern, format) {
            (_, ValueFormat::Float(format)) => super::values::check_format(*format),
            (Pattern::Block { .. } | Pattern::Unstructured { .. }, _) => Err(quantized_blocks()),
            (_, ValueFormat::Scheme(scheme, _)) => {
                scheme.check()?;
                if scheme.code.is_vector() {
                    let reason = "kept values are stored one by one";
                    return Err(Error::Unsupported { format: scheme.name().unwrap_or("this code"), reason });
                }
                Ok(())
            }
        }
    }

    /// Rows and columns, `(out, in)`.
    pub const fn shape(&self) -> (usize, usize) {
        match self {
            Self::Nm(matrix) => matrix.shape(),
            Self::Block(matrix) => matrix.shape(),
        }
    }

    /// Every stored bit, indices and padding included.
    pub fn stored_bits(&self) -> u64 {
        match self {
            Self::Nm(matrix) => matrix.stored_bits(),
            Self::Block(matrix) => matrix.stored_bits(),
        }
    }

    /// Stored values over entries, stored zeros among them; 0 for an empty matrix.
    pub fn density(&self) -> f64 {
        let (rows, cols) = self.shape();
        let stored = match self {
            Self::Nm(matrix) => rows as f64 * matrix.kept_per_row() as f64,
            Self::Block(matrix) => matrix.values().len() as f64,
        };
        let entries = rows as f64 * cols as f64;
        if entries == 0.0 { 0.0 } else { stored / entries }
    }

    /// Writes row `row`, decoded, to `out`.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when there is no such row or `out` is not `in` entries long.
    pub fn row_into(&self, row: usize, out: &mut [f32]) -> Result<(), Error> {
        match self {
            Self::Nm(matrix) => matrix.row_into(row, out),
            Self::Block(matrix) => matrix.row_into(row, out),
        }
    }

    /// The whole matrix, dense.
    pub fn reconstruct(&self) -> Mat<f32> {
        match self {
            Self::Nm(matrix) => matrix.reconstruct(),
            Self::Block(matrix) => matrix.reconstruct(),
        }
    }

    /// `Y = X·Sᵀ` for `x: [tokens, in]`, as a new matrix `[tokens, out]`, by the kernels of [`matmul`]. An N:M matrix
    /// is put into their order first, O(stored entries): for many products keep a [`matmul::Prepared`].
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when `x` does not have `in` columns; [`Error::TooLarge`].
    pub fn apply(&self, x: MatRef<'_, f32>) -> Result<Mat<f32>, Error> {
        match self {
            Self::Nm(matrix) => matmul::Prepared::new(matrix)?.apply(x),
            Self::Block(matrix) => matmul::apply_block(matrix, x),
        }
    }
}

const fn quantized_blocks() -> Error {
    Error::Unsupported { format: "block storage", reason: "values of blocks are f32, f16 or bf16" }
}
