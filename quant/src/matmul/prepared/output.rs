//! Where outputs go, and what happens to them on the way.

use super::layout::ROWS;
use crate::{Error, rows};
use core::marker::PhantomData;

/// Outputs of up to 8 tokens (32 where inputs are floats) × 16 rows, in registers or the first cache, before they are stored.
///
/// Both hooks get the first row of the tile, the first token, and one array of 16 rows for each token. Rows past the
/// matrix's last are there too; what they hold is not stored.
pub trait Epilogue {
    /// What the products are added to; zeros unless this says otherwise.
    fn start(&self, row: usize, token: usize, sums: &mut [[f32; ROWS]]) {
        let _ = (row, token, sums);
    }

    /// The finished sums: for a bias, an activation function.
    fn finish(&self, row: usize, token: usize, sums: &mut [[f32; ROWS]]) {
        let _ = (row, token, sums);
    }
}

/// Nothing before, nothing after.
#[derive(Clone, Copy, Debug)]
pub struct Plain;

impl Epilogue for Plain {}

/// Columns of a row-major `Y: [tokens, out]`, to be written from one thread.
#[derive(Debug)]
pub struct Output<'a> {
    /// Entry `[0, first]`.
    data: *mut f32,
    tokens: usize,
    out: usize,
    first: usize,
    end: usize,
    borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: it is the only way to its columns while it lives, as `&mut` is, and floats may move between threads.
unsafe impl Send for Output<'_> {}

impl<'a> Output<'a> {
    /// All columns of the row-major `y`, `[tokens, out]`.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when `y` does not have `tokens · out` entries.
    pub fn new(y: &'a mut [f32], tokens: usize, out: usize) -> Result<Self, Error> {
        rows::check_len("output", y.len(), (tokens, out))?;
        Ok(Self { data: y.as_mut_ptr(), tokens, out, first: 0, end: out, borrow: PhantomData })
    }

    /// Cuts the columns before `column` (counted in the whole of Y, within what this has) from those from it on.
    pub fn split_at(self, column: usize) -> (Self, Self) {
        let column = column.clamp(self.first, self.end);
        let left = Self { end: column, borrow: PhantomData, ..self };
        let right = Self { first: column, borrow: PhantomData, ..self };
        (left, right)
    }

    /// The columns it has.
    pub const fn columns(&self) -> core::ops::Range<usize> {
        self.first..self.end
    }

    /// Tokens and all columns of Y.
    pub const fn shape(&self) -> (usize, usize) {
        (self.tokens, self.out)
    }

    /// Stores the sums of tokens `token ..` at columns `row ..`; entries outside are left alone.
    pub(crate) fn store(&mut self, row: usize, token: usize, sums: &[[f32; ROWS]]) {
        let (from, to) = (row.max(self.first), (row + ROWS).min(self.end));
        if from >= to {
            return;
        }
        for (token, sums) in (token..self.tokens).zip(sums) {
            // SAFETY: token < tokens and from .. to are within first .. end ≤ out, so these entries are inside the slice
            // of tokens·out entries that `new` was given, and no other `Output` has these columns.
            let y =
                unsafe { core::slice::from_raw_parts_mut(self.data.add(token * self.out + from), to - from) };
            y.copy_from_slice(&sums[from - row..to - row]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Output;
    use alloc::vec;

    #[test]
    fn halves_write_their_own_columns() {
        let mut y = vec![0.0; 3 * 20];
        let (mut left, mut right) = Output::new(&mut y, 3, 20).unwrap().split_at(16);
        right.store(16, 1, &[[2.0; 16]; 8]);
        right.store(0, 0, &[[9.0; 16]; 8]);
        left.store(0, 2, &[[1.0; 16]]);
        left.store(16, 0, &[[9.0; 16]]);
        for (at, &value) in y.iter().enumerate() {
            let (token, column) = (at / 20, at % 20);
            let expected = match (token, column) {
                (2, ..16) => 1.0,
                (1.., 16..) => 2.0,
                _ => 0.0,
            };
            assert_eq!(value, expected, "{token} {column}");
        }
        assert!(Output::new(&mut y, 3, 21).is_err());
    }
}
