//! From a bit stream to values: every weight by itself, no order in which they must come.
//!
//! ```text
//! value of row i = Tw[ bits k·(i+1) − L … k·(i+1) − 1 of the ring ]        Tw: the table in the order of windows
//! ```
//! A block of rows is decoded from its bits with the 32 before them in the ring in front (a copy, where the ring
//! closes): then no window wraps, and eight rows are k whole bytes on.

use super::stream::{LARGEST_RATE, ROWS};
use crate::simd::Level;
use alloc::vec::Vec;

#[cfg(target_arch = "x86_64")]
mod x86;

/// Bytes in front of the flat copy.
const BEFORE: usize = 4;
/// Bytes behind it, for loads of eight.
const BEHIND: usize = 8;

/// What decodes one column after another.
#[derive(Clone, Debug)]
pub struct Decoder {
    window: u8,
    level: Level,
    flat: Vec<u8>,
}

impl Decoder {
    /// For windows of `window` bits (L, 1 to 16).
    ///
    /// # Panics
    /// For another number.
    pub fn new(window: u8, level: Level) -> Self {
        assert!((1..=16).contains(&window), "a window of 1 to 16 bits");
        Self { window, level: level.or_current(), flat: Vec::new() }
    }

    /// Writes the values of rows `first ..` of the ring `stream` at `rate` bits to `out`, for blocks of rows: `first` and
    /// the length of `out` are multiples of 32. `table` is in the order of windows. The same bits on every
    /// instruction set.
    ///
    /// # Panics
    /// When the rows are no blocks, not in the ring, or the table has not 2^L entries.
    pub fn values(&mut self, stream: &[u8], rate: u8, table: &[f32], first: usize, out: &mut [f32]) {
        if rate == 0 {
            out.fill(0.0);
        } else {
            self.run(stream, rate, table, first, None, out);
        }
    }

    /// `sums += factor · values` for the values of [`Decoder::values`], in one pass: the same bits as that and
    /// [`Decoder::add`].
    ///
    /// # Panics
    /// As [`Decoder::values`].
    pub fn accumulate(
        &mut self,
        stream: &[u8],
        rate: u8,
        table: &[f32],
        first: usize,
        factor: f32,
        sums: &mut [f32],
    ) {
        self.run(stream, rate, table, first, Some(factor), sums);
    }

    /// Values of rows `first ..` to `out`, or `factor` times the values added to it.
    fn run(
        &mut self,
        stream: &[u8],
        rate: u8,
        table: &[f32],
        first: usize,
        factor: Option<f32>,
        out: &mut [f32],
    ) {
        assert!(first.is_multiple_of(ROWS) && out.len().is_multiple_of(ROWS), "whole blocks of 32 rows");
        assert!(table.len() == 1 << self.window, "a table of 2^L entries");
        assert!(rate <= LARGEST_RATE, "at most 8 bits a weight");
        if rate == 0 || out.is_empty() {
            return;
        }
        let bits = usize::from(rate);
        let flat = flat(stream, first / 8 * bits, out.len() / 8 * bits, &mut self.flat);
        match self.level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 | Level::Avx512 => {
                // SAFETY: `Decoder::new` let this choice stand only where the CPU has the instructions. `flat` has
                // BEFORE + k·len/8 + BEHIND bytes, the table 2^L entries, asserted above.
                unsafe { x86::values(flat, (rate, self.window), table, factor, out) };
            }
            _ => portable(flat, (rate, self.window), table, factor, out),
        }
    }

    /// `sums += factor · values`.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn add(&self, factor: f32, values: &[f32], sums: &mut [f32]) {
        assert!(values.len() == sums.len(), "a sum for every value");
        match self.level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 | Level::Avx512 => {
                // SAFETY: `Decoder::new` let this choice stand only where the CPU has the instructions.
                unsafe { x86::add(factor, values, sums) };
            }
            _ => add(factor, values, sums),
        }
    }
}

/// The loop of [`Decoder::add`], for whatever the compiler may use.
#[inline(always)]
fn add(factor: f32, values: &[f32], sums: &mut [f32]) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += factor * value;
    }
}

/// `len` bytes of the ring from byte `from` on, with [`BEFORE`] bytes of the ring in front and [`BEHIND`] of anything
/// behind: a part of `stream` itself, or of a copy of it in `buffer` where the ring closes.
fn flat<'a>(stream: &'a [u8], from: usize, len: usize, buffer: &'a mut Vec<u8>) -> &'a [u8] {
    let inside = from.checked_sub(BEFORE).and_then(|start| stream.get(start..from + len + BEHIND));
    if let Some(part) = inside {
        return part;
    }
    buffer.clear();
    buffer.extend_from_slice(match from.checked_sub(BEFORE) {
        Some(before) => &stream[before..from],
        None => &stream[stream.len() - BEFORE..],
    });
    buffer.extend_from_slice(&stream[from..from + len]);
    buffer.extend_from_slice(&[0; BEHIND]);
    buffer
}

/// One row after another from the flat bits: values to `out`, or `factor` times the values added to it.
fn portable(flat: &[u8], (rate, window): (u8, u8), table: &[f32], factor: Option<f32>, out: &mut [f32]) {
    let (rate, window) = (usize::from(rate), usize::from(window));
    let mask = (1 << window) - 1;
    let mut bit = 8 * BEFORE + rate - window;
    for out in out {
        let at = bit / 8;
        let bits = u32::from_le_bytes([flat[at], flat[at + 1], flat[at + 2], flat[at + 3]]);
        let value = table[(bits >> (bit % 8)) as usize & mask];
        *out = factor.map_or(value, |factor| *out + factor * value);
        bit += rate;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trellis::{stream, table};
    use alloc::vec;

    #[test]
    fn every_path_reads_the_windows_of_the_ring() {
        for window in [4_u8, 8, 11, 12, 16] {
            for rate in 1..=8.min(window) {
                let rows = 160;
                let bytes: Vec<u8> = (0..rows / 8 * usize::from(rate))
                    .map(|i| (i * i * 31 + i * 7 + 3).to_le_bytes()[0])
                    .collect();
                let table = table::by_window(window, rate);
                let expected: Vec<f32> =
                    (0..rows).map(|row| table[stream::window(&bytes, rate, window, row)]).collect();
                for set in Level::ALL.into_iter().filter(|set| set.is_available()) {
                    let mut decoder = Decoder::new(window, set);
                    let mut out = vec![f32::NAN; rows];
                    decoder.values(&bytes, rate, &table, 0, &mut out);
                    assert_eq!(out, expected, "L {window} k {rate} {set:?}");
                    for (first, len) in [(32, 64), (128, 32), (0, 32)] {
                        decoder.values(&bytes, rate, &table, first, &mut out[..len]);
                        assert_eq!(out[..len], expected[first..first + len]);
                        // In one pass what takes two.
                        let (mut one, mut two) = (vec![0.75; len], vec![0.75; len]);
                        decoder.accumulate(&bytes, rate, &table, first, -0.3, &mut one);
                        decoder.add(-0.3, &out[..len], &mut two);
                        assert_eq!(one, two, "L {window} k {rate} {set:?}");
                    }
                }
            }
        }
        let mut out = [f32::NAN; 32];
        Decoder::new(8, Level::current()).values(&[], 0, &table::by_window(8, 1), 0, &mut out);
        assert_eq!(out, [0.0; 32]);
    }
}
