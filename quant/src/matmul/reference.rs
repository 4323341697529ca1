//! The formula, one entry at a time, in f64: what every faster path is held to.

use crate::{Activations, Code, Error, Layout, Quantized, pack};
use alloc::vec;
use rankbit_linalg::faer::{Mat, MatRef};

/// `y[t, o] = Σ_k x[t, k] · s · (value(code[o, k]) - z)`, summed in f64 and rounded once.
///
/// # Errors
/// [`Error::ShapeMismatch`] when `x` does not have the weight's `in` columns.
pub fn apply(weight: &Quantized, x: MatRef<'_, f32>) -> Result<Mat<f32>, Error> {
    let (out, features) = weight.shape();
    if x.ncols() != features {
        return Err(Error::ShapeMismatch {
            what: "activations",
            expected: (x.nrows(), features),
            found: (x.nrows(), x.ncols()),
        });
    }
    let mut row = vec![0.0; features];
    let mut y = Mat::zeros(x.nrows(), out);
    for o in 0..out {
        weight.row_into(o, &mut row)?;
        for t in 0..x.nrows() {
            let sum: f64 = (0..features).map(|k| f64::from(x[(t, k)]) * f64::from(row[k])).sum();
            y[(t, o)] = crate::float::narrow(sum);
        }
    }
    Ok(y)
}

/// `y[t, o] = Σ_k x̂[t, k] · ŵ[o, k]` for quantized inputs, every factor and sum in f64, rounded once. Only block
/// layouts, whose decoding is defined in f32, give `ŵ` in f32.
///
/// # Errors
/// [`Error::ShapeMismatch`] when `x` does not have the weight's `in` columns.
pub fn apply_quantized(weight: &Quantized, x: &Activations) -> Result<Mat<f32>, Error> {
    let ((out, features), (tokens, columns)) = (weight.shape(), x.shape());
    if columns != features {
        let (expected, found) = ((tokens, features), (tokens, columns));
        return Err(Error::ShapeMismatch { what: "activations", expected, found });
    }
    let value = |code: Code, stored: u8| f64::from(code.value(stored));
    let (mut codes, mut decoded) = (vec![0; features], vec![0.0; features]);
    let mut y = Mat::zeros(tokens, out);
    for o in 0..out {
        let planar = weight.scheme().layout == Layout::Planar;
        if planar {
            pack::unpack(weight.row_codes(o), weight.scheme().code.bits(), &mut codes);
        } else {
            weight.row_into(o, &mut decoded)?;
        }
        let entry = |k: usize| {
            let group = k / weight.grouping().size;
            match planar {
                true => {
                    let zero = f64::from(weight.zero_point(o, group));
                    (value(weight.scheme().code, codes[k]) - zero) * f64::from(weight.scale(o, group))
                }
                false => f64::from(decoded[k]),
            }
        };
        for t in 0..tokens {
            let mut sum = 0.0;
            for k in 0..features {
                let scale = f64::from(x.scale(t, k / x.grouping().size));
                sum += value(x.code(), x.codes()[t * features + k]) * scale * entry(k);
            }
            for (&k, &kept) in x.outliers().iter().zip(x.kept(t)) {
                sum += f64::from(kept) * entry(k);
            }
            y[(t, o)] = crate::float::narrow(sum);
        }
    }
    Ok(y)
}
