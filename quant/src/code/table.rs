//! Tables of values within [-1, 1], scaled by the group's largest magnitude.
//!
//! ```text
//! value = table[code],   encode(x) = the index of the nearest entry; a tie goes to the lower index
//! ```
//! Source: QLoRA, arXiv 2305.14314, appendix E (NF4); the entries are the f32 values that bitsandbytes ships.

/// A named table, entries in increasing order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum Table {
    /// NormalFloat of 4 bits: quantiles of the normal distribution, with an exact zero.
    Nf4,
}

/// The 16 values of NF4.
pub const NF4: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

impl Table {
    /// Bits of one code.
    pub const fn bits(self) -> usize {
        match self {
            Self::Nf4 => 4,
        }
    }

    /// The entries, by code.
    pub const fn values(self) -> &'static [f32] {
        match self {
            Self::Nf4 => &NF4,
        }
    }
}

/// Writes the code of each entry of `scaled` to `codes`: the number of midpoints strictly below it.
pub(crate) fn encode(scaled: &[f32], table: Table, codes: &mut [u8]) {
    let values = table.values();
    let mut middle = [f32::INFINITY; 15];
    for (m, pair) in middle.iter_mut().zip(values.windows(2)) {
        *m = crate::float::narrow(f64::midpoint(f64::from(pair[0]), f64::from(pair[1])));
    }
    for (code, &x) in codes.iter_mut().zip(scaled) {
        *code = middle.iter().map(|&m| u8::from(x > m)).sum();
    }
}
