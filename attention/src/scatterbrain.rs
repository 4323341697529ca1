//! Scatterbrain: exact weights on a sparse support, random features everywhere else.
//!
//! ```text
//! Â_ij = exp(τ·q_i·k_j) on the support, φ(q_i)·φ(k_j) elsewhere          O_i = Σⱼ Â_ij v_j / Σⱼ Â_ij
//! ```
//! With positive random features φ ([`FeatureMap::Random`]) and a support that was chosen without looking at them, `E[Â] =
//! exp(τ·QKᵀ)` entry by entry, and its variance is that of the features off the support and 0 on it: never worse than the features
//! alone. The quotient O is consistent (m → ∞), not unbiased.
//!
//! Nothing of size n×s: the features' part is [linear attention](crate::feature_map), to which the support adds
//! `exp(τ·q·k) - φ(q)·φ(k)` pair by pair. Each row is divided by the larger of its largest exponential and its features' scale, so
//! that nothing overflows; a sum that rounding brought below that of the support's exponentials is set to it.
//!
//! Cost: `2·m·(d + e)·(n + s) + 2·|support|·(d + m + e)` flops. Memory beside the results: s·m numbers of each thread (the keys'
//! features), and in the gradient once more.
//!
//! **Accuracy**: as linear attention, and each exact weight errs by `(d·τ·|q|·|k| + 8)·u` relative to the row's largest.
//!
//! Source: Chen, Dao, Winsor, Song, Rudra, Ré, *Scatterbrain*, NeurIPS 2021, arXiv 2110.15343, algorithm 1 and theorem 2. A pair
//! that several hashing rounds find is corrected once, in place of the paper's division by their count.
//!
//! ```
//! use rankbit_attention::{
//!     ClusterOptions, FeatureMap, RandomFeatureOptions, RandomFeatures, ScatterbrainOptions, Support, View, scatterbrain,
//! };
//! let data: Vec<f32> = (0..40 * 4_u8).map(|i| f32::from(i % 13) / 4.0 - 1.5).collect();
//! let x = View::contiguous(&data, [1, 1, 40, 4])?;
//! let features = RandomFeatures::new(4, &RandomFeatureOptions { draws: Some(16), ..Default::default() })?;
//! let map = FeatureMap::Random { features: &features, scale: None };
//! let support = Support::clusters(x, x, &ClusterOptions { size: 8, ..Default::default() })?;
//! let found = scatterbrain(x, x, x, map, &support, &ScatterbrainOptions::default())?;
//! assert_eq!(found.shape(), [1, 1, 40, 4]);
//! # Ok::<(), rankbit_attention::Error>(())
//! ```

use crate::feature_map::{FeatureMap, Problem, backward, forward, positive_scale};
use crate::{Element, Error, Gradients, Support, Tensor, View};

/// Options of [`scatterbrain`] and [`sparse`].
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct ScatterbrainOptions {
    /// τ of the exact weights, finite and positive; `None` for that of the map, or `1/√head_dim` where it has none.
    pub scale: Option<f64>,
    /// Query i sees keys `j ≤ i` only, of as many as there are queries; pairs of the support beyond are left out.
    pub causal: bool,
}

impl ScatterbrainOptions {
    fn problem<'a, T: Element>(
        &self,
        operands: [View<'a, T>; 3],
        map: Option<FeatureMap<'a>>,
        support: &'a Support,
    ) -> Result<Problem<'a, T>, Error> {
        let [query, key, value] = operands;
        let dim = query.shape()[3];
        let problem = Problem::new(query, key, value, map, self.causal)?;
        let scale = match (self.scale, map) {
            (None, Some(FeatureMap::Random { scale, .. } | FeatureMap::Taylor { scale })) => scale,
            (scale, _) => scale,
        };
        problem.with_support(support, positive_scale(scale, dim)?)
    }
}

/// Attention by exact weights on `support` and the products of features elsewhere; see the [module](self).
///
/// Operands as in [`linear`](crate::linear()); `support` of shape `[batch, heads, n, s]`.
///
/// # Errors
/// As [`linear`](crate::linear()), and [`Error::ShapeMismatch`] for a support of another shape.
pub fn scatterbrain<T: Element>(
    query: View<'_, T>,
    key: View<'_, T>,
    value: View<'_, T>,
    map: FeatureMap<'_>,
    support: &Support,
    options: &ScatterbrainOptions,
) -> Result<Tensor<T>, Error> {
    forward(&options.problem([query, key, value], Some(map), support)?)
}

/// Gradients of `Σ upstream·output` of [`scatterbrain`] by queries, keys and values; the support is constant.
///
/// # Errors
/// As [`scatterbrain`], and for an `upstream` of another shape than its output.
pub fn scatterbrain_gradient<T: Element>(
    query: View<'_, T>,
    key: View<'_, T>,
    value: View<'_, T>,
    map: FeatureMap<'_>,
    support: &Support,
    options: &ScatterbrainOptions,
    upstream: View<'_, T>,
) -> Result<Gradients<T>, Error> {
    backward(&options.problem([query, key, value], Some(map), support)?, upstream)
}

/// Softmax attention over `support` alone (with clusters, what Reformer and SMYRF do); a query without a key has output 0.
///
/// # Errors
/// As [`scatterbrain`].
pub fn sparse<T: Element>(
    query: View<'_, T>,
    key: View<'_, T>,
    value: View<'_, T>,
    support: &Support,
    options: &ScatterbrainOptions,
) -> Result<Tensor<T>, Error> {
    forward(&options.problem([query, key, value], None, support)?)
}

/// Gradients of `Σ upstream·output` of [`sparse`] by queries, keys and values; the support is constant.
///
/// # Errors
/// As [`sparse`], and for an `upstream` of another shape than its output.
pub fn sparse_gradient<T: Element>(
    query: View<'_, T>,
    key: View<'_, T>,
    value: View<'_, T>,
    support: &Support,
    options: &ScatterbrainOptions,
    upstream: View<'_, T>,
) -> Result<Gradients<T>, Error> {
    backward(&options.problem([query, key, value], None, support)?, upstream)
}
