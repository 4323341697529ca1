//! The values of a tensor in one precision, and their products along one mode.

use alloc::vec;
use alloc::vec::Vec;

use faer::{Mat, MatMut, MatRef};

use crate::{Error, Scalar, dense};

/// Values, the last side fastest; as many as the product of the sides.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Array<T> {
    pub(super) shape: Vec<usize>,
    pub(super) values: Vec<T>,
}

/// Trailing entries from which the blocks of a mode are multiplied where they lie; shorter ones are gathered.
const LONG: usize = 64;

/// Entries gathered at a time.
const GATHERED: usize = 1 << 18;

impl<T: Scalar> Array<T> {
    /// The same values in another precision.
    pub(super) fn convert<U: Scalar>(&self) -> Array<U> {
        let values = self.values.iter().map(|value| U::from_f64(Scalar::to_f64(*value))).collect();
        Array { shape: self.shape.clone(), values }
    }

    /// The modes in another order; `order` names each mode once.
    pub(super) fn permuted(&self, order: &[usize]) -> Self {
        let stride = |mode: usize| -> usize { self.shape.iter().skip(mode + 1).product() };
        let side = |mode: usize| self.shape.get(mode).copied().unwrap_or(1);
        let shape: Vec<usize> = order.iter().map(|&mode| side(mode)).collect();
        let (outer, inner) = order.split_at(order.len().saturating_sub(1));
        let (run, step) = inner.first().map_or((1, 1), |&mode| (side(mode), stride(mode)));
        let mut values = Vec::with_capacity(self.values.len());
        let mut index = vec![0_usize; outer.len()];
        let mut at = 0;
        while values.len() < self.values.len() {
            let entries = self.values.get(at..).unwrap_or_default().iter().step_by(step.max(1)).take(run);
            values.extend(entries);
            for (digit, &mode) in index.iter_mut().zip(outer).rev() {
                *digit += 1;
                at += stride(mode);
                if *digit < side(mode) {
                    break;
                }
                at -= *digit * stride(mode);
                *digit = 0;
            }
        }
        Self { shape, values }
    }

    /// Every value times `factor`.
    pub(super) fn scaled(&self, factor: f64) -> Self {
        let factor = T::from_f64(factor);
        Self { shape: self.shape.clone(), values: self.values.iter().map(|&value| value * factor).collect() }
    }

    /// `‖T‖²`.
    pub(super) fn norm_squared(&self) -> f64 {
        dense::line_norm_squared(&self.values)
    }

    /// Entries before and after a mode.
    fn around(&self, mode: usize) -> (usize, usize) {
        (self.shape.iter().take(mode).product(), self.shape.iter().skip(mode + 1).product())
    }

    fn side(&self, mode: usize) -> Result<usize, Error> {
        let expected = (1, self.shape.len());
        let missing = Error::ShapeMismatch { what: "mode", expected, found: (1, mode) };
        self.shape.get(mode).copied().ok_or(missing)
    }

    /// `unfold_k(T)`.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for a mode that is not there.
    pub(super) fn unfold(&self, mode: usize) -> Result<Mat<T>, Error> {
        let side = self.side(mode)?;
        let (before, after) = self.around(mode);
        Ok(Mat::from_fn(side, before * after, |i, column| {
            let (b, a) = (column / after.max(1), column % after.max(1));
            self.values[(b * side + i) * after + a]
        }))
    }

    /// `T ×_k A` for `A: r×n_k`.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for a mode that is not there or another width of `a`.
    pub(super) fn times(&self, mode: usize, a: MatRef<'_, T>) -> Result<Self, Error> {
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
        let mut values = vec![T::default(); before * rank * after];
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
    pub(super) fn gram(&self, mode: usize) -> Result<Mat<T>, Error> {
        let side = self.side(mode)?;
        let mut gram = Mat::<T>::zeros(side, side);
        self.panels(mode, |_, _, panel| dense::add_gram_lower(gram.as_mut(), panel, T::from_f64(1.0)));
        dense::mirror_lower(&mut gram);
        Ok(gram)
    }

    /// Visits `unfold_k(T)ᵀ` in panels of rows: `visit(first block, blocks, panel)`, where a block is what the modes
    /// before k select, and has as many rows as the modes after k have entries.
    fn panels(&self, mode: usize, mut visit: impl FnMut(usize, usize, MatRef<'_, T>)) {
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
            let mut gathered = Mat::<T>::zeros(most * after, side);
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
