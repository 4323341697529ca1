//! A dense tensor of any order.

use alloc::vec;
use alloc::vec::Vec;

use faer::{Mat, MatRef};

use super::array::Array;
use crate::{Error, Scalar};

/// A tensor, its last side fastest. It remembers in which precision its values were given: those of single precision are
/// [decomposed](super::decompose) in it as far as that resolves.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub(super) array: Array<f64>,
    /// Whether the values were given in single precision.
    pub(super) single: bool,
}

/// The number of entries, if it exists.
fn count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1_usize, |product, &side| product.checked_mul(side))
}

impl Tensor {
    /// A tensor of `shape` from its values in row-major order.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for another number of values; [`Error::NonFinite`] with the first bad value as column.
    pub fn new<T: Scalar>(shape: &[usize], values: &[T]) -> Result<Self, Error> {
        let len = count(shape);
        if len != Some(values.len()) {
            let expected = (1, len.unwrap_or(usize::MAX));
            return Err(Error::ShapeMismatch { what: "tensor", expected, found: (1, values.len()) });
        }
        let values = values.iter().map(|value| Scalar::to_f64(*value)).collect();
        Self::checked::<T>(Array { shape: shape.to_vec(), values })
    }

    /// A tensor of `shape` whose entry at `(i₁, …, i_N)` is `values[offset + Σ iₖ·strideₖ]`: any order of the modes,
    /// reversed (negative) or repeated (zero) ones, or a part of a larger tensor.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for another number of strides than sides, or where an entry lies outside `values`;
    /// [`Error::NonFinite`] with the first bad entry's row-major position as column; [`Error::TooLarge`].
    pub fn strided<T: Scalar>(
        shape: &[usize],
        strides: &[isize],
        offset: usize,
        values: &[T],
    ) -> Result<Self, Error> {
        if shape.len() != strides.len() {
            let (expected, found) = ((1, shape.len()), (1, strides.len()));
            return Err(Error::ShapeMismatch { what: "strides of a tensor", expected, found });
        }
        let len = count(shape).filter(|len| *len <= isize::MAX.unsigned_abs() / 16);
        let len = len.ok_or(Error::TooLarge { what: "tensor" })?;
        // The furthest entries in both directions, so that no other can lie outside.
        let outside =
            || Error::ShapeMismatch { what: "tensor", expected: (1, len), found: (1, values.len()) };
        let (mut lowest, mut highest) = (offset as i128, offset as i128);
        for (&side, &stride) in shape.iter().zip(strides) {
            let reach = side.saturating_sub(1) as i128 * stride as i128;
            let end = if reach < 0 { &mut lowest } else { &mut highest };
            *end = end.checked_add(reach).ok_or_else(outside)?;
        }
        if len > 0 && (lowest < 0 || highest >= values.len() as i128) {
            return Err(outside());
        }
        let mut out = Vec::with_capacity(len);
        let mut index = vec![0_usize; shape.len()];
        let mut at = offset;
        for _ in 0..len {
            // Inside by the check above.
            out.push(values.get(at).map_or(f64::NAN, |value| Scalar::to_f64(*value)));
            for ((digit, &side), &stride) in index.iter_mut().zip(shape).zip(strides).rev() {
                *digit += 1;
                if *digit < side {
                    at = at.wrapping_add_signed(stride);
                    break;
                }
                let back = isize::try_from(side - 1).unwrap_or(0).wrapping_mul(stride);
                at = at.wrapping_add_signed(back.wrapping_neg());
                *digit = 0;
            }
        }
        Self::checked::<T>(Array { shape: shape.to_vec(), values: out })
    }

    fn checked<T: Scalar>(array: Array<f64>) -> Result<Self, Error> {
        match array.values.iter().position(|value| !value.is_finite()) {
            Some(col) => Err(Error::NonFinite { what: "tensor", row: 0, col }),
            None => Ok(Self { array, single: size_of::<T>() < size_of::<f64>() }),
        }
    }

    /// Its sides.
    pub fn shape(&self) -> &[usize] {
        &self.array.shape
    }

    /// Its values in row-major order.
    pub fn values(&self) -> &[f64] {
        &self.array.values
    }

    /// `‖T‖²`.
    pub fn norm_squared(&self) -> f64 {
        self.array.norm_squared()
    }

    /// `unfold_k(T)`.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for a mode that is not there.
    pub fn unfold(&self, mode: usize) -> Result<Mat<f64>, Error> {
        self.array.unfold(mode)
    }

    /// `T ×_k A` for `A: r×n_k`.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for a mode that is not there or another width of `a`.
    pub fn times(&self, mode: usize, a: MatRef<'_, f64>) -> Result<Self, Error> {
        Ok(self.array.times(mode, a)?.into())
    }
}

impl From<Array<f64>> for Tensor {
    fn from(array: Array<f64>) -> Self {
        Self { array, single: false }
    }
}

impl PartialEq for Tensor {
    fn eq(&self, other: &Self) -> bool {
        self.array == other.array
    }
}
