//! The storage of a quantized matrix: packed codes, scales, zero points.
//!
//! Byte layout (little-endian throughout):
//!
//! | part | contents |
//! |---|---|
//! | codes | planar: `out` rows of ⌈in · bits / 8⌉ bytes, each row one bit stream ([`pack`](crate::pack)) |
//! | scales | one value per group, row by row, in the scheme's scale format; one value for a whole-matrix group |
//! | global scale | one f32, the common factor of E4M3 scales; only for those |
//! | scale codes | one bit stream of all scales, when they are nested; the scales part then has one value per block |
//! | scale offset | one f32, what nested scales have in common, if anything |
//! | zeros | one bit stream of all zero points, in the order of the scales ([`ZeroPoint::bits`] each, floats little-endian); empty without |
//!
//! A block layout has one part, the codes: `out` rows of whole blocks ([`Block`](crate::Block)), scales inside. Vector
//! codes have parts for their columns: see [`vector`](crate::vector).

use crate::codec;
use crate::{
    ColumnParts, Error, FloatFormat, Floats, Grouping, Layout, Scales, Scheme, ZeroPoint, pack, rows, vector,
};
use alloc::{vec, vec::Vec};
#[cfg(feature = "solve")]
use rankbit_linalg::faer::Mat;

/// What decodes rows of a matrix, everything in it that rows share.
#[expect(
    clippy::large_enum_variant,
    reason = "one on the stack for each call; a box would be one for each row"
)]
pub(crate) enum Decoder<'a> {
    Scalar(codec::Decoder),
    Vector(vector::Decoder<'a>),
}

/// A matrix `[out, in]` of few bits.
#[derive(Clone, PartialEq, Debug)]
pub struct Quantized {
    shape: (usize, usize),
    scheme: Scheme,
    grouping: Grouping,
    codes: Vec<u8>,
    scales: Scales,
    zeros: Vec<u8>,
    /// What vector codes keep for their columns.
    columns: Option<ColumnParts>,
}

impl Quantized {
    /// Assembles the storage from its parts.
    ///
    /// # Errors
    /// [`Error::InvalidScheme`], [`Error::GroupSize`], [`Error::TooLarge`] for a scheme or shape that does
    /// not work, [`Error::PartLength`] when a part's size is not what shape and scheme ask for,
    /// [`Error::StoredNonFinite`] for a scale that is NaN or infinite, [`Error::NotANumber`] for a code that is.
    pub fn from_parts(
        shape: (usize, usize),
        scheme: Scheme,
        codes: Vec<u8>,
        scales: impl Into<Scales>,
        zeros: Vec<u8>,
    ) -> Result<Self, Error> {
        let scales = scales.into();
        scheme.check()?;
        if scheme.code.is_vector() {
            return Err(Error::InvalidScheme { reason: "vector codes have parts for their columns" });
        }
        let grouping = scheme.grouping(shape)?;
        let lengths = part_lengths(shape, &scheme)?;
        let bytes = scheme.scale_format.bytes();
        for (part, expected, found) in [
            ("codes", lengths.codes, codes.len()),
            ("scale codes", lengths.scale_codes, scales.packed_codes().len()),
            ("scales", lengths.scales * bytes, scales.floats().len() * scales.format().bytes()),
            ("zeros", lengths.zeros, zeros.len()),
        ] {
            if expected != found {
                return Err(Error::PartLength { part, expected, found });
            }
        }
        if scales.format() != scheme.scale_format || scales.nesting() != scheme.nested {
            return Err(Error::InvalidScheme { reason: "scales are not in the scheme's scale format" });
        }
        if let Some(index) = scales.floats().first_non_finite() {
            return Err(Error::StoredNonFinite { what: "scales", index });
        }
        let quantized = Self { shape, scheme, grouping, codes, scales, zeros, columns: None };
        quantized.check_codes()?;
        quantized.check_zeros()?;
        Ok(quantized)
    }

    /// Assembles the storage of vector codes from its parts: codes, one scale for each row, and what belongs to the
    /// columns.
    ///
    /// # Errors
    /// As [`Quantized::from_parts`] and [`ColumnParts::new`]; [`Error::InvalidScheme`] for a scheme of scalar codes.
    pub fn from_vector_parts(
        shape: (usize, usize),
        scheme: Scheme,
        codes: Vec<u8>,
        scales: Floats,
        columns: ColumnParts,
    ) -> Result<Self, Error> {
        let grouping = vector::check_parts(shape, &scheme, &codes, &scales, &columns)?;
        Ok(Self {
            shape,
            scheme,
            grouping,
            codes,
            scales: scales.into(),
            zeros: Vec::new(),
            columns: Some(columns),
        })
    }

    /// What vector codes keep for their columns; `None` for scalar codes.
    pub const fn columns(&self) -> Option<&ColumnParts> {
        self.columns.as_ref()
    }

    /// Whether every code is a number, where a code can be anything else, and every scale inside a block.
    fn check_codes(&self) -> Result<(), Error> {
        if let Layout::Block(block) = self.scheme.layout {
            let bad = self.codes.chunks_exact(block.bytes()).position(|bytes| !block.is_finite(bytes));
            return match bad {
                Some(index) => Err(Error::StoredNonFinite { what: "block scales", index }),
                None => Ok(()),
            };
        }
        let code = self.scheme.code;
        if code.is_total() || self.codes.is_empty() {
            return Ok(());
        }
        let mut codes = vec![0; self.shape.1];
        for row in 0..self.shape.0 {
            pack::unpack(self.row_codes(row), code.bits(), &mut codes);
            if let Some(col) = codes.iter().position(|&c| !code.value(c).is_finite()) {
                return Err(Error::NotANumber { row, col, code: codes[col] });
            }
        }
        Ok(())
    }

    /// Whether zero points that are floats are finite.
    fn check_zeros(&self) -> Result<(), Error> {
        if !matches!(self.scheme.zero, ZeroPoint::Float(_)) {
            return Ok(());
        }
        match (0..self.grouping.scales).find(|&index| !self.zero_at(index).is_finite()) {
            Some(index) => Err(Error::StoredNonFinite { what: "zeros", index }),
            None => Ok(()),
        }
    }

    /// The same scales and zero points with other packed codes.
    #[cfg(feature = "solve")]
    pub(crate) fn with_codes(mut self, codes: Vec<u8>) -> Result<Self, Error> {
        let (expected, found) = (self.codes.len(), codes.len());
        if expected != found {
            return Err(Error::PartLength { part: "codes", expected, found });
        }
        self.codes = codes;
        Ok(self)
    }

    /// Rows and columns, `(out, in)`.
    pub const fn shape(&self) -> (usize, usize) {
        self.shape
    }

    /// The number format.
    pub const fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    /// The groups.
    pub const fn grouping(&self) -> &Grouping {
        &self.grouping
    }

    /// The packed codes.
    pub fn codes(&self) -> &[u8] {
        &self.codes
    }

    /// The packed codes of one row.
    ///
    /// # Panics
    /// When `row` is not below `out`.
    pub fn row_codes(&self, row: usize) -> &[u8] {
        let bytes = self.codes.len().checked_div(self.shape.0).unwrap_or(0);
        &self.codes[row * bytes..(row + 1) * bytes]
    }

    /// The scales, in group order.
    pub const fn scales(&self) -> &Scales {
        &self.scales
    }

    /// The packed zero points.
    pub fn zeros(&self) -> &[u8] {
        &self.zeros
    }

    /// Scale of group `group` of row `row`.
    ///
    /// # Panics
    /// When there is no such group, and for block layouts, which have their scales inside the codes.
    pub fn scale(&self, row: usize, group: usize) -> f32 {
        self.scales.get(self.grouping.index(row, group))
    }

    /// Zero point of group `group` of row `row`; 0 for schemes without.
    ///
    /// # Panics
    /// When there is no such group.
    pub fn zero_point(&self, row: usize, group: usize) -> f32 {
        self.zero_at(self.grouping.index(row, group))
    }

    /// The stored number of the zero point of group `group` of row `row`, for zero points of a few bits; 0 for others.
    ///
    /// # Panics
    /// When there is no such group.
    pub fn zero_code(&self, row: usize, group: usize) -> u8 {
        let Scheme { zero, code, .. } = self.scheme;
        match zero {
            ZeroPoint::Integer | ZeroPoint::Fraction { .. } => {
                pack::get(&self.zeros, zero.bits(code), self.grouping.index(row, group))
            }
            ZeroPoint::None | ZeroPoint::Min | ZeroPoint::Float(_) => 0,
        }
    }

    /// Zero point `index`, in group order.
    fn zero_at(&self, index: usize) -> f32 {
        let Scheme { zero, code, .. } = self.scheme;
        let two = || [self.zeros[2 * index], self.zeros[2 * index + 1]];
        match zero {
            ZeroPoint::None | ZeroPoint::Min => 0.0,
            ZeroPoint::Integer | ZeroPoint::Fraction { .. } => {
                zero.value(code, pack::get(&self.zeros, zero.bits(code), index))
            }
            ZeroPoint::Float(FloatFormat::F16) => half::f16::from_le_bytes(two()).to_f32(),
            ZeroPoint::Float(FloatFormat::Bf16) => half::bf16::from_le_bytes(two()).to_f32(),
            ZeroPoint::Float(_) => {
                let bytes = &self.zeros[4 * index..4 * index + 4];
                f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
            }
        }
    }

    /// Every stored bit: codes with their padding, scales with what they share, zero points.
    pub fn stored_bits(&self) -> u64 {
        (self.codes.len() + self.zeros.len()) as u64 * 8
            + self.scales.stored_bits()
            + self.columns.as_ref().map_or(0, ColumnParts::stored_bits)
    }

    /// Writes row `row`, decoded, to `out`: `ŵ = s · (value(code) - z)`, each a single f32 rounding.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when there is no such row or `out` is not `in` entries long.
    pub fn row_into(&self, row: usize, out: &mut [f32]) -> Result<(), Error> {
        if row >= self.shape.0 || out.len() != self.shape.1 {
            return Err(Error::ShapeMismatch {
                what: "row",
                expected: self.shape,
                found: (row.saturating_add(1), out.len()),
            });
        }
        self.decode_row(row, &self.decoder(), out);
        Ok(())
    }

    /// Writes the whole matrix, decoded, to `out`, row by row.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when `out` does not have `out · in` entries.
    pub fn dequantize_into(&self, out: &mut [f32]) -> Result<(), Error> {
        rows::check_len("output", out.len(), self.shape)?;
        if let Some(decoder) = vector::Decoder::new(self) {
            decoder.all_into(out);
            return Ok(());
        }
        let decoder = self.decoder();
        for (row, out) in out.chunks_exact_mut(self.shape.1.max(1)).enumerate() {
            self.decode_row(row, &decoder, out);
        }
        Ok(())
    }

    /// The whole matrix, decoded.
    #[cfg(feature = "solve")]
    pub fn dequantize(&self) -> Mat<f32> {
        let (rows, cols) = self.shape;
        if let Some(decoder) = vector::Decoder::new(self) {
            let mut values = vec![0.0; rows * cols];
            decoder.all_into(&mut values);
            return Mat::from_fn(rows, cols, |i, j| values[i * cols + j]);
        }
        let decoder = self.decoder();
        let mut row_values = vec![0.0; cols];
        let mut matrix = Mat::zeros(rows, cols);
        for row in 0..rows {
            self.decode_row(row, &decoder, &mut row_values);
            for (entry, &value) in matrix.row_mut(row).iter_mut().zip(&row_values) {
                *entry = value;
            }
        }
        matrix
    }

    /// What [`Quantized::decode_row`] needs, the same for all rows.
    pub(crate) fn decoder(&self) -> Decoder<'_> {
        match vector::Decoder::new(self) {
            Some(decoder) => Decoder::Vector(decoder),
            None => Decoder::Scalar(codec::Decoder::new(self.scheme.code)),
        }
    }

    /// Decodes row `row` into `out` (`in` entries).
    pub(crate) fn decode_row(&self, row: usize, decoder: &Decoder<'_>, out: &mut [f32]) {
        let decoder = match decoder {
            Decoder::Vector(decoder) => return decoder.row(row, out),
            Decoder::Scalar(decoder) => decoder,
        };
        if let Layout::Block(block) = self.scheme.layout {
            let blocks = self.row_codes(row).chunks_exact(block.bytes());
            for (bytes, out) in blocks.zip(out.chunks_mut(self.grouping.size)) {
                block.decode(bytes, out);
            }
            return;
        }
        decoder.row(self, row, out);
    }

    /// The scales of groups `first ..` of row `row`, as many as `out` holds.
    pub(crate) fn scales_into(&self, row: usize, first: usize, out: &mut [f32]) {
        self.scales.decode_into(self.grouping.index(row, first), out);
    }
}

/// Sizes of the stored parts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartLengths {
    /// Bytes of all codes.
    pub codes: usize,
    /// Number of stored scales: one for each group, or for each block of nested scales.
    pub scales: usize,
    /// Bytes of the codes of nested scales.
    pub scale_codes: usize,
    /// Bytes of all zero points.
    pub zeros: usize,
    /// Bytes of what vector codes keep for their columns, outliers apart.
    pub columns: usize,
    /// Every stored byte, with what all scales share.
    pub bytes: usize,
}

/// Sizes of the parts of a matrix `shape` stored by `scheme`: those of a trellis under a budget as if it were spent to
/// the last bit, and no outliers.
///
/// # Errors
/// [`Error::GroupSize`] for a group size of 0 or an `in` that blocks do not divide, [`Error::TooLarge`] when a size
/// overflows.
pub fn part_lengths(shape: (usize, usize), scheme: &Scheme) -> Result<PartLengths, Error> {
    let (rows, cols) = shape;
    let bits = scheme.code.bits();
    let grouping = scheme.grouping(shape)?;
    if scheme.code.is_vector() {
        return vector::part_lengths(shape, scheme);
    }
    if let Layout::Block(block) = scheme.layout {
        let codes = grouping.scales.checked_mul(block.bytes()).ok_or(Error::TooLarge { what: "blocks" })?;
        return Ok(PartLengths { codes, scales: 0, scale_codes: 0, zeros: 0, columns: 0, bytes: codes });
    }
    let codes = pack::packed_len(cols, bits)
        .and_then(|row| row.checked_mul(rows))
        .ok_or(Error::TooLarge { what: "codes" })?;
    let too_large = || Error::TooLarge { what: "scales" };
    let (scales, scale_codes) = match &scheme.nested {
        None => (grouping.scales, 0),
        Some(nested) => {
            let packed = pack::packed_len(grouping.scales, nested.code.bits()).ok_or_else(too_large)?;
            (nested.blocks(grouping.scale_shape(rows)).ok_or_else(too_large)?, packed)
        }
    };
    let scale_bytes = scales.checked_mul(scheme.scale_format.bytes()).ok_or_else(too_large)?;
    let zeros = pack::packed_len(grouping.scales, scheme.zero.bits(scheme.code))
        .ok_or(Error::TooLarge { what: "zero points" })?;
    let shared = match &scheme.nested {
        Some(nested) => nested.offset != crate::Offset::None,
        None => scheme.scale_format == FloatFormat::E4m3,
    };
    let shared = if shared { size_of::<f32>() } else { 0 };
    let mut bytes = [codes, scale_bytes, scale_codes, zeros, shared].into_iter();
    let bytes = bytes.try_fold(0_usize, usize::checked_add).ok_or(Error::TooLarge { what: "all parts" })?;
    Ok(PartLengths { codes, scales, scale_codes, zeros, columns: 0, bytes })
}
