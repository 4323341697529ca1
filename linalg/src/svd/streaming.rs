//! One pass over the rows of a matrix that need not fit in memory.

use alloc::vec::Vec;

use faer::{Mat, MatRef};

use super::{orthonormal, scale_columns, small};
use crate::{Error, Scalar, dense};

/// The right singular vectors and values of a matrix whose rows are given once, in blocks, in constant memory.
///
/// A sketch B of at most `width` rows stands for all rows A seen so far. A full buffer of rows and sketch is replaced by
/// the triangle of its QR factorization where n ≤ ℓ = `width` (exact), else by
///
/// ```text
/// B = diag(√(σᵢ² − [i > ⌈ℓ/2⌉]·δ))·Vᵀ,   δ = σ²_(ℓ+1)       0 ⪯ AᵀA − BᵀB ⪯ Δ·I
/// Δ = Σ δ ≤ ‖A − [A]ₖ‖²/(⌊ℓ/2⌋ + 1 − k)                     for every k ≤ ℓ/2
/// ```
/// which is frequent directions, here shrinking the lower half only: the leading directions keep their length. With
/// ℓ ≥ min(m, n) nothing is lost; up to 512 columns ℓ is n, whatever was asked for, because the triangle is cheaper than the
/// decompositions. `‖A − A·V·Vᵀ‖² ≤ ‖A‖² − ‖B·V‖²` is measured and returned as
/// [`Streamed::residual_bound`].
///
/// Memory: (ℓ + r)·n numbers, r = max(ℓ, 64), three times while a full buffer is decomposed; 10·n² up to 512 columns. Cost
/// per row: about 24·n·ℓ + 160·ℓ² flops; 5/2·n² up to 512 columns. The same rows in other blocks give the same bits.
///
/// Sources: M. Ghashami, E. Liberty, J. Phillips, D. Woodruff, *Frequent directions: simple and deterministic matrix
/// sketching* (SIAM J. Comput. 45, 2016), section 2; A. Desai, M. Ghashami, J. Phillips, *Improved practical matrix
/// sketching with guarantees* (arXiv:1501.06561), for shrinking a part.
///
/// ```
/// use rankbit_linalg::StreamingSvd;
/// use rankbit_linalg::faer::Mat;
/// # fn main() -> Result<(), rankbit_linalg::Error> {
/// let mut stream = StreamingSvd::new(3, 2)?;
/// for block in 0..100 {
///     stream.push(Mat::<f32>::from_fn(8, 3, |i, j| ((block + i) * (j + 1)) as f32).as_ref())?;
/// }
/// let found = stream.finish::<f32>(1)?;
/// assert!(found.residual_bound < 1e-6 * found.norm); // rows along (1, 2, 3) only
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct StreamingSvd {
    columns: usize,
    width: usize,
    /// Sketch and new rows, scaled by 2^-exponent; the first `used` rows count.
    buffer: Mat<f64>,
    used: usize,
    exponent: i32,
    rows: u64,
    norm_squared: f64,
    shrunk: f64,
}

/// What [`StreamingSvd::finish`] found.
#[derive(Debug, Clone)]
pub struct Streamed<T> {
    /// Singular values of the sketch, descending: at most those of the matrix.
    pub singular_values: Vec<T>,
    /// Right singular vectors, n×k, orthonormal columns.
    pub v: Mat<T>,
    /// Upper bound on ‖A − A·V·Vᵀ‖, Frobenius norm, measured (exact where nothing was shrunk).
    pub residual_bound: f64,
    /// ‖A‖, Frobenius norm.
    pub norm: f64,
    /// √Δ: what the sketch lost of any direction at most, in spectral norm; 0 where it is exact.
    pub sketch_bound: f64,
    /// Rows seen.
    pub rows: u64,
}

/// Least number of rows between two factorizations.
const FEWEST: usize = 64;

/// Columns up to which the sketch is the whole triangle.
const EXACT: usize = 512;

impl StreamingSvd {
    /// No rows yet, of `columns` entries each; a sketch of `width` rows. For rank k take at least 2·k.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] if `width` is 0; [`Error::TooLarge`] if the buffer has no size.
    pub fn new(columns: usize, width: usize) -> Result<Self, Error> {
        if width == 0 {
            let requirement = "at least 1";
            return Err(Error::InvalidOption { what: "width", requirement, found: 0.0 });
        }
        let (width, more) = if columns <= EXACT {
            (columns.max(1), 4 * columns.max(1))
        } else {
            let width = width.min(columns);
            (width, width.max(FEWEST))
        };
        let rows = width + more;
        if rows.checked_mul(columns).and_then(|count| count.checked_mul(16)).is_none_or(|bytes| bytes > LIMIT)
        {
            return Err(Error::TooLarge { what: "sketch" });
        }
        let buffer = Mat::zeros(rows, columns);
        Ok(Self { columns, width, buffer, used: 0, exponent: 0, rows: 0, norm_squared: 0.0, shrunk: 0.0 })
    }

    /// Rows seen.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The next rows. Nothing changes when the block is refused.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for another width; [`Error::NonFinite`] with the position in this block;
    /// [`Error::NoConvergence`] if faer gives up.
    pub fn push<T: Scalar>(&mut self, block: MatRef<'_, T>) -> Result<(), Error> {
        if block.ncols() != self.columns {
            let expected = (block.nrows(), self.columns);
            return Err(Error::ShapeMismatch { what: "rows", expected, found: block.shape() });
        }
        self.rescale(dense::largest_modulus(block, "rows")?);
        let shrink = dense::power_of_two(-self.exponent);
        let mut start = 0;
        while start < block.nrows() {
            if self.used == self.buffer.nrows() {
                self.compress()?;
            }
            let count = (self.buffer.nrows() - self.used).min(block.nrows() - start);
            let target = self.buffer.as_mut().subrows_mut(self.used, count);
            dense::convert_into(target, block.subrows(start, count), shrink);
            // Row by row, so that the sum does not depend on the blocks.
            for row in self.buffer.as_ref().subrows(self.used, count).row_iter() {
                self.norm_squared += row.iter().map(|value| value * value).sum::<f64>();
            }
            self.used += count;
            self.rows = self.rows.saturating_add(count as u64);
            start += count;
        }
        Ok(())
    }

    /// The `rank` leading right singular vectors and values; more rows may follow.
    ///
    /// A second pass gives `U = A·V·diag(1/σ)`, or A·V, block by block.
    ///
    /// # Errors
    /// [`Error::RankOutOfRange`] above the smaller of the sketch's width, the columns and the rows seen;
    /// [`Error::NonFinite`] if a singular value leaves the range of `T`; [`Error::NoConvergence`] if faer gives up.
    pub fn finish<T: Scalar>(&mut self, rank: usize) -> Result<Streamed<T>, Error> {
        let seen = usize::try_from(self.rows).unwrap_or(usize::MAX);
        let max = self.width.min(self.columns).min(seen);
        if rank > max {
            return Err(Error::RankOutOfRange { rank, max });
        }
        let thin = small::thin(self.filled(), true)?;
        let factor = dense::power_of_two(self.exponent);
        let kept: f64 = thin.values.iter().take(rank).map(|value| value * value).sum();
        // Where the difference would be rounding, the tail of the sketch and what it lost say more.
        let tail: f64 = thin.values.iter().skip(rank).map(|value| value * value).sum();
        let lost = if self.shrunk > 0.0 { (self.norm_squared - kept - tail).max(0.0) } else { 0.0 };
        let mut v: Mat<T> = dense::convert(thin.v.subcols(0, rank), 1.0);
        super::fix_signs(&mut v, &mut Mat::zeros(0, rank));
        Ok(Streamed {
            singular_values: super::unscale_values(thin.values.iter().take(rank).copied(), factor)?,
            v,
            residual_bound: libm::sqrt(tail + lost) * factor,
            norm: libm::sqrt(self.norm_squared) * factor,
            sketch_bound: libm::sqrt(self.shrunk) * factor,
            rows: self.rows,
        })
    }

    fn filled(&self) -> MatRef<'_, f64> {
        self.buffer.as_ref().subrows(0, self.used)
    }

    /// Takes a larger power of two out of everything, so that no square overflows.
    fn rescale(&mut self, largest: f64) {
        if largest == 0.0 {
            return;
        }
        let wanted = dense::scale_exponent::<f64>(largest);
        let first = self.norm_squared == 0.0;
        if (first && wanted != self.exponent) || wanted > self.exponent {
            let factor = dense::power_of_two(self.exponent - wanted);
            if !first {
                for column in self.buffer.col_iter_mut() {
                    column.iter_mut().for_each(|value| *value *= factor);
                }
                self.norm_squared *= factor * factor;
                self.shrunk *= factor * factor;
            }
            self.exponent = wanted;
        }
    }

    /// Makes room: the triangle of the rows, shrunk to `width` rows where it has more.
    fn compress(&mut self) -> Result<(), Error> {
        let sketch = if self.columns <= self.width {
            orthonormal::triangle(self.filled().to_owned())
        } else {
            let thin = small::thin(self.filled(), true)?;
            let delta = thin.values.get(self.width).map_or(0.0, |value| value * value);
            let whole = self.width.div_ceil(2);
            let values = thin.values.iter().enumerate().take(self.width).map(|(i, &value)| {
                if i < whole { value } else { libm::sqrt((value * value - delta).max(0.0)) }
            });
            self.shrunk += delta;
            scale_columns(thin.v.subcols(0, self.width), values).transpose().to_owned()
        };
        self.used = sketch.nrows();
        self.buffer.as_mut().subrows_mut(0, self.used).copy_from(&sketch);
        Ok(())
    }
}

/// Largest buffer, in bytes.
const LIMIT: usize = isize::MAX.unsigned_abs();
