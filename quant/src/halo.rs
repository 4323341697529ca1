//! A linear layer whose three products run on few bits: forward, gradient of the inputs, gradient of the weight.
//!
//! ```text
//! X: [T, n] inputs,  W: [m, n],  E = ∂L/∂Y: [T, m],   Q a quantizer with one scale,   H, H_T Hadamard rotations
//!              Y = X·Wᵀ             ∂X = E·W                       ∂W = Eᵀ·X
//! level 0      Q(X)·Q(W)ᵀ           Q(E)·Q(W)                      Q(E)ᵀ·Q(X)
//! level 1      Q(XH)·Q(WH)ᵀ         Q(E)·Q(W)                      Q(E)ᵀ·Q(X)
//! level 2      Q(XH)·Q(WH)ᵀ         H_T·(Q(H_Tᵀ·E)·Q(W))           Q(E)ᵀ·Q(X)
//! rotated                           the same with Q(WH), then ·Hᵀ  (Q(E)ᵀ·Q(XH))·Hᵀ
//! ```
//! Outliers of inputs and weights sit in columns, so the forward product rotates features; outliers of errors sit in
//! tokens, so level 2 rotates those. `H·Hᵀ = I`, hence with Q the identity every level is the exact layer. With
//! [`Options::rotated`] the backward products take what the forward one quantized, so that nothing else needs to be
//! kept or sent.
//!
//! One scale for a whole operand (absmax); products of the decoded values in f32. Cost that of the three products, and
//! O((T + m)·n·log n + T·m·log T) for rotations.
//!
//! Source: HALO, arXiv 2501.02625, section 3 and its released code (levels 0, 1, 2; FP8 E4M3 wants level 1, INT8 and
//! FP6 E3M2 level 2). Token counts and widths of any size: see [`Hadamard`] for those without a whole rotation.

use crate::{Activation, Code, Error, Group, rows};
use alloc::{vec, vec::Vec};
use rankbit_linalg::Hadamard;
use rankbit_linalg::faer::{Accum, Mat, MatRef, Par, linalg::matmul::matmul};

/// Which products are rotated.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum Level {
    /// None.
    Zero,
    /// The forward product, along features.
    One,
    /// Also the gradient of the inputs, along tokens.
    Two,
}

/// How a layer runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Which products are rotated.
    pub level: Level,
    /// What operands become: signed integers of 2 to 8 bits or small floats; `None` leaves them as they are.
    pub code: Option<Code>,
    /// Whether the backward products take the operands that the forward one rotated; without a rotation (level 0) no
    /// difference.
    pub rotated: bool,
}

/// What [`backward`] returns.
#[derive(Clone, PartialEq, Debug)]
pub struct Gradients {
    /// `∂X: [T, n]`.
    pub input: Mat<f32>,
    /// `∂W: [m, n]`.
    pub weight: Mat<f32>,
}

/// `Y: [T, m]` for `x: [T, n]` and `weight: [m, n]`; see the [module](self).
///
/// # Errors
/// [`Error::ShapeMismatch`] when the widths differ or one is 0; [`Error::InvalidActivation`] for a code that operands
/// cannot have; [`Error::ActivationNonFinite`] for a NaN or infinity in an operand that is quantized.
pub fn forward(options: &Options, x: MatRef<'_, f32>, weight: MatRef<'_, f32>) -> Result<Mat<f32>, Error> {
    let layer = Layer::new(options, x, weight)?;
    Ok(product(layer.forward_operand(x)?.as_ref(), layer.forward_operand(weight)?.as_ref().transpose()))
}

/// `∂X` and `∂W` for `upstream = ∂L/∂Y: [T, m]`; see the [module](self).
///
/// # Errors
/// As [`forward`], and [`Error::ShapeMismatch`] for an `upstream` of another shape.
pub fn backward(
    options: &Options,
    x: MatRef<'_, f32>,
    weight: MatRef<'_, f32>,
    upstream: MatRef<'_, f32>,
) -> Result<Gradients, Error> {
    let layer = Layer::new(options, x, weight)?;
    let (expected, found) = ((x.nrows(), weight.nrows()), (upstream.nrows(), upstream.ncols()));
    if expected != found {
        return Err(Error::ShapeMismatch { what: "upstream gradient", expected, found });
    }
    let rotates = options.rotated && options.level >= Level::One;
    let operand = |a| if rotates { layer.forward_operand(a) } else { layer.quantize(a) };
    let turn_back = |mut gradient: Mat<f32>| -> Result<Mat<f32>, Error> {
        if rotates {
            layer.features.inverse(gradient.as_mut())?;
        }
        Ok(gradient)
    };
    let errors = layer.quantize(upstream)?;
    let weight_gradient = turn_back(product(errors.as_ref().transpose(), operand(x)?.as_ref()))?;
    let mut input = if options.level == Level::Two {
        let tokens = Hadamard::new(x.nrows());
        let mut turned = upstream.to_owned();
        tokens.forward(turned.as_mut().transpose_mut())?;
        let mut input = product(layer.quantize(turned.as_ref())?.as_ref(), operand(weight)?.as_ref());
        tokens.inverse(input.as_mut().transpose_mut())?;
        input
    } else {
        product(errors.as_ref(), operand(weight)?.as_ref())
    };
    input = turn_back(input)?;
    Ok(Gradients { input, weight: weight_gradient })
}

/// What the products of a layer share.
struct Layer {
    level: Level,
    policy: Activation,
    features: Hadamard,
}

impl Layer {
    fn new(options: &Options, x: MatRef<'_, f32>, weight: MatRef<'_, f32>) -> Result<Self, Error> {
        let features = x.ncols();
        if weight.ncols() != features || features == 0 {
            let (expected, found) = ((weight.nrows(), features.max(1)), (weight.nrows(), weight.ncols()));
            return Err(Error::ShapeMismatch { what: "weight", expected, found });
        }
        let policy = match options.code {
            None => Activation::Float,
            Some(code) => Activation::Dynamic { code, group: Group::Tensor, outliers: None },
        };
        policy.check()?;
        Ok(Self { level: options.level, policy, features: Hadamard::new(features) })
    }

    /// `Q(A·H)`, at level 0 `Q(A)`.
    fn forward_operand(&self, a: MatRef<'_, f32>) -> Result<Mat<f32>, Error> {
        if self.level == Level::Zero {
            return self.quantize(a);
        }
        let mut rotated = a.to_owned();
        self.features.forward(rotated.as_mut())?;
        self.quantize(rotated.as_ref())
    }

    /// `Q(A)`, decoded.
    fn quantize(&self, a: MatRef<'_, f32>) -> Result<Mat<f32>, Error> {
        let shape = (a.nrows(), a.ncols());
        let (mut values, mut buffer) = (Vec::with_capacity(shape.0 * shape.1), Vec::new());
        for row in 0..shape.0 {
            values.extend_from_slice(rows::row(a, row, &mut buffer));
        }
        let Some(quantized) = self.policy.quantize(&values, shape)? else { return Ok(a.to_owned()) };
        let (mut decoded, mut row_values) = (Mat::zeros(shape.0, shape.1), vec![0.0; shape.1]);
        for row in 0..shape.0 {
            quantized.row_into(row, &mut row_values)?;
            for (entry, &value) in decoded.row_mut(row).iter_mut().zip(&row_values) {
                *entry = value;
            }
        }
        Ok(decoded)
    }
}

/// `A·B` on this thread, so that the result does not depend on their number.
fn product(a: MatRef<'_, f32>, b: MatRef<'_, f32>) -> Mat<f32> {
    let mut c = Mat::zeros(a.nrows(), b.ncols());
    matmul(c.as_mut(), Accum::Replace, a, b, 1.0, Par::Seq);
    c
}
