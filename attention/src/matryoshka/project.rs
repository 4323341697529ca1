//! Attention in the leading coordinates of nested bases, and its gradient.

use alloc::vec::Vec;

use rankbit_linalg::faer::Mat;

use super::{Bases, Ranks};
use crate::kernel::Kernels;
use crate::tile::Problem;
use crate::{Attention, Element, Error, ExactOptions, Tensor, View, dense, exact, exact_gradient};

/// Gradients by bases, in their shapes; columns beyond the rank are zeros.
#[derive(Clone, Debug, PartialEq)]
pub struct BasesGradient {
    /// By U_k of each head.
    pub key: Vec<Mat<f64>>,
    /// By U_v of each head.
    pub value: Vec<Mat<f64>>,
}

/// Gradients of a scalar function of the output of [`nested`].
#[derive(Clone, Debug, PartialEq)]
pub struct NestedGradients<T> {
    /// By the queries, in their shape.
    pub query: Tensor<T>,
    /// By the keys, in their shape.
    pub key: Tensor<T>,
    /// By the values, in their shape.
    pub value: Tensor<T>,
    /// By the bases, as if each of their entries could move alone.
    pub bases: BasesGradient,
}

/// Attention with keys and values in the leading coordinates of their bases: queries `[batch, heads, n, d]`, keys `[batch, kv_heads, s,
/// d]`, values `[batch, kv_heads, s, e]`, grouped heads as in [`exact`](crate::exact()); the formula is at the [module](super).
///
/// Cost: `2·n·s·(r + r')` flops and `2·(n + s)·(d·r + e·r')` for the projections, per head. Memory beside the results: the projected
/// operands of one key head.
///
/// # Errors
/// As [`exact`](crate::exact()); [`Error::ShapeMismatch`] and [`Error::InvalidOption`] for bases or ranks of other heads or sizes.
pub fn nested<T: Element>(
    query: View<'_, T>,
    key: View<'_, T>,
    value: View<'_, T>,
    bases: &Bases,
    ranks: &Ranks,
    options: &ExactOptions<'_, T>,
) -> Result<Attention<T>, Error> {
    Problem::new(query, key, value, None, options.scale)?;
    let layer = Layer::new(query.shape(), key.shape(), bases, ranks, options)?;
    layer.fits("value", value.shape(), layer.keys, bases.dims().1)?;
    layer.attention(query, |head| layer.keep(head, key, value))
}

/// Gradients of `Σ upstream·output` of [`nested`] by queries, keys, values and bases. Cost: that of [`nested`], of
/// [`exact_gradient`](crate::exact_gradient) at the ranks, and of the projections twice more.
///
/// # Errors
/// As [`nested`], and for an `upstream` of another shape.
pub fn nested_gradient<T: Element>(
    query: View<'_, T>,
    key: View<'_, T>,
    value: View<'_, T>,
    bases: &Bases,
    ranks: &Ranks,
    options: &ExactOptions<'_, T>,
    upstream: View<'_, T>,
) -> Result<NestedGradients<T>, Error> {
    Problem::new(query, key, value, None, options.scale)?;
    let layer = Layer::new(query.shape(), key.shape(), bases, ranks, options)?;
    layer.fits("value", value.shape(), layer.keys, bases.dims().1)?;
    let [batch, heads, tokens, dim] = query.shape();
    let value_dim = value.shape()[3];
    let expected = [batch, heads, tokens, value_dim];
    if upstream.shape() != expected {
        return Err(Error::ShapeMismatch { what: "output gradient", expected, found: upstream.shape() });
    }
    upstream.check_finite("output gradient")?;
    let mut found = NestedGradients {
        query: Tensor::zeros(query.shape())?,
        key: Tensor::zeros(key.shape())?,
        value: Tensor::zeros(value.shape())?,
        bases: BasesGradient { key: Vec::new(), value: Vec::new() },
    };
    let kernels = layer.kernels;
    for head in 0..key.shape()[1] {
        let (r, rv) = (ranks.key[head], ranks.value[head]);
        let (key_basis, value_basis) = (leading(&bases.key[head], r), leading(&bases.value[head], rv));
        let members = layer.members(head);
        let kept = layer.keep(head, key, value)?;
        let projected = layer.project(query.part(0..batch, members.clone()), &key_basis, r)?;
        let options = layer.part(head);
        let overflow = |error| overflow(error, members.start);
        let (q, k, v) = (projected.view(), kept.key.view(), kept.value.view());
        let attention = exact(q, k, v, &options).map_err(overflow)?;
        let up = upstream.part(0..batch, members.clone()).to_vec();
        let (lines, key_lines) = (batch * members.len() * tokens, batch * layer.keys);
        let narrow = dense::product(
            kernels,
            dense::rows(&up, value_dim),
            dense::rows(&value_basis, rv),
            [lines, value_dim, rv],
        );
        let narrow = Tensor::from_vec(narrow, attention.output.shape())?;
        let by = exact_gradient(q, k, v, &options, &attention, narrow.view()).map_err(overflow)?;
        // Back to the operands.
        let back = |by: &Tensor<T>, basis: &[T], sizes: [usize; 3]| {
            dense::product(
                kernels,
                dense::rows(by.as_slice(), sizes[1]),
                dense::transposed(basis, sizes[1]),
                sizes,
            )
        };
        scatter(&mut found.query, members.start, &back(&by.query, &key_basis, [lines, r, dim]))?;
        scatter(&mut found.key, head, &back(&by.key, &key_basis, [key_lines, r, dim]))?;
        scatter(&mut found.value, head, &back(&by.value, &value_basis, [key_lines, rv, value_dim]))?;
        // To the bases: each is used on two sides.
        let outer = |wide: &[T], narrow: &Tensor<T>, lines, [size, rank]: [usize; 2]| {
            dense::product(
                kernels,
                dense::transposed(wide, size),
                dense::rows(narrow.as_slice(), rank),
                [size, lines, rank],
            )
        };
        let query_lines = query.part(0..batch, members).to_vec();
        let [k_lines, v_lines] = [key, value].map(|view| view.part(0..batch, head..head + 1).to_vec());
        let by_key =
            [outer(&query_lines, &by.query, lines, [dim, r]), outer(&k_lines, &by.key, key_lines, [dim, r])];
        let by_value = [
            outer(&up, &attention.output, lines, [value_dim, rv]),
            outer(&v_lines, &by.value, key_lines, [value_dim, rv]),
        ];
        found.bases.key.push(sum(by_key, dim, r));
        found.bases.value.push(sum(by_value, value_dim, rv));
    }
    for (what, tensor) in [("query", &found.query), ("key", &found.key), ("value", &found.value)] {
        tensor.view().check_finite(what).map_err(|error| overflow(error, 0))?;
    }
    Ok(found)
}

/// Projected keys and values of one key head: `[batch, 1, s, r]` and `[batch, 1, s, r']`.
pub(super) struct Kept<T> {
    pub(super) key: Tensor<T>,
    pub(super) value: Tensor<T>,
}

/// What all heads share, checked.
pub(super) struct Layer<'a, T> {
    pub(super) kernels: Kernels,
    query: [usize; 4],
    keys: usize,
    bases: &'a Bases,
    ranks: &'a Ranks,
    options: ExactOptions<'a, T>,
    scale: f64,
}

impl<'a, T: Element> Layer<'a, T> {
    /// `key` is the shape of the keys before they are projected.
    pub(super) fn new(
        query: [usize; 4],
        key: [usize; 4],
        bases: &'a Bases,
        ranks: &'a Ranks,
        options: &ExactOptions<'a, T>,
    ) -> Result<Self, Error> {
        bases.check(ranks)?;
        let ([batch, heads, tokens, dim], kv_heads, keys) = (query, bases.key.len(), key[2]);
        let shapes = [
            ("key", Some(key), [batch, kv_heads, keys, dim]),
            ("mask", options.mask.map(|mask| mask.shape()), [batch, heads, tokens, keys]),
            ("bias", options.bias.map(|bias| bias.shape()), [batch, heads, tokens, keys]),
        ];
        for (what, found, expected) in shapes {
            if let Some(found) = found.filter(|&found| found != expected) {
                return Err(Error::ShapeMismatch { what, expected, found });
            }
        }
        let scale = options.scale.unwrap_or(1.0 / num_traits::Float::sqrt(dim as f64));
        let layer = Self { kernels: Kernels::current(), query, keys, bases, ranks, options: *options, scale };
        if kv_heads > 0 {
            layer.fits("query", query, tokens, bases.dims().0)?;
        }
        Ok(layer)
    }

    fn fits(&self, what: &'static str, found: [usize; 4], tokens: usize, dim: usize) -> Result<(), Error> {
        let expected = [found[0], found[1], tokens, dim];
        match found == expected || self.bases.key.is_empty() {
            true => Ok(()),
            false => Err(Error::ShapeMismatch { what, expected, found }),
        }
    }

    /// Query heads of a key head.
    fn members(&self, head: usize) -> core::ops::Range<usize> {
        let group = self.query[1].checked_div(self.bases.key.len()).unwrap_or(0);
        head * group..(head + 1) * group
    }

    /// Options of one key head.
    fn part(&self, head: usize) -> ExactOptions<'a, T> {
        let (batch, members) = (self.query[0], self.members(head));
        ExactOptions {
            scale: Some(self.scale),
            causal: self.options.causal,
            mask: self.options.mask.map(|mask| mask.part(0..batch, members.clone())),
            bias: self.options.bias.map(|bias| bias.part(0..batch, members.clone())),
        }
    }

    /// Coordinates of every line of `view` in the columns of a basis.
    pub(super) fn project(&self, view: View<'_, T>, basis: &[T], rank: usize) -> Result<Tensor<T>, Error> {
        let [batch, heads, tokens, dim] = view.shape();
        let lines = view.to_vec();
        let sizes = [batch * heads * tokens, dim, rank];
        let data = dense::product(self.kernels, dense::rows(&lines, dim), dense::rows(basis, rank), sizes);
        Tensor::from_vec(data, [batch, heads, tokens, rank])
    }

    /// Projects keys and values of one key head.
    fn keep(&self, head: usize, key: View<'_, T>, value: View<'_, T>) -> Result<Kept<T>, Error> {
        let one = |view: View<'_, T>, basis, rank| {
            self.project(view.part(0..view.shape()[0], head..head + 1), &leading(basis, rank), rank)
        };
        Ok(Kept {
            key: one(key, &self.bases.key[head], self.ranks.key[head])?,
            value: one(value, &self.bases.value[head], self.ranks.value[head])?,
        })
    }

    /// Attention of every head over what `keep` has of its keys and values.
    pub(super) fn attention(
        &self,
        query: View<'_, T>,
        keep: impl Fn(usize) -> Result<Kept<T>, Error>,
    ) -> Result<Attention<T>, Error> {
        let [batch, heads, tokens, _] = self.query;
        let value_dim = self.bases.dims().1;
        let mut output = Tensor::zeros([batch, heads, tokens, value_dim])?;
        let mut lse = Tensor::zeros([batch, heads, tokens, 1])?;
        for head in 0..self.bases.key.len() {
            let (members, kept) = (self.members(head), keep(head)?);
            let rank = self.ranks.key[head];
            let basis = leading(&self.bases.key[head], rank);
            let projected = self.project(query.part(0..batch, members.clone()), &basis, rank)?;
            let found = exact(projected.view(), kept.key.view(), kept.value.view(), &self.part(head))
                .map_err(|error| overflow(error, members.start))?;
            let rank = self.ranks.value[head];
            let basis: Vec<T> = leading(&self.bases.value[head], rank);
            let lines = dense::rows(found.output.as_slice(), rank);
            let sizes = [batch * members.len() * tokens, rank, value_dim];
            let wide = dense::product(self.kernels, lines, dense::transposed(&basis, rank), sizes);
            scatter(&mut output, members.start, &wide)?;
            scatter(&mut lse, members.start, found.lse.as_slice())?;
        }
        output.view().check_finite("output").map_err(|error| overflow(error, 0))?;
        Ok(Attention { output, lse })
    }
}

/// The first columns of a basis, in rows.
pub(super) fn leading<T: Element>(basis: &Mat<f64>, rank: usize) -> Vec<T> {
    (0..basis.nrows()).flat_map(|i| (0..rank).map(move |j| T::from_f64(basis[(i, j)]))).collect()
}

/// Writes heads from `first` on: `from` is `[batch, some heads, ..]` of the shape of `to`.
fn scatter<T: Element>(to: &mut Tensor<T>, first: usize, from: &[T]) -> Result<(), Error> {
    let [batch, heads, tokens, dim] = to.shape();
    let (plane, len) = (tokens * dim, from.len().checked_div(batch).unwrap_or(0));
    if len == 0 {
        return Ok(());
    }
    for (b, from) in from.chunks_exact(len).enumerate() {
        let at = (b * heads + first) * plane;
        to.as_mut_slice()[at..at + len].copy_from_slice(from);
    }
    Ok(())
}

/// The sum of both, `[size, rank]` in rows, as the leading columns of a square matrix.
fn sum<T: Element>([a, b]: [Vec<T>; 2], size: usize, rank: usize) -> Mat<f64> {
    let entry = |at: usize| a[at].to_f64() + b[at].to_f64();
    Mat::from_fn(size, size, |i, j| if j < rank { entry(i * rank + j) } else { 0.0 })
}

/// The caller's operands are finite, so what is not was made on the way.
fn overflow(error: Error, first: usize) -> Error {
    match error {
        Error::NonFinite { index: [batch, head, token, _], .. } => {
            Error::Overflow { batch, head: first + head, token }
        }
        Error::Overflow { batch, head, token } => Error::Overflow { batch, head: first + head, token },
        other => other,
    }
}
