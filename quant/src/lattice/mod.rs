//! Lattice codes: eight neighbouring weights of a row at a time, by QuIP#'s E8P and residual stages.
//!
//! ```text
//! e8p    2 bits   ŵ = 0.95·p                    p of E8P
//! e8p3   3 bits   ŵ = p + ½·r                   r one of 256 short points of E8
//! e8p4   4 bits   ŵ = 1.12·p + 0.29·q            p, q of E8P
//! ```
//! in units of row scale times column scale ([`vector`](crate::vector)): the factors are the best for normal values
//! of variance 1. A block is the 16-bit code of p, low byte first, then the byte of r or the code of q; a row is
//! ⌈in/8⌉ blocks, the last one filled up with zeros.
//!
//! Errors on normal values: 0.3024, 0.1722, 0.0914, which a trellis of 2^12 states beats by 14, 28 and 33 %; E8P is
//! here for its decoder, which needs a table of 2 KiB only and feeds products of whole numbers ([`dot`]). Source: QuIP#,
//! arXiv 2402.04396, section 4. Deviation: 29 of the 256 patterns are another choice than in its released code, so that
//! files are not interchangeable.

pub mod dot;
mod e8;
mod e8p;

use crate::simd::Level;
use alloc::vec::Vec;

/// Factor of E8P alone.
const E8P_FACTOR: f32 = 0.95;
/// Weights of a block.
pub const BLOCK: usize = 8;

/// A lattice code by its number of stages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum Lattice {
    /// E8P: 2 bits.
    E8p,
    /// E8P and a residual of E8: 3 bits.
    E8p3,
    /// E8P twice: 4 bits.
    E8p4,
}

impl Lattice {
    /// Bits of a weight, which are the bytes of a block.
    pub const fn bits(self) -> usize {
        match self {
            Self::E8p => 2,
            Self::E8p3 => 3,
            Self::E8p4 => 4,
        }
    }

    /// Factors of the first stage and of the second (0 where there is none).
    pub const fn factors(self) -> (f32, f32) {
        match self {
            Self::E8p => (E8P_FACTOR, 0.0),
            Self::E8p3 => (1.0, 0.5),
            Self::E8p4 => (1.12, 0.29),
        }
    }
}

/// The 256 patterns of E8P in halves (1, 3 or 5), by code, and whether each needs an odd number of minuses: what another
/// decoder needs.
pub fn patterns() -> impl ExactSizeIterator<Item = ([u8; BLOCK], bool)> {
    e8p::PATTERNS.iter().map(|pattern| (*pattern, e8p::is_odd(pattern)))
}

/// The 256 points of the second stage of [`Lattice::E8p3`], by code: multiples of ½ from −2 to 2.
pub fn short_points() -> Vec<[f32; BLOCK]> {
    e8::points()
}

/// What encodes blocks.
#[derive(Clone, Debug)]
pub struct Encoder {
    lattice: Lattice,
    patterns: e8p::Patterns,
    points: Vec<[f32; BLOCK]>,
}

impl Encoder {
    /// For blocks of `lattice`.
    pub fn new(lattice: Lattice) -> Self {
        let points = if lattice == Lattice::E8p3 { e8::points() } else { Vec::new() };
        Self { lattice, patterns: e8p::Patterns::new(), points }
    }

    /// The code of the point nearest to `x` (stage by stage), [`Lattice::bits`] bytes, to `bytes`; returns the point.
    ///
    /// # Panics
    /// When `bytes` is shorter.
    pub fn encode(&self, x: &[f32; BLOCK], bytes: &mut [u8]) -> [f32; BLOCK] {
        let (first, second) = self.lattice.factors();
        let (code, point) = self.patterns.nearest(&x.map(|x| x / first));
        bytes[..2].copy_from_slice(&code.to_le_bytes());
        let mut value = point.map(|p| first * p);
        let mut rest = [0.0; BLOCK];
        for ((rest, x), value) in rest.iter_mut().zip(x).zip(&value) {
            *rest = (x - value) / second;
        }
        let point = match self.lattice {
            Lattice::E8p => return value,
            Lattice::E8p3 => {
                let (code, point) = e8::nearest(&self.points, &rest);
                bytes[2] = code;
                point
            }
            Lattice::E8p4 => {
                let (code, point) = self.patterns.nearest(&rest);
                bytes[2..4].copy_from_slice(&code.to_le_bytes());
                point
            }
        };
        for (value, point) in value.iter_mut().zip(point) {
            *value += second * point;
        }
        value
    }
}

/// What decodes blocks.
#[derive(Clone, Debug)]
pub struct Decoder {
    lattice: Lattice,
    level: Level,
    patterns: e8p::Bytes,
    points: Vec<[f32; BLOCK]>,
}

impl Decoder {
    /// For blocks of `lattice`.
    pub fn new(lattice: Lattice, level: Level) -> Self {
        let points = if lattice == Lattice::E8p3 { e8::points() } else { Vec::new() };
        Self { lattice, level: level.or_current(), patterns: e8p::Bytes::new(), points }
    }

    /// The values of a row of blocks; the last may be cut short. The same bits on every instruction set.
    ///
    /// # Panics
    /// When `bytes` has fewer blocks.
    pub fn values(&self, bytes: &[u8], out: &mut [f32]) {
        let (first, second) = self.lattice.factors();
        assert!(
            bytes.len() >= out.len().div_ceil(BLOCK) * self.lattice.bits(),
            "a block for every eight values"
        );
        if self.lattice == Lattice::E8p {
            self.patterns.values(bytes, first, self.level, out);
            return;
        }
        for (block, out) in bytes.chunks_exact(self.lattice.bits()).zip(out.chunks_mut(BLOCK)) {
            let mut value = self.patterns.point(u16::from_le_bytes([block[0], block[1]])).map(|p| first * p);
            let point = match self.lattice {
                Lattice::E8p3 => self.points[usize::from(block[2])],
                _ => self.patterns.point(u16::from_le_bytes([block[2], block[3]])),
            };
            for (value, point) in value.iter_mut().zip(point) {
                *value += second * point;
            }
            out.copy_from_slice(&value[..out.len()]);
        }
    }
}

#[cfg(all(test, feature = "solve"))]
mod tests;
