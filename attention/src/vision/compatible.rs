//! The non-local block of correspondences: each pair of points sees all others, the more the better they agree with a rigid motion.
//!
//! ```text
//! pairs (x_i, y_i)     β_ij = max(0, 1 - (|x_i - x_j| - |y_i - y_j|)²/σ²)     Q, K, V = embeddings·Wᵀ + w
//! A_ij = softmaxⱼ(β_ij·Q_i·K_j/√c)     F' = F + mlp(A·V)     mlp: c → h → h → c with max(0, ·) between
//! ```
//! β multiplies the score: 0 makes a pair as neutral as a score of 0, not invisible. β is symmetric and does not change when either
//! cloud moves rigidly. The n×n matrix is made in blocks of 64 queries and forgotten. Batch normalizations of a trained network
//! go into the layers of the mlp.
//!
//! Cost: `n²·(4·c + 20) + 2·n·c·(4·c + h)` flops forward, twice the first term more with the gradient.
//!
//! Source: Jiang et al., *Robust Outlier Rejection for 3D Registration with Variational Bayes* (VBReg), CVPR 2023, arXiv 2304.01514,
//! after Bai et al., *PointDSC*, CVPR 2021, arXiv 2103.05465, equations 3 and 4; one head, h = c/2.

use alloc::vec::Vec;

use super::operands::operands;
use super::operation::Function;
use super::tape::{Tape, Var};
use super::{Operand, backward, forward};
use crate::{Element, Error, Tensor, View};

operands! {
    /// Operands of [`compatible`] (`X` a view) or their gradients (`X` a tensor).
    Compatible {
        /// F: `[batch, 1, n, c]`.
        feature,
        /// Of queries, `[batch, 1, n, c]`.
        query,
        /// Of keys, `[batch, 1, n, c]`.
        key,
        /// Of values, `[batch, 1, n, c]`.
        value,
        /// `[1, 1, c, c]`.
        query_layer,
        /// `[1, 1, 1, c]`.
        query_bias,
        /// `[1, 1, c, c]`.
        key_layer,
        /// `[1, 1, 1, c]`.
        key_bias,
        /// `[1, 1, c, c]`.
        value_layer,
        /// `[1, 1, 1, c]`.
        value_bias,
        /// `[1, 1, h, c]`.
        first,
        /// `[1, 1, 1, h]`.
        first_bias,
        /// `[1, 1, h, h]`.
        second,
        /// `[1, 1, 1, h]`.
        second_bias,
        /// `[1, 1, c, h]`.
        last,
        /// `[1, 1, 1, c]`.
        last_bias,
    }
}

/// Pairs of points, constants of [`compatible`], and how far distances may differ.
#[derive(Clone, Copy, Debug)]
pub struct Correspondences<'a, T> {
    /// x: `[batch, 1, n, dimensions]`.
    pub source: View<'a, T>,
    /// y: `[batch, 1, n, dimensions]`.
    pub target: View<'a, T>,
    /// σ, positive, in the points' unit.
    pub sigma: f64,
}

impl<'a, T: Element> Compatible<View<'a, T>> {
    pub(super) fn operands(&self, pairs: &Correspondences<'a, T>) -> Result<[Operand<'a, T>; 18], Error> {
        let (feature, h) = (self.feature.shape(), self.first.shape()[2]);
        let [batch, one, n, c] = feature;
        if !(pairs.sigma > 0.0 && pairs.sigma.is_finite()) {
            let requirement = "positive and finite";
            return Err(Error::InvalidOption { what: "sigma", requirement, found: pairs.sigma });
        }
        let (row, square, inner) = ([1, 1, 1, c], [1, 1, c, c], [1, 1, 1, h]);
        let shapes = [
            feature,
            feature,
            feature,
            feature,
            square,
            row,
            square,
            row,
            square,
            row,
            [1, 1, h, c],
            inner,
            [1, 1, h, h],
            inner,
            [1, 1, c, h],
            row,
        ];
        let points = [batch, one, n, pairs.source.shape()[3]];
        let points = [("source", pairs.source), ("target", pairs.target)]
            .map(|(what, view)| Operand::image(what, view, points));
        let all: Vec<Operand<'a, T>> = self.named(4, shapes).into_iter().chain(points).collect();
        all.try_into().map_err(|_| Error::TooLarge { what: "the list of operands" })
    }
}

fn block<T: Element>(tape: &mut Tape<T>, leaves: &[Var], sigma: f64) -> Result<Var, Error> {
    let &[feature, query, key, value, ref layers @ .., source, target] = leaves else {
        return Err(Error::TooLarge { what: "the list of operands" });
    };
    let &[q, q_bias, k, k_bias, v, v_bias, ref perceptron @ .., last, last_bias] = layers else {
        return Err(Error::TooLarge { what: "the list of operands" });
    };
    let parts = [(query, q, q_bias), (key, k, k_bias), (value, v, v_bias)];
    let parts = parts.map(|(x, weight, bias)| tape.layer(x, weight, bias));
    let scale = 1.0 / num_traits::Float::sqrt(tape.value(feature).columns as f64);
    let mut message = tape.compatible(parts, [source, target], [sigma, scale]);
    for layer in perceptron.chunks_exact(2) {
        let &[weight, bias] = layer else { continue };
        message = tape.layer(message, weight, bias);
        message = tape.apply(message, Function::Rectified(0.0));
    }
    let message = tape.layer(message, last, last_bias);
    Ok(tape.sum(message, feature))
}

/// The non-local block; see the formula at [`Compatible`]'s module. No pairs give no features.
///
/// # Errors
/// [`Error::ShapeMismatch`] when operands do not fit each other, [`Error::NonFinite`] for NaN and infinities,
/// [`Error::InvalidOption`] for a σ that is not positive and finite, [`Error::Overflow`] when scores leave the range of T.
pub fn compatible<T: Element>(
    operands: &Compatible<View<'_, T>>,
    pairs: &Correspondences<'_, T>,
) -> Result<Tensor<T>, Error> {
    let run = |tape: &mut Tape<T>, leaves: &[Var]| block(tape, leaves, pairs.sigma);
    forward(&operands.operands(pairs)?, operands.feature.shape(), run)
}

/// Gradients of `Σ upstream·output` of [`compatible`] by each operand.
///
/// # Errors
/// As [`compatible`], and for an `upstream` that has not the features' shape.
pub fn compatible_gradient<T: Element>(
    operands: &Compatible<View<'_, T>>,
    pairs: &Correspondences<'_, T>,
    upstream: View<'_, T>,
) -> Result<Compatible<Tensor<T>>, Error> {
    let run = |tape: &mut Tape<T>, leaves: &[Var]| block(tape, leaves, pairs.sigma);
    let found = backward(&operands.operands(pairs)?, operands.feature.shape(), upstream, run)?;
    let [own @ .., _, _] = found;
    Ok(Compatible::from_array(own))
}
