//! Stored floats: vectors of f32, f16 or bf16, used for scales, smoothing factors and low-rank factors alike, and
//! the two 8-bit formats of scales, E8M0 and E4M3.
//!
//! Rounding to the stored format is nearest, ties to even. Bytes are little-endian.

use crate::{Error, MiniFloat, dyadic::stored};
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
    /// A power of two, `2^(code - 127)`, code 255 being NaN: no zero, no sign. The scales of the OCP MX formats.
    E8m0,
    /// [`MiniFloat::E4m3`] times one f32 for the whole vector (1 unless said otherwise): the scales of NVFP4.
    /// Values beyond the largest become the largest.
    E4m3,
    /// A dyadic number `b / 2^c` of 32 bits, for integer-only arithmetic: 24 bits of b, then 8 of c (two's complement).
    /// No sign. Every f32 from 2⁻¹⁰⁴ on, exactly.
    Dyadic,
}

impl FloatFormat {
    /// Bits of one stored value.
    pub const fn bits(self) -> usize {
        match self {
            Self::F32 | Self::Dyadic => 32,
            Self::F16 | Self::Bf16 => 16,
            Self::E8m0 | Self::E4m3 => 8,
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
            Self::F16 => f16::from_f32(to_odd(value)).to_f32(),
            Self::Bf16 => bf16::from_f32(to_odd(value)).to_f32(),
            Self::E8m0 => e8m0_value(e8m0_code(narrow(value))),
            Self::E4m3 => MiniFloat::E4m3.value(MiniFloat::E4m3.encode(narrow(value))),
            Self::Dyadic => stored::value(stored::word(narrow(value))),
        }
    }

    /// The largest finite value of the formats that hold any number; for the others that of f32.
    pub(crate) fn largest(self) -> f32 {
        match self {
            Self::F32 => f32::MAX,
            Self::F16 => f16::MAX.to_f32(),
            Self::Bf16 => bf16::MAX.to_f32(),
            Self::E8m0 | Self::E4m3 | Self::Dyadic => f32::MAX,
        }
    }

    /// The name used in files, flags and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::E8m0 => "e8m0",
            Self::E4m3 => "e4m3",
            Self::Dyadic => "dyadic",
        }
    }
}

/// The number of an E8M0 code.
pub(crate) fn e8m0_value(code: u8) -> f32 {
    match code {
        0 => f32::MIN_POSITIVE / 2.0,
        255 => f32::NAN,
        _ => f32::from_bits(u32::from(code) << 23),
    }
}

/// The E8M0 code nearest to `value`, a tie to the larger power; 0 for what is not positive, 254 above all powers.
fn e8m0_code(value: f32) -> u8 {
    let positive = value.max(0.0);
    if !positive.is_normal() && positive < 1.0 {
        // Below 2⁻¹²⁶ there is 2⁻¹²⁷ only.
        return u8::from(positive >= f32::MIN_POSITIVE * 0.75);
    }
    let half_up = positive.to_bits() + (1 << 22);
    let [.., code] = (half_up >> 23).min(254).to_be_bytes();
    code
}

/// f64 → f32, to nearest.
#[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is this function's purpose")]
pub(crate) const fn narrow(value: f64) -> f32 {
    value as f32
}

/// f64 → f32, to the neighbour with an odd last bit unless exact: rounding that once more, to nearest in 16 bits,
/// is rounding once. (The conversions of `half` from f64 drop the low half of the mantissa first, and lose ties.)
fn to_odd(value: f64) -> f32 {
    let near = narrow(value);
    let kept = f64::from(near);
    if kept == value || !near.is_finite() || near.to_bits() & 1 == 1 {
        return near;
    }
    // The other neighbour: one step away from zero in magnitude when `value` lies beyond, else one towards it.
    let beyond = value.abs() > kept.abs();
    let bits = near.to_bits();
    if beyond {
        f32::from_bits(bits + 1)
    } else if near == 0.0 {
        near
    } else {
        f32::from_bits(bits - 1)
    }
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
    /// As codes of E8M0.
    E8m0(Vec<u8>),
    /// As codes of E4M3 and the factor of all of them.
    E4m3(Vec<u8>, f32),
    /// As words of dyadic numbers.
    Dyadic(Vec<u32>),
}

impl Floats {
    /// An empty vector of `format` with room for `capacity` values.
    pub fn with_capacity(format: FloatFormat, capacity: usize) -> Self {
        match format {
            FloatFormat::F32 => Self::F32(Vec::with_capacity(capacity)),
            FloatFormat::F16 => Self::F16(Vec::with_capacity(capacity)),
            FloatFormat::Bf16 => Self::Bf16(Vec::with_capacity(capacity)),
            FloatFormat::E8m0 => Self::E8m0(Vec::with_capacity(capacity)),
            FloatFormat::E4m3 => Self::E4m3(Vec::with_capacity(capacity), 1.0),
            FloatFormat::Dyadic => Self::Dyadic(Vec::with_capacity(capacity)),
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
            FloatFormat::E8m0 => Self::E8m0(values.iter().map(|&value| e8m0_code(value)).collect()),
            FloatFormat::E4m3 => {
                Self::E4m3(values.iter().map(|&value| MiniFloat::E4m3.encode(value)).collect(), 1.0)
            }
            FloatFormat::Dyadic => Self::Dyadic(values.iter().map(|&value| stored::word(value)).collect()),
        }
    }

    /// The factor that all values of [`FloatFormat::E4m3`] share; `None` for the other formats.
    pub const fn global_scale(&self) -> Option<f32> {
        match self {
            Self::E4m3(_, global) => Some(*global),
            _ => None,
        }
    }

    /// These codes with another common factor, for [`FloatFormat::E4m3`]; other formats stay what they are.
    ///
    /// # Errors
    /// [`Error::StoredNonFinite`] for a factor that is NaN, infinite, negative, zero or subnormal, or that
    /// carries a value past f32.
    pub fn with_global_scale(self, global: f32) -> Result<Self, Error> {
        let Self::E4m3(codes, _) = self else { return Ok(self) };
        if !global.is_normal() || global < 0.0 {
            return Err(Error::StoredNonFinite { what: "global_scale", index: 0 });
        }
        let scaled = Self::E4m3(codes, global);
        match scaled.first_non_finite() {
            Some(index) => Err(Error::StoredNonFinite { what: "scales", index }),
            None => Ok(scaled),
        }
    }

    /// [`Floats::encode`], but in f32 when `format` would lose the values by its range.
    ///
    /// Lost means: a finite value became infinite, or the rounding error of the whole vector exceeds
    /// 2⁻⁷ of its Euclidean norm (plain rounding in range stays below 2⁻⁸ even for bf16; the 8-bit formats are
    /// seldom that close). Returns the vector and whether it was widened. Cost O(n).
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
            FloatFormat::E8m0 => Self::E8m0(bytes.to_vec()),
            FloatFormat::E4m3 => Self::E4m3(bytes.to_vec(), 1.0),
            FloatFormat::Dyadic => Self::Dyadic(
                bytes.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect(),
            ),
        };
        match floats.first_non_finite() {
            Some(index) => Err(Error::StoredNonFinite { what, index }),
            None => Ok(floats),
        }
    }

    /// The values as little-endian bytes, without [`Floats::global_scale`].
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::F32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Self::F16(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Self::Bf16(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Self::E8m0(v) | Self::E4m3(v, _) => v.clone(),
            Self::Dyadic(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
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
                let stored = f16::from_f32(to_odd(value));
                v.push(stored);
                stored.to_f32()
            }
            Self::Bf16(v) => {
                let stored = bf16::from_f32(to_odd(value));
                v.push(stored);
                stored.to_f32()
            }
            Self::E8m0(v) => {
                let code = e8m0_code(narrow(value));
                v.push(code);
                e8m0_value(code)
            }
            Self::E4m3(v, global) => {
                let code = MiniFloat::E4m3.encode(narrow(value) / *global);
                v.push(code);
                MiniFloat::E4m3.value(code) * *global
            }
            Self::Dyadic(v) => {
                let word = stored::word(narrow(value));
                v.push(word);
                stored::value(word)
            }
        }
    }

    /// The format.
    pub const fn format(&self) -> FloatFormat {
        match self {
            Self::F32(_) => FloatFormat::F32,
            Self::F16(_) => FloatFormat::F16,
            Self::Bf16(_) => FloatFormat::Bf16,
            Self::E8m0(_) => FloatFormat::E8m0,
            Self::E4m3(..) => FloatFormat::E4m3,
            Self::Dyadic(_) => FloatFormat::Dyadic,
        }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(v) => v.len(),
            Self::F16(v) => v.len(),
            Self::Bf16(v) => v.len(),
            Self::E8m0(v) | Self::E4m3(v, _) => v.len(),
            Self::Dyadic(v) => v.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Value `index` as f32: exact, but for [`FloatFormat::E4m3`] the product with the common factor, rounded.
    ///
    /// # Panics
    /// When `index` is not below [`Floats::len`].
    pub fn get(&self, index: usize) -> f32 {
        match self {
            Self::F32(v) => v[index],
            Self::F16(v) => v[index].to_f32(),
            Self::Bf16(v) => v[index].to_f32(),
            Self::E8m0(v) => e8m0_value(v[index]),
            Self::E4m3(v, global) => MiniFloat::E4m3.value(v[index]) * global,
            Self::Dyadic(v) => stored::value(v[index]),
        }
    }

    /// Values `start .. start + out.len()` as [`Floats::get`] gives them.
    ///
    /// # Panics
    /// When that range is not inside the vector.
    pub fn decode_into(&self, start: usize, out: &mut [f32]) {
        let range = start..start + out.len();
        match self {
            Self::F32(v) => out.copy_from_slice(&v[range]),
            Self::F16(v) => v[range].convert_to_f32_slice(out),
            Self::Bf16(v) => v[range].convert_to_f32_slice(out),
            Self::E8m0(v) => {
                for (value, &code) in out.iter_mut().zip(&v[range]) {
                    *value = e8m0_value(code);
                }
            }
            Self::E4m3(v, global) => {
                for (value, &code) in out.iter_mut().zip(&v[range]) {
                    *value = MiniFloat::E4m3.value(code) * global;
                }
            }
            Self::Dyadic(_) => {
                for (index, value) in range.zip(out) {
                    *value = self.get(index);
                }
            }
        }
    }

    /// Index of the first value that is NaN or infinite.
    pub(crate) fn first_non_finite(&self) -> Option<usize> {
        /// Whole pieces first, which the compiler does with vectors.
        fn first<T: Copy>(values: &[T], bad: impl Fn(T) -> bool) -> Option<usize> {
            const PIECE: usize = 256;
            let mut pieces = values.chunks(PIECE);
            let piece = pieces.position(|piece| piece.iter().fold(false, |any, &value| any | bad(value)))?;
            let within = values[piece * PIECE..].iter().position(|&value| bad(value))?;
            Some(piece * PIECE + within)
        }
        match self {
            Self::F32(v) => first(v, |x| !x.is_finite()),
            Self::F16(v) => first(v, |x| x.to_bits() & 0x7C00 == 0x7C00),
            Self::Bf16(v) => first(v, |x| x.to_bits() & 0x7F80 == 0x7F80),
            Self::E8m0(v) => first(v, |code| code == u8::MAX),
            Self::E4m3(v, global) if global.abs() <= 1.0 => {
                // No product can overflow.
                first(v, |code| code & 0x7F == 0x7F)
            }
            Self::E4m3(..) | Self::Dyadic(_) => (0..self.len()).find(|&index| !self.get(index).is_finite()),
        }
    }

    /// All values as [`Floats::get`] gives them.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.len()];
        self.decode_into(0, &mut out);
        out
    }
}
