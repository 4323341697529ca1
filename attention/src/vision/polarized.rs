//! Polarized self-attention: one gate for each channel and one for each pixel, either one unsqueezed.
//!
//! ```text
//! X: n×c, pixels in rows; m inner channels (c/2 in the source)
//!
//! channels   p = softmaxₙ(X·w_qᵀ)   z = pᵀ·(X·W_vᵀ)   a = σ(γ ⊙ LN(z·W_zᵀ) + β)       Z_ch = X ⊙ a    (a: 1×c)
//! pixels     q = softmaxₘ(meanₙ(X·U_qᵀ))              s = σ((X·U_vᵀ)·qᵀ)              Z_sp = X ⊙ s    (s: n×1)
//!
//! parallel   Z_ch(X) + Z_sp(X)            sequential   Z_sp(Z_ch(X))
//! ```
//! Gates lie in 0 … 1, so `|output| ≤ 2·|X|` in parallel and `≤ |X|` in sequence. The channel gate does not depend on the order
//! of the pixels. Cost: `8·n·c·m` flops forward, three times that with the gradient; memory of order `n·(c + m)`.
//!
//! Source: Liu, Liu, Fan, Huang, *Polarized Self-Attention*, arXiv 2107.00782: the softmax of the pixel
//! branch runs over the pooled query, and W_z is one layer. Layers carry no bias; ε of the normalization is 10⁻⁵.

use super::operands::operands;
use super::tape::{Tape, Var};
use super::{Operand, backward, forward};
use crate::{Element, Error, Tensor, View};

operands! {
    /// Operands of [`polarized`] (`X` a view) or their gradients (`X` a tensor).
    Polarized {
        /// X: `[batch, height, width, c]`.
        image,
        /// w_q: `[1, 1, 1, c]`.
        channel_query,
        /// W_v: `[1, 1, m, c]`.
        channel_value,
        /// W_z: `[1, 1, c, m]`.
        channel_output,
        /// γ: `[1, 1, 1, c]`.
        norm_scale,
        /// β: `[1, 1, 1, c]`.
        norm_shift,
        /// U_q: `[1, 1, m, c]`.
        pixel_query,
        /// U_v: `[1, 1, m, c]`.
        pixel_value,
    }
}

/// How the two branches are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrangement {
    /// The sum of both.
    Parallel,
    /// The pixel branch on what the channel branch makes.
    Sequential,
}

const EPSILON: f64 = 1e-5;

impl<'a, T: Element> Polarized<View<'a, T>> {
    fn operands(&self) -> Result<[Operand<'a, T>; 8], Error> {
        let (image, m) = (self.image.shape(), self.channel_value.shape()[2]);
        let c = image[3];
        if m == 0 {
            let requirement = "at least 1";
            return Err(Error::InvalidOption { what: "inner channels", requirement, found: 0.0 });
        }
        let (row, inner) = ([1, 1, 1, c], [1, 1, m, c]);
        Ok(self.named(1, [image, row, inner, [1, 1, c, m], row, row, inner, inner]))
    }
}

fn block<T: Element>(tape: &mut Tape<T>, leaves: &[Var], arrangement: Arrangement) -> Result<Var, Error> {
    let &[x, query, value, output, scale, shift, pixel_query, pixel_value] = leaves else {
        return Err(Error::TooLarge { what: "the list of operands" });
    };
    // The channel gate.
    let scores = tape.linear(query, x);
    let weights = tape.softmax(scores);
    let values = tape.linear(value, x);
    let pooled = tape.linear(weights, values);
    let mixed = tape.linear(pooled, output);
    let normal = tape.normalize(mixed, EPSILON);
    let scaled = tape.times(normal, scale);
    let shifted = tape.sum(scaled, shift);
    let gate = tape.sigmoid(shifted);
    let by_channel = tape.times(x, gate);
    // The pixel gate.
    let input = match arrangement {
        Arrangement::Parallel => x,
        Arrangement::Sequential => by_channel,
    };
    let queries = tape.linear(input, pixel_query);
    let mean = tape.mean(queries);
    let weights = tape.softmax(mean);
    let values = tape.linear(input, pixel_value);
    let scores = tape.linear(values, weights);
    let gate = tape.sigmoid(scores);
    let by_pixel = tape.times(input, gate);
    Ok(match arrangement {
        Arrangement::Parallel => tape.sum(by_channel, by_pixel),
        Arrangement::Sequential => by_pixel,
    })
}

/// Polarized self-attention; see the formula at [`Polarized`]'s module. An image without pixels gives one.
///
/// # Errors
/// [`Error::ShapeMismatch`] when weights do not fit the image, [`Error::NonFinite`] for NaN and infinities,
/// [`Error::InvalidOption`] for no inner channels, [`Error::Overflow`] when a sum leaves the range of T.
pub fn polarized<T: Element>(
    operands: &Polarized<View<'_, T>>,
    arrangement: Arrangement,
) -> Result<Tensor<T>, Error> {
    forward(&operands.operands()?, operands.image.shape(), |tape, leaves| block(tape, leaves, arrangement))
}

/// Gradients of `Σ upstream·output` of [`polarized`] by each operand.
///
/// # Errors
/// As [`polarized`], and for an `upstream` that has not the image's shape.
pub fn polarized_gradient<T: Element>(
    operands: &Polarized<View<'_, T>>,
    arrangement: Arrangement,
    upstream: View<'_, T>,
) -> Result<Polarized<Tensor<T>>, Error> {
    let run = |tape: &mut Tape<T>, leaves: &[Var]| block(tape, leaves, arrangement);
    backward(&operands.operands()?, operands.image.shape(), upstream, run).map(Polarized::from_array)
}
