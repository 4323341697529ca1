//! Plain coding: every column (trellis) or block (lattice) by itself, without calibration.

use super::coder::{Coded, ColumnCoder, Encoders, Prepared};
use super::{ColumnParts, overhead_bits, scale};
use crate::lattice::{self, BLOCK};
use crate::trellis::rates::{self, Columns};
use crate::{Code, Error, Floats, Lattice, Quantized, Rate, Rounded, Scheme, Trellis};
use alloc::{vec, vec::Vec};
use num_traits::Float;

/// Codes the row-major `weight` by `scheme`, whose code is a vector code.
///
/// # Errors
/// [`Error::InvalidScheme`], [`Error::NonFinite`], [`Error::TooLarge`]; [`Error::InvalidOption`] for a budget that the
/// scales alone exceed.
pub(crate) fn quantize(weight: &[f32], shape: (usize, usize), scheme: &Scheme) -> Result<Rounded, Error> {
    scheme.check()?;
    let prepared = Prepared::new(weight, shape, scheme.scale_format, None)?;
    match scheme.code {
        Code::Trellis(trellis) => trellis_plain(weight, shape, scheme, trellis, &prepared),
        Code::Lattice(code) => lattice_plain(weight, shape, scheme, code, &prepared),
        _ => Err(Error::InvalidScheme { reason: "not a vector code" }),
    }
}

/// Entries of column `column` of a row-major matrix.
pub(crate) fn column_into(weight: &[f32], cols: usize, column: usize, out: &mut [f64]) {
    for (out, &w) in out.iter_mut().zip(weight.iter().skip(column).step_by(cols.max(1))) {
        *out = f64::from(w);
    }
}

/// The rate of each column: all the same, or by what a bit is worth there. `sensitivity(column)` is what a squared
/// error in a column counts.
pub(crate) fn rates(
    weight: &[f32],
    shape: (usize, usize),
    trellis: Trellis,
    prepared: &Prepared,
    sensitivity: impl Fn(usize) -> f64,
) -> Result<Vec<u8>, Error> {
    let units = match trellis.rate {
        Rate::Uniform(rate) => return Ok(vec![rate; shape.1]),
        Rate::Budget(units) => units,
    };
    let total = u64::try_from((shape.0 as u128 * shape.1 as u128 * u128::from(units)) >> 16);
    let columns = columns(weight, shape, trellis, prepared, sensitivity);
    Ok(rates::allocate(&[columns], total.unwrap_or(u64::MAX))?.concat())
}

/// What a bit is worth in each column.
pub(crate) fn columns(
    weight: &[f32],
    shape: (usize, usize),
    trellis: Trellis,
    prepared: &Prepared,
    sensitivity: impl Fn(usize) -> f64,
) -> Columns {
    let cols = shape.1;
    let mut gains = vec![0.0; cols];
    for (row, importance) in weight.chunks_exact(cols.max(1)).zip(&prepared.importance) {
        for (gain, &w) in gains.iter_mut().zip(row) {
            *gain += importance * f64::from(w) * f64::from(w);
        }
    }
    for &at in &prepared.positions {
        let (row, col) = (at as usize % prepared.rows, at as usize / prepared.rows);
        let w = f64::from(weight[row * cols + col]);
        gains[col] -= prepared.importance[row] * w * w;
    }
    for (column, gain) in gains.iter_mut().enumerate() {
        *gain = gain.max(0.0) * sensitivity(column) / shape.0.max(1) as f64;
    }
    let outliers = prepared.positions.len() as u64 * (32 + prepared.format.bits() as u64);
    Columns {
        window: trellis.window,
        rows: prepared.padded,
        gains,
        weights: shape.0 as u64 * shape.1 as u64,
        overhead: overhead_bits(shape, prepared.format, true) + outliers,
    }
}

/// The storage of coded columns.
pub(crate) fn assemble(
    shape: (usize, usize),
    scheme: &Scheme,
    prepared: &Prepared,
    row_scales: &[f32],
    rates: Vec<u8>,
    columns: &[Coded],
    outliers: &[f32],
) -> Result<Rounded, Error> {
    let scheme = scheme.with_scale_format(prepared.format);
    let rated = matches!(scheme.code, Code::Trellis(Trellis { rate: Rate::Budget(_), .. }));
    let parts = ColumnParts::new(
        shape,
        &scheme,
        columns.iter().map(|coded| coded.scale).collect(),
        if rated { rates } else { Vec::new() },
        prepared.outliers(outliers)?,
    )?;
    let mut codes = Vec::with_capacity(parts.stream_bytes());
    for coded in columns {
        codes.extend_from_slice(&coded.stream);
    }
    let scales = Floats::encode(row_scales, prepared.format);
    let quantized = Quantized::from_vector_parts(shape, scheme, codes, scales, parts)?;
    Ok(Rounded { widened_from: prepared.widened_from, ..Rounded::new(quantized) })
}

fn trellis_plain(
    weight: &[f32],
    shape: (usize, usize),
    scheme: &Scheme,
    trellis: Trellis,
    prepared: &Prepared,
) -> Result<Rounded, Error> {
    let (rows, cols) = shape;
    let rates = rates(weight, shape, trellis, prepared, |_| 1.0)?;
    let encoders = Encoders::new(trellis.window, &rates);
    let fresh = || (ColumnCoder::new(prepared, &encoders), vec![0.0; rows]);
    let coded = parallel(cols, fresh, |(coder, target), column| {
        column_into(weight, cols, column, target);
        let coded = coder.encode(column, rates[column], target, &prepared.row_scales);
        let outliers: Vec<f32> = prepared
            .outlier_rows(prepared.outliers_of(column))
            .map(|row| prepared.store(target[row] - f64::from(coder.values[row])))
            .collect();
        (coded, outliers)
    });
    let (columns, outliers): (Vec<Coded>, Vec<Vec<f32>>) = coded.into_iter().unzip();
    assemble(shape, scheme, prepared, &prepared.row_scales, rates, &columns, &outliers.concat())
}

/// `task(0..count)` in order, in parallel with `std`, each thread with buffers of its own.
fn parallel<B, R: Send>(
    count: usize,
    fresh: impl Fn() -> B + Sync + Send,
    task: impl Fn(&mut B, usize) -> R + Sync + Send,
) -> Vec<R> {
    #[cfg(feature = "std")]
    {
        use rayon::prelude::*;
        /// Columns or rows that one task codes. Results do not depend on it.
        const PER_TASK: usize = 8;
        (0..count).into_par_iter().with_min_len(PER_TASK).map_init(fresh, task).collect()
    }
    #[cfg(not(feature = "std"))]
    {
        let mut buffers = fresh();
        (0..count).map(|i| task(&mut buffers, i)).collect()
    }
}

fn lattice_plain(
    weight: &[f32],
    shape: (usize, usize),
    scheme: &Scheme,
    code: Lattice,
    prepared: &Prepared,
) -> Result<Rounded, Error> {
    let (rows, cols) = shape;
    let (mut energy, mut unit) = (vec![0.0; cols], 0.0);
    for (row, scale) in weight.chunks_exact(cols.max(1)).zip(&prepared.row_scales) {
        unit += f64::from(*scale) * f64::from(*scale);
        for (energy, &w) in energy.iter_mut().zip(row) {
            *energy += f64::from(w) * f64::from(w);
        }
    }
    let mut masked = vec![Vec::new(); rows];
    for &at in &prepared.positions {
        let (row, col) = (at as usize % rows, at as usize / rows);
        let w = f64::from(weight[row * cols + col]);
        energy[col] -= w * w;
        masked[row].push(col);
    }
    let of = |energy: f64| if unit > 0.0 { scale::nearest(Float::sqrt(energy.max(0.0) / unit)) } else { 0 };
    let scales: Vec<u8> = energy.into_iter().map(of).collect();
    let column_scales: Vec<f32> = scales.iter().map(|&code| scale::value(code)).collect();
    let encoder = lattice::Encoder::new(code);
    let fresh = || vec![0.0_f32; cols.next_multiple_of(BLOCK)];
    let coded = parallel(rows, fresh, |x, row| {
        let row_scale = prepared.row_scales[row];
        let entries = &weight[row * cols..(row + 1) * cols];
        for ((x, w), column_scale) in x.iter_mut().zip(entries).zip(&column_scales) {
            let unit = f64::from(row_scale) * f64::from(*column_scale);
            *x = if unit > 0.0 { crate::float::narrow((f64::from(*w) / unit).clamp(-1e3, 1e3)) } else { 0.0 };
        }
        for &col in &masked[row] {
            x[col] = 0.0;
        }
        let mut bytes = vec![0; x.len() / BLOCK * code.bits()];
        for (x, bytes) in x.chunks_exact_mut(BLOCK).zip(bytes.chunks_exact_mut(code.bits())) {
            if let Ok(block) = <&[f32; BLOCK]>::try_from(&*x) {
                let point = encoder.encode(block, bytes);
                x.copy_from_slice(&point);
            }
        }
        let outliers: Vec<(usize, f32)> = masked[row]
            .iter()
            .map(|&col| {
                let under = x[col] * column_scales[col] * row_scale;
                (col * rows + row, prepared.store(f64::from(entries[col]) - f64::from(under)))
            })
            .collect();
        (bytes, outliers)
    });
    let mut codes = Vec::new();
    let mut outliers = Vec::new();
    for (bytes, found) in coded {
        codes.extend(bytes);
        outliers.extend(found);
    }
    outliers.sort_unstable_by_key(|outlier| outlier.0);
    let values: Vec<f32> = outliers.into_iter().map(|(_, value)| value).collect();
    let scheme = scheme.with_scale_format(prepared.format);
    let parts = ColumnParts::new(shape, &scheme, scales, Vec::new(), prepared.outliers(&values)?)?;
    let row_scales = Floats::encode(&prepared.row_scales, prepared.format);
    let quantized = Quantized::from_vector_parts(shape, scheme, codes, row_scales, parts)?;
    Ok(Rounded { widened_from: prepared.widened_from, ..Rounded::new(quantized) })
}
