//! Convolution as a product: the windows of one line of outputs become rows of a matrix (im2col).

use super::filter::{Filters, Sum};
use super::linear::check_format;
use super::tensor::{Shape, check_len, volume, with_capacity, zeros};
use super::{IntFormat, Sums, Tensor, Window};
use crate::Error;
use alloc::vec::Vec;

/// A convolution over images, with groups.
///
/// ```text
/// acc[n, o, y, x] = Σ_{c, i, j} in[n, g·(in/groups) + c, y·s - p + i·d, x·s - p + j·d] · w[o, c, i, j] + b[o]
/// g = ⌊o / (out/groups)⌋, zero outside the image
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Conv2d {
    filters: Filters,
    /// Input channels of one group.
    channels: usize,
    groups: usize,
    window: Window,
}

impl Conv2d {
    /// A layer of weights `[out, in / groups, kernel height, kernel width]` and a bias per output, for inputs of one
    /// format.
    ///
    /// # Errors
    /// [`Error::InvalidLayer`] for a window that means nothing ([`Window::check`]) or differs from the shape's kernel,
    /// for no inputs or outputs, or for groups that do not divide the outputs; [`Error::ElementCount`] when weights or
    /// bias do not have as many entries as the shape asks for; [`Error::AccumulatorOverflow`] when not even i64 would
    /// hold the sums; [`Error::TooLarge`] for sizes that overflow.
    pub fn new(
        shape: Shape,
        weights: Vec<i8>,
        bias: Vec<i32>,
        window: Window,
        groups: usize,
        input: IntFormat,
    ) -> Result<Self, Error> {
        let [out, channels, height, width] = shape;
        window.check()?;
        if window.kernel != (height, width) {
            return Err(Error::InvalidLayer { reason: "the window's kernel is not that of the weights" });
        }
        if groups == 0 || !out.is_multiple_of(groups) {
            return Err(Error::InvalidLayer { reason: "groups divide the outputs" });
        }
        let cols = volume([1, channels, height, width])?;
        Ok(Self { filters: Filters::new((out, cols), weights, bias, input)?, channels, groups, window })
    }

    /// Output channels, and input channels of all groups.
    pub fn channels(&self) -> (usize, usize) {
        // At most as many as there are weights, since groups divide the outputs.
        (self.filters.rows(), self.channels * self.groups)
    }

    /// The window.
    pub const fn window(&self) -> &Window {
        &self.window
    }

    /// Largest magnitude that any sum, or partial sum, can reach; up to 2³¹ - 1 sums are i32, above it i64.
    pub const fn bound(&self) -> u64 {
        self.filters.bound()
    }

    /// The sums `[batch, out, height, width]` for codes `[batch, in, height, width]`. Cost
    /// O(batch · out · height · width · in/groups · kernel); memory for one line of windows besides the sums.
    ///
    /// # Errors
    /// [`Error::ElementCount`] for another number of channels, [`Error::InvalidLayer`] for codes of another format than
    /// the bounds were proved for or an image smaller than the window, [`Error::TooLarge`] when the sums do not fit the
    /// memory.
    pub fn apply(&self, input: &Tensor) -> Result<Sums, Error> {
        if self.filters.fits_i32() { self.sums::<i32>(input) } else { self.sums::<i64>(input) }
    }

    fn sums<S: Sum>(&self, input: &Tensor) -> Result<Sums, Error> {
        let [batch, channels, height, width] = input.shape();
        check_len("input channels", channels, self.channels().1)?;
        check_format(input, &self.filters)?;
        let (rows, cols) = self.window.outputs((height, width))?;
        let (filters, area) = (self.filters.rows(), height * width);
        let shape = [batch, filters, rows, cols];
        let mut sums: Vec<S> = zeros(volume(shape)?)?;
        let patches = cols.checked_mul(self.filters.cols()).ok_or(Error::TooLarge { what: "windows" })?;
        let mut patches = with_capacity(patches)?;
        let mut planes: Vec<i16> = with_capacity(self.channels * area)?;
        for image in 0..batch {
            for group in 0..self.groups {
                // As i16 at once: each code is read by many windows.
                let first = image * channels + group * self.channels;
                planes.clear();
                let codes = &input.codes()[first * area..(first + self.channels) * area];
                planes.extend(codes.iter().map(|&code| input.format().value(code)));
                for row in 0..rows {
                    patches.clear();
                    self.windows(&planes, (height, width), row, cols, &mut patches);
                    for filter in group * (filters / self.groups)..(group + 1) * (filters / self.groups) {
                        let at = ((image * filters + filter) * rows + row) * cols;
                        self.filters.products(filter, &patches, &mut sums[at..at + cols]);
                    }
                }
            }
        }
        Sums::new(shape, S::collect(sums))
    }

    /// Appends the windows of line `row` of outputs, one after another.
    fn windows(
        &self,
        planes: &[i16],
        (height, width): (usize, usize),
        row: usize,
        cols: usize,
        patches: &mut Vec<i16>,
    ) {
        let [vertical, horizontal] = self.window.axes();
        for col in 0..cols {
            for channel in 0..self.channels {
                let plane = &planes[channel * height * width..(channel + 1) * height * width];
                for i in 0..vertical.kernel {
                    let Some(y) = vertical.input(row, i, height) else {
                        patches.resize(patches.len() + horizontal.kernel, 0);
                        continue;
                    };
                    let line = &plane[y * width..(y + 1) * width];
                    let entry = |j| horizontal.input(col, j, width).map_or(0, |x| line[x]);
                    patches.extend((0..horizontal.kernel).map(entry));
                }
            }
        }
    }
}
