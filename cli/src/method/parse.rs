//! Flags whose values are words or numbers.

use rankbit::lowrank::FactorFormat;
use rankbit::quant::{FloatFormat, Group};

/// `--group`: a number, `row`, `tensor`, or rows and columns as in `128x128`.
pub(crate) fn parse_group(text: &str) -> Result<Group, String> {
    match text {
        "row" => return Ok(Group::Row),
        "tensor" => return Ok(Group::Tensor),
        _ => {}
    }
    let group = match text.split_once('x') {
        None => text.parse().ok().map(Group::Size),
        Some((rows, cols)) => match (rows.parse(), cols.parse()) {
            (Ok(rows), Ok(cols)) => Some(Group::Block { rows, cols }),
            _ => None,
        },
    };
    group.ok_or_else(|| "expected a number, 'row', 'tensor' or rows and columns as in 128x128".to_owned())
}

/// `--smooth`: a strength, or a search for it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Smooth {
    /// With this α.
    Fixed(f64),
    /// With the α and β of least output error.
    Search,
}

/// `--keep`: a share of the parameters.
pub(crate) fn parse_keep(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(keep) if keep > 0.0 && keep <= 1.0 => Ok(keep),
        _ => Err("expected a number above 0 and at most 1".to_owned()),
    }
}

/// `--factors`: `f32`, `f16`, `bf16`, `int8` or `int4`.
pub(crate) fn parse_factors(text: &str) -> Result<FactorFormat, String> {
    let formats = [FloatFormat::F32, FloatFormat::F16, FloatFormat::Bf16].map(FactorFormat::Float);
    let mut formats = formats.into_iter().chain([FactorFormat::Int8, FactorFormat::Int4]);
    formats
        .find(|format| format.name() == text)
        .ok_or_else(|| "expected f32, f16, bf16, int8 or int4".to_owned())
}

/// `--smooth`: a number from 0 to 1, or `search`.
pub(crate) fn parse_smooth(text: &str) -> Result<Smooth, String> {
    if text == "search" {
        return Ok(Smooth::Search);
    }
    match text.parse::<f64>() {
        Ok(alpha) if (0.0..=1.0).contains(&alpha) => Ok(Smooth::Fixed(alpha)),
        _ => Err("expected a number from 0 to 1, or 'search'".to_owned()),
    }
}

/// `f32`, `f16` or `bf16`.
pub(crate) fn parse_float(text: &str) -> Result<FloatFormat, String> {
    [FloatFormat::F32, FloatFormat::F16, FloatFormat::Bf16]
        .into_iter()
        .find(|format| format.name() == text)
        .ok_or_else(|| "expected f32, f16 or bf16".to_owned())
}
