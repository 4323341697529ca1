//! The parts of vector codes.

use super::{Part, PartType, PartView, floats, part};
use crate::Error;
use alloc::{borrow::ToOwned, format, vec, vec::Vec};
use rankbit_quant::{Code, ColumnParts, Outliers, Quantized, Rate, Scheme, Trellis, pack, part_lengths};

/// Whether columns differ in their rates, so that these are stored.
pub(super) const fn is_rated(scheme: &Scheme) -> bool {
    matches!(scheme.code, Code::Trellis(Trellis { rate: Rate::Budget(_), .. }))
}

/// The parts that belong to the columns.
pub(super) fn write(columns: &ColumnParts, parts: &mut Vec<Part>) {
    let mut bytes = |name, shape, bytes| parts.push(Part { name, element: PartType::U8, shape, bytes });
    bytes("column_scales", vec![columns.scales().len()], columns.scales().to_vec());
    if !columns.rates().is_empty() {
        let mut packed = vec![0; columns.rates().len().div_ceil(2)];
        pack::pack(columns.rates(), 4, &mut packed);
        bytes("rates", vec![packed.len()], packed);
    }
    let outliers = columns.outliers();
    if !outliers.positions().is_empty() {
        let positions = outliers.positions().iter().flat_map(|at| at.to_le_bytes()).collect();
        bytes("outlier_positions", vec![outliers.positions().len(), 4], positions);
        parts.push(Part {
            name: "outlier_values",
            element: PartType::Float(outliers.values().format()),
            shape: vec![outliers.values().len()],
            bytes: outliers.values().to_bytes(),
        });
    }
}

/// A part of bytes, as many as its shape says.
fn bytes<'a>(
    find: &impl Fn(&str) -> Option<PartView<'a>>,
    name: &'static str,
    shape: &[usize],
) -> Result<&'a [u8], Error> {
    let bytes = part(find, name, PartType::U8, shape)?;
    let expected = shape.iter().fold(1_usize, |product, &side| product.saturating_mul(side));
    if bytes.len() == expected {
        Ok(bytes)
    } else {
        Err(rankbit_quant::Error::PartLength { part: name, expected, found: bytes.len() }.into())
    }
}

/// The matrix of a scheme of vector codes.
pub(super) fn read<'a>(
    shape: (usize, usize),
    scheme: &Scheme,
    find: &impl Fn(&str) -> Option<PartView<'a>>,
) -> Result<Quantized, Error> {
    let (rows, cols) = shape;
    let lengths = part_lengths(shape, scheme)?;
    let scales = floats(find, "scales", scheme.scale_format, &[rows, 1])?;
    let column_scales = bytes(find, "column_scales", &[cols])?.to_owned();
    let mut rates = Vec::new();
    if is_rated(scheme) {
        rates.resize(cols, 0);
        pack::unpack(bytes(find, "rates", &[cols.div_ceil(2)])?, 4, &mut rates);
    }
    let outliers = match (find("outlier_positions"), find("outlier_values")) {
        (None, None) => Outliers::none(scheme.scale_format),
        (Some(view), _) => {
            let [count, 4] = *view.shape else {
                let expected = format!("{:?} [outliers, 4]", PartType::U8);
                return Err(Error::PartMismatch { part: "outlier_positions", expected });
            };
            let positions = bytes(find, "outlier_positions", &[count, 4])?;
            let positions: Vec<u32> =
                positions.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect();
            Outliers::new(positions, floats(find, "outlier_values", scheme.scale_format, &[count])?)?
        }
        (None, Some(_)) => return Err(Error::MissingPart { part: "outlier_positions" }),
    };
    let columns = ColumnParts::new(shape, scheme, column_scales, rates, outliers)?;
    let codes = match scheme.code {
        Code::Trellis(_) => bytes(find, "codes", &[columns.stream_bytes()])?,
        _ => bytes(find, "codes", &[rows, lengths.codes / rows.max(1)])?,
    };
    Ok(Quantized::from_vector_parts(shape, *scheme, codes.to_owned(), scales, columns)?)
}
