//! Gradients, block by block, from the output and the log-sum-exp alone.
//!
//! ```text
//! P = exp(S - lse)   dV = PᵀdO   D_i = Σ dO·O   dS = P∘(dO·Vᵀ - D)   dQ = τ·dS·K   dK = τ·dSᵀ·Q
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

/// Gradients by queries, keys, values and the extra keys and values, given the gradient by the output.
///
/// One task is one key head with all its query heads: its sums have one order.
pub(crate) fn backward<T: Element, const W: usize>(
    problem: &Problem<'_, T>,
    pattern: &impl Pattern<T>,
    result: &Attention<T>,
    upstream: View<'_, T>,
) -> Result<(Gradients<T>, Option<ExtraGradients<T>>), Error> {
    let [batch, heads, tokens, dim] = problem.query.shape();
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
    result.output.view().check_finite("output")?;
    upstream.check_finite("output gradient")?;
    let kernels = Kernels::current();
    let mut gradients = Gradients {
        query: Tensor::zeros(problem.query.shape())?,
        key: Tensor::zeros(problem.key.shape())?,
        value: Tensor::zeros(problem.value.shape())?,
    };
    let mut extra = match &problem.extra {
        Some((key, value)) => {
            Some(ExtraGradients { key: Tensor::zeros(key.shape())?, value: Tensor::zeros(value.shape())? })
        }
        None => None,
    };
    let task = |index: usize| {
        run::<T, W>(kernels, problem, pattern, result, upstream, (index / kv_heads, index % kv_heads))
    };
    let group = problem.group();
    parallel::waves(batch * kv_heads, task, |index, (query, sums): (Vec<T>, Sums<T, W>)| {
        let (b, head) = (index / kv_heads, index % kv_heads);
        for (i, line) in query.chunks_exact(dim).enumerate() {
            let (member, token) = (i / tokens, i % tokens);
            gradients.query.line_mut(b, head * group + member, token).copy_from_slice(line);
        }
        for key in 0..sums.keys {
            let (to_key, to_value) = match &mut extra {
                Some(extra) if key >= keys => {
                    (extra.key.line_mut(b, head, key - keys), extra.value.line_mut(b, head, key - keys))
                }
                _ => (gradients.key.line_mut(b, head, key), gradients.value.line_mut(b, head, key)),
            };
            for (i, to) in to_key.iter_mut().enumerate() {
                *to = sums.key[i / W * sums.keys + key][i % W] * problem.scale;
            }
            for (i, to) in to_value.iter_mut().enumerate() {
                *to = sums.value[i / W * sums.keys + key][i % W];
            }
        }
    });
    Ok((gradients, extra))
}

/// All query heads of one key head.
fn run<T: Element, const W: usize>(
    kernels: Kernels,
    problem: &Problem<'_, T>,
    pattern: &impl Pattern<T>,
    result: &Attention<T>,
    upstream: View<'_, T>,
    (batch, kv_head): (usize, usize),
) -> (Vec<T>, Sums<T, W>) {
    let zero = T::from_f64(0.0);
    let ([_, _, tokens, dim], value_dim) = (problem.query.shape(), problem.value.shape()[3]);
    let keys = problem.key.shape()[2] + problem.extra.map_or(0, |(key, _)| key.shape()[2]);
    let (groups, value_groups) = (dim.div_ceil(W), value_dim.div_ceil(W));
    let group = problem.group();
    let mut gradient = vec![zero; group * tokens * dim];
    let mut sums =
        Sums { key: vec![[zero; W]; groups * keys], value: vec![[zero; W]; value_groups * keys], keys };
    let (mut key, mut value) = (vec![zero; CHUNK * dim], vec![zero; CHUNK * value_dim]);
    let (mut scores, mut slopes) = (vec![[zero; W]; CHUNK], vec![[zero; W]; CHUNK]);
    let (mut to_key, mut to_value) = (vec![[zero; W]; groups * CHUNK], vec![[zero; W]; value_groups * CHUNK]);
    let mut bits = [0_u32; CHUNK];
    let mut block = Block::default();
    for member in 0..group {
        let at = (batch, kv_head * group + member);
        for index in 0..pattern.blocks() {
            block.refill(pattern, index);
            let mut tiles: Vec<Tile<T, W>> =
                block.queries.chunks(W).map(|queries| tile(problem, result, upstream, at, queries)).collect();
            for (number, chunk) in block.keys.chunks(CHUNK).enumerate() {
                let len = chunk.len();
                let (bits, scores, slopes) = (&mut bits[..len], &mut scores[..len], &mut slopes[..len]);
                problem.gather(false, batch, kv_head, chunk, &mut key);
                problem.gather(true, batch, kv_head, chunk, &mut value);
                to_key.fill([zero; W]);
                to_value.fill([zero; W]);
                for (tile, queries) in tiles.iter_mut().zip(block.queries.chunks(W)) {
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
                for (sums, of_chunk) in [(&mut sums.key, &to_key), (&mut sums.value, &to_value)] {
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
                for (lane, &token) in queries.iter().enumerate() {
                    let from = (member * tokens + token) * dim;
                    for (to, row) in gradient[from..from + dim].iter_mut().zip(&tile.gradient) {
                        *to = row[lane] * problem.scale;
                    }
                }
            }
        }
    }
    (gradient, sums)
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
