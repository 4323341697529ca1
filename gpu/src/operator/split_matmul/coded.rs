//! Vector codes in the layout of `shader/shared/coded.wgsl`.
//!
//! ```text
//! codes    trellis: the columns' bit streams as they are stored
//!          lattices: [words][16·tiles rows] u32; a word is one block, with E8P alone two (the even one low)
//! columns  [8·blocks] first word of the stream, bits (0 also where the scale is 0), place of the table; scale
//! values   trellis: for each rate in use the 2^L values in the order of windows
//!          lattices: factor·q/4 for q = −11 … 11 and the second stage's, patterns, short points
//!          then column and value of each outlier, row after row
//! rows     [16·tiles + 1] row scale, number of outliers in the rows before
//! ```

use super::pack::{COLUMNS, ROWS};
use crate::buffer::{narrow, product};
use crate::pipeline::VectorCode;
use crate::{Error, Gpu};
use rankbit_quant::trellis::{stream, table};
use rankbit_quant::{Code, ColumnParts, Lattice, Quantized, Rate, Trellis, lattice, vector};

/// Places in `values` of the lattices' tables.
pub(crate) const FIRST: u32 = 0;
pub(crate) const SECOND: u32 = 23;
pub(crate) const PATTERNS: u32 = 48;
pub(crate) const POINTS: u32 = PATTERNS + 512;

/// A matrix of vector codes on a device.
#[derive(Clone, Debug)]
pub(super) struct Coded {
    pub(super) code: VectorCode,
    /// Rows of a stream, or of a word of blocks.
    pub(super) rows: u32,
    pub(super) blocks: u32,
    pub(super) window: u32,
    /// Where outliers start in `values`.
    pub(super) outliers: u32,
    pub(super) codes: wgpu::Buffer,
    pub(super) columns: wgpu::Buffer,
    pub(super) values: wgpu::Buffer,
    pub(super) row_parts: wgpu::Buffer,
}

/// The same on the host.
struct Parts {
    code: VectorCode,
    rows: usize,
    window: u8,
    codes: Vec<u32>,
    columns: Vec<[u32; 4]>,
    values: Vec<u32>,
}

impl Coded {
    /// Repacks and copies `matrix`; `None` for scalar codes. Cost O(out · in), once.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`] for what 32-bit indices do not reach, and whatever the device reports.
    pub(super) fn upload(gpu: &Gpu, matrix: &Quantized) -> Result<Option<Self>, Error> {
        let Some(parts) = matrix.columns() else { return Ok(None) };
        let (out, features) = matrix.shape();
        let mut host = match matrix.scheme().code {
            Code::Trellis(trellis) => trellis_parts(matrix, parts, trellis)?,
            Code::Lattice(lattice) => lattice_parts(matrix, lattice)?,
            _ => return Err(Error::Unsupported { scheme: *matrix.scheme() }),
        };
        for (column, &scale) in host.columns.iter_mut().zip(parts.scales()) {
            column[3] = vector::scale::value(scale).to_bits();
            if column[3] == 0 {
                column[1] = 0;
            }
        }
        let outliers = narrow("values", host.values.len())?;
        let mut placed: Vec<_> = (parts.outliers().positions().iter().enumerate())
            .map(|(index, &at)| {
                let (row, column) = (at as usize % out.max(1), at as usize / out.max(1));
                (row, column, parts.outliers().values().get(index))
            })
            .collect();
        placed.sort_by_key(|&(row, column, _)| (row, column));
        for &(_, column, value) in &placed {
            host.values.extend([narrow("columns", column)?, value.to_bits()]);
        }
        let mut row_parts = Vec::new();
        for row in 0..=out.div_ceil(ROWS) * ROWS {
            let scale = if row < out { matrix.scale(row, 0) } else { 0.0 };
            let before = placed.partition_point(|outlier| outlier.0 < row);
            row_parts.push([scale.to_bits(), narrow("outliers", before)?]);
        }
        Ok(Some(Self {
            code: host.code,
            rows: narrow("rows", host.rows)?,
            blocks: narrow("columns", features.div_ceil(COLUMNS))?,
            window: host.window.into(),
            outliers,
            codes: gpu.storage("codes", &host.codes)?,
            columns: gpu.storage("columns", &host.columns)?,
            values: gpu.storage("values", &host.values)?,
            row_parts: gpu.storage("row scales", &row_parts)?,
        }))
    }

    /// Bytes that a product reads of it.
    pub(super) fn device_bytes(&self) -> u64 {
        [&self.codes, &self.columns, &self.values, &self.row_parts].iter().map(|part| part.size()).sum()
    }
}

/// Whether the bits of all streams have 32-bit numbers.
fn check_words(what: &'static str, words: u64) -> Result<(), Error> {
    let limit = u64::from(u32::MAX) / 32;
    if words > limit { Err(Error::LimitExceeded { what, needed: words, limit }) } else { Ok(()) }
}

fn trellis_parts(matrix: &Quantized, parts: &ColumnParts, trellis: Trellis) -> Result<Parts, Error> {
    let (out, features) = matrix.shape();
    let rates = match trellis.rate {
        Rate::Uniform(rate) => vec![rate; features],
        Rate::Budget(_) => parts.rates().to_vec(),
    };
    check_words("words of codes", matrix.codes().len() as u64 / 4)?;
    let starts = stream::offsets(out, rates.iter().copied())?;
    let mut values = Vec::new();
    let mut tables = [0; 9];
    for (rate, place) in (0..).zip(&mut tables).skip(1) {
        if rates.contains(&rate) {
            *place = narrow("values", values.len())?;
            let table = table::table(trellis.window, rate);
            let shift = 32 - u32::from(trellis.window);
            let by_window = (0..1_u32 << trellis.window).map(|v| table[(v.reverse_bits() >> shift) as usize]);
            values.extend(by_window.map(|entry| (f32::from(entry) / 4096.0).to_bits()));
        }
    }
    let mut columns = vec![[0; 4]; features.div_ceil(COLUMNS) * COLUMNS];
    for ((column, &rate), &start) in columns.iter_mut().zip(&rates).zip(&starts) {
        *column = [narrow("words of codes", start / 4)?, rate.into(), tables[usize::from(rate)], 0];
    }
    let codes = matrix.codes().as_chunks().0.iter().map(|&bytes| u32::from_le_bytes(bytes)).collect();
    Ok(Parts {
        code: VectorCode::Trellis,
        rows: stream::padded(out)?,
        window: trellis.window,
        codes,
        columns,
        values,
    })
}

fn lattice_parts(matrix: &Quantized, lattice: Lattice) -> Result<Parts, Error> {
    let (out, features) = matrix.shape();
    let (blocks, rows) = (features.div_ceil(COLUMNS), out.div_ceil(ROWS) * ROWS);
    let (code, per_word) = match lattice {
        Lattice::E8p => (VectorCode::E8p, 2),
        Lattice::E8p3 => (VectorCode::E8p3, 1),
        Lattice::E8p4 => (VectorCode::E8p4, 1),
    };
    let words = blocks.div_ceil(per_word);
    check_words("words of codes", product(&[words, rows]))?;
    let mut codes = vec![0; words * rows];
    for row in 0..out {
        for (block, bytes) in matrix.row_codes(row).chunks_exact(lattice.bits()).enumerate() {
            let code = bytes.iter().rev().fold(0, |code, &byte| code << 8 | u32::from(byte));
            codes[block / per_word * rows + row] |= code << (16 * (block % per_word));
        }
    }
    let (first, second) = lattice.factors();
    let mut values = vec![0; POINTS as usize + 512];
    for (at, quarters) in (-11_i8..=11).enumerate() {
        let point = f32::from(quarters) / 4.0;
        values[FIRST as usize + at] = (first * point).to_bits();
        let second = match lattice {
            // Short points are stored in halves, from −4 on.
            Lattice::E8p3 => second * (f32::from(quarters) + 7.0) / 2.0,
            _ => second * point,
        };
        values[SECOND as usize + at] = second.to_bits();
    }
    for (words, (pattern, odd)) in
        values[PATTERNS as usize..].as_chunks_mut::<2>().0.iter_mut().zip(lattice::patterns())
    {
        let quarters = u64::from_le_bytes(pattern.map(|a| 2 * a)) | u64::from(odd) << 63;
        *words = bytemuck::cast(quarters.to_le_bytes());
    }
    if lattice == Lattice::E8p3 {
        let places = values[POINTS as usize..].as_chunks_mut::<2>().0;
        for (words, point) in places.iter_mut().zip(lattice::short_points()) {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "0 to 8 in halves from −4"
            )]
            let halves = point.map(|p| (2.0 * p + 4.0) as u8);
            *words = bytemuck::cast(halves);
        }
    }
    let columns = vec![[0; 4]; blocks * COLUMNS];
    Ok(Parts { code, rows, window: 0, codes, columns, values })
}
