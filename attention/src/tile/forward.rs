//! Outputs, block by block.

use alloc::{vec, vec::Vec};

use super::{Attention, Block, CHUNK, Pattern, Problem, Visible, add_bias, transpose_in};
use crate::kernel::{self, Columns, Init, Kernels, Rows, State, Strided};
use crate::{Element, Error, Tensor, parallel};

/// One tile of queries on its way.
struct Tile<T, const W: usize> {
    query: Vec<[T; W]>,
    output: Vec<[T; W]>,
    state: State<T, W>,
}

/// What a task hands back: for each query its token, and the output and lse in the same order; or the token whose scores
/// overflowed.
struct Part<T> {
    tokens: Vec<usize>,
    output: Vec<T>,
    lse: Vec<T>,
    overflow: Option<usize>,
}

/// Attention of every query over the keys that `pattern` shows it.
pub(crate) fn forward<T: Element, const W: usize>(
    problem: &Problem<'_, T>,
    pattern: &impl Pattern<T>,
) -> Result<Attention<T>, Error> {
    let kernels = Kernels::current();
    let [batch, heads, tokens, _] = problem.query.shape();
    let dim = problem.value.shape()[3];
    let mut output = Tensor::zeros([batch, heads, tokens, dim])?;
    let mut lse = Tensor::zeros([batch, heads, tokens, 1])?;
    let tasks = pattern.blocks().div_ceil(pattern.blocks_of_task());
    let mut failed = None;
    let task = |index: usize| {
        let (head, task) = (index / tasks, index % tasks);
        run::<T, W>(kernels, problem, pattern, (head / heads, head % heads), task)
    };
    parallel::waves(batch * heads * tasks, task, |index, part| {
        let (batch, head) = (index / tasks / heads, index / tasks % heads);
        for (i, &token) in part.tokens.iter().enumerate() {
            output.line_mut(batch, head, token).copy_from_slice(&part.output[i * dim..(i + 1) * dim]);
            lse.line_mut(batch, head, token)[0] = part.lse[i];
        }
        if let (None, Some(token)) = (&failed, part.overflow) {
            failed = Some(Error::Overflow { batch, head, token });
        }
    });
    failed.map_or(Ok(Attention { output, lse }), Err)
}

/// The blocks of one task.
fn run<T: Element, const W: usize>(
    kernels: Kernels,
    problem: &Problem<'_, T>,
    pattern: &impl Pattern<T>,
    at: (usize, usize),
    task: usize,
) -> Part<T> {
    let zero = T::from_f64(0.0);
    let (dim, value_dim) = (problem.query.shape()[3], problem.value.shape()[3]);
    let per_task = pattern.blocks_of_task();
    let kv_head = at.1 / problem.group();
    let factor = problem.scale * T::from_f64(core::f64::consts::LOG2_E);
    let (mut key, mut value) = (vec![zero; CHUNK * dim], vec![zero; CHUNK * value_dim]);
    let mut scores = [[zero; W]; CHUNK];
    let (mut line, mut bits, mut decay) = (vec![zero; dim], [0_u32; CHUNK], [zero; W]);
    let (mut key_offsets, mut value_offsets) = ([0; CHUNK], [0; CHUNK]);
    // One tile of each block at least, so that most of the results are never moved.
    let expected = per_task * W;
    let mut part = Part {
        tokens: Vec::with_capacity(expected),
        output: Vec::with_capacity(expected * value_dim),
        lse: Vec::with_capacity(expected),
        overflow: None,
    };
    let mut block = Block::default();
    let mut tiles: Vec<Tile<T, W>> = vec![];
    for index in (task * per_task..pattern.blocks()).take(per_task) {
        block.refill(pattern, index);
        let lanes = block.queries.chunks(W);
        tiles.resize_with(lanes.len(), || Tile {
            query: vec![[zero; W]; dim],
            output: vec![[zero; W]; value_dim],
            state: State::new(),
        });
        for (tile, queries) in tiles.iter_mut().zip(lanes.clone()) {
            transpose_in(problem.query, at, queries, factor, &mut line, &mut tile.query);
            tile.output.fill([zero; W]);
            tile.state = State::new();
        }
        for (number, keys) in block.keys.chunks(CHUNK).enumerate() {
            let (bits, scores) = (&mut bits[..keys.len()], &mut scores[..keys.len()]);
            // Keys that one tile reads are read where they lie; for several tiles they are brought together first.
            let offsets = [&mut key_offsets[..], &mut value_offsets[..]];
            let in_place =
                if tiles.len() == 1 { problem.in_place(at.0, kv_head, keys, offsets) } else { None };
            if in_place.is_none() {
                problem.gather(false, at.0, kv_head, keys, &mut key);
                problem.gather(true, at.0, kv_head, keys, &mut value);
            }
            for (tile, queries) in tiles.iter_mut().zip(lanes.clone()) {
                let visible = block.visible(pattern, at, queries, (number * CHUNK, keys), bits);
                if visible == Visible::Nothing {
                    continue;
                }
                if let Some([(data, offsets), _]) = in_place {
                    kernel::product(kernels, Rows { data, offsets }, &tile.query, scores, Init::Zero);
                } else {
                    let rows = Strided { data: &key, row: dim, column: 1 };
                    kernel::product(kernels, rows, &tile.query, scores, Init::Zero);
                }
                if let Some(bias) = pattern.bias() {
                    add_bias(bias, at, queries, keys, scores);
                }
                if visible == Visible::Bits {
                    kernel::keep(kernels, scores, bits);
                }
                kernel::softmax(kernels, scores, &mut tile.state, &mut decay);
                if let Some([_, (data, offsets)]) = in_place {
                    let columns = Columns { data, offsets };
                    kernel::product(kernels, columns, scores, &mut tile.output, Init::Scale(&decay));
                } else {
                    let columns = Strided { data: &value, row: 1, column: value_dim };
                    kernel::product(kernels, columns, scores, &mut tile.output, Init::Scale(&decay));
                }
            }
        }
        for (tile, queries) in tiles.iter().zip(lanes) {
            finish(tile, queries, &mut part);
        }
    }
    part
}

/// Divides by the sums and appends a tile's rows.
fn finish<T: Element, const W: usize>(tile: &Tile<T, W>, queries: &[usize], part: &mut Part<T>) {
    let zero = T::from_f64(0.0);
    for (lane, &token) in queries.iter().enumerate() {
        let (max, sum) = (tile.state.max[lane], tile.state.sum[lane]);
        let seen = sum > zero;
        let inverse = if seen { num_traits::Float::recip(sum) } else { zero };
        // Infinite scores make ∞ - ∞ in the sum.
        if num_traits::Float::is_nan(sum) {
            part.overflow = part.overflow.or(Some(token));
        }
        part.tokens.push(token);
        part.output.extend(tile.output.iter().map(|row| row[lane] * inverse));
        let log = (max + num_traits::Float::log2(sum)) * T::from_f64(core::f64::consts::LN_2);
        part.lse.push(if seen { log } else { num_traits::Float::neg_infinity() });
    }
}
