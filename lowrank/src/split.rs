//! The split itself: what a fit finds and what a product, a file and a report read.

#[cfg(feature = "file")]
pub mod file;
pub mod matmul;
pub mod prepared;

use crate::{Error, LowRank};
use alloc::{vec, vec::Vec};
use rankbit_linalg::faer::{Mat, MatMut, MatRef};
use rankbit_quant::{Activation, Quantized, Transform};
use rankbit_sparse::SparseMatrix;

/// A matrix as few bits, few ranks and few non-zeros.
///
/// ```text
/// Ŵ = Q̃·Tᵀ + L·R + S    W: [out, in],  T = diag(1/λ)·P·R: smoothed, permuted, rotated, or the identity
/// Y = act(X·T)·Q̃ᵀ + (X·Rᵀ)·Lᵀ + X·Sᵀ (+ b)
/// ```
/// `act` quantizes the inputs of the quantized term alone ([`Activation`], by default not at all): the low-rank and
/// the sparse term see `X` as it comes, which is what lets them carry what few bits cannot (SVDQuant, arXiv 2411.05007).
#[derive(Clone, PartialEq, Debug)]
pub struct Split {
    shape: (usize, usize),
    transform: Option<Transform>,
    base: Option<Quantized>,
    low_rank: Option<LowRank>,
    sparse: Option<SparseMatrix>,
    activation: Activation,
    bias: Option<Vec<f32>>,
}

impl Split {
    /// A split from its terms, without a sparse one ([`Split::with_sparse`]).
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when a term does not have `shape`.
    pub fn new(
        shape: (usize, usize),
        transform: Option<Transform>,
        base: Option<Quantized>,
        low_rank: Option<LowRank>,
    ) -> Result<Self, Error> {
        let terms = [
            ("transform", transform.as_ref().map(|t| (shape.0, t.features()))),
            ("quantized term", base.as_ref().map(Quantized::shape)),
            ("low-rank term", low_rank.as_ref().map(LowRank::shape)),
        ];
        for (what, found) in terms {
            if let Some(found) = found.filter(|&found| found != shape) {
                return Err(Error::ShapeMismatch { what, expected: shape, found });
            }
        }
        Ok(Self { shape, transform, base, low_rank, sparse: None, activation: Activation::Float, bias: None })
    }

    /// The same with another sparse term, or none.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when it does not have the split's shape.
    pub fn with_sparse(mut self, sparse: Option<SparseMatrix>) -> Result<Self, Error> {
        if let Some(found) = sparse.as_ref().map(SparseMatrix::shape).filter(|&found| found != self.shape) {
            return Err(Error::ShapeMismatch { what: "sparse term", expected: self.shape, found });
        }
        self.sparse = sparse;
        Ok(self)
    }

    /// The same terms with another policy for the quantized term's inputs.
    ///
    /// # Errors
    /// What [`Activation::check`] refuses.
    pub fn with_activation(mut self, activation: Activation) -> Result<Self, Error> {
        activation.check()?;
        self.activation = activation;
        Ok(self)
    }

    /// The same terms, with `bias` (`[out]`, f32) added to every output: what a term left out adds on average.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when it is not `out` long; [`rankbit_quant::Error::StoredNonFinite`] for a NaN or infinity.
    pub fn with_bias(mut self, bias: Vec<f32>) -> Result<Self, Error> {
        if bias.len() != self.shape.0 {
            let (expected, found) = ((1, self.shape.0), (1, bias.len()));
            return Err(Error::ShapeMismatch { what: "bias", expected, found });
        }
        if let Some(index) = bias.iter().position(|b| !b.is_finite()) {
            return Err(rankbit_quant::Error::StoredNonFinite { what: "bias", index }.into());
        }
        self.bias = Some(bias);
        Ok(self)
    }

    /// What is added to every output.
    pub fn bias(&self) -> Option<&[f32]> {
        self.bias.as_deref()
    }

    /// What happens to the quantized term's inputs.
    pub const fn activation(&self) -> &Activation {
        &self.activation
    }

    /// Rows and columns, `(out, in)`.
    pub const fn shape(&self) -> (usize, usize) {
        self.shape
    }

    /// The change of basis on the quantized term's path.
    pub const fn transform(&self) -> Option<&Transform> {
        self.transform.as_ref()
    }

    /// The quantized term, in the transform's basis.
    pub const fn base(&self) -> Option<&Quantized> {
        self.base.as_ref()
    }

    /// The low-rank term, in original coordinates.
    pub const fn low_rank(&self) -> Option<&LowRank> {
        self.low_rank.as_ref()
    }

    /// The sparse term, in original coordinates.
    pub const fn sparse(&self) -> Option<&SparseMatrix> {
        self.sparse.as_ref()
    }

    /// Rank of the low-rank term; 0 without one.
    pub fn rank(&self) -> usize {
        self.low_rank.as_ref().map_or(0, LowRank::rank)
    }

    /// Every stored bit of every term.
    pub fn stored_bits(&self) -> u64 {
        self.base.as_ref().map_or(0, Quantized::stored_bits)
            + self.low_rank.as_ref().map_or(0, LowRank::stored_bits)
            + self.sparse.as_ref().map_or(0, SparseMatrix::stored_bits)
            + self.transform.as_ref().map_or(0, Transform::stored_bits)
            + self.bias.as_ref().map_or(0, |bias| 32 * bias.len() as u64)
    }

    /// Stored bits over the number of weights; 0 for an empty matrix.
    pub fn bits_per_weight(&self) -> f64 {
        let weights = self.shape.0 as f64 * self.shape.1 as f64;
        if weights == 0.0 { 0.0 } else { self.stored_bits() as f64 / weights }
    }

    /// Rows of `Ŵ` one after another, for reading many of them: factors are decoded once.
    pub fn rows(&self) -> Rows<'_> {
        Rows {
            split: self,
            left: self.low_rank.as_ref().map_or_else(Vec::new, |lr| lr.left().to_f32()),
            right: self.low_rank.as_ref().map_or_else(Vec::new, |lr| lr.right().to_f32()),
        }
    }

    /// Row `row` of `Ŵ`, for look-ups (an embedding): `q̃_i·Tᵀ + L_i·R + s_i`, summed in f32.
    ///
    /// Cost O(in · r). Equal, bit for bit, to the same row of [`Split::reconstruct`].
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when there is no such row or `out` is not `in` entries long.
    pub fn row_into(&self, row: usize, out: &mut [f32]) -> Result<(), Error> {
        self.rows().read(row, out)
    }

    /// All of `Ŵ` in f32, without the bias.
    pub fn reconstruct(&self) -> Mat<f32> {
        let mut matrix = Mat::zeros(self.shape.0, self.shape.1);
        let (rows, mut values) = (self.rows(), vec![0.0; self.shape.1]);
        for i in 0..self.shape.0 {
            rows.read_valid(i, &mut values);
            for (entry, &value) in matrix.row_mut(i).iter_mut().zip(&values) {
                *entry = value;
            }
        }
        matrix
    }

    /// `Y = X·Ŵᵀ`, inputs quantized as [`Split::activation`] says, as a new matrix `[tokens, out]`; see [`matmul`].
    ///
    /// # Errors
    /// As [`Split::apply_into`].
    pub fn apply(&self, x: MatRef<'_, f32>) -> Result<Mat<f32>, Error> {
        let mut y = Mat::zeros(x.nrows(), self.shape.0);
        self.apply_into(x, y.as_mut())?;
        Ok(y)
    }

    /// `Y = X·Ŵᵀ` for `x: [tokens, in]` into `y: [tokens, out]`, from packed codes; see [`matmul`].
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when `x` or `y` does not fit; with quantized inputs also NaN and infinities in them.
    pub fn apply_into(&self, x: MatRef<'_, f32>, y: MatMut<'_, f32>) -> Result<(), Error> {
        matmul::apply_into(self, x, y)
    }
}

/// Reads rows of `Ŵ`; from [`Split::rows`].
#[derive(Debug)]
pub struct Rows<'a> {
    split: &'a Split,
    left: Vec<f32>,
    right: Vec<f32>,
}

impl Rows<'_> {
    /// Row `row` into `out`; see [`Split::row_into`].
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when there is no such row or `out` is not `in` entries long.
    pub fn read(&self, row: usize, out: &mut [f32]) -> Result<(), Error> {
        if row >= self.split.shape.0 || out.len() != self.split.shape.1 {
            return Err(Error::ShapeMismatch {
                what: "row",
                expected: self.split.shape,
                found: (row.saturating_add(1), out.len()),
            });
        }
        self.read_valid(row, out);
        Ok(())
    }

    /// [`Rows::read`] after its check.
    fn read_valid(&self, row: usize, out: &mut [f32]) {
        let decoded = self.split.base.as_ref().is_some_and(|base| base.row_into(row, out).is_ok());
        if !decoded {
            out.fill(0.0);
        }
        if let Some(transform) = &self.split.transform {
            // A split's transform is as wide as its rows.
            let _ = transform.transpose(out);
        }
        let rank = self.split.rank();
        if rank > 0 {
            let left = &self.left[row * rank..(row + 1) * rank];
            for (&l, right) in left.iter().zip(self.right.chunks_exact(out.len().max(1))) {
                for (value, r) in out.iter_mut().zip(right) {
                    *value += l * r;
                }
            }
        }
        if let Some(sparse) = &self.split.sparse {
            let mut kept = vec![0.0; out.len()];
            // The row exists and has this length.
            if sparse.row_into(row, &mut kept).is_ok() {
                out.iter_mut().zip(&kept).for_each(|(value, kept)| *value += kept);
            }
        }
    }
}
