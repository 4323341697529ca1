//! Residual addition: two branches brought to one scale.

use super::requantize::saturate;
use super::sums::{check_scales, scale_of};
use super::tensor::{planes, volume, with_capacity};
use super::{Dyadic, IntFormat, Sums, Tensor};
use crate::Error;
use alloc::vec::Vec;

/// `y = clamp(round(l · b_l / 2^c_l) + round(r · b_r / 2^c_r))`: each branch is rounded on its own, and saturated in i32,
/// before the two are added (HAWQ-V3, §3.2). So `|y - (S_l·l + S_r·r)/S_y| ≤ 1` before the clamp, but for what the
/// dyadic numbers lose.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Residual {
    left: Vec<Dyadic>,
    right: Vec<Dyadic>,
    format: IntFormat,
    relu: bool,
}

impl Residual {
    /// An addition that multiplies the branches by these scales, one per channel or one for all, and saturates in
    /// `format`; `relu` also lifts what is negative to 0.
    ///
    /// # Errors
    /// [`Error::InvalidLayer`] for a branch without any scale.
    pub fn new(left: Vec<Dyadic>, right: Vec<Dyadic>, format: IntFormat, relu: bool) -> Result<Self, Error> {
        if left.is_empty() || right.is_empty() {
            return Err(Error::InvalidLayer { reason: "there is at least one scale" });
        }
        Ok(Self { left, right, format, relu })
    }

    /// The codes. A branch that is codes already goes in as [`Sums::from`] them.
    ///
    /// # Errors
    /// [`Error::InvalidLayer`] when the branches differ in shape; [`Error::ElementCount`] when a branch has neither as
    /// many scales as channels nor one; [`Error::TooLarge`] when the codes do not fit the memory.
    pub fn apply(&self, left: &Sums, right: &Sums) -> Result<Tensor, Error> {
        let shape = left.shape();
        if shape != right.shape() {
            return Err(Error::InvalidLayer { reason: "the branches of an addition have one shape" });
        }
        let [_, channels, height, width] = shape;
        check_scales(&self.left, channels)?;
        check_scales(&self.right, channels)?;
        let (area, floor) = (height * width, self.format.floor(self.relu));
        let mut codes = with_capacity(volume(shape)?)?;
        let (mut l, mut r) = (with_capacity(area)?, with_capacity(area)?);
        for plane in 0..planes(shape) {
            l.clear();
            r.clear();
            left.scaled_plane(plane, area, scale_of(&self.left, plane % channels), &mut l);
            right.scaled_plane(plane, area, scale_of(&self.right, plane % channels), &mut r);
            let sums = l.iter().zip(&r).map(|(&l, &r)| i64::from(saturate(l)) + i64::from(saturate(r)));
            codes.extend(sums.map(|sum| self.format.saturate(sum, floor)));
        }
        Ok(Tensor::from_codes(shape, self.format, codes))
    }
}
