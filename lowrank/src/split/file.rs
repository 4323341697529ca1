//! The file form of a split: one header (a JSON string) and a few named byte tensors, without any I/O, so that
//! any container can carry it.
//!
//! | part | type | shape | contents |
//! |---|---|---|---|
//! | `codes` | u8 | `[out, ⌈in·bits/8⌉]` | packed codes, one bit stream per row ([`rankbit_quant::pack`]); for block layouts whole blocks ([`rankbit_quant::Block`]), and no scales apart |
//! | `scales` | scale format | `[rows of groups, groups side by side]`; `[1, 1]` for a whole-matrix group; `[blocks]` when nested | scales, or those of blocks of scales |
//! | `global_scale` | f32 | `[1]` | the common factor of E4M3 scales |
//! | `scale_codes` | u8 | `[bytes]` | nested scales ([`rankbit_quant::Nested`]), one bit stream in the order of the groups |
//! | `scale_offset` | f32 | `[1]` | what nested scales have in common |
//! | `zeros` | u8, or a float format | `[bytes]`, or as the scales | zero points: one bit stream in the order of the groups, or floats |
//! | `column_scales` | u8 | `[in]` | vector codes: the columns' scales ([`rankbit_quant::vector::scale`]) |
//! | `rates` | u8 | `[⌈in/2⌉]` | trellis under a budget: bits of a weight in each column, 4 bits each, even columns in the low half |
//! | `outlier_positions` | u8 | `[outliers, 4]` | vector codes: u32 each, `column · out + row`, increasing |
//! | `outlier_values` | scale format | `[outliers]` | what is added to the codes there |
//! | `smooth` | f16 or f32 | `[in]` | λ |
//! | `permutation` | u8 | `[in, bytes]` | which input each position takes, little-endian numbers of 1, 2 or 4 bytes |
//! | `left` | factor format, u8 for few bits | `[out, r]`, or `[out, ⌈r·bits/8⌉]` | L |
//! | `left_scales` | f16 | `[⌈out/64⌉, r]` | scales of L in few bits |
//! | `right` | factor format, u8 for few bits | `[r, in]`, or `[r, ⌈in·bits/8⌉]` | R |
//! | `right_scales` | f16 | `[r, ⌈in/64⌉]` | scales of R in few bits |
//! | `right_rows` | u8 | `[in, s·bytes]` | of an R with s entries in every column (then `right` is `[in, s]`): their rows, little-endian numbers of 1, 2 or 4 bytes |
//! | `bias` | f32 | `[out]` | what is added to every output |
//! | `sparse_values` | value format, or u8 | `[out, K]`; `[blocks, h·w]`; codes as above | kept values of S, or their codes |
//! | `sparse_scales`, … | | | of kept values of few bits: what `scales`, `global_scale`, `scale_codes`, `scale_offset`, `zeros` are to a matrix `[out, K]` |
//! | `sparse_starts` | u8 | `[⌈out/h⌉ + 1, 4]` | blocks: where each row of blocks starts ([`BlockMatrix`](rankbit_sparse::BlockMatrix)) |
//! | `sparse_indices` | u8 | `[out, bytes]`; `[blocks, 2 or 4]` | N:M: packed offsets ([`NmMatrix`](rankbit_sparse::NmMatrix)); blocks: their block columns |
//!
//! Codes of a trellis are one part of `[bytes]`, the columns' streams one after another
//! ([`rankbit_quant::trellis::stream`]); those of a lattice `[out, bytes of a row]`.
//! Dyadic scales are u32 words `b + 2²⁴·c` for `b / 2^c` ([`FloatFormat::Dyadic`]).
//! A rotation has no part: its order and its seed are in the header. Only the parts that a split has are present.
//! All numbers are little-endian.

mod factor;
mod quantized;
mod sparse;
mod vector;

pub use sparse::{KeptValues, SparseHeader, SparseLayout};

use crate::{Error, FactorFormat, LowRank, Side, Split};
use alloc::{
    borrow::ToOwned,
    format,
    string::{String, ToString},
    vec,
    vec::Vec,
};
use quantized::BASE;
use rankbit_quant::transform::{Hadamard, Permutation, Smooth, Transform};
use rankbit_quant::{Activation, FloatFormat, Floats, Scheme};
use serde::{Deserialize, Serialize};

/// Element type of a part.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum PartType {
    /// Bytes.
    U8,
    /// Floats of a format.
    Float(FloatFormat),
}

/// One named tensor of a stored split.
#[derive(Clone, PartialEq, Debug)]
pub struct Part {
    /// Its name within the split.
    pub name: &'static str,
    /// Its element type.
    pub element: PartType,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its bytes, row-major, little-endian.
    pub bytes: Vec<u8>,
}

impl Part {
    /// A tensor of floats.
    fn floats(name: &'static str, shape: Vec<usize>, values: &Floats) -> Self {
        Self { name, element: PartType::Float(values.format()), shape, bytes: values.to_bytes() }
    }

    /// A tensor of bytes.
    fn bytes(name: &'static str, shape: Vec<usize>, bytes: &[u8]) -> Self {
        Self { name, element: PartType::U8, shape, bytes: bytes.to_owned() }
    }
}

/// A part as a container hands it over.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct PartView<'a> {
    /// Its element type.
    pub element: PartType,
    /// Its shape.
    pub shape: &'a [usize],
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// Names of all parts that a split can have.
pub const PART_NAMES: [&str; 26] = [
    "codes",
    "scales",
    "global_scale",
    "scale_codes",
    "scale_offset",
    "zeros",
    "column_scales",
    "rates",
    "outlier_positions",
    "outlier_values",
    "smooth",
    "permutation",
    "left",
    "left_scales",
    "right",
    "right_scales",
    "right_rows",
    "bias",
    "sparse_values",
    "sparse_scales",
    "sparse_global_scale",
    "sparse_scale_codes",
    "sparse_scale_offset",
    "sparse_zeros",
    "sparse_starts",
    "sparse_indices",
];

/// What the parts mean. Unknown keys are refused: a split from a newer version is never read as something else.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// `[out, in]`.
    pub shape: [usize; 2],
    /// The quantized term's scheme.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<Scheme>,
    /// The low-rank term.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low_rank: Option<LowRankHeader>,
    /// Whether a bias is added to every output.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub bias: bool,
    /// The sparse term.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sparse: Option<SparseHeader>,
    /// How smoothing factors are stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smooth: Option<FloatFormat>,
    /// Whether inputs are permuted.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub permuted: bool,
    /// How inputs are rotated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<RotationHeader>,
    /// What happens to the quantized term's inputs; absent when they stay floats.
    #[serde(default, skip_serializing_if = "Activation::is_float")]
    pub activation: Activation,
}

/// A randomized Hadamard rotation of the quantized term's inputs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotationHeader {
    /// Order of the blocks on its diagonal; `in` when it is whole.
    pub block: usize,
    /// What the signs are drawn from; absent without signs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

/// Rank and storage of the low-rank term.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LowRankHeader {
    /// The rank.
    pub rank: usize,
    /// Format of L.
    pub left: FactorFormat,
    /// Format of R.
    pub right: FactorFormat,
}

impl Header {
    /// The header as a JSON string.
    ///
    /// # Errors
    /// [`Error::InvalidHeader`] when the serializer fails, which plain values like these do not make it do.
    pub fn to_json(&self) -> Result<String, Error> {
        serde_json::to_string(self).map_err(invalid)
    }

    /// The header of a JSON string.
    ///
    /// # Errors
    /// [`Error::InvalidHeader`] for anything that is not a header.
    pub fn from_json(text: &str) -> Result<Self, Error> {
        serde_json::from_str(text).map_err(invalid)
    }
}

fn invalid(error: serde_json::Error) -> Error {
    Error::InvalidHeader { reason: error.to_string() }
}

/// Header and parts of `split`.
pub fn write(split: &Split) -> (Header, Vec<Part>) {
    let (rows, cols) = split.shape();
    let mut parts = Vec::new();
    if let Some(base) = split.base() {
        quantized::write(base, &BASE, &mut parts);
        if let Some(columns) = base.columns() {
            vector::write(columns, &mut parts);
        }
    }
    if let Some(smooth) = split.transform().and_then(Transform::smooth) {
        parts.push(Part::floats("smooth", vec![cols], smooth.factors()));
    }
    if let Some(permutation) = split.transform().and_then(Transform::permutation) {
        parts.push(Part {
            name: "permutation",
            element: PartType::U8,
            shape: vec![cols, Permutation::entry_bytes(cols)],
            bytes: permutation.to_bytes(),
        });
    }
    if let Some(low_rank) = split.low_rank() {
        factor::write(low_rank.left(), Side::Left, &mut parts);
        factor::write(low_rank.right(), Side::Right, &mut parts);
    }
    if let Some(bias) = split.bias() {
        parts.push(Part::floats("bias", vec![rows], &Floats::F32(bias.to_owned())));
    }
    let sparse = split.sparse().map(|matrix| sparse::write(matrix, &mut parts));
    let header = Header {
        shape: [rows, cols],
        bias: split.bias().is_some(),
        scheme: split.base().map(|base| *base.scheme()),
        low_rank: split.low_rank().map(|lr| LowRankHeader {
            rank: lr.rank(),
            left: lr.left().format(),
            right: lr.right().format(),
        }),
        sparse,
        smooth: split.transform().and_then(Transform::smooth).map(|smooth| smooth.factors().format()),
        permuted: split.transform().and_then(Transform::permutation).is_some(),
        rotation: split
            .transform()
            .and_then(Transform::rotation)
            .map(|rotation| RotationHeader { block: rotation.block(), seed: rotation.seed() }),
        activation: *split.activation(),
    };
    (header, parts)
}

/// The split that `header` describes, its parts handed over by `find` (from a part's name).
///
/// # Errors
/// [`Error::InvalidHeader`] for an empty shape, no term at all, a transform or quantized inputs without a quantized term, or a part that
/// is stored although the header has no use for it (reading on would lose a term); [`Error::MissingPart`];
/// [`Error::PartMismatch`] for a part of another type or shape; and whatever the storage types refuse
/// (a size that does not fit, a scale or factor that is not finite).
pub fn read<'a>(header: &Header, find: impl Fn(&str) -> Option<PartView<'a>>) -> Result<Split, Error> {
    let [rows, cols] = header.shape;
    if rows == 0 || cols == 0 {
        return Err(Error::InvalidHeader { reason: format!("empty shape [{rows}, {cols}]") });
    }
    if header.scheme.is_none() && header.low_rank.is_none() && header.sparse.is_none() {
        let reason = "neither a scheme nor a low-rank nor a sparse term".to_owned();
        return Err(Error::InvalidHeader { reason });
    }
    let transforms = header.smooth.is_some() || header.permuted || header.rotation.is_some();
    if header.scheme.is_none() && transforms {
        return Err(Error::InvalidHeader { reason: "a transform without a scheme".to_owned() });
    }
    if header.scheme.is_none() && !header.activation.is_float() {
        return Err(Error::InvalidHeader { reason: "quantized inputs without a scheme".to_owned() });
    }
    for name in PART_NAMES {
        let of_base = || BASE.describes(name, header.scheme.as_ref());
        let of_sparse = || sparse::describes(name, header.sparse.as_ref());
        let described = of_base().or_else(of_sparse).unwrap_or_else(|| match name {
            "smooth" => header.smooth.is_some(),
            "permutation" => header.permuted,
            "bias" => header.bias,
            "column_scales" | "outlier_positions" | "outlier_values" => {
                header.scheme.is_some_and(|scheme| scheme.code.is_vector())
            }
            "rates" => header.scheme.is_some_and(|scheme| vector::is_rated(&scheme)),
            "left_scales" => factor::has_scales(header.low_rank.map(|low_rank| low_rank.left)),
            "right_rows" => factor::has_rows(header.low_rank.map(|low_rank| low_rank.right)),
            "right_scales" => factor::has_scales(header.low_rank.map(|low_rank| low_rank.right)),
            // The factors.
            _ => header.low_rank.is_some(),
        });
        if !described && find(name).is_some() {
            return Err(Error::InvalidHeader {
                reason: format!("part '{name}' is stored but not described"),
            });
        }
    }
    let part = |name: &'static str, element: PartType, shape: &[usize]| part(&find, name, element, shape);
    let floats = |name, format: FloatFormat, shape: &[usize]| floats(&find, name, format, shape);
    let base = match &header.scheme {
        None => None,
        Some(scheme) if scheme.code.is_vector() => Some(vector::read((rows, cols), scheme, &find)?),
        Some(scheme) => Some(quantized::read((rows, cols), scheme, &BASE, &find)?),
    };
    let low_rank = match header.low_rank {
        None => None,
        Some(LowRankHeader { rank, left, right }) => {
            let left = factor::read((rows, rank), left, Side::Left, &find)?;
            let right = factor::read((rank, cols), right, Side::Right, &find)?;
            Some(LowRank::new(left, right)?)
        }
    };
    let smooth = match header.smooth {
        None => None,
        Some(format) => Some(Smooth::new(floats("smooth", format, &[cols])?)?),
    };
    let permutation = if header.permuted {
        let bytes = part("permutation", PartType::U8, &[cols, Permutation::entry_bytes(cols)])?;
        Some(Permutation::from_bytes(bytes, cols)?)
    } else {
        None
    };
    let rotation = match header.rotation {
        None => None,
        Some(RotationHeader { block, seed }) => {
            let rotation = Hadamard::with_block(cols, block)?;
            Some(match seed {
                Some(seed) => rotation.with_signs(seed),
                None => rotation,
            })
        }
    };
    let transform = match transforms {
        false => None,
        true => Some(Transform::new(cols, smooth, permutation, rotation)?),
    };
    let sparse = header.sparse.map(|header| sparse::read((rows, cols), &header, &find)).transpose()?;
    let split = Split::new((rows, cols), transform, base, low_rank)?
        .with_sparse(sparse)?
        .with_activation(header.activation)?;
    match header.bias {
        false => Ok(split),
        true => split.with_bias(floats("bias", FloatFormat::F32, &[rows])?.to_f32()),
    }
}

/// The bytes of a part that must be of this type and shape.
fn part<'a>(
    find: &impl Fn(&str) -> Option<PartView<'a>>,
    name: &'static str,
    element: PartType,
    shape: &[usize],
) -> Result<&'a [u8], Error> {
    match find(name) {
        None => Err(Error::MissingPart { part: name }),
        Some(view) if view.element == element && view.shape == shape => Ok(view.bytes),
        Some(_) => Err(Error::PartMismatch { part: name, expected: format!("{element:?} {shape:?}") }),
    }
}

/// The values of a part of floats.
fn floats<'a>(
    find: &impl Fn(&str) -> Option<PartView<'a>>,
    name: &'static str,
    format: FloatFormat,
    shape: &[usize],
) -> Result<Floats, Error> {
    let len = shape.iter().try_fold(1_usize, |a, &b| a.checked_mul(b));
    let len = len.ok_or(rankbit_quant::Error::TooLarge { what: name })?;
    let bytes = part(find, name, PartType::Float(format), shape)?;
    Ok(Floats::from_bytes(bytes, format, len, name)?)
}
