//! High-frequency enhancement: a residual of what a 3×3 kernel and a local maximum see.
//!
//! ```text
//! X = [X₁ X₂], halves of the c channels     l = gelu(X₁ ∗ K + k)     g = gelu(max₃ₓ₃(X₂)·Pᵀ + p)     Y = X + [l g]·Oᵀ + o
//! ```
//! K reaches 3×3 pixels, with zeros beyond the image; the maximum takes the pixels inside only. With O and o zero it is the
//! identity. Cost: `7·n·c²` flops for n pixels, forward.
//!
//! Source: Li et al., *Feature Modulation Transformer* (CRAFT), ICCV 2023, arXiv 2308.05022, its HFERB.

use super::operands::operands;
use super::operation::{Function, Rows};
use super::tape::{Tape, Var};
use super::{Operand, backward, divides, forward};
use crate::{Element, Error, Tensor, View};

operands! {
    /// Operands of [`high_frequency`] (`X` a view) or their gradients (`X` a tensor).
    HighFrequency {
        /// X: `[batch, height, width, c]`, c even.
        image,
        /// K: `[c/2, 3, 3, c/2]`.
        local,
        /// k: `[1, 1, 1, c/2]`.
        local_bias,
        /// P: `[1, 1, c/2, c/2]`.
        peak,
        /// p: `[1, 1, 1, c/2]`.
        peak_bias,
        /// O: `[1, 1, c, c]`.
        output,
        /// o: `[1, 1, 1, c]`.
        output_bias,
    }
}

impl<'a, T: Element> HighFrequency<View<'a, T>> {
    fn operands(&self) -> Result<[Operand<'a, T>; 7], Error> {
        let image = self.image.shape();
        let c = image[3];
        divides("halves", 2, c)?;
        let (half, row) = (c / 2, [1, 1, 1, c / 2]);
        let shapes = [image, [half, 3, 3, half], row, [1, 1, half, half], row, [1, 1, c, c], [1, 1, 1, c]];
        Ok(self.named(1, shapes))
    }
}

fn block<T: Element>(
    tape: &mut Tape<T>,
    leaves: &[Var],
    [_, height, width, c]: [usize; 4],
) -> Result<Var, Error> {
    let &[x, local, local_bias, peak, peak_bias, output, output_bias] = leaves else {
        return Err(Error::TooLarge { what: "the list of operands" });
    };
    let around = Rows::around([height, width], [3, 3]);
    let near = tape.columns(x, 0, c / 2);
    let near = tape.convolved(near, local, &around);
    let near = tape.sum(near, local_bias);
    let near = tape.apply(near, Function::Gelu);
    let high = tape.columns(x, c / 2, c / 2);
    let high = tape.maximum(high, &around);
    let high = tape.layer(high, peak, peak_bias);
    let high = tape.apply(high, Function::Gelu);
    let both = tape.joined([near, high].into());
    let mixed = tape.layer(both, output, output_bias);
    Ok(tape.sum(mixed, x))
}

/// High-frequency enhancement; see the formula at [`HighFrequency`]'s module. An image without pixels gives one. Where two
/// pixels share a maximum, the gradient goes to the first of them.
///
/// # Errors
/// [`Error::ShapeMismatch`] when weights do not fit the image, [`Error::NonFinite`] for NaN and infinities,
/// [`Error::InvalidOption`] for an odd number of channels, [`Error::Overflow`] when a sum leaves the range of T.
pub fn high_frequency<T: Element>(operands: &HighFrequency<View<'_, T>>) -> Result<Tensor<T>, Error> {
    let shape = operands.image.shape();
    forward(&operands.operands()?, shape, |tape, leaves| block(tape, leaves, shape))
}

/// Gradients of `Σ upstream·output` of [`high_frequency`] by each operand.
///
/// # Errors
/// As [`high_frequency`], and for an `upstream` that has not the image's shape.
pub fn high_frequency_gradient<T: Element>(
    operands: &HighFrequency<View<'_, T>>,
    upstream: View<'_, T>,
) -> Result<HighFrequency<Tensor<T>>, Error> {
    let shape = operands.image.shape();
    let run = |tape: &mut Tape<T>, leaves: &[Var]| block(tape, leaves, shape);
    backward(&operands.operands()?, shape, upstream, run).map(HighFrequency::from_array)
}
