//! Decoding a row of planar codes, a piece that fits the first cache at a time; no memory is allocated.

use super::portable;
use crate::{Code, Quantized, simd::Kernels};

/// Codes decoded at a time. A multiple of 8, so that every piece begins with a whole byte.
const PIECE: usize = 1024;
/// Groups handed to a kernel at a time.
const GROUPS: usize = 64;

/// What decoding needs to know of a matrix besides its stored parts: the numbers of its codes, and the kernels.
pub(crate) struct Decoder {
    kernels: Kernels,
    /// By code; empty of meaning for whole numbers, which need no table.
    values: [f32; 256],
    /// For whole numbers, what every code exceeds its value by.
    offset: Option<f32>,
}

impl Decoder {
    pub(crate) fn new(code: Code) -> Self {
        let mut decoder = Self { kernels: Kernels::current(), values: [0.0; 256], offset: None };
        if let Code::Int { bits, signed } = code {
            decoder.offset = Some(crate::code::int::offset(bits, signed));
        } else {
            // As many as a code can name: this is filled anew for every row that is looked up.
            for (code_, value) in (0..=u8::MAX).zip(&mut decoder.values).take(1 << code.bits()) {
                *value = code.value(code_);
            }
        }
        decoder
    }

    /// Decodes row `row` of `matrix`, which has a planar layout, into `out` (`in` entries).
    pub(crate) fn row(&self, matrix: &Quantized, row: usize, out: &mut [f32]) {
        let (packed, size, bits) =
            (matrix.row_codes(row), matrix.grouping().size, matrix.scheme().code.bits());
        let mut codes = [0; PIECE];
        let mut start = 0;
        for out in out.chunks_mut(PIECE) {
            let codes = &mut codes[..out.len()];
            self.unpack(&packed[start / 8 * bits..], bits, codes);
            let mut at = 0;
            while at < codes.len() {
                let (group, within) = ((start + at) / size, (start + at) % size);
                let left = codes.len() - at;
                // Whole groups, or what this piece has of one.
                let whole = if within == 0 { (left / size).min(GROUPS) } else { 0 };
                let len = if whole > 0 { whole * size } else { left.min(size - within) };
                let run = at..at + len;
                self.groups(
                    matrix,
                    (row, group, whole.max(1)),
                    size.min(len),
                    &codes[run.clone()],
                    &mut out[run],
                );
                at += len;
            }
            start += PIECE;
        }
    }

    /// Decodes `count` groups (at most [`GROUPS`]) of a row from group `first` on.
    fn groups(
        &self,
        matrix: &Quantized,
        (row, first, count): (usize, usize, usize),
        size: usize,
        codes: &[u8],
        out: &mut [f32],
    ) {
        let (mut scales, mut zeros) = ([0.0; GROUPS], [0.0; GROUPS]);
        let (scales, zeros) = (&mut scales[..count], &mut zeros[..count]);
        matrix.scales_into(row, first, scales);
        match self.offset {
            Some(offset) => {
                for (zero, group) in zeros.iter_mut().zip(first..) {
                    *zero = matrix.zero_point(row, group) + offset;
                }
                match self.kernels {
                    #[cfg(target_arch = "x86_64")]
                    Kernels::Avx2(avx2) => avx2.decode_whole(codes, size, scales, zeros, out),
                    Kernels::Portable => portable::decode_whole(codes, size, scales, zeros, out),
                }
            }
            None => match self.kernels {
                #[cfg(target_arch = "x86_64")]
                Kernels::Avx2(avx2) if matrix.scheme().code.bits() <= 4 => {
                    avx2.decode_table(codes, size, &self.values, scales, out);
                }
                _ => portable::decode_table(codes, size, &self.values, scales, out),
            },
        }
    }

    fn unpack(&self, packed: &[u8], bits: usize, codes: &mut [u8]) {
        match self.kernels {
            #[cfg(target_arch = "x86_64")]
            Kernels::Avx2(avx2) if bits == 4 => avx2.unpack_nibbles(packed, codes),
            _ => portable::unpack(packed, bits, codes),
        }
    }
}
