//! Where codes, scales and zero points of a prepared matrix lie.
//!
//! ```text
//! tile   16 rows; tiles one after another
//! block  two groups of g columns:  head,  lines of group 2b,  lines of group 2b + 1        (an odd last group alone)
//! head   scales of both groups, row order: 2 × 16 f16 or bf16 in one line, 2 × 16 f32 in two;
//!        then as many lines of zero points or minima, where there are any
//! line   64 bytes = 16 rows × 8 columns of 4 bits, or 16 rows × 4 columns of 8 bits
//!        4 bits: byte 4·row + j holds column k + j (low half) and column k + 4 + j (high half)
//!        8 bits: byte 4·row + j holds column k + j, as value + 128
//! ```
//! A lane of 32 bits belongs to one row, so the same bytes serve vectors of 4, 8 and 16 lanes, and one pass over a tile is
//! one sequential stream of whole cache lines. Rows past the last are filled up with scale 0, the columns of a group to a
//! multiple of eight with codes that count as 0 (inputs there are 0 too).

use crate::FloatFormat;
use half::{bf16, f16};

/// Rows of a tile.
pub(crate) const ROWS: usize = 16;
/// Tiles that one token is multiplied with at a time.
pub(crate) const STREAMS: usize = 4;
/// Bytes of a line.
pub(crate) const LINE: usize = 64;
/// The columns of a group are filled up to a multiple of this.
pub(crate) const STEP: usize = 8;
/// Inputs that share a lane of 32 bits.
pub(crate) const LANES: usize = 4;

/// A cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [u8; LINE]);

/// How codes become whole numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// 4 bits, value = code − 8.
    Nibbles,
    /// 4 bits, value = table\[code].
    Table,
    /// 8 bits, value = code − 128.
    Bytes,
}

impl Kind {
    /// [`Kind::Nibbles`] as a parameter of a kernel.
    pub(crate) const NIBBLES: u8 = Self::Nibbles as u8;
    /// [`Kind::Table`].
    pub(crate) const TABLE: u8 = Self::Table as u8;
    /// [`Kind::Bytes`].
    pub(crate) const BYTES: u8 = Self::Bytes as u8;
}

/// What stands beside the scales.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shift {
    /// Nothing: ŵ = s·value.
    None,
    /// A zero point z: ŵ = s·value + s·(offset − z).
    Zero,
    /// A minimum m: ŵ = s·value + (s·offset + m).
    Min,
}

/// The numbers of a layout.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Plan {
    /// Rows and columns, `(out, in)`.
    pub(crate) shape: (usize, usize),
    pub(crate) kind: Kind,
    /// The whole numbers of 4-bit codes.
    pub(crate) values: [i8; 16],
    /// What an unsigned code exceeds its value by in products of unsigned with signed bytes.
    pub(crate) offset: i32,
    /// The weight's numbers by code, before zero point and scale; what `values` times `factor` rounds, for tables.
    pub(crate) exact: [f32; 16],
    /// What a whole number is worth in units of the scale.
    pub(crate) factor: f32,
    /// Codes are the weight rounded to 8 bits, not its own.
    pub(crate) rounded: bool,
    /// Columns of a group; the last may be short.
    pub(crate) group: usize,
    /// Groups of a row.
    pub(crate) groups: usize,
    /// Columns whose products AVX2 may add up in 16 bits; 0 where it may not.
    pub(crate) chain: usize,
    /// f32, f16 or bf16.
    pub(crate) head: FloatFormat,
    pub(crate) shift: Shift,
    pub(crate) sizes: Sizes,
}

/// What follows from the other numbers of a [`Plan`], at hand because every tile asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Sizes {
    lanes: usize,
    /// Of a full group, and of all.
    chains: (usize, usize),
    /// Of a full group, of the last one, and of a tile.
    lines: (usize, usize, usize),
}

impl Plan {
    /// Columns of group `group`, filled up.
    pub(crate) fn columns(&self, group: usize) -> usize {
        let left = self.shape.1.saturating_sub(group * self.group);
        left.min(self.group).next_multiple_of(STEP)
    }

    /// Lanes of inputs of all groups before `group`.
    pub(crate) fn first_lane(&self, group: usize) -> usize {
        group * (self.group.next_multiple_of(STEP) / LANES)
    }

    /// Lanes of inputs of a token.
    pub(crate) const fn lanes(&self) -> usize {
        self.sizes.lanes
    }

    /// Chains of sixteen bits of all groups before `group`.
    pub(crate) const fn first_chain(&self, group: usize) -> usize {
        group * self.sizes.chains.0
    }

    /// Chains of a token; none where sums of sixteen bits do not do.
    pub(crate) const fn all_chains(&self) -> usize {
        self.sizes.chains.1
    }

    /// Whether no group has more than one.
    pub(crate) const fn single_chains(&self) -> bool {
        self.sizes.chains.0 <= 1
    }

    /// Lines of a group.
    pub(crate) const fn lines(&self, group: usize) -> usize {
        if group + 1 == self.groups { self.sizes.lines.1 } else { self.sizes.lines.0 }
    }

    /// With the sizes that the other numbers make.
    pub(crate) fn sized(mut self) -> Self {
        let full = self.group.next_multiple_of(STEP);
        let last = self.groups.saturating_sub(1);
        let chains = |columns: usize| if self.chain == 0 { 0 } else { columns.div_ceil(self.chain) };
        let (lanes, chains) = match self.groups {
            0 => (0, (0, 0)),
            _ => (
                last * full / LANES + self.columns(last) / LANES,
                (chains(full), last * chains(full) + chains(self.columns(last))),
            ),
        };
        self.sizes =
            Sizes { lanes, chains, lines: (self.lines_of(full), self.lines_of(self.columns(last)), 0) };
        self.sizes.lines.2 = if self.groups == 0 { 0 } else { self.group_line(last) + self.lines(last) };
        self
    }

    /// Lines of so many columns of a group, a multiple of eight.
    pub(crate) const fn lines_of(&self, columns: usize) -> usize {
        columns / self.columns_of_line()
    }

    /// Columns of a line.
    pub(crate) const fn columns_of_line(&self) -> usize {
        match self.kind {
            Kind::Nibbles | Kind::Table => 8,
            Kind::Bytes => 4,
        }
    }

    /// Lines of the scales of two groups.
    pub(crate) const fn scale_lines(&self) -> usize {
        if matches!(self.head, FloatFormat::F32) { 2 } else { 1 }
    }

    /// Lines before each two groups.
    pub(crate) const fn head_lines(&self) -> usize {
        if matches!(self.shift, Shift::None) { self.scale_lines() } else { 2 * self.scale_lines() }
    }

    /// The first line of a group's head, in its tile.
    pub(crate) const fn head_line(&self, group: usize) -> usize {
        group / 2 * (self.head_lines() + 2 * self.sizes.lines.0)
    }

    /// The first line of a group's codes, in its tile.
    pub(crate) const fn group_line(&self, group: usize) -> usize {
        self.head_line(group) + self.head_lines() + group % 2 * self.sizes.lines.0
    }

    /// Lines of a tile.
    pub(crate) const fn tile_lines(&self) -> usize {
        self.sizes.lines.2
    }

    /// Tiles of the matrix.
    pub(crate) const fn tiles(&self) -> usize {
        self.shape.0.div_ceil(ROWS)
    }

    /// Scale of group `group` of row `row` of a tile.
    pub(crate) fn scale(&self, tile: &[Line], group: usize, row: usize) -> f32 {
        self.float(tile, self.head_line(group), group, row)
    }

    /// Its zero point or minimum, 0 where there are none.
    pub(crate) fn shift(&self, tile: &[Line], group: usize, row: usize) -> f32 {
        match self.shift {
            Shift::None => 0.0,
            Shift::Zero | Shift::Min => {
                self.float(tile, self.head_line(group) + self.scale_lines(), group, row)
            }
        }
    }

    fn float(&self, tile: &[Line], first: usize, group: usize, row: usize) -> f32 {
        if self.head == FloatFormat::F32 {
            let bytes = &tile[first + group % 2].0;
            return f32::from_le_bytes(core::array::from_fn(|i| bytes[4 * row + i]));
        }
        let bytes = &tile[first].0;
        let at = 32 * (group % 2) + 2 * row;
        let two = [bytes[at], bytes[at + 1]];
        match self.head {
            FloatFormat::Bf16 => bf16::from_le_bytes(two).to_f32(),
            _ => f16::from_le_bytes(two).to_f32(),
        }
    }

    /// Stores scale and shift of a group, which the head's format holds.
    pub(crate) fn set_head(&self, tile: &mut [Line], (group, row): (usize, usize), scale: f32, shift: f32) {
        let first = self.head_line(group);
        let mut set = |first: usize, value: f32| match self.head {
            FloatFormat::F32 => {
                tile[first + group % 2].0[4 * row..4 * row + 4].copy_from_slice(&value.to_le_bytes());
            }
            format => {
                let two = match format {
                    FloatFormat::Bf16 => bf16::from_f32(value).to_le_bytes(),
                    _ => f16::from_f32(value).to_le_bytes(),
                };
                let at = 32 * (group % 2) + 2 * row;
                tile[first].0[at..at + 2].copy_from_slice(&two);
            }
        };
        set(first, scale);
        if self.shift != Shift::None {
            set(first + self.scale_lines(), shift);
        }
    }

    /// The stored code of column `column` of a group: 4 or 8 bits.
    pub(crate) fn code(&self, tile: &[Line], group: usize, row: usize, column: usize) -> u8 {
        let first = self.group_line(group);
        match self.kind {
            Kind::Nibbles | Kind::Table => {
                let byte = tile[first + column / 8].0[4 * row + column % 4];
                byte >> (column / 4 % 2 * 4) & 15
            }
            Kind::Bytes => tile[first + column / 4].0[4 * row + column % 4],
        }
    }

    /// Stores it.
    pub(crate) fn set_code(&self, tile: &mut [Line], (group, row, column): (usize, usize, usize), code: u8) {
        let first = self.group_line(group);
        match self.kind {
            Kind::Nibbles | Kind::Table => {
                let byte = &mut tile[first + column / 8].0[4 * row + column % 4];
                let shift = column / 4 % 2 * 4;
                *byte = *byte & !(15 << shift) | (code & 15) << shift;
            }
            Kind::Bytes => tile[first + column / 4].0[4 * row + column % 4] = code,
        }
    }

    /// The whole number of a stored code.
    pub(crate) fn value(&self, code: u8) -> i32 {
        match self.kind {
            Kind::Nibbles | Kind::Table => self.values[usize::from(code & 15)].into(),
            Kind::Bytes => i32::from(code) - 128,
        }
    }

    /// The code that fills up groups.
    pub(crate) const fn filler(&self) -> u8 {
        match self.kind {
            Kind::Nibbles => 8,
            Kind::Table => 0,
            Kind::Bytes => 128,
        }
    }

    /// The whole numbers of 4-bit codes, with the offset, as bytes without a sign.
    pub(crate) fn unsigned(&self) -> [u8; 16] {
        self.values.map(|value| u8::try_from(i32::from(value) + self.offset).unwrap_or(0))
    }

    /// What is added per unit of the inputs' sum: `s·(offset − z)` or `s·offset + m`, in f32.
    pub(crate) fn shifted(&self, scale: f32, shift: f32) -> f32 {
        match self.shift {
            Shift::None => 0.0,
            Shift::Zero => scale * (self.centre() - shift),
            Shift::Min => scale * self.centre() + shift,
        }
    }

    /// The offset as a float.
    pub(crate) const fn centre(&self) -> f32 {
        match self.kind {
            Kind::Nibbles => 8.0,
            Kind::Table => 0.0,
            Kind::Bytes => 128.0,
        }
    }
}
