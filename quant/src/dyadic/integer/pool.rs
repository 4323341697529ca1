//! Pooling.

use super::tensor::{Shape, volume, with_capacity};
use super::{Dyadic, IntFormat, Tensor, Window};
use crate::Error;
use alloc::vec::Vec;

/// The largest code of each window; padding never is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MaxPool {
    window: Window,
}

impl MaxPool {
    /// Pooling by windows.
    ///
    /// # Errors
    /// As [`Window::check`]; [`Error::InvalidLayer`] when a window could lie in the padding altogether (padding above
    /// half the kernel).
    pub fn new(window: Window) -> Result<Self, Error> {
        window.check()?;
        if window.padding.0 > window.kernel.0 / 2 || window.padding.1 > window.kernel.1 / 2 {
            return Err(Error::InvalidLayer { reason: "padding is at most half the kernel" });
        }
        Ok(Self { window })
    }

    /// The codes, in the format and scale of the input.
    ///
    /// # Errors
    /// [`Error::InvalidLayer`] for an image smaller than the window, or one of which a window sees nothing but padding;
    /// [`Error::TooLarge`] when the codes do not fit the memory.
    pub fn apply(&self, input: &Tensor) -> Result<Tensor, Error> {
        let format = input.format();
        let nothing = Error::InvalidLayer { reason: "a window of a maximum sees at least one input" };
        pool(input, &self.window, format, |seen| {
            seen.max().map(|value| format.saturate(value.into(), format.low())).ok_or(nothing.clone())
        })
    }
}

/// How an average becomes a code.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Average {
    /// `clamp(round(Σ · b / 2^c))`: the dyadic number holds the window's area and the change of scale.
    Rescale(Dyadic),
    /// `trunc(Σ / area + 1/100)` in the scale of the input, toward zero: what HAWQ's code does. In integers
    /// `(100·Σ + area) / (100·area)`.
    Truncate,
}

/// The average of each window; padding counts as zeros.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AveragePool {
    window: Window,
    area: u32,
    average: Average,
    format: IntFormat,
}

impl AveragePool {
    /// Pooling by windows, saturating in `format`.
    ///
    /// # Errors
    /// As [`Window::check`]; [`Error::InvalidLayer`] for windows of more than 2²³ entries, whose sums i32 might not
    /// hold.
    pub fn new(window: Window, average: Average, format: IntFormat) -> Result<Self, Error> {
        window.check()?;
        // |Σ| ≤ 255 · 2²³ < 2³¹.
        match u32::try_from(window.area()?) {
            Ok(area) if area <= 1 << 23 => Ok(Self { window, area, average, format }),
            _ => Err(Error::InvalidLayer { reason: "a window to average has at most 2²³ entries" }),
        }
    }

    /// The codes.
    ///
    /// # Errors
    /// [`Error::InvalidLayer`] for an image smaller than the window, [`Error::TooLarge`] when the codes do not fit the
    /// memory.
    pub fn apply(&self, input: &Tensor) -> Result<Tensor, Error> {
        let area = i64::from(self.area);
        pool(input, &self.window, self.format, |seen| {
            let sum: i32 = seen.map(i32::from).sum();
            let mean = match self.average {
                Average::Rescale(scale) => scale.scale(sum),
                Average::Truncate => (100 * i64::from(sum) + area) / (100 * area),
            };
            Ok(self.format.saturate(mean, self.format.low()))
        })
    }
}

/// One code per window from the numbers that it sees inside the image.
fn pool(
    input: &Tensor,
    window: &Window,
    format: IntFormat,
    code: impl Fn(&mut dyn Iterator<Item = i16>) -> Result<u8, Error>,
) -> Result<Tensor, Error> {
    let [batch, channels, height, width] = input.shape();
    let (rows, cols) = window.outputs((height, width))?;
    let shape: Shape = [batch, channels, rows, cols];
    let [vertical, horizontal] = window.axes();
    let mut codes: Vec<u8> = with_capacity(volume(shape)?)?;
    let area = height * width;
    for plane in 0..batch * channels {
        let plane = &input.codes()[plane * area..(plane + 1) * area];
        for (row, col) in (0..rows).flat_map(|row| (0..cols).map(move |col| (row, col))) {
            let lines = (0..vertical.kernel).filter_map(|i| vertical.input(row, i, height));
            let entries = |y: usize| {
                let line = &plane[y * width..(y + 1) * width];
                (0..horizontal.kernel).filter_map(move |j| horizontal.input(col, j, width)).map(|x| line[x])
            };
            codes.push(code(&mut lines.flat_map(entries).map(|code| input.format().value(code)))?);
        }
    }
    Ok(Tensor::from_codes(shape, format, codes))
}
