//! Hadamard rotations: an orthonormal change of basis that spreads every entry of a row over all of them, in
//! O(n·log n).
//!
//! ```text
//! T = diag(s) · H / √b          s ∈ {±1}ⁿ,   H·Hᵀ = b·I,   H = H_{2^k} ⊗ H_m  of order b = 2^k·m
//! A ← A·T   (forward)           A ← A·Tᵀ = A·T⁻¹   (inverse)
//! ```
//! m is 1, 12, 20, 28, 36, 44, 60, 76, 84, 108, 140, 148 (Paley) or 172 (Williamson). A width n with no such order takes
//! `n/b` blocks on the diagonal, b the largest power of two that divides n: [`Hadamard::is_whole`] tells.
//!
//! With random signs a rotated row is flat: `max|y| ≤ √(2·ln(2n/δ))·‖x‖/√n` with probability 1 - δ, for a fixed x and
//! a whole transform. A one-hot row of height a becomes ±a/√n in every entry, always.
//!
//! **Cost** per row: n·k additions, and n·12 fused products for m = 12, n·(m/4 + 6) more additions for a larger m, in passes
//! over up to 16 registers; all instruction sets and layouts give the same bits. **Accuracy** elementwise:
//! `|Δ| ≤ γ·Σ|x|/√b` with `γ = K·u/(1 - K·u)`, `K = k + m + 3`; exact on integers as far as their sums are, up to the
//! factor 1/√b. The factor comes first, so nothing overflows that would fit with √b to spare. NaN and infinities
//! spread over their row.

mod kernel;
mod matrix;
mod passes;
mod register;
mod sums;
#[cfg(all(feature = "std", target_arch = "x86_64"))]
mod x86;

use alloc::vec::Vec;

use faer::MatMut;
use rand_core::Rng;

pub(crate) use kernel::{Rows, double, single};

use crate::instructions::Instructions;
use crate::{Error, Scalar, Stream};
use passes::Factors;

/// A Hadamard rotation of rows of `n` entries; see the [module](self).
///
/// ```
/// use rankbit_linalg::Hadamard;
/// let rotation = Hadamard::new(768).with_signs(7); // 768 = 2⁶·12
/// assert!(rotation.is_whole());
/// let mut row = vec![0f32; 768];
/// row[5] = 3.0;
/// rotation.forward_slice(&mut row)?;
/// assert!(row.iter().all(|y| (y.abs() - 3.0 / 768f32.sqrt()).abs() < 1e-6));
/// rotation.inverse_slice(&mut row)?;
/// assert!((row[5] - 3.0).abs() < 1e-5);
/// # Ok::<(), rankbit_linalg::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hadamard {
    size: usize,
    block: usize,
    core: usize,
    /// The core's ±1 entries, row-major.
    matrix: Vec<i8>,
    seed: Option<u64>,
    /// Bit i of word i/64: whether entry i changes its sign.
    negative: Vec<u64>,
}

impl Hadamard {
    /// The rotation of rows of `size` entries, without random signs: whole where an order exists, else in blocks of
    /// the largest power of two that divides `size` (1, the identity, for an odd size).
    pub fn new(size: usize) -> Self {
        let core = core_of(size);
        let block = if core.is_some() { size } else { power_of_two(size) };
        Self::build(size, block, core.unwrap_or(1))
    }

    /// The rotation in blocks of a given order, as a file records it.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] when `block` is no order, or does not divide `size`.
    pub fn with_block(size: usize, block: usize) -> Result<Self, Error> {
        let refused = |requirement| Error::InvalidOption { what: "block", requirement, found: block as f64 };
        if size.checked_rem(block).is_none_or(|rest| rest != 0) {
            return Err(refused("a divisor of the size"));
        }
        let core =
            core_of(block).ok_or_else(|| refused("the order of a Hadamard matrix that is built in"))?;
        Ok(Self::build(size, block, core))
    }

    fn build(size: usize, block: usize, core: usize) -> Self {
        Self { size, block, core, matrix: matrix::signs(core), seed: None, negative: Vec::new() }
    }

    /// The same rotation after signs drawn from `seed`: one bit per entry of the [`Stream`] of that seed named
    /// `hadamard signs`, least significant first in words of 64. They depend on nothing else, so that all matrices
    /// with the same input share their rotation.
    #[must_use]
    pub fn with_signs(mut self, seed: u64) -> Self {
        let mut stream = Stream::new(seed, "hadamard signs");
        self.negative = (0..self.size.div_ceil(64)).map(|_| stream.next_u64()).collect();
        self.seed = Some(seed);
        self
    }

    /// The size n of a row.
    pub const fn size(&self) -> usize {
        self.size
    }

    /// The order b of each block on the diagonal.
    pub const fn block(&self) -> usize {
        self.block
    }

    /// Whether the rotation mixes all entries: one block.
    pub const fn is_whole(&self) -> bool {
        self.size <= self.block
    }

    /// What the signs were drawn from; `None` for all +1.
    pub const fn seed(&self) -> Option<u64> {
        self.seed
    }

    /// Entry of H in row `row`, column `column`: 1 or -1, 0 between blocks and outside.
    pub fn entry(&self, row: usize, column: usize) -> i8 {
        if row >= self.size || column >= self.size || row / self.block != column / self.block {
            return 0;
        }
        let (row, column) = (row % self.block, column % self.block);
        let core = self.matrix[row % self.core * self.core + column % self.core];
        let overlap = (row / self.core) & (column / self.core);
        if overlap.count_ones().is_multiple_of(2) { core } else { -core }
    }

    /// Entry `at` of s: -1 where the random signs say so, else 1.
    pub fn sign(&self, at: usize) -> i8 {
        let negative = self.negative.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1);
        if negative { -1 } else { 1 }
    }

    /// `positive` with the sign of each entry of s.
    fn signed<T: Scalar>(&self, positive: T) -> Vec<T> {
        let mut signed = Vec::with_capacity(self.size.next_multiple_of(64));
        for word in &self.negative {
            signed.extend((0..64).map(|bit| if word >> bit & 1 == 1 { -positive } else { positive }));
        }
        signed.truncate(self.size);
        signed
    }

    /// A ← A·T for `a: [rows, n]`, any strides. For columns pass the transpose: `a.transpose_mut()` gives A ← Tᵀ·A.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when `a` does not have n columns.
    pub fn forward<T: Scalar>(&self, a: MatMut<'_, T>) -> Result<(), Error> {
        self.each_row(a, false)
    }

    /// A ← A·Tᵀ, which undoes [`Hadamard::forward`]; on a transpose, A ← T·A.
    ///
    /// # Errors
    /// As [`Hadamard::forward`].
    pub fn inverse<T: Scalar>(&self, a: MatMut<'_, T>) -> Result<(), Error> {
        self.each_row(a, true)
    }

    /// [`Hadamard::forward`] of rows that lie one after another.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when the length is not a multiple of n.
    pub fn forward_slice<T: Scalar>(&self, rows: &mut [T]) -> Result<(), Error> {
        self.check_slice(rows.len())?;
        PreparedHadamard::new(self, false).run(rows);
        Ok(())
    }

    /// [`Hadamard::inverse`] of rows that lie one after another.
    ///
    /// # Errors
    /// As [`Hadamard::forward_slice`].
    pub fn inverse_slice<T: Scalar>(&self, rows: &mut [T]) -> Result<(), Error> {
        self.check_slice(rows.len())?;
        PreparedHadamard::new(self, true).run(rows);
        Ok(())
    }

    /// [`Hadamard::forward_slice`] for many calls.
    pub fn prepare<T: Scalar>(&self) -> PreparedHadamard<T> {
        PreparedHadamard::new(self, false)
    }

    fn check_slice(&self, len: usize) -> Result<(), Error> {
        if len.checked_rem(self.size).unwrap_or(len) == 0 {
            return Ok(());
        }
        Err(Error::ShapeMismatch { what: "rows to rotate", expected: (1, self.size), found: (1, len) })
    }

    fn each_row<T: Scalar>(&self, mut a: MatMut<'_, T>, inverse: bool) -> Result<(), Error> {
        if a.ncols() != self.size {
            let expected = (a.nrows(), self.size);
            return Err(Error::ShapeMismatch { what: "rows to rotate", expected, found: a.shape() });
        }
        let prepared = PreparedHadamard::new(self, inverse);
        let rows = a.nrows();
        if a.col_stride() == 1 {
            for i in 0..rows {
                if let Some(row) = a.as_mut().row_mut(i).try_as_row_major_mut() {
                    prepared.run(row.as_slice_mut());
                }
            }
            return Ok(());
        }
        // As many rows at a time as a cache line holds of a column.
        let mut tile = Vec::new();
        for first in (0..rows).step_by(TILE) {
            let rows = a.as_mut().subrows_mut(first, TILE.min(rows - first));
            if self.core == 1 {
                prepared.side_by_side(rows, &mut tile)
            } else {
                prepared.gathered(rows, &mut tile)
            }
        }
        Ok(())
    }
}

/// Rows that are worked on together where a row's entries do not lie side by side.
const TILE: usize = 16;

/// A rotation in one direction and element type, for many rows; from [`Hadamard::prepare`].
#[derive(Clone, Debug)]
pub struct PreparedHadamard<T> {
    size: usize,
    block: usize,
    core: kernel::Core<T>,
    scale: T,
    /// What entries are multiplied by before and after H; empty where that is `scale` and 1.
    before: Vec<T>,
    after: Vec<T>,
}

impl<T: Scalar> PreparedHadamard<T> {
    /// A ← A·T of rows that lie one after another. Nothing is allocated.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when the length is no multiple of the rotation's size.
    pub fn apply(&self, rows: &mut [T]) -> Result<(), Error> {
        let size = self.size;
        if rows.len().checked_rem(size).unwrap_or(rows.len()) != 0 {
            let (expected, found) = ((1, size), (1, rows.len()));
            return Err(Error::ShapeMismatch { what: "rows to rotate", expected, found });
        }
        self.run(rows);
        Ok(())
    }

    fn new(rotation: &Hadamard, inverse: bool) -> Self {
        let scale = T::from_f64(1.0 / libm::sqrt(rotation.block.max(1) as f64));
        let signed = |positive: T| rotation.signed(positive);
        let (before, after) = match (inverse, rotation.seed) {
            (_, None) => (Vec::new(), Vec::new()),
            (false, Some(_)) => (signed(scale), Vec::new()),
            (true, Some(_)) => (Vec::new(), signed(T::from_f64(1.0))),
        };
        let core = kernel::Core::new(rotation.core, &rotation.matrix, inverse);
        Self { size: rotation.size, block: rotation.block, core, scale, before, after }
    }

    fn run(&self, rows: &mut [T]) {
        let before =
            if self.before.is_empty() { Factors::Same(self.scale) } else { Factors::Each(&self.before) };
        let (size, after, block, core) = (self.size, &self.after[..], self.block, &self.core);
        let instructions = Instructions::best();
        T::rotate(Rows { rows, size, before, after, block, half: 1, core, instructions });
    }

    /// Up to [`TILE`] rows: their entries of one column side by side, so that all butterflies are between registers. For
    /// powers of two.
    fn side_by_side(&self, mut rows: MatMut<'_, T>, tile: &mut Vec<T>) {
        tile.resize(self.size * TILE, T::default());
        for (j, (to, from)) in tile.chunks_exact_mut(TILE).zip(rows.as_ref().col_iter()).enumerate() {
            let factor = self.before.get(j).copied().unwrap_or(self.scale);
            for (to, &from) in to.iter_mut().zip(from.iter()) {
                *to = from * factor;
            }
        }
        T::rotate(Rows {
            rows: tile,
            size: self.size * TILE,
            before: Factors::Same(self.scale),
            after: &[],
            block: self.block * TILE,
            half: TILE,
            core: &self.core,
            instructions: Instructions::best(),
        });
        for (j, (from, to)) in tile.chunks_exact(TILE).zip(rows.as_mut().col_iter_mut()).enumerate() {
            let factor = self.after.get(j).copied();
            for (to, &from) in to.iter_mut().zip(from) {
                *to = if let Some(factor) = factor { from * factor } else { from };
            }
        }
    }

    /// Up to [`TILE`] rows, each gathered; a little apart, since powers of two would share sets of the cache.
    fn gathered(&self, mut rows: MatMut<'_, T>, tile: &mut Vec<T>) {
        let stride = self.size.next_multiple_of(TILE) + TILE;
        tile.resize(stride * TILE, T::default());
        for (j, from) in rows.as_ref().col_iter().enumerate() {
            for (to, &from) in tile.chunks_exact_mut(stride).zip(from.iter()) {
                to[j] = from;
            }
        }
        for row in tile.chunks_exact_mut(stride).take(rows.nrows()) {
            self.run(&mut row[..self.size]);
        }
        for (j, to) in rows.as_mut().col_iter_mut().enumerate() {
            for (from, to) in tile.chunks_exact(stride).zip(to.iter_mut()) {
                *to = from[j];
            }
        }
    }
}

/// The largest power of two that divides `size`; 1 for 0.
const fn power_of_two(size: usize) -> usize {
    if size == 0 { 1 } else { 1 << size.trailing_zeros() }
}

/// The m of `order = 2^k·m`; `None` when it is no such order.
fn core_of(order: usize) -> Option<usize> {
    if order.is_power_of_two() {
        return Some(1);
    }
    let fits = |&m: &usize| order.checked_rem(m) == Some(0) && (order / m).is_power_of_two();
    matrix::ORDERS.into_iter().find(|m| fits(m))
}
