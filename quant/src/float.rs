//! Stored floats: vectors of f32, f16 or bf16, used for scales, smoothing factors and low-rank factors alike.
//!
//! Rounding to the stored format is nearest, ties to even. Bytes are little-endian.

use crate::Error;
use alloc::{vec, vec::Vec};
use half::{bf16, f16, slice::HalfFloatSliceExt};

/// How a float is stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
pub enum FloatFormat {
    /// IEEE binary32.
    F32,
    /// IEEE binary16: 11 significant bits, largest 65504, smallest normal 2⁻¹⁴.
    F16,
    /// bfloat16: 8 significant bits, the range of f32.
    Bf16,
}

impl FloatFormat {
    /// Bits of one stored value.
    pub const fn bits(self) -> usize {
        match self {
            Self::F32 => 32,
            Self::F16 | Self::Bf16 => 16,
        }
    }

    /// Bytes of one stored value.
    pub const fn bytes(self) -> usize {
        self.bits() / 8
    }

    /// `value` as this format stores it: rounded to nearest, ties to even, in one step from f64.
    pub fn round(self, value: f64) -> f32 {
        match self {
            Self::F32 => narrow(value),
            Self::F16 => f16::from_f64(value).to_f32(),
            Self::Bf16 => bf16::from_f64(value).to_f32(),
        }
    }

    /// The name used in files, flags and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }
}

/// f64 → f32, to nearest.
#[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is this function's purpose")]
pub(crate) const fn narrow(value: f64) -> f32 {
    value as f32
}

/// A vector of floats in one stored format.
#[derive(Clone, PartialEq, Debug)]
pub enum Floats {
    /// As f32.
    F32(Vec<f32>),
    /// As f16.
    F16(Vec<f16>),
    /// As bf16.
    Bf16(Vec<bf16>),
}

impl Floats {
    /// An empty vector of `format` with room for `capacity` values.
    pub fn with_capacity(format: FloatFormat, capacity: usize) -> Self {
        match format {
            FloatFormat::F32 => Self::F32(Vec::with_capacity(capacity)),
            FloatFormat::F16 => Self::F16(Vec::with_capacity(capacity)),
            FloatFormat::Bf16 => Self::Bf16(Vec::with_capacity(capacity)),
        }
    }

    /// Each of `values`, rounded to nearest in `format`.
    pub fn encode(values: &[f32], format: FloatFormat) -> Self {
        match format {
            FloatFormat::F32 => Self::F32(values.to_vec()),
            FloatFormat::F16 => {
                let mut out = vec![f16::ZERO; values.len()];
                out.convert_from_f32_slice(values);
                Self::F16(out)
            }
            FloatFormat::Bf16 => {
                let mut out = vec![bf16::ZERO; values.len()];
                out.convert_from_f32_slice(values);
                Self::Bf16(out)
            }
        }
    }

    /// [`Floats::encode`], but in f32 when `format` would lose the values by its range.
    ///
    /// Lost means: a finite value became infinite, or the rounding error of the whole vector exceeds
    /// 2⁻⁷ of its Euclidean norm (plain rounding in range stays below 2⁻⁸ even for bf16). Returns the
    /// vector and whether it was widened. Cost O(n).
    pub fn encode_or_widen(values: &[f32], format: FloatFormat) -> (Self, bool) {
        let stored = Self::encode(values, format);
        if format == FloatFormat::F32 {
            return (stored, false);
        }
        let (mut error, mut norm) = (0.0_f64, 0.0_f64);
        for (i, &value) in values.iter().enumerate() {
            let (value, kept) = (f64::from(value), f64::from(stored.get(i)));
            error += (value - kept) * (value - kept);
            norm += value * value;
        }
        // An infinite `error` fails this comparison and is widened, as it should.
        let in_range = error <= norm * (1.0 / 16384.0);
        if in_range { (stored, false) } else { (Self::encode(values, FloatFormat::F32), true) }
    }

    /// Reads `bytes` (little-endian values of `format`).
    ///
    /// # Errors
    /// [`Error::PartLength`] when `bytes` is not `len` whole values, [`Error::StoredNonFinite`] for NaN or
    /// an infinity; both name `what`.
    pub fn from_bytes(
        bytes: &[u8],
        format: FloatFormat,
        len: usize,
        what: &'static str,
    ) -> Result<Self, Error> {
        let expected = len.checked_mul(format.bytes()).ok_or(Error::TooLarge { what })?;
        if bytes.len() != expected {
            return Err(Error::PartLength { part: what, expected, found: bytes.len() });
        }
        let pair = |c: &[u8]| u16::from_le_bytes([c[0], c[1]]);
        let floats = match format {
            FloatFormat::F32 => Self::F32(
                bytes.chunks_exact(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect(),
            ),
            FloatFormat::F16 => Self::F16(bytes.chunks_exact(2).map(|c| f16::from_bits(pair(c))).collect()),
            FloatFormat::Bf16 => {
                Self::Bf16(bytes.chunks_exact(2).map(|c| bf16::from_bits(pair(c))).collect())
            }
        };
        match (0..len).find(|&i| !floats.get(i).is_finite()) {
            Some(index) => Err(Error::StoredNonFinite { what, index }),
            None => Ok(floats),
        }
    }

    /// The values as little-endian bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::F32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Self::F16(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Self::Bf16(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        }
    }

    /// Appends `value`, rounded to nearest in one step, and returns what was stored.
    pub fn push(&mut self, value: f64) -> f32 {
        match self {
            Self::F32(v) => {
                v.push(narrow(value));
                narrow(value)
            }
            Self::F16(v) => {
                v.push(f16::from_f64(value));
                f16::from_f64(value).to_f32()
            }
            Self::Bf16(v) => {
                v.push(bf16::from_f64(value));
                bf16::from_f64(value).to_f32()
            }
        }
    }

    /// The format.
    pub const fn format(&self) -> FloatFormat {
        match self {
            Self::F32(_) => FloatFormat::F32,
            Self::F16(_) => FloatFormat::F16,
            Self::Bf16(_) => FloatFormat::Bf16,
        }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(v) => v.len(),
            Self::F16(v) => v.len(),
            Self::Bf16(v) => v.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Value `index` as f32 (exact).
    ///
    /// # Panics
    /// When `index` is not below [`Floats::len`].
    pub fn get(&self, index: usize) -> f32 {
        match self {
            Self::F32(v) => v[index],
            Self::F16(v) => v[index].to_f32(),
            Self::Bf16(v) => v[index].to_f32(),
        }
    }

    /// Values `start .. start + out.len()` as f32 (exact).
    ///
    /// # Panics
    /// When that range is not inside the vector.
    pub fn decode_into(&self, start: usize, out: &mut [f32]) {
        let range = start..start + out.len();
        match self {
            Self::F32(v) => out.copy_from_slice(&v[range]),
            Self::F16(v) => v[range].convert_to_f32_slice(out),
            Self::Bf16(v) => v[range].convert_to_f32_slice(out),
        }
    }

    /// All values as f32 (exact).
    pub fn to_f32(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.len()];
        self.decode_into(0, &mut out);
        out
    }
}
