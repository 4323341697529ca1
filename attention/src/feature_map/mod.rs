//! Linear attention: a feature map φ in place of the softmax, and no n×s matrix at all.
//!
//! ```text
//! O_i = φ(q_i)·Σⱼ φ(k_j) v_jᵀ / (φ(q_i)·Σⱼ φ(k_j))          causal: the sums run over j ≤ i
//!
//! elu      φ(x) = elu(x) + 1                                                   m = d
//! taylor   φ(x) = (1, x̃_i, x̃_i²/√2, x̃_i·x̃_j for i < j)                      m = 1 + d + d(d+1)/2
//!          φ(q)·φ(k) = 1 + τ·q·k + (τ·q·k)²/2, which is positive
//! random   φ(x) = exp(w_r·x̃ - |x̃|²/2)/√m, r = 1 … m; hyperbolic: exp(±w_r·x̃ - |x̃|²/2)/√m
//!          E[φ(q)·φ(k)] = exp(τ·q·k)
//! ```
//! `x̃ = √τ·x`, τ = 1/√d unless asked. Queries `[batch, heads, n, d]`, keys `[batch, kv_heads, s, d]`, values
//! `[batch, kv_heads, s, e]`, grouped heads as in [`exact`](crate::exact()); causal asks for n = s. [`FeatureMap::Identity`] takes
//! features that the caller made.
//!
//! Steps, for 32 tokens at a time: the features of the keys, their product with the values added to a state of m×e numbers, then
//! the features of the queries times the state. Causal: pairs within the 32 by a masked product, all before them from the state.
//! Random features are taken relative to the query's largest and to the keys' largest so far; both factors cancel in O, and
//! nothing overflows. Where the denominator underflows with all features the output is 0.
//!
//! The gradient walks the chunks twice, the second time backwards where causal, with the adjoint of the state: with
//! `dN_i = dO_i/D_i` and `dD_i = -dO_i·O_i/D_i` of the numerator and the denominator of O,
//!
//! ```text
//! dφ(q_i) = S·dN_i + z·dD_i        dφ(k_j) = dS·v_j + dz        dv_j = dSᵀ·φ(k_j)
//! S = Σ φ(k)vᵀ, z = Σ φ(k)         dS = Σ φ(q)·dNᵀ, dz = Σ φ(q)·dD
//! ```
//!
//! Cost: `2·m·e·(n + s)` flops, and `2·m·d·(n + s)` for random features; three times that for the gradient. Memory beside the
//! results: 2·m·(e + 1) and 64·m numbers of each thread, in the gradient also those of a key head for two tasks a thread. A task is a
//! key head, in the gradient of less than four of them half of its values' columns.
//!
//! **Accuracy**: for positive features (elu, random), u the unit roundoff: `|ΔO| ≤ 2·(s + m + c)·u·Σⱼ A_ij|v_j|` elementwise to first
//! order, A the weights of the map and c the relative error of one feature over u: 8 for elu, `8 + 2·d·maxᵣ(|w_r|·|x̃|) + |x̃|²` for
//! random.
//!
//! Sources: elu: Katharopoulos, Vyas, Pappas, Fleuret, arXiv 2006.16236, equation 7. Random features: Choromanski et al.,
//! *Rethinking attention with performers*, arXiv 2009.14794, lemma 1 and section 2.4 (orthogonal), hyperbolic: the same lemma;
//! its ε, which costs the unbiasedness, is left out. Taylor: Keles, Wijewardena, Hegde, arXiv 2209.04881, section 4.
//!
//! ```
//! use rankbit_attention::{FeatureMap, View, linear};
//! let data: Vec<f32> = (0..6 * 4_u8).map(|i| f32::from(i % 5) - 2.0).collect();
//! let x = View::contiguous(&data, [1, 1, 6, 4])?;
//! let found = linear(x, x, x, FeatureMap::Elu, true)?;
//! assert!((found.as_slice()[0] - data[0]).abs() < 1e-6); // the first token sees itself only
//! # Ok::<(), rankbit_attention::Error>(())
//! ```

mod backward;
mod correction;
mod forward;
mod random;
mod rows;
mod state;

pub use backward::linear_gradient;
pub use forward::linear;
pub use random::{RandomFeatureOptions, RandomFeatures, RowNorm};

pub(crate) use backward::backward;
pub(crate) use forward::forward;
#[cfg(feature = "std")]
pub(crate) use rows::{all_features, pull_back_all};

use crate::{Element, Error, Support, View};

/// Which features; see the [module](self).
#[derive(Clone, Copy, Debug)]
pub enum FeatureMap<'a> {
    /// φ(x) = x: the operands are features already. The sums of their products should be positive.
    Identity,
    /// elu(x) + 1.
    Elu,
    /// The exponential's Taylor polynomial of degree 2, exactly.
    Taylor {
        /// τ, positive; `None` for `1/√d`.
        scale: Option<f64>,
    },
    /// Positive random features.
    Random {
        /// The directions, of the operands' `head_dim`.
        features: &'a RandomFeatures,
        /// τ, positive; `None` for `1/√d`.
        scale: Option<f64>,
    },
}

impl FeatureMap<'_> {
    /// m, the features of a vector of `head_dim` entries; `None` where it overflows.
    pub fn count(&self, head_dim: usize) -> Option<usize> {
        match self {
            Self::Identity | Self::Elu => Some(head_dim),
            Self::Taylor { .. } => {
                let pairs = head_dim.checked_mul(head_dim.checked_add(1)?)? / 2;
                pairs.checked_add(head_dim)?.checked_add(1)
            }
            Self::Random { features, .. } => Some(features.count()),
        }
    }

    /// τ, 1 where the map has none.
    pub(crate) fn scale(&self, head_dim: usize) -> Result<f64, Error> {
        match self {
            Self::Identity | Self::Elu => Ok(1.0),
            Self::Taylor { scale } | Self::Random { scale, .. } => positive_scale(*scale, head_dim),
        }
    }
}

/// `scale`, or `1/√head_dim`.
pub(crate) fn positive_scale(scale: Option<f64>, head_dim: usize) -> Result<f64, Error> {
    let scale = scale.unwrap_or(1.0 / num_traits::Float::sqrt(head_dim as f64));
    if !(scale > 0.0 && scale.is_finite()) {
        let requirement = "finite and positive";
        return Err(Error::InvalidOption { what: "scale", requirement, found: scale });
    }
    Ok(scale)
}

/// The operands of linear attention, checked.
#[derive(Clone, Copy)]
pub(crate) struct Problem<'a, T> {
    query: View<'a, T>,
    key: View<'a, T>,
    value: View<'a, T>,
    /// `None`: no features, the support alone.
    map: Option<FeatureMap<'a>>,
    /// Pairs whose weight is `exp(τ·q·k)` instead of the features' product.
    support: Option<&'a Support>,
    /// τ of the support.
    scale: f64,
    /// √τ of the map.
    root: f64,
    /// m.
    features: usize,
    causal: bool,
}

impl<'a, T: Element> Problem<'a, T> {
    pub(crate) fn new(
        query: View<'a, T>,
        key: View<'a, T>,
        value: View<'a, T>,
        map: Option<FeatureMap<'a>>,
        causal: bool,
    ) -> Result<Self, Error> {
        // The scale is the map's.
        crate::tile::Problem::new(query, key, value, None, Some(1.0))?;
        let ([.., tokens, dim], keys) = (query.shape(), key.shape()[2]);
        if causal && tokens != keys {
            let [batch, heads, _, _] = key.shape();
            let expected = [batch, heads, tokens, dim];
            return Err(Error::ShapeMismatch { what: "key", expected, found: key.shape() });
        }
        let mut problem =
            Self { query, key, value, map, support: None, scale: 1.0, root: 1.0, features: 0, causal };
        let Some(map) = map else { return Ok(problem) };
        if let FeatureMap::Random { features, .. } = map
            && features.dim() != dim
        {
            let requirement = "the dimension of the random features";
            return Err(Error::InvalidOption { what: "head_dim", requirement, found: dim as f64 });
        }
        let largest = usize::MAX >> 12;
        let fits = |&m: &usize| m.checked_mul(value.shape()[3].max(dim)).is_some_and(|len| len < largest);
        problem.features =
            map.count(dim).filter(fits).ok_or(Error::TooLarge { what: "the number of features" })?;
        problem.root = num_traits::Float::sqrt(map.scale(dim)?);
        if !num_traits::Float::is_finite(T::from_f64(problem.root * problem.root)) {
            let found = problem.root * problem.root;
            return Err(Error::InvalidOption { what: "scale", requirement: "finite and positive", found });
        }
        Ok(problem)
    }

    /// With exact weights `exp(τ·q·k)` on `support`.
    pub(crate) fn with_support(mut self, support: &'a Support, scale: f64) -> Result<Self, Error> {
        let [batch, heads, tokens, _] = self.query.shape();
        let expected = [batch, heads, tokens, self.key.shape()[2]];
        if support.shape() != expected {
            return Err(Error::ShapeMismatch { what: "support", expected, found: support.shape() });
        }
        if !num_traits::Float::is_finite(T::from_f64(scale)) {
            return Err(Error::InvalidOption {
                what: "scale",
                requirement: "finite and positive",
                found: scale,
            });
        }
        self.support = (!support.is_empty()).then_some(support);
        self.scale = scale;
        Ok(self)
    }

    fn group(&self) -> usize {
        self.query.shape()[1].checked_div(self.key.shape()[1]).unwrap_or(1).max(1)
    }

    /// Whether the features have a scale of their own.
    fn shifted(&self) -> bool {
        matches!(self.map, Some(FeatureMap::Random { .. }))
    }
}
