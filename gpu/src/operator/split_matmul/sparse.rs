//! The sparse term on the device: N of every M entries, in the layout of `shader/split_matmul/sparse.wgsl`.
//!
//! ```text
//! indices [tiles][chunks][16 rows] u32: ⌊32/b⌋ indices of b bits, the first lowest
//! values  [tiles][slots][16 rows] f32, or [tiles][⌈slots/2⌉][16 rows] u32: two f16, the even slot low
//! ```
//! Values that are stored as f16 stay f16; bf16 and values of few bits lie as f32, which holds them exactly.

use super::pack::{ROWS, tiled};
use crate::buffer::{narrow, product};
use crate::pipeline::{Kernel, SparseParams};
use crate::{Error, Gpu};
use rankbit_quant::{FloatFormat, pack};
use rankbit_sparse::{NmMatrix, SparseMatrix, Values};

/// Tokens of a workgroup at most.
const TOKENS: usize = 4;

/// A sparse term on a device.
#[derive(Clone, Debug)]
pub(super) struct Sparse {
    pub(super) indices: wgpu::Buffer,
    pub(super) values: wgpu::Buffer,
    half: bool,
    /// Tokens and the stride of x are those of the product.
    params: SparseParams,
}

/// Indices and values in the kernel's order.
struct Packed {
    indices: Vec<u32>,
    values: PackedValues,
    chunks: usize,
}

enum PackedValues {
    F32(Vec<f32>),
    F16(Vec<u32>),
}

impl Sparse {
    /// Repacks `matrix` and copies it to the device. Cost O(kept entries), once.
    ///
    /// # Errors
    /// [`Error::UnsupportedSparse`] for blocks and unstructured matrices; [`Error::LimitExceeded`]; and whatever the
    /// device reports.
    pub(super) fn upload(gpu: &Gpu, matrix: &SparseMatrix) -> Result<Self, Error> {
        let SparseMatrix::Nm(matrix) = matrix else { return Err(Error::UnsupportedSparse) };
        let (packed, pattern) = (Packed::new(matrix)?, matrix.pattern());
        let params = SparseParams {
            tiles: narrow("rows", matrix.shape().0.div_ceil(ROWS))?,
            chunks: narrow("columns", packed.chunks)?,
            slots: narrow("columns", matrix.kept_per_row())?,
            keep: narrow("pattern", pattern.keep())?,
            span: narrow("pattern", pattern.of())?,
            bits: narrow("pattern", pattern.index_bits())?,
            tokens: 0,
            x_stride: 0,
        };
        let (values, half) = match &packed.values {
            PackedValues::F32(values) => (gpu.storage("kept values", values)?, false),
            PackedValues::F16(values) => (gpu.storage("kept values", values)?, true),
        };
        Ok(Self { indices: gpu.storage("indices", &packed.indices)?, values, half, params })
    }

    /// The kernel for `tokens`, its parameters, and how many workgroups it takes.
    pub(super) fn plan(
        &self,
        gpu: &Gpu,
        tokens: usize,
        x_stride: usize,
    ) -> Result<(Kernel, SparseParams, u64), Error> {
        let each = if tokens > 2 { TOKENS } else { tokens.max(1) };
        let kernel =
            Kernel::Sparse { half: self.half, threads: gpu.threads(), tokens: narrow("tokens", each)? };
        let params = SparseParams {
            tokens: narrow("tokens", tokens)?,
            x_stride: narrow("columns", x_stride)?,
            ..self.params
        };
        Ok((kernel, params, u64::from(self.params.tiles).saturating_mul(product(&[tokens.div_ceil(each)]))))
    }
}

impl Packed {
    fn new(matrix: &NmMatrix) -> Result<Self, Error> {
        let ((rows, _), slots) = (matrix.shape(), matrix.kept_per_row());
        let bits = matrix.pattern().index_bits();
        let (tiles, width) = (rows.div_ceil(ROWS), 32 / bits);
        let chunks = slots.div_ceil(width);
        let limit = u64::from(u32::MAX);
        let needed = product(&[tiles, slots, ROWS]);
        if needed > limit {
            return Err(Error::LimitExceeded { what: "words of kept values", needed, limit });
        }
        let mut indices = vec![0_u32; tiles * chunks * ROWS];
        let bytes = matrix.indices().len().checked_div(rows).unwrap_or(0);
        let mut offsets = vec![0; slots];
        for row in 0..rows {
            pack::unpack(&matrix.indices()[row * bytes..(row + 1) * bytes], bits, &mut offsets);
            for (slot, &offset) in offsets.iter().enumerate() {
                let at = ((row / ROWS) * chunks + slot / width) * ROWS + row % ROWS;
                indices[at] |= u32::from(offset) << (slot % width * bits);
            }
        }
        let values = match matrix.values() {
            Values::Floats(floats) if floats.format() == FloatFormat::F16 => {
                let halves = slots.div_ceil(2);
                let mut words = vec![0_u32; tiles * halves * ROWS];
                for (at, half) in floats.to_bytes().chunks_exact(2).enumerate() {
                    let (row, slot) = (at / slots, at % slots);
                    let word = &mut words[((row / ROWS) * halves + slot / 2) * ROWS + row % ROWS];
                    *word |= (u32::from(half[0]) | u32::from(half[1]) << 8) << (slot % 2 * 16);
                }
                PackedValues::F16(words)
            }
            Values::Floats(floats) => PackedValues::F32(tiled(&floats.to_f32(), rows, slots)),
            Values::Quantized(values) => {
                let mut dense = vec![0.0; rows * slots];
                values.dequantize_into(&mut dense)?;
                PackedValues::F32(tiled(&dense, rows, slots))
            }
        };
        Ok(Self { indices, values, chunks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rankbit_linalg::faer::Mat;
    use rankbit_sparse::{Mask, NmPattern, ValueFormat};

    #[test]
    fn places_and_values_are_where_the_kernel_looks() {
        let nm = NmPattern::TWO_OF_FOUR;
        let weight = Mat::from_fn(17, 6, |i, j| (i * 6 + j) as f32 + 1.0);
        // Columns 1 and 3 of the group, 0 and 1 of the short one.
        let mask = Mask::from_fn((17, 6), |_, j| [1, 3, 4, 5].contains(&j));
        let of = |format| {
            let (matrix, _) =
                NmMatrix::new(weight.as_ref(), &mask, nm, &ValueFormat::Float(format)).expect("a matrix");
            Packed::new(&matrix).expect("it fits")
        };
        let packed = of(FloatFormat::F32);
        assert_eq!((packed.chunks, packed.indices.len()), (1, 32));
        assert_eq!(
            (packed.indices[0], packed.indices[16], packed.indices[17]),
            (0b0100_1101, 0b0100_1101, 0)
        );
        let PackedValues::F32(values) = packed.values else { panic!("f32 stays f32") };
        assert_eq!((values[0], values[1], values[16], values[64], values[65]), (2.0, 8.0, 4.0, 98.0, 0.0));
        let PackedValues::F16(words) = of(FloatFormat::F16).values else { panic!("f16 stays f16") };
        // 2 and 4 of row 0: 0x4000 and 0x4400.
        assert_eq!((words[0], words.len()), (0x4400_4000, 2 * 2 * 16));
        assert!(matches!(of(FloatFormat::Bf16).values, PackedValues::F32(_)));
    }
}
