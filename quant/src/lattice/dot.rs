//! Products of rows of E8P with vectors of whole numbers.
//!
//! ```text
//! x_j = s·(p0_j + p1_j/254 + p2_j/254²) + e_j,   p ∈ −127 … 127,  s = max|x|/127,  |e_j| ≤ max|x|·254^−P for P planes
//! Σ_j w_j·x_j = 0.95·s/4 · (Σ q·p0 + Σ q·p1/254 + Σ q·p2/254²) ± 0.95·Σ_j |q_j/4|·|e_j|        q: points in quarters
//! ```
//! The sums are exact in i32 and so the same on every instruction set. A plane more costs one multiplication more for
//! all that is decoded: one plane is a product with 8-bit inputs, three carry what f32 carries (6.1·10⁻⁸ of the largest).
//!
//! **Decoding.** In halves a coordinate is ±(2l + 1) with l = 0, 1, 2: as `2u − 7`, u = l + 4 for plus and its 3-bit
//! complement for minus. So a sign is an exclusive or, points are bytes 1 … 6 without a sign, and the multiplications
//! that want one operand unsigned take them as they are:
//! ```text
//! q = 2·(2u − 7) + 1 − 2·shift,   Σ q·p = 4·Σ u·p − 13·Σ p − 2·Σ_blocks shift·(Σ p over the block)
//! ```
//! Patterns with an odd number of minuses have coordinate 7 complemented in the table, so that the eighth sign is the
//! parity of the other seven.

use super::{BLOCK, e8p};
use crate::simd::Level;
use alloc::vec::Vec;

#[cfg(target_arch = "x86_64")]
mod x86;

/// Bytes of a chunk of codes: 32 blocks.
const CHUNK: usize = 64;
/// Columns of a chunk; inputs are padded to a multiple.
const COLUMNS: usize = CHUNK / 2 * BLOCK;
/// Columns at most: every sum stays below 2³¹.
const LARGEST: usize = 1 << 19;
/// Steps from one plane to the next: its numbers are halves at most.
const STEP: f64 = 254.0;

/// 64 numbers of a plane.
#[derive(Clone, Copy, PartialEq, Debug)]
#[repr(C, align(64))]
struct Line([i8; 64]);

/// Sums of 32 blocks of eight.
#[derive(Clone, Copy, PartialEq, Debug)]
#[repr(C, align(64))]
struct Sums([i16; 32]);

/// Added and taken away, rounds an f64 below 2⁵¹ to a whole number.
const SHIFTER: f64 = 6_755_399_441_055_744.0;

/// One plane of inputs.
#[derive(Clone, PartialEq, Debug)]
struct Plane {
    lines: Vec<Line>,
    blocks: Vec<Sums>,
    total: i32,
}

/// Inputs as whole numbers; see the [module](self).
#[derive(Clone, PartialEq, Debug)]
pub struct Inputs {
    planes: Vec<Plane>,
    len: usize,
    scale: f64,
}

impl Inputs {
    /// `x` in `planes` planes, 1 to 3; `None` for another number, for more than 2¹⁹ inputs, and where there is no scale:
    /// all zeros, or something not finite.
    #[expect(clippy::cast_possible_truncation, reason = "at most 127 either way")]
    pub fn new(x: &[f32], planes: usize) -> Option<Self> {
        let largest =
            x.iter().fold(0.0_f32, |max, x| if x.abs() > max || x.is_nan() { x.abs() } else { max });
        let usable = largest > 0.0 && largest.is_finite() && x.len() <= LARGEST;
        if !usable || !(1..=3).contains(&planes) {
            return None;
        }
        let scale = f64::from(largest) / 127.0;
        let padded = x.len().next_multiple_of(COLUMNS);
        let empty = || Plane {
            lines: alloc::vec![Line([0; 64]); padded / 64],
            blocks: alloc::vec![Sums([0; 32]); padded / COLUMNS],
            total: 0,
        };
        let mut all: Vec<Plane> = (0..planes).map(|_| empty()).collect();
        for (at, &x) in x.iter().enumerate() {
            let mut rest = f64::from(x) / scale;
            for plane in &mut all {
                let whole = (rest + SHIFTER - SHIFTER).clamp(-127.0, 127.0);
                rest = (rest - whole) * STEP;
                let number = whole as i8;
                plane.lines[at / 64].0[at % 64] = number;
                plane.blocks[at / COLUMNS].0[at % COLUMNS / BLOCK] += i16::from(number);
                plane.total += i32::from(number);
            }
        }
        Some(Self { planes: all, len: x.len(), scale })
    }

    /// Number of inputs.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none (never: there is no scale then).
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Multiplies rows of E8P blocks with [`Inputs`].
#[derive(Clone, Copy, Debug)]
pub struct Multiplier {
    level: Level,
}

/// u of each pattern with no minus but what its parity asks for, eight bytes an entry.
static TABLE: [u64; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        // 1, 3, 5 become 4, 5, 6.
        let (mut bytes, mut i) = (e8p::PATTERNS[at], 0);
        while i < BLOCK {
            bytes[i] = bytes[i] / 2 + 4;
            i += 1;
        }
        if e8p::is_odd(&e8p::PATTERNS[at]) {
            bytes[BLOCK - 1] ^= 7;
        }
        table[at] = u64::from_le_bytes(bytes);
        at += 1;
    }
    table
};

impl Multiplier {
    /// With the instructions of `level`.
    pub fn new(level: Level) -> Self {
        Self { level: level.or_current() }
    }

    /// `Σ_j w_j·x_j` over the blocks of `row`, the last one filled up with zeros. The same bits on every instruction
    /// set.
    ///
    /// # Panics
    /// When `row` has fewer blocks than the inputs.
    pub fn dot(&self, row: &[u8], x: &Inputs) -> f64 {
        let row = &row[..2 * x.len.div_ceil(BLOCK)];
        let sums = match x.planes.as_slice() {
            [a] => {
                let [a] = self.sums(row, [a]);
                [a, 0, 0]
            }
            [a, b] => {
                let [a, b] = self.sums(row, [a, b]);
                [a, b, 0]
            }
            [a, b, c] => self.sums(row, [a, b, c]),
            // There are one to three.
            _ => [0; 3],
        };
        let [a, b, c] = sums.map(f64::from);
        f64::from(super::E8P_FACTOR) / 4.0 * x.scale * (a + (b + c / STEP) / STEP)
    }

    /// `Σ q·p` of each plane.
    fn sums<const P: usize>(&self, row: &[u8], planes: [&Plane; P]) -> [i32; P] {
        let (whole, cut) = row.as_chunks::<CHUNK>();
        let mut sums = self.chunks(whole, planes.map(|plane| (&plane.lines[..], &plane.blocks[..])));
        if !cut.is_empty() {
            let mut last = [[0; CHUNK]];
            last[0][..cut.len()].copy_from_slice(cut);
            let at = whole.len();
            let rest = planes.map(|plane| (&plane.lines[4 * at..], &plane.blocks[at..]));
            for (sum, more) in sums.iter_mut().zip(self.chunks(&last, rest)) {
                *sum += more;
            }
        }
        for (sum, plane) in sums.iter_mut().zip(planes) {
            *sum -= 13 * plane.total;
        }
        sums
    }

    /// `4·Σ u·p − 2·Σ shift·(Σ p)` of each plane, which has four lines and one [`Sums`] a chunk, or more.
    fn chunks<const P: usize>(&self, row: &[[u8; CHUNK]], planes: [(&[Line], &[Sums]); P]) -> [i32; P] {
        #[cfg(target_arch = "x86_64")]
        {
            let fits = |(lines, blocks): &(&[Line], &[Sums])| {
                lines.len() >= 4 * row.len() && blocks.len() >= row.len()
            };
            assert!(planes.iter().all(fits), "inputs for every block");
            if self.level >= Level::Avx512 && x86::has_512() {
                // SAFETY: the CPU has the instructions, and the lengths were asserted above.
                return unsafe { x86::chunks_512(row, planes) };
            }
            if self.level >= Level::Avx2 {
                // SAFETY: `new` let this level stand only where the CPU has it; lengths as above.
                return unsafe { x86::chunks_256(row, planes) };
            }
        }
        portable(row, planes)
    }
}

/// Block after block; the twin of the vectorized ones.
fn portable<const P: usize>(row: &[[u8; CHUNK]], planes: [(&[Line], &[Sums]); P]) -> [i32; P] {
    planes.map(|(lines, blocks)| {
        let numbers = lines.iter().flat_map(|line| line.0.as_chunks::<BLOCK>().0);
        let sums = blocks.iter().flat_map(|blocks| blocks.0);
        let codes = row.iter().flat_map(|chunk| chunk.as_chunks::<2>().0);
        let terms = codes.zip(numbers.zip(sums)).map(|(&[low, pattern], (numbers, sum))| {
            let minuses = low & 127;
            let minuses = minuses | if minuses.count_ones() % 2 == 1 { 128 } else { 0 };
            let points = TABLE[usize::from(pattern)].to_le_bytes();
            let products = points.iter().zip(numbers).enumerate().map(|(i, (u, &p))| {
                let u = if minuses >> i & 1 == 1 { u ^ 7 } else { *u };
                i32::from(u) * i32::from(p)
            });
            4 * products.sum::<i32>() - 2 * i32::from(low >> 7) * i32::from(sum)
        });
        terms.sum()
    })
}

#[cfg(all(test, feature = "solve"))]
mod tests {
    use super::*;
    use crate::lattice::{Decoder, Lattice};
    use alloc::vec;
    use rankbit_linalg::Stream;

    /// Every length around blocks and chunks, random and extreme codes and inputs: the sums are those of decoded
    /// points, exactly, on every level.
    #[test]
    fn sums_are_exact_on_every_level() {
        let mut random = Stream::new(4, "dots");
        for len in [1, 7, 8, 9, 63, 64, 255, 256, 257, 384, 2048, 2049, 4500] {
            for case in 0..3 {
                let row: Vec<u8> = (0..2 * len_blocks(len))
                    .map(|_| if case == 2 { 255 } else { u8::try_from(random.next_below(256)).unwrap() })
                    .collect();
                // The first input sets the scale, so that all others are whole numbers of it.
                let mut number = || match case {
                    0 => i32::try_from(random.next_below(255)).unwrap() - 127,
                    _ => 127 * (i32::try_from(random.next_below(2)).unwrap() * 2 - 1),
                };
                let numbers: Vec<i32> = (0..len).map(|at| if at == 0 { 127 } else { number() }).collect();
                let x: Vec<f32> = numbers.iter().map(|&n| n as f32).collect();
                let mut points = vec![0.0; len];
                Decoder::new(Lattice::E8p, Level::Portable).values(&row, &mut points);
                let quarters = points.iter().map(|p| (p / super::super::E8P_FACTOR * 4.0).round());
                let exact: f64 = quarters.zip(&numbers).map(|(q, &n)| f64::from(q) * f64::from(n)).sum();
                let expected = f64::from(super::super::E8P_FACTOR) / 4.0 * exact;
                for level in Level::ALL.into_iter().filter(|level| level.is_available()) {
                    let multiplier = Multiplier::new(level);
                    for planes in 1..=3 {
                        let inputs = Inputs::new(&x, planes).unwrap();
                        assert_eq!(
                            multiplier.dot(&row, &inputs),
                            expected,
                            "{len} {case} {level:?} {planes}"
                        );
                    }
                }
            }
        }
    }

    /// What the planes leave out is within what is stated, and every level gives the same bits.
    #[test]
    fn planes_are_as_exact_as_stated() {
        let len = 700;
        let mut x = vec![0.0_f32; len];
        Stream::new(5, "planes").fill_normal(&mut x);
        let row: Vec<u8> = (0..2 * len_blocks(len)).map(|i| (i * i * 7 + i * 13).to_le_bytes()[0]).collect();
        let mut points = vec![0.0; len];
        Decoder::new(Lattice::E8p, Level::Portable).values(&row, &mut points);
        let exact: f64 = points.iter().zip(&x).map(|(p, x)| f64::from(*p) * f64::from(*x)).sum();
        let size: f64 = points.iter().map(|p| f64::from(p.abs())).sum();
        let largest = x.iter().fold(0.0_f32, |max, x: &f32| max.max(x.abs()));
        for (planes, bound) in (1..).zip([254.0, 254.0 * 254.0, 254.0 * 254.0 * 254.0]) {
            let inputs = Inputs::new(&x, planes).unwrap();
            let found = Multiplier::new(Level::Portable).dot(&row, &inputs);
            // Decoded values are rounded to f32.
            let allowed = size * f64::from(largest) * (1.0 / bound + 2.0_f64.powi(-24));
            assert!((found - exact).abs() <= allowed, "{planes}: {found} {exact} {allowed}");
            assert!((found - exact).abs() > allowed * 1e-4 || planes == 3);
            for level in Level::ALL.into_iter().filter(|level| level.is_available()) {
                assert_eq!(Multiplier::new(level).dot(&row, &inputs).to_bits(), found.to_bits());
            }
        }
    }

    #[test]
    fn inputs_without_a_scale_are_none() {
        for x in [&[0.0, 0.0][..], &[], &[1.0, f32::NAN], &[f32::NAN, 1.0], &[f32::INFINITY]] {
            assert_eq!(Inputs::new(x, 3), None);
        }
        assert_eq!(Inputs::new(&[1.0], 0), None);
        assert_eq!(Inputs::new(&[1.0], 4), None);
        assert_eq!(Inputs::new(&vec![1.0; LARGEST + 1], 1), None);
        // The smallest number there is has a scale too.
        let tiny = f32::from_bits(1);
        let found = Multiplier::new(Level::current()).dot(&[0, 0], &Inputs::new(&[tiny], 3).unwrap());
        let point = f64::from(super::super::E8P_FACTOR) * 0.75;
        assert!((found / (point * f64::from(tiny)) - 1.0).abs() < 1e-12);
    }

    fn len_blocks(len: usize) -> usize {
        len.div_ceil(BLOCK)
    }
}
