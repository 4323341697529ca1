//! `--rest f16`: the float tensors that are not compressed.

use half::f16;
use safetensors::Dtype;

use crate::container::convert;
use crate::container::header::Tensor;
use crate::container::reader::Reader;
use crate::container::writer::AtomicFile;
use crate::error::Error;

/// Why a tensor keeps its type, or that it becomes f16.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Becomes f16.
    Converted,
    /// Is no float, or f16 already.
    NotConcerned,
    /// A finite value would become infinite, or the whole would lose more than 2⁻⁷ of itself.
    OutOfRange,
}

/// Reads a tensor once and judges it.
pub(crate) fn judge(reader: &Reader, tensor: &Tensor) -> Result<Verdict, Error> {
    if !matches!(tensor.dtype, Dtype::F32 | Dtype::BF16 | Dtype::F64) {
        return Ok(Verdict::NotConcerned);
    }
    let (mut error, mut norm, mut overflows) = (0.0_f64, 0.0_f64, false);
    for_each(reader, tensor, |value| {
        if value.is_finite() {
            let half = f16::from_f64(value);
            overflows |= half.is_infinite();
            error += (value - half.to_f64()).powi(2);
            norm += value * value;
        }
        Ok(())
    })?;
    let lost = overflows || error > norm * (1.0 / 16384.0);
    Ok(if lost { Verdict::OutOfRange } else { Verdict::Converted })
}

/// Appends a tensor as f16 to `file`. NaN and infinities stay what they are.
pub(crate) fn copy_as_f16(reader: &Reader, tensor: &Tensor, file: &mut AtomicFile) -> Result<(), Error> {
    for_each(reader, tensor, |value| file.write(&f16::from_f64(value).to_le_bytes()))
}

fn for_each(
    reader: &Reader,
    tensor: &Tensor,
    mut take: impl FnMut(f64) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut values = Vec::new();
    reader.stream(tensor, |bytes| match convert::float_format(tensor.dtype) {
        Some(format) => {
            values.resize(bytes.len() / format.bytes(), 0.0);
            convert::to_f32(format, bytes, &mut values);
            values.iter().try_for_each(|&value| take(f64::from(value)))
        }
        None => {
            let (words, _) = bytes.as_chunks::<8>();
            words.iter().try_for_each(|word| take(f64::from_le_bytes(*word)))
        }
    })
}
