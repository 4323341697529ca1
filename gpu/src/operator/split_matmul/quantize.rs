//! What happens to the inputs of the quantized term on the device. Twin: [`Activation::quantize`], bit for bit.
//!
//! Integers of a scale per token, or per token and group of whole lines. Where the weight is whole numbers too
//! ([`Format::integer_factor`]), the kernels for integers read the codes, four to a word, or eight of 4 bits; all others read the
//! numbers that the codes stand for, as f32.

use super::pack::COLUMNS;
use crate::Error;
use crate::buffer::{narrow, product};
use crate::pipeline::{Format, Inputs, QUANTIZE_LANES, QuantizeParams};
use rankbit_quant::{Activation, Code, Group};

/// Lines whose products with any inputs a 32-bit sum holds: 2¹³ · 8 columns · 127 · 128 is below 2³¹.
const SEGMENT_SHIFT: u32 = 13;

/// How inputs are quantized on a device.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Quantizer {
    most: f32,
    /// Lines of a group.
    span: usize,
    /// Groups of a token.
    pub(super) groups: usize,
    /// For a weight of whole numbers; `None` where the numbers are written.
    pub(super) integer: Option<Integer>,
}

/// What the kernels for integers need.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Integer {
    /// How codes are packed.
    inputs: Inputs,
    factor: f32,
    /// Line `l` belongs to the inputs' group `l >> shift`.
    pub(super) shift: u32,
    pub(super) segment_shift: u32,
}

/// The weight's side.
pub(super) struct Weight {
    pub(super) lines: usize,
    /// Whether its columns are in their natural order, up to a permutation.
    pub(super) natural: bool,
    /// Format and group shift of scalar codes.
    pub(super) scalar: Option<(Format, u32)>,
}

impl Quantizer {
    /// The quantizer for `activation`; `None` for inputs that stay floats.
    ///
    /// # Errors
    /// [`Error::UnsupportedActivation`] for anything but integers of 4 to 8 bits with a dynamic scale for each token, or
    /// for each token and group of a multiple of 8 columns (then the weight's groups must not need padding).
    pub(super) fn new(activation: &Activation, weight: &Weight) -> Result<Option<Self>, Error> {
        let unsupported = Error::UnsupportedActivation { activation: *activation };
        let (code, group) = match *activation {
            Activation::Float => return Ok(None),
            Activation::Dynamic {
                code: code @ Code::Int { bits: 4..=8, signed: true },
                group,
                outliers: None,
            } => (code, group),
            _ => return Err(unsupported),
        };
        let span = match group {
            Group::Row => weight.lines.max(1),
            Group::Size(size) => {
                let size = usize::try_from(size).unwrap_or(usize::MAX);
                if size == 0 || !size.is_multiple_of(COLUMNS) || !weight.natural {
                    return Err(unsupported);
                }
                (size / COLUMNS).min(weight.lines.max(1))
            }
            _ => return Err(unsupported),
        };
        let groups = weight.lines.div_ceil(span).max(1);
        let shift = match (groups, span.is_power_of_two()) {
            (1, _) => Some(31),
            (_, true) => Some(span.trailing_zeros()),
            _ => None,
        };
        let integer = weight.scalar.zip(shift).and_then(|((format, group_shift), shift)| {
            let segment_shift = shift.min(group_shift).min(SEGMENT_SHIFT);
            let (inputs, factor) =
                if code.bits() == 4 { (Inputs::Int4, 1.0 / 16.0) } else { (Inputs::Int8, 1.0) };
            Some(Integer { inputs, factor: factor * format.integer_factor()?, shift, segment_shift })
        });
        Ok(Some(Self { most: code.max(), span, groups, integer }))
    }

    /// Parameters of the kernel, but for the tokens' own: `x_stride` in elements of what it reads.
    pub(super) fn params(
        &self,
        tokens: usize,
        features: usize,
        x_stride: usize,
        lines: usize,
    ) -> Result<QuantizeParams, Error> {
        Ok(QuantizeParams {
            tokens: narrow("tokens", tokens)?,
            features: narrow("columns", features)?,
            x_stride: narrow("columns", x_stride)?,
            lines: narrow("columns", lines)?,
            span: narrow("columns", self.span)?,
            groups: narrow("groups", self.groups)?,
            most: self.most,
            // As the twin has it: the largest code times the scale must not leave f32.
            top: f32::MAX / self.most * (1.0 - f32::EPSILON),
            factor: self.integer.map_or(1.0, |integer| integer.factor),
            unused0: 0,
            unused1: 0,
            unused2: 0,
        })
    }

    /// Workgroups of `threads` for `tokens`.
    pub(super) fn workgroups(&self, tokens: usize, threads: u32) -> u64 {
        product(&[tokens, self.groups]).div_ceil(u64::from(threads / QUANTIZE_LANES).max(1))
    }

    /// What it writes.
    pub(super) fn output(&self) -> Inputs {
        self.integer.map_or(Inputs::Float, |integer| integer.inputs)
    }

    /// Words of a line of quantized inputs.
    pub(super) fn line_words(&self) -> usize {
        match self.output() {
            Inputs::Float => COLUMNS,
            Inputs::Int8 => 2,
            Inputs::Int4 => 1,
        }
    }
}
