//! Sums back to codes.

use super::sums::{check_scales, scale_of};
use super::tensor::{planes, volume, with_capacity};
use super::{Dyadic, IntFormat, Sums, Tensor, Wide};
use crate::Error;
use alloc::vec::Vec;

/// `y = clamp(round(acc · b / 2^c))`, with a dyadic number per channel, and optionally a ReLU.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Requantize {
    scales: Vec<Dyadic>,
    format: IntFormat,
    relu: bool,
}

impl Requantize {
    /// A step that multiplies channel `o` by `scales[o]`, or every channel by the only scale, and saturates in `format`;
    /// `relu` also lifts what is negative to 0.
    ///
    /// # Errors
    /// [`Error::InvalidLayer`] without any scale.
    pub fn new(scales: Vec<Dyadic>, format: IntFormat, relu: bool) -> Result<Self, Error> {
        if scales.is_empty() {
            return Err(Error::InvalidLayer { reason: "there is at least one scale" });
        }
        Ok(Self { scales, format, relu })
    }

    /// The format of the result.
    pub const fn format(&self) -> IntFormat {
        self.format
    }

    /// The codes.
    ///
    /// # Errors
    /// [`Error::ElementCount`] when there are neither as many scales as channels nor one, [`Error::TooLarge`] when the
    /// codes do not fit the memory.
    pub fn apply(&self, sums: &Sums) -> Result<Tensor, Error> {
        let (format, floor) = (self.format, self.format.floor(self.relu));
        let codes = self.scaled(sums, |value| format.saturate(value, floor))?;
        Ok(Tensor::from_codes(sums.shape(), format, codes))
    }

    /// The same, but saturated in i32 instead of the format: for the last layer, whose outputs are compared with each
    /// other and must share a scale.
    ///
    /// # Errors
    /// As [`Requantize::apply`].
    pub fn apply_wide(&self, sums: &Sums) -> Result<Sums, Error> {
        let floor = if self.relu { 0 } else { i32::MIN };
        let values = self.scaled(sums, |value| saturate(value).max(floor))?;
        Sums::new(sums.shape(), Wide::I32(values))
    }

    fn scaled<T>(&self, sums: &Sums, finish: impl Fn(i64) -> T) -> Result<Vec<T>, Error> {
        let [_, channels, height, width] = sums.shape();
        check_scales(&self.scales, channels)?;
        let area = height * width;
        let mut out = with_capacity(volume(sums.shape())?)?;
        let mut plane = with_capacity(area)?;
        for index in 0..planes(sums.shape()) {
            plane.clear();
            sums.scaled_plane(index, area, scale_of(&self.scales, index % channels), &mut plane);
            out.extend(plane.iter().map(|&value| finish(value)));
        }
        Ok(out)
    }
}

/// The nearest i32.
pub(super) fn saturate(value: i64) -> i32 {
    i32::try_from(value).unwrap_or(if value < 0 { i32::MIN } else { i32::MAX })
}
