//! Position attention: each pixel adds what it sees in all others, times one learned number.
//!
//! ```text
//! X: n×c, pixels in rows     B = X·W_bᵀ + b     C = X·W_cᵀ + b'     D = X·W_dᵀ + b″
//! E = α·softmax(B·Cᵀ)·D + X
//! ```
//! The scores are not divided by a root. The n×n matrix is never made: [`exact`](crate::exact()) does the attention, so its
//! bound of the error holds. With α = 0, where training begins, the module is the identity; reordering pixels reorders the
//! output.
//!
//! Cost: `2·n·c·(2m + c) + 2·n²·(m + c)` flops, m the length of queries (c/8 in the source).
//!
//! Sources: Fu, Liu, Tian, Li, Bao, Fang, Lu, *Dual Attention Network for Scene Segmentation*, CVPR 2019, arXiv 1809.02983,
//! section 3.2; MPU-Net, arXiv 2307.05799, uses it: slices of a volume there are images of a batch here.

use super::operands::operands;
use super::tape::{Tape, Var};
use super::{Operand, backward, forward};
use crate::{Element, Error, Tensor, View};

operands! {
    /// Operands of [`position`] (`X` a view) or their gradients (`X` a tensor).
    Position {
        /// X: `[batch, height, width, c]`.
        image,
        /// W_b: `[1, 1, m, c]`.
        query,
        /// b: `[1, 1, 1, m]`.
        query_bias,
        /// W_c: `[1, 1, m, c]`.
        key,
        /// b': `[1, 1, 1, m]`.
        key_bias,
        /// W_d: `[1, 1, c, c]`.
        value,
        /// b″: `[1, 1, 1, c]`.
        value_bias,
        /// α: `[1, 1, 1, 1]`.
        strength,
    }
}

impl<'a, T: Element> Position<View<'a, T>> {
    fn operands(&self) -> Result<[Operand<'a, T>; 8], Error> {
        let (image, m) = (self.image.shape(), self.query.shape()[2]);
        let c = image[3];
        if m == 0 {
            let requirement = "at least 1";
            return Err(Error::InvalidOption { what: "query channels", requirement, found: 0.0 });
        }
        let (layer, bias) = ([1, 1, m, c], [1, 1, 1, m]);
        Ok(self.named(1, [image, layer, bias, layer, bias, [1, 1, c, c], [1, 1, 1, c], [1; 4]]))
    }
}

fn block<T: Element>(tape: &mut Tape<T>, leaves: &[Var]) -> Result<Var, Error> {
    let &[x, query, query_bias, key, key_bias, value, value_bias, strength] = leaves else {
        return Err(Error::TooLarge { what: "the list of operands" });
    };
    let layers = [(query, query_bias), (key, key_bias), (value, value_bias)].map(|(weight, bias)| {
        let product = tape.linear(x, weight);
        tape.sum(product, bias)
    });
    let seen = tape.attend(layers)?;
    let scaled = tape.times(seen, strength);
    Ok(tape.sum(scaled, x))
}

/// Position attention; see the formula at [`Position`]'s module. An image without pixels gives one.
///
/// # Errors
/// [`Error::ShapeMismatch`] when weights do not fit the image, [`Error::NonFinite`] for NaN and infinities,
/// [`Error::InvalidOption`] for queries of length 0, [`Error::Overflow`] when scores leave the range of T.
pub fn position<T: Element>(operands: &Position<View<'_, T>>) -> Result<Tensor<T>, Error> {
    forward(&operands.operands()?, operands.image.shape(), block)
}

/// Gradients of `Σ upstream·output` of [`position`] by each operand.
///
/// # Errors
/// As [`position`], and for an `upstream` that has not the image's shape.
pub fn position_gradient<T: Element>(
    operands: &Position<View<'_, T>>,
    upstream: View<'_, T>,
) -> Result<Position<Tensor<T>>, Error> {
    backward(&operands.operands()?, operands.image.shape(), upstream, block).map(Position::from_array)
}
