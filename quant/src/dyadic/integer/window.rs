//! Windows that slide over an image: what convolutions and pooling share.

use crate::Error;

/// A window, `(vertical, horizontal)` throughout.
///
/// ```text
/// extent  = dilation·(kernel - 1) + 1
/// outputs = ⌊(size + 2·padding - extent) / stride⌋ + 1
/// output o sees input o·stride - padding + k·dilation for k = 0 .. kernel - 1
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Window {
    /// Entries of the window.
    pub kernel: (usize, usize),
    /// Steps between windows.
    pub stride: (usize, usize),
    /// Zeros on each side, fewer than the window's extent.
    pub padding: (usize, usize),
    /// Steps between entries of a window.
    pub dilation: (usize, usize),
}

impl Window {
    /// A square window that moves by one, without padding or gaps.
    pub const fn square(kernel: usize) -> Self {
        Self { kernel: (kernel, kernel), stride: (1, 1), padding: (0, 0), dilation: (1, 1) }
    }

    /// This window with other steps.
    #[must_use]
    pub const fn with_stride(mut self, stride: usize) -> Self {
        self.stride = (stride, stride);
        self
    }

    /// This window with zeros around the image.
    #[must_use]
    pub const fn with_padding(mut self, padding: usize) -> Self {
        self.padding = (padding, padding);
        self
    }

    /// This window with gaps.
    #[must_use]
    pub const fn with_dilation(mut self, dilation: usize) -> Self {
        self.dilation = (dilation, dilation);
        self
    }

    /// Whether the fields mean something.
    ///
    /// # Errors
    /// [`Error::InvalidLayer`] for a side, stride or dilation of 0 or padding of the window's extent or more,
    /// [`Error::TooLarge`] when the extent overflows.
    pub fn check(&self) -> Result<(), Error> {
        self.axes().into_iter().try_for_each(|axis| axis.extent().map(drop))
    }

    /// Height and width of what comes out for an image.
    ///
    /// # Errors
    /// As [`Window::check`]; [`Error::InvalidLayer`] when the window is larger than the padded image.
    pub fn outputs(&self, (height, width): (usize, usize)) -> Result<(usize, usize), Error> {
        let [vertical, horizontal] = self.axes();
        Ok((vertical.outputs(height)?, horizontal.outputs(width)?))
    }

    /// Entries of the window.
    pub(super) fn area(&self) -> Result<usize, Error> {
        self.kernel.0.checked_mul(self.kernel.1).ok_or(Error::TooLarge { what: "window" })
    }

    /// Vertical and horizontal.
    pub(super) const fn axes(&self) -> [Axis; 2] {
        let (k, s, p, d) = (self.kernel, self.stride, self.padding, self.dilation);
        [
            Axis { kernel: k.0, stride: s.0, padding: p.0, dilation: d.0 },
            Axis { kernel: k.1, stride: s.1, padding: p.1, dilation: d.1 },
        ]
    }
}

/// One direction of a window.
#[derive(Clone, Copy)]
pub(super) struct Axis {
    pub(super) kernel: usize,
    stride: usize,
    padding: usize,
    dilation: usize,
}

impl Axis {
    fn extent(self) -> Result<usize, Error> {
        if self.kernel == 0 || self.stride == 0 || self.dilation == 0 {
            return Err(Error::InvalidLayer { reason: "kernel, stride and dilation are at least 1" });
        }
        let gaps = (self.kernel - 1).checked_mul(self.dilation);
        let extent = gaps.and_then(|gaps| gaps.checked_add(1)).ok_or(Error::TooLarge { what: "window" })?;
        if self.padding >= extent {
            return Err(Error::InvalidLayer { reason: "padding is less than the window's extent" });
        }
        Ok(extent)
    }

    fn outputs(self, size: usize) -> Result<usize, Error> {
        let extent = self.extent()?;
        let both = self.padding.checked_mul(2);
        let padded =
            both.and_then(|both| both.checked_add(size)).ok_or(Error::TooLarge { what: "padding" })?;
        match padded.checked_sub(extent) {
            Some(room) => Ok(room / self.stride + 1),
            None => Err(Error::InvalidLayer { reason: "the window is larger than the padded image" }),
        }
    }

    /// The input that entry `entry` of window `output` sees, if not padding. `output` is below [`Axis::outputs`] of
    /// `size`, so that nothing exceeds `size + 2·padding`, which does not overflow.
    #[inline]
    pub(super) fn input(self, output: usize, entry: usize, size: usize) -> Option<usize> {
        (output * self.stride + entry * self.dilation).checked_sub(self.padding).filter(|&at| at < size)
    }
}
