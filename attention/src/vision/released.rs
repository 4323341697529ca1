//! Polarized self-attention as its authors' code computes it: two other models than the paper's [`polarized`](super::polarized()).
//!
//! ```text
//! X: n×c, pixels in rows; m inner channels (c/2 in the source)     p = softmaxₙ(X·w_qᵀ)     z = pᵀ·(X·W_vᵀ)     q = meanₙ(X·U_qᵀ)
//!
//! parallel     a = σ(z·W_zᵀ)                                     s = σ(softmaxₙ(q·(X·U_vᵀ)ᵀ))      X ⊙ a + X ⊙ s
//! sequential   a = σ(max(0, γ ⊙ LN(z·W₁ᵀ + b₁) + β)·W₂ᵀ + b₂)    s = σ(q·softmaxₙ(Y·U_vᵀ)ᵀ)       Y ⊙ s, Y = X ⊙ a, q of Y
//! ```
//! In the parallel model the gate of the pixels lies in ½ … 0.732, and tends to ½ as pixels get more: their softmax sums to 1 over
//! the whole image. Cost: that of the paper's.
//!
//! Source: Liu, Liu, Fan, Huang, *Polarized Self-Attention*, arXiv 2107.00782, and the code its authors released. W₁ has c/8 rows
//! there, and ε of the normalization is 10⁻⁵.

use super::operands::operands;
use super::operation::Function;
use super::tape::{Tape, Var};
use super::{Operand, backward, forward};
use crate::{Element, Error, Tensor, View};

operands! {
    /// Operands of [`released_parallel`] (`X` a view) or their gradients (`X` a tensor).
    ReleasedParallel {
        /// X: `[batch, height, width, c]`.
        image,
        /// w_q: `[1, 1, 1, c]`.
        channel_query,
        /// W_v: `[1, 1, m, c]`.
        channel_value,
        /// W_z: `[1, 1, c, m]`.
        channel_output,
        /// U_q: `[1, 1, m, c]`.
        pixel_query,
        /// U_v: `[1, 1, m, c]`.
        pixel_value,
    }
}

operands! {
    /// Operands of [`released_sequential`] (`X` a view) or their gradients (`X` a tensor).
    ReleasedSequential {
        /// X: `[batch, height, width, c]`.
        image,
        /// w_q: `[1, 1, 1, c]`.
        channel_query,
        /// W_v: `[1, 1, m, c]`.
        channel_value,
        /// W₁: `[1, 1, k, m]`.
        channel_inner,
        /// b₁: `[1, 1, 1, k]`.
        channel_inner_bias,
        /// γ: `[1, 1, 1, k]`.
        norm_scale,
        /// β: `[1, 1, 1, k]`.
        norm_shift,
        /// W₂: `[1, 1, c, k]`.
        channel_output,
        /// b₂: `[1, 1, 1, c]`.
        channel_output_bias,
        /// U_q: `[1, 1, m, c]`.
        pixel_query,
        /// U_v: `[1, 1, m, c]`.
        pixel_value,
    }
}

const EPSILON: f64 = 1e-5;

/// That a model has inner channels.
fn inner(m: usize) -> Result<(), Error> {
    match m {
        0 => Err(Error::InvalidOption { what: "inner channels", requirement: "at least 1", found: 0.0 }),
        _ => Ok(()),
    }
}

impl<'a, T: Element> ReleasedParallel<View<'a, T>> {
    fn operands(&self) -> Result<[Operand<'a, T>; 6], Error> {
        let (image, m) = (self.image.shape(), self.channel_value.shape()[2]);
        inner(m)?;
        let (down, up) = ([1, 1, m, image[3]], [1, 1, image[3], m]);
        Ok(self.named(1, [image, [1, 1, 1, image[3]], down, up, down, down]))
    }
}

impl<'a, T: Element> ReleasedSequential<View<'a, T>> {
    fn operands(&self) -> Result<[Operand<'a, T>; 11], Error> {
        let (image, m) = (self.image.shape(), self.channel_value.shape()[2]);
        let (c, k) = (image[3], self.channel_inner.shape()[2]);
        inner(m)?;
        inner(k)?;
        let (row, down, short) = ([1, 1, 1, c], [1, 1, m, c], [1, 1, 1, k]);
        let shapes = [image, row, down, [1, 1, k, m], short, short, short, [1, 1, c, k], row, down, down];
        Ok(self.named(1, shapes))
    }
}

/// What the channels hold, in the mean of all pixels weighted by one query: one row.
fn pooled<T: Element>(tape: &mut Tape<T>, x: Var, query: Var, value: Var) -> Var {
    let scores = tape.linear(query, x);
    let weights = tape.softmax(scores);
    let values = tape.linear(value, x);
    tape.linear(weights, values)
}

/// `x` times a gate from one row of scores of the pixels.
fn gated<T: Element>(tape: &mut Tape<T>, x: Var, scores: Var) -> Var {
    let gate = tape.sigmoid(scores);
    let pixels = tape.value(x).rows;
    let gate = tape.reshaped(gate, pixels);
    tape.times(x, gate)
}

fn parallel<T: Element>(tape: &mut Tape<T>, leaves: &[Var]) -> Result<Var, Error> {
    let &[x, query, value, output, pixel_query, pixel_value] = leaves else {
        return Err(Error::TooLarge { what: "the list of operands" });
    };
    let pooled = pooled(tape, x, query, value);
    let mixed = tape.linear(pooled, output);
    let gate = tape.sigmoid(mixed);
    let by_channel = tape.times(x, gate);
    let queries = tape.linear(x, pixel_query);
    let mean = tape.mean(queries);
    let values = tape.linear(x, pixel_value);
    let scores = tape.linear(mean, values);
    let scores = tape.softmax(scores);
    let by_pixel = gated(tape, x, scores);
    Ok(tape.sum(by_channel, by_pixel))
}

fn sequential<T: Element>(tape: &mut Tape<T>, leaves: &[Var]) -> Result<Var, Error> {
    let &[x, query, value, inner, inner_bias, scale, shift, output, output_bias, pixel_query, pixel_value] =
        leaves
    else {
        return Err(Error::TooLarge { what: "the list of operands" });
    };
    let pooled = pooled(tape, x, query, value);
    let mixed = tape.layer(pooled, inner, inner_bias);
    let normal = tape.normalize(mixed, EPSILON);
    let normal = tape.times(normal, scale);
    let normal = tape.sum(normal, shift);
    let positive = tape.apply(normal, Function::Rectified(0.0));
    let mixed = tape.layer(positive, output, output_bias);
    let gate = tape.sigmoid(mixed);
    let y = tape.times(x, gate);
    let queries = tape.linear(y, pixel_query);
    let mean = tape.mean(queries);
    // One row for each channel, a softmax over its pixels, and back.
    let values = tape.linear(pixel_value, y);
    let weights = tape.softmax(values);
    let pixels = tape.value(y).rows;
    let weights = tape.swapped(weights, pixels);
    let scores = tape.linear(mean, weights);
    Ok(gated(tape, y, scores))
}

/// The parallel model of the released code; see the formula at [`ReleasedParallel`]'s module. An image without pixels gives one.
///
/// # Errors
/// [`Error::ShapeMismatch`] when weights do not fit the image, [`Error::NonFinite`] for NaN and infinities,
/// [`Error::InvalidOption`] for no inner channels, [`Error::Overflow`] when a sum leaves the range of T.
pub fn released_parallel<T: Element>(operands: &ReleasedParallel<View<'_, T>>) -> Result<Tensor<T>, Error> {
    forward(&operands.operands()?, operands.image.shape(), parallel)
}

/// Gradients of `Σ upstream·output` of [`released_parallel`] by each operand.
///
/// # Errors
/// As [`released_parallel`], and for an `upstream` that has not the image's shape.
pub fn released_parallel_gradient<T: Element>(
    operands: &ReleasedParallel<View<'_, T>>,
    upstream: View<'_, T>,
) -> Result<ReleasedParallel<Tensor<T>>, Error> {
    let found = backward(&operands.operands()?, operands.image.shape(), upstream, parallel)?;
    Ok(ReleasedParallel::from_array(found))
}

/// The sequential model of the released code; see the formula at [`ReleasedSequential`]'s module. An image without pixels gives
/// one.
///
/// # Errors
/// As [`released_parallel`].
pub fn released_sequential<T: Element>(
    operands: &ReleasedSequential<View<'_, T>>,
) -> Result<Tensor<T>, Error> {
    forward(&operands.operands()?, operands.image.shape(), sequential)
}

/// Gradients of `Σ upstream·output` of [`released_sequential`] by each operand.
///
/// # Errors
/// As [`released_sequential`], and for an `upstream` that has not the image's shape.
pub fn released_sequential_gradient<T: Element>(
    operands: &ReleasedSequential<View<'_, T>>,
    upstream: View<'_, T>,
) -> Result<ReleasedSequential<Tensor<T>>, Error> {
    let found = backward(&operands.operands()?, operands.image.shape(), upstream, sequential)?;
    Ok(ReleasedSequential::from_array(found))
}
