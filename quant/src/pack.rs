//! Bit streams: numbers of 1 to 8 bits, one after another, without gaps.
//!
//! ```text
//! number k of width b occupies bits k·b .. k·b + b - 1; bit i is bit (i mod 8) of byte ⌊i / 8⌋
//! ```
//! So 4-bit number 2j is the low half of byte j and 2j + 1 its high half. Unused bits of the last byte are 0.

/// Bytes of `len` numbers of `bits` bits, or `None` when that overflows.
pub fn packed_len(len: usize, bits: usize) -> Option<usize> {
    len.checked_mul(bits).map(|total| total.div_ceil(8))
}

/// Packs `numbers`, each below 2^`bits`, into `packed`, which must hold them.
///
/// # Panics
/// When `packed` is shorter than [`packed_len`].
pub fn pack(numbers: &[u8], bits: usize, packed: &mut [u8]) {
    match bits {
        8 => packed[..numbers.len()].copy_from_slice(numbers),
        4 => {
            for (byte, pair) in packed.iter_mut().zip(numbers.chunks(2)) {
                *byte = pair[0] | (pair.get(1).copied().unwrap_or(0) << 4);
            }
        }
        2 => {
            for (byte, four) in packed.iter_mut().zip(numbers.chunks(4)) {
                *byte = four.iter().rev().fold(0, |acc, n| (acc << 2) | n);
            }
        }
        _ => {
            let (mut hold, mut held, mut at) = (0_u16, 0, 0);
            for &number in numbers {
                hold |= u16::from(number) << held;
                held += bits;
                while held >= 8 {
                    packed[at] = hold.to_le_bytes()[0];
                    at += 1;
                    hold >>= 8;
                    held -= 8;
                }
            }
            if held > 0 {
                packed[at] = hold.to_le_bytes()[0];
            }
        }
    }
}

/// Number `index` of the stream `packed`.
///
/// # Panics
/// When the stream ends before it.
#[inline]
pub fn get(packed: &[u8], bits: usize, index: usize) -> u8 {
    let first = index * bits;
    let (byte, shift) = (first / 8, first % 8);
    let next = if shift + bits > 8 { packed[byte + 1] } else { 0 };
    let window = u16::from_le_bytes([packed[byte], next]);
    (window >> shift).to_le_bytes()[0] & mask(bits)
}

/// Unpacks numbers `0 .. numbers.len()` of the stream `packed`.
///
/// # Panics
/// When the stream ends before them.
pub fn unpack(packed: &[u8], bits: usize, numbers: &mut [u8]) {
    match bits {
        8 => numbers.copy_from_slice(&packed[..numbers.len()]),
        4 => {
            for (pair, &byte) in numbers.chunks_mut(2).zip(packed) {
                pair[0] = byte & 15;
                if let Some(second) = pair.get_mut(1) {
                    *second = byte >> 4;
                }
            }
        }
        2 => {
            for (four, &byte) in numbers.chunks_mut(4).zip(packed) {
                for (n, shift) in four.iter_mut().zip([0, 2, 4, 6]) {
                    *n = (byte >> shift) & 3;
                }
            }
        }
        _ => {
            for (index, number) in numbers.iter_mut().enumerate() {
                *number = get(packed, bits, index);
            }
        }
    }
}

const fn mask(bits: usize) -> u8 {
    if bits >= 8 { u8::MAX } else { (1 << bits) - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{vec, vec::Vec};

    #[test]
    fn every_width_and_length_comes_back() {
        for bits in 1..=8 {
            for len in 0..40_u8 {
                let numbers: Vec<u8> =
                    (0..len).map(|i| i.wrapping_mul(37).wrapping_add(5) & mask(bits)).collect();
                let mut packed = vec![0; packed_len(numbers.len(), bits).unwrap()];
                pack(&numbers, bits, &mut packed);
                let mut back = vec![0xEE; numbers.len()];
                unpack(&packed, bits, &mut back);
                assert_eq!(numbers, back, "{bits} bits, {len} numbers");
                for (i, &n) in numbers.iter().enumerate() {
                    assert_eq!(get(&packed, bits, i), n);
                }
            }
        }
    }

    #[test]
    fn bytes_are_as_documented() {
        let mut packed = [0; 3];
        pack(&[0x1, 0x2, 0x3], 4, &mut packed[..2]);
        assert_eq!(packed[..2], [0x21, 0x03]);
        pack(&[0b101, 0b011, 0b110, 0b001, 0b111, 0b000, 0b010, 0b100], 3, &mut packed);
        // Bits from the lowest: 101 110 011 100 111 000 010 001 (each number written lowest bit first).
        assert_eq!(packed, [0b1001_1101, 0b0111_0011, 0b1000_1000]);
        pack(&[3, 0, 2, 1, 2], 2, &mut packed[..2]);
        assert_eq!(packed[..2], [0b0110_0011, 0b10]);
    }
}
