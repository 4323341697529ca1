//! Softmax attention over any pattern of visible pairs, in tiles: what exact and neighborhood attention share.
//!
//! A [`Pattern`] cuts the queries into blocks, names the keys that each block reads, and says which pairs see each other.
//! Forward and gradient walk the blocks; memory is that of one block's tiles.

mod backward;
mod forward;

use alloc::vec::Vec;

pub(crate) use backward::{Found, backward};
pub(crate) use forward::forward;

use crate::{Element, Error, Tensor, View};

/// Keys that are read at once: their K and V stay in the first-level cache while the block's tiles pass over them.
pub(crate) const CHUNK: usize = 112;

/// Queries that share their keys, and those keys.
#[derive(Default)]
pub(crate) struct Block {
    /// Tokens of the queries; W of them at a time make a tile.
    pub(crate) queries: Vec<usize>,
    /// Tokens of the keys; from the number of keys on, the extra keys.
    pub(crate) keys: Vec<usize>,
    /// A word for each key whose bits are the queries that see it, when the block is one tile; else empty, and
    /// [`Pattern::visible`] is asked.
    pub(crate) bits: Vec<u32>,
}

impl Block {
    /// Block `index` of `pattern`, in place of what was here.
    fn refill<T>(&mut self, pattern: &impl Pattern<T>, index: usize) {
        self.queries.clear();
        self.keys.clear();
        self.bits.clear();
        pattern.fill(index, self);
    }

    /// What a tile's queries see of `keys`, which begin at `first` of the block's.
    fn visible<T>(
        &self,
        pattern: &impl Pattern<T>,
        at: (usize, usize),
        queries: &[usize],
        (first, keys): (usize, &[usize]),
        bits: &mut [u32],
    ) -> Visible {
        let Some(own) = self.bits.get(first..first + keys.len()).filter(|_| !self.bits.is_empty()) else {
            return pattern.visible(at, queries, keys, bits);
        };
        bits.copy_from_slice(own);
        let all = (1_u64 << queries.len()) - 1;
        match bits.iter().all(|&bits| u64::from(bits) & all == all) {
            true => Visible::All,
            false => Visible::Bits,
        }
    }
}

/// What a tile of queries sees of a chunk of keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Visible {
    /// All of it.
    All,
    /// Nothing.
    Nothing,
    /// What the bits say: a word for each key, a bit for each query.
    Bits,
}

/// Which queries see which keys.
pub(crate) trait Pattern<T>: Sync {
    /// Blocks of one head.
    fn blocks(&self) -> usize;
    /// Blocks that one task walks through.
    fn blocks_of_task(&self) -> usize;
    /// The queries and keys of a block; every query lies in exactly one block.
    fn fill(&self, index: usize, block: &mut Block);
    /// Which of `queries` (at most 32) see which of `keys`, for blocks without bits; `bits` is as long as `keys`.
    fn visible(&self, at: (usize, usize), queries: &[usize], keys: &[usize], bits: &mut [u32]) -> Visible {
        let _ = (at, queries, keys, bits);
        Visible::All
    }
    /// What is added to the score of a pair, or `None` when the pattern has no such bias.
    fn bias(&self) -> Option<View<'_, T>>;
}

/// The operands of softmax attention, checked.
pub(crate) struct Problem<'a, T> {
    pub(crate) query: View<'a, T>,
    pub(crate) key: View<'a, T>,
    pub(crate) value: View<'a, T>,
    /// Keys and values that follow those of the tokens.
    pub(crate) extra: Option<(View<'a, T>, View<'a, T>)>,
    /// τ.
    pub(crate) scale: T,
}

/// Result of softmax attention.
#[derive(Clone, Debug, PartialEq)]
pub struct Attention<T> {
    /// `[batch, heads, tokens, value_dim]`: the weighted means of the values; zeros where a query sees no key.
    pub output: Tensor<T>,
    /// `[batch, heads, tokens, 1]`: the natural logarithm of the sum of exponentials; -∞ where a query sees no key.
    pub lse: Tensor<T>,
}

/// Gradients of a scalar function of the output.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients<T> {
    /// By the queries, in their shape.
    pub query: Tensor<T>,
    /// By the keys, in their shape.
    pub key: Tensor<T>,
    /// By the values, in their shape.
    pub value: Tensor<T>,
}

/// Gradients by the extra keys and values of [`neighborhood`](crate::neighborhood()).
#[derive(Clone, Debug, PartialEq)]
pub struct ExtraGradients<T> {
    /// By the extra keys, in their shape.
    pub key: Tensor<T>,
    /// By the extra values, in their shape.
    pub value: Tensor<T>,
}

impl<'a, T: Element> Problem<'a, T> {
    /// Checks shapes, finiteness and the scale.
    pub(crate) fn new(
        query: View<'a, T>,
        key: View<'a, T>,
        value: View<'a, T>,
        extra: Option<(View<'a, T>, View<'a, T>)>,
        scale: Option<f64>,
    ) -> Result<Self, Error> {
        let ([batch, heads, _, dim], [_, kv_heads, keys, _]) = (query.shape(), key.shape());
        if dim == 0 {
            return Err(Error::InvalidOption { what: "head_dim", requirement: "at least 1", found: 0.0 });
        }
        let shape = |what, expected, found| match expected == found {
            true => Ok(()),
            false => Err(Error::ShapeMismatch { what, expected, found }),
        };
        shape("key", [batch, kv_heads, keys, dim], key.shape())?;
        let value_dim = value.shape()[3];
        shape("value", [batch, kv_heads, keys, value_dim], value.shape())?;
        if let Some((key, value)) = &extra {
            let tokens = key.shape()[2];
            shape("extra key", [batch, kv_heads, tokens, dim], key.shape())?;
            shape("extra value", [batch, kv_heads, tokens, value_dim], value.shape())?;
            key.check_finite("extra key")?;
            value.check_finite("extra value")?;
        }
        if heads > 0 && (kv_heads == 0 || !heads.is_multiple_of(kv_heads)) {
            let requirement = "a positive divisor of the number of query heads";
            return Err(Error::InvalidOption { what: "key heads", requirement, found: kv_heads as f64 });
        }
        query.check_finite("query")?;
        key.check_finite("key")?;
        value.check_finite("value")?;
        let scale = scale.unwrap_or(1.0 / num_traits::Float::sqrt(dim as f64));
        if !(scale.is_finite() && num_traits::Float::is_finite(T::from_f64(scale))) {
            return Err(Error::InvalidOption { what: "scale", requirement: "finite", found: scale });
        }
        Ok(Self { query, key, value, extra, scale: T::from_f64(scale) })
    }

    /// Query heads of a key head; 1 when there are none.
    fn group(&self) -> usize {
        self.query.shape()[1].checked_div(self.key.shape()[1]).unwrap_or(1).max(1)
    }

    /// The keys' and the values' data and where in them the rows of `tokens` begin, when they can be read where they lie.
    fn in_place<'b>(
        &self,
        batch: usize,
        head: usize,
        tokens: &[usize],
        [keys, values]: [&'b mut [usize]; 2],
    ) -> Option<[(&'a [T], &'b [usize]); 2]> {
        let data = (self.key.lines()?, self.value.lines()?);
        let count = self.key.shape()[2];
        if tokens.last().is_none_or(|&last| last >= count) || self.value.shape()[3] == 0 {
            return None;
        }
        for (i, &token) in tokens.iter().enumerate() {
            keys[i] = self.key.offset([batch, head, token, 0]);
            values[i] = self.value.offset([batch, head, token, 0]);
        }
        Some([(data.0, &keys[..tokens.len()]), (data.1, &values[..tokens.len()])])
    }

    /// Copies the keys' or the values' rows of `tokens` one after another into `rows`.
    fn gather(&self, values: bool, batch: usize, head: usize, tokens: &[usize], rows: &mut [T]) {
        let of = |pair: (View<'a, T>, View<'a, T>)| if values { pair.1 } else { pair.0 };
        let own = of((self.key, self.value));
        let [_, _, count, dim] = own.shape();
        if dim == 0 {
            return;
        }
        for (&token, row) in tokens.iter().zip(rows.chunks_exact_mut(dim)) {
            match self.extra {
                Some(extra) if token >= count => of(extra).copy_line(batch, head, token - count, row),
                _ => own.copy_line(batch, head, token, row),
            }
        }
    }
}

/// Writes rows `[batch, head, queries[lane], ..]` times `factor` into the lanes of `tile`; lanes beyond are zero.
fn transpose_in<T: Element, const W: usize>(
    view: View<'_, T>,
    at: (usize, usize),
    queries: &[usize],
    factor: T,
    line: &mut [T],
    tile: &mut [[T; W]],
) {
    for lane in 0..W {
        match queries.get(lane) {
            Some(&token) => view.copy_line(at.0, at.1, token, line),
            None => line.fill(T::from_f64(0.0)),
        }
        for (row, &x) in tile.iter_mut().zip(&*line) {
            row[lane] = x * factor;
        }
    }
}

/// Adds the bias (natural units) to scores in base 2.
fn add_bias<T: Element, const W: usize>(
    bias: View<'_, T>,
    at: (usize, usize),
    queries: &[usize],
    keys: &[usize],
    scores: &mut [[T; W]],
) {
    let factor = T::from_f64(core::f64::consts::LOG2_E);
    let count = bias.shape()[3];
    for (row, &key) in scores.iter_mut().zip(keys).filter(|(_, key)| **key < count) {
        for (score, &query) in row.iter_mut().zip(queries) {
            *score += factor * bias.at([at.0, at.1, query, key]);
        }
    }
}
