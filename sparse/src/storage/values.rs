//! The kept values: plain floats, or a dense matrix `[out, kept]` of few bits.

use crate::Error;
use alloc::vec::Vec;
use rankbit_linalg::faer::MatRef;
use rankbit_quant::{Context, FloatFormat, Floats, Quantized, Rounder, Scheme, quantize_with};

/// How kept values are stored.
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum ValueFormat {
    /// Floats: f32, f16 or bf16.
    Float(FloatFormat),
    /// Few bits. Groups are consecutive *kept* values of a row: one of 64 spans 128 columns at 2:4.
    Scheme(Scheme, Rounder),
}

/// Kept values, row by row.
#[expect(
    clippy::large_enum_variant,
    reason = "one for a whole matrix: its size is nothing beside what it points to"
)]
#[derive(Clone, PartialEq, Debug)]
pub enum Values {
    /// One float each.
    Floats(Floats),
    /// A matrix `[out, kept per row]`.
    Quantized(Quantized),
}

impl Values {
    /// Stores `dense` (row-major, `[rows, kept]`); says which format was too narrow and replaced by f32.
    pub(super) fn encode(
        dense: &[f32],
        (rows, kept): (usize, usize),
        format: &ValueFormat,
    ) -> Result<(Self, Option<FloatFormat>), Error> {
        match format {
            ValueFormat::Float(format) => {
                check_format(*format)?;
                let (floats, widened) = Floats::encode_or_widen(dense, *format);
                Ok((Self::Floats(floats), widened.then_some(*format)))
            }
            ValueFormat::Scheme(scheme, rounder) => {
                if rounder.needs_hessian() {
                    return Err(rankbit_quant::Error::MissingHessian { rounder: rounder.name() }.into());
                }
                let view = MatRef::from_row_major_slice(dense, rows, kept);
                let rounded = quantize_with(view, scheme, *rounder, &Context::default())?;
                Ok((Self::Quantized(rounded.quantized), rounded.widened_from))
            }
        }
    }

    /// Whether these are the values of `rows` rows of `kept`, finite numbers.
    pub(super) fn check(&self, rows: usize, kept: usize) -> Result<(), Error> {
        match self {
            Self::Floats(floats) => {
                check_format(floats.format())?;
                let expected =
                    rows.checked_mul(kept).ok_or(Error::TooLarge { what: "number of kept values" })?;
                if floats.len() != expected {
                    return Err(Error::PartLength { part: "values", expected, found: floats.len() });
                }
                match (0..floats.len()).find(|&i| !floats.get(i).is_finite()) {
                    None => Ok(()),
                    Some(index) => {
                        Err(rankbit_quant::Error::StoredNonFinite { what: "values", index }.into())
                    }
                }
            }
            Self::Quantized(quantized) if quantized.shape() == (rows, kept) => Ok(()),
            Self::Quantized(quantized) => {
                let (expected, found) = ((rows, kept), quantized.shape());
                Err(Error::ShapeMismatch { what: "kept values", expected, found })
            }
        }
    }

    /// Every stored bit.
    pub fn stored_bits(&self) -> u64 {
        match self {
            Self::Floats(floats) => (floats.len() * floats.format().bytes()) as u64 * 8,
            Self::Quantized(quantized) => quantized.stored_bits(),
        }
    }

    /// The values of row `row`, decoded; `out` has as many entries as a row keeps.
    pub(crate) fn row_into(&self, row: usize, out: &mut [f32]) {
        match self {
            Self::Floats(floats) => floats.decode_into(row * out.len(), out),
            // The row exists and has this length: checked when the storage was made.
            Self::Quantized(quantized) => {
                if quantized.row_into(row, out).is_err() {
                    out.fill(0.0);
                }
            }
        }
    }
}

/// Floats with a sign and a zero.
pub(super) fn check_format(format: FloatFormat) -> Result<(), Error> {
    match format {
        FloatFormat::F32 | FloatFormat::F16 | FloatFormat::Bf16 => Ok(()),
        _ => Err(Error::Unsupported {
            format: format.name(),
            reason: "kept values are f32, f16, bf16 or a quantizer's scheme",
        }),
    }
}

/// All rows decoded, one after another.
pub(super) fn all_rows(values: &Values, rows: usize, kept: usize) -> Vec<f32> {
    let mut out = alloc::vec![0.0; rows * kept];
    for (row, out) in out.chunks_exact_mut(kept.max(1)).enumerate() {
        values.row_into(row, out);
    }
    out
}
