//! From stored codes to lines of 16 rows × 8 columns: the layout of `shader/shared/split.wgsl`.
//!
//! ```text
//! codes  [tiles][lines][16 rows]    u32: byte j = column j (low half) and column 4 + j (high half) of the line
//!        [tiles][lines][2][16 rows] u32 for codes of 8 bits: bytes = columns 0 to 3, then 4 to 7
//! scales [tiles][groups][16 rows] f32
//! zeros  [tiles][groups][4]       u32: byte i = zero point of row 4·q + i
//! ```
//! A line must lie in one group. So each group is padded to whole lines ([`Packed::columns`] says which input
//! column stands where), and the kernels' groups are the largest power-of-two number of lines that divides the
//! scheme's, scales repeated: finding a line's group is then one shift. Groups that are a multiple of 8 columns
//! wide need no padding; a power of two times 8, no repetition.

use crate::Error;
use crate::pipeline::Format;
use rankbit_quant::{Block, Code, FloatFormat, Floats, Layout, Quantized, pack};

/// Rows of a tile.
pub(crate) const ROWS: usize = 16;
/// Columns of a line.
pub(crate) const COLUMNS: usize = 8;
/// A column that stands for padding.
pub(crate) const PADDING: u32 = u32::MAX;

/// A quantized matrix in the kernels' layout, still on the host.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Packed {
    pub(crate) format: Format,
    /// Lines of a tile.
    pub(crate) lines: usize,
    /// Groups of a row.
    pub(crate) groups: usize,
    /// Line `l` belongs to group `l >> shift`.
    pub(crate) shift: u32,
    /// Words of a line and row.
    pub(crate) words: usize,
    pub(crate) codes: Vec<u32>,
    pub(crate) scales: Vec<f32>,
    /// Empty for formats without zero points.
    pub(crate) zeros: Vec<u32>,
    /// Input column of each column of the lines, or [`PADDING`]; empty when they are in their natural order.
    pub(crate) columns: Vec<u32>,
}

impl Packed {
    /// Repacks `matrix`. Cost O(out · in), once.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a number format without a kernel, [`Error::LimitExceeded`] for a matrix that
    /// 32-bit indices do not reach.
    pub(crate) fn new(matrix: &Quantized) -> Result<Self, Error> {
        let scheme = matrix.scheme();
        let format = Format::of(scheme).ok_or(Error::Unsupported { scheme: *scheme })?;
        let ((rows, cols), grouping) = (matrix.shape(), matrix.grouping());
        let (size, per_row) = (grouping.size, grouping.per_row);
        // Lines of a full group; all but the last group are full.
        let span = size.div_ceil(COLUMNS);
        let last = cols - size * per_row.saturating_sub(1);
        let lines = span * per_row.saturating_sub(1) + last.div_ceil(COLUMNS);
        let shift = if per_row > 1 { span.trailing_zeros() } else { 31 };
        let groups = if per_row > 1 { lines.div_ceil(1 << shift) } else { per_row };
        let tiles = rows.div_ceil(ROWS);
        let words = if format.wide() { 2 } else { 1 };
        let limit = usize::MAX as u64 / 4;
        let needed = crate::buffer::product(&[tiles, lines, ROWS, words]);
        if needed > limit {
            return Err(Error::LimitExceeded { what: "words of codes", needed, limit });
        }
        let natural = per_row <= 1 || size.is_multiple_of(COLUMNS);
        // Column `k` of the matrix stands at `place(k)` among the columns of the lines.
        let place = |k: usize| if natural { k } else { k / size * span * COLUMNS + k % size };
        let mut columns = Vec::new();
        if !natural {
            columns.resize(lines * COLUMNS, PADDING);
            for k in 0..cols {
                columns[place(k)] = crate::buffer::narrow("columns", k)?;
            }
        }

        let mut codes = vec![0_u32; tiles * lines * ROWS * words];
        let mut scales = vec![0.0; tiles * groups * ROWS];
        let mut zeros = vec![0_u32; if format.has_zeros() { tiles * groups * ROWS / 4 } else { 0 }];
        let (mut planar, mut placed) = (vec![0; cols], vec![0; lines * COLUMNS]);
        for row in 0..rows {
            let (tile, row_of_tile) = (row / ROWS, row % ROWS);
            row_codes(matrix, row, &mut planar);
            if natural {
                placed[..cols].copy_from_slice(&planar);
            } else {
                for (from, to) in planar.chunks(size).zip(placed.chunks_mut(span * COLUMNS)) {
                    to[..from.len()].copy_from_slice(from);
                }
            }
            let first = tile * lines * ROWS * words + row_of_tile;
            for (line, code) in placed.chunks_exact(COLUMNS).enumerate() {
                let at = first + line * ROWS * words;
                if words == 1 {
                    codes[at] = u32::from_le_bytes([0, 1, 2, 3].map(|j| code[j] | (code[4 + j] << 4)));
                } else {
                    codes[at] = u32::from_le_bytes([0, 1, 2, 3].map(|j| code[j]));
                    codes[at + ROWS] = u32::from_le_bytes([4, 5, 6, 7].map(|j| code[j]));
                }
            }
            for group in 0..groups {
                let source = if per_row > 1 { (group << shift) / span } else { 0 };
                let at = (tile * groups + group) * ROWS + row_of_tile;
                scales[at] = scale(matrix, row, source)?;
                if let Some(word) = zeros.get_mut(at / 4) {
                    *word |= u32::from(matrix.zero_code(row, source)) << (8 * (at % 4));
                }
            }
        }
        Ok(Self { format, lines, groups, shift, words, codes, scales, zeros, columns })
    }
}

/// The codes of row `row` as the kernels decode them, from planar codes or from blocks of 32: an f16, then codes `j` and
/// `16 + j` in byte `j`, or a byte each in two's complement.
fn row_codes(matrix: &Quantized, row: usize, out: &mut [u8]) {
    let bytes = matrix.row_codes(row);
    if let Layout::Block(block) = matrix.scheme().layout {
        for (bytes, out) in bytes.chunks_exact(block.bytes()).zip(out.chunks_exact_mut(2 * HALF)) {
            if block == Block::Q8_0 {
                for (byte, out) in bytes.iter().skip(2).zip(out) {
                    *out = byte ^ 0x80;
                }
                continue;
            }
            let (low, high) = out.split_at_mut(HALF);
            for ((byte, low), high) in bytes.iter().skip(2).zip(low).zip(high) {
                (*low, *high) = (byte & 15, byte >> 4);
            }
        }
        return;
    }
    let code = matrix.scheme().code;
    pack::unpack(bytes, code.bits(), out);
    if let Code::Int { bits: bits @ (2..=3 | 5..=7), signed: true } = code {
        let offset = if bits < 4 { 8 } else { 128 } - (1 << (bits - 1));
        out.iter_mut().for_each(|code| *code += offset);
    }
}

/// Half of a block's codes.
const HALF: usize = 16;

/// The scale of group `group` of row `row`, from wherever it is stored.
fn scale(matrix: &Quantized, row: usize, group: usize) -> Result<f32, Error> {
    let Layout::Block(block) = matrix.scheme().layout else { return Ok(matrix.scale(row, group)) };
    let at = group * block.bytes();
    let bytes = matrix.row_codes(row).get(at..at + 2).unwrap_or_default();
    Ok(Floats::from_bytes(bytes, FloatFormat::F16, 1, "block scales")?.get(0))
}

/// A row-major matrix `[rows, cols]` with its rows in tiles, as the kernels read `L`: `[tiles][cols][16 rows]`.
pub(crate) fn tiled(values: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    let mut out = vec![0.0; rows.div_ceil(ROWS) * cols * ROWS];
    for (row, values) in values.chunks_exact(cols.max(1)).enumerate() {
        for (col, &value) in values.iter().enumerate() {
            out[(row / ROWS * cols + col) * ROWS + row % ROWS] = value;
        }
    }
    out
}

/// A row-major matrix `[rows, cols]` with one more column, `last`.
pub(crate) fn widened(values: &[f32], cols: usize, last: &[f32]) -> Vec<f32> {
    let rows = last.iter().enumerate();
    rows.flat_map(|(row, last)| values[row * cols..(row + 1) * cols].iter().chain([last])).copied().collect()
}

/// A row-major matrix with its rows padded by zeros to `stride`.
pub(crate) fn padded(values: &[f32], cols: usize, stride: usize) -> Vec<f32> {
    let mut out = vec![0.0; values.len() / cols.max(1) * stride];
    for (from, to) in values.chunks_exact(cols.max(1)).zip(out.chunks_exact_mut(stride.max(1))) {
        to[..cols].copy_from_slice(from);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use rankbit_quant::{FloatFormat, Floats, Group, Scheme, part_lengths, scheme};

    fn nibble(value: usize) -> u8 {
        value.to_le_bytes()[0] & 15
    }

    /// `[rows, cols]` with code (row + 3·col) mod 16, scale row + group / 8 and zero point (row + group) mod 16.
    fn matrix(rows: usize, cols: usize, scheme: Scheme) -> Quantized {
        let scheme = scheme.with_scale_format(FloatFormat::F32);
        let lengths = part_lengths((rows, cols), &scheme).unwrap();
        let per_row = lengths.scales / rows;
        let mut codes = Vec::new();
        for row in 0..rows {
            let line: Vec<u8> = (0..cols).map(|col| nibble(row + 3 * col)).collect();
            let mut packed = vec![0; pack::packed_len(cols, 4).unwrap()];
            pack::pack(&line, 4, &mut packed);
            codes.extend(packed);
        }
        let scales: Vec<f32> =
            (0..lengths.scales).map(|i| (i / per_row) as f32 + (i % per_row) as f32 / 8.0).collect();
        let points: Vec<u8> = (0..lengths.scales).map(|i| nibble(i / per_row + i % per_row)).collect();
        let mut zeros = vec![0; lengths.zeros];
        if !zeros.is_empty() {
            pack::pack(&points, 4, &mut zeros);
        }
        Quantized::from_parts((rows, cols), scheme, codes, Floats::encode(&scales, FloatFormat::F32), zeros)
            .unwrap()
    }

    #[test]
    fn a_word_is_eight_columns_of_a_row() {
        let packed = Packed::new(&matrix(2, 10, scheme::INT4.with_group(Group::Row))).unwrap();
        assert_eq!((packed.lines, packed.groups, packed.shift), (2, 1, 31));
        assert!(packed.columns.is_empty() && packed.zeros.is_empty());
        // Row 0: codes 0 3 6 9 12 15 2 5 | 8 11; byte j = column j + 16·column (4 + j).
        assert_eq!(packed.codes[0], u32::from_le_bytes([0xC0, 0xF3, 0x26, 0x59]));
        assert_eq!(packed.codes[16], u32::from_le_bytes([8, 11, 0, 0]));
        // Row 1: each code one more; then rows of padding.
        assert_eq!(packed.codes[1], u32::from_le_bytes([0xD1, 0x04, 0x37, 0x6A]));
        assert_eq!(packed.codes[2..16], [0; 14]);
        assert_eq!(packed.scales, [[0.0, 1.0].as_slice(), &[0.0; 14]].concat());
    }

    /// Every code, scale and zero point is found where the kernels look for it, for any group size.
    #[test]
    fn every_entry_is_where_its_line_says() {
        for group in
            [1, 3, 5, 8, 12, 16, 24, 40, 48, 64, 100].map(Group::Size).into_iter().chain([Group::Row])
        {
            for cols in [1, 5, 8, 9, 47, 64, 65, 131] {
                let matrix = matrix(18, cols, scheme::UINT4.with_group(group));
                let packed = Packed::new(&matrix).unwrap();
                let mut seen = vec![0; cols];
                for place in 0..packed.lines * COLUMNS {
                    let column = packed.columns.get(place).map_or(place, |&c| c as usize);
                    if column >= cols {
                        continue;
                    }
                    seen[column] += 1;
                    for row in 0..18 {
                        let (tile, r, line) = (row / ROWS, row % ROWS, place / COLUMNS);
                        let word = packed.codes[(tile * packed.lines + line) * ROWS + r];
                        let code = word >> (8 * (place % 4)) >> (4 * (place % 8 / 4)) & 15;
                        assert_eq!(code as usize, (row + 3 * column) % 16);
                        let at = (tile * packed.groups + (line >> packed.shift)) * ROWS + r;
                        let of = column / matrix.grouping().size;
                        assert_eq!(packed.scales[at], matrix.scale(row, of), "{group:?} {cols}");
                        let zero = packed.zeros[at / 4] >> (8 * (at % 4)) & 255;
                        assert_eq!(zero, u32::from(matrix.zero_code(row, of)));
                    }
                }
                assert!(seen.iter().all(|&n| n == 1), "{group:?} {cols}: {seen:?}");
                assert!(packed.groups << packed.shift.min(20) >= packed.lines);
            }
        }
    }

    /// Nested scales and groups of several rows arrive as the scale of each row; other zero points are refused by name.
    #[test]
    fn scales_of_every_kind_arrive() {
        use rankbit_quant::{Quantized, Rounder, quantize};
        let values: Vec<f32> =
            (0..20 * 96_u16).map(|i| f32::from(i % 251 * 139 % 251) / 251.0 - 0.4).collect();
        let weight = rankbit_linalg::faer::MatRef::from_row_major_slice(&values, 20, 96);
        let quantized =
            |scheme: Scheme| -> Quantized { quantize(weight, &scheme, Rounder::Nearest).unwrap().quantized };
        for scheme in [
            scheme::NF4_DQ.with_group(Group::Size(16)),
            scheme::NF4_LQ.with_group(Group::Size(48)),
            scheme::UINT4.with_group(Group::Block { rows: 3, cols: 32 }),
        ] {
            let matrix = quantized(scheme);
            let packed = Packed::new(&matrix).unwrap();
            for row in 0..20 {
                for column in 0..96 {
                    let group = (column / COLUMNS) >> packed.shift;
                    let at = (row / ROWS * packed.groups + group) * ROWS + row % ROWS;
                    assert_eq!(packed.scales[at], matrix.scale(row, column / matrix.grouping().size));
                }
            }
        }
        for scheme in [scheme::UINT4_F, scheme::UINT4_N, scheme::UINT2_N] {
            assert!(
                matches!(Packed::new(&quantized(scheme)), Err(Error::Unsupported { scheme: s }) if s == scheme)
            );
        }
    }

    #[test]
    fn factors_are_tiled_and_padded() {
        let values: Vec<f32> = (0..34).map(|i| i as f32).collect();
        let tiles = tiled(&values, 17, 2);
        assert_eq!(tiles.len(), 2 * 2 * 16);
        assert_eq!((tiles[0], tiles[1], tiles[16], tiles[32], tiles[48]), (0.0, 2.0, 1.0, 32.0, 33.0));
        assert_eq!(padded(&[1.0, 2.0, 3.0, 4.0], 2, 3), [1.0, 2.0, 0.0, 3.0, 4.0, 0.0]);
        assert!(tiled(&[], 0, 0).is_empty() && padded(&[], 0, 0).is_empty());
    }
}
