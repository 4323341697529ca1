//! Convolutions as Tucker decompositions: three small convolutions for a large one.
//!
//! ```text
//! W ≈ G ×₁ U_o ×₂ U_i (×₃ U_h ×₄ U_w)         W: [out, in, h, w],  G: [r_o, r_i, r_h, r_w]
//! x → 1×1 convolution by U_iᵀ (in → r_i) → h×w convolution by G (r_i → r_o) → 1×1 convolution by U_o (r_o → out)
//! ```
//! Parameters `in·r_i + r_o·r_i·h·w + r_o·out` instead of `out·in·h·w`. The partial form keeps the kernel's sides
//! (arXiv 1511.06530); all four modes give FLoRA's (arXiv 2405.14739), whose kernel factors are multiplied into the core
//! when a product begins.

#[cfg(feature = "file")]
mod file;

use crate::{Error, Factor};
use alloc::{vec, vec::Vec};
use rankbit_linalg::faer::{Mat, MatRef};
use rankbit_linalg::tucker::{Tensor, Tucker, tucker};
use rankbit_quant::FloatFormat;

#[cfg(feature = "file")]
pub use file::ConvHeader;

/// Sweeps of HOOI at most.
const SWEEPS: u32 = 10;

/// A convolution's weight, decomposed.
#[derive(Clone, PartialEq, Debug)]
pub struct TuckerConv {
    shape: [usize; 4],
    /// `[r_o, r_i·r_h·r_w]`.
    core: Factor,
    factors: [Option<Factor>; 4],
}

/// How a kernel moves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConvOptions {
    /// Rows and columns between outputs, at least 1.
    pub stride: (usize, usize),
    /// Rows and columns of zeros on every side.
    pub padding: (usize, usize),
}

impl Default for ConvOptions {
    fn default() -> Self {
        Self { stride: (1, 1), padding: (0, 0) }
    }
}

/// A fitted convolution.
#[derive(Clone, PartialEq, Debug)]
pub struct ConvFit {
    /// The decomposition.
    pub conv: TuckerConv,
    /// `‖W - Ŵ‖/‖W‖` of what is stored.
    pub relative_error: f64,
    /// Whether the format's range was too small and f32 was taken.
    pub widened: bool,
}

impl TuckerConv {
    /// Decomposes `weight` (`[out, in, h, w]`, row-major) with a rank for each side (`None`: keep it), HOSVD then HOOI,
    /// stored as `format`.
    ///
    /// # Errors
    /// [`Error::Linalg`]: another number of values than the shape says, a NaN or infinity, a rank out of range.
    pub fn fit(
        weight: &[f32],
        shape: [usize; 4],
        ranks: [Option<usize>; 4],
        format: FloatFormat,
    ) -> Result<ConvFit, Error> {
        if shape.contains(&0) {
            let found = (shape[0], shape[1]);
            return Err(Error::ShapeMismatch { what: "convolution", expected: (1, 1), found });
        }
        let tensor = Tensor::new(&shape, weight)?;
        let found = tucker(&tensor, &ranks, SWEEPS)?;
        let rows = found.core.shape().first().copied().unwrap_or(0);
        let core = narrow(found.core.values());
        let cols = core.len().checked_div(rows).unwrap_or(0);
        let (core, mut widened) = Factor::encode(MatRef::from_row_major_slice(&core, rows, cols), format);
        let mut factors = [None, None, None, None];
        for (slot, factor) in factors.iter_mut().zip(&found.factors) {
            if let Some(factor) = factor {
                let values = Mat::from_fn(factor.nrows(), factor.ncols(), |i, k| cut(factor[(i, k)]));
                let (stored, wide) = Factor::encode(values.as_ref(), format);
                widened |= wide;
                *slot = Some(stored);
            }
        }
        let conv = Self { shape, core, factors };
        let back = conv.reconstruct()?;
        let gap: f64 = weight
            .iter()
            .zip(&back)
            .map(|(a, b)| num_traits::Float::powi(f64::from(*a) - f64::from(*b), 2))
            .sum();
        let norm = tensor.norm_squared();
        let relative_error = if gap == 0.0 { 0.0 } else { num_traits::Float::sqrt(gap / norm) };
        Ok(ConvFit { conv, relative_error, widened })
    }

    /// A convolution from stored parts.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for factors that do not fit together.
    pub fn from_parts(shape: [usize; 4], core: Factor, factors: [Option<Factor>; 4]) -> Result<Self, Error> {
        let mut ranks = shape;
        for ((rank, &side), factor) in ranks.iter_mut().zip(&shape).zip(&factors) {
            if let Some(factor) = factor {
                let (rows, cols) = factor.shape();
                if rows != side || cols == 0 || cols > side {
                    let (expected, found) = ((side, side), factor.shape());
                    return Err(Error::ShapeMismatch { what: "factor of a convolution", expected, found });
                }
                *rank = cols;
            }
        }
        let [o, i, h, w] = ranks;
        let width = i.checked_mul(h).and_then(|n| n.checked_mul(w)).unwrap_or(usize::MAX);
        if core.shape() != (o, width) || shape.contains(&0) {
            let (expected, found) = ((o, width), core.shape());
            return Err(Error::ShapeMismatch { what: "core of a convolution", expected, found });
        }
        Ok(Self { shape, core, factors })
    }

    /// `[out, in, h, w]`.
    pub const fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// The core, `[r_o, r_i·r_h·r_w]`.
    pub const fn core(&self) -> &Factor {
        &self.core
    }

    /// The factors of the four sides, `[side, r]` each.
    pub const fn factors(&self) -> &[Option<Factor>; 4] {
        &self.factors
    }

    /// Sides of the core.
    pub fn ranks(&self) -> [usize; 4] {
        let mut ranks = self.shape;
        for (rank, factor) in ranks.iter_mut().zip(&self.factors) {
            *rank = factor.as_ref().map_or(*rank, |factor| factor.shape().1);
        }
        ranks
    }

    /// Every stored bit.
    pub fn stored_bits(&self) -> u64 {
        self.core.stored_bits() + self.factors.iter().flatten().map(Factor::stored_bits).sum::<u64>()
    }

    /// Ŵ in row-major order.
    ///
    /// # Errors
    /// [`Error::Linalg`] for values that leave their range.
    pub fn reconstruct(&self) -> Result<Vec<f32>, Error> {
        Ok(narrow(self.expanded([true; 4])?.values()))
    }

    /// The core with some of its factors multiplied in.
    fn expanded(&self, which: [bool; 4]) -> Result<Tensor, Error> {
        let core = Tensor::new(&self.ranks(), &self.core.to_f32())?;
        let factors = self.factors.iter().zip(which).map(|(factor, taken)| {
            factor.as_ref().filter(|_| taken).map(|factor| {
                let (rows, cols) = factor.shape();
                let values = factor.to_f32();
                Mat::from_fn(rows, cols, |i, k| f64::from(values[i * cols + k]))
            })
        });
        let whole = Tucker { core, factors: factors.collect(), relative_error: 0.0, sweeps: 0 };
        Ok(whole.reconstruct()?)
    }

    /// The convolution of `x` (`[in, height, width]`, row-major): its outputs `[out, height', width']` and their sides,
    /// `height' = ⌊(height + 2·padding - h)/stride⌋ + 1`.
    ///
    /// Cost per output position: `r_o·r_i·h·w + r_o·out`, per input position `in·r_i`.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when `x` does not have `in·height·width` values, the kernel is larger than the padded
    /// image, or a stride is 0.
    pub fn apply(
        &self,
        x: &[f32],
        (height, width): (usize, usize),
        options: ConvOptions,
    ) -> Result<(Vec<f32>, (usize, usize)), Error> {
        let [out, inputs, h, w] = self.shape;
        let pixels = height.checked_mul(width);
        if pixels.and_then(|pixels| pixels.checked_mul(inputs)) != Some(x.len()) {
            let found = (1, x.len());
            return Err(Error::ShapeMismatch { what: "image", expected: (inputs, height * width), found });
        }
        let positions = |side: usize, padding: usize, kernel: usize, stride: usize| {
            let padded = padding.checked_mul(2).and_then(|both| both.checked_add(side))?;
            Some(padded.checked_sub(kernel)?.checked_div(stride)? + 1)
        };
        let rows = positions(height, options.padding.0, h, options.stride.0);
        let cols = positions(width, options.padding.1, w, options.stride.1);
        let (Some(rows), Some(cols)) = (rows, cols) else {
            let (expected, found) = ((h, w), (height, width));
            return Err(Error::ShapeMismatch { what: "image under a kernel", expected, found });
        };
        let [_, narrow_in, ..] = self.ranks();
        let squeezed = match &self.factors[1] {
            None => x.to_vec(),
            Some(factor) => mix(&transposed(factor), narrow_in, inputs, x, height * width),
        };
        let core = self.expanded([false, false, true, true])?;
        let core = narrow(core.values());
        let narrow_out = self.core.shape().0;
        let mut middle = vec![0.0_f32; narrow_out * rows * cols];
        for (o, plane) in middle.chunks_exact_mut((rows * cols).max(1)).enumerate() {
            for (at, value) in plane.iter_mut().enumerate() {
                let (y, x) = (at / cols * options.stride.0, at % cols * options.stride.1);
                let mut sum = 0.0;
                for i in 0..narrow_in {
                    for dy in 0..h {
                        let Some(row) = (y + dy).checked_sub(options.padding.0).filter(|&row| row < height)
                        else {
                            continue;
                        };
                        for dx in 0..w {
                            let col = (x + dx).checked_sub(options.padding.1).filter(|&col| col < width);
                            if let Some(col) = col {
                                let weight = core[((o * narrow_in + i) * h + dy) * w + dx];
                                sum += weight * squeezed[(i * height + row) * width + col];
                            }
                        }
                    }
                }
                *value = sum;
            }
        }
        let y = match &self.factors[0] {
            None => middle,
            Some(factor) => mix(&factor.to_f32(), out, narrow_out, &middle, rows * cols),
        };
        Ok((y, (rows, cols)))
    }
}

/// `A·X` for `a: [rows, inner]`, `x: [inner, pixels]`.
fn mix(a: &[f32], rows: usize, inner: usize, x: &[f32], pixels: usize) -> Vec<f32> {
    let mut y = vec![0.0; rows * pixels];
    for (weights, out) in a.chunks_exact(inner.max(1)).zip(y.chunks_exact_mut(pixels.max(1))) {
        for (&weight, input) in weights.iter().zip(x.chunks_exact(pixels.max(1))) {
            for (value, x) in out.iter_mut().zip(input) {
                *value += weight * x;
            }
        }
    }
    y
}

/// A factor's transpose, row-major.
fn transposed(factor: &Factor) -> Vec<f32> {
    let ((rows, cols), values) = (factor.shape(), factor.to_f32());
    (0..cols).flat_map(|k| (0..rows).map(move |i| (i, k))).map(|(i, k)| values[i * cols + k]).collect()
}

/// Each value to nearest in f32.
fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&value| cut(value)).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is this function's purpose")]
fn cut(value: f64) -> f32 {
    value as f32
}
