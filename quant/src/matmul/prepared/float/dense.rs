//! A small matrix of floats in the order of the same kernels: the factors of a low-rank term.

use super::super::layout::ROWS;
use super::super::{Epilogue, Isa, Output};
use super::{Column, FloatActivations, add, check, run};
use crate::{Error, rows};
use alloc::{vec, vec::Vec};
use core::ops::Range;

/// A matrix of f32 in tiles of 16 rows, column after column. Rows past the last are zeros.
#[derive(Clone, Debug)]
pub struct PreparedDense {
    shape: (usize, usize),
    columns: Vec<Column>,
}

impl PreparedDense {
    /// The row-major `values` of `shape`.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when there are not as many; [`Error::TooLarge`] when a size overflows.
    pub fn new(values: &[f32], shape: (usize, usize)) -> Result<Self, Error> {
        rows::check_len("matrix", values.len(), shape)?;
        let len = shape.0.div_ceil(ROWS).checked_mul(shape.1).ok_or(Error::TooLarge { what: "matrix" })?;
        let mut columns = vec![[0.0; ROWS]; len];
        for (row, values) in values.chunks_exact(shape.1.max(1)).enumerate() {
            let tile = &mut columns[row / ROWS * shape.1..];
            for (column, &value) in tile.iter_mut().zip(values) {
                column[row % ROWS] = value;
            }
        }
        Ok(Self { shape, columns })
    }

    /// Rows and columns.
    pub const fn shape(&self) -> (usize, usize) {
        self.shape
    }

    /// Tiles of 16 rows.
    pub const fn tiles(&self) -> usize {
        self.shape.0.div_ceil(ROWS)
    }

    /// Bytes that a product reads of it.
    pub const fn bytes(&self) -> usize {
        self.columns.len() * size_of::<Column>()
    }

    /// `Y = X·Wᵀ` for the tiles `tiles`, as [`Prepared::multiply_floats`](super::Prepared::multiply_floats).
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when there are no such tiles, or when inputs or `y` do not fit.
    pub fn multiply(
        &self,
        tiles: Range<usize>,
        x: &FloatActivations,
        y: &mut Output<'_>,
        epilogue: &impl Epilogue,
    ) -> Result<(), Error> {
        check(self.shape, &tiles, x)?;
        let isa = Isa::current();
        run(self.shape.0, tiles, x, y, epilogue, |tile, token, sums| self.add(isa, tile, x, token, sums))
    }

    /// Adds the products of tile `tile` with the tokens of `x` from `token` on, as many as `sums`, to `sums`.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when there is no such tile, there are no such tokens, or `x` does not fit.
    pub fn add_tile(
        &self,
        tile: usize,
        x: &FloatActivations,
        token: usize,
        sums: &mut [[f32; ROWS]],
    ) -> Result<(), Error> {
        check(self.shape, &(tile..tile.saturating_add(1)), x)?;
        x.check_tokens(token, sums.len())?;
        self.add(Isa::current(), tile, x, token, sums);
        Ok(())
    }

    fn add(&self, isa: Isa, tile: usize, x: &FloatActivations, token: usize, sums: &mut [Column]) {
        let size = self.shape.1;
        let columns = self.columns.get(tile * size..(tile + 1) * size).unwrap_or(&[]);
        add(isa, columns, x, (token, 0), sums);
    }
}
