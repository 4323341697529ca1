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

use super::tape::{Tape, Var};
use super::{Operand, backward, forward};
use crate::{Element, Error, Tensor, View};

/// Operands of [`position`] (`X` a view) or their gradients (`X` a tensor).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Position<X> {
    /// X: `[batch, height, width, c]`.
    pub image: X,
    /// W_b: `[1, 1, m, c]`.
    pub query: X,
    /// b: `[1, 1, 1, m]`.
    pub query_bias: X,
    /// W_c: `[1, 1, m, c]`.
    pub key: X,
    /// b': `[1, 1, 1, m]`.
    pub key_bias: X,
    /// W_d: `[1, 1, c, c]`.
    pub value: X,
    /// b″: `[1, 1, 1, c]`.
    pub value_bias: X,
    /// α: `[1, 1, 1, 1]`.
    pub strength: X,
}

impl<'a, T: Element> Position<View<'a, T>> {
    fn operands(&self) -> Result<[Operand<'a, T>; 8], Error> {
        let (image, m) = (self.image.shape(), self.query.shape()[2]);
        let c = image[3];
        if m == 0 {
            let requirement = "at least 1";
            return Err(Error::InvalidOption { what: "query channels", requirement, found: 0.0 });
        }
        let operand = Operand::weight;
        Ok([
            Operand::image("image", self.image, image),
            operand("query", self.query, [1, 1, m, c]),
            operand("query bias", self.query_bias, [1, 1, 1, m]),
            operand("key", self.key, [1, 1, m, c]),
            operand("key bias", self.key_bias, [1, 1, 1, m]),
            operand("value", self.value, [1, 1, c, c]),
            operand("value bias", self.value_bias, [1, 1, 1, c]),
            operand("strength", self.strength, [1, 1, 1, 1]),
        ])
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
    let [image, query, query_bias, key, key_bias, value, value_bias, strength] =
        backward(&operands.operands()?, operands.image.shape(), upstream, block)?;
    Ok(Position { image, query, query_bias, key, key_bias, value, value_bias, strength })
}
