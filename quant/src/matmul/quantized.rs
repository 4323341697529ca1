//! `Y = X̂·Ŵᵀ` with quantized inputs: whole numbers where both sides are, floats elsewhere.
//!
//! ```text
//! y_to = Σ_segments s_x·s_w · Σ_k x_tk·(w_ok - z)  +  Σ_{j∈O} x_tj·s_w·(w_oj - z)
//! ```
//! A segment is a run of columns inside one group of the inputs and one group of the weight. Codes are decoded once a
//! row to whole numbers with the zero point already off, so that the inner sum is one product of 16-bit numbers:
//! `|x| ≤ 128`, `|w - z| ≤ 255`, so 2¹⁵ terms stay below 2³¹; runs are cut there and their sums added in 64 bits.
//!
//! **Accuracy**: the inner sums are exact. Segments, their scales and the outliers are summed in f64 in a fixed order
//! and rounded to f32 once: `|Δ| ≤ 2⁻²⁴·|y| + 2⁻⁵⁰·|X̂|·|Ŵ|ᵀ` against real arithmetic. With a weight (or inputs) that
//! is no whole number, both sides are decoded to f32: `|Δ| ≤ γ·|X̂|·|Ŵ|ᵀ`, `γ = K·u/(1 - K·u)`, `K = in + 4`,
//! `u = 2⁻²⁴`. The same bits for any number of threads.

use super::{ROWS_PER_TASK, dot, integer_dot, run};
use crate::simd::Kernels;
use crate::{Activation, Activations, Code, Error, Quantized, ZeroPoint, float, pack, rows};
use alloc::{vec, vec::Vec};
#[cfg(feature = "solve")]
use rankbit_linalg::faer::{Mat, MatMut, MatRef};

/// `Y = X̂·Ŵᵀ` as a new matrix `[tokens, out]`, `X̂` what `activation` makes of `x`.
///
/// # Errors
/// As [`apply_with`].
#[cfg(feature = "solve")]
pub fn apply(weight: &Quantized, activation: &Activation, x: MatRef<'_, f32>) -> Result<Mat<f32>, Error> {
    let mut y = Mat::zeros(x.nrows(), weight.shape().0);
    apply_with(weight, activation, x, y.as_mut(), |_, _| {})?;
    Ok(y)
}

/// `Y = X̂·Ŵᵀ` into `y: [tokens, out]`, with the epilogue of [`super::apply_with`]: `finish(row, values)` sees the
/// outputs of weight row `row` for all tokens and may add to them.
///
/// # Errors
/// [`Error::ShapeMismatch`] when `x` or `y` does not fit the weight; what [`Activation::quantize`] refuses.
#[cfg(feature = "solve")]
pub fn apply_with(
    weight: &Quantized,
    activation: &Activation,
    x: MatRef<'_, f32>,
    y: MatMut<'_, f32>,
    finish: impl Fn(usize, &mut [f32]) + Send + Sync,
) -> Result<(), Error> {
    super::check_shapes(weight, x, y.as_ref())?;
    if activation.is_float() {
        return super::apply_with(weight, x, y, finish);
    }
    match activation.quantize(&rows::packed(x), (x.nrows(), x.ncols()))? {
        None => super::apply_with(weight, x, y, finish)?,
        Some(quantized) => products(weight, &quantized, finish, super::into_columns(y)),
    }
    Ok(())
}

/// [`apply_with`] for the row-major `x`, `[tokens, in]`, into the row-major `y`, `[tokens, out]`.
///
/// # Errors
/// As [`apply_with`].
pub fn apply_rows_with(
    weight: &Quantized,
    activation: &Activation,
    x: &[f32],
    tokens: usize,
    y: &mut [f32],
    finish: impl Fn(usize, &mut [f32]) + Send + Sync,
) -> Result<(), Error> {
    let (out, features) = weight.shape();
    rows::check_len("activations", x.len(), (tokens, features))?;
    rows::check_len("output", y.len(), (tokens, out))?;
    match activation.quantize(x, (tokens, features))? {
        None => super::apply_rows_with(weight, x, tokens, y, finish),
        Some(x) => apply_quantized_with(weight, &x, y, finish),
    }
}

/// `Y = X̂·Ŵᵀ` for inputs that are quantized already, into the row-major `y`, `[tokens, out]`, with the same epilogue.
///
/// # Errors
/// [`Error::ShapeMismatch`] when `x` or `y` does not fit the weight.
pub fn apply_quantized_with(
    weight: &Quantized,
    x: &Activations,
    y: &mut [f32],
    finish: impl Fn(usize, &mut [f32]) + Send + Sync,
) -> Result<(), Error> {
    let ((out, features), (tokens, found)) = (weight.shape(), x.shape());
    if found != features {
        let (expected, found) = ((tokens, features), (tokens, found));
        return Err(Error::ShapeMismatch { what: "activations", expected, found });
    }
    rows::check_len("output", y.len(), (tokens, out))?;
    products(weight, x, finish, super::into_row_major(y, out));
    Ok(())
}

/// Hands the outputs of each weight row for all tokens to `store`, row by row. Shapes fit.
fn products(
    weight: &Quantized,
    x: &Activations,
    finish: impl Fn(usize, &mut [f32]) + Send + Sync,
    mut store: impl FnMut(usize, &[f32]),
) {
    let ((out, features), tokens) = (weight.shape(), x.shape().0);
    if tokens == 0 {
        return;
    }
    let inputs = Inputs::new(weight, x);
    let decoder = weight.decoder();
    let kernels = Kernels::current();
    let task = |first: usize| {
        let count = ROWS_PER_TASK.min(out - first);
        let (mut codes, mut integers, mut decoded) = (vec![0; features], Vec::new(), Vec::new());
        let mut values = vec![0.0; count * tokens];
        for (i, values) in values.chunks_exact_mut(tokens.max(1)).enumerate() {
            let row = first + i;
            match &inputs {
                Inputs::Integers { x: all, segments } => {
                    integers.resize(features, 0);
                    integer_row(weight, row, &mut codes, &mut integers);
                    let scale_at =
                        |column: usize| f64::from(weight.scale(row, column / weight.grouping().size));
                    let tokens = all.chunks_exact(features.max(1));
                    for (token, (value, codes)) in values.iter_mut().zip(tokens).enumerate() {
                        let mut sum = 0.0;
                        for &Segment { start, end, x_group } in segments {
                            let whole = integer_dot(kernels, &codes[start..end], &integers[start..end]);
                            sum += whole as f64 * (f64::from(x.scale(token, x_group)) * scale_at(start));
                        }
                        for (&column, &kept) in x.outliers().iter().zip(x.kept(token)) {
                            sum += f64::from(kept) * (f64::from(integers[column]) * scale_at(column));
                        }
                        *value = float::narrow(sum);
                    }
                }
                Inputs::Floats(all) => {
                    decoded.resize(features, 0.0);
                    weight.decode_row(row, &decoder, &mut decoded);
                    for (value, x) in values.iter_mut().zip(all.chunks_exact(features.max(1))) {
                        *value = dot(&decoded, x);
                    }
                }
            }
            finish(row, values);
        }
        values
    };
    for (block, values) in run(out.div_ceil(ROWS_PER_TASK), |block| task(block * ROWS_PER_TASK)) {
        for (i, values) in values.chunks_exact(tokens.max(1)).enumerate() {
            store(block * ROWS_PER_TASK + i, values);
        }
    }
}

/// Inputs ready for the inner loop, row-major.
enum Inputs {
    /// Whole numbers, and the runs of columns under one scale on both sides.
    Integers { x: Vec<i16>, segments: Vec<Segment> },
    /// Decoded.
    Floats(Vec<f32>),
}

/// Columns `start .. end`, inside one group of the inputs and one of the weight.
#[derive(Clone, Copy)]
struct Segment {
    start: usize,
    end: usize,
    x_group: usize,
}

impl Inputs {
    fn new(weight: &Quantized, x: &Activations) -> Self {
        let (tokens, features) = x.shape();
        let whole = weight.scheme().layout.is_planar()
            && matches!(weight.scheme().zero, ZeroPoint::None | ZeroPoint::Integer)
            && matches!((weight.scheme().code, x.code()), (Code::Int { .. }, Code::Int { .. }));
        if whole {
            let offset = whole_offset(x.code());
            let codes = x.codes().iter().map(|&code| i16::from(code) - offset).collect();
            return Self::Integers { x: codes, segments: segments(features, weight, x) };
        }
        let mut decoded = vec![0.0; tokens * features];
        for (token, row) in decoded.chunks_exact_mut(features.max(1)).enumerate() {
            // The token exists and the row has its length.
            let _ = x.row_into(token, row);
        }
        Self::Floats(decoded)
    }
}

/// What a stored integer code exceeds its value by; 0 for other codes.
const fn whole_offset(code: Code) -> i16 {
    match code {
        Code::Int { bits, signed: true } => 1 << (bits.saturating_sub(1)),
        _ => 0,
    }
}

/// Cuts `0 .. features` at the ends of both sides' groups.
fn segments(features: usize, weight: &Quantized, x: &Activations) -> Vec<Segment> {
    let (x_size, w_size) = (x.grouping().size, weight.grouping().size);
    let (mut segments, mut start) = (Vec::new(), 0);
    while start < features {
        let next = |size: usize| (start / size + 1).saturating_mul(size);
        let end = next(x_size).min(next(w_size)).min(features);
        segments.push(Segment { start, end, x_group: start / x_size });
        start = end;
    }
    segments
}

/// Row `row` of the codes as whole numbers, zero points subtracted.
fn integer_row(weight: &Quantized, row: usize, codes: &mut [u8], integers: &mut [i16]) {
    let code = weight.scheme().code;
    pack::unpack(weight.row_codes(row), code.bits(), codes);
    let size = weight.grouping().size;
    for (group, (codes, integers)) in codes.chunks(size).zip(integers.chunks_mut(size)).enumerate() {
        let zero = whole_offset(code) + i16::from(weight.zero_code(row, group));
        for (integer, &code) in integers.iter_mut().zip(codes) {
            *integer = i16::from(code) - zero;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::whole_offset;
    use crate::{Code, code};

    #[test]
    fn the_offset_is_the_codes_own() {
        for bits in 2..=8 {
            for signed in [false, true] {
                let offset = f32::from(whole_offset(Code::Int { bits, signed }));
                assert_eq!(offset, code::int::offset(bits, signed));
            }
        }
    }
}
