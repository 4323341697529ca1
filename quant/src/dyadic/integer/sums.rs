//! Sums of products before they are rounded back to codes.

use super::tensor::{Shape, check_len, volume};
use super::{Dyadic, Tensor};
use crate::Error;
use alloc::vec::Vec;

/// Sums of a layer, `[batch, channels, height, width]`. What one unit stands for differs from channel to channel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sums {
    shape: Shape,
    values: Wide,
}

/// Sums in the width that their layer was proved to need.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wide {
    /// All sums of the layer fit i32, whatever its input.
    I32(Vec<i32>),
    /// They fit i64.
    I64(Vec<i64>),
}

impl Sums {
    /// Sums of given numbers.
    ///
    /// # Errors
    /// [`Error::ElementCount`] when `values` does not have the shape's number of entries, [`Error::TooLarge`] for a
    /// shape that overflows.
    pub fn new(shape: Shape, values: Wide) -> Result<Self, Error> {
        let sums = Self { shape, values };
        check_len("sums", sums.len(), volume(shape)?)?;
        Ok(sums)
    }

    /// Batch, channels, height, width.
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// The sums, in row-major order.
    pub const fn values(&self) -> &Wide {
        &self.values
    }

    /// The sums as i64, in row-major order.
    pub fn to_i64(&self) -> Vec<i64> {
        match &self.values {
            Wide::I32(values) => values.iter().map(|&value| value.into()).collect(),
            Wide::I64(values) => values.clone(),
        }
    }

    fn len(&self) -> usize {
        match &self.values {
            Wide::I32(values) => values.len(),
            Wide::I64(values) => values.len(),
        }
    }

    /// Appends `round(sum · scale)` of every entry of the plane of one channel of one image to `out`; `plane` counts
    /// planes of `area` entries and is one of this tensor's.
    pub(super) fn scaled_plane(&self, plane: usize, area: usize, scale: Dyadic, out: &mut Vec<i64>) {
        let range = plane * area..(plane + 1) * area;
        match &self.values {
            Wide::I32(values) => out.extend(values[range].iter().map(|&value| scale.scale(value))),
            Wide::I64(values) => out.extend(values[range].iter().map(|&value| scale.scale_wide(value))),
        }
    }
}

impl From<&Tensor> for Sums {
    /// The codes themselves, for a residual addition.
    fn from(codes: &Tensor) -> Self {
        Self { shape: codes.shape(), values: Wide::I32(codes.values().map(i32::from).collect()) }
    }
}

/// One scale for all channels, or one each.
pub(super) fn check_scales(scales: &[Dyadic], channels: usize) -> Result<(), Error> {
    if scales.len() == 1 { Ok(()) } else { check_len("scales", scales.len(), channels) }
}

/// The scale of channel `channel`, after [`check_scales`].
pub(super) fn scale_of(scales: &[Dyadic], channel: usize) -> Dyadic {
    scales.get(channel).or(scales.first()).copied().unwrap_or(Dyadic::ONE)
}
