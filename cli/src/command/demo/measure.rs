//! What the demo measures: error, bits, the time of a fit and of products on CPU and GPU.

use std::time::{Duration, Instant};

use rankbit::gpu::Gpu;
use rankbit::linalg::Stream;
use rankbit::linalg::faer::{Accum, Mat, MatRef, Par, linalg::matmul::matmul};
use rankbit::lowrank::{Input, Recipe, Split, fit};
use rankbit::quant::Scheme;

use super::weights::Weight;
use crate::command::Global;
use crate::error::Error;
use crate::method::{Method, Plan, Request};
use crate::progress::Progress;
use crate::report::limit;

/// How long one product is repeated for its best time.
const TIMING: Duration = Duration::from_millis(60);
/// Runs of a GPU product.
const GPU_RUNS: usize = 10;

/// One method in one format, over all matrices.
pub(crate) struct Row {
    /// Its name.
    pub(crate) method: &'static str,
    /// The format, or what the entries are.
    pub(crate) format: &'static str,
    /// Bits per weight.
    pub(crate) bits: f64,
    /// Mean relative error.
    pub(crate) error: f64,
    /// Seconds of all fits.
    pub(crate) seconds: Option<f64>,
    /// Seconds of the products of all matrices with one token and with many.
    pub(crate) cpu: [f64; 2],
    /// The same on the GPU.
    pub(crate) gpu: [Option<f64>; 2],
}

/// Error against bits of one method.
pub(crate) struct Curve {
    /// What the legend says.
    pub(crate) label: &'static str,
    /// Bits per weight and mean relative error, by increasing bits.
    pub(crate) points: Vec<(f64, f64)>,
}

/// The weights, activations and device that all rows share.
pub(crate) struct Bench<'a> {
    /// The matrices.
    pub(crate) weights: &'a [Weight],
    tokens: usize,
    gpu: Result<Gpu, String>,
}

/// Methods and formats of the table.
const ROWS: [(Method, &str); 8] = [
    (Method::Rtn, "int4"),
    (Method::Rtn, "uint4"),
    (Method::Rtn, "nf4"),
    (Method::Lorc, "uint4"),
    (Method::Svdquant, "uint4"),
    (Method::LqLora, "nf4"),
    (Method::LqLora, "uint3"),
    (Method::Lowrank, "f16 factors"),
];

/// Method, legend and formats of each curve. Without calibration SVDQuant and LQ-LoRA are the same recipe, so one
/// stands for both.
const CURVES: [(Method, &str, &[&str]); 4] = [
    (Method::Rtn, "rtn, uint2 to uint8", &INTEGERS),
    (Method::Lorc, "lorc", &INTEGERS),
    (Method::Svdquant, "svdquant, lq-lora (alike uncalibrated)", &INTEGERS),
    (Method::Rtn, "rtn, nf2 to nf4", &["nf2", "nf3", "nf4"]),
];
const INTEGERS: [&str; 4] = ["uint2", "uint3", "uint4", "uint8"];

impl<'a> Bench<'a> {
    /// Finds the device.
    pub(crate) fn new(weights: &'a [Weight], tokens: usize, use_gpu: bool) -> Self {
        let gpu = if use_gpu {
            Gpu::new().map_err(|error| format!("no GPU product: {error}"))
        } else {
            Err("the GPU was left alone (--no-gpu)".to_owned())
        };
        Self { weights, tokens, gpu }
    }

    /// Whether there is a device.
    pub(crate) fn has_gpu(&self) -> bool {
        self.gpu.is_ok()
    }

    /// What the times mean.
    pub(crate) fn note(&self) -> String {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let device = match &self.gpu {
            Ok(gpu) => format!("GPU: {}", gpu.adapter().name),
            Err(why) => why.clone(),
        };
        format!(
            "error: mean of ‖W − Ŵ‖/‖W‖; {}; times: all three products Y = X·Ŵᵀ, best of several runs, {threads} CPU threads; {device}",
            limit::NOTE
        )
    }

    /// The dense row, then every method.
    pub(crate) fn rows(&self, global: Global) -> Result<Vec<Row>, Error> {
        let progress = Progress::new(ROWS.len() as u64 * self.bytes(), global.quiet);
        let mut rows = vec![self.dense()];
        for (method, format) in ROWS {
            progress.start(&format!("{} {format}", method.name()));
            let request =
                Request { format: method.quantizes().then(|| format.to_owned()), ..Request::default() };
            let plan = Plan::new(method, &request)?;
            rows.push(self.row(method.name(), format, &plan.recipe)?);
            progress.add(self.bytes());
        }
        Ok(rows)
    }

    /// Error against bits for the methods with a quantized term.
    pub(crate) fn curves(&self, global: Global) -> Result<Vec<Curve>, Error> {
        let progress = Progress::new(
            CURVES.map(|curve| curve.2.len() as u64).iter().sum::<u64>() * self.bytes(),
            global.quiet,
        );
        let mut curves = Vec::new();
        for (method, label, formats) in CURVES {
            progress.start(label);
            let plan = Plan::new(method, &Request::default())?;
            let mut points = Vec::new();
            for scheme in formats.iter().copied().filter_map(Scheme::named) {
                let (splits, error, _) = self.fit(&plan.recipe_of(method, scheme))?;
                points.push((self.bits(&splits), error));
                progress.add(self.bytes());
            }
            curves.push(Curve { label, points });
        }
        Ok(curves)
    }

    fn row(&self, method: &'static str, format: &'static str, recipe: &Recipe) -> Result<Row, Error> {
        let (splits, error, seconds) = self.fit(recipe)?;
        let product = |tokens| -> Result<f64, Error> {
            let mut total = 0.0;
            for (weight, split) in self.weights.iter().zip(&splits) {
                let (x, mut y) = (activations(tokens, weight.cols), Mat::zeros(tokens, weight.rows));
                // Once for the error, then for the time.
                split.apply_into(x.as_ref(), y.as_mut()).map_err(|e| failed(weight, &e))?;
                total += best(|| drop(split.apply_into(x.as_ref(), y.as_mut())));
            }
            Ok(total)
        };
        let cpu = [product(1)?, product(self.tokens)?];
        let gpu = [self.gpu_product(&splits, 1), self.gpu_product(&splits, self.tokens)];
        Ok(Row { method, format, bits: self.bits(&splits), error, seconds: Some(seconds), cpu, gpu })
    }

    /// `Y = X·Wᵀ` in f32, by faer.
    fn dense(&self) -> Row {
        let product = |tokens| {
            let one = |weight: &Weight| {
                let (x, mut y) = (activations(tokens, weight.cols), Mat::<f32>::zeros(tokens, weight.rows));
                let w: MatRef<'_, f32> = weight.view();
                best(|| matmul(y.as_mut(), Accum::Replace, x.as_ref(), w.transpose(), 1.0, Par::Seq))
            };
            self.weights.iter().map(one).sum()
        };
        let cpu = [product(1), product(self.tokens)];
        Row {
            method: "dense",
            format: "f32, 1 thread",
            bits: 32.0,
            error: 0.0,
            seconds: None,
            cpu,
            gpu: [None; 2],
        }
    }

    /// Fits every matrix, in parallel: splits, mean error, wall time.
    fn fit(&self, recipe: &Recipe) -> Result<(Vec<Split>, f64, f64), Error> {
        use rayon::prelude::*;
        let start = Instant::now();
        let fits: Result<Vec<_>, Error> = self
            .weights
            .par_iter()
            .map(|weight| {
                let input = Input { name: &weight.name, moments: None };
                fit(weight.view(), recipe, &input).map_err(|e| failed(weight, &e))
            })
            .collect();
        let fits = fits?;
        let error = fits.iter().map(|fit| fit.info.relative_error).sum::<f64>() / fits.len() as f64;
        let splits = fits.into_iter().map(|fit| fit.split).collect();
        Ok((splits, error, start.elapsed().as_secs_f64()))
    }

    /// Bytes of the dense matrices.
    fn bytes(&self) -> u64 {
        self.weights.iter().map(|w| 4 * w.values.len() as u64).sum()
    }

    fn bits(&self, splits: &[Split]) -> f64 {
        let weights: usize = self.weights.iter().map(|w| w.values.len()).sum();
        splits.iter().map(Split::stored_bits).sum::<u64>() as f64 / weights as f64
    }

    /// Seconds of all products on the device; `None` without one, or for a format that no kernel handles.
    fn gpu_product(&self, splits: &[Split], tokens: usize) -> Option<f64> {
        let gpu = self.gpu.as_ref().ok()?;
        let mut total = 0.0;
        for (weight, split) in self.weights.iter().zip(splits) {
            let x = activations(tokens, weight.cols);
            let timed = gpu.upload(split).and_then(|linear| linear.apply_timed(x.as_ref(), GPU_RUNS));
            match timed {
                Ok((_, timing)) => total += timing.best,
                Err(error) => {
                    tracing::info!("{}: {error}", weight.name);
                    return None;
                }
            }
        }
        Some(total)
    }
}

fn failed(weight: &Weight, error: &dyn std::fmt::Display) -> Error {
    Error::Machine { what: weight.name.clone(), reason: error.to_string() }
}

/// Gaussian activations.
fn activations(tokens: usize, features: usize) -> Mat<f32> {
    let mut values = vec![0.0; tokens * features];
    Stream::new(0, "demo activations").fill_normal(&mut values);
    MatRef::from_row_major_slice(&values, tokens, features).to_owned()
}

/// Seconds of the fastest of several runs.
fn best(mut work: impl FnMut()) -> f64 {
    let (begin, mut least) = (Instant::now(), f64::INFINITY);
    while begin.elapsed() < TIMING {
        let start = Instant::now();
        work();
        least = least.min(start.elapsed().as_secs_f64());
    }
    least
}
