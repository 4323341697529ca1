//! A dense tensor of any order, and its products with matrices along one mode.

use alloc::vec;
use alloc::vec::Vec;

use faer::{Mat, MatMut, MatRef};

use crate::{Error, Scalar, dense};

/// A tensor, its last side fastest.
#[derive(Clone, PartialEq, Debug)]
pub struct Tensor {
    shape: Vec<usize>,
    values: Vec<f64>,
}

/// Trailing entries from which the blocks of a mode are multiplied where they lie; shorter ones are gathered.
const LONG: usize = 64;

/// Entries gathered at a time.
const GATHERED: usize = 1 << 18;

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
        Self { shape: shape.to_vec(), values }.finite()
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
        Self { shape: shape.to_vec(), values: out }.finite()
    }

    fn finite(self) -> Result<Self, Error> {
        match self.values.iter().position(|value| !value.is_finite()) {
            Some(col) => Err(Error::NonFinite { what: "tensor", row: 0, col }),
            None => Ok(self),
        }
    }

    /// Its sides.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Its values in row-major order.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// `‖T‖²`.
    pub fn norm_squared(&self) -> f64 {
        dense::line_norm_squared(&self.values)
    }

    /// Every value times `factor`.
    pub(super) fn scaled(&self, factor: f64) -> Self {
        let values = self.values.iter().map(|value| value * factor).collect();
        Self { shape: self.shape.clone(), values }
    }

    /// Entries before and after a mode.
    fn around(&self, mode: usize) -> (usize, usize) {
        (self.shape.iter().take(mode).product(), self.shape.iter().skip(mode + 1).product())
    }

    /// `unfold_k(T)`.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for a mode that is not there.
    pub fn unfold(&self, mode: usize) -> Result<Mat<f64>, Error> {
        let side = self.side(mode)?;
        let (before, after) = self.around(mode);
        Ok(Mat::from_fn(side, before * after, |i, column| {
            let (b, a) = (column / after.max(1), column % after.max(1));
            self.values[(b * side + i) * after + a]
        }))
    }

    fn side(&self, mode: usize) -> Result<usize, Error> {
        let expected = (1, self.shape.len());
        let missing = Error::ShapeMismatch { what: "mode", expected, found: (1, mode) };
        self.shape.get(mode).copied().ok_or(missing)
    }

    /// `T ×_k A` for `A: r×n_k`.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for a mode that is not there or another width of `a`.
    pub fn times(&self, mode: usize, a: MatRef<'_, f64>) -> Result<Self, Error> {
        let side = self.side(mode)?;
        if a.ncols() != side {
            let (expected, found) = ((a.nrows(), side), a.shape());
            return Err(Error::ShapeMismatch { what: "factor of a mode", expected, found });
        }
        let (before, after) = self.around(mode);
        let rank = a.nrows();
        let mut shape = self.shape.clone();
        if let Some(changed) = shape.get_mut(mode) {
            *changed = rank;
        }
        let mut values = vec![0.0; before * rank * after];
        let block = rank * after;
        if block > 0 {
            self.panels(mode, |first, blocks, panel| {
                let Some(target) = values.get_mut(first * block..(first + blocks) * block) else { return };
                if after == 1 {
                    let target = MatMut::from_row_major_slice_mut(target, blocks, rank);
                    dense::product_into(target, panel, a.transpose());
                } else if blocks == 1 {
                    let target = MatMut::from_column_major_slice_mut(target, after, rank);
                    dense::product_into(target, panel, a.transpose());
                } else {
                    let product = dense::product(panel, a.transpose());
                    for (i, column) in product.col_iter().enumerate() {
                        let lines = target.chunks_exact_mut(after).skip(i).step_by(rank);
                        for (line, entries) in lines.enumerate() {
                            for (k, value) in entries.iter_mut().enumerate() {
                                *value = column[line * after + k];
                            }
                        }
                    }
                }
            });
        }
        Ok(Self { shape, values })
    }

    /// `unfold_k(T)·unfold_k(T)ᵀ`, n_k×n_k.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for a mode that is not there.
    pub(super) fn gram(&self, mode: usize) -> Result<Mat<f64>, Error> {
        let side = self.side(mode)?;
        let mut gram = Mat::<f64>::zeros(side, side);
        self.panels(mode, |_, _, panel| dense::add_gram_lower(gram.as_mut(), panel, 1.0));
        dense::mirror_lower(&mut gram);
        Ok(gram)
    }

    /// Visits `unfold_k(T)ᵀ` in panels of rows: `visit(first block, blocks, panel)`, where a block is what the modes
    /// before k select, and has as many rows as the modes after k have entries.
    fn panels(&self, mode: usize, mut visit: impl FnMut(usize, usize, MatRef<'_, f64>)) {
        let (before, after) = self.around(mode);
        let side = self.shape.get(mode).copied().unwrap_or(0);
        let block = side * after;
        if before == 0 || block == 0 {
            return;
        }
        if after == 1 {
            visit(0, before, MatRef::from_row_major_slice(&self.values, before, side));
        } else if before == 1 || after >= LONG {
            for (first, values) in self.values.chunks_exact(block).enumerate() {
                visit(first, 1, MatRef::from_column_major_slice(values, after, side));
            }
        } else {
            let most = (GATHERED / block).clamp(1, before);
            let mut gathered = Mat::<f64>::zeros(most * after, side);
            for (panel, values) in self.values.chunks(most * block).enumerate() {
                let blocks = values.len() / block;
                for (i, column) in gathered.col_iter_mut().enumerate() {
                    let Some(column) = column.try_as_col_major_mut() else { continue };
                    let lines = values.chunks_exact(after).skip(i).step_by(side);
                    for (to, from) in column.as_slice_mut().chunks_exact_mut(after).zip(lines) {
                        to.copy_from_slice(from);
                    }
                }
                visit(panel * most, blocks, gathered.subrows(0, blocks * after));
            }
        }
    }
}
