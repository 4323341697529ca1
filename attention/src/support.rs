//! Which pairs of queries and keys are computed exactly: a sparse boolean matrix for each head.
//!
//! Equal clusters from locality-sensitive hashing: queries and keys are lifted so that the nearest key is the one of largest inner
//! product, hashed to a number along a random direction, sorted by it, and cut into as many blocks; block c of the queries sees
//! block c of the keys.
//!
//! ```text
//! M² = max|q|² + max|k|²      F(q) = [q, 0, √(M² - |q|²)]      G(k) = [k, √(M² - |k|²), 0]      |F - G|² = 2M² - 2·q·k
//! hash(x) = a·x, a normal
//! ```
//! Rounds are united; a pair that several of them find counts once. Cost: `rounds·(n + s)·(d + log n)` and the sorting of
//! `n·rounds·size` pairs; memory: 4 bytes a pair.
//!
//! [`Support::nearest`] instead searches a tree of the keys for each query's largest products.
//!
//! Source: Daras, Kitaev, Odena, Dimakis, *SMYRF*, NeurIPS 2020, arXiv 2010.05315, section 3 (with its balanced clusters); the
//! offset of its hash moves all values alike and is left out.

mod nearest;

pub use nearest::NearestOptions;

use alloc::{vec, vec::Vec};

use rankbit_linalg::Stream;

use crate::{Element, Error, View};

/// Pairs for each `[batch, head, query]`, keys ascending.
#[derive(Clone, Debug, PartialEq)]
pub struct Support {
    /// `[batch, heads, queries, keys]`.
    shape: [usize; 4],
    /// Where each row begins; one more than rows.
    offsets: Vec<usize>,
    keys: Vec<u32>,
}

/// Options of [`Support::clusters`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ClusterOptions {
    /// Keys of a cluster, at least 1: the number of clusters is ⌈s/size⌉.
    pub size: usize,
    /// Independent hashes, at least 1.
    pub rounds: usize,
    /// Of the random numbers; take another one than for the random features.
    pub seed: u64,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self { size: 32, rounds: 2, seed: 1 }
    }
}

impl Support {
    /// Rows from a function that appends the keys of `[batch, head, query]`, in any order.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for a key outside the shape; [`Error::TooLarge`] when keys do not fit 32 bits or the number of
    /// rows overflows.
    pub fn from_rows(
        shape: [usize; 4],
        mut row: impl FnMut([usize; 3], &mut Vec<u32>),
    ) -> Result<Self, Error> {
        let [batch, heads, queries, keys] = shape;
        let rows = crate::tensor::len([batch, heads, queries, 1])?;
        let last = u32::try_from(keys).map_err(|_| Error::TooLarge { what: "the number of keys" })?;
        let mut found = Self { shape, offsets: vec![0], keys: vec![] };
        found.offsets.reserve(rows);
        let mut line = vec![];
        for (b, h, i) in crate::tensor::each(batch, heads, queries) {
            line.clear();
            row([b, h, i], &mut line);
            line.sort_unstable();
            line.dedup();
            if let Some(&key) = line.last().filter(|&&key| key >= last) {
                let requirement = "below the number of keys";
                return Err(Error::InvalidOption { what: "support", requirement, found: f64::from(key) });
            }
            found.keys.extend_from_slice(&line);
            found.offsets.push(found.keys.len());
        }
        Ok(found)
    }

    /// Each query sees the keys up to `radius` before and after its own place (scaled where n ≠ s).
    ///
    /// # Errors
    /// As [`Support::from_rows`].
    pub fn window(shape: [usize; 4], radius: usize) -> Result<Self, Error> {
        let [_, _, queries, keys] = shape;
        u32::try_from(keys).map_err(|_| Error::TooLarge { what: "the number of keys" })?;
        Self::from_rows(shape, |[_, _, i], row| {
            let centre =
                if queries == keys { i } else { (i as u128 * keys as u128 / queries as u128) as usize };
            let (low, high) =
                (centre.saturating_sub(radius), centre.saturating_add(radius).saturating_add(1).min(keys));
            row.extend((low..high).filter_map(|key| u32::try_from(key).ok()));
        })
    }

    /// Equal clusters of queries and keys that lie near each other; see the [module](self).
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for keys of another batch or `head_dim`; [`Error::NonFinite`] for NaN and infinities in them;
    /// [`Error::InvalidOption`] for key heads that do not divide the query heads, or a `size` or `rounds` of 0;
    /// [`Error::TooLarge`] as in [`Support::from_rows`].
    pub fn clusters<T: Element>(
        query: View<'_, T>,
        key: View<'_, T>,
        options: &ClusterOptions,
    ) -> Result<Self, Error> {
        crate::tile::Problem::new(query, key, key, None, Some(1.0))?;
        for (what, size) in [("size", options.size), ("rounds", options.rounds)] {
            if size == 0 {
                return Err(Error::InvalidOption { what, requirement: "at least 1", found: 0.0 });
            }
        }
        let ([batch, heads, queries, dim], [_, kv_heads, keys, _]) = (query.shape(), key.shape());
        u32::try_from(keys).map_err(|_| Error::TooLarge { what: "the number of keys" })?;
        let clusters = keys.div_ceil(options.size).max(1);
        let shape = [batch, heads, queries, keys];
        crate::tensor::len([batch, heads, queries, 1])?;
        let mut stream = Stream::new(options.seed, "clusters");
        let mut direction = vec![0.0; dim + 2];
        // For the head at hand and each round: every query's cluster, and the keys in order of their hash.
        let mut rounds: Vec<(Vec<usize>, Vec<u32>)> = vec![];
        Self::from_rows(shape, |[b, h, i], row| {
            if i == 0 {
                let kv = h * kv_heads / heads;
                let radius = largest(query, b, h) + largest(key, b, kv);
                rounds.clear();
                for _ in 0..options.rounds {
                    stream.fill_normal(&mut direction);
                    let order = sorted(query, (b, h), radius, &direction, dim + 1);
                    let mut cluster = vec![0; queries];
                    for (place, &(_, token)) in order.iter().enumerate() {
                        cluster[token as usize] = share(place, clusters, queries);
                    }
                    let order = sorted(key, (b, kv), radius, &direction, dim);
                    rounds.push((cluster, order.into_iter().map(|(_, token)| token).collect()));
                }
            }
            for (cluster, order) in &rounds {
                let c = cluster[i];
                row.extend_from_slice(&order[share(c, keys, clusters)..share(c + 1, keys, clusters)]);
            }
        })
    }

    /// `[batch, heads, queries, keys]`.
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// Pairs of all heads.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys of a query, ascending; empty outside the shape.
    pub fn row(&self, batch: usize, head: usize, query: usize) -> &[u32] {
        let [batches, heads, queries, _] = self.shape;
        if batch >= batches || head >= heads || query >= queries {
            return &[];
        }
        let index = (batch * heads + head) * queries + query;
        &self.keys[self.offsets[index]..self.offsets[index + 1]]
    }
}

/// ⌊place·shares/whole⌋, at most `shares`.
fn share(place: usize, shares: usize, whole: usize) -> usize {
    let share = place as u128 * shares as u128 / whole.max(1) as u128;
    usize::try_from(share).map_or(shares, |share| share.min(shares))
}

/// Largest squared norm of a head's vectors.
fn largest<T: Element>(view: View<'_, T>, batch: usize, head: usize) -> f64 {
    (0..view.shape()[2]).fold(0.0, |most: f64, i| most.max(square(view, batch, head, i)))
}

fn square<T: Element>(view: View<'_, T>, batch: usize, head: usize, token: usize) -> f64 {
    let values = (0..view.shape()[3]).map(|k| view.at([batch, head, token, k]).to_f64());
    values.fold(0.0, |sum, x| sum + x * x)
}

/// Hashes of a head's lifted vectors with their tokens, ascending; the lift's last entry is `direction[extra]`'s.
fn sorted<T: Element>(
    view: View<'_, T>,
    (batch, head): (usize, usize),
    radius: f64,
    direction: &[f64],
    extra: usize,
) -> Vec<(f64, u32)> {
    let hash = |token: u32| {
        let i = token as usize;
        let line = (0..view.shape()[3]).map(|k| view.at([batch, head, i, k]).to_f64() * direction[k]);
        let lift = num_traits::Float::sqrt((radius - square(view, batch, head, i)).max(0.0));
        line.fold(lift * direction[extra], |sum, x| sum + x)
    };
    let tokens = u32::try_from(view.shape()[2]).unwrap_or(0);
    let mut found: Vec<(f64, u32)> = (0..tokens).map(|token| (hash(token), token)).collect();
    found.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    found
}
