//! Rows of values from stored vector codes.

use super::{ColumnParts, scale};
use crate::lattice::{self, Lattice, dot};
use crate::simd::Level;
use crate::trellis::{decode, stream, table};
use crate::{Code, Quantized, Rate, Trellis};
use alloc::{borrow::Cow, vec, vec::Vec};

/// A matrix of vector codes with everything that its rows and columns share at hand.
pub(crate) struct Decoder<'a> {
    matrix: &'a Quantized,
    columns: &'a ColumnParts,
    /// ts, by column.
    pub(crate) column_scales: Vec<f32>,
    /// rs, by row.
    pub(crate) row_scales: Vec<f32>,
    /// By row, then column: row, column, value.
    outliers: Vec<(usize, usize, f32)>,
    code: Kind,
    /// That of the thread that asked.
    level: Level,
}

enum Kind {
    Trellis { window: u8, uniform: Option<u8>, tables: Vec<Cow<'static, [f32]>> },
    Lattice(lattice::Decoder),
}

impl<'a> Decoder<'a> {
    /// `None` for a matrix of scalar codes.
    pub(crate) fn new(matrix: &'a Quantized) -> Option<Self> {
        let (columns, level) = (matrix.columns()?, Level::current());
        let code = match matrix.scheme().code {
            Code::Trellis(Trellis { window, rate }) => {
                let uniform = if let Rate::Uniform(rate) = rate { Some(rate) } else { None };
                let used = |rate| uniform.map_or_else(|| columns.rates().contains(&rate), |k| k == rate);
                let table = |rate| match rate {
                    1.. if used(rate) => table::by_window(window, rate),
                    _ => Cow::Borrowed([].as_slice()),
                };
                let tables = (0..=stream::LARGEST_RATE).map(table).collect();
                Kind::Trellis { window, uniform, tables }
            }
            Code::Lattice(lattice) => Kind::Lattice(lattice::Decoder::new(lattice, level)),
            _ => return None,
        };
        let mut outliers: Vec<_> = columns.outliers().entries(matrix.shape().0).collect();
        outliers.sort_by_key(|&(row, col, _)| (row, col));
        Some(Self {
            matrix,
            columns,
            column_scales: columns.scales().iter().map(|&code| scale::value(code)).collect(),
            row_scales: matrix.scales().floats().to_f32(),
            outliers,
            code,
            level,
        })
    }

    /// The outliers of a row.
    pub(crate) fn outliers(&self, row: usize) -> &[(usize, usize, f32)] {
        let end = self.outliers.partition_point(|outlier| outlier.0 <= row);
        let start = self.outliers[..end].partition_point(|outlier| outlier.0 < row);
        &self.outliers[start..end]
    }

    /// Whether its codes run down the columns.
    pub(crate) fn runs_down(&self) -> bool {
        matches!(self.code, Kind::Trellis { .. })
    }

    /// Rate, stream and values by window of a column.
    fn column(&self, column: usize) -> Option<(u8, u8, &[u8], &[f32])> {
        let Kind::Trellis { window, uniform, tables } = &self.code else { return None };
        let rate = uniform.unwrap_or_else(|| self.columns.rates()[column]);
        let stream = &self.matrix.codes()[self.columns.stream(column)];
        Some((rate, *window, stream, &tables[usize::from(rate)]))
    }

    /// What decodes columns, when codes run down them.
    pub(crate) fn column_decoder(&self) -> decode::Decoder {
        let window = if let Kind::Trellis { window, .. } = self.code { window } else { 16 };
        decode::Decoder::new(window, self.level)
    }

    /// Values of rows `first ..` of a column without scales, in blocks of 32, for codes that run down the columns;
    /// `false` (and no values) for a column without bits.
    pub(crate) fn column_into(
        &self,
        decoder: &mut decode::Decoder,
        column: usize,
        first: usize,
        out: &mut [f32],
    ) -> bool {
        match self.column(column) {
            Some((rate @ 1.., _, stream, table)) if self.column_scales[column] != 0.0 => {
                decoder.values(stream, rate, table, first, out);
                true
            }
            _ => false,
        }
    }

    /// [`Decoder::column_into`] times `factor` added to `sums`, in one pass.
    pub(crate) fn column_add(
        &self,
        decoder: &mut decode::Decoder,
        column: usize,
        first: usize,
        factor: f32,
        sums: &mut [f32],
    ) {
        if let Some((rate @ 1.., _, stream, table)) = self.column(column)
            && self.column_scales[column] != 0.0
        {
            decoder.accumulate(stream, rate, table, first, factor, sums);
        }
    }

    /// Values of a row without scales, for codes that run along the rows.
    pub(crate) fn plain_row(&self, row: usize, out: &mut [f32]) {
        if let Kind::Lattice(decoder) = &self.code {
            decoder.values(self.matrix.row_codes(row), out);
        }
    }

    /// What multiplies rows of E8P with whole numbers, for that code.
    pub(crate) fn multiplier(&self) -> Option<dot::Multiplier> {
        let e8p = self.matrix.scheme().code == Code::Lattice(Lattice::E8p);
        e8p.then(|| dot::Multiplier::new(self.level))
    }

    /// Codes of a row, for codes that run along the rows.
    pub(crate) fn row_codes(&self, row: usize) -> &[u8] {
        self.matrix.row_codes(row)
    }

    /// Row `row`, decoded.
    pub(crate) fn row(&self, row: usize, out: &mut [f32]) {
        if self.runs_down() {
            for (column, value) in out.iter_mut().enumerate() {
                *value = match self.column(column) {
                    Some((rate @ 1.., window, stream, table)) if self.column_scales[column] != 0.0 => {
                        table[stream::window(stream, rate, window, row)]
                    }
                    _ => 0.0,
                };
            }
        } else {
            self.plain_row(row, out);
        }
        self.scale_row(row, out);
    }

    /// `value · ts · rs`, then the outliers.
    fn scale_row(&self, row: usize, out: &mut [f32]) {
        let scale = self.row_scales[row];
        for (value, column) in out.iter_mut().zip(&self.column_scales) {
            *value = *value * column * scale;
        }
        for &(_, col, value) in self.outliers(row) {
            out[col] += value;
        }
    }

    /// The whole matrix, row-major, to `all`, which has as many entries.
    pub(crate) fn all_into(&self, all: &mut [f32]) {
        let (rows, cols) = self.matrix.shape();
        all.fill(0.0);
        if self.runs_down() {
            let mut decoder = self.column_decoder();
            let mut values = vec![0.0; rows.next_multiple_of(stream::ROWS)];
            for column in 0..cols {
                if self.column_into(&mut decoder, column, 0, &mut values) {
                    for (entry, &value) in all.iter_mut().skip(column).step_by(cols).zip(&values) {
                        *entry = value;
                    }
                }
            }
        }
        for (row, out) in all.chunks_exact_mut(cols.max(1)).enumerate() {
            if !self.runs_down() {
                self.plain_row(row, out);
            }
            self.scale_row(row, out);
        }
    }
}
