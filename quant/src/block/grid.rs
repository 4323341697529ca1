//! What error feedback and prepared products need of a block: the grid of each run of equal scales, its codes, and room
//! for other codes.

use super::{Block, float_at, k, legacy};

impl Block {
    /// Entries that share a scale (and minimum): a block of 32, or a group of 16 or 32 in a block of 256.
    pub(crate) const fn run_len(self) -> usize {
        match self {
            Self::Q2K | Self::Q3K | Self::Q6K => 16,
            _ => 32,
        }
    }

    /// The codes of a block, one a byte: as [`Block::scheme`]'s code has them, [`Block::len`] of them.
    pub(crate) fn codes(self, block: &[u8], codes: &mut [u8]) {
        match self {
            Self::Q4_0 | Self::Iq4Nl => legacy::codes(None, 2, block, codes),
            Self::Q4_1 => legacy::codes(None, 4, block, codes),
            Self::Q5_0 => legacy::codes(Some(2), 6, block, codes),
            Self::Q5_1 => legacy::codes(Some(4), 8, block, codes),
            Self::Q8_0 => {
                for (code, &byte) in codes.iter_mut().zip(&block[2..]) {
                    *code = byte ^ 0x80;
                }
            }
            Self::Q2K => k::codes_q2(block, codes),
            Self::Q3K => k::codes_q3(block, codes),
            Self::Q4K => k::codes_q4(block, codes),
            Self::Q5K => k::codes_q5(block, codes),
            Self::Q6K => k::codes_q6(block, codes),
        }
    }

    /// Runs of [`Block::run_len`] in a block.
    #[cfg(feature = "solve")]
    pub(crate) const fn runs(self) -> usize {
        match self {
            Self::Q2K | Self::Q3K | Self::Q6K => 16,
            Self::Q4K | Self::Q5K => 8,
            _ => 1,
        }
    }

    /// Scale and minimum of run `run` of a block: the decoded values are `scale · value(code) + minimum`, each operation
    /// in f32.
    pub(crate) fn run(self, block: &[u8], run: usize) -> (f32, f32) {
        match self {
            Self::Q4_0 | Self::Q5_0 | Self::Q8_0 | Self::Iq4Nl => (float_at(block, 0), 0.0),
            Self::Q4_1 | Self::Q5_1 => (float_at(block, 0), float_at(block, 2)),
            Self::Q2K => k::run_q2(block, run),
            Self::Q3K => k::run_q3(block, run),
            Self::Q4K | Self::Q5K => k::run_eight(block, run),
            Self::Q6K => k::run_q6(block, run),
        }
    }

    /// Replaces the codes of a block, one a byte: as [`Block::scheme`]'s code has them, [`Block::len`] of them.
    #[cfg(feature = "solve")]
    pub(crate) fn store(self, codes: &[u8], block: &mut [u8]) {
        match self {
            Self::Q4_0 | Self::Iq4Nl => legacy::store_codes(codes, None, 2, block),
            Self::Q4_1 => legacy::store_codes(codes, None, 4, block),
            Self::Q5_0 => legacy::store_codes(codes, Some(2), 6, block),
            Self::Q5_1 => legacy::store_codes(codes, Some(4), 8, block),
            Self::Q8_0 => {
                for (byte, &code) in block[2..].iter_mut().zip(codes) {
                    // 0 ..= 255 around 128, as two's complement.
                    *byte = code ^ 0x80;
                }
            }
            Self::Q2K => k::store_q2(codes, block),
            Self::Q3K => k::store_q3(codes, block),
            Self::Q4K => k::store_q4(codes, block),
            Self::Q5K => k::store_q5(codes, block),
            Self::Q6K => k::store_q6(codes, block),
        }
    }
}
