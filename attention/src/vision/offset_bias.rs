//! A table of biases of attention, made by a small perceptron from the offset of two pixels.
//!
//! ```text
//! o = (y, x), y in -(H - 1) … H - 1, x in -(W - 1) … W - 1     t₀ = A₀·o + a₀     tᵢ = Aᵢ·max(0, γᵢ ⊙ LN(tᵢ₋₁) + βᵢ) + aᵢ
//! table[head, (y + H - 1)·(2·W - 1) + x + W - 1] = t₃[head]
//! ```
//! LN normalizes over the p entries of an offset, ε = 10⁻⁵. Cost: `(2·H - 1)·(2·W - 1)·p·(4·p + 2·heads + 4)` flops.
//!
//! Source: Wang et al., *CrossFormer*, ICLR 2022, arXiv 2108.00154, section 3.3; CRAFT, arXiv 2308.05022, uses it with p = c/32
//! (c the channels of both halves) and no residual.

use super::operands::operands;
use super::operation::Function;
use super::rectangle::table_len;
use super::tape::{Matrix, Tape, Var};
use super::{Operand, backward, forward};
use crate::{Element, Error, Tensor, View};

operands! {
    /// Operands of [`offset_bias`] (`X` a view) or their gradients (`X` a tensor).
    OffsetBias {
        /// A₀: `[1, 1, p, 2]`.
        first,
        /// a₀: `[1, 1, 1, p]`.
        first_bias,
        /// γ₁: `[1, 1, 1, p]`.
        second_scale,
        /// β₁: `[1, 1, 1, p]`.
        second_shift,
        /// A₁: `[1, 1, p, p]`.
        second,
        /// a₁: `[1, 1, 1, p]`.
        second_bias,
        /// γ₂: `[1, 1, 1, p]`.
        third_scale,
        /// β₂: `[1, 1, 1, p]`.
        third_shift,
        /// A₂: `[1, 1, p, p]`.
        third,
        /// a₂: `[1, 1, 1, p]`.
        third_bias,
        /// γ₃: `[1, 1, 1, p]`.
        last_scale,
        /// β₃: `[1, 1, 1, p]`.
        last_shift,
        /// A₃: `[1, 1, heads, p]`.
        last,
        /// a₃: `[1, 1, 1, heads]`.
        last_bias,
    }
}

const EPSILON: f64 = 1e-5;

impl<'a, T: Element> OffsetBias<View<'a, T>> {
    fn operands(&self) -> Result<[Operand<'a, T>; 14], Error> {
        let (p, heads) = (self.first.shape()[2], self.last.shape()[2]);
        if p == 0 {
            return Err(Error::InvalidOption {
                what: "inner channels",
                requirement: "at least 1",
                found: 0.0,
            });
        }
        let (row, square) = ([1, 1, 1, p], [1, 1, p, p]);
        let (up, down) = ([1, 1, heads, p], [1, 1, 1, heads]);
        let first = [1, 1, p, 2];
        Ok(self.named(0, [first, row, row, row, square, row, row, row, square, row, row, row, up, down]))
    }

    fn shape(&self, window: [usize; 2]) -> Result<[usize; 4], Error> {
        Ok([1, 1, self.last.shape()[2], table_len(window)?])
    }
}

fn block<T: Element>(tape: &mut Tape<T>, leaves: &[Var], [down, across]: [usize; 2]) -> Result<Var, Error> {
    let &[first, first_bias, ref layers @ ..] = leaves else {
        return Err(Error::TooLarge { what: "the list of operands" });
    };
    let centred = |i: usize, side: usize| T::from_f64(i as f64 - (side as f64 - 1.0));
    let offsets = (0..2 * down - 1).flat_map(|i| (0..2 * across - 1).map(move |j| (i, j)));
    let data: alloc::vec::Vec<T> =
        offsets.flat_map(|(i, j)| [centred(i, down), centred(j, across)]).collect();
    let offsets = tape.leaf(Matrix { rows: data.len() / 2, columns: 2, data });
    let mut last = tape.linear(offsets, first);
    last = tape.sum(last, first_bias);
    for layer in layers.chunks_exact(4) {
        let &[scale, shift, weight, bias] = layer else { continue };
        last = tape.normalize(last, EPSILON);
        last = tape.times(last, scale);
        last = tape.sum(last, shift);
        last = tape.apply(last, Function::Rectified(0.0));
        last = tape.linear(last, weight);
        last = tape.sum(last, bias);
    }
    let heads = tape.value(last).columns;
    Ok(tape.swapped(last, heads))
}

/// The table `[1, 1, heads, (2·H - 1)·(2·W - 1)]` of a window of H×W pixels; see the formula at [`OffsetBias`]'s module.
///
/// # Errors
/// [`Error::ShapeMismatch`] when weights do not fit each other, [`Error::NonFinite`] for NaN and infinities,
/// [`Error::InvalidOption`] for p = 0 or an empty window, [`Error::Overflow`] when a sum leaves the range of T.
pub fn offset_bias<T: Element>(
    operands: &OffsetBias<View<'_, T>>,
    window: [usize; 2],
) -> Result<Tensor<T>, Error> {
    let shape = operands.shape(window)?;
    forward(&operands.operands()?, shape, |tape, leaves| block(tape, leaves, window))
}

/// Gradients of `Σ upstream·table` of [`offset_bias`] by each operand.
///
/// # Errors
/// As [`offset_bias`], and for an `upstream` that has not the table's shape.
pub fn offset_bias_gradient<T: Element>(
    operands: &OffsetBias<View<'_, T>>,
    window: [usize; 2],
    upstream: View<'_, T>,
) -> Result<OffsetBias<Tensor<T>>, Error> {
    let shape = operands.shape(window)?;
    let run = |tape: &mut Tape<T>, leaves: &[Var]| block(tape, leaves, window);
    backward(&operands.operands()?, shape, upstream, run).map(OffsetBias::from_array)
}
