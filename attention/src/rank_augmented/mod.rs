//! Rank-augmented linear attention (RALA): linear attention whose buffer of keys and values weighs its tokens, and whose output is
//! modulated by the token it belongs to.
//!
//! ```text
//! Q = elu(q) + 1    K = elu(k) + 1    q̄ = (1/n)·Σᵢ Q_i    α = s·softmaxⱼ(τ·q̄·K_j)            so that Σⱼ α_j = s
//! B = (1/s)·Σⱼ α_j·R(K_j)·v_jᵀ         z = (1/s)·Σⱼ α_j·K_j
//! y_i = R(Q_i)·B/(Q_i·z + ε)           O = (y + l) ⊙ g
//! ```
//! Queries `[batch, heads, n, d]`, keys `[batch, heads, s, d]`, values, the local term l and the gate g `[batch, heads, n, e]` (values
//! of s tokens); without l and g, `O = y`. τ = 1/√d unless asked. R is the rotary map of a plane, the identity unless asked: pairs
//! of channels are turned by `row·θ_t` in the first half of the channels and by `column·θ_t` in the second,
//! `θ_t = 10000^(-t/(d/4 - 1))`, t = 0 … d/4 - 1. The denominator sees vectors that are not turned, as the authors' code has it, so
//! with R the weights do not sum to one and may be negative.
//!
//! In the block of the source (RAVLT) q, k, v and g are 1×1 convolutions of the same tokens, and l is a depthwise 5×5 convolution of
//! v.
//!
//! **Rank.** The gate raises the rank of the output: an entrywise product of matrices of rank a and b has any rank up to a·b. For 196
//! tokens of 64 features through random layers, singular values above a hundredth of the largest: 18 to 22 of linear attention's
//! output, 63 or 64 of this one's ([`ranks`](crate::ranks()); the test `modulation_raises_the_rank_of_the_output`). The weights α raise
//! the rank of B only where they favour tokens that are rare among many alike, as training may teach them; where they single out a
//! few of many different tokens, as random layers do, they lower it.
//!
//! Cost: `4·n·d·e` flops with as many keys, three times that for the gradient; memory beside the results: 5·n·d + 3·n·e numbers of
//! each thread, twice that for the gradient. A task is a head.
//!
//! **Accuracy**, u the unit roundoff: elementwise and to first order
//! `|Δy_i| ≤ 2·(s + d + 16 + 2·maxⱼ|τ·q̄·K_j|·d)·u·Σⱼ α_j·|R(Q_i)|·|R(K_j)|·|v_j|/(s·(Q_i·z + ε))`: without R the sum is the
//! weighted mean of |v|.
//!
//! Source: Fan, Huang, He, *Breaking the low-rank dilemma of linear attention*, CVPR 2025, arXiv 2411.07635, section 3.2 and 3.3, and
//! the authors' code (qhfan/RALA) for q̄ (mean of elu(q) + 1), the rotary map and ε.
//!
//! ```
//! use rankbit_attention::{RankAugmented, RankAugmentedOptions, View, rank_augmented};
//! let data: Vec<f32> = (0..6 * 8_u8).map(|i| f32::from(i % 5) - 2.0).collect();
//! let x = View::contiguous(&data, [1, 1, 6, 8])?;
//! let operands = RankAugmented { query: x, key: x, value: x, local: None, gate: Some(x) };
//! let options = RankAugmentedOptions { rotary: Some([2, 3]), ..Default::default() };
//! assert_eq!(rank_augmented(&operands, &options)?.shape(), [1, 1, 6, 8]);
//! # Ok::<(), rankbit_attention::Error>(())
//! ```

mod head;

use alloc::vec::Vec;

use head::Head;
pub(crate) use head::turned;

use crate::feature_map::positive_scale;
use crate::kernel::Kernels;
use crate::tensor::each;
use crate::{Element, Error, Tensor, View, parallel};

/// Operands of [`rank_augmented`] (`X` a view) or their gradients (`X` a tensor).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RankAugmented<X> {
    /// q: `[batch, heads, n, d]`.
    pub query: X,
    /// k: `[batch, heads, s, d]`.
    pub key: X,
    /// v: `[batch, heads, s, e]`.
    pub value: X,
    /// l: `[batch, heads, n, e]`, added before the gate; zeros when absent.
    pub local: Option<X>,
    /// g: `[batch, heads, n, e]`, the modulation; ones when absent.
    pub gate: Option<X>,
}

/// Options of [`rank_augmented`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RankAugmentedOptions {
    /// τ of the weights α, positive; `None` for `1/√d`.
    pub scale: Option<f64>,
    /// Height and width of the plane that the tokens fill, row by row: turns queries and keys. Asks for as many keys as queries
    /// and a `head_dim` that is a multiple of 4 and at least 8.
    pub rotary: Option<[usize; 2]>,
    /// ε, positive (also in the operands' type). 10⁻⁶ in the source.
    pub epsilon: f64,
}

impl Default for RankAugmentedOptions {
    fn default() -> Self {
        Self { scale: None, rotary: None, epsilon: 1e-6 }
    }
}

/// Operands and options, checked.
struct Problem<'a, T> {
    operands: RankAugmented<View<'a, T>>,
    scale: T,
    epsilon: T,
    /// cos and sin of each token and pair of channels, `[token][pair]`; empty without the rotary map.
    turns: Vec<(T, T)>,
}

impl<'a, T: Element> Problem<'a, T> {
    fn new(operands: RankAugmented<View<'a, T>>, options: &RankAugmentedOptions) -> Result<Self, Error> {
        let RankAugmented { query, key, value, local, gate } = operands;
        let ([batch, heads, tokens, dim], keys) = (query.shape(), key.shape()[2]);
        let value_dim = value.shape()[3];
        let expected = [batch, heads, tokens, value_dim];
        let views = [
            ("query", Some(query), query.shape()),
            ("key", Some(key), [batch, heads, keys, dim]),
            ("value", Some(value), [batch, heads, keys, value_dim]),
            ("local", local, expected),
            ("gate", gate, expected),
        ];
        for (what, view, expected) in views {
            if let Some(found) = view.map(|view| view.shape()).filter(|&found| found != expected) {
                return Err(Error::ShapeMismatch { what, expected, found });
            }
        }
        let option = |what, requirement, found| Err(Error::InvalidOption { what, requirement, found });
        if dim == 0 {
            return option("head_dim", "at least 1", 0.0);
        }
        let epsilon = T::from_f64(options.epsilon);
        if !(epsilon > T::from_f64(0.0) && num_traits::Float::is_finite(epsilon)) {
            return option("epsilon", "finite and positive", options.epsilon);
        }
        let scale = T::from_f64(positive_scale(options.scale, dim)?);
        if !num_traits::Float::is_finite(scale) {
            return option("scale", "finite and positive", scale.to_f64());
        }
        let turns = match options.rotary {
            None => Vec::new(),
            Some([height, width]) => {
                if dim < 8 || !dim.is_multiple_of(4) {
                    return option("head_dim", "with a rotary map a multiple of 4, at least 8", dim as f64);
                }
                if tokens != keys {
                    let expected = [batch, heads, tokens, dim];
                    return Err(Error::ShapeMismatch { what: "key", expected, found: key.shape() });
                }
                if height.checked_mul(width) != Some(tokens) {
                    return option("rotary", "a plane of as many places as tokens", tokens as f64);
                }
                turns(tokens, width, dim)
            }
        };
        for (what, view, _) in views {
            view.map_or(Ok(()), |view| view.check_finite(what))?;
        }
        Ok(Self { operands, scale, epsilon, turns })
    }

    fn places(&self) -> Vec<(usize, usize)> {
        let [batch, heads, ..] = self.operands.query.shape();
        each(batch, heads, 1).map(|(b, h, _)| (b, h)).collect()
    }

    /// Entries of the output of one head, or of a tensor of its shape.
    fn plane(&self) -> usize {
        self.operands.query.shape()[2] * self.operands.value.shape()[3]
    }
}

/// cos and sin of every token's angles: d/4 by its row, then d/4 by its column.
pub(crate) fn turns<T: Element>(tokens: usize, width: usize, dim: usize) -> Vec<(T, T)> {
    let quarter = dim / 4;
    let frequency =
        |t: usize| num_traits::Float::powf(10000.0_f64, -(t as f64) / (quarter.max(2) - 1) as f64);
    let turn = |place: usize, t: usize| {
        let (sin, cos) = num_traits::Float::sin_cos(place as f64 * frequency(t));
        (T::from_f64(cos), T::from_f64(sin))
    };
    let width = width.max(1);
    (0..tokens)
        .flat_map(|i| [i / width, i % width])
        .flat_map(|place| (0..quarter).map(move |t| turn(place, t)))
        .collect()
}

/// Rank-augmented linear attention; see the [module](self). Without keys y is 0.
///
/// # Errors
/// [`Error::ShapeMismatch`] for operands of other shapes, and with the rotary map for another number of keys than queries;
/// [`Error::NonFinite`] for NaN and infinities; [`Error::InvalidOption`] for a `head_dim` of 0 or one that the rotary map does not
/// fit, a plane of another size than the number of tokens, a scale or an ε that is not positive; [`Error::Overflow`] when scores,
/// sums or outputs leave the range of T.
pub fn rank_augmented<T: Element>(
    operands: &RankAugmented<View<'_, T>>,
    options: &RankAugmentedOptions,
) -> Result<Tensor<T>, Error> {
    let problem = Problem::new(*operands, options)?;
    let [batch, heads, tokens, _] = operands.query.shape();
    let mut output = Tensor::zeros([batch, heads, tokens, operands.value.shape()[3]])?;
    let (places, kernels) = (problem.places(), Kernels::current());
    let mut failed = None;
    if output.as_slice().is_empty() {
        return Ok(output);
    }
    let task = |index: usize, out: &mut [T]| {
        let head = Head::new(kernels, &problem, places[index]);
        head.output(out);
        unfinished(out, problem.plane() / tokens.max(1))
    };
    parallel::slices(output.as_mut_slice(), problem.plane(), task, |index, bad| {
        failed = failed.or(bad.map(|token| (places[index], token)));
    });
    overflow(failed).map_or(Ok(output), Err)
}

/// Gradients of `Σ upstream·output` of [`rank_augmented`] by each operand that is present.
///
/// # Errors
/// As [`rank_augmented`], and for an `upstream` that has not the output's shape.
pub fn rank_augmented_gradient<T: Element>(
    operands: &RankAugmented<View<'_, T>>,
    options: &RankAugmentedOptions,
    upstream: View<'_, T>,
) -> Result<RankAugmented<Tensor<T>>, Error> {
    let problem = Problem::new(*operands, options)?;
    let [batch, heads, tokens, _] = operands.query.shape();
    let expected = [batch, heads, tokens, operands.value.shape()[3]];
    if upstream.shape() != expected {
        return Err(Error::ShapeMismatch { what: "output gradient", expected, found: upstream.shape() });
    }
    upstream.check_finite("output gradient")?;
    let zeros = |view: View<'_, T>| Tensor::zeros(view.shape());
    let mut sums = RankAugmented {
        query: zeros(operands.query)?,
        key: zeros(operands.key)?,
        value: zeros(operands.value)?,
        local: operands.local.map(zeros).transpose()?,
        gate: operands.gate.map(zeros).transpose()?,
    };
    let (places, kernels) = (problem.places(), Kernels::current());
    let mut failed = None;
    parallel::waves(
        places.len(),
        |index| Head::new(kernels, &problem, places[index]).gradient(upstream),
        |index, by| {
            let parts = [
                (Some(&mut sums.query), by.query),
                (Some(&mut sums.key), by.key),
                (Some(&mut sums.value), by.value),
                (sums.local.as_mut(), by.local.unwrap_or_default()),
                (sums.gate.as_mut(), by.gate.unwrap_or_default()),
            ];
            for (to, from) in parts {
                let Some(to) = to else { continue };
                let len = to.shape()[3];
                failed = failed.or(unfinished(&from, len).map(|token| (places[index], token)));
                for (to, from) in to.as_mut_slice()[index * from.len()..].iter_mut().zip(from) {
                    *to = from;
                }
            }
        },
    );
    overflow(failed).map_or(Ok(sums), Err)
}

/// The first of the lines with an entry that is not finite.
fn unfinished<T: Element>(values: &[T], len: usize) -> Option<usize> {
    let at = values.iter().position(|x| !num_traits::Float::is_finite(*x))?;
    Some(at / len.max(1))
}

fn overflow(failed: Option<((usize, usize), usize)>) -> Option<Error> {
    failed.map(|((batch, head), token)| Error::Overflow { batch, head, token })
}
