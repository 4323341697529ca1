//! The cache: projected states of all tokens so far, as f32 or as a few bits.

use alloc::{vec, vec::Vec};

use rankbit_quant::{Quantized, Scheme, nearest, part_lengths};

use super::project::{Kept, Layer, leading};
use super::{Bases, Ranks};
use crate::tensor::len;
use crate::{Attention, Element, Error, ExactOptions, Tensor, View};

/// Tokens that are quantized together.
const BLOCK: usize = 64;

/// Keys and values of all tokens so far in the leading coordinates of their bases; see the [module](super).
///
/// With a [`Scheme`], every 64 tokens become one [`Quantized`] matrix of a row for each token (so scales are shared along the
/// coordinates of one token, in the scheme's groups); the last, fewer than 64, wait as f32. What is stored depends on the tokens
/// alone, and not on how many came at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct Cache {
    bases: Bases,
    ranks: Ranks,
    scheme: Option<Scheme>,
    batch: usize,
    tokens: usize,
    /// Of each batch entry and head.
    key: Vec<States>,
    value: Vec<States>,
}

/// The states of one batch entry and head.
#[derive(Clone, Debug, PartialEq, Default)]
struct States {
    /// 64 tokens each.
    blocks: Vec<Quantized>,
    /// All others.
    rest: Vec<f32>,
}

impl Cache {
    /// No tokens yet. `None` stores f32.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] and [`Error::InvalidOption`] for ranks that are not of these bases; [`Error::Quant`] for a scheme that
    /// does not work on rows of so many coordinates; [`Error::TooLarge`].
    pub fn new(bases: Bases, ranks: Ranks, batch: usize, scheme: Option<Scheme>) -> Result<Self, Error> {
        bases.check(&ranks)?;
        if let Some(scheme) = &scheme {
            for rank in ranks.iter() {
                part_lengths((BLOCK, rank), scheme)?;
                nearest::quantize_rows(&vec![0.0; BLOCK * rank], (BLOCK, rank), scheme)?;
            }
        }
        let count = len([batch, bases.key().len(), 1, size_of::<States>()])? / size_of::<States>();
        let states = || vec![States::default(); count];
        Ok(Self { key: states(), value: states(), bases, ranks, scheme, batch, tokens: 0 })
    }

    /// Tokens stored.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// The bases.
    pub fn bases(&self) -> &Bases {
        &self.bases
    }

    /// The ranks.
    pub fn ranks(&self) -> &Ranks {
        &self.ranks
    }

    /// Every stored bit of the states: codes, scales, zero points, and 32 for each f32.
    pub fn stored_bits(&self) -> u64 {
        let of = |states: &States| {
            states.blocks.iter().map(Quantized::stored_bits).sum::<u64>() + 32 * states.rest.len() as u64
        };
        self.key.iter().chain(&self.value).map(of).sum()
    }

    /// Adds the keys `[batch, kv_heads, tokens, d]` and values `[batch, kv_heads, tokens, e]` of new tokens. Nothing changes when an
    /// error is returned. Cost: `2·tokens·(d·r + e·r')` flops per head.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`]; [`Error::NonFinite`]; [`Error::Overflow`] for coordinates beyond f32; [`Error::Quant`] where a scheme
    /// cannot hold them; [`Error::TooLarge`].
    pub fn append<T: Element>(&mut self, key: View<'_, T>, value: View<'_, T>) -> Result<(), Error> {
        let (heads, added) = (self.bases.key().len(), key.shape()[2]);
        let (dim, value_dim) = self.bases.dims();
        let views = [("key", key, dim), ("value", value, value_dim)];
        for (what, view, dim) in views {
            let dim = if heads == 0 { view.shape()[3] } else { dim };
            let expected = [self.batch, heads, added, dim];
            if view.shape() != expected {
                return Err(Error::ShapeMismatch { what, expected, found: view.shape() });
            }
            view.check_finite(what)?;
        }
        let tokens = self.tokens.checked_add(added).ok_or(Error::TooLarge { what: "a cache" })?;
        let key = self.extended(key, &self.key, self.bases.key(), &self.ranks.key)?;
        let value = self.extended(value, &self.value, self.bases.value(), &self.ranks.value)?;
        for (states, more) in self.key.iter_mut().zip(key).chain(self.value.iter_mut().zip(value)) {
            states.blocks.extend(more.blocks);
            states.rest = more.rest;
        }
        self.tokens = tokens;
        Ok(())
    }

    /// For each batch entry and head, the new blocks and what is left over.
    fn extended<T: Element>(
        &self,
        view: View<'_, T>,
        states: &[States],
        bases: &[rankbit_linalg::faer::Mat<f64>],
        ranks: &[usize],
    ) -> Result<Vec<States>, Error> {
        let kernels = crate::kernel::Kernels::current();
        let narrow: Vec<Vec<T>> =
            bases.iter().zip(ranks).map(|(basis, &rank)| leading(basis, rank)).collect();
        let mut all = Vec::with_capacity(states.len());
        for (at, states) in states.iter().enumerate() {
            let (batch, head) = (at / bases.len().max(1), at % bases.len().max(1));
            let (Some(basis), Some(&rank)) = (narrow.get(head), ranks.get(head)) else { continue };
            let lines = view.part(batch..batch + 1, head..head + 1).to_vec();
            let [_, _, added, dim] = view.shape();
            let (lines, basis) = (crate::dense::rows(&lines, dim), crate::dense::rows(basis, rank));
            let new = crate::dense::product(kernels, lines, basis, [added, dim, rank]);
            let mut rest = states.rest.clone();
            rest.extend(new.iter().map(|&x| num_traits::cast(x).unwrap_or(f32::NAN)));
            if let Some(bad) = rest.iter().position(|x| !x.is_finite()) {
                let token = (bad - states.rest.len()) / rank.max(1);
                return Err(Error::Overflow { batch, head, token });
            }
            let mut blocks = Vec::new();
            if let Some(scheme) = &self.scheme {
                let whole = rest.len() / (BLOCK * rank.max(1)) * (BLOCK * rank);
                for block in rest[..whole].chunks_exact(BLOCK * rank.max(1)) {
                    blocks.push(nearest::quantize_rows(block, (BLOCK, rank), scheme)?.quantized);
                }
                rest.drain(..whole);
            }
            all.push(States { blocks, rest });
        }
        Ok(all)
    }

    /// Attention of queries `[batch, heads, n, d]` over all tokens stored; causal: the last query sees all of them. The states of one
    /// key head at a time are decoded, as T.
    ///
    /// # Errors
    /// As [`exact`](crate::exact()) with these queries and the keys that were stored.
    pub fn attend<T: Element>(
        &self,
        query: View<'_, T>,
        options: &ExactOptions<'_, T>,
    ) -> Result<Attention<T>, Error> {
        let (heads, (dim, _)) = (self.bases.key().len(), self.bases.dims());
        let shape = query.shape();
        let empty = heads == 0 && shape[1] == 0;
        if !empty && (heads == 0 || !shape[1].is_multiple_of(heads)) {
            let requirement = "a multiple of the number of key heads";
            return Err(Error::InvalidOption { what: "query heads", requirement, found: shape[1] as f64 });
        }
        let expected = [self.batch, shape[1], shape[2], if empty { shape[3] } else { dim }];
        if shape != expected {
            return Err(Error::ShapeMismatch { what: "query", expected, found: shape });
        }
        query.check_finite("query")?;
        let key = [self.batch, heads, self.tokens, dim];
        let layer = Layer::new(shape, key, &self.bases, &self.ranks, options)?;
        layer.attention(query, |head| {
            let (rank, value_rank) = (self.ranks.key[head], self.ranks.value[head]);
            Ok(Kept {
                key: self.decoded(&self.key, head, rank)?,
                value: self.decoded(&self.value, head, value_rank)?,
            })
        })
    }

    /// States of one head, `[batch, 1, tokens, rank]`.
    fn decoded<T: Element>(&self, states: &[States], head: usize, rank: usize) -> Result<Tensor<T>, Error> {
        let mut data = Vec::with_capacity(len([self.batch, 1, self.tokens, rank])?);
        let mut block = vec![0.0_f32; BLOCK * rank];
        let wide = |&x: &f32| T::from_f64(f64::from(x));
        for states in states.iter().skip(head).step_by(self.bases.key().len().max(1)) {
            for stored in &states.blocks {
                stored.dequantize_into(&mut block)?;
                data.extend(block.iter().map(wide));
            }
            data.extend(states.rest.iter().map(wide));
        }
        Tensor::from_vec(data, [self.batch, 1, self.tokens, rank])
    }
}
