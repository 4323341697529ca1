//! Element types: little-endian bytes to f32 and back.

use half::{bf16, f16, slice::HalfFloatSliceExt};
use rankbit::quant::{FloatFormat, Floats};
use safetensors::Dtype;

/// Elements converted at a time through the stack.
const PIECE: usize = 1024;

/// The stored format of a dtype that can be compressed: f32, f16 or bf16.
pub(crate) const fn float_format(dtype: Dtype) -> Option<FloatFormat> {
    match dtype {
        Dtype::F32 => Some(FloatFormat::F32),
        Dtype::F16 => Some(FloatFormat::F16),
        Dtype::BF16 => Some(FloatFormat::Bf16),
        _ => None,
    }
}

/// The stored format of a dtype that a part of a compressed tensor may have.
pub(crate) const fn part_format(dtype: Dtype) -> Option<FloatFormat> {
    match dtype {
        Dtype::F8_E8M0 => Some(FloatFormat::E8m0),
        Dtype::F8_E4M3 => Some(FloatFormat::E4m3),
        Dtype::U32 => Some(FloatFormat::Dyadic),
        _ => float_format(dtype),
    }
}

/// The dtype of a stored format.
pub(crate) const fn dtype(format: FloatFormat) -> Dtype {
    match format {
        FloatFormat::E8m0 => Dtype::F8_E8M0,
        FloatFormat::E4m3 => Dtype::F8_E4M3,
        FloatFormat::Dyadic => Dtype::U32,
        FloatFormat::F32 => Dtype::F32,
        FloatFormat::F16 => Dtype::F16,
        FloatFormat::Bf16 => Dtype::BF16,
    }
}

/// Bytes of one element; sub-byte types count as one, which is all that alignment needs.
pub(crate) const fn alignment(dtype: Dtype) -> u64 {
    match dtype {
        Dtype::F64 | Dtype::I64 | Dtype::U64 | Dtype::C64 => 8,
        Dtype::F32 | Dtype::I32 | Dtype::U32 => 4,
        Dtype::F16 | Dtype::BF16 | Dtype::I16 | Dtype::U16 => 2,
        _ => 1,
    }
}

/// Values of `bytes` into `out`; both hold the same number of elements. Exact.
pub(crate) fn to_f32(format: FloatFormat, bytes: &[u8], out: &mut [f32]) {
    match format {
        FloatFormat::F32 => {
            let (words, _) = bytes.as_chunks::<4>();
            for (value, word) in out.iter_mut().zip(words) {
                *value = f32::from_le_bytes(*word);
            }
        }
        FloatFormat::F16 => {
            let mut halves = [f16::ZERO; PIECE];
            for (values, bytes) in out.chunks_mut(PIECE).zip(bytes.chunks(2 * PIECE)) {
                let (words, _) = bytes.as_chunks::<2>();
                for (half, word) in halves.iter_mut().zip(words) {
                    *half = f16::from_le_bytes(*word);
                }
                let count = values.len();
                halves[..count].convert_to_f32_slice(values);
            }
        }
        FloatFormat::Bf16 => {
            let (words, _) = bytes.as_chunks::<2>();
            for (value, word) in out.iter_mut().zip(words) {
                *value = bf16::from_le_bytes(*word).to_f32();
            }
        }
        FloatFormat::E8m0 => Floats::E8m0(bytes.to_vec()).decode_into(0, out),
        FloatFormat::E4m3 => Floats::E4m3(bytes.to_vec(), 1.0).decode_into(0, out),
        FloatFormat::Dyadic => {
            let (words, _) = bytes.as_chunks::<4>();
            let words = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
            Floats::Dyadic(words).decode_into(0, out);
        }
    }
}

/// Appends `values` in `format`, rounded to nearest, ties to even. `Err` is the index of the first finite value
/// that the format's range does not hold.
pub(crate) fn extend_bytes(format: FloatFormat, values: &[f32], bytes: &mut Vec<u8>) -> Result<(), usize> {
    match format {
        FloatFormat::F32 => {
            for value in values {
                bytes.extend_from_slice(&value.to_le_bytes());
            }
        }
        FloatFormat::F16 => {
            let mut halves = [f16::ZERO; PIECE];
            for (piece, values) in values.chunks(PIECE).enumerate() {
                let halves = &mut halves[..values.len()];
                halves.convert_from_f32_slice(values);
                for (i, (half, value)) in halves.iter().zip(values).enumerate() {
                    if half.is_infinite() && value.is_finite() {
                        return Err(piece * PIECE + i);
                    }
                    bytes.extend_from_slice(&half.to_le_bytes());
                }
            }
        }
        FloatFormat::Bf16 => {
            for (i, value) in values.iter().enumerate() {
                let rounded = bf16::from_f32(*value);
                if rounded.is_infinite() && value.is_finite() {
                    return Err(i);
                }
                bytes.extend_from_slice(&rounded.to_le_bytes());
            }
        }
        // These saturate.
        FloatFormat::E8m0 | FloatFormat::E4m3 | FloatFormat::Dyadic => {
            bytes.extend_from_slice(&Floats::encode(values, format).to_bytes());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_of_values_that_every_format_holds() {
        let values: Vec<f32> = (0..2500_u16).map(|i| f32::from(i % 251) - 125.0).collect();
        for format in [FloatFormat::F32, FloatFormat::F16, FloatFormat::Bf16] {
            let mut bytes = Vec::new();
            extend_bytes(format, &values, &mut bytes).expect("in range");
            assert_eq!(bytes.len(), values.len() * format.bytes());
            let mut back = vec![0.0; values.len()];
            to_f32(format, &bytes, &mut back);
            assert_eq!(back, values, "{format:?}");
        }
    }

    #[test]
    fn a_value_out_of_range_is_named() {
        let mut values = vec![1.0; 1500];
        values[1234] = 65520.0;
        assert_eq!(extend_bytes(FloatFormat::F16, &values, &mut Vec::new()), Err(1234));
        values[1234] = f32::MAX;
        assert_eq!(extend_bytes(FloatFormat::Bf16, &values, &mut Vec::new()), Err(1234));
        values[1234] = f32::INFINITY;
        assert_eq!(extend_bytes(FloatFormat::F16, &values, &mut Vec::new()), Ok(()));
    }
}
