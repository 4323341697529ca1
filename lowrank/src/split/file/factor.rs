//! Low-rank factors as parts.

use super::{Part, PartType, PartView, floats, part};
use crate::{Atoms, Error, Factor, FactorFormat, Side};
use alloc::{borrow::ToOwned, vec, vec::Vec};
use rankbit_quant::{FloatFormat, Quantized, Scales, part_lengths};

/// Name of the part with the rows of a sparse factor's entries.
const ROWS: &str = "right_rows";

/// Whether the rows of its entries are stored.
pub(super) fn has_rows(format: Option<FactorFormat>) -> bool {
    matches!(format, Some(FactorFormat::Atoms(_)))
}

/// A right factor with few entries in every column.
fn sparse<'a>(
    (rank, inputs): (usize, usize),
    per_column: u32,
    find: &impl Fn(&str) -> Option<PartView<'a>>,
) -> Result<Factor, Error> {
    let count = usize::try_from(per_column).unwrap_or(usize::MAX);
    if count == 0 || count > rank {
        return Err(Error::RankOutOfRange { rank: count, max: rank });
    }
    let width = Atoms::row_bytes(rank);
    // At most four bytes for each of at most `rank` entries: refused where that overflows.
    let row_len = count.checked_mul(width).ok_or(rankbit_quant::Error::TooLarge { what: ROWS })?;
    let bytes = part(find, ROWS, PartType::U8, &[inputs, row_len])?;
    let row = |bytes: &[u8]| bytes.iter().rev().fold(0_u32, |row, &byte| row << 8 | u32::from(byte));
    let rows = bytes.chunks_exact(width).map(row).collect();
    let view = find("right").ok_or(Error::MissingPart { part: "right" })?;
    let format = match view.element {
        PartType::Float(format @ (FloatFormat::F16 | FloatFormat::F32)) => format,
        _ => FloatFormat::F16,
    };
    let values = floats(find, "right", format, &[inputs, count])?;
    Ok(Factor::sparse(Atoms::new(rank, per_column, rows, values)?))
}

/// Names of a factor's parts: the factor, its scales.
const fn names(side: Side) -> (&'static str, &'static str) {
    match side {
        Side::Left => ("left", "left_scales"),
        Side::Right => ("right", "right_scales"),
    }
}

/// Whether scales are stored apart.
pub(super) fn has_scales(format: Option<FactorFormat>) -> bool {
    matches!(format, Some(FactorFormat::Int8 | FactorFormat::Int4))
}

/// A factor's parts.
pub(super) fn write(factor: &Factor, side: Side, parts: &mut Vec<Part>) {
    let (rows, cols) = factor.shape();
    let (name, scales_name) = names(side);
    if let Some(values) = factor.floats() {
        let element = PartType::Float(values.format());
        parts.push(Part { name, element, shape: vec![rows, cols], bytes: values.to_bytes() });
    }
    if let Some(atoms) = factor.atoms() {
        let (count, width) = (atoms.per_column() as usize, Atoms::row_bytes(rows));
        let element = PartType::Float(atoms.values().format());
        parts.push(Part { name, element, shape: vec![cols, count], bytes: atoms.values().to_bytes() });
        let bytes = atoms.rows().iter().flat_map(|row| row.to_le_bytes().into_iter().take(width)).collect();
        parts.push(Part { name: ROWS, element: PartType::U8, shape: vec![cols, count * width], bytes });
    }
    if let Some(codes) = factor.codes() {
        let row_bytes = codes.codes().len().checked_div(rows).unwrap_or(0);
        let bytes = codes.codes().to_owned();
        parts.push(Part { name, element: PartType::U8, shape: vec![rows, row_bytes], bytes });
        let (r, c) = codes.grouping().scale_shape(rows);
        let scales = codes.scales().floats();
        let element = PartType::Float(scales.format());
        parts.push(Part { name: scales_name, element, shape: vec![r, c], bytes: scales.to_bytes() });
    }
}

/// A factor of `shape` from its parts.
pub(super) fn read<'a>(
    shape: (usize, usize),
    format: FactorFormat,
    side: Side,
    find: &impl Fn(&str) -> Option<PartView<'a>>,
) -> Result<Factor, Error> {
    let (name, scales_name) = names(side);
    let scheme = match (format, format.scheme(side)) {
        (FactorFormat::Atoms(per_column), _) if side == Side::Right => {
            return sparse(shape, per_column, find);
        }
        (FactorFormat::Float(format), _) => {
            return Factor::new(shape, floats(find, name, format, &[shape.0, shape.1])?);
        }
        (_, Some(scheme)) => scheme,
        // Few bits have a scheme.
        (_, None) => return Err(Error::MissingPart { part: name }),
    };
    if shape.0 == 0 || shape.1 == 0 {
        return Err(Error::RankOutOfRange { rank: 0, max: shape.0.max(shape.1) });
    }
    let lengths = part_lengths(shape, &scheme)?;
    let codes = part(find, name, PartType::U8, &[shape.0, lengths.codes / shape.0])?.to_owned();
    let (r, c) = scheme.grouping(shape)?.scale_shape(shape.0);
    let scales: Scales = floats(find, scales_name, FloatFormat::F16, &[r, c])?.into();
    let codes = Quantized::from_parts(shape, scheme, codes, scales, Vec::new())?;
    Factor::quantized(codes, format, side)
}
