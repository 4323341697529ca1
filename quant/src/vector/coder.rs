//! One column onto the paths of a trellis: what plain coding and error feedback share.

use super::{Outliers, outlier, scale};
use crate::simd::Level;
use crate::trellis::stream::{self, LARGEST_RATE};
use crate::trellis::viterbi::{Encoder, Scratch};
use crate::{Error, FloatFormat, Floats};
use alloc::{vec, vec::Vec};
use core::ops::Range;
use num_traits::Float;

/// Largest value, in standard deviations, that an encoder is given: far outside every table.
const LIMIT: f64 = 1e3;

/// By how much a column's scale is above its root mean square, by rate − 1. A table ends at some 3.5: values beyond it
/// err by all that is missing, which at few bits is little beside the error of all others and at many bits most of it.
/// Measured on columns of a trained network, whose tails are a little heavier than normal ones; on normal values no
/// rate loses and 4 bits and more gain 1.5 % (attention's keys 8 % at 4 bits, 30 % at 6).
const HEADROOM: [f64; 8] = [1.0, 1.03, 1.08, 1.13, 1.17, 1.22, 1.22, 1.22];

/// Row scales at most: times the largest column scale and value that is still below f32's end.
pub(crate) const LARGEST_ROW_SCALE: f32 = 2.5e35;

/// A matrix made ready: outliers found, row scales stored.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    pub(crate) rows: usize,
    /// With their padding.
    pub(crate) padded: usize,
    /// rs as stored; 0 for a row of nothing but zeros and outliers.
    pub(crate) row_scales: Vec<f32>,
    /// What an error of each row counts; 1 when nothing else is known.
    pub(crate) importance: Vec<f64>,
    /// The format of row scales and outliers.
    pub(crate) format: FloatFormat,
    /// The format asked for, when its range was too small.
    pub(crate) widened_from: Option<FloatFormat>,
    /// `column · out + row`, increasing.
    pub(crate) positions: Vec<u32>,
}

impl Prepared {
    /// For the row-major `weight`; `importance` of the rows (positive, any scale), if they differ.
    ///
    /// # Errors
    /// [`Error::NonFinite`], [`Error::TooLarge`].
    pub(crate) fn new(
        weight: &[f32],
        (rows, cols): (usize, usize),
        format: FloatFormat,
        importance: Option<&[f64]>,
    ) -> Result<Self, Error> {
        let found = outlier::find(weight, (rows, cols), outlier::THRESHOLD)?;
        let rms: Vec<f32> =
            found.row_rms.iter().map(|&rms| crate::float::narrow(rms).min(LARGEST_ROW_SCALE)).collect();
        let (mut stored, mut widened) = Floats::encode_or_widen(&rms, format);
        let values: Vec<f32> = found
            .positions
            .iter()
            .map(|&at| at as usize)
            .map(|at| {
                // Column-major positions of a row-major matrix.
                weight[at % rows * cols + at / rows]
            })
            .collect();
        if !widened && Floats::encode_or_widen(&values, format).1 {
            (stored, widened) = (Floats::encode(&rms, FloatFormat::F32), true);
        }
        Ok(Self {
            rows,
            padded: stream::padded(rows)?,
            row_scales: stored.to_f32(),
            importance: normalized(importance, rows),
            format: stored.format(),
            widened_from: widened.then_some(format),
            positions: found.positions,
        })
    }

    /// Which of [`Prepared::positions`] lie in a column.
    pub(crate) fn outliers_of(&self, column: usize) -> Range<usize> {
        let place = |column: usize| {
            let first = column as u64 * self.rows as u64;
            self.positions.partition_point(|&at| u64::from(at) < first)
        };
        place(column)..place(column + 1)
    }

    /// Rows of the outliers in a range of [`Prepared::positions`].
    pub(crate) fn outlier_rows(&self, range: Range<usize>) -> impl Iterator<Item = usize> {
        self.positions[range].iter().map(|&at| at as usize % self.rows.max(1))
    }

    /// With errors of a row counted half-way between as they are and relative to the row: importance 1/rs.
    pub(crate) fn weighing_rows_between(mut self) -> Self {
        let inverse = |scale: &f32| if *scale > 0.0 { f64::from(*scale).recip() } else { 0.0 };
        let inverses: Vec<f64> = self.row_scales.iter().map(inverse).collect();
        self.importance = normalized(Some(&inverses), self.rows);
        self
    }

    /// An outlier's value as it is stored: rounded, and inside its format's range.
    pub(crate) fn store(&self, value: f64) -> f32 {
        let rounded = self.format.round(value);
        if rounded.is_finite() { rounded } else { self.format.largest().copysign(rounded) }
    }

    /// The outliers with these values.
    pub(crate) fn outliers(&self, values: &[f32]) -> Result<Outliers, Error> {
        Outliers::new(self.positions.clone(), Floats::encode(values, self.format))
    }
}

/// Importances with a mean of 1, none below a thousandth of it.
fn normalized(importance: Option<&[f64]>, rows: usize) -> Vec<f64> {
    let Some(given) = importance.filter(|given| given.len() == rows) else { return vec![1.0; rows] };
    let mean = given.iter().sum::<f64>() / rows.max(1) as f64;
    let usable = mean > 0.0 && mean.is_finite();
    given.iter().map(|r| if usable { (r / mean).max(1e-3) } else { 1.0 }).collect()
}

/// The encoders of a window, each made when first needed.
#[derive(Debug)]
pub(crate) struct Encoders {
    by_rate: Vec<Option<Encoder>>,
}

impl Encoders {
    /// For the rates that occur.
    pub(crate) fn new(window: u8, rates: &[u8]) -> Self {
        let encoder = |rate| rates.contains(&rate).then(|| Encoder::new(window, rate, Level::current()));
        let by_rate = (0..=LARGEST_RATE).map(|rate| if rate == 0 { None } else { encoder(rate) });
        Self { by_rate: by_rate.collect() }
    }
}

/// Codes columns, one after another.
#[derive(Debug)]
pub(crate) struct ColumnCoder<'a> {
    prepared: &'a Prepared,
    encoders: &'a Encoders,
    x: Vec<f32>,
    w: Vec<f32>,
    states: Vec<u16>,
    /// Values of the last column, scaled, without outliers.
    pub(crate) values: Vec<f32>,
    scratch: Scratch,
}

/// A coded column.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Coded {
    /// Code of the column scale.
    pub(crate) scale: u8,
    pub(crate) stream: Vec<u8>,
}

impl<'a> ColumnCoder<'a> {
    pub(crate) fn new(prepared: &'a Prepared, encoders: &'a Encoders) -> Self {
        let padded = prepared.padded;
        Self {
            prepared,
            encoders,
            x: vec![0.0; padded],
            w: vec![0.0; padded],
            states: vec![0; padded],
            values: vec![0.0; prepared.rows],
            scratch: Scratch::default(),
        }
    }

    /// Codes `target` (all rows of column `column`) at `rate` bits under the row scales `row_scales`; leaves the
    /// decoded values in [`ColumnCoder::values`].
    pub(crate) fn encode(&mut self, column: usize, rate: u8, target: &[f64], row_scales: &[f32]) -> Coded {
        let prepared = self.prepared;
        let masked = prepared.outliers_of(column);
        let stream = stream::column_bytes(prepared.padded, rate);
        self.values.fill(0.0);
        let Some(encoder) = self.encoders.by_rate.get(usize::from(rate)).and_then(Option::as_ref) else {
            return Coded { scale: 0, stream: vec![0; stream] };
        };
        // What counts: not outliers, not padding.
        let rows = || row_scales.iter().zip(&prepared.importance);
        let weight = |(scale, importance): (&f32, &f64)| importance * f64::from(*scale) * f64::from(*scale);
        let largest = rows().map(weight).fold(0.0, f64::max);
        for (w, row) in self.w.iter_mut().zip(rows()) {
            *w = if largest > 0.0 { crate::float::narrow(weight(row) / largest) } else { 0.0 };
        }
        for row in prepared.outlier_rows(masked) {
            self.w[row] = 0.0;
        }
        let (mut energy, mut unit) = (0.0, 0.0);
        for ((w, target), (scale, importance)) in self.w.iter().zip(target).zip(rows()) {
            if *w > 0.0 {
                energy += importance * target * target;
                unit += importance * f64::from(*scale) * f64::from(*scale);
            }
        }
        let headroom = HEADROOM.get(usize::from(rate).wrapping_sub(1)).copied().unwrap_or(1.0);
        let code = if unit > 0.0 { scale::nearest(headroom * Float::sqrt(energy / unit)) } else { 0 };
        let column_scale = scale::value(code);
        if column_scale == 0.0 {
            return Coded { scale: 0, stream: vec![0; stream] };
        }
        for (((x, w), target), scale) in self.x.iter_mut().zip(&self.w).zip(target).zip(row_scales) {
            let unit = f64::from(*scale) * f64::from(column_scale);
            let counts = *w > 0.0 && unit > 0.0;
            *x = if counts { crate::float::narrow((target / unit).clamp(-LIMIT, LIMIT)) } else { 0.0 };
        }
        encoder.ring(&self.x, &self.w, &mut self.scratch, &mut self.states);
        let mut coded = Coded { scale: code, stream: vec![0; stream] };
        stream::pack(&self.states, rate, &mut coded.stream);
        let table = encoder.values();
        for ((value, state), scale) in self.values.iter_mut().zip(&self.states).zip(row_scales) {
            *value = table[usize::from(*state)] * column_scale * scale;
        }
        coded
    }
}
