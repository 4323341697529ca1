//! Hybrid fusion: channels of a low-frequency image are mixed by what a high-frequency one has in common with them.
//!
//! ```text
//! L, H: n×c, pixels in rows, M heads of c/M channels     N = γ₁ ⊙ LN(L) + β₁
//! Q = (H·W_qᵀ) ∗ D_q     [K V] = (N·W_pᵀ) ∗ D_p
//! A_m = softmax(t_m·Q̂_mᵀ·K̂_m), (c/M)×(c/M), columns of Q̂ and K̂ of length 1     X = L + [V_m·A_mᵀ]·W_oᵀ
//! [a b] = ((γ₂ ⊙ LN(X) + β₂)·W_iᵀ) ∗ D_i, f channels each                        Y = X + (gelu(a) ⊙ b)·W_eᵀ
//! ```
//! ∗ is a kernel of 3×3 for each channel, zeros beyond the image; LN runs over the channels of a pixel, ε = 10⁻⁵; the high image
//! is not normalized; no layer has a bias. A channel of length below 10⁻¹² is divided by that. With W_o and W_e zero it is L.
//!
//! Cost: `2·n·c·(4·c + 2·c/M + 3·f)` flops forward and the kernels; memory of order `n·(c + f)`: attention between channels needs
//! no n×n matrix.
//!
//! Source: Li, Zhang, Liu, Zhu, *Feature Modulation Transformer* (CRAFT), ICCV 2023, arXiv 2308.05022, its HFB; the authors' code
//! (AVC2-UESTC/CRAFT-SR) for what is normalized, the order of the kernels, and `f = ⌊2.66·c⌋`. The attention is that of Zamir et
//! al., *Restormer*, CVPR 2022, arXiv 2111.09881, with the queries from another image.

use super::operands::operands;
use super::operation::{Function, Rows};
use super::tape::{Tape, Var};
use super::{Operand, backward, divides, forward};
use crate::{Element, Error, Tensor, View};

operands! {
    /// Operands of [`hybrid_fusion`] (`X` a view) or their gradients (`X` a tensor).
    HybridFusion {
        /// L: `[batch, height, width, c]`.
        low,
        /// H: `[batch, height, width, c]`.
        high,
        /// γ₁: `[1, 1, 1, c]`.
        first_scale,
        /// β₁: `[1, 1, 1, c]`.
        first_shift,
        /// W_q: `[1, 1, c, c]`.
        query,
        /// D_q: `[c, 3, 3, 1]`.
        query_kernel,
        /// W_p: `[1, 1, 2·c, c]`, keys and values.
        pair,
        /// D_p: `[2·c, 3, 3, 1]`.
        pair_kernel,
        /// t: `[1, 1, 1, M]`, one for each head.
        temperature,
        /// W_o: `[1, 1, c, c]`.
        output,
        /// γ₂: `[1, 1, 1, c]`.
        second_scale,
        /// β₂: `[1, 1, 1, c]`.
        second_shift,
        /// W_i: `[1, 1, 2·f, c]`.
        inner,
        /// D_i: `[2·f, 3, 3, 1]`.
        inner_kernel,
        /// W_e: `[1, 1, c, f]`.
        outer,
    }
}

impl<'a, T: Element> HybridFusion<View<'a, T>> {
    fn operands(&self) -> Result<[Operand<'a, T>; 15], Error> {
        let (image, heads, f) = (self.low.shape(), self.temperature.shape()[3], self.outer.shape()[3]);
        let c = image[3];
        divides("heads", heads, c)?;
        if heads == 0 {
            return Err(Error::InvalidOption { what: "heads", requirement: "at least 1", found: 0.0 });
        }
        let twice = |size: usize| size.checked_mul(2).ok_or(Error::TooLarge { what: "a layer" });
        let (pair, wide) = (twice(c)?, twice(f)?);
        let (row, square) = ([1, 1, 1, c], [1, 1, c, c]);
        let shapes = [
            image,
            image,
            row,
            row,
            square,
            [c, 3, 3, 1],
            [1, 1, pair, c],
            [pair, 3, 3, 1],
            [1, 1, 1, heads],
            square,
            row,
            row,
            [1, 1, wide, c],
            [wide, 3, 3, 1],
            [1, 1, c, f],
        ];
        Ok(self.named(2, shapes))
    }
}

/// ε of both normalizations.
const EPSILON: f64 = 1e-5;

fn block<T: Element>(
    tape: &mut Tape<T>,
    leaves: &[Var],
    [_, height, width, c]: [usize; 4],
) -> Result<Var, Error> {
    let &[
        low,
        high,
        first_scale,
        first_shift,
        query,
        query_kernel,
        pair,
        pair_kernel,
        temperature,
        output,
        second_scale,
        second_shift,
        inner,
        inner_kernel,
        outer,
    ] = leaves
    else {
        return Err(Error::TooLarge { what: "the list of operands" });
    };
    let (n, heads) = (height * width, tape.value(temperature).columns);
    let around = Rows::around([height, width], [3, 3]);
    // 1. Channels in rows.
    let queries = tape.linear(high, query);
    let queries = tape.convolved(queries, query_kernel, &around);
    let normal = tape.affine(low, first_scale, first_shift, EPSILON);
    let pairs = tape.linear(normal, pair);
    let pairs = tape.convolved(pairs, pair_kernel, &around);
    let keys = tape.columns(pairs, 0, c);
    let values = tape.columns(pairs, c, c);
    let [queries, keys] = [queries, keys].map(|x| {
        let channels = tape.swapped(x, c);
        tape.unit(channels)
    });
    // 2. Attention between the channels of a head.
    let scores = tape.products(queries, keys, heads);
    let each = tape.reshaped(temperature, heads);
    let each = tape.gather(each, Rows::each((0..c).map(|channel| channel / (c / heads))));
    let scores = tape.times(scores, each);
    let weights = tape.softmax(scores);
    let values = tape.swapped(values, heads);
    let values = tape.reshaped(values, heads * n);
    let mixed = tape.products(weights, values, heads);
    let mixed = tape.swapped(mixed, n);
    let mixed = tape.linear(mixed, output);
    let fused = tape.sum(mixed, low);
    // 3. The gated perceptron.
    let normal = tape.affine(fused, second_scale, second_shift, EPSILON);
    let wide = tape.linear(normal, inner);
    let wide = tape.convolved(wide, inner_kernel, &around);
    let f = tape.value(wide).columns / 2;
    let gate = tape.columns(wide, 0, f);
    let gate = tape.apply(gate, Function::Gelu);
    let held = tape.columns(wide, f, f);
    let gated = tape.times(held, gate);
    let made = tape.linear(gated, outer);
    Ok(tape.sum(made, fused))
}

/// Hybrid fusion; see the formula at [`HybridFusion`]'s module. Images without pixels give one.
///
/// # Errors
/// [`Error::ShapeMismatch`] when weights do not fit the images, [`Error::NonFinite`] for NaN and infinities,
/// [`Error::InvalidOption`] for heads that do not divide the channels, [`Error::Overflow`] when a sum leaves the range of T.
pub fn hybrid_fusion<T: Element>(operands: &HybridFusion<View<'_, T>>) -> Result<Tensor<T>, Error> {
    let shape = operands.low.shape();
    forward(&operands.operands()?, shape, |tape, leaves| block(tape, leaves, shape))
}

/// Gradients of `Σ upstream·output` of [`hybrid_fusion`] by each operand.
///
/// # Errors
/// As [`hybrid_fusion`], and for an `upstream` that has not the images' shape.
pub fn hybrid_fusion_gradient<T: Element>(
    operands: &HybridFusion<View<'_, T>>,
    upstream: View<'_, T>,
) -> Result<HybridFusion<Tensor<T>>, Error> {
    let shape = operands.low.shape();
    let run = |tape: &mut Tape<T>, leaves: &[Var]| block(tape, leaves, shape);
    backward(&operands.operands()?, shape, upstream, run).map(HybridFusion::from_array)
}
