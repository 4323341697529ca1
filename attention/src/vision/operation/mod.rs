//! Further operations of the tape: what blocks with windows, strips and convolutions need.
//!
//! An image of h×w pixels is a matrix with a pixel a row, so windows, strips, patches, shifts, paddings and strides are lists of
//! rows ([`Rows`]), and one gather does them all. A convolution is a gather and a product.

mod compatible;
mod function;
mod heads;
mod normal;
mod ranks;
mod rows;
mod shape;

pub(super) use function::Function;
pub(super) use heads::Heads;
pub(super) use rows::{Rows, mirrored};
