//! `report.json`. Keys are never missing (absent values are null) and only ever added.

use serde::Serialize;
use serde_json::Value;

use crate::container::record::GroupName;

/// Version of the report's form.
pub(crate) const FORMAT_VERSION: u32 = 1;

/// A whole run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// Version of this form.
    pub(crate) format_version: u32,
    /// The program.
    pub(crate) rankbit_version: &'static str,
    /// The compressed file.
    pub(crate) input: String,
    /// Seed of the run.
    pub(crate) seed: u64,
    /// Compressed tensors, in the file's order.
    pub(crate) tensors: Vec<Tensor>,
    /// Tensors left alone.
    pub(crate) skipped: Vec<Skipped>,
    /// What `--budget` had to choose from; null without.
    pub(crate) budget: Option<Budget>,
    /// Sums and means.
    pub(crate) total: Total,
}

/// How a budget was spent. Errors are roots of the minimized sum, relative to that of the weights or outputs.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Budget {
    /// Bits per weight asked for.
    pub(crate) asked: f64,
    /// What was minimized.
    pub(crate) minimized: &'static str,
    /// What was found.
    #[serde(flatten)]
    pub(crate) found: Point,
    /// The lower convex hull of all plans, by rising bits.
    pub(crate) front: Vec<Point>,
    /// Every candidate format on all tensors, where all can take it.
    pub(crate) uniform: Vec<Uniform>,
    /// What was found in the end, measured like the plan's error.
    pub(crate) achieved: Option<f64>,
    /// What is missing for a better plan.
    pub(crate) note: Option<String>,
}

/// A plan's bits and error.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Point {
    /// Stored bits over weights.
    pub(crate) bits_per_weight: f64,
    /// √(Σ loss / Σ norm).
    pub(crate) error: f64,
}

/// One format for all tensors.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Uniform {
    /// The format's name.
    pub(crate) format: &'static str,
    /// What it comes to.
    #[serde(flatten)]
    pub(crate) point: Point,
}

/// One compressed tensor. Errors are those of the f32 reconstruction.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Tensor {
    /// Its name.
    pub(crate) name: String,
    /// Its original shape.
    pub(crate) shape: Vec<usize>,
    /// The method's name.
    pub(crate) method: &'static str,
    /// What ran.
    pub(crate) recipe: Value,
    /// The format's name, when it has a quantized term.
    pub(crate) format: Option<&'static str>,
    /// Who shares a scale.
    pub(crate) group: Option<GroupName>,
    /// Rank of the low-rank term.
    pub(crate) rank: Option<usize>,
    /// What the quantized term's inputs become; null when they stay floats.
    pub(crate) activations: Option<String>,
    /// Pattern of the sparse term, as `--sparsity` takes it.
    pub(crate) sparsity: Option<String>,
    /// Every stored bit, padding included, over the weights.
    pub(crate) bits_per_weight: f64,
    /// ‖W − Ŵ‖ / ‖W‖.
    pub(crate) relative_error: f64,
    /// The same under the calibration's metric.
    pub(crate) metric_error: Option<f64>,
    /// What the plan said of the error that it minimizes; null without a plan.
    pub(crate) predicted_error: Option<f64>,
    /// Wall time, reading included.
    pub(crate) seconds: f64,
    /// What was changed from what was asked.
    pub(crate) warnings: Vec<String>,
}

/// One tensor left alone.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Skipped {
    /// Its name.
    pub(crate) name: String,
    /// Why.
    pub(crate) reason: String,
}

/// Sums and means over the compressed tensors; null where there is none.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Total {
    /// Every stored bit of compressed tensors over their weights.
    pub(crate) bits_per_weight: Option<f64>,
    /// √(Σ‖E‖² / Σ‖W‖²).
    pub(crate) relative_error: Option<f64>,
    /// Mean over tensors.
    pub(crate) mean_relative_error: Option<f64>,
    /// √(Σ‖E‖²_M / Σ‖W‖²_M) over tensors with calibration.
    pub(crate) metric_error: Option<f64>,
    /// Mean over tensors with calibration.
    pub(crate) mean_metric_error: Option<f64>,
    /// Size of the input file.
    pub(crate) bytes_in: u64,
    /// Size of the output file.
    pub(crate) bytes_out: u64,
    /// Wall time of the run.
    pub(crate) seconds: f64,
}

/// Adds up relative errors: the root of summed squares, and the plain mean.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ErrorSum {
    error: f64,
    norm: f64,
    sum: f64,
    count: u64,
}

impl ErrorSum {
    /// One tensor: its relative error and the square of its norm.
    pub(crate) fn add(&mut self, relative: f64, norm_squared: f64) {
        self.add_squares(relative * relative * norm_squared, norm_squared);
    }

    /// One tensor: its error and norm, both squared. 0/0 = 0.
    pub(crate) fn add_squares(&mut self, error: f64, norm: f64) {
        self.error += error;
        self.norm += norm;
        self.sum += ratio(error, norm);
        self.count += 1;
    }

    /// √(Σ‖E‖² / Σ‖W‖²); `None` without a tensor.
    pub(crate) fn relative(&self) -> Option<f64> {
        (self.count > 0).then(|| ratio(self.error, self.norm))
    }

    /// Mean of the relative errors; `None` without a tensor.
    pub(crate) fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

/// √(error / norm) of squares, 0/0 = 0.
pub(crate) fn ratio(error: f64, norm: f64) -> f64 {
    if error == 0.0 { 0.0 } else { (error / norm).sqrt() }
}

#[cfg(test)]
mod tests {
    use super::ErrorSum;

    #[test]
    fn totals_of_two_tensors() {
        let mut sum = ErrorSum::default();
        assert_eq!((sum.relative(), sum.mean()), (None, None));
        sum.add(0.5, 4.0); // error² 1
        sum.add(0.0, 0.0); // 0/0 = 0
        sum.add_squares(8.0, 32.0); // 0.5
        assert_eq!(sum.relative(), Some(0.5));
        assert_eq!(sum.mean(), Some(1.0 / 3.0));
    }
}
