//! Variational embeddings of correspondences: a belief that moves from layer to layer by a gated recurrent unit, and a random
//! state drawn from a normal distribution that depends on it.
//!
//! ```text
//! f: n×c features, z: n×s state, b: n×m belief of the layer before; u: n×q labels, ε: n×s noise
//!
//! x = relu([z f]·Hᵀ + h)                    the gates in thirds of 3·m rows of W and U
//! r = σ(x·W_rᵀ + w_r + b·U_rᵀ + u_r)        t = σ(x·W_tᵀ + w_t + b·U_tᵀ + u_t)
//! a = tanh(x·W_aᵀ + w_a + r ⊙ (b·U_aᵀ + u_a))                            b' = a + t ⊙ (b - a)
//! prior      (μ, ρ) = relu(b'·P₁ᵀ + p₁)·P₂ᵀ + p₂                          σ = softplus(ρ) + 0.1
//! posterior  (μ, ρ) = relu([b' u·Lᵀ + l]·Q₁ᵀ + q₁)·Q₂ᵀ + q₂              σ = softplus(ρ) + 0.1
//! z' = μ + σ ⊙ ε  of the posterior when training, else of the prior      embedding = relu([b' z']·Eᵀ + e)
//! ```
//! One such layer serves queries, one keys and one values of [`compatible`](super::compatible()); all layers of the network share
//! its weights, the first starts with state and belief zero. Labels are constants: their gradient is the formula's, and of no use.
//!
//! Cost: `2·n·(m·(c + s) + 6·m² + …)` flops forward.
//!
//! Source: Jiang, Dang, Wei, Xie, Yang, Salzmann, *Robust Outlier Rejection for 3D Registration with Variational Bayes* (VBReg),
//! CVPR 2023, arXiv 2304.01514, section 3.2; c = s, m = 2·c there.

use super::operands::operands;
use super::operation::Function;
use super::tape::{Matrix, Tape, Var};
use super::{Operand, backward, forward};
use crate::{Element, Error, Tensor, View};

operands! {
    /// Operands of [`variational`] (`X` a view) or their gradients (`X` a tensor).
    Variational {
        /// f: `[batch, 1, n, c]`.
        feature,
        /// z: `[batch, 1, n, s]`.
        state,
        /// b: `[batch, 1, n, m]`.
        belief,
        /// ε: `[batch, 1, n, s]`.
        noise,
        /// u: `[batch, 1, n, q]`, 1 at the class of a pair.
        label,
        /// H: `[1, 1, m, s + c]`.
        hidden,
        /// h: `[1, 1, 1, m]`.
        hidden_bias,
        /// W: `[1, 1, 3·m, m]`, rows of r, t and a.
        input_gates,
        /// w: `[1, 1, 1, 3·m]`.
        input_gates_bias,
        /// U: `[1, 1, 3·m, m]`.
        belief_gates,
        /// u: `[1, 1, 1, 3·m]`.
        belief_gates_bias,
        /// P₁: `[1, 1, k, m]`.
        prior_inner,
        /// p₁: `[1, 1, 1, k]`.
        prior_inner_bias,
        /// P₂: `[1, 1, 2·s, k]`.
        prior,
        /// p₂: `[1, 1, 1, 2·s]`.
        prior_bias,
        /// L: `[1, 1, v, q]`.
        label_layer,
        /// l: `[1, 1, 1, v]`.
        label_bias,
        /// Q₁: `[1, 1, k, m + v]`.
        posterior_inner,
        /// q₁: `[1, 1, 1, k]`.
        posterior_inner_bias,
        /// Q₂: `[1, 1, 2·s, k]`.
        posterior,
        /// q₂: `[1, 1, 1, 2·s]`.
        posterior_bias,
        /// E: `[1, 1, c, m + s]`.
        embedding,
        /// e: `[1, 1, 1, c]`.
        embedding_bias,
    }
}

/// Where the columns of a [`variational`] result begin: they hold, side by side, the embedding (c), the next state (s), the next
/// belief (m), mean and deviation of the prior (s each), mean and deviation of the posterior (s each).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatentColumns {
    /// Of the next state; the embedding begins at 0.
    pub state: usize,
    /// Of the next belief.
    pub belief: usize,
    /// Of the prior's mean.
    pub prior_mean: usize,
    /// Of the prior's deviation.
    pub prior_deviation: usize,
    /// Of the posterior's mean.
    pub posterior_mean: usize,
    /// Of the posterior's deviation.
    pub posterior_deviation: usize,
    /// How many there are.
    pub end: usize,
}

impl LatentColumns {
    /// For `features`, `states` and `beliefs` columns; sizes that overflow saturate.
    pub fn new(features: usize, states: usize, beliefs: usize) -> Self {
        let belief = features.saturating_add(states);
        let prior_mean = belief.saturating_add(beliefs);
        let [prior_deviation, posterior_mean, posterior_deviation, end] =
            [1, 2, 3, 4].map(|i| prior_mean.saturating_add(states.saturating_mul(i)));
        Self {
            state: features,
            belief,
            prior_mean,
            prior_deviation,
            posterior_mean,
            posterior_deviation,
            end,
        }
    }
}

/// Least deviation.
const NOISE: f64 = 0.1;

impl<'a, T: Element> Variational<View<'a, T>> {
    fn operands(&self) -> Result<[Operand<'a, T>; 23], Error> {
        let [batch, one, n, c] = self.feature.shape();
        let (s, m, q) = (self.state.shape()[3], self.belief.shape()[3], self.label.shape()[3]);
        let (k, v) = (self.prior_inner.shape()[2], self.label_layer.shape()[2]);
        for (what, size) in [
            ("state columns", s),
            ("belief columns", m),
            ("label columns", q),
            ("hidden columns", k),
            ("label embedding", v),
        ] {
            // Below this no sum or triple of sizes overflows.
            if size == 0 || size > usize::MAX / 16 {
                let requirement = "at least 1, below 2⁶⁰";
                return Err(Error::InvalidOption { what, requirement, found: size as f64 });
            }
        }
        let all = c.checked_add(s).ok_or(Error::TooLarge { what: "the features" })?;
        let each = |len| [batch, one, n, len];
        let row = |len| [1, 1, 1, len];
        let layer = |out, len| [[1, 1, out, len], row(out)];
        let images = [each(c), each(s), each(m), each(s), each(q)];
        let layers = [
            layer(m, all),
            layer(3 * m, m),
            layer(3 * m, m),
            layer(k, m),
            layer(2 * s, k),
            layer(v, q),
            layer(k, m + v),
            layer(2 * s, k),
            layer(c, m + s),
        ];
        let shapes = [images.as_slice(), layers.as_flattened()].concat();
        Ok(self.named(5, shapes.try_into().map_err(|_| Error::TooLarge { what: "the list of operands" })?))
    }

    fn shape(&self) -> [usize; 4] {
        let ([batch, one, n, c], s, m) =
            (self.feature.shape(), self.state.shape()[3], self.belief.shape()[3]);
        [batch, one, n, LatentColumns::new(c, s, m).end]
    }
}

/// Mean and deviation from two layers.
fn normal<T: Element>(
    tape: &mut Tape<T>,
    x: Var,
    [inner, inner_bias, outer, outer_bias]: [Var; 4],
) -> [Var; 2] {
    let hidden = tape.layer(x, inner, inner_bias);
    let hidden = tape.apply(hidden, Function::Rectified(0.0));
    let both = tape.layer(hidden, outer, outer_bias);
    let s = tape.value(both).columns / 2;
    let deviation = tape.columns(both, s, s);
    let deviation = tape.apply(deviation, Function::Softplus);
    let least = tape.leaf(Matrix { rows: 1, columns: 1, data: [T::from_f64(NOISE)].into() });
    [tape.columns(both, 0, s), tape.sum(deviation, least)]
}

/// The belief after a gated recurrent unit.
fn believed<T: Element>(tape: &mut Tape<T>, x: Var, belief: Var, [w, w_bias, u, u_bias]: [Var; 4]) -> Var {
    let m = tape.value(belief).columns;
    let (new, old) = (tape.layer(x, w, w_bias), tape.layer(belief, u, u_bias));
    let gates = [0, 1].map(|i| {
        let (new, old) = (tape.columns(new, i * m, m), tape.columns(old, i * m, m));
        let sum = tape.sum(new, old);
        tape.sigmoid(sum)
    });
    let (new, old) = (tape.columns(new, 2 * m, m), tape.columns(old, 2 * m, m));
    let kept = tape.times(old, gates[0]);
    let candidate = tape.sum(new, kept);
    let candidate = tape.apply(candidate, Function::Tanh);
    let negative = tape.scaled(candidate, -1.0);
    let change = tape.sum(belief, negative);
    let change = tape.times(change, gates[1]);
    tape.sum(candidate, change)
}

fn block<T: Element>(tape: &mut Tape<T>, leaves: &[Var], training: bool) -> Result<Var, Error> {
    let &[feature, state, belief, noise, label, hidden, hidden_bias, ref rest @ ..] = leaves else {
        return Err(Error::TooLarge { what: "the list of operands" });
    };
    let &[w, w_bias, u, u_bias, p1, p1_bias, p2, p2_bias, l, l_bias, q1, q1_bias, q2, q2_bias, e, e_bias] =
        rest
    else {
        return Err(Error::TooLarge { what: "the list of operands" });
    };
    let both = tape.joined([state, feature].into());
    let x = tape.layer(both, hidden, hidden_bias);
    let x = tape.apply(x, Function::Rectified(0.0));
    let belief = believed(tape, x, belief, [w, w_bias, u, u_bias]);
    let prior = normal(tape, belief, [p1, p1_bias, p2, p2_bias]);
    let label = tape.layer(label, l, l_bias);
    let both = tape.joined([belief, label].into());
    let posterior = normal(tape, both, [q1, q1_bias, q2, q2_bias]);
    let [mean, deviation] = if training { posterior } else { prior };
    let moved = tape.times(deviation, noise);
    let state = tape.sum(mean, moved);
    let both = tape.joined([belief, state].into());
    let embedding = tape.layer(both, e, e_bias);
    let embedding = tape.apply(embedding, Function::Rectified(0.0));
    Ok(tape.joined([[embedding, state, belief].as_slice(), &prior, &posterior].concat()))
}

/// One layer of variational embeddings, `[batch, 1, n, columns]` with the columns of [`LatentColumns`]; see the formula at
/// [`Variational`]'s module. When testing the noise is the caller's choice too: zeros give the mean.
///
/// # Errors
/// [`Error::ShapeMismatch`] when operands do not fit each other, [`Error::NonFinite`] for NaN and infinities,
/// [`Error::InvalidOption`] for an empty state, belief, label or hidden layer, [`Error::Overflow`] when a sum leaves the range of T.
pub fn variational<T: Element>(
    operands: &Variational<View<'_, T>>,
    training: bool,
) -> Result<Tensor<T>, Error> {
    forward(&operands.operands()?, operands.shape(), |tape, leaves| block(tape, leaves, training))
}

/// Gradients of `Σ upstream·output` of [`variational`] by each operand.
///
/// # Errors
/// As [`variational`], and for an `upstream` that has not the result's shape.
pub fn variational_gradient<T: Element>(
    operands: &Variational<View<'_, T>>,
    training: bool,
    upstream: View<'_, T>,
) -> Result<Variational<Tensor<T>>, Error> {
    let run = |tape: &mut Tape<T>, leaves: &[Var]| block(tape, leaves, training);
    backward(&operands.operands()?, operands.shape(), upstream, run).map(Variational::from_array)
}
