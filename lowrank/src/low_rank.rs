//! The low-rank term `L·R` as it is stored.

mod atoms;
mod format;

use crate::Error;
use alloc::{boxed::Box, vec, vec::Vec};
use rankbit_linalg::faer::MatRef;
use rankbit_quant::{FloatFormat, Floats, Quantized};

pub use atoms::Atoms;
pub use format::{FactorFormat, Side};

/// One factor: a row-major matrix of stored floats, or of few bits.
#[derive(Clone, PartialEq, Debug)]
pub struct Factor {
    shape: (usize, usize),
    values: Values,
}

/// How a factor's entries are kept.
#[derive(Clone, PartialEq, Debug)]
enum Values {
    Floats(Floats),
    Codes(Box<Quantized>, FactorFormat),
    Atoms(Atoms),
}

impl Factor {
    /// A factor of `shape` from its values in row order.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when the number of values is not the product of the shape;
    /// [`rankbit_quant::Error::StoredNonFinite`] for a value that is NaN or infinite.
    pub fn new(shape: (usize, usize), values: Floats) -> Result<Self, Error> {
        if shape.0.checked_mul(shape.1) != Some(values.len()) {
            return Err(Error::ShapeMismatch { what: "factor", expected: shape, found: (1, values.len()) });
        }
        match (0..values.len()).find(|&i| !values.get(i).is_finite()) {
            Some(index) => Err(rankbit_quant::Error::StoredNonFinite { what: "factor", index }.into()),
            None => Ok(Self { shape, values: Values::Floats(values) }),
        }
    }

    /// A factor of few bits.
    ///
    /// # Errors
    /// [`Error::InvalidRecipe`] for codes that are not those of `format` on `side`.
    pub fn quantized(codes: Quantized, format: FactorFormat, side: Side) -> Result<Self, Error> {
        if format.scheme(side) != Some(*codes.scheme()) {
            return Err(Error::InvalidRecipe { reason: "a factor's codes are not of its format" });
        }
        Ok(Self { shape: codes.shape(), values: Values::Codes(Box::new(codes), format) })
    }

    /// A right factor whose columns have few entries.
    pub fn sparse(atoms: Atoms) -> Self {
        Self { shape: atoms.shape(), values: Values::Atoms(atoms) }
    }

    /// `matrix` rounded to `format`, or kept in f32 (and `true` returned) when `format`'s range would lose it.
    pub fn encode(matrix: MatRef<'_, f32>, format: FloatFormat) -> (Self, bool) {
        let shape = (matrix.nrows(), matrix.ncols());
        let values: Vec<f32> = (0..shape.0).flat_map(|i| matrix.row(i).iter().copied()).collect();
        let (values, widened) = Floats::encode_or_widen(&values, format);
        (Self { shape, values: Values::Floats(values) }, widened)
    }

    /// Rows and columns.
    pub const fn shape(&self) -> (usize, usize) {
        self.shape
    }

    /// How it is stored.
    pub fn format(&self) -> FactorFormat {
        match &self.values {
            Values::Floats(values) => FactorFormat::Float(values.format()),
            Values::Codes(_, format) => *format,
            Values::Atoms(atoms) => FactorFormat::Atoms(atoms.per_column()),
        }
    }

    /// The values, row by row, when they are floats.
    pub const fn floats(&self) -> Option<&Floats> {
        match &self.values {
            Values::Floats(values) => Some(values),
            Values::Codes(..) | Values::Atoms(_) => None,
        }
    }

    /// The codes and their scales, when they are few bits.
    pub fn codes(&self) -> Option<&Quantized> {
        match &self.values {
            Values::Floats(_) | Values::Atoms(_) => None,
            Values::Codes(codes, _) => Some(codes),
        }
    }

    /// The few entries of each column, when it is stored so.
    pub const fn atoms(&self) -> Option<&Atoms> {
        match &self.values {
            Values::Floats(_) | Values::Codes(..) => None,
            Values::Atoms(atoms) => Some(atoms),
        }
    }

    /// The values as f32, row by row (exact).
    pub fn to_f32(&self) -> Vec<f32> {
        match &self.values {
            Values::Floats(values) => values.to_f32(),
            Values::Codes(codes, _) => {
                let mut values = vec![0.0; self.shape.0 * self.shape.1];
                // As long as the codes' shape says.
                let _ = codes.dequantize_into(&mut values);
                values
            }
            Values::Atoms(atoms) => atoms.to_f32(),
        }
    }

    /// Every stored bit.
    pub fn stored_bits(&self) -> u64 {
        match &self.values {
            Values::Floats(values) => (values.len() * values.format().bits()) as u64,
            Values::Codes(codes, _) => codes.stored_bits(),
            Values::Atoms(atoms) => atoms.stored_bits(),
        }
    }
}

/// `L·R`, `L: [out, r]`, `R: [r, in]` (LoRA's B and A).
#[derive(Clone, PartialEq, Debug)]
pub struct LowRank {
    left: Factor,
    right: Factor,
}

impl LowRank {
    /// The product of two factors.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when the columns of `left` are not the rows of `right`;
    /// [`Error::RankOutOfRange`] for rank 0 or above the smaller side of the product.
    pub fn new(left: Factor, right: Factor) -> Result<Self, Error> {
        let rank = left.shape.1;
        if right.shape.0 != rank {
            return Err(Error::ShapeMismatch {
                what: "right factor",
                expected: (rank, right.shape.1),
                found: right.shape,
            });
        }
        let max = left.shape.0.min(right.shape.1);
        if rank == 0 || rank > max {
            return Err(Error::RankOutOfRange { rank, max });
        }
        Ok(Self { left, right })
    }

    /// The left factor `[out, r]`.
    pub const fn left(&self) -> &Factor {
        &self.left
    }

    /// The right factor `[r, in]`.
    pub const fn right(&self) -> &Factor {
        &self.right
    }

    /// The rank r.
    pub const fn rank(&self) -> usize {
        self.left.shape.1
    }

    /// Shape of the product, `(out, in)`.
    pub const fn shape(&self) -> (usize, usize) {
        (self.left.shape.0, self.right.shape.1)
    }

    /// Every stored bit.
    pub fn stored_bits(&self) -> u64 {
        self.left.stored_bits() + self.right.stored_bits()
    }
}
