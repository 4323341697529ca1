//! Exact attention by the online softmax: never the n×s matrix.
//!
//! ```text
//! S_ij = τ·q_i·k_j + b_ij      lse_i = ln Σⱼ exp S_ij      O_i = Σⱼ exp(S_ij - lse_i)·v_j
//!
//! over chunks of keys:  m' = max(m, max S)   p = exp(S - m')   l = exp(m - m')·l + Σp   acc = exp(m - m')·acc + p·V
//! ```
//! Queries `[batch, heads, n, d]`, keys `[batch, kv_heads, s, d]`, values `[batch, kv_heads, s, e]`; `kv_heads` divides
//! `heads`, and query head h reads key head `h·kv_heads/heads` (grouped-query attention). Exponentials are taken in base 2,
//! with log₂e in τ.
//!
//! Cost: `2·n·s·(d + e)` flops forward and `2·n·s·(3d + 2e)` backward; half of it when causal. Memory beside the results:
//! the tiles of each thread (about 150 KiB at d = e = 64) and 64 blocks of results on their way; in the gradient the sums of two
//! tasks a thread (one on a single thread), s·(d + e) numbers each. One head is enough work for 16 threads.
//!
//! **Accuracy**, u the unit roundoff: elementwise `|ΔO| ≤ (2·d·u·maxⱼ(τ·|q|·|k_j|) + (s + 16)·u)·2·Σⱼ P_ij|v_j|` to first
//! order: each score errs by at most `d·u·τ·|q|·|k|`, each exponential by 4u, and the sums over s keys by s·u.
//!
//! Sources: Milakov, Gimelshein, *Online normalizer calculation for softmax*, arXiv 1805.02867, algorithm 3; Rabe, Staats,
//! arXiv 2112.05682; Dao, Fu, Ermon, Rudra, Ré, *FlashAttention*, arXiv 2205.14135, algorithms 1 and 4 (the gradient).
//!
//! ```
//! use rankbit_attention::{ExactOptions, View, exact};
//! let data: Vec<f32> = (0..2 * 5 * 4_u8).map(|i| f32::from(i % 7) - 3.0).collect();
//! let x = View::contiguous(&data, [1, 2, 5, 4])?;
//! let found = exact(x, x, x, &ExactOptions { causal: true, ..Default::default() })?;
//! // The first token sees itself only.
//! assert_eq!(&found.output.as_slice()[..4], &data[..4]);
//! # Ok::<(), rankbit_attention::Error>(())
//! ```

use crate::tile::{Block, Found, Pattern, Problem, Visible, backward, forward};
use crate::{Attention, Element, Error, Gradients, Tensor, View};

/// Options of [`exact`] and [`exact_gradient`].
#[derive(Clone, Copy, Debug)]
pub struct ExactOptions<'a, T> {
    /// τ, finite; `None` for `1/√head_dim`.
    pub scale: Option<f64>,
    /// Query i of n sees key j of s only when `j ≤ i + s - n`: the last query sees all keys, as in decoding.
    pub causal: bool,
    /// `[batch, heads, n, s]`, strides of 0 repeat: false hides a key.
    pub mask: Option<View<'a, bool>>,
    /// `[batch, heads, n, s]`, strides of 0 repeat, finite: added to the scores. [`exact_gradient`] takes it as constant,
    /// [`exact_gradient_with_bias`] does not.
    pub bias: Option<View<'a, T>>,
}

impl<T> Default for ExactOptions<'_, T> {
    fn default() -> Self {
        Self { scale: None, causal: false, mask: None, bias: None }
    }
}

/// Lanes of a tile.
const LANES: usize = 32;
/// Queries of a block: they share each chunk of keys while it is in the cache.
const QUERIES: usize = 4 * LANES;

/// Exact attention; see the [module](self). A query that sees no key has output 0 and lse -∞.
///
/// # Errors
/// [`Error::ShapeMismatch`] for operands, mask or bias of other shapes; [`Error::NonFinite`] for NaN and infinities in
/// them; [`Error::InvalidOption`] for a `head_dim` of 0, key heads that do not divide the query heads, or a scale that is not
/// finite; [`Error::Overflow`] when scores leave the range of T.
pub fn exact<T: Element>(
    query: View<'_, T>,
    key: View<'_, T>,
    value: View<'_, T>,
    options: &ExactOptions<'_, T>,
) -> Result<Attention<T>, Error> {
    let problem = Problem::new(query, key, value, None, options.scale)?;
    forward::<T, LANES>(&problem, &Dense::new(&problem, options)?)
}

/// Gradients of `Σ upstream·output` by queries, keys and values, from what [`exact`] found for the same operands; see the
/// [module](self).
///
/// # Errors
/// As [`exact`], and for an `upstream` or a `result` of another shape.
pub fn exact_gradient<T: Element>(
    query: View<'_, T>,
    key: View<'_, T>,
    value: View<'_, T>,
    options: &ExactOptions<'_, T>,
    result: &Attention<T>,
    upstream: View<'_, T>,
) -> Result<Gradients<T>, Error> {
    Ok(gradients(query, key, value, options, result, upstream, false)?.gradients)
}

/// The same, and the gradient by the bias, `None` where there is no bias.
///
/// It has the bias' shape with every dimension of stride 0 once: what the bias repeats is summed, so a bias that all batch
/// entries, heads or queries share gets one number for each that it has. Without a stride of 0 along queries and keys it is as
/// large as the scores and nothing else is; tasks hold another 128·s numbers each then.
///
/// # Errors
/// As [`exact_gradient`].
pub fn exact_gradient_with_bias<T: Element>(
    query: View<'_, T>,
    key: View<'_, T>,
    value: View<'_, T>,
    options: &ExactOptions<'_, T>,
    result: &Attention<T>,
    upstream: View<'_, T>,
) -> Result<(Gradients<T>, Option<Tensor<T>>), Error> {
    let found = gradients(query, key, value, options, result, upstream, true)?;
    Ok((found.gradients, found.bias))
}

fn gradients<T: Element>(
    query: View<'_, T>,
    key: View<'_, T>,
    value: View<'_, T>,
    options: &ExactOptions<'_, T>,
    result: &Attention<T>,
    upstream: View<'_, T>,
    by_bias: bool,
) -> Result<Found<T>, Error> {
    let problem = Problem::new(query, key, value, None, options.scale)?;
    backward::<T, LANES>(&problem, &Dense::new(&problem, options)?, result, upstream, by_bias)
}

/// All pairs but those that options hide.
struct Dense<'a, T> {
    tokens: usize,
    keys: usize,
    causal: bool,
    mask: Option<View<'a, bool>>,
    bias: Option<View<'a, T>>,
}

impl<'a, T: Element> Dense<'a, T> {
    fn new(problem: &Problem<'_, T>, options: &ExactOptions<'a, T>) -> Result<Self, Error> {
        let [batch, heads, tokens, _] = problem.query.shape();
        let keys = problem.key.shape()[2];
        let expected = [batch, heads, tokens, keys];
        let shapes = [
            ("mask", options.mask.map(|mask| mask.shape())),
            ("bias", options.bias.map(|bias| bias.shape())),
        ];
        for (what, found) in shapes {
            if let Some(found) = found.filter(|&found| found != expected) {
                return Err(Error::ShapeMismatch { what, expected, found });
            }
        }
        if let Some(bias) = options.bias {
            bias.check_finite("bias")?;
        }
        Ok(Self { tokens, keys, causal: options.causal, mask: options.mask, bias: options.bias })
    }

    /// Keys that query `token` sees by causality alone.
    fn end(&self, token: usize) -> usize {
        match self.causal {
            true => (token + 1 + self.keys).saturating_sub(self.tokens).min(self.keys),
            false => self.keys,
        }
    }
}

impl<T: Element> Pattern<T> for Dense<'_, T> {
    fn blocks(&self) -> usize {
        self.tokens.div_ceil(QUERIES)
    }

    fn blocks_of_task(&self) -> usize {
        1
    }

    fn fill(&self, index: usize, block: &mut Block) {
        let last = self.tokens.min((index + 1) * QUERIES);
        block.queries.extend(index * QUERIES..last);
        block.keys.extend(0..self.end(last - 1));
    }

    fn visible(&self, at: (usize, usize), queries: &[usize], keys: &[usize], bits: &mut [u32]) -> Visible {
        let (Some(&first), Some(&last)) = (queries.first(), queries.last()) else { return Visible::Nothing };
        let (Some(&low), Some(&high)) = (keys.first(), keys.last()) else { return Visible::Nothing };
        if low >= self.end(last) {
            return Visible::Nothing;
        }
        if self.mask.is_none() && high < self.end(first) {
            return Visible::All;
        }
        for (bits, &key) in bits.iter_mut().zip(keys) {
            *bits = 0;
            for (lane, &query) in queries.iter().enumerate() {
                let open = self.mask.is_none_or(|mask| mask.at([at.0, at.1, query, key]));
                *bits |= u32::from(open && key < self.end(query)) << lane;
            }
        }
        Visible::Bits
    }

    fn bias(&self) -> Option<View<'_, T>> {
        self.bias
    }
}
