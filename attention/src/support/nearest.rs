//! The keys of largest inner product with each query, found in a tree.
//!
//! ```text
//! heavy keys    the largest k_j·mean(q): what every query sees (a text's separators and full stops)
//! tree          halves of the other keys across their direction of most variance, down to single keys; nodes hold means
//! search        level by level, the `keys - heavy` children of largest q·mean
//! ```
//! A beam of constant width: the keys found are near the largest, not always the largest. Nothing is random, and features are not
//! looked at, so that [`scatterbrain`](crate::scatterbrain()) stays unbiased on such a support.

use alloc::{vec, vec::Vec};

use super::{Support, share};
use crate::{Element, Error, View};

/// Steps of the power method for a direction of most variance.
const STEPS: usize = 4;

/// Options of [`Support::nearest`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NearestOptions {
    /// Keys of each query, at least 1; all of them where there are fewer.
    pub keys: usize,
    /// How many of these are the same for all queries of a head, at most `keys`.
    pub heavy: usize,
}

impl Default for NearestOptions {
    fn default() -> Self {
        Self { keys: 64, heavy: 16 }
    }
}

impl Support {
    /// Keys of large inner product with their query, the same number for each:
    ///
    /// ```text
    /// heavy keys    the largest k_j·mean(q) of the head: what every query sees (a text's separators and full stops)
    /// others        a beam search for the largest q_i·k_j in a tree of the other keys
    /// ```
    /// On the maps of a text it holds far more of the weight than [`Support::clusters`] at equal memory: see the crate's page.
    /// Causal attention leaves out the pairs beyond, and heavy keys come from all queries.
    ///
    /// Cost a head: `12·s·d·log s` flops for the tree and `4·n·(keys - heavy)·d·log s` for the search; memory: 4 bytes a pair, and
    /// 3·s·d numbers in f64 for the head at hand.
    ///
    /// Source: a metric tree with beam search is textbook material; that any support chosen without the features keeps the estimate
    /// unbiased is theorem 2 of arXiv 2110.15343, which hashes instead.
    ///
    /// # Errors
    /// As [`Support::clusters`]; [`Error::InvalidOption`] for `keys` of 0 or `heavy` above it.
    pub fn nearest<T: Element>(
        query: View<'_, T>,
        key: View<'_, T>,
        options: &NearestOptions,
    ) -> Result<Self, Error> {
        crate::tile::Problem::new(query, key, key, None, Some(1.0))?;
        let NearestOptions { keys: wanted, heavy } = *options;
        if wanted == 0 {
            return Err(Error::InvalidOption { what: "keys", requirement: "at least 1", found: 0.0 });
        }
        if heavy > wanted {
            let requirement = "at most the keys of a query";
            return Err(Error::InvalidOption { what: "heavy", requirement, found: heavy as f64 });
        }
        let ([batch, heads, queries, dim], [_, kv_heads, keys, _]) = (query.shape(), key.shape());
        u32::try_from(keys).map_err(|_| Error::TooLarge { what: "the number of keys" })?;
        crate::tensor::len([batch, heads, queries, 1])?;
        let mut tree = Tree::default();
        let mut line = vec![T::from_f64(0.0); dim];
        let mut own = vec![0.0; dim];
        Self::from_rows([batch, heads, queries, keys], |[b, h, i], row| {
            if i == 0 {
                let mut mean = vec![0.0; dim];
                for token in 0..queries {
                    query.copy_line(b, h, token, &mut line);
                    mean.iter_mut().zip(&line).for_each(|(sum, &x)| *sum += x.to_f64());
                }
                let points = points(key, b, h * kv_heads / heads);
                tree = Tree::new(points, dim, &mean, heavy);
            }
            query.copy_line(b, h, i, &mut line);
            own.iter_mut().zip(&line).for_each(|(to, &x)| *to = x.to_f64());
            tree.search(&own, wanted - heavy, row);
        })
    }
}

/// A head's vectors in f64, one after another.
fn points<T: Element>(view: View<'_, T>, batch: usize, head: usize) -> Vec<f64> {
    let [_, _, tokens, dim] = view.shape();
    let mut out = Vec::with_capacity(tokens * dim);
    let mut line = vec![T::from_f64(0.0); dim];
    for token in 0..tokens {
        view.copy_line(batch, head, token, &mut line);
        out.extend(line.iter().map(|&x| x.to_f64()));
    }
    out
}

/// Keys of a head in a balanced tree.
#[derive(Default)]
struct Tree {
    heavy: Vec<u32>,
    /// Keys in the order of the leaves.
    order: Vec<u32>,
    /// Means of the nodes of each level below the root, `[node][dim]`; the last level's nodes have at most one key.
    levels: Vec<Vec<f64>>,
    dim: usize,
    /// Nodes of the beam with their scores, and the next level's.
    beam: Vec<(f64, usize)>,
    next: Vec<(f64, usize)>,
}

impl Tree {
    fn new(points: Vec<f64>, dim: usize, mean: &[f64], heavy: usize) -> Self {
        let count = points.len().checked_div(dim).unwrap_or(0);
        let mut scored: Vec<(f64, u32)> =
            (0_u32..).zip(points.chunks_exact(dim.max(1))).map(|(key, x)| (dot(x, mean), key)).collect();
        scored.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut rest: Vec<u32> = scored.iter().map(|&(_, key)| key).collect();
        let heavy_keys: Vec<u32> = rest.drain(..heavy.min(count)).collect();
        rest.sort_unstable();
        let mut tree = Self { heavy: heavy_keys, order: rest, dim, ..Self::default() };
        let len = tree.order.len();
        let mut nodes = 1;
        while nodes < len {
            for node in 0..nodes {
                halve(&mut tree.order[share(node, len, nodes)..share(node + 1, len, nodes)], &points, dim);
            }
            nodes *= 2;
            let mut means = vec![0.0; nodes * dim];
            for (node, mean) in means.chunks_exact_mut(dim).enumerate() {
                let members = &tree.order[share(node, len, nodes)..share(node + 1, len, nodes)];
                for &key in members {
                    mean.iter_mut().zip(at(&points, key, dim)).for_each(|(sum, x)| *sum += x);
                }
                mean.iter_mut().for_each(|sum| *sum /= members.len().max(1) as f64);
            }
            tree.levels.push(means);
        }
        tree
    }

    /// Appends the heavy keys and up to `width` others.
    fn search(&mut self, query: &[f64], width: usize, row: &mut Vec<u32>) {
        row.extend_from_slice(&self.heavy);
        let len = self.order.len();
        if width == 0 || len == 0 {
            return;
        }
        if width >= len {
            row.extend_from_slice(&self.order);
            return;
        }
        self.beam.clear();
        self.beam.push((0.0, 0));
        let mut nodes = 1;
        for means in &self.levels {
            nodes *= 2;
            self.next.clear();
            for &(_, parent) in &self.beam {
                for child in [2 * parent, 2 * parent + 1] {
                    if share(child, len, nodes) < share(child + 1, len, nodes) {
                        let mean = &means[child * self.dim..(child + 1) * self.dim];
                        self.next.push((dot(query, mean), child));
                    }
                }
            }
            if self.next.len() > width {
                self.next.select_nth_unstable_by(width - 1, |a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
                self.next.truncate(width);
            }
            core::mem::swap(&mut self.beam, &mut self.next);
        }
        for &(_, node) in &self.beam {
            row.extend_from_slice(&self.order[share(node, len, nodes)..share(node + 1, len, nodes)]);
        }
    }
}

/// Orders a node's keys so that its two children, as [`share`] cuts them, lie apart along the direction of most variance.
fn halve(keys: &mut [u32], points: &[f64], dim: usize) {
    if keys.len() < 2 {
        return;
    }
    let mut mean = vec![0.0; dim];
    for &key in &*keys {
        mean.iter_mut().zip(at(points, key, dim)).for_each(|(sum, x)| *sum += x / keys.len() as f64);
    }
    let centred = |key: u32| at(points, key, dim).iter().zip(&mean).map(|(x, mean)| x - mean);
    // The power method from the key that lies farthest out.
    let (mut most, mut direction) = (-1.0, vec![0.0; dim]);
    for &key in &*keys {
        let square = centred(key).fold(0.0, |sum, x| sum + x * x);
        if square > most {
            most = square;
            direction.iter_mut().zip(centred(key)).for_each(|(to, x)| *to = x);
        }
    }
    let along =
        |key: u32, direction: &[f64]| centred(key).zip(direction).fold(0.0, |sum, (x, u)| sum + x * u);
    for _ in 0..STEPS {
        let norm = num_traits::Float::sqrt(dot(&direction, &direction));
        if norm == 0.0 {
            return;
        }
        direction.iter_mut().for_each(|u| *u /= norm);
        let mut next = vec![0.0; dim];
        for &key in &*keys {
            let weight = along(key, &direction);
            next.iter_mut().zip(centred(key)).for_each(|(sum, x)| *sum += weight * x);
        }
        direction = next;
    }
    let mut places: Vec<(f64, u32)> = keys.iter().map(|&key| (along(key, &direction), key)).collect();
    places.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    keys.iter_mut().zip(places).for_each(|(key, (_, sorted))| *key = sorted);
}

fn at(points: &[f64], key: u32, dim: usize) -> &[f64] {
    &points[key as usize * dim..(key as usize + 1) * dim]
}

/// `Σ a·b` in eight sums.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    for (a, b) in a.chunks(8).zip(b.chunks(8)) {
        sums.iter_mut().zip(a).zip(b).for_each(|((sum, a), b)| *sum += a * b);
    }
    sums.iter().sum()
}
