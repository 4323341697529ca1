//! Multi-reference attention: each pixel weighs what several aligned reference images hold at its place, and filters it.
//!
//! ```text
//! F: n×m target, R_t: n×r references, t = 1 … T     ∗ 3×3 kernels with zeros beyond the image, λ: x ↦ max(x, x/10)
//!
//! u = prelu(F·W_qᵀ + b_q)/√r     e_t = prelu(R_t ∗ K + k)     w = softmax_t(u·e_t)     M = Σ_t w_t ⊙ (R_t ∗ V + v)    (n×2r)
//! h = λ([F M]·Gᵀ + g)            a = σ(λ(h ∗ A₁ + a₁) ∗ A₂ + a₂)     s = λ(h ∗ S₁ + s₁) ∗ S₂ + s₂
//! Y = λ([F, 2·a ⊙ M + s]·Oᵀ + o)
//! ```
//! Weights are those of one pixel over the references: their order does not matter and equal references act as one. Images are
//! mirrored to sides that are multiples of 4 and cut back.
//!
//! Cost: `54·n·T·r² + 288·n·r²` flops and the layers of 1×1, forward; memory of order `n·T·r`.
//!
//! Source: Zhang et al., *LMR: A Large-Scale Multi-Reference Dataset for Reference-based Super-Resolution*, ICCV 2023,
//! arXiv 2303.04970 (MRefSR). The search for matches and the deformable alignment before it are the caller's.

use alloc::{vec, vec::Vec};

use super::operands::operands;
use super::operation::{Function, Rows, mirrored};
use super::tape::{Matrix, Tape, Var};
use super::{Operand, backward, forward};
use crate::{Element, Error, Tensor, View};

operands! {
    /// Operands of [`references`] (`X` a view) or their gradients (`X` a tensor).
    References {
        /// F: `[batch, height, width, m]`.
        image,
        /// R_t, one below the other: `[batch, T·height, width, r]`.
        references,
        /// W_q: `[1, 1, r, m]`.
        query,
        /// b_q: `[1, 1, 1, r]`.
        query_bias,
        /// Slope of the query's negative part: `[1, 1, 1, 1]`.
        query_slope,
        /// K: `[r, 3, 3, r]`.
        key,
        /// k: `[1, 1, 1, r]`.
        key_bias,
        /// Slope of the key's negative part: `[1, 1, 1, 1]`.
        key_slope,
        /// V: `[2·r, 3, 3, r]`.
        value,
        /// v: `[1, 1, 1, 2·r]`.
        value_bias,
        /// G: `[1, 1, 2·r, m + 2·r]`.
        mix,
        /// g: `[1, 1, 1, 2·r]`.
        mix_bias,
        /// A₁: `[2·r, 3, 3, 2·r]`.
        gate_inner,
        /// a₁: `[1, 1, 1, 2·r]`.
        gate_inner_bias,
        /// A₂: `[2·r, 3, 3, 2·r]`.
        gate,
        /// a₂: `[1, 1, 1, 2·r]`.
        gate_bias,
        /// S₁: `[2·r, 3, 3, 2·r]`.
        shift_inner,
        /// s₁: `[1, 1, 1, 2·r]`.
        shift_inner_bias,
        /// S₂: `[2·r, 3, 3, 2·r]`.
        shift,
        /// s₂: `[1, 1, 1, 2·r]`.
        shift_bias,
        /// O: `[1, 1, m, m + 2·r]`.
        output,
        /// o: `[1, 1, 1, m]`.
        output_bias,
    }
}

const LEAKY: Function = Function::Rectified(0.1);
/// Sides are mirrored to multiples of it.
const MULTIPLE: usize = 4;

impl<'a, T: Element> References<View<'a, T>> {
    fn operands(&self) -> Result<[Operand<'a, T>; 22], Error> {
        let (image, [_, stacked, _, r]) = (self.image.shape(), self.references.shape());
        let [batch, height, width, m] = image;
        if r == 0 || r > isize::MAX as usize / 4 {
            let requirement = "at least 1";
            return Err(Error::InvalidOption { what: "reference channels", requirement, found: r as f64 });
        }
        if height > 0 && (stacked == 0 || !stacked.is_multiple_of(height)) {
            let requirement = "a multiple of the image's height, at least 1";
            return Err(Error::InvalidOption {
                what: "height of the references",
                requirement,
                found: stacked as f64,
            });
        }
        for side in [height, width] {
            if side > 0 && side.next_multiple_of(MULTIPLE) >= 2 * side {
                let requirement = "long enough to be mirrored to a multiple of 4: 3, 4, 5 …";
                return Err(Error::InvalidOption {
                    what: "side of the image",
                    requirement,
                    found: side as f64,
                });
            }
        }
        let twice = 2 * r;
        let both = m.checked_add(twice).ok_or(Error::TooLarge { what: "the channels" })?;
        let (one, row, wide) = ([1, 1, 1, 1], [1, 1, 1, r], [1, 1, 1, twice]);
        let kernel = [twice, 3, 3, twice];
        let inner = [
            [image, [batch, stacked, width, r], [1, 1, r, m], row, one].as_slice(),
            &[[r, 3, 3, r], row, one, [twice, 3, 3, r], wide, [1, 1, twice, both], wide],
            &[kernel, wide, kernel, wide, kernel, wide, kernel, wide, [1, 1, m, both], [1, 1, 1, m]],
        ]
        .concat();
        let shapes = inner.try_into().map_err(|_| Error::TooLarge { what: "the list of operands" })?;
        Ok(self.named(2, shapes))
    }
}

fn block<T: Element>(
    tape: &mut Tape<T>,
    leaves: &[Var],
    [_, height, width, _]: [usize; 4],
) -> Result<Var, Error> {
    let &[
        image,
        stacked,
        query,
        query_bias,
        query_slope,
        key,
        key_bias,
        key_slope,
        value,
        value_bias,
        ref filter @ ..,
    ] = leaves
    else {
        return Err(Error::TooLarge { what: "the list of operands" });
    };
    let (down, across) = (height.next_multiple_of(MULTIPLE), width.next_multiple_of(MULTIPLE));
    let padded = |first: usize| {
        let line = move |i: usize| mirrored(width, across).map(move |j| first + i * width + j);
        Rows::each(mirrored(height, down).flat_map(line))
    };
    let around = Rows::around([down, across], [3, 3]);
    let target = tape.gather(image, padded(0));

    let r = tape.value(stacked).columns;
    let ones = tape.leaf(Matrix { rows: 1, columns: r, data: vec![T::from_f64(1.0); r] });
    let wanted = tape.layer(target, query, query_bias);
    let wanted = tape.prelu(wanted, query_slope);
    let wanted = tape.scaled(wanted, 1.0 / num_traits::Float::sqrt(r as f64));
    let (mut scores, mut held) = (Vec::new(), Vec::new());
    for first in (0..tape.value(stacked).rows).step_by(height * width) {
        let reference = tape.gather(stacked, padded(first));
        let found = tape.convolved(reference, key, &around);
        let found = tape.sum(found, key_bias);
        let found = tape.prelu(found, key_slope);
        let common = tape.times(found, wanted);
        scores.push(tape.linear(common, ones));
        let values = tape.convolved(reference, value, &around);
        held.push(tape.sum(values, value_bias));
    }
    let scores = tape.joined(scores);
    let weights = tape.softmax(scores);
    let mut mixed = None;
    for (t, values) in held.into_iter().enumerate() {
        let weight = tape.columns(weights, t, 1);
        let part = tape.times(values, weight);
        mixed = Some(mixed.map_or(part, |sum| tape.sum(sum, part)));
    }
    let Some(mixed) = mixed else { return Err(Error::TooLarge { what: "the list of references" }) };
    let fused = filtered(tape, target, mixed, filter, &around)?;
    let inside = (0..height).flat_map(|i| (0..width).map(move |j| i * across + j));
    Ok(tape.gather(fused, Rows::each(inside)))
}

/// A gate and a shift for the mixture of references, from it and the target, and the output layer.
fn filtered<T: Element>(
    tape: &mut Tape<T>,
    target: Var,
    mixed: Var,
    filter: &[Var],
    around: &Rows,
) -> Result<Var, Error> {
    let &[mix, mix_bias, ref kernels @ .., output, output_bias] = filter else {
        return Err(Error::TooLarge { what: "the list of operands" });
    };
    let both = tape.joined([target, mixed].into());
    let hidden = tape.layer(both, mix, mix_bias);
    let hidden = tape.apply(hidden, LEAKY);
    let mut found = [hidden; 2];
    for (found, layers) in found.iter_mut().zip(kernels.chunks_exact(4)) {
        let &[inner, inner_bias, outer, outer_bias] = layers else { continue };
        let first = tape.convolved(*found, inner, around);
        let first = tape.sum(first, inner_bias);
        let first = tape.apply(first, LEAKY);
        let second = tape.convolved(first, outer, around);
        *found = tape.sum(second, outer_bias);
    }
    let [gate, shift] = found;
    let gate = tape.sigmoid(gate);
    // Twice the gate: one half at the start leaves the mixture as it is.
    let gate = tape.scaled(gate, 2.0);
    let gated = tape.times(mixed, gate);
    let moved = tape.sum(gated, shift);
    let both = tape.joined([target, moved].into());
    let fused = tape.layer(both, output, output_bias);
    Ok(tape.apply(fused, LEAKY))
}

/// Multi-reference attention; see the formula at [`References`]'s module. An image without pixels gives one.
///
/// # Errors
/// [`Error::ShapeMismatch`] when weights or references do not fit the image, [`Error::NonFinite`] for NaN and infinities,
/// [`Error::InvalidOption`] for references without channels or whose height is no multiple of the image's, and for an
/// image of a side of 1 or 2, which cannot be mirrored to 4, [`Error::Overflow`] when a sum leaves the range of T.
pub fn references<T: Element>(operands: &References<View<'_, T>>) -> Result<Tensor<T>, Error> {
    let shape = operands.image.shape();
    forward(&operands.operands()?, shape, |tape, leaves| block(tape, leaves, shape))
}

/// Gradients of `Σ upstream·output` of [`references`] by each operand.
///
/// # Errors
/// As [`references`], and for an `upstream` that has not the image's shape.
pub fn references_gradient<T: Element>(
    operands: &References<View<'_, T>>,
    upstream: View<'_, T>,
) -> Result<References<Tensor<T>>, Error> {
    let shape = operands.image.shape();
    let run = |tape: &mut Tape<T>, leaves: &[Var]| block(tape, leaves, shape);
    backward(&operands.operands()?, shape, upstream, run).map(References::from_array)
}
