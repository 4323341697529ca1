//! Integer layers from float ones.

use super::Activation;
use super::activation::rne;
use super::scale::{named, ratios};
use crate::Error;
use crate::dyadic::integer::{
    Average, AveragePool, Conv2d, IntFormat, Linear, Requantize, Residual, Shape, Window,
};
use crate::float::narrow;
use crate::{Code, FloatFormat, Quantized, pack};
use alloc::{vec, vec::Vec};

/// A layer and what one unit of each output channel's sums stands for.
#[derive(Clone, PartialEq, Debug)]
pub struct Calibrated<L> {
    /// The integer layer.
    pub layer: L,
    /// `S_x·S_w`, per output channel.
    pub scales: Vec<f32>,
}

/// A linear layer `[out, in]` with weights of `bits` bits; without a bias pass an empty one.
///
/// # Errors
/// [`Error::InvalidLayer`] unless `bits` is 2 to 8; [`Error::ElementCount`], [`Error::TooLarge`] when the lengths do not
/// fit the shape; [`Error::StoredNonFinite`] for a weight or bias that is NaN or infinite; [`Error::DyadicScale`] when
/// weights are so small that a scale is subnormal; [`Error::AccumulatorOverflow`] for a bias beyond f32's range of
/// units; those of [`Linear::new`].
pub fn linear(
    (out, features): (usize, usize),
    weight: &[f32],
    bias: &[f32],
    bits: u8,
    input: Activation,
) -> Result<Calibrated<Linear>, Error> {
    let Codes { weights, bias, scales } = codes(out, weight, bias, bits, input)?;
    let layer = Linear::new((out, features), weights, bias, input.format())?;
    Ok(Calibrated { layer, scales })
}

/// A convolution `[out, in / groups, height, width]` with weights of `bits` bits; without a bias pass an empty one.
///
/// # Errors
/// As [`linear`], and those of [`Conv2d::new`].
pub fn conv2d(
    shape: Shape,
    weight: &[f32],
    bias: &[f32],
    window: Window,
    groups: usize,
    bits: u8,
    input: Activation,
) -> Result<Calibrated<Conv2d>, Error> {
    let Codes { weights, bias, scales } = codes(shape[0], weight, bias, bits, input)?;
    let layer = Conv2d::new(shape, weights, bias, window, groups, input.format())?;
    Ok(Calibrated { layer, scales })
}

/// The linear layer of a stored weight of the formats `int4-dyadic` and `int8-dyadic`, with their codes and scales as
/// they are; without a bias pass an empty one.
///
/// # Errors
/// [`Error::InvalidScheme`] for a weight of another format; [`Error::ElementCount`], [`Error::StoredNonFinite`] for a
/// bias that does not fit; [`Error::AccumulatorOverflow`] for a bias of more than 2³¹ units, or as [`Linear::new`].
pub fn linear_from(weight: &Quantized, bias: &[f32], input: Activation) -> Result<Calibrated<Linear>, Error> {
    let ((out, features), scheme) = (weight.shape(), weight.scheme());
    let Code::Int { bits, signed: true } = scheme.code else {
        return Err(Error::InvalidScheme { reason: "an integer layer has signed integers" });
    };
    if scheme.scale_format != FloatFormat::Dyadic {
        return Err(Error::InvalidScheme { reason: "an integer layer has dyadic scales" });
    }
    check_bias(bias, out)?;
    let offset = 1_i16 << (bits - 1);
    let (mut weights, mut scales) =
        (Vec::with_capacity(out.saturating_mul(features)), Vec::with_capacity(out));
    let (mut row, mut integers) = (vec![0; features], Vec::with_capacity(out));
    for o in 0..out {
        pack::unpack(weight.row_codes(o), usize::from(bits), &mut row);
        // A code is its number plus 2^(b-1): from -128 to 127.
        weights.extend(row.iter().map(|&code| i8::try_from(i16::from(code) - offset).unwrap_or(0)));
        // A row of zeros has the scale 0; any other would do as well.
        let scale = if features == 0 { 0.0 } else { weight.scale(o, 0) };
        let unit = input.scale() * if scale == 0.0 { 1.0 } else { scale };
        let bias = integer_bias(bias.get(o).copied().unwrap_or(0.0), unit);
        integers.push(bias.ok_or(Error::AccumulatorOverflow { row: o })?);
        scales.push(unit);
    }
    let layer = Linear::new((out, features), weights, integers, input.format())?;
    Ok(Calibrated { layer, scales })
}

/// `rne(b / unit)`, where i32 holds it.
#[expect(clippy::cast_possible_truncation, reason = "within i32")]
fn integer_bias(bias: f32, unit: f32) -> Option<i32> {
    let units = if bias == 0.0 { 0.0 } else { rne(f64::from(bias) / f64::from(unit)) };
    (units.abs() <= f64::from(i32::MAX)).then_some(units as i32)
}

/// Whether there is a finite bias per output, or none.
fn check_bias(bias: &[f32], out: usize) -> Result<(), Error> {
    let expected = if bias.is_empty() { 0 } else { out };
    if bias.len() != expected {
        return Err(Error::ElementCount { what: "bias", expected, found: bias.len() });
    }
    match bias.iter().position(|value| !value.is_finite()) {
        Some(index) => Err(Error::StoredNonFinite { what: "bias", index }),
        None => Ok(()),
    }
}

/// The step from sums with these scales to `output`.
///
/// # Errors
/// [`Error::DyadicScale`] for a quotient that no dyadic number holds, [`Error::InvalidLayer`] without scales.
pub fn requantize(sums: &[f32], output: Activation, relu: bool) -> Result<Requantize, Error> {
    Requantize::new(ratios("sum scale", sums, output.scale())?, output.format(), relu)
}

/// The addition of branches with these scales (per channel, or one for codes) into `output`.
///
/// # Errors
/// As [`requantize`].
pub fn residual(left: &[f32], right: &[f32], output: Activation, relu: bool) -> Result<Residual, Error> {
    let left = ratios("left scale", left, output.scale())?;
    let right = ratios("right scale", right, output.scale())?;
    Residual::new(left, right, output.format(), relu)
}

/// Average pooling from the scale of `input` to that of `output`: `b / 2^c = dyadic(S_x / (S_y · area))`.
///
/// # Errors
/// [`Error::DyadicScale`] for a quotient that no dyadic number holds; those of [`AveragePool::new`].
pub fn average_pool(window: Window, input: Activation, output: Activation) -> Result<AveragePool, Error> {
    window.check()?;
    let area = window.kernel.0 as f64 * window.kernel.1 as f64;
    let scale = named("average scale", 0, f64::from(input.scale()) / (f64::from(output.scale()) * area))?;
    AveragePool::new(window, Average::Rescale(scale), output.format())
}

/// Weights, bias and scales of a layer in integers.
struct Codes {
    weights: Vec<i8>,
    bias: Vec<i32>,
    scales: Vec<f32>,
}

/// Rounds `weight`, `[out, anything]`, and `bias`.
#[expect(clippy::cast_possible_truncation, reason = "clamped to 8 bits")]
fn codes(out: usize, weight: &[f32], bias: &[f32], bits: u8, input: Activation) -> Result<Codes, Error> {
    let format = IntFormat::new(bits, true)?;
    let cols = match weight.len().checked_div(out) {
        Some(cols) if cols > 0 => cols,
        _ => return Err(Error::InvalidLayer { reason: "every output has at least one weight" }),
    };
    if weight.len() != cols * out {
        return Err(Error::ElementCount { what: "weights", expected: cols * out, found: weight.len() });
    }
    if let Some(index) = weight.iter().position(|value| !value.is_finite()) {
        return Err(Error::StoredNonFinite { what: "weights", index });
    }
    check_bias(bias, out)?;
    let mut codes = Codes {
        weights: Vec::with_capacity(weight.len()),
        bias: Vec::with_capacity(out),
        scales: Vec::with_capacity(out),
    };
    let (low, high) = (f64::from(format.low()), f64::from(format.high()));
    for (row, weights) in weight.chunks_exact(cols).enumerate() {
        let bias = bias.get(row).copied().unwrap_or(0.0);
        let absmax = weights.iter().fold(0.0_f32, |max, w| max.max(w.abs()));
        let for_bias = f64::from(bias.abs()) / (f64::from(input.scale()) * f64::from(1_u32 << 30));
        let scale = narrow((f64::from(absmax) / high).max(for_bias));
        let scale = if scale == 0.0 { 1.0 } else { scale };
        if !scale.is_normal() {
            return Err(Error::DyadicScale { what: "weight scale", index: row, found: scale.into() });
        }
        let code = |&w: &f32| rne(f64::from(w) / f64::from(scale)).clamp(low, high) as i8;
        codes.weights.extend(weights.iter().map(code));
        let unit = input.scale() * scale;
        codes.bias.push(integer_bias(bias, unit).ok_or(Error::AccumulatorOverflow { row })?);
        codes.scales.push(unit);
    }
    Ok(codes)
}
