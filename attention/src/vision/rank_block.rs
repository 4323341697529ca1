//! The block of RAVLT: a convolution for positions, rank-augmented linear attention (or softmax attention) with a local term and a
//! gate, and a perceptron with a convolution inside.
//!
//! ```text
//! X: n×c, pixels in rows      X₁ = X + X ∗ D + d
//! [Q K V G] = (γ₁ ⊙ LN(X₁) + β₁)·W_pᵀ + b_p      L = V ∗ E + e      X₂ = X₁ + ((A(Q, K, V) + L) ⊙ G)·W_oᵀ + b_o
//! t = gelu((γ₂ ⊙ LN(X₂) + β₂)·W_iᵀ + b_i)                            Y = X₂ + (t + t ∗ S + s)·W_eᵀ + b_e
//!
//! linear    A = rank_augmented (heads of c/heads channels, rotary map of the plane, τ = 1/√(c/heads))
//! softmax   A = softmax(τ·R(Q)·R(K)ᵀ)·V in each head, R the same rotary map
//! ```
//! ∗ is a kernel for each channel, of 3×3 (D, S) or 5×5 (E), zeros beyond the image; LN runs over the channels of a pixel,
//! ε = 10⁻⁶. The network has linear blocks in its early stages and softmax blocks in its last ones; a scale of its layers, where it
//! has one, goes into W_o, b_o, W_e and b_e, its drop path is 1 when testing.
//!
//! Cost: `2·n·c·(5·c + 2·f + 2·c/heads)` flops forward of the linear block, `4·n²·c` in place of the last term of the softmax one;
//! memory of order `n·(c + f)`, no n×n matrix.
//!
//! Source: Fan, Huang, He, *Breaking the low-rank dilemma of linear attention*, CVPR 2025, arXiv 2411.07635, section 3.4 and figure 4,
//! and the authors' code (qhfan/RALA); `f = 3·c` there.

use super::operands::operands;
use super::operation::{Function, Heads, Rows};
use super::tape::{Tape, Var};
use super::{Operand, backward, divides, forward};
use crate::{Element, Error, Tensor, View};

operands! {
    /// Operands of [`rank_block`] (`X` a view) or their gradients (`X` a tensor).
    RankBlock {
        /// X: `[batch, height, width, c]`.
        image,
        /// D: `[c, 3, 3, 1]`.
        place,
        /// d: `[1, 1, 1, c]`.
        place_bias,
        /// γ₁: `[1, 1, 1, c]`.
        first_scale,
        /// β₁: `[1, 1, 1, c]`.
        first_shift,
        /// W_p: `[1, 1, 4·c, c]`: queries, keys, values, gates.
        projection,
        /// b_p: `[1, 1, 1, 4·c]`.
        projection_bias,
        /// E: `[c, 5, 5, 1]`.
        local,
        /// e: `[1, 1, 1, c]`.
        local_bias,
        /// W_o: `[1, 1, c, c]`.
        output,
        /// b_o: `[1, 1, 1, c]`.
        output_bias,
        /// γ₂: `[1, 1, 1, c]`.
        second_scale,
        /// β₂: `[1, 1, 1, c]`.
        second_shift,
        /// W_i: `[1, 1, f, c]`.
        inner,
        /// b_i: `[1, 1, 1, f]`.
        inner_bias,
        /// S: `[f, 3, 3, 1]`.
        near,
        /// s: `[1, 1, 1, f]`.
        near_bias,
        /// W_e: `[1, 1, c, f]`.
        outer,
        /// b_e: `[1, 1, 1, c]`.
        outer_bias,
    }
}

/// Options of [`rank_block`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RankBlockOptions {
    /// Heads; c/heads is a multiple of 4 and at least 8.
    pub heads: usize,
    /// Softmax attention in place of the linear one.
    pub softmax: bool,
}

impl<'a, T: Element> RankBlock<View<'a, T>> {
    fn operands(&self, options: &RankBlockOptions) -> Result<[Operand<'a, T>; 19], Error> {
        let (image, f) = (self.image.shape(), self.inner.shape()[2]);
        let (c, heads) = (image[3], options.heads);
        if heads == 0 {
            return Err(Error::InvalidOption { what: "heads", requirement: "at least 1", found: 0.0 });
        }
        divides("heads", heads, c)?;
        let dim = c / heads;
        if c > 0 && (dim < 8 || !dim.is_multiple_of(4)) {
            let requirement = "with a rotary map a multiple of 4, at least 8";
            return Err(Error::InvalidOption { what: "head_dim", requirement, found: dim as f64 });
        }
        let four = c.checked_mul(4).ok_or(Error::TooLarge { what: "the projection" })?;
        let (row, inner) = ([1, 1, 1, c], [1, 1, 1, f]);
        let shapes = [
            image,
            [c, 3, 3, 1],
            row,
            row,
            row,
            [1, 1, four, c],
            [1, 1, 1, four],
            [c, 5, 5, 1],
            row,
            [1, 1, c, c],
            row,
            row,
            row,
            [1, 1, f, c],
            inner,
            [f, 3, 3, 1],
            inner,
            [1, 1, c, f],
            row,
        ];
        Ok(self.named(1, shapes))
    }
}

/// ε of both normalizations.
const EPSILON: f64 = 1e-6;

fn block<T: Element>(
    tape: &mut Tape<T>,
    leaves: &[Var],
    [_, height, width, c]: [usize; 4],
    options: &RankBlockOptions,
) -> Result<Var, Error> {
    let &[
        image,
        place,
        place_bias,
        first_scale,
        first_shift,
        projection,
        projection_bias,
        local,
        local_bias,
        output,
        output_bias,
        second_scale,
        second_shift,
        inner,
        inner_bias,
        near,
        near_bias,
        outer,
        outer_bias,
    ] = leaves
    else {
        return Err(Error::TooLarge { what: "the list of operands" });
    };
    let plane = [height, width];
    let around = Rows::around(plane, [3, 3]);
    let placed = tape.convolved(image, place, &around);
    let placed = tape.sum(placed, place_bias);
    let x = tape.sum(placed, image);

    let normal = tape.affine(x, first_scale, first_shift, EPSILON);
    let all = tape.layer(normal, projection, projection_bias);
    let [query, key, value, gate] = [0, 1, 2, 3].map(|part| tape.columns(all, part * c, c));
    let close = tape.convolved(value, local, &Rows::around(plane, [5, 5]));
    let close = tape.sum(close, local_bias);
    let seen = if options.softmax {
        let [query, key] = [query, key].map(|x| tape.turned(x, options.heads, width));
        let scale = 1.0 / num_traits::Float::sqrt((c / options.heads) as f64);
        let how = Heads { windows: 1, heads: options.heads, scale, bias: None, mask: None };
        let seen = tape.heads([query, key, value], how)?;
        let both = tape.sum(seen, close);
        tape.times(both, gate)
    } else {
        tape.rank_augmented([query, key, value, close, gate], options.heads, plane)?
    };
    let seen = tape.layer(seen, output, output_bias);
    let x = tape.sum(seen, x);

    let normal = tape.affine(x, second_scale, second_shift, EPSILON);
    let wide = tape.layer(normal, inner, inner_bias);
    let wide = tape.apply(wide, Function::Gelu);
    let around_it = tape.convolved(wide, near, &around);
    let around_it = tape.sum(around_it, near_bias);
    let wide = tape.sum(around_it, wide);
    let made = tape.layer(wide, outer, outer_bias);
    Ok(tape.sum(made, x))
}

/// The block; see the formula at [`RankBlock`]'s module. An image without pixels gives one.
///
/// # Errors
/// [`Error::ShapeMismatch`] when weights do not fit the image, [`Error::NonFinite`] for NaN and infinities,
/// [`Error::InvalidOption`] for heads that do not divide the channels or leave a head that cannot be turned, [`Error::Overflow`]
/// when a sum leaves the range of T.
pub fn rank_block<T: Element>(
    operands: &RankBlock<View<'_, T>>,
    options: &RankBlockOptions,
) -> Result<Tensor<T>, Error> {
    let shape = operands.image.shape();
    forward(&operands.operands(options)?, shape, |tape, leaves| block(tape, leaves, shape, options))
}

/// Gradients of `Σ upstream·output` of [`rank_block`] by each operand.
///
/// # Errors
/// As [`rank_block`], and for an `upstream` that has not the image's shape.
pub fn rank_block_gradient<T: Element>(
    operands: &RankBlock<View<'_, T>>,
    options: &RankBlockOptions,
    upstream: View<'_, T>,
) -> Result<RankBlock<Tensor<T>>, Error> {
    let shape = operands.image.shape();
    let run = |tape: &mut Tape<T>, leaves: &[Var]| block(tape, leaves, shape, options);
    backward(&operands.operands(options)?, shape, upstream, run).map(RankBlock::from_array)
}
