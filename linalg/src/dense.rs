//! Shared helpers on dense matrices: checks, sequential products, conversions, power-of-two scaling.

use faer::linalg::matmul::matmul;
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::reborrow::ReborrowMut;
use faer::{Accum, Mat, MatMut, MatRef, Par};

use crate::{Error, Scalar};

/// `a·b`, on the calling thread.
pub(crate) fn product<T: Scalar>(a: MatRef<'_, T>, b: MatRef<'_, T>) -> Mat<T> {
    let mut out = Mat::zeros(a.nrows(), b.ncols());
    product_into(out.as_mut(), a, b);
    out
}

/// `out = a·b`, on the calling thread.
pub(crate) fn product_into<T: Scalar>(out: MatMut<'_, T>, a: MatRef<'_, T>, b: MatRef<'_, T>) {
    matmul(out, Accum::Replace, a, b, T::from_f64(1.0), Par::Seq);
}

/// `out -= a·b`, on the calling thread.
pub(crate) fn subtract_product<T: Scalar>(out: MatMut<'_, T>, a: MatRef<'_, T>, b: MatRef<'_, T>) {
    matmul(out, Accum::Add, a, b, T::from_f64(-1.0), Par::Seq);
}

/// Calls `visit(line, entries)` for every contiguous line of `a`: its columns where the view is column-major,
/// its rows where it is row-major, else single entries. Returns whether lines are rows.
///
/// `visit` returns `false` to stop.
pub(crate) fn lines<'a, T: Scalar>(
    a: MatRef<'a, T>,
    mut visit: impl FnMut((usize, usize), &'a [T]) -> bool,
) -> bool {
    if let Some(view) = a.try_as_col_major() {
        for j in 0..view.ncols() {
            if !visit((0, j), view.col(j).as_slice()) {
                break;
            }
        }
        false
    } else if let Some(view) = a.try_as_row_major() {
        for i in 0..view.nrows() {
            if !visit((i, 0), view.row(i).as_slice()) {
                break;
            }
        }
        true
    } else {
        'all: for j in 0..a.ncols() {
            for i in 0..a.nrows() {
                if !visit((i, j), core::slice::from_ref(a.get(i, j))) {
                    break 'all;
                }
            }
        }
        false
    }
}

/// Largest modulus of a line, and whether all its entries are finite.
fn largest<T: Scalar>(line: &[T]) -> (T, bool) {
    const LANES: usize = 16;
    let mut lanes = [T::default(); LANES];
    let mut finite = [true; LANES];
    let chunks = line.chunks_exact(LANES);
    let mut largest = T::default();
    let mut all = true;
    for &value in chunks.remainder() {
        let modulus = num_traits::Float::abs(value);
        largest = if modulus > largest { modulus } else { largest };
        all &= modulus <= T::max_value();
    }
    for chunk in chunks {
        for ((&value, lane), finite) in chunk.iter().zip(&mut lanes).zip(&mut finite) {
            let modulus = num_traits::Float::abs(value);
            *lane = if modulus > *lane { modulus } else { *lane };
            *finite &= modulus <= T::max_value();
        }
    }
    for (lane, finite) in lanes.into_iter().zip(finite) {
        largest = if lane > largest { lane } else { largest };
        all &= finite;
    }
    (largest, all)
}

/// Largest modulus of a matrix.
///
/// # Errors
/// [`Error::NonFinite`] with the first position (in the order of the view's lines) that is NaN or infinite.
pub(crate) fn largest_modulus<T: Scalar>(a: MatRef<'_, T>, what: &'static str) -> Result<f64, Error> {
    let mut maximum = T::default();
    let mut bad = None;
    let by_rows = lines(a, |start, line| {
        let (value, finite) = largest(line);
        maximum = if value > maximum { value } else { maximum };
        if !finite {
            let offset = line.iter().position(|x| !num_traits::Float::is_finite(*x)).unwrap_or(0);
            bad = Some((start, offset));
        }
        finite
    });
    match bad {
        None => Ok(maximum.to_f64()),
        Some(((row, col), offset)) if by_rows => Err(Error::NonFinite { what, row, col: col + offset }),
        Some(((row, col), offset)) => Err(Error::NonFinite { what, row: row + offset, col }),
    }
}

/// Sum of squares of all entries, in f64.
pub(crate) fn norm_squared<T: Scalar>(a: MatRef<'_, T>) -> f64 {
    let mut total = 0.0;
    lines(a, |_, line| {
        total += line_norm_squared(line);
        true
    });
    total
}

/// Sum of squares of a slice, in f64.
pub(crate) fn line_norm_squared<T: Scalar>(line: &[T]) -> f64 {
    const LANES: usize = 8;
    let mut lanes = [0.0f64; LANES];
    let chunks = line.chunks_exact(LANES);
    let tail: f64 = chunks.remainder().iter().map(|&x| x.to_f64() * x.to_f64()).sum();
    for chunk in chunks {
        for (&value, lane) in chunk.iter().zip(&mut lanes) {
            let value = value.to_f64();
            *lane += value * value;
        }
    }
    lanes.into_iter().sum::<f64>() + tail
}

/// The same matrix in another precision, times `factor`, column-major.
pub(crate) fn convert<T: Scalar, U: Scalar>(a: MatRef<'_, T>, factor: f64) -> Mat<U> {
    let mut out = Mat::<U>::zeros(a.nrows(), a.ncols());
    convert_into(out.as_mut(), a, factor);
    out
}

/// `out = factor·a`, in another precision.
pub(crate) fn convert_into<T: Scalar, U: Scalar>(mut out: MatMut<'_, U>, a: MatRef<'_, T>, factor: f64) {
    // Few rows at a time, so that neither side's cache lines are evicted before all of a line is used.
    const ROWS: usize = 8;
    let unit = a.row_stride() == 1 && out.row_stride() == 1;
    let step = if unit { a.nrows().max(1) } else { ROWS };
    let mut start = 0;
    while start < a.nrows() {
        let rows = step.min(a.nrows() - start);
        let (mut target, source) = (out.rb_mut().subrows_mut(start, rows), a.subrows(start, rows));
        for (target, source) in target.rb_mut().col_iter_mut().zip(source.col_iter()) {
            if let Some(source) = source.try_as_col_major() {
                for (to, &from) in target.iter_mut().zip(source.as_slice()) {
                    *to = U::from_f64(from.to_f64() * factor);
                }
            } else {
                for (to, &from) in target.iter_mut().zip(source.iter()) {
                    *to = U::from_f64(from.to_f64() * factor);
                }
            }
        }
        start += rows;
    }
}

/// An owned matrix, stored as its transpose where that is how its source was stored.
pub(crate) struct Oriented<T> {
    stored: Mat<T>,
    transposed: bool,
}

impl<T: Scalar> Oriented<T> {
    pub(crate) fn view(&self) -> MatRef<'_, T> {
        if self.transposed { self.stored.transpose() } else { self.stored.as_ref() }
    }
}

impl<T> From<Mat<T>> for Oriented<T> {
    fn from(stored: Mat<T>) -> Self {
        Self { stored, transposed: false }
    }
}

/// diag(rows)·a·diag(columns), the factors taken as 1 where absent; the products are formed in f64.
pub(crate) fn scaled<T: Scalar>(
    a: MatRef<'_, T>,
    rows: Option<&[f64]>,
    columns: Option<&[f64]>,
) -> Oriented<T> {
    let transposed = a.row_stride() != 1 && a.col_stride() == 1;
    let (a, rows, columns) = if transposed { (a.transpose(), columns, rows) } else { (a, rows, columns) };
    let mut stored = Mat::<T>::zeros(a.nrows(), a.ncols());
    for (j, (target, source)) in stored.col_iter_mut().zip(a.col_iter()).enumerate() {
        let outer = columns.map_or(1.0, |columns| columns.get(j).copied().unwrap_or(1.0));
        match rows {
            None => {
                for (to, &from) in target.iter_mut().zip(source.iter()) {
                    *to = T::from_f64(from.to_f64() * outer);
                }
            }
            Some(rows) => {
                for ((to, &from), inner) in target.iter_mut().zip(source.iter()).zip(rows) {
                    *to = T::from_f64(from.to_f64() * outer * inner);
                }
            }
        }
    }
    Oriented { stored, transposed }
}

/// Σᵢⱼ rowᵢ·columnⱼ·aᵢⱼ², in f64, the weights taken as 1 where absent.
pub(crate) fn weighted_norm_squared<T: Scalar>(
    a: MatRef<'_, T>,
    rows: Option<&[f64]>,
    columns: Option<&[f64]>,
) -> f64 {
    if rows.is_none() && columns.is_none() {
        return norm_squared(a);
    }
    let transposed = a.row_stride() != 1 && a.col_stride() == 1;
    let (a, rows, columns) = if transposed { (a.transpose(), columns, rows) } else { (a, rows, columns) };
    let mut total = 0.0;
    for (j, column) in a.col_iter().enumerate() {
        let outer = columns.map_or(1.0, |columns| columns.get(j).copied().unwrap_or(0.0));
        let sum = match (column.try_as_col_major(), rows) {
            (Some(column), None) => line_norm_squared(column.as_slice()),
            (Some(column), Some(rows)) => line_weighted_norm_squared(column.as_slice(), rows),
            (None, None) => column.iter().map(|&x| x.to_f64() * x.to_f64()).sum(),
            (None, Some(rows)) => {
                column.iter().zip(rows).map(|(&x, weight)| weight * x.to_f64() * x.to_f64()).sum()
            }
        };
        total += outer * sum;
    }
    total
}

/// Σᵢ weightᵢ·xᵢ², in f64.
fn line_weighted_norm_squared<T: Scalar>(line: &[T], weights: &[f64]) -> f64 {
    const LANES: usize = 8;
    let mut lanes = [0.0f64; LANES];
    let (chunks, weight_chunks) = (line.chunks_exact(LANES), weights.chunks_exact(LANES));
    let tail = chunks.remainder().iter().zip(weight_chunks.remainder());
    let tail: f64 = tail.map(|(&x, weight)| weight * x.to_f64() * x.to_f64()).sum();
    for (chunk, weights) in chunks.zip(weight_chunks) {
        for ((&value, weight), lane) in chunk.iter().zip(weights).zip(&mut lanes) {
            let value = value.to_f64();
            *lane += weight * value * value;
        }
    }
    lanes.into_iter().sum::<f64>() + tail
}

/// Copies the lower half of a square matrix to its upper half, tile by tile.
pub(crate) fn mirror_lower<T: Scalar>(a: &mut Mat<T>) {
    const TILE: usize = 16;
    let n = a.nrows().min(a.ncols());
    for first_column in (0..n).step_by(TILE) {
        for first_row in (first_column..n).step_by(TILE) {
            for j in first_column..n.min(first_column + TILE) {
                for i in first_row.max(j + 1)..n.min(first_row + TILE) {
                    a[(j, i)] = a[(i, j)];
                }
            }
        }
    }
}

/// out += alpha·XᵀX, the lower half only.
pub(crate) fn add_gram_lower<T: Scalar>(out: MatMut<'_, T>, x: MatRef<'_, T>, alpha: T) {
    triangular::matmul(
        out,
        BlockStructure::TriangularLower,
        Accum::Add,
        x.transpose(),
        BlockStructure::Rectangular,
        x,
        BlockStructure::Rectangular,
        alpha,
        Par::Seq,
    );
}

/// alpha·a·b with a square lower triangular b, whose upper half (and diagonal if `strict`) is not read.
pub(crate) fn product_lower<T: Scalar>(a: MatRef<'_, T>, b: MatRef<'_, T>, strict: bool, alpha: T) -> Mat<T> {
    let mut out = Mat::zeros(a.nrows(), b.ncols());
    let structure =
        if strict { BlockStructure::StrictTriangularLower } else { BlockStructure::TriangularLower };
    triangular::matmul(
        out.as_mut(),
        BlockStructure::Rectangular,
        Accum::Replace,
        a,
        BlockStructure::Rectangular,
        b,
        structure,
        alpha,
        Par::Seq,
    );
    out
}

/// 2ᵉ for |e| ≤ 1000, exactly.
pub(crate) fn power_of_two(exponent: i32) -> f64 {
    let biased = u64::from((exponent.clamp(-1000, 1000) + 1023).unsigned_abs());
    f64::from_bits(biased << 52)
}

/// Exponent `e` by which a matrix of this largest modulus should be scaled (`a·2⁻ᵉ`) before it is
/// decomposed; 0 when it is well inside the range of its type.
pub(crate) fn scale_exponent<T: Scalar>(largest: f64) -> i32 {
    if largest == 0.0 {
        return 0;
    }
    let (_, exponent) = libm::frexp(largest);
    if exponent.abs() <= T::SAFE_EXPONENT { 0 } else { exponent.clamp(-1000, 1000) }
}

/// A view that gemm reads fast: `a` itself when one of its strides is 1 and nothing needs scaling, else a
/// column-major copy of `a·2⁻ᵉ` kept in `storage`.
pub(crate) fn prepared<'a, T: Scalar>(
    a: MatRef<'a, T>,
    exponent: i32,
    storage: &'a mut Option<Mat<T>>,
) -> MatRef<'a, T> {
    let unit = a.row_stride() == 1 || a.col_stride() == 1;
    if unit && exponent == 0 {
        return a;
    }
    storage.insert(convert(a, power_of_two(-exponent))).as_ref()
}

/// A matrix whose columns are contiguous: `a` itself where it is so and nothing needs scaling, else a copy of `a·2⁻ᵉ`.
pub(crate) enum Columns<'a> {
    /// As given.
    Borrowed(MatRef<'a, f64>),
    /// A copy.
    Owned(Mat<f64>),
}

impl<'a> Columns<'a> {
    pub(crate) fn new(a: MatRef<'a, f64>, exponent: i32) -> Self {
        if a.row_stride() == 1 && exponent == 0 {
            Self::Borrowed(a)
        } else {
            Self::Owned(convert(a, power_of_two(-exponent)))
        }
    }

    pub(crate) fn view(&self) -> MatRef<'_, f64> {
        match self {
            Self::Borrowed(a) => *a,
            Self::Owned(a) => a.as_ref(),
        }
    }
}
