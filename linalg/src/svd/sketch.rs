//! Random matrices that a matrix is multiplied by to find its range.

use alloc::vec;
use alloc::vec::Vec;

use faer::reborrow::ReborrowMut;
use faer::{Mat, MatMut, MatRef};

use crate::{Hadamard, Scalar, Stream, dense};

/// The random matrix Ω (n×l) of a sketch `Y = A·Ω`.
///
/// | sketch | Ω | cost of A·Ω |
/// |---|---|---|
/// | `Gaussian` | independent standard normal entries | 2·m·n·l flops |
/// | `SparseSign` | 8 entries ±1/√8 in each row (l if fewer) | 16·m·n flops |
/// | `Hadamard` | √(n/l)·T·S: a rotation with random signs, then l of its columns | about m·n·log₂ n flops |
///
/// Sources: Halko, Martinsson, Tropp, arXiv:0909.4061 (sections 4.2, 4.6); Martinsson, Tropp, *Randomized numerical
/// linear algebra*, arXiv:2002.01387 (sections 8.3 and 9.2, sparse signs).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sketch {
    /// The one the error bounds are stated for.
    #[default]
    Gaussian,
    /// Sparse signs.
    SparseSign,
    /// The subsampled randomized Hadamard transform.
    Hadamard,
}

/// Non-zeros of each row of a sparse sign matrix.
const SIGNS: usize = 8;

/// Rows handled together.
const PANEL: usize = 256;

impl Sketch {
    /// `A·Ω`, m×`width`, from the stream of `seed`; the entries of A must be finite.
    pub(crate) fn apply<T: Scalar>(self, a: MatRef<'_, T>, width: usize, seed: u64) -> Mat<T> {
        let mut stream = Stream::new(seed, "svd.randomized");
        match self {
            Self::Gaussian => dense::product(a, gaussian(a.ncols(), width, &mut stream).as_ref()),
            // As wide as the matrix, such an Ω might yet be singular; the identity spans everything.
            Self::SparseSign | Self::Hadamard if width == a.ncols() => dense::convert(a, 1.0),
            Self::SparseSign => sparse_sign(a, width, &mut stream),
            Self::Hadamard => hadamard(a, width, &mut stream),
        }
    }
}

/// Independent standard normal entries, filled column by column.
pub(crate) fn gaussian<T: Scalar>(rows: usize, columns: usize, stream: &mut Stream) -> Mat<T> {
    let mut column = vec![T::default(); rows];
    let mut out = Mat::zeros(rows, columns);
    for target in out.col_iter_mut() {
        stream.fill_normal(&mut column);
        for (to, from) in target.iter_mut().zip(&column) {
            *to = *from;
        }
    }
    out
}

fn sparse_sign<T: Scalar>(a: MatRef<'_, T>, width: usize, stream: &mut Stream) -> Mat<T> {
    let signs = SIGNS.min(width);
    let scale = 1.0 / libm::sqrt(signs.max(1) as f64);
    let mut targets = Vec::with_capacity(a.ncols() * signs);
    for _ in 0..a.ncols() {
        targets.extend(distinct(signs, width, stream).into_iter().map(|column| {
            let positive = stream.next_below(2) == 0;
            (column, T::from_f64(if positive { scale } else { -scale }))
        }));
    }
    panels(a, width, |mut out, panel| {
        for (j, targets) in targets.chunks_exact(signs.max(1)).enumerate() {
            let source = panel.col_as_slice(j);
            for &(column, sign) in targets {
                if let Some(target) = out.rb_mut().col_mut(column).try_as_col_major_mut() {
                    for (to, &from) in target.as_slice_mut().iter_mut().zip(source) {
                        *to += sign * from;
                    }
                }
            }
        }
    })
}

fn hadamard<T: Scalar>(a: MatRef<'_, T>, width: usize, stream: &mut Stream) -> Mat<T> {
    let n = a.ncols();
    let whole = Hadamard::new(n);
    let size = if whole.is_whole() { n } else { n.next_power_of_two() };
    let rotation = if size == n { whole } else { Hadamard::new(size) };
    let rotation = rotation.with_signs(rand_core::Rng::next_u64(stream));
    let chosen = distinct(width, size, stream);
    let scale = T::from_f64(libm::sqrt(size as f64 / width.max(1) as f64));
    let mut rows = vec![T::default(); PANEL * size];
    panels(a, width, |mut out, panel| {
        rows.fill(T::default());
        for (row, source) in rows.chunks_exact_mut(size.max(1)).zip(panel.row_iter()) {
            for (to, from) in row.iter_mut().zip(source.iter()) {
                *to = *from;
            }
        }
        let used = rows.get_mut(..panel.nrows() * size).unwrap_or_default();
        // The length is a multiple of the size.
        let rotated = rotation.forward_slice(used).is_ok();
        debug_assert!(rotated);
        for (i, row) in used.chunks_exact(size.max(1)).enumerate() {
            for (j, &at) in chosen.iter().enumerate() {
                out[(i, j)] = row.get(at).copied().unwrap_or_default() * scale;
            }
        }
    })
}

/// `out = f(panel)` over panels of rows of `a`, each copied column-major.
fn panels<T: Scalar>(a: MatRef<'_, T>, width: usize, mut each: impl FnMut(MatMut<'_, T>, &Mat<T>)) -> Mat<T> {
    let mut out = Mat::<T>::zeros(a.nrows(), width);
    for first in (0..a.nrows()).step_by(PANEL) {
        let rows = PANEL.min(a.nrows() - first);
        let panel = dense::convert(a.subrows(first, rows), 1.0);
        each(out.as_mut().subrows_mut(first, rows), &panel);
    }
    out
}

/// `count ≤ bound` different numbers below `bound`: Floyd's algorithm.
fn distinct(count: usize, bound: usize, stream: &mut Stream) -> Vec<usize> {
    let mut chosen = Vec::with_capacity(count);
    for last in bound - count..bound {
        let drawn = usize::try_from(stream.next_below(last as u64 + 1)).unwrap_or(last);
        chosen.push(if chosen.contains(&drawn) { last } else { drawn });
    }
    chosen
}
