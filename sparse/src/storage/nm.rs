//! N:M storage: kept values and packed indices.

use super::values::{ValueFormat, Values, all_rows};
use crate::{Error, Mask, NmPattern};
use alloc::{vec, vec::Vec};
use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_quant::{FloatFormat, pack};

/// A matrix `[out, in]` with N of every M entries.
///
/// ```text
/// values:  row i = its kept values in column order, K = ⌊in/M⌋·N + min(N, in mod M) of them
/// indices: row i = one bit stream of K numbers of b = ⌈log₂ M⌉ bits, each the offset in its group; ⌈K·b/8⌉ bytes
/// column of slot s = M·⌊s/N⌋ + index_s
/// ```
/// Within a group indices rise strictly. Unused bits of a row's last byte are 0. For 2:4 a byte holds the 2-bit indices
/// of two groups, lowest first: the nibbles of [`hardware`](super::hardware).
///
/// Bits per weight of whole groups: `N/M·(bits of a value + b)`, plus scales for quantized values: 9 for 2:4 f16, 3 for
/// 2:4 of 4-bit codes.
///
/// ```
/// use rankbit_linalg::faer::Mat;
/// use rankbit_quant::FloatFormat;
/// use rankbit_sparse::{NmMatrix, NmPattern, Pattern, ValueFormat, criterion, select};
///
/// let weight = Mat::from_fn(8, 32, |i, j| ((i * 31 + j * 17) % 97) as f32 - 48.0);
/// let pattern = NmPattern::TWO_OF_FOUR;
/// let mask = select(criterion::magnitude(weight.as_ref())?.as_ref(), &Pattern::Nm(pattern))?;
/// let format = ValueFormat::Float(FloatFormat::F16);
/// let (stored, _) = NmMatrix::new(weight.as_ref(), &mask, pattern, &format)?;
/// assert_eq!(stored.stored_bits(), 8 * 32 * 9); // half of the values at 16 bits, and 2 bits for each
/// assert_eq!(stored.reconstruct(), mask.apply(weight.as_ref())?);
/// # Ok::<(), rankbit_sparse::Error>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct NmMatrix {
    shape: (usize, usize),
    pattern: NmPattern,
    values: Values,
    indices: Vec<u8>,
}

/// Sizes of the stored parts of an [`NmMatrix`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NmLengths {
    /// Kept values of a row, K.
    pub kept: usize,
    /// Bytes of a row's indices.
    pub index_bytes: usize,
    /// Bytes of all indices.
    pub indices: usize,
}

impl NmLengths {
    /// Those of a matrix `[out, in]`.
    ///
    /// # Errors
    /// [`Error::TooLarge`] when a size overflows.
    pub fn new((rows, cols): (usize, usize), pattern: NmPattern) -> Result<Self, Error> {
        let kept = pattern.kept_per_row(cols);
        let what = Error::TooLarge { what: "indices" };
        let index_bytes = pack::packed_len(kept, pattern.index_bits()).ok_or(what.clone())?;
        rows.checked_mul(kept).ok_or(Error::TooLarge { what: "number of kept values" })?;
        Ok(Self { kept, index_bytes, indices: rows.checked_mul(index_bytes).ok_or(what)? })
    }
}

impl NmMatrix {
    /// Stores the entries of `weight` that `mask` keeps. A group with fewer than N of them is filled up with zeros at
    /// its last free places (the rule of the 2:4 hardware format). Says which value format was too narrow and replaced
    /// by f32, if so.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for a mask of another shape; [`Error::TooManyKept`]; [`Error::NonFinite`] for a kept
    /// NaN or infinity; [`Error::Unsupported`] for 8-bit floats; and whatever the quantizer refuses (a block layout
    /// whose blocks do not divide the kept values of a row, a rounder that needs a Gram matrix).
    pub fn new(
        weight: MatRef<'_, f32>,
        mask: &Mask,
        pattern: NmPattern,
        format: &ValueFormat,
    ) -> Result<(Self, Option<FloatFormat>), Error> {
        mask.check_shape(weight.shape())?;
        mask.check(pattern)?;
        let shape = weight.shape();
        let NmLengths { kept, index_bytes, indices } = NmLengths::new(shape, pattern)?;
        let mut dense = vec![0.0; shape.0 * kept];
        let mut packed = vec![0; indices];
        let mut offsets = vec![0; kept];
        for row in 0..shape.0 {
            let slots = Slots { mask, pattern, row, cols: shape.1 };
            slots.visit(|slot, start, offset, is_kept| {
                offsets[slot] = u8::try_from(offset).unwrap_or(u8::MAX); // at most 31
                dense[row * kept + slot] = if is_kept { weight[(row, start + offset)] } else { 0.0 };
            });
            if let Some(slot) = dense[row * kept..(row + 1) * kept].iter().position(|v| !v.is_finite()) {
                let col = slot / pattern.keep() * pattern.of() + usize::from(offsets[slot]);
                return Err(Error::NonFinite { what: "kept weight", row, col });
            }
            pack::pack(
                &offsets,
                pattern.index_bits(),
                &mut packed[row * index_bytes..(row + 1) * index_bytes],
            );
        }
        let (values, widened) = Values::encode(&dense, (shape.0, kept), format)?;
        Ok((Self { shape, pattern, values, indices: packed }, widened))
    }

    /// Assembles the storage from its parts.
    ///
    /// # Errors
    /// [`Error::PartLength`], [`Error::ShapeMismatch`] for values or indices of another size; [`Error::InvalidIndex`]
    /// for indices beyond their group, not rising within it, or padding that is not zero; [`Error::TooLarge`]; and for
    /// values that are not finite, the quantizer's error.
    pub fn from_parts(
        shape: (usize, usize),
        pattern: NmPattern,
        values: Values,
        indices: Vec<u8>,
    ) -> Result<Self, Error> {
        let lengths = NmLengths::new(shape, pattern)?;
        values.check(shape.0, lengths.kept)?;
        if indices.len() != lengths.indices {
            let (expected, found) = (lengths.indices, indices.len());
            return Err(Error::PartLength { part: "indices", expected, found });
        }
        let matrix = Self { shape, pattern, values, indices };
        matrix.check_indices(&lengths)?;
        Ok(matrix)
    }

    fn check_indices(&self, lengths: &NmLengths) -> Result<(), Error> {
        if self.indices.is_empty() {
            // Without rows there may be any number of columns, and the other way round.
            return Ok(());
        }
        let (keep, of, bits) = (self.pattern.keep(), self.pattern.of(), self.pattern.index_bits());
        let mut offsets = vec![0; lengths.kept];
        for row in 0..self.shape.0 {
            let packed = &self.indices[row * lengths.index_bytes..(row + 1) * lengths.index_bytes];
            pack::unpack(packed, bits, &mut offsets);
            let invalid = |position: usize, requirement| {
                let found = offsets.get(position).copied().map_or(0, usize::from);
                Err(Error::InvalidIndex { what: "index", row, position, found, requirement })
            };
            for (slot, &offset) in offsets.iter().enumerate() {
                let len = self.pattern.group_len(slot / keep * of, self.shape.1);
                if usize::from(offset) >= len {
                    return invalid(slot, "below its group's length");
                }
                if slot % keep > 0 && offset <= offsets[slot - 1] {
                    return invalid(slot, "above the one before it in its group");
                }
            }
            let used = lengths.kept * bits % 8;
            if used > 0 && packed.last().is_some_and(|byte| byte >> used != 0) {
                return invalid(lengths.kept, "followed by zero bits only");
            }
        }
        Ok(())
    }

    /// Rows and columns, `(out, in)`.
    pub const fn shape(&self) -> (usize, usize) {
        self.shape
    }

    /// The pattern.
    pub const fn pattern(&self) -> NmPattern {
        self.pattern
    }

    /// The kept values.
    pub const fn values(&self) -> &Values {
        &self.values
    }

    /// The packed indices.
    pub fn indices(&self) -> &[u8] {
        &self.indices
    }

    /// Kept values of a row, K.
    pub const fn kept_per_row(&self) -> usize {
        self.pattern.kept_per_row(self.shape.1)
    }

    /// Every stored bit: values with their scales, indices with their padding.
    pub fn stored_bits(&self) -> u64 {
        self.values.stored_bits() + self.indices.len() as u64 * 8
    }

    /// The offsets of row `row`'s kept entries in their groups; `out` has K entries.
    pub(crate) fn offsets_into(&self, row: usize, out: &mut [u8]) {
        let bytes = self.indices.len().checked_div(self.shape.0).unwrap_or(0);
        pack::unpack(&self.indices[row * bytes..(row + 1) * bytes], self.pattern.index_bits(), out);
    }

    /// Writes row `row`, decoded, to `out`.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when there is no such row or `out` is not `in` entries long.
    pub fn row_into(&self, row: usize, out: &mut [f32]) -> Result<(), Error> {
        if row >= self.shape.0 || out.len() != self.shape.1 {
            let found = (row.saturating_add(1), out.len());
            return Err(Error::ShapeMismatch { what: "row", expected: self.shape, found });
        }
        let (mut values, mut offsets) = (vec![0.0; self.kept_per_row()], vec![0; self.kept_per_row()]);
        self.values.row_into(row, &mut values);
        self.offsets_into(row, &mut offsets);
        out.fill(0.0);
        for (slot, (value, offset)) in values.into_iter().zip(offsets).enumerate() {
            out[slot / self.pattern.keep() * self.pattern.of() + usize::from(offset)] = value;
        }
        Ok(())
    }

    /// The whole matrix, dense.
    pub fn reconstruct(&self) -> Mat<f32> {
        let (rows, cols) = self.shape;
        let kept = self.kept_per_row();
        let values = all_rows(&self.values, rows, kept);
        let mut offsets = vec![0; kept];
        let mut out = Mat::zeros(rows, cols);
        for row in 0..rows {
            self.offsets_into(row, &mut offsets);
            for (slot, &offset) in offsets.iter().enumerate() {
                let col = slot / self.pattern.keep() * self.pattern.of() + usize::from(offset);
                out[(row, col)] = values[row * kept + slot];
            }
        }
        out
    }

    /// The places that are stored, zeros among them included.
    pub fn mask(&self) -> Mask {
        let mut offsets = vec![0; self.kept_per_row()];
        let mut mask = Mask::empty(self.shape);
        for row in 0..self.shape.0 {
            self.offsets_into(row, &mut offsets);
            for (slot, &offset) in offsets.iter().enumerate() {
                mask.insert(row, slot / self.pattern.keep() * self.pattern.of() + usize::from(offset));
            }
        }
        mask
    }
}

/// The stored places of one row.
struct Slots<'a> {
    mask: &'a Mask,
    pattern: NmPattern,
    row: usize,
    cols: usize,
}

impl Slots<'_> {
    /// `visit(slot, first column of the group, offset, whether the mask keeps it)`, slots in order.
    fn visit(&self, mut visit: impl FnMut(usize, usize, usize, bool)) {
        let mut slot = 0;
        for start in (0..self.cols).step_by(self.pattern.of()) {
            let len = self.pattern.group_len(start, self.cols);
            let kept = |offset: usize| self.mask.contains(self.row, start + offset);
            let missing = self.pattern.keep().min(len) - (0..len).filter(|&o| kept(o)).count();
            // The last `missing` free places are stored as zeros.
            let free = (0..len).filter(|&o| !kept(o)).count();
            let mut passed = 0;
            for offset in 0..len {
                let is_kept = kept(offset);
                if !is_kept {
                    passed += 1;
                    if passed <= free - missing {
                        continue;
                    }
                }
                visit(slot, start, offset, is_kept);
                slot += 1;
            }
        }
    }
}
