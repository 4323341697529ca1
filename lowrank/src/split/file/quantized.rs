//! A quantized matrix, planar or in blocks, as parts: the quantized term, and kept values of few bits.

use super::{Part, PartType, PartView, floats, part};
use crate::Error;
use alloc::{borrow::ToOwned, vec, vec::Vec};
use rankbit_quant::{Code, FloatFormat, Floats, Offset, PartLengths, Quantized, Scales, Scheme, ZeroPoint};

/// What a matrix's parts are called.
pub(super) struct Names {
    codes: &'static str,
    scales: &'static str,
    global_scale: &'static str,
    scale_codes: &'static str,
    scale_offset: &'static str,
    zeros: &'static str,
}

/// Of the quantized term.
pub(super) const BASE: Names = Names {
    codes: "codes",
    scales: "scales",
    global_scale: "global_scale",
    scale_codes: "scale_codes",
    scale_offset: "scale_offset",
    zeros: "zeros",
};

/// Of kept values.
pub(super) const SPARSE: Names = Names {
    codes: "sparse_values",
    scales: "sparse_scales",
    global_scale: "sparse_global_scale",
    scale_codes: "sparse_scale_codes",
    scale_offset: "sparse_scale_offset",
    zeros: "sparse_zeros",
};

impl Names {
    /// Whether a matrix of `scheme` has the part `name`; `None` for a name that is not one of these.
    pub(super) fn describes(&self, name: &str, scheme: Option<&Scheme>) -> Option<bool> {
        let has: fn(&Scheme) -> bool = match name {
            _ if name == self.codes => |_| true,
            _ if name == self.scales => |scheme| scheme.layout.is_planar(),
            _ if name == self.global_scale => |scheme| scheme.scale_format == FloatFormat::E4m3,
            _ if name == self.scale_codes => |scheme| scheme.nested.is_some(),
            _ if name == self.scale_offset => has_offset,
            _ if name == self.zeros => |scheme| scheme.zero.bits(scheme.code) > 0,
            _ => return None,
        };
        Some(scheme.is_some_and(has))
    }
}

/// Appends the parts of `matrix`.
pub(super) fn write(matrix: &Quantized, names: &Names, parts: &mut Vec<Part>) {
    let rows = matrix.shape().0;
    let row_bytes = matrix.codes().len().checked_div(rows).unwrap_or(0);
    let trellis = matches!(matrix.scheme().code, Code::Trellis(_));
    let shape = if trellis { vec![matrix.codes().len()] } else { vec![rows, row_bytes] };
    parts.push(Part::bytes(names.codes, shape, matrix.codes()));
    let (r, c) = matrix.grouping().scale_shape(rows);
    let scales = matrix.scales();
    if matrix.scheme().layout.is_planar() {
        let nested = scales.nesting().is_some();
        let shape = if nested { vec![scales.floats().len()] } else { vec![r, c] };
        parts.push(Part::floats(names.scales, shape, scales.floats()));
    }
    if let Some(global) = scales.global_scale() {
        parts.push(Part::floats(names.global_scale, vec![1], &Floats::F32(vec![global])));
    }
    if scales.nesting().is_some() {
        let codes = scales.packed_codes();
        parts.push(Part::bytes(names.scale_codes, vec![codes.len()], codes));
    }
    if let Some(offset) = scales.offset() {
        parts.push(Part::floats(names.scale_offset, vec![1], &Floats::F32(vec![offset])));
    }
    let zeros = matrix.zeros();
    match matrix.scheme().zero {
        ZeroPoint::None | ZeroPoint::Min => {}
        ZeroPoint::Integer | ZeroPoint::Fraction { .. } => {
            parts.push(Part::bytes(names.zeros, vec![zeros.len()], zeros));
        }
        ZeroPoint::Float(format) => parts
            .push(Part { element: PartType::Float(format), ..Part::bytes(names.zeros, vec![r, c], zeros) }),
    }
}

/// The matrix `[rows, cols]` of `scheme`, whose code is no vector code.
pub(super) fn read<'a>(
    (rows, cols): (usize, usize),
    scheme: &Scheme,
    names: &Names,
    find: &impl Fn(&str) -> Option<PartView<'a>>,
) -> Result<Quantized, Error> {
    let part = |name: &'static str, element: PartType, shape: &[usize]| part(find, name, element, shape);
    scheme.check()?;
    let lengths = rankbit_quant::part_lengths((rows, cols), scheme)?;
    let row_bytes = lengths.codes.checked_div(rows).unwrap_or(0);
    let codes = part(names.codes, PartType::U8, &[rows, row_bytes])?.to_owned();
    let (r, c) = scheme.grouping((rows, cols))?.scale_shape(rows);
    let scales = scales(scheme, ((r, c), &lengths), names, find)?;
    let zeros = match scheme.zero {
        ZeroPoint::None | ZeroPoint::Min => Vec::new(),
        ZeroPoint::Integer | ZeroPoint::Fraction { .. } => {
            part(names.zeros, PartType::U8, &[lengths.zeros])?.to_owned()
        }
        ZeroPoint::Float(format) => part(names.zeros, PartType::Float(format), &[r, c])?.to_owned(),
    };
    Ok(Quantized::from_parts((rows, cols), *scheme, codes, scales, zeros)?)
}

/// Whether nested scales of `scheme` have a number in common that is stored.
fn has_offset(scheme: &Scheme) -> bool {
    scheme.nested.is_some_and(|nested| nested.offset != Offset::None)
}

/// The scales that `scheme` describes, of shape `shape`.
fn scales<'a>(
    scheme: &Scheme,
    (shape, lengths): ((usize, usize), &PartLengths),
    names: &Names,
    find: &impl Fn(&str) -> Option<PartView<'a>>,
) -> Result<Scales, Error> {
    let floats = |name, format: FloatFormat, shape: &[usize]| floats(find, name, format, shape);
    let format = scheme.scale_format;
    if !scheme.layout.is_planar() {
        return Ok(Floats::with_capacity(format, 0).into());
    }
    if let Some(nested) = scheme.nested {
        let units = floats(names.scales, format, &[lengths.scales])?;
        let codes = part(find, names.scale_codes, PartType::U8, &[lengths.scale_codes])?.to_owned();
        let offset = match has_offset(scheme) {
            true => floats(names.scale_offset, FloatFormat::F32, &[1])?.get(0),
            false => 0.0,
        };
        return Ok(Scales::nested(nested, shape, codes, units, offset)?);
    }
    let scales = floats(names.scales, format, &[shape.0, shape.1])?;
    if format == FloatFormat::E4m3 {
        let global = floats(names.global_scale, FloatFormat::F32, &[1])?;
        return Ok(scales.with_global_scale(global.get(0))?.into());
    }
    Ok(scales.into())
}
