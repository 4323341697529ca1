//! Tables of values, most within [-1, 1], scaled by the group's largest magnitude.
//!
//! ```text
//! value = table[code],   encode(x) = the code of the nearest entry; a tie goes to the lower entry
//! ```
//! Midpoints are computed in f64 and rounded to f32, and an entry is passed when x is strictly above its midpoint:
//! the rule of bitsandbytes' quantizer on CPU. Codes follow the table's own order, which for
//! [`Table::BnbFp4`] is not that of the values.
//!
//! Sources: QLoRA, arXiv 2305.14314, appendix E (NF4); AF4: Yoshida, arXiv 2306.06965, table 1; NF2 and NF3 are the same construction at fewer bits, see
//! [`normal_float`](mod@super::normal_float); the 4-bit entries are the f32 values that bitsandbytes ships.

/// A named table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum Table {
    /// NormalFloat of 2 bits: -1, 0 and two positive values. Not symmetric: mirrored weights err differently.
    Nf2,
    /// NormalFloat of 3 bits.
    Nf3,
    /// NormalFloat of 4 bits: quantiles of the normal distribution, with an exact zero.
    Nf4,
    /// AbnormalFloat of 4 bits: the values of the least mean absolute error on blocks of 64 normal numbers.
    Af4,
    /// The 4-bit float of bitsandbytes: sign in the highest bit, magnitudes that are *not* those of E2M1, codes
    /// that are not in the order of the values. Codes 0 and 8 are both zero.
    BnbFp4,
    /// The 16 values of GGUF's IQ4_NL, whole numbers of growing distance from -127 to 113.
    Iq4Nl,
    /// -1 and 1: one bit, the sign; zero counts as negative.
    Sign,
}

/// The 4 values of NF2, with the offset of [`normal_float`](mod@super::normal_float) for 2 bits.
pub const NF2: [f32; 4] = [-1.0, 0.0, 0.435_818_17, 1.0];

/// The 8 values of NF3, with the offset of [`normal_float`](mod@super::normal_float) for 3 bits.
pub const NF3: [f32; 8] =
    [-1.0, -0.535_022_74, -0.246_931_43, 0.0, 0.183_337_48, 0.381_993_95, 0.622_985_7, 1.0];

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

/// The 16 values of AF4, for blocks of 64.
pub const AF4: [f32; 16] = [
    -1.0,
    -0.694_410_1,
    -0.512_437_4,
    -0.373_695_1,
    -0.256_075_53,
    -0.149_824_78,
    -0.049_348_12,
    0.0,
    0.042_731_64,
    0.129_344_84,
    0.219_612_74,
    0.316_756_66,
    0.425_638_82,
    0.554_962_34,
    0.724_248_65,
    1.0,
];

/// The values of bitsandbytes' FP4 by code: twelfths of 0, 1/16, 8, 12, 4, 6, 2, 3, then the same negated.
pub const BNB_FP4: [f32; 16] = [
    0.0,
    0.005_208_333_5,
    0.666_666_7,
    1.0,
    0.333_333_34,
    0.5,
    0.166_666_67,
    0.25,
    0.0,
    -0.005_208_333_5,
    -0.666_666_7,
    -1.0,
    -0.333_333_34,
    -0.5,
    -0.166_666_67,
    -0.25,
];

/// The 16 values of IQ4_NL.
pub const IQ4_NL: [f32; 16] = [
    -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0,
];

/// Codes of bitsandbytes' FP4 in the order of their values; of the two zeros code 0 comes first.
const BNB_FP4_ORDER: [u8; 16] = [11, 10, 13, 12, 15, 14, 9, 0, 8, 1, 6, 7, 4, 5, 2, 3];

const SIGN: [f32; 2] = [-1.0, 1.0];

impl Table {
    /// Bits of one code.
    pub const fn bits(self) -> usize {
        match self {
            Self::Sign => 1,
            Self::Nf2 => 2,
            Self::Nf3 => 3,
            Self::Nf4 | Self::Af4 | Self::BnbFp4 | Self::Iq4Nl => 4,
        }
    }

    /// The entries, by code.
    pub const fn values(self) -> &'static [f32] {
        match self {
            Self::Nf2 => &NF2,
            Self::Nf3 => &NF3,
            Self::Nf4 => &NF4,
            Self::Af4 => &AF4,
            Self::BnbFp4 => &BNB_FP4,
            Self::Iq4Nl => &IQ4_NL,
            Self::Sign => &SIGN,
        }
    }

    /// Largest magnitude of an entry.
    pub const fn max(self) -> f32 {
        match self {
            Self::Iq4Nl => 127.0,
            _ => 1.0,
        }
    }

    /// Value of the entry at `rank` in the order of the values.
    fn ranked(self, rank: usize) -> f32 {
        self.values()[usize::from(self.code_at(rank))]
    }

    /// Code of the entry at `rank` (below 16) in the order of the values.
    fn code_at(self, rank: usize) -> u8 {
        match self {
            Self::BnbFp4 => BNB_FP4_ORDER[rank],
            _ => rank.to_le_bytes()[0],
        }
    }
}

/// Midpoints between neighbouring entries, in the order of the values; infinities behind the last.
pub(crate) fn middles(table: Table) -> [f32; 15] {
    let mut middle = [f32::INFINITY; 15];
    for (rank, m) in middle.iter_mut().enumerate().take(table.values().len() - 1) {
        let (low, high) = (table.ranked(rank), table.ranked(rank + 1));
        *m = crate::float::narrow(f64::midpoint(f64::from(low), f64::from(high)));
    }
    middle
}

/// Codes in the order of the values, where that is not their own.
pub(crate) const fn order(table: Table) -> Option<[u8; 16]> {
    match table {
        Table::BnbFp4 => Some(BNB_FP4_ORDER),
        _ => None,
    }
}

/// Writes the code of each entry of `scaled` to `codes`: the entry's rank is the number of midpoints strictly
/// below it.
pub(crate) fn encode(scaled: &[f32], table: Table, codes: &mut [u8]) {
    let middle = middles(table);
    for (code, &x) in codes.iter_mut().zip(scaled) {
        *code = middle.iter().map(|&m| u8::from(x > m)).sum();
    }
    if table == Table::BnbFp4 {
        for code in codes.iter_mut().take(scaled.len()) {
            *code = table.code_at(usize::from(*code));
        }
    }
}
