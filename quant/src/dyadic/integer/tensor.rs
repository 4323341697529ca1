//! Codes of a batch.

use super::IntFormat;
use crate::Error;
use alloc::vec::Vec;

/// `[batch, channels, height, width]`.
pub type Shape = [usize; 4];

/// Codes of 2 to 8 bits, one byte each, `[batch, channels, height, width]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tensor {
    shape: Shape,
    format: IntFormat,
    codes: Vec<u8>,
}

impl Tensor {
    /// A tensor of given numbers.
    ///
    /// # Errors
    /// [`Error::ElementCount`] when `values` does not have the shape's number of entries, [`Error::CodeOutOfRange`] for
    /// the first number that the format does not hold, [`Error::TooLarge`] for a shape that overflows.
    pub fn new(shape: Shape, format: IntFormat, values: &[i32]) -> Result<Self, Error> {
        check_len("values", values.len(), volume(shape)?)?;
        let mut codes = with_capacity(values.len())?;
        for (index, &value) in values.iter().enumerate() {
            if !(i32::from(format.low())..=i32::from(format.high())).contains(&value) {
                return Err(Error::CodeOutOfRange { index, found: value.into() });
            }
            codes.push(format.saturate(value.into(), format.low()));
        }
        Ok(Self { shape, format, codes })
    }

    /// A tensor of stored bytes, as many as the shape has entries, each made by the format.
    pub(super) const fn from_codes(shape: Shape, format: IntFormat, codes: Vec<u8>) -> Self {
        Self { shape, format, codes }
    }

    /// Batch, channels, height, width.
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// Which numbers the codes hold.
    pub const fn format(&self) -> IntFormat {
        self.format
    }

    /// The numbers, in row-major order.
    pub fn values(&self) -> impl ExactSizeIterator<Item = i16> + Clone + '_ {
        self.codes.iter().map(|&code| self.format.value(code))
    }

    /// The stored bytes.
    pub(super) fn codes(&self) -> &[u8] {
        &self.codes
    }

    /// `max(0, x)`.
    #[must_use]
    pub fn relu(&self) -> Self {
        let code = |&code: &u8| if self.format.value(code) < 0 { 0 } else { code };
        Self { codes: self.codes.iter().map(code).collect(), ..*self }
    }
}

/// Number of entries; no product of some of the sides overflows either, even where another side is 0.
pub(super) fn volume(shape: Shape) -> Result<usize, Error> {
    let sides = shape.iter().filter(|&&side| side > 0);
    let product =
        sides.copied().try_fold(1_usize, usize::checked_mul).ok_or(Error::TooLarge { what: "tensor" })?;
    Ok(if shape.contains(&0) { 0 } else { product })
}

/// Planes of one channel of one image; none when the tensor is empty, however many planes without entries it has.
pub(super) const fn planes([batch, channels, height, width]: Shape) -> usize {
    if height == 0 || width == 0 { 0 } else { batch * channels }
}

/// An empty vector with room for `len` entries, or an error where there is no such room.
pub(super) fn with_capacity<T>(len: usize) -> Result<Vec<T>, Error> {
    let mut out = Vec::new();
    out.try_reserve_exact(len).map_err(|_| Error::TooLarge { what: "tensor" })?;
    Ok(out)
}

/// `len` zeros.
pub(super) fn zeros<T: Clone + Default>(len: usize) -> Result<Vec<T>, Error> {
    let mut out = with_capacity(len)?;
    out.resize(len, T::default());
    Ok(out)
}

/// Whether there are as many entries as there must be.
pub(super) const fn check_len(what: &'static str, found: usize, expected: usize) -> Result<(), Error> {
    if found == expected { Ok(()) } else { Err(Error::ElementCount { what, expected, found }) }
}
