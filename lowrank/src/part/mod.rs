//! The projections that a recipe's steps are made of: onto a quantizer's grid, onto a rank, onto a pattern of
//! non-zeros. Each has for its target the matrix less the other terms.

mod atoms;
mod factors;
mod gradient;
mod ldu;
mod low_rank;
mod quantized;
mod residual;
mod sparse;

pub(crate) use gradient::GradientPart;
pub(crate) use ldu::LduPart;
pub(crate) use low_rank::LowRankPart;
pub(crate) use quantized::QuantizedPart;
pub(crate) use residual::{Term, check_range, residual};
pub(crate) use sparse::SparsePart;
