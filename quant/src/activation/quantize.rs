//! Inputs as few bits: what a policy makes of them.

use super::Activation;
use crate::{Code, Error, Group, Grouping};
use alloc::{vec, vec::Vec};

/// Quantized inputs `X̂: [tokens, in]`, with the columns that stay floats beside them.
#[derive(Clone, PartialEq, Debug)]
pub struct Activations {
    shape: (usize, usize),
    code: Code,
    grouping: Grouping,
    codes: Vec<u8>,
    scales: Vec<f32>,
    outliers: Vec<usize>,
    /// Row-major `[tokens, outliers]`.
    kept: Vec<f32>,
}

impl Activation {
    /// Quantizes `x`, row-major `[tokens, in]`; `None` when inputs stay floats. Cost O(tokens · in).
    ///
    /// # Errors
    /// [`Error::InvalidActivation`] for a policy that [`Activation::check`] refuses; [`Error::ShapeMismatch`] when
    /// `x` does not have `tokens · in` entries; [`Error::ActivationNonFinite`] naming the first NaN or infinity.
    pub fn quantize(
        &self,
        x: &[f32],
        (tokens, features): (usize, usize),
    ) -> Result<Option<Activations>, Error> {
        self.check()?;
        if tokens.checked_mul(features) != Some(x.len()) {
            let (expected, found) = ((tokens, features), (1, x.len()));
            return Err(Error::ShapeMismatch { what: "activations", expected, found });
        }
        let (code, group, threshold) = match *self {
            Self::Float => return Ok(None),
            Self::Dynamic { code, group, outliers } => (code, group, outliers.unwrap_or(f32::INFINITY)),
            Self::Static { code, .. } => (code, Group::Tensor, f32::INFINITY),
        };
        if let Some(at) = x.iter().position(|value| !value.is_finite()) {
            // There is an entry, so there are features.
            return Err(Error::ActivationNonFinite { token: at / features, feature: at % features });
        }
        let shape = (tokens, features);
        let grouping = group.over(shape)?;
        let outliers = outlier_columns(x, features, threshold);
        let divisors: Vec<Divisor> = match *self {
            Self::Static { scale, .. } => vec![Divisor::Scale(scale); grouping.scales],
            _ => {
                let extremes = extremes(x, features, &grouping, threshold);
                extremes.into_iter().map(|absmax| Divisor::new(absmax, code.max())).collect()
            }
        };

        let mut codes = vec![0; x.len()];
        let mut scaled = vec![0.0; features];
        let mut kept = Vec::with_capacity(tokens * outliers.len());
        for (token, (row, codes)) in
            rows(x, features).zip(codes.chunks_exact_mut(features.max(1))).enumerate()
        {
            for (g, (values, scaled)) in
                row.chunks(grouping.size).zip(scaled.chunks_mut(grouping.size)).enumerate()
            {
                divisors[grouping.index(token, g)].divide(values, scaled);
            }
            for &column in &outliers {
                scaled[column] = 0.0;
                kept.push(row[column]);
            }
            code.encode(&scaled, 0.0, codes);
        }
        let scales = divisors.iter().map(|divisor| divisor.scale()).collect();
        Ok(Some(Activations { shape, code, grouping, codes, scales, outliers, kept }))
    }
}

impl Activations {
    /// Tokens and features.
    pub const fn shape(&self) -> (usize, usize) {
        self.shape
    }

    /// What a code means.
    pub const fn code(&self) -> Code {
        self.code
    }

    /// Who shares a scale.
    pub const fn grouping(&self) -> &Grouping {
        &self.grouping
    }

    /// All codes, one byte each, row-major. Those of the columns that stay floats stand for 0.
    pub fn codes(&self) -> &[u8] {
        &self.codes
    }

    /// The scales, in group order.
    pub fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// Scale of group `group` of token `token`.
    ///
    /// # Panics
    /// When there is no such group.
    pub fn scale(&self, token: usize, group: usize) -> f32 {
        self.scales[self.grouping.index(token, group)]
    }

    /// The columns that stay floats, in increasing order.
    pub fn outliers(&self) -> &[usize] {
        &self.outliers
    }

    /// The inputs of token `token` in the columns of [`Activations::outliers`].
    ///
    /// # Panics
    /// When there is no such token.
    pub fn kept(&self, token: usize) -> &[f32] {
        let count = self.outliers.len();
        &self.kept[token * count..(token + 1) * count]
    }

    /// Token `token` decoded into `out` (`in` entries), the columns that stay floats included.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when there is no such token or `out` is not `in` entries long.
    pub fn row_into(&self, token: usize, out: &mut [f32]) -> Result<(), Error> {
        let (tokens, features) = self.shape;
        if token >= tokens || out.len() != features {
            let found = (token.saturating_add(1), out.len());
            return Err(Error::ShapeMismatch { what: "token", expected: self.shape, found });
        }
        let codes = &self.codes[token * features..(token + 1) * features];
        let size = self.grouping.size;
        for (g, (codes, out)) in codes.chunks(size).zip(out.chunks_mut(size)).enumerate() {
            let scale = self.scale(token, g);
            for (value, &code) in out.iter_mut().zip(codes) {
                *value = self.code.value(code) * scale;
            }
        }
        for (&column, &x) in self.outliers.iter().zip(self.kept(token)) {
            out[column] = x;
        }
        Ok(())
    }
}

/// The rows of a row-major matrix; none when it has no columns.
fn rows(x: &[f32], features: usize) -> impl Iterator<Item = &[f32]> {
    x.chunks_exact(features.max(1))
}

/// The columns that hold an entry of magnitude `threshold` or more.
fn outlier_columns(x: &[f32], features: usize, threshold: f32) -> Vec<usize> {
    if threshold == f32::INFINITY {
        return Vec::new();
    }
    let mut outlier = vec![false; features];
    for row in rows(x, features) {
        for (outlier, value) in outlier.iter_mut().zip(row) {
            *outlier |= value.abs() >= threshold;
        }
    }
    outlier.iter().enumerate().filter_map(|(column, &outlier)| outlier.then_some(column)).collect()
}

/// The largest magnitude below `threshold` of each group.
fn extremes(x: &[f32], features: usize, grouping: &Grouping, threshold: f32) -> Vec<f32> {
    let mut extremes = vec![0.0_f32; grouping.scales];
    for (token, row) in rows(x, features).enumerate() {
        for (g, values) in row.chunks(grouping.size).enumerate() {
            let top = &mut extremes[grouping.index(token, g)];
            for value in values {
                let magnitude = value.abs();
                *top = if magnitude < threshold { top.max(magnitude) } else { *top };
            }
        }
    }
    extremes
}

/// What the entries of a group are divided by.
#[derive(Clone, Copy)]
enum Divisor {
    /// A scale, by division.
    Scale(f32),
    /// A scale, by multiplication with the reciprocal `max / absmax`, as the released code of LLM.int8() does.
    Reciprocal { scale: f32, reciprocal: f32 },
}

impl Divisor {
    fn new(absmax: f32, max: f32) -> Self {
        // The largest code times the scale must not leave f32.
        let scale = (absmax / max).min(f32::MAX / max * (1.0 - f32::EPSILON));
        let reciprocal = max / absmax;
        if reciprocal.is_finite() { Self::Reciprocal { scale, reciprocal } } else { Self::Scale(scale) }
    }

    const fn scale(self) -> f32 {
        match self {
            Self::Scale(scale) | Self::Reciprocal { scale, .. } => scale,
        }
    }

    fn divide(self, values: &[f32], scaled: &mut [f32]) {
        for (x, &value) in scaled.iter_mut().zip(values) {
            *x = match self {
                // All entries are zero, or so small that the scale is.
                Self::Scale(0.0) => 0.0,
                Self::Scale(scale) => value / scale,
                Self::Reciprocal { reciprocal, .. } => value * reciprocal,
            };
        }
    }
}
