//! A reordering of the inputs: `x̃_p = x_{order[p]}`.

use crate::Error;
use alloc::{vec, vec::Vec};

/// Which input each position takes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Permutation {
    order: Vec<u32>,
}

impl Permutation {
    /// Position p takes input `order[p]`.
    ///
    /// # Errors
    /// [`Error::NotAPermutation`] naming the first entry that is out of range or there already.
    pub fn new(order: Vec<u32>) -> Result<Self, Error> {
        let mut seen = vec![false; order.len()];
        for (index, &input) in order.iter().enumerate() {
            match usize::try_from(input).ok().and_then(|input| seen.get_mut(input)) {
                Some(taken) if !*taken => *taken = true,
                _ => return Err(Error::NotAPermutation { index }),
            }
        }
        Ok(Self { order })
    }

    /// Inputs by falling `weight` (as a calibration's mean squares), equal ones as they come, NaN last: GPTQ's
    /// activation order as a change of basis. Inputs that share a group then weigh about the same.
    ///
    /// # Errors
    /// [`Error::TooLarge`] beyond 2³² inputs.
    pub fn falling(weight: &[f64]) -> Result<Self, Error> {
        let len = u32::try_from(weight.len()).map_err(|_| Error::TooLarge { what: "permutation" })?;
        let mut order: Vec<u32> = (0..len).collect();
        // A stable sort by falling weight: NaN counts as the least.
        let key = |&input: &u32| weight.get(input as usize).copied().filter(|w| !w.is_nan());
        order.sort_by(|a, b| key(b).partial_cmp(&key(a)).unwrap_or(core::cmp::Ordering::Equal));
        Ok(Self { order })
    }

    /// The input of each position.
    pub fn order(&self) -> &[u32] {
        &self.order
    }

    /// Number of inputs.
    pub fn features(&self) -> usize {
        self.order.len()
    }

    /// Bytes of a stored entry: 1, 2 or 4, the fewest that hold every input's number.
    pub fn entry_bytes(features: usize) -> usize {
        match features {
            0..=0x100 => 1,
            0x101..=0x1_0000 => 2,
            _ => 4,
        }
    }

    /// Every stored bit.
    pub fn stored_bits(&self) -> u64 {
        (self.order.len() * Self::entry_bytes(self.order.len()) * 8) as u64
    }

    /// The order as bytes: little-endian numbers of [`Permutation::entry_bytes`] each.
    pub fn to_bytes(&self) -> Vec<u8> {
        let width = Self::entry_bytes(self.order.len());
        self.order.iter().flat_map(|input| input.to_le_bytes().into_iter().take(width)).collect()
    }

    /// Reads what [`Permutation::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`Error::PartLength`] for another number of bytes than `features` entries take; [`Error::NotAPermutation`].
    pub fn from_bytes(bytes: &[u8], features: usize) -> Result<Self, Error> {
        let width = Self::entry_bytes(features);
        let expected = features.checked_mul(width).ok_or(Error::TooLarge { what: "permutation" })?;
        if bytes.len() != expected {
            return Err(Error::PartLength { part: "permutation", expected, found: bytes.len() });
        }
        let entry = |bytes: &[u8]| bytes.iter().rev().fold(0, |value, &byte| value << 8 | u32::from(byte));
        Self::new(bytes.chunks_exact(width).map(entry).collect())
    }

    /// `x̃_p = x_{order[p]}` in place, through `scratch`. A row of another length is left as it is.
    pub(super) fn gather<T: Copy>(&self, row: &mut [T], scratch: &mut Vec<T>) {
        if row.len() != self.order.len() {
            return;
        }
        scratch.clear();
        scratch.extend_from_slice(row);
        for (entry, &input) in row.iter_mut().zip(&self.order) {
            *entry = scratch[input as usize];
        }
    }

    /// `x_{order[p]} = x̃_p` in place, which undoes [`Permutation::gather`].
    pub(super) fn scatter<T: Copy>(&self, row: &mut [T], scratch: &mut Vec<T>) {
        if row.len() != self.order.len() {
            return;
        }
        scratch.clear();
        scratch.extend_from_slice(row);
        for (&value, &input) in scratch.iter().zip(&self.order) {
            row[input as usize] = value;
        }
    }
}
