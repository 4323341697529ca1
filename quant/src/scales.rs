//! The scales of a matrix as they are stored: floats, or few bits under floats ([`Nested`]).

use crate::nested::dynamic_value;
use crate::{Error, FloatFormat, Floats, Nested, Offset, ScaleCode, pack};
use alloc::{vec, vec::Vec};

/// The scales of a matrix, one for each group.
#[derive(Clone, PartialEq, Debug)]
pub struct Scales {
    floats: Floats,
    codes: Option<Codes>,
}

/// Scales of a few bits each.
#[derive(Clone, PartialEq, Debug)]
struct Codes {
    nested: Nested,
    packed: Vec<u8>,
    offset: f32,
    /// Shape of the scales: rows, and groups side by side.
    shape: (usize, usize),
}

impl From<Floats> for Scales {
    fn from(floats: Floats) -> Self {
        Self { floats, codes: None }
    }
}

impl Scales {
    /// Scales of a few bits: `packed` codes as one bit stream, in the order of the groups, under `floats`, one for each
    /// block. `shape` is that of the scales ([`Grouping::scale_shape`](crate::Grouping::scale_shape)); `offset` counts
    /// unless [`Nested::offset`] is none.
    ///
    /// # Errors
    /// [`Error::InvalidScheme`] for a nesting that means nothing; [`Error::PartLength`] for parts that do not fit the shape, [`Error::TooLarge`] where their sizes overflow, and
    /// [`Error::StoredNonFinite`] for a number among them, or a scale they make, that is NaN or infinite.
    pub fn nested(
        nested: Nested,
        shape: (usize, usize),
        packed: Vec<u8>,
        floats: Floats,
        offset: f32,
    ) -> Result<Self, Error> {
        nested.check(crate::ScaleRule::Absmax, floats.format())?;
        let too_large = Error::TooLarge { what: "scales" };
        let count = shape.0.checked_mul(shape.1).ok_or(too_large.clone())?;
        let bytes = pack::packed_len(count, nested.code.bits()).ok_or(too_large.clone())?;
        let blocks = nested.blocks(shape).ok_or(too_large)?;
        let lengths = [("scale codes", bytes, packed.len()), ("scales", blocks, floats.len())];
        if let Some(&(part, expected, found)) = lengths.iter().find(|(_, expected, found)| expected != found)
        {
            return Err(Error::PartLength { part, expected, found });
        }
        let offset = if nested.offset == Offset::None { 0.0 } else { offset };
        if !offset.is_finite() {
            return Err(Error::StoredNonFinite { what: "scale offset", index: 0 });
        }
        let ends = [nested.code.max(), nested.code.value(0)];
        let sane = |scale: f32| ends.iter().all(|v| (offset + scale * v).is_finite());
        if let Some(index) = (0..floats.len()).find(|&i| !sane(floats.get(i))) {
            return Err(Error::StoredNonFinite { what: "scales", index });
        }
        Ok(Self { floats, codes: Some(Codes { nested, packed, offset, shape }) })
    }

    /// `wanted` as near as `nested` stores it, second-level scales as `format`; see [`Nested`] for the rules.
    pub(crate) fn encode(
        wanted: &[f64],
        nested: Nested,
        shape: (usize, usize),
        format: FloatFormat,
    ) -> Result<Self, Error> {
        let offset = match nested.offset {
            Offset::None => 0.0,
            Offset::Mean => crate::float::narrow(wanted.iter().sum::<f64>() / (wanted.len().max(1)) as f64),
            Offset::Least => crate::float::narrow(wanted.iter().copied().reduce(f64::min).unwrap_or(0.0)),
        };
        let distance = |scale: f64| crate::float::narrow(scale) - offset;
        let blocks = nested.blocks(shape).ok_or(Error::TooLarge { what: "scales" })?;
        let mut largest = vec![0.0_f32; blocks];
        for (index, &scale) in wanted.iter().enumerate() {
            let (d, top) = (distance(scale), &mut largest[nested.block_of(index, shape.1)]);
            *top = top.max(if nested.code == ScaleCode::Dynamic { d.abs() } else { d });
        }
        let mut floats = Floats::with_capacity(format, blocks);
        for top in largest {
            floats.push(f64::from(top) / f64::from(nested.code.max()));
        }
        let code = |(index, &scale): (usize, &f64)| {
            let (d, unit) = (distance(scale), floats.get(nested.block_of(index, shape.1)));
            match nested.code {
                _ if unit == 0.0 => 0,
                ScaleCode::Linear { .. } => nested.code.nearest(d / unit),
                ScaleCode::Dynamic => coarse(d / unit),
            }
        };
        let codes: Vec<u8> = wanted.iter().enumerate().map(code).collect();
        Self::from_codes(nested, shape, &codes, floats, offset)
    }

    /// One code a byte, packed.
    pub(crate) fn from_codes(
        nested: Nested,
        shape: (usize, usize),
        codes: &[u8],
        floats: Floats,
        offset: f32,
    ) -> Result<Self, Error> {
        let bits = nested.code.bits();
        let bytes = pack::packed_len(codes.len(), bits).ok_or(Error::TooLarge { what: "scales" })?;
        let mut packed = vec![0; bytes];
        pack::pack(codes, bits, &mut packed);
        Self::nested(nested, shape, packed, floats, offset)
    }

    /// The stored floats: the scales themselves, or those of the blocks of scales.
    pub const fn floats(&self) -> &Floats {
        &self.floats
    }

    /// How the scales are a few bits, when they are.
    pub fn nesting(&self) -> Option<Nested> {
        self.codes.as_ref().map(|codes| codes.nested)
    }

    /// The packed codes of scales that have any, else nothing.
    pub fn packed_codes(&self) -> &[u8] {
        self.codes.as_ref().map_or(&[], |codes| &codes.packed)
    }

    /// What scales of a few bits have in common, where that is stored.
    pub fn offset(&self) -> Option<f32> {
        self.codes.as_ref().filter(|codes| codes.nested.offset != Offset::None).map(|codes| codes.offset)
    }

    /// Format of the stored floats.
    pub const fn format(&self) -> FloatFormat {
        self.floats.format()
    }

    /// The common factor of E4M3 scales.
    pub const fn global_scale(&self) -> Option<f32> {
        self.floats.global_scale()
    }

    /// Number of scales.
    pub fn len(&self) -> usize {
        self.codes.as_ref().map_or(self.floats.len(), |codes| codes.shape.0 * codes.shape.1)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every stored bit.
    pub fn stored_bits(&self) -> u64 {
        let singles = usize::from(self.global_scale().is_some()) + usize::from(self.offset().is_some());
        let floats = self.floats.len() * self.floats.format().bytes();
        (floats + self.packed_codes().len() + singles * size_of::<f32>()) as u64 * 8
    }

    /// Scale `index`.
    ///
    /// # Panics
    /// When `index` is not below [`Scales::len`].
    pub fn get(&self, index: usize) -> f32 {
        match &self.codes {
            None => self.floats.get(index),
            Some(codes) => {
                let code = pack::get(&codes.packed, codes.nested.code.bits(), index);
                codes.value(self.block_scale(index), code)
            }
        }
    }

    /// Scales `start .. start + out.len()` as [`Scales::get`] gives them.
    ///
    /// # Panics
    /// When that range is not inside the vector.
    pub fn decode_into(&self, start: usize, out: &mut [f32]) {
        match &self.codes {
            None => self.floats.decode_into(start, out),
            Some(_) => {
                for (value, index) in out.iter_mut().zip(start..) {
                    *value = self.get(index);
                }
            }
        }
    }

    /// All scales.
    pub fn to_f32(&self) -> Vec<f32> {
        match &self.codes {
            None => self.floats.to_f32(),
            Some(_) => (0..self.len()).map(|index| self.get(index)).collect(),
        }
    }

    /// The float above scale `index`.
    pub(crate) fn block_scale(&self, index: usize) -> f32 {
        let block = self.codes.as_ref().map_or(index, |codes| codes.nested.block_of(index, codes.shape.1));
        self.floats.get(block)
    }

    /// The code of the scale nearest to `wanted` that can stand at `index`, and that scale; for nested scales only.
    #[cfg(feature = "solve")]
    pub(crate) fn nearest_code(&self, index: usize, wanted: f64) -> Option<(u8, f32)> {
        let codes = self.codes.as_ref()?;
        let unit = self.block_scale(index);
        if unit == 0.0 {
            return Some((0, codes.value(unit, 0)));
        }
        let code = codes
            .nested
            .code
            .nearest(crate::float::narrow((wanted - f64::from(codes.offset)) / f64::from(unit)));
        // Where codes lie closer than f32 tells them apart, one that decodes to the very number.
        let near = (-2_i8..=2).filter_map(|by| code.checked_add_signed(by)).filter(|c| self.holds(*c));
        let exact = near.map(|c| (c, codes.value(unit, c))).find(|(_, value)| f64::from(*value) == wanted);
        Some(exact.unwrap_or((code, codes.value(unit, code))))
    }

    /// Whether scales have this code.
    #[cfg(feature = "solve")]
    fn holds(&self, code: u8) -> bool {
        self.codes.as_ref().is_some_and(|codes| usize::from(code) < 1 << codes.nested.code.bits())
    }

    /// These block scales and offset with other scales: one value a group, each one that [`Scales::nearest_code`] gave.
    #[cfg(feature = "solve")]
    pub(crate) fn with_values(&self, values: impl Iterator<Item = f32>) -> Result<Self, Error> {
        match &self.codes {
            None => {
                let mut floats = Floats::with_capacity(self.format(), self.floats.len());
                if let Some(global) = self.global_scale() {
                    floats = floats.with_global_scale(global)?;
                }
                for value in values {
                    floats.push(f64::from(value));
                }
                Ok(floats.into())
            }
            Some(codes) => {
                let found = values
                    .enumerate()
                    .filter_map(|(index, value)| self.nearest_code(index, f64::from(value)));
                let numbers: Vec<u8> = found.map(|(code, _)| code).collect();
                Self::from_codes(codes.nested, codes.shape, &numbers, self.floats.clone(), codes.offset)
            }
        }
    }
}

impl Codes {
    fn value(&self, unit: f32, code: u8) -> f32 {
        let product = self.nested.code.value(code) * unit;
        if self.nested.offset == Offset::None { product } else { product + self.offset }
    }
}

/// The dynamic code of `x` in -1 ..= 1 as bitsandbytes on a CPU chooses it: of 65536 even steps the nearest, and of
/// that step's number the nearest entry.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0 ..= 65535")]
fn coarse(x: f32) -> u8 {
    let step = ((x.clamp(-1.0, 1.0) + 1.0) * 32767.5 + 0.5).clamp(0.0, 65535.0) as u16;
    let center = f64::from(step) / 32767.5 - 1.0;
    let (mut low, mut high) = (0_u8, 255_u8);
    while high - low > 1 {
        let middle = low.midpoint(high);
        if f64::from(dynamic_value(middle)) <= center {
            low = middle;
        } else {
            high = middle;
        }
    }
    let (below, above) = (f64::from(dynamic_value(low)), f64::from(dynamic_value(high)));
    if above - center < center - below { high } else { low }
}
