//! Gradients, block by block, from the output and the log-sum-exp alone.
//!
//! ```text
//! P = exp(S - lse)   dV = PᵀdO   D_i = Σ dO·O   dS = P∘(dO·Vᵀ - D)   dQ = τ·dS·K   dK = τ·dSᵀ·Q   dB = dS
//! ```

use alloc::{vec, vec::Vec};

use super::{
    Attention, Block, CHUNK, ExtraGradients, Gradients, Pattern, Problem, Visible, add_bias, transpose_in,
};
use crate::kernel::{self, Init, Kernels, Strided};
use crate::{Element, Error, Tensor, View, parallel};

/// One tile of queries: lanes are queries in `query`, `upstream` and `gradient`, and features in the `_rows`.
struct Tile<T, const W: usize> {
    query: Vec<[T; W]>,
    upstream: Vec<[T; W]>,
    gradient: Vec<[T; W]>,
    /// `[feature / W][query]`.
    query_rows: Vec<[T; W]>,
    upstream_rows: Vec<[T; W]>,
    lse: [T; W],
    delta: [T; W],
}

/// Sums of a key head: rows of W features, `[feature / W][key]`.
struct Sums<T, const W: usize> {
    key: Vec<[T; W]>,
    value: Vec<[T; W]>,
    keys: usize,
}

/// What a task hands back.
struct Part<T, const W: usize> {
    /// Query heads of the key head, and tokens, whose gradients follow one another in `query`.
    places: Vec<(usize, usize)>,
    query: Vec<T>,
    sums: Sums<T, W>,
    bias: Vec<T>,
}

/// Gradients by everything that may have one.
pub(crate) struct Found<T> {
    pub(crate) gradients: Gradients<T>,
    pub(crate) extra: Option<ExtraGradients<T>>,
    pub(crate) bias: Option<Tensor<T>>,
}

/// Parts that the blocks of all key heads together are cut into, at least.
const PARTS: usize = 16;

/// Gradients by queries, keys, values, the extra keys and values, and if `by_bias` the pattern's bias, given the gradient by
/// the output.
///
/// A task takes every so many blocks of the query heads of one key head, so that one head occupies many threads and causal
/// tasks are of a size; its sums by the keys are added up in the tasks' order.
pub(crate) fn backward<T: Element, const W: usize>(
    problem: &Problem<'_, T>,
    pattern: &impl Pattern<T>,
    result: &Attention<T>,
    upstream: View<'_, T>,
    by_bias: bool,
) -> Result<Found<T>, Error> {
    let [batch, heads, tokens, _] = problem.query.shape();
    let ([_, kv_heads, keys, _], value_dim) = (problem.key.shape(), problem.value.shape()[3]);
    let expected = [batch, heads, tokens, value_dim];
    for (what, found) in [("output", result.output.shape()), ("output gradient", upstream.shape())] {
        if found != expected {
            return Err(Error::ShapeMismatch { what, expected, found });
        }
    }
    if result.lse.shape() != [batch, heads, tokens, 1] {
        let expected = [batch, heads, tokens, 1];
        return Err(Error::ShapeMismatch { what: "lse", expected, found: result.lse.shape() });
    }
    let lse = |&at: &usize| result.lse.as_slice()[at];
    let bad = (0..result.lse.as_slice().len()).find(|at| lse(at).is_nan() || lse(at) == T::infinity());
    if let Some(at) = bad {
        let index = [at / tokens / heads, at / tokens % heads, at % tokens, 0];
        return Err(Error::NonFinite { what: "lse", index });
    }
    result.output.view().check_finite("output")?;
    upstream.check_finite("output gradient")?;
    let mut found = Found {
        gradients: Gradients {
            query: Tensor::zeros(problem.query.shape())?,
            key: Tensor::zeros(problem.key.shape())?,
            value: Tensor::zeros(problem.value.shape())?,
        },
        extra: match &problem.extra {
            Some((key, value)) => Some(ExtraGradients {
                key: Tensor::zeros(key.shape())?,
                value: Tensor::zeros(value.shape())?,
            }),
            None => None,
        },
        bias: match pattern.bias().filter(|_| by_bias) {
            Some(bias) => Some(Tensor::zeros(bias.distinct())?),
            None => None,
        },
    };
    let slopes = pattern.bias().filter(|_| by_bias).map(Slopes::of);
    let blocks = problem.group() * pattern.blocks();
    // Slopes of a block by a bias of its own for every pair are about as many as its sums by the keys.
    let parts = match slopes {
        Some(Slopes { by_query: true, by_key: true, .. }) => blocks,
        _ => PARTS.div_ceil((batch * kv_heads).max(1)).min(blocks),
    };
    let parts = parts.max(1);
    let run = Run { kernels: Kernels::current(), problem, pattern, result, upstream, slopes };
    let task = |index: usize| {
        let (head, part) = (index / parts, index % parts);
        run.part((head / kv_heads, head % kv_heads), (part..blocks).step_by(parts))
    };
    parallel::few(batch * kv_heads * parts, task, |index, part: Part<T, W>| {
        let (b, head) = (index / parts / kv_heads, index / parts % kv_heads);
        collect(problem, keys, (b, head), &part, &mut found);
        if let (Some(slopes), Some(bias)) = (slopes, &mut found.bias) {
            slopes.collect(bias, (b, head * problem.group()), &part);
        }
    });
    Ok(found)
}

/// Adds a task's gradients up.
fn collect<T: Element, const W: usize>(
    problem: &Problem<'_, T>,
    keys: usize,
    (b, head): (usize, usize),
    part: &Part<T, W>,
    Found { gradients, extra, .. }: &mut Found<T>,
) {
    let (dim, sums) = (problem.query.shape()[3], &part.sums);
    for (&(member, token), line) in part.places.iter().zip(part.query.chunks_exact(dim)) {
        gradients.query.line_mut(b, head * problem.group() + member, token).copy_from_slice(line);
    }
    for key in 0..sums.keys {
        let (to_key, to_value) = match extra {
            Some(extra) if key >= keys => {
                (extra.key.line_mut(b, head, key - keys), extra.value.line_mut(b, head, key - keys))
            }
            _ => (gradients.key.line_mut(b, head, key), gradients.value.line_mut(b, head, key)),
        };
        for (i, to) in to_key.iter_mut().enumerate() {
            *to += sums.key[i / W * sums.keys + key][i % W] * problem.scale;
        }
        for (i, to) in to_value.iter_mut().enumerate() {
            *to += sums.value[i / W * sums.keys + key][i % W];
        }
    }
}

/// The gradient by a bias: the scores', summed over what the bias repeats.
#[derive(Clone, Copy)]
struct Slopes {
    /// Whether heads, queries and keys have values of their own.
    by_head: bool,
    by_query: bool,
    by_key: bool,
    keys: usize,
}

impl Slopes {
    fn of<T: Copy>(bias: View<'_, T>) -> Self {
        let ([_, by_head, by_query, by_key], keys) =
            (bias.strides().map(|stride| stride > 0), bias.shape()[3]);
        Self { by_head, by_query, by_key, keys }
    }

    fn columns(&self) -> usize {
        if self.by_key { self.keys } else { 1 }
    }

    /// The row of a query head and of the `place`th query of a task.
    fn row(&self, member: usize, place: usize) -> usize {
        if self.by_query { place } else { member * usize::from(self.by_head) }
    }

    /// Adds those of a tile, whose queries begin at `place` in the task.
    fn add<T: Element, const W: usize>(
        &self,
        sums: &mut Vec<T>,
        (member, place): (usize, usize),
        lanes: usize,
        keys: &[usize],
        slopes: &[[T; W]],
    ) {
        let columns = self.columns();
        for lane in 0..lanes {
            let first = self.row(member, place + lane) * columns;
            if sums.len() < first + columns {
                sums.resize(first + columns, T::from_f64(0.0));
            }
            let line = &mut sums[first..first + columns];
            for (&key, slopes) in keys.iter().zip(slopes) {
                line[if self.by_key { key } else { 0 }] += slopes[lane];
            }
        }
    }

    /// Adds a task's rows to those of its batch entry and its first query head.
    fn collect<T: Element, const W: usize>(
        &self,
        to: &mut Tensor<T>,
        (batch, first): (usize, usize),
        part: &Part<T, W>,
    ) {
        let [batches, heads, queries, _] = to.shape();
        for (row, line) in part.bias.chunks_exact(self.columns().max(1)).enumerate() {
            let (member, token) = if self.by_query { part.places[row] } else { (row, 0) };
            let at = [(batch, batches), (first + member, heads), (token, queries)];
            let [b, h, q] = at.map(|(i, size)| if size > 1 { i } else { 0 });
            to.line_mut(b, h, q).iter_mut().zip(line).for_each(|(to, &x)| *to += x);
        }
    }
}

/// What all tasks read.
struct Run<'a, 'p, T, P> {
    kernels: Kernels,
    problem: &'a Problem<'p, T>,
    pattern: &'a P,
    result: &'a Attention<T>,
    upstream: View<'a, T>,
    slopes: Option<Slopes>,
}

impl<T: Element, P: Pattern<T>> Run<'_, '_, T, P> {
    /// Some blocks of all query heads of one key head, counted head by head.
    fn part<const W: usize>(
        &self,
        (batch, kv_head): (usize, usize),
        blocks: impl Iterator<Item = usize>,
    ) -> Part<T, W> {
        let &Self { kernels, problem, pattern, result, upstream, slopes: by_bias } = self;
        let zero = T::from_f64(0.0);
        let (dim, value_dim) = (problem.query.shape()[3], problem.value.shape()[3]);
        let keys = problem.key.shape()[2] + problem.extra.map_or(0, |(key, _)| key.shape()[2]);
        let (groups, value_groups) = (dim.div_ceil(W), value_dim.div_ceil(W));
        let sums =
            Sums { key: vec![[zero; W]; groups * keys], value: vec![[zero; W]; value_groups * keys], keys };
        let mut part = Part { places: vec![], query: vec![], sums, bias: vec![] };
        let (mut key, mut value) = (vec![zero; CHUNK * dim], vec![zero; CHUNK * value_dim]);
        let (mut scores, mut slopes) = (vec![[zero; W]; CHUNK], vec![[zero; W]; CHUNK]);
        let (mut to_key, mut to_value) =
            (vec![[zero; W]; groups * CHUNK], vec![[zero; W]; value_groups * CHUNK]);
        let mut bits = [0_u32; CHUNK];
        let mut block = Block::default();
        for number in blocks {
            let (member, index) = (number / pattern.blocks(), number % pattern.blocks());
            let at = (batch, kv_head * problem.group() + member);
            block.refill(pattern, index);
            let first = part.places.len();
            part.places.extend(block.queries.iter().map(|&token| (member, token)));
            let mut tiles: Vec<Tile<T, W>> =
                block.queries.chunks(W).map(|queries| tile(problem, result, upstream, at, queries)).collect();
            for (number, chunk) in block.keys.chunks(CHUNK).enumerate() {
                let len = chunk.len();
                let (bits, scores, slopes) = (&mut bits[..len], &mut scores[..len], &mut slopes[..len]);
                problem.gather(false, batch, kv_head, chunk, &mut key);
                problem.gather(true, batch, kv_head, chunk, &mut value);
                to_key.fill([zero; W]);
                to_value.fill([zero; W]);
                for (t, (tile, queries)) in tiles.iter_mut().zip(block.queries.chunks(W)).enumerate() {
                    let visible = block.visible(pattern, at, queries, (number * CHUNK, chunk), bits);
                    if visible == Visible::Nothing {
                        continue;
                    }
                    let by_key = Strided { data: &key, row: dim, column: 1 };
                    kernel::product(kernels, by_key, &tile.query, scores, Init::Zero);
                    if let Some(bias) = pattern.bias() {
                        add_bias(bias, at, queries, chunk, scores);
                    }
                    if visible == Visible::Bits {
                        kernel::keep(kernels, scores, bits);
                    }
                    let by_key = Strided { data: &value, row: value_dim, column: 1 };
                    kernel::product(kernels, by_key, &tile.upstream, slopes, Init::Zero);
                    kernel::softmax_gradient(kernels, scores, slopes, &tile.lse, &tile.delta);
                    if let Some(by_bias) = by_bias {
                        by_bias.add(&mut part.bias, (member, first + t * W), queries.len(), chunk, slopes);
                    }
                    let by_feature = Strided { data: &key, row: 1, column: dim };
                    kernel::product(kernels, by_feature, slopes, &mut tile.gradient, Init::Add);
                    let pairs = [
                        (&*scores, &tile.upstream_rows, &mut to_value),
                        (&*slopes, &tile.query_rows, &mut to_key),
                    ];
                    for (weights, rows, to) in pairs {
                        let by_query = Strided { data: weights.as_flattened(), row: W, column: 1 };
                        for (rows, to) in rows.chunks_exact(W).zip(to.chunks_exact_mut(CHUNK)) {
                            kernel::product(kernels, by_query, rows, &mut to[..len], Init::Add);
                        }
                    }
                }
                for (sums, of_chunk) in [(&mut part.sums.key, &to_key), (&mut part.sums.value, &to_value)] {
                    for (sums, rows) in sums.chunks_exact_mut(keys).zip(of_chunk.chunks_exact(CHUNK)) {
                        for (&token, row) in chunk.iter().zip(rows) {
                            for (sum, &x) in sums[token].iter_mut().zip(row) {
                                *sum += x;
                            }
                        }
                    }
                }
            }
            for (tile, queries) in tiles.iter().zip(block.queries.chunks(W)) {
                for lane in 0..queries.len() {
                    part.query.extend(tile.gradient.iter().map(|row| row[lane] * problem.scale));
                }
            }
        }
        part
    }
}

/// What a tile reads of the queries, the output and its gradient.
fn tile<T: Element, const W: usize>(
    problem: &Problem<'_, T>,
    result: &Attention<T>,
    upstream: View<'_, T>,
    at: (usize, usize),
    queries: &[usize],
) -> Tile<T, W> {
    let (zero, one) = (T::from_f64(0.0), T::from_f64(1.0));
    let (dim, value_dim) = (problem.query.shape()[3], problem.value.shape()[3]);
    let log2_e = T::from_f64(core::f64::consts::LOG2_E);
    let mut tile = Tile {
        query: vec![[zero; W]; dim],
        upstream: vec![[zero; W]; value_dim],
        gradient: vec![[zero; W]; dim],
        query_rows: vec![[zero; W]; dim.div_ceil(W) * W],
        upstream_rows: vec![[zero; W]; value_dim.div_ceil(W) * W],
        // Lanes without a query, and queries without a key, weigh nothing: 2^(s - max) = 0.
        lse: [num_traits::Float::infinity(); W],
        delta: [zero; W],
    };
    let (mut line, mut other) = (vec![zero; dim.max(value_dim)], vec![zero; value_dim]);
    transpose_in(problem.query, at, queries, problem.scale * log2_e, &mut line[..dim], &mut tile.query);
    transpose_in(upstream, at, queries, one, &mut line[..value_dim], &mut tile.upstream);
    for (lane, &token) in queries.iter().enumerate() {
        problem.query.copy_line(at.0, at.1, token, &mut line[..dim]);
        for (i, &x) in line[..dim].iter().enumerate() {
            tile.query_rows[i / W * W + lane][i % W] = x;
        }
        upstream.copy_line(at.0, at.1, token, &mut line[..value_dim]);
        result.output.view().copy_line(at.0, at.1, token, &mut other);
        for (i, &x) in line[..value_dim].iter().enumerate() {
            tile.upstream_rows[i / W * W + lane][i % W] = x;
        }
        tile.delta[lane] = line.iter().zip(&other).fold(zero, |sum, (&a, &b)| sum + a * b);
        let lse = result.lse.view().at([at.0, at.1, token, 0]);
        if lse > num_traits::Float::neg_infinity() {
            tile.lse[lane] = lse * log2_e;
        }
    }
    tile
}
