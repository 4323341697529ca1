//! E8P: 2^16 points of E8 shifted by a quarter.
//!
//! ```text
//! point = ±a + ¼·(1 − 2·shift)        a: one of 256 patterns of odd halves, signs with ±a of even sum
//! code  = pattern << 8 | shift << 7 | minuses of coordinates 0 … 6        (bit i: coordinate i)
//! ```
//! Turning one sign changes the sum by 2·a_i, an odd number: so the number of minuses is even or odd with the
//! pattern's sum, and the eighth sign follows from the others.
//!
//! Patterns, in order: coordinate 0 runs fastest through ½, 3/2, 5/2; first the 227 of squared norm at most 10,
//! then the first 29 of norm 12 with no 5/2 (five 3/2 and three ½).
//!
//! **Nearest point**: for both shifts, signs are those of `y = x − shift`, and each pattern costs
//! `Σ (|y_i| − a_i)²`, plus `4·min |y_i|·a_i` where its number of minuses is wrong: one sign turns, at the coordinate
//! of that minimum. 512 tests a block.

use super::BLOCK;
use crate::simd::Level;
use alloc::boxed::Box;

#[cfg(target_arch = "x86_64")]
#[path = "x86.rs"]
mod x86;

/// The patterns as numbers of halves (1, 3 or 5).
pub(super) const PATTERNS: [[u8; BLOCK]; 256] = {
    let mut all = [[0; BLOCK]; 256];
    let mut found = 0;
    // Squared norms in quarters: up to 40, then 48 without a 5.
    let mut long = false;
    let mut index = 0;
    while found < 256 {
        let (mut pattern, mut rest, mut norm, mut largest) = ([0; BLOCK], index, 0, 0);
        let mut i = 0;
        while i < BLOCK {
            let a = [1, 3, 5][rest % 3];
            rest /= 3;
            pattern[i] = a;
            norm += a * a;
            largest = if a > largest { a } else { largest };
            i += 1;
        }
        if !long && norm <= 40 || long && norm == 48 && largest < 5 {
            all[found] = pattern;
            found += 1;
        }
        index += 1;
        if index == 6561 {
            // 3^8: once through all.
            (index, long) = (0, true);
        }
    }
    all
};

/// Whether a pattern needs an odd number of minuses.
pub(super) const fn is_odd(pattern: &[u8; BLOCK]) -> bool {
    let (mut sum, mut i) = (0, 0);
    while i < BLOCK {
        sum += pattern[i] / 2;
        i += 1;
    }
    // Each is an odd number of halves, and their eight first halves are even.
    sum % 2 == 1
}

/// Patterns for the encoder: coordinate by coordinate.
#[derive(Clone, Debug)]
pub(super) struct Patterns {
    coordinates: Box<[[f32; 256]; BLOCK]>,
    norms: Box<[f32; 256]>,
    /// 0 or 1: minuses modulo 2.
    odd: Box<[u32; 256]>,
}

impl Patterns {
    pub(super) fn new() -> Self {
        let mut all = Self {
            coordinates: Box::new([[0.0; 256]; BLOCK]),
            norms: Box::new([0.0; 256]),
            odd: Box::new([0; 256]),
        };
        for (place, pattern) in PATTERNS.iter().enumerate() {
            for (coordinate, &a) in all.coordinates.iter_mut().zip(pattern) {
                coordinate[place] = f32::from(a) / 2.0;
            }
            all.norms[place] = pattern.iter().map(|&a| f32::from(a) * f32::from(a) / 4.0).sum();
            all.odd[place] = u32::from(is_odd(pattern));
        }
        all
    }

    /// The nearest point and its code; the first of equals.
    pub(super) fn nearest(&self, x: &[f32; BLOCK]) -> (u16, [f32; BLOCK]) {
        let mut best = (f32::INFINITY, 0_u16, [0.0; BLOCK]);
        for (bit, shift) in [(0_u16, 0.25), (1, -0.25)] {
            let y = x.map(|x| x - shift);
            let minuses = y.iter().enumerate().fold(0_u16, |bits, (i, y)| bits | u16::from(*y < 0.0) << i);
            let parity = minuses.count_ones() % 2;
            let (mut dots, mut least) = ([0.0_f32; 256], [f32::INFINITY; 256]);
            for (coordinate, y) in self.coordinates.iter().zip(&y) {
                for ((dot, least), a) in dots.iter_mut().zip(&mut least).zip(coordinate) {
                    let product = a * y.abs();
                    *dot += product;
                    *least = if product < *least { product } else { *least };
                }
            }
            // |y|² is common to all.
            let base: f32 = y.iter().map(|y| y * y).sum();
            let mut found = (f32::INFINITY, 0_u16);
            for (place, ((dot, least), (norm, odd))) in
                (0_u16..256).zip(dots.iter().zip(&least).zip(self.norms.iter().zip(self.odd.iter())))
            {
                let turn = if *odd == parity { 0.0 } else { 4.0 * least };
                let cost = norm - 2.0 * dot + turn;
                if cost < found.0 {
                    found = (cost, place);
                }
            }
            let (cost, place) = (found.0 + base, found.1);
            if cost < best.0 {
                let a: [f32; BLOCK] = core::array::from_fn(|i| self.coordinates[i][usize::from(place)]);
                let mut minuses = minuses;
                if self.odd[usize::from(place)] != parity {
                    let product = |i: usize| a[i] * y[i].abs();
                    let turned = (1..BLOCK).fold(0, |at, i| if product(i) < product(at) { i } else { at });
                    minuses ^= 1 << turned;
                }
                let point =
                    core::array::from_fn(|i| if minuses >> i & 1 == 1 { -a[i] } else { a[i] } + shift);
                best = (cost, place << 8 | bit << 7 | minuses & 127, point);
            }
        }
        (best.1, best.2)
    }
}

/// Patterns for the decoder: eight bytes each, in quarters (2, 6 or 10), the top bit of the last byte set where the
/// number of minuses is odd.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bytes(&'static [u64; 256]);

/// Marks an odd number of minuses.
const ODD: u64 = 1 << 63;

impl Bytes {
    pub(super) const fn new() -> Self {
        const TABLE: [u64; 256] = {
            let mut table = [0; 256];
            let mut at = 0;
            while at < 256 {
                let (mut bytes, mut i) = (PATTERNS[at], 0);
                while i < BLOCK {
                    bytes[i] *= 2;
                    i += 1;
                }
                table[at] = u64::from_le_bytes(bytes) | if is_odd(&PATTERNS[at]) { ODD } else { 0 };
                at += 1;
            }
            table
        };
        Self(&TABLE)
    }

    /// Coordinates in quarters.
    fn quarters(&self, code: u16) -> [i8; BLOCK] {
        let [low, high] = code.to_le_bytes();
        let entry = self.0[usize::from(high)];
        let shift = if low & 128 == 0 { 1 } else { -1 };
        let minuses = low & 127;
        let eighth = (minuses.count_ones() % 2 == 1) != (entry & ODD != 0);
        let minuses = minuses | if eighth { 128 } else { 0 };
        let magnitudes = (entry & !ODD).to_le_bytes();
        core::array::from_fn(|i| {
            // At most 10.
            let a = magnitudes[i].cast_signed();
            shift + if minuses >> i & 1 == 1 { -a } else { a }
        })
    }

    /// The point of a code.
    pub(super) fn point(&self, code: u16) -> [f32; BLOCK] {
        self.quarters(code).map(|q| f32::from(q) / 4.0)
    }

    /// `factor` times the points of the codes in `bytes`; the last may be cut short.
    pub(super) fn values(&self, bytes: &[u8], factor: f32, level: Level, out: &mut [f32]) {
        let whole = out.len() / BLOCK;
        let done = match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 | Level::Avx512 => {
                let (bytes, out) = (&bytes[..2 * whole], &mut out[..BLOCK * whole]);
                // SAFETY: the decoder chose these instructions only where the CPU has them; both slices have
                // `whole` blocks.
                unsafe { x86::values(self.0, bytes, factor, out) };
                whole
            }
            _ => 0,
        };
        let codes = bytes.chunks_exact(2).zip(out.chunks_mut(BLOCK)).skip(done);
        for (code, out) in codes {
            let point = self.point(u16::from_le_bytes([code[0], code[1]]));
            for (out, p) in out.iter_mut().zip(point) {
                *out = factor * p;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_patterns_are_those_described() {
        let all = PATTERNS;
        assert_eq!(all.len(), 256);
        let norm = |a: &[u8; BLOCK]| a.iter().map(|&a| u32::from(a) * u32::from(a)).sum::<u32>();
        assert_eq!(all.iter().filter(|a| norm(a) <= 40).count(), 227);
        assert!(all[227..].iter().all(|a| a.iter().filter(|&&a| a == 3).count() == 5));
        assert_eq!(all[0], [1; 8]);
        assert_eq!(all[1], [3, 1, 1, 1, 1, 1, 1, 1]);
    }

    #[test]
    fn every_code_is_a_point_of_its_own_and_comes_back() {
        let (bytes, patterns) = (Bytes::new(), Patterns::new());
        let mut seen = alloc::collections::BTreeSet::new();
        for code in 0..=u16::MAX {
            let quarters = bytes.quarters(code);
            assert!(seen.insert(quarters), "{code}");
            // Minus the shift: odd halves with an even sum.
            let shift = if code & 128 == 0 { 1 } else { -1 };
            let halves = quarters.map(|q| i32::from(q) - shift);
            assert!(halves.iter().all(|h| h % 4 == 2 || h % 4 == -2));
            assert_eq!(halves.iter().sum::<i32>() % 8, 0, "{code}");
            if code % 7 == 0 {
                let point = bytes.point(code);
                assert_eq!(patterns.nearest(&point), (code, point));
            }
        }
    }
}
