//! The projections that a recipe's steps are made of: onto a quantizer's grid, onto a rank.

mod atoms;
mod factors;
mod gradient;
mod low_rank;
mod quantized;

pub(crate) use gradient::GradientPart;
pub(crate) use low_rank::LowRankPart;
pub(crate) use quantized::{QuantizedPart, base_residual, branch_residual, check_range};
