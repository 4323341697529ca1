//! Where the bits of a column lie.
//!
//! ```text
//! m rows, padded to M = 32·⌈m/32⌉; k bits a weight; the column is a ring of k·M bits
//! weight i owns bits k·i … k·i + k − 1, the most significant bit of its symbol first
//! state of weight i = the L bits that end with its own, k·(i+1) − L … k·(i+1) − 1 (mod k·M), oldest = most significant
//! ```
//! In memory bit p is bit `p mod 32` of little-endian u32 word `⌊p/32⌋`, which is bit `p mod 8` of byte `⌊p/8⌋`: a
//! column is k·M/8 whole bytes and k·M/32 whole words. L bits read from there have the oldest bit *lowest*: they are
//! the state with its bits reversed, a *window*. Columns follow each other without gaps; where one starts is a prefix
//! sum over the rates.

use crate::Error;
use alloc::{vec, vec::Vec};

/// Rows are padded to a multiple of this.
pub const ROWS: usize = 32;
/// Bits of a weight at most.
pub const LARGEST_RATE: u8 = 8;

/// Rows with their padding.
///
/// # Errors
/// [`Error::TooLarge`] where that overflows.
pub fn padded(rows: usize) -> Result<usize, Error> {
    rows.checked_next_multiple_of(ROWS).ok_or(Error::TooLarge { what: "rows" })
}

/// Bytes of a column of `padded` rows at `rate` bits.
pub(crate) const fn column_bytes(padded: usize, rate: u8) -> usize {
    padded / 8 * rate as usize
}

/// Byte at which each column starts, and last where the last one ends.
///
/// # Errors
/// [`Error::TooLarge`] where that overflows; [`Error::InvalidOption`] for a rate above 8.
pub fn offsets(rows: usize, rates: impl IntoIterator<Item = u8>) -> Result<Vec<usize>, Error> {
    let padded = padded(rows)?;
    let mut at = 0_usize;
    let mut offsets = vec![0];
    for rate in rates {
        if rate > LARGEST_RATE {
            let requirement = "at most 8 bits a weight";
            return Err(Error::InvalidOption { what: "rate", requirement, found: f64::from(rate) });
        }
        at = at.checked_add(column_bytes(padded, rate)).ok_or(Error::TooLarge { what: "codes" })?;
        offsets.push(at);
    }
    Ok(offsets)
}

/// Writes the last `rate` bits of each state to `stream`, which has `rate`/8 bytes a state.
///
/// # Panics
/// When `states` is not a multiple of 8 long or `stream` is shorter than its bits.
pub fn pack(states: &[u16], rate: u8, stream: &mut [u8]) {
    let bits = usize::from(rate);
    if bits == 0 {
        return;
    }
    for (states, bytes) in states.chunks_exact(8).zip(stream.chunks_exact_mut(bits)) {
        let mut hold = 0_u64;
        for (i, state) in states.iter().enumerate() {
            let symbol = u64::from(state.reverse_bits() >> (16 - bits));
            hold |= symbol << (i * bits);
        }
        bytes.copy_from_slice(&hold.to_le_bytes()[..bits]);
    }
}

/// The window of row `row`: L = `window` bits of the ring `stream`.
///
/// # Panics
/// When the ring is shorter than that row.
pub fn window(stream: &[u8], rate: u8, window: u8, row: usize) -> usize {
    let (rate, len, total) = (usize::from(rate), usize::from(window), stream.len() * 8);
    let end = rate * (row + 1);
    // A ring holds at least 32 bits, a window at most 16.
    let first = if end >= len { end - len } else { end + total - len };
    if let Some(&[a, b, c, d]) = stream.get(first / 8..first / 8 + 4) {
        return u32::from_le_bytes([a, b, c, d]) as usize >> (first % 8) & ((1 << len) - 1);
    }
    (0..len.div_ceil(8) + 1).fold(0, |bits, byte| {
        let at = (first / 8 + byte) % stream.len();
        bits | usize::from(stream[at]) << (8 * byte)
    }) >> (first % 8)
        & ((1 << len) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The states of symbols, by the definition: shift in the symbol, drop what is older than L bits.
    fn states(symbols: &[u16], rate: u32, window: u32) -> Vec<u16> {
        let mask = (1_u64 << window) - 1;
        let shift = |state: u64, symbol: u16| (state << rate | u64::from(symbol)) & mask;
        // Twice around the ring: the second time the past is that of a ring.
        let start = symbols.iter().fold(0, |state, &symbol| shift(state, symbol));
        let mut state = start;
        symbols
            .iter()
            .map(|&symbol| {
                state = shift(state, symbol);
                u16::try_from(state).unwrap()
            })
            .collect()
    }

    #[test]
    fn windows_are_the_states_of_the_recursion() {
        for rate in 1..=LARGEST_RATE {
            for window in [rate.max(4), 8, 11, 12, 16] {
                for rows in [32, 64, 96] {
                    let mask = (1_u32 << rate) - 1;
                    let symbols: Vec<u16> = (0..rows)
                        .map(|i: u32| u16::try_from(i.wrapping_mul(2_654_435_761) >> 13 & mask).unwrap())
                        .collect();
                    let states = states(&symbols, rate.into(), window.into());
                    let mut stream = vec![0; states.len() / 8 * usize::from(rate)];
                    pack(&states, rate, &mut stream);
                    for (row, state) in states.iter().enumerate() {
                        let found = super::window(&stream, rate, window, row);
                        let reversed = u32::from(*state).reverse_bits() >> (32 - window);
                        assert_eq!(found, reversed as usize, "k {rate} L {window} row {row} of {rows}");
                    }
                }
            }
        }
    }

    /// 32 weights of one bit, then the layout by hand.
    #[test]
    fn bytes_by_hand() {
        let mut stream = [0; 4];
        let states: Vec<u16> = (0..32).map(|i| u16::from(matches!(i, 0 | 9 | 31))).collect();
        pack(&states, 1, &mut stream);
        assert_eq!(stream, [0b1, 0b10, 0, 0b1000_0000]);
        // Symbols 1 and 6 of three bits: 0 0 1 and 1 1 0, oldest first, from the lowest bit.
        let mut stream = [0; 12];
        let states: Vec<u16> = (0..32).map(|i| if i == 0 { 0b111_001 } else { 0b000_110 }).collect();
        pack(&states, 3, &mut stream);
        assert_eq!(stream[..3], [0b1101_1100, 0b1011_0110, 0b0110_1101]);
    }

    #[test]
    fn columns_start_at_prefix_sums() {
        assert_eq!(offsets(33, [2, 0, 8]).unwrap(), [0, 16, 16, 80]);
        assert!(offsets(33, [9]).is_err());
        assert!(offsets(usize::MAX, [1]).is_err());
        assert!(offsets(usize::MAX - 63, [8, 8]).is_err());
        assert_eq!(offsets(0, [3]).unwrap(), [0, 0]);
    }
}
