//! A few tensors seen closely: their spectra, and every method on them.
//!
//! The cost is bounded whatever the checkpoint's size: at most three tensors, and of large ones the first rows only.

use rankbit::linalg::faer::MatRef;
use rankbit::linalg::{MomentParts, Moments, RandomizedOptions, randomized, singular_values};
use rankbit::lowrank::{Input, fit};
use rankbit::quant::Scheme;
use rayon::prelude::*;

use crate::command::compress::run::Job;
use crate::container::checkpoint::Checkpoint;
use crate::container::convert;
use crate::error::Error;
use crate::memory;
use crate::method::Method;
use crate::report::html::{Block, Figure};
use crate::report::json::Report;
use crate::report::limit;
use crate::report::svg::{Chart, Series};
use crate::report::terminal::shape;

/// Tensors shown closely.
const SAMPLES: usize = 3;
/// Entries of a tensor whose spectrum is taken; of larger ones, the first rows.
const SPECTRUM_ENTRIES: usize = 8 << 20;
/// Smaller side up to which all singular values are computed; above, the leading ones.
const EXACT_SIDE: usize = 1024;
/// How many leading ones.
const LEADING: usize = 128;
/// Entries of a tensor on which methods are compared.
const COMPARE_ENTRIES: usize = 600_000;
/// Alternations of each compared method, at most.
const COMPARE_ROUNDS: u32 = 3;
/// The compared methods, with their colours.
const METHODS: [Method; 4] = [Method::Rtn, Method::Lorc, Method::Svdquant, Method::LqLora];
/// Size of a chart.
const SIZE: (u32, u32) = (360, 270);

/// Indices of the tensors shown closely: largest, median and smallest error.
pub(super) fn samples(report: &Report) -> Vec<(usize, &'static str)> {
    let mut by_error: Vec<usize> = (0..report.tensors.len()).collect();
    let error = |i: usize| report.tensors.get(i).map_or(0.0, |tensor| tensor.relative_error);
    by_error.sort_by(|&a, &b| error(b).total_cmp(&error(a)));
    let mut samples: Vec<(usize, &'static str)> = Vec::new();
    let wanted = [
        (by_error.first().copied(), "largest error"),
        (by_error.get(by_error.len() / 2).copied(), "median error"),
        (by_error.last().copied(), "smallest error"),
    ];
    for (index, why) in wanted {
        if let Some(index) = index.filter(|index| samples.iter().all(|(other, _)| other != index)) {
            samples.push((index, why));
        }
    }
    samples.truncate(SAMPLES);
    samples
}

/// The first rows of a tensor, at most `entries` values.
struct Rows {
    values: Vec<f32>,
    rows: usize,
    cols: usize,
    all_rows: usize,
}

impl Rows {
    fn read(checkpoint: &Checkpoint, name: &str, entries: usize) -> Result<Option<Self>, Error> {
        let Some(entry) = checkpoint.find(name) else { return Ok(None) };
        let [all_rows, cols, ..] = *entry.shape.as_slice() else { return Ok(None) };
        let rows = all_rows.min((entries / cols.max(1)).max(1));
        let mut values = vec![0.0; rows * cols];
        let Some(stored) = checkpoint.values(entry)? else { return Ok(None) };
        stored.blocks().read(0, cols, &mut values)?;
        Ok(Some(Self { values, rows, cols, all_rows }))
    }

    fn view(&self) -> MatRef<'_, f32> {
        MatRef::from_row_major_slice(&self.values, self.rows, self.cols)
    }

    /// Which part this is, when it is not the whole.
    fn part(&self) -> String {
        if self.rows < self.all_rows {
            format!("first {} of {} rows, ", self.rows, self.all_rows)
        } else {
            String::new()
        }
    }
}

/// Singular values of weight and residual of the samples.
pub(super) fn spectra(
    job: &Job,
    report: &Report,
    samples: &[(usize, &str)],
    stored: &Checkpoint,
) -> Result<Vec<Block>, Error> {
    let figures: Vec<Option<Figure>> = samples
        .par_iter()
        .map(|&(index, why)| {
            let Some(tensor) = report.tensors.get(index) else { return Ok(None) };
            let original = original(job, &tensor.name, SPECTRUM_ENTRIES)?;
            let kept = Rows::read(stored, &tensor.name, SPECTRUM_ENTRIES)?;
            let (Some(weight), Some(mut residual)) = (original, kept) else { return Ok(None) };
            for (kept, original) in residual.values.iter_mut().zip(&weight.values) {
                *kept = original - *kept;
            }
            let fail = |error: rankbit::linalg::Error| job.reader.tensor_error(&tensor.name, error);
            let above = spectrum(weight.view()).map_err(fail)?;
            let below = spectrum(residual.view()).map_err(fail)?;
            let top = above.first().copied().unwrap_or(1.0).max(f64::MIN_POSITIVE);
            let series = |color, values: &[f64]| Series {
                color,
                points: (1..).zip(values).map(|(i, value)| (f64::from(i), value / top)).collect(),
                line: true,
                marks: false,
                ..Series::default()
            };
            let side = weight.rows.min(weight.cols);
            let chart = Chart {
                x_label: "index".to_owned(),
                y_label: "σ / largest σ of W".to_owned(),
                log: true,
                series: vec![series(1, &above), series(2, &below)],
                size: SIZE,
                ..Chart::default()
            };
            let leading = if above.len() < side {
                format!(", leading {} of {side}", above.len())
            } else {
                String::new()
            };
            Ok(Some(Figure {
                svg: chart.render()?,
                title: tensor.name.clone(),
                note: format!("{why}, {}{}{leading}", weight.part(), shape(&tensor.shape)),
            }))
        })
        .collect::<Result<_, Error>>()?;
    Ok(vec![
        Block::Heading {
            title: "Singular values of weight and residual".to_owned(),
            text: "A steep beginning is what a few ranks take away; a flat residual leaves nothing for more of them."
                .to_owned(),
        },
        Block::Legend(vec![(1, "weight W".to_owned()), (2, "residual W − Ŵ".to_owned())]),
        Block::Charts(figures.into_iter().flatten().collect()),
    ])
}

/// All singular values of a small matrix, the leading ones of a large one.
fn spectrum(matrix: MatRef<'_, f32>) -> Result<Vec<f64>, rankbit::linalg::Error> {
    let side = matrix.nrows().min(matrix.ncols());
    let values = if side <= EXACT_SIDE {
        singular_values(matrix)?
    } else {
        randomized(matrix, LEADING, &RandomizedOptions::default())?.singular_values
    };
    Ok(values.into_iter().map(f64::from).collect())
}

/// The first rows of an input tensor.
fn original(job: &Job, name: &str, entries: usize) -> Result<Option<Rows>, Error> {
    let Some(tensor) = job.reader.find(name) else { return Ok(None) };
    let (Some((all_rows, cols)), Some(format)) = (tensor.as_matrix(), convert::float_format(tensor.dtype))
    else {
        return Ok(None);
    };
    let rows = all_rows.min((entries / cols.max(1)).max(1));
    let mut values = vec![0.0; rows * cols];
    job.reader.values_at(tensor, format, 0, &mut values)?;
    Ok(Some(Rows { values, rows, cols, all_rows }))
}

/// The run's format among its neighbours of other widths.
fn formats(scheme: Option<Scheme>) -> Vec<(&'static str, Scheme)> {
    let name = scheme.as_ref().and_then(Scheme::name).unwrap_or("uint4");
    let family: &[&'static str] = match name {
        "nf4" => &["int2", "int3", "nf4"],
        _ if name.starts_with("int") => &["int2", "int3", "int4"],
        _ => &["uint2", "uint3", "uint4"],
    };
    let like = |named: Scheme| match scheme {
        Some(scheme) if !scheme.code.is_vector() => {
            let named = named.with_group(scheme.group);
            // A scale format that was asked for holds for all; the formats' own defaults otherwise.
            let asked =
                Scheme::named(name).is_some_and(|default| default.scale_format != scheme.scale_format);
            if asked { named.with_scale_format(scheme.scale_format) } else { named }
        }
        _ => named,
    };
    family.iter().filter_map(|&name| Some((name, like(Scheme::named(name)?)))).collect()
}

/// Every method at several widths on the samples.
pub(super) fn methods(job: &Job, report: &Report, samples: &[(usize, &str)]) -> Result<Vec<Block>, Error> {
    let formats = formats(job.plan.scheme);
    let mut figures = Vec::new();
    let mut on_calibration = false;
    for &(index, why) in samples {
        let Some(tensor) = report.tensors.get(index) else { continue };
        let Some(weight) = original(job, &tensor.name, COMPARE_ENTRIES)? else { continue };
        let moments = moments(job, &tensor.name, &weight)?;
        let mut plan = job.plan.clone();
        plan.rounds = plan.rounds.min(COMPARE_ROUNDS);
        plan.rank = plan.rank.map(|rank| rank.min(weight.rows.min(weight.cols)));
        plan.smooth = plan.smooth.filter(|_| moments.is_some());
        plan.search = false;
        let cases: Vec<(Method, Scheme)> = METHODS
            .iter()
            .flat_map(|&method| formats.iter().map(move |&(_, scheme)| (method, scheme)))
            .collect();
        let one = |&(method, scheme): &(Method, Scheme)| {
            let input = Input { name: &tensor.name, moments: moments.as_ref() };
            let fail = |error: &dyn std::fmt::Display| job.reader.tensor_error(&tensor.name, error);
            let fitted = fit(weight.view(), &plan.recipe_of(method, scheme), &input).map_err(|e| fail(&e))?;
            let error = fitted.info.metric_error.unwrap_or(fitted.info.relative_error);
            // Of the whole tensor, also where only its first rows were fitted.
            let shape = (weight.all_rows, weight.cols);
            let bits = plan.bits_per_weight(method, &scheme, shape).map_err(|e| fail(&e))?;
            Ok((bits, error, fitted.info.metric_error.is_some()))
        };
        // Each fit has copies of the calibration's metric: as many at once as a run of this tensor may have.
        let mut cost = memory::fit_bytes(weight.values.len() as u64);
        if moments.is_some() {
            cost = cost.saturating_add(memory::calibration_bytes(weight.cols as u64));
        }
        let mut points = Vec::with_capacity(cases.len());
        memory::run_in_order(
            &vec![cost; cases.len()],
            memory::BASE,
            rayon::current_num_threads(),
            |i| cases.get(i).map(&one).transpose(),
            |_| 0,
            |_, point| {
                points.extend(point);
                Ok(())
            },
        )?;
        on_calibration |= points.iter().any(|point| point.2);
        let mut series: Vec<Series> = (1..)
            .zip(points.chunks(formats.len().max(1)))
            .map(|(color, points)| Series {
                color,
                points: points.iter().map(|&(bits, error, _)| (bits, error)).collect(),
                line: true,
                marks: true,
                ..Series::default()
            })
            .collect();
        if moments.is_none() {
            series.push(limit::series(points.iter().map(|&(bits, error, _)| (bits, error))));
        }
        let chart = Chart {
            x_label: "bits per weight".to_owned(),
            y_label: "error".to_owned(),
            log: true,
            series,
            size: SIZE,
            ..Chart::default()
        };
        figures.push(Figure {
            svg: chart.render()?,
            title: tensor.name.clone(),
            note: format!("{why}, {}{}", weight.part(), shape(&tensor.shape)),
        });
    }
    let names: Vec<&str> = formats.iter().map(|&(name, _)| name).collect();
    let rank = job.plan.rank.unwrap_or(crate::method::RANK);
    let measure = if on_calibration { "Error on the calibration" } else { "Relative error" };
    let text = format!(
        "{measure} of each method at {}, same groups, rank {rank} where it has one, at most {COMPARE_ROUNDS} \
         alternations. Fitted anew for this page on the tensors named; lower and further left is better.{}",
        names.join(", "),
        if on_calibration { "" } else { " Without calibration svdquant and lq-lora are one method." }
    );
    let mut legend: Vec<(u8, String)> =
        (1..).zip(METHODS).map(|(color, method)| (color, method.name().to_owned())).collect();
    if !on_calibration {
        legend.push((limit::COLOR, limit::LEGEND.to_owned()));
    }
    Ok(vec![
        Block::Heading { title: "Error against bits, method by method".to_owned(), text },
        Block::Legend(legend),
        Block::Charts(figures),
    ])
}

/// Calibration of a sample; weights of rows that were cut away are left out.
fn moments(job: &Job, name: &str, weight: &Rows) -> Result<Option<Moments>, Error> {
    let Some(calibration) = &job.calibration else { return Ok(None) };
    let Some(moments) = calibration.load(name, (weight.all_rows, weight.cols))? else { return Ok(None) };
    if moments.row_weight().is_none() {
        return Ok(Some(moments));
    }
    let parts = MomentParts { row_weight: None, ..moments.parts().clone() };
    Moments::from_parts(weight.cols, parts).map(Some).map_err(|error| job.reader.tensor_error(name, error))
}
