//! Efficient local attention: a gate for each row and one for each column of an image, from strips and a short convolution.
//!
//! ```text
//! X: h×w pixels of c channels        z[i] = mean_j X[i, j]        u[j] = mean_i X[i, j]
//! a = σ(γ ⊙ GN(z ∗ K) + β)           b = σ(γ ⊙ GN(u ∗ K) + β)     Y[i, j] = X[i, j] ⊙ a[i] ⊙ b[j]
//! ```
//! ∗ is a convolution along the strip with zeros beyond its ends, K of `k` taps and groups of `c/groups` channels; GN takes
//! mean and variance over the strip and `c/norm_groups` channels, so gates depend on the image's size. Both strips share K, γ
//! and β: transposing the image transposes the result. `|Y| ≤ |X|`.
//!
//! | version of the source | taps | groups | groups of the normalization |
//! |---|---|---|---|
//! | T | 5 | c | 32 |
//! | B | 7 | c | 16 |
//! | S | 5 | c/8 | 16 |
//! | L | 7 | c/8 | 16 |
//!
//! Cost: `4·h·w·c + 2·k·c·(c/groups)·(h + w)` flops forward.
//!
//! Source: Xu, Wan, *ELA: Efficient Local Attention for Deep Convolutional Neural Networks*, arXiv 2403.01123. Its formula
//! writes two functions F_h and F_w; known implementations share one, as here. ε of the normalization is 10⁻⁵.

use super::operands::operands;
use super::operation::Rows;
use super::tape::{Tape, Var};
use super::{Operand, backward, divides, forward};
use crate::{Element, Error, Tensor, View};

operands! {
    /// Operands of [`ela`] (`X` a view) or their gradients (`X` a tensor).
    Ela {
        /// X: `[batch, height, width, c]`.
        image,
        /// K: `[c, 1, k, c/groups]`, k odd.
        kernel,
        /// γ: `[1, 1, 1, c]`.
        norm_scale,
        /// β: `[1, 1, 1, c]`.
        norm_shift,
    }
}

const EPSILON: f64 = 1e-5;

impl<'a, T: Element> Ela<View<'a, T>> {
    fn operands(&self, norm_groups: usize) -> Result<[Operand<'a, T>; 4], Error> {
        let (image, [_, _, taps, depth]) = (self.image.shape(), self.kernel.shape());
        let c = image[3];
        if taps.is_multiple_of(2) {
            return Err(Error::InvalidOption { what: "taps", requirement: "odd", found: taps as f64 });
        }
        divides("channels of a kernel", depth, c)?;
        divides("norm_groups", norm_groups, c)?;
        let row = [1, 1, 1, c];
        Ok(self.named(1, [image, [c, 1, taps, depth], row, row]))
    }
}

fn block<T: Element>(
    tape: &mut Tape<T>,
    leaves: &[Var],
    [height, width, taps, norm_groups]: [usize; 4],
) -> Result<Var, Error> {
    let &[x, kernel, scale, shift] = leaves else {
        return Err(Error::TooLarge { what: "the list of operands" });
    };
    let gate = |tape: &mut Tape<T>, lines: Var, len: usize| {
        let strip = tape.means(lines, len);
        let mixed = tape.convolved(strip, kernel, &Rows::around([1, len], [1, taps]));
        let groups = tape.swapped(mixed, norm_groups);
        let normal = tape.normalize(groups, EPSILON);
        let normal = tape.swapped(normal, len);
        let scaled = tape.times(normal, scale);
        let shifted = tape.sum(scaled, shift);
        tape.sigmoid(shifted)
    };
    let by_row = gate(tape, x, height);
    let transposed = (0..height * width).map(|i| i % height * width + i / height);
    let transposed = tape.gather(x, Rows::each(transposed));
    let by_column = gate(tape, transposed, width);
    let by_row = tape.gather(by_row, Rows::each((0..height * width).map(|i| i / width)));
    let half = tape.times(x, by_row);
    // The gates of the columns repeat from row to row.
    Ok(tape.times(half, by_column))
}

/// Efficient local attention; see the formula at [`Ela`]'s module. An image without pixels gives one.
///
/// # Errors
/// [`Error::ShapeMismatch`] when weights do not fit the image, [`Error::NonFinite`] for NaN and infinities,
/// [`Error::InvalidOption`] for an even number of taps, for a kernel's channels or `norm_groups` that do not divide the
/// channels, [`Error::Overflow`] when a sum leaves the range of T.
pub fn ela<T: Element>(operands: &Ela<View<'_, T>>, norm_groups: usize) -> Result<Tensor<T>, Error> {
    let ([_, height, width, _], taps) = (operands.image.shape(), operands.kernel.shape()[2]);
    let run = |tape: &mut Tape<T>, leaves: &[Var]| block(tape, leaves, [height, width, taps, norm_groups]);
    forward(&operands.operands(norm_groups)?, operands.image.shape(), run)
}

/// Gradients of `Σ upstream·output` of [`ela`] by each operand.
///
/// # Errors
/// As [`ela`], and for an `upstream` that has not the image's shape.
pub fn ela_gradient<T: Element>(
    operands: &Ela<View<'_, T>>,
    norm_groups: usize,
    upstream: View<'_, T>,
) -> Result<Ela<Tensor<T>>, Error> {
    let ([_, height, width, _], taps) = (operands.image.shape(), operands.kernel.shape()[2]);
    let run = |tape: &mut Tape<T>, leaves: &[Var]| block(tape, leaves, [height, width, taps, norm_groups]);
    backward(&operands.operands(norm_groups)?, operands.image.shape(), upstream, run).map(Ela::from_array)
}
